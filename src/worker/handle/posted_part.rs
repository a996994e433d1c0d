//! A part of a message on its way to the worker.

use std::fmt::Debug;
use std::sync::Arc;

use crate::transport::held::Part;
use crate::worker::slab::Key;

/// Wakes the threads that wait for a connection.
pub(crate) trait WakesSenders: Debug + Send + Sync {
    fn wake_senders(&self, key: Key);
}

/// A part of a message in the worker's inbox. If the worker does not come to it, because the connection has ended, the
/// message ends, and its writer is told.
#[derive(Debug)]
pub(crate) struct PostedPart {
    part: Option<Part>,
    to: Key,
    worker: Arc<dyn WakesSenders>,
}

impl PostedPart {
    pub(crate) fn new(part: Part, to: Key, worker: Arc<dyn WakesSenders>) -> PostedPart {
        PostedPart { part: Some(part), to, worker }
    }

    /// The part, once.
    pub(crate) fn take(&mut self) -> Option<Part> {
        self.part.take()
    }
}

impl Drop for PostedPart {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            part.message.end();
            self.worker.wake_senders(self.to);
        }
    }
}
