//! The incomplete frame and message of a connection.

mod fragments;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod state;

use core::fmt;

use std::borrow::Cow;

use crate::protocol::deflate::{Codec, Extension, Sink, WireSize};
use crate::protocol::error::ProtocolError;
use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::protocol::frame::{FrameHeader, MAX_HEADER_SIZE, Opcode, RSV1};
use crate::protocol::mask;
use crate::protocol::message::Assembled;
use crate::protocol::utf8::Validator;

/// A buffer grows by at most 1 MiB at a time for payload that was announced and has not arrived. Larger lets a peer
/// reserve more memory with a frame header; smaller grows the buffer of a large message more often.
const MAX_STEP: usize = 1 << 20;

/// At most 4 KiB of a compressed message are decompressed before the caller is asked for more, who may serve another
/// connection first. Larger bounds the work of one step less: 4 KiB inflate to 4 MiB, or take 400 us to inflate to
/// nothing. Smaller makes more steps of a large message.
const MAX_COMPRESSED_STEP: usize = 4 << 10;

/// A frame whose header was received and whose payload is incomplete.
#[derive(Debug)]
pub(super) struct PartialFrame {
    pub(super) header: FrameHeader,
    received: u64,
}

/// A partial header, a partial frame and a partial message. An idle connection has no `Assembly`, unless it delivers
/// fragments.
#[derive(Default)]
pub(super) struct Assembly {
    cut_header: [u8; MAX_HEADER_SIZE],
    cut_len: u8,
    frame: Option<PartialFrame>,
    message: Option<Opcode>,
    /// Present if the message is compressed. `payload` holds the decompressed data.
    compressed: Option<WireSize>,
    utf8: Validator,
    payload: Assembled,
    control: Vec<u8>,
    /// The bytes of the message under way that were handed out; `None` if messages are assembled.
    delivered: Option<u64>,
    /// The limit on assembled messages, while what arrives is handed out.
    max_assembled: u64,
}

/// The part of a message that has arrived before its next fragment.
pub(super) enum PartialMessage {
    /// The message is not compressed and this many bytes have arrived.
    Plain(u64),
    /// The message is compressed, and this many bytes were decompressed. Its decompressed size is checked while it is
    /// decompressed.
    Compressed(WireSize, u64),
}

/// The result of a complete frame, or of a fragment of a message.
pub(super) enum Completed<'a> {
    /// A fragment that is not the last of its message.
    Fragment,
    /// A complete data message.
    Message(Assembled),
    /// A control frame.
    Control(Opcode, Cow<'static, [u8]>),
    /// What arrived of a message, in the input.
    Lent(FragmentRef<'a>),
    /// What arrived of a message, in memory of its own.
    Own(Fragment),
}

/// Omits the message, and the masking key of a partial frame.
impl fmt::Debug for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assembly").finish_non_exhaustive()
    }
}

impl Assembly {
    /// Takes header bytes from the front of `input`. Returns the header if it is complete, and the number of bytes
    /// taken.
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

    /// Returns the bytes of memory that this takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Assembly>() + self.payload.buffer.capacity() + self.control.capacity()
    }

    /// Returns whether the next bytes belong to a header.
    pub(super) fn wants_header(&self) -> bool {
        self.frame.is_none()
    }

    /// Returns the partial message, if there is one.
    pub(super) fn message_under_way(&self) -> Option<PartialMessage> {
        let arrived = match self.delivered {
            Some(delivered) => delivered.saturating_add(self.utf8.held().len() as u64),
            None => self.payload.filled as u64,
        };
        self.message.map(|_| match self.compressed {
            Some(size) => PartialMessage::Compressed(size, arrived),
            None => PartialMessage::Plain(arrived),
        })
    }

    /// Returns whether nothing is kept, so that the `Assembly` can be dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.frame.is_none() && self.message.is_none() && self.cut_len == 0
    }

    /// Begins a frame whose header was checked.
    pub(super) fn begin(&mut self, header: FrameHeader, extension: Option<&mut Extension>) {
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            self.message = Some(header.opcode);
            self.compressed = (header.rsv == RSV1).then(WireSize::default);
            if let (Some(_), Some(extension)) = (self.compressed, extension) {
                extension.begin();
            }
        }
        if let (Some(size), false) = (&mut self.compressed, header.opcode.is_control()) {
            size.add(header.payload_len);
        }
        self.frame = Some(PartialFrame { header, received: 0 });
    }

    /// Takes payload of the current frame from the front of `input`, unmasks it in place, decompresses it if necessary,
    /// and keeps it or hands it out. Returns the frame if it is complete, and the number of bytes taken.
    ///
    /// Memory grows with the payload that was received, never with the length that a header announces.
    pub(super) fn take_payload<'a>(
        &mut self,
        input: &'a mut [u8],
        limit: u64,
        extension: Option<&mut Extension>,
        codec: &mut Codec,
    ) -> Result<(Option<Completed<'a>>, usize), ProtocolError> {
        let Some(frame) = &mut self.frame else { return Ok((None, 0)) };
        if self.delivered.is_some() && !frame.header.opcode.is_control() {
            return self.take_fragment(input, limit, extension, codec);
        }
        let inflates = self.compressed.is_some() && !frame.header.opcode.is_control();
        let piece = frame.front_of(input, if inflates { MAX_COMPRESSED_STEP } else { usize::MAX });
        let taken = piece.len();
        frame.unmask(piece);
        if frame.header.opcode.is_control() {
            self.control.extend_from_slice(piece);
        } else if let (Some(_), Some(extension)) = (self.compressed, extension) {
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
        Sink::whole(&mut self.payload, utf8, limit)
    }

    /// Returns how many bytes of payload the current data frame lacks; 0 if the message is compressed or not assembled.
    pub(super) fn lacks(&self) -> u64 {
        let assembles = self.compressed.is_none() && self.delivered.is_none();
        match &self.frame {
            Some(frame) if !frame.header.opcode.is_control() && assembles => frame.header.payload_len - frame.received,
            _ => 0,
        }
    }

    /// Returns the size that the buffer of the current message must grow to, if the buffer is full.
    pub(super) fn wants_buffer(&self) -> Option<u64> {
        let full = self.payload.filled == self.payload.buffer.len();
        (full && self.lacks() > 0).then(|| self.lacks().saturating_add(self.payload.filled as u64))
    }

    /// Moves the current message to `buffer`, which may have been used before, and returns its previous buffer.
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

    /// Returns room in the message's buffer, into which the payload of the current frame can be received.
    pub(super) fn spare_mut(&mut self) -> &mut [u8] {
        let lacking = usize::try_from(self.lacks()).unwrap_or(usize::MAX);
        let filled = self.payload.filled;
        if filled == self.payload.buffer.len() {
            // Grows by at most the size that has arrived, and never beyond the frame.
            let step = lacking.min(filled.clamp(4096, MAX_STEP));
            // `reserve` may allocate twice the size.
            self.payload.buffer.reserve_exact(step);
            self.payload.buffer.resize(filled + step, 0);
        }
        let end = self.payload.buffer.len().min(filled.saturating_add(lacking));
        self.payload.buffer.get_mut(filled..end).unwrap_or_default()
    }

    /// Takes `size` bytes that were received into [`spare_mut`](Assembly::spare_mut).
    pub(super) fn advance(&mut self, size: usize) -> Result<Option<Completed<'static>>, ProtocolError> {
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

    fn complete_frame(&mut self) -> Result<Option<Completed<'static>>, ProtocolError> {
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
        // RFC 6455 5.6: the whole message must be valid UTF-8, but a frame of it may end inside a character.
        self.utf8.finish()?;
        self.compressed = None;
        let mut message = std::mem::take(&mut self.payload);
        message.is_text = is_text;
        Ok(Some(Completed::Message(message)))
    }
}

impl PartialFrame {
    fn is_complete(&self) -> bool {
        self.received == self.header.payload_len
    }

    /// Returns the payload of this frame at the front of `input`, but at most so many bytes.
    fn front_of<'a>(&self, input: &'a mut [u8], most: usize) -> &'a mut [u8] {
        let most = input.len().min(most);
        let size = usize::try_from(self.header.payload_len - self.received).map_or(most, |rest| rest.min(most));
        input.get_mut(..size).unwrap_or_default()
    }

    /// Masks the end of what was [unmasked](PartialFrame::unmask) again, which is left in the input.
    fn mask_again(&mut self, rest: &mut [u8]) {
        self.received -= rest.len() as u64;
        if let Some(key) = self.header.mask {
            mask::apply(rest, mask::rotated(key, self.received));
        }
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
        // A buffer that was used before may be longer than the message in it.
        let reused = piece.len().min(self.buffer.len() - self.filled);
        let (front, back) = piece.split_at_checked(reused).unwrap_or_default();
        if let Some(room) = self.buffer.get_mut(self.filled..self.filled + reused) {
            room.copy_from_slice(front);
        }
        self.buffer.extend_from_slice(back);
        self.filled += piece.len();
    }
}
