//! What a worker and the thread that hands its connections over say to each other.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use crate::protocol::state::StateError;

/// At most 64 connections are sent to the other process in one message. Larger has the other process wait for the first of
/// them; smaller costs more system calls.
pub(crate) const MAX_BATCH: usize = 64;

/// The worker's end. From the command for it until the last order, the worker does nothing else: what it has told of its
/// connections stays true. If the other end is dropped, it goes on as if nothing had happened.
#[derive(Clone, Debug)]
pub(crate) struct HandOverSeat {
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
    /// Accept nothing more for the connections, and tell what other threads have sent since.
    Finish(Sender<Told<Addition>>),
    /// Let go of the connections that another process serves now.
    LetGo,
}

/// What became of a connection since it was sent.
#[derive(Debug)]
pub(crate) struct Addition {
    pub(crate) id: u64,
    pub(crate) change: Change,
}

#[derive(Debug)]
pub(crate) enum Change {
    /// More output, and the topics that it is subscribed to now, each with the number of the last message that it was sent.
    More { output: Vec<u8>, topics: Vec<(String, u64)> },
    /// It closes, sends a message in parts, or has missed messages of which the application was not told, and stays.
    Stays,
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

/// What the workers of the new process are told when it serves.
#[derive(Debug)]
pub(crate) struct Serving {
    changes: Mutex<HashMap<u64, Change>>,
    /// Dropped when each worker serves its connections.
    _until_served: Box<dyn Any + Send + Sync>,
}

impl Serving {
    /// `until_served` is dropped when each worker serves its connections.
    pub(crate) fn new(changes: HashMap<u64, Change>, until_served: Box<dyn Any + Send + Sync>) -> Serving {
        Serving { changes: Mutex::new(changes), _until_served: until_served }
    }

    /// What became of a connection since it was sent.
    pub(crate) fn take(&self, id: u64) -> Option<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}
