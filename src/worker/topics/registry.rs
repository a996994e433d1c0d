//! The topics of a server, by name.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::config::topic_config::TopicConfig;
use crate::worker::topics::stats::{AllTopics, TopicStats};
use crate::worker::topics::topic::{TopicOwner, TopicState};

/// The names are spread over 16 tables, each with a lock. More take more memory; fewer have more threads wait for each other.
pub(crate) const SHARDS: usize = 16;

/// The longest name of a topic, in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// What the application says of a topic that begins.
pub(crate) type Configure = dyn Fn(&str) -> TopicConfig + Send + Sync;

/// Some of the topics.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) topics: HashMap<Arc<str>, Arc<TopicState>>,
    /// What those counted that have ended.
    ended: TopicStats,
}

/// The topics of a server, by name.
pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    configure: Option<Box<Configure>>,
    pub(super) workers: usize,
    /// Makes epochs that nobody can guess, one for each topic that ever begins.
    epochs: RandomState,
    begun: AtomicU64,
    /// How many topics there are.
    pub(super) count: AtomicUsize,
    /// Another process has the topics: what begins here is no more than a name.
    pub(super) has_left: AtomicBool,
    /// Whether a worker looks for what is too old.
    is_swept: AtomicBool,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry for a server with so many workers.
    pub(crate) fn new(configure: Option<Box<Configure>>, workers: usize) -> Arc<Registry> {
        Arc::new(Registry {
            shards: Default::default(),
            configure,
            workers,
            epochs: RandomState::new(),
            begun: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            has_left: AtomicBool::new(false),
            is_swept: AtomicBool::new(false),
        })
    }

    pub(super) fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        // Names that a peer chooses to be in the same table only wait for the same lock.
        let hash = name.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
        self.lock(hash % SHARDS)
    }

    /// No topic is waited for under this lock: code of the application that makes a message runs under its topic's, and may use
    /// another topic, of the same table.
    pub(super) fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        // No code of the application runs under the lock.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<TopicState>> {
        self.shard(name).topics.get(name).cloned()
    }

    /// What the application says of a topic.
    pub(crate) fn config(&self, name: &str) -> TopicConfig {
        self.configure.as_ref().map_or_else(TopicConfig::default, |configure| configure(name))
    }

    /// As [`find_or_begin`](Registry::find_or_begin), unless there are `most` topics already. Threads that begin one each at the same
    /// moment may all find room.
    pub(crate) fn find_or_begin_within(self: &Arc<Self>, name: &str, most: usize) -> Option<Arc<TopicState>> {
        self.find(name).or_else(|| (self.len() < most).then(|| self.find_or_begin(name)))
    }

    pub(crate) fn find_or_begin(self: &Arc<Self>, name: &str) -> Arc<TopicState> {
        if let Some(topic) = self.find(name) {
            return topic;
        }
        let config = self.config(name);
        let mut shard = self.shard(name);
        if let Some(topic) = shard.topics.get(name) {
            return topic.clone();
        }
        let epoch = self.epochs.hash_one(self.begun.fetch_add(1, Ordering::Relaxed));
        let topic = self.make(name, config, epoch);
        topic.lock().has_left = self.has_left();
        shard.topics.insert(topic.name.clone(), topic.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        topic
    }

    pub(super) fn make(self: &Arc<Self>, name: &str, config: TopicConfig, epoch: u64) -> Arc<TopicState> {
        let owner = Arc::downgrade(self) as Weak<dyn TopicOwner>;
        Arc::new(TopicState::new(name.into(), config, epoch, self.workers, owner))
    }

    /// Whether another process has the topics.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::SeqCst)
    }

    /// The number of topics.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// What all topics count, and the `most` topics with most subscribers.
    pub(crate) fn stats(&self, most: usize) -> AllTopics {
        let mut all = AllTopics::default();
        for shard in 0..SHARDS {
            let shard = self.lock(shard);
            all.total.add(&shard.ended);
            let topics: Vec<_> = shard.topics.values().cloned().collect();
            drop(shard);
            topics.iter().for_each(|topic| all.add(topic, most));
        }
        all.keep(most);
        all
    }

    /// Whether the caller is to have a worker [sweep](Registry::sweep), because none does.
    pub(crate) fn begin_to_sweep(&self) -> bool {
        !self.is_swept.load(Ordering::Relaxed) && !self.is_swept.swap(true, Ordering::SeqCst)
    }

    /// Frees what is too old for the history, in one of the tables. Returns whether there is any left.
    pub(crate) fn sweep(&self, shard: usize, now: u64) -> bool {
        let topics: Vec<_> =
            self.lock(shard).topics.values().filter(|topic| topic.config.keeps() || topic.stays()).cloned().collect();
        topics.iter().fold(false, |is_left, topic| topic.expire(now) | is_left)
    }

    /// Ends the sweeping, unless there is history again; then it goes on, and this returns `false`.
    pub(crate) fn end_sweeping(&self, now: u64) -> bool {
        self.is_swept.store(false, Ordering::SeqCst);
        // Looked at after that: who published meanwhile has seen one of the two.
        let is_left = (0..SHARDS).fold(false, |is_left, shard| self.sweep(shard, now) | is_left);
        !(is_left && self.begin_to_sweep())
    }
}

impl TopicOwner for Registry {
    fn end_if_idle(&self, topic: &TopicState) {
        let (mut shard, has_ended) = loop {
            let shard = self.shard(&topic.name);
            if let Some(has_ended) = topic.try_end() {
                break (shard, has_ended);
            }
            drop(shard);
            topic.await_lock();
        };
        if has_ended && shard.topics.get(&topic.name).is_some_and(|found| found.epoch == topic.epoch) {
            shard.ended.add(&topic.stats());
            shard.topics.remove(&topic.name);
            self.count.fetch_sub(1, Ordering::Relaxed);
            if shard.topics.is_empty() {
                shard.topics.shrink_to(64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::deflate::Compression;
    use crate::protocol::frame::Opcode;
    use crate::transport::shared_frame::SharedFrame;
    use crate::worker::topics::position::{Position, Since};
    use crate::worker::topics::topic::{Publication, Pushed, Reservation};

    fn registry() -> Arc<Registry> {
        let keep = |name: &str| match name {
            "kept" => TopicConfig::default().keep(10, 1000, Duration::from_millis(50)),
            _ => TopicConfig::default().buffer(2, 1000),
        };
        Registry::new(Some(Box::new(keep)), 2)
    }

    fn publish(topic: &TopicState, now: u64) -> Option<Pushed> {
        let frame = SharedFrame::new(Opcode::Text, b"message", Compression::Never);
        topic.push(now, |_| Publication { frame, except: None })
    }

    fn read(topic: &TopicState, after: u64) -> (usize, u64) {
        let mut found = Vec::new();
        let range = topic.read(after, u64::MAX, usize::MAX, &mut found);
        (found.len(), range.first)
    }

    fn join(mut reservation: Reservation) -> u64 {
        let (topic, cursor, _) = reservation.take().expect("a reservation");
        topic.join(|| {}, || {});
        cursor
    }

    #[test]
    fn a_topic_lives_as_long_as_somebody_needs_it() {
        let registry = registry();
        let topic = registry.find_or_begin("room");
        let (reserved, subscription) = topic.subscribe(1, Since::Now, 0).expect("it has not ended");
        assert_eq!((subscription.position.offset, subscription.missed), (0, 0));
        assert_eq!(publish(&topic, 0), Some(Pushed { offset: 1, subscribers: 1 }));
        assert_eq!((read(&topic, 0), topic.workers().collect::<Vec<_>>()), ((1, 1), vec![1]));
        assert!(topic.hold());
        drop(reserved);
        assert_eq!((read(&topic, 0), registry.len()), ((0, 2), 1), "a handle needs the name, not the message");
        topic.unhold();
        assert_eq!((registry.len(), publish(&topic, 0), topic.hold()), (0, None, false));
        assert!(topic.subscribe(0, Since::Now, 0).is_none());
        assert_ne!(registry.find_or_begin("room").epoch, topic.epoch);
    }

    #[test]
    fn what_all_workers_have_is_freed() {
        let registry = registry();
        let topic = registry.find_or_begin("room");
        let [one, other] = [0, 1].map(|worker| topic.subscribe(worker, Since::Now, 0).expect("it has not ended").0);
        (0..2).for_each(|_| assert!(publish(&topic, 0).is_some()));
        topic.acknowledge(0, 0, 2, 0);
        assert_eq!(read(&topic, 0), (2, 1), "the worker has not come to its subscription");
        assert_eq!((join(one), join(other)), (0, 0));
        topic.acknowledge(0, 1, 2, 0);
        assert_eq!(read(&topic, 0), (2, 1));
        topic.acknowledge(1, 1, 1, 0);
        assert_eq!(read(&topic, 0), (1, 2));
        (0..3).for_each(|_| assert!(publish(&topic, 0).is_some()));
        assert_eq!(read(&topic, 1), (2, 4), "two at most");
        topic.leave(0, || {}, || panic!("there is another"));
        topic.acknowledge(1, 1, 5, 0);
        assert_eq!((read(&topic, 1), topic.usage().bytes), ((0, 6), 0));
        let mut is_told = false;
        topic.leave(1, || {}, || is_told = true);
        assert!(is_told && registry.len() == 0);
    }

    #[test]
    fn a_subscription_begins_where_it_is_asked_to_and_says_what_is_lost() {
        let registry = registry();
        let topic = registry.find_or_begin("kept");
        (0..12).for_each(|now| assert!(publish(&topic, now).is_some()));
        let since = |since| {
            let (_, subscription) = topic.subscribe(0, since, 12).expect("it has not ended");
            (subscription.position.offset, subscription.missed)
        };
        let position = |offset| Since::Position(topic.position(offset));
        assert_eq!((since(Since::Now), since(Since::Oldest)), ((12, 0), (2, 0)));
        assert_eq!((since(position(12)), since(position(5)), since(position(2))), ((12, 0), (5, 0), (2, 0)));
        assert_eq!((since(position(1)), since(position(0))), ((2, 1), (2, 2)));
        assert_eq!(since(position(u64::MAX)), (12, 0), "what a client claims");
        let other = Position { epoch: topic.epoch ^ 1, offset: 12 };
        assert_eq!(since(Since::Position(other)), (2, u64::MAX));
        assert!(registry.begin_to_sweep() && !registry.begin_to_sweep());
        let sweep = |now| (0..SHARDS).fold(false, |is_left, shard| registry.sweep(shard, now) | is_left);
        assert!(sweep(55) && !registry.end_sweeping(55));
        assert_eq!((since(Since::Oldest), registry.len()), ((6, 0), 1), "50 ms old at most");
        assert!(!sweep(61) && registry.end_sweeping(61));
        assert_eq!(registry.len(), 0);
    }

    #[test]
    fn the_counts_of_all_topics_have_those_that_ended_and_the_largest_are_named() {
        let registry = registry();
        let reserved = |name: &str, count: usize| -> Vec<_> {
            let topic = registry.find_or_begin(name);
            (0..count).map(|_| topic.subscribe(0, Since::Now, 0).expect("it has not ended").0).collect()
        };
        let subscribed: Vec<_> =
            (0..50).map(|number| reserved(&format!("room/{number:02}"), number % 25 + 1)).collect();
        assert!(publish(&registry.find_or_begin("room/24"), 0).is_some());
        let all = registry.stats(4);
        let largest: Vec<_> = all.largest.iter().map(|(name, stats)| (&**name, stats.subscribers)).collect();
        assert_eq!(largest, [("room/24", 25), ("room/49", 25), ("room/23", 24), ("room/48", 24)]);
        assert_eq!((all.count, all.total.subscribers, all.total.published), (50, 650, 1));
        let bytes = all.total.published_bytes;
        assert!(bytes > 7 && all.total.bytes as u64 == bytes, "{all:?}");
        drop(subscribed);
        let all = registry.stats(4);
        assert_eq!((all.count, all.largest.len()), (0, 0));
        assert_eq!((all.total.published, all.total.published_bytes, all.total.bytes), (1, bytes, 0), "a count stays");
        assert_eq!(registry.stats(0).total.published, 1);
    }

    #[test]
    fn a_worker_that_is_behind_has_a_bounded_number_of_commands() {
        let topic = registry().find_or_begin("room");
        assert_eq!((0..2000).filter(|_| topic.may_announce(1)).count(), 1024);
        let standing = (0..1024).filter(|_| topic.announcement_taken(1)).count();
        assert_eq!(standing, 1, "the last one stands for the others");
        assert!(topic.may_announce(1) && !topic.announcement_taken(1));
        assert_eq!(
            (topic.place(1), topic.set_place(1, Some(7)), topic.place(1), topic.place(0)),
            (None, (), Some(7), None)
        );
    }
}
