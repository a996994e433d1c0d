//! The replies on a connection: checked and counted.

use std::io;
use std::rc::Rc;

use peers::deflated;
use peers::frames::{self, Frames, Opcode};

/// The replies that one connection receives.
pub(crate) enum Replies {
    Same(Same),
    Compressed(Box<Compressed>),
}

/// Replies that are all the same bytes. The first is compared with what is expected; of the others only the bytes are
/// counted.
pub(crate) struct Same {
    frames: Rc<Frames>,
    /// Bytes received so far.
    received: u64,
}

/// Compressed replies, which all inflate to the same text. As a rule they are the same bytes, because there is no context
/// takeover. But a compressor that is used again may choose other bytes, as Chromium's zlib does; such a reply is inflated.
pub(crate) struct Compressed {
    opcode: Opcode,
    text: Rc<str>,
    /// The frame of the first reply.
    first_frame: Vec<u8>,
    payload_len: usize,
    /// The beginning of a reply that is not complete.
    partial: Vec<u8>,
}

impl Replies {
    pub(crate) fn same(frames: &Rc<Frames>) -> Replies {
        Replies::Same(Same { frames: Rc::clone(frames), received: 0 })
    }

    /// The payload length of one reply; of compressed replies, that of the first.
    pub(crate) fn payload_len(&self) -> usize {
        match self {
            Replies::Same(same) => same.frames.payload_len(),
            Replies::Compressed(compressed) => compressed.payload_len,
        }
    }

    /// Checks bytes that were read. Returns how many replies they completed.
    pub(crate) fn receive(&mut self, read: &[u8]) -> io::Result<usize> {
        match self {
            Replies::Same(same) => same.receive(read),
            Replies::Compressed(compressed) => compressed.receive(read),
        }
    }
}

impl Same {
    fn receive(&mut self, read: &[u8]) -> io::Result<usize> {
        let frame_len = self.frames.frame_len() as u64;
        let complete = self.received / frame_len;
        self.check(read)?;
        self.received += read.len() as u64;
        Ok((self.received / frame_len - complete) as usize)
    }

    fn check(&self, mut read: &[u8]) -> io::Result<()> {
        let frame_len = self.frames.frame_len();
        let mut offset = self.received;
        while offset < frame_len as u64 && !read.is_empty() {
            let within = offset as usize;
            let wanted = self.frames.piece(within, read.len().min(frame_len - within));
            let (now, rest) = read.split_at(wanted.len());
            if now != wanted {
                let at = now.iter().zip(wanted).take_while(|(got, wanted)| got == wanted).count();
                let (got, wanted) = (now[at], wanted[at]);
                let text = format!("byte {} of the first reply is {got:#04x} and not {wanted:#04x}", within + at);
                return Err(io::Error::other(text));
            }
            offset += wanted.len() as u64;
            read = rest;
        }
        Ok(())
    }
}

impl Compressed {
    /// Expects replies like the first one, which is `first`; `None` if it is not complete.
    pub(crate) fn from_first(opcode: Opcode, text: &Rc<str>, first: &[u8]) -> io::Result<Option<Compressed>> {
        let Some((frame_len, payload)) = frames::parse_compressed(opcode, first).map_err(invalid)? else {
            return Ok(None);
        };
        if frame_len != first.len() {
            return Err(invalid("more than one message was received".to_owned()));
        }
        check_text(text, &payload)?;
        let (text, first_frame) = (Rc::clone(text), first.to_owned());
        Ok(Some(Compressed { opcode, text, first_frame, payload_len: payload.len(), partial: Vec::new() }))
    }

    fn receive(&mut self, read: &[u8]) -> io::Result<usize> {
        let joined = (!self.partial.is_empty()).then(|| [&std::mem::take(&mut self.partial), read].concat());
        let mut rest = joined.as_deref().unwrap_or(read);
        let mut complete = 0;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix(&self.first_frame[..]) {
                rest = after;
            } else if let Some((frame_len, payload)) = frames::parse_compressed(self.opcode, rest).map_err(invalid)? {
                check_text(&self.text, &payload)?;
                rest = &rest[frame_len..];
            } else {
                break;
            }
            complete += 1;
        }
        self.partial.extend_from_slice(rest);
        Ok(complete)
    }
}

fn check_text(text: &str, payload: &[u8]) -> io::Result<()> {
    let inflated = deflated::inflate(payload, text.len()).map_err(|error| invalid(error.to_string()))?;
    if inflated == text.as_bytes() {
        Ok(())
    } else {
        Err(invalid("it does not inflate to the text that was sent".to_owned()))
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::other(format!("a compressed reply: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a text, a text, a text, a text, a text, a text, and a text";

    /// A server's frame with this text, compressed.
    fn compressed(text: &str) -> Vec<u8> {
        frame(&deflated::compress(text.as_bytes()).expect("it is compressed in memory"))
    }

    /// The same in a block without compression (RFC 7692 7.2.3.3).
    fn stored(text: &str) -> Vec<u8> {
        let len = text.len() as u16;
        frame(&[&[0], &len.to_le_bytes()[..], &(!len).to_le_bytes(), text.as_bytes(), &[0]].concat())
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let frames = Frames::compressed(Opcode::Text, payload, None, 1).expect("it fits");
        frames.piece(0, frames.frame_len()).to_owned()
    }

    fn replies_like(first: &[u8]) -> Compressed {
        let text = Rc::from(TEXT);
        assert!(Compressed::from_first(Opcode::Text, &text, &first[..first.len() - 1]).unwrap().is_none());
        Compressed::from_first(Opcode::Text, &text, first).unwrap().expect("it is complete")
    }

    #[test]
    fn replies_may_be_compressed_in_different_ways() {
        let (first_frame, other) = (compressed(TEXT), stored(TEXT));
        assert_ne!(first_frame.len(), other.len());
        let all = [&first_frame[..], &other, &first_frame, &first_frame, &other].concat();
        for step in [1, 7, first_frame.len(), all.len()] {
            let mut replies = replies_like(&first_frame);
            let complete: usize = all.chunks(step).map(|piece| replies.receive(piece).unwrap()).sum();
            assert_eq!((complete, replies.partial.len()), (5, 0), "{step} bytes at a time");
        }
    }

    #[test]
    fn a_reply_with_another_text_is_an_error() {
        let first_frame = compressed(TEXT);
        let mut replies = replies_like(&first_frame);
        assert!(replies.receive(&compressed("another text")).is_err());
        assert!(replies.receive(&[0x81, 0]).is_err());
        assert!(Compressed::from_first(Opcode::Text, &Rc::from(TEXT), &compressed("another text")).is_err());
    }
}
