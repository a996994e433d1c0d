//! Topics of several machines: what a bridge is, and the one over Redis.

#[cfg(feature = "redis")]
mod envelope;
mod error;
mod local;
mod message;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod stats;
#[cfg(feature = "redis")]
mod tracker;

pub use error::BridgeError;
pub(crate) use local::LocalDelivery;
pub use local::{LocalBatch, LocalEvent, LocalTopics};
pub use message::{Accepted, BridgeMessage};
pub use stats::BridgeStats;

/// Carries the messages of topics between the servers of several machines.
///
/// A server delivers to its own subscribers directly, before and without the bridge, so that they notice nothing of an
/// engine that is slow or gone. The bridge takes each message to the other nodes that have subscribers of the topic, and
/// brings theirs. Messages of one node to one topic keep their order; those of several nodes have none among each other.
///
/// `Redis`, with the feature `redis`, is one. A program implements this trait to put another engine behind its topics. Every
/// method may be called from any thread, also from a worker's, and none but [`start`](Bridge::start) and
/// [`stop`](Bridge::stop) may wait.
///
/// ```
/// use std::sync::OnceLock;
/// use threadbare::{Accepted, Bridge, BridgeError, BridgeMessage, BridgeStats, LocalTopics};
///
/// /// Brings back to this node what it publishes, as a test may want it.
/// #[derive(Default)]
/// struct Loopback(OnceLock<LocalTopics>);
///
/// impl Bridge for Loopback {
///     fn start(&self, local: LocalTopics) -> Result<(), BridgeError> {
///         self.0.set(local).map_err(|_| BridgeError::AlreadyStarted)
///     }
///
///     fn publish(&self, topic: &str, message: &BridgeMessage<'_>) -> Accepted {
///         match self.0.get() {
///             Some(local) => local.deliver(topic, message),
///             None => return Accepted::Stopped,
///         }
///         Accepted::Queued
///     }
///
///     fn subscribe(&self, _topic: &str) {}
///     fn unsubscribe(&self, _topic: &str) {}
///     fn stop(&self) {}
///
///     fn stats(&self) -> BridgeStats {
///         BridgeStats::default()
///     }
/// }
/// ```
pub trait Bridge: Send + Sync + 'static {
    /// Begins to carry messages, and gives those of other nodes to `local`. An engine that can not be reached is no error:
    /// the bridge goes on trying.
    ///
    /// # Errors
    /// The bridge was started before, or the system provides no thread.
    fn start(&self, local: LocalTopics) -> Result<(), BridgeError>;

    /// Queues a message for the other nodes, and says at once what came of it.
    fn publish(&self, topic: &str, message: &BridgeMessage<'_>) -> Accepted;

    /// Asks for the messages of a topic, because it has its first subscriber here.
    fn subscribe(&self, topic: &str);

    /// Asks for no more messages of a topic, because its last subscriber here has left.
    fn unsubscribe(&self, topic: &str);

    /// Returns what was carried and lost so far.
    fn stats(&self) -> BridgeStats;

    /// Ends the bridge: what is queued has a short time to leave, and the bridge's threads have ended on return.
    fn stop(&self);
}
