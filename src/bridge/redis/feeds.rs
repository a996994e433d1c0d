//! The topics of a subscriber's connection: what is delivered, and what is a duplicate, this node's own, or missing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bridge::envelope::Envelope;
use crate::bridge::local::LocalBatch;
use crate::bridge::redis::shared::Shared;
use crate::bridge::redis::topics::Change;
use crate::bridge::stats::add;
use crate::bridge::tracker::{Arrival, Tracker};

/// The subscriber's view of its topics. It outlives connections, so that gaps over an outage are counted.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    feeds: HashMap<Arc<str>, Feed>,
    /// How many confirmations are awaited.
    unconfirmed: usize,
    /// Messages that were delivered and not counted yet.
    received: u64,
}

#[derive(Debug, Default)]
struct Feed {
    wanted: bool,
    /// SUBSCRIBE commands without a confirmation: what comes before it belongs to an earlier subscription.
    unconfirmed: u32,
    tracker: Tracker,
}

impl Feeds {
    /// Begins a connection on which nothing is subscribed, and where `wanted` is to be.
    pub(super) fn begin(&mut self, wanted: &[Arc<str>]) {
        let mut before = std::mem::take(&mut self.feeds);
        for topic in wanted {
            let tracker = before.remove(topic).filter(|feed| feed.wanted).unwrap_or_default().tracker;
            self.feeds.insert(topic.clone(), Feed { wanted: true, unconfirmed: 1, tracker });
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
        let feed = self.feeds.entry(change.topic.clone()).or_default();
        feed.wanted = change.wanted;
        feed.tracker = Tracker::default();
        if change.wanted {
            feed.unconfirmed += 1;
            self.unconfirmed += 1;
        } else if feed.unconfirmed == 0 {
            self.feeds.remove(&change.topic);
        }
        true
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
    pub(super) fn receive(
        &mut self,
        topic: &str,
        bytes: &[u8],
        position: Option<&str>,
        shared: &Shared,
        batch: &mut LocalBatch<'_>,
    ) {
        let Some(feed) = self.feeds.get_mut(topic).filter(|feed| feed.wanted && feed.unconfirmed == 0) else { return };
        let envelope = match Envelope::decode(bytes) {
            Ok(envelope) => envelope,
            Err(error) => {
                add(&shared.counts.garbage, 1);
                log::debug!("a message that no bridge has made is dropped: {error}");
                return;
            }
        };
        if envelope.node.is_same_bridge(shared.node) {
            add(&shared.counts.own, 1);
            return;
        }
        match feed.tracker.note(envelope.node, envelope.sequence) {
            Arrival::Duplicate => add(&shared.counts.duplicates, 1),
            Arrival::Deliver { missed } => {
                if missed > 0 {
                    add(&shared.counts.missed, missed);
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
    pub(super) fn count(&mut self, shared: &Shared) {
        if self.received > 0 {
            add(&shared.counts.received, std::mem::take(&mut self.received));
        }
    }
}
