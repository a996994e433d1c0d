//! The count of bytes that are queued for a connection, whether senders wait for room, and the connection's own policy.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::SlowConsumer;

/// Nothing more can be sent.
const CLOSED: u64 = 1;

/// Senders wait for room.
const AWAITED: u64 = 2;

/// The application dropped the connection.
const ABORTED: u64 = 4;

/// It is not known yet whether anything can be sent: the connection may be another process's.
const SUSPENDED: u64 = 8;

/// The bits of the connection's own policy; 0 if it has none.
const POLICY: u64 = 0b111 << POLICY_SHIFT;

const POLICY_SHIFT: u32 = 4;

/// Bytes are counted in the bits above the flags and the policy, so that a count below zero leaves these as they are.
const FLAG_BITS: u32 = 7;

/// The count of bytes that are queued for a connection: those in the worker's inbox, and those that the socket did not
/// take. It also holds whether the connection is closed or aborted, whether senders wait for room, and the connection's
/// own policy.
#[derive(Debug)]
pub(crate) struct QueuedBytes {
    /// All bytes that senders ever posted to the worker. They hold the lock of its inbox, so a store is enough to add
    /// to it. Synchronizes with [`bytes`](QueuedBytes::bytes).
    posted: AtomicU64,
    /// The bytes that the socket did not take, less all that have ever left the inbox. The flags are in the same word,
    /// so that no wake-up is lost: a sender sets [`AWAITED`] before it looks for room, and the worker makes room before
    /// it looks for [`AWAITED`].
    rest: AtomicU64,
}

impl QueuedBytes {
    pub(crate) fn new(bytes: usize) -> QueuedBytes {
        QueuedBytes { posted: AtomicU64::new(0), rest: AtomicU64::new((bytes as u64) << FLAG_BITS) }
    }

    /// Returns how many bytes are queued. It may return more while a sender posts.
    pub(crate) fn bytes(&self) -> usize {
        // In this order, so that the sum is not below zero: bytes that have left the inbox were posted before.
        let rest = self.rest.load(Ordering::SeqCst);
        let posted = self.posted.load(Ordering::Acquire);
        ((posted << FLAG_BITS).wrapping_add(rest) >> FLAG_BITS) as usize
    }

    /// Whether nothing can be sent now.
    pub(crate) fn is_closed(&self) -> bool {
        self.rest.load(Ordering::Acquire) & (CLOSED | SUSPENDED) != 0
    }

    /// Adds what a sender posts to the worker. To be called under the lock of the worker's inbox.
    pub(crate) fn add_posted(&self, bytes: usize) {
        self.posted.store(self.posted.load(Ordering::Relaxed).wrapping_add(bytes as u64), Ordering::Release);
    }

    /// All bytes that senders ever posted to the worker.
    pub(crate) fn posted(&self) -> u64 {
        self.posted.load(Ordering::Acquire)
    }

    /// Adds the bytes of a keyed message, and subtracts those of the one that it replaces. They are in neither the inbox
    /// nor the backlog, and are subtracted with what leaves the inbox.
    pub(crate) fn add_kept(&self, bytes: usize, replaced: usize) {
        let change = (bytes as u64).wrapping_sub(replaced as u64) << FLAG_BITS;
        self.rest.fetch_add(change, Ordering::SeqCst);
    }

    /// Whether senders wait for room.
    pub(crate) fn is_awaited(&self) -> bool {
        self.rest.load(Ordering::SeqCst) & AWAITED != 0
    }

    /// Notes that `posted` bytes left the inbox, and that the backlog went from `before` to `after`. Returns whether
    /// senders wait for room.
    pub(crate) fn apply(&self, posted: usize, before: usize, after: usize) -> bool {
        let change = (after as u64).wrapping_sub(before as u64).wrapping_sub(posted as u64) << FLAG_BITS;
        change != 0 && self.rest.fetch_add(change, Ordering::SeqCst) & AWAITED != 0
    }

    /// Notes that nothing more can be sent. Returns whether senders wait for room.
    pub(crate) fn close(&self) -> bool {
        self.rest.fetch_or(CLOSED, Ordering::SeqCst) & AWAITED != 0
    }

    /// Takes no messages until it is known whether another process goes on with the connection. Returns whether senders wait
    /// for room, which are to be told.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn suspend(&self) -> bool {
        self.rest.fetch_or(SUSPENDED, Ordering::SeqCst) & AWAITED != 0
    }

    /// Ends what [`suspend`](QueuedBytes::suspend) began. The connection takes messages again, unless it was closed meanwhile.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn resume(&self) {
        self.rest.fetch_and(!SUSPENDED, Ordering::SeqCst);
    }

    /// Whether the connection may take messages again, though it takes none now.
    pub(crate) fn is_suspended(&self) -> bool {
        self.rest.load(Ordering::Acquire) & (SUSPENDED | CLOSED) == SUSPENDED
    }

    /// Whether the application has dropped the connection.
    #[inline]
    pub(crate) fn is_aborted(&self) -> bool {
        self.rest.load(Ordering::Acquire) & ABORTED != 0
    }

    /// Notes that the application has dropped the connection, so that nothing more can be sent. Returns whether senders
    /// wait for room.
    pub(crate) fn abort(&self) -> bool {
        self.rest.fetch_or(CLOSED | ABORTED, Ordering::SeqCst) & AWAITED != 0
    }

    /// The connection's own policy, if it has one.
    pub(crate) fn policy(&self) -> Option<SlowConsumer> {
        match (self.rest.load(Ordering::Relaxed) & POLICY) >> POLICY_SHIFT {
            1 => Some(SlowConsumer::Block),
            2 => Some(SlowConsumer::Refuse),
            3 => Some(SlowConsumer::Drop),
            4 => Some(SlowConsumer::Disconnect),
            _ => None,
        }
    }

    /// Sets the connection's own policy. Messages of other threads may meet the one before, so `Relaxed` is enough.
    pub(crate) fn set_policy(&self, policy: Option<SlowConsumer>) {
        let bits: u64 = match policy {
            None => 0,
            Some(SlowConsumer::Block) => 1,
            Some(SlowConsumer::Refuse) => 2,
            Some(SlowConsumer::Drop) => 3,
            Some(SlowConsumer::Disconnect) => 4,
        };
        let change = |word: u64| Some(word & !POLICY | bits << POLICY_SHIFT);
        // It never fails: the change is always made.
        let _ = self.rest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Notes that a sender waits unless there is room now.
    pub(crate) fn set_awaited(&self) {
        self.rest.fetch_or(AWAITED, Ordering::SeqCst);
    }

    /// Notes that the waiting senders will look again.
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
    fn counting_bytes_leaves_the_flags_as_they_are() {
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
        assert_eq!((queued.bytes(), queued.is_closed(), queued.is_aborted()), (0, true, false));
        assert!(!queued.abort());
        assert!(!queued.apply(0, 0, 9));
        assert_eq!((queued.bytes(), queued.is_closed(), queued.is_aborted()), (9, true, true));
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    #[test]
    fn a_suspended_connection_takes_messages_again_unless_it_was_closed() {
        let states = |queued: &QueuedBytes| (queued.is_closed(), queued.is_suspended(), queued.bytes());
        let queued = QueuedBytes::new(7);
        assert!(!queued.suspend(), "nobody waits");
        assert_eq!(states(&queued), (true, true, 7));
        queued.resume();
        assert_eq!(states(&queued), (false, false, 7));
        queued.set_awaited();
        assert!(queued.suspend());
        queued.close();
        assert_eq!(states(&queued), (true, false, 7));
        queued.resume();
        assert_eq!(states(&queued), (true, false, 7));
        let queued = QueuedBytes::new(7);
        queued.suspend();
        queued.abort();
        assert_eq!(states(&queued), (true, false, 7));
    }

    #[test]
    fn the_policy_is_independent_of_the_count_and_the_flags() {
        let queued = QueuedBytes::new(7);
        queued.set_awaited();
        for policy in [SlowConsumer::Block, SlowConsumer::Refuse, SlowConsumer::Drop, SlowConsumer::Disconnect] {
            for policy in [Some(policy), None] {
                queued.set_policy(policy);
                queued.add_posted(3);
                assert!(queued.apply(3, 0, 0));
                assert_eq!((queued.policy(), queued.bytes(), queued.is_closed()), (policy, 7, false));
            }
        }
        queued.set_policy(Some(SlowConsumer::Disconnect));
        queued.close();
        assert_eq!((queued.policy(), queued.bytes(), queued.is_closed()), (Some(SlowConsumer::Disconnect), 7, true));
    }

    /// The two counts are read one after the other, and their sum is never below zero.
    #[test]
    fn bytes_that_are_posted_meanwhile_are_counted_at_most_twice() {
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
                // In this order, so that bytes posted before `done` was stored are seen after it is loaded.
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
