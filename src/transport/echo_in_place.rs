//! The echo of a large frame in one piece: its header is written over the received one.

use std::ops::Range;

use crate::protocol::frame::FrameHeader;

/// Where a server that sends the payload of the first frame of the input back puts the frame's header. The received
/// header, which is decoded, is longer by the masking key, so the new one has room in front of the payload, and one
/// write of one piece sends both.
#[derive(Debug, Default)]
pub(super) struct EchoInPlace {
    /// Where in the input the first frame begins.
    first_frame: usize,
    /// The header that is to be written into the input, and where.
    header: Option<(FrameHeader, usize)>,
}

impl EchoInPlace {
    /// The first frame of the input begins at `first_frame`.
    #[inline(always)]
    pub(super) fn begin(&mut self, first_frame: usize) {
        self.first_frame = first_frame;
    }

    /// Where the frame begins, header included, if `payload` is the payload of the first frame in the input; otherwise
    /// the header is to be sent apart.
    pub(super) fn place(&mut self, header: FrameHeader, payload: &Range<usize>) -> Option<usize> {
        // What a client sends is masked (RFC 6455 5.1) and its length has the shortest form (5.2): at this distance no
        // other payload of this length can lie.
        let received = FrameHeader { mask: Some([0; 4]), ..header };
        if self.header.is_some() || payload.start != self.first_frame + received.size() {
            return None;
        }
        let start = payload.start - header.size();
        self.header = Some((header, start));
        Some(start)
    }

    /// Writes the header to its place in the input. `scratch` is longer for a moment.
    #[inline(never)]
    pub(super) fn write_header(&mut self, input: &mut [u8], scratch: &mut Vec<u8>) {
        if let Some((header, start)) = self.header.take() {
            let end = scratch.len();
            header.encode(scratch);
            input[start..][..header.size()].copy_from_slice(&scratch[end..]);
            scratch.truncate(end);
        }
    }

    /// Forgets the header.
    pub(super) fn clear(&mut self) {
        self.header = None;
    }
}
