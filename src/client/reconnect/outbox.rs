//! Messages that wait for a connection.

use std::collections::VecDeque;

use crate::protocol::message::Message;

/// What a message counts beside its payload, so that empty ones are bounded too.
const MESSAGE_COST: usize = 64;

/// A queue bounded in bytes.
pub(super) struct Outbox {
    messages: VecDeque<Message>,
    size: usize,
    limit: usize,
}

impl Outbox {
    pub(super) fn new(limit: usize) -> Outbox {
        Outbox { messages: VecDeque::new(), size: 0, limit }
    }

    /// Whether a message is taken: the bound is a high-water mark, so that one of any size goes through.
    pub(super) fn has_room(&self) -> bool {
        self.size < self.limit
    }

    pub(super) fn push(&mut self, message: Message) {
        self.size += cost(&message);
        self.messages.push_back(message);
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.size -= cost(&message);
        Some(message)
    }

    /// Takes back what was popped and could not be sent.
    pub(super) fn put_back(&mut self, message: Message) {
        self.size += cost(&message);
        self.messages.push_front(message);
    }

    pub(super) fn take_all(&mut self) -> Vec<Message> {
        self.size = 0;
        std::mem::take(&mut self.messages).into()
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }
}

fn cost(message: &Message) -> usize {
    MESSAGE_COST + message.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_messages_up_to_its_mark_and_keeps_their_order() {
        let mut outbox = Outbox::new(100);
        outbox.push(Message::from("one"));
        assert!(outbox.has_room());
        outbox.push(Message::from("x".repeat(1000)));
        assert!(!outbox.has_room());
        let first = outbox.pop().expect("a message");
        assert_eq!(first, Message::from("one"));
        assert!(!outbox.has_room());
        outbox.put_back(first.clone());
        assert_eq!((outbox.pop(), outbox.pop().map(|message| message.len())), (Some(first), Some(1000)));
        assert_eq!((outbox.pop(), outbox.size(), outbox.has_room()), (None, 0, true));
    }

    #[test]
    fn empty_messages_are_bounded_too() {
        let mut outbox = Outbox::new(640);
        while outbox.has_room() {
            outbox.push(Message::from(""));
        }
        assert_eq!((outbox.take_all().len(), outbox.size()), (10, 0));
    }
}
