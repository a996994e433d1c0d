//! Sends to every connection of every worker.

use std::sync::Arc;

use crate::worker::handle::inbox::Inbox;
use crate::worker::handle::prepared::Prepared;

/// Sends messages to all workers, with one command for each worker, whatever the number of its connections. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    inboxes: Arc<[Arc<Inbox>]>,
    /// A worker leaves a frame out if it has not taken this many bytes of them.
    max_waiting: usize,
}

impl Publisher {
    /// Makes a publisher for the workers with these inboxes. At most about `max_waiting` bytes wait at each.
    pub(crate) fn new(inboxes: Arc<[Arc<Inbox>]>, max_waiting: usize) -> Publisher {
        Publisher { inboxes, max_waiting }
    }

    /// The inboxes of the workers, each at its worker's index.
    pub(crate) fn inboxes(&self) -> Arc<[Arc<Inbox>]> {
        self.inboxes.clone()
    }

    /// The number of workers.
    pub(crate) fn workers(&self) -> usize {
        self.inboxes.len()
    }

    /// Sends a message to every connection, from any thread, and does not wait.
    pub(crate) fn broadcast(&self, message: &Prepared) {
        for inbox in &*self.inboxes {
            inbox.broadcast(message, self.max_waiting);
        }
    }

    /// The inboxes of the workers but the one at `index`.
    fn others(&self, index: u16) -> impl Iterator<Item = &Inbox> {
        let others = self.inboxes.iter().enumerate().filter(move |(other, _)| *other != usize::from(index));
        others.map(|(_, inbox)| &**inbox)
    }

    /// Has the current or next poll of each other worker return. The worker at `index` calls this.
    pub(crate) fn interrupt_others(&self, index: u16) {
        self.others(index).for_each(Inbox::interrupt);
    }

    /// Sends a message to every connection of the other workers. The worker at `index` calls this, and sends it to its own connections itself.
    pub(crate) fn broadcast_to_others(&self, index: u16, message: &Prepared) {
        self.others(index).for_each(|inbox| inbox.broadcast(message, self.max_waiting));
    }
}
