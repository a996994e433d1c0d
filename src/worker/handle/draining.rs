//! What workers, and then the application, are told of a drain, and how its connections ended.

use std::fmt;
use std::time::Instant;

use crate::protocol::close::CloseFrame;

/// That the server drains, and when this connection is closed for it: what [`Handler::on_drain`](crate::Handler::on_drain) and
/// [`Event::Drain`](crate::Event::Drain) have.
///
/// ```
/// use std::time::Instant;
/// use threadbare::{Draining, Socket};
///
/// fn on_drain(socket: &mut Socket<'_>, draining: Draining) {
///     let left = draining.turn.saturating_duration_since(Instant::now());
///     socket.send(format!("this server stops in {} s", left.as_secs()));
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Draining {
    /// When the connection is closed, unless something is under way: then it is later, and before the deadline.
    pub turn: Instant,
    /// When the connections that have not ended are reset.
    pub deadline: Instant,
}

/// How the connections of a server ended that was drained; see [`ServerHandle::drain`](crate::ServerHandle::drain). Each
/// connection is counted once.
///
/// ```
/// use std::time::Duration;
/// use threadbare::Server;
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let report = server.drain(Duration::from_secs(30));
/// assert_eq!((report.idle, report.cut), (0, 0)); // there were no connections
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Connections that ended before their turn: the peer or the application closed them, or they were lost.
    pub left: usize,
    /// Connections that were closed at their turn while nothing was under way.
    pub idle: usize,
    /// Connections that were closed at their turn behind what was under way: output, or a message.
    pub busy: usize,
    /// Connections that were closed at their turn and ended without the peer's close frame: lost, or reset after
    /// [`close_timeout`](crate::Config::close_timeout).
    pub lost: usize,
    /// Connections that were reset at the deadline.
    pub cut: usize,
    /// Bytes that waited for the sockets of the connections that were lost or cut.
    pub unsent_bytes: u64,
    /// Threads that failed before, by a fault of the library. Their connections were closed with 1011.
    pub failed: usize,
}

impl DrainReport {
    /// Adds the counts of another worker.
    pub(crate) fn add(&mut self, other: DrainReport) {
        self.left += other.left;
        self.idle += other.idle;
        self.busy += other.busy;
        self.lost += other.lost;
        self.cut += other.cut;
        self.unsent_bytes += other.unsent_bytes;
        self.failed += other.failed;
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DrainReport { left, idle, busy, lost, cut, unsent_bytes, failed } = self;
        write!(f, "{left} connections had left, {idle} were closed idle, {busy} behind what was under way, ")?;
        write!(f, "{lost} did not answer, {cut} were cut; {unsent_bytes} bytes were not sent")?;
        if *failed > 0 { write!(f, "; {failed} threads had failed") } else { Ok(()) }
    }
}

/// Close the connections one after the other.
#[derive(Debug)]
pub(crate) struct DrainOrder {
    pub(crate) frame: CloseFrame,
    pub(crate) begun: Instant,
    /// No turn is after this time, so that the peers have some to answer.
    pub(crate) last_turn: Instant,
    pub(crate) deadline: Instant,
}
