//! What other threads ask of the reactor, and how they reach it.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use mio::Waker;

use crate::protocol::handshake::Accept;
use crate::protocol::http::Response;
use crate::worker::inbox::Inbox;
use crate::worker::slots::Key;

/// What other threads ask of the reactor.
pub(super) enum Ask {
    /// The application decided about a handshake.
    Decide(Key, Box<Result<Accept, Response>>),
    /// Stop accepting, refuse what is under way, and let the workers close until the deadline.
    Stop(Instant),
}

/// Reaches the reactor from any thread.
#[derive(Clone)]
pub(super) struct ReactorHandle {
    asks: Sender<Ask>,
    wake: Wake,
}

/// What wakes the thread that the reactor works on: a poll has one waker.
#[derive(Clone)]
pub(super) enum Wake {
    /// Its own thread.
    Own(Arc<Waker>),
    /// The worker whose guest it is.
    Worker(Arc<Inbox>),
}

impl ReactorHandle {
    pub(super) fn new(asks: Sender<Ask>, wake: Wake) -> ReactorHandle {
        ReactorHandle { asks, wake }
    }

    pub(super) fn send(&self, ask: Ask) {
        // A reactor that has ended has nothing left to decide or stop.
        if self.asks.send(ask).is_err() {
            return;
        }
        match &self.wake {
            Wake::Own(waker) => {
                if let Err(error) = waker.wake() {
                    log::error!("the reactor could not be woken: {error}");
                }
            }
            // At once: the end of a batch would wake the worker only for what is in its queue.
            Wake::Worker(inbox) => inbox.wake_now(),
        }
    }
}
