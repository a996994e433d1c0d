//! In place of `hand_over` in a build without it: the reactor never pauses, and connections keep nothing of their requests.

use std::time::Instant;

use crate::protocol::http::Request;
use crate::server::reactor::Reactor;
use crate::server::reactor::handshake::Rules;
use crate::worker::handle::info::Outcome;

impl Rules {
    pub(super) fn with_head(&self, outcome: Outcome, _: &Request) -> Outcome {
        outcome
    }
}

impl<C: Send + 'static> Reactor<C> {
    pub(super) fn is_paused(&self) -> bool {
        false
    }

    pub(super) fn release_if_paused(&mut self) -> bool {
        false
    }

    pub(super) fn tell_quiet(&mut self, _: Instant) {}

    pub(super) fn quiet_due(&self) -> Option<Instant> {
        None
    }
}
