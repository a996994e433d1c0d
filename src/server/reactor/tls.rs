//! The handshakes of TLS, a few steps at a time.

use std::time::Instant;

use super::Reactor;
use crate::server::reactor::handshake::State;
use crate::worker::slab::Key;

/// At most 8 steps of TLS handshakes are done in one iteration of the event loop. A step takes 0.1 ms with an ECDSA key and
/// up to 0.7 ms with RSA. More delays other handshakes; fewer costs more system calls.
const MAX_STEPS: usize = 8;

/// One step, where the thread serves established connections too.
const MAX_STEPS_OF_WORKER: usize = 1;

impl<C: Send + 'static> Reactor<C> {
    /// Takes the next steps of TLS handshakes.
    pub(super) fn step_tls(&mut self, now: Instant) {
        let most = if self.shares_poll { MAX_STEPS_OF_WORKER } else { MAX_STEPS };
        let mut steps = 0;
        while steps < most {
            let Some(key) = self.tls_due.pop_front() else { return };
            // One that has ended meanwhile takes no step.
            let Some(handshake) = self.handshakes.get_mut(key) else { continue };
            handshake.step_due = false;
            steps += 1;
            self.contain(key, |reactor| reactor.step(key, now));
        }
    }

    /// Takes a step of one handshake, with what comes after it.
    fn step(&mut self, key: Key, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(key) else { return };
        handshake.flush();
        match handshake.state {
            // A refusal that waits for the handshake.
            State::Writing { .. } => {
                handshake.write();
                self.after(key);
            }
            _ => self.read(key, now),
        }
    }
}
