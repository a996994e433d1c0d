//! Servers: a reactor, workers, and the ways for events to reach the application.

mod bridge;
mod builder;
mod control;
mod drain;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod hand_over;
#[cfg(not(all(target_os = "linux", feature = "handover")))]
#[path = "hand_over_disabled.rs"]
mod hand_over;
mod inline;
mod listener;
mod reactor;
mod start;
mod stats;
mod threads;
mod topics;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use builder::ServerBuilder;
pub use control::{ServerHandle, ShutdownReport};
pub use drain::Drain;
#[cfg(all(fuzzing, target_os = "linux", feature = "handover"))]
pub(crate) use hand_over::parse as parse_hand_over;
pub use inline::EventLoop;
pub use listener::{Listener, Listeners};
pub use reactor::metrics::HandshakeStats;
pub use reactor::pending::Pending;
pub use reactor::pending_response::PendingResponse;
pub use stats::ServerStats;

use crate::error::{BuildError, RecvError, RecvTimeoutError, TryRecvError};
use crate::protocol::PeerAddr;
use crate::worker::channel::event::Event;
use crate::worker::receiver::events::{Events, Iter};

/// A running WebSocket server.
///
/// Made with [`bind`](Server::bind), its events are received here, or by the application's threads from
/// [`take_events`](Server::take_events); made with [`ServerBuilder::serve`], a handler on each worker's thread gets
/// them, and there are none to receive.
///
/// Dropping it shuts it down: what was sent is written, and connections have
/// [`drop_timeout`](crate::Config::drop_timeout), 5 s by default, to close. Dropped in one of its own callbacks, it does not
/// wait for that. [`shutdown`](Server::shutdown) does the same and reports how it ended.
///
/// ```
/// use threadbare::{Client, Event, Message, Server};
///
/// let server = Server::bind("127.0.0.1:0")?; // a port that the system chooses
/// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
/// client.send("hello")?;
/// for event in server.iter().take(2) {
///     if let Event::Message(peer, message) = event {
///         peer.send(message)?;
///     }
/// }
/// assert_eq!(client.recv()?, Some(Message::from("hello")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    pub(super) events: Vec<Events>,
    pub(super) handle: ServerHandle,
}

impl Server {
    /// Starts a server with default settings whose events are received through a channel. It listens on an address, or on
    /// whatever else converts into a [`Listener`], or on several of them.
    ///
    /// # Errors
    /// An address can not be resolved, or a listener not be opened.
    ///
    /// ```no_run
    /// use threadbare::{Event, Server};
    ///
    /// let server = Server::bind("127.0.0.1:8080")?;
    /// for event in &server {
    ///     if let Event::Message(peer, message) = event {
    ///         let _ = peer.send(message); // the peer may be gone
    ///     }
    /// }
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn bind(listeners: impl Into<Listeners>) -> Result<Server, BuildError> {
        Server::builder().bind(listeners)
    }

    /// Makes a server with other settings.
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let server = Server::builder().workers(2).bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// The first IP address that the server listens on; with the port that the system chose, if 0 was asked for.
    /// `0.0.0.0:0` if it has Unix sockets only; see [`local_addrs`](Server::local_addrs).
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// println!("listening on {}", server.local_addr());
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// The addresses that the server listens on, in the order in which they were given: with the ports that the system
    /// chose, and the paths of Unix sockets.
    ///
    /// ```
    /// use threadbare::{Listener, Server};
    ///
    /// let server = Server::builder().bind(["127.0.0.1:0", "localhost:0"].map(Listener::from))?;
    /// for addr in server.local_addrs() {
    ///     println!("listening on {addr}");
    /// }
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn local_addrs(&self) -> &[PeerAddr] {
        self.handle.local_addrs()
    }

    /// A handle that controls the server from any thread.
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let everyone = server.handle();
    /// std::thread::spawn(move || everyone.broadcast("tick"));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// The receiver of events; the first, if there are several. `None` if the server has handlers, or if the receivers
    /// were taken.
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let mut server = Server::bind("127.0.0.1:0")?;
    /// assert!(server.events().is_some());
    /// let events = server.take_events();
    /// assert!(server.events().is_none());
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> Option<&Events> {
        self.events.first()
    }

    /// Takes the receivers, one for each of [`channels(n)`](ServerBuilder::channels), to give to as many threads.
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let mut server = Server::builder().channels(2).bind("127.0.0.1:0")?;
    /// for events in server.take_events() {
    ///     std::thread::spawn(move || {
    ///         for event in &events {
    ///             println!("{event:?}");
    ///         }
    ///     });
    /// }
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn take_events(&mut self) -> Vec<Events> {
        std::mem::take(&mut self.events)
    }

    /// Waits for the next event.
    ///
    /// ```
    /// use threadbare::{Client, Event, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// assert!(matches!(server.recv()?, Event::Open(..)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// There will be none: the server has shut down and every event was received, or it has handlers.
    #[doc(alias = "read")]
    pub fn recv(&self) -> Result<Event, RecvError> {
        self.events.first().ok_or(RecvError)?.recv()
    }

    /// Returns the next event if there is one, without waiting.
    ///
    /// ```
    /// use threadbare::{Server, TryRecvError};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.try_recv().err(), Some(TryRecvError::Empty));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// There is no event now, or there will be none any more.
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.events.first().ok_or(TryRecvError::Disconnected)?.try_recv()
    }

    /// Waits for the next event, up to `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{RecvTimeoutError, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.recv_timeout(Duration::from_millis(1)).err(), Some(RecvTimeoutError::Timeout));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// The time is over, or there will be no event any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.events.first().ok_or(RecvTimeoutError::Disconnected)?.recv_timeout(timeout)
    }

    /// Waits for the next event, until `deadline`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::Server;
    ///
    /// /// Handles events for a second.
    /// fn run(server: &Server) {
    ///     let deadline = Instant::now() + Duration::from_secs(1);
    ///     while let Ok(event) = server.recv_deadline(deadline) {
    ///         println!("{event:?}");
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The time is over, or there will be no event any more.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Event, RecvTimeoutError> {
        self.events.first().ok_or(RecvTimeoutError::Disconnected)?.recv_deadline(deadline)
    }

    /// Returns an iterator over the events, which waits for each and ends when the server has shut down.
    ///
    /// ```
    /// use threadbare::{Client, Event, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let first = server.iter().find(|event| matches!(event, Event::Open(..)));
    /// assert!(first.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { events: self.events.first(), batch: None }
    }

    /// Shuts the server down; see [`ServerHandle::shutdown`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Server;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// println!("{}", server.shutdown(Duration::from_secs(5)));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.handle.shutdown(timeout)
    }

    /// Waits until the server has shut down, which a [`handle`](Server::handle) makes it do.
    ///
    /// ```no_run
    /// use threadbare::{MessageRef, Server, Socket};
    ///
    /// let server = Server::builder().serve("127.0.0.1:8080", |_request| {
    ///     |socket: &mut Socket<'_>, message: MessageRef<'_>| drop(socket.send(message)) // `false` if it is closing
    /// })?;
    /// server.join();
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn join(&self) {
        self.handle.join();
    }
}

impl<'a> IntoIterator for &'a Server {
    type Item = Event;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody receives these events, so that connections need not wait for room.
        self.events.clear();
        self.handle.shutdown(self.handle.control.drop_timeout);
    }
}
