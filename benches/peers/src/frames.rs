//! Frames that are encoded once and then written from the same buffer again and again.
//!
//! Every payload is one text with a period of 64 bytes, and masking keeps the period. So a small buffer, which stays in the
//! cache, is enough to write a message of any size and to check a reply of any size.

/// The period of the payload, a multiple of the masking key's four bytes.
const PERIOD: usize = 64;

const TEXT: &[u8; PERIOD] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-";

/// Frames up to this size are kept whole.
const MAX_WHOLE: usize = 64 << 10;

/// How much of the payload is kept of a larger frame.
const KEPT: usize = 256 << 10;

/// The largest compressed payload. It has no period, so it is kept whole.
pub const MAX_COMPRESSED: usize = MAX_WHOLE - 16;

/// RFC 7692 6: the bit RSV1 says that the message is compressed.
const RSV1: u8 = 0x40;

/// The kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Text = 1,
    Binary = 2,
}

/// An endless sequence of one frame.
pub struct Frames {
    bytes: Vec<u8>,
    /// Where in `bytes` the first frame begins.
    start: usize,
    frame_len: usize,
    header_len: usize,
}

impl Frames {
    /// Masked frames, as a client sends them; `burst` is how many are usually written at once.
    #[must_use]
    pub fn from_client(opcode: Opcode, size: usize, key: [u8; 4], burst: usize) -> Frames {
        Frames::new(opcode, size, Some(key), burst)
    }

    /// Unmasked frames, as a server sends them.
    #[must_use]
    pub fn from_server(opcode: Opcode, size: usize, burst: usize) -> Frames {
        Frames::new(opcode, size, None, burst)
    }

    /// Frames of a compressed message (RFC 7692 6); `None` if it is longer than [`MAX_COMPRESSED`].
    #[must_use]
    pub fn compressed(opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>, burst: usize) -> Option<Frames> {
        let fits = payload.len() <= MAX_COMPRESSED;
        fits.then(|| Frames::of(RSV1 | opcode as u8, payload.iter().copied(), payload.len(), key, burst))
    }

    fn new(opcode: Opcode, size: usize, key: Option<[u8; 4]>, burst: usize) -> Frames {
        Frames::of(opcode as u8, TEXT.iter().copied().cycle(), size, key, burst)
    }

    fn of(first: u8, payload: impl Iterator<Item = u8>, size: usize, key: Option<[u8; 4]>, burst: usize) -> Frames {
        let mut frame = header(first, size, key);
        let header_len = frame.len();
        let frame_len = header_len + size;
        let key = key.unwrap_or_default();
        let kept = if frame_len <= MAX_WHOLE { size } else { KEPT };
        frame.extend(payload.take(kept).zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        let bytes = if frame_len <= MAX_WHOLE { frame.repeat(burst.max(1)) } else { frame };
        Frames { bytes, start: 0, frame_len, header_len }
    }

    /// The same frames in a buffer that is [placed] within a page.
    #[must_use]
    pub fn placed(mut self) -> Frames {
        let (mut bytes, start) = placed(self.bytes.len());
        bytes[start..].copy_from_slice(&self.bytes);
        (self.bytes, self.start) = (bytes, start);
        self
    }

    /// The size of one frame in bytes, with its header.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.frame_len
    }

    /// The size of one payload in bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.frame_len - self.header_len
    }

    /// Returns the bytes from `offset` on, which is less than [`frame_len`](Frames::frame_len): at most `most` of them, and at
    /// least one if `most` is not 0.
    #[must_use]
    pub fn piece(&self, offset: usize, most: usize) -> &[u8] {
        let bytes = &self.bytes[self.start..];
        if self.frame_len <= MAX_WHOLE {
            let end = bytes.len().min(offset + most);
            return &bytes[offset..end];
        }
        let start = match offset.checked_sub(self.header_len) {
            Some(payload) => self.header_len + payload % PERIOD,
            None => offset,
        };
        let left = self.frame_len - offset;
        let end = bytes.len().min(start + most.min(left));
        &bytes[start..end]
    }
}

/// Returns memory, and where in it a buffer of `size` bytes begins: at three quarters of a page. Some processors copy slowly
/// between addresses with similar offsets in their pages, and the kernel's buffers begin elsewhere (see
/// `src/transport/buffer.rs` of the library).
#[must_use]
pub fn placed(size: usize) -> (Vec<u8>, usize) {
    const PAGE: usize = 4096;
    let mut bytes = vec![0; PAGE + size];
    let start = (PAGE / 4 * 3).wrapping_sub(bytes.as_ptr().addr()) % PAGE;
    bytes.truncate(start + size);
    (bytes, start)
}

/// Parses a compressed message in one frame. Returns the length of the frame, and the payload, unmasked; `None` if the frame
/// is not complete.
///
/// # Errors
///
/// It is a frame of another kind.
pub fn parse_compressed(opcode: Opcode, bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, String> {
    let [first, second, ref rest @ ..] = *bytes else { return Ok(None) };
    if first & RSV1 == 0 {
        return Err("the message is not compressed".to_owned());
    }
    if first != 0x80 | RSV1 | opcode as u8 {
        return Err(format!("a frame that begins with {first:#04x} is not a complete message of the expected kind"));
    }
    let (size, mut rest) = match (second & 0x7f, rest) {
        (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        (126, _) => return Ok(None),
        (127, _) => return Err("the compressed message is too long".to_owned()),
        (size, rest) => (usize::from(size), rest),
    };
    let mut key = [0; 4];
    if second & 0x80 != 0 {
        let Some((given, payload)) = rest.split_first_chunk() else { return Ok(None) };
        (key, rest) = (*given, payload);
    }
    let Some(payload) = rest.get(..size) else { return Ok(None) };
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Ok(Some((bytes.len() - rest.len() + size, payload)))
}

/// A frame header with FIN (RFC 6455 5.2); `first` is the opcode, with RSV1 if it is set.
fn header(first: u8, size: usize, key: Option<[u8; 4]>) -> Vec<u8> {
    let mask = if key.is_some() { 0x80 } else { 0 };
    let mut header = vec![0x80 | first];
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
    fn a_frame_read_in_pieces_is_the_same_frame() {
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
    fn headers_use_the_shortest_length() {
        assert_eq!(header(1, 125, None), [0x81, 125]);
        assert_eq!(header(1, 126, None), [0x81, 126, 0, 126]);
        assert_eq!(header(2, 65_536, None), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(header(1, 3, Some([9; 4])), [0x81, 0x83, 9, 9, 9, 9]);
    }

    #[test]
    fn compressed_messages_are_parsed_once_complete() {
        for (size, key) in [(3, None), (125, Some([1, 2, 3, 4])), (126, None), (400, Some([5, 6, 7, 8]))] {
            let payload: Vec<u8> = (0..size).map(|at| (at * 7) as u8).collect();
            let frames = Frames::compressed(Opcode::Text, &payload, key, 2).expect("it fits");
            let bytes = frames.piece(0, usize::MAX - 1);
            assert_eq!(bytes.len(), 2 * frames.frame_len());
            let parsed = parse_compressed(Opcode::Text, bytes);
            assert_eq!(parsed, Ok(Some((frames.frame_len(), payload))), "{size}");
            for end in 0..frames.frame_len() {
                assert_eq!(parse_compressed(Opcode::Text, &bytes[..end]), Ok(None), "{size}: {end}");
            }
        }
        let plain = Frames::from_server(Opcode::Text, 10, 1);
        assert!(parse_compressed(Opcode::Text, plain.piece(0, 12)).is_err());
    }
}
