//! The application's threads that wait for events, and how they are woken.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::thread::Thread;

/// Threads that sleep until there are events.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    threads: Mutex<Vec<Thread>>,
}

impl Waiters {
    /// Notes that this thread is about to sleep, and looks for events once more before it does. Synchronizes with
    /// [`wake`](Waiters::wake).
    pub(crate) fn enter(&self) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(std::thread::current());
        self.count.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Whether a thread sleeps, or is about to.
    pub(super) fn has_any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Notes that this thread is awake.
    pub(crate) fn leave(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        let me = std::thread::current().id();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = threads.iter().position(|thread| thread.id() == me) {
            threads.swap_remove(index);
        }
    }

    /// Wakes every thread that sleeps, after something was sent; `false` if none does. Synchronizes with
    /// [`enter`](Waiters::enter).
    pub(crate) fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleepers = self.count.load(Ordering::SeqCst) > 0;
        if sleepers {
            // A woken thread may run at once, on this core, and take the lock, which is free by then.
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            // Mostly one thread sleeps, and an empty list of others needs no allocation.
            let (first, others) = (threads.first().cloned(), threads.get(1..).unwrap_or_default().to_vec());
            drop(threads);
            first.iter().chain(&others).for_each(Thread::unpark);
        }
        sleepers
    }
}
