//! Topics that go on in another process: what is told of one, and how it goes on there, with its name, its epoch and its numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::transport::shared_frame::SharedFrame;
use crate::worker::slab::Key;
use crate::worker::topics::registry::{Registry, SHARDS};
use crate::worker::topics::topic::{Publication, Reservation, TopicState};

/// A topic that came does not end within 60 s: the application takes its handles again, and clients that were closed come back. Longer
/// keeps the names of topics that nobody wants; shorter begins positions anew where a program or a client is slow.
const STAYS: u64 = 60_000;

/// Marks the worker of a connection that a message was not for as one of the process before. No worker has such an index.
const FOREIGN: u16 = 1 << 15;

/// A connection, and its worker.
pub(crate) type Origin = (u16, Key);

/// What is told of a topic: the messages behind one of them.
#[derive(Clone, Debug)]
pub(crate) struct ToldTopic {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) standing: Standing,
    /// The number before that of the first of the messages; that of the newest if there are none.
    pub(crate) after: u64,
    /// The sizes of all messages that there ever were.
    pub(crate) published_bytes: u64,
    pub(crate) messages: Vec<ToldMessage>,
}

/// What of a topic is told anew if it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The number of the newest message.
    pub(crate) last: u64,
    pub(crate) has_subscribers: bool,
    /// Whether it has had members.
    pub(crate) had_members: bool,
    /// The newest message when it last got a member after it had none.
    pub(crate) interrupted: Option<u64>,
}

/// A message of a topic that is told.
#[derive(Clone, Debug)]
pub(crate) struct ToldMessage {
    pub(crate) frame: SharedFrame,
    /// In milliseconds; `u64::MAX` if nobody knows, because the topic has no history.
    pub(crate) age: u64,
    pub(crate) except: Option<Origin>,
}

impl TopicState {
    /// Has nothing be published to the topic from here on: it is another process's.
    fn give_away(&self) {
        self.lock().has_left = true;
    }

    /// What there is behind `known`, or all of it; `None` if that is nothing.
    pub(crate) fn tell(&self, known: Option<Standing>, now: u64) -> Option<ToldTopic> {
        let shared = self.lock();
        let ring = &shared.ring;
        let standing = Standing {
            last: ring.last(),
            has_subscribers: shared.subscribers > 0,
            had_members: shared.had_members,
            interrupted: shared.interrupted,
        };
        if known == Some(standing) {
            return None;
        }
        let after = known.map_or(0, |known| known.last).max(ring.oldest() - 1);
        let keeps = self.config.keeps();
        let tell = |publication: &Publication, at: u64| ToldMessage {
            frame: publication.frame.clone(),
            age: if keeps { now.saturating_sub(at) } else { u64::MAX },
            except: publication.except.filter(|(worker, _)| worker & FOREIGN == 0),
        };
        Some(ToldTopic {
            name: self.name.clone(),
            epoch: self.epoch,
            standing,
            after,
            published_bytes: ring.pushed_bytes(),
            messages: ring.behind(after).map(|(publication, at)| tell(publication, at)).collect(),
        })
    }

    /// Goes on with what was told of the topic.
    fn go_on(&self, told: ToldTopic, now: u64) {
        let mut shared = self.lock();
        // Nothing is freed before it is known who needs it.
        shared.awaits = true;
        self.update_seen(&mut shared, now);
        self.stays_until.store(now.saturating_add(STAYS), Ordering::Relaxed);
        (shared.had_members, shared.interrupted) = (told.standing.had_members, told.standing.interrupted);
        shared.ring.go_on_behind(told.after);
        for ToldMessage { frame, age, except } in told.messages {
            let size = frame.plain().len();
            let except = except.map(|(worker, key)| (worker | FOREIGN, key));
            shared.ring.push(Publication { frame, except }, size, now.saturating_sub(age));
        }
        shared.ring.set_pushed_bytes(told.published_bytes);
    }

    /// Keeps everything until [`end_awaiting`](TopicState::end_awaiting), for subscribers that are still to come.
    pub(crate) fn await_subscribers(&self) {
        // Those that come were never away.
        self.lock().had_members = false;
    }

    /// Notes that the subscribers that were to come are there, or do not come. If none has come, and none has reserved its place, the
    /// topic has had members if it had them in the process before, and `unwanted` is called.
    pub(crate) fn end_awaiting(&self, standing: Standing, now: u64, unwanted: impl FnOnce()) {
        let mut shared = self.lock();
        shared.awaits = false;
        if shared.subscribers == 0 {
            shared.had_members = standing.had_members;
            // Under the lock, so that a subscriber that comes now is told of later.
            unwanted();
        }
        self.update_seen(&mut shared, now);
        self.end_if_idle(shared);
    }

    /// Reserves the subscription of a connection that has the messages up to `cursor`, which was `was` in the process before. `None` if
    /// the topic has ended.
    pub(crate) fn resume(self: &Arc<Self>, cursor: u64, was: Origin, is: Origin, now: u64) -> Option<Reservation> {
        let mut shared = self.lock();
        if shared.has_ended {
            return None;
        }
        let cursor = cursor.min(shared.ring.last());
        let was = Some((was.0 | FOREIGN, was.1));
        shared.ring.change_behind(cursor, |publication| {
            if publication.except == was {
                publication.except = Some(is);
            }
        });
        Some(self.reserve(&mut shared, is.0, cursor, now))
    }
}

impl Registry {
    /// All topics that there are.
    pub(crate) fn all(&self) -> Vec<Arc<TopicState>> {
        (0..SHARDS).flat_map(|shard| self.lock(shard).topics.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Notes that another process has the topics. Those that begin from here on are no more than names.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::SeqCst);
        self.all().iter().for_each(|topic| topic.give_away());
    }

    /// Goes on with a topic of another process. One of the same name that came before has ended there.
    pub(crate) fn go_on(self: &Arc<Self>, told: ToldTopic, now: u64) -> Arc<TopicState> {
        let config = self.config(&told.name);
        let mut shard = self.shard(&told.name);
        let found = shard.topics.get(&told.name).cloned();
        let topic = found.clone().filter(|topic| topic.epoch == told.epoch).unwrap_or_else(|| {
            let topic = self.make(&told.name, config, told.epoch);
            shard.topics.insert(topic.name.clone(), topic.clone());
            self.count.fetch_add(usize::from(found.is_none()), Ordering::Relaxed);
            topic
        });
        topic.go_on(told, now);
        topic
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::topic_config::TopicConfig;
    use crate::protocol::deflate::Compression;
    use crate::protocol::frame::Opcode;
    use crate::worker::topics::position::{Position, Since};

    const SECOND: u64 = 1000;

    /// A registry whose topics keep so many messages, for a minute.
    fn registry(keep: usize, workers: usize) -> Arc<Registry> {
        let config = move |name: &str| match name {
            "plain" => TopicConfig::default().buffer(4, 1 << 20),
            _ => TopicConfig::default().keep(keep, 1 << 20, Duration::from_secs(60)),
        };
        Registry::new(Some(Box::new(config)), workers)
    }

    fn publish(topic: &TopicState, now: u64, except: Option<Origin>) -> u64 {
        let make = |position: Position| {
            let payload = position.offset.to_string();
            Publication { frame: SharedFrame::new(Opcode::Text, payload.as_bytes(), Compression::Never), except }
        };
        topic.push(now, make).expect("it is there").offset
    }

    fn payloads(topic: &TopicState, after: u64) -> Vec<String> {
        let mut found = Vec::new();
        topic.read(after, u64::MAX, usize::MAX, &mut found);
        let text = |publication: &Publication| {
            let (_, payload) = publication.frame.message().expect("a frame");
            String::from_utf8_lossy(payload).into_owned()
        };
        found.iter().map(text).collect()
    }

    fn key(index: u32) -> Key {
        Key { index, generation: 1 }
    }

    #[test]
    fn history_goes_on_with_its_numbers_and_its_age() {
        let (old, new) = (registry(10, 1), registry(3, 4));
        let topic = old.find_or_begin("kept");
        (0..5).for_each(|number| assert_eq!(publish(&topic, number * 10 * SECOND, None), number + 1));
        let told = topic.tell(None, 45 * SECOND).expect("messages");
        assert_eq!((told.after, told.messages.len(), told.messages[0].age), (0, 5, 45 * SECOND));
        let (known, now) = (told.standing, 1000 * SECOND);
        let taken = new.go_on(told, now);
        assert_eq!((new.len(), taken.epoch), (1, topic.epoch));
        taken.end_awaiting(known, now, || {});
        assert_eq!(payloads(&taken, 0), ["3", "4", "5"], "as many as the new process keeps");
        assert!(topic.tell(Some(known), 45 * SECOND).is_none(), "nothing new");
        publish(&topic, 46 * SECOND, None);
        topic.give_away();
        new.go_on(topic.tell(Some(known), 46 * SECOND).expect("one more"), now + SECOND);
        taken.end_awaiting(known, now + SECOND, || {});
        assert_eq!(
            (payloads(&taken, 0), publish(&taken, now + SECOND, None)),
            (vec!["4".into(), "5".into(), "6".into()], 7)
        );
        assert!(topic.push(47 * SECOND, |_| unreachable!("it has left")).is_none());
        let since = Since::Position(Position { epoch: topic.epoch, offset: 6 });
        let (_reserved, subscription) = taken.subscribe(3, since, now + SECOND).expect("it is there");
        assert_eq!((subscription.missed, payloads(&taken, 6)), (0, vec!["7".to_owned()]));
        taken.expire(now + 80 * SECOND);
        assert_eq!(payloads(&taken, 0), ["7"], "the sixth was a second older, and nobody lacks it");
    }

    #[test]
    fn what_is_missing_between_two_parts_leaves_no_wrong_numbers() {
        let (old, new) = (registry(2, 1), registry(10, 1));
        let topic = old.find_or_begin("kept");
        (1..=2).for_each(|number| assert_eq!(publish(&topic, 0, None), number));
        let told = topic.tell(None, 0).expect("two");
        let known = Some(told.standing);
        let taken = new.go_on(told, 0);
        (3..=6).for_each(|number| assert_eq!(publish(&topic, 0, None), number));
        new.go_on(topic.tell(known, 0).expect("two of four"), 0);
        assert_eq!((payloads(&taken, 0), taken.last()), (vec!["5".into(), "6".into()], 6));
    }

    #[test]
    fn a_topic_of_the_same_name_that_began_later_takes_the_place() {
        let (old, new) = (registry(2, 1), registry(2, 1));
        let topic = old.find_or_begin("plain");
        assert!(topic.hold());
        publish(&topic, 0, None);
        let first = new.go_on(topic.tell(None, 0).expect("a number"), 0);
        assert_eq!((first.last(), payloads(&first, 0).len()), (1, 0), "nobody lacked it");
        topic.unhold();
        let topic = old.find_or_begin("plain");
        let second = new.go_on(topic.tell(None, 0).expect("another"), 0);
        assert_ne!(first.epoch, second.epoch);
        assert_eq!((new.len(), second.last()), (1, 0));
        assert!(new.find("plain").is_some_and(|found| Arc::ptr_eq(&found, &second)));
    }

    #[test]
    fn what_a_subscriber_lacks_waits_for_it_and_is_not_sent_to_whom_it_was_not_for() {
        let (old, new) = (registry(2, 2), registry(2, 1));
        let topic = old.find_or_begin("plain");
        let _reserved = topic.subscribe(1, Since::Now, 0).expect("it is there");
        let was = (1, key(7));
        for number in 0..3 {
            publish(&topic, 0, (number == 1).then_some(was));
        }
        let told = topic.tell(None, 0).expect("three");
        let standing = told.standing;
        let taken = new.go_on(told, 0);
        taken.await_subscribers();
        assert_eq!(payloads(&taken, 0), ["1", "2", "3"]);
        let is = (0, key(1));
        let mut reserved = taken.resume(1, was, is, 0).expect("it is there");
        taken.end_awaiting(standing, 0, || {});
        assert_eq!(payloads(&taken, 0), ["2", "3"], "the subscriber has not come to it");
        let mut found = Vec::new();
        taken.read(1, u64::MAX, usize::MAX, &mut found);
        assert_eq!(found.iter().map(|publication| publication.except).collect::<Vec<_>>(), [Some(is), None]);
        let told = taken.tell(None, 0).expect("two");
        assert_eq!(told.messages.iter().map(|message| message.except).collect::<Vec<_>>(), [Some(is), None]);
        let (_, cursor, last) = reserved.take().expect("reserved");
        assert_eq!((cursor, last), (1, 3));
    }

    /// A bridge was not asked for a topic while it had no subscribers: who comes back from before that is told.
    #[test]
    fn whether_a_topic_was_without_subscribers_is_known_in_the_next_process() {
        let old = registry(9, 1);
        let topic = old.find_or_begin("kept");
        for _ in 0..2 {
            let mut reserved = topic.subscribe(0, Since::Now, 0).expect("it is there").0;
            drop(reserved.take());
            topic.join(|| {}, || {});
            publish(&topic, 0, None);
            topic.leave(0, || {}, || {});
        }
        assert_eq!(topic.interrupted_at(0), Some(1));
        for comes in [true, false] {
            let new = registry(9, 1);
            let told = topic.tell(None, 0).expect("two");
            let standing = told.standing;
            let taken = new.go_on(told, 0);
            assert_eq!(taken.interrupted_at(0), Some(1));
            taken.await_subscribers();
            // A subscriber has a place first, and is counted once it takes it.
            let place = comes.then(|| taken.subscribe(0, Since::Now, 0).expect("it is there").0);
            if comes {
                taken.join(|| {}, || {});
            }
            let mut is_unwanted = false;
            taken.end_awaiting(standing, 0, || is_unwanted = true);
            if !comes {
                taken.join(|| {}, || {});
            }
            let interrupted = if comes { None } else { Some(2) };
            assert_eq!((is_unwanted, taken.interrupted_at(2)), (!comes, interrupted), "it was not without, or it was");
            drop(place.and_then(|mut place| place.take()));
        }
    }

    #[test]
    fn a_topic_that_nobody_wants_ends_a_minute_later() {
        let (old, new) = (registry(2, 1), registry(2, 1));
        let topic = old.find_or_begin("plain");
        let told = topic.tell(None, 0).expect("a name");
        let standing = told.standing;
        let taken = new.go_on(told, 5 * SECOND);
        taken.end_awaiting(standing, 6 * SECOND, || {});
        assert_eq!(new.len(), 1);
        assert!(new.sweep_all(64 * SECOND), "it stays");
        assert!(!new.sweep_all(65 * SECOND));
        assert_eq!(new.len(), 0);
        old.leave();
        let late = old.find_or_begin("late");
        assert!(late.push(0, |_| unreachable!("it is another process's")).is_none());
    }

    impl Registry {
        fn sweep_all(&self, now: u64) -> bool {
            (0..SHARDS).fold(false, |is_left, shard| self.sweep(shard, now) | is_left)
        }
    }
}
