//! Which thread the current one is: a worker, or one of those that somebody started.

use std::cell::Cell;
use std::thread::JoinHandle;

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Declares this thread a worker's or the reactor's. From now on it must not wait for a worker.
pub(crate) fn enter_worker() {
    IS_WORKER.set(true);
}

/// Declares this thread a worker's until the returned guard is dropped.
pub(crate) fn enter_worker_scope() -> WorkerScope {
    WorkerScope { before: IS_WORKER.replace(true) }
}

/// Declares a thread a worker's until it is dropped.
#[derive(Debug)]
pub(crate) struct WorkerScope {
    before: bool,
}

impl Drop for WorkerScope {
    fn drop(&mut self) {
        IS_WORKER.set(self.before);
    }
}

/// Whether this thread may wait for a worker. A worker must not: it would wait for itself, or two workers for each
/// other.
pub(crate) fn may_block() -> bool {
    !IS_WORKER.get()
}

/// Whether the calling thread is one of these.
pub(crate) fn runs_on_one_of<T>(threads: &[JoinHandle<T>]) -> bool {
    let current = std::thread::current().id();
    threads.iter().any(|thread| thread.thread().id() == current)
}

/// Returns a number that no other running thread has. It is never 0.
pub(crate) fn thread_token() -> usize {
    IS_WORKER.with(|is_worker| std::ptr::from_ref(is_worker).addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_a_workers_until_the_outermost_scope_ends() {
        assert!(may_block());
        let outer = enter_worker_scope();
        assert!(!may_block());
        drop(enter_worker_scope());
        assert!(!may_block(), "the outer scope lasts");
        drop(outer);
        assert!(may_block());
    }
}
