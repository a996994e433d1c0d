//! Clients that the application's own thread runs.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::Sender;

use crate::client::builder::ClientBuilder;
use crate::client::error::ConnectError;
use crate::config::Config;
use crate::error::BuildError;
use crate::protocol::Role;
use crate::transport::budget::MemoryBudget;
use crate::transport::cancel::CancelToken;
use crate::transport::clock::deadline_after;
use crate::worker::channel::event::EventRef;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::worker::{NewApp, Worker, WorkerParts};
use crate::worker::handle::peer::Peer;
use crate::worker::receiver::inline::{InlineDelivery, InlineSlot, InlineWorker};

/// Clients without a thread of their own: the thread that polls the loop reads, writes and keeps the deadlines. The
/// counterpart of a server's [`EventLoop`](crate::EventLoop), whose page says more about the events, about sending,
/// about panics in the closure, and about the descriptor.
///
/// [`ClientBuilder::connect_inline`] connects, and returns a [`Peer`] to send through. What the client receives goes to the
/// closure of [`poll`](ClientLoop::poll) or [`run`](ClientLoop::run). There is no [`Client`](crate::Client), because
/// its `recv` would wait for the thread that calls it.
///
/// ```no_run
/// use threadbare::{Client, ClientLoop, CloseCode, Config, EventRef};
///
/// let mut client_loop = ClientLoop::new(Config::default())?;
/// let client = Client::builder().connect_inline("ws://127.0.0.1:8080/chat", &mut client_loop)?;
/// client.send("hello")?;
/// client_loop.run(|event| {
///     if let EventRef::Message(peer, message) = event {
///         println!("{:?}", message.as_message());
///         let _ = peer.close(CloseCode::NORMAL_CLOSURE, ""); // it may be closed already
///     }
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ClientLoop {
    worker: InlineWorker<false>,
    to_worker: Sender<NewConnection<NewApp<InlineDelivery<false>>>>,
    config: Arc<Config>,
}

impl ClientLoop {
    /// Makes a loop without a connection. `config` has the limits and timeouts of its clients.
    ///
    /// ```
    /// use threadbare::{ClientLoop, Config};
    ///
    /// let client_loop = ClientLoop::new(Config::default())?;
    /// assert_eq!(client_loop.connections(), 0);
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// A setting is invalid, or the system provides no further poll.
    pub fn new(config: Config) -> Result<ClientLoop, BuildError> {
        config.check()?;
        let config = Arc::new(config);
        let parts = WorkerParts::new(Role::Client, Arc::new(MemoryBudget::new(config.memory_limit())))
            .map_err(BuildError::io("no poll"))?;
        let siblings = [parts.inbox.clone()].into();
        let (to_worker, new_connections) = crossbeam_channel::unbounded();
        let delivery = InlineDelivery::new(&config);
        let limit = Arc::new(ConnectionLimit::new(usize::MAX, None));
        let worker = Worker::new(parts, 0, siblings, config.clone(), delivery, new_connections, limit);
        Ok(ClientLoop { worker: InlineWorker::new(worker), to_worker, config })
    }

    /// Waits until something happens, at most for `timeout`, and calls `on_event` with each event, in order. Returns
    /// the number of events. As [`EventLoop::poll`](crate::EventLoop::poll).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{Client, ClientLoop, Config, EventRef, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let mut client_loop = ClientLoop::new(Config::default())?;
    /// let client = Client::builder().connect_inline(&format!("ws://{}", server.local_addr()), &mut client_loop)?;
    /// let mut is_open = false;
    /// while !is_open {
    ///     client_loop.poll(Duration::from_millis(16), |event| is_open |= matches!(event, EventRef::Open(..)))?;
    ///     // What the program does in each of its own rounds goes here.
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The system's poll failed. A signal is no error.
    pub fn poll(
        &mut self,
        timeout: impl Into<Option<Duration>>,
        on_event: impl FnMut(EventRef<'_>),
    ) -> io::Result<usize> {
        self.worker.poll(timeout.into(), on_event)
    }

    /// Polls until there is no connection, and calls `on_event` with each event. To stop it, close the connections,
    /// from `on_event` or from another thread.
    ///
    /// ```
    /// use threadbare::{Client, ClientLoop, CloseCode, Config, MessageRef, Server, Socket};
    ///
    /// let server = Server::builder().workers(1).serve("127.0.0.1:0", |_request| {
    ///     |socket: &mut Socket<'_>, _: MessageRef<'_>| drop(socket.close(CloseCode::NORMAL_CLOSURE, ""))
    /// })?;
    /// let mut client_loop = ClientLoop::new(Config::default())?;
    /// let client = Client::builder().connect_inline(&format!("ws://{}", server.local_addr()), &mut client_loop)?;
    /// client.send("hello")?;
    /// client_loop.run(|event| println!("{event:?}"))?; // it returns once the server has closed the connection
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The system's poll failed.
    pub fn run(&mut self, mut on_event: impl FnMut(EventRef<'_>)) -> io::Result<()> {
        while self.connections() > 0 || self.worker.has_events() {
            self.poll(None, &mut on_event)?;
        }
        Ok(())
    }

    /// Returns the number of connections. One that has ended counts until its socket is closed.
    ///
    /// ```
    /// use threadbare::{Client, ClientLoop, Config, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let mut client_loop = ClientLoop::new(Config::default())?;
    /// let client = Client::builder().connect_inline(&format!("ws://{}", server.local_addr()), &mut client_loop)?;
    /// client_loop.poll(None, |event| println!("{event:?}"))?;
    /// assert_eq!(client_loop.connections(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn connections(&self) -> usize {
        self.worker.connections()
    }

    /// Returns when [`poll`](ClientLoop::poll) should be called although the descriptor is not readable, on systems
    /// other than Linux; a time in the past means now. `None` while nothing is due.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::ClientLoop;
    ///
    /// /// How long the program's own poll may wait.
    /// fn wait(client_loop: &ClientLoop) -> Option<Duration> {
    ///     client_loop.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    /// }
    /// ```
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.worker.next_deadline()
    }
}

impl ClientBuilder {
    /// Connects to a URL as [`connect`](ClientBuilder::connect) does. The calling thread waits until the opening
    /// handshake is complete, and the loop's other connections are not served meanwhile. Then the loop takes the
    /// connection over. Its first event is [`Open`](EventRef::Open), with the request that was sent.
    ///
    /// The limits and timeouts are those of the loop; [`config`](ClientBuilder::config) and
    /// [`pool`](ClientBuilder::pool) have no meaning here.
    ///
    /// ```
    /// use threadbare::{Client, ClientLoop, Config, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let mut client_loop = ClientLoop::new(Config::default())?;
    /// let peer = Client::builder().connect_inline(&format!("ws://{}", server.local_addr()), &mut client_loop)?;
    /// peer.send("hello")?; // it leaves when the loop is polled
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`connect`](ClientBuilder::connect).
    pub fn connect_inline(&self, url: &str, client_loop: &mut ClientLoop) -> Result<Peer, ConnectError> {
        let established = self.establish(self.request(url)?, &client_loop.config, &CancelToken::default())?;
        let (new_connection, _) = established.into_new_connection(|request| (InlineSlot::default(), request));
        // The loop has the other end.
        let _ = client_loop.to_worker.send(new_connection);
        client_loop
            .worker
            .register_new()
            .ok_or_else(|| ConnectError::io("the connection could not be kept")(io::ErrorKind::Other.into()))
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for ClientLoop {
    /// The descriptor of the system's poll, `epoll` or `kqueue`. From the first call on, the loop keeps it readable
    /// while there is something to do.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.worker.fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for ClientLoop {
    /// As [`as_fd`](std::os::fd::AsFd::as_fd).
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.worker.fd())
    }
}

impl fmt::Debug for ClientLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientLoop").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl Drop for ClientLoop {
    /// Closes the connections with 1001, and takes up to [`drop_timeout`](Config::drop_timeout) for that.
    fn drop(&mut self) {
        self.worker.shut_down(deadline_after(Instant::now(), self.config.drop_timeout));
    }
}
