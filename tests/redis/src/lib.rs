//! What the tests of the bridge have in common: a Redis of their own, and nodes that record what they hear.

mod fake;
mod node;
mod server;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use fake::FakeRedis;
pub use node::{Heard, Node, number_of};
pub use server::RedisServer;

/// How long the tests wait for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until something holds, and panics with `what` if it does not within [`DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Sets a flag when it is dropped, also by a panic: a thread that others wait for ends.
#[derive(Debug)]
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
