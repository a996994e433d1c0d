//! The worker's loop: what it does each time its poll returns, how long that may sleep, and how all of it ends.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mio::Events;

use crate::protocol::close::{CloseCause, CloseFrame};
use crate::worker::connection::flags::Flag;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::worker::{CloseCounts, TRIM_INTERVAL, Worker};
use crate::worker::panic::panic_text;
use crate::worker::thread::enter_worker;
use crate::worker::timer_wheel::TimerWheel;

/// How long an answer may wait for those to the rest of its batch, if the application is slow with them.
const MAX_HOLD: Duration = Duration::from_millis(1);

impl<D: Delivery> Worker<D> {
    /// Works until it is told to shut down.
    pub(crate) fn run(mut self) -> CloseCounts {
        enter_worker();
        loop {
            self.cycle();
            if let Some(ended) = self.ended() {
                return ended;
            }
        }
    }

    /// Sleeps until something happens, and does what there is to do.
    fn cycle(&mut self) {
        let timeout = self.timeout();
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        if let Err(error) = self.poll.poll(&mut events, timeout) {
            note_failure(&error);
        }
        self.context.inbox.set_running();
        let now = Instant::now();
        self.now = now;
        self.context.tick = self.timers.advance(now);
        self.serve_ready(&events, now);
        self.events = events;
        self.run_poll_task();
        self.drain_inbox();
        self.drive_ready_list();
        self.expire();
        self.send_broadcasts();
        self.delivery.end_iteration();
        self.poll_inbox_once_more();
        self.trim();
    }

    /// Gives the guest a turn, if there is anything for it to do. It may have connections for this worker, which are taken
    /// over next.
    fn run_poll_task(&mut self) {
        let Some(poll_task) = &self.poll_task else { return };
        if self.poll_task_due.is_some_and(|due| due <= self.now) || poll_task.has_commands() {
            self.run_poll_task_now();
        }
    }

    #[inline(never)]
    fn run_poll_task_now(&mut self) {
        if let Some(poll_task) = &mut self.poll_task {
            poll_task.run(self.now, &mut self.slots.keys);
            self.poll_task_due = poll_task.due(self.now);
        }
    }

    /// Gives those a turn whose deadline has come.
    fn expire(&mut self) {
        if self.timers.may_expire(self.context.tick) {
            self.serve_expired();
        }
    }

    #[inline(never)]
    fn serve_expired(&mut self) {
        let mut expired = std::mem::take(&mut self.expired);
        self.timers.expire_until(self.context.tick, &mut expired);
        for index in expired.drain(..) {
            if let Some(key) = self.slots.key_at(index) {
                self.drive(key, |driver, _| driver.expire_deadline());
            }
        }
        self.expired = expired;
    }

    /// Ends the worker when it is done with shutting down, or has no more time for that.
    fn ended(&mut self) -> Option<CloseCounts> {
        let deadline = self.shutdown?;
        if self.now < deadline && !(self.slots.len() == 0 && self.guest_is_done(self.now)) {
            return None;
        }
        self.force();
        self.delivery.end_iteration();
        self.context.inbox.close();
        // What the application gave it may panic as it is dropped; the report is to be heard nevertheless.
        let poll_task = self.poll_task.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(poll_task))) {
            log::error!("a hook panicked as it was dropped: {}", panic_text(&*panic));
        }
        Some(self.ended)
    }

    /// Reads the answers to the turn's events that are there already, lest the poll be asked in between. A thread that
    /// was woken for the events and has not run yet is let run first.
    fn poll_inbox_once_more(&mut self) {
        // Where a handler answers, nothing was handed over.
        if D::ANSWERS {
            return;
        }
        if self.delivery.has_woken() && !self.context.inbox.has_commands() {
            std::thread::yield_now();
        }
        if self.context.inbox.has_commands() {
            self.drain_inbox();
            self.drive_ready_list();
            self.send_broadcasts();
            self.delivery.end_iteration();
        }
    }

    /// How long the poll may sleep; decided after saying that it will.
    fn timeout(&mut self) -> Option<Duration> {
        let now = self.now;
        if !self.ready.is_empty() || !self.context.broadcasts.is_empty() {
            return Some(Duration::ZERO);
        }
        // Whatever comes in from here on wakes the poll.
        if !self.context.inbox.prepare_park()
            || self.poll_task.as_ref().is_some_and(|poll_task| poll_task.has_commands())
        {
            return Some(Duration::ZERO);
        }
        let keeps =
            !self.context.output.pool.is_empty() || !self.context.codec.is_empty() || !self.trimmable.is_empty();
        let mut due = earlier(earlier(self.timers.due(), self.shutdown), self.poll_task_due);
        if keeps {
            due = earlier(due, Some(now + TRIM_INTERVAL));
        }
        earlier(self.poll_timer.timeout(due), self.delivery.holds_answers().then_some(MAX_HOLD))
    }

    fn guest_is_done(&self, now: Instant) -> bool {
        self.poll_task.as_ref().is_none_or(|poll_task| poll_task.is_done(now))
    }

    /// Starts closing every connection.
    pub(super) fn begin_shutdown(&mut self, deadline: Instant) {
        let deadline = self.shutdown.map_or(deadline, |before| before.min(deadline));
        self.shutdown = Some(deadline);
        self.register_new();
        self.for_each(|driver| {
            driver.active().start_close(Some(&CloseFrame::going_away()));
            driver.flush(&mut []);
        });
    }

    /// Resets what has not closed by the deadline.
    fn force(&mut self) {
        self.for_each(|driver| {
            driver.conn.endpoint.stream.reset_on_drop();
            driver.conn.flags.remove(Flag::Clean);
            driver.end_abnormally("the server shut down", CloseCause::TimedOut);
        });
    }

    fn trim(&mut self) {
        if self.context.tick >= self.trim_at {
            self.trim_now();
        }
    }

    #[inline(never)]
    fn trim_now(&mut self) {
        self.trim_at = self.context.tick + TimerWheel::ticks(TRIM_INTERVAL);
        self.context.output.pool.trim();
        self.context.codec.trim();
        let slots = &mut self.slots;
        self.trimmable.retain(|key| slots.get_mut(*key).is_some_and(|slot| slot.conn.endpoint.connection.trim()));
    }
}

#[cold]
fn note_failure(error: &io::Error) {
    if error.kind() != io::ErrorKind::Interrupted {
        log::error!("a worker's poll failed: {error}");
    }
}

/// The earlier of two times, or the shorter of two waits, where there is any.
#[inline]
fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
