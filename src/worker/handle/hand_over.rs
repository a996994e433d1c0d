//! What a worker and the thread that hands its connections over say to each other.

use std::os::fd::OwnedFd;

use crossbeam_channel::{Receiver, Sender};

/// The worker's end. From the command for it until the last order, the worker does nothing else: what it has told of its
/// connections stays true. If the other end is dropped, it goes on as if nothing had happened.
#[derive(Clone, Debug)]
pub(crate) struct HandOverSeat {
    /// The number of the worker among the others, in the ids of its connections.
    pub(crate) worker: u16,
    pub(crate) departures: Sender<Told<Departure>>,
    pub(crate) orders: Receiver<Order>,
}

/// What a worker tells. Only the last word says that nothing is missing: a worker that shuts down, or fails, does not say it.
#[derive(Debug)]
pub(crate) enum Told<T> {
    One(T),
    /// These are all of this worker.
    All,
}

/// A connection that is ready to go on in another process.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) id: u64,
    /// A second descriptor of its socket.
    pub(crate) socket: OwnedFd,
    pub(crate) state: Vec<u8>,
}

/// What the worker is to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept nothing more for the connections, and tell what other threads have sent since.
    Finish(Sender<Told<Addition>>),
    /// Let go of the connections that another process serves now.
    LetGo,
}

/// What became of a connection since its [`Departure`].
#[derive(Debug)]
pub(crate) struct Addition {
    pub(crate) id: u64,
    pub(crate) change: Change,
}

#[derive(Debug)]
pub(crate) enum Change {
    /// More output, and the topics that it is subscribed to now.
    More { output: Vec<u8>, topics: Vec<String> },
    /// It closes, sends a message in parts, or has missed messages of which the application was not told, and stays.
    Stays,
}
