//! How much waits at a connection, and who waits for it to become less.

use std::sync::atomic::{AtomicU64, Ordering};

/// The connection takes nothing more.
const CLOSED: u64 = 1 << 63;

/// Senders wait for room.
const AWAITED: u64 = 1 << 62;

/// Bytes that were given to the worker and not yet flushed by it, and bytes that the socket did not take; with them
/// whether the connection is closed and whether senders wait. All in one word: whoever changes it sees the others.
#[derive(Debug)]
pub(crate) struct Level(AtomicU64);

impl Level {
    pub(crate) fn new(bytes: usize) -> Level {
        Level(AtomicU64::new(bytes as u64))
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.0.load(Ordering::SeqCst) & !(CLOSED | AWAITED)) as usize
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    /// A sender adds what it gives to the worker.
    pub(crate) fn rise(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The worker took `posted` from senders, and what the socket did not take went from `before` to `after`: whether
    /// somebody waits for that.
    pub(crate) fn settle(&self, posted: usize, before: usize, after: usize) -> bool {
        let change = (after as u64).wrapping_sub(before as u64).wrapping_sub(posted as u64);
        change != 0 && self.0.fetch_add(change, Ordering::SeqCst) & AWAITED != 0
    }

    /// Nothing more is taken: whether somebody waits.
    pub(crate) fn close(&self) -> bool {
        self.0.fetch_or(CLOSED, Ordering::SeqCst) & AWAITED != 0
    }

    /// A sender is going to wait unless there is room now.
    pub(crate) fn set_awaited(&self) {
        self.0.fetch_or(AWAITED, Ordering::SeqCst);
    }

    /// Those who wait will look again.
    pub(crate) fn clear_awaited(&self) {
        self.0.fetch_and(!AWAITED, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_and_go_beside_the_flags() {
        let level = Level::new(5);
        level.rise(100);
        assert!(!level.settle(60, 5, 0));
        assert_eq!((level.bytes(), level.is_closed()), (40, false));
        level.set_awaited();
        assert!(!level.settle(0, 7, 7), "nothing has changed");
        assert!(level.settle(40, 0, 30));
        assert_eq!(level.bytes(), 30);
        assert!(level.close());
        level.clear_awaited();
        assert!(!level.settle(0, 30, 0));
        assert_eq!((level.bytes(), level.is_closed()), (0, true));
    }
}
