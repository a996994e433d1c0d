//! A client whose connection a worker serves, as it does for a server.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::client::builder::ClientBuilder;
use crate::client::ending::Ending;
use crate::client::error::{ClientError, ConnectError};
use crate::client::gather::Gather;
use crate::client::pool::Pool;
use crate::error::{ControlError, RecvTimeoutError};
use crate::protocol::PeerAddr;
use crate::protocol::close::{CloseCause, CloseCode, CloseReason};
use crate::protocol::handshake::client::Agreed;
use crate::protocol::http::ResponseHead;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::stats::Stats;
use crate::worker::handle::traffic::TrafficStats;
use crate::worker::receiver::events::Events;

/// A WebSocket client: blocking, full duplex, and usable from several threads at once.
///
/// A worker thread serves the connection. It answers pings, enforces the timeouts and completes closing handshakes,
/// whatever the application does. Several clients can share worker threads in a [`ClientPool`](crate::ClientPool).
///
/// Dropping a client closes its connection with 1000, and waits for up to [`drop_timeout`](crate::Config::drop_timeout),
/// 5 s by default, until what was sent is written and the closing handshake is complete. So a program that sends and
/// returns from `main` loses nothing. [`finish`](Client::finish) does the same and reports how it ended.
/// [`std::process::exit`] drops nothing: call `finish` before it.
///
/// ```no_run
/// use std::time::Duration;
/// use threadbare::Client;
///
/// let client = Client::connect("ws://127.0.0.1:8080/chat")?;
/// client.send("hello")?;
/// let reply = client.recv_timeout(Duration::from_secs(5))?;
/// let ended = client.finish(Duration::from_secs(5))?;
/// assert!(ended.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    pub(super) peer: Peer,
    pub(super) events: Events,
    pub(super) gather: Gather,
    pub(super) ended: OnceLock<CloseReason>,
    pub(super) agreed: Agreed,
    pub(super) local_addr: PeerAddr,
    /// The last field: dropped when the receiver is, so that messages that still arrive do not hold up the end.
    pub(super) _end: AwaitedEnd,
}

/// Waits for the end of the connection when it is dropped. Keeps the worker threads running until then.
#[derive(Debug)]
pub(super) struct AwaitedEnd {
    pub(super) ending: Ending,
    pub(super) pool: Arc<Pool>,
}

impl Drop for AwaitedEnd {
    fn drop(&mut self) {
        self.pool.wait_for(&self.ending);
    }
}

impl Client {
    /// Connects with default settings.
    ///
    /// ```
    /// use threadbare::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}/chat", server.local_addr()))?;
    /// client.send("hello")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The URL is invalid, the server can not be reached in time, or it refuses the handshake.
    pub fn connect(url: &str) -> Result<Client, ConnectError> {
        Client::builder().connect(url)
    }

    /// Returns a builder, for a client with other settings.
    ///
    /// ```no_run
    /// use threadbare::Client;
    ///
    /// let client = Client::builder().header("X-Room", "7").connect("ws://127.0.0.1:8080/chat")?;
    /// # Ok::<(), threadbare::ConnectError>(())
    /// ```
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// A handle that other threads can keep and send through. It may outlive the client.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let peer = client.peer();
    /// let thread = std::thread::spawn(move || peer.send("from another thread"));
    /// # thread.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// The events behind [`recv`](Client::recv): their [`as_channel`](Events::as_channel) can be waited for in a
    /// crossbeam `Select`.
    ///
    /// ```no_run
    /// # let (_keep, ticks) = crossbeam_channel::unbounded::<()>();
    /// use threadbare::{Client, Event};
    ///
    /// let client = Client::connect("ws://127.0.0.1:8080/")?;
    /// crossbeam_channel::select! {
    ///     recv(client.events().as_channel()) -> batch => for event in batch? {
    ///         if let Event::Message(_, message) = event {
    ///             println!("{message}");
    ///         }
    ///     },
    ///     recv(ticks) -> _ => println!("tick"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Sends a ping, even if the connection's queue is full.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.ping(b"still there?")?; // `Client::stats` has the round trip once the answer has arrived
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// ```
    /// use threadbare::CloseCode;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.close(CloseCode::NORMAL_CLOSURE, "done")?;
    /// while let Some(message) = client.recv()? {
    ///     println!("{message}"); // what the server sent before
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the connection is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        self.peer.close(code, reason)
    }

    /// Closes with 1000 and waits, up to `timeout`, until everything is written, the closing handshake is complete, and
    /// the TCP connection is closed. Discards messages that still arrive.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send("goodbye")?;
    /// let reason = client.finish(Duration::from_secs(5))?; // the server has it
    /// assert!(reason.is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Timeout`](ClientError::Timeout) if the time is over. The worker continues to close the connection, within
    /// [`close_timeout`](crate::Config::close_timeout).
    pub fn finish(&self, timeout: Duration) -> Result<CloseReason, ClientError> {
        let deadline = Instant::now().checked_add(timeout);
        // An error means that the connection is closing already, and its end is awaited all the same.
        let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
        loop {
            match self.receive_until(deadline) {
                Ok(Some(_)) => {}
                Ok(None) | Err(ClientError::Failed(_)) => {
                    // The channel ends when the socket is closed.
                    return loop {
                        match self.events.wait(deadline) {
                            // The rest of a message that was too large.
                            Ok(_) => {}
                            Err(RecvTimeoutError::Timeout) => break Err(ClientError::Timeout),
                            Err(RecvTimeoutError::Disconnected) => break Ok(self.reason()),
                        }
                    };
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Drops the TCP connection without a closing handshake.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.abort();
    /// assert!(client.recv().is_err()); // there was no closing handshake
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn abort(&self) {
        self.peer.abort();
    }

    /// Whether messages may still be sent.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// assert!(client.is_open());
    /// client.finish(std::time::Duration::from_secs(5))?;
    /// assert!(!client.is_open());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.peer.is_open()
    }

    /// Why the connection ended, once [`recv`](Client::recv) has returned the last message.
    ///
    /// ```
    /// use threadbare::CloseCode;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.close(CloseCode::NORMAL_CLOSURE, "")?;
    /// assert_eq!(client.recv()?, None);
    /// assert!(client.close_reason().is_some_and(|reason| reason.code == CloseCode::NORMAL_CLOSURE));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.get()
    }

    /// The address of the server, or of the proxy if one is used.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::builder().no_proxy().connect(&format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.peer_addr(), server.local_addr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peer_addr(&self) -> PeerAddr {
        self.peer.addr()
    }

    /// The local address of the connection.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::builder().no_proxy().connect(&format!("ws://{}", server.local_addr()))?;
    /// println!("connected from {}", client.local_addr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn local_addr(&self) -> PeerAddr {
        self.local_addr.clone()
    }

    /// The subprotocol that the server chose.
    ///
    /// ```
    /// use threadbare::{Client, Server};
    ///
    /// let server = Server::builder().subprotocols(["chat.v1"]).bind("127.0.0.1:0")?;
    /// let url = format!("ws://{}", server.local_addr());
    /// let client = Client::builder().subprotocols(["chat.v2", "chat.v1"]).connect(&url)?;
    /// assert_eq!(client.subprotocol(), Some("chat.v1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.agreed.subprotocol()
    }

    /// The server's response to the opening handshake.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.response().status(), 101);
    /// println!("{:?}", client.response().header("Set-Cookie"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn response(&self) -> &ResponseHead {
        self.agreed.response()
    }

    /// The counts of messages and bytes of the connection.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let stats = client.stats();
    /// println!("{} messages received, round trip {:?}", stats.messages_received, stats.round_trip);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.peer.stats()
    }

    /// What the thread that serves this client did: messages, bytes, the close code, and how long round trips, iterations of the
    /// event loop and waits for the socket took, with a text for monitors. Of a client in a [`ClientPool`](crate::ClientPool) it is
    /// what all clients of the pool did.
    ///
    /// ```
    /// use threadbare::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let traffic = client.traffic();
    /// assert_eq!((traffic.opened, traffic.closed_in_all()), (1, 0));
    /// println!("{}", traffic.openmetrics("feed"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn traffic(&self) -> TrafficStats {
        self._end.pool.traffic()
    }

    /// Why the connection ended. Called once it has.
    pub(super) fn reason(&self) -> CloseReason {
        self.ended.get().cloned().unwrap_or_else(end_went_elsewhere)
    }
}

/// What is known of a connection whose `Close` event the application took from [`Client::events`].
pub(super) fn end_went_elsewhere() -> CloseReason {
    CloseReason::abnormal("the connection's end went to another receiver", CloseCause::Lost)
}

impl Drop for Client {
    fn drop(&mut self) {
        // An error means that it is closed already.
        let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
    }
}
