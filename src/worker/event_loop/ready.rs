//! Drives the connections that the poll reported, in groups: all of a group are read before any is written to.

use std::time::{Duration, Instant};

use mio::Events;

use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::direct::Frames;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::slab::Key;

/// At most 8 connections are read before any of them is written to. Receiving and sending are different code of the
/// kernel, which does not fit into a core's instruction cache together: larger groups change between the two less
/// often. In larger groups the first answers wait longer, and more output competes for the data cache.
const GROUP_SIZE: usize = 8;

/// At most 100 us pass before a group's first answer is written, even if a callback takes long. Larger delays answers;
/// smaller divides groups whose callbacks are quick.
const MAX_WAIT: Duration = Duration::from_micros(100);

impl<D: Delivery> Worker<D> {
    /// Drives the connections that the poll reported, in groups: all connections of a group are read, then their
    /// answers are written.
    pub(super) fn serve_ready(&mut self, events: &Events, now: Instant) {
        let mut events = events.iter().peekable();
        let mut began = now;
        while let Some(first) = events.next() {
            // An answer waits only if another connection is to be read.
            self.context.group.is_open = events.peek().is_some();
            self.ready_event(first, now);
            for event in events.by_ref().take(GROUP_SIZE - 1) {
                if !self.context.group.held.is_empty() {
                    let now = Instant::now();
                    self.look_for_slow_callbacks(now);
                    if now.saturating_duration_since(began) >= MAX_WAIT {
                        self.flush_group();
                    }
                }
                self.ready_event(event, now);
            }
            self.context.group.is_open = false;
            self.flush_group();
            if events.peek().is_some() {
                began = Instant::now();
                self.look_for_slow_callbacks(began);
            }
        }
    }

    /// Counts and logs a callback that has taken too long since the last look at the clock.
    #[inline]
    pub(super) fn look_for_slow_callbacks(&mut self, now: Instant) {
        if !D::HANDLES
            && let Some((time, suspects)) = self.context.callback_watch.look(now)
        {
            self.callback_was_slow(now, time, &suspects);
        }
    }

    #[cold]
    #[inline(never)]
    fn callback_was_slow(&mut self, now: Instant, time: Duration, suspects: &[Key]) {
        self.context.inbox.metrics.slow_callbacks.add(1);
        if !self.context.callback_watch.may_log(now) {
            return;
        }
        let addrs: Vec<String> = suspects
            .iter()
            .filter_map(|key| Some(self.slots.get_mut(*key)?.conn.info(&self.context, *key).addr().to_string()))
            .collect();
        let who = addrs.join(" or ");
        log::warn!("{who}: callbacks took {time:.0?}, for which the other connections of this worker waited");
    }

    /// Writes the output that the group holds.
    #[inline]
    fn flush_group(&mut self) {
        if !self.context.group.held.is_empty() {
            self.flush_group_slow();
        }
    }

    #[inline(never)]
    fn flush_group_slow(&mut self) {
        let mut held = std::mem::take(&mut self.context.group.held);
        let cork = self.context.output.take_held();
        for (key, range) in held.drain(..) {
            let bytes = &cork[range];
            // The drive that produced them has counted their messages.
            let frames = Frames { bytes, messages: 0, posted: 0, compressible: false };
            if !self.try_write_direct(key, frames) {
                // No other output is added to a connection meanwhile. If there were any, the frames would follow it.
                self.drive(key, |driver, _| {
                    driver.context.output.cork().extend_from_slice(bytes);
                    driver.flush(&[]);
                });
            }
        }
        self.context.group.held = held;
        self.context.output.give_back(cork);
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Leaves the output of this drive to the end of the group; `false` if it is to be written now, because it is large
    /// or there is more to do on this connection.
    #[inline]
    pub(super) fn hold(&mut self) -> bool {
        let (conn, context) = (&self.conn, &mut *self.context);
        if !context.group.is_open || conn.readable || conn.phase != Phase::Open || !conn.endpoint.is_clear() {
            return false;
        }
        let Some(range) = context.output.hold() else { return false };
        context.group.held.push((self.state.key, range));
        true
    }
}
