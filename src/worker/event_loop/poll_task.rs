//! Work other than connections that a worker's thread does in its event loop.

use std::time::Instant;

use mio::event::Event;

use crate::worker::slab::Keys;

/// Work other than connections that a worker's thread does in its event loop. Its sockets are registered with the
/// worker's poll, under tokens of keys that it allocates from the worker's [`Keys`] and under
/// [`RESERVED`](crate::worker::slab::RESERVED) tokens.
///
/// Other threads send it commands through channels of its own, and wake it through the worker's inbox.
pub(crate) trait PollTask: Send {
    /// Handles an event of one of its sockets.
    fn ready(&mut self, event: &Event, now: Instant, keys: &mut Keys);

    /// Runs the task. It is called in an iteration of the event loop in which one of its sockets is ready, it is
    /// [`due`](PollTask::due), or it has commands. In the iteration it comes after the poll's events, and before the
    /// worker takes over new connections.
    fn run(&mut self, now: Instant, keys: &mut Keys);

    /// Returns when the task is to run even if nothing happens; `None` for never. Called after each run.
    fn due(&self, now: Instant) -> Option<Instant>;

    /// Whether other threads sent commands. Called after the inbox is parked, so that a later command wakes the worker.
    fn has_commands(&self) -> bool;

    /// Whether the task has nothing left to do, so that the worker may end.
    fn is_done(&self, now: Instant) -> bool;
}
