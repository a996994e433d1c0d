//! Handing connections over to another process, the worker's part.
//!
//! The worker stops: between two iterations of its loop nothing of a connection is under way. It pauses each connection
//! that can go, so that nothing is written to its socket any more, and sends its state, some connections at a time. What the
//! application gives for a connection is asked for last, when no other thread can send to it any more: so the two belong together.
//! Until it is ordered to let go, the worker has everything and can go on.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::protocol::state::StateWriter;
use crate::worker::connection::conn::Conn;
use crate::worker::connection::flags::Flag;
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::arriving::{Clocks, STATE_VERSION, export_addr, export_origin};
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::handle::hand_over::{
    Addition, BATCH_SIZE, Change, Departures, HandOverTask, MAX_BATCH, Order, Rest, Told,
};
use crate::worker::handle::inbox::Command;
use crate::worker::slab::Key;
use crate::worker::timer_wheel::{Tick, TimerWheel};

/// The application has 2 s to handle the events that were delivered. Longer has all connections stand still for an application
/// that is busy; shorter hands nothing over where one event takes longer.
const EVENT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a worker looks whether it has.
const EVENT_CHECK: Duration = Duration::from_micros(200);

/// Connections that are sent in one message.
struct Batch {
    states: StateWriter,
    keys: Vec<Key>,
}

impl Batch {
    fn new() -> Batch {
        Batch { states: StateWriter::new(STATE_VERSION), keys: Vec::with_capacity(MAX_BATCH) }
    }

    fn is_full(&self) -> bool {
        self.keys.len() == MAX_BATCH || self.states.len() >= BATCH_SIZE
    }
}

/// A connection that was told of.
struct Departed {
    key: Key,
    id: u64,
    /// The bytes of its output that were told.
    output: usize,
}

impl<D: Delivery> Worker<D> {
    /// Hands the connections over, if that was asked for in this iteration.
    #[inline]
    pub(super) fn hand_over_if_asked(&mut self) {
        if let Some(task) = self.hand_over.take() {
            self.run_hand_over(*task);
        }
    }

    #[cold]
    #[inline(never)]
    fn run_hand_over(&mut self, task: HandOverTask) {
        let HandOverTask { worker, departures, told, orders } = task;
        let mut departed = Vec::new();
        // A shutdown that comes from here on is of those that stay.
        self.put_off.get_or_insert_default();
        let is_wanted = self.shutdown.is_none()
            && self.drain.is_none()
            && self.await_application()
            && told.send(self.depart_all(worker, &*departures, &mut departed)).is_ok();
        // The other process has the end of the channel when this one is done with it.
        drop((told, departures));
        // Those that can not go after all stand still until this is over: what they do may concern those that were told of.
        let mut stayed = Vec::new();
        while is_wanted && let Ok(order) = orders.recv() {
            match order {
                Order::Finish(additions) => stayed = self.finish(&mut departed, &additions),
                Order::LetGo => {
                    self.let_go(&departed);
                    departed.clear();
                    break;
                }
            }
        }
        self.shared_sockets |= !departed.is_empty() || !stayed.is_empty();
        departed.iter().chain(&stayed).for_each(|told| self.drive(told.key, |driver, _| driver.resume()));
        for mut command in self.put_off.take().unwrap_or_default() {
            self.execute_global(&mut command);
        }
    }

    /// Waits until the application has handled the events that were delivered, and executes its answers; `false` if that takes
    /// too long.
    fn await_application(&mut self) -> bool {
        let deadline = Instant::now() + EVENT_TIMEOUT;
        loop {
            self.delivery.end_iteration();
            while !self.delivery.is_handled() {
                if Instant::now() >= deadline {
                    log::warn!("the application does not handle its events, so that no connection can be handed over");
                    return false;
                }
                std::thread::sleep(EVENT_CHECK);
            }
            // It has answered before it has asked for the next event.
            self.drain_inbox();
            self.send_to_many();
            // There is room for the events of those that waited for it.
            self.register_new();
            if self.delivery.is_handled() {
                return true;
            }
        }
    }

    /// Pauses the connections that can go, and sends them. Returns how many these are.
    fn depart_all(
        &mut self,
        worker: u16,
        departures: &dyn Departures,
        departed: &mut Vec<Departed>,
    ) -> io::Result<usize> {
        let mut batch = Batch::new();
        for index in 0..self.slots.entries() {
            let Some(key) = self.slots.key_at(index) else { continue };
            if let Some(told) = self.pause(key, u64::from(worker) << 32 | u64::from(index), &mut batch.states) {
                departed.push(told);
                batch.keys.push(key);
            }
            if batch.is_full() {
                self.send_batch(&mut batch, departures)?;
            }
        }
        self.send_batch(&mut batch, departures)?;
        Ok(departed.len())
    }

    /// Sends the connections of a batch, and empties it.
    fn send_batch(&mut self, batch: &mut Batch, departures: &dyn Departures) -> io::Result<()> {
        if batch.keys.is_empty() {
            return Ok(());
        }
        let mut sockets = Vec::with_capacity(MAX_BATCH);
        for key in &batch.keys {
            let slot = self.slots.at(key.index);
            let socket: Option<BorrowedFd<'_>> = slot.and_then(|slot| slot.conn.endpoint.stream.descriptor());
            sockets.push(socket.ok_or(io::ErrorKind::NotConnected)?);
        }
        departures.send(batch.states.as_bytes(), &sockets)?;
        *batch = Batch::new();
        Ok(())
    }

    /// Pauses a connection and appends its state, if it can go.
    fn pause(&mut self, key: Key, id: u64, states: &mut StateWriter) -> Option<Departed> {
        let (before, mut result) = (states.len(), None);
        let place = states.begin();
        self.drive(key, |driver, _| {
            result = driver.depart(id, states);
            if result.is_none() && driver.conn.endpoint.is_paused() {
                driver.resume();
            }
        });
        match result {
            Some(_) => states.end(place),
            None => states.truncate(before),
        }
        result
    }

    /// Accepts nothing more for the connections that go, and tells the rest of each. Returns those that can not go any more.
    fn finish(&mut self, departed: &mut Vec<Departed>, additions: &Sender<Told<Addition>>) -> Vec<Departed> {
        for told in &*departed {
            if let Some(slot) = self.slots.get_mut(told.key)
                && let Some(peer) = &slot.conn.peer
            {
                peer.shared.suspend();
            }
        }
        // A thread that saw that a connection is open has posted by the time that the lock of the inbox is taken.
        self.drain_inbox();
        self.send_to_many();
        let mut is_given_up = false;
        let stayed = departed.extract_if(.., |told| {
            // The other process may wait no more, and clients do.
            if is_given_up {
                return false;
            }
            let mut rest = None;
            self.drive(told.key, |driver, _| rest = driver.rest(told));
            let stays = rest.is_none();
            let addition = Addition { id: told.id, change: rest.map_or(Change::Stays, Change::Goes) };
            is_given_up = additions.send(Told::One(addition)).is_err();
            stays
        });
        let stayed = stayed.collect();
        let _ = additions.send(Told::All);
        stayed
    }

    /// Lets go of the connections: their sockets are those of another process.
    fn let_go(&mut self, departed: &[Departed]) {
        // Another process serves these.
        let shared_sockets = std::mem::take(&mut self.shared_sockets);
        for told in departed {
            self.drive(told.key, |driver, _| driver.let_go());
        }
        self.shared_sockets = shared_sockets;
    }

    /// Whether a hand-over is about to begin, or under way.
    pub(super) fn is_handing_over(&self) -> bool {
        self.hand_over.is_some() || self.put_off.is_some()
    }

    /// Puts off a command until the hand-over has ended.
    pub(super) fn put_off(&mut self, command: &mut Command) {
        let command = std::mem::replace(command, Command::Resume { to: None });
        self.put_off.get_or_insert_default().push(command);
    }

    /// Ends a connection that is closed. A process to which it was not handed over in the end may still have the socket: then to
    /// close it would not tell the peer.
    pub(super) fn end_shared(&self, conn: &Conn) {
        if self.shared_sockets
            && let Some(socket) = conn.endpoint.stream.descriptor()
        {
            // The peer may have ended it.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}

impl<D: Delivery> Driver<'_, D> {
    fn depart(&mut self, id: u64, state: &mut StateWriter) -> Option<Departed> {
        if !self.can_depart() {
            return None;
        }
        self.conn.endpoint.pause();
        self.active().push_all_latest();
        self.flush(&[]);
        if self.has_untold_gaps() || !self.can_depart() {
            return None;
        }
        state.u64(id);
        if !self.conn.endpoint.connection.export(state) {
            return None;
        }
        self.conn.endpoint.export_input(state);
        self.clocks().export(state);
        export_addr(&self.info().addr(), state);
        let active = self.active();
        state.option(active.subprotocol(), |out, name| out.bytes(name.as_bytes()));
        state.bytes(active.request_head().unwrap_or_default());
        export_origin((self.context.handle.index, self.state.key), state);
        let output = self.conn.endpoint.export_output(state);
        Some(Departed { key: self.state.key, id, output })
    }

    /// Whether the connection is plain and open, and nothing of it is under way that only this process can end.
    fn can_depart(&mut self) -> bool {
        let is_plain = self.conn.endpoint.stream.is_plain();
        let ends = self.conn.flags.contains(Flag::HangupReported) || self.conn.flags.contains(Flag::ReadClosed);
        is_plain && self.is_open() && !ends && !self.active().handle_is_closed()
    }

    fn is_open(&self) -> bool {
        self.conn.phase == Phase::Open && self.conn.endpoint.connection.can_send()
    }

    /// The rest of a connection that was told of; `None` if it stays.
    fn rest(&mut self, told: &Departed) -> Option<Rest> {
        if !self.is_open() || self.handle_is_aborted() {
            return None;
        }
        self.active().push_all_latest();
        self.flush(&[]);
        if self.has_untold_gaps() {
            return None;
        }
        let app = self.app.as_mut()?;
        let data = self.delivery.hand_over(app, self.conn.peer.as_ref())?;
        let topics = self.active().topic_cursors();
        let topics = topics.iter().map(|(name, cursor)| ((**name).to_owned(), *cursor)).collect();
        Some(Rest { data, output: self.conn.endpoint.output_behind(told.output), topics })
    }

    /// Whether the application is to be told first that messages of a topic are missing. What it sends for that comes before the rest.
    fn has_untold_gaps(&self) -> bool {
        self.context.topics.gaps.has_any(self.state.key.index)
    }

    /// Goes on with a connection that was paused. Its handle takes messages again, unless it was closed.
    fn resume(&mut self) {
        if let Some(peer) = &self.conn.peer {
            peer.shared.queued.resume();
        }
        self.conn.endpoint.resume();
        self.conn.readable = true;
        self.state.again = true;
        self.drain();
        self.flush(&[]);
    }

    fn let_go(&mut self) {
        // The poll would report on the socket for as long as any process has it.
        if let Err(error) = mio::event::Source::deregister(&mut self.conn.endpoint.stream, self.registry) {
            log::error!("a connection that was handed over is still watched: {error}");
        }
        if let Some(peer) = &self.conn.peer {
            // Senders that wait are told.
            peer.shared.set_aborted();
        }
        self.conn.endpoint.drop_output();
        self.conn.closed_to_sends();
        self.active().enter(Phase::Closed);
    }

    fn clocks(&self) -> Clocks {
        let ago = |tick: Tick| TimerWheel::duration(self.context.tick.saturating_sub(tick));
        Clocks { opened: ago(self.conn.opened), heard: ago(self.conn.heard), since: ago(self.conn.since) }
    }
}
