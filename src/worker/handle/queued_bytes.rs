//! How much waits at a connection, and who waits for it to become less.

use std::sync::atomic::{AtomicU64, Ordering};

/// The connection takes nothing more.
const CLOSED: u64 = 1;

/// Senders wait for room.
const AWAITED: u64 = 2;

/// Bytes are counted above the flags, so that a count may run below zero and leave them as they are.
const FLAG_BITS: u32 = 2;

/// Bytes that were given to the worker and not yet flushed by it, and bytes that the socket did not take; with them
/// whether the connection is closed and whether senders wait.
#[derive(Debug)]
pub(crate) struct QueuedBytes {
    /// All bytes that senders ever gave to the worker. They hold the lock of its inbox, so that counting needs no
    /// instruction that locks.
    posted: AtomicU64,
    /// The other part: what the socket did not take, less what was ever posted and has left the inbox. With the flags, in
    /// one word: whoever changes it sees the others.
    rest: AtomicU64,
}

impl QueuedBytes {
    pub(crate) fn new(bytes: usize) -> QueuedBytes {
        QueuedBytes { posted: AtomicU64::new(0), rest: AtomicU64::new((bytes as u64) << FLAG_BITS) }
    }

    /// How many bytes wait; or more, if some are just being posted.
    pub(crate) fn bytes(&self) -> usize {
        // In this order: what the rest has lost was posted before.
        let rest = self.rest.load(Ordering::SeqCst);
        let posted = self.posted.load(Ordering::Acquire);
        ((posted << FLAG_BITS).wrapping_add(rest) >> FLAG_BITS) as usize
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.rest.load(Ordering::Acquire) & CLOSED != 0
    }

    /// A sender adds what it gives to the worker, under the lock of the worker's inbox.
    pub(crate) fn add_posted(&self, bytes: usize) {
        self.posted.store(self.posted.load(Ordering::Relaxed).wrapping_add(bytes as u64), Ordering::Release);
    }

    /// The worker took `posted` from senders, and what the socket did not take went from `before` to `after`: whether
    /// somebody waits for that.
    pub(crate) fn apply(&self, posted: usize, before: usize, after: usize) -> bool {
        let change = (after as u64).wrapping_sub(before as u64).wrapping_sub(posted as u64) << FLAG_BITS;
        change != 0 && self.rest.fetch_add(change, Ordering::SeqCst) & AWAITED != 0
    }

    /// Nothing more is taken: whether somebody waits.
    pub(crate) fn close(&self) -> bool {
        self.rest.fetch_or(CLOSED, Ordering::SeqCst) & AWAITED != 0
    }

    /// A sender is going to wait unless there is room now.
    pub(crate) fn set_awaited(&self) {
        self.rest.fetch_or(AWAITED, Ordering::SeqCst);
    }

    /// Those who wait will look again.
    pub(crate) fn clear_awaited(&self) {
        self.rest.fetch_and(!AWAITED, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn bytes_come_and_go_beside_the_flags() {
        let queued = QueuedBytes::new(5);
        queued.add_posted(100);
        assert!(!queued.apply(60, 5, 0));
        assert_eq!((queued.bytes(), queued.is_closed()), (40, false));
        queued.set_awaited();
        assert!(!queued.apply(0, 7, 7), "nothing has changed");
        assert!(queued.apply(40, 0, 30));
        assert_eq!(queued.bytes(), 30);
        assert!(queued.close());
        queued.clear_awaited();
        assert!(!queued.apply(0, 30, 0));
        assert_eq!((queued.bytes(), queued.is_closed()), (0, true));
    }

    /// The two counts are read one after the other, and never make less than nothing.
    #[test]
    fn bytes_that_come_and_go_meanwhile_are_at_most_counted_twice() {
        const POSTS: usize = 200_000;
        let (queued, inbox) = (QueuedBytes::new(0), Mutex::new(0_usize));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..POSTS {
                    let mut queue = inbox.lock().expect("no panic");
                    queued.add_posted(10);
                    *queue += 10;
                }
                done.store(true, Ordering::SeqCst);
            });
            scope.spawn(|| {
                // In this order: what was posted before the end is seen behind it.
                while !done.load(Ordering::SeqCst) || queued.bytes() > 0 {
                    let taken = std::mem::take(&mut *inbox.lock().expect("no panic"));
                    queued.apply(taken, 0, 0);
                }
            });
            while !done.load(Ordering::SeqCst) {
                assert!(queued.bytes() <= POSTS * 10, "{}", queued.bytes());
            }
        });
        assert_eq!(queued.bytes(), 0);
    }
}
