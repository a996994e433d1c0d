//! The subscriptions of a worker's connections: who is in which topic, and what each lacks.

use std::sync::Arc;

use crate::worker::connection::gaps::Gaps;
use crate::worker::handle::topic_events::{TopicEvent, TopicObserver};
use crate::worker::handle::topics::Topics;
use crate::worker::slab::{Key, KeyMap};
use crate::worker::timer_wheel::Tick;
use crate::worker::topics::topic::{Publication, TopicState};

/// A list of members that has shrunk keeps room for 16. Larger keeps more memory; smaller allocates again.
const MIN_KEPT: usize = 16;

/// The subscriptions of a worker's connections. Joining and leaving take the same time, whatever the number of topics and
/// of members; a connection that ends leaves all its topics.
#[derive(Debug, Default)]
pub(crate) struct WorkerTopics {
    /// Who is told, and the topics of the server; none for clients.
    pub(crate) observer: Option<Arc<TopicObserver>>,
    worker: u16,
    /// The topics that have members here, each at its place.
    topics: Vec<Option<LocalTopic>>,
    free: Vec<u32>,
    /// The subscriptions of each connection, at its index.
    connections: Vec<Vec<Place>>,
    /// The indices of the connections that lack something for which their output had no room.
    behind: KeyMap<u32, ()>,
    /// The places of the topics of which members lack something.
    due: Vec<u32>,
    /// Gaps of which the application is being told.
    pub(crate) gaps: Gaps,
    /// Connections that lack something for which there is room.
    pub(crate) again: Vec<Key>,
    /// When history is looked at that may be too old, and in which of the registry's tables. Only on the worker that does it.
    pub(crate) sweep: Option<Sweep>,
    /// Kept to reuse its memory.
    pub(crate) scratch: Vec<Publication>,
}

/// The next look at the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    pub(crate) at: Tick,
    pub(crate) shard: usize,
    /// How many tables in a row had no history.
    pub(crate) without: usize,
}

/// A topic that has members on the worker.
#[derive(Debug)]
pub(crate) struct LocalTopic {
    pub(crate) topic: Arc<TopicState>,
    members: Vec<Member>,
    /// The members were sent the messages up to this number, but for those that are behind.
    pub(crate) sent: u64,
    /// Messages up to this number are to be sent; 0 if there is nothing to do.
    due: u64,
    /// How many members were not sent all the messages up to `sent`.
    behind: usize,
    /// What all members have is not acknowledged, because of a subscription that the worker had not come to.
    owes: bool,
}

/// A member of a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) key: Key,
    /// The number of the last message that it was sent.
    pub(crate) cursor: u64,
    /// The index in the list of its connection.
    place: u32,
}

/// One subscription of a connection.
#[derive(Clone, Copy, Debug)]
struct Place {
    topic: u32,
    /// The index among the members.
    member: u32,
}

impl WorkerTopics {
    /// Sets whom the topics belong to.
    pub(crate) fn set_observer(&mut self, worker: u16, observer: Arc<TopicObserver>) {
        (self.worker, self.observer) = (worker, Some(observer));
    }

    /// Whether the application is told of the gaps of connections.
    pub(crate) fn tells_gaps(&self) -> bool {
        self.observer.as_ref().is_some_and(|observer| observer.has_hook())
    }

    pub(crate) fn shared(&self) -> Option<&Topics> {
        self.observer.as_ref().map(|observer| &*observer.topics)
    }

    /// Whether there is something to send.
    pub(crate) fn has_work(&self) -> bool {
        !self.due.is_empty() || !self.again.is_empty()
    }

    pub(crate) fn at(&self, place: u32) -> Option<&LocalTopic> {
        self.topics.get(place as usize)?.as_ref()
    }

    fn at_mut(&mut self, place: u32) -> Option<&mut LocalTopic> {
        self.topics.get_mut(place as usize)?.as_mut()
    }

    /// The places of the topics that have members.
    pub(crate) fn places(&self) -> Vec<u32> {
        (0..self.topics.len() as u32).filter(|place| self.at(*place).is_some()).collect()
    }

    /// The member at this index of a topic.
    pub(crate) fn member(&self, place: u32, index: usize) -> Option<Member> {
        self.at(place)?.members.get(index).copied()
    }

    /// Has the members of a topic be sent the messages up to this number.
    pub(crate) fn set_due(&mut self, topic: &TopicState, upto: u64) {
        let Some(place) = topic.place(self.worker) else { return topic.set_reached(self.worker, upto) };
        if let Some(local) = self.at_mut(place)
            && upto > local.sent
        {
            let is_new = local.due == 0;
            local.due = upto.max(local.due);
            if is_new {
                self.due.push(place);
            }
        }
    }

    /// Takes the places of the topics of which members lack something.
    pub(crate) fn take_due(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.due)
    }

    /// Gives back the memory of [`take_due`](WorkerTopics::take_due).
    pub(crate) fn give_back_due(&mut self, mut due: Vec<u32>) {
        due.clear();
        if self.due.is_empty() {
            self.due = due;
        }
    }

    /// Begins to send messages: the topic, the number up to which its members have them, and that up to which they are due.
    pub(crate) fn begin(&mut self, place: u32) -> Option<(Arc<TopicState>, u64, u64)> {
        let local = self.at_mut(place)?;
        let upto = std::mem::take(&mut local.due);
        (upto > local.sent).then(|| (local.topic.clone(), local.sent, upto))
    }

    /// Notes that the members were sent the messages up to `sent`, but for `behind` of them, which have those up to `lowest` at
    /// least.
    pub(crate) fn end(&mut self, place: u32, sent: u64, lowest: u64, behind: usize) {
        if let Some(local) = self.at_mut(place) {
            (local.sent, local.behind) = (sent, behind);
        }
        self.acknowledge(place, lowest);
    }

    fn acknowledge(&mut self, place: u32, seen: u64) {
        let worker = self.worker;
        let Some(now) = self.shared().zip(self.at(place)).map(|(topics, local)| topics.now(&local.topic)) else {
            return;
        };
        if let Some(local) = self.at_mut(place) {
            local.owes = !local.topic.acknowledge(worker, local.members.len(), seen, now);
        }
    }

    /// Acknowledges what could not be before, after the worker has come to a subscription.
    pub(crate) fn acknowledge_owed(&mut self, topic: &TopicState) {
        if let Some(place) = topic.place(self.worker)
            && let Some(local) = self.at(place).filter(|local| local.owes && local.behind == 0)
        {
            let sent = local.sent;
            self.acknowledge(place, sent);
        }
    }

    /// The subscriptions of a connection: their number.
    pub(crate) fn count(&self, index: u32) -> usize {
        self.connections.get(index as usize).map_or(0, Vec::len)
    }

    /// The topics of a connection.
    pub(crate) fn topics_of(&self, index: u32) -> impl Iterator<Item = &Arc<TopicState>> {
        let places = self.connections.get(index as usize).into_iter().flatten();
        places.filter_map(|place| self.at(place.topic)).map(|local| &local.topic)
    }

    /// The names of the topics of a connection, each with the number of the last message that it was sent.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn cursors_of(&self, index: u32) -> Vec<(Arc<str>, u64)> {
        let places = self.connections.get(index as usize).into_iter().flatten();
        let cursor = |place: &Place| {
            let local = self.at(place.topic)?;
            Some((local.topic.name.clone(), local.members.get(place.member as usize)?.cursor))
        };
        places.filter_map(cursor).collect()
    }

    /// The subscription of a connection with this number: the place of the topic, and the index of the member.
    pub(crate) fn subscription(&self, index: u32, number: usize) -> Option<(u32, usize)> {
        let place = self.connections.get(index as usize)?.get(number)?;
        Some((place.topic, place.member as usize))
    }

    /// The number of a connection's subscription to a topic. Of the connection's topics and the topic's members the shorter
    /// list is searched.
    pub(crate) fn find(&self, key: Key, topic: &TopicState) -> Option<usize> {
        let place = topic.place(self.worker)?;
        let (mine, local) = (self.connections.get(key.index as usize)?, self.at(place)?);
        if mine.len() <= local.members.len() {
            mine.iter().position(|subscription| subscription.topic == place)
        } else {
            local.members.iter().find(|member| member.key == key).map(|member| member.place as usize)
        }
    }

    /// Moves the cursor of a member, if that is the connection with this key.
    pub(crate) fn set_cursor(&mut self, place: u32, index: usize, key: Key, cursor: u64) {
        let Some(local) = self.at_mut(place) else { return };
        let Some(member) = local.members.get_mut(index).filter(|member| member.key == key) else { return };
        let has_caught_up = member.cursor < local.sent && cursor >= local.sent;
        member.cursor = cursor;
        if has_caught_up {
            self.one_less_behind(place);
        }
    }

    /// Notes that one member of those that were behind is not any more. After the last, what they lacked can be freed.
    #[cold]
    fn one_less_behind(&mut self, place: u32) {
        let Some(local) = self.at_mut(place) else { return };
        local.behind = local.behind.saturating_sub(1);
        if local.behind == 0 {
            let sent = local.sent;
            self.acknowledge(place, sent);
        }
    }

    /// Notes that a connection lacks something for which its output has no room.
    pub(crate) fn set_behind(&mut self, index: u32) {
        self.behind.insert(index, ());
    }

    /// Whether a connection lacked something for which its output had no room.
    pub(crate) fn take_behind(&mut self, index: u32) -> bool {
        !self.behind.is_empty() && self.behind.remove(&index).is_some()
    }

    /// Adds a member, which lacks the messages behind `cursor`, of which it is sent those up to `last` at once. It must be none yet. `joined` is called with the observer and the topic if
    /// that has presence.
    pub(crate) fn join(
        &mut self,
        key: Key,
        topic: Arc<TopicState>,
        (cursor, last): (u64, u64),
        joined: impl FnOnce(&TopicObserver, &TopicState),
    ) {
        let Some(observer) = self.observer.clone() else { return };
        let index = key.index as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, Vec::new);
        }
        topic.join(
            || observer.push(|| TopicEvent::First(topic.name.clone())),
            || {
                if topic.config.presence {
                    joined(&observer, &topic);
                }
            },
        );
        let place = topic.place(self.worker).unwrap_or_else(|| self.add(topic.clone(), cursor));
        let number = self.connections[index].len() as u32;
        let Some(local) = self.topics[place as usize].as_mut() else { return };
        self.connections[index].push(Place { topic: place, member: local.members.len() as u32 });
        if local.members.is_empty() {
            // Topics with one member are many, such as those of users.
            local.members.reserve_exact(1);
        }
        local.members.push(Member { key, cursor, place: number });
        if cursor < local.sent {
            local.behind += 1;
            self.again.push(key);
        }
        let last = last.max(topic.reached(self.worker));
        if cursor < last {
            self.set_due(&topic, last);
        }
    }

    fn add(&mut self, topic: Arc<TopicState>, sent: u64) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.topics.push(None);
            self.topics.len() as u32 - 1
        });
        topic.set_place(self.worker, Some(place));
        self.topics[place as usize] =
            Some(LocalTopic { topic, members: Vec::new(), sent, due: 0, behind: 0, owes: false });
        place
    }

    /// Removes a subscription of a connection, which is the one with this number. `left` is called if the topic has presence.
    pub(crate) fn leave(&mut self, index: u32, number: usize, left: impl FnOnce(&TopicObserver, &TopicState)) {
        let (Some(observer), Some(mine)) = (self.observer.clone(), self.connections.get_mut(index as usize)) else {
            return;
        };
        if number >= mine.len() {
            return;
        }
        let Place { topic: place, member } = mine.swap_remove(number);
        let moved = mine.get(number).copied();
        if mine.is_empty() {
            *mine = Vec::new();
        }
        if let Some(moved) = moved
            && let Some(local) = self.at_mut(moved.topic)
            && let Some(other) = local.members.get_mut(moved.member as usize)
        {
            other.place = number as u32;
        }
        let Some(local) = self.at_mut(place) else { return };
        let was_behind = local.members.swap_remove(member as usize).cursor < local.sent;
        if local.members.len() < local.members.capacity() / 4 {
            local.members.shrink_to(MIN_KEPT);
        }
        let topic = local.topic.clone();
        if let Some(other) = local.members.get(member as usize).copied() {
            if let Some(theirs) = self.connections[other.key.index as usize].get_mut(other.place as usize) {
                theirs.member = member;
            }
        } else if local.members.is_empty() {
            let told = local.sent.max(local.due);
            topic.set_reached(self.worker, told);
            topic.set_place(self.worker, None);
            self.topics[place as usize] = None;
            self.free.push(place);
            if self.free.len() == self.topics.len() && self.free.len() > MIN_KEPT {
                (self.topics, self.free) = (Vec::new(), Vec::new());
            }
        }
        topic.leave(
            self.worker,
            || {
                if topic.config.presence {
                    left(&observer, &topic);
                }
            },
            || observer.push(|| TopicEvent::Last(topic.name.clone())),
        );
        if was_behind {
            self.one_less_behind(place);
        }
    }
}

/// A worker that fails leaves its connections' topics. In other cases nobody is subscribed any more.
impl Drop for WorkerTopics {
    fn drop(&mut self) {
        for local in self.topics.drain(..).flatten() {
            local.topic.set_place(self.worker, None);
            for _ in local.members {
                local.topic.leave(self.worker, || {}, || {});
            }
        }
    }
}
