//! The topics of a server, and how any thread publishes to them.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::config::Config;
use crate::error::{InvalidTopicName, SubscribeError};
use crate::protocol::deflate::Compression;
use crate::protocol::message::{CowMessage, MessageRef};
use crate::transport::budget::MemoryBudget;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::handle::inbox::{Command, Inbox};
use crate::worker::handle::publishing::{Both, Publishing};
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::handle::stand_by::StandBy;
use crate::worker::handle::topic_bridge::TopicBridge;
use crate::worker::slab::Key;
use crate::worker::topics::position::{Position, Published, Since, Subscription};
use crate::worker::topics::registry::{Configure, MAX_NAME, Registry};
use crate::worker::topics::topic::{Publication, Pushed, Reservation, TopicState};

/// The topics of a server. Threads share them.
pub(crate) struct Topics {
    pub(crate) registry: Arc<Registry>,
    pub(super) inboxes: Arc<[Arc<Inbox>]>,
    pub(super) budget: Arc<MemoryBudget>,
    bridge: OnceLock<Arc<dyn TopicBridge>>,
    pub(super) publishing: Publishing,
    max_topics: usize,
    /// How many subscriptions a connection has at most.
    pub(crate) max_subscriptions: usize,
    began: Instant,
    /// What is published while the server takes over from another process.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) stand_by: StandBy,
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// A worker that publishes, and the connection that is left out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    /// This worker takes the message without a command.
    pub(crate) worker: Option<u16>,
    pub(crate) except: Option<(u16, Key)>,
}

/// The clock begins at this time, so that what came from another process may be older than this one: 34 years.
const BEFORE: u64 = 1 << 40;

impl Topics {
    /// The topics of the workers with these inboxes.
    pub(crate) fn new(
        configure: Option<Box<Configure>>,
        inboxes: Arc<[Arc<Inbox>]>,
        budget: Arc<MemoryBudget>,
        config: &Config,
    ) -> Topics {
        let registry = Registry::new(configure, inboxes.len());
        let Config { max_topics, max_subscriptions, .. } = *config;
        let (bridge, began) = (OnceLock::new(), Instant::now());
        Topics {
            registry,
            inboxes,
            budget,
            bridge,
            publishing: Publishing::default(),
            max_topics,
            max_subscriptions,
            began,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            stand_by: StandBy::default(),
        }
    }

    /// Sets what carries topics between servers, once.
    pub(crate) fn set_bridge(&self, bridge: Arc<dyn TopicBridge>) -> bool {
        self.bridge.set(bridge).is_ok()
    }

    pub(crate) fn bridge(&self) -> Option<&dyn TopicBridge> {
        self.bridge.get().map(|bridge| &**bridge)
    }

    /// The time in milliseconds, which only a topic with a history asks for.
    pub(crate) fn now(&self, topic: &TopicState) -> u64 {
        if topic.config.keeps() { self.millis() } else { 0 }
    }

    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(BEFORE)
    }

    /// Publishes a message to the topic with this name, here and through the bridge. Returns the topic too, if there is one.
    pub(crate) fn publish(
        &self,
        name: &str,
        message: MessageRef<'_>,
        origin: Origin,
    ) -> Option<(Arc<TopicState>, Pushed)> {
        // The bridge keeps a number for each name.
        check_name(name).ok()?;
        let bridge = self.bridge().filter(|_| !message.opcode().is_control());
        let _both = bridge.map(|bridge| self.publish_there(bridge, name, message));
        if self.waits(name, message) { None } else { self.publish_here(name, message, origin) }
    }

    /// Publishes a message that came from another server: to the subscribers of this one alone.
    pub(crate) fn deliver(&self, name: &str, message: MessageRef<'_>) -> Published {
        if self.waits(name, message) {
            return Published::default();
        }
        let published = self.publish_here(name, message, Origin::default());
        published.map_or_else(Published::default, |(topic, pushed)| pushed.published(&topic))
    }

    /// Whether a message waits until the server has taken over.
    fn waits(&self, name: &str, message: MessageRef<'_>) -> bool {
        #[cfg(all(target_os = "linux", feature = "handover"))]
        return self.stand_by.hold(name, message);
        #[cfg(not(all(target_os = "linux", feature = "handover")))]
        {
            let _ = (name, message);
            false
        }
    }

    /// Has the subscribers of a topic, or of all, be told that they have missed messages that did not come here.
    pub(crate) fn gap(&self, name: Option<&str>, missed: u64) {
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if self.stand_by.lose() {
            return; // those that are to be told are not here yet
        }
        let topic = name.map(|name| self.registry.find(name));
        // A topic that is not there has no subscribers.
        if topic.as_ref().is_some_and(Option::is_none) {
            return;
        }
        for inbox in &*self.inboxes {
            inbox.send(Command::TopicGap { topic: topic.clone().flatten(), missed });
        }
    }

    pub(super) fn publish_here(
        &self,
        name: &str,
        message: MessageRef<'_>,
        origin: Origin,
    ) -> Option<(Arc<TopicState>, Pushed)> {
        if message.opcode().is_control() {
            return None;
        }
        loop {
            let topic = match self.registry.find(name) {
                Some(topic) => topic,
                None if self.registry.has_left() => return None,
                None if check_name(name).is_ok() && self.registry.config(name).keeps() => {
                    self.registry.find_or_begin_within(name, self.max_topics)?
                }
                None => return None,
            };
            let frame = frame_of(message);
            if let Some(pushed) = self.push(&topic, origin, |_| frame) {
                return Some((topic, pushed));
            }
            // The topic has ended meanwhile, or is that of another process.
            if self.registry.has_left() {
                return None;
            }
        }
    }

    /// Publishes a message to a topic that the application holds, here and through the bridge.
    pub(crate) fn publish_to(&self, topic: &Arc<TopicState>, message: MessageRef<'_>, origin: Origin) -> Published {
        if message.opcode().is_control() {
            return Published::default();
        }
        let _both = self.bridge().map(|bridge| self.publish_there(bridge, &topic.name, message));
        let frame = frame_of(message);
        self.push(topic, origin, |_| frame).map_or_else(Published::default, |pushed| pushed.published(topic))
    }

    /// Gives a message to the bridge. It is published here before what this returns is dropped.
    fn publish_there(&self, bridge: &dyn TopicBridge, name: &str, message: MessageRef<'_>) -> Both<'_> {
        let publishing = self.publishing.begin();
        bridge.publish(name, message);
        publishing
    }

    /// As [`publish_to`](Topics::publish_to), for a message that names its position.
    pub(crate) fn publish_with<'m>(
        &self,
        topic: &Arc<TopicState>,
        make: impl FnOnce(Position) -> CowMessage<'m>,
    ) -> Published {
        let _both = self.bridge().map(|_| self.publishing.begin());
        let mut made = None;
        let pushed = self.push(topic, Origin::default(), |position| {
            let message = made.insert(make(position)).as_message();
            frame_of(message)
        });
        if let (Some(bridge), Some(message)) = (self.bridge(), made) {
            bridge.publish(&topic.name, message.as_message());
        }
        pushed.map_or_else(Published::default, |pushed| pushed.published(topic))
    }

    /// Adds a message to the ring, and tells the workers with subscribers.
    fn push(
        &self,
        topic: &Arc<TopicState>,
        origin: Origin,
        make: impl FnOnce(Position) -> SharedFrame,
    ) -> Option<Pushed> {
        let pushed = topic.push(self.now(topic), |position| {
            let frame = make(position);
            frame.charge(&self.budget);
            Publication { frame, except: origin.except }
        })?;
        if pushed.subscribers > 0 {
            for worker in topic.workers().filter(|worker| origin.worker != Some(*worker)) {
                self.inboxes[usize::from(worker)].announce(topic, worker, pushed.offset);
            }
        }
        self.sweep_later(topic);
        Some(pushed)
    }

    /// Has a worker look for history that is too old, if there may be some.
    fn sweep_later(&self, topic: &TopicState) {
        if topic.config.keeps() {
            self.sweep();
        }
    }

    /// Has a worker look for topics, and history, that are too old.
    pub(super) fn sweep(&self) {
        if self.registry.begin_to_sweep() {
            self.inboxes[0].send(Command::SweepTopics);
        }
    }

    /// Reserves a subscription of a connection of this worker.
    pub(crate) fn subscribe(
        &self,
        name: &str,
        since: Since,
        worker: u16,
    ) -> Result<(Reservation, Subscription), SubscribeError> {
        check_name(name)?;
        loop {
            let topic = self.registry.find_or_begin_within(name, self.max_topics);
            let topic = topic.ok_or(SubscribeError::TooManyTopics)?;
            if let Some(reserved) = topic.subscribe(worker, since, self.now(&topic)) {
                return Ok(reserved);
            }
        }
    }

    /// The topic with this name, held for the application.
    pub(crate) fn hold(&self, name: &str) -> Result<Arc<TopicState>, InvalidTopicName> {
        check_name(name)?;
        loop {
            let topic = self.registry.find_or_begin(name);
            if topic.hold() {
                return Ok(topic);
            }
        }
    }
}

impl Pushed {
    /// What the application is told.
    pub(crate) fn published(self, topic: &TopicState) -> Published {
        Published { position: Some(topic.position(self.offset)), subscribers: self.subscribers }
    }
}

/// Encodes a message once for all subscribers.
fn frame_of(message: MessageRef<'_>) -> SharedFrame {
    SharedFrame::new(message.opcode(), message.as_bytes(), Compression::Auto)
}

fn check_name(name: &str) -> Result<(), InvalidTopicName> {
    if (1..=MAX_NAME).contains(&name.len()) { Ok(()) } else { Err(InvalidTopicName { size: name.len() }) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, mpsc};
    use std::thread;
    use std::time::Duration;

    use mio::{Poll, Token, Waker};

    use super::*;
    use crate::protocol::message::Message;
    use crate::worker::handle::inbox::CommandQueue;
    use crate::worker::handle::topic_events::{TopicEvent, TopicObserver};

    #[derive(Default)]
    struct Recorded(Mutex<Vec<String>>);

    impl Recorded {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().expect("no panic"))
        }
    }

    impl TopicBridge for Recorded {
        fn publish(&self, topic: &str, message: MessageRef<'_>) {
            self.0.lock().expect("no panic").push(format!("{topic}: {message}"));
        }

        fn first(&self, topic: &str) {
            self.0.lock().expect("no panic").push(format!("first {topic}"));
        }

        fn last(&self, topic: &str) {
            self.0.lock().expect("no panic").push(format!("last {topic}"));
        }
    }

    fn topics() -> (Arc<Topics>, Arc<[Arc<Inbox>]>, Poll) {
        let poll = Poll::new().expect("a poll");
        let inbox = Inbox::new(Waker::new(poll.registry(), Token(0)).expect("a waker"), Arc::default());
        let inboxes: Arc<[_]> = Arc::new([Arc::new(inbox)]);
        (Arc::new(Topics::new(None, inboxes.clone(), Arc::default(), &Config::default())), inboxes, poll)
    }

    #[test]
    fn a_bridge_is_given_what_is_published_here_and_not_what_it_delivers() {
        let (topics, _, _poll) = topics();
        let bridge = Arc::new(Recorded::default());
        assert!(topics.set_bridge(bridge.clone()) && !topics.set_bridge(bridge.clone()));
        assert!(topics.publish("room", MessageRef::Text("one"), Origin::default()).is_none(), "nobody is here");
        assert!(topics.publish("room", MessageRef::Ping(b"ping"), Origin::default()).is_none());
        let topic = topics.hold("room").expect("a name");
        topics.publish_to(&topic, MessageRef::Text("two"), Origin::default());
        topics.publish_with(&topic, |position| Message::from(format!("{}", position.offset)).into());
        assert_eq!(topics.deliver("room", MessageRef::Text("from elsewhere")).position, Some(topic.position(3)));
        assert_eq!(bridge.take(), ["room: one", "room: two", "room: 2"]);
        let told = Arc::new(Mutex::new(0));
        let hook = {
            let told = told.clone();
            move |_| {
                assert_eq!(bridge.take().len(), 1, "the bridge is told before the application");
                *told.lock().expect("no panic") += 1;
            }
        };
        let observer = TopicObserver::new(topics, Some(Box::new(hook)));
        observer.push(|| TopicEvent::First("room".into()));
        observer.push(|| TopicEvent::Last("room".into()));
        observer.dispatch();
        assert_eq!(*told.lock().expect("no panic"), 2);
    }

    #[test]
    fn one_command_tells_of_what_is_published_until_another_follows() {
        let (topics, inboxes, _poll) = topics();
        let _reserved = topics.subscribe("room", Since::Now, 0).expect("subscribed");
        for number in 0..6 {
            topics.publish("room", MessageRef::Text("message"), Origin::default()).expect("a topic");
            if number == 3 {
                topics.gap(Some("nowhere"), 1);
                topics.gap(Some("room"), 7);
                topics.gap(None, 8);
            }
        }
        let mut queue = CommandQueue::default();
        inboxes[0].take(&mut queue);
        let told = queue.commands.iter().map(|command| match command {
            Command::Topic { upto, .. } => format!("{upto}"),
            Command::TopicGap { topic, missed } => format!("{:?} {missed}", topic.as_ref().map(|topic| &*topic.name)),
            other => panic!("{other:?}"),
        });
        assert_eq!(told.collect::<Vec<_>>(), ["4", "Some(\"room\") 7", "None 8", "6"]);
    }

    /// A peer may choose the name, and the bridge keeps a number for each.
    #[test]
    fn what_has_no_name_of_a_topic_is_not_given_to_the_bridge() {
        let (topics, _, _poll) = topics();
        let bridge = Arc::new(Recorded::default());
        assert!(topics.set_bridge(bridge.clone()));
        for name in ["", &"x".repeat(MAX_NAME + 1)] {
            assert!(topics.publish(name, MessageRef::Text("one"), Origin::default()).is_none());
        }
        topics.publish(&"x".repeat(MAX_NAME), MessageRef::Text("one"), Origin::default());
        assert_eq!(bridge.take().len(), 1);
    }

    /// A table's lock and a topic's wait for each other if one is taken under the other, and the other way round.
    #[test]
    fn a_message_may_be_made_with_another_topic_of_the_same_table() {
        let (topics, _, _poll) = topics();
        let (done, is_done) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (looks, over) = (topics.clone(), is_over.clone());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                looks.registry.stats(1);
                drop(looks.subscribe("a", Since::Now, 0));
            }
        });
        thread::spawn(move || {
            for _ in 0..10_000 {
                let topic = topics.hold("a").expect("a name");
                topics.publish_with(&topic, |_| {
                    thread::yield_now();
                    // Both names are in the same table.
                    topics.publish("q", MessageRef::Text("within"), Origin::default());
                    Message::from("around").into()
                });
                topic.unhold();
            }
            done.send(()).expect("the test waits");
        });
        let published = is_done.recv_timeout(Duration::from_secs(30));
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(published, Ok(()));
    }
}
