//! A server that the application's own thread runs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::protocol::PeerAddr;
use crate::server::control::{ServerHandle, ShutdownReport};
use crate::server::threads::Member;
use crate::worker::channel::event::EventRef;
use crate::worker::receiver::inline::InlineWorker;

/// A server without a thread of its own: the thread that polls it accepts connections, reads, writes and keeps the
/// deadlines. It suits programs that have a loop of their own, such as games and graphical programs, and machines with
/// one core.
///
/// Made with [`ServerBuilder::bind_inline`](crate::ServerBuilder::bind_inline). Nothing happens on its connections
/// while nobody polls it: a thread that does something else for long delays pings, answers and deadlines.
///
/// # Events
///
/// [`poll`](EventLoop::poll) waits until a socket is ready, reads from every ready socket, and then calls the closure with
/// each event, in order. A connection's events begin with [`Open`](EventRef::Open) and end with
/// [`Close`](EventRef::Close). The messages that the closure sends leave after the last event, in one write for each
/// connection.
///
/// # Sending
///
/// Any thread may send through a [`Peer`](crate::Peer), which wakes a poll that waits. The thread that runs the loop
/// never waits for room in a connection's queue, in the closure or between two polls, because it would wait for itself:
/// where [`SlowConsumer::Block`](crate::SlowConsumer::Block) applies, a full queue refuses the message
/// ([`SendError::Full`](crate::SendError::Full)), and [`send_timeout`](crate::Peer::send_timeout) does not wait. The
/// loop reads no more messages from a connection than its queue has room for. A program that answers each message with
/// one that is not longer, and sends nothing else, is never refused.
///
/// # Panics in the closure
///
/// A panic in the closure passes through [`poll`](EventLoop::poll) and [`run`](EventLoop::run) to their caller. The
/// loop stays usable: only the event that the closure was called with is lost, and the next poll continues with the one
/// after it.
///
/// # In another event loop
///
/// On Unix the loop has a descriptor ([`AsFd`](std::os::fd::AsFd), [`AsRawFd`](std::os::fd::AsRawFd)) that is readable
/// when there is something to do. Wait for it beside your own descriptors, with `poll`, `epoll`, `kqueue` or mio,
/// level-triggered or edge-triggered, and call `poll(Duration::ZERO, ..)` each time it is readable. On Linux that
/// includes deadlines; elsewhere wait until [`next_deadline`](EventLoop::next_deadline) at the latest.
///
/// ```no_run
/// # #[cfg(unix)] {
/// use std::os::fd::AsRawFd;
/// use std::time::Duration;
/// use mio::unix::SourceFd;
/// use mio::{Events, Interest, Poll, Token};
/// use threadbare::{EventRef, Server};
///
/// let mut event_loop = Server::builder().bind_inline("127.0.0.1:8080")?;
/// let (mut poll, mut ready) = (Poll::new()?, Events::with_capacity(16));
/// poll.registry().register(&mut SourceFd(&event_loop.as_raw_fd()), Token(0), Interest::READABLE)?;
/// while !event_loop.is_finished() {
///     poll.poll(&mut ready, None)?;
///     for readiness in &ready {
///         if readiness.token() == Token(0) {
///             event_loop.poll(Duration::ZERO, |event| println!("{event:?}"))?;
///         }
///     }
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shutdown
///
/// [`ServerHandle::shutdown`] from any thread begins the shutdown, and the polls that follow complete it. Then
/// [`is_finished`](EventLoop::is_finished) returns `true`, and [`run`](EventLoop::run) returns. Dropping the loop closes its
/// connections with 1001, and takes up to [`drop_timeout`](crate::Config::drop_timeout) for that. [`ServerHandle::drain`] does as
/// `shutdown`, and closes the connections one after the other.
pub struct EventLoop {
    worker: InlineWorker<true>,
    handle: ServerHandle,
    /// Until the end is reported.
    member: Option<Member>,
}

impl EventLoop {
    pub(super) fn new(worker: InlineWorker<true>, handle: ServerHandle) -> EventLoop {
        // Set once, here.
        let _ = handle.control.inline.set(worker.handle());
        let member = Some(handle.control.threads.enter());
        EventLoop { worker, handle, member }
    }

    /// Waits until something happens, at most for `timeout`, and calls `on_event` with each event, in order. Returns
    /// the number of events.
    ///
    /// It may return 0 before the time is over, for example after a part of a handshake or a ping. With
    /// `Duration::ZERO` it does not wait; with `None` it waits without a limit. Once the server has shut down, it
    /// returns at once.
    ///
    /// # Errors
    /// The system's poll failed. A signal is no error.
    ///
    /// ```no_run
    /// use std::time::{Duration, Instant};
    /// use threadbare::{EventRef, Server};
    ///
    /// let mut event_loop = Server::builder().bind_inline("127.0.0.1:8080")?;
    /// let everyone = event_loop.handle();
    /// let mut next_frame = Instant::now();
    /// let mut count = 0;
    /// while !event_loop.is_finished() {
    ///     while let Some(left) = next_frame.checked_duration_since(Instant::now()) {
    ///         event_loop.poll(left, |event| {
    ///             if let EventRef::Message(..) = event {
    ///                 count += 1;
    ///             }
    ///         })?;
    ///     }
    ///     everyone.broadcast(format!("{count} messages").as_str());
    ///     next_frame += Duration::from_millis(16);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll(
        &mut self,
        timeout: impl Into<Option<Duration>>,
        on_event: impl FnMut(EventRef<'_>),
    ) -> io::Result<usize> {
        let polled = self.worker.poll(timeout.into(), on_event);
        self.report();
        polled
    }

    /// Polls until the server has shut down, and calls `on_event` with each event.
    ///
    /// To stop it, call [`ServerHandle::shutdown`], from `on_event` or from another thread; to stop in other ways, call
    /// [`poll`](EventLoop::poll) in a loop of your own.
    ///
    /// # Errors
    /// The system's poll failed.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use threadbare::{EventRef, Server};
    ///
    /// let mut event_loop = Server::builder().bind_inline("127.0.0.1:8080")?;
    /// let handle = event_loop.handle();
    /// let report = event_loop.run(|event| match event {
    ///     EventRef::Message(_, message) if message.as_message().as_text() == Some("stop") => {
    ///         handle.shutdown(Duration::from_secs(5)); // it does not wait on this thread
    ///     }
    ///     event => println!("{event:?}"),
    /// })?;
    /// println!("{report}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(&mut self, mut on_event: impl FnMut(EventRef<'_>)) -> io::Result<ShutdownReport> {
        while !self.is_finished() {
            self.poll(None, &mut on_event)?;
        }
        Ok(self.worker.ended().map(ShutdownReport::from).unwrap_or_default())
    }

    /// Whether the server has shut down and the closure has had every event.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Server;
    ///
    /// let mut event_loop = Server::builder().bind_inline("127.0.0.1:0")?;
    /// event_loop.handle().shutdown(Duration::from_secs(5)); // it does not wait on this thread
    /// while !event_loop.is_finished() {
    ///     event_loop.poll(Duration::from_millis(16), |event| println!("{event:?}"))?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.worker.is_finished()
    }

    /// Shuts the server down as [`ServerHandle::shutdown`] does, on this thread, and returns when that is done. Events
    /// are lost meanwhile. A program that needs them calls [`ServerHandle::shutdown`] and continues to poll.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Server;
    ///
    /// let mut event_loop = Server::builder().bind_inline("127.0.0.1:0")?;
    /// let report = event_loop.shutdown(Duration::from_secs(5));
    /// assert_eq!((report.clean, report.forced), (0, 0)); // there were no connections
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn shutdown(&mut self, timeout: Duration) -> ShutdownReport {
        self.handle.begin_shutdown(timeout);
        let ended = self.worker.run_to_end();
        self.report();
        ended.into()
    }

    /// The first IP address that the server listens on; with the port that the system chose, if 0 was asked for.
    /// `0.0.0.0:0` if it has Unix sockets only; see [`local_addrs`](EventLoop::local_addrs).
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let event_loop = Server::builder().bind_inline("127.0.0.1:0")?;
    /// println!("listening on {}", event_loop.local_addr());
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
    /// let event_loop = Server::builder().bind_inline(["127.0.0.1:0", "localhost:0"].map(Listener::from))?;
    /// for addr in event_loop.local_addrs() {
    ///     println!("listening on {addr}");
    /// }
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn local_addrs(&self) -> &[PeerAddr] {
        self.handle.local_addrs()
    }

    /// A handle that controls the server from any thread, and sends to all connections. Its
    /// [`shutdown`](ServerHandle::shutdown) wakes the loop from another thread and waits until the loop has ended; on
    /// the thread that runs the loop it begins the end and returns.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Server;
    ///
    /// let mut event_loop = Server::builder().bind_inline("127.0.0.1:0")?;
    /// let handle = event_loop.handle();
    /// let thread = std::thread::spawn(move || handle.shutdown(Duration::from_secs(5)));
    /// event_loop.run(|event| println!("{event:?}"))?; // it returns after the shutdown
    /// # thread.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Returns when [`poll`](EventLoop::poll) should be called although the descriptor is not readable, on systems
    /// other than Linux; a time in the past means now. `None` if no handshake, ping or close is due.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::EventLoop;
    ///
    /// /// How long the program's own poll may wait.
    /// fn wait(event_loop: &EventLoop) -> Option<Duration> {
    ///     event_loop.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    /// }
    /// ```
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.worker.next_deadline()
    }

    /// Wakes the threads that wait for the server's end.
    fn report(&mut self) {
        if let Some(ended) = self.worker.ended()
            && let Some(member) = self.member.take()
        {
            member.leave(ended);
        }
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for EventLoop {
    /// The descriptor of the system's poll, `epoll` or `kqueue`. From the first call on, the loop keeps it readable
    /// while there is something to do.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.worker.fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for EventLoop {
    /// As [`as_fd`](std::os::fd::AsFd::as_fd).
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.worker.fd())
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("addrs", &self.local_addrs()).finish_non_exhaustive()
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.shutdown(self.handle.control.drop_timeout);
    }
}
