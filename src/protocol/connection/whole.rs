//! A data frame that lies whole in the input: found first, and taken later, so that the caller can do something in between.

use super::{Connection, FIN_BINARY, FIN_TEXT, Role, WholeFrame, whole_message};
use crate::protocol::error::ProtocolError;
use crate::protocol::mask;
use crate::protocol::message::MessageRef;

impl WholeFrame {
    /// Returns the size of the frame in bytes, header included.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.end
    }
}

impl Connection {
    /// Finds the most common frames of either role at the front of `input`: a complete data frame of less than 64 KiB that
    /// is neither fragmented nor compressed, while no partial frame or message is kept. Every other frame is for
    /// [`receive_general`](Self::receive_general), invalid ones included.
    #[inline]
    pub(crate) fn find_whole(&self, input: &[u8]) -> Option<WholeFrame> {
        match self.role {
            Role::Server => self.match_fast(input),
            Role::Client => self.match_unmasked(input),
        }
    }

    /// Takes the message of a frame that was found at the front of `input`, which is the same as then.
    #[inline]
    pub(crate) fn take_whole<'a>(
        &mut self,
        frame: &WholeFrame,
        input: &'a mut [u8],
    ) -> Result<MessageRef<'a>, ProtocolError> {
        let payload = input.get_mut(frame.start..frame.end).unwrap_or_default();
        if self.role == Role::Server {
            mask::apply(payload, frame.key);
        }
        let message = whole_message(frame.is_text, payload);
        self.failed = message.is_err();
        message
    }

    /// As [`match_fast`](Self::match_fast), for a client. A frame of two or three bytes does not match.
    #[inline]
    fn match_unmasked(&self, input: &[u8]) -> Option<WholeFrame> {
        let [first, second, high, low] = *input.first_chunk()?;
        let is_text = first == FIN_TEXT;
        if !(is_text || first == FIN_BINARY) || self.is_busy() {
            return None;
        }
        // RFC 6455 5.1: a server masks no frame. With MASK, no arm matches.
        let (start, size) = match second {
            short @ 0..126 => (2, usize::from(short)),
            126 => {
                let size = usize::from(u16::from_be_bytes([high, low]));
                // RFC 6455 5.2: the length must be in its shortest form.
                (4, (size >= 126).then_some(size)?)
            }
            _ => return None,
        };
        let end = start + size;
        let is_plain = end <= input.len() && size as u64 <= self.max_message_size;
        is_plain.then_some(WholeFrame { start, end, key: [0; 4], is_text })
    }
}
