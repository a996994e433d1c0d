//! The other end of a measured program: it sends the message, and checks each byte that comes back.
//!
//! It never sleeps, so that the measured program spends no time on waking it.

use std::error::Error;
use std::io;
use std::time::Instant;

use peer_common::large::{GO, Large};
use peers::tls::Stream;
use peers::wire;

use crate::case::{Case, Direction, Transport};
use crate::incoming::Incoming;
use crate::message::{KEY, Outgoing, PIECE, checksum};

/// Room for the largest record of TLS.
const MIN_READ: usize = 20 << 10;

pub(crate) struct Transfer {
    stream: Stream,
    case: Case,
    message: Large,
    checksum: String,
    outgoing: Outgoing,
    incoming: Incoming,
    expected: Expected,
    is_received: bool,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

/// What comes back.
enum Expected {
    /// The message: the next byte is here in the piece, which is there twice.
    Message {
        doubled: Vec<u8>,
        received: u64,
        size: u64,
    },
    Text {
        text: Vec<u8>,
        received: Vec<u8>,
    },
}

impl Transfer {
    /// Over a connection that does not block.
    pub(crate) fn new(stream: Stream, case: Case, message: &Large) -> Result<Transfer, Box<dyn Error>> {
        let (outgoing, expected) = begin(case, message, "")?;
        Ok(Transfer {
            stream,
            case,
            message: message.clone(),
            checksum: checksum(message),
            outgoing,
            incoming: Incoming::default(),
            expected,
            is_received: true,
            buffer: vec![0; PIECE],
            scratch: Vec::new(),
        })
    }

    /// Begins to send and receive the message once more.
    pub(crate) fn begin(&mut self) -> Result<(), Box<dyn Error>> {
        (self.outgoing, self.expected) = begin(self.case, &self.message, &self.checksum)?;
        self.is_received = false;
        Ok(())
    }

    /// Sends and receives the message, without anything else.
    pub(crate) fn run(&mut self) -> Result<(), Box<dyn Error>> {
        self.begin()?;
        let mut last_progress = Instant::now();
        while !self.is_done() {
            if self.step(PIECE)? {
                last_progress = Instant::now();
            } else if last_progress.elapsed() > wire::PATIENCE {
                return Err(format!("nothing was sent or received for {:?}", wire::PATIENCE).into());
            }
        }
        Ok(())
    }

    /// Whether the message has been sent and received.
    pub(crate) fn is_done(&self) -> bool {
        self.is_received && self.outgoing.next(1).is_empty()
    }

    /// Writes and reads once, about `most` bytes each. Returns whether there was any progress.
    pub(crate) fn step(&mut self, most: usize) -> io::Result<bool> {
        let bytes = self.outgoing.next(most);
        let sent = if bytes.is_empty() {
            self.stream.flush()?;
            0
        } else {
            self.stream.write(bytes, &mut self.scratch)?
        };
        self.outgoing.advance(sent);
        let Transfer { stream, case, incoming, expected, is_received, buffer, .. } = self;
        let size = match case.transport {
            Transport::Tls => most.clamp(MIN_READ, PIECE),
            Transport::Plain => most,
            // It is decompressed to several times as much.
            Transport::Deflate => (most / 8).max(1),
        };
        let mut progress = sent > 0;
        stream.read(&mut buffer[..size], |bytes| {
            progress = true;
            if incoming.receive(bytes, |payload| expected.take(payload))? {
                expected.check_end()?;
                *is_received = true;
            }
            Ok(())
        })?;
        Ok(progress)
    }
}

fn begin(case: Case, message: &Large, checksum: &str) -> Result<(Outgoing, Expected), Box<dyn Error>> {
    // A client masks what it sends.
    let key = case.way.is_server().then_some(KEY);
    let outgoing = match case.direction {
        Direction::Out => Outgoing::text(GO, key),
        Direction::In | Direction::Echo => Outgoing::new(message, case.transport, key)?,
    };
    let expected = match case.direction {
        Direction::In => Expected::Text { text: checksum.as_bytes().to_vec(), received: Vec::new() },
        Direction::Out | Direction::Echo => {
            Expected::Message { doubled: message.piece.repeat(2), received: 0, size: message.size }
        }
    };
    Ok((outgoing, expected))
}

impl Expected {
    fn take(&mut self, payload: &[u8]) -> io::Result<()> {
        match self {
            Expected::Text { received, .. } => received.extend_from_slice(payload),
            Expected::Message { doubled, received, .. } => {
                for part in payload.chunks(PIECE) {
                    let start = (*received % (doubled.len() / 2) as u64) as usize;
                    if doubled.get(start..start + part.len()) != Some(part) {
                        return Err(io::Error::other(format!("other bytes than were sent, after {received}")));
                    }
                    *received += part.len() as u64;
                }
            }
        }
        Ok(())
    }

    fn check_end(&self) -> io::Result<()> {
        match self {
            Expected::Message { received, size, .. } if received != size => {
                Err(io::Error::other(format!("the message has {received} bytes and not {size}")))
            }
            Expected::Text { text, received } if text != received => {
                let (got, wanted) = (String::from_utf8_lossy(received), String::from_utf8_lossy(text));
                Err(io::Error::other(format!("the checksum is {got} and not {wanted}")))
            }
            _ => Ok(()),
        }
    }
}
