//! Putting a message together from its fragments.

use crate::protocol::error::ProtocolError;
use crate::protocol::fragment::Fragment;
use crate::protocol::message::{Assembled, Message};

/// The beginning of a message, for those who receive fragments and want the whole.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    is_text: bool,
}

impl Gathered {
    /// Adds the next fragment. Returns the message if that was the last. A message of more than `limit` bytes is an error,
    /// after which the rest of it must not be added.
    pub(crate) fn add(&mut self, fragment: Fragment, limit: usize) -> Result<Option<Message>, ProtocolError> {
        let size = fragment.offset().saturating_add(fragment.len() as u64);
        if size > limit as u64 {
            self.bytes = Vec::new();
            return Err(ProtocolError::MessageTooBig { size, limit: limit as u64 });
        }
        if fragment.is_first() {
            if fragment.is_last() {
                return Ok(Some(fragment.payload));
            }
            // What there was of another message ended with its connection.
            self.bytes.clear();
            self.is_text = fragment.is_text();
        }
        self.bytes.extend_from_slice(fragment.as_bytes());
        if !fragment.is_last() {
            return Ok(None);
        }
        let buffer = std::mem::take(&mut self.bytes);
        let filled = buffer.len();
        Ok(Some(Assembled { buffer, filled, is_text: self.is_text }.into_message()))
    }

    /// Takes the beginning of the message, as one fragment; `None` if there is nothing.
    pub(crate) fn take(&mut self) -> Option<Fragment> {
        let buffer = std::mem::take(&mut self.bytes);
        let filled = buffer.len();
        let payload = Assembled { buffer, filled, is_text: self.is_text }.into_message();
        (filled > 0).then_some(Fragment { payload, offset: 0, is_last: false })
    }
}
