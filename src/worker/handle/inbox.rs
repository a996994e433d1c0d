//! What other threads ask of a worker, and how they wake it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mio::Waker;

use crate::protocol::Role;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Compression;
use crate::protocol::mask::MaskingKey;
use crate::transport::chunk::Chunk;
use crate::transport::masking_keys::MaskingKeys;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::handle::wakeup::{Wakeup, wakeups_are_held};
use crate::worker::slab::Key;

/// What is asked of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send data frames that lie at `start..end` of the queue's bytes, as many as `messages`. With a `payload` it is one
    /// frame, whose header lies there.
    Send { to: Key, start: usize, end: usize, payload: Option<Box<Chunk>>, compression: Compression, messages: u32 },
    /// Send a frame that others send as well.
    SendShared { to: Key, frame: SharedFrame },
    /// Send a control frame, which no limit stops.
    SendControl { to: Key, start: usize, end: usize },
    /// Start the closing handshake.
    Close { to: Key, frame: Option<Box<CloseFrame>> },
    /// Drop the connection.
    Abort { to: Key },
    /// The application has seen the connection's end, and what it had to answer before is in the queue.
    CloseSeen { to: Key },
    /// Send a frame to every connection.
    Broadcast(SharedFrame),
    /// The application took events; reading may go on: on one connection, or on all that wait.
    Resume { to: Option<Key> },
    /// Nobody receives the events of a connection any more, or those of a channel that several connections share.
    ReceiverDropped { to: Option<Key> },
    /// Close every connection with 1001 and end, at the latest at the deadline.
    Shutdown(Instant),
}

/// Commands, and the bytes of the frames they send: both recycled, so that a small message costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct CommandQueue {
    pub(crate) commands: Vec<Command>,
    pub(crate) bytes: Vec<u8>,
    /// For the frames of clients.
    pub(crate) keys: MaskingKeys,
    /// The worker has ended.
    closed: bool,
}

impl CommandQueue {
    /// The key for the next frame of an endpoint in this role.
    pub(crate) fn key(&mut self, role: Role) -> Option<MaskingKey> {
        match role {
            Role::Server => None,
            Role::Client => Some(self.keys.next_key()),
        }
    }

    /// Makes it an empty one, once all that it asks for is done.
    pub(crate) fn recycle(&mut self) {
        self.commands.clear();
        self.bytes.clear();
        if self.bytes.capacity() > MAX_KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// Has a small message sent whose frame was appended from `start` on; with those before it, if they are for the same
    /// connection and are to be compressed alike.
    pub(crate) fn push_frame(&mut self, to: Key, start: usize, compression: Compression) {
        let now = self.bytes.len();
        match self.commands.last_mut() {
            Some(Command::Send { to: same, end, payload: None, compression: alike, messages, .. })
                if *same == to && *end == start && *alike == compression =>
            {
                *end = now;
                *messages += 1;
            }
            _ => self.commands.push(Command::Send { to, start, end: now, payload: None, compression, messages: 1 }),
        }
    }
}

/// The mailbox of one worker.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<CommandQueue>,
    /// There are commands in the queue, or connections to take over: the worker looks without the lock.
    has_commands: AtomicBool,
    wakeup: Wakeup,
    /// Connections on the worker, for whoever chooses the least loaded.
    pub(crate) load: AtomicUsize,
}

/// A queue whose commands were taken and whose buffers are given back above this.
const MAX_KEPT_BYTES: usize = 1 << 20;

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Inbox {
        Inbox {
            queue: Mutex::default(),
            has_commands: AtomicBool::new(false),
            wakeup: Wakeup::new(waker),
            load: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, CommandQueue> {
        // Nothing that runs under the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `push` add to the queue and wakes the worker; `false` if the worker has ended.
    pub(crate) fn post(&self, push: impl FnOnce(&mut CommandQueue)) -> bool {
        let mut queue = self.lock();
        if queue.closed {
            return false;
        }
        push(&mut queue);
        // One expensive store for all commands until the worker takes them.
        if !queue.commands.is_empty() && !self.has_commands.load(Ordering::Relaxed) {
            self.has_commands.store(true, Ordering::SeqCst);
        }
        drop(queue);
        self.wake();
        true
    }

    /// Has the worker look for connections to take over, which others than the queue hold.
    pub(crate) fn notify(&self) {
        self.has_commands.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Adds one command; `false` if the worker has ended.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.post(|queue| queue.commands.push(command))
    }

    /// Has the worker look at the queue, if it would not by itself.
    #[inline]
    pub(crate) fn wake(&self) {
        if self.wakeup.is_parked() && !wakeups_are_held(self.identity()) {
            self.wakeup.wake();
        }
    }

    /// Tells this inbox from all others.
    pub(crate) fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Has the worker look at the queue, if there is something in it and the worker would not by itself. A batch that this
    /// thread works through does not keep it from that.
    pub(crate) fn deliver(&self) {
        if self.wakeup.is_parked() && self.has_commands() {
            self.wakeup.wake();
        }
    }

    /// Has the worker look at the queue, though this thread may work through a batch from it.
    pub(crate) fn wake_now(&self) {
        self.wakeup.wake();
    }

    /// Has the worker's poll return, or its next one, though there may be nothing in the queue.
    pub(crate) fn interrupt(&self) {
        self.wakeup.interrupt();
    }

    /// Says that the worker is about to sleep; `false` if there is something in the queue.
    ///
    /// A sender says that there are commands before it asks whether the worker sleeps, and the worker says that it sleeps
    /// before it asks whether there are commands: one of the two sees the other.
    pub(crate) fn prepare_park(&self) -> bool {
        self.wakeup.park();
        let empty = !self.has_commands();
        if !empty {
            self.set_running();
        }
        empty
    }

    /// Says that the worker runs and will look at the queue before it sleeps.
    pub(crate) fn set_running(&self) {
        self.wakeup.set_running();
    }

    /// Whether there is something in the queue, or was announced.
    pub(crate) fn has_commands(&self) -> bool {
        self.has_commands.load(Ordering::SeqCst)
    }

    /// Exchanges the queue for an empty one. What was announced is to be looked at next.
    pub(crate) fn take(&self, taken: &mut CommandQueue) {
        let mut queue = self.lock();
        // What was announced before is seen from here on, and what is later sets it anew.
        self.has_commands.swap(false, Ordering::SeqCst);
        std::mem::swap(&mut queue.commands, &mut taken.commands);
        std::mem::swap(&mut queue.bytes, &mut taken.bytes);
    }

    /// Refuses commands from now on: the worker ends.
    pub(crate) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        self.has_commands.store(false, Ordering::Relaxed);
        queue.commands = Vec::new();
        queue.bytes = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

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
    fn a_queue_that_is_done_holds_little() {
        let mut queue = CommandQueue { bytes: vec![0; MAX_KEPT_BYTES + 1], ..CommandQueue::default() };
        queue.commands.push(Command::Resume { to: None });
        queue.recycle();
        assert_eq!((queue.commands.len(), queue.bytes.len(), queue.bytes.capacity()), (0, 0, 0));
        queue.bytes.extend_from_slice(&[0; 1000]);
        queue.recycle();
        assert!(queue.bytes.is_empty() && queue.bytes.capacity() >= 1000, "small buffers serve again");
    }

    /// whatever the timing, a worker that sleeps without a timeout sees every command, and every connection that
    /// is announced.
    #[test]
    fn no_wake_up_is_lost() {
        let mut poll = Poll::new().expect("a poll");
        let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), Token(0)).expect("a waker")));
        let (door, arrivals) = crossbeam_channel::unbounded();
        let sender = std::thread::spawn({
            let inbox = inbox.clone();
            move || {
                for number in 0..100_000 {
                    if number % 3 == 0 {
                        assert!(inbox.send(Command::Resume { to: None }));
                    } else {
                        door.send(number).expect("a worker");
                        inbox.notify();
                    }
                }
            }
        });
        let mut events = Events::with_capacity(4);
        let mut queue = CommandQueue::default();
        let mut seen = 0;
        while seen < 100_000 {
            if inbox.prepare_park() {
                poll.poll(&mut events, Some(Duration::from_secs(30))).expect("a poll");
                assert!(!events.is_empty(), "slept through something after {seen}");
            }
            inbox.set_running();
            if inbox.has_commands() {
                inbox.take(&mut queue);
                seen += queue.commands.len() + arrivals.try_iter().count();
                queue.recycle();
            }
        }
        sender.join().expect("the sender");
        inbox.close();
        assert!(!inbox.send(Command::Resume { to: None }));
    }
}
