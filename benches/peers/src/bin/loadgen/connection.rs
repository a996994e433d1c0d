//! An open connection that sends one frame over and over and counts what comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use mio::Poll;
use mio::net::TcpStream;
use peers::frames::Frames;
use peers::handshake::Request;

use crate::answers::Answers;
use crate::{Run, dial};

/// How many masking keys there are; a connection keeps its own.
const KEYS: u32 = 64;

/// Into which everything is read.
pub(crate) const BUFFER: usize = 512 << 10;

pub(crate) struct Connection {
    stream: TcpStream,
    outgoing: Rc<Frames>,
    answers: Answers,
    /// Bytes that are still to be written, and where in the frame they begin.
    owed: usize,
    offset: usize,
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
        Ok(ends.map(|(stream, outgoing)| Connection::new(stream, outgoing, Answers::same(&incoming))).collect())
    }

    pub(crate) fn new(stream: TcpStream, outgoing: &Rc<Frames>, answers: Answers) -> Connection {
        Connection { stream, outgoing: Rc::clone(outgoing), answers, owed: 0, offset: 0 }
    }

    /// How long each of its answers is, without its header.
    pub(crate) fn answer_len(&self) -> usize {
        self.answers.payload_len()
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
        let mut complete = 0;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(read) => {
                    complete += self.answers.receive(&buffer[..read])?;
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

/// Masking keys, as many as there are.
pub(crate) fn keys() -> impl Iterator<Item = [u8; 4]> {
    (0..KEYS).map(|key| key.wrapping_mul(0x9e37_79b9).wrapping_add(0x5bd1_e995).to_be_bytes())
}
