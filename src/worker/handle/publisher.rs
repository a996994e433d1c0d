//! Sends to every connection of every worker.

use std::sync::Arc;

use crate::transport::shared_frame::SharedFrame;
use crate::worker::handle::inbox::{Command, Inbox};

/// Sends frames to all workers, with one command for each worker, whatever the number of its connections. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    inboxes: Arc<[Arc<Inbox>]>,
}

impl Publisher {
    /// Makes a publisher for the workers with these inboxes.
    pub(crate) fn new(inboxes: Arc<[Arc<Inbox>]>) -> Publisher {
        Publisher { inboxes }
    }

    /// The inboxes of the workers, each at its worker's index.
    pub(crate) fn inboxes(&self) -> Arc<[Arc<Inbox>]> {
        self.inboxes.clone()
    }

    /// Sends a frame to every connection, from any thread, and does not wait.
    pub(crate) fn broadcast(&self, frame: &SharedFrame) {
        for inbox in &*self.inboxes {
            inbox.send(Command::Broadcast(frame.clone()));
        }
    }

    /// Sends a frame to every connection of the other workers. The worker at `index` calls this, and sends the frame to
    /// its own connections itself.
    pub(crate) fn broadcast_to_others(&self, index: u16, frame: &SharedFrame) {
        for (other, inbox) in self.inboxes.iter().enumerate() {
            if other != usize::from(index) {
                inbox.send(Command::Broadcast(frame.clone()));
            }
        }
    }
}
