//! The memory that the connections of a server or of a set of clients take together, and its limit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// A [`Tally`] tells its budget of steps of 4 KiB. Larger makes the budget less exact; smaller has threads write to it
/// more often.
const STEP: usize = 4 << 10;

/// A count of bytes in use, and the limit on it. Threads add to it and look at it at any time, and nothing else depends on
/// the order in which they see that, so `Relaxed` is enough.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    /// It may be below zero for a moment: a thread frees memory before another has told that it took it.
    used: AtomicIsize,
    limit: usize,
}

/// No limit.
impl Default for MemoryBudget {
    fn default() -> MemoryBudget {
        MemoryBudget::new(usize::MAX)
    }
}

impl MemoryBudget {
    pub(crate) fn new(limit: usize) -> MemoryBudget {
        MemoryBudget { used: AtomicIsize::new(0), limit }
    }

    /// The bytes in use.
    pub(crate) fn used(&self) -> usize {
        usize::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether more is in use than the limit.
    #[inline]
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// Notes that what took `before` bytes takes `after`.
    #[inline]
    pub(crate) fn change(&self, before: usize, after: usize) {
        if before != after {
            self.used.fetch_add((after as isize).wrapping_sub(before as isize), Ordering::Relaxed);
        }
    }
}

/// Bytes that are in use until this is dropped.
pub(crate) struct Charge {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(budget: &Arc<MemoryBudget>, bytes: usize) -> Charge {
        budget.change(0, bytes);
        Charge { budget: budget.clone(), bytes }
    }

    /// Has it count `bytes` from now on.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.budget.change(std::mem::replace(&mut self.bytes, bytes), bytes);
    }

    /// Another charge to the same budget.
    #[cfg(feature = "deflate")]
    pub(crate) fn another(&self, bytes: usize) -> Charge {
        Charge::new(&self.budget, bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.change(self.bytes, 0);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Charge").field(&self.bytes).finish()
    }
}

/// A count of bytes that several threads change often. It tells the budget of large changes only, so that small ones do
/// not have the threads of all workers write to one place.
#[derive(Debug)]
pub(crate) struct Tally {
    budget: Arc<MemoryBudget>,
    bytes: AtomicUsize,
}

impl Tally {
    pub(crate) fn new(budget: Arc<MemoryBudget>) -> Tally {
        Tally { budget, bytes: AtomicUsize::new(0) }
    }

    pub(crate) fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell(before, before.wrapping_add(bytes));
    }

    pub(crate) fn subtract(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.tell(before, before.wrapping_sub(bytes));
    }

    /// Each change of the count is told once, in whole steps, so that the budget has the steps of the count in the end,
    /// whatever the order.
    fn tell(&self, before: usize, after: usize) {
        self.budget.change(before / STEP * STEP, after / STEP * STEP);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.tell(bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_count_until_they_are_dropped() {
        let budget = Arc::new(MemoryBudget::new(100));
        let first = Charge::new(&budget, 60);
        assert!(!budget.is_exceeded());
        let mut second = Charge::new(&budget, 7);
        second.set(41);
        assert_eq!((budget.used(), budget.is_exceeded()), (101, true));
        drop(first);
        assert_eq!((budget.used(), budget.is_exceeded()), (41, false));
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_tally_is_told_in_steps() {
        let budget = Arc::new(MemoryBudget::new(1 << 30));
        let tally = Tally::new(budget.clone());
        tally.add(STEP - 1);
        assert_eq!(budget.used(), 0);
        tally.add(1);
        assert_eq!(budget.used(), STEP);
        tally.add(10 * STEP + 5);
        tally.subtract(6);
        assert_eq!(budget.used(), 10 * STEP);
        drop(tally);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn threads_that_change_a_tally_leave_nothing_behind() {
        let budget = Arc::new(MemoryBudget::new(1 << 30));
        let tally = Tally::new(budget.clone());
        std::thread::scope(|scope| {
            for thread in 1..4 {
                let tally = &tally;
                scope.spawn(move || {
                    for round in 0..20_000 {
                        tally.add(round * thread % 5000);
                        tally.subtract(round * thread % 5000);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
