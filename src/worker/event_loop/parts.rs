//! Messages that other threads send in parts.

use std::sync::Arc;

use crate::protocol::close::{CloseCause, CloseCode};
use crate::transport::held::Part;
use crate::transport::message_writer::UNFINISHED;
use crate::transport::parts_state::PartsState;
use crate::worker::connection::parts::PartOutcome;
use crate::worker::delivery::delivery::Delivery;
use crate::worker::event_loop::drive::Driver;

/// A drive decodes at most 16 frames while a message is sent in parts. More lets more answers wait beyond the high-water mark;
/// fewer costs a drive for fewer frames.
const MAX_FRAMES_IN_MESSAGE: usize = 16;

impl<D: Delivery> Driver<'_, D> {
    /// How many frames, of `max` in a drive, count as decoded before the first is. Answers that wait for the end of a message
    /// are no output yet, and are looked at between drives alone, so that a drive is shorter then.
    #[inline]
    pub(super) fn frames_done(&self, max: usize) -> usize {
        let is_in_message = self.conn.endpoint.connection.is_in_message();
        if is_in_message { max.saturating_sub(MAX_FRAMES_IN_MESSAGE) } else { 0 }
    }

    /// Sends a part, or has it wait for its turn.
    pub(super) fn send_part(&mut self, part: Part) {
        self.state.posted += part.payload.as_slice().len();
        match self.active().send_part(part) {
            PartOutcome::Taken => {}
            // What else has paused goes on before what was sent next.
            PartOutcome::Ended | PartOutcome::Failed => self.flush(&[]),
        }
    }

    /// Ends a message that its writer does not finish: with 1011, if a part of it was sent.
    pub(super) fn give_up_message(&mut self, message: &Arc<PartsState>) {
        if self.active().give_up_message(message) {
            self.fail_unfinished();
        }
    }

    fn fail_unfinished(&mut self) {
        self.fail_with(CloseCode::INTERNAL_ERROR, UNFINISHED, CloseCause::Failed);
    }

    /// Sends what has paused for a message in parts that has ended: keyed messages, and those of topics. If more waits for the
    /// socket, they go on when that has taken it. If the message failed, fails the connection.
    #[cold]
    pub(super) fn resume_after_message(&mut self) {
        self.state.message_ended = false;
        if std::mem::take(&mut self.state.message_failed) {
            return self.fail_unfinished();
        }
        self.active().push_latest();
        self.catch_up_if_behind();
        self.flush(&[]);
    }
}
