//! The window of a connection: how many of its events may wait in a channel that others share, so that one that floods does
//! not have the others wait behind what it sent.

use std::sync::atomic::{AtomicU64, Ordering};

/// An event counts 1 KiB and its cost towards the window of its connection: the application takes as long for many small
/// messages as for one large. Larger has a fast connection wait more often; smaller has the others wait longer.
const EVENT_WEIGHT: usize = 1 << 10;

/// A window has two halves of 128 KiB, which is 240 small messages or four of 64 KiB in all. Larger has the others wait longer
/// behind a connection that floods; smaller has a fast connection wait for the application more often.
const HALF: u32 = 128 << 10;

/// How much was sent into a channel and how much of it the application has handled, since the beginning. The difference is
/// what is outstanding.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Workers add to it before they look for room.
    sent: AtomicU64,
    /// The application adds to it before it looks who waits.
    handled: AtomicU64,
    /// What `handled` must reach before a connection whose window is full is told; 0 if none waits.
    awaited: AtomicU64,
}

impl Progress {
    pub(super) fn add_sent(&self, cost: usize) {
        self.sent.fetch_add(cost as u64, Ordering::SeqCst);
    }

    /// Notes that the application has handled events of this cost. Returns whether a connection waits for that.
    pub(super) fn add_handled(&self, cost: usize) -> bool {
        let handled = self.handled.fetch_add(cost as u64, Ordering::SeqCst) + cost as u64;
        let awaited = self.awaited.load(Ordering::SeqCst);
        awaited != 0 && awaited <= handled && self.awaited.swap(0, Ordering::SeqCst) != 0
    }

    /// The cost of what is in the channel or being handled.
    pub(super) fn outstanding(&self) -> usize {
        // In this order, so that the difference is not below zero.
        let handled = self.handled.load(Ordering::SeqCst);
        self.sent.load(Ordering::SeqCst).wrapping_sub(handled) as usize
    }

    fn has_handled(&self, mark: u64) -> bool {
        self.handled.load(Ordering::SeqCst) >= mark
    }

    /// Whether the application has handled everything up to `mark`. If not, [`add_handled`](Progress::add_handled) tells when it
    /// has: it adds before it looks at `awaited`, so that at least one of the two sees the other.
    fn finds_handled(&self, mark: u64) -> bool {
        if self.has_handled(mark) {
            return true;
        }
        // Those that wait are all told at once, and those whose turn has not come wait again. So the least counts.
        let lower = |awaited| (awaited == 0 || awaited > mark).then_some(mark);
        let _ = self.awaited.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lower);
        self.has_handled(mark)
    }
}

/// What one connection has sent into a channel of late.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Where the channel's events ended when the current half began. 0 if no half has been filled.
    begun: u64,
    /// How much of the current half is filled.
    filled: u32,
}

impl Window {
    #[inline(always)]
    pub(super) fn add(&mut self, cost: usize) {
        self.filled = self.filled.saturating_add(u32::try_from(cost + EVENT_WEIGHT).unwrap_or(u32::MAX));
    }

    #[inline(always)]
    pub(super) fn half_is_full(&self) -> bool {
        self.filled >= HALF
    }

    /// Begins the next half, if the application has handled the one before. `unsent` is the cost of the events that are about
    /// to be sent.
    pub(super) fn begin_half(&mut self, progress: &Progress, unsent: usize) -> bool {
        let may_begin = progress.finds_handled(self.begun);
        if may_begin {
            self.begin_anyway(progress, unsent);
        }
        may_begin
    }

    /// Begins the next half, whatever the application has handled.
    pub(super) fn begin_anyway(&mut self, progress: &Progress, unsent: usize) {
        *self = Window { begun: progress.sent.load(Ordering::SeqCst) + unsent as u64, filled: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(window: &mut Window) -> usize {
        let mut count = 0;
        while !window.half_is_full() {
            window.add(64);
            count += 1;
        }
        count
    }

    #[test]
    fn a_connection_has_two_halves_in_the_channel_at_most() {
        let (progress, mut window) = (Progress::default(), Window::default());
        let first = fill(&mut window);
        assert_eq!(first, 121);
        assert!(window.begin_half(&progress, 0), "nothing was sent before");
        progress.add_sent(100);
        fill(&mut window);
        assert!(window.begin_half(&progress, 20), "that it began at nothing was handled");
        progress.add_sent(20);
        fill(&mut window);
        assert!(!window.begin_half(&progress, 0));
        assert!(!progress.add_handled(119) && !window.begin_half(&progress, 0));
        assert!(progress.add_handled(1), "it waits for that");
        assert!(!progress.add_handled(0), "it was told");
        assert!(window.begin_half(&progress, 0));
        assert_eq!(progress.outstanding(), 0);
    }

    #[test]
    fn the_first_that_may_go_on_is_told_and_no_other_is_forgotten() {
        let progress = Progress::default();
        progress.add_sent(30);
        for mark in [20, 10, 30] {
            assert!(!progress.finds_handled(mark));
        }
        assert!(!progress.add_handled(9));
        assert!(progress.add_handled(1));
        assert!(progress.finds_handled(10) && !progress.finds_handled(20) && !progress.finds_handled(30));
        assert!(progress.add_handled(15) && progress.finds_handled(20) && !progress.finds_handled(30));
        assert!(progress.add_handled(5) && progress.finds_handled(30));
    }
}
