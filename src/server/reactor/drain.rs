//! A drain: no connection is accepted any more, and the handshakes that are under way are completed.

use std::sync::Arc;
use std::time::Instant;

use crate::server::reactor::Reactor;
use crate::server::reactor::stop::SHUTDOWN_LINGER;
use crate::worker::handle::draining::DrainOrder;
use crate::worker::handle::inbox::Command;

impl<C: Send + 'static> Reactor<C> {
    /// Closes the listeners, and has the workers close their connections one after the other.
    pub(super) fn drain(&mut self, order: Arc<DrainOrder>, now: Instant) {
        self.close_listeners(now);
        self.end_exchanges();
        self.drain_workers(&order);
        if self.draining.as_ref().is_none_or(|before| order.deadline < before.deadline) {
            self.draining = Some(order);
        }
    }

    /// Has the workers close their connections one after the other.
    pub(super) fn drain_workers(&self, order: &Arc<DrainOrder>) {
        for worker in &self.workers {
            worker.inbox.send(Command::Drain(order.clone()));
        }
    }

    /// Ends the drain once no handshake is under way any more. At its last turn those that are left are refused.
    pub(super) fn finish_drain(&mut self, now: Instant) {
        let Some(order) = self.draining.as_ref().filter(|_| self.stopping.is_none()) else { return };
        let deadline = order.deadline;
        if now >= order.last_turn {
            self.stop(deadline, now);
        } else if self.handshakes.len() == 0 {
            self.stopping = Some(deadline.min(now + SHUTDOWN_LINGER));
            for worker in &self.workers {
                worker.inbox.send(Command::FinishDrain(deadline));
            }
        }
    }

    /// When the drain ends at the latest.
    pub(super) fn drain_due(&self) -> Option<Instant> {
        self.draining.as_ref().filter(|_| self.stopping.is_none()).map(|order| order.last_turn)
    }
}
