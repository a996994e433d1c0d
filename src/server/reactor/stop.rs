//! The end of a reactor: it accepts nothing, refuses what is not decided, and has the workers close.

use std::time::{Duration, Instant};

use crate::server::reactor::Reactor;
use crate::server::reactor::command::ReactorCommand;
use crate::server::reactor::handshake::{State, overloaded};
use crate::worker::handle::inbox::Command;
use crate::worker::slab::Key;

/// Clients that are refused at shutdown have one second to read the response. Larger delays the end of the server;
/// smaller loses responses to slow clients.
pub(super) const SHUTDOWN_LINGER: Duration = Duration::from_secs(1);

impl<C: Send + 'static> Reactor<C> {
    /// Stops accepting. Connections that wait to be accepted, and handshakes that are not decided, are answered 503.
    pub(super) fn stop(&mut self, deadline: Instant, now: Instant) {
        let first = self.stopping.is_none();
        self.stopping = Some(deadline.min(now + SHUTDOWN_LINGER));
        if first {
            self.close_listeners(now);
            for index in 0..self.handshakes.entries() {
                if let Some(key) = self.handshakes.key_at(index) {
                    self.stop_handshake(key);
                }
            }
        }
        self.stop_workers(deadline);
    }

    fn stop_handshake(&mut self, key: Key) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        if handshake.is_idle() {
            return self.remove(key);
        }
        handshake.exchanges.end();
        match handshake.state {
            State::Reading | State::Deciding(_) | State::Receiving(_) | State::Answering { .. } => {
                handshake.refuse(&overloaded());
            }
            _ => return,
        }
        self.after(key);
    }

    /// Passes on what other threads have asked for since the reactor last executed commands. The workers are to do it, and
    /// they may go on for long: a drain goes on after the reactor has ended.
    pub(super) fn end(&mut self) {
        self.handle.end();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                ReactorCommand::Drain(order) => self.drain_workers(&order),
                ReactorCommand::Stop(deadline) => self.stop_workers(deadline),
                _ => {}
            }
        }
    }

    /// Has the workers close their connections until the deadline, and end.
    pub(super) fn stop_workers(&self, deadline: Instant) {
        for worker in &self.workers {
            worker.inbox.send(Command::Shutdown(deadline));
        }
    }
}
