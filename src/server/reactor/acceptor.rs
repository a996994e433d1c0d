//! Accepts connections from one listener, a limited number at a time, and copes with a lack of file descriptors.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};

use crate::protocol::PeerAddr;
use crate::protocol::contain::contained;
use crate::server::listener::layer::Layer;
use crate::server::listener::open::{AcceptedSocket, ListeningSocket, OpenListener};
use crate::transport::stream::Stream;
use crate::transport::stream::hooks::SocketHooks;

/// At most 64 connections are accepted from a listener in one iteration of the event loop. Larger delays established
/// connections; smaller needs more iterations for many new ones.
const MAX_ACCEPTS: usize = 64;

/// After a failed accept the listener is tried again in 100 ms, because no event of the poll says when it can accept
/// again. Larger delays new connections; smaller wakes the thread more often while descriptors are missing.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A lack of file descriptors is logged, and a waiting connection dropped, at most once a second. Larger leaves waiting
/// clients without an answer for longer; smaller fills the log.
const SHED_INTERVAL: Duration = Duration::from_secs(1);

/// A connection that was accepted.
pub(in crate::server) struct Incoming {
    pub(in crate::server) stream: Stream,
    pub(in crate::server) addr: PeerAddr,
    pub(in crate::server) layer: Layer,
}

/// A listener, until it is closed.
pub(in crate::server) struct Acceptor {
    listener: Option<OpenListener>,
    /// The listener may have more connections than were accepted.
    more: bool,
    retry_at: Option<Instant>,
    shed_at: Option<Instant>,
    /// A spare descriptor. It is closed when there are no others, so that a waiting connection can be accepted and
    /// dropped.
    spare: Option<File>,
}

impl Acceptor {
    /// Registers the listener with the poll, under `token`.
    pub(in crate::server) fn new(
        mut listener: OpenListener,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Acceptor> {
        registry.register(listener.socket.source(), token, Interest::READABLE)?;
        let spare = spare_descriptor();
        Ok(Acceptor { listener: Some(listener), more: false, retry_at: None, shed_at: None, spare })
    }

    /// Notes that the poll reported connections.
    pub(in crate::server) fn ready(&mut self) {
        self.more = true;
    }

    /// Whether connections may wait.
    pub(in crate::server) fn has_more(&self) -> bool {
        self.more
    }

    /// Accepts nothing for a while. Clients wait in the kernel's queue.
    pub(in crate::server) fn postpone(&mut self, now: Instant) {
        if self.more || self.retry_at.is_some_and(|at| now >= at) {
            (self.more, self.retry_at) = (false, Some(now + ACCEPT_RETRY));
        }
    }

    /// When to accept again although the poll reports nothing; `None` for never.
    pub(in crate::server) fn due(&self, now: Instant) -> Option<Instant> {
        if self.more { Some(now) } else { self.retry_at }
    }

    /// Accepts waiting connections, a limited number at a time.
    pub(in crate::server) fn accept(&mut self, now: Instant, accepted: &mut Vec<Incoming>) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            self.more = true;
        }
        if !self.more {
            return;
        }
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = &self.listener else { break };
            match listener.socket.accept() {
                Ok((socket, addr)) => {
                    let stream = call_hook(&listener.hooks, socket);
                    let layer = listener.layer.clone();
                    accepted.extend(stream.map(|stream| Incoming { stream, addr, layer }));
                    if is_drained(&listener.socket) {
                        self.more = false;
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.more = false;
                    return;
                }
                // That connection has ended, or a signal came: accept the next.
                Err(error) if is_transient(&error) => {}
                Err(error) => {
                    self.more = false;
                    self.retry_at = Some(now + ACCEPT_RETRY);
                    return self.shed(&error, now);
                }
            }
        }
        self.more = self.listener.is_some();
    }

    /// Logs that there is no descriptor or no memory for a waiting connection. Accepts and drops one connection from
    /// time to time, so that its client does not wait for a timeout.
    fn shed(&mut self, error: &io::Error, now: Instant) {
        if self.shed_at.is_some_and(|at| now < at) {
            return;
        }
        self.shed_at = Some(now + SHED_INTERVAL);
        log::error!("waiting connections can not be accepted: {error}");
        if self.spare.take().is_some()
            && let Some(listener) = &self.listener
        {
            drop(listener.socket.accept());
        }
        // Another thread may have taken the descriptor. Then this is tried again next time.
        self.spare = spare_descriptor();
    }

    /// Whether the connections that wait are for another process that has the listener.
    pub(in crate::server) fn leaves_waiting(&self) -> bool {
        self.listener.as_ref().is_some_and(|listener| listener.given)
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::server) fn listener(&self) -> Option<&OpenListener> {
        self.listener.as_ref()
    }

    /// Closes the listener, and leaves its file to another process that has it.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::server) fn release(&mut self, registry: &Registry) {
        if let Some(listener) = &mut self.listener {
            listener.leave_file();
        }
        self.close(registry);
    }

    /// Notes that no other process has the listener any more.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::server) fn own(&mut self) {
        if let Some(listener) = &mut self.listener {
            listener.own();
        }
    }

    /// Closes the listener.
    pub(in crate::server) fn close(&mut self, registry: &Registry) {
        (self.more, self.retry_at) = (false, None);
        if let Some(mut listener) = self.listener.take() {
            // The poll would report on it for as long as another process has it. An error has no effect on others.
            let _ = registry.deregister(listener.socket.source());
        }
    }
}

/// Calls the application's hook. `None` if that refuses the connection.
fn call_hook(hooks: &SocketHooks, socket: AcceptedSocket) -> Option<Stream> {
    match contained(|| socket.into_stream(hooks)) {
        Ok(Ok(stream)) => return Some(stream),
        // It may refuse many.
        Ok(Err(error)) => log::debug!("the socket hook refused a connection: {error}"),
        Err(panic) => log::error!("the socket hook panicked: {panic}"),
    }
    None
}

/// Whether an error of `accept` concerns only one connection, or a signal.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied, TimedOut};
    /// EPROTO on Linux, which `ErrorKind` does not name.
    const EPROTO: i32 = 71;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied | TimedOut)
        || (cfg!(target_os = "linux") && error.raw_os_error() == Some(EPROTO))
}

/// Whether it is known that no further connection waits. The poll reports a client that connects later.
///
/// Asking costs a tenth of an `accept` that finds nothing: Linux allocates a file before it looks for a connection.
#[cfg(target_os = "linux")]
fn is_drained(listener: &ListeningSocket) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&at_once)), Ok(0))
}

/// Not known: an `accept` that finds nothing tells it.
#[cfg(not(target_os = "linux"))]
fn is_drained(_: &ListeningSocket) -> bool {
    false
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}
