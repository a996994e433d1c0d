//! The buffers of a message's parts, which its writer fills again once they are sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::budget::{Charge, MemoryBudget};

/// A buffer of less than 4 KiB is freed, which costs less than to keep it: a writer that flushes often has many of them.
const MIN_SIZE: usize = 4 << 10;

/// Buffers that wait to be filled again.
#[derive(Debug, Default)]
pub(crate) struct PartBuffers {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    charge: Option<Charge>,
}

impl Idle {
    fn set_bytes(&mut self, bytes: usize) {
        self.bytes = bytes;
        if let Some(charge) = &mut self.charge {
            charge.set(bytes);
        }
    }
}

impl PartBuffers {
    /// Those that wait count as memory of `budget`.
    pub(crate) fn new(budget: &Arc<MemoryBudget>) -> PartBuffers {
        PartBuffers { idle: Mutex::new(Idle { charge: Some(Charge::new(budget, 0)), ..Idle::default() }) }
    }

    /// A buffer with whatever it held before; an empty one if none waits.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut idle = self.lock();
        let buffer = idle.buffers.pop().unwrap_or_default();
        let left = idle.bytes - buffer.capacity();
        idle.set_bytes(left);
        buffer
    }

    /// Keeps a buffer, unless more than `most` bytes would wait then.
    pub(crate) fn give(&self, buffer: Vec<u8>, most: usize) {
        if !(MIN_SIZE..=most).contains(&buffer.capacity()) {
            return;
        }
        let mut idle = self.lock();
        let bytes = idle.bytes + buffer.capacity();
        if bytes <= most {
            idle.buffers.push(buffer);
            idle.set_bytes(bytes);
        }
    }

    /// Frees those that wait.
    pub(crate) fn clear(&self) {
        let mut idle = self.lock();
        idle.buffers = Vec::new();
        idle.set_bytes(0);
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Nothing that runs under the lock can leave the list half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_wait_as_are_allowed_and_they_count_as_memory() {
        let budget = Arc::<MemoryBudget>::default();
        let buffers = PartBuffers::new(&budget);
        let most = 2 * MIN_SIZE + 10;
        for _ in 0..5 {
            buffers.give(vec![7; MIN_SIZE], most);
        }
        assert_eq!(budget.used(), 2 * MIN_SIZE);
        buffers.give(vec![7; most + 1], most);
        buffers.give(vec![7; 10], most);
        assert_eq!(budget.used(), 2 * MIN_SIZE, "a large and a small one are freed");
        assert_eq!(buffers.take(), [7; MIN_SIZE], "it is as it was");
        assert_eq!(budget.used(), MIN_SIZE);
        buffers.clear();
        assert!(buffers.take().is_empty() && budget.used() == 0);
        buffers.give(vec![7; MIN_SIZE], most);
        drop(buffers);
        assert_eq!(budget.used(), 0);
    }
}
