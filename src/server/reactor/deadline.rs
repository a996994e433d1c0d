//! The deadline of each handshake.

use std::time::{Duration, Instant};

use super::{Reactor, overloaded};
use crate::protocol::http::Response;
use crate::server::reactor::handshake::State;
use crate::worker::slab::Key;

impl<C: Send + 'static> Reactor<C> {
    /// Sets the deadline of a handshake, in place of the one before.
    pub(super) fn schedule(&mut self, key: Key, timeout: Duration, now: Instant) {
        let at = self.timers.after(now, timeout);
        self.timers.schedule(key.index, at);
    }

    /// Handles the deadline of a handshake.
    pub(super) fn expire(&mut self, key: Key, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        if handshake.has_progressed() {
            return self.schedule(key, self.config.write_timeout, now);
        }
        match handshake.state {
            // RFC 9110 15.5.9.
            State::Reading => handshake.refuse(&Response::new(408)),
            State::Deciding(_) => handshake.refuse(&overloaded()),
            _ => return self.remove(key),
        }
        // The refusal has a deadline of its own.
        handshake.ending = true;
        self.schedule(key, self.config.close_timeout, now);
        self.after(key, now);
    }
}
