//! Connections that are ready together: a few are read, one after the other, and then written to.

use std::time::{Duration, Instant};

use mio::Events;

use crate::worker::connection::conn::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::{FETCHED, Worker};
use crate::worker::slab::index_of;

/// How long answers may wait for those of the next connection, whose callbacks may take their time: several times what a
/// group takes that only echoes, and not to be felt.
const MAX_WAIT: Duration = Duration::from_micros(100);

impl<D: Delivery> Worker<D> {
    /// Serves what the poll reported, a few connections at a time: their memory is fetched together, and their answers
    /// leave when all of them were read. The kernel's code for receiving and that for sending do not fit into a core's
    /// cache beside each other.
    pub(super) fn serve_ready(&mut self, events: &Events, now: Instant) {
        let (mut ahead, mut at_hand) = (events.iter(), events.iter());
        let mut began = now;
        loop {
            let few = ahead.by_ref().take(FETCHED).map(|event| self.fetch(index_of(event.token()))).count();
            self.context.gathers = few > 1;
            for event in at_hand.by_ref().take(few) {
                if !self.context.held.is_empty() && began.elapsed() >= MAX_WAIT {
                    self.flush_group();
                }
                self.ready_event(event, now);
            }
            self.context.gathers = false;
            self.flush_group();
            if few < FETCHED {
                return;
            }
            began = Instant::now();
        }
    }

    /// Writes the answers that wait.
    #[inline]
    fn flush_group(&mut self) {
        if !self.context.held.is_empty() {
            self.flush_group_slow();
        }
    }

    #[inline(never)]
    fn flush_group_slow(&mut self) {
        let mut held = std::mem::take(&mut self.context.held);
        let cork = self.context.output.take_held();
        for (key, range) in held.drain(..) {
            let frames = &cork[range];
            self.context.key = key;
            let rest = self.slots.get_mut(key).and_then(|slot| slot.conn.try_write_direct(&self.context, frames));
            // Nothing can happen to a connection meanwhile; if something did, they go behind what is there.
            let rest = rest.unwrap_or(Ok(frames));
            if !matches!(rest, Ok([])) {
                self.drive(key, |driver, _| driver.send_rest(rest));
            }
        }
        self.context.held = held;
        self.context.output.give_back(cork);
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Leaves what the turn produced to its group's end; `false` if it is to be written now, for there is much of it, or
    /// more to do on this connection.
    #[inline]
    pub(super) fn hold(&mut self) -> bool {
        let (conn, context) = (&self.conn, &mut *self.context);
        if !context.gathers || conn.readable || conn.phase != Phase::Open || !conn.endpoint.is_clear() {
            return false;
        }
        let Some(range) = context.output.hold() else { return false };
        context.held.push((context.key, range));
        true
    }
}
