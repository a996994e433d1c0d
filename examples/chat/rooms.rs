//! The rooms of the chat: the people in each, and its latest messages.
//!
//! JSON objects in text messages, told apart by `type`. The page sends `join` (`name`, `room`)
//! and `say` (`text`). It gets `welcome` (`name`, `room`, `people`, `history`), `said` (`author`,
//! `text`, `time`), `joined` and `left` (`name`, `people`), and `error` (`text`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use threadbare::{Message, Peer, Prepared};

/// The longest text of a message, in characters.
pub(crate) const MAX_TEXT: usize = 4_000;
/// The longest name of a person or a room, in characters.
const MAX_NAME: usize = 32;
/// How many messages a room keeps for people who join later.
const MAX_HISTORY: usize = 100;
/// How many empty rooms are kept for people who return after a lost connection.
const MAX_EMPTY_ROOMS: usize = 100;

/// All rooms, by name.
#[derive(Default)]
pub(crate) struct Rooms {
    rooms: HashMap<String, Room>,
    /// The names of the empty rooms, the one that has been empty for longest first.
    empty: VecDeque<String>,
}

#[derive(Default)]
struct Room {
    /// By name, which is unique in the room.
    people: BTreeMap<String, Peer>,
    history: VecDeque<Value>,
}

/// The room of a connection that has joined, and its name there. Kept in its [`Peer`].
struct Membership {
    room: String,
    name: String,
}

impl Rooms {
    /// Handles a message. If it is invalid, sends its sender an error.
    pub(crate) fn receive(&mut self, peer: &Peer, message: &Message) {
        if let Err(text) = self.handle_message(peer, message) {
            publish([peer], &json!({"type": "error", "text": text}));
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
        publish(room.people.values(), &left);

        if room.people.is_empty() {
            self.empty.push_back(membership.room.clone());
            if self.empty.len() > MAX_EMPTY_ROOMS
                && let Some(oldest) = self.empty.pop_front()
            {
                self.rooms.remove(&oldest);
            }
        }
    }

    fn handle_message(&mut self, peer: &Peer, message: &Message) -> Result<(), &'static str> {
        let text = message.as_text().ok_or("only text messages are understood")?;
        let message: Value = serde_json::from_str(text).map_err(|_| "that is not JSON")?;
        let field = |name: &str| message[name].as_str().unwrap_or_default();
        match field("type") {
            "join" => self.join(peer, &tidy(field("name")), &tidy(field("room"))),
            "say" => self.say(peer, field("text").trim_end()),
            _ => Err("the type of a message is join or say"),
        }
    }

    fn join(&mut self, peer: &Peer, name: &str, room_name: &str) -> Result<(), &'static str> {
        if name.is_empty() || room_name.is_empty() {
            return Err("a name and a room, please");
        }
        // Checked before a room is made. Otherwise one connection could make many rooms, which would never become
        // empty.
        if peer.data::<Membership>().is_some() {
            return Err("you are in a room already");
        }
        self.empty.retain(|empty| empty != room_name);
        let room = self.rooms.entry(room_name.to_owned()).or_default();
        let name = room.free_name(name);
        let membership = Membership { room: room_name.to_owned(), name: name.clone() };
        peer.set_data(membership).map_err(|_| "you are in a room already")?;
        room.people.insert(name.clone(), peer.clone());

        let people = room.names();
        let others = room.people.values().filter(|other| other.id() != peer.id());
        publish(others, &json!({"type": "joined", "name": name, "people": people}));
        let welcome = json!({
            "type": "welcome",
            "name": name,
            "room": room_name,
            "people": people,
            "history": room.history,
        });
        publish([peer], &welcome);
        Ok(())
    }

    fn say(&mut self, peer: &Peer, text: &str) -> Result<(), &'static str> {
        let membership: &Membership = peer.data().ok_or("join a room first")?;
        let room = self.rooms.get_mut(&membership.room).ok_or("that room is gone")?;
        if text.is_empty() {
            return Err("there is nothing to say");
        }
        if text.chars().count() > MAX_TEXT {
            return Err("that is too long");
        }
        let mut said = json!({"author": membership.name, "text": text, "time": unix_millis()});
        if room.history.len() == MAX_HISTORY {
            room.history.pop_front();
        }
        room.history.push_back(said.clone());
        said["type"] = "said".into();
        publish(room.people.values(), &said);
        Ok(())
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

/// Sends one message to many peers. It is encoded once for all of them.
fn publish<'a>(peers: impl IntoIterator<Item = &'a Peer>, message: &Value) {
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
