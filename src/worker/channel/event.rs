//! The events of a server's connections, as the application receives them.

use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::protocol::message::{CowMessage, Message};
use crate::worker::handle::peer::Peer;

/// An event of a server's connections.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection is established. The request is the one that opened it.
    Open(Peer, Request),
    /// A text or binary message arrived.
    Message(Peer, Message),
    /// A connection has ended, or its peer has started the closing handshake. This is the last event of each
    /// connection.
    Close(Peer, CloseReason),
}

impl Event {
    /// The connection of the event.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match self {
            Event::Open(peer, _) | Event::Message(peer, _) | Event::Close(peer, _) => peer,
        }
    }
}

/// An event that borrows from its batch, so that a short message is not copied. Returned by
/// [`Iter::next_ref`](crate::Iter::next_ref) and [`Batch::next_ref`](crate::Batch::next_ref).
#[derive(Debug)]
#[non_exhaustive]
pub enum EventRef<'a> {
    /// A connection is established. The request is the one that opened it.
    Open(&'a Peer, &'a Request),
    /// A text or binary message arrived. It is borrowed if it was short or came with others, otherwise owned.
    Message(&'a Peer, CowMessage<'a>),
    /// A connection has ended, or its peer has started the closing handshake. This is the last event of each
    /// connection.
    Close(&'a Peer, &'a CloseReason),
}

impl<'a> EventRef<'a> {
    /// The connection of the event.
    #[must_use]
    pub fn peer(&self) -> &'a Peer {
        match self {
            EventRef::Open(peer, _) | EventRef::Message(peer, _) | EventRef::Close(peer, _) => peer,
        }
    }
}
