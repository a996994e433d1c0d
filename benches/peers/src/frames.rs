//! Messages as they travel: encoded once, then written from the same few bytes again and again.
//!
//! Every payload is the same text with a period of 64 bytes. Masking keeps that period, so that a message of any size can
//! be written, and an answer of any size be checked, against a buffer that stays in the cache.

/// Of the payload's text, and a multiple of the masking key's four bytes.
const PERIOD: usize = 64;

const TEXT: &[u8; PERIOD] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-";

/// Messages up to this size are kept whole.
const WHOLE: usize = 64 << 10;

/// Of a larger one, so much of the payload is kept.
const CHUNK: usize = 256 << 10;

/// What kind of message the payload is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Text = 1,
    Binary = 2,
}

/// An endless row of one and the same frame.
pub struct Frames {
    bytes: Vec<u8>,
    frame_len: usize,
    header_len: usize,
}

impl Frames {
    /// As a client sends them; `burst` is how many are usually written at once.
    #[must_use]
    pub fn from_client(opcode: Opcode, size: usize, key: [u8; 4], burst: usize) -> Frames {
        Frames::new(opcode, size, Some(key), burst)
    }

    /// As a server sends them.
    #[must_use]
    pub fn from_server(opcode: Opcode, size: usize, burst: usize) -> Frames {
        Frames::new(opcode, size, None, burst)
    }

    fn new(opcode: Opcode, size: usize, key: Option<[u8; 4]>, burst: usize) -> Frames {
        let mut frame = header(opcode, size, key);
        let header_len = frame.len();
        let frame_len = header_len + size;
        let key = key.unwrap_or_default();
        let kept = if frame_len <= WHOLE { size } else { CHUNK };
        let payload = TEXT.iter().cycle().zip(key.iter().cycle());
        frame.extend(payload.take(kept).map(|(byte, key)| byte ^ key));
        let bytes = if frame_len <= WHOLE { frame.repeat(burst.max(1)) } else { frame };
        Frames { bytes, frame_len, header_len }
    }

    /// The size of one frame, header included, in bytes.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// What comes at `offset` (less than [`frame_len`](Frames::frame_len)) into a frame: at most `most` bytes, and at
    /// least one if `most` is not 0.
    #[must_use]
    pub fn piece(&self, offset: usize, most: usize) -> &[u8] {
        if self.frame_len <= WHOLE {
            let end = self.bytes.len().min(offset + most);
            return &self.bytes[offset..end];
        }
        let start = match offset.checked_sub(self.header_len) {
            Some(payload) => self.header_len + payload % PERIOD,
            None => offset,
        };
        let left = self.frame_len - offset;
        let end = self.bytes.len().min(start + most.min(left));
        &self.bytes[start..end]
    }
}

/// RFC 6455 5.2, with FIN.
fn header(opcode: Opcode, size: usize, key: Option<[u8; 4]>) -> Vec<u8> {
    let mask = if key.is_some() { 0x80 } else { 0 };
    let mut header = vec![0x80 | opcode as u8];
    if size < 126 {
        header.push(mask | size as u8);
    } else if let Ok(size) = u16::try_from(size) {
        header.push(mask | 126);
        header.extend(size.to_be_bytes());
    } else {
        header.push(mask | 127);
        header.extend((size as u64).to_be_bytes());
    }
    header.extend(key.into_iter().flatten());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frames: &Frames, from: usize, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut offset = from;
        while out.len() < frames.frame_len() {
            let piece = frames.piece(offset, step.min(frames.frame_len() - out.len()));
            assert!(!piece.is_empty());
            out.extend_from_slice(piece);
            offset = (offset + piece.len()) % frames.frame_len();
        }
        out
    }

    #[test]
    fn a_frame_is_the_same_in_whatever_pieces_it_is_read() {
        for size in [0, 1, 32, 125, 126, 128, 1024, 65_535, 65_536, 300_001, 1 << 20] {
            let frames = Frames::from_client(Opcode::Binary, size, [1, 2, 3, 4], 3);
            let whole = read(&frames, 0, usize::MAX);
            let payload = whole.len() - size;
            assert_eq!(read(&frames, 0, 1001), whole, "{size}");
            for (at, byte) in whole[payload..].iter().enumerate() {
                assert_eq!(byte ^ [1, 2, 3, 4][at % 4], TEXT[at % PERIOD], "{size}: {at}");
            }
        }
    }

    #[test]
    fn headers_have_the_shortest_length() {
        assert_eq!(header(Opcode::Text, 125, None), [0x81, 125]);
        assert_eq!(header(Opcode::Text, 126, None), [0x81, 126, 0, 126]);
        assert_eq!(header(Opcode::Binary, 65_536, None), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(header(Opcode::Text, 3, Some([9; 4])), [0x81, 0x83, 9, 9, 9, 9]);
    }
}
