//! How what is received reaches the application: to a handler on the worker's thread, or elsewhere.

use crate::error::ControlError;
use crate::protocol::close::{CloseCode, CloseFrame, CloseReason, InvalidClose};
use crate::protocol::deflate::Compression;
use crate::protocol::frame::MAX_CONTROL_PAYLOAD;
use crate::protocol::message::{Assembled, MessageRef};
use crate::worker::context::Context;
use crate::worker::core::Core;
use crate::worker::peer::{Peer, PeerId};
use crate::worker::prepared::Prepared;
use crate::worker::slots::Key;
use crate::worker::stats::Stats;

/// The application's part of one connection, called on the worker's thread.
///
/// A handler has its connection to itself, so it needs no lock for its own state. It must not block: the worker's
/// other connections wait meanwhile. A panic closes the connection with 1011 and touches nobody else; the handler is
/// not called again.
///
/// ```
/// use threadbare::{Handler, MessageRef, Socket};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
///         socket.send(message);
///     }
/// }
/// ```
pub trait Handler: Send + 'static {
    /// The connection is established.
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = socket;
    }

    /// A text or binary message arrived, borrowed from the buffer it was received into.
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>);

    /// A ping arrived; its pong is on its way.
    fn on_ping(&mut self, socket: &mut Socket<'_>, payload: &[u8]) {
        let _ = (socket, payload);
    }

    /// A pong arrived.
    fn on_pong(&mut self, socket: &mut Socket<'_>, payload: &[u8]) {
        let _ = (socket, payload);
    }

    /// The connection has ended, or its closing handshake has begun at the peer; nothing more can be sent. Called once.
    fn on_close(&mut self, socket: &mut Socket<'_>, reason: &CloseReason) {
        let _ = (socket, reason);
    }
}

/// A connection as its [`Handler`] sees it, on the worker's thread.
///
/// What is sent during a callback leaves in one write, with everything else that the same readiness produced: when the
/// few connections that are ready at the same time were read as well, or after 0.1 ms of that.
#[derive(Debug)]
pub struct Socket<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) context: &'a mut Context,
}

impl Socket<'_> {
    /// Sends a message. There is always room: while the output stands above
    /// [`max_write_buffer_size`](crate::Config::max_write_buffer_size) nothing more is read from this connection, and so
    /// nothing more asks for answers.
    ///
    /// `false` tells that nothing was sent, because the connection is closing or a control frame is invalid (a ping of
    /// more than 125 bytes, a code that must not be sent).
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<MessageRef<'m>>) -> bool {
        self.core.send(self.context, message.into(), Compression::Auto)
    }

    /// Sends a message as [`send`](Socket::send) does, compressed as `compression` says: with [`Compression::Never`] it
    /// leaves as it is even where permessage-deflate was negotiated.
    ///
    /// ```
    /// # use threadbare::{Compression, Socket};
    /// fn answer(socket: &mut Socket<'_>, session_token: &str) {
    ///     socket.send_with(session_token, Compression::Never);
    /// }
    /// ```
    #[inline]
    pub fn send_with<'m>(&mut self, message: impl Into<MessageRef<'m>>, compression: Compression) -> bool {
        self.core.send(self.context, message.into(), compression)
    }

    /// Sends a message that was encoded before; `false` if the connection is closing.
    pub fn send_prepared(&mut self, prepared: &Prepared) -> bool {
        self.core.send_shared(self.context, &prepared.frame)
    }

    /// Sends a message to every connection of the server, this one included, at the end of the worker's turn. It is
    /// encoded once, and compressed once for all connections that agreed on the same. Where a connection's queue is full,
    /// the server's [`SlowConsumer`](crate::SlowConsumer) policy decides.
    pub fn broadcast<'m>(&mut self, message: impl Into<MessageRef<'m>>) {
        self.context.broadcast(Prepared::new(message).frame);
    }

    /// Sends a ping; the answer comes to [`Handler::on_pong`].
    ///
    /// # Errors
    /// A payload over 125 bytes, or a connection that is closing.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), ControlError> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(ControlError::TooLong { size: payload.len() });
        }
        if self.send(MessageRef::Ping(payload)) { Ok(()) } else { Err(ControlError::Disconnected) }
    }

    /// Starts the closing handshake (RFC 6455 7.1.2), behind what was sent before.
    ///
    /// # Errors
    /// A code that may not be sent, a reason of more than 123 bytes, or a connection that is closing already.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        let frame = CloseFrame::new(code, reason).map_err(|error: InvalidClose| ControlError::InvalidClose(error))?;
        if self.core.start_close(self.context, Some(&frame)) { Ok(()) } else { Err(ControlError::Disconnected) }
    }

    /// Drops the TCP connection without a closing handshake, at the end of the callback.
    pub fn abort(&mut self) {
        self.context.inbox.send(crate::worker::inbox::Command::Abort { to: self.context.key });
    }

    /// A handle that other threads can send through. It costs memory from its first use on.
    pub fn peer(&mut self) -> Peer {
        self.core.peer(self.context)
    }

    /// Names the connection.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::new(self.context.home.worker, self.context.key)
    }

    /// The peer's address.
    #[must_use]
    pub fn addr(&self) -> std::net::SocketAddr {
        self.core.ledger(self.context).addr()
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.core.subprotocol(self.context)
    }

    /// What has gone through the connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats(self.context)
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.core.queued(self.context)
    }
}

/// A message on its way to the application.
pub(crate) enum Incoming<'a> {
    /// It lies in the worker's buffer.
    Borrowed(MessageRef<'a>),
    /// It has a buffer of its own.
    Assembled(Assembled),
}

/// When the close frame that answers the peer's, or fails the connection, may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// At once: the answers to all messages are out or queued.
    Now,
    /// When the application has seen the end, or at a deadline.
    WhenAnswered,
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
    fn close(&mut self, connection: &mut Self::Connection, socket: &mut Socket<'_>, reason: CloseReason) -> Farewell;

    /// Whether there is room for more; if not, `key` is remembered and comes back from [`resume`](Delivery::resume).
    fn has_room(&mut self, connection: &mut Self::Connection, key: Key) -> bool;

    /// The application took events: the connections that may go on.
    fn resume(&mut self, ready: &mut Vec<Key>);

    /// One connection has had its turn.
    fn served(&mut self, connection: &mut Self::Connection) {
        let _ = connection;
    }

    /// Hands over what the turn gathered.
    fn end_turn(&mut self);

    /// Whether that woke a thread that slept.
    fn has_woken(&self) -> bool {
        false
    }

    /// Whether the application may be at work on events whose answers do not wake the worker until it is done.
    fn holds_answers(&self) -> bool {
        false
    }

    /// Whether nobody listens to this connection's events any more.
    fn is_orphaned(&self, connection: &Self::Connection) -> bool;
}

/// Calls a [`Handler`] on the worker's thread.
#[derive(Debug)]
pub(crate) struct ToHandler<H>(pub(crate) std::marker::PhantomData<fn() -> H>);

impl<H: Handler> Delivery for ToHandler<H> {
    type Connection = H;
    type Opening = ();

    const HANDLES: bool = false;

    const ANSWERS: bool = true;

    fn open(&mut self, handler: &mut H, socket: &mut Socket<'_>, (): ()) {
        handler.on_open(socket);
    }

    #[inline]
    fn message(&mut self, handler: &mut H, socket: &mut Socket<'_>, message: Incoming<'_>) {
        match message {
            Incoming::Borrowed(message) => handler.on_message(socket, message),
            Incoming::Assembled(message) => {
                socket.context.output.lend_assembled(&message);
                handler.on_message(socket, message.as_message());
                socket.context.output.settle(message);
            }
        }
    }

    fn ping(&mut self, handler: &mut H, socket: &mut Socket<'_>, payload: &[u8]) {
        handler.on_ping(socket, payload);
    }

    fn pong(&mut self, handler: &mut H, socket: &mut Socket<'_>, payload: &[u8]) {
        handler.on_pong(socket, payload);
    }

    fn close(&mut self, handler: &mut H, socket: &mut Socket<'_>, reason: CloseReason) -> Farewell {
        handler.on_close(socket, &reason);
        Farewell::Now
    }

    fn has_room(&mut self, _: &mut H, _: Key) -> bool {
        true
    }

    fn resume(&mut self, _: &mut Vec<Key>) {}

    fn end_turn(&mut self) {}

    fn is_orphaned(&self, _: &H) -> bool {
        false
    }
}
