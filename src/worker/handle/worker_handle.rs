//! What the handles of a worker's connections have in common.

use std::sync::Arc;

use crate::config::Config;
use crate::protocol::Role;
use crate::worker::handle::inbox::Inbox;
use crate::worker::handle::send_wait::WaitQueue;
use crate::worker::slab::Key;

/// Senders that wait for room at connections with the same remainder share a gate: few enough to be no burden to a
/// worker, enough that a connection that moves on does not wake all who wait for others.
const WAIT_QUEUES: usize = 32;

/// What the handles of a worker's connections have in common: one for all, so that each has a pointer to it and no more.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) config: Arc<Config>,
    pub(crate) index: u16,
    /// Which end of its connections the worker is.
    pub(crate) role: Role,
    wait_queues: [WaitQueue; WAIT_QUEUES],
}

impl WorkerHandle {
    pub(crate) fn new(inbox: Arc<Inbox>, config: Arc<Config>, index: u16, role: Role) -> WorkerHandle {
        WorkerHandle { inbox, config, index, role, wait_queues: Default::default() }
    }

    /// Where senders to this connection wait for room.
    pub(crate) fn wait_queue(&self, key: Key) -> &WaitQueue {
        &self.wait_queues[key.index as usize % WAIT_QUEUES]
    }
}
