//! How far the writers of messages in parts may be ahead of the sockets, beyond a fragment each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The messages of a server, or of a set of clients, are ahead by 2 MiB together at most. Larger takes more memory; smaller has
/// fewer messages at a time that flow with few switches between threads.
const MAX_TOTAL: usize = 2 << 20;

/// What the messages of a server, or of a set of clients, may be ahead together.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    /// Nothing else depends on the order in which threads see this, so `Relaxed` is enough.
    granted: AtomicUsize,
}

impl ReadAhead {
    fn take(&self, bytes: usize) -> bool {
        let add = |granted: usize| granted.checked_add(bytes).filter(|granted| *granted <= MAX_TOTAL);
        self.granted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.granted.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one message may be ahead. The thread that sends it decides, and its writer looks.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    of: Option<Arc<ReadAhead>>,
    bytes: AtomicUsize,
}

impl Ahead {
    pub(crate) fn new(of: Arc<ReadAhead>) -> Ahead {
        Ahead { of: Some(of), bytes: AtomicUsize::new(0) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Has it be `wanted` bytes, or leaves it as it is if the others have too much of what there is.
    pub(crate) fn set(&self, wanted: usize) {
        let (before, Some(of)) = (self.bytes(), &self.of) else { return };
        if wanted > before && !of.take(wanted - before) {
            return;
        }
        of.give_back(before.saturating_sub(wanted));
        self.bytes.store(wanted, Ordering::Relaxed);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_messages_together_are_ahead_by_a_limited_amount() {
        let all = Arc::<ReadAhead>::default();
        let mut messages: Vec<_> = (0..20).map(|_| Ahead::new(all.clone())).collect();
        messages.iter().for_each(|message| message.set(224 << 10));
        assert_eq!(messages.iter().filter(|message| message.bytes() > 0).count(), 9);
        messages[0].set(32 << 10);
        messages[19].set(128 << 10);
        assert_eq!(
            (messages[0].bytes(), messages[19].bytes()),
            (32 << 10, 128 << 10),
            "what one gives back is another's"
        );
        messages.clear();
        assert_eq!(all.granted.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_message_without_a_writer_is_never_ahead() {
        let message = Ahead::default();
        message.set(1);
        assert_eq!(message.bytes(), 0);
    }
}
