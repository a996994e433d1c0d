//! The deadline of each handshake.

use std::time::{Duration, Instant};

use super::{Reactor, overloaded};
use crate::protocol::http::Response;
use crate::server::reactor::handshake::State;
use crate::worker::slab::Key;

impl<C: Send + 'static> Reactor<C> {
    /// Sets the deadline of a handshake, in place of the one before. The timeout begins with this call, not with the turn
    /// of the reactor: a turn is long if it accepts many connections, or if a hook of the application is slow.
    pub(super) fn schedule(&mut self, key: Key, timeout: Duration) {
        let at = self.timers.after(Instant::now(), timeout);
        self.timers.schedule(key.index, at);
    }

    /// Handles the deadline of a handshake.
    pub(super) fn expire(&mut self, key: Key) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        if handshake.has_progressed(self.config.min_write_progress) {
            return self.schedule(key, self.config.write_timeout);
        }
        match handshake.state {
            // What comes first is not HTTP.
            State::Reading if handshake.client.awaits_header() => return self.remove(key),
            // Nothing can be said before there is TLS.
            _ if handshake.stream.is_handshaking() => return self.remove(key),
            // RFC 9110 15.5.9.
            State::Reading => handshake.refuse(&Response::new(408)),
            State::Deciding(_) => handshake.refuse(&overloaded()),
            _ => return self.remove(key),
        }
        // The refusal has a deadline of its own.
        handshake.ending = true;
        self.schedule(key, self.config.close_timeout);
        self.after(key);
    }
}
