//! A bridge without other servers.

use std::sync::{Arc, OnceLock};

use threadbare::{Accepted, Bridge, BridgeError, BridgeMessage, BridgeStats, LocalTopics};

/// Gets what a bridge is asked to do, and with which topic.
type Hook = dyn Fn(&LocalTopics, &str, &str) + Send + Sync;

/// A bridge that takes every message, and through which a test says what other servers have published.
#[derive(Clone, Default)]
pub struct TestBridge {
    topics: Arc<OnceLock<LocalTopics>>,
    hook: Option<Arc<Hook>>,
}

impl TestBridge {
    /// A bridge that calls `hook` with `subscribe` and `unsubscribe`, and the topic, and with `go on` in a hand-over.
    pub fn with_hook(hook: impl Fn(&LocalTopics, &str, &str) + Send + Sync + 'static) -> TestBridge {
        TestBridge { hook: Some(Arc::new(hook)), ..TestBridge::default() }
    }

    fn call_hook(&self, word: &str, topic: &str) {
        if let Some(hook) = &self.hook {
            hook(self.topics(), word, topic);
        }
    }

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

    fn subscribe(&self, topic: &str) {
        self.call_hook("subscribe", topic);
    }

    fn unsubscribe(&self, topic: &str) {
        self.call_hook("unsubscribe", topic);
    }

    fn go_on(&self, _: &[u8]) {
        self.call_hook("go on", "");
    }

    fn stats(&self) -> BridgeStats {
        BridgeStats::default()
    }

    fn stop(&self) {}
}
