//! The threads of a server, counted from their start to their end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::worker::event_loop::worker::CloseCounts;

/// How many of the server's threads run, and what those that ended report.
#[derive(Default)]
pub(super) struct ThreadSet {
    state: Mutex<ThreadSetState>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct ThreadSetState {
    threads: usize,
    pub(super) ended: CloseCounts,
    handles: Vec<JoinHandle<()>>,
}

impl ThreadSet {
    pub(super) fn lock(&self) -> MutexGuard<'_, ThreadSetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a thread that `run` is to work on, until it ends, however it ends.
    pub(super) fn spawn(
        self: &Arc<ThreadSet>,
        name: String,
        run: impl FnOnce() -> CloseCounts + Send + 'static,
    ) -> std::io::Result<()> {
        struct Guard(Arc<ThreadSet>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.lock().threads -= 1;
                self.0.changed.notify_all();
            }
        }
        self.lock().threads += 1;
        let guard = Guard(self.clone());
        let handle = std::thread::Builder::new().name(name).spawn(move || {
            let guard = guard;
            let ended = run();
            let mut running = guard.0.lock();
            running.ended.clean += ended.clean;
            running.ended.forced += ended.forced;
        })?;
        self.lock().handles.push(handle);
        Ok(())
    }

    /// Waits until every thread has ended; `None` if some have not by the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<CloseCounts> {
        let mut running = self.lock();
        while running.threads > 0 {
            running = match deadline {
                None => self.changed.wait(running).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.changed.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let handles = std::mem::take(&mut running.handles);
        let ended = running.ended;
        drop(running);
        for handle in handles {
            // A panic was reported as it happened.
            let _ = handle.join();
        }
        Some(ended)
    }
}
