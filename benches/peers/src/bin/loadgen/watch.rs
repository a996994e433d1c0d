//! Whether the server's cores were there all the time.
//!
//! A virtual machine's cores stop for some milliseconds now and then, when its host has others to serve, and nobody tells
//! them ("steal" is what the nearest host admits to). Of messages that are due at a fixed rate one stop of 10 ms in a second
//! makes the 99th percentile, whoever the server is. A thread that goes before all others on its core and does nothing but
//! sleep is late when the core has stopped, and not when the server is busy or slow.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use peers::{priority, process};

/// Between two looks, each of which takes a core some microseconds and delays a message by as much: with twice as many,
/// one message in ten was answered after 65 us in place of 48.
const PERIOD: Duration = Duration::from_millis(1);

/// Later than this, a core has stopped. What a kernel that is not preempted does in one go takes a fifth of a millisecond.
pub(crate) const LATE: Duration = Duration::from_micros(500);

/// Looks as long as it is there.
pub(crate) struct Watch {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    ended: AtomicBool,
    /// By how many nanoseconds the latest look was late.
    latest: AtomicU64,
}

impl Watch {
    /// # Errors
    ///
    /// This process may not have threads of the real-time class, or not use one of the cores.
    pub(crate) fn over(cores: impl IntoIterator<Item = usize>) -> io::Result<Watch> {
        let mut watch = Watch { seen: Arc::default(), threads: Vec::new() };
        let (ready, answers) = channel();
        for core in cores {
            let (seen, ready) = (Arc::clone(&watch.seen), ready.clone());
            watch.threads.push(thread::Builder::new().spawn(move || look(core, &seen, &ready))?);
        }
        answers.iter().take(watch.threads.len()).collect::<io::Result<()>>()?;
        Ok(watch)
    }

    /// Forgets what has been.
    pub(crate) fn begin(&self) {
        self.seen.latest.store(0, Relaxed);
    }

    /// Whether one of the cores has stopped since then.
    pub(crate) fn has_seen_a_stop(&self) -> bool {
        Duration::from_nanos(self.seen.latest.load(Relaxed)) > LATE
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.seen.ended.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing to panic over, and what it saw is not asked for any more.
            let _ = thread.join();
        }
    }
}

fn look(core: usize, seen: &Seen, ready: &Sender<io::Result<()>>) {
    let prepared = process::pin(&[core]).and_then(|()| priority::go_before_all());
    let is_prepared = prepared.is_ok();
    // Who asked waits for this.
    let _ = ready.send(prepared);
    while is_prepared && !seen.ended.load(Relaxed) {
        let slept = Instant::now();
        thread::sleep(PERIOD);
        let late = slept.elapsed().saturating_sub(PERIOD);
        seen.latest.fetch_max(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}
