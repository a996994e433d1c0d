//! Closing the connections one after the other before the server ends: the worker's part.

use std::sync::Arc;
use std::time::Instant;

use crate::transport::random::random;
use crate::worker::connection::conn::Conn;
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drain_plan::DrainPlan;
use crate::worker::event_loop::drain_state::{Drain, Found};
use crate::worker::event_loop::drive::{Driver, Slot};
use crate::worker::event_loop::worker::Worker;
use crate::worker::handle::draining::{DrainOrder, Draining};
use crate::worker::slab::Key;

impl<D: Delivery> Worker<D> {
    /// Gives each connection its turn, the idle ones first, and of these the one that has been silent for longest. Tells the
    /// application.
    pub(super) fn begin_drain(&mut self, order: &Arc<DrainOrder>) {
        self.register_new();
        let drain = match self.drain.take() {
            Some(drain) if drain.order.deadline <= order.deadline => return self.drain = Some(drain),
            // What it has found so far holds.
            Some(drain) => Some(drain),
            // A shutdown closes all.
            None if self.shutdown.is_some() => return,
            None => None,
        };
        let mut waiting = Vec::with_capacity(self.slots.len());
        for index in 0..self.slots.entries() {
            let Some(key) = self.slots.key_at(index) else { continue };
            let Some(Slot { conn, .. }) = self.slots.get_mut(key) else { continue };
            let has_had_turn = drain.as_ref().is_some_and(|drain| drain.taken.contains_key(&key));
            if closes_in_turn(conn) && !has_had_turn {
                waiting.push((conn.is_busy(), conn.heard, key));
            }
        }
        waiting.sort_by_key(|(is_busy, heard, _)| (*is_busy, *heard));
        let keys: Vec<_> = waiting.into_iter().map(|(.., key)| key).collect();
        let mut plan = DrainPlan::new(order.begun, order.last_turn, random());
        plan.spread(&keys, self.now.max(order.begun));
        let turns: Vec<_> = plan.turns().collect();
        let (taken, report) = drain.map_or_else(Default::default, |drain| (drain.taken, drain.report));
        self.drain = Some(Box::new(Drain::new(order.clone(), plan, taken, report)));
        if let Some(deadline) = &mut self.shutdown {
            *deadline = order.deadline.min(*deadline);
        }
        for (key, turn) in turns {
            self.drive(key, |driver, _| driver.tell_of_drain(Draining { turn, deadline: order.deadline }));
        }
    }

    /// Ends once the connections have: the drain closes them, and there will be no more.
    pub(super) fn finish_drain(&mut self, deadline: Instant) {
        self.register_new();
        self.shutdown = Some(self.shutdown.map_or(deadline, |before| before.min(deadline)));
    }

    /// Gives a new connection its turn, if the server drains.
    pub(super) fn join_drain(&mut self, key: Key) -> Option<Draining> {
        let drain = self.drain.as_mut()?;
        let turn = drain.plan.add(key, self.now);
        Some(Draining { turn, deadline: drain.order.deadline })
    }

    /// Notes that the turn of every connection has come, because the server shuts down.
    pub(super) fn take_all_turns(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        drain.is_over = true;
        for index in 0..self.slots.entries() {
            let Some(key) = self.slots.key_at(index) else { continue };
            let Some(Slot { conn, .. }) = self.slots.get_mut(key) else { continue };
            if closes_in_turn(conn) {
                drain.taken.entry(key).or_insert(found(conn));
            }
        }
    }

    /// Closes the connections whose turn has come.
    #[inline]
    pub(super) fn close_in_turn(&mut self) {
        if self.drain.as_ref().is_some_and(|drain| drain.plan.is_due(self.now)) {
            self.close_in_turn_now();
        }
    }

    #[inline(never)]
    fn close_in_turn_now(&mut self) {
        while let Some(drain) = &mut self.drain
            && let Some((key, awaited)) = drain.plan.take(self.now)
        {
            let Some(Slot { conn, app }) = self.slots.get_mut(key) else { continue };
            if !closes_in_turn(conn) || drain.taken.contains_key(&key) {
                continue;
            }
            let unseen = match (&*app, awaited) {
                (None, _) => None,
                (Some(app), None) => self.delivery.unseen(app),
                (Some(app), Some(mark)) => (!self.delivery.has_seen(app, mark)).then_some(mark),
            };
            let found = found(conn);
            if unseen.is_some_and(|mark| drain.plan.await_application(key, self.now, mark))
                || (found == Found::Busy && drain.plan.postpone(key, self.now))
            {
                continue;
            }
            drain.taken.insert(key, found);
            let order = drain.order.clone();
            self.drive(key, |driver, _| {
                driver.active().close_behind_senders(&order.frame);
                driver.flush(&[]);
            });
        }
    }
}

/// Whether a connection is open, so that it is to be closed at its turn.
fn closes_in_turn(conn: &Conn) -> bool {
    conn.phase == Phase::Open && !conn.peer.as_ref().is_some_and(|peer| peer.shared.queued.is_closed())
}

fn found(conn: &Conn) -> Found {
    if conn.is_busy() { Found::Busy } else { Found::Idle }
}

impl<D: Delivery> Driver<'_, D> {
    /// Tells the application that the server drains.
    pub(super) fn tell_of_drain(&mut self, draining: Draining) {
        if !closes_in_turn(self.conn) {
            return;
        }
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.drain(app, &mut socket, draining);
        }
        self.flush(&[]);
    }
}
