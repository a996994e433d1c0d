//! Receive buffers that leave their thread together with what was received into them, and come back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::buffer::Input;

/// At most 4 buffers are kept until they are needed: a stream that is received has two on their way and one to receive into.
/// More keeps more memory after several streams at a time; fewer allocates for each of them.
const MAX_IDLE: usize = 4;

/// The receive buffers of a worker that are not in use. A fresh one costs a page fault for every 4 KiB, more than to receive
/// into it.
#[derive(Debug, Default)]
pub(crate) struct SpareInputs {
    idle: Mutex<Idle>,
    /// The memory of those that are idle. Only a count, so `Relaxed` is enough.
    bytes: AtomicUsize,
    /// How many are on their way. A thread that sees that one is not sees that it is idle.
    away: AtomicUsize,
}

#[derive(Debug, Default)]
struct Idle {
    inputs: Vec<Input>,
    /// The least that were idle since the last [`trim`](SpareInputs::trim): these were not needed.
    unneeded: usize,
}

impl SpareInputs {
    /// The memory of the buffers that are idle.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there is anything to [`trim`](SpareInputs::trim), or will be: buffers come back whenever the application has
    /// seen what is in them.
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        self.away.load(Ordering::Acquire) > 0 || self.bytes() > 0
    }

    /// Takes the buffer out of `input`, with what it holds, and leaves an empty one of `size` bytes there.
    pub(crate) fn exchange(self: &Arc<Self>, input: &mut Input, size: usize) -> KeptInput {
        let fresh = self.take(size).unwrap_or_else(|| Input::with_size(size));
        self.away.fetch_add(1, Ordering::Relaxed);
        KeptInput { input: std::mem::replace(input, fresh), home: self.clone() }
    }

    fn take(&self, size: usize) -> Option<Input> {
        let mut idle = self.lock();
        let index = idle.inputs.iter().position(|input| input.size() == size)?;
        let input = idle.inputs.swap_remove(index);
        self.note(&mut idle);
        Some(input)
    }

    fn give(&self, mut input: Input) {
        let mut idle = self.lock();
        if idle.inputs.len() < MAX_IDLE {
            // Nobody else's bytes are decoded.
            input.fill(0);
            idle.inputs.push(input);
            self.note(&mut idle);
        }
    }

    /// Frees the buffers that were not needed since the last call.
    pub(crate) fn trim(&self) {
        let mut idle = self.lock();
        let needed = idle.inputs.len() - idle.unneeded;
        idle.inputs.truncate(needed);
        self.note(&mut idle);
        idle.unneeded = needed;
    }

    /// Frees all buffers.
    pub(crate) fn clear(&self) {
        let mut idle = self.lock();
        idle.inputs.clear();
        self.note(&mut idle);
    }

    fn note(&self, idle: &mut Idle) {
        idle.unneeded = idle.unneeded.min(idle.inputs.len());
        self.bytes.store(idle.inputs.iter().map(Input::memory).sum(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Nothing that runs under the lock can leave the list half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receive buffer with what was received into it. Dropped, it goes back to its worker.
#[derive(Debug)]
pub(crate) struct KeptInput {
    input: Input,
    home: Arc<SpareInputs>,
}

impl KeptInput {
    /// The whole buffer.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.input.as_slice()
    }
}

impl Drop for KeptInput {
    fn drop(&mut self) {
        self.home.give(std::mem::replace(&mut self.input, Input::holding(Vec::new())));
        self.home.away.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 100;

    fn is_used_again(spare: &Arc<SpareInputs>, input: &mut Input) -> bool {
        let before = spare.bytes();
        drop(spare.exchange(input, SIZE));
        before > 0
    }

    #[test]
    fn a_buffer_comes_back_empty() {
        let (spare, mut input) = (Arc::<SpareInputs>::default(), Input::with_size(SIZE));
        input.fill(7);
        let kept = spare.exchange(&mut input, SIZE);
        assert!(input.is_empty() && spare.bytes() == 0 && spare.is_in_use());
        drop(kept);
        assert!(spare.bytes() >= SIZE && spare.is_in_use());
        input.fill(3);
        let kept = spare.exchange(&mut input, SIZE);
        assert!(input.is_empty() && input.size() == SIZE, "the first one serves again");
        assert_eq!(spare.bytes(), 0);
        drop(kept);
    }

    #[test]
    fn a_limited_number_is_kept_and_those_of_another_size_are_not_used() {
        let (spare, mut input) = (Arc::<SpareInputs>::default(), Input::with_size(SIZE));
        let kept: Vec<_> = (0..MAX_IDLE + 2).map(|_| spare.exchange(&mut input, SIZE)).collect();
        let one = kept[0].input.memory();
        drop(kept);
        assert!((one * (MAX_IDLE - 1)..=(SIZE + 4096) * MAX_IDLE).contains(&spare.bytes()), "{}", spare.bytes());
        assert!(spare.take(2 * SIZE).is_none());
        spare.clear();
        assert!(spare.bytes() == 0 && !spare.is_in_use());
    }

    #[test]
    fn those_that_are_not_needed_are_freed() {
        let (spare, mut input) = (Arc::<SpareInputs>::default(), Input::with_size(SIZE));
        drop([(); 3].map(|()| spare.exchange(&mut input, SIZE)));
        // All of them may have been needed before the first look.
        spare.trim();
        assert!(is_used_again(&spare, &mut input));
        spare.trim();
        assert_eq!(spare.lock().inputs.len(), 1, "two were idle throughout");
        spare.trim();
        assert_eq!((spare.lock().inputs.len(), spare.bytes()), (0, 0));
    }
}
