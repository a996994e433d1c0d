//! The reactor on a thread of its own, for a server with two or more workers.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use crate::protocol::contain::contained;
use crate::server::reactor::command::{ReactorHandle, ReactorWaker};
use crate::server::reactor::{Reactor, ReactorParts};
use crate::worker::event_loop::poll_task::PollTask;
use crate::worker::event_loop::worker::CloseCounts;
use crate::worker::slab::Keys;
use crate::worker::thread::enter_worker;

/// The waker's token. It is a reserved token, which no handshake has.
const WAKE: Token = Token(usize::MAX);

const EVENTS: usize = 1024;

/// Connections have one second to close after the reactor failed. Larger keeps a server that accepts nothing; smaller
/// loses what their peers did not read yet.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(1);

/// The reactor has a third of the weight that the system gives to a worker: 5 steps of `nice`, each of a fifth. Fewer let a burst
/// of handshakes hold up established connections on a machine whose cores are all busy; more would starve new connections
/// there.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Has the workers run first where there are not enough cores for all. On Linux the niceness is that of the thread.
#[cfg(target_os = "linux")]
fn yield_to_workers() {
    // Where that is forbidden, the threads are equal.
    let _ = rustix::process::nice(NICENESS);
}

#[cfg(not(target_os = "linux"))]
fn yield_to_workers() {}

/// A reactor with a poll of its own, before its thread is started.
pub(in crate::server) struct ReactorThread<C> {
    poll: Poll,
    reactor: Reactor<C>,
}

impl<C: Send + 'static> ReactorThread<C> {
    pub(in crate::server) fn new(parts: ReactorParts<C>) -> io::Result<ReactorThread<C>> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let reactor = Reactor::new(parts, poll.registry().try_clone()?, ReactorWaker::Own(waker))?;
        Ok(ReactorThread { poll, reactor })
    }

    pub(in crate::server) fn handle(&self) -> ReactorHandle {
        self.reactor.handle()
    }

    /// Runs the reactor until it is stopped. If it fails, by a fault of the library, the workers shut down.
    pub(in crate::server) fn run(mut self) -> CloseCounts {
        enter_worker();
        yield_to_workers();
        let Err(panic) = contained(|| self.run_until_stopped()) else {
            self.reactor.end();
            return CloseCounts::default();
        };
        let _ = contained(|| log::error!("the reactor failed, and the server shuts down: {panic}"));
        self.reactor.stop_workers(Instant::now() + FAILURE_TIMEOUT);
        CloseCounts { failed: 1, ..CloseCounts::default() }
    }

    fn run_until_stopped(&mut self) {
        let (mut events, mut keys) = (Events::with_capacity(EVENTS), Keys::default());
        loop {
            let now = Instant::now();
            if self.reactor.is_done(now) {
                return;
            }
            let timeout = self.reactor.due(now).map(|due| due.saturating_duration_since(now));
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("the reactor's poll failed: {error}");
            }
            let now = Instant::now();
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.reactor.ready(event, now, &mut keys);
            }
            self.reactor.run(now, &mut keys);
        }
    }
}
