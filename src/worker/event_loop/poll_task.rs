//! What a worker does in its own poll beside its connections, where that needs no thread more.

use std::time::Instant;

use mio::event::Event;

use crate::worker::slab::Keys;

/// Work on a worker's thread whose sockets the worker's poll reports on: under tokens of names that it takes from the
/// worker's, and under [`RESERVED`](crate::worker::slab::RESERVED) ones.
///
/// Other threads reach it through channels of its own, and wake it through the worker's inbox.
pub(crate) trait PollTask: Send {
    /// One of its sockets is ready.
    fn ready(&mut self, event: &Event, now: Instant, keys: &mut Keys);

    /// Does what there is to do: in a turn of the worker in which one of its sockets is ready, its time has come, or it is
    /// asked for something; behind the events and before the worker takes over new connections.
    fn run(&mut self, now: Instant, keys: &mut Keys);

    /// When it is to have a turn though nothing happens; `None` for never. It is asked behind each turn.
    fn due(&self, now: Instant) -> Option<Instant>;

    /// Whether another thread asked for something. It is looked at once the worker has said that it will sleep, so that
    /// whoever asks later wakes it.
    fn has_commands(&self) -> bool;

    /// Whether nothing is left to do and the worker may end.
    fn is_done(&self, now: Instant) -> bool;
}
