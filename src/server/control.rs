//! A running server as any thread may hold it: its threads, its address, its end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::protocol::message::MessageRef;
use crate::server::ask::{Ask, ReactorHandle};
use crate::worker::Ended;
use crate::worker::admission::Admission;
use crate::worker::inbox::{Command, Inbox};
use crate::worker::peer::ON_WORKER;
use crate::worker::prepared::Prepared;

/// How a server ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections whose closing handshake was completed.
    pub clean: usize,
    /// Connections that ended without one: lost, or reset at the deadline.
    pub forced: usize,
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections closed cleanly, {} by force", self.clean, self.forced)
    }
}

/// Controls a server from any thread; cheap to clone.
#[derive(Clone)]
pub struct ServerHandle {
    pub(super) control: Arc<Control>,
}

pub(super) struct Control {
    pub(super) addr: SocketAddr,
    pub(super) reactor: ReactorHandle,
    pub(super) inboxes: Arc<[Arc<Inbox>]>,
    pub(super) admission: Arc<Admission>,
    pub(super) progress: Arc<Progress>,
}

/// How many of the server's threads run, and what those that ended report.
#[derive(Default)]
pub(super) struct Progress {
    state: Mutex<Running>,
    changed: Condvar,
}

#[derive(Default)]
struct Running {
    threads: usize,
    ended: Ended,
    handles: Vec<JoinHandle<()>>,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a thread that `run` is to work on, until it ends, however it ends.
    pub(super) fn spawn(
        self: &Arc<Progress>,
        name: String,
        run: impl FnOnce() -> Ended + Send + 'static,
    ) -> std::io::Result<()> {
        struct Guard(Arc<Progress>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.lock().threads -= 1;
                self.0.changed.notify_all();
            }
        }
        self.lock().threads += 1;
        let guard = Guard(self.clone());
        let handle = std::thread::Builder::new().name(name).spawn(move || {
            let guard = guard;
            let ended = run();
            let mut running = guard.0.lock();
            running.ended.clean += ended.clean;
            running.ended.forced += ended.forced;
        })?;
        self.lock().handles.push(handle);
        Ok(())
    }

    /// Waits until every thread has ended; `None` if some have not by the deadline.
    fn wait(&self, deadline: Option<Instant>) -> Option<Ended> {
        let mut running = self.lock();
        while running.threads > 0 {
            running = match deadline {
                None => self.changed.wait(running).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.changed.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let handles = std::mem::take(&mut running.handles);
        let ended = running.ended;
        drop(running);
        for handle in handles {
            // A panic was reported as it happened.
            let _ = handle.join();
        }
        Some(ended)
    }
}

/// What the shutdown may take beyond its deadline.
const SLACK: Duration = Duration::from_millis(90);

impl ServerHandle {
    /// The address that the server listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.control.addr
    }

    /// How many connections there are, handshakes included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.control.admission.count()
    }

    /// Sends a message to every connection. It is encoded once, and each worker is told once. The call never waits:
    /// where a connection's queue is full, the server's [`SlowConsumer`](crate::SlowConsumer) policy decides whether it
    /// is left out or closed.
    pub fn broadcast<'m>(&self, message: impl Into<MessageRef<'m>>) {
        self.broadcast_prepared(&Prepared::new(message));
    }

    /// Sends a message that was encoded before to every connection, as [`broadcast`](ServerHandle::broadcast) does.
    pub fn broadcast_prepared(&self, prepared: &Prepared) {
        for inbox in &*self.control.inboxes {
            inbox.send(Command::Broadcast(prepared.frame.clone()));
        }
    }

    /// Stops the server: no more connections are accepted, handshakes under way are answered 503, every connection is
    /// closed with 1001 and has until `timeout` to take what is queued for it and to answer; then it is reset. Waits
    /// for the server's threads, at most 100 ms longer than `timeout`.
    ///
    /// Calling it again, from several threads, or while it runs, waits for the same end. Called from a callback of the
    /// server, on one of those threads, it starts the end and does not wait for it; the report is empty then.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(1 << 30));
        self.control.reactor.send(Ask::Stop(deadline));
        if ON_WORKER.get() {
            return ShutdownReport::default();
        }
        match self.control.progress.wait(Some(deadline + SLACK)) {
            Some(Ended { clean, forced }) => ShutdownReport { clean, forced },
            None => {
                log::error!("a server thread did not end: a callback blocks it");
                let Ended { clean, forced } = self.control.progress.lock().ended;
                ShutdownReport { clean, forced: forced + self.connections() }
            }
        }
    }

    /// Waits until the server has shut down.
    pub fn join(&self) {
        if !ON_WORKER.get() {
            self.control.progress.wait(None);
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("addr", &self.local_addr()).finish_non_exhaustive()
    }
}
