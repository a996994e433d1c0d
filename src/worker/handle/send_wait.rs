//! How senders wait for room in a connection's queue.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where senders wait for room.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    mutex: Mutex<()>,
    room: Condvar,
}

impl WaitQueue {
    /// Whoever holds it decides to wait, or wakes those that do.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, up to `timeout` if there is one.
    pub(crate) fn wait<'a>(&self, held: MutexGuard<'a, ()>, timeout: Option<Duration>) -> MutexGuard<'a, ()> {
        match timeout {
            None => self.room.wait(held).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => self.room.wait_timeout(held, timeout).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Wakes all who wait.
    pub(crate) fn open(&self) {
        self.room.notify_all();
    }
}
