//! A count that one thread keeps.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that one thread changes and any thread reads. Nothing else depends on it, so `Relaxed` is enough, and an
/// addition needs no atomic read-modify-write.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds to the count. Called by one thread only.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.set(self.value().wrapping_add(more));
    }

    /// Sets the count. Called by one thread only.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
