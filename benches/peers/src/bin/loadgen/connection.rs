//! An open connection that sends one frame again and again and counts the replies.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use mio::Poll;
use peers::frames::Frames;
use peers::handshake::Request;
use peers::tls::Stream;

use crate::dial::Dialer;
use crate::replies::Replies;
use crate::{Run, dial};

/// The number of different masking keys. A connection uses one key for all of its frames.
const KEYS: u32 = 64;

/// The size of the buffer that all connections read into.
pub(crate) const BUFFER: usize = 512 << 10;

pub(crate) struct Connection {
    stream: Stream,
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
        let streams = dial::open_all(poll, &Dialer::new(run, request)?, scenario.connections + extra)?;
        let ends = streams.into_iter().zip(outgoing.iter().cycle());
        let ends = ends.map(|(mut stream, outgoing)| {
            if scenario.own_records {
                stream.limit_records(outgoing.frame_len());
            }
            (stream, outgoing)
        });
        Ok(ends.map(|(stream, outgoing)| Connection::new(stream, outgoing, Replies::same(&incoming))).collect())
    }

    pub(crate) fn new(stream: Stream, outgoing: &Rc<Frames>, replies: Replies) -> Connection {
        Connection { stream, outgoing: Rc::clone(outgoing), replies, unsent: 0, offset: 0 }
    }

    /// The payload length of a reply.
    pub(crate) fn reply_len(&self) -> usize {
        self.replies.payload_len()
    }

    /// Sends and receives other messages from now on. None may be in flight.
    pub(crate) fn change(&mut self, outgoing: &Rc<Frames>, replies: Replies) {
        (self.outgoing, self.replies) = (Rc::clone(outgoing), replies);
    }

    /// Sends `messages` more messages, as far as the socket accepts them.
    pub(crate) fn send(&mut self, messages: usize) -> io::Result<()> {
        self.unsent += messages * self.outgoing.frame_len();
        self.flush()
    }

    /// Sends what is unsent, as far as the socket accepts it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.stream.flush()? {
            return Ok(());
        }
        while self.unsent > 0 {
            let piece = self.outgoing.piece(self.offset, self.unsent);
            match SCRATCH.with_borrow_mut(|scratch| self.stream.write(piece, scratch))? {
                0 => return Ok(()),
                written => {
                    self.unsent -= written;
                    self.offset = (self.offset + written) % self.outgoing.frame_len();
                }
            }
        }
        Ok(())
    }

    /// Reads until the socket is empty. Returns how many replies were completed.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Connection { stream, replies, .. } = self;
        let mut complete = 0;
        let mut may_have_more = true;
        while may_have_more {
            may_have_more = stream
                .read(buffer, |read| {
                    complete += replies.receive(read)?;
                    Ok(())
                })
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => io::Error::other("the server closed a connection"),
                    _ => error,
                })?;
        }
        Ok(complete)
    }
}

thread_local! {
    /// Sealed bytes on their way to a socket.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The masking keys.
pub(crate) fn keys() -> impl Iterator<Item = [u8; 4]> {
    (0..KEYS).map(|key| key.wrapping_mul(0x9e37_79b9).wrapping_add(0x5bd1_e995).to_be_bytes())
}
