//! A drain that is under way: whose turn has come, and how the connections ended.

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::close::CloseFrame;
use crate::worker::event_loop::drain_plan::DrainPlan;
use crate::worker::handle::draining::{DrainOrder, DrainReport};
use crate::worker::slab::{Key, KeyMap};

/// A drain that is under way.
#[derive(Debug)]
pub(in crate::worker) struct Drain {
    pub(super) order: Arc<DrainOrder>,
    pub(super) plan: DrainPlan,
    /// The connections whose turn has come, and what they were then.
    pub(super) taken: KeyMap<Key, Found>,
    pub(super) report: DrainReport,
    /// The turn of every connection has come, because the server shuts down.
    pub(super) is_over: bool,
    /// The deadline has come.
    cuts: bool,
}

/// What a connection was when its turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Idle,
    Busy,
}

impl Drain {
    pub(super) fn new(
        order: Arc<DrainOrder>,
        plan: DrainPlan,
        taken: KeyMap<Key, Found>,
        report: DrainReport,
    ) -> Drain {
        Drain { order, plan, taken, report, is_over: false, cuts: false }
    }

    /// The close frame of the connections whose turn has come.
    pub(super) fn frame(&self) -> &CloseFrame {
        &self.order.frame
    }

    /// When the next turn comes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.plan.due()
    }

    /// Has the connections that end from now on be counted as cut.
    pub(super) fn cut(&mut self) {
        self.cuts = true;
    }

    /// Counts a connection that has ended, with so many bytes that its socket did not take.
    pub(super) fn count(&mut self, key: Key, is_clean: bool, unsent: usize) {
        let report = &mut self.report;
        let count = match self.taken.remove(&key) {
            _ if self.cuts => &mut report.cut,
            None => &mut report.left,
            Some(Found::Idle) if is_clean => &mut report.idle,
            Some(Found::Busy) if is_clean => &mut report.busy,
            Some(_) => &mut report.lost,
        };
        *count += 1;
        self.report.unsent_bytes = self.report.unsent_bytes.saturating_add(match self.cuts || !is_clean {
            true => unsent as u64,
            false => 0,
        });
    }
}
