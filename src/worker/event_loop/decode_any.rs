//! Decoding what the loop over the most common frames does not find: a server's frames, control frames, parts of frames.

use crate::protocol::Received;
use crate::worker::delivery::delivery::{Delivery, Incoming};
use crate::worker::event_loop::drive::Driver;

impl<D: Delivery> Driver<'_, D> {
    /// Decodes and delivers the frame, or the part of one, at the front of `input`. Returns how many bytes it has.
    #[inline(never)]
    pub(super) fn decode_any(&mut self, input: &mut [u8]) -> usize {
        // A client's connections have no handler, and their frames are not masked.
        if !D::ANSWERS
            && let Some(size) = self.deliver_whole(input)
        {
            return size;
        }
        let all = input.len();
        let size = match self.conn.endpoint.connection.receive_general(input, &mut self.context.codec) {
            Ok((size, Received::Fragment(fragment))) if !D::ANSWERS && size == all => {
                self.deliver_at_end(fragment);
                size
            }
            Ok((size, received)) => {
                self.dispatch(received);
                size
            }
            Err(error) => {
                self.fail(&error);
                all
            }
        };
        self.state.inflated += self.context.codec.take_work();
        size
    }

    /// Delivers the message of a whole frame, and returns the size of the frame; `None` if there is no such frame.
    #[inline]
    fn deliver_whole(&mut self, input: &mut [u8]) -> Option<usize> {
        if !self.receives() {
            return None;
        }
        let connection = &mut self.conn.endpoint.connection;
        let frame = connection.find_whole(input)?;
        match connection.take_whole(&frame, input) {
            Ok(message) => self.deliver_message(Incoming::Borrowed(message)),
            Err(error) => {
                self.fail(&error);
                return Some(input.len());
            }
        }
        Some(frame.size())
    }
}
