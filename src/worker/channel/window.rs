//! The window of a connection: how many of its events may wait in a channel that others share, so that one that floods does
//! not have the others wait behind what it sent.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::worker::slab::{Key, KeyMap};

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
    /// What `handled` must reach before a connection whose window is full is told; 0 if none waits. It is told sooner if a
    /// thread of the application finds the channel empty.
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

    /// Whether a connection waits, which is to be told now.
    pub(super) fn take_awaited(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) != 0 && self.awaited.swap(0, Ordering::SeqCst) != 0
    }

    /// The cost of what is in the channel or being handled.
    pub(super) fn outstanding(&self) -> usize {
        // In this order, so that the difference is not below zero.
        let handled = self.handled.load(Ordering::SeqCst);
        self.sent.load(Ordering::SeqCst).wrapping_sub(handled) as usize
    }

    /// The cost of all that was sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Whether the application has handled everything up to `mark`.
    pub(super) fn has_handled(&self, mark: u64) -> bool {
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

/// How much of the current half of its window a connection has filled.
#[derive(Debug, Default)]
pub(super) struct Filled(u32);

/// Set in [`Filled`] if a receive buffer is in the half, which that fills whatever is in it.
const HAS_BUFFER: u32 = 1 << 31;

impl Filled {
    /// Notes that a receive buffer goes to the application: the one after the next waits for it even if nobody shares the
    /// channel, so that the buffers are few and stay in a processor's cache.
    pub(super) fn add_buffer(&mut self) {
        self.0 |= HAS_BUFFER;
    }

    pub(super) fn has_buffer(&self) -> bool {
        self.0 & HAS_BUFFER != 0
    }

    #[inline(always)]
    pub(super) fn add(&mut self, cost: usize) {
        self.0 = self.0.saturating_add(u32::try_from(cost + EVENT_WEIGHT).unwrap_or(u32::MAX));
    }

    #[inline(always)]
    pub(super) fn is_half(&self) -> bool {
        self.0 >= HALF
    }
}

/// Where the channel's events ended when the current halves began, of each connection that has filled one before.
#[derive(Debug, Default)]
pub(super) struct Windows(KeyMap<Key, u64>);

impl Windows {
    /// Begins the next half, if the application has handled the one before. `unsent` is the cost of the events that are about
    /// to be sent.
    pub(super) fn begin_half(&mut self, key: Key, filled: &mut Filled, progress: &Progress, unsent: usize) -> bool {
        let begun = self.0.get(&key).copied().unwrap_or_default();
        let may_begin = progress.finds_handled(begun);
        if may_begin {
            self.begin_anyway(key, filled, progress, unsent);
        }
        may_begin
    }

    /// Begins the next half, whatever the application has handled.
    pub(super) fn begin_anyway(&mut self, key: Key, filled: &mut Filled, progress: &Progress, unsent: usize) {
        self.0.insert(key, progress.sent.load(Ordering::SeqCst) + unsent as u64);
        *filled = Filled::default();
    }

    /// Forgets a connection that sends no more.
    pub(super) fn remove(&mut self, key: Key) {
        if !self.0.is_empty() {
            self.0.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(filled: &mut Filled) -> usize {
        let mut count = 0;
        while !filled.is_half() {
            filled.add(64);
            count += 1;
        }
        count
    }

    #[test]
    fn a_connection_has_two_halves_in_the_channel_at_most() {
        let (progress, mut windows, mut filled) = (Progress::default(), Windows::default(), Filled::default());
        let key = Key { index: 7, generation: 1 };
        let mut begin = |filled: &mut Filled, unsent| windows.begin_half(key, filled, &progress, unsent);
        assert_eq!(fill(&mut filled), 121);
        assert!(begin(&mut filled, 0), "nothing was sent before");
        progress.add_sent(100);
        fill(&mut filled);
        assert!(begin(&mut filled, 20), "that it began at nothing was handled");
        progress.add_sent(20);
        fill(&mut filled);
        assert!(!begin(&mut filled, 0));
        assert!(!progress.add_handled(119) && !begin(&mut filled, 0));
        assert!(progress.add_handled(1), "it waits for that");
        assert!(!progress.add_handled(0), "it was told");
        assert!(begin(&mut filled, 0));
        assert_eq!(progress.outstanding(), 0);
        windows.remove(key);
        assert!(windows.0.is_empty());
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
