//! What a connection keeps of frames and messages that are not complete.

use std::borrow::Cow;

use crate::protocol::deflate::{Codec, Extension, Sink};
use crate::protocol::error::ProtocolError;
use crate::protocol::frame::{FrameHeader, MAX_HEADER_SIZE, Opcode, RSV1};
use crate::protocol::mask;
use crate::protocol::message::Assembled;
use crate::protocol::utf8::Validator;

/// The most that a buffer grows at once for bytes that are only promised.
const MAX_STEP: usize = 1 << 20;

/// A frame whose header has arrived, and its payload not quite.
#[derive(Debug)]
pub(super) struct PartialFrame {
    pub(super) header: FrameHeader,
    received: u64,
}

/// A header cut in two, a frame half received, a message between fragments. An idle connection has none.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    cut_header: [u8; MAX_HEADER_SIZE],
    cut_len: u8,
    frame: Option<PartialFrame>,
    message: Option<Opcode>,
    /// The message is compressed: what is kept of it is what it inflates to.
    compressed: bool,
    utf8: Validator,
    payload: Assembled,
    control: Vec<u8>,
}

/// What there is of a message between two fragments.
pub(super) enum PartialMessage {
    /// This many bytes.
    Plain(u64),
    /// What was inflated, which is counted as it comes.
    Compressed,
}

/// What the end of a frame brought.
pub(super) enum Completed {
    /// A fragment; the message goes on.
    Fragment,
    /// A data message.
    Message(Assembled),
    /// A control frame.
    Control(Opcode, Cow<'static, [u8]>),
}

impl Assembly {
    /// Completes a header from the front of `input`: the header, if it is complete, and how much of `input` it took.
    pub(super) fn take_header(&mut self, input: &[u8]) -> Result<(Option<FrameHeader>, usize), ProtocolError> {
        let kept = usize::from(self.cut_len);
        let free = self.cut_header.get_mut(kept..).unwrap_or_default();
        let taken = free.len().min(input.len());
        for (slot, byte) in free.iter_mut().zip(input) {
            *slot = *byte;
        }
        match FrameHeader::parse(self.cut_header.get(..kept + taken).unwrap_or_default())? {
            Some((header, size)) => {
                self.cut_len = 0;
                Ok((Some(header), size.saturating_sub(kept)))
            }
            None => {
                self.cut_len = (kept + taken) as u8;
                Ok((None, taken))
            }
        }
    }

    /// Whether the next bytes belong to a header.
    pub(super) fn wants_header(&self) -> bool {
        self.frame.is_none()
    }

    /// The message between two fragments.
    pub(super) fn message_under_way(&self) -> Option<PartialMessage> {
        self.message.map(|_| match self.compressed {
            true => PartialMessage::Compressed,
            false => PartialMessage::Plain(self.payload.filled as u64),
        })
    }

    /// Whether nothing is kept, so that the whole of it can go.
    pub(super) fn is_idle(&self) -> bool {
        self.frame.is_none() && self.message.is_none() && self.cut_len == 0
    }

    /// Starts a frame that was checked.
    pub(super) fn begin(&mut self, header: FrameHeader, extension: Option<&mut Extension>) {
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            self.message = Some(header.opcode);
            self.compressed = header.rsv == RSV1;
            if let (true, Some(extension)) = (self.compressed, extension) {
                extension.begin();
            }
        }
        self.frame = Some(PartialFrame { header, received: 0 });
    }

    /// Takes payload of the frame under way from the front of `input`, unmasks it there and keeps it, inflated if it is
    /// compressed.
    ///
    /// Memory grows with what is received, never with what a header promises.
    pub(super) fn take_payload(
        &mut self,
        input: &mut [u8],
        limit: u64,
        extension: Option<&mut Extension>,
        codec: &mut Codec,
    ) -> Result<(Option<Completed>, usize), ProtocolError> {
        let Some(frame) = &mut self.frame else { return Ok((None, 0)) };
        let rest = frame.header.payload_len - frame.received;
        let taken = usize::try_from(rest).map_or(input.len(), |rest| rest.min(input.len()));
        let piece = input.get_mut(..taken).unwrap_or_default();
        frame.unmask(piece);
        if frame.header.opcode.is_control() {
            self.control.extend_from_slice(piece);
        } else if let (true, Some(extension)) = (self.compressed, extension) {
            let last = frame.header.fin && frame.is_complete();
            extension.inflate(piece, codec, self.sink(limit))?;
            if last {
                extension.finish(codec, self.sink(limit))?;
            }
        } else {
            if self.message == Some(Opcode::Text) {
                self.utf8.feed(piece)?;
            }
            self.payload.append(piece);
        }
        Ok((self.complete_frame()?, taken))
    }

    fn sink(&mut self, limit: u64) -> Sink<'_> {
        let utf8 = (self.message == Some(Opcode::Text)).then_some(&mut self.utf8);
        Sink { message: &mut self.payload, utf8, limit }
    }

    /// How many bytes of payload the data frame under way still lacks, unless they are to be inflated first.
    pub(super) fn lacks(&self) -> u64 {
        match &self.frame {
            Some(frame) if !frame.header.opcode.is_control() && !self.compressed => {
                frame.header.payload_len - frame.received
            }
            _ => 0,
        }
    }

    /// The size that the buffer of the message under way must grow to, if it is full.
    pub(super) fn wants_buffer(&self) -> Option<u64> {
        let full = self.payload.filled == self.payload.buffer.len();
        (full && self.lacks() > 0).then(|| self.lacks().saturating_add(self.payload.filled as u64))
    }

    /// Moves the message under way to a buffer that has served before, and gives back the one it was in.
    pub(super) fn move_to(&mut self, mut buffer: Vec<u8>) -> Vec<u8> {
        let kept = self.payload.filled;
        if buffer.len() < kept {
            buffer.resize(kept, 0);
        }
        if let (Some(to), Some(from)) = (buffer.get_mut(..kept), self.payload.buffer.get(..kept)) {
            to.copy_from_slice(from);
        }
        std::mem::replace(&mut self.payload.buffer, buffer)
    }

    /// Room for payload of the frame under way, to be received straight into the message's buffer.
    pub(super) fn spare_mut(&mut self) -> &mut [u8] {
        let lacking = usize::try_from(self.lacks()).unwrap_or(usize::MAX);
        let filled = self.payload.filled;
        if filled == self.payload.buffer.len() {
            // Grows by what has arrived: at most twice that, and never beyond the frame.
            let step = lacking.min(filled.clamp(4096, MAX_STEP));
            // Not to twice the size, as a vector would of itself.
            self.payload.buffer.reserve_exact(step);
            self.payload.buffer.resize(filled + step, 0);
        }
        let end = self.payload.buffer.len().min(filled.saturating_add(lacking));
        self.payload.buffer.get_mut(filled..end).unwrap_or_default()
    }

    /// Accounts for `size` bytes that were received into [`spare_mut`](Assembly::spare_mut).
    pub(super) fn advance(&mut self, size: usize) -> Result<Option<Completed>, ProtocolError> {
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let start = self.payload.filled;
        let Some(piece) = self.payload.buffer.get_mut(start..start + size) else { return Ok(None) };
        frame.unmask(piece);
        if self.message == Some(Opcode::Text) {
            self.utf8.feed(piece)?;
        }
        self.payload.filled += size;
        self.complete_frame()
    }

    fn complete_frame(&mut self) -> Result<Option<Completed>, ProtocolError> {
        let Some(frame) = self.frame.take_if(|frame| frame.is_complete()) else {
            return Ok(None);
        };
        if frame.header.opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            return Ok(Some(Completed::Control(frame.header.opcode, Cow::Owned(payload))));
        }
        if !frame.header.fin {
            return Ok(Some(Completed::Fragment));
        }
        let is_text = self.message.take() == Some(Opcode::Text);
        // RFC 6455 5.6: the whole message must be valid UTF-8, though a frame of it may end inside a character.
        self.utf8.finish()?;
        self.compressed = false;
        let mut message = std::mem::take(&mut self.payload);
        message.is_text = is_text;
        Ok(Some(Completed::Message(message)))
    }
}

impl PartialFrame {
    fn is_complete(&self) -> bool {
        self.received == self.header.payload_len
    }

    fn unmask(&mut self, piece: &mut [u8]) {
        if let Some(key) = self.header.mask {
            mask::apply(piece, mask::rotated(key, self.received));
        }
        self.received += piece.len() as u64;
    }
}

impl Assembled {
    fn append(&mut self, piece: &[u8]) {
        // A buffer that served before may be longer than what is in it.
        let reused = piece.len().min(self.buffer.len() - self.filled);
        let (front, back) = piece.split_at_checked(reused).unwrap_or_default();
        if let Some(room) = self.buffer.get_mut(self.filled..self.filled + reused) {
            room.copy_from_slice(front);
        }
        self.buffer.extend_from_slice(back);
        self.filled += piece.len();
    }
}
