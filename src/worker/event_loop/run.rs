//! The loop of a worker: what it does each time its poll returns, how long the poll may sleep, and how the loop ends.

use std::io;
use std::time::{Duration, Instant};

use mio::Events;

use crate::protocol::close::{CloseCause, CloseFrame};
use crate::protocol::contain::contained;
use crate::worker::connection::flags::Flag;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::worker::{CloseCounts, EVENTS, TRIM_INTERVAL, Worker};
use crate::worker::handle::wakeup::Sleep;
use crate::worker::timer_wheel::TimerWheel;

/// An answer waits at most 1 ms for the answers to the rest of its batch. Larger delays answers of a slow application;
/// smaller wakes the worker more often. A worker that found nothing after this time sleeps until the next answer wakes
/// it.
const MAX_HOLD: Duration = Duration::from_millis(1);

impl<D: Delivery> Worker<D> {
    /// Runs the loop until the worker has shut down.
    pub(super) fn run_until_shutdown(&mut self) -> CloseCounts {
        loop {
            let timeout = self.timeout();
            if let Err(error) = self.run_once(timeout) {
                log::error!("a worker's poll failed: {error}");
            }
            self.poll_inbox_once_more();
            self.trim();
            if let Some(ended) = self.ended() {
                return ended;
            }
        }
    }

    /// Runs one iteration, which waits for up to `timeout`. If the poll fails, the rest of the iteration still runs. A
    /// poll that a signal interrupts does not fail.
    pub(in crate::worker) fn run_once(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut polled = self.poll.poll(&mut events, timeout);
        if polled.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            polled = Ok(());
        }
        self.context.inbox.set_running();
        self.found_nothing = timeout != Some(Duration::ZERO) && events.is_empty() && !self.context.inbox.has_commands();
        let now = Instant::now();
        self.now = now;
        self.context.tick = self.timers.advance(now);
        self.context.callback_watch.begin(now);
        self.serve_ready(&events, now);
        self.events = events;
        self.run_poll_task();
        self.drain_inbox();
        self.drive_ready_list();
        self.expire();
        self.close_in_turn();
        self.sweep_topics();
        self.send_to_many();
        self.tell_topic_events();
        self.delivery.end_iteration();
        self.check_memory();
        self.count_iteration();
        #[cfg(all(target_os = "linux", feature = "handover"))]
        self.hand_over_if_asked();
        polled
    }

    /// Counts the iteration, and shows other threads what it did.
    #[inline]
    fn count_iteration(&mut self) {
        let now = Instant::now();
        let metrics = &self.context.inbox.metrics;
        metrics.iterations.add(1);
        metrics.iteration_time.record(now.saturating_duration_since(self.now));
        metrics.publish(&self.context.totals);
        self.look_for_slow_callbacks(now);
    }

    /// Runs the poll task, if there is anything for it to do. It may have connections for this worker, which are
    /// registered next.
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
            // The hooks of the poll task are no callbacks of connections.
            self.context.callback_watch.begin(Instant::now());
        }
    }

    /// Drives the connections whose deadline has come.
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

    /// Ends the worker when a shutdown has begun, and every connection has closed or its deadline has passed. Returns
    /// how the connections ended.
    pub(in crate::worker) fn ended(&mut self) -> Option<CloseCounts> {
        let deadline = self.shutdown?;
        if self.now < deadline && !(self.slots.len() == 0 && self.poll_task_is_done(self.now)) {
            return None;
        }
        self.force();
        self.ended.drained = self.drain.as_ref().map(|drain| drain.report);
        self.tell_topic_events();
        self.delivery.end_iteration();
        self.context.inbox.close();
        #[cfg(all(target_os = "linux", feature = "handover"))]
        self.drop_held();
        // The application's hooks may panic as they are dropped. The counts are returned all the same.
        let poll_task = self.poll_task.take();
        if let Err(panic) = contained(|| drop(poll_task)) {
            log::error!("a hook panicked as it was dropped: {panic}");
        }
        Some(self.ended)
    }

    /// Executes the answers to this iteration's events that are in the inbox already, which saves a poll. Yields to a
    /// thread that was woken for the events and may not have run yet.
    fn poll_inbox_once_more(&mut self) {
        // Handlers have answered by now.
        if D::ANSWERS {
            return;
        }
        if self.delivery.has_woken() && !self.context.inbox.has_commands() {
            std::thread::yield_now();
        }
        if self.context.inbox.has_commands() {
            self.drain_inbox();
            self.drive_ready_list();
            self.send_to_many();
            self.tell_topic_events();
            self.delivery.end_iteration();
        }
    }

    /// Executes the commands in the inbox.
    pub(in crate::worker) fn serve_inbox(&mut self) {
        if self.context.inbox.has_commands() {
            self.drain_inbox();
            self.send_to_many();
            self.tell_topic_events();
        }
    }

    /// Returns how long the poll may sleep. The inbox is parked before this is decided, so that a later command wakes
    /// the poll.
    pub(in crate::worker) fn timeout(&mut self) -> Option<Duration> {
        let holds_answers = !self.found_nothing && self.delivery.holds_answers();
        if self.has_work() || !self.prepare_park(if holds_answers { Sleep::Brief } else { Sleep::Long }) {
            return Some(Duration::ZERO);
        }
        let due = self.due();
        earlier(self.poll_timer.timeout(due), holds_answers.then_some(MAX_HOLD))
    }

    /// Arms the poll to report everything that comes in from now on, deadlines included, for a caller that waits for
    /// the poll's descriptor. Returns `false` if there is something to do at once.
    pub(in crate::worker) fn arm(&mut self) -> bool {
        // A poll that reported as many as it can may have more to report.
        if self.events.iter().count() >= EVENTS || self.has_work() || !self.prepare_park(Sleep::Long) {
            return false;
        }
        let due = self.due();
        self.poll_timer.arm(due)
    }

    /// Returns when the next iteration is due even if nothing comes in.
    pub(in crate::worker) fn next_deadline(&self) -> Option<Instant> {
        let poll_task_asks = self.poll_task.as_ref().is_some_and(|poll_task| poll_task.has_commands());
        if self.has_work() || self.context.inbox.has_commands() || poll_task_asks { Some(self.now) } else { self.due() }
    }

    /// Whether the worker has left work for its next iteration.
    fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.context.broadcasts.is_empty() || self.context.topics.has_work()
    }

    /// Parks the inbox, so that a later command wakes the poll. Returns `false` if there are commands already.
    fn prepare_park(&self, sleep: Sleep) -> bool {
        self.context.inbox.prepare_park(sleep)
            && !self.poll_task.as_ref().is_some_and(|poll_task| poll_task.has_commands())
    }

    /// Returns the next deadline of all.
    fn due(&self) -> Option<Instant> {
        let has_spare_memory =
            !self.context.output.pool.is_empty() || !self.context.codec.is_empty() || !self.trimmable.is_empty();
        let has_spare_memory = has_spare_memory || self.context.inputs.is_in_use();
        let due = earlier(earlier(self.timers.due(), self.shutdown), earlier(self.poll_task_due, self.memory_due()));
        let due = earlier(due, self.sweep_due());
        let due = earlier(due, self.drain.as_ref().and_then(|drain| drain.due()));
        if has_spare_memory { earlier(due, Some(self.now + TRIM_INTERVAL)) } else { due }
    }

    /// Updates the time, for work that is done outside an iteration.
    pub(in crate::worker) fn take_time(&mut self) {
        self.now = Instant::now();
        self.context.tick = self.timers.advance(self.now);
    }

    fn poll_task_is_done(&self, now: Instant) -> bool {
        self.poll_task.as_ref().is_none_or(|poll_task| poll_task.is_done(now))
    }

    /// Starts closing every connection.
    pub(in crate::worker) fn begin_shutdown(&mut self, deadline: Instant) {
        let deadline = self.shutdown.map_or(deadline, |before| before.min(deadline));
        self.shutdown = Some(deadline);
        self.register_new();
        self.take_all_turns();
        let frame = self.shutdown_frame();
        self.for_each(|driver| {
            driver.active().close_behind_senders(&frame);
            driver.flush(&[]);
        });
    }

    /// The close frame of the connections that a shutdown closes.
    pub(super) fn shutdown_frame(&self) -> CloseFrame {
        self.drain.as_ref().map_or_else(CloseFrame::going_away, |drain| drain.frame().clone())
    }

    /// Resets the connections that have not closed by the deadline.
    fn force(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.cut();
        }
        self.for_each_key(|worker, key| {
            worker.drive(key, |driver, _| {
                driver.conn.endpoint.stream.reset_on_drop();
                driver.conn.flags.remove(Flag::Clean);
                driver.end_abnormally("the server shut down", CloseCause::TimedOut);
            });
            // The callback for the end may have panicked, for which there is no time to close with 1011.
            worker.remove(key);
        });
    }

    /// Frees memory that was not used lately, once in every `TRIM_INTERVAL`.
    pub(in crate::worker) fn trim(&mut self) {
        if self.context.tick >= self.trim_at {
            self.trim_now();
        }
    }

    #[inline(never)]
    fn trim_now(&mut self) {
        self.trim_at = self.context.tick + TimerWheel::ticks(TRIM_INTERVAL);
        self.context.output.pool.trim();
        self.context.inputs.trim();
        self.context.codec.trim();
        let slots = &mut self.slots;
        let context = &mut self.context;
        self.trimmable.retain(|key| {
            let Some(slot) = slots.get_mut(*key) else { return false };
            let keeps = slot.conn.endpoint.connection.trim();
            context.charge(key.index, slot.conn.endpoint.memory());
            keeps
        });
        self.check_memory();
    }
}

/// Returns the earlier of two times, or the shorter of two waits. If one is `None`, returns the other.
#[inline]
pub(in crate::worker) fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
