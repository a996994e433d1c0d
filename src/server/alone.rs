//! The reactor on a thread of its own, beside two workers or more.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use mio::{Events, Poll, Token, Waker};

use crate::server::ask::{ReactorHandle, Wake};
use crate::server::reactor::{Parts, Reactor};
use crate::worker::guest::Guest;
use crate::worker::slots::Names;

/// The waker's token; no handshake has it, for it is a reserved one.
const WAKE: Token = Token(usize::MAX);

const EVENTS: usize = 1024;

/// A reactor with a poll of its own, before its thread is started.
pub(super) struct Alone<C> {
    poll: Poll,
    reactor: Reactor<C>,
}

impl<C: Send + 'static> Alone<C> {
    pub(super) fn new(parts: Parts<C>) -> io::Result<Alone<C>> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let reactor = Reactor::new(parts, poll.registry().try_clone()?, Wake::Own(waker))?;
        Ok(Alone { poll, reactor })
    }

    pub(super) fn handle(&self) -> ReactorHandle {
        self.reactor.handle()
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        crate::worker::peer::ON_WORKER.set(true);
        let (mut events, mut names) = (Events::with_capacity(EVENTS), Names::default());
        loop {
            let now = Instant::now();
            let timeout = self.reactor.due(now).map(|due| due.saturating_duration_since(now));
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("the reactor's poll failed: {error}");
            }
            let now = Instant::now();
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.reactor.ready(event, now, &mut names);
            }
            self.reactor.turn(now, &mut names);
            if self.reactor.is_done(now) {
                return;
            }
        }
    }
}
