//! The state that all connections of a worker share with their handles.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::config::{Config, SlowConsumer};
use crate::protocol::Role;
use crate::worker::handle::inbox::Inbox;
use crate::worker::handle::posted_part::WakesSenders;
use crate::worker::handle::send_wait::WaitQueue;
use crate::worker::handle::stream_pool::StreamPool;
use crate::worker::handle::topics::Topics;
use crate::worker::slab::Key;
use crate::worker::thread::{may_block, thread_token};

/// The connections of a worker share 32 wait queues. Larger takes more memory for each worker; smaller wakes more
/// senders that wait for another connection.
const WAIT_QUEUES: usize = 32;

/// The state that all connections of a worker share with their handles, each of which has a pointer to it.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) config: Arc<Config>,
    pub(crate) index: u16,
    /// Whether the worker's connections are those of a server or of clients.
    pub(crate) role: Role,
    /// The token of the application's thread that runs the worker; 0 if the worker has a thread of its own. A thread
    /// only compares it with its own token, so `Relaxed` is enough.
    runner: AtomicUsize,
    wait_queues: [WaitQueue; WAIT_QUEUES],
    /// The threads that read sources of messages.
    pub(crate) streams: Arc<StreamPool>,
    /// The topics of the server; none for clients. Set before the worker runs.
    topics: OnceLock<Arc<Topics>>,
}

impl WorkerHandle {
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        config: Arc<Config>,
        index: u16,
        role: Role,
        streams: Arc<StreamPool>,
    ) -> WorkerHandle {
        WorkerHandle {
            inbox,
            config,
            index,
            role,
            runner: AtomicUsize::new(0),
            wait_queues: Default::default(),
            streams,
            topics: OnceLock::new(),
        }
    }

    /// What happens to a message if the queue of its connection is full.
    pub(crate) fn policy(&self) -> SlowConsumer {
        self.config.policy(self.role)
    }

    /// Sets the topics of the server.
    pub(crate) fn set_topics(&self, topics: Arc<Topics>) {
        // Set once, before the worker runs.
        let _ = self.topics.set(topics);
    }

    /// The topics of the server, if it is one.
    pub(crate) fn topics(&self) -> Option<&Topics> {
        self.topics.get().map(|topics| &**topics)
    }

    /// Notes that the calling thread runs the worker.
    pub(crate) fn set_runner(&self) {
        self.runner.store(thread_token(), Ordering::Relaxed);
    }

    /// Whether the calling thread runs the worker, during a poll or between two polls.
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

impl WakesSenders for WorkerHandle {
    /// Wakes the senders that wait for room at this connection, and those that share their queue.
    fn wake_senders(&self, key: Key) {
        let queue = self.wait_queue(key);
        // One that is about to wait holds the lock until it waits.
        drop(queue.lock());
        queue.notify_all();
        self.streams.wake((self.index, key));
    }
}
