//! Messages that wait for a connection.

use std::collections::VecDeque;

use crate::config::send_options::SendOptions;
use crate::protocol::message::Message;

/// A message counts 64 bytes and its payload, so that empty messages are bounded too.
const MESSAGE_COST: usize = 64;

/// A message that waits, and how it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) message: Message,
    pub(super) options: SendOptions,
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

    /// Queues a message, in place of the one with the same key if one waits.
    pub(super) fn push(&mut self, queued: Queued) {
        if let Some(index) = self.position_of(queued.options.latest)
            && let Some(replaced) = self.queue.remove(index)
        {
            self.size -= cost(&replaced);
        }
        self.size += cost(&queued);
        self.queue.push_back(queued);
    }

    /// Whether a message with this key waits, so that a newer one needs no room.
    pub(super) fn has_key(&self, key: Option<u64>) -> bool {
        self.position_of(key).is_some()
    }

    fn position_of(&self, key: Option<u64>) -> Option<usize> {
        let key = key?;
        self.queue.iter().position(|queued| queued.options.latest == Some(key))
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
    use crate::protocol::deflate::Compression;

    fn queued(text: impl Into<String>) -> Queued {
        Queued { message: Message::Text(text.into()), options: SendOptions::from(Compression::Never) }
    }

    #[test]
    fn a_newer_message_replaces_the_one_with_its_key_behind_the_others() {
        let mut outbox = Outbox::new(100);
        let keyed = |text: &str, key: u64| Queued { options: SendOptions::new().latest(key), ..queued(text) };
        outbox.push(keyed("old", 1));
        outbox.push(queued("between"));
        assert!(outbox.has_key(Some(1)) && !outbox.has_key(Some(2)) && !outbox.has_key(None));
        outbox.push(keyed("new", 1));
        assert_eq!(outbox.size(), 2 * 64 + 10);
        assert_eq!(outbox.take_all(), [Message::from("between"), Message::from("new")]);
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
