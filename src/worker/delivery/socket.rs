//! A connection as its handler sees it.

use std::any::Any;
use std::fmt;

use crate::config::SlowConsumer;
use crate::config::send_options::SendOptions;
use crate::error::ControlError;
use crate::protocol::PeerAddr;
use crate::protocol::close::{CloseCode, CloseFrame, InvalidClose};
use crate::protocol::deflate::Compression;
use crate::protocol::frame::MAX_CONTROL_PAYLOAD;
use crate::protocol::message::{CowMessage, MessageRef};
use crate::transport::loan::HoldsOutput;
use crate::transport::output::Output;
use crate::worker::connection::active::ActiveConn;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::peer_id::PeerId;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::stats::Stats;

/// A connection as its [`Handler`](crate::Handler) sees it, on the worker's thread.
///
/// Everything that is sent in response to one event of the poll is written together. Up to a few connections that are
/// ready at the same time are read first, for 0.1 ms at most.
///
/// ```
/// use threadbare::{Client, Handler, Message, MessageRef, Server, Socket};
///
/// struct Whisper;
///
/// impl Handler for Whisper {
///     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
///         socket.send(message.as_text().unwrap_or("?").to_lowercase());
///     }
/// }
///
/// let server = Server::builder().workers(1).serve("127.0.0.1:0", |_request| Whisper)?;
/// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
/// client.send("HELLO")?;
/// assert_eq!(client.recv()?, Some(Message::from("hello")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Socket<'a> {
    pub(crate) active: ActiveConn<'a>,
}

impl HoldsOutput for Socket<'_> {
    fn output(&mut self) -> &mut Output {
        &mut self.active.context.output
    }
}

/// Omits what is received and sent.
impl fmt::Debug for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("id", &self.id()).field("addr", &self.addr()).finish_non_exhaustive()
    }
}

impl Socket<'_> {
    /// Sends a message. It is queued whatever the size of the output. While the output is above
    /// [`max_write_buffer_size`](crate::Config::max_write_buffer_size), the worker reads no more messages from this
    /// connection, so that answers can not pile up.
    ///
    /// Returns `false` if nothing was sent, because the connection is closing or the message is an invalid control
    /// frame: a ping of more than 125 bytes, or a close code that must not be sent.
    ///
    /// ```
    /// use threadbare::Socket;
    ///
    /// fn answer(socket: &mut Socket<'_>) {
    ///     socket.send("text");
    ///     socket.send(vec![1, 2, 3]); // binary
    ///     if !socket.send(format!("your number is {}", socket.id())) {
    ///         println!("the connection is closing");
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<CowMessage<'m>>) -> bool {
        !self.active.handle_is_closed() && self.active.send_message(message.into(), Compression::Auto)
    }

    /// Sends a message with options: whether it may be compressed, and what happens if the output is above
    /// [`max_write_buffer_size`](crate::Config::max_write_buffer_size). Without a policy it is queued all the same, as by
    /// [`send`](Socket::send), whatever the connection's own policy. A single option needs no [`SendOptions`].
    ///
    /// Returns `false` if nothing was sent: also where the policy is [`Refuse`](crate::SlowConsumer::Refuse), or
    /// [`Block`](crate::SlowConsumer::Block), since a worker's thread never waits.
    ///
    /// ```
    /// use threadbare::{Compression, SlowConsumer, Socket};
    ///
    /// fn answer(socket: &mut Socket<'_>, session_token: &str) {
    ///     socket.send_with(session_token, Compression::Never);
    ///     socket.send_with("somebody is typing", SlowConsumer::Drop);
    /// }
    /// ```
    #[inline]
    pub fn send_with<'m>(&mut self, message: impl Into<CowMessage<'m>>, options: impl Into<SendOptions>) -> bool {
        !self.active.handle_is_closed() && self.active.send_with(message.into(), options.into())
    }

    /// Sends a message that was encoded before, as [`send_with`](Socket::send_with) does with the options that it was
    /// prepared with; `false` if nothing was sent.
    ///
    /// ```
    /// use threadbare::{Handler, MessageRef, Prepared, Socket};
    ///
    /// struct Rules(Prepared); // cloned for each connection, encoded once
    ///
    /// impl Handler for Rules {
    ///     fn on_message(&mut self, socket: &mut Socket<'_>, _message: MessageRef<'_>) {
    ///         socket.send_prepared(&self.0);
    ///     }
    /// }
    /// ```
    pub fn send_prepared(&mut self, prepared: &Prepared) -> bool {
        !self.active.handle_is_closed() && self.active.send_prepared(prepared)
    }

    /// Sends a message to every connection of the server, this one included, at the end of this iteration of the event
    /// loop. It is encoded once, and compressed once for all connections that negotiated the same parameters. If a
    /// connection's queue is full, its [`SlowConsumer`](crate::SlowConsumer) policy decides. A control frame that
    /// may not be sent is sent to none; see [`ServerHandle::broadcast`](crate::ServerHandle::broadcast).
    ///
    /// ```no_run
    /// use threadbare::{MessageRef, Server, Socket};
    ///
    /// let chat = Server::builder().serve("127.0.0.1:8080", |_request| {
    ///     |socket: &mut Socket<'_>, message: MessageRef<'_>| socket.broadcast(message)
    /// })?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn broadcast<'m>(&mut self, message: impl Into<CowMessage<'m>>) {
        self.active.context.broadcast(Prepared::new(message));
    }

    /// Sends a message that was encoded before to every connection of the server, as [`broadcast`](Socket::broadcast)
    /// does, with the options that it was prepared with.
    ///
    /// ```no_run
    /// use threadbare::{MessageRef, Prepared, SendOptions, Server, Socket};
    ///
    /// // Everybody sees the newest position of each player.
    /// let game = Server::builder().serve("127.0.0.1:8080", |request| {
    ///     let player = request.path().len() as u64; // from your own table of players
    ///     move |socket: &mut Socket<'_>, position: MessageRef<'_>| {
    ///         socket.broadcast_prepared(&Prepared::with(position, SendOptions::new().latest(player)));
    ///     }
    /// })?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn broadcast_prepared(&mut self, prepared: &Prepared) {
        self.active.context.broadcast(prepared.clone());
    }

    /// Sends a ping. [`Handler::on_pong`](crate::Handler::on_pong) is called with the answer.
    ///
    /// ```
    /// use threadbare::Socket;
    ///
    /// fn check(socket: &mut Socket<'_>) {
    ///     if let Err(error) = socket.ping(b"still there?") {
    ///         println!("not sent: {error}");
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The payload has more than 125 bytes, or the connection is closing.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), ControlError> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(ControlError::TooLong { size: payload.len() });
        }
        if self.send(MessageRef::Ping(payload)) { Ok(()) } else { Err(ControlError::Disconnected) }
    }

    /// Starts the closing handshake (RFC 6455 7.1.2). The close frame follows the messages that were sent before. Messages
    /// that still arrive are discarded, unless [`Config::after_close`](crate::Config::after_close) has them delivered.
    ///
    /// ```
    /// use threadbare::{CloseCode, MessageRef, Socket};
    ///
    /// fn on_message(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///     if message.is_binary() {
    ///         let _ = socket.close(CloseCode::UNSUPPORTED_DATA, "send text"); // it may be closing already
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the connection is closing already.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        let frame = CloseFrame::new(code, reason).map_err(|error: InvalidClose| ControlError::InvalidClose(error))?;
        let started = !self.active.handle_is_closed() && self.active.start_close(Some(&frame));
        if started { Ok(()) } else { Err(ControlError::Disconnected) }
    }

    /// Drops the TCP connection without a closing handshake, at the end of the callback. The peer sees a reset. What was
    /// sent and is not written yet is discarded, and no message that was received behind this one is delivered.
    /// [`Handler::on_close`](crate::Handler::on_close) is called, unless it was before.
    ///
    /// ```
    /// use threadbare::{MessageRef, Socket};
    ///
    /// fn on_message(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///     if message.is_empty() {
    ///         socket.abort(); // without a word
    ///     }
    /// }
    /// ```
    pub fn abort(&mut self) {
        self.active.abort();
    }

    /// Returns a handle that other threads can send through. The first call allocates memory for it.
    ///
    /// ```
    /// use std::sync::mpsc::Sender;
    /// use threadbare::{Handler, MessageRef, Peer, Socket};
    ///
    /// /// Tells another thread about each connection.
    /// struct Registered(Sender<Peer>);
    ///
    /// impl Handler for Registered {
    ///     fn on_open(&mut self, socket: &mut Socket<'_>) {
    ///         let _ = self.0.send(socket.peer()); // an error says that the thread has ended
    ///     }
    ///
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
    /// }
    /// ```
    pub fn peer(&mut self) -> Peer {
        self.active.peer()
    }

    /// Sets what happens to the messages of other threads, and to broadcasts, while the queue of this connection is full;
    /// see [`Peer::set_slow_consumer`]. The first call allocates memory for the handle.
    ///
    /// ```
    /// use threadbare::{Handler, MessageRef, SlowConsumer, Socket};
    ///
    /// struct Viewer;
    ///
    /// impl Handler for Viewer {
    ///     fn on_open(&mut self, socket: &mut Socket<'_>) {
    ///         socket.set_slow_consumer(SlowConsumer::Drop); // a viewer may miss pictures
    ///     }
    ///
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
    /// }
    /// ```
    pub fn set_slow_consumer(&mut self, policy: impl Into<Option<SlowConsumer>>) {
        self.peer().set_slow_consumer(policy);
    }

    /// The identifier of the connection.
    ///
    /// ```
    /// use threadbare::{MessageRef, Socket};
    ///
    /// fn on_message(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///     socket.broadcast(format!("{}: {message}", socket.id()));
    /// }
    /// ```
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::new(self.active.context.handle.index, self.active.state.key)
    }

    /// The peer's address.
    ///
    /// ```
    /// use threadbare::Socket;
    ///
    /// fn is_local(socket: &Socket<'_>) -> bool {
    ///     socket.addr().ip().is_some_and(|ip| ip.is_loopback())
    /// }
    /// ```
    #[must_use]
    pub fn addr(&self) -> PeerAddr {
        self.active.info().addr()
    }

    /// The subprotocol that was agreed on.
    ///
    /// ```
    /// use threadbare::Socket;
    ///
    /// fn greet(socket: &mut Socket<'_>) {
    ///     match socket.subprotocol() {
    ///         Some("chat.v2") => socket.send(r#"{"hello":1}"#),
    ///         _ => socket.send("hello"),
    ///     };
    /// }
    /// ```
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.active.subprotocol()
    }

    /// The data that the hook that accepted the handshake set with [`Accept::data`](crate::Accept::data), if it is a
    /// `T`.
    ///
    /// ```
    /// use threadbare::{MessageRef, Socket};
    ///
    /// struct User(String);
    ///
    /// fn on_message(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///     let name = socket.data().map_or("nobody", |User(name)| name).to_owned();
    ///     socket.broadcast(format!("{name}: {message}"));
    /// }
    /// ```
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.active.accepted_data()?.get()
    }

    /// The counts of messages and bytes of the connection.
    ///
    /// ```
    /// use threadbare::{CloseCode, Socket};
    ///
    /// fn limit(socket: &mut Socket<'_>) {
    ///     if socket.stats().messages_received > 1_000 {
    ///         let _ = socket.close(CloseCode::POLICY_VIOLATION, "too many messages"); // it may be closing already
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.active.stats()
    }

    /// Bytes that wait to be written.
    ///
    /// ```
    /// use threadbare::Socket;
    ///
    /// /// Leaves out a picture while the client reads too slowly.
    /// fn show(socket: &mut Socket<'_>, picture: &[u8]) {
    ///     if socket.queued_bytes() < 64 << 10 {
    ///         socket.send(picture);
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.active.queued() + self.active.kept()
    }
}
