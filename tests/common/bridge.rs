//! A bridge without other servers.

use std::sync::{Arc, OnceLock};

use threadbare::{Accepted, Bridge, BridgeError, BridgeMessage, BridgeStats, LocalTopics};

/// A bridge that takes every message, and through which a test says what other servers have published.
#[derive(Clone, Default)]
pub struct TestBridge {
    topics: Arc<OnceLock<LocalTopics>>,
}

impl TestBridge {
    /// The topics of the server, which has started.
    pub fn topics(&self) -> &LocalTopics {
        self.topics.get().expect("it has started")
    }
}

impl Bridge for TestBridge {
    fn start(&self, topics: LocalTopics) -> Result<(), BridgeError> {
        assert!(self.topics.set(topics).is_ok(), "it starts once");
        Ok(())
    }

    fn publish(&self, _: &str, _: &BridgeMessage<'_>) -> Accepted {
        Accepted::Queued
    }

    fn subscribe(&self, _: &str) {}

    fn unsubscribe(&self, _: &str) {}

    fn stats(&self) -> BridgeStats {
        BridgeStats::default()
    }

    fn stop(&self) {}
}
