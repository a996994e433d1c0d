//! What other threads ask of the reactor, and how they reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// There are some: looked at in every turn, for which the channel itself takes its time.
    asked: Arc<AtomicBool>,
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
        ReactorHandle { asks, asked: Arc::default(), wake }
    }

    /// Whether something was asked since it was [heard](ReactorHandle::hear) last.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// What was asked before this is to be looked at next.
    pub(super) fn hear(&self) {
        self.asked.swap(false, Ordering::SeqCst);
    }

    pub(super) fn send(&self, ask: Ask) {
        // A reactor that has ended has nothing left to decide or stop.
        if self.asks.send(ask).is_err() {
            return;
        }
        self.asked.store(true, Ordering::SeqCst);
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
