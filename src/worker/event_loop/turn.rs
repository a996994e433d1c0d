//! How long the turn of a connection is that receives a large message as it arrives.

use std::sync::atomic::Ordering;

use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::{Driver, MAX_INFLATED, MAX_INFLATED_BESIDE};

impl<D: Delivery> Driver<'_, D> {
    /// Whether the drive has taken as long as it may, after so many reads and with more to read.
    pub(super) fn has_had_its_turn(&self, reads: usize) -> bool {
        if self.state.inflated >= MAX_INFLATED {
            return true;
        }
        // A read brings up to 256 KiB of such a message, which is a turn.
        reads > 0 && self.delays_others()
    }

    /// How much a drive may inflate, and compress.
    pub(super) fn max_inflated(&self) -> u64 {
        if self.delays_others() { MAX_INFLATED_BESIDE } else { MAX_INFLATED }
    }

    /// Whether the connection receives what arrives of a message, and others wait for its turn to end.
    fn delays_others(&self) -> bool {
        self.conn.endpoint.connection.delivers_fragments() && self.context.inbox.load.load(Ordering::Relaxed) > 1
    }
}
