//! The threads that run a server, counted from their start to their end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::protocol::contain::contained;
use crate::worker::event_loop::worker::CloseCounts;
use crate::worker::thread::runs_on_one_of;

/// How many threads run the server, and what those that ended report.
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

    /// Starts a thread that is counted until it ends, however it ends.
    pub(super) fn spawn(
        self: &Arc<ThreadSet>,
        thread: thread::Builder,
        run: impl FnOnce() -> CloseCounts + Send + 'static,
    ) -> std::io::Result<()> {
        let member = self.enter();
        let handle = thread.spawn(move || {
            // Dropped with the closure, if it panics or the thread can not be started.
            let member = member;
            let ended = run();
            member.leave(ended);
        })?;
        self.lock().handles.push(handle);
        Ok(())
    }

    /// Whether the calling thread is one of the set.
    pub(super) fn runs_here(&self) -> bool {
        runs_on_one_of(&self.lock().handles)
    }

    /// Counts the calling thread, or another one that is given the member, until that is dropped.
    pub(super) fn enter(self: &Arc<ThreadSet>) -> Member {
        self.lock().threads += 1;
        Member(self.clone())
    }

    /// Waits until every thread has ended; `None` if some have not by the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<CloseCounts> {
        let mut state = self.lock();
        while state.threads > 0 {
            state = match deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let handles = std::mem::take(&mut state.handles);
        let ended = state.ended;
        drop(state);
        for handle in handles {
            // A panic was reported as it happened.
            let _ = contained(|| drop(handle.join()));
        }
        Some(ended)
    }
}

/// A thread of the set.
pub(super) struct Member(Arc<ThreadSet>);

impl Member {
    /// The thread ends, and reports.
    pub(super) fn leave(self, ended: CloseCounts) {
        let mut state = self.0.lock();
        state.ended.clean += ended.clean;
        state.ended.forced += ended.forced;
        state.ended.failed += ended.failed;
        if let Some(drained) = ended.drained {
            state.ended.drained.get_or_insert_default().add(drained);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.changed.notify_all();
    }
}
