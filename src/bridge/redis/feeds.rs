//! The topics of a subscriber's connection: what is delivered, and what is a duplicate, this node's own, or missing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bridge::envelope::{Envelope, NodeId};
use crate::bridge::local::LocalBatch;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::bridge::redis::relay::Relay;
use crate::bridge::redis::topics::Change;
use crate::bridge::stats::{Counts, add};
use crate::bridge::tracker::{Arrival, Tracker};

/// The subscriber's view of its topics. It outlives connections, so that gaps over an outage are counted.
#[derive(Debug)]
pub(super) struct Feeds {
    /// This node.
    node: NodeId,
    counts: Arc<Counts>,
    pub(super) feeds: HashMap<Arc<str>, Feed>,
    /// Where the bridge is in a hand-over to another process.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) relay: Relay,
    /// How many confirmations are awaited.
    unconfirmed: usize,
    /// Messages that were delivered and not counted yet.
    received: u64,
}

#[derive(Debug, Default)]
pub(super) struct Feed {
    pub(super) wanted: bool,
    /// SUBSCRIBE commands without a confirmation: what comes before it belongs to an earlier subscription.
    unconfirmed: u32,
    pub(super) tracker: Tracker,
    /// The id of the last entry of its stream that came.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) position: Option<String>,
    /// What arrives is dropped, until the stream is read from `position` on.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) rewinds: bool,
}

impl Feeds {
    pub(super) fn new(node: NodeId, counts: Arc<Counts>) -> Feeds {
        Feeds {
            node,
            counts,
            feeds: HashMap::new(),
            #[cfg(all(target_os = "linux", feature = "handover"))]
            relay: Relay::default(),
            unconfirmed: 0,
            received: 0,
        }
    }

    /// Begins a connection on which nothing is subscribed, and where `wanted` is to be.
    pub(super) fn begin(&mut self, wanted: &[Arc<str>]) {
        let mut before = std::mem::take(&mut self.feeds);
        for topic in wanted {
            let known = before.remove(topic).filter(|feed| feed.wanted);
            let feed = known.unwrap_or_else(|| self.begin_feed(topic));
            self.feeds.insert(topic.clone(), Feed { wanted: true, unconfirmed: 1, ..feed });
        }
        self.unconfirmed = wanted.len();
    }

    /// Notes a change. Returns whether the engine is to be told.
    pub(super) fn change(&mut self, change: &Change) -> bool {
        match self.feeds.get_mut(&change.topic) {
            Some(feed) if feed.wanted == change.wanted => return false,
            None if !change.wanted => return false,
            _ => {}
        }
        let new = self.begin_feed(&change.topic);
        let feed = self.feeds.entry(change.topic.clone()).or_default();
        *feed = Feed { wanted: change.wanted, unconfirmed: feed.unconfirmed, ..new };
        if change.wanted {
            feed.unconfirmed += 1;
            self.unconfirmed += 1;
        } else if feed.unconfirmed == 0 {
            self.feeds.remove(&change.topic);
        }
        true
    }

    /// A topic of which nothing was delivered, but by the process before.
    #[cfg_attr(
        not(all(target_os = "linux", feature = "handover")),
        expect(clippy::unused_self, reason = "the other form needs it")
    )]
    fn begin_feed(&mut self, topic: &str) -> Feed {
        #[cfg(not(all(target_os = "linux", feature = "handover")))]
        let _ = topic;
        #[cfg(all(target_os = "linux", feature = "handover"))]
        let crate::bridge::redis::relay::Delivered { tracker, position } = self.relay.take(topic);
        Feed {
            #[cfg(all(target_os = "linux", feature = "handover"))]
            tracker,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            position,
            ..Feed::default()
        }
    }

    /// The id of the last entry of a topic's stream that was delivered, here or by the process before.
    pub(super) fn position(&self, topic: &str) -> Option<String> {
        #[cfg(all(target_os = "linux", feature = "handover"))]
        return self.feeds.get(topic)?.position.clone();
        #[cfg(not(all(target_os = "linux", feature = "handover")))]
        return self.feeds.get(topic).and(None);
    }

    /// Notes that the engine has confirmed a subscription. `false` if there was none to confirm.
    pub(super) fn confirm(&mut self, topic: &str) -> bool {
        let Some(feed) = self.feeds.get_mut(topic).filter(|feed| feed.unconfirmed > 0) else { return false };
        feed.unconfirmed -= 1;
        self.unconfirmed -= 1;
        if feed.unconfirmed == 0 && !feed.wanted {
            self.feeds.remove(topic);
        }
        true
    }

    /// Whether the engine has confirmed everything.
    pub(super) fn is_confirmed(&self) -> bool {
        self.unconfirmed == 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// Delivers what another node has published to a topic, unless it is this node's own, a duplicate or garbage.
    pub(super) fn receive(&mut self, topic: &str, bytes: &[u8], position: Option<&str>, batch: &mut LocalBatch<'_>) {
        let Some(feed) = self.feeds.get_mut(topic).filter(|feed| feed.wanted && feed.unconfirmed == 0) else { return };
        #[cfg(all(target_os = "linux", feature = "handover"))]
        {
            if feed.rewinds || !self.relay.delivers(topic, bytes, position) {
                return;
            }
            if let Some(position) = position {
                feed.position.get_or_insert_default().replace_range(.., position);
            }
        }
        let envelope = match Envelope::decode(bytes) {
            Ok(envelope) => envelope,
            Err(error) => {
                add(&self.counts.garbage, 1);
                log::debug!("a message that no bridge has made is dropped: {error}");
                return;
            }
        };
        if envelope.node.is_same_bridge(self.node) {
            add(&self.counts.own, 1);
            return;
        }
        match feed.tracker.note(envelope.node, envelope.sequence) {
            Arrival::Duplicate => add(&self.counts.duplicates, 1),
            Arrival::Deliver { missed } => {
                if missed > 0 {
                    add(&self.counts.missed, missed);
                    batch.gap(Some(topic), Some(missed));
                }
                self.received += 1;
                let message = match position {
                    Some(position) => envelope.message.at(position),
                    None => envelope.message,
                };
                batch.deliver(topic, &message);
            }
        }
    }

    /// Counts what was delivered. Called at the end of each batch.
    pub(super) fn count(&mut self) {
        if self.received > 0 {
            add(&self.counts.received, std::mem::take(&mut self.received));
        }
    }
}
