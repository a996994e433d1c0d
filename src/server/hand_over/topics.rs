//! The topics on their way to the new process: all that there is while the old one serves, and twice what has come since.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::bridge::Bridge;
use crate::protocol::contain::contained;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::Opcode;
use crate::protocol::state::{StateError, StateReader, StateWriter};
use crate::server::control::{Control, ServerHandle};
use crate::server::hand_over::PROTOCOL_VERSION;
use crate::server::hand_over::channel::Channel;
use crate::server::hand_over::message::kind;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::event_loop::arriving::{export_origin, import_origin};
use crate::worker::handle::topics::Topics;
use crate::worker::handle::topics_hand_over::{Awaited, Known};
use crate::worker::topics::registry::MAX_NAME;
use crate::worker::topics::topic::TopicState;
use crate::worker::topics::travel::{Standing, ToldMessage, ToldTopic};

/// A message about topics is sent from 256 KiB on. Larger takes more memory; smaller needs more calls.
const FULL: usize = 256 << 10;

/// The bridge has 3 s to get what others publish, while the old process serves; then the new one goes on without. Longer delays a
/// deployment for an engine that is gone; shorter misses messages where it is slow.
pub(super) const BRIDGE_TIMEOUT: Duration = Duration::from_secs(3);

/// It has 500 ms for topics that are new since, because clients wait.
pub(super) const LATE_BRIDGE_TIMEOUT: Duration = Duration::from_millis(500);

/// How often the new process looks whether it has.
const BRIDGE_CHECK: Duration = Duration::from_millis(1);

/// The topics of the old process, and its bridge.
pub(super) struct TopicsOut<'s> {
    topics: &'s Topics,
    bridge: Option<&'s Arc<dyn Bridge>>,
    known: Known,
}

impl<'s> TopicsOut<'s> {
    pub(super) fn new(server: &'s ServerHandle) -> TopicsOut<'s> {
        let Control { topics, bridge, .. } = &*server.control;
        TopicsOut { topics: &topics.topics, bridge: bridge.as_ref(), known: Known::new() }
    }

    /// Sends what the other process does not have. The old process goes on with its topics.
    pub(super) fn send(&mut self, channel: &mut Channel) -> io::Result<()> {
        let mut writer = TopicsWriter::default();
        self.topics.tell(&mut self.known, |told| writer.add(&told, |body| channel.send(kind::TOPICS, body, &[])))?;
        writer.end(|body| channel.send(kind::TOPICS, body, &[]))
    }

    /// Has the bridge deliver what was published before that of the other process was there.
    pub(super) fn catch_up(&self) {
        if let Some(bridge) = self.bridge {
            contained_or_default(|| bridge.catch_up());
        }
    }

    /// Sends the last of it. The topics are the other process's.
    pub(super) fn send_last(mut self, channel: &mut Channel) -> io::Result<()> {
        let bridge = self.bridge;
        let state = self.topics.leave(|| bridge.map(|bridge| contained_or_default(|| bridge.leave())));
        self.send(channel)?;
        if let Some(state) = state {
            channel.send(kind::BRIDGE, &state, &[])?;
        }
        channel.send(kind::TOPICS_SENT, &[], &[])
    }
}

/// Writes topics into messages.
#[derive(Default)]
struct TopicsWriter(Option<StateWriter>);

impl TopicsWriter {
    /// Adds what is told of a topic, and has each message sent that is full.
    fn add(&mut self, told: &ToldTopic, mut send: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (mut after, mut rest) = (told.after, &told.messages[..]);
        loop {
            let out = self.0.get_or_insert_with(|| StateWriter::new(PROTOCOL_VERSION));
            let mut size = out.len();
            let fitting = rest.iter().take_while(|message| {
                let has_room = size < FULL;
                size += message.frame.plain().len();
                has_room
            });
            let (part, behind) = rest.split_at(fitting.count());
            if !part.is_empty() || rest.is_empty() {
                export_topic(told, after, part, out);
            }
            (after, rest) = (after + part.len() as u64, behind);
            if out.len() >= FULL {
                self.end(&mut send)?;
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Has the last message sent.
    fn end(&mut self, send: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(mut out) = self.0.take() else { return Ok(()) };
        out.flag(false);
        send(&out.into_bytes())
    }
}

fn export_topic(told: &ToldTopic, after: u64, messages: &[ToldMessage], out: &mut StateWriter) {
    out.flag(true);
    out.bytes(told.name.as_bytes());
    [told.epoch, after, told.published_bytes].into_iter().for_each(|number| out.u64(number));
    out.u64(told.standing.last);
    out.flag(told.standing.has_subscribers);
    out.flag(told.standing.had_members);
    out.option(told.standing.interrupted, StateWriter::u64);
    for message in messages {
        let Some((opcode, payload)) = message.frame.message() else { continue };
        out.flag(true);
        out.flag(opcode == Opcode::Text);
        out.bytes(payload);
        out.u64(message.age);
        out.option(message.except, |out, except| export_origin(except, out));
    }
    out.flag(false);
}

/// Reads the topics of a message, one after the other.
pub(super) fn import_topics(body: &[u8], mut take: impl FnMut(ToldTopic)) -> Result<(), StateError> {
    let mut state = StateReader::new(body, PROTOCOL_VERSION)?;
    while state.flag()? {
        take(import_topic(&mut state)?);
    }
    state.end()
}

fn import_topic(state: &mut StateReader<'_>) -> Result<ToldTopic, StateError> {
    let name = state.text()?;
    if !(1..=MAX_NAME).contains(&name.len()) {
        return Err(StateError::Invalid("the name of a topic"));
    }
    let (epoch, after, published_bytes) = (state.u64()?, state.u64()?, state.u64()?);
    let standing = Standing {
        last: state.u64()?,
        has_subscribers: state.flag()?,
        had_members: state.flag()?,
        interrupted: state.option(StateReader::u64)?,
    };
    let mut messages = Vec::new();
    while state.flag()? {
        let is_text = state.flag()?;
        let (opcode, payload) = match is_text {
            true => (Opcode::Text, state.text()?.as_bytes()),
            false => (Opcode::Binary, state.bytes()?),
        };
        let frame = SharedFrame::new(opcode, payload, Compression::Auto);
        messages.push(ToldMessage { frame, age: state.u64()?, except: state.option(import_origin)? });
    }
    if after.checked_add(messages.len() as u64).is_none_or(|last| last > MAX_NUMBER) {
        return Err(StateError::Invalid("the number of a message"));
    }
    Ok(ToldTopic { name: name.into(), epoch, standing, after, published_bytes, messages })
}

/// Nobody publishes so many messages to a topic, and what counts on from there does not overflow.
const MAX_NUMBER: u64 = u64::MAX / 2;

/// The topics that the new process has taken, and its bridge.
pub(super) struct TopicsIn<'s> {
    topics: &'s Arc<Topics>,
    taken: HashMap<Arc<str>, (Arc<TopicState>, Standing)>,
    bridge: Option<&'s Arc<dyn Bridge>>,
    /// The topics that the bridge was asked for.
    asked: HashSet<Arc<str>>,
    /// Whether it is asked for some since it was ready.
    is_asked: bool,
    /// Whether it was too slow once.
    is_slow: bool,
    /// What the bridge of the old process has said.
    state: Vec<u8>,
}

impl<'s> TopicsIn<'s> {
    pub(super) fn new(server: &'s ServerHandle) -> TopicsIn<'s> {
        let Control { topics, bridge, .. } = &*server.control;
        let (topics, bridge) = (&topics.topics, bridge.as_ref());
        TopicsIn {
            topics,
            taken: HashMap::new(),
            bridge,
            asked: HashSet::new(),
            is_asked: false,
            is_slow: false,
            state: Vec::new(),
        }
    }

    /// Takes what a message tells.
    pub(super) fn take(&mut self, body: &[u8]) -> Result<(), StateError> {
        import_topics(body, |told| {
            let standing = told.standing;
            let topic = self.topics.take(told);
            if standing.has_subscribers {
                self.ask(&topic.name);
            }
            self.taken.insert(topic.name.clone(), (topic, standing));
        })
    }

    /// Takes what the bridge of the old process has said.
    pub(super) fn take_bridge(&mut self, state: Vec<u8>) {
        self.state = state;
    }

    /// Has the bridge ask for a topic, so that nothing is missed between the two processes.
    fn ask(&mut self, name: &Arc<str>) {
        if let Some(bridge) = self.bridge
            && self.asked.insert(name.clone())
        {
            self.is_asked = true;
            contained_or_default(|| bridge.subscribe(name));
        }
    }

    /// Waits until the bridge gets what others publish to the topics, for as long as that is worth while.
    pub(super) fn await_bridge(&mut self, timeout: Duration) {
        let Some(bridge) = self.bridge.filter(|_| mem::take(&mut self.is_asked)) else { return };
        let deadline = Instant::now() + timeout;
        while !self.is_slow && !contained_or_default(|| bridge.is_ready()) {
            if Instant::now() >= deadline {
                log::warn!("the bridge is not connected yet: what others publish meanwhile may be missing");
                self.is_slow = true;
            }
            thread::sleep(BRIDGE_CHECK);
        }
    }

    /// Goes on with the topics. They keep everything until what this returns is dropped, when the connections are subscribed.
    pub(super) fn go_on(self) -> Awaited {
        let (bridge, state) = (self.bridge.cloned(), self.state);
        let then = move || {
            if let Some(bridge) = bridge {
                contained_or_default(|| bridge.go_on(&state));
            }
        };
        let asked = self.asked;
        let taken = self.taken.into_values().map(|(topic, standing)| {
            // The bridge has it without a break from then on, and is told if nobody wants it.
            let has_subscribers = standing.has_subscribers || asked.contains(&topic.name);
            (topic, Standing { has_subscribers, ..standing })
        });
        // The subscribers that come are told of gaps too.
        self.topics.go_on(taken.collect(), then)
    }
}

/// Calls a bridge of the application, which may panic.
fn contained_or_default<T: Default>(call: impl FnOnce() -> T) -> T {
    contained(call).unwrap_or_else(|panic| {
        log::error!("a bridge panicked: {panic}");
        T::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::worker::slab::Key;
    use crate::worker::topics::travel::Origin;

    fn message(payload: &[u8], is_text: bool, except: Option<Origin>) -> ToldMessage {
        let opcode = if is_text { Opcode::Text } else { Opcode::Binary };
        ToldMessage { frame: SharedFrame::new(opcode, payload, Compression::Auto), age: 7, except }
    }

    fn told(name: &str, after: u64, messages: Vec<ToldMessage>) -> ToldTopic {
        let standing = Standing { last: 3, has_subscribers: true, had_members: true, interrupted: Some(2) };
        ToldTopic { name: name.into(), epoch: 3, standing, after, published_bytes: 99, messages }
    }

    /// The messages of the format.
    fn written(topics: &[ToldTopic]) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        let mut keep = |body: &[u8]| {
            bodies.push(body.to_vec());
            Ok(())
        };
        let mut writer = TopicsWriter::default();
        for topic in topics {
            writer.add(topic, &mut keep).expect("it is taken");
        }
        writer.end(keep).expect("it is taken");
        bodies
    }

    fn read(bodies: &[Vec<u8>]) -> Vec<ToldTopic> {
        let mut topics = Vec::new();
        bodies.iter().for_each(|body| import_topics(body, |told| topics.push(told)).expect("what was written"));
        topics
    }

    /// All of a topic that can be compared.
    fn content(told: &ToldTopic) -> impl PartialEq + std::fmt::Debug + use<> {
        let message = |message: &ToldMessage| {
            (
                message.frame.plain().to_vec(),
                message.age,
                message.except.map(|(worker, key)| (worker, key.index, key.generation)),
            )
        };
        let messages: Vec<_> = told.messages.iter().map(message).collect();
        ((told.name.clone(), told.epoch, told.standing), (told.after, told.published_bytes), messages)
    }

    #[test]
    fn every_part_of_a_topic_comes_back() {
        let except = Some((3, Key { index: 5, generation: 8 }));
        let topics = [
            told("empty", 12, Vec::new()),
            told("ä/ö", 4, vec![message("grün".as_bytes(), true, except), message(&[0, 255], false, None)]),
        ];
        let bodies = written(&topics);
        assert_eq!(bodies.len(), 1, "small ones travel together");
        let read = read(&bodies);
        assert!(read.iter().map(content).eq(topics.iter().map(content)));
        for cut in 0..bodies[0].len() {
            assert_eq!(import_topics(&bodies[0][..cut], |_| {}), Err(StateError::Truncated), "cut at {cut}");
        }
        let mut longer = bodies[0].clone();
        longer.push(0);
        assert_eq!(import_topics(&longer, |_| {}), Err(StateError::Trailing));
    }

    #[test]
    fn a_large_history_travels_in_parts_with_successive_numbers() {
        let messages = (0..100_u8).map(|byte| message(&vec![byte; 20_000], false, None)).collect();
        let large = message(&vec![1; 3 * FULL], false, None);
        let topics = [told("many", 5, messages), told("large", 0, vec![large]), told("last", 0, Vec::new())];
        let bodies = written(&topics);
        assert!(bodies.len() > 8 && bodies.iter().all(|body| body.len() < 5 * FULL));
        let parts = read(&bodies);
        let (mut next, mut payloads) = (5, Vec::new());
        for part in parts.iter().filter(|part| &*part.name == "many") {
            assert_eq!(part.after, next);
            next += part.messages.len() as u64;
            payloads.extend(part.messages.iter().map(|message| message.frame.message().expect("a frame").1[0]));
        }
        assert_eq!((next, payloads), (105, (0..100).collect()));
        assert_eq!(parts.iter().filter(|part| &*part.name != "many").count(), 2);
    }

    #[test]
    fn what_no_topic_has_is_refused() {
        let refused = |told: ToldTopic| import_topics(&written(&[told])[0], |_| {}).unwrap_err();
        assert_eq!(refused(told("", 0, Vec::new())), StateError::Invalid("the name of a topic"));
        assert_eq!(refused(told(&"x".repeat(256), 0, Vec::new())), StateError::Invalid("the name of a topic"));
        assert_eq!(refused(told("x", u64::MAX, Vec::new())), StateError::Invalid("the number of a message"));
        assert_eq!(refused(told("x", 0, vec![message(&[255], true, None)])), StateError::Invalid("text"));
        let mut other = written(&[told("x", 0, Vec::new())]).remove(0);
        other[1] += 1;
        let met = PROTOCOL_VERSION + 1;
        assert_eq!(import_topics(&other, |_| {}), Err(StateError::Version { met, known: PROTOCOL_VERSION }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, wrong in 0..120_usize, byte: u8) {
            let _ = import_topics(&[&PROTOCOL_VERSION.to_be_bytes()[..], &bytes].concat(), |_| {});
            let mut state = written(&[told("topic", 3, vec![message(&bytes, false, None)])]).remove(0);
            if let Some(place) = state.get_mut(wrong) {
                *place = byte;
            }
            let _ = import_topics(&state, |_| {});
        }
    }
}
