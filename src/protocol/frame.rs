//! Frame headers (RFC 6455 5.2).

use core::fmt;

use crate::protocol::error::ProtocolError;
use crate::protocol::mask;
use crate::protocol::mask::MaskingKey;
pub use crate::protocol::opcode::{MAX_CONTROL_PAYLOAD, Opcode};

/// The size of the longest header in bytes: two bytes, a 64-bit length and a masking key.
///
/// ```
/// use threadbare::protocol::frame::{FrameHeader, MAX_HEADER_SIZE, Opcode};
///
/// assert_eq!(FrameHeader::new(Opcode::Binary, 1 << 32, Some([0; 4])).size(), MAX_HEADER_SIZE);
/// ```
pub const MAX_HEADER_SIZE: usize = 14;

/// The reserved bit that is set on the first frame of a compressed message (RFC 7692 6).
///
/// ```
/// use threadbare::protocol::frame::{FrameHeader, RSV1};
///
/// let (header, _) = FrameHeader::parse(&[0xC1, 0x07])?.expect("it is complete");
/// assert_eq!(header.rsv & RSV1, RSV1); // the message is compressed
/// # Ok::<(), threadbare::ProtocolError>(())
/// ```
pub const RSV1: u8 = 0b100;

/// The header of one frame.
///
/// ```
/// use threadbare::protocol::frame::{FrameHeader, Opcode};
///
/// let header = FrameHeader::new(Opcode::Binary, 200, None);
/// assert!(header.fin && header.rsv == 0 && header.size() == 4);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// FIN: this is the last fragment of its message.
    pub fin: bool,
    /// RSV1, RSV2 and RSV3, as the bits 0b100, 0b010 and 0b001.
    pub rsv: u8,
    /// The opcode: how the payload is interpreted.
    pub opcode: Opcode,
    /// The masking key, if the payload is masked.
    pub mask: Option<MaskingKey>,
    /// The payload length in bytes.
    pub payload_len: u64,
}

/// Says whether there is a masking key, and omits the key.
impl fmt::Debug for FrameHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FrameHeader { fin, rsv, opcode, mask, payload_len } = self;
        f.debug_struct("FrameHeader")
            .field("fin", fin)
            .field("rsv", rsv)
            .field("opcode", opcode)
            .field("masked", &mask.is_some())
            .field("payload_len", payload_len)
            .finish()
    }
}

impl FrameHeader {
    /// Creates the header of an unfragmented frame without RSV bits.
    ///
    /// ```
    /// use threadbare::protocol::frame::{FrameHeader, Opcode};
    ///
    /// let header = FrameHeader::new(Opcode::Text, 5, Some([1, 2, 3, 4]));
    /// let first_fragment = FrameHeader { fin: false, ..FrameHeader::new(Opcode::Text, 5, None) };
    /// ```
    #[must_use]
    pub fn new(opcode: Opcode, payload_len: u64, mask: Option<MaskingKey>) -> FrameHeader {
        FrameHeader { fin: true, rsv: 0, opcode, mask, payload_len }
    }

    /// Parses the header at the front of `bytes`. Returns the header and its size, or `None` if it is incomplete.
    ///
    /// # Errors
    /// The opcode is unknown, a control frame is fragmented or too long, or the payload length is not in its shortest
    /// form or has its most significant bit set.
    ///
    /// ```
    /// use threadbare::protocol::frame::{FrameHeader, Opcode};
    ///
    /// let (header, size) = FrameHeader::parse(&[0x81, 0x05, b'H', b'e'])?.expect("complete");
    /// assert_eq!((header.opcode, header.payload_len, size), (Opcode::Text, 5, 2));
    /// assert_eq!(FrameHeader::parse(&[0x81])?, None);
    /// # Ok::<(), threadbare::protocol::ProtocolError>(())
    /// ```
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let fin = first & 0x80 != 0;
        let bits = first & 0x0F;
        // RFC 6455 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
        // Connection_".
        let opcode = Opcode::from_bits(bits).ok_or(ProtocolError::ReservedOpcode(bits))?;
        let short = second & 0x7F;
        if opcode.is_control() {
            // RFC 6455 5.5: control frames "MUST NOT be fragmented" and have "a payload length of 125 bytes or less".
            if !fin {
                return Err(ProtocolError::FragmentedControl(opcode));
            }
            if usize::from(short) > MAX_CONTROL_PAYLOAD {
                return Err(ProtocolError::ControlTooLong(opcode));
            }
        }
        let (payload_len, rest, length_size) = match short {
            126 => {
                let Some((&long, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from(u16::from_be_bytes(long));
                // RFC 6455 5.2: "the minimal number of bytes MUST be used to encode the length".
                if length < 126 {
                    return Err(ProtocolError::NonMinimalLength(length));
                }
                (length, rest, 2)
            }
            127 => {
                let Some((&long, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from_be_bytes(long);
                // RFC 6455 5.2: "the most significant bit MUST be 0".
                if length >> 63 != 0 {
                    return Err(ProtocolError::LengthOverflow(length));
                }
                if length <= 0xFFFF {
                    return Err(ProtocolError::NonMinimalLength(length));
                }
                (length, rest, 8)
            }
            short => (u64::from(short), rest, 0),
        };
        let (mask, mask_size) = if second & 0x80 == 0 {
            (None, 0)
        } else {
            let Some(&key) = rest.first_chunk() else { return Ok(None) };
            (Some(key), 4)
        };
        let header = FrameHeader { fin, rsv: (first >> 4) & 0b111, opcode, mask, payload_len };
        Ok(Some((header, 2 + length_size + mask_size)))
    }

    /// Returns the size of the encoded header in bytes.
    ///
    /// ```
    /// use threadbare::protocol::frame::{FrameHeader, Opcode};
    ///
    /// assert_eq!(FrameHeader::new(Opcode::Text, 125, None).size(), 2);
    /// assert_eq!(FrameHeader::new(Opcode::Text, 126, None).size(), 4);
    /// assert_eq!(FrameHeader::new(Opcode::Text, 1 << 16, Some([0; 4])).size(), 14);
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        let length = match self.payload_len {
            0..126 => 0,
            126..=0xFFFF => 2,
            _ => 8,
        };
        2 + length + if self.mask.is_some() { 4 } else { 0 }
    }

    /// Appends the header to `out`, with the payload length in its shortest form.
    ///
    /// ```
    /// use threadbare::protocol::frame::{FrameHeader, Opcode};
    ///
    /// let mut out = Vec::new();
    /// FrameHeader::new(Opcode::Binary, 256, None).encode(&mut out);
    /// assert_eq!(out, [0x82, 0x7E, 0x01, 0x00]); // RFC 6455 5.7
    /// ```
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let first = u8::from(self.fin) << 7 | (self.rsv & 0b111) << 4 | self.opcode as u8;
        let masked = u8::from(self.mask.is_some()) << 7;
        match u16::try_from(self.payload_len) {
            Ok(length) => encode_start(out, first, masked, length),
            Err(_) => {
                out.extend_from_slice(&[first, masked | 127]);
                out.extend_from_slice(&self.payload_len.to_be_bytes());
            }
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }
}

/// Appends a header without its masking key to `out`. The payload has less than 64 KiB.
#[inline(always)]
fn encode_start(out: &mut Vec<u8>, first: u8, masked: u8, length: u16) {
    if length < 126 {
        out.extend_from_slice(&[first, masked | length as u8]);
    } else {
        let [high, low] = length.to_be_bytes();
        out.extend_from_slice(&[first, masked | 126, high, low]);
    }
}

/// Appends an unmasked frame with a payload of less than 64 KiB to `out`, like [`encode`], but always inlined.
#[inline(always)]
pub(crate) fn encode_short(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    debug_assert!(payload.len() <= 0xFFFF, "{} bytes", payload.len());
    // Checks the capacity once, so that the compiler can remove the checks of the steps below.
    if out.capacity() - out.len() < 4 + payload.len() {
        return encode_growing(out, opcode, payload);
    }
    // RFC 6455 5.2: FIN and the opcode.
    encode_start(out, 0x80 | opcode as u8, 0, payload.len() as u16);
    out.extend_from_slice(payload);
}

#[cold]
#[inline(never)]
fn encode_growing(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.reserve(4 + payload.len());
    encode_short(out, opcode, payload);
}

/// Appends an unfragmented frame to `out`, with its payload masked if `mask` is a key.
///
/// ```
/// use threadbare::protocol::frame::{self, Opcode};
///
/// let mut out = Vec::new();
/// frame::encode(&mut out, Opcode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
/// assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"); // RFC 6455 5.7
/// ```
#[inline]
pub fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<MaskingKey>) {
    encode_behind(out, FrameHeader::new(opcode, payload.len() as u64, mask), payload);
}

/// Appends an unfragmented frame with RSV1 to `out`. The payload is already compressed.
///
/// ```
/// use threadbare::protocol::frame::{self, Opcode};
///
/// let mut out = Vec::new();
/// frame::encode_compressed(&mut out, Opcode::Text, b"\xf2\x48\xcd\xc9\xc9\x07\x00", None);
/// assert_eq!(out, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"); // RFC 7692 7.2.3.1, "Hello"
/// ```
pub fn encode_compressed(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<MaskingKey>) {
    let header = FrameHeader::new(opcode, payload.len() as u64, mask);
    encode_behind(out, FrameHeader { rsv: RSV1, ..header }, payload);
}

/// Appends a header, and the payload behind it, masked if the header has a key.
#[inline]
pub(crate) fn encode_behind(out: &mut Vec<u8>, header: FrameHeader, payload: &[u8]) {
    header.encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(key), Some(copy)) = (header.mask, out.get_mut(start..)) {
        mask::apply(copy, key);
    }
}

/// Returns each whole frame in bytes that this end has encoded: its header, all of it, and its payload as it is there.
pub(crate) fn whole_frames(mut bytes: &[u8]) -> impl Iterator<Item = (FrameHeader, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (header, size) = FrameHeader::parse(bytes).ok()??;
        let end = usize::try_from(header.payload_len).ok()?.checked_add(size)?;
        let (frame, rest) = bytes.split_at_checked(end)?;
        bytes = rest;
        Some((header, frame, frame.get(size..)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(bytes: &[u8]) -> (FrameHeader, usize) {
        FrameHeader::parse(bytes).expect("valid").expect("complete")
    }

    #[test]
    fn the_examples_of_rfc_6455_5_7_are_parsed() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        assert_eq!(parsed(b"\x81\x05Hello"), (FrameHeader::new(Opcode::Text, 5, None), 2));
        assert_eq!(parsed(b"\x81\x85\x37\xfa\x21\x3d"), (FrameHeader::new(Opcode::Text, 5, Some(key)), 6));
        assert_eq!(parsed(b"\x01\x03Hel").0, FrameHeader { fin: false, ..FrameHeader::new(Opcode::Text, 3, None) });
        assert_eq!(parsed(b"\x80\x02lo").0, FrameHeader::new(Opcode::Continuation, 2, None));
        assert_eq!(parsed(b"\x89\x05Hello").0, FrameHeader::new(Opcode::Ping, 5, None));
        assert_eq!(parsed(b"\x8a\x85\x37\xfa\x21\x3d").0, FrameHeader::new(Opcode::Pong, 5, Some(key)));
        assert_eq!(parsed(b"\x82\x7e\x01\x00"), (FrameHeader::new(Opcode::Binary, 256, None), 4));
        assert_eq!(parsed(b"\x82\x7f\0\0\0\0\0\x01\0\0"), (FrameHeader::new(Opcode::Binary, 65536, None), 10));
        let mut out = Vec::new();
        encode(&mut out, Opcode::Text, b"Hello", Some(key));
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn p_02_reserved_opcodes_are_refused() {
        for opcode in (0x3..=0x7).chain(0xB..=0xF) {
            assert_eq!(FrameHeader::parse(&[0x80 | opcode, 0]), Err(ProtocolError::ReservedOpcode(opcode)));
        }
    }

    #[test]
    fn p_03_fragmented_and_long_control_frames_are_refused() {
        assert_eq!(FrameHeader::parse(&[0x09, 0x80]), Err(ProtocolError::FragmentedControl(Opcode::Ping)));
        assert_eq!(FrameHeader::parse(&[0x88, 0xFE]), Err(ProtocolError::ControlTooLong(Opcode::Close)));
        assert_eq!(parsed(&[0x8A, 125]).0.payload_len, 125);
    }

    #[test]
    fn p_06_lengths_that_are_not_minimal_are_refused() {
        assert_eq!(FrameHeader::parse(&[0x82, 126, 0, 125]), Err(ProtocolError::NonMinimalLength(125)));
        assert_eq!(FrameHeader::parse(b"\x82\x7f\0\0\0\0\0\0\xff\xff"), Err(ProtocolError::NonMinimalLength(65535)));
        for length in [1 << 63, u64::MAX] {
            let mut bytes = vec![0x82, 127];
            bytes.extend_from_slice(&length.to_be_bytes());
            assert_eq!(FrameHeader::parse(&bytes), Err(ProtocolError::LengthOverflow(length)));
        }
    }

    #[test]
    fn encode_short_and_encode_give_the_same_frames() {
        for size in [0, 1, 125, 126, 127, 255, 256, 65_534, 65_535] {
            for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping] {
                let payload = vec![0xA5; size];
                let (mut out, mut expected) = (vec![7], vec![7]);
                encode_short(&mut out, opcode, &payload);
                encode(&mut expected, opcode, &payload, None);
                assert!(out == expected, "{opcode:?} of {size} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn encoded_headers_parse_and_their_prefixes_are_incomplete(
            fin: bool, rsv in 0_u8..8, opcode in 0_usize..3, len in prop_oneof![0_u64..200, 65500_u64..65600, 0..=u64::MAX >> 1], mask: Option<[u8; 4]>,
        ) {
            let opcode = [Opcode::Continuation, Opcode::Text, Opcode::Binary][opcode];
            let header = FrameHeader { fin, rsv, opcode, mask, payload_len: len };
            let mut out = Vec::new();
            header.encode(&mut out);
            prop_assert_eq!(header.size(), out.len());
            prop_assert_eq!(FrameHeader::parse(&out), Ok(Some((header, out.len()))));
            for cut in 0..out.len() {
                prop_assert_eq!(FrameHeader::parse(&out[..cut]), Ok(None));
            }
        }
    }
}
