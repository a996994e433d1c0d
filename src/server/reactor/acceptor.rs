//! The listener's side: what waits is accepted, a bounded number at a time, and a lack of descriptors is survived.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

/// The most connections accepted before those that are there have their turn.
const MAX_ACCEPTS: usize = 64;

/// After a failed accept the listener is tried again, since no event will tell that it can go on.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How often a lack of file descriptors is logged, and a waiting connection dropped in its course.
const SHED_INTERVAL: Duration = Duration::from_secs(1);

/// A listener until it is closed.
pub(in crate::server) struct Acceptor {
    listener: Option<TcpListener>,
    /// The listener may have more connections than were accepted.
    more: bool,
    retry_at: Option<Instant>,
    shed_at: Option<Instant>,
    /// A descriptor kept for the day there is none, so that a waiting connection can be accepted and dropped.
    spare: Option<File>,
}

impl Acceptor {
    /// Lets the poll report connections under `token`.
    pub(in crate::server) fn new(mut listener: TcpListener, registry: &Registry, token: Token) -> io::Result<Acceptor> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        // Small messages would wait for each other's acknowledgements otherwise.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        let spare = spare_descriptor();
        Ok(Acceptor { listener: Some(listener), more: false, retry_at: None, shed_at: None, spare })
    }

    /// The poll reported connections.
    pub(in crate::server) fn ready(&mut self) {
        self.more = true;
    }

    /// Whether connections may wait.
    pub(in crate::server) fn has_more(&self) -> bool {
        self.more
    }

    /// Until when the thread may sleep; `None` for ever.
    pub(in crate::server) fn due(&self, now: Instant) -> Option<Instant> {
        if self.more { Some(now) } else { self.retry_at }
    }

    /// Accepts what waits, a bounded number at a time.
    pub(in crate::server) fn accept(&mut self, now: Instant, accepted: &mut Vec<(TcpStream, SocketAddr)>) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            self.more = true;
        }
        if !self.more {
            return;
        }
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = &self.listener else { break };
            match listener.accept() {
                Ok(connection) => {
                    accepted.push(connection);
                    if is_drained(listener) {
                        self.more = false;
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.more = false;
                    return;
                }
                // That one connection is gone, or a signal came: the next.
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

    /// There is no descriptor, or no memory, for a connection that waits: one is dropped now and then, so that its
    /// client need not wait for a timeout, and the listener is tried again.
    fn shed(&mut self, error: &io::Error, now: Instant) {
        if self.shed_at.is_some_and(|at| now < at) {
            return;
        }
        self.shed_at = Some(now + SHED_INTERVAL);
        log::error!("connections wait that can not be accepted: {error}");
        if self.spare.take().is_some()
            && let Some(listener) = &self.listener
        {
            drop(listener.accept());
        }
        // Another thread may have taken the one that was given up; then this is tried again next time.
        self.spare = spare_descriptor();
    }

    /// Accepts nothing more.
    pub(in crate::server) fn close(&mut self, registry: &Registry) {
        (self.more, self.retry_at) = (false, None);
        if let Some(mut listener) = self.listener.take() {
            // Closing it does as much; an error changes nothing.
            let _ = registry.deregister(&mut listener);
        }
    }
}

/// Errors of `accept` that concern one connection, or nothing at all.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied, TimedOut};
    /// EPROTO on Linux, which `ErrorKind` does not name.
    const EPROTO: i32 = 71;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied | TimedOut)
        || (cfg!(target_os = "linux") && error.raw_os_error() == Some(EPROTO))
}

/// Whether it is known that no further connection waits.
///
/// Linux makes a file, and gives it back to be freed later, before it looks whether there is a connection for it: an
/// attempt in vain takes ten times as long as the question. Whoever connects behind the answer is reported by the poll.
#[cfg(target_os = "linux")]
fn is_drained(listener: &TcpListener) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&at_once)), Ok(0))
}

/// An attempt in vain tells as much.
#[cfg(not(target_os = "linux"))]
fn is_drained(_: &TcpListener) -> bool {
    false
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}
