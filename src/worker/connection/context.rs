//! The state that the connections of a worker share.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::config::Config;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Codec;
use crate::transport::output::Output;
use crate::transport::spare_inputs::SpareInputs;
use crate::worker::connection::callback_watch::CallbackWatch;
use crate::worker::connection::topics::WorkerTopics;
use crate::worker::handle::inbox::Inbox;
use crate::worker::handle::info::{Outcome, PeerInfo};
use crate::worker::handle::metrics::Totals;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::publisher::Publisher;
use crate::worker::handle::worker_handle::WorkerHandle;
use crate::worker::slab::{Key, KeyMap};
use crate::worker::timer_wheel::Tick;

/// A connection may hold 16 KiB, however short of memory the server is. Larger lets many small holders exceed the limit by
/// more; smaller keeps those waiting that are not the cause.
const MIN_SHARE: usize = 16 << 10;

/// The state that the connections of a worker share.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) config: Arc<Config>,
    /// [`Config::after_close`] of this end.
    pub(crate) delivers_after_close: bool,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) handle: Arc<WorkerHandle>,
    /// A connection whose policy refuses messages is not read while this many bytes are queued by another thread, so that
    /// answers from there have room. `usize::MAX` for a client.
    pub(crate) max_answers: usize,
    /// Sends to the connections of all workers.
    pub(crate) publisher: Publisher,
    pub(crate) output: Output,
    /// Receive buffers that went to the application with what was in them, and came back.
    pub(crate) inputs: Arc<SpareInputs>,
    pub(crate) group: WriteGroup,
    /// The compressors of all connections.
    pub(crate) codec: Codec,
    /// When the worker began.
    pub(crate) epoch: Instant,
    /// The time of this iteration of the event loop, in ticks of the timer wheel.
    pub(crate) tick: Tick,
    /// Messages for every connection, sent at the end of the iteration.
    pub(crate) broadcasts: Vec<Prepared>,
    /// The connections' subscriptions to topics.
    pub(crate) topics: WorkerTopics,
    /// The records of connections without a handle, each at its connection's index.
    pub(crate) infos: Vec<PeerInfo>,
    /// The outcomes of the opening handshakes of connections without a handle, if there are any, by index.
    pub(crate) outcomes: KeyMap<u32, Outcome>,
    /// The memory of connections that take more than an idle one, by index, as the budget was told.
    pub(crate) charges: KeyMap<u32, usize>,
    /// Whether the server takes more memory than it may, and the connections that are not read for that.
    pub(crate) is_short_of_memory: bool,
    pub(crate) starved: Vec<Key>,
    /// The memory of what was read and is not decoded, of all connections.
    pub(crate) undecoded: usize,
    /// The memory of payloads that were taken out of the inbox, and that the budget was told of as they were. The queue counts them
    /// until all its commands are executed.
    pub(crate) released_payloads: usize,
    /// Close frames that wait for the application's answers to earlier messages.
    pub(crate) pending_close_frames: KeyMap<Key, Option<CloseFrame>>,
    /// What the connections did, for [`Inbox::metrics`].
    pub(crate) totals: Totals,
    /// When the output of connections began to wait, by index.
    pub(crate) queued_since: KeyMap<u32, Instant>,
    pub(crate) callback_watch: CallbackWatch,
    /// Another process may go on with the connections, which keep what it needs.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) hands_over: bool,
}

/// Connections that are read one after the other before any of them is written to.
#[derive(Debug, Default)]
pub(crate) struct WriteGroup {
    /// Another connection is to be read before the next write.
    pub(crate) is_open: bool,
    /// The connections whose output waits for the end of the group, and its range in [`Output`].
    pub(crate) held: Vec<(Key, Range<usize>)>,
}

impl WorkerContext {
    /// Microseconds since the worker began, for round trips.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Keeps the record of the connection at `index`, which has no handle.
    pub(crate) fn keep_info(&mut self, index: u32, info: PeerInfo, outcome: Outcome) {
        if !outcome.is_empty() {
            self.outcomes.insert(index, outcome);
        }
        let index = index as usize;
        if self.infos.len() <= index {
            self.infos.resize_with(index + 1, PeerInfo::default);
        }
        self.infos[index] = info;
    }

    /// Takes the record of the connection at `index`, if it is kept here.
    pub(crate) fn take_info(&mut self, index: u32) -> (PeerInfo, Outcome) {
        let info = self.infos.get_mut(index as usize).map(std::mem::take).unwrap_or_default();
        (info, self.outcomes.remove(&index).unwrap_or_default())
    }

    /// Tells the budget that the connection at `index` takes `held` bytes more than an idle one.
    #[inline(never)]
    pub(crate) fn charge(&mut self, index: u32, held: usize) {
        let before = match held {
            0 => self.charges.remove(&index),
            _ => self.charges.insert(index, held),
        };
        self.inbox.budget.change(before.unwrap_or(0), held);
    }

    /// Tells the budget that a payload of the inbox is now its connection's, which counts it from here on.
    #[inline]
    pub(crate) fn release_payload(&mut self, memory: usize) {
        self.inbox.budget.change(memory, 0);
        self.released_payloads += memory;
    }

    /// Notes whether output of the connection at `index` waits to be written.
    #[inline(never)]
    pub(crate) fn note_queued(&mut self, index: u32, waits: bool) {
        if waits {
            self.queued_since.entry(index).or_insert_with(Instant::now);
        } else if let Some(since) = self.queued_since.remove(&index) {
            self.inbox.metrics.queue_time.record(since.elapsed());
        }
    }

    /// Counts messages that were dropped because the queue of a connection was full.
    pub(crate) fn count_dropped(&self, info: &PeerInfo, count: u32) {
        info.counters.add_dropped(count);
        self.inbox.metrics.add_dropped(count.into());
    }

    /// The memory that a connection may hold while the server is short of memory.
    pub(crate) fn memory_share(&self) -> usize {
        let workers = self.publisher.workers();
        let connections = self.inbox.load.load(Ordering::Relaxed).saturating_mul(workers);
        (self.inbox.budget.limit() / connections.max(1)).max(MIN_SHARE)
    }

    /// Sends a message to every connection of every worker.
    pub(crate) fn broadcast(&mut self, message: Prepared) {
        message.charge(&self.inbox.budget);
        self.publisher.broadcast_to_others(self.handle.index, &message);
        self.broadcasts.push(message);
    }
}
