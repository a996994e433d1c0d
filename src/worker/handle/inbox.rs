//! The commands of other threads to a worker, and how they are sent.

#[cfg(all(target_os = "linux", feature = "handover"))]
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::Sender;
use mio::Waker;

use crate::protocol::Role;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Compression;
use crate::protocol::mask::MaskingKey;
use crate::transport::budget::MemoryBudget;
use crate::transport::chunk::Chunk;
use crate::transport::masking_keys::MaskingKeys;
use crate::transport::parts_state::PartsState;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::handle::draining::DrainOrder;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::handle::hand_over::{Arrivals, HandOverTask, Preparation};
use crate::worker::handle::latest::MAX_KEYS;
use crate::worker::handle::metrics::WorkerMetrics;
use crate::worker::handle::posted_part::PostedPart;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::stream_pool::StreamPool;
use crate::worker::handle::summary::PeerSummary;
use crate::worker::handle::wakeup::{Sleep, Wakeup, wakeups_are_held};
use crate::worker::slab::Key;
use crate::worker::topics::topic::{Reservation, TopicState};

/// A command of another thread to a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send `messages` data frames, which are at `start..end` of the queue's bytes. With a `payload` it is one frame,
    /// whose header is there.
    Send { to: Key, start: usize, end: usize, payload: Option<Box<Chunk>>, compression: Compression, messages: u32 },
    /// Send a frame that other connections send as well.
    SendShared { to: Key, frame: SharedFrame },
    /// Send the keyed messages of the connection, if nothing else waits to be written. Those up to this announcement have
    /// waited for the commands before it.
    SendLatest { to: Key, announcement: u64 },
    /// Send a control frame, which is at `start..end` of the queue's bytes.
    SendControl { to: Key, start: usize, end: usize },
    /// Send a part of a message.
    SendPart { to: Key, part: Box<PostedPart> },
    /// A message in parts is not finished: fail the connection, unless no part was sent.
    GiveUpMessage { to: Key, message: Arc<PartsState> },
    /// Start the closing handshake.
    Close { to: Key, frame: Option<Box<CloseFrame>> },
    /// Close with 1008, because the peer reads too slowly.
    Disconnect { to: Key },
    /// Drop the connection.
    Abort { to: Key },
    /// The application has seen the close event. Its answers to earlier messages are in the queue.
    CloseSeen { to: Key },
    /// Send a message to every connection.
    Broadcast(Prepared),
    /// Say what connections there are.
    List(Sender<Vec<PeerSummary>>),
    /// Send the connections that are subscribed to a topic what they lack, up to the message with this number.
    Topic { topic: Arc<TopicState>, upto: u64 },
    /// Subscribe the connection to a topic.
    Subscribe { to: Key, reservation: Box<Reservation> },
    /// End the connection's subscription to a topic, behind the message with this number.
    Unsubscribe { to: Key, topic: Arc<TopicState>, upto: u64 },
    /// Tell the application that subscribers of this topic, or of all, have missed messages.
    TopicGap { topic: Option<Arc<TopicState>>, missed: u64 },
    /// The application was told of a gap in a topic of the connection. What it has sent for it is in the queue.
    GapTold { to: Key },
    /// Free the history of topics that is too old, from time to time.
    SweepTopics,
    /// The application took events, and there is room for more. Resume reading from one connection, or from all that
    /// wait.
    Resume { to: Option<Key> },
    /// The last receiver of a connection's events was dropped, or that of a channel that several connections share.
    ReceiverDropped { to: Option<Key> },
    /// Close the connections one after the other.
    Drain(Arc<DrainOrder>),
    /// No more connections will come: end when those of the drain are closed, or at the deadline.
    FinishDrain(Instant),
    /// Close every connection with 1001, or as the drain does, and end when they are closed, or at the deadline.
    Shutdown(Instant),
    /// Hand the connections over to another process.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    HandOver(Box<HandOverTask>),
    /// Hold connections of another process.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    Hold(Box<Arrivals>),
    /// Make the application's part of those that are held.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    Prepare(Box<Preparation>),
    /// Serve the connections of another process, which are held. The value is dropped when that is done.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    Serve(Arc<dyn Any + Send + Sync>),
}

/// Commands, and the bytes of the frames that they send. Both buffers are reused, so that a small message needs no
/// allocation.
#[derive(Debug, Default)]
pub(crate) struct CommandQueue {
    pub(crate) commands: Vec<Command>,
    pub(crate) bytes: Vec<u8>,
    /// The masking keys for the frames of clients.
    pub(crate) keys: MaskingKeys,
    /// The bytes of payloads that are neither here nor shared.
    pub(crate) payloads: usize,
    /// The bytes of the broadcasts among the commands, and how many were left out because there were too many.
    pub(crate) broadcasts: usize,
    pub(crate) left_out: u32,
    /// The bytes of memory that the budget was told of.
    charged: usize,
    /// The worker has ended.
    closed: bool,
}

impl CommandQueue {
    /// The masking key for the next frame of an endpoint in this role.
    pub(crate) fn key(&mut self, role: Role) -> Option<MaskingKey> {
        match role {
            Role::Server => None,
            Role::Client => Some(self.keys.next_key()),
        }
    }

    /// Notes that the budget was told of payloads of so many bytes, which have left the queue.
    pub(crate) fn forget_payloads(&mut self, bytes: usize) {
        self.charged -= bytes;
    }

    /// Empties the queue after its commands were executed.
    pub(crate) fn recycle(&mut self, budget: &MemoryBudget) {
        self.commands.clear();
        self.bytes.clear();
        if self.bytes.capacity() > MAX_KEPT_BYTES {
            self.bytes = Vec::new();
        }
        if self.commands.capacity() > MAX_KEPT_COMMANDS {
            self.commands = Vec::new();
        }
        (self.payloads, self.broadcasts, self.left_out) = (0, 0, 0);
        self.charge(budget);
    }

    /// Tells the budget what memory the queue takes, beyond what an empty one may keep.
    fn charge(&mut self, budget: &MemoryBudget) {
        let bytes = if self.bytes.capacity() > MAX_KEPT_BYTES { self.bytes.capacity() } else { 0 };
        let commands = if self.commands.capacity() > MAX_KEPT_COMMANDS { self.commands.capacity() } else { 0 };
        let footprint = bytes + commands * size_of::<Command>() + self.payloads;
        budget.change(std::mem::replace(&mut self.charged, footprint), footprint);
    }

    /// Adds a broadcast. If it has a key, it takes the place of the one with that key, unless it would overtake another
    /// command. If `max` bytes of broadcasts wait already, it is left out and counted, unless it is a close.
    fn push_broadcast(&mut self, message: Prepared, max: usize) {
        if let Some(older) = self.older_broadcast(message.key()) {
            let older = std::mem::replace(older, message.clone());
            self.broadcasts = self.broadcasts - older.size() + message.size();
            return;
        }
        if self.broadcasts >= max && !message.is_close() {
            self.left_out += 1;
            return;
        }
        self.broadcasts += message.size() + size_of::<Command>();
        self.commands.push(Command::Broadcast(message));
    }

    /// The broadcast that a newer one with this key may replace.
    fn older_broadcast(&mut self, key: Option<u64>) -> Option<&mut Prepared> {
        let key = key?;
        let newest = self.commands.iter_mut().rev().take(MAX_KEYS);
        let mut broadcasts = newest.map_while(|command| match command {
            Command::Broadcast(message) => message.key().map(|key| (key, message)),
            _ => None,
        });
        broadcasts.find(|(other, _)| *other == key).map(|(_, message)| message)
    }

    /// Adds a command for a small message, whose frame was appended to `bytes` at `start`. Extends the last command
    /// instead, if that is for the same connection and the same compression.
    pub(crate) fn push_frame(&mut self, to: Key, start: usize, compression: Compression) {
        let now = self.bytes.len();
        match self.commands.last_mut() {
            Some(Command::Send {
                to: last_to, end, payload: None, compression: last_compression, messages, ..
            }) if *last_to == to && *end == start && *last_compression == compression => {
                *end = now;
                *messages += 1;
            }
            _ => self.commands.push(Command::Send { to, start, end: now, payload: None, compression, messages: 1 }),
        }
    }
}

/// The inbox of one worker: commands of other threads, and the wake-up for them.
pub(crate) struct Inbox {
    queue: Mutex<CommandQueue>,
    /// Whether there are commands in the queue, or connections to take over. The worker checks it without the lock.
    /// Synchronizes with [`prepare_park`](Inbox::prepare_park).
    has_commands: AtomicBool,
    wakeup: Wakeup,
    /// The number of connections on the worker. New connections are assigned to the worker with the fewest.
    pub(crate) load: AtomicUsize,
    /// Whether the worker holds new connections back, because the application is behind with its events. Then no more are
    /// accepted. Only a hint, so `Relaxed` is enough.
    pub(crate) holds_back: AtomicBool,
    /// The memory of the server, or of the set of clients.
    pub(crate) budget: Arc<MemoryBudget>,
    /// What the worker counts.
    pub(crate) metrics: WorkerMetrics,
    /// The threads that read sources of messages. All workers of a server use those of the first.
    pub(crate) streams: Arc<StreamPool>,
}

/// At most 1 MiB of a queue's buffer is kept for later commands. Larger keeps more memory; smaller allocates more often
/// after a burst.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// A queue for 16,384 commands is kept, which is 640 KiB. Larger keeps more memory; smaller allocates more often after a
/// burst.
const MAX_KEPT_COMMANDS: usize = 16 << 10;

/// The load of a worker that failed: more than any other has, and so much that counting up or down does not matter.
const RETIRED: usize = usize::MAX / 2;

/// Omits the queue: its frames are the application's, with their masking keys.
impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("load", &self.load).finish_non_exhaustive()
    }
}

impl Inbox {
    pub(crate) fn new(waker: Waker, budget: Arc<MemoryBudget>) -> Inbox {
        Inbox {
            queue: Mutex::default(),
            has_commands: AtomicBool::new(false),
            wakeup: Wakeup::new(waker),
            load: AtomicUsize::new(0),
            holds_back: AtomicBool::new(false),
            budget,
            metrics: WorkerMetrics::default(),
            streams: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, CommandQueue> {
        // Nothing that runs under the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `push` to add commands to the queue, and wakes the worker; `false` if the worker has ended.
    pub(crate) fn post(&self, push: impl FnOnce(&mut CommandQueue)) -> bool {
        let mut queue = self.lock();
        if queue.closed {
            return false;
        }
        push(&mut queue);
        queue.charge(&self.budget);
        // A sequentially consistent store is expensive. One is enough for all commands until the worker takes them.
        if !queue.commands.is_empty() && !self.has_commands.load(Ordering::Relaxed) {
            self.has_commands.store(true, Ordering::SeqCst);
        }
        drop(queue);
        self.wake();
        true
    }

    /// Has the worker send a message to each of its connections. If it has not taken `max` bytes of such messages, it
    /// leaves this one out and counts it for each of them, unless it is a close, or there is an older one with its key
    /// that it replaces.
    pub(crate) fn broadcast(&self, message: &Prepared, max: usize) {
        message.charge(&self.budget);
        self.post(|queue| queue.push_broadcast(message.clone(), max));
    }

    /// Has the worker, whose index is `worker`, send what was published to a topic, up to the message with this number. A command
    /// for the same topic that is the newest one tells of this message as well, so that no other overtakes it.
    pub(crate) fn announce(&self, topic: &Arc<TopicState>, worker: u16, upto: u64) {
        self.post(|queue| match queue.commands.last_mut() {
            Some(Command::Topic { topic: last, upto: last_upto }) if Arc::ptr_eq(last, topic) => {
                *last_upto = upto.max(*last_upto);
            }
            _ if topic.may_announce(worker) => queue.commands.push(Command::Topic { topic: topic.clone(), upto }),
            _ => {}
        });
    }

    /// Has the worker look for connections to take over. They are in a channel of their own.
    pub(crate) fn notify(&self) {
        self.has_commands.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Adds one command; `false` if the worker has ended.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.post(|queue| queue.commands.push(command))
    }

    /// Wakes the worker if it is parked, unless it sleeps briefly and this thread holds wake-ups until the end of a
    /// batch.
    #[inline]
    pub(crate) fn wake(&self) {
        if self.wakeup.is_parked_for(|| wakeups_are_held(self.identity())) {
            self.wakeup.wake();
        }
    }

    /// Returns a number that no other inbox has.
    pub(crate) fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Wakes the worker if it is parked and there are commands, even if this thread holds wake-ups.
    pub(crate) fn deliver(&self) {
        if self.wakeup.is_parked() && self.has_commands() {
            self.wakeup.wake();
        }
    }

    /// Wakes the worker if it is parked, even if this thread holds wake-ups.
    pub(crate) fn wake_now(&self) {
        self.wakeup.wake();
    }

    /// Has the worker's current or next poll return, even if there are no commands.
    pub(crate) fn interrupt(&self) {
        self.wakeup.interrupt();
    }

    /// Notes that the worker is about to sleep. Returns `false` if there are commands, so that it must not.
    ///
    /// A sender stores `has_commands` before it loads whether the worker is parked. The worker stores that it is parked
    /// before it loads `has_commands`. So at least one of the two sees the other's store, and no wake-up is lost.
    pub(crate) fn prepare_park(&self, sleep: Sleep) -> bool {
        self.wakeup.park(sleep);
        let empty = !self.has_commands();
        if !empty {
            self.set_running();
        }
        empty
    }

    /// Notes that the worker runs, and will check the queue before it sleeps.
    pub(crate) fn set_running(&self) {
        self.wakeup.set_running();
    }

    /// Whether there are commands in the queue, or connections to take over.
    pub(crate) fn has_commands(&self) -> bool {
        self.has_commands.load(Ordering::SeqCst)
    }

    /// Exchanges the queue for an empty one. The worker takes over the connections that it was notified of next.
    pub(crate) fn take(&self, taken: &mut CommandQueue) {
        let mut queue = self.lock();
        // Cleared before the worker takes over connections, so that a later `notify` sets it again.
        self.has_commands.swap(false, Ordering::SeqCst);
        std::mem::swap(&mut queue.commands, &mut taken.commands);
        std::mem::swap(&mut queue.bytes, &mut taken.bytes);
        std::mem::swap(&mut queue.payloads, &mut taken.payloads);
        std::mem::swap(&mut queue.broadcasts, &mut taken.broadcasts);
        std::mem::swap(&mut queue.left_out, &mut taken.left_out);
        std::mem::swap(&mut queue.charged, &mut taken.charged);
    }

    /// As [`close`](Inbox::close), for a worker that failed: other workers are assigned its share of new connections.
    pub(crate) fn retire(&self) {
        self.load.store(RETIRED, Ordering::Relaxed);
        self.close();
    }

    /// Whether the worker failed.
    pub(crate) fn is_retired(&self) -> bool {
        self.load.load(Ordering::Relaxed) >= RETIRED / 2
    }

    /// Whether the worker has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().closed
    }

    /// Refuses commands from now on, because the worker ends.
    pub(crate) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        self.has_commands.store(false, Ordering::Relaxed);
        let commands = std::mem::take(&mut queue.commands);
        (queue.bytes, queue.payloads) = (Vec::new(), 0);
        queue.charge(&self.budget);
        drop(queue);
        // Without the lock: a part of a message wakes its writer.
        drop(commands);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;
    use crate::protocol::message::Message;
    use crate::worker::handle::wakeup::{BatchNumber, hold_wakeups};

    #[test]
    fn a_command_is_small() {
        assert!(size_of::<Command>() <= 40, "{}", size_of::<Command>());
    }

    #[test]
    fn frames_for_one_connection_share_a_command_if_they_are_compressed_alike() {
        let key = |index| Key { index, generation: 1 };
        let mut queue = CommandQueue::default();
        let mut push = |to, compression| {
            let start = queue.bytes.len();
            queue.bytes.push(0);
            queue.push_frame(to, start, compression);
        };
        for (to, compression) in [
            (key(1), Compression::Auto),
            (key(1), Compression::Auto),
            (key(1), Compression::Never),
            (key(1), Compression::Never),
            (key(2), Compression::Never),
            (key(1), Compression::Never),
        ] {
            push(to, compression);
        }
        let sent = queue.commands.iter().map(|command| match command {
            Command::Send { to, start, end, compression, messages, .. } => {
                (to.index, *start..*end, *compression, *messages)
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(
            sent.collect::<Vec<_>>(),
            [
                (1, 0..2, Compression::Auto, 2),
                (1, 2..4, Compression::Never, 2),
                (2, 4..5, Compression::Never, 1),
                (1, 5..6, Compression::Never, 1),
            ]
        );
    }

    #[test]
    fn each_broadcast_beyond_the_limit_is_left_out_and_counted() {
        let mut queue = CommandQueue::default();
        let message = Prepared::new("much");
        for left_out in [0, 1, 2, 3] {
            queue.push_broadcast(message.clone(), message.size());
            assert_eq!((queue.commands.len(), queue.left_out), (1, left_out));
        }
        queue.push_broadcast(Prepared::new(Message::Close(None)), message.size());
        assert_eq!((queue.commands.len(), queue.left_out), (2, 3));
    }

    #[test]
    fn a_broadcast_with_a_key_replaces_the_one_before_unless_it_would_overtake() {
        use crate::config::send_options::SendOptions;

        let mut queue = CommandQueue::default();
        let mut push = |text: &str, key: Option<u64>| {
            queue.push_broadcast(Prepared::with(text, SendOptions::new().latest(key)), usize::MAX);
        };
        for (text, key) in [("a1", Some(1)), ("b1", Some(2)), ("a2", Some(1)), ("plain", None), ("plain", None)] {
            push(text, key);
        }
        for (text, key) in [("b2", Some(2)), ("a3", Some(1)), ("b3", Some(2))] {
            push(text, key);
        }
        let sent = queue.commands.iter().map(|command| match command {
            Command::Broadcast(message) => message.to_message().into_text().expect("text"),
            other => panic!("{other:?}"),
        });
        assert_eq!(sent.collect::<Vec<_>>(), ["a2", "b1", "plain", "plain", "b3", "a3"]);
        // Each is a command, and a frame with a header of two bytes.
        assert_eq!(queue.broadcasts, 6 * size_of::<Command>() + 4 * 4 + 2 * 7);
    }

    #[test]
    fn a_recycled_queue_keeps_no_large_buffer() {
        let mut queue = CommandQueue { bytes: vec![0; MAX_KEPT_BYTES + 1], ..CommandQueue::default() };
        queue.commands.push(Command::Resume { to: None });
        queue.recycle(&MemoryBudget::default());
        assert_eq!((queue.commands.len(), queue.bytes.len(), queue.bytes.capacity()), (0, 0, 0));
        queue.bytes.extend_from_slice(&[0; 1000]);
        queue.recycle(&MemoryBudget::default());
        assert!(queue.bytes.is_empty() && queue.bytes.capacity() >= 1000, "a small buffer is kept");
        for (more, is_kept) in [(0, true), (1, false)] {
            let (bytes, commands) = (MAX_KEPT_BYTES + more, MAX_KEPT_COMMANDS + more);
            (queue.bytes, queue.commands) = (Vec::with_capacity(bytes), Vec::with_capacity(commands));
            queue.recycle(&MemoryBudget::default());
            let kept = if is_kept { (bytes, commands) } else { (0, 0) };
            assert_eq!((queue.bytes.capacity(), queue.commands.capacity()), kept);
        }
    }

    #[test]
    fn a_thread_that_holds_wake_ups_wakes_a_worker_that_sleeps_long() {
        let mut poll = Poll::new().expect("a poll");
        let inbox = Inbox::new(Waker::new(poll.registry(), Token(0)).expect("a waker"), Arc::default());
        let mut events = Events::with_capacity(4);
        let mut is_woken = || {
            poll.poll(&mut events, Some(Duration::ZERO)).expect("a poll");
            !events.is_empty()
        };
        let number = BatchNumber::default();
        for (sleep, holds, wakes) in [
            (Sleep::Brief, false, true),
            (Sleep::Brief, true, false),
            (Sleep::Long, false, true),
            (Sleep::Long, true, true),
        ] {
            if holds {
                hold_wakeups(&number, inbox.identity());
            }
            assert!(inbox.prepare_park(sleep));
            inbox.send(Command::Resume { to: None });
            assert_eq!(is_woken(), wakes, "{sleep:?}, holds wake-ups: {holds}");
            // The end of the batch.
            number.fetch_add(1, Ordering::SeqCst);
            inbox.deliver();
            assert_eq!(is_woken(), !wakes, "{sleep:?}, holds wake-ups: {holds}");
            inbox.take(&mut CommandQueue::default());
        }
    }

    /// whatever the timing, a worker that sleeps without a timeout sees every command, and every connection that
    /// it is notified of.
    #[test]
    fn no_wake_up_is_lost() {
        let mut poll = Poll::new().expect("a poll");
        let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), Token(0)).expect("a waker"), Arc::default()));
        let (to_worker, new_connections) = crossbeam_channel::unbounded();
        let sender = std::thread::spawn({
            let inbox = inbox.clone();
            move || {
                for number in 0..100_000 {
                    if number % 3 == 0 {
                        assert!(inbox.send(Command::Resume { to: None }));
                    } else {
                        to_worker.send(number).expect("a worker");
                        inbox.notify();
                    }
                }
            }
        });
        let mut events = Events::with_capacity(4);
        let mut queue = CommandQueue::default();
        let mut seen = 0;
        while seen < 100_000 {
            if inbox.prepare_park(Sleep::Long) {
                poll.poll(&mut events, Some(Duration::from_secs(30))).expect("a poll");
                assert!(!events.is_empty(), "slept through something after {seen}");
            }
            inbox.set_running();
            if inbox.has_commands() {
                inbox.take(&mut queue);
                seen += queue.commands.len() + new_connections.try_iter().count();
                queue.recycle(&MemoryBudget::default());
            }
        }
        sender.join().expect("the sender");
        inbox.close();
        assert!(!inbox.send(Command::Resume { to: None }));
    }
}
