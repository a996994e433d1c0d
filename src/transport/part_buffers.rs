//! The buffers of a message's parts, which its writer fills again once they are sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::budget::{Charge, MemoryBudget};

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
    fn note(&mut self) {
        self.bytes = self.buffers.iter().map(Vec::capacity).sum();
        if let Some(charge) = &mut self.charge {
            charge.set(self.bytes);
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
        idle.note();
        buffer
    }

    /// Keeps a buffer, unless more than `most` bytes would wait then.
    pub(crate) fn give(&self, buffer: Vec<u8>, most: usize) {
        if buffer.capacity() > most {
            return;
        }
        let mut idle = self.lock();
        if idle.bytes + buffer.capacity() <= most {
            idle.buffers.push(buffer);
            idle.note();
        }
    }

    /// Frees those that wait.
    pub(crate) fn clear(&self) {
        let mut idle = self.lock();
        idle.buffers = Vec::new();
        idle.note();
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
        for _ in 0..5 {
            buffers.give(vec![7; 100], 250);
        }
        assert_eq!(budget.used(), 200);
        buffers.give(vec![7; 300], 250);
        assert_eq!(buffers.take(), [7; 100], "it is as it was");
        assert_eq!(budget.used(), 100);
        buffers.clear();
        assert!(buffers.take().is_empty() && budget.used() == 0);
        buffers.give(vec![7; 100], 250);
        drop(buffers);
        assert_eq!(budget.used(), 0);
    }
}
