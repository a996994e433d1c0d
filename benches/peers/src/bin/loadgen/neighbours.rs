//! Three clients that misbehave beside those that are measured: one reads nothing, one reads a trickle, and one floods. All
//! three send whenever their socket has room.

use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Instant;

use mio::Poll;
use mio::net::TcpStream;
use peers::frames::{Frames, Opcode};
use peers::handshake::Request;
use peers::target::Target;
use peers::tls::Stream;

use crate::connection::keys;
use crate::dial;
use crate::dial::Dialer;
use crate::replies::Replies;

/// Messages of 16 bytes cost a server most for each byte.
const FLOOD_SIZE: usize = 16;

/// The size of the messages whose answers are not read.
const UNREAD_SIZE: usize = 1 << 10;

/// How much the trickling client reads in a second.
const TRICKLE: f64 = 3_000.0;

/// At most this is written by each at a time, so that the generator does not hold up its other connections.
const PIECE: usize = 16 << 10;

/// How a neighbour reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Nothing,
    Trickle,
    Everything,
}

struct Neighbour {
    reading: Reading,
    outgoing: Rc<Frames>,
    incoming: Rc<Frames>,
    stream: TcpStream,
    /// Where in its frame the next byte to write is.
    offset: usize,
    replies: Replies,
    /// How many bytes it has read.
    read: usize,
}

pub(crate) struct Neighbours {
    target: Target,
    all: Vec<Neighbour>,
    /// Since when the trickle runs.
    since: Instant,
    /// How many messages of the flood have been answered.
    answered: u64,
}

impl Neighbours {
    pub(crate) fn open(target: &Target) -> io::Result<Neighbours> {
        let key = keys().next().unwrap_or_default();
        let kinds =
            [(Reading::Nothing, UNREAD_SIZE), (Reading::Trickle, UNREAD_SIZE), (Reading::Everything, FLOOD_SIZE)];
        let open = |(reading, size): (Reading, usize)| {
            let burst = PIECE / size;
            let incoming = Rc::new(Frames::from_server(Opcode::Text, size, burst));
            Ok(Neighbour {
                reading,
                outgoing: Rc::new(Frames::from_client(Opcode::Text, size, key, burst)),
                replies: Replies::same(&incoming),
                incoming,
                stream: dial(target)?,
                offset: 0,
                read: 0,
            })
        };
        let all = kinds.into_iter().map(open).collect::<io::Result<Vec<_>>>()?;
        Ok(Neighbours { target: target.clone(), all, since: Instant::now(), answered: 0 })
    }

    /// Begins a slice: those that the server has closed in between, because they do not read, connect again.
    pub(crate) fn start_slice(&mut self) -> io::Result<()> {
        for neighbour in &mut self.all {
            neighbour.read = 0;
            if neighbour.reading != Reading::Everything {
                neighbour.connect(&self.target)?;
            }
        }
        self.since = Instant::now();
        Ok(())
    }

    /// Has each write and read once.
    pub(crate) fn turn(&mut self, now: Instant, buffer: &mut [u8]) -> io::Result<()> {
        let trickle = (now.saturating_duration_since(self.since).as_secs_f64() * TRICKLE) as usize;
        for neighbour in &mut self.all {
            neighbour.write()?;
            let room = match neighbour.reading {
                Reading::Nothing => 0,
                Reading::Trickle => trickle.saturating_sub(neighbour.read).min(buffer.len()),
                Reading::Everything => buffer.len(),
            };
            if room > 0 {
                self.answered += neighbour.receive(&mut buffer[..room])? as u64;
            }
        }
        Ok(())
    }

    /// How many messages of the three have been answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }
}

impl Neighbour {
    fn connect(&mut self, target: &Target) -> io::Result<()> {
        self.stream = dial(target)?;
        self.replies = Replies::same(&self.incoming);
        self.offset = 0;
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        match self.stream.write(self.outgoing.piece(self.offset, PIECE)) {
            Ok(written) => self.offset = (self.offset + written) % self.outgoing.frame_len(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => Err(io::Error::other("the server closed a neighbour")),
            Ok(read) => {
                self.read += read;
                self.replies.receive(&buffer[..read])
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Opens one connection, which is not registered with the generator's poll.
fn dial(target: &Target) -> io::Result<TcpStream> {
    let mut poll = Poll::new()?;
    let dialer = Dialer::plain(target, Request::new(&target.host()));
    let Some(Stream::Plain(mut stream)) = dial::open_all(&mut poll, &dialer, 1)?.pop() else {
        return Err(ErrorKind::NotConnected.into());
    };
    poll.registry().deregister(&mut stream)?;
    Ok(stream)
}
