//! An open connection that sends one frame over and over and counts the same frame coming back.

use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use mio::Poll;
use mio::net::TcpStream;
use peers::frames::Frames;
use peers::handshake::Request;

use crate::{Run, dial};

/// How many masking keys there are; a connection keeps its own.
const KEYS: u32 = 64;

/// Into which everything is read.
pub(crate) const BUFFER: usize = 512 << 10;

/// Which answers are compared in full with what they should be; the others are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    First,
    All,
}

pub(crate) struct Connection {
    stream: TcpStream,
    outgoing: Rc<Frames>,
    incoming: Rc<Frames>,
    check: Check,
    /// Bytes that are still to be written, and where in the frame they begin.
    owed: usize,
    offset: usize,
    /// Bytes of messages that have come.
    received: u64,
}

impl Connection {
    /// Opens a scenario's connections, and `extra` ones.
    pub(crate) fn open(poll: &mut Poll, run: &Run, extra: usize) -> io::Result<Vec<Connection>> {
        let scenario = &run.scenario;
        let (opcode, size, burst) = (scenario.opcode, scenario.size, scenario.burst());
        let outgoing = keys().map(|key| Rc::new(Frames::from_client(opcode, size, key, burst))).collect::<Vec<_>>();
        let incoming = Rc::new(Frames::from_server(opcode, size, burst));
        let request = Request::new(&run.addr.to_string());
        let streams = dial::open_all(poll, run.addr, request, scenario.connections + extra)?;
        let ends = streams.into_iter().zip(outgoing.iter().cycle());
        Ok(ends.map(|(stream, outgoing)| Connection::new(stream, outgoing, &incoming, Check::First)).collect())
    }

    pub(crate) fn new(stream: TcpStream, outgoing: &Rc<Frames>, incoming: &Rc<Frames>, check: Check) -> Connection {
        let (outgoing, incoming) = (Rc::clone(outgoing), Rc::clone(incoming));
        Connection { stream, outgoing, incoming, check, owed: 0, offset: 0, received: 0 }
    }

    /// How long each of its answers is, without its header.
    pub(crate) fn answer_len(&self) -> usize {
        self.incoming.payload_len()
    }

    /// Sends so many more messages, as far as the socket takes them.
    pub(crate) fn send(&mut self, messages: usize) -> io::Result<()> {
        self.owed += messages * self.outgoing.frame_len();
        self.flush()
    }

    /// Sends what is owed, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.owed > 0 {
            match self.stream.write(self.outgoing.piece(self.offset, self.owed)) {
                Ok(written) => {
                    self.owed -= written;
                    self.offset = (self.offset + written) % self.outgoing.frame_len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads all there is; answers how many messages were completed by it.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let frame_len = self.incoming.frame_len() as u64;
        let complete = self.received / frame_len;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(read) => {
                    self.check(&buffer[..read])?;
                    self.received += read as u64;
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok((self.received / frame_len - complete) as usize)
    }

    /// Compares what has been read with what should have come.
    fn check(&self, mut read: &[u8]) -> io::Result<()> {
        let frame_len = self.incoming.frame_len();
        let mut offset = self.received;
        while (self.check == Check::All || offset < frame_len as u64) && !read.is_empty() {
            let within = (offset % frame_len as u64) as usize;
            let most = if self.check == Check::All { read.len() } else { read.len().min(frame_len - within) };
            let piece = self.incoming.piece(within, most);
            let (now, rest) = read.split_at(piece.len());
            if now != piece {
                let at = now.iter().zip(piece).take_while(|(got, wanted)| got == wanted).count();
                let (got, wanted) = (now[at], piece[at]);
                let which = if offset < frame_len as u64 { "the first" } else { "a later" };
                let at = (within + at) % frame_len;
                let text = format!("byte {at} of {which} answer is {got:#04x} and not {wanted:#04x}");
                return Err(io::Error::other(text));
            }
            offset += piece.len() as u64;
            read = rest;
        }
        Ok(())
    }
}

/// Masking keys, as many as there are.
pub(crate) fn keys() -> impl Iterator<Item = [u8; 4]> {
    (0..KEYS).map(|key| key.wrapping_mul(0x9e37_79b9).wrapping_add(0x5bd1_e995).to_be_bytes())
}
