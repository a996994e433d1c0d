//! The state that the handles of a connection share with its worker.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::config::SlowConsumer;
use crate::protocol::Connection;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::protocol::contain::Kept;
use crate::protocol::deflate::DeflateStats;
use crate::protocol::handshake::Data;
use crate::transport::parts_state::PartsState;
use crate::worker::handle::inbox::{Command, CommandQueue};
use crate::worker::handle::info::{Outcome, PeerInfo};
use crate::worker::handle::latest::{KeyedMessage, LatestMessages, NotKept};
use crate::worker::handle::posted_part::WakesSenders;
use crate::worker::handle::queued_bytes::QueuedBytes;
use crate::worker::handle::send_wait::WaitQueue;
#[cfg(feature = "deflate")]
use crate::worker::handle::stats::SharedDeflate;
use crate::worker::handle::stats::Stats;
use crate::worker::handle::worker_handle::WorkerHandle;
use crate::worker::slab::Key;
use crate::worker::topics::topic::TopicState;

/// Returns what the application gives to another process; `None` if the connection is to stay.
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) type Give = Kept<Box<dyn Fn() -> Option<Vec<u8>> + Send + Sync>>;

/// The state that the handles of a connection share with its worker. Each connection that delivers events has one. It
/// takes 104 bytes; with the counts of the `Arc` and the allocator's own word, 128.
pub(crate) struct PeerShared {
    pub(crate) worker: Arc<WorkerHandle>,
    pub(crate) key: Key,
    pub(crate) queued: QueuedBytes,
    pub(crate) info: PeerInfo,
    /// Data that most connections do not have.
    extra: OnceLock<Box<Extra>>,
}

#[derive(Default)]
struct Extra {
    /// The data of `Peer::set_data`.
    data: OnceLock<Box<dyn Any + Send + Sync>>,
    /// The keyed messages that wait.
    latest: OnceLock<Box<LatestMessages>>,
    /// The topics that the connection is subscribed to, in the order of its worker's list.
    topics: Mutex<Vec<Arc<TopicState>>>,
    /// How many messages are sent in parts, or wait for the end of one that is.
    messages_in_parts: AtomicUsize,
    /// Subscriptions that the worker has not come to.
    subscribing: AtomicUsize,
    /// The outcome of the opening handshake.
    outcome: Outcome,
    /// What the application gives to another process that goes on with the connection.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    give: Mutex<Option<Arc<Give>>>,
    /// The counts of compression, if permessage-deflate was negotiated.
    #[cfg(feature = "deflate")]
    deflate: Option<SharedDeflate>,
}

impl PeerShared {
    /// Makes the state of a connection with `backlog` bytes that its socket did not take.
    pub(crate) fn new(
        worker: Arc<WorkerHandle>,
        key: Key,
        connection: &Connection,
        (info, outcome): (PeerInfo, Outcome),
        backlog: usize,
    ) -> PeerShared {
        let extra = extra_for(connection, outcome).map_or_else(OnceLock::new, OnceLock::from);
        PeerShared { worker, key, queued: QueuedBytes::new(backlog), info, extra }
    }

    /// Where senders wait for room.
    pub(crate) fn wait_queue(&self) -> &WaitQueue {
        self.worker.wait_queue(self.key)
    }

    /// What happens to a message if the queue is full: the connection's own policy, else the configured one.
    pub(crate) fn policy(&self) -> SlowConsumer {
        self.queued.policy().unwrap_or_else(|| self.worker.policy())
    }

    pub(crate) fn stats(&self) -> Stats {
        let replaced = self.latest().map_or(0, LatestMessages::replaced);
        Stats { replaced, ..self.info.counters.stats(self.queued.bytes(), self.deflate_stats()) }
    }

    /// The subprotocol that was agreed on.
    pub(crate) fn subprotocol(&self) -> Option<&str> {
        self.extra.get()?.outcome.subprotocol.as_ref().map(|name| name.as_str())
    }

    /// The data that the application set in the opening handshake.
    pub(crate) fn accepted_data(&self) -> Option<&Data> {
        self.extra.get()?.outcome.data.as_ref()
    }

    /// The data of `Peer::set_data`.
    pub(crate) fn data(&self) -> Option<&(dyn Any + Send + Sync)> {
        Some(&**self.extra.get()?.data.get()?)
    }

    /// Keeps the data that `make` returns, if there is none yet.
    pub(crate) fn keep(&self, make: impl FnOnce() -> Box<dyn Any + Send + Sync>) {
        self.extra.get_or_init(Box::default).data.get_or_init(make);
    }

    /// The keyed messages that wait, if there ever were any.
    pub(crate) fn latest(&self) -> Option<&LatestMessages> {
        Some(self.extra.get()?.latest.get()?)
    }

    /// Has a keyed message wait, in place of the one with its key, and tells the worker.
    pub(crate) fn keep_latest(&self, key: u64, message: KeyedMessage) -> Result<(), (KeyedMessage, NotKept)> {
        let latest = self.extra.get_or_init(Box::default).latest.get_or_init(Box::default);
        let limits = (self.worker.role, self.key_limit());
        if let Some(announcement) = latest.keep(key, message, limits, &self.queued, &self.worker.inbox.budget)? {
            // If the worker has ended, so has the connection, and its messages are lost as those in the inbox are.
            self.worker.inbox.send(Command::SendLatest { to: self.key, announcement });
        }
        Ok(())
    }

    /// Whether there is room for a message with a new key.
    pub(crate) fn has_room_for_key(&self) -> bool {
        self.latest().is_none_or(|latest| latest.has_room(self.key_limit()))
    }

    /// A message with a new key is taken while fewer bytes wait under keys. While the memory is short, none is taken by a
    /// connection for which anything waits.
    fn key_limit(&self) -> usize {
        let is_starved = self.worker.inbox.budget.is_exceeded() && self.queued.bytes() > 0;
        if is_starved { 0 } else { self.worker.config.max_write_buffer_size }
    }

    /// Of this count of queued bytes, those that do not wait under a key.
    pub(crate) fn without_latest(&self, queued: usize) -> usize {
        queued.saturating_sub(self.latest().map_or(0, LatestMessages::bytes))
    }

    /// Wakes senders that wait for room for a key. Called by the worker.
    pub(crate) fn wake_if_awaited(&self) {
        if self.queued.is_awaited() {
            self.wake_senders();
        }
    }

    /// Sets what the application gives to another process.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn set_give(&self, give: Arc<Give>) {
        let extra = self.extra.get_or_init(Box::default);
        let before = extra.give.lock().unwrap_or_else(PoisonError::into_inner).replace(give);
        // Without the lock, for it is the application's.
        drop(before);
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn give(&self) -> Option<Arc<Give>> {
        self.extra.get()?.give.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The head of the request that opened the connection.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn request_head(&self) -> Option<&[u8]> {
        self.extra.get()?.outcome.head.as_deref()
    }

    /// The topics that the connection is subscribed to.
    pub(crate) fn topics(&self) -> Vec<Arc<TopicState>> {
        let extra = self.extra.get();
        extra.map_or_else(Vec::new, |extra| extra.topics.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Notes that a subscription to the topic with this name is on its way to the worker, unless the connection has `most`
    /// already, with those on their way.
    pub(crate) fn begin_subscribing(&self, name: &str, most: usize) -> bool {
        let extra = self.extra.get_or_init(Box::default);
        let on_the_way = extra.subscribing.fetch_add(1, Ordering::SeqCst);
        let topics = extra.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = topics.len().saturating_add(on_the_way) < most;
        let is_subscribed = || topics.iter().any(|topic| *topic.name == *name);
        let may_subscribe = has_room || is_subscribed();
        if !may_subscribe {
            self.end_subscribing();
        }
        may_subscribe
    }

    /// Notes that the worker has come to a subscription, or never will.
    pub(crate) fn end_subscribing(&self) {
        self.extra.get_or_init(Box::default).subscribing.fetch_sub(1, Ordering::SeqCst);
    }

    /// Changes the list of topics that the connection is subscribed to. Called by the worker.
    pub(crate) fn change_topics(&self, change: impl FnOnce(&mut Vec<Arc<TopicState>>)) {
        change(&mut self.extra.get_or_init(Box::default).topics.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Discards the keyed messages that wait, because nothing more is sent. Called by the worker.
    pub(crate) fn end_latest(&self) {
        if let Some(latest) = self.latest() {
            latest.end(&self.queued);
        }
    }

    /// Notes that `posted` bytes left the inbox, and that the backlog went from `before` to `after`; wakes senders that
    /// wait for room. Called by the worker at the end of a drive.
    pub(crate) fn publish(&self, posted: usize, before: usize, after: usize) {
        if self.queued.apply(posted, before, after) {
            self.wake_senders();
        }
    }

    /// Has `push` add what is sent to the queue, unless the connection is closed or the worker has ended; `false` then. This
    /// is looked at under the lock, so that nothing is accepted that comes behind a close.
    #[inline]
    pub(crate) fn post(&self, push: impl FnOnce(&mut CommandQueue)) -> bool {
        let mut is_open = false;
        self.worker.inbox.post(|queue| {
            is_open = !self.queued.is_closed();
            if is_open {
                push(queue);
            }
        }) && is_open
    }

    /// Posts a command that closes the connection, and has every send after it fail, on any thread; `false` if the worker
    /// has ended. What was posted before is sent before.
    pub(crate) fn post_last(&self, command: Command) -> bool {
        let mut are_senders_waiting = false;
        let posted = self.worker.inbox.post(|queue| {
            queue.commands.push(command);
            // Under the lock, under which a sender looks at it.
            are_senders_waiting = self.queued.close();
        });
        if are_senders_waiting {
            self.wake_senders();
        }
        posted
    }

    /// Notes that nothing more can be sent, and wakes senders that wait for room. Called by the worker.
    pub(crate) fn set_closed(&self) {
        if self.queued.close() {
            self.wake_senders();
        }
    }

    /// Notes that the application has dropped the connection, and wakes senders that wait for room.
    pub(crate) fn set_aborted(&self) {
        if self.queued.abort() {
            self.wake_senders();
        }
    }

    /// Takes no messages until it is known whether another process goes on with the connection. Senders that wait get their
    /// messages back: one may hold a lock that the application's part of the hand-over takes.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn suspend(&self) {
        if self.queued.suspend() {
            self.wake_senders();
        }
    }

    #[cold]
    fn wake_senders(&self) {
        // A sender that is about to wait holds the lock until it waits.
        let held = self.wait_queue().lock();
        self.queued.clear_awaited();
        drop(held);
        self.worker.wake_senders(self.key);
    }

    /// Waits until the connection has changed so that `is_done` is true, or the deadline, if there is one, has passed.
    /// Returns whether it is. A worker's thread must not wait.
    #[cold]
    pub(crate) fn wait_until(&self, deadline: Option<Instant>, is_done: impl Fn() -> bool) -> bool {
        let mut held = self.wait_queue().lock();
        while !is_done() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            // Synchronizes with `QueuedBytes::apply`: the flag and the count are one word, so a worker that makes room
            // after the second look sees the flag.
            self.queued.set_awaited();
            if !is_done() {
                held = self.wait_queue().wait(held, left);
            }
        }
        true
    }

    /// How many messages are sent in parts, or wait for the end of one that is.
    pub(crate) fn messages_in_parts(&self) -> &AtomicUsize {
        &self.extra.get_or_init(Box::default).messages_in_parts
    }

    /// Whether there is room for the next part of a message.
    pub(crate) fn has_room_for_part(&self, message: &PartsState) -> bool {
        let queued = self.without_latest(self.queued.bytes().saturating_sub(message.held()));
        let room = message.room(self.worker.config.part_room());
        queued < room && !(queued > 0 && self.worker.inbox.budget.is_exceeded())
    }
}

#[cfg(feature = "deflate")]
fn extra_for(connection: &Connection, outcome: Outcome) -> Option<Box<Extra>> {
    let deflate = connection.deflate_stats().map(|_| SharedDeflate::default());
    let is_needed = deflate.is_some() || !outcome.is_empty();
    is_needed.then(|| Box::new(Extra { deflate, outcome, ..Extra::default() }))
}

#[cfg(not(feature = "deflate"))]
fn extra_for(_: &Connection, outcome: Outcome) -> Option<Box<Extra>> {
    (!outcome.is_empty()).then(|| Box::new(Extra { outcome, ..Extra::default() }))
}

impl PeerShared {
    /// Publishes the counts of compression. Called by the worker.
    #[cfg(feature = "deflate")]
    pub(crate) fn publish_deflate(&self, connection: &Connection) {
        if let Some(stats) = connection.deflate_stats()
            && let Some(shown) = self.extra.get().and_then(|extra| extra.deflate.as_ref())
        {
            shown.publish(stats);
        }
    }

    /// Does nothing without compression.
    #[cfg(not(feature = "deflate"))]
    pub(crate) fn publish_deflate(&self, _: &Connection) {}

    #[cfg(feature = "deflate")]
    fn deflate_stats(&self) -> Option<DeflateStats> {
        Some(self.extra.get()?.deflate.as_ref()?.stats())
    }

    #[cfg(not(feature = "deflate"))]
    fn deflate_stats(&self) -> Option<DeflateStats> {
        None
    }
}

/// Only for pointers of 64 bits, and not with the benchmarks, whose streams are larger.
#[cfg(all(test, target_pointer_width = "64", not(threadbare_bench)))]
mod tests {
    use super::*;
    use crate::worker::channel::delivery::ChannelSlot;
    use crate::worker::event_loop::drive::Slot;

    /// A connection's generation in the worker's slab, and its link in the timer wheel.
    const TABLES: usize = 4 + 12;
    /// An allocator's own word, and the counts of an `Arc`.
    const ARC: usize = 8 + 16;

    /// With debug assertions, mio notes in each stream which poll it is registered with.
    const NOTE: usize = if cfg!(debug_assertions) { 8 } else { 0 };
    /// The pointer to what was negotiated about compression.
    const DEFLATE: usize = if cfg!(feature = "deflate") { 8 } else { 0 };

    /// The memory of an idle connection. A change that makes it grow should be intended.
    #[test]
    fn an_idle_connection_is_small() {
        let with_handler = size_of::<Option<Slot<()>>>();
        let with_events = size_of::<Option<Slot<ChannelSlot>>>();
        assert!(with_handler <= 72 + DEFLATE + NOTE, "{with_handler}");
        assert!(with_events <= 88 + DEFLATE + NOTE, "{with_events}");
        assert!(size_of::<PeerInfo>() <= 56, "{}", size_of::<PeerInfo>());
        assert!(size_of::<PeerShared>() <= 104, "{}", size_of::<PeerShared>());
        let (handler, events) = (with_handler + size_of::<PeerInfo>(), with_events + size_of::<PeerShared>() + ARC);
        assert!(handler + TABLES <= 144 + DEFLATE + NOTE, "{handler}");
        assert!(events + TABLES <= 232 + DEFLATE + NOTE, "{events}");
    }
}
