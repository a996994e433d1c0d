//! What a worker counts over all of its connections, for any thread to read.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::close::CloseCode;
use crate::stats::count::Count;
use crate::stats::histogram::SharedHistogram;
use crate::worker::handle::traffic::{COUNTED_CODES, TrafficStats, index_of};

/// What the connections of a worker did in this iteration of its event loop and before. The worker adds to these, and
/// [publishes](WorkerMetrics::publish) them at the end of the iteration, so that a message costs no write to memory that
/// is shared.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// The bytes that wait to be written now.
    pub(crate) queued_bytes: u64,
}

/// What a worker counts. The worker alone writes, but for the drops.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    messages_received: Count,
    messages_sent: Count,
    bytes_received: Count,
    bytes_sent: Count,
    queued_bytes: Count,
    pub(crate) opened: Count,
    closed: [Count; COUNTED_CODES],
    /// The iterations of its event loop.
    pub(crate) iterations: Count,
    pub(crate) slow_callbacks: Count,
    pub(crate) callback_time: SharedHistogram,
    pub(crate) iteration_time: SharedHistogram,
    pub(crate) round_trip_time: SharedHistogram,
    pub(crate) queue_time: SharedHistogram,
    /// Messages that a policy has dropped, and those that it has handed back to the sender; by any thread.
    dropped: AtomicU64,
    /// Messages of topics that subscribers have missed.
    skipped: AtomicU64,
    refused: AtomicU64,
}

impl WorkerMetrics {
    /// Shows other threads what the connections did.
    #[inline]
    pub(crate) fn publish(&self, totals: &Totals) {
        self.messages_received.set(totals.messages_received);
        self.messages_sent.set(totals.messages_sent);
        self.bytes_received.set(totals.bytes_received);
        self.bytes_sent.set(totals.bytes_sent);
        self.queued_bytes.set(totals.queued_bytes);
    }

    /// Counts the end of a connection, by the code that the application is told.
    pub(crate) fn count_close(&self, code: CloseCode) {
        if let Some(count) = self.closed.get(index_of(code)) {
            count.add(1);
        }
    }

    pub(crate) fn add_dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_skipped(&self, count: u64) {
        self.skipped.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Sums up what these workers counted.
    pub(crate) fn sum<'a>(workers: impl IntoIterator<Item = &'a WorkerMetrics>) -> TrafficStats {
        let mut sum = TrafficStats::default();
        for worker in workers {
            worker.add_to(&mut sum);
        }
        sum
    }

    fn add_to(&self, sum: &mut TrafficStats) {
        sum.opened += self.opened.value();
        for (sum, count) in sum.closed.iter_mut().zip(&self.closed) {
            *sum += count.value();
        }
        sum.messages_received += self.messages_received.value();
        sum.messages_sent += self.messages_sent.value();
        sum.bytes_received += self.bytes_received.value();
        sum.bytes_sent += self.bytes_sent.value();
        sum.queued_bytes += self.queued_bytes.value();
        sum.dropped += self.dropped.load(Ordering::Relaxed);
        sum.skipped += self.skipped.load(Ordering::Relaxed);
        sum.refused += self.refused.load(Ordering::Relaxed);
        sum.iterations += self.iterations.value();
        sum.slow_callbacks += self.slow_callbacks.value();
        sum.callback_time.add(&self.callback_time.snapshot());
        sum.iteration_time.add(&self.iteration_time.snapshot());
        sum.round_trip_time.add(&self.round_trip_time.snapshot());
        sum.queue_time.add(&self.queue_time.snapshot());
    }
}
