//! A worker: it owns many connections, and waits only in its poll.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::event::Event;
use mio::{Events, Poll, Registry, Token, Waker};

use crate::config::Config;
use crate::protocol::Role;
use crate::protocol::contain::contained;
use crate::protocol::deflate::Codec;
use crate::transport::budget::{Charge, MemoryBudget};
use crate::transport::buffer::Input;
use crate::transport::output::Output;
use crate::worker::connection::active::DriveState;
use crate::worker::connection::callback_watch::CallbackWatch;
use crate::worker::connection::context::{WorkerContext, WriteGroup};
use crate::worker::connection::flags::Flag;
use crate::worker::connection::phase::Phase;
use crate::worker::connection::topics::WorkerTopics;
use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::by_connection::CommandsByConnection;
use crate::worker::event_loop::drain_state::Drain;
use crate::worker::event_loop::drive::{Driver, Slot};
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::event_loop::held_state::Held;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::event_loop::poll_task::PollTask;
use crate::worker::event_loop::poll_timer::PollTimer;
use crate::worker::handle::draining::DrainReport;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::handle::hand_over::HandOverTask;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::worker::handle::inbox::Command;
use crate::worker::handle::inbox::{CommandQueue, Inbox};
use crate::worker::handle::metrics::Totals;
use crate::worker::handle::publisher::Publisher;
use crate::worker::handle::stream_pool::StreamPoolUse;
use crate::worker::handle::topic_events::TopicObserver;
use crate::worker::handle::worker_handle::WorkerHandle;
use crate::worker::slab::{Key, KeyMap, Slab};
use crate::worker::timer_wheel::{Tick, TimerWheel};

/// The waker's token. It is a reserved one, which no connection has.
const WAKE: Token = Token(usize::MAX);

/// The token of the [`PollTimer`].
const TIMER: Token = Token(WAKE.0 - 1);

/// At most 128 connections are served per poll. Larger delays event delivery, and holds more events in memory
/// meanwhile; smaller adds polls.
pub(super) const EVENTS: usize = 128;

/// Large buffers and compressors that were not used for 500 ms are freed, at the latest after twice that time. Larger
/// keeps the memory of a burst; smaller allocates again for the next one.
pub(super) const TRIM_INTERVAL: Duration = Duration::from_millis(500);

/// The application's part of a [`NewConnection`]: the delivery's part of the connection, and what it is opened with.
pub(crate) type NewApp<D> = (<D as Delivery>::Connection, <D as Delivery>::Opening);

/// How the connections ended that were open when the worker was shut down, or began to drain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CloseCounts {
    pub(crate) clean: usize,
    pub(crate) forced: usize,
    /// 1 if the thread failed.
    pub(crate) failed: usize,
    /// How they ended if the server was drained.
    pub(crate) drained: Option<DrainReport>,
}

/// The connections of one thread, and the state to serve them.
pub(crate) struct Worker<D: Delivery> {
    pub(in crate::worker) poll: Poll,
    /// The events that the poll reported. This and the next field are kept to reuse their memory.
    pub(in crate::worker) events: Events,
    /// The indices of the connections whose deadline has passed.
    pub(in crate::worker) expired: Vec<u32>,
    /// When the poll returned.
    pub(in crate::worker) now: Instant,
    pub(in crate::worker) poll_timer: PollTimer,
    /// Whether the last poll waited, and neither an event nor a command ended it.
    pub(in crate::worker) found_nothing: bool,
    pub(in crate::worker) slots: Slab<Slot<D::Connection>>,
    pub(in crate::worker) timers: TimerWheel,
    pub(in crate::worker) input: Input,
    pub(in crate::worker) context: WorkerContext,
    pub(in crate::worker) delivery: D,
    pub(in crate::worker) new_connections: Receiver<NewConnection<NewApp<D>>>,
    /// New connections that wait until the application has taken events.
    pub(super) held_back: Vec<NewConnection<NewApp<D>>>,
    pub(in crate::worker) connection_limit: Arc<ConnectionLimit>,
    /// Connections that are to be driven without an event.
    pub(in crate::worker) ready: Vec<Key>,
    pub(in crate::worker) queue: CommandQueue,
    pub(super) by_connection: CommandsByConnection,
    pub(in crate::worker) shutdown: Option<Instant>,
    pub(super) drain: Option<Box<Drain>>,
    /// Connections are to be handed over at the end of this iteration.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::worker) hand_over: Option<Box<HandOverTask>>,
    /// The commands that end the worker, while its connections are handed over.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) put_off: Option<Vec<Command>>,
    /// Another process may still have sockets of this one's connections, from a hand-over that failed.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) shared_sockets: bool,
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) held: Held<NewApp<D>>,
    pub(in crate::worker) ended: CloseCounts,
    pub(in crate::worker) trim_at: Tick,
    /// The memory of the pools, as the budget was told.
    pub(super) pooled: Charge,
    /// When the connection that holds most is closed, while the server takes more memory than it may.
    pub(super) close_largest_at: Option<Tick>,
    /// Connections that hold memory which can be freed while they are idle.
    pub(in crate::worker) trimmable: Vec<Key>,
    pub(in crate::worker) poll_task: Option<Box<dyn PollTask>>,
    /// When the poll task is to run, if nothing happens before.
    pub(in crate::worker) poll_task_due: Option<Instant>,
    /// What ends with the worker.
    held_until_end: Vec<Arc<dyn Any + Send + Sync>>,
    /// The threads that read sources of messages end with the last worker.
    _streams: StreamPoolUse,
    /// The number of drives so far.
    #[cfg(test)]
    pub(in crate::worker) drives: usize,
}

/// The parts of a worker that are made before those of its siblings are known.
pub(crate) struct WorkerParts {
    poll: Poll,
    poll_timer: PollTimer,
    role: Role,
    pub(crate) inbox: Arc<Inbox>,
}

impl WorkerParts {
    /// Makes the parts of a worker that is the `role` end of its connections.
    pub(crate) fn new(role: Role, budget: Arc<MemoryBudget>) -> io::Result<WorkerParts> {
        let poll = Poll::new()?;
        let poll_timer = PollTimer::new(poll.registry(), TIMER)?;
        let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), WAKE)?, budget));
        Ok(WorkerParts { poll, poll_timer, role, inbox })
    }
}

impl<D: Delivery> Worker<D> {
    pub(crate) fn new(
        parts: WorkerParts,
        index: u16,
        siblings: Arc<[Arc<Inbox>]>,
        config: Arc<Config>,
        delivery: D,
        new_connections: Receiver<NewConnection<NewApp<D>>>,
        connection_limit: Arc<ConnectionLimit>,
    ) -> Worker<D> {
        let now = Instant::now();
        let read_buffer_size = config.read_buffer_size;
        let pooled = Charge::new(&parts.inbox.budget, 0);
        let streams = siblings.first().unwrap_or(&parts.inbox).streams.clone();
        let streams = (streams.clone(), StreamPoolUse::new(streams, &config));
        let callback_watch = CallbackWatch::new(config.slow_callback, now);
        let context = WorkerContext {
            max_answers: if parts.role == Role::Server { config.max_write_buffer_size } else { usize::MAX },
            delivers_after_close: config.delivers_after_close(parts.role),
            handle: Arc::new(WorkerHandle::new(
                parts.inbox.clone(),
                config.clone(),
                index,
                parts.role,
                streams.0.clone(),
            )),
            inbox: parts.inbox,
            publisher: Publisher::new(siblings, config.max_write_buffer_size),
            output: Output::new(config.max_message_size),
            inputs: Arc::default(),
            config,
            group: WriteGroup::default(),
            codec: Codec::new(),
            epoch: now,
            tick: 0,
            broadcasts: Vec::new(),
            topics: WorkerTopics::default(),
            infos: Vec::new(),
            outcomes: KeyMap::default(),
            charges: KeyMap::default(),
            is_short_of_memory: false,
            starved: Vec::new(),
            undecoded: 0,
            released_payloads: 0,
            pending_close_frames: KeyMap::default(),
            totals: Totals::default(),
            queued_since: KeyMap::default(),
            callback_watch,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            hands_over: false,
        };
        Worker {
            poll: parts.poll,
            events: Events::with_capacity(EVENTS),
            expired: Vec::new(),
            now,
            poll_timer: parts.poll_timer,
            found_nothing: false,
            slots: Slab::new(),
            timers: TimerWheel::new(now),
            input: Input::with_size(read_buffer_size),
            context,
            delivery,
            new_connections,
            held_back: Vec::new(),
            connection_limit,
            ready: Vec::new(),
            queue: CommandQueue::default(),
            by_connection: CommandsByConnection::default(),
            shutdown: None,
            drain: None,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            hand_over: None,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            put_off: None,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            shared_sockets: false,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            held: Held::default(),
            ended: CloseCounts::default(),
            trim_at: TimerWheel::ticks(TRIM_INTERVAL),
            pooled,
            close_largest_at: None,
            trimmable: Vec::new(),
            poll_task: None,
            poll_task_due: None,
            held_until_end: Vec::new(),
            _streams: streams.1,
            #[cfg(test)]
            drives: 0,
        }
    }

    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        self.context.inbox.clone()
    }

    /// The registry that the sockets of a poll task are registered with.
    pub(crate) fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    /// Sets the topics of the server, before the worker runs.
    pub(crate) fn set_topics(&mut self, observer: &Arc<TopicObserver>) {
        self.context.handle.set_topics(observer.topics.clone());
        self.context.topics.set_observer(self.context.handle.index, observer.clone());
    }

    /// Keeps what is needed to hand the connections over, before the worker runs. Its clocks begin `age` ago, so that they
    /// can tell how old the connections of another process are.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn prepare_hand_over(&mut self, age: Duration) {
        self.context.hands_over = true;
        self.timers = TimerWheel::new(self.now.checked_sub(age).unwrap_or(self.now));
    }

    /// Keeps `value` until the worker has ended.
    pub(crate) fn hold_until_end(&mut self, value: Arc<dyn Any + Send + Sync>) {
        self.held_until_end.push(value);
    }

    /// Sets the worker's poll task.
    pub(crate) fn set_poll_task(&mut self, poll_task: Box<dyn PollTask>) {
        self.poll_task_due = poll_task.due(self.now);
        self.poll_task = Some(poll_task);
    }

    pub(in crate::worker) fn ready_event(&mut self, event: &Event, now: Instant) {
        let Some(key) = self.slots.key_of(event.token()) else { return self.ready_other(event, now) };
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        let (writable, read_closed) = (event.is_writable(), event.is_read_closed() || event.is_error());
        self.drive(key, |driver, input| {
            driver.conn.readable |= readable;
            if read_closed {
                driver.conn.flags.insert(Flag::HangupReported);
            }
            if writable {
                driver.drain();
            }
            driver.advance(input);
        });
    }

    /// Handles an event of something other than a connection, or of one that has ended.
    #[inline(never)]
    fn ready_other(&mut self, event: &Event, now: Instant) {
        #[cfg(all(target_os = "linux", feature = "handover"))]
        self.note_held(event);
        match (event.token(), &mut self.poll_task) {
            (WAKE, _) => {}
            (TIMER, _) => self.poll_timer.expired(),
            (_, Some(poll_task)) => {
                poll_task.ready(event, now, &mut self.slots.keys);
                self.poll_task_due = Some(now);
            }
            (_, None) => {}
        }
    }

    /// Drives the connections that have more to do.
    pub(in crate::worker) fn drive_ready_list(&mut self) {
        self.delivery.resume(&mut self.ready);
        if !self.held_back.is_empty() {
            self.register_held_back();
        }
        if !self.ready.is_empty() {
            self.drive_ready_list_now();
        }
    }

    #[inline(never)]
    fn drive_ready_list_now(&mut self) {
        for key in std::mem::take(&mut self.ready) {
            if let Some(conn) = self.slots.get_mut(key) {
                conn.conn.flags.remove(Flag::InReadyList);
                self.drive(key, |driver, input| driver.advance(input));
            }
        }
    }

    /// Drives a connection: calls `act` with it, catches a panic of the application, and records what follows.
    pub(in crate::worker) fn drive(&mut self, key: Key, act: impl FnOnce(&mut Driver<'_, D>, &mut Input)) {
        let Some(Slot { conn, app }) = self.slots.get_mut(key) else { return };
        #[cfg(test)]
        {
            self.drives += 1;
        }
        let (delivery, context) = (&mut self.delivery, &mut self.context);
        if !D::HANDLES {
            context.callback_watch.drives(key);
        }
        let (state, registry) = (DriveState::new(key, conn), self.poll.registry());
        let mut driver = Driver { conn, app, delivery, context, state, registry };
        let acted = contained(|| act(&mut driver, &mut self.input));
        if let Err(panic) = acted {
            contain(&mut driver, &panic);
        }
        if !driver.receives_topics() {
            driver.active().leave_topics();
        }
        driver.active().end_drive();
        let DriveState { again, deadline_changed, .. } = driver.state;
        // A closing connection is read even if reading would have to wait, to find the peer's close frame.
        let again = again || (driver.conn.waiting && !driver.receives());
        driver.conn.waiting &= driver.receives();
        if let Some(app) = app {
            delivery.served(app);
        }
        if conn.phase == Phase::Closed {
            return self.remove(key);
        }
        if again && conn.flags.insert(Flag::InReadyList) {
            self.ready.push(key);
        }
        if conn.endpoint.connection.begins_to_keep() {
            self.trimmable.push(key);
        }
        if deadline_changed {
            match conn.next_deadline(&self.context.config) {
                Some((at, _)) => self.timers.schedule(key.index, at),
                None => self.timers.cancel(key.index),
            }
        }
    }

    /// Removes a connection. Dropping its socket closes it.
    #[inline(never)]
    pub(in crate::worker) fn remove(&mut self, key: Key) {
        self.timers.cancel(key.index);
        let Some(Slot { conn, app }) = self.slots.remove(key) else { return };
        let addr = conn.info(&self.context, key).addr();
        let info = self.context.take_info(key.index);
        let (undecoded, queued) = (conn.endpoint.undecoded(), conn.endpoint.backlog());
        if queued > 0 {
            self.context.totals.queued_bytes -= queued as u64;
        }
        if !self.context.queued_since.is_empty() {
            self.context.queued_since.remove(&key.index);
        }
        if undecoded > 0 {
            self.context.undecoded -= undecoded;
            self.context.limit_reads(&mut self.input);
        }
        if !self.context.charges.is_empty() {
            self.context.charge(key.index, 0);
        }
        if !self.context.pending_close_frames.is_empty() {
            self.context.pending_close_frames.remove(&key);
        }
        // The application's part may panic as it is dropped.
        if let Err(panic) = contained(|| drop(app)) {
            log::error!("{addr}: a handler panicked as it was dropped: {panic}");
        }
        drop(info);
        conn.closed_to_sends();
        #[cfg(all(target_os = "linux", feature = "handover"))]
        self.end_shared(&conn);
        self.connection_limit.release(addr.ip());
        self.context.inbox.load.fetch_sub(1, Ordering::Relaxed);
        let is_clean = conn.flags.contains(Flag::Clean);
        if let Some(drain) = &mut self.drain {
            drain.count(key, is_clean, queued);
        } else if self.shutdown.is_none() {
            return;
        }
        if is_clean {
            self.ended.clean += 1;
        } else {
            self.ended.forced += 1;
        }
    }

    pub(in crate::worker) fn for_each(&mut self, mut act: impl FnMut(&mut Driver<'_, D>)) {
        self.for_each_key(|worker, key| worker.drive(key, |driver, _| act(driver)));
    }

    pub(in crate::worker) fn for_each_key(&mut self, mut act: impl FnMut(&mut Worker<D>, Key)) {
        for index in 0..self.slots.entries() {
            if let Some(key) = self.slots.key_at(index) {
                act(self, key);
            }
        }
    }
}

/// Ends a connection whose application panicked.
#[cold]
fn contain<D: Delivery>(driver: &mut Driver<'_, D>, panic: &str) {
    log::error!("{}: a callback panicked: {panic}", driver.info().addr());
    let app = driver.app.take();
    let dropped = contained(|| drop(app));
    if let Err(panic) = dropped.and_then(|()| contained(|| driver.panicked())) {
        log::error!("{}: and again: {panic}", driver.info().addr());
        driver.panicked();
    }
}
