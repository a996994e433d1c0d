//! A client whose connection a worker serves, as it does for a server.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::client::builder::ClientBuilder;
use crate::client::error::{ClientError, ConnectError};
use crate::client::pool::Pool;
use crate::error::{ControlError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use crate::protocol::PeerAddr;
use crate::protocol::close::{CloseCause, CloseCode, CloseReason};
use crate::protocol::deflate::Compression;
use crate::protocol::handshake::client::Agreed;
use crate::protocol::http::ResponseHead;
use crate::protocol::message::{CowMessage, Message};
use crate::worker::channel::event::Event;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::stats::Stats;
use crate::worker::receiver::events::Events;

/// A WebSocket client: blocking, full duplex, and usable from several threads at once.
///
/// A worker thread serves the connection. It answers pings, enforces the timeouts and completes closing handshakes,
/// whatever the application does. Several clients can share worker threads in a [`ClientPool`](crate::ClientPool).
/// Dropping a client closes its connection with 1000.
///
/// ```no_run
/// use std::time::Duration;
/// use threadbare::Client;
///
/// let client = Client::connect("ws://127.0.0.1:8080/chat")?;
/// client.send("hello")?;
/// let reply = client.recv_timeout(Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    pub(super) peer: Peer,
    pub(super) events: Events,
    pub(super) ended: OnceLock<CloseReason>,
    pub(super) agreed: Agreed,
    pub(super) local_addr: PeerAddr,
    /// Keeps the worker threads running.
    pub(super) _pool: Arc<Pool>,
}

impl Client {
    /// Connects with default settings.
    ///
    /// # Errors
    /// The URL is invalid, the server can not be reached in time, or it refuses the handshake.
    pub fn connect(url: &str) -> Result<Client, ConnectError> {
        Client::builder().connect(url)
    }

    /// Returns a builder, for a client with other settings.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Sends a message, waiting while the connection's queue is above the high-water mark; see [`Peer::send`].
    ///
    /// # Errors
    /// Returns the message if the connection is closed or closing, or if it is an invalid control frame.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.peer.send(message)
    }

    /// Sends a message, compressed as `compression` says; see [`Peer::send_with`].
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub fn send_with<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        compression: Compression,
    ) -> Result<(), SendError<Message>> {
        self.peer.send_with(message, compression)
    }

    /// Sends a message if there is room; see [`Peer::try_send`].
    ///
    /// # Errors
    /// Returns the message if it was not sent.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        self.peer.try_send(message)
    }

    /// Sends a message, waiting up to `timeout` for room; see [`Peer::send_timeout`].
    ///
    /// # Errors
    /// Returns the message if it was not sent.
    pub fn send_timeout<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.peer.send_timeout(message, timeout)
    }

    /// Sends a message, waiting until `deadline` for room; see [`Peer::send_deadline`].
    ///
    /// # Errors
    /// Returns the message if it was not sent.
    pub fn send_deadline<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.peer.send_deadline(message, deadline)
    }

    /// Sends a message that was encoded before; see [`Peer::send_prepared`](Peer::send_prepared).
    ///
    /// # Errors
    /// As [`send`](Self::send); there is no message to return.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        self.peer.send_prepared(prepared)
    }

    /// Sends a message that was encoded before, if there is room.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); there is no message to return.
    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<(), TrySendError<()>> {
        self.peer.try_send_prepared(prepared)
    }

    /// Sends a message that was encoded before, waiting up to `timeout` for room.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout); there is no message to return.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        self.peer.send_prepared_timeout(prepared, timeout)
    }

    /// Sends a message that was encoded before, waiting until `deadline` for room.
    ///
    /// # Errors
    /// As [`send_deadline`](Self::send_deadline); there is no message to return.
    pub fn send_prepared_deadline(&self, prepared: &Prepared, deadline: Instant) -> Result<(), SendTimeoutError<()>> {
        self.peer.send_prepared_deadline(prepared, deadline)
    }

    /// A handle that other threads can keep and send through. It may outlive the client.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// Waits for the next message. Returns `None` once the closing handshake is complete and every message was
    /// received. Several threads may wait; each message goes to one of them.
    ///
    /// ```no_run
    /// # let client = threadbare::Client::connect("ws://127.0.0.1:8080/")?;
    /// while let Some(message) = client.recv()? {
    ///     println!("{message}"); // long ones are cut
    /// }
    /// println!("closed: {:?}", client.close_reason());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The connection ended without a completed closing handshake, and every message was received:
    /// [`Failed`](ClientError::Failed) says why.
    #[doc(alias = "read")]
    pub fn recv(&self) -> Result<Option<Message>, ClientError> {
        loop {
            match self.events.recv() {
                Ok(Event::Open(..)) => {}
                event => return self.message(event.ok()),
            }
        }
    }

    /// Returns the next message without waiting; `None` as [`recv`](Client::recv).
    ///
    /// # Errors
    /// As [`recv`](Client::recv); [`Empty`](ClientError::Empty) if no message has arrived.
    pub fn try_recv(&self) -> Result<Option<Message>, ClientError> {
        loop {
            match self.events.try_recv() {
                Ok(Event::Open(..)) => {}
                Err(TryRecvError::Empty) => return Err(ClientError::Empty),
                event => return self.message(event.ok()),
            }
        }
    }

    /// Waits for the next message, up to `timeout`; `None` as [`recv`](Client::recv).
    ///
    /// # Errors
    /// As [`recv`](Client::recv); [`Timeout`](ClientError::Timeout) if no message arrived in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message>, ClientError> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.recv_deadline(deadline),
            None => self.recv(),
        }
    }

    /// Waits for the next message, until `deadline`; `None` as [`recv`](Client::recv).
    ///
    /// # Errors
    /// As [`recv_timeout`](Client::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Option<Message>, ClientError> {
        loop {
            match self.events.recv_deadline(deadline) {
                Ok(Event::Open(..)) => {}
                Err(RecvTimeoutError::Timeout) => return Err(ClientError::Timeout),
                event => return self.message(event.ok()),
            }
        }
    }

    /// The messages as they come: what [`recv`](Client::recv) returns, one after the other. It ends after a completed
    /// closing handshake, or after the error that says why there was none.
    ///
    /// ```no_run
    /// # let client = threadbare::Client::connect("ws://127.0.0.1:8080/")?;
    /// for message in &client {
    ///     println!("{}", message?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> ClientIter<'_> {
        ClientIter { client: Some(self) }
    }

    /// The events behind [`recv`](Client::recv): their [`as_channel`](Events::as_channel) can be waited for in a
    /// crossbeam `Select`.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Sends a ping, even if the connection's queue is full.
    ///
    /// # Errors
    /// A payload over 125 bytes, or a connection that is closed or closing.
    pub fn ping(&self, payload: &[u8]) -> Result<(), ControlError> {
        self.peer.ping(payload)
    }

    /// Starts the closing handshake. The close frame follows the messages that were sent before, and the worker
    /// completes the handshake. Then [`recv`](Client::recv) returns `None`, after the messages that were received
    /// before.
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the connection is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        self.peer.close(code, reason)
    }

    /// Closes with 1000 and waits, up to `timeout`, until everything is written, the closing handshake is complete, and
    /// the TCP connection is closed. Discards messages that still arrive.
    ///
    /// # Errors
    /// [`Timeout`](ClientError::Timeout) if the time is over. The worker continues to close the connection, within
    /// [`close_timeout`](crate::Config::close_timeout).
    pub fn finish(&self, timeout: Duration) -> Result<CloseReason, ClientError> {
        let deadline = Instant::now().checked_add(timeout);
        // An error means that the connection is closing already, and its end is awaited all the same.
        let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
        loop {
            let received = match deadline {
                Some(deadline) => self.recv_deadline(deadline),
                None => self.recv(),
            };
            match received {
                Ok(Some(_)) => {}
                Ok(None) | Err(ClientError::Failed(_)) => {
                    // The channel ends when the socket is closed.
                    let ended = match deadline {
                        Some(deadline) => self.events.recv_deadline(deadline).err(),
                        None => self.events.recv().err().map(Into::into),
                    };
                    return match ended {
                        Some(RecvTimeoutError::Timeout) => Err(ClientError::Timeout),
                        _ => Ok(self.reason()),
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Drops the TCP connection without a closing handshake.
    pub fn abort(&self) {
        self.peer.abort();
    }

    /// Whether messages may still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.peer.is_open()
    }

    /// Why the connection ended, once [`recv`](Client::recv) has returned the last message.
    #[must_use]
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.get()
    }

    /// The address of the server, or of the proxy if one is used.
    #[must_use]
    pub fn peer_addr(&self) -> PeerAddr {
        self.peer.addr()
    }

    /// The local address of the connection.
    #[must_use]
    pub fn local_addr(&self) -> PeerAddr {
        self.local_addr.clone()
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.agreed.subprotocol()
    }

    /// The server's response to the opening handshake.
    #[must_use]
    pub fn response(&self) -> &ResponseHead {
        self.agreed.response()
    }

    /// The counts of messages and bytes of the connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.peer.stats()
    }

    /// Converts an event into the result of [`recv`](Client::recv). `None` is the end of the channel.
    fn message(&self, event: Option<Event>) -> Result<Option<Message>, ClientError> {
        match event {
            Some(Event::Message(_, message)) => return Ok(Some(message)),
            // No other thread has set it: a connection has one `Close` event.
            Some(Event::Close(_, reason)) => drop(self.ended.set(reason)),
            _ => {}
        }
        let reason = self.reason();
        if reason.is_clean() { Ok(None) } else { Err(ClientError::Failed(reason)) }
    }

    /// Why the connection ended. Called once it has.
    fn reason(&self) -> CloseReason {
        self.ended
            .get()
            .cloned()
            .unwrap_or_else(|| CloseReason::abnormal("the connection's end went to another receiver", CloseCause::Lost))
    }
}

/// The messages of a [`Client`] as they come; made by [`Client::iter`].
#[derive(Clone, Debug)]
pub struct ClientIter<'a> {
    /// `None` after the end.
    client: Option<&'a Client>,
}

impl Iterator for ClientIter<'_> {
    type Item = Result<Message, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        let received = self.client?.recv();
        if !matches!(received, Ok(Some(_))) {
            self.client = None;
        }
        received.transpose()
    }
}

impl std::iter::FusedIterator for ClientIter<'_> {}

impl<'a> IntoIterator for &'a Client {
    type Item = Result<Message, ClientError>;
    type IntoIter = ClientIter<'a>;

    fn into_iter(self) -> ClientIter<'a> {
        self.iter()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // An error means that it is closed already.
        let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
    }
}
