//! One thread that owns many connections: it waits in its poll and nowhere else.

pub(crate) mod address;
pub(crate) mod admission;
pub(crate) mod adoption;
mod alarm;
pub(crate) mod batch;
mod broadcast;
pub(crate) mod channel;
mod closing;
pub(crate) mod context;
pub(crate) mod core;
mod cycle;
pub(crate) mod deadlines;
pub(crate) mod delivery;
pub(crate) mod events;
mod group;
pub(crate) mod guest;
mod home;
pub(crate) mod inbox;
#[cfg(feature = "internals")]
pub mod internals;
mod ledger;
mod level;
mod mailroom;
mod marks;
mod parked;
pub(crate) mod peer;
pub(crate) mod prepared;
pub(crate) mod shard;
mod shared;
pub(crate) mod slots;
pub(crate) mod stats;
mod turn;

use std::any::Any;
use std::hint::black_box;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::event::Event;
use mio::{Events, Poll, Registry, Token, Waker};

use crate::config::Config;
use crate::protocol::Role;
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::deflate::Codec;
use crate::transport::buffer::Input;
use crate::transport::output::Output;
use crate::worker::admission::Admission;
use crate::worker::adoption::Adoption;
use crate::worker::alarm::Alarm;
use crate::worker::context::{Context, Tally};
use crate::worker::core::Phase;
use crate::worker::deadlines::{Deadlines, Tick};
use crate::worker::delivery::Delivery;
use crate::worker::guest::Guest;
use crate::worker::home::Home;
use crate::worker::inbox::{Inbox, Queue};
use crate::worker::ledger::Ledger;
use crate::worker::marks::Mark;
use crate::worker::slots::{Key, NameMap, Slots};
use crate::worker::turn::{Conn, Turn};

/// The worker's receive buffer: as large as what the kernel delivers at once on a fast path.
const INPUT_SIZE: usize = 256 << 10;

/// The waker's token; no connection has it, for it is a reserved one.
const WAKE: Token = Token(usize::MAX);

/// The alarm's.
const ALARM: Token = Token(WAKE.0 - 1);

/// So many connections have a turn before the application's threads have theirs: enough that a poll and a handover cost
/// nothing beside them, and few enough that what waits for these threads meanwhile takes little memory.
const EVENTS: usize = 128;

/// So many connections' memory is fetched together: about as many cache lines as a core can wait for at a time.
const FETCHED: usize = 8;

/// Large buffers and compressors that nobody used for so long are given back, at the latest after twice that.
const TRIM_INTERVAL: Duration = Duration::from_millis(500);

/// The application's part of an [`Adoption`]: what is kept, and what it is opened with.
pub(crate) type Newcomer<D> = (<D as Delivery>::Connection, <D as Delivery>::Opening);

/// How a worker's last connections ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    pub(crate) clean: usize,
    pub(crate) forced: usize,
}

/// A thread's work, before it is started.
pub(crate) struct Worker<D: Delivery> {
    poll: Poll,
    /// What it reported, and whose deadlines have come: kept for their memory.
    events: Events,
    expired: Vec<u32>,
    /// When the poll returned.
    now: Instant,
    alarm: Alarm,
    slots: Slots<Conn<D::Connection>>,
    deadlines: Deadlines,
    input: Input,
    context: Context,
    delivery: D,
    adoptions: Receiver<Adoption<Newcomer<D>>>,
    admission: Arc<Admission>,
    /// Connections that go on without an event.
    ready: Vec<Key>,
    queue: Queue,
    mail: mailroom::Mail,
    shutdown: Option<Instant>,
    ended: Ended,
    trim_at: Tick,
    /// Connections that can do with less memory while they are idle.
    trimmable: Vec<Key>,
    guest: Option<Box<dyn Guest>>,
    /// When the guest is to have a turn, if nothing happens before.
    guest_due: Option<Instant>,
}

/// What a worker is made of before its siblings are known.
pub(crate) struct Seat {
    poll: Poll,
    alarm: Alarm,
    role: Role,
    pub(crate) inbox: Arc<Inbox>,
}

impl Seat {
    /// For a worker that is this end of its connections.
    pub(crate) fn new(role: Role) -> io::Result<Seat> {
        let poll = Poll::new()?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), WAKE)?));
        Ok(Seat { poll, alarm, role, inbox })
    }
}

impl<D: Delivery> Worker<D> {
    pub(crate) fn new(
        seat: Seat,
        index: u16,
        siblings: Arc<[Arc<Inbox>]>,
        config: Arc<Config>,
        delivery: D,
        adoptions: Receiver<Adoption<Newcomer<D>>>,
        admission: Arc<Admission>,
    ) -> Worker<D> {
        let now = Instant::now();
        let context = Context {
            home: Arc::new(Home::new(seat.inbox.clone(), config.clone(), index, seat.role)),
            config,
            inbox: seat.inbox,
            siblings,
            output: Output::default(),
            gathers: false,
            held: Vec::new(),
            codec: Codec::new(),
            epoch: now,
            tick: 0,
            broadcasts: Vec::new(),
            ledgers: Vec::new(),
            subprotocols: NameMap::default(),
            key: Key { index: u32::MAX, generation: 0 },
            shown_backlog: 0,
            tally: Tally::default(),
            farewells: NameMap::default(),
            touched_deadline: false,
        };
        Worker {
            poll: seat.poll,
            events: Events::with_capacity(EVENTS),
            expired: Vec::new(),
            now,
            alarm: seat.alarm,
            slots: Slots::new(),
            deadlines: Deadlines::new(now),
            input: Input::with_size(INPUT_SIZE),
            context,
            delivery,
            adoptions,
            admission,
            ready: Vec::new(),
            queue: Queue::default(),
            mail: mailroom::Mail::default(),
            shutdown: None,
            ended: Ended::default(),
            trim_at: Deadlines::ticks(TRIM_INTERVAL),
            trimmable: Vec::new(),
            guest: None,
            guest_due: None,
        }
    }

    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        self.context.inbox.clone()
    }

    /// For what a guest's sockets are registered with.
    pub(crate) fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    /// Gives the worker something to do beside its connections.
    pub(crate) fn host(&mut self, guest: Box<dyn Guest>) {
        self.guest_due = guest.due(self.now);
        self.guest = Some(guest);
    }

    /// Has the memory of a few connections on its way from the caches at once, rather than wait for each piece of it when
    /// it is needed: half of those waits, 0.1 us of the 12 that a message costs at 20,000 a second over 1,000 connections.
    fn fetch(&self, index: usize) {
        self.slots.fetch(index);
        black_box(self.context.ledgers.get(index).map(Ledger::fetch));
    }

    fn ready_event(&mut self, event: &Event, now: Instant) {
        let Some(key) = self.slots.key_of(event.token()) else { return self.ready_other(event, now) };
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        let (writable, read_closed) = (event.is_writable(), event.is_read_closed() || event.is_error());
        self.turn(key, |turn, input| {
            turn.core.readable |= readable;
            if read_closed {
                turn.core.marks.insert(Mark::EndReported);
            }
            if writable {
                turn.drain();
            }
            turn.advance(input);
        });
    }

    /// An event of what is no connection, or is none any more.
    #[inline(never)]
    fn ready_other(&mut self, event: &Event, now: Instant) {
        match (event.token(), &mut self.guest) {
            (WAKE, _) => {}
            (ALARM, _) => self.alarm.rang(),
            (_, Some(guest)) => {
                guest.ready(event, now, &mut self.slots.names);
                self.guest_due = Some(now);
            }
            (_, None) => {}
        }
    }

    /// Gives the connections that have more to do another turn.
    fn go_on(&mut self) {
        self.delivery.resume(&mut self.ready);
        if !self.ready.is_empty() {
            self.serve_listed();
        }
    }

    #[inline(never)]
    fn serve_listed(&mut self) {
        for key in std::mem::take(&mut self.ready) {
            if let Some(conn) = self.slots.get_mut(key) {
                conn.core.marks.remove(Mark::Listed);
                self.turn(key, |turn, input| turn.advance(input));
            }
        }
    }

    /// Lets `act` work on a connection, contains a panic of the application in it, and clears up behind it.
    fn turn(&mut self, key: Key, act: impl FnOnce(&mut Turn<'_, D>, &mut Input)) {
        let Some(Conn { core, app }) = self.slots.get_mut(key) else { return };
        let (delivery, context) = (&mut self.delivery, &mut self.context);
        context.key = key;
        context.shown_backlog = core.endpoint.backlog();
        let registry = self.poll.registry();
        let mut turn = Turn { core, app, delivery, context, registry, posted: 0, again: false };
        let acted = catch_unwind(AssertUnwindSafe(|| act(&mut turn, &mut self.input)));
        if let Err(panic) = acted {
            contain(&mut turn, &*panic);
        }
        turn.core.settle(turn.context, turn.posted);
        // A connection that closes reads on, whoever is behind: the peer's close frame is to be found.
        let again = turn.again || (turn.core.waiting && turn.core.phase != Phase::Open);
        turn.core.waiting &= turn.core.phase == Phase::Open;
        if let Some(app) = app {
            delivery.served(app);
        }
        if core.phase == Phase::Gone {
            return self.remove(key);
        }
        if again && core.marks.insert(Mark::Listed) {
            self.ready.push(key);
        }
        if core.endpoint.connection.begins_to_keep() {
            self.trimmable.push(key);
        }
        if std::mem::take(&mut self.context.touched_deadline) {
            match core.deadline(&self.context) {
                Some(at) => self.deadlines.schedule(key.index, at),
                None => self.deadlines.cancel(key.index),
            }
        }
    }

    /// Frees what a connection held; dropping its socket closes it.
    #[inline(never)]
    fn remove(&mut self, key: Key) {
        self.context.touched_deadline = false;
        self.deadlines.cancel(key.index);
        let Some(Conn { core, app }) = self.slots.remove(key) else { return };
        let addr = core.ledger(&self.context).addr();
        drop(self.context.take_record(key.index));
        if !self.context.farewells.is_empty() {
            self.context.farewells.remove(&key);
        }
        // The application's part may panic as it is dropped.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(app))) {
            log::error!("{addr}: a handler panicked as it was dropped: {}", panic_text(&*panic));
        }
        core.closed_to_sends();
        self.admission.release(addr.ip());
        self.context.inbox.load.fetch_sub(1, Ordering::Relaxed);
        if self.shutdown.is_some() {
            if core.marks.contains(Mark::Clean) {
                self.ended.clean += 1;
            } else {
                self.ended.forced += 1;
            }
        }
    }

    fn for_each(&mut self, mut act: impl FnMut(&mut Turn<'_, D>)) {
        self.for_each_key(|worker, key| worker.turn(key, |turn, _| act(turn)));
    }

    fn for_each_key(&mut self, mut act: impl FnMut(&mut Worker<D>, Key)) {
        let places = self.slots.places();
        for first in (0..places).step_by(FETCHED) {
            let few = first..places.min(first + FETCHED as u32);
            few.clone().for_each(|index| self.fetch(index as usize));
            for index in few {
                if let Some(key) = self.slots.key_at(index) {
                    act(self, key);
                }
            }
        }
    }
}

/// Ends a connection whose application panicked.
#[cold]
fn contain<D: Delivery>(turn: &mut Turn<'_, D>, panic: &(dyn Any + Send)) {
    log::error!("{}: a callback panicked: {}", turn.core.ledger(turn.context).addr(), panic_text(panic));
    let app = turn.app.take();
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(app)));
    if let Err(panic) = dropped.and_then(|()| catch_unwind(AssertUnwindSafe(|| turn.panicked()))) {
        log::error!("{}: and again: {}", turn.core.ledger(turn.context).addr(), panic_text(&*panic));
        turn.panicked();
    }
}

pub(crate) fn going_away() -> CloseFrame {
    CloseFrame { code: CloseCode::GOING_AWAY, reason: String::new() }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
