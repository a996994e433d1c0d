//! An open connection that sends one frame again and again and counts the replies.

use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use mio::Poll;
use mio::net::TcpStream;
use peers::frames::Frames;
use peers::handshake::Request;

use crate::replies::Replies;
use crate::{Run, dial};

/// The number of different masking keys. A connection uses one key for all of its frames.
const KEYS: u32 = 64;

/// The size of the buffer that all connections read into.
pub(crate) const BUFFER: usize = 512 << 10;

pub(crate) struct Connection {
    stream: TcpStream,
    outgoing: Rc<Frames>,
    replies: Replies,
    /// How many bytes are still to be written.
    unsent: usize,
    /// Where in the frame they begin.
    offset: usize,
}

impl Connection {
    /// Opens the scenario's connections, and `extra` more.
    pub(crate) fn open(poll: &mut Poll, run: &Run, extra: usize) -> io::Result<Vec<Connection>> {
        let scenario = &run.scenario;
        let (opcode, size, burst) = (scenario.opcode, scenario.size, scenario.burst());
        let outgoing = keys().map(|key| Rc::new(Frames::from_client(opcode, size, key, burst))).collect::<Vec<_>>();
        let incoming = Rc::new(Frames::from_server(opcode, size, burst));
        let request = Request::new(&run.target.host());
        let streams = dial::open_all(poll, &run.target, request, scenario.connections + extra)?;
        let ends = streams.into_iter().zip(outgoing.iter().cycle());
        Ok(ends.map(|(stream, outgoing)| Connection::new(stream, outgoing, Replies::same(&incoming))).collect())
    }

    pub(crate) fn new(stream: TcpStream, outgoing: &Rc<Frames>, replies: Replies) -> Connection {
        Connection { stream, outgoing: Rc::clone(outgoing), replies, unsent: 0, offset: 0 }
    }

    /// The payload length of a reply.
    pub(crate) fn reply_len(&self) -> usize {
        self.replies.payload_len()
    }

    /// Sends `messages` more messages, as far as the socket accepts them.
    pub(crate) fn send(&mut self, messages: usize) -> io::Result<()> {
        self.unsent += messages * self.outgoing.frame_len();
        self.flush()
    }

    /// Sends what is unsent, as far as the socket accepts it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.unsent > 0 {
            match self.stream.write(self.outgoing.piece(self.offset, self.unsent)) {
                Ok(written) => {
                    self.unsent -= written;
                    self.offset = (self.offset + written) % self.outgoing.frame_len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until the socket is empty. Returns how many replies were completed.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut complete = 0;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(read) => {
                    complete += self.replies.receive(&buffer[..read])?;
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(complete)
    }
}

/// The masking keys.
pub(crate) fn keys() -> impl Iterator<Item = [u8; 4]> {
    (0..KEYS).map(|key| key.wrapping_mul(0x9e37_79b9).wrapping_add(0x5bd1_e995).to_be_bytes())
}
