//! When a thread of the bridge connects again.

use std::time::{Duration, Instant};

use crate::bridge::redis::link::{LinkError, Waits};
use crate::bridge::redis::shared::{Lane, Shared};
use crate::bridge::stats::add;
use crate::config::backoff::{Backoff, Jitter};
use crate::transport::random::random;

/// From 50 ms to 3 s, of which a part is random so that the nodes of a cluster do not all connect at once. At most 3 s, because
/// with connecting and subscribing a node is to be back within 5 s of Redis, also if its processors are busy.
const BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(50), max: Duration::from_secs(3), multiplier: 2.0, jitter: Jitter::Full };

/// A connection that lasted 1 s was a good one: the next delay is the shortest. Shorter would connect 20 times a second to what
/// ends each connection at once.
const LASTED: Duration = Duration::from_secs(1);

/// Says at most every 10 s in the log that Redis is not reached.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The attempts of one thread.
#[derive(Debug, Default)]
pub(super) struct Retry {
    waits: u32,
    connected_at: Option<Instant>,
    connected_before: bool,
    logged_at: Option<Instant>,
}

impl Retry {
    /// Notes that a connection was made.
    pub(super) fn connected(&mut self, shared: &Shared) {
        if self.connected_before {
            add(&shared.counts.reconnects, 1);
        }
        if self.logged_at.take().is_some() {
            log::info!("the bridge has a connection to {} again", shared.dialler.target);
        }
        self.connected_before = true;
        self.connected_at = Some(Instant::now());
    }

    /// Waits after a connection ended or was not made. `false` if the bridge has been stopped.
    pub(super) fn pause(&mut self, error: &LinkError, shared: &Shared, lane: &Lane, waits: &mut Waits) -> bool {
        if let LinkError::Garbage(_) = error {
            add(&shared.counts.garbage, 1);
        }
        if self.connected_at.take().is_some_and(|at| at.elapsed() >= LASTED) {
            self.waits = 0;
        }
        let delay = BACKOFF.delay(self.waits, random());
        self.waits = self.waits.saturating_add(1);
        if matches!(error, LinkError::Stopped) || lane.is_stopped() {
            return false;
        }
        if self.logged_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.logged_at = Some(Instant::now());
            log::warn!("the bridge has no connection to {}: {error}", shared.dialler.target);
        }
        let until = Instant::now() + delay;
        while Instant::now() < until && !lane.is_stopped() {
            if let Err(error) = waits.wait(until) {
                log::error!("a thread of the bridge can not wait: {error}");
                return false;
            }
        }
        !lane.is_stopped()
    }
}
