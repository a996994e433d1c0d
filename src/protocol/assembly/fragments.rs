//! Handing out what arrives of a message at once, instead of assembling it.

use super::{Assembly, Completed, MAX_COMPRESSED_STEP, PartialFrame};
use crate::protocol::deflate::{Codec, Extension, Sink};
use crate::protocol::error::ProtocolError;
use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::protocol::message::{Assembled, Message, MessageRef};
use crate::protocol::opcode::Opcode;
use crate::protocol::utf8;

/// A fragment of a compressed message has about 64 KiB at most. More takes more memory; less makes more calls of the
/// application for data that compress well.
const MAX_INFLATED_STEP: usize = 64 << 10;

/// What was taken of the input, and the fragment that it made, unless it was too little for one.
type Taken<'a> = Result<(Option<Completed<'a>>, usize), ProtocolError>;

impl Assembly {
    /// Whether what arrives of a message is handed out at once.
    pub(in crate::protocol) fn delivers_fragments(&self) -> bool {
        self.delivered.is_some()
    }

    /// Hands out what arrives from now on at once. Returns what has arrived of the message under way.
    pub(in crate::protocol) fn deliver_fragments(&mut self, max_assembled: u64) -> Option<Fragment> {
        if self.delivered.is_some() {
            // The limit that is replaced is the one on fragments.
            return None;
        }
        self.max_assembled = max_assembled;
        let mut arrived = std::mem::take(&mut self.payload);
        arrived.is_text = self.message == Some(Opcode::Text);
        arrived.filled -= self.utf8.held().len();
        self.delivered = Some(arrived.filled as u64);
        (arrived.filled > 0).then(|| Fragment::new(arrived.into_message(), 0, false))
    }

    /// Assembles messages from now on. Returns the limit on them, or `None` if it does not: what a message under way lacks
    /// is handed out as well.
    pub(in crate::protocol) fn deliver_messages(&mut self) -> Option<u64> {
        if self.message.is_some() {
            return None;
        }
        self.delivered.take().map(|_| self.max_assembled)
    }

    /// Takes payload of the current data frame from the front of `input`, and hands it out.
    pub(super) fn take_fragment<'a>(
        &mut self,
        input: &'a mut [u8],
        limit: u64,
        extension: Option<&mut Extension>,
        codec: &mut Codec,
    ) -> Taken<'a> {
        let Some(frame) = self.frame.take() else { return Ok((None, 0)) };
        match (self.compressed, extension) {
            (Some(_), Some(extension)) => self.inflate_fragment(frame, input, limit, extension, codec),
            _ if self.utf8.held().is_empty() => self.lend_fragment(frame, input),
            _ => self.complete_character(frame, input),
        }
    }

    /// Unmasks the payload in the input and lends it, without the first bytes of a character that has not arrived whole.
    fn lend_fragment<'a>(&mut self, mut frame: PartialFrame, input: &'a mut [u8]) -> Taken<'a> {
        let piece = frame.front_of(input, usize::MAX);
        frame.unmask(piece);
        let piece: &'a [u8] = piece;
        let payload = if self.message == Some(Opcode::Text) {
            let (whole, cut) = utf8::split_cut_character(piece);
            let text = utf8::from_utf8(whole).ok_or(ProtocolError::InvalidUtf8)?;
            self.utf8.feed(cut)?;
            MessageRef::Text(text)
        } else {
            MessageRef::Binary(piece)
        };
        let fragment = self.complete_fragment(frame, payload.len())?;
        let fragment = fragment.map(|(offset, is_last)| FragmentRef { payload, offset, is_last });
        Ok((fragment.map(Completed::Lent), piece.len()))
    }

    /// Takes the bytes that a character lacks, which began in another piece of the input. It is a fragment of its own,
    /// because the bytes are not together in the input.
    fn complete_character<'a>(&mut self, mut frame: PartialFrame, input: &'a mut [u8]) -> Taken<'a> {
        let mut character = self.utf8.held().to_vec();
        let piece = frame.front_of(input, self.utf8.lacks());
        frame.unmask(piece);
        self.utf8.feed(piece)?;
        character.extend_from_slice(piece);
        if !self.utf8.held().is_empty() {
            character.clear();
        }
        let fragment = self.complete_fragment(frame, character.len())?;
        let text = String::from_utf8(character).map_err(|_| ProtocolError::InvalidUtf8)?;
        let fragment = fragment.map(|(offset, is_last)| Fragment::new(Message::Text(text), offset, is_last));
        Ok((fragment.map(Completed::Own), piece.len()))
    }

    /// Decompresses payload into a buffer of the codec.
    fn inflate_fragment<'a>(
        &mut self,
        mut frame: PartialFrame,
        input: &'a mut [u8],
        limit: u64,
        extension: &mut Extension,
        codec: &mut Codec,
    ) -> Taken<'a> {
        let is_text = self.message == Some(Opcode::Text);
        let mut inflated = Assembled { buffer: codec.take_fragment_buffer(), filled: 0, is_text };
        inflated.append(self.utf8.held());
        let before = self.delivered.unwrap_or_default();
        let piece = frame.front_of(input, MAX_COMPRESSED_STEP);
        frame.unmask(piece);
        let utf8 = is_text.then_some(&mut self.utf8);
        let sink = Sink { message: &mut inflated, utf8, before, limit, step: MAX_INFLATED_STEP };
        let taken = extension.inflate(piece, codec, sink)?;
        frame.mask_again(piece.get_mut(taken..).unwrap_or_default());
        if frame.header.fin && frame.is_complete() {
            let utf8 = is_text.then_some(&mut self.utf8);
            let sink = Sink { message: &mut inflated, utf8, before, limit, step: usize::MAX };
            extension.finish(codec, sink)?;
        }
        inflated.filled -= self.utf8.held().len();
        let Some((offset, is_last)) = self.complete_fragment(frame, inflated.filled)? else {
            codec.give_fragment_buffer(inflated.into_buffer());
            return Ok((None, taken));
        };
        Ok((Some(Completed::Own(Fragment::new(inflated.into_message(), offset, is_last))), taken))
    }

    /// Notes that a fragment of `size` bytes is handed out. Returns its offset and whether it is the last, or `None` if
    /// it is nothing to hand out.
    fn complete_fragment(&mut self, frame: PartialFrame, size: usize) -> Result<Option<(u64, bool)>, ProtocolError> {
        let is_last = frame.header.fin && frame.is_complete();
        if !frame.is_complete() {
            self.frame = Some(frame);
        }
        let offset = self.delivered.unwrap_or_default();
        self.delivered = Some(offset.saturating_add(size as u64));
        if is_last {
            // RFC 6455 5.6: the whole message must be valid UTF-8, but a frame of it may end inside a character.
            self.utf8.finish()?;
            self.message = None;
            self.compressed = None;
            self.delivered = Some(0);
        }
        Ok((size > 0 || is_last).then_some((offset, is_last)))
    }
}
