//! What happens on a server's connections, as the application receives it.

use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::protocol::message::{CowMessage, Message};
use crate::worker::handle::peer::Peer;

/// What happens on a server's connections.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection is established; this is the request that opened it.
    Open(Peer, Request),
    /// A text or binary message arrived.
    Message(Peer, Message),
    /// A connection has ended, or its peer has started the closing handshake; exactly one per connection, its last.
    Close(Peer, CloseReason),
}

impl Event {
    /// The connection it happened on.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match self {
            Event::Open(peer, _) | Event::Message(peer, _) | Event::Close(peer, _) => peer,
        }
    }
}

/// An event that is lent by the batch it came with, so that a short message is answered without being copied: by
/// [`Iter::next_ref`](crate::Iter::next_ref) and [`Batch::next_ref`](crate::Batch::next_ref).
#[derive(Debug)]
#[non_exhaustive]
pub enum EventRef<'a> {
    /// A connection is established; this is the request that opened it.
    Open(&'a Peer, &'a Request),
    /// A text or binary message arrived: borrowed if it was short or came with others, else owned.
    Message(&'a Peer, CowMessage<'a>),
    /// A connection has ended, or its peer has started the closing handshake; exactly one per connection, its last.
    Close(&'a Peer, &'a CloseReason),
}

impl<'a> EventRef<'a> {
    /// The connection it happened on.
    #[must_use]
    pub fn peer(&self) -> &'a Peer {
        match self {
            EventRef::Open(peer, _) | EventRef::Message(peer, _) | EventRef::Close(peer, _) => peer,
        }
    }
}
