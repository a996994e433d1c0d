//! The commands of other threads to the reactor, and how they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;
use mio::Waker;

use crate::protocol::handshake::Accept;
use crate::protocol::http::Response;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::server::reactor::hand_over_command::HandOverCommand;
use crate::worker::handle::draining::DrainOrder;
use crate::worker::handle::inbox::Inbox;
use crate::worker::slab::Key;

/// A command of another thread to the reactor.
pub(in crate::server) enum ReactorCommand {
    /// The application decided about a handshake.
    Decide(Key, Box<Result<Accept, Response>>),
    /// The application answered a plain request.
    Respond(Key, Box<Response>),
    /// Accept no more connections. The sender is dropped when that is so.
    CloseListeners(Sender<()>),
    /// Accept no more connections, complete the handshakes that are under way, and have the workers close their connections
    /// one after the other.
    Drain(Arc<DrainOrder>),
    /// Stop accepting, refuse the handshakes that are under way, and have the workers close until the deadline.
    Stop(Instant),
    /// Something about handing the server over.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    HandOver(HandOverCommand),
}

/// Sends commands to the reactor, from any thread.
#[derive(Clone)]
pub(in crate::server) struct ReactorHandle {
    commands: Sender<ReactorCommand>,
    state: Arc<ReactorState>,
    wake: ReactorWaker,
}

/// What the reactor and the threads that send it commands tell each other.
#[derive(Default)]
struct ReactorState {
    /// Whether there are commands. The reactor checks this in each iteration of the event loop, which costs less than
    /// to ask the channel. Synchronizes between [`send`](ReactorHandle::send) and
    /// [`acknowledge`](ReactorHandle::acknowledge).
    has_commands: AtomicBool,
    /// Whether the reactor looks at the channel only once more. Synchronizes between [`send`](ReactorHandle::send) and
    /// [`end`](ReactorHandle::end): a command is taken from the channel, or its sender sees this.
    has_ended: AtomicBool,
}

/// Wakes the thread that runs the reactor. A poll can have one waker only.
#[derive(Clone)]
pub(in crate::server) enum ReactorWaker {
    /// The reactor has a thread of its own.
    Own(Arc<Waker>),
    /// The reactor is the poll task of a worker.
    Worker(Arc<Inbox>),
}

impl ReactorHandle {
    pub(in crate::server) fn new(commands: Sender<ReactorCommand>, wake: ReactorWaker) -> ReactorHandle {
        ReactorHandle { commands, state: Arc::default(), wake }
    }

    /// Whether commands were sent since the last [`acknowledge`](ReactorHandle::acknowledge).
    pub(in crate::server) fn has_commands(&self) -> bool {
        self.state.has_commands.load(Ordering::SeqCst)
    }

    /// Notes that the reactor takes the commands from the channel next.
    pub(in crate::server) fn acknowledge(&self) {
        self.state.has_commands.swap(false, Ordering::SeqCst);
    }

    /// Notes that the reactor ends. It takes the commands from the channel once more after this.
    pub(in crate::server) fn end(&self) {
        self.state.has_ended.store(true, Ordering::SeqCst);
    }

    /// Sends a command. Returns `false` if the reactor has ended: then it may not have executed the command.
    pub(in crate::server) fn send(&self, command: ReactorCommand) -> bool {
        if self.commands.send(command).is_err() || self.state.has_ended.load(Ordering::SeqCst) {
            return false;
        }
        self.state.has_commands.store(true, Ordering::SeqCst);
        match &self.wake {
            ReactorWaker::Own(waker) => {
                if let Err(error) = waker.wake() {
                    log::error!("the reactor could not be woken: {error}");
                }
            }
            // Not held until the end of a batch, which wakes the worker only for commands in its inbox.
            ReactorWaker::Worker(inbox) => inbox.wake_now(),
        }
        true
    }
}
