//! Says what connections there are.

use crate::worker::connection::active::{ActiveConn, DriveState};
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::worker::Worker;
use crate::worker::handle::peer_id::PeerId;
use crate::worker::handle::summary::PeerSummary;
use crate::worker::timer_wheel::TimerWheel;

impl<D: Delivery> Worker<D> {
    /// Describes every connection.
    pub(super) fn summaries(&mut self) -> Vec<PeerSummary> {
        let mut summaries = Vec::with_capacity(self.slots.len());
        for index in 0..self.slots.entries() {
            let Some(key) = self.slots.key_at(index) else { continue };
            let Some(slot) = self.slots.get_mut(key) else { continue };
            let mut state = DriveState::new(key, &slot.conn);
            let active = ActiveConn { conn: &mut slot.conn, context: &mut self.context, state: &mut state };
            summaries.push(PeerSummary {
                id: PeerId::new(active.context.handle.index, key),
                addr: active.info().addr(),
                subprotocol: active.subprotocol().map(str::to_owned),
                age: TimerWheel::duration(active.context.tick.saturating_sub(active.conn.opened)),
                is_open: active.conn.phase == Phase::Open,
                stats: active.stats(),
            });
        }
        summaries
    }
}
