//! The events of a server's connections, as the application receives them.

use crate::protocol::close::CloseReason;
use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::protocol::http::Request;
use crate::protocol::message::{CowMessage, Message};
use crate::worker::handle::draining::Draining;
use crate::worker::handle::peer::Peer;

/// An event of a server's connections.
///
/// ```
/// use threadbare::{Client, Event, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let client = Client::connect(&format!("ws://{}/chat", server.local_addr()))?;
/// client.send("hello")?;
/// for event in server.iter().take(2) {
///     match event {
///         Event::Open(_peer, request) => assert_eq!(request.path(), "/chat"),
///         Event::Message(_peer, message) => assert_eq!(message.as_text(), Some("hello")),
///         _ => unreachable!("the client has not left"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection is established. The request is the one that opened it.
    Open(Peer, Request),
    /// A text or binary message arrived.
    Message(Peer, Message),
    /// The next bytes of a message arrived, on a connection that receives fragments
    /// ([`Config::receive`](crate::Config::receive)). If the connection ends inside a message,
    /// [`Close`](Event::Close) comes, and no last fragment.
    Fragment(Peer, Fragment),
    /// The server drains, and the connection is closed when its turn comes; see
    /// [`ServerHandle::drain`](crate::ServerHandle::drain). What is sent until then arrives before the close.
    Drain(Peer, Draining),
    /// A connection has ended, or its peer has started the closing handshake. This is the last event of each
    /// connection.
    Close(Peer, CloseReason),
}

impl Event {
    /// The connection of the event.
    ///
    /// ```
    /// use threadbare::Event;
    ///
    /// fn log(event: &Event) {
    ///     println!("{} {}: {event:?}", event.peer().id(), event.peer().addr());
    /// }
    /// ```
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match self {
            Event::Open(peer, _)
            | Event::Message(peer, _)
            | Event::Fragment(peer, _)
            | Event::Drain(peer, _)
            | Event::Close(peer, _) => peer,
        }
    }
}

/// An event that borrows from its batch, so that a short message is not copied. Returned by
/// [`Iter::next_ref`](crate::Iter::next_ref) and [`Batch::next_ref`](crate::Batch::next_ref).
///
/// ```
/// use threadbare::EventRef;
///
/// fn describe(event: &EventRef<'_>) -> String {
///     match event {
///         EventRef::Open(peer, request) => format!("{} opened {}", peer.id(), request.path()),
///         EventRef::Message(peer, message) => format!("{} sent {}", peer.id(), message.as_message()),
///         EventRef::Close(peer, reason) => format!("{} left: {reason}", peer.id()),
///         _ => "something else".into(),
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum EventRef<'a> {
    /// A connection is established. The request is the one that opened it.
    Open(&'a Peer, &'a Request),
    /// A text or binary message arrived. It is borrowed if it was short or came with others, otherwise owned.
    Message(&'a Peer, CowMessage<'a>),
    /// The next bytes of a message arrived, on a connection that receives fragments
    /// ([`Config::receive`](crate::Config::receive)). If the connection ends inside a message,
    /// [`Close`](EventRef::Close) comes, and no last fragment.
    Fragment(&'a Peer, FragmentRef<'a>),
    /// The server drains, and the connection is closed when its turn comes; see
    /// [`ServerHandle::drain`](crate::ServerHandle::drain). What is sent until then arrives before the close.
    Drain(&'a Peer, Draining),
    /// A connection has ended, or its peer has started the closing handshake. This is the last event of each
    /// connection.
    Close(&'a Peer, &'a CloseReason),
}

impl<'a> EventRef<'a> {
    /// The connection of the event.
    ///
    /// ```
    /// use threadbare::{EventRef, PeerId};
    ///
    /// fn is_from(event: &EventRef<'_>, id: PeerId) -> bool {
    ///     event.peer().id() == id
    /// }
    /// ```
    #[must_use]
    pub fn peer(&self) -> &'a Peer {
        match self {
            EventRef::Open(peer, _)
            | EventRef::Message(peer, _)
            | EventRef::Fragment(peer, _)
            | EventRef::Drain(peer, _)
            | EventRef::Close(peer, _) => peer,
        }
    }
}
