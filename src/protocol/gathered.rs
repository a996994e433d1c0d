//! Putting a message together from its fragments.

use crate::protocol::error::ProtocolError;
use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::protocol::message::{Assembled, Message};

/// The beginning of a message, for those who receive fragments and want the whole.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    is_text: bool,
    /// The rest of the message is discarded.
    is_abandoned: bool,
}

impl Gathered {
    /// Adds the next fragment. Returns the message if that was the last. A message of more than `limit` bytes is an error,
    /// and what comes of it then is discarded.
    pub(crate) fn add(&mut self, fragment: Fragment, limit: usize) -> Result<Option<Message>, ProtocolError> {
        if self.discards(fragment.as_ref()) {
            return Ok(None);
        }
        let size = fragment.offset().saturating_add(fragment.len() as u64);
        if size > limit as u64 {
            *self = Gathered { is_abandoned: !fragment.is_last(), ..Gathered::default() };
            return Err(ProtocolError::MessageTooBig { size, limit: limit as u64 });
        }
        if fragment.is_first() {
            if fragment.is_last() {
                return Ok(Some(fragment.into_message()));
            }
            // What there was of another message ended with its connection.
            self.bytes.clear();
            self.is_text = fragment.is_text();
        }
        self.bytes.extend_from_slice(fragment.as_bytes());
        Ok(fragment.is_last().then(|| self.take_bytes().into_message()))
    }

    /// Whether this fragment belongs to a message that was abandoned.
    pub(crate) fn discards(&mut self, fragment: FragmentRef<'_>) -> bool {
        self.discards_at(fragment.offset(), fragment.is_last())
    }

    /// As [`discards`](Gathered::discards), for the fragment at this offset.
    pub(crate) fn discards_at(&mut self, offset: u64, is_last: bool) -> bool {
        // Another message begins if the connection of the abandoned one ended.
        let discards = self.is_abandoned && offset > 0;
        self.is_abandoned = discards && !is_last;
        discards
    }

    /// Discards what is still to come of the message.
    pub(crate) fn abandon(&mut self) {
        *self = Gathered { is_abandoned: true, ..Gathered::default() };
    }

    /// Takes the beginning of the message, as one fragment; `None` if there is nothing.
    pub(crate) fn take(&mut self) -> Option<Fragment> {
        let taken = self.take_bytes();
        (taken.filled > 0).then(|| Fragment::new(taken.into_message(), 0, false))
    }

    fn take_bytes(&mut self) -> Assembled {
        let buffer = std::mem::take(&mut self.bytes);
        Assembled { filled: buffer.len(), buffer, is_text: self.is_text }
    }
}
