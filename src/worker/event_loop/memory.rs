//! What a worker does when the server takes more memory than it may: it frees its pools, stops reading from the
//! connections that hold most, and in the end closes the one that holds most.

use std::time::{Duration, Instant};

use crate::protocol::close::{CloseCause, CloseCode, CloseReason};
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::handle::latest::LatestMessages;
use crate::worker::timer_wheel::TimerWheel;

/// The memory is above the budget for 1 s before a connection is closed for it: until then readers may take their output,
/// and the application its events. Larger exceeds the budget for longer; smaller closes connections for a short peak.
const GRACE: Duration = Duration::from_secs(1);

/// While the memory is above the budget, it is looked at every 32 ms.
const INTERVAL: Duration = Duration::from_millis(32);

/// Why a connection ends that holds too much.
const SHORT_OF_MEMORY: &str = "the server is short of memory";

impl<D: Delivery> Worker<D> {
    /// Tells the budget what the pools hold, and looks whether the budget is exceeded.
    #[inline]
    pub(super) fn check_memory(&mut self) {
        let context = &self.context;
        self.pooled.set(context.output.pool.bytes() + context.inputs.bytes() + context.codec.memory());
        if self.context.inbox.budget.is_exceeded() || self.close_largest_at.is_some() {
            self.save_memory();
        }
    }

    #[inline(never)]
    fn save_memory(&mut self) {
        let budget = self.context.inbox.budget.clone();
        self.context.is_short_of_memory = budget.is_exceeded();
        if !budget.is_exceeded() {
            self.close_largest_at = None;
            return self.ready.append(&mut self.context.starved);
        }
        self.context.output.pool.clear();
        self.context.inputs.clear();
        let tick = self.context.tick;
        if self.close_largest_at.is_none_or(|close_at| tick >= close_at) {
            // The largest holder may be another worker's, which sleeps since before the budget was exceeded.
            self.context.publisher.interrupt_others(self.context.handle.index);
        }
        let close_at = *self.close_largest_at.get_or_insert(tick + TimerWheel::ticks(GRACE));
        // Far above it there is no time to wait.
        let is_urgent = budget.used() > budget.limit().saturating_add(budget.limit() / 8);
        if tick >= close_at || is_urgent {
            self.close_largest_at = Some(tick + TimerWheel::ticks(INTERVAL));
            self.close_largest_holder();
        }
    }

    /// Closes the connection of this worker that holds most, if it holds more than its share.
    pub(super) fn close_largest_holder(&mut self) {
        // Keyed messages wait only where other output does, so that each connection that has some is charged.
        let held = self.context.charges.iter().map(|(index, held)| (*index, *held + self.latest_memory(*index)));
        let Some((index, held)) = held.max_by_key(|(_, held)| *held) else { return };
        if held > self.context.memory_share()
            && let Some(key) = self.slots.key_at(index)
        {
            let (used, limit) = (self.context.inbox.budget.used(), self.context.inbox.budget.limit());
            self.drive(key, |driver, _| {
                let addr = driver.info().addr();
                log::warn!("{addr}: closed, for it holds {held} of {used} bytes; max_memory is {limit}");
                driver.fail_short_of_memory();
            });
        }
    }

    /// The memory of the keyed messages of the connection at `index`. The budget is told of it where they wait.
    fn latest_memory(&self, index: u32) -> usize {
        self.slots.at(index).and_then(|slot| slot.conn.latest()).map_or(0, LatestMessages::memory)
    }

    /// When the memory is to be looked at, if nothing happens before.
    pub(super) fn memory_due(&self) -> Option<Instant> {
        self.close_largest_at.map(|_| self.now + INTERVAL)
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Whether the connection is not to be read, because the server is short of memory and this connection holds more
    /// than its share. It is driven again when there is memory.
    #[cold]
    pub(super) fn is_starved(&mut self) -> bool {
        let is_starved = self.conn.memory_with_latest() > self.context.memory_share();
        if is_starved {
            self.context.starved.push(self.state.key);
        }
        is_starved
    }

    /// Closes with 1013 (RFC 6455 7.4, as registered with IANA), and gives up what the connection holds. If the peer does
    /// not read, the close frame would wait behind the output that is to be given up: then the connection is reset.
    fn fail_short_of_memory(&mut self) {
        if self.conn.endpoint.backlog() > 0 {
            self.conn.endpoint.stream.reset_on_drop();
            return self.end_with(CloseReason::new(CloseCode::TRY_AGAIN_LATER, SHORT_OF_MEMORY, CloseCause::Failed));
        }
        self.fail_with(CloseCode::TRY_AGAIN_LATER, SHORT_OF_MEMORY, CloseCause::Failed);
        if self.conn.phase != Phase::Open {
            self.give_up_input();
        }
        self.flush(&[]);
    }
}
