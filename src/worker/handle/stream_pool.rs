//! The threads that read the sources of messages for connections whose threads must not wait: those of handlers.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::config::Config;
use crate::transport::read_ahead::ReadAhead;
use crate::worker::slab::Key;

/// Two threads read the sources of a server. They wait for disks, and for no connection, so that more would be idle; with one,
/// a source that hangs would hold up all others.
const MAX_THREADS: usize = 2;

/// A connection of the server or of the clients: the index of its worker, and its key there.
pub(crate) type ConnectionId = (u16, Key);

/// A message whose parts are read from a source.
pub(crate) trait StreamTask: Send {
    /// The connection that sends it.
    fn connection(&self) -> ConnectionId;

    /// Reads and posts a part, if there is room for it.
    fn step(self: Box<Self>) -> Next;

    /// What is called once the message is parked: it asks the worker to [`wake`](StreamPool::wake) the connection, and returns
    /// whether the message need not wait any more.
    fn watch(&self) -> Box<dyn FnOnce() -> bool>;

    /// Drops the source, and has the connection fail if the message is not complete.
    fn end(self: Box<Self>);
}

/// What is next for a message.
pub(crate) enum Next {
    /// Another part.
    Ready(Box<dyn StreamTask>),
    /// It waits for room at its connection, or for its turn.
    Parked(Box<dyn StreamTask>),
    /// Nothing.
    Done,
}

/// The messages whose sources are read for the connections of a server, or of a set of clients, and the threads that do it. A
/// message that waits for its connection is parked, and costs no thread.
#[derive(Default)]
pub(crate) struct StreamPool {
    state: Mutex<State>,
    work: Condvar,
    /// How many messages are parked. Synchronizes with [`wake`](StreamPool::wake).
    parked: AtomicUsize,
    /// What the messages of the connections may be ahead of their sockets.
    pub(crate) ahead: Arc<ReadAhead>,
    /// How many workers use this.
    users: AtomicUsize,
    /// The settings of the threads. Set before there is a message.
    config: OnceLock<Arc<Config>>,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Box<dyn StreamTask>>,
    parked: HashMap<ConnectionId, Vec<Box<dyn StreamTask>>>,
    threads: usize,
    idle: usize,
    has_ended: bool,
}

impl StreamPool {
    /// Takes over a message whose first part is with its worker.
    pub(crate) fn submit(self: &Arc<Self>, task: Box<dyn StreamTask>) {
        let mut state = self.lock();
        if state.has_ended {
            drop(state);
            return task.end();
        }
        state.ready.push_back(task);
        self.have_served(state);
    }

    /// Has the messages of a connection go on that wait for it.
    pub(crate) fn wake(self: &Arc<Self>, connection: ConnectionId) {
        if self.parked.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.lock();
        if let Some(tasks) = state.parked.remove(&connection) {
            self.parked.fetch_sub(tasks.len(), Ordering::SeqCst);
            state.ready.extend(tasks);
            self.have_served(state);
        }
    }

    /// Has a thread serve each message that is ready, while there are threads.
    fn have_served(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        // A thread that was woken counts as idle until it has taken its message.
        if state.idle > 0 {
            self.work.notify_all();
        }
        if state.idle < state.ready.len() && state.threads < MAX_THREADS {
            let pool = self.clone();
            let name = format!("ws-stream-{}", state.threads);
            match self.config.get_or_init(Arc::default).thread(name).spawn(move || pool.run()) {
                Ok(_) => state.threads += 1,
                Err(error) => {
                    log::error!("no thread to read the source of a message: {error}");
                    let tasks = if state.threads == 0 { std::mem::take(&mut state.ready) } else { VecDeque::new() };
                    drop(state);
                    tasks.into_iter().for_each(|task| task.end());
                }
            }
        }
    }

    fn run(self: Arc<Self>) {
        while let Some(task) = self.next() {
            match task.step() {
                Next::Ready(task) => self.submit_again(task),
                Next::Parked(task) => self.park(task),
                Next::Done => {}
            }
        }
    }

    /// Waits for a message that is ready; `None` once the pool has ended.
    fn next(&self) -> Option<Box<dyn StreamTask>> {
        let mut state = self.lock();
        loop {
            if state.has_ended {
                return None;
            }
            if let Some(task) = state.ready.pop_front() {
                return Some(task);
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn submit_again(&self, task: Box<dyn StreamTask>) {
        let mut state = self.lock();
        if !state.has_ended {
            return state.ready.push_back(task);
        }
        drop(state);
        task.end();
    }

    /// Has a message wait until its worker wakes it.
    fn park(self: &Arc<Self>, task: Box<dyn StreamTask>) {
        let (connection, look_again) = (task.connection(), task.watch());
        let mut state = self.lock();
        if state.has_ended {
            drop(state);
            return task.end();
        }
        state.parked.entry(connection).or_default().push(task);
        self.parked.fetch_add(1, Ordering::SeqCst);
        drop(state);
        // In this order, so that a worker that makes room after the second look finds the message.
        if look_again() {
            self.wake(connection);
        }
    }

    /// Ends the threads, and drops all sources.
    fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        let (ready, parked) = (std::mem::take(&mut state.ready), std::mem::take(&mut state.parked));
        drop(state);
        self.work.notify_all();
        ready.into_iter().chain(parked.into_values().flatten()).for_each(|task| task.end());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock can leave the tables half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Omits the sources, which are the application's.
impl fmt::Debug for StreamPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamPool").field("parked", &self.parked).finish_non_exhaustive()
    }
}

/// A worker's use of the pool, which ends with the last worker.
#[derive(Debug)]
pub(crate) struct StreamPoolUse(Arc<StreamPool>);

impl StreamPoolUse {
    pub(crate) fn new(pool: Arc<StreamPool>, config: &Arc<Config>) -> StreamPoolUse {
        pool.config.get_or_init(|| config.clone());
        pool.users.fetch_add(1, Ordering::SeqCst);
        StreamPoolUse(pool)
    }
}

impl Drop for StreamPoolUse {
    fn drop(&mut self) {
        if self.0.users.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.end();
        }
    }
}
