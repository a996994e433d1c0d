//! The server of one client: it sends frames that it encoded in advance, and checks how many the client counted.

use std::error::Error;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use peers::deflated;
use peers::frames::{Frames, Opcode};
use peers::tls::Stream;
use peers::wire::{self, Mode};
use rustls::ServerConfig;
use threadbare::protocol::mask;

/// A feed is written in pieces of about 256 KiB.
const PIECE: usize = 256 << 10;

/// What ends a run: the client replies with the number of messages.
const END: &[u8] = b"\x81\x03end";

/// The header of a client's short frame: two bytes and the masking key.
const CLIENT_HEADER: usize = 6;

/// A count has at most so many digits.
const MAX_COUNT: usize = 20;

/// Room for the largest record of TLS.
const BUFFER: usize = 20 << 10;

/// So many different texts of JSON are sent.
const TEXTS: u32 = 64;

#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) size: usize,
    pub(crate) transport: Transport,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
    /// With permessage-deflate, without context takeover, if the client offers it.
    Deflate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As many messages as the client takes.
    Feed,
    /// The client echoes, and so many messages are on their way.
    Echo { window: usize },
}

const fn feed(name: &'static str, size: usize, transport: Transport) -> Scenario {
    Scenario { name, size, transport, kind: Kind::Feed }
}

const fn echo(name: &'static str, window: usize) -> Scenario {
    Scenario { name, size: 32, transport: Transport::Plain, kind: Kind::Echo { window } }
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 7] = [
        feed("feed-64B", 64, Transport::Plain),
        feed("feed-1KiB", 1024, Transport::Plain),
        echo("ping-pong-32B", 1),
        echo("duplex-32B", 32),
        feed("feed-deflate", 1024, Transport::Deflate),
        feed("feed-tls-64B", 64, Transport::Tls),
        feed("feed-tls-1KiB", 1024, Transport::Tls),
    ];

    pub(crate) fn named(name: &str) -> Result<Scenario, String> {
        let found = Scenario::ALL.into_iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("there is no scenario {name}"))
    }

    /// What the client is told to do.
    pub(crate) fn mode(&self) -> &'static str {
        match self.kind {
            Kind::Feed => "feed",
            Kind::Echo { .. } => "echo",
        }
    }

    /// What each message begins with.
    pub(crate) fn first(&self) -> char {
        if self.transport == Transport::Deflate { '{' } else { '0' }
    }

    /// Whole frames, and their number.
    fn frames(&self, deflate: bool) -> Result<(Vec<u8>, usize), Box<dyn Error>> {
        if self.transport == Transport::Deflate {
            let mut frames = Vec::new();
            for number in 0..TEXTS {
                let text = deflated::json(number, self.size);
                if !deflate {
                    frames.extend_from_slice(&[0x81, 126]);
                    frames.extend_from_slice(&(self.size as u16).to_be_bytes());
                    frames.extend_from_slice(text.as_bytes());
                    continue;
                }
                let payload = deflated::compress(text.as_bytes())?;
                let frame = Frames::compressed(Opcode::Text, &payload, None, 1).ok_or("a text is too long")?;
                frames.extend_from_slice(frame.piece(0, frame.frame_len()));
            }
            let times = PIECE / frames.len();
            return Ok((frames.repeat(times), TEXTS as usize * times));
        }
        if deflate {
            return Err("the client offers permessage-deflate".into());
        }
        let count = match self.kind {
            Kind::Feed => PIECE / self.size,
            Kind::Echo { window } => window,
        };
        let frames = Frames::from_server(Opcode::Text, self.size, count);
        Ok((frames.piece(0, frames.frame_len() * count).to_vec(), count))
    }
}

/// An open connection to a client.
pub(crate) struct Connection {
    stream: Stream,
    /// The same socket, to set whether it blocks.
    socket: TcpStream,
    scenario: Scenario,
    /// Whole frames, which are written again and again.
    frames: Vec<u8>,
    /// Their number.
    count: usize,
    scratch: Vec<u8>,
    /// Whether an echo was compared byte by byte.
    compared: bool,
}

impl Connection {
    pub(crate) fn accept(
        socket: TcpStream,
        scenario: &Scenario,
        tls: Option<&Arc<ServerConfig>>,
    ) -> Result<Connection, Box<dyn Error>> {
        let (stream, deflate) = wire::accept(socket.try_clone()?, tls, Mode::Blocking)?;
        let (frames, count) = scenario.frames(deflate)?;
        Ok(Connection { stream, socket, scenario: *scenario, frames, count, scratch: Vec::new(), compared: false })
    }

    /// Sends messages for so long. Returns their number, which the client has confirmed.
    pub(crate) fn run(&mut self, time: Duration) -> Result<u64, Box<dyn Error>> {
        let sent = match self.scenario.kind {
            Kind::Feed => self.feed(time)?,
            Kind::Echo { window } => self.echo(time, window)?,
        };
        wire::write_all(&mut self.stream, END, &mut self.scratch)?;
        let mut reply = Vec::new();
        while reply.len() < CLIENT_HEADER || reply.len() < CLIENT_HEADER + usize::from(reply[1] & 0x7f) {
            wire::read(&mut self.stream, &mut [0; BUFFER], |bytes| {
                reply.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        let [first, _, key @ ..] = *reply.first_chunk::<CLIENT_HEADER>().ok_or("a short reply")?;
        let mut count = reply.split_off(CLIENT_HEADER);
        mask::apply(&mut count, key);
        match first {
            0x81 => {}
            // Python compresses even this.
            0xc1 => count = deflated::inflate(&count, MAX_COUNT)?,
            _ => return Err("the client's count is no text".into()),
        }
        match std::str::from_utf8(&count)?.parse::<u64>()? {
            count if count == sent => Ok(sent),
            count => Err(format!("the client counted {count} messages of {sent}").into()),
        }
    }

    fn feed(&mut self, time: Duration) -> Result<u64, Box<dyn Error>> {
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < time {
            wire::write_all(&mut self.stream, &self.frames, &mut self.scratch)?;
            sent += self.count as u64;
        }
        Ok(sent)
    }

    /// Never sleeps, as clients across a network do not cost their peer a wake-up.
    fn echo(&mut self, time: Duration, window: usize) -> Result<u64, Box<dyn Error>> {
        let reply_len = CLIENT_HEADER + self.scenario.size;
        let frame_len = self.frames.len() / self.count;
        let (mut buffer, mut pending) = (vec![0; BUFFER], Vec::new());
        let (mut sent, mut replies) = (window as u64, 0);
        wire::write_all(&mut self.stream, &self.frames, &mut self.scratch)?;
        self.socket.set_nonblocking(true)?;
        let begun = Instant::now();
        while replies < sent {
            self.stream.read(&mut buffer, |bytes| {
                pending.extend_from_slice(bytes);
                Ok(())
            })?;
            let whole = pending.len() / reply_len;
            if whole == 0 {
                if begun.elapsed() > time + wire::PATIENCE {
                    return Err("the client does not reply".into());
                }
                continue;
            }
            for reply in pending.chunks_exact(reply_len) {
                self.compare(reply)?;
            }
            pending.drain(..whole * reply_len);
            replies += whole as u64;
            if begun.elapsed() < time {
                // As much as was just received: the socket has room for it.
                wire::write_all(&mut self.stream, &self.frames[..whole * frame_len], &mut self.scratch)?;
                sent += whole as u64;
            }
        }
        self.socket.set_nonblocking(false)?;
        Ok(sent)
    }

    /// Compares the first reply with what was sent, and the header of every other.
    fn compare(&mut self, reply: &[u8]) -> Result<(), Box<dyn Error>> {
        let [0x81, length, key @ ..] = *reply.first_chunk::<CLIENT_HEADER>().ok_or("a short reply")? else {
            return Err("a reply is no text".into());
        };
        if usize::from(length) != (0x80 | self.scenario.size) {
            return Err("a reply of another size".into());
        }
        if !std::mem::replace(&mut self.compared, true) {
            let mut payload = reply[CLIENT_HEADER..].to_vec();
            mask::apply(&mut payload, key);
            let frame = &self.frames[..self.frames.len() / self.count];
            if !frame.ends_with(&payload) {
                return Err("a reply differs from its message".into());
            }
        }
        Ok(())
    }
}
