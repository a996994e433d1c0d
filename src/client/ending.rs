//! Waiting for the end of a client's connections, and of a pool's threads, where they are dropped.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Makes an end to wait for, and what puts it off.
pub(super) fn ending() -> (Alive, Ending) {
    let latch = Arc::new(Latch { alive: Mutex::new(1), ended: Condvar::new() });
    (Alive { latch: latch.clone() }, Ending { latch })
}

/// The number of [`Alive`] that are left.
#[derive(Debug)]
struct Latch {
    alive: Mutex<usize>,
    ended: Condvar,
}

impl Latch {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts off an end until it and all its clones are dropped: each connection of a client has one, and so has a pool that
/// can make another connection.
#[derive(Debug)]
pub(super) struct Alive {
    latch: Arc<Latch>,
}

impl Clone for Alive {
    fn clone(&self) -> Alive {
        *self.latch.lock() += 1;
        Alive { latch: self.latch.clone() }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let mut alive = self.latch.lock();
        *alive -= 1;
        if *alive == 0 {
            drop(alive);
            self.latch.ended.notify_all();
        }
    }
}

/// Waits until no [`Alive`] is left.
#[derive(Debug)]
pub(super) struct Ending {
    latch: Arc<Latch>,
}

impl Ending {
    /// Whether the end has come.
    pub(super) fn has_come(&self) -> bool {
        *self.latch.lock() == 0
    }

    /// Waits for the end. Returns whether it came by the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut alive = self.latch.lock();
        while *alive > 0 {
            alive = match deadline {
                None => self.latch.ended.wait(alive).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.latch.ended.wait_timeout(alive, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }
}

/// How long the drops of a pool's clients may still wait. A single drop may wait for the whole bound. Many drops in a row
/// wait for the bound in all, so that to drop a thousand clients of a server that is silent takes no longer than to drop
/// one. Time in which nobody waits makes good for time spent.
#[derive(Debug, Default)]
pub(super) struct Patience {
    spent: Duration,
    /// The duration of the last wait.
    last: Duration,
    /// When the two were last brought up to date.
    at: Option<Instant>,
}

impl Patience {
    /// How long a drop may wait that begins now.
    pub(super) fn left(&mut self, bound: Duration, now: Instant) -> Duration {
        self.recover(now);
        bound.saturating_sub(self.spent)
    }

    /// How long the drop of the pool may wait: for the bound, of which the drop of the last client is a part. So the drop
    /// of a client that has a pool of its own does not take twice the bound.
    pub(super) fn left_after_last(&mut self, bound: Duration, now: Instant) -> Duration {
        self.recover(now);
        bound.saturating_sub(self.last)
    }

    /// Counts a wait that ends now.
    pub(super) fn spend(&mut self, waited: Duration, now: Instant) {
        self.spent = self.spent.saturating_add(waited);
        self.last = waited;
        self.at = Some(now);
    }

    fn recover(&mut self, now: Instant) {
        let idle = self.at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.spent = self.spent.saturating_sub(idle);
        self.last = self.last.saturating_sub(idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_comes_when_the_last_one_is_dropped() {
        let (alive, ending) = ending();
        let other = alive.clone();
        drop(alive);
        assert!(!ending.has_come() && !ending.wait(Some(Instant::now())));
        let dropped = std::thread::spawn(move || drop(other));
        assert!(ending.wait(Instant::now().checked_add(Duration::from_secs(30))));
        assert!(ending.has_come() && ending.wait(None));
        dropped.join().expect("the thread");
    }

    #[test]
    fn drops_in_a_row_share_one_bound() {
        let second = Duration::from_secs(1);
        let bound = 5 * second;
        let start = Instant::now();
        let mut patience = Patience::default();
        assert_eq!(patience.left(bound, start), bound);
        patience.spend(2 * second, start + 2 * second);
        assert_eq!(patience.left(bound, start + 2 * second), 3 * second);
        patience.spend(3 * second, start + bound);
        assert_eq!(patience.left(bound, start + bound), Duration::ZERO);
        patience.spend(Duration::ZERO, start + bound);
        // The last client was not waited for, so that the pool waits for it.
        assert_eq!(patience.left_after_last(bound, start + bound), bound);
        assert_eq!(patience.left(bound, start + 7 * second), 2 * second, "two seconds without a wait");
        assert_eq!(patience.left(bound, start + 60 * second), bound);
    }

    #[test]
    fn a_client_with_a_pool_of_its_own_waits_for_one_bound() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let bound = Duration::from_secs(5);
        let left = patience.left(bound, start);
        patience.spend(left, start + left);
        assert_eq!(patience.left_after_last(bound, start + bound), Duration::ZERO);
    }
}
