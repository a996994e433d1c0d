//! A handle to a running server that any thread may hold.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::bridge::Bridge;
use crate::protocol::PeerAddr;
use crate::protocol::message::CowMessage;
use crate::server::reactor::command::{ReactorCommand, ReactorHandle};
use crate::server::reactor::metrics::HandshakeMetrics;
use crate::server::threads::ThreadSet;
use crate::transport::budget::MemoryBudget;
use crate::transport::clock::deadline_after;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::event_loop::worker::CloseCounts;
use crate::worker::handle::draining::DrainReport;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::publisher::Publisher;
use crate::worker::handle::topic_events::TopicObserver;
use crate::worker::handle::worker_handle::WorkerHandle;
use crate::worker::thread::may_block;

/// How a server ended.
///
/// ```
/// use std::time::Duration;
/// use threadbare::{Server, ShutdownReport};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let ShutdownReport { clean, forced, .. } = server.shutdown(Duration::from_secs(5));
/// assert_eq!((clean, forced), (0, 0)); // there were no connections
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections whose closing handshake was completed.
    pub clean: usize,
    /// Connections that ended without one: lost, or reset at the deadline.
    pub forced: usize,
    /// Threads that failed before, by a fault of the library. Their connections were closed with 1011.
    pub failed: usize,
    /// How the connections ended if the server was [drained](ServerHandle::drain), from then on.
    pub drained: Option<DrainReport>,
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections closed cleanly, {} by force", self.clean, self.forced)?;
        if self.failed > 0 { write!(f, "; {} threads had failed", self.failed) } else { Ok(()) }
    }
}

impl From<CloseCounts> for ShutdownReport {
    fn from(CloseCounts { clean, forced, failed, drained }: CloseCounts) -> ShutdownReport {
        let drained = drained.map(|report| DrainReport { failed, ..report });
        ShutdownReport { clean, forced, failed, drained }
    }
}

/// Controls a server from any thread; cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use threadbare::Server;
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let handle = server.handle();
/// let thread = std::thread::spawn(move || {
///     handle.broadcast("the server stops");
///     handle.shutdown(Duration::from_secs(5))
/// });
/// server.join();
/// # thread.join().unwrap();
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    pub(super) control: Arc<Control>,
}

pub(super) struct Control {
    /// In the order in which they were given.
    pub(super) addrs: Vec<PeerAddr>,
    pub(super) reactor: ReactorHandle,
    pub(super) publisher: Publisher,
    pub(super) topics: Arc<TopicObserver>,
    pub(super) bridge: Option<Arc<dyn Bridge>>,
    pub(super) connection_limit: Arc<ConnectionLimit>,
    pub(super) budget: Arc<MemoryBudget>,
    pub(super) handshakes: Arc<HandshakeMetrics>,
    /// How long connections have to close when the server is dropped.
    pub(super) drop_timeout: Duration,
    /// How long a peer has to answer a close frame.
    pub(super) close_timeout: Duration,
    pub(super) threads: Arc<ThreadSet>,
    /// The worker that the application's thread runs, if it does.
    pub(super) inline: OnceLock<Arc<WorkerHandle>>,
}

impl Control {
    /// Whether the calling thread may wait for the server's end without a bound. Two servers whose callbacks wait for
    /// each other would never end.
    fn may_block(&self) -> bool {
        self.inline.get().map_or_else(may_block, |worker| worker.may_block())
    }

    /// Stops the server if every worker has failed.
    pub(super) fn worker_failed(&self) {
        if self.publisher.inboxes().iter().all(|inbox| inbox.is_retired()) {
            self.reactor.send(ReactorCommand::Stop(Instant::now()));
        }
    }

    /// Whether the calling thread may wait for the server's end up to a deadline: it is none of the server's own.
    pub(super) fn may_wait(&self) -> bool {
        !self.threads.runs_here() && !self.inline.get().is_some_and(|worker| worker.runs_here())
    }
}

/// A shutdown may take a second longer than its deadline, at which the threads are told to end. Larger holds the caller up for
/// longer if a callback blocks one of them; smaller says so of a thread that a busy machine has not run yet.
const SLACK: Duration = Duration::from_secs(1);

impl ServerHandle {
    /// The first IP address that the server listens on, as [`Server::local_addr`](crate::Server::local_addr).
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// assert_ne!(server.handle().local_addr().port(), 0); // the system has chosen one
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        let first = self.local_addrs().iter().find_map(PeerAddr::as_socket_addr);
        first.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// The addresses that the server listens on, as [`Server::local_addrs`](crate::Server::local_addrs).
    ///
    /// ```
    /// use threadbare::{PeerAddr, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle().local_addrs(), [PeerAddr::from(server.local_addr())]);
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn local_addrs(&self) -> &[PeerAddr] {
        &self.control.addrs
    }

    /// Returns the number of connections, handshakes included.
    ///
    /// ```
    /// use threadbare::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle().connections(), 0);
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(server.handle().connections(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.connection_limit.count()
    }

    /// Returns the bytes of memory that the server takes for its connections, as
    /// [`Config::max_memory`](crate::Config::max_memory) counts them: 0 a second after all have ended, when the buffers that
    /// were kept are freed. The events that an application receives count until it asks for the next.
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle().memory(), 0); // there are no connections
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn memory(&self) -> usize {
        self.control.budget.used()
    }

    /// Returns how many threads of the server have failed, by a fault of the library; each failure is logged. Nothing
    /// that the application does makes a thread fail. The connections of a worker that failed were closed with 1011, and
    /// the other workers get the new ones. A server whose last worker or whose reactor failed shuts down.
    ///
    /// ```no_run
    /// let server = threadbare::Server::bind("127.0.0.1:8080")?;
    /// let is_healthy = server.handle().failed_threads() == 0;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn failed_threads(&self) -> usize {
        self.control.threads.lock().ended.failed
    }

    /// Sends a message to every connection. It is encoded once, and each worker is sent one command. The call never
    /// waits: if a connection's queue is full, its [`SlowConsumer`](crate::SlowConsumer) policy decides whether the
    /// connection is skipped or closed. A close is sent to every connection. A control frame that may not be
    /// sent, such as a ping of more than 125 bytes, is sent to none.
    ///
    /// ```
    /// use threadbare::{Client, Message, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// server.recv()?; // the connection is established
    /// server.handle().broadcast("the meeting begins");
    /// assert_eq!(client.recv()?, Some(Message::from("the meeting begins")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn broadcast<'m>(&self, message: impl Into<CowMessage<'m>>) {
        self.broadcast_prepared(&Prepared::new(message));
    }

    /// Sends a message that was encoded before to every connection, as [`broadcast`](ServerHandle::broadcast) does.
    ///
    /// ```
    /// use threadbare::{Prepared, ServerHandle};
    ///
    /// fn announce(servers: &[ServerHandle]) {
    ///     let message = Prepared::new("the meeting begins");
    ///     for server in servers {
    ///         server.broadcast_prepared(&message);
    ///     }
    /// }
    /// ```
    pub fn broadcast_prepared(&self, prepared: &Prepared) {
        self.control.publisher.broadcast(prepared);
    }

    /// Closes the listeners: the server accepts no more connections, and those that it has go on, opening handshakes
    /// included. Before that it accepts the connections that wait. What waits at a listener that was made elsewhere is
    /// left to the other processes that have it. Calling it again has no effect.
    ///
    /// It waits until that is done, for [`drop_timeout`](crate::Config::drop_timeout) at most: then
    /// [`connections`](ServerHandle::connections) counts every connection that there will be. In a callback of the server, and
    /// on the thread that runs an [`EventLoop`](crate::EventLoop), it does not wait.
    /// A connection that stays open behind a plain HTTP response is closed, or closes behind its next one.
    ///
    /// This is for a restart without a gap: a new process takes over the listener, and the old one ends when its clients
    /// have left.
    ///
    /// ```
    /// use threadbare::{Client, Message, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// server.recv()?; // the connection is established
    /// server.handle().stop_accepting();
    /// server.handle().broadcast("the old server goes on");
    /// assert_eq!(client.recv()?, Some(Message::from("the old server goes on")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_accepting(&self) {
        let (done, closed) = crossbeam_channel::bounded(0);
        // A server that has shut down listens no more.
        if self.control.reactor.send(ReactorCommand::CloseListeners(done)) && self.control.may_wait() {
            // Nothing is sent: the end of the channel says that it is done.
            if closed.recv_timeout(self.control.drop_timeout) == Err(RecvTimeoutError::Timeout) {
                log::warn!("the listeners are not closed yet: a hook blocks, or the event loop is not polled");
            }
        }
    }

    /// Stops the server. It accepts no more connections, answers handshakes that are under way with 503, and closes
    /// every connection with 1001. A peer has until `timeout` to read the queued output and to answer; then its
    /// connection is reset. Waits for the server's threads, at most a second longer than `timeout`.
    ///
    /// Calling it again, from several threads, or while it runs, waits for the same end. Called from a callback of the
    /// server, on one of those threads, it starts the end and does not wait for it; the report is empty then. The same
    /// holds on the thread that runs an [`EventLoop`](crate::EventLoop), which has to continue to poll.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let thread = std::thread::spawn(move || while client.recv().is_ok_and(|message| message.is_some()) {});
    /// let report = server.handle().shutdown(Duration::from_secs(5));
    /// println!("{} connections were closed, {} were reset", report.clean, report.forced);
    /// # thread.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let deadline = self.begin_shutdown(timeout);
        self.wait_for_end(deadline)
    }

    /// Waits until the server has ended, which it is to do by the deadline. On a thread of the server it does not wait.
    pub(super) fn wait_for_end(&self, deadline: Instant) -> ShutdownReport {
        if !self.control.may_wait() {
            return ShutdownReport::default();
        }
        match self.control.threads.wait(Some(deadline + SLACK)) {
            Some(ended) => ended.into(),
            None => {
                log::error!("a server thread did not end: a callback blocks it, or its event loop is not polled");
                let mut report = ShutdownReport::from(self.control.threads.lock().ended);
                let left = self.connections();
                report.forced += left;
                if let Some(drained) = &mut report.drained {
                    drained.cut += left;
                }
                report
            }
        }
    }

    /// Starts the end and does not wait for it: its deadline.
    pub(super) fn begin_shutdown(&self, timeout: Duration) -> Instant {
        let deadline = deadline_after(Instant::now(), timeout);
        if !self.control.reactor.send(ReactorCommand::Stop(deadline)) {
            // The shutdown has begun. This deadline may be earlier.
            for inbox in &*self.control.publisher.inboxes() {
                inbox.send(Command::Shutdown(deadline));
            }
        }
        deadline
    }

    /// Waits until the server has shut down. Called on one of its own threads, it returns at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Server;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let handle = server.handle();
    /// let thread = std::thread::spawn(move || handle.join()); // until the server has shut down
    /// server.shutdown(Duration::from_secs(5));
    /// # thread.join().unwrap();
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn join(&self) {
        if self.control.may_block() {
            self.control.threads.wait(None);
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("addrs", &self.local_addrs()).finish_non_exhaustive()
    }
}
