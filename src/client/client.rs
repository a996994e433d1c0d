//! A client whose socket lives on a worker, as a server's does.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::client::builder::ClientBuilder;
use crate::client::error::{ConnectError, ReceiveError};
use crate::client::pool::Pool;
use crate::error::{ControlError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use crate::protocol::close::{CloseCause, CloseCode, CloseReason};
use crate::protocol::deflate::Compression;
use crate::protocol::handshake::client::Agreed;
use crate::protocol::http::ResponseHead;
use crate::protocol::message::{CowMessage, Message};
use crate::worker::channel::event::Event;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::stats::Stats;
use crate::worker::receiver::events::Events;

/// A WebSocket client: blocking, full duplex, and usable from several threads at once.
///
/// Its socket lives on a worker thread, which answers pings, keeps the timeouts and completes closes whatever the
/// application does; several clients can share one in a [`ClientPool`]. Dropping it closes the connection with 1000.
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
    /// The worker goes on while any of its clients is there.
    pub(super) _pool: Arc<Pool>,
}

impl Client {
    /// Connects with default settings.
    ///
    /// # Errors
    /// The URL is wrong, the server can not be reached in time, or it refuses; the error says which.
    pub fn connect(url: &str) -> Result<Client, ConnectError> {
        Client::builder().connect(url)
    }

    /// Makes a client with other settings.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Sends a message, waiting while the connection's output stands above its mark; see [`Peer::send`].
    ///
    /// # Errors
    /// The message comes back if the connection is closed or closing, or if it is a control frame that may not be sent.
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
    /// The message comes back.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        self.peer.try_send(message)
    }

    /// Sends a message, waiting up to `timeout` for room; see [`Peer::send_timeout`].
    ///
    /// # Errors
    /// The message comes back.
    pub fn send_timeout<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.peer.send_timeout(message, timeout)
    }

    /// Sends a message, waiting until `deadline` for room; see [`Peer::send_timeout`].
    ///
    /// # Errors
    /// The message comes back.
    pub fn send_deadline<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.peer.send_timeout(message, deadline.saturating_duration_since(Instant::now()))
    }

    /// A handle that other threads can keep and send through, longer than the client if need be.
    #[must_use]
    pub fn sender(&self) -> Peer {
        self.peer.clone()
    }

    /// Waits for the next message. Several threads may wait; each message goes to one of them.
    ///
    /// # Errors
    /// The connection has ended and every message was received: why it ended.
    #[doc(alias = "read")]
    pub fn recv(&self) -> Result<Message, CloseReason> {
        loop {
            if let Some(message) = self.sort(self.events.recv().ok())? {
                return Ok(message);
            }
        }
    }

    /// The next message, if there is one now.
    ///
    /// # Errors
    /// There is none now, or the connection has ended.
    pub fn try_recv(&self) -> Result<Message, ReceiveError> {
        loop {
            let event = match self.events.try_recv() {
                Err(TryRecvError::Empty) => return Err(ReceiveError::Empty),
                other => other.ok(),
            };
            if let Some(message) = self.sort(event)? {
                return Ok(message);
            }
        }
    }

    /// Waits for the next message, up to `timeout`.
    ///
    /// # Errors
    /// The time is over, or the connection has ended.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, ReceiveError> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.recv_deadline(deadline),
            None => Ok(self.recv()?),
        }
    }

    /// Waits for the next message, until `deadline`.
    ///
    /// # Errors
    /// The time is over, or the connection has ended.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Message, ReceiveError> {
        loop {
            let event = match self.events.recv_deadline(deadline) {
                Err(RecvTimeoutError::Timeout) => return Err(ReceiveError::Timeout),
                other => other.ok(),
            };
            if let Some(message) = self.sort(event)? {
                return Ok(message);
            }
        }
    }

    /// The messages as they come, until the connection ends.
    pub fn iter(&self) -> impl Iterator<Item = Message> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The events behind [`recv`](Client::recv): their [`as_channel`](Events::as_channel) can be waited for in a
    /// crossbeam `Select`.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Sends a ping, whatever is queued.
    ///
    /// # Errors
    /// A payload over 125 bytes, or a connection that is closed or closing.
    pub fn ping(&self, payload: &[u8]) -> Result<(), ControlError> {
        self.peer.ping(payload)
    }

    /// Starts the closing handshake, behind what was sent before; the worker completes it. When it is,
    /// [`recv`](Client::recv) says so, after the messages that were received before.
    ///
    /// # Errors
    /// A code that may not be sent, a reason of more than 123 bytes, or a connection that is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        self.peer.close(code, reason)
    }

    /// Closes with 1000 and waits, up to `timeout`, until what was sent is out, the closing handshake is complete, and TCP
    /// is closed. Messages that still arrive are thrown away.
    ///
    /// # Errors
    /// The time is over: the worker goes on closing, within [`close_timeout`](crate::Config::close_timeout).
    pub fn finish(&self, timeout: Duration) -> Result<CloseReason, ReceiveError> {
        let deadline = Instant::now().checked_add(timeout);
        // Whoever has closed it already waits for the same end.
        let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
        loop {
            let received = match deadline {
                Some(deadline) => self.recv_deadline(deadline),
                None => self.recv().map_err(ReceiveError::Closed),
            };
            match received {
                Ok(_) => {}
                Err(ReceiveError::Closed(reason)) => {
                    // The end of the channel is that of the socket.
                    let ended = match deadline {
                        Some(deadline) => self.events.recv_deadline(deadline).err(),
                        None => self.events.recv().err().map(Into::into),
                    };
                    return match ended {
                        Some(RecvTimeoutError::Timeout) => Err(ReceiveError::Timeout),
                        _ => Ok(reason),
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

    /// Why the connection ended, once [`recv`](Client::recv) has come to its end.
    #[must_use]
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.get()
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.agreed.subprotocol()
    }

    /// The server's answer to the handshake.
    #[must_use]
    pub fn response(&self) -> &ResponseHead {
        self.agreed.response()
    }

    /// What has gone through the connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.peer.stats()
    }

    /// The message of an event; `None` for an event that is none, an error at the end.
    fn sort(&self, event: Option<Event>) -> Result<Option<Message>, CloseReason> {
        match event {
            Some(Event::Message(_, message)) => Ok(Some(message)),
            Some(Event::Open(..)) => Ok(None),
            Some(Event::Close(_, reason)) => {
                // Another thread can not have set it: there is one such event.
                let _ = self.ended.set(reason.clone());
                Err(reason)
            }
            None => Err(self.ended.get().cloned().unwrap_or_else(|| {
                CloseReason::abnormal("the connection's end went to another receiver", CloseCause::Lost)
            })),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Closed already, it needs no more.
        let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
    }
}
