//! The deadline of what a [`WebSocket`](crate::WebSocket) writes while it receives.

use std::io;
use std::time::{Duration, Instant};

/// A write waits for at least a millisecond, because the system takes a timeout of zero for none. Larger may end later than
/// the deadline; smaller may write nothing.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// Until when the writes of a call with a deadline may wait.
pub(super) struct WriteDeadline<S> {
    at: Instant,
    /// The stream's own timeout, once it is replaced.
    replaced: Option<Option<Duration>>,
    own: fn(&S) -> io::Result<Option<Duration>>,
    bound: fn(&S, Option<Duration>) -> io::Result<()>,
    holds_back: fn(&S) -> bool,
}

impl<S> WriteDeadline<S> {
    /// `own` and `bound` read and set the write timeout of a stream, and `holds_back` says whether a flush of it has to
    /// write.
    pub(super) fn new(
        at: Instant,
        own: fn(&S) -> io::Result<Option<Duration>>,
        bound: fn(&S, Option<Duration>) -> io::Result<()>,
        holds_back: fn(&S) -> bool,
    ) -> WriteDeadline<S> {
        WriteDeadline { at, replaced: None, own, bound, holds_back }
    }

    /// Has the next write end within half of the time that is left, or earlier if the stream's own timeout is over before.
    /// The other half is for reading: the peer may read only after this end has read.
    pub(super) fn bound_next(&mut self, stream: &S) -> io::Result<()> {
        let own = match self.replaced {
            Some(own) => own,
            None => *self.replaced.insert((self.own)(stream)?),
        };
        let left = (self.at.saturating_duration_since(Instant::now()) / 2).max(LEAST_WAIT);
        (self.bound)(stream, Some(own.map_or(left, |own| own.min(left))))
    }

    /// Whether a flush of the stream has to write.
    pub(super) fn is_due_in(&self, stream: &S) -> bool {
        (self.holds_back)(stream)
    }

    pub(super) fn has_passed(&self) -> bool {
        Instant::now() >= self.at
    }

    /// Puts the stream's own timeout back.
    pub(super) fn restore(&self, stream: &S) -> io::Result<()> {
        self.replaced.map_or(Ok(()), |own| (self.bound)(stream, own))
    }
}
