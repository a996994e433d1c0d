//! A message that is sent in parts, as its writer and the thread that sends it see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::transport::budget::MemoryBudget;
use crate::transport::part_buffers::PartBuffers;
use crate::transport::read_ahead::{Ahead, ReadAhead};

/// How far the message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its first part waits for the end of another message.
    Waiting,
    /// Its parts are sent as they come.
    UnderWay,
    /// Nothing more of it is sent.
    Over,
}

/// What [`PartsState`] has for each [`Stage`]. It only grows.
const UNDER_WAY: u8 = 1;
const OVER: u8 = 2;
/// Over, because the peer took too little.
const TOO_SLOW: u8 = 3;

/// What the writer of a message needs to know of it. The worker that sends it writes this, and wakes the writer.
#[derive(Debug, Default)]
pub(crate) struct PartsState {
    stage: AtomicU8,
    /// The bytes that wait for the end of this message. They count as queued for everybody but its writer.
    held: AtomicUsize,
    /// Whether the connection's handler sends the parts, one after the other.
    pub(crate) is_of_handler: bool,
    /// How many bytes more than usual its writer may post before the socket has taken what it posted, unless that is full.
    ahead: Ahead,
    is_full: AtomicBool,
    /// Whether the writer found no room since this was last looked at. Only a hint, so `Relaxed` is enough.
    is_limited: AtomicBool,
    buffers: PartBuffers,
}

impl PartsState {
    /// The state of a message that a thread writes which is not the worker's.
    pub(crate) fn of_writer(ahead: Arc<ReadAhead>, budget: &Arc<MemoryBudget>) -> PartsState {
        PartsState { ahead: Ahead::new(ahead), buffers: PartBuffers::new(budget), ..PartsState::default() }
    }

    /// The state of a message whose parts the connection's handler sends.
    pub(crate) fn of_handler() -> PartsState {
        PartsState { is_of_handler: true, ..PartsState::default() }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Waiting,
            UNDER_WAY => Stage::UnderWay,
            _ => Stage::Over,
        }
    }

    /// The turn of the message has come.
    pub(crate) fn begin(&self) {
        self.stage.fetch_max(UNDER_WAY, Ordering::SeqCst);
    }

    /// The message is complete, or can not be continued.
    pub(crate) fn end(&self) {
        self.stage.fetch_max(OVER, Ordering::SeqCst);
    }

    /// The message can not be continued, because the peer takes too little.
    pub(crate) fn end_too_slow(&self) {
        self.stage.fetch_max(TOO_SLOW, Ordering::SeqCst);
    }

    /// Whether the message ended because the peer took too little.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.stage.load(Ordering::SeqCst) == TOO_SLOW
    }

    /// How many bytes the writer may post, before the socket has taken them, if that is `usual` for others.
    pub(crate) fn room(&self, usual: usize) -> usize {
        let ahead = if self.is_full.load(Ordering::Relaxed) { 0 } else { self.ahead.bytes() };
        usual.saturating_add(ahead)
    }

    /// The writer has found no room.
    pub(crate) fn note_limited(&self) {
        self.is_limited.store(true, Ordering::Relaxed);
    }

    /// The next part has come. If the socket took at once what the writer had posted before, that may be further ahead next
    /// time, up to `most` bytes in all; otherwise as others are.
    pub(crate) fn adapt_room(&self, usual: usize, most: usize) {
        if self.is_full.load(Ordering::Relaxed) {
            // What it was ahead has been written, and is there for others.
            self.ahead.set(0);
            self.is_full.store(false, Ordering::Relaxed);
        } else if self.is_limited.swap(false, Ordering::Relaxed) {
            self.ahead.set(self.room(usual).saturating_mul(2).min(most).saturating_sub(usual));
        }
    }

    /// The socket is full: the writer posts no more than others, until it has taken what was posted.
    pub(crate) fn note_full(&self) {
        if self.ahead.bytes() > 0 {
            self.is_full.store(true, Ordering::Relaxed);
            self.buffers.clear();
        }
    }

    /// A buffer for the next part, with whatever it held before.
    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        self.buffers.take()
    }

    /// Takes back the buffer of a part that was sent. A writer that is not ahead has none that wait.
    pub(crate) fn give_buffer(&self, buffer: Vec<u8>) {
        self.buffers.give(buffer, self.room(0));
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn set_held(&self, bytes: usize) {
        self.held.store(bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = 32 << 10;

    fn of_writer(ahead: &Arc<ReadAhead>) -> PartsState {
        PartsState::of_writer(ahead.clone(), &Arc::default())
    }

    /// The room after each of so many parts, before each of which the writer found none.
    fn rooms(message: &PartsState, parts: usize) -> Vec<usize> {
        let adapt = |_| {
            message.note_limited();
            message.adapt_room(PART, 8 * PART);
            message.room(PART) / PART
        };
        (0..parts).map(adapt).collect()
    }

    #[test]
    fn a_writer_is_ahead_of_a_socket_that_takes_all_and_not_of_one_that_is_full() {
        let message = of_writer(&Arc::default());
        assert_eq!(message.room(PART), PART);
        message.adapt_room(PART, 8 * PART);
        assert_eq!(message.room(PART), PART, "the writer was not waiting");
        assert_eq!(rooms(&message, 5), [2, 4, 8, 8, 8]);
        message.note_full();
        assert_eq!(message.room(PART), PART, "at once");
        assert_eq!(rooms(&message, 3), [1, 2, 4], "it begins anew when the socket has taken all");
    }

    #[test]
    fn what_a_full_socket_has_not_taken_counts_among_what_all_are_ahead() {
        let ahead = Arc::<ReadAhead>::default();
        let full: Vec<_> = (0..20).map(|_| of_writer(&ahead)).collect();
        for message in &full {
            rooms(message, 3);
            message.note_full();
        }
        let last = of_writer(&ahead);
        assert_eq!(rooms(&last, 3), [1, 1, 1], "the others have all of it");
        message_drained(&full[0]);
        assert_eq!(rooms(&last, 3), [2, 4, 8]);
        drop((full, last));
        assert_eq!(rooms(&of_writer(&ahead), 3), [2, 4, 8]);
    }

    fn message_drained(message: &PartsState) {
        message.adapt_room(PART, 8 * PART);
        assert_eq!(message.room(PART), PART);
    }

    #[test]
    fn buffers_wait_for_a_writer_that_is_ahead_alone() {
        let message = of_writer(&Arc::default());
        message.give_buffer(vec![7; PART]);
        assert!(message.take_buffer().is_empty());
        rooms(&message, 3);
        (0..20).for_each(|_| message.give_buffer(vec![7; PART]));
        assert_eq!((0..20).filter(|_| !message.take_buffer().is_empty()).count(), 7);
        message.give_buffer(vec![7; PART]);
        message.note_full();
        assert!(message.take_buffer().is_empty());
    }
}
