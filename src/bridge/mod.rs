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
/// method may be called from any thread, also from a worker's, and none but [`start`](Bridge::start), [`catch_up`](Bridge::catch_up) and
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

    /// Begins as [`start`](Bridge::start) does, in a process that [takes over](crate::ServerBuilder) from another with a bridge of its own. Both
    /// get what other nodes publish for a moment. Holds back what arrives until [`go_on`](Bridge::go_on), if it can tell what the other has
    /// delivered. By default it starts: then the server holds back what is delivered, and may deliver it twice.
    ///
    /// ```
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # use threadbare::{Accepted, Bridge, BridgeError, BridgeMessage, BridgeStats, LocalTopics};
    /// /// Counts the bytes that are published, and has another bridge carry them.
    /// struct Counted<B>(B, AtomicU64);
    ///
    /// impl<B: Bridge> Bridge for Counted<B> {
    ///     // `start`, `publish` and so on, and what the other bridge does when a process takes over:
    /// #     fn start(&self, local: LocalTopics) -> Result<(), BridgeError> {
    /// #         self.0.start(local)
    /// #     }
    /// #     fn publish(&self, topic: &str, message: &BridgeMessage<'_>) -> Accepted {
    /// #         self.1.fetch_add(message.payload().len() as u64, Ordering::Relaxed);
    /// #         self.0.publish(topic, message)
    /// #     }
    /// #     fn subscribe(&self, topic: &str) {
    /// #         self.0.subscribe(topic);
    /// #     }
    /// #     fn unsubscribe(&self, topic: &str) {
    /// #         self.0.unsubscribe(topic);
    /// #     }
    /// #     fn stats(&self) -> BridgeStats {
    /// #         self.0.stats()
    /// #     }
    /// #     fn stop(&self) {
    /// #         self.0.stop();
    /// #     }
    ///     fn stand_by(&self, local: LocalTopics) -> Result<(), BridgeError> {
    ///         self.0.stand_by(local)
    ///     }
    ///
    ///     fn is_ready(&self) -> bool {
    ///         self.0.is_ready()
    ///     }
    ///
    ///     fn catch_up(&self) {
    ///         self.0.catch_up();
    ///     }
    ///
    ///     fn leave(&self) -> Vec<u8> {
    ///         self.0.leave()
    ///     }
    ///
    ///     fn go_on(&self, state: &[u8]) {
    ///         self.0.go_on(state);
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As for [`start`](Bridge::start).
    fn stand_by(&self, local: LocalTopics) -> Result<(), BridgeError> {
        self.start(local)
    }

    /// Whether everything that is published to the topics that were asked for arrives. A server that takes over waits for that, up to
    /// 3 s, before the other lets go. It asks for each topic once more when the first subscriber is there. Default: `true`.
    fn is_ready(&self) -> bool {
        true
    }

    /// Returns once what other nodes had published before the call is delivered, or after a second at most: another process is about to take
    /// over, and gets what they publish from about now on. Default: at once.
    fn catch_up(&self) {}

    /// Delivers nothing from here on, because another process has taken over, and returns what its bridge has to know to deliver each
    /// message once. What is published here later is still carried. Default: nothing.
    fn leave(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Delivers what was held back since [`stand_by`](Bridge::stand_by), and goes on. `state` is what the other bridge has returned from
    /// [`leave`](Bridge::leave), and empty if that is not known. Default: nothing.
    fn go_on(&self, state: &[u8]) {
        let _ = state;
    }

    /// Ends the bridge: what is queued has a short time to leave, and the bridge's threads have ended on return.
    fn stop(&self);
}
