//! Work that a worker's thread does beside its connections, in the same poll.

use std::time::Instant;

use mio::event::Event;

use crate::worker::slab::Keys;

/// Work that a worker's thread does beside its connections. Its sockets are registered with the worker's poll, under
/// tokens of keys that it allocates from the worker's [`Keys`] and under
/// [`RESERVED`](crate::worker::slab::RESERVED) tokens.
///
/// Other threads reach it through channels of its own, and wake it through the worker's inbox.
pub(crate) trait PollTask: Send {
    /// One of its sockets is ready.
    fn ready(&mut self, event: &Event, now: Instant, keys: &mut Keys);

    /// Does what there is to do. Called in an iteration of the event loop in which one of its sockets is ready, it is
    /// [`due`](PollTask::due), or it has commands; after the poll's events and before the worker takes over new
    /// connections.
    fn run(&mut self, now: Instant, keys: &mut Keys);

    /// When it is to run although nothing happens; `None` for never. Asked after each run.
    fn due(&self, now: Instant) -> Option<Instant>;

    /// Whether other threads sent commands. Asked once the inbox is parked, so that a command that comes later wakes the
    /// worker.
    fn has_commands(&self) -> bool;

    /// Whether nothing is left to do and the worker may end.
    fn is_done(&self, now: Instant) -> bool;
}
