//! What a worker and the thread that hands its connections over say to each other.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use crate::protocol::state::StateError;

/// At most 64 connections are sent to the other process in one message. Larger has the other process wait for the first of
/// them; smaller costs more system calls.
pub(crate) const MAX_BATCH: usize = 64;

/// A message with more than 64 KiB of states, or of the rest of connections, is sent before it has as many connections as it may
/// have. Larger takes more memory; smaller costs more system calls.
pub(crate) const BATCH_SIZE: usize = 64 << 10;

/// The worker's end. From the command for it until the last order, the worker does nothing else: what it has told of its
/// connections stays true. If the other end is dropped, it goes on as if nothing had happened.
#[derive(Clone, Debug)]
pub(crate) struct HandOverTask {
    /// The number of the worker among the others, in the ids of its connections.
    pub(crate) worker: u16,
    pub(crate) departures: Arc<dyn Departures>,
    /// How many connections the worker has sent, once these are all. A worker that shuts down, or fails, does not say it.
    pub(crate) told: Sender<io::Result<usize>>,
    pub(crate) orders: Receiver<Order>,
}

/// The way of connections to the other process, which the workers share.
pub(crate) trait Departures: fmt::Debug + Send + Sync {
    /// Sends some connections, whose states are these, in the order of their sockets.
    fn send(&self, states: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()>;
}

/// What a worker tells. Only the last word says that nothing is missing.
#[derive(Debug)]
pub(crate) enum Told<T> {
    One(T),
    /// These are all of this worker.
    All,
}

/// What the worker is to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept nothing more for the connections, and tell the rest of them: what the application gives, and what other threads have
    /// sent since.
    Finish(Sender<Told<Addition>>),
    /// Let go of the connections that another process serves now.
    LetGo,
}

/// The rest of a connection that was sent.
#[derive(Debug)]
pub(crate) struct Addition {
    pub(crate) id: u64,
    pub(crate) change: Change,
}

/// What became of a connection since it was sent.
#[derive(Debug)]
pub(crate) enum Change {
    /// It goes.
    Goes(Rest),
    /// It closes, sends a message in parts, has missed messages of which the application was not told, or the application
    /// gives nothing for it: it stays.
    Stays,
}

/// What is told of a connection once nobody can send to it any more.
#[derive(Debug)]
pub(crate) struct Rest {
    /// What the application gives.
    pub(crate) data: Vec<u8>,
    /// The output that has come since it was sent.
    pub(crate) output: Vec<u8>,
    /// The topics that it is subscribed to, each with the number of the last message that it was sent.
    pub(crate) topics: Vec<(String, u64)>,
}

/// Connections of another process, for one worker.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// What was received: the states of these connections, and of others.
    pub(crate) states: Arc<Vec<u8>>,
    /// Where the state of each is, and its socket.
    pub(crate) connections: Vec<(Range<usize>, OwnedFd)>,
    /// Told when the worker has them. One that has ended does not tell it.
    pub(crate) held: Sender<Result<(), StateError>>,
}

/// The rest of the connections that the workers hold, for all workers.
#[derive(Debug)]
pub(crate) struct Changes {
    changes: Mutex<HashMap<u64, Change>>,
    /// The connections will not be this process's.
    is_given_up: AtomicBool,
}

impl Changes {
    pub(crate) fn new(changes: HashMap<u64, Change>) -> Changes {
        Changes { changes: Mutex::new(changes), is_given_up: AtomicBool::new(false) }
    }

    /// The rest of a connection. Every connection has one.
    pub(crate) fn take(&self, id: u64) -> Result<Change, StateError> {
        let change = self.changes.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        change.ok_or(StateError::Invalid("a connection of which only a part was told"))
    }

    /// Has the workers prepare nothing more.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }
}

/// Has a worker make the application's part of the connections that it holds.
#[derive(Debug)]
pub(crate) struct Preparation {
    pub(crate) changes: Arc<Changes>,
    /// Told when the worker has done it. One that has ended does not tell it.
    pub(crate) prepared: Sender<Result<(), StateError>>,
}
