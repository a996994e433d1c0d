//! What a bridge has carried and lost.

#[cfg(feature = "redis")]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a bridge has carried and lost since it was started. All but the last four are counts that only grow.
///
/// A message that a node publishes is `queued` or `refused`. One that is queued becomes `sent`, `rejected` or `unacknowledged`.
/// Other nodes count all that never came as `missed`, whatever the reason, as soon as a later message of the same node and
/// topic arrives.
///
/// ```
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// if let Some(bridge) = server.handle().bridge_stats() {
///     println!("{} messages went to other nodes, and {} of theirs are lost", bridge.sent, bridge.missed);
///     if !bridge.connected {
///         println!("the engine is gone, and {} bytes wait for it", bridge.queued_bytes);
///     }
/// }
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeStats {
    /// Messages of this node that were queued.
    pub queued: u64,
    /// Messages of this node that were not queued, because the queue was full, they were too large, or the bridge had ended.
    pub refused: u64,
    /// Messages of this node that the engine has taken.
    pub sent: u64,
    /// Messages of this node that the engine has answered with an error: they are lost.
    pub rejected: u64,
    /// Messages of this node that were written to a connection which broke before the engine's answer, or queued when the bridge
    /// ended: they may be lost.
    pub unacknowledged: u64,
    /// Messages of other nodes that were delivered here.
    pub received: u64,
    /// Messages of other nodes that are lost to this node: exact, from their sequence numbers.
    pub missed: u64,
    /// Messages of other nodes that came again, and were dropped.
    pub duplicates: u64,
    /// Messages of this node that came back, and were dropped.
    pub own: u64,
    /// Messages that no bridge has made, and answers that the engine never gives. The first are dropped; the second close
    /// the connection.
    pub garbage: u64,
    /// How often a connection to the engine was made again after it was lost.
    pub reconnects: u64,
    /// Whether every connection to the engine works.
    pub connected: bool,
    /// How many topics this node asks for.
    pub topics: usize,
    /// How many bytes wait to be sent, or for the engine's answer.
    pub queued_bytes: usize,
    /// How long the oldest message that waits has waited. Zero if none does.
    pub lag: Duration,
}

/// The counts, as the threads of a bridge keep them. They order nothing.
#[cfg(feature = "redis")]
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) queued: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) unacknowledged: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) missed: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) own: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) publishing: AtomicBool,
    pub(super) subscribed: AtomicBool,
}

#[cfg(feature = "redis")]
impl Counts {
    pub(super) fn read(&self) -> BridgeStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BridgeStats {
            queued: count(&self.queued),
            refused: count(&self.refused),
            sent: count(&self.sent),
            rejected: count(&self.rejected),
            unacknowledged: count(&self.unacknowledged),
            received: count(&self.received),
            missed: count(&self.missed),
            duplicates: count(&self.duplicates),
            own: count(&self.own),
            garbage: count(&self.garbage),
            reconnects: count(&self.reconnects),
            connected: self.publishing.load(Ordering::Relaxed) && self.subscribed.load(Ordering::Relaxed),
            ..BridgeStats::default()
        }
    }
}

/// Adds to a count, without wrapping.
#[cfg(feature = "redis")]
pub(super) fn add(counter: &AtomicU64, more: u64) {
    // The numbers of a hostile engine would wrap a plain addition.
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_add(more)));
}
