//! From the bridge of one process to that of the next, over Redis: what the first has delivered, so that the second delivers the rest.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use crate::bridge::envelope::NodeId;
use crate::bridge::local::LocalBatch;
use crate::bridge::redis::feeds::{Feed, Feeds};
use crate::bridge::redis::relay::{Delivered, Held, HeldMessage};
use crate::bridge::redis::topics::Topics;
use crate::bridge::tracker::Tracker;
use crate::protocol::state::{StateError, StateReader, StateWriter};

/// The version of what one bridge says to the next.
const VERSION: u16 = 1;

impl Feeds {
    /// Has what arrives wait until [`go_on`](Feeds::go_on).
    pub(super) fn stand_by(&mut self) {
        self.relay.held = Some(Held::default());
    }

    /// Delivers nothing more, and returns what was delivered. `own` are the sequences of what this node has published, which the other
    /// bridge gets from Redis.
    pub(super) fn leave(&mut self, (node, own): (NodeId, &HashMap<Box<str>, u64>)) -> Vec<u8> {
        self.relay.has_left = true;
        let mut out = StateWriter::new(VERSION);
        for (topic, feed) in self.feeds.iter().filter(|(_, feed)| feed.wanted) {
            out.flag(true);
            out.bytes(topic.as_bytes());
            out.option(feed.position.as_deref(), |out, position| out.bytes(position.as_bytes()));
            let own = own.get(&**topic).map(|sequence| (node, *sequence));
            for (node, sequence) in feed.tracker.heard().chain(own) {
                out.flag(true);
                [node.to_bits(), sequence].into_iter().for_each(|number| out.u64(number));
            }
            out.flag(false);
        }
        out.flag(false);
        out.into_bytes()
    }

    /// Notes where the stream of a topic is read from.
    pub(super) fn begin_at(&mut self, topic: &str, position: &str) {
        if let Some(feed) = self.feeds.get_mut(topic) {
            feed.position = Some(position.to_owned());
        }
    }

    /// Whether streams are to be read from another place.
    pub(super) fn has_rewinds(&self) -> bool {
        self.feeds.values().any(|feed| feed.rewinds)
    }

    /// Takes the streams that are to be read from another place.
    pub(super) fn take_rewinds(&mut self) -> Vec<(Arc<str>, String)> {
        let rewound = self.feeds.iter_mut().filter(|(_, feed)| feed.rewinds);
        let take = |(topic, feed): (&Arc<str>, &mut Feed)| {
            feed.rewinds = false;
            Some((topic.clone(), feed.position.clone()?))
        };
        rewound.filter_map(take).collect()
    }

    /// Goes on behind what another bridge has delivered, with what has waited.
    pub(super) fn go_on(&mut self, state: &[u8], topics: &Topics, batch: &mut LocalBatch<'_>) {
        let delivered = if state.is_empty() { Ok(Vec::new()) } else { import(state) };
        let delivered = delivered.unwrap_or_else(|error| {
            log::error!("what the bridge of the process before has delivered is not known: {error}");
            Vec::new()
        });
        for (topic, delivered) in delivered {
            match self.feeds.get_mut(&topic) {
                Some(feed) => {
                    feed.tracker = delivered.tracker;
                    // The other may have read less than this one.
                    feed.rewinds = delivered.position.is_some();
                    feed.position = delivered.position;
                }
                None if topics.is_wanted(&topic) => drop(self.relay.taken.insert(topic, delivered)),
                None => {}
            }
        }
        let Some(Held { messages, has_lost, .. }) = mem::take(&mut self.relay.held) else { return };
        for HeldMessage { topic, bytes, position } in messages {
            self.receive(&topic, &bytes, position.as_deref(), batch);
        }
        if has_lost {
            batch.gap(None, None);
        }
        self.count();
    }
}

fn import(state: &[u8]) -> Result<Vec<(Arc<str>, Delivered)>, StateError> {
    let mut state = StateReader::new(state, VERSION)?;
    let mut all = Vec::new();
    while state.flag()? {
        let topic = state.text()?.into();
        let position = state.option(|state| Ok(state.text()?.to_owned()))?;
        let mut tracker = Tracker::default();
        while state.flag()? {
            tracker.note(NodeId::from_bits(state.u64()?), state.u64()?);
        }
        all.push((topic, Delivered { tracker, position }));
    }
    state.end()?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::bridge::envelope::Envelope;
    use crate::bridge::redis::topics::Change;
    use crate::bridge::{BridgeMessage, LocalEvent, LocalTopics};

    const OLD: NodeId = NodeId::from_bits(1 << 16);
    const OTHER: NodeId = NodeId::from_bits(2 << 16);
    const NEW: NodeId = NodeId::from_bits(3 << 16);

    /// What is delivered, as text.
    fn local() -> (LocalTopics, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let recorder = heard.clone();
        let local = LocalTopics::from_fn(move |event| match event {
            LocalEvent::Message { message, .. } => {
                recorder.lock().expect("no panic").push(message.as_text().expect("text").to_owned());
            }
            LocalEvent::Gap { missed, .. } => recorder.lock().expect("no panic").push(format!("gap {missed:?}")),
            _ => {}
        });
        (local, heard)
    }

    fn envelope(node: NodeId, sequence: u64) -> Vec<u8> {
        let (mut bytes, text) = (Vec::new(), format!("{} {sequence}", node.to_bits() >> 16));
        Envelope { node, sequence, message: BridgeMessage::text(&text) }.encode(&mut bytes);
        bytes
    }

    fn feeds(node: NodeId) -> Feeds {
        Feeds::new(node, Arc::default())
    }

    fn subscribed(node: NodeId, topics: &Topics) -> Feeds {
        let mut feeds = feeds(node);
        assert!(topics.all().is_empty() && topics.want("t"));
        assert!(feeds.change(&Change { topic: "t".into(), wanted: true }));
        feeds
    }

    #[test]
    fn what_the_bridge_before_has_delivered_is_not_delivered_again_and_the_rest_is() {
        let (local, heard) = local();
        let (old_topics, new_topics) = (Topics::default(), Topics::default());
        let (mut old, mut new) = (subscribed(OLD, &old_topics), subscribed(NEW, &new_topics));
        assert!(old.confirm("t"));
        new.stand_by();
        assert!(new.confirm("t"));
        let both: [(NodeId, u64); 4] = [(OTHER, 1), (OLD, 1), (OTHER, 2), (OLD, 2)];
        let mut batch = local.batch();
        for (index, (node, sequence)) in both.into_iter().enumerate() {
            let bytes = envelope(node, sequence);
            old.receive("t", &bytes, None, &mut batch);
            if index > 0 {
                new.receive("t", &bytes, None, &mut batch);
            }
        }
        assert_eq!(*heard.lock().expect("no panic"), ["2 1", "2 2"], "the new one holds back");
        heard.lock().expect("no panic").clear();
        let state = old.leave((OLD, &HashMap::from([("t".into(), 2), ("elsewhere".into(), 9)])));
        for (node, sequence) in [(OTHER, 3), (OLD, 3), (OTHER, 5)] {
            old.receive("t", &envelope(node, sequence), None, &mut batch);
            new.receive("t", &envelope(node, sequence), None, &mut batch);
        }
        new.go_on(&state, &new_topics, &mut batch);
        assert_eq!(*heard.lock().expect("no panic"), ["2 3", "1 3", "gap Some(1)", "2 5"]);
        for cut in 0..state.len() {
            assert!(import(&state[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_topic_that_was_asked_for_too_late_goes_on_where_the_bridge_before_stood() {
        let (local, heard) = local();
        let (old_topics, new_topics) = (Topics::default(), Topics::default());
        let (mut old, mut new) = (subscribed(OLD, &old_topics), feeds(NEW));
        assert!(new_topics.all().is_empty() && old.confirm("t") && new_topics.want("t"));
        let mut batch = local.batch();
        old.receive("t", &envelope(OTHER, 7), Some("5-0"), &mut batch);
        new.stand_by();
        new.go_on(&old.leave((OLD, &HashMap::new())), &new_topics, &mut batch);
        assert!(new.change(&Change { topic: "t".into(), wanted: true }) && new.confirm("t"));
        assert_eq!(new.position("t").as_deref(), Some("5-0"));
        new.receive("t", &envelope(OTHER, 7), Some("5-0"), &mut batch);
        new.receive("t", &envelope(OTHER, 8), Some("6-0"), &mut batch);
        assert_eq!(*heard.lock().expect("no panic"), ["2 7", "2 8"]);
    }

    #[test]
    fn a_stream_is_read_again_from_where_the_bridge_before_stood() {
        let (local, heard) = local();
        let (old_topics, new_topics) = (Topics::default(), Topics::default());
        let (mut old, mut new) = (subscribed(OLD, &old_topics), subscribed(NEW, &new_topics));
        new.stand_by();
        old.begin_at("t", "5-0");
        assert!(old.confirm("t") && new.confirm("t"));
        let mut batch = local.batch();
        // The old one has not come to what is before.
        new.receive("t", &envelope(OTHER, 9), Some("7-0"), &mut batch);
        new.go_on(&old.leave((OLD, &HashMap::new())), &new_topics, &mut batch);
        new.receive("t", &envelope(OTHER, 10), Some("8-0"), &mut batch);
        assert!(heard.lock().expect("no panic").is_empty() && new.has_rewinds());
        assert_eq!(new.take_rewinds(), [("t".into(), "5-0".to_owned())]);
        for (sequence, id) in [(8, "6-0"), (9, "7-0"), (10, "8-0")] {
            new.receive("t", &envelope(OTHER, sequence), Some(id), &mut batch);
        }
        assert_eq!(*heard.lock().expect("no panic"), ["2 8", "2 9", "2 10"]);
        assert!(!new.has_rewinds());
    }

    #[test]
    fn a_state_of_garbage_loses_nothing_that_has_waited() {
        let (local, heard) = local();
        for state in [&b""[..], b"garbage", &[0, 1, 1]] {
            let topics = Topics::default();
            let mut feeds = subscribed(NEW, &topics);
            feeds.stand_by();
            assert!(feeds.confirm("t"));
            let mut batch = local.batch();
            feeds.receive("t", &envelope(OTHER, 1), None, &mut batch);
            feeds.go_on(state, &topics, &mut batch);
            assert_eq!(std::mem::take(&mut *heard.lock().expect("no panic")), ["2 1"]);
        }
    }
}
