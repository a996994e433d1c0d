//! What kind of thread this is.

use std::cell::Cell;

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Declares this thread a worker's or the reactor's: from now on it must not wait for one.
pub(crate) fn enter_worker() {
    IS_WORKER.set(true);
}

/// Declares this thread a worker's until the returned guard is dropped.
pub(crate) fn enter_worker_scope() -> WorkerScope {
    WorkerScope { before: IS_WORKER.replace(true) }
}

/// While this is there, the thread must not wait for a worker.
#[derive(Debug)]
pub(crate) struct WorkerScope {
    before: bool,
}

impl Drop for WorkerScope {
    fn drop(&mut self) {
        IS_WORKER.set(self.before);
    }
}

/// Whether this thread may wait for a worker. A worker that waited for itself, or for another that waits for it, would
/// wait for ever.
pub(crate) fn may_block() -> bool {
    !IS_WORKER.get()
}

/// Tells this thread from all others that run; never 0.
pub(crate) fn thread_token() -> usize {
    IS_WORKER.with(|is_worker| std::ptr::from_ref(is_worker).addr())
}
