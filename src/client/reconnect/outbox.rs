//! Messages that wait for a connection.

use std::collections::VecDeque;

use crate::protocol::deflate::Compression;
use crate::protocol::message::Message;

/// A message counts 64 bytes and its payload, so that empty messages are bounded too.
const MESSAGE_COST: usize = 64;

/// A message that waits, and how it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) message: Message,
    pub(super) compression: Compression,
}

/// A queue bounded in bytes.
pub(super) struct Outbox {
    queue: VecDeque<Queued>,
    size: usize,
    limit: usize,
}

impl Outbox {
    pub(super) fn new(limit: usize) -> Outbox {
        Outbox { queue: VecDeque::new(), size: 0, limit }
    }

    /// Whether a message may be queued. The limit is a high-water mark, so that a message of any size can be.
    pub(super) fn has_room(&self) -> bool {
        self.size < self.limit
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.size += cost(&queued);
        self.queue.push_back(queued);
    }

    /// Removes the oldest message.
    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.size -= cost(&queued);
        Some(queued)
    }

    /// Puts back a message that was popped and could not be sent.
    pub(super) fn put_back(&mut self, queued: Queued) {
        self.size += cost(&queued);
        self.queue.push_front(queued);
    }

    pub(super) fn take_all(&mut self) -> Vec<Message> {
        self.size = 0;
        std::mem::take(&mut self.queue).into_iter().map(|queued| queued.message).collect()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }
}

fn cost(queued: &Queued) -> usize {
    MESSAGE_COST + queued.message.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(text: impl Into<String>) -> Queued {
        Queued { message: Message::Text(text.into()), compression: Compression::Never }
    }

    #[test]
    fn messages_are_queued_up_to_the_high_water_mark_and_keep_their_order() {
        let mut outbox = Outbox::new(100);
        outbox.push(queued("one"));
        assert!(outbox.has_room());
        outbox.push(queued("x".repeat(1000)));
        assert!(!outbox.has_room());
        let first = outbox.pop().expect("a message");
        assert_eq!(first, queued("one"));
        assert!(!outbox.has_room());
        outbox.put_back(first.clone());
        assert_eq!((outbox.pop(), outbox.pop().map(|queued| queued.message.len())), (Some(first), Some(1000)));
        assert_eq!((outbox.pop(), outbox.size(), outbox.has_room()), (None, 0, true));
    }

    #[test]
    fn empty_messages_are_bounded_too() {
        let mut outbox = Outbox::new(640);
        while outbox.has_room() {
            outbox.push(queued(""));
        }
        assert_eq!((outbox.take_all().len(), outbox.size()), (10, 0));
    }
}
