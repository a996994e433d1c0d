//! What other threads ask of the reactor, and how they reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;
use mio::Waker;

use crate::protocol::handshake::Accept;
use crate::protocol::http::Response;
use crate::worker::handle::inbox::Inbox;
use crate::worker::slab::Key;

/// What other threads ask of the reactor.
pub(in crate::server) enum ReactorCommand {
    /// The application decided about a handshake.
    Decide(Key, Box<Result<Accept, Response>>),
    /// Stop accepting, refuse what is under way, and let the workers close until the deadline.
    Stop(Instant),
}

/// Reaches the reactor from any thread.
#[derive(Clone)]
pub(in crate::server) struct ReactorHandle {
    commands: Sender<ReactorCommand>,
    /// There are some: looked at in every turn, for which the channel itself takes its time.
    has_commands: Arc<AtomicBool>,
    wake: ReactorWaker,
}

/// What wakes the thread that the reactor works on: a poll has one waker.
#[derive(Clone)]
pub(in crate::server) enum ReactorWaker {
    /// Its own thread.
    Own(Arc<Waker>),
    /// The worker whose guest it is.
    Worker(Arc<Inbox>),
}

impl ReactorHandle {
    pub(in crate::server) fn new(commands: Sender<ReactorCommand>, wake: ReactorWaker) -> ReactorHandle {
        ReactorHandle { commands, has_commands: Arc::default(), wake }
    }

    /// Whether something was asked since it was [heard](ReactorHandle::hear) last.
    pub(in crate::server) fn has_commands(&self) -> bool {
        self.has_commands.load(Ordering::SeqCst)
    }

    /// What was asked before this is to be looked at next.
    pub(in crate::server) fn acknowledge(&self) {
        self.has_commands.swap(false, Ordering::SeqCst);
    }

    pub(in crate::server) fn send(&self, command: ReactorCommand) {
        // A reactor that has ended has nothing left to decide or stop.
        if self.commands.send(command).is_err() {
            return;
        }
        self.has_commands.store(true, Ordering::SeqCst);
        match &self.wake {
            ReactorWaker::Own(waker) => {
                if let Err(error) = waker.wake() {
                    log::error!("the reactor could not be woken: {error}");
                }
            }
            // At once: the end of a batch would wake the worker only for what is in its queue.
            ReactorWaker::Worker(inbox) => inbox.wake_now(),
        }
    }
}
