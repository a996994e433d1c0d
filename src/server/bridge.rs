//! A bridge of a server: what it is told of the server's topics, and what it tells them.

use std::io;
use std::sync::Arc;

use crate::bridge::{Bridge, BridgeMessage, BridgeStats, LocalDelivery, LocalTopics};
use crate::error::BuildError;
use crate::protocol::contain::contained;
use crate::protocol::message::MessageRef;
use crate::server::builder::ServerBuilder;
use crate::server::control::ServerHandle;
use crate::worker::handle::topic_bridge::TopicBridge;
use crate::worker::handle::topics::Topics;

impl ServerBuilder {
    /// Joins the topics of this server with those of others, through a bridge such as `Redis`. What is published
    /// here goes to the subscribers here at once, and to the other servers through the bridge, if they have subscribers; so
    /// nothing changes here when the bridge is slow or gone. The bridge starts with the server, and ends with it.
    ///
    /// Positions are those of this server. Messages that were lost on the way are told as
    /// [`TopicEvent::Gap`](crate::TopicEvent::Gap), and counted in [`ServerHandle::bridge_stats`].
    ///
    #[cfg_attr(feature = "redis", doc = "```no_run")]
    #[cfg_attr(not(feature = "redis"), doc = "```ignore")]
    /// use threadbare::{Redis, Server};
    ///
    /// let server = Server::builder()
    ///     .bridge(Redis::new("redis://127.0.0.1:6379")?.prefix("app:"))
    ///     .bind("127.0.0.1:8080")?;
    /// server.handle().publish("news", "to the subscribers of every server");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn bridge(mut self, bridge: impl Bridge) -> ServerBuilder {
        self.bridge = Some(Arc::new(bridge));
        self
    }
}

impl ServerHandle {
    /// What the bridge has carried and lost; `None` without a [bridge](ServerBuilder::bridge).
    ///
    /// ```
    /// let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle().bridge_stats(), None);
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn bridge_stats(&self) -> Option<BridgeStats> {
        self.control.bridge.as_ref().map(|bridge| bridge.stats())
    }
}

/// Starts a bridge between other servers and these topics.
///
/// # Errors
/// The bridge can not be started.
pub(super) fn start(
    bridge: &Arc<dyn Bridge>,
    topics: &Arc<Topics>,
    takes_over: bool,
) -> Result<StopsBridge, BuildError> {
    topics.set_bridge(Arc::new(ToBridge(bridge.clone())));
    let local = LocalTopics::new(Arc::new(ToTopics(topics.clone())));
    let started = if takes_over { bridge.stand_by(local) } else { bridge.start(local) };
    let started = started.map_err(io::Error::other);
    started.map_err(BuildError::io("the bridge can not be started"))?;
    Ok(StopsBridge(bridge.clone()))
}

/// Stops a bridge when the last worker has ended.
pub(super) struct StopsBridge(Arc<dyn Bridge>);

impl Drop for StopsBridge {
    fn drop(&mut self) {
        report(contained(|| self.0.stop()));
    }
}

/// What the topics tell. A bridge of the application may panic.
struct ToBridge(Arc<dyn Bridge>);

impl TopicBridge for ToBridge {
    fn publish(&self, topic: &str, message: MessageRef<'_>) {
        let message = match message {
            MessageRef::Text(text) => BridgeMessage::text(text),
            other => BridgeMessage::binary(other.as_bytes()),
        };
        // What it could not take is in its counts.
        report(contained(|| {
            let _ = self.0.publish(topic, &message);
        }));
    }

    fn first(&self, topic: &str) {
        report(contained(|| self.0.subscribe(topic)));
    }

    fn last(&self, topic: &str) {
        report(contained(|| self.0.unsubscribe(topic)));
    }
}

fn report(called: Result<(), String>) {
    if let Err(panic) = called {
        log::error!("a bridge panicked: {panic}");
    }
}

/// What the bridge tells. It delivers on its own thread.
struct ToTopics(Arc<Topics>);

impl LocalDelivery for ToTopics {
    fn deliver(&self, topic: &str, message: &BridgeMessage<'_>) {
        // The application says what a topic is like, and must not end the bridge's thread.
        if let Err(panic) = contained(|| self.0.deliver(topic, message.as_message())) {
            log::error!("the settings of a topic panicked: {panic}");
        }
    }

    fn gap(&self, topic: Option<&str>, missed: Option<u64>) {
        self.0.gap(topic, missed.unwrap_or(0));
    }

    /// A worker was woken for its first message, and takes those that follow with it.
    fn end_batch(&self) {}
}
