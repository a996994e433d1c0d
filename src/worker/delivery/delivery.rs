//! The trait by which a worker delivers what it receives.

use crate::protocol::close::CloseReason;
use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::protocol::message::{Assembled, MessageRef};
use crate::transport::spare_inputs::KeptInput;
#[cfg(doc)]
use crate::worker::connection::active::InputUse;
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::draining::Draining;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::handle::peer::Peer;
use crate::worker::slab::Key;

/// A message that is being delivered to the application.
pub(crate) enum Incoming<'a> {
    /// The message is in the worker's receive buffer.
    Borrowed(MessageRef<'a>),
    /// The message has a buffer of its own.
    Assembled(Assembled),
}

impl Incoming<'_> {
    /// Returns the size of the payload.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Incoming::Borrowed(message) => message.len(),
            Incoming::Assembled(message) => message.as_bytes().len(),
        }
    }
}

/// A fragment that is being delivered to the application.
pub(crate) enum IncomingFragment<'a> {
    /// The fragment is in the worker's receive buffer.
    Borrowed(FragmentRef<'a>),
    /// So it is, with nothing behind it: a delivery that notes [`InputUse::Wanted`] is given the buffer next, by
    /// [`keep_input`](Delivery::keep_input).
    Offered(FragmentRef<'a>),
    /// The fragment has memory of its own.
    Owned(Fragment),
}

impl IncomingFragment<'_> {
    /// Borrows the fragment.
    pub(crate) fn as_ref(&self) -> FragmentRef<'_> {
        match self {
            IncomingFragment::Borrowed(fragment) | IncomingFragment::Offered(fragment) => *fragment,
            IncomingFragment::Owned(fragment) => fragment.as_ref(),
        }
    }
}

/// When the close frame that answers the peer's close frame, or fails the connection, may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseTiming {
    /// At once: the answers to all messages are written or queued.
    Now,
    /// When the application has seen the close event, or at a deadline.
    AfterAnswers,
}

/// Delivers what a worker receives to the application. All calls are on the worker's thread.
pub(crate) trait Delivery: Send + 'static {
    /// The delivery's part of each connection.
    type Connection: Send + 'static;

    /// What [`open`](Delivery::open) needs to deliver that the connection is established.
    type Opening: Send + 'static;

    /// Whether each connection has a handle from the start, because its events have it.
    const HANDLES: bool;

    /// Whether messages are answered while they are delivered, whatever the size of the output. Then reading stops
    /// while the output is above the high-water mark. It also stops where the policy never has senders wait. Where
    /// senders wait for room themselves, reading must go on: a peer that does not read before its own output is taken
    /// would wait for this end, and this end for the peer.
    const ANSWERS: bool;

    /// Whether a new connection can be delivered now. If not, it waits until [`resume`](Delivery::resume) has been called
    /// and there is room.
    fn can_open(&mut self, connection: &Self::Connection) -> bool {
        let _ = connection;
        true
    }

    fn open(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, opening: Self::Opening);

    /// As [`open`](Delivery::open), for a connection that another process has served.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn take_over(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, opening: Self::Opening) {
        self.open(connection, socket, opening);
    }

    /// What the application gives to the process that goes on with the connection; `None` if it is to stay.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn hand_over(&mut self, connection: &mut Self::Connection, peer: Option<&Peer>) -> Option<Vec<u8>> {
        let _ = (connection, peer);
        None
    }

    /// Whether the application has handled everything that was delivered.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn is_handled(&self) -> bool {
        true
    }

    fn message(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, message: Incoming<'_>);
    fn fragment(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, fragment: IncomingFragment<'_>);

    /// Takes the receive buffer that the last fragment is in, which was offered and is wanted.
    fn keep_input(&mut self, connection: &mut Self::Connection, input: KeptInput) {
        let _ = (connection, input);
    }

    fn ping(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, payload: &[u8]);
    fn pong(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, payload: &[u8]);
    fn close(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, reason: CloseReason)
    -> CloseTiming;

    /// Delivers that the server drains.
    fn drain(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, draining: Draining) {
        let _ = (connection, socket, draining);
    }

    /// What the application must come to, if it has not come to all events of this connection so far: a mark for
    /// [`has_seen`](Delivery::has_seen).
    fn unseen(&self, connection: &Self::Connection) -> Option<u64> {
        let _ = connection;
        None
    }

    /// Whether the application has come to what was delivered up to this mark.
    fn has_seen(&self, connection: &Self::Connection, mark: u64) -> bool {
        let _ = (connection, mark);
        true
    }

    /// Whether there is room for more events. If not, [`resume`](Delivery::resume) returns `key` once there is.
    fn has_room(&mut self, connection: &mut Self::Connection, key: Key) -> bool;

    /// The most bytes that are to be read at once, so that not much is read that can not be delivered.
    #[inline]
    fn read_size(&self, connection: &Self::Connection) -> usize {
        let _ = connection;
        usize::MAX
    }

    /// Adds to `ready` the connections that may read on, because the application took events.
    fn resume(&mut self, ready: &mut Vec<Key>);

    /// Called at the end of each drive of a connection.
    fn served(&mut self, connection: &mut Self::Connection) {
        let _ = connection;
    }

    /// Delivers the events that were gathered in this iteration of the event loop.
    fn end_iteration(&mut self);

    /// Whether the last [`end_iteration`](Delivery::end_iteration) woke a thread of the application.
    fn has_woken(&self) -> bool {
        false
    }

    /// Whether the application may be handling a batch of events, whose answers are better written together. They do not
    /// wake a worker that sleeps briefly before the batch ends.
    fn holds_answers(&self) -> bool {
        false
    }

    /// Whether the last receiver of this connection's events was dropped.
    fn receiver_dropped(&self, connection: &Self::Connection) -> bool;
}
