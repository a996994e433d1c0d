//! What kind of thread this is.

use std::cell::Cell;

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Declares this thread a worker's or the reactor's: from now on it must not wait for one.
pub(crate) fn enter_worker() {
    IS_WORKER.set(true);
}

/// Whether this thread may wait for a worker. A worker that waited for itself, or for another that waits for it, would
/// wait for ever.
pub(crate) fn may_block() -> bool {
    !IS_WORKER.get()
}
