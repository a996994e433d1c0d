//! A message that is sent in parts, as its writer and the thread that sends it see it.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

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
}

impl PartsState {
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

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn set_held(&self, bytes: usize) {
        self.held.store(bytes, Ordering::SeqCst);
    }
}
