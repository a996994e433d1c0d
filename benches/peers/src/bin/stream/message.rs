//! The large message: what it consists of, and its frames, which are encoded once.

use std::error::Error;

use peer_common::large::Large;
use peers::deflated;
use threadbare::protocol::frame::{FrameHeader, Opcode, RSV1};
use threadbare::protocol::mask;

use crate::case::Transport;

/// The message repeats a piece of this size.
pub(crate) const PIECE: usize = 256 << 10;

/// The masking key of all frames that are sent here.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The message over a transport: JSON to be compressed, and otherwise bytes of which no two places are alike.
pub(crate) fn large(transport: Transport, size: u64) -> Large {
    let piece: Vec<u8> = match transport {
        Transport::Deflate => {
            (0..PIECE / TEXT).flat_map(|part| deflated::json(part as u32, TEXT).into_bytes()).collect()
        }
        Transport::Plain | Transport::Tls => {
            (0..PIECE / 4).flat_map(|number| (number as u32).wrapping_mul(2_654_435_761).to_be_bytes()).collect()
        }
    };
    Large { piece: piece.into(), size }
}

/// The checksum of the whole message.
pub(crate) fn checksum(message: &Large) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for _ in 0..message.times() {
        hasher.update(&message.piece);
    }
    format!("{:08x}", hasher.finalize())
}

/// The size of a text of JSON. Each differs from the others.
const TEXT: usize = 4 << 10;

/// A small message of text.
pub(crate) fn text_frame(text: &str, key: Option<[u8; 4]>) -> Vec<u8> {
    frame(FrameHeader::new(Opcode::Text, text.len() as u64, key), text.as_bytes())
}

/// A frame with its payload, masked if the header says so.
pub(crate) fn frame(header: FrameHeader, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    header.encode(&mut frame);
    let start = frame.len();
    frame.extend_from_slice(payload);
    if let Some(key) = header.mask {
        mask::apply(&mut frame[start..], key);
    }
    frame
}

/// The frames of the message. They are written from the same memory again and again.
pub(crate) struct Outgoing {
    /// Sent once each before, between and after the repeated bytes.
    first: Vec<u8>,
    repeated: Vec<u8>,
    last: Vec<u8>,
    /// How often the repeated bytes are sent.
    times: u64,
    /// How much has been sent.
    offset: u64,
}

impl Outgoing {
    /// One frame; or, if it is to be compressed, a frame for each piece, which is compressed without the others.
    pub(crate) fn new(message: &Large, transport: Transport, key: Option<[u8; 4]>) -> Result<Outgoing, Box<dyn Error>> {
        let times = message.times();
        if transport != Transport::Deflate {
            let mut first = Vec::new();
            FrameHeader::new(Opcode::Binary, message.size, key).encode(&mut first);
            let mut repeated = message.piece.to_vec();
            mask::apply(&mut repeated, key.unwrap_or_default());
            return Ok(Outgoing { first, repeated, last: Vec::new(), times, offset: 0 });
        }
        let end = deflated::compress(&message.piece)?;
        // RFC 7692 7.2.1: only the end of the message lacks the end of its block.
        let middle = [&end[..], &deflated::TAIL].concat();
        let header = |opcode, payload: &[u8]| FrameHeader::new(opcode, payload.len() as u64, key);
        let first = FrameHeader { fin: false, rsv: RSV1, ..header(Opcode::Binary, &middle) };
        let repeated = FrameHeader { fin: false, ..header(Opcode::Continuation, &middle) };
        Ok(Outgoing {
            first: frame(first, &middle),
            repeated: frame(repeated, &middle),
            last: frame(header(Opcode::Continuation, &end), &end),
            times: times.checked_sub(2).ok_or("a compressed message has at least two pieces")?,
            offset: 0,
        })
    }

    /// One small message.
    pub(crate) fn text(text: &str, key: Option<[u8; 4]>) -> Outgoing {
        let first = text_frame(text, key);
        Outgoing { first, repeated: Vec::new(), last: Vec::new(), times: 0, offset: 0 }
    }

    /// What is sent next, at most `most` bytes; nothing at the end.
    pub(crate) fn next(&self, most: usize) -> &[u8] {
        let repeated = self.repeated.len() as u64 * self.times;
        let (bytes, start) = match self.offset.checked_sub(self.first.len() as u64) {
            None => (&self.first, self.offset),
            Some(offset) if offset < repeated => (&self.repeated, offset % self.repeated.len() as u64),
            Some(offset) => (&self.last, offset - repeated),
        };
        let rest = &bytes[start as usize..];
        &rest[..rest.len().min(most)]
    }

    /// So much of it was sent.
    pub(crate) fn advance(&mut self, sent: usize) {
        self.offset += sent as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::{KEY, Outgoing, PIECE, large};
    use crate::case::Transport;
    use crate::incoming::Incoming;

    #[test]
    fn frames_have_the_bytes_of_the_source() {
        for transport in [Transport::Plain, Transport::Tls, Transport::Deflate] {
            let message = large(transport, 3 * PIECE as u64);
            let mut expected = Vec::new();
            message.source().read_to_end(&mut expected).unwrap();
            for key in [None, Some(KEY)] {
                let mut outgoing = Outgoing::new(&message, transport, key).unwrap();
                let (mut incoming, mut received, mut ends) = (Incoming::default(), Vec::new(), 0);
                while let bytes @ [_, ..] = outgoing.next(1001) {
                    let (size, mut bytes) = (bytes.len(), bytes.to_vec());
                    outgoing.advance(size);
                    let take = |payload: &mut [u8]| {
                        received.extend_from_slice(payload);
                        Ok(())
                    };
                    ends += usize::from(incoming.receive(&mut bytes, take).unwrap());
                }
                assert!(ends == 1 && received == expected, "{transport:?} {key:?}");
            }
        }
    }
}
