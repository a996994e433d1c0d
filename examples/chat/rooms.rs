//! The rooms of the chat: the people in each, and what they say.
//!
//! What is said in a room is published to a topic, which keeps the latest messages. Each message carries its position there. A page
//! that comes back names the position up to which it has everything, and gets what followed.
//!
//! JSON objects in text messages, told apart by `type`. The page sends `join` (`name`, `room`, `position`, which is empty at
//! first) and `say` (`text`). It gets `welcome` (`name`, `room`, `people`, and of the room's topic `position`, where the messages for
//! the page begin, `last`, the number of the latest, and `missed`), `said` (`author`, `text`, `time`, `position`), `joined` and
//! `left` (`name`, `people`), `missed` (`missed`), and `error` (`text`). `missed` is a number of messages, or null where
//! it is not known whether there were any.
//!
//! Servers that are joined by a bridge share what is said, and nothing else: each has people, names, positions and a history of
//! its own. The history has what was said while somebody was in the room on this server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use threadbare::{Message, Peer, Prepared, ServerBuilder, ServerHandle, Since, Topic, TopicConfig, TopicEvent};

/// The longest text of a message, in characters.
pub(crate) const MAX_TEXT: usize = 4_000;
/// The longest name of a person or a room, in characters.
const MAX_NAME: usize = 32;
/// How many messages a room keeps for people who join later or come back.
const MAX_HISTORY: usize = 100;
/// How many bytes these have at most.
const MAX_HISTORY_BYTES: usize = 256 << 10;
/// How long a room keeps a message.
const MAX_AGE: Duration = Duration::from_secs(3600);
/// How many rooms there are at most. Their histories take 256 MiB.
const MAX_ROOMS: usize = 1_000;

/// Sets up the topics of a server with rooms.
pub(crate) fn topics(builder: ServerBuilder) -> ServerBuilder {
    let config = TopicConfig::default().keep(MAX_HISTORY, MAX_HISTORY_BYTES, MAX_AGE);
    builder.topics(move |_| config).on_topic(|event| {
        if let TopicEvent::Gap(peer, _, missed) = event {
            tell_gap(&peer, missed);
        }
    })
}

/// All rooms, by name.
pub(crate) struct Rooms {
    server: ServerHandle,
    rooms: HashMap<String, Room>,
}

struct Room {
    /// Those on this server, by name, which is unique among them.
    people: BTreeMap<String, Peer>,
    talk: Arc<Talk>,
}

/// What is said in a room.
struct Talk {
    topic: Topic,
    /// Other servers' messages may be missing before the message with this number.
    whole_from: AtomicU64,
}

/// The room of a connection that has joined, and its name there. Kept in its [`Peer`].
struct Membership {
    room: String,
    name: String,
    talk: Arc<Talk>,
}

impl Rooms {
    /// The rooms of a server that [`topics`] has set up.
    pub(crate) fn new(server: ServerHandle) -> Rooms {
        Rooms { server, rooms: HashMap::new() }
    }

    /// Handles a message. If it is invalid, sends its sender an error.
    pub(crate) fn receive(&mut self, peer: &Peer, message: &Message) {
        if let Err(text) = self.handle_message(peer, message) {
            send([peer], &json!({"type": "error", "text": text}));
        }
    }

    /// Must be called for every connection that has closed, whether it had joined a room or not.
    pub(crate) fn leave(&mut self, peer: &Peer) {
        let Some(membership) = peer.data::<Membership>() else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&membership.room) else {
            return;
        };
        room.people.remove(&membership.name);
        let left = json!({"type": "left", "name": membership.name, "people": room.names()});
        send(room.people.values(), &left);
    }

    fn handle_message(&mut self, peer: &Peer, message: &Message) -> Result<(), &'static str> {
        let text = message.as_text().ok_or("only text messages are understood")?;
        let message: Value = serde_json::from_str(text).map_err(|_| "that is not JSON")?;
        let field = |name: &str| message[name].as_str().unwrap_or_default();
        match field("type") {
            "join" => {
                let since = field("position").parse().map_or(Since::Oldest, Since::Position);
                self.join(peer, &tidy(field("name")), &tidy(field("room")), since)
            }
            "say" => say(peer, field("text").trim_end()),
            _ => Err("the type of a message is join or say"),
        }
    }

    fn join(&mut self, peer: &Peer, name: &str, room_name: &str, since: Since) -> Result<(), &'static str> {
        if name.is_empty() || room_name.is_empty() {
            return Err("a name and a room, please");
        }
        // Checked before a room is made, so that one connection makes one room at most.
        if peer.data::<Membership>().is_some() {
            return Err("you are in a room already");
        }
        let is_bridged = self.server.bridge_stats().is_some();
        let room = self.open(room_name)?;
        let name = room.free_name(name);
        let membership = Membership { room: room_name.to_owned(), name: name.clone(), talk: room.talk.clone() };
        peer.set_data(membership).map_err(|_| "you are in a room already")?;
        if room.people.is_empty() {
            // A bridge brings nothing for a room that is empty here.
            room.talk.note_gap();
        }
        room.people.insert(name.clone(), peer.clone());

        let people = room.names();
        let others = room.people.values().filter(|other| other.id() != peer.id());
        send(others, &json!({"type": "joined", "name": name, "people": people}));

        let Ok(subscription) = peer.subscribe_since(room.talk.topic.name(), since) else {
            return Ok(()); // It has left, and its `Close` event follows.
        };
        // What a bridge has lost had no position here.
        let may_lack = matches!(since, Since::Position(position)
            if is_bridged && position.offset() < room.talk.whole_from.load(Ordering::Relaxed));
        let is_known = subscription.missed < u64::MAX && !may_lack;
        let welcome = json!({
            "type": "welcome",
            "name": name,
            "room": room_name,
            "people": people,
            "position": subscription.position.to_string(),
            "last": room.talk.topic.stats().published,
            "missed": is_known.then_some(subscription.missed),
        });
        send([peer], &welcome);
        Ok(())
    }

    /// Finds a room, or makes one.
    fn open(&mut self, name: &str) -> Result<&mut Room, &'static str> {
        if !self.rooms.contains_key(name) {
            if self.rooms.len() >= MAX_ROOMS {
                self.rooms.retain(|_, room| !room.people.is_empty() || room.talk.topic.stats().messages > 0);
            }
            if self.rooms.len() >= MAX_ROOMS {
                return Err("there are too many rooms already");
            }
            let topic = self.server.topic(&format!("room/{name}")).map_err(|_| "that name is too long")?;
            let talk = Arc::new(Talk { topic, whole_from: AtomicU64::new(0) });
            self.rooms.insert(name.to_owned(), Room { people: BTreeMap::new(), talk });
        }
        self.rooms.get_mut(name).ok_or("that room is gone")
    }
}

impl Room {
    fn names(&self) -> Vec<&str> {
        self.people.keys().map(String::as_str).collect()
    }

    /// Returns `name`, followed by a number if someone in the room has it already.
    fn free_name(&self, name: &str) -> String {
        if !self.people.contains_key(name) {
            return name.to_owned();
        }
        (2..=self.people.len() + 1)
            .map(|number| format!("{name} {number}"))
            .find(|name| !self.people.contains_key(name))
            .expect("one more candidate than there are people beside the one with the bare name")
    }
}

impl Talk {
    /// Notes that messages of other servers may be missing up to here.
    fn note_gap(&self) {
        self.whole_from.fetch_max(self.topic.stats().published + 1, Ordering::Relaxed);
    }
}

/// Publishes to the room of a peer. Nobody is waited for: who reads slowly takes it from the topic later, or misses it.
fn say(peer: &Peer, text: &str) -> Result<(), &'static str> {
    let membership: &Membership = peer.data().ok_or("join a room first")?;
    if text.is_empty() {
        return Err("there is nothing to say");
    }
    if text.chars().count() > MAX_TEXT {
        return Err("that is too long");
    }
    let mut said = json!({"type": "said", "author": membership.name, "text": text, "time": unix_millis()});
    membership.talk.topic.publish_with(|position| {
        said["position"] = position.to_string().into();
        said.to_string()
    });
    Ok(())
}

/// Tells a peer that it has missed messages, because it read too slowly, or because they did not come from another server. Runs on
/// a worker.
fn tell_gap(peer: &Peer, missed: u64) {
    if let Some(membership) = peer.data::<Membership>() {
        membership.talk.note_gap();
    }
    let missed = Some(missed).filter(|missed| *missed > 0);
    send([peer], &json!({"type": "missed", "missed": missed}));
}

/// Sends one message to many peers. It is encoded once for all of them.
fn send<'a>(peers: impl IntoIterator<Item = &'a Peer>, message: &Value) {
    let message = Prepared::new(message.to_string());
    for peer in peers {
        // The `Close` event of this peer follows, and removes it from the room.
        if let Err(error) = peer.send_prepared(&message) {
            log::debug!("{}: {error}", peer.addr());
        }
    }
}

/// A name on one line, without control characters, and not too long.
fn tidy(name: &str) -> String {
    let line = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    short.trim_end().to_owned()
}

/// Milliseconds since 1970, as JavaScript's `Date` takes them.
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
