//! Gaps in topics of which the application is being told: what follows a gap waits until it was, so that what the application
//! sends for it comes before.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::transport::shared_frame::SharedFrame;
use crate::worker::slab::KeyMap;
use crate::worker::topics::topic::TopicState;

/// The gaps of a worker's connections, by index. Most have none.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    connections: KeyMap<u32, GapsOfConnection>,
}

#[derive(Debug, Default)]
struct GapsOfConnection {
    /// The gaps that the application is told of, in order, each with what follows it.
    untold: VecDeque<Vec<HeldMessage>>,
    /// Gaps in what the connection was not sent yet.
    ahead: Vec<GapAhead>,
}

/// A message of a topic that follows a gap.
#[derive(Debug)]
pub(crate) struct HeldMessage {
    pub(crate) topic: Arc<TopicState>,
    pub(crate) frame: SharedFrame,
}

/// A gap behind the message with the number `after`.
#[derive(Debug)]
struct GapAhead {
    topic: Arc<TopicState>,
    after: u64,
    missed: u64,
}

impl Gaps {
    /// Whether there is any gap of a connection.
    #[inline]
    pub(crate) fn has_any(&self, index: u32) -> bool {
        !self.connections.is_empty() && self.connections.contains_key(&index)
    }

    /// Whether the application was not told of a gap yet.
    #[inline]
    pub(crate) fn has_untold(&self, index: u32) -> bool {
        !self.connections.is_empty() && self.connections.get(&index).is_some_and(|gaps| !gaps.untold.is_empty())
    }

    /// Notes that the application is told of a gap.
    pub(crate) fn begin(&mut self, index: u32) {
        self.connections.entry(index).or_default().untold.push_back(Vec::new());
    }

    /// Has a message wait until the application was told of the gap before it; `false` if it was told of all.
    pub(crate) fn hold(&mut self, index: u32, topic: &Arc<TopicState>, frame: &SharedFrame) -> bool {
        if self.connections.is_empty() {
            return false;
        }
        let last = self.connections.get_mut(&index).and_then(|gaps| gaps.untold.back_mut());
        last.map(|held| held.push(HeldMessage { topic: topic.clone(), frame: frame.clone() })).is_some()
    }

    /// Notes that the application was told of a gap, the first of those of which it was not. Returns what follows it.
    pub(crate) fn end(&mut self, index: u32) -> Vec<HeldMessage> {
        let Some(gaps) = self.connections.get_mut(&index) else { return Vec::new() };
        let held = gaps.untold.pop_front();
        self.drop_if_empty(index);
        held.unwrap_or_default()
    }

    /// Notes a gap behind the message of a topic with the number `after`, which was not sent yet.
    pub(crate) fn add_ahead(&mut self, index: u32, topic: &Arc<TopicState>, after: u64, missed: u64) {
        let topic = topic.clone();
        self.connections.entry(index).or_default().ahead.push(GapAhead { topic, after, missed });
    }

    /// Takes the first gap of a topic that is not behind the message with this number: how many messages are missed.
    pub(crate) fn take_ahead(&mut self, index: u32, topic: &TopicState, upto: u64) -> Option<u64> {
        let gaps = self.connections.get_mut(&index)?;
        let is_reached = |gap: &GapAhead| gap.after <= upto && std::ptr::eq(&*gap.topic, topic);
        let gap = gaps.ahead.iter().position(is_reached).map(|place| gaps.ahead.remove(place));
        self.drop_if_empty(index);
        gap.map(|gap| gap.missed)
    }

    /// Forgets the gaps of a connection.
    pub(crate) fn remove(&mut self, index: u32) {
        self.connections.remove(&index);
    }

    fn drop_if_empty(&mut self, index: u32) {
        if self.connections.get(&index).is_some_and(|gaps| gaps.untold.is_empty() && gaps.ahead.is_empty()) {
            self.connections.remove(&index);
        }
    }
}
