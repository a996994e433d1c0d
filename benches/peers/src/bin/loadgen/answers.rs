//! What comes back on a connection, checked and counted.

use std::io;
use std::rc::Rc;

use peers::deflated;
use peers::frames::{self, Frames, Opcode};

/// The answers of one connection.
pub(crate) enum Answers {
    Same(Same),
    Compressed(Box<Compressed>),
}

/// All are the same bytes, of which the first are compared; the others are counted.
pub(crate) struct Same {
    frames: Rc<Frames>,
    /// Bytes that have come.
    received: u64,
}

/// All inflate to the same text, and as a rule are the same bytes: nothing tells a server without context takeover that a
/// message is not the first. But a compressor may choose otherwise when it is used again, as Chromium's zlib does.
pub(crate) struct Compressed {
    opcode: Opcode,
    text: Rc<str>,
    /// The frame of the first answer.
    usual: Vec<u8>,
    payload_len: usize,
    /// Of an answer that has not come in full.
    begun: Vec<u8>,
}

impl Answers {
    pub(crate) fn same(frames: &Rc<Frames>) -> Answers {
        Answers::Same(Same { frames: Rc::clone(frames), received: 0 })
    }

    /// How long one is, without its header; of compressed ones the first.
    pub(crate) fn payload_len(&self) -> usize {
        match self {
            Answers::Same(same) => same.frames.payload_len(),
            Answers::Compressed(compressed) => compressed.payload_len,
        }
    }

    /// Checks what was read; answers how many were completed by it.
    pub(crate) fn receive(&mut self, read: &[u8]) -> io::Result<usize> {
        match self {
            Answers::Same(same) => same.receive(read),
            Answers::Compressed(compressed) => compressed.receive(read),
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
                let text = format!("byte {} of the first answer is {got:#04x} and not {wanted:#04x}", within + at);
                return Err(io::Error::other(text));
            }
            offset += wanted.len() as u64;
            read = rest;
        }
        Ok(())
    }
}

impl Compressed {
    /// The answers to come, if the first is there in full and right; `None` if more must be read.
    pub(crate) fn learn(opcode: Opcode, text: &Rc<str>, first: &[u8]) -> io::Result<Option<Compressed>> {
        let Some((frame_len, payload)) = frames::parse_compressed(opcode, first).map_err(wrong)? else {
            return Ok(None);
        };
        if frame_len != first.len() {
            return Err(wrong("more came than one message".to_owned()));
        }
        check_text(text, &payload)?;
        let (text, usual) = (Rc::clone(text), first.to_owned());
        Ok(Some(Compressed { opcode, text, usual, payload_len: payload.len(), begun: Vec::new() }))
    }

    fn receive(&mut self, read: &[u8]) -> io::Result<usize> {
        let joined = (!self.begun.is_empty()).then(|| [&std::mem::take(&mut self.begun), read].concat());
        let mut rest = joined.as_deref().unwrap_or(read);
        let mut complete = 0;
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix(&self.usual[..]) {
                rest = behind;
            } else if let Some((frame_len, payload)) = frames::parse_compressed(self.opcode, rest).map_err(wrong)? {
                check_text(&self.text, &payload)?;
                rest = &rest[frame_len..];
            } else {
                break;
            }
            complete += 1;
        }
        self.begun.extend_from_slice(rest);
        Ok(complete)
    }
}

fn check_text(text: &str, payload: &[u8]) -> io::Result<()> {
    let inflated = deflated::inflate(payload, text.len()).map_err(|error| wrong(error.to_string()))?;
    if inflated == text.as_bytes() {
        Ok(())
    } else {
        Err(wrong("it inflates to another text than was sent".to_owned()))
    }
}

fn wrong(what: String) -> io::Error {
    io::Error::other(format!("a compressed answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a text, a text, a text, a text, a text, a text, and a text";

    /// A server's frame with this text.
    fn compressed(text: &str) -> Vec<u8> {
        frame(&deflated::compress(text.as_bytes()).expect("it is compressed in memory"))
    }

    /// The same in a block without compression (RFC 7692 7.2.3.3).
    fn stored(text: &str) -> Vec<u8> {
        let len = text.len() as u16;
        frame(&[&[0], &len.to_le_bytes()[..], &(!len).to_le_bytes(), text.as_bytes(), &[0]].concat())
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let frames = Frames::compressed(Opcode::Text, payload, None, 1).expect("it is short");
        frames.piece(0, frames.frame_len()).to_owned()
    }

    fn learned(first: &[u8]) -> Compressed {
        let text = Rc::from(TEXT);
        assert!(Compressed::learn(Opcode::Text, &text, &first[..first.len() - 1]).unwrap().is_none());
        Compressed::learn(Opcode::Text, &text, first).unwrap().expect("it is whole")
    }

    #[test]
    fn an_answer_may_be_compressed_otherwise_than_the_first() {
        let (usual, other) = (compressed(TEXT), stored(TEXT));
        assert_ne!(usual.len(), other.len());
        let all = [&usual[..], &other, &usual, &usual, &other].concat();
        for step in [1, 7, usual.len(), all.len()] {
            let mut answers = learned(&usual);
            let complete: usize = all.chunks(step).map(|piece| answers.receive(piece).unwrap()).sum();
            assert_eq!((complete, answers.begun.len()), (5, 0), "{step} bytes at a time");
        }
    }

    #[test]
    fn another_text_is_found_out() {
        let usual = compressed(TEXT);
        let mut answers = learned(&usual);
        assert!(answers.receive(&compressed("another text")).is_err());
        assert!(answers.receive(&[0x81, 0]).is_err());
        assert!(Compressed::learn(Opcode::Text, &Rc::from(TEXT), &compressed("another text")).is_err());
    }
}
