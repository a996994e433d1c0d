//! Handing listeners over to another process, and taking them over.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use crate::protocol::http::Request;
use crate::server::reactor::Reactor;
use crate::server::reactor::hand_over_command::{HandOverCommand, Pause, SharedListener};
use crate::server::reactor::handshake::{Rules, State};
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
            // The thread that asked may not wait any more.
            HandOverCommand::ShareListeners(to) => drop(to.send(self.share_listeners())),
            HandOverCommand::Pause(quiet, deadline) => self.pause = Some(Pause { waiting: Some((quiet, deadline)) }),
            HandOverCommand::Unpause => self.unpause(),
            HandOverCommand::ReleaseListeners => self.release_listeners(),
            HandOverCommand::OwnListeners => self.own_listeners(),
        }
    }

    /// The listening sockets once more, in the order in which they were given.
    fn share_listeners(&self) -> io::Result<Vec<SharedListener>> {
        self.acceptors
            .iter()
            .filter_map(|acceptor| acceptor.listener())
            .map(|listener| {
                let socket = listener.socket.as_fd().try_clone_to_owned()?;
                Ok(SharedListener { addr: listener.addr.clone(), file: listener.file_identity(), socket })
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

    /// Tells the thread that waits for it that no handshake is under way, if that is so.
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

    /// Leaves everything to the other process, if it is not known yet which of the two serves.
    pub(super) fn release_if_paused(&mut self) -> bool {
        if self.is_paused() {
            self.release_listeners();
        }
        self.is_paused()
    }

    /// Accepts: no other process has the listeners any more.
    fn own_listeners(&mut self) {
        self.acceptors.iter_mut().for_each(|acceptor| acceptor.own());
        self.unpause();
    }
}
