//! What waits for a socket: the poll reports room for it, and a peer that takes too little is noticed.

use mio::Interest;

use crate::worker::connection::flags::Flag;
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Driver;

impl<D: Delivery> Driver<'_, D> {
    /// Has the poll report room for what is queued, and notes when the output passes the high-water mark.
    pub(super) fn note_backlog(&mut self) {
        let backlog = self.conn.endpoint.backlog();
        if backlog > 0 || !self.context.queued_since.is_empty() {
            self.context.note_queued(self.state.key.index, backlog > 0);
        }
        // What waits for the end of a message does not wait for the socket.
        let backlog = backlog - self.conn.endpoint.held();
        if backlog > 0 && !self.conn.flags.contains(Flag::WritableRegistered) {
            self.register_writable();
        }
        let was_above = self.conn.flags.contains(Flag::AboveHighWater);
        let config = &self.context.config;
        // The writer of a message in parts leaves off earlier.
        let is_in_message = self.conn.endpoint.connection.is_in_message();
        if is_in_message && backlog > 0 {
            self.conn.endpoint.note_full();
        }
        let high = if is_in_message { config.part_room() } else { config.max_write_buffer_size };
        let above = backlog >= if was_above { config.low_water_mark(high) } else { high };
        if above != was_above && self.conn.phase == Phase::Open {
            self.conn.flags.set(Flag::AboveHighWater, above);
            self.conn.since = self.context.tick;
            self.state.deadline_changed = true;
        }
    }

    #[cold]
    fn register_writable(&mut self) {
        self.conn.flags.insert(Flag::WritableRegistered);
        let (token, interests) = (self.state.key.token(), Interest::READABLE | Interest::WRITABLE);
        // The poll reports room that there is already.
        if let Err(error) = self.registry.reregister(&mut self.conn.endpoint.stream, token, interests) {
            self.io_failed(&error);
        }
    }
}
