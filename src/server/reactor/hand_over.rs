//! Handing listeners over to another process, and taking over its connections.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use crate::protocol::contain::contained;
use crate::protocol::http::{HeadLimits, Request};
use crate::server::reactor::Reactor;
use crate::server::reactor::hand_over_command::{Arrived, HandOverCommand, Pause, SharedListener};
use crate::server::reactor::handshake::{Rules, State};
use crate::server::reactor::worker_link::least_loaded;
use crate::transport::stream::Stream;
use crate::worker::event_loop::arriving::Arriving;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::handle::info::Outcome;

impl Rules {
    /// What a connection keeps of its request for another process.
    pub(super) fn with_head(&self, outcome: Outcome, request: &Request) -> Outcome {
        Outcome { head: self.clients.keeps_heads.then(|| request.head().into()), ..outcome }
    }
}

impl<C: Send + 'static> Reactor<C> {
    pub(super) fn execute_hand_over(&mut self, command: HandOverCommand) {
        match command {
            // Whoever asked may not wait any more.
            HandOverCommand::ShareListeners(to) => drop(to.send(self.share_listeners())),
            HandOverCommand::Pause(quiet, deadline) => self.pause = Some(Pause { waiting: Some((quiet, deadline)) }),
            HandOverCommand::Unpause => self.unpause(),
            HandOverCommand::ReleaseListeners => self.release_listeners(),
            HandOverCommand::TakeOver(arrived) => self.take_over(arrived),
        }
    }

    /// The listening sockets once more, in the order in which they were given.
    fn share_listeners(&self) -> io::Result<Vec<SharedListener>> {
        self.acceptors
            .iter()
            .filter_map(|acceptor| acceptor.listener())
            .map(|listener| {
                let socket = listener.socket.as_fd().try_clone_to_owned()?;
                Ok(SharedListener { addr: listener.addr.clone(), socket })
            })
            .collect()
    }

    /// Whether nothing is accepted.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Accepts again.
    fn unpause(&mut self) {
        if self.pause.take().is_some() {
            self.acceptors.iter_mut().for_each(|acceptor| acceptor.ready());
        }
    }

    /// Tells whoever waits for it that no handshake is under way, if that is so.
    pub(super) fn tell_quiet(&mut self, now: Instant) {
        let Some(Pause { waiting: Some((_, deadline)) }) = &self.pause else { return };
        let is_late = now >= *deadline;
        if is_late || !self.has_handshakes() {
            self.pause = Some(Pause::default());
        }
    }

    /// When the wait for the handshakes is over.
    pub(super) fn quiet_due(&self) -> Option<Instant> {
        Some(self.pause.as_ref()?.waiting.as_ref()?.1)
    }

    /// Whether a connection may be established soon. Those that stay open behind a response, and those that end, do not count.
    fn has_handshakes(&mut self) -> bool {
        (0..self.handshakes.entries()).any(|index| {
            let handshake = self.handshakes.at(index);
            handshake.is_some_and(|handshake| match handshake.state {
                State::Reading => !handshake.is_idle(),
                State::Draining { .. } | State::Gone => false,
                _ => true,
            })
        })
    }

    /// Closes the listeners, which another process has. What waits there is left to it.
    fn release_listeners(&mut self) {
        let registry = &self.registry;
        self.acceptors.iter_mut().for_each(|acceptor| acceptor.release(registry));
    }

    /// Makes the application's part of connections that another process has served, and assigns them to the workers.
    fn take_over(&mut self, arrived: Vec<Arrived>) {
        for (stream, arriving) in arrived {
            self.take_over_one(stream, arriving);
        }
        self.notify_workers();
        self.acceptors.iter_mut().for_each(|acceptor| acceptor.own());
        self.unpause();
    }

    fn take_over_one(&mut self, stream: Stream, mut arriving: Arriving) {
        let addr = arriving.addr.clone();
        // It was within the limits of whoever wrote it.
        let limits = HeadLimits { max_head_size: usize::MAX, max_headers: usize::MAX, max_target_size: usize::MAX };
        let made = contained(|| {
            let mut request = Request::parse_within(&arriving.head, addr.clone(), &limits).ok()?;
            request.set_handed_over(std::mem::take(&mut arriving.data));
            (self.admit)(request)
        });
        let app = match made {
            Ok(Some(app)) => app,
            Ok(None) => return log::error!("{addr}: a connection is lost: its request can not be read"),
            Err(panic) => return log::error!("{addr}: a connection is lost: its handler was not made: {panic}"),
        };
        let Some(worker) = least_loaded(&mut self.workers) else { return };
        let subprotocol = arriving.subprotocol.take().map(std::sync::Arc::new);
        let head = Some(std::mem::take(&mut arriving.head).into());
        self.rules.clients.connection_limit.add(addr.ip());
        let new_connection = NewConnection {
            stream,
            watched: None,
            readable: true,
            end_reported: false,
            addr,
            outcome: Outcome { subprotocol, head, data: None },
            agreement: Default::default(),
            receive: None,
            leftover: std::mem::take(&mut arriving.input),
            app,
            arriving: Some(Box::new(arriving)),
            charge: None,
        };
        worker.assign(new_connection, &self.rules.clients.connection_limit);
    }
}
