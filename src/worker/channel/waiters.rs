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
    /// This thread is about to sleep, and will look for events once more.
    pub(crate) fn enter(&self) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(std::thread::current());
        self.count.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// This thread does not sleep any more.
    pub(crate) fn leave(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        let me = std::thread::current().id();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = threads.iter().position(|thread| thread.id() == me) {
            threads.swap_remove(index);
        }
    }

    /// Wakes every thread that sleeps, after something was sent; `false` if none does.
    pub(crate) fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleepers = self.count.load(Ordering::SeqCst) > 0;
        if sleepers {
            // Whom it wakes may run at once, on this very core, and wants the lock: it is free by then.
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            // Mostly there is one, and a list of no others needs no memory.
            let (first, others) = (threads.first().cloned(), threads.get(1..).unwrap_or_default().to_vec());
            drop(threads);
            first.iter().chain(&others).for_each(Thread::unpark);
        }
        sleepers
    }
}
