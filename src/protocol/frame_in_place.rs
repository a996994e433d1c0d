//! A frame whose payload is written where the frame is sent from, before its size is known.

use crate::protocol::frame::{FrameHeader, MAX_HEADER_SIZE, Opcode};
use crate::protocol::mask::{self, MaskingKey};

/// A frame at the end of a buffer. Unless it is [finished](FrameInPlace::finish), it is taken away again: the code that writes
/// the payload may fail or panic.
#[derive(Debug)]
pub(crate) struct FrameInPlace<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    /// The bytes before the payload.
    room: usize,
    key: Option<MaskingKey>,
    is_finished: bool,
}

impl<'a> FrameInPlace<'a> {
    /// Begins a frame behind what is in the buffer.
    pub(crate) fn begin(out: &'a mut Vec<u8>, key: Option<MaskingKey>) -> FrameInPlace<'a> {
        let start = out.len();
        // A message of less than 126 bytes, or more than 64 KiB, moves by a few bytes. The first is cheap, and the second a small
        // part of what it costs to write so much.
        let room = FrameHeader::new(Opcode::Text, 126, key).size();
        out.resize(start + room, 0);
        FrameInPlace { out, start, room, key, is_finished: false }
    }

    /// Where the payload is to be appended.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Puts the header before the payload, and masks that if there is a key.
    pub(crate) fn finish(mut self, opcode: Opcode) {
        let (start, end) = (self.start, self.out.len());
        let room = start..start + self.room;
        let header = FrameHeader::new(opcode, end.saturating_sub(room.end) as u64, self.key);
        let size = header.size();
        // It is encoded behind the payload, and copied from there.
        header.encode(self.out);
        let mut encoded = [0; MAX_HEADER_SIZE];
        encoded.iter_mut().zip(self.out.drain(end..)).for_each(|(to, from)| *to = from);
        self.out.splice(room, encoded.into_iter().take(size));
        if let (Some(key), Some(payload)) = (self.key, self.out.get_mut(start + size..)) {
            mask::apply(payload, key);
        }
        self.is_finished = true;
    }
}

impl Drop for FrameInPlace<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.out.truncate(self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame;

    #[test]
    fn a_payload_that_is_written_in_place_makes_the_same_frame() {
        for key in [None, Some([1, 2, 3, 4])] {
            for size in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
                let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
                let (mut expected, mut out) = (b"before".to_vec(), b"before".to_vec());
                frame::encode(&mut expected, Opcode::Text, &payload, key);
                let mut written = FrameInPlace::begin(&mut out, key);
                payload.chunks(1_000).for_each(|piece| written.payload().extend_from_slice(piece));
                written.finish(Opcode::Text);
                assert!(out == expected, "{size} bytes, key {key:?}");
            }
        }
    }

    #[test]
    fn nothing_is_left_of_a_frame_that_is_not_finished() {
        let mut out = b"before".to_vec();
        FrameInPlace::begin(&mut out, None).payload().extend_from_slice(b"half");
        assert_eq!(out, b"before");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut written = FrameInPlace::begin(&mut out, None);
            written.payload().extend_from_slice(b"half");
            std::panic::resume_unwind(Box::new("the panic of a value"));
        }));
        assert!(panicked.is_err() && out == b"before");
    }
}
