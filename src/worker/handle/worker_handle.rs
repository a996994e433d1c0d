//! What the handles of a worker's connections have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Config;
use crate::protocol::Role;
use crate::worker::handle::inbox::Inbox;
use crate::worker::handle::send_wait::WaitQueue;
use crate::worker::slab::Key;
use crate::worker::thread::{may_block, thread_token};

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
    /// The application's thread that runs the worker, by its token; 0 for a thread of the library's.
    runner: AtomicUsize,
    wait_queues: [WaitQueue; WAIT_QUEUES],
}

impl WorkerHandle {
    pub(crate) fn new(inbox: Arc<Inbox>, config: Arc<Config>, index: u16, role: Role) -> WorkerHandle {
        WorkerHandle { inbox, config, index, role, runner: AtomicUsize::new(0), wait_queues: Default::default() }
    }

    /// The calling thread is the one that runs the worker.
    pub(crate) fn set_runner(&self) {
        self.runner.store(thread_token(), Ordering::Relaxed);
    }

    /// Whether the calling thread runs the worker, as it polls or between two polls.
    pub(crate) fn runs_here(&self) -> bool {
        self.runner.load(Ordering::Relaxed) == thread_token()
    }

    /// Whether the calling thread may wait for the worker.
    pub(crate) fn may_block(&self) -> bool {
        may_block() && !self.runs_here()
    }

    /// Where senders to this connection wait for room.
    pub(crate) fn wait_queue(&self, key: Key) -> &WaitQueue {
        &self.wait_queues[key.index as usize % WAIT_QUEUES]
    }
}
