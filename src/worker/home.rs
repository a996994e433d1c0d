//! What the handles of a worker's connections have in common.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::protocol::Role;
use crate::worker::inbox::Inbox;
use crate::worker::slots::Key;

/// Senders that wait for room at connections with the same remainder share a gate: few enough to be no burden to a
/// worker, enough that a connection that moves on does not wake all who wait for others.
const GATES: usize = 32;

/// What the handles of a worker's connections have in common: one for all, so that each has a pointer to it and no more.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) config: Arc<Config>,
    pub(crate) worker: u16,
    /// Which end of its connections the worker is.
    pub(crate) role: Role,
    gates: [Gate; GATES],
}

impl Home {
    pub(crate) fn new(inbox: Arc<Inbox>, config: Arc<Config>, worker: u16, role: Role) -> Home {
        Home { inbox, config, worker, role, gates: Default::default() }
    }

    /// Where senders to this connection wait for room.
    pub(crate) fn gate(&self, key: Key) -> &Gate {
        &self.gates[key.index as usize % GATES]
    }
}

/// Where senders wait for room.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    mutex: Mutex<()>,
    room: Condvar,
}

impl Gate {
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
