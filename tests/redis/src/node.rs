//! A node: a bridge, and what its topics hear.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use threadbare::{Bridge, BridgeMessage, BridgeStats, LocalEvent, LocalTopics, Redis};

use crate::{DEADLINE, eventually};

/// What the topics of a node have heard, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message, with its topic, payload and position.
    Message(String, Vec<u8>, Option<String>),
    /// A gap: of which topic, and how many.
    Gap(Option<String>, Option<u64>),
}

#[derive(Debug, Default)]
struct Record {
    heard: Mutex<Vec<Heard>>,
    more: Condvar,
    /// While it is locked, the node's topics are stuck.
    gate: Mutex<()>,
}

/// A bridge that has been started, and a record of its deliveries.
#[derive(Debug)]
pub struct Node {
    /// The bridge.
    pub bridge: Redis,
    record: Arc<Record>,
}

impl Node {
    /// Starts a bridge that asks for `topics`.
    pub fn start(bridge: Redis, topics: &[&str]) -> Node {
        let record = Arc::new(Record::default());
        let recorder = record.clone();
        for topic in topics {
            bridge.subscribe(topic);
        }
        let local = LocalTopics::from_fn(move |event| recorder.note(event));
        bridge.start(local).expect("a bridge");
        Node { bridge, record }
    }

    /// Starts a bridge to a Redis that is there, and waits until it is connected.
    pub fn connected(bridge: Redis, topics: &[&str]) -> Node {
        let node = Node::start(bridge, topics);
        node.await_connected();
        node
    }

    /// Waits until both of its threads have a connection, and its topics are confirmed.
    pub fn await_connected(&self) {
        eventually("the node is connected", || self.stats().connected);
    }

    /// Publishes a number as text.
    pub fn publish(&self, topic: &str, number: u64) -> bool {
        self.bridge.publish(topic, &BridgeMessage::text(&number.to_string())).is_queued()
    }

    /// What the bridge counts.
    pub fn stats(&self) -> BridgeStats {
        self.bridge.stats()
    }

    /// All that was heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.record.heard.lock().expect("no panic").clone()
    }

    /// The numbers that were heard of a topic.
    pub fn numbers(&self, topic: &str) -> Vec<u64> {
        let of_topic = |heard: &Heard| match heard {
            Heard::Message(name, payload, _) if name == topic => Some(number_of(payload)),
            _ => None,
        };
        self.heard().iter().filter_map(of_topic).collect()
    }

    /// How many messages were told to be missing, of all topics.
    pub fn told_missing(&self) -> u64 {
        let missed = |heard: &Heard| match heard {
            Heard::Gap(_, missed) => *missed,
            Heard::Message(..) => None,
        };
        self.heard().iter().filter_map(missed).sum()
    }

    /// How often the node was told that something may be lost.
    pub fn unknown_gaps(&self) -> usize {
        self.heard().iter().filter(|heard| **heard == Heard::Gap(None, None)).count()
    }

    /// Waits until what was heard is as `holds` says.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&[Heard]) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut heard = self.record.heard.lock().expect("no panic");
        while !holds(&heard) {
            let left = deadline.saturating_duration_since(Instant::now());
            let last = heard.len().saturating_sub(5);
            assert!(
                !left.is_zero(),
                "not heard: {what}; last of {}: {:?}, {:?}",
                heard.len(),
                &heard[last..],
                self.stats()
            );
            heard = self.record.more.wait_timeout(heard, left).expect("no panic").0;
        }
    }

    /// Waits until a number of a topic was heard.
    #[track_caller]
    pub fn until_number(&self, topic: &str, number: u64) {
        let payload = number.to_string();
        let is_it = |heard: &Heard| matches!(heard, Heard::Message(name, text, _) if name == topic && text == payload.as_bytes());
        self.until(&format!("{number} of {topic}"), |heard| heard.iter().rev().any(is_it));
    }

    /// Keeps the node's topics from taking anything while `act` runs.
    pub fn while_stuck(&self, act: impl FnOnce()) {
        let gate = self.record.gate.lock().expect("no panic");
        act();
        drop(gate);
    }
}

impl Record {
    fn note(&self, event: LocalEvent<'_>) {
        drop(self.gate.lock().expect("no panic"));
        let heard = match event {
            LocalEvent::Message { topic, message } => {
                Heard::Message(topic.to_owned(), message.payload().to_vec(), message.position().map(str::to_owned))
            }
            LocalEvent::Gap { topic, missed } => Heard::Gap(topic.map(str::to_owned), missed),
            _ => return,
        };
        self.heard.lock().expect("no panic").push(heard);
        self.more.notify_all();
    }
}

/// The number that a payload is.
pub fn number_of(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok()).expect("a number")
}
