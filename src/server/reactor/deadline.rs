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

    /// Sets the deadline anew if something has begun that has the whole time: a request behind another, its content, or the
    /// application's answer to it.
    pub(super) fn renew_deadline(&mut self, key: Key) {
        if self.handshakes.get_mut(key).is_some_and(|handshake| handshake.exchanges.take_renewal()) {
            self.schedule(key, self.config.handshake_timeout);
        }
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
            // Nobody waits for an answer: a 408 could be taken for that to the next request.
            State::Reading if handshake.is_idle() => return self.remove(key),
            State::Receiving(_) if handshake.has_begun_interim() => return self.remove(key),
            // RFC 9110 15.5.9.
            State::Reading | State::Receiving(_) => handshake.refuse(&Response::new(408)),
            State::Deciding(_) | State::Answering { .. } => handshake.refuse(&overloaded()),
            _ => return self.remove(key),
        }
        // The refusal has a deadline of its own.
        handshake.ending = true;
        self.schedule(key, self.config.close_timeout);
        self.after(key);
    }
}
