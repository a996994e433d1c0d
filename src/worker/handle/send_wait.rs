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
    /// Locks the queue. A sender decides under the lock whether to wait. The worker notes under it that senders will
    /// look again.
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

    /// Wakes all waiting senders.
    pub(crate) fn notify_all(&self) {
        self.room.notify_all();
    }
}
