//! Handing connections over to another process, the worker's part.
//!
//! The worker stops: between two iterations of its loop nothing of a connection is under way. It pauses each connection
//! that can go, so that nothing is written to its socket any more, and tells its state. Until it is ordered to let go, it
//! has everything and can go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::protocol::close::CloseFrame;
use crate::protocol::state::StateWriter;
use crate::worker::connection::active::ActiveConn;
use crate::worker::connection::flags::Flag;
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::arriving::{Arriving, Clocks, STATE_VERSION, export_addr, export_topics};
use crate::worker::event_loop::drive::Driver;
use crate::worker::event_loop::worker::Worker;
use crate::worker::handle::hand_over::{Addition, Change, Departure, HandOverSeat, Order, Told};
use crate::worker::slab::Key;
use crate::worker::timer_wheel::{Tick, TimerWheel};
use crate::worker::topics::position::Since;

/// The application has 2 s to handle the events that were delivered. Longer has all connections stand still for an application
/// that is busy; shorter hands nothing over where one event takes longer.
const EVENT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a worker looks whether it has.
const EVENT_CHECK: Duration = Duration::from_micros(200);

/// A connection that was told of.
struct Departed {
    key: Key,
    id: u64,
    /// The bytes of its output that were told.
    output: usize,
    /// The topics that were told.
    topics: Vec<Arc<str>>,
    /// Its handle takes no more messages.
    is_closed: bool,
}

impl<D: Delivery> Worker<D> {
    /// Hands the connections over, if that was asked for in this iteration.
    #[inline]
    pub(super) fn hand_over_if_asked(&mut self) {
        if let Some(seat) = self.hand_over.take() {
            self.run_hand_over(*seat);
        }
    }

    #[cold]
    #[inline(never)]
    fn run_hand_over(&mut self, seat: HandOverSeat) {
        let HandOverSeat { worker, departures, orders } = seat;
        let mut departed = Vec::new();
        let mut is_wanted = self.shutdown.is_none() && self.await_application();
        for index in 0..self.slots.entries() {
            let Some(key) = self.slots.key_at(index).filter(|_| is_wanted) else { continue };
            let id = u64::from(worker) << 32 | u64::from(index);
            if let Some((departure, told)) = self.pause(key, id) {
                departed.push(told);
                is_wanted = departures.send(Told::One(departure)).is_ok();
            }
        }
        is_wanted = is_wanted && departures.send(Told::All).is_ok();
        drop(departures);
        while is_wanted && let Ok(order) = orders.recv() {
            match order {
                Order::Finish(additions) => self.finish(&mut departed, &additions),
                Order::LetGo => return self.let_go(&departed),
            }
        }
        let shutdown = self.shutdown.map(|_| self.shutdown_frame());
        for told in &departed {
            self.drive(told.key, |driver, input| {
                driver.resume(told.is_closed, shutdown.as_ref());
                driver.advance(input);
            });
        }
    }

    /// Waits until the application has handled the events that were delivered, and executes its answers; `false` if that takes
    /// too long.
    fn await_application(&mut self) -> bool {
        self.delivery.end_iteration();
        let deadline = Instant::now() + EVENT_TIMEOUT;
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
        true
    }

    /// Pauses a connection and tells its state, if it can go.
    fn pause(&mut self, key: Key, id: u64) -> Option<(Departure, Departed)> {
        let mut result = None;
        self.drive(key, |driver, _| {
            result = driver.depart(id);
            if result.is_none() && driver.conn.endpoint.is_paused() {
                driver.resume(false, None);
            }
        });
        result
    }

    /// Accepts nothing more for the connections that go, and tells what has come since. Those that can not go any more
    /// stay.
    fn finish(&mut self, departed: &mut Vec<Departed>, additions: &Sender<Told<Addition>>) {
        for told in &mut *departed {
            if let Some(slot) = self.slots.get_mut(told.key)
                && let Some(peer) = &slot.conn.peer
                && !peer.shared.queued.is_closed()
            {
                // Senders that wait are woken once it is known how this ends.
                peer.shared.queued.close();
                told.is_closed = true;
            }
        }
        // Whoever saw that a connection is open has posted by the time that the lock of the inbox is taken.
        self.drain_inbox();
        self.send_to_many();
        departed.retain_mut(|told| {
            let change = self.addition(told);
            let stays = matches!(change, Some(Change::Stays));
            if let Some(change) = change {
                // If nobody takes it, the next order does not come.
                let _ = additions.send(Told::One(Addition { id: told.id, change }));
            }
            !stays
        });
        let _ = additions.send(Told::All);
    }

    fn addition(&mut self, told: &mut Departed) -> Option<Change> {
        let mut change = Some(Change::Stays);
        let shutdown = self.shutdown.map(|_| self.shutdown_frame());
        self.drive(told.key, |driver, _| {
            change = driver.addition(told);
            if let Some(Change::Stays) = change {
                driver.resume(told.is_closed, shutdown.as_ref());
            }
        });
        change
    }

    /// Lets go of the connections: their sockets are those of another process.
    fn let_go(&mut self, departed: &[Departed]) {
        for told in departed {
            self.drive(told.key, |driver, _| driver.let_go());
        }
    }
}

impl<D: Delivery> Driver<'_, D> {
    fn depart(&mut self, id: u64) -> Option<(Departure, Departed)> {
        if !self.can_depart() {
            return None;
        }
        let app = self.app.as_mut()?;
        let data = self.delivery.hand_over(app, self.conn.peer.as_ref())?;
        self.conn.endpoint.pause();
        self.active().push_all_latest();
        let has_all = self.active().push_all_lacking();
        self.flush(&[]);
        if !has_all || !self.can_depart() {
            return None;
        }
        let mut state = StateWriter::new(STATE_VERSION);
        let topics = self.active().topic_names();
        if !self.conn.endpoint.connection.export(&mut state) {
            return None;
        }
        self.conn.endpoint.export_input(&mut state);
        self.clocks().export(&mut state);
        export_addr(&self.info().addr(), &mut state);
        let active = self.active();
        state.option(active.subprotocol(), |out, name| out.bytes(name.as_bytes()));
        state.bytes(active.request_head().unwrap_or_default());
        state.bytes(&data);
        export_topics(&topics, &mut state);
        let output = self.conn.endpoint.export_output(&mut state);
        let socket = match self.conn.endpoint.stream.share()? {
            Ok(socket) => socket,
            Err(error) => {
                log::error!("{}: a connection can not be handed over: {error}", self.info().addr());
                return None;
            }
        };
        let departure = Departure { id, socket, state: state.into_bytes() };
        Some((departure, Departed { key: self.state.key, id, output, topics, is_closed: false }))
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

    fn addition(&mut self, told: &mut Departed) -> Option<Change> {
        if !self.is_open() || self.handle_is_aborted() {
            return Some(Change::Stays);
        }
        self.active().push_all_latest();
        let has_all = self.active().push_all_lacking();
        self.flush(&[]);
        if !has_all {
            return Some(Change::Stays);
        }
        let (output, topics) = (self.conn.endpoint.output_behind(told.output), self.active().topic_names());
        if output.is_empty() && topics == told.topics {
            return None;
        }
        let topics = topics.iter().map(|name| (**name).to_owned()).collect();
        Some(Change::More { output, topics })
    }

    /// Goes on with a connection that was paused. A shutdown that came meanwhile has left it alone, because its handle took no
    /// messages, and closes it now with this frame.
    fn resume(&mut self, was_closed: bool, shutdown: Option<&CloseFrame>) {
        if was_closed && let Some(peer) = &self.conn.peer {
            peer.shared.queued.reopen();
        }
        if let Some(frame) = shutdown {
            self.active().close_behind_senders(frame);
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

    /// Goes on with a connection that another process has served.
    pub(super) fn take_over(&mut self, opening: D::Opening, arriving: Arriving) {
        let Arriving { output, late_ping, clocks, topics, .. } = arriving;
        let at = |ago: Duration| self.context.tick.saturating_sub(TimerWheel::ticks(ago));
        (self.conn.opened, self.conn.heard, self.conn.since) = (at(clocks.opened), at(clocks.heard), at(clocks.since));
        self.conn.endpoint.queue(output, late_ping);
        for topic in topics {
            if let Err(error) = self.active().subscribe(&topic, Since::Now) {
                log::error!("{}: the subscription to {topic:?} is lost: {error}", self.info().addr());
            }
        }
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.take_over(app, &mut socket, opening);
        }
        self.conn.readable = true;
        self.state.deadline_changed = true;
        self.flush(&[]);
        self.drain();
    }
}

impl ActiveConn<'_> {
    /// Queues what was published to the topics of the connection and not sent to it, whatever waits already: it is no more
    /// than the topics keep. `false` if the connection has to stay: the application is to be told first that messages are
    /// missing, and what it sends for that comes before the rest.
    fn push_all_lacking(&mut self) -> bool {
        let index = self.state.key.index;
        if self.context.topics.gaps.has_any(index) {
            return false;
        }
        if !(0..self.context.topics.count(index)).all(|number| self.push_all_of(number)) {
            return false;
        }
        self.context.topics.take_behind(index);
        true
    }
}
