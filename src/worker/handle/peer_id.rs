//! The identity of a connection.

use std::fmt;

use crate::worker::slab::Key;

/// The identifier of a connection. It is not used for another connection while the server runs.
///
/// ```
/// use std::collections::HashMap;
/// use threadbare::{Event, PeerId};
///
/// fn count(scores: &mut HashMap<PeerId, u32>, event: &Event) {
///     match event {
///         Event::Message(peer, _) => *scores.entry(peer.id()).or_default() += 1,
///         Event::Close(peer, _) => drop(scores.remove(&peer.id())),
///         _ => {}
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    worker: u16,
    index: u32,
    generation: u32,
}

impl PeerId {
    pub(crate) fn new(worker: u16, key: Key) -> PeerId {
        PeerId { worker, index: key.index, generation: key.generation }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.worker, self.index, self.generation)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}
