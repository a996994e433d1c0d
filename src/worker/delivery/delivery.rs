//! How a worker hands on what it receives.

use crate::protocol::close::CloseReason;
use crate::protocol::message::{Assembled, MessageRef};
use crate::worker::delivery::socket::Socket;
use crate::worker::slab::Key;

/// A message on its way to the application.
pub(crate) enum Incoming<'a> {
    /// It lies in the worker's buffer.
    Borrowed(MessageRef<'a>),
    /// It has a buffer of its own.
    Assembled(Assembled),
}

impl Incoming<'_> {
    /// The payload's size.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Incoming::Borrowed(message) => message.len(),
            Incoming::Assembled(message) => message.as_bytes().len(),
        }
    }
}

/// When the close frame that answers the peer's, or fails the connection, may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseTiming {
    /// At once: the answers to all messages are out or queued.
    Now,
    /// When the application has seen the end, or at a deadline.
    AfterAnswers,
}

/// How a worker hands on what it receives. All calls are on the worker's thread.
pub(crate) trait Delivery: Send + 'static {
    /// What is kept of each connection.
    type Connection: Send + 'static;

    /// What is needed once, to tell the application that the connection is established.
    type Opening: Send + 'static;

    /// Whether each connection has a handle from the start, because events carry it.
    const HANDLES: bool;

    /// Whether messages are answered as they are delivered, without regard to the room there is. Elsewhere senders wait
    /// for room themselves; if reading waited as well, a peer that reads nothing before its own output is taken would
    /// wait for us as we for it.
    const ANSWERS: bool;

    fn open(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, opening: Self::Opening);
    fn message(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, message: Incoming<'_>);
    fn ping(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, payload: &[u8]);
    fn pong(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, payload: &[u8]);
    fn close(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, reason: CloseReason)
    -> CloseTiming;

    /// Whether there is room for more; if not, `key` is remembered and comes back from [`resume`](Delivery::resume).
    fn has_room(&mut self, connection: &mut Self::Connection, key: Key) -> bool;

    /// The application took events: the connections that may go on.
    fn resume(&mut self, ready: &mut Vec<Key>);

    /// One connection has had its turn.
    fn served(&mut self, connection: &mut Self::Connection) {
        let _ = connection;
    }

    /// Hands over what the turn gathered.
    fn end_iteration(&mut self);

    /// Whether that woke a thread that slept.
    fn has_woken(&self) -> bool {
        false
    }

    /// Whether the application may be at work on events whose answers do not wake the worker until it is done.
    fn holds_answers(&self) -> bool {
        false
    }

    /// Whether nobody listens to this connection's events any more.
    fn receiver_dropped(&self, connection: &Self::Connection) -> bool;
}
