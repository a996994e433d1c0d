//! Going on with a message in another process.

use super::{Assembly, PartialFrame};
use crate::protocol::connection::Role;
use crate::protocol::deflate::{Codec, Extension, Sink, WireSize};
use crate::protocol::frame::{FrameHeader, MAX_CONTROL_PAYLOAD, MAX_HEADER_SIZE};
use crate::protocol::message::Assembled;
use crate::protocol::opcode::Opcode;
use crate::protocol::state::{StateError, StateReader, StateWriter};
use crate::protocol::utf8;

/// A character lacks at least one of its at most four bytes.
const MAX_CUT: usize = 3;

impl Assembly {
    /// Whether a compressed message is under way.
    pub(in crate::protocol) fn is_inflating(&self) -> bool {
        self.compressed.is_some()
    }

    /// Appends the state. What was inflated of a compressed message is left out: it is inflated again.
    pub(in crate::protocol) fn export(&self, out: &mut StateWriter) {
        out.bytes(self.cut_header.get(..usize::from(self.cut_len)).unwrap_or_default());
        out.option(self.frame.as_ref(), |out, frame| {
            let mut header = Vec::with_capacity(MAX_HEADER_SIZE);
            frame.header.encode(&mut header);
            out.bytes(&header);
            out.u64(frame.received);
        });
        out.option(self.message, |out, opcode| out.u8(opcode as u8));
        out.option(self.compressed, |out, size| size.export(out));
        out.bytes(self.utf8.held());
        out.bytes(if self.compressed.is_some() { &[] } else { self.payload.as_bytes() });
        out.bytes(&self.control);
        out.option(self.delivered, StateWriter::u64);
    }

    /// Reads the state, and inflates again what has arrived of a compressed message.
    pub(in crate::protocol) fn import(
        state: &mut StateReader<'_>,
        role: Role,
        inflates: Option<(&mut Extension, &[u8])>,
        codec: &mut Codec,
    ) -> Result<Assembly, StateError> {
        let mut assembly = Assembly::default();
        let cut = state.bytes_within(MAX_HEADER_SIZE - 1, "a cut header")?;
        assembly.cut_header.iter_mut().zip(cut).for_each(|(place, byte)| *place = *byte);
        assembly.cut_len = cut.len() as u8;
        assembly.frame = state.option(|state| PartialFrame::import(state, role))?;
        assembly.message = state.option(|state| match Opcode::from_bits(state.u8()?) {
            Some(opcode @ (Opcode::Text | Opcode::Binary)) => Ok(opcode),
            _ => Err(StateError::Invalid("the opcode of a message")),
        })?;
        assembly.compressed = state.option(WireSize::import)?;
        let held = state.bytes_within(MAX_CUT, "a cut character")?;
        let payload = state.bytes()?;
        assembly.control = state.bytes_within(MAX_CONTROL_PAYLOAD, "a control frame")?.to_vec();
        assembly.delivered = state.option(StateReader::u64)?;
        assembly.check(held, payload)?;
        match (assembly.compressed, inflates) {
            (None, _) => assembly.utf8.feed(held).map_err(|_| StateError::Invalid("a cut character"))?,
            (Some(_), Some((extension, arrived))) => {
                // What has arrived was within the limit of the other process.
                let utf8 = (assembly.message == Some(Opcode::Text)).then_some(&mut assembly.utf8);
                let sink = Sink::whole(&mut assembly.payload, utf8, u64::MAX);
                extension.inflate_again(arrived, codec, sink)?;
            }
            (Some(_), None) => return Err(StateError::Invalid("a compressed message without compression")),
        }
        if assembly.utf8.held() != held {
            return Err(StateError::Invalid("a cut character"));
        }
        if assembly.compressed.is_none() {
            assembly.payload = Assembled { buffer: payload.to_vec(), filled: payload.len(), is_text: false };
        }
        Ok(assembly)
    }

    /// Sets the limit on messages that are assembled, for when fragments are not handed out any more.
    pub(in crate::protocol) fn set_max_assembled(&mut self, max_assembled: u64) {
        self.max_assembled = max_assembled;
    }

    /// Checks what belongs together.
    fn check(&self, held: &[u8], payload: &[u8]) -> Result<(), StateError> {
        let frame = self.frame.as_ref();
        let (is_text, is_compressed) = (self.message == Some(Opcode::Text), self.compressed.is_some());
        let control = frame.filter(|frame| frame.header.opcode.is_control());
        let has_data_frame = frame.is_some() && control.is_none();
        let is_whole = self.delivered.is_none();
        let possible = (self.cut_len == 0 || frame.is_none())
            && self.control.len() as u64 == control.map_or(0, |frame| frame.received)
            && (!has_data_frame || self.message.is_some())
            && (!is_compressed || (self.message.is_some() && is_whole))
            && (held.is_empty() || is_text)
            && (payload.is_empty() || (self.message.is_some() && is_whole && !is_compressed));
        if !possible {
            return Err(StateError::Invalid("parts of a message"));
        }
        if is_text && is_whole && !is_compressed {
            let whole = payload.strip_suffix(held).ok_or(StateError::Invalid("a cut character"))?;
            utf8::from_utf8(whole).ok_or(StateError::Invalid("text"))?;
        }
        Ok(())
    }
}

impl PartialFrame {
    fn import(state: &mut StateReader<'_>, role: Role) -> Result<PartialFrame, StateError> {
        const INVALID: StateError = StateError::Invalid("a header");
        let encoded = state.bytes_within(MAX_HEADER_SIZE, "a header")?;
        let received = state.u64()?;
        let (header, size) = FrameHeader::parse(encoded).ok().flatten().ok_or(INVALID)?;
        // A frame that is complete is not kept.
        let is_partial = size == encoded.len() && received < header.payload_len;
        if !is_partial || header.mask.is_some() != (role == Role::Server) {
            return Err(INVALID);
        }
        Ok(PartialFrame { header, received })
    }
}
