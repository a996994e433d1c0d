//! Discarding what a peer still sends, so that the stream ends with FIN.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::socket::system::SystemSocket;
use crate::transport::clock::deadline_after;
use crate::transport::stream::attempt::{Io, attempt};

/// At most 16 MiB of input are discarded, more than the kernels of both ends hold by default. Larger reads more from a
/// peer that keeps sending; smaller may lose what was written last, because the kernel resets a connection that is closed
/// with unread input.
const MAX_DRAINED: usize = 16 << 20;

/// One read takes at most 8 KiB. Larger uses more of the stack; smaller needs more reads.
const READ_SIZE: usize = 8 << 10;

/// A read waits for at least a millisecond, because the system takes a timeout of zero for none. Larger may end later
/// than the deadline.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// The end of a stream, while its input is discarded.
#[derive(Debug)]
pub(super) struct Drain {
    deadline: Instant,
    left: usize,
}

/// How long a read of a blocking stream may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// As long as the stream's own timeout says, but not beyond the deadline.
    AsTheStream,
    /// Until the deadline.
    UntilDeadline,
}

/// Whether the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// The peer has closed, or a limit is reached.
    Done,
    /// The peer has not closed, and the stream has nothing to read now.
    NotYet,
}

impl Drain {
    /// An end that takes up to `timeout`.
    pub(super) fn new(timeout: Duration) -> Drain {
        Drain { deadline: deadline_after(Instant::now(), timeout), left: MAX_DRAINED }
    }

    /// Returns how long a read or write may wait, and `None` after the deadline.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.max(MIN_TIMEOUT))
    }

    /// Reads and discards until the peer's FIN. Does nothing if the stream is no socket of the system, because a read
    /// might wait without end. The stream keeps its read timeout.
    pub(super) fn run<S: Read + 'static>(&mut self, stream: &mut S, wait: Wait) -> Drained {
        let Some(Ok(before)) = SystemSocket::of(stream).map(|socket| socket.options.read_timeout()) else {
            return Drained::Done;
        };
        let longest = if wait == Wait::AsTheStream { before } else { None };
        let drained = self.read(stream, longest.unwrap_or(Duration::MAX));
        set_read_timeout(stream, before);
        drained
    }

    fn read<S: Read + 'static>(&mut self, stream: &mut S, longest: Duration) -> Drained {
        let mut scratch = [0; READ_SIZE];
        while self.left > 0
            && let Some(left) = self.time_left()
        {
            set_read_timeout(stream, Some(left.min(longest)));
            match attempt(|| stream.read(&mut scratch)) {
                Io::Done(size) => self.left = self.left.saturating_sub(size),
                Io::WouldBlock if self.time_left().is_some() => return Drained::NotYet,
                Io::WouldBlock | Io::End | Io::Failed(_) => return Drained::Done,
            }
        }
        Drained::Done
    }
}

fn set_read_timeout<S: 'static>(stream: &S, timeout: Option<Duration>) {
    if let Some(socket) = SystemSocket::of(stream) {
        // It fails only for a socket that has ended, whose reads do not wait.
        let _ = socket.options.set_read_timeout(timeout);
    }
}
