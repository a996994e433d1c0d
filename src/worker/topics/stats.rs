//! What topics count: each, all together, and those with most subscribers.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::worker::topics::topic::{TopicState, Usage};

/// The counts of a topic.
///
/// ```
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// let room = server.handle().topic("room/1")?;
/// room.publish("nobody hears it");
/// let stats = room.stats();
/// assert_eq!((stats.published, stats.delivered, stats.skipped), (1, 0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// Subscriptions now.
    pub subscribers: usize,
    /// Messages published.
    pub published: u64,
    /// The bytes of their frames.
    pub published_bytes: u64,
    /// Messages sent to subscribers, each as often as it was.
    pub delivered: u64,
    /// Messages that subscribers have missed because they read too slowly, each as often as it was missed.
    pub skipped: u64,
    /// Subscribers that were closed with 1008 for that.
    pub disconnected: u64,
    /// Messages that the topic has: those that some subscriber lacks, and the history.
    pub messages: usize,
    /// The bytes of their frames.
    pub bytes: usize,
}

impl TopicStats {
    /// Adds those of another topic.
    pub(super) fn add(&mut self, other: &TopicStats) {
        let TopicStats { subscribers, published, published_bytes, delivered, skipped, disconnected, messages, bytes } =
            other;
        self.subscribers += subscribers;
        self.published += published;
        self.published_bytes += published_bytes;
        self.delivered += delivered;
        self.skipped += skipped;
        self.disconnected += disconnected;
        self.messages += messages;
        self.bytes += bytes;
    }
}

impl TopicState {
    /// The counts.
    pub(crate) fn stats(&self) -> TopicStats {
        let Usage { subscribers, last, published_bytes, messages, bytes } = self.usage();
        TopicStats {
            subscribers,
            published: last,
            published_bytes,
            delivered: self.delivered.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            disconnected: self.disconnected.load(Ordering::Relaxed),
            messages,
            bytes,
        }
    }
}

/// The counts of all topics.
#[derive(Debug, Default)]
pub(crate) struct AllTopics {
    pub(crate) count: usize,
    /// Together with those that have ended.
    pub(crate) total: TopicStats,
    /// Those with most subscribers, and of these first those with most messages.
    pub(crate) largest: Vec<(Arc<str>, TopicStats)>,
}

impl AllTopics {
    /// Adds a topic, of which `most` are kept.
    pub(super) fn add(&mut self, topic: &TopicState, most: usize) {
        let stats = topic.stats();
        self.count += 1;
        self.total.add(&stats);
        self.largest.push((topic.name.clone(), stats));
        // Not at each, so that a topic costs little however many there are.
        if self.largest.len() > 2 * most {
            self.keep(most);
        }
    }

    /// Sorts them, and keeps the first.
    pub(super) fn keep(&mut self, most: usize) {
        self.largest.sort_unstable_by(|(name, stats), (other_name, other)| {
            let rank = |stats: &TopicStats| Reverse((stats.subscribers, stats.published));
            rank(stats).cmp(&rank(other)).then_with(|| name.cmp(other_name))
        });
        self.largest.truncate(most);
    }
}
