//! The server of one client: it sends frames that it encoded in advance, and checks how many the client counted.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use peers::frames::{Frames, Opcode};
use threadbare::protocol::mask;

/// A client must reply within this time.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A feed is written in pieces of about 256 KiB.
const PIECE: usize = 256 << 10;

/// What ends a run: the client replies with the number of messages.
const END: &[u8] = b"\x81\x03end";

/// The header of a client's short frame: two bytes and the masking key.
const CLIENT_HEADER: usize = 6;

#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) size: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As many messages as the client takes.
    Feed,
    /// The client echoes, and so many messages are on their way.
    Echo { window: usize },
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 4] = [
        Scenario { name: "feed-64B", size: 64, kind: Kind::Feed },
        Scenario { name: "feed-1KiB", size: 1024, kind: Kind::Feed },
        Scenario { name: "ping-pong-32B", size: 32, kind: Kind::Echo { window: 1 } },
        Scenario { name: "duplex-32B", size: 32, kind: Kind::Echo { window: 32 } },
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
}

/// An open connection to a client.
pub(crate) struct Connection {
    stream: TcpStream,
    scenario: Scenario,
    /// Whole frames, which are written again and again.
    frames: Vec<u8>,
    frame_len: usize,
    /// Whether an echo was compared byte by byte.
    compared: bool,
}

impl Connection {
    pub(crate) fn accept(stream: TcpStream, scenario: &Scenario) -> Result<Connection, Box<dyn Error>> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let stream = threadbare::WebSocket::accept(stream)?.into_inner();
        let count = match scenario.kind {
            Kind::Feed => PIECE / scenario.size,
            Kind::Echo { window } => window,
        };
        let frames = Frames::from_server(Opcode::Text, scenario.size, count);
        let frame_len = frames.frame_len();
        let frames = frames.piece(0, frame_len * count).to_vec();
        Ok(Connection { stream, scenario: *scenario, frames, frame_len, compared: false })
    }

    /// Sends messages for so long. Returns their number, which the client has confirmed.
    pub(crate) fn run(&mut self, time: Duration) -> Result<u64, Box<dyn Error>> {
        let sent = match self.scenario.kind {
            Kind::Feed => self.feed(time)?,
            Kind::Echo { window } => self.echo(time, window)?,
        };
        self.stream.write_all(END)?;
        let mut header = [0; CLIENT_HEADER];
        self.stream.read_exact(&mut header)?;
        let [0x81, length, key @ ..] = header else { return Err("the client's count is no text".into()) };
        let mut count = vec![0; usize::from(length & 0x7F)];
        self.stream.read_exact(&mut count)?;
        mask::apply(&mut count, key);
        match std::str::from_utf8(&count)?.parse::<u64>()? {
            count if count == sent => Ok(sent),
            count => Err(format!("the client counted {count} messages of {sent}").into()),
        }
    }

    fn feed(&mut self, time: Duration) -> Result<u64, Box<dyn Error>> {
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < time {
            self.stream.write_all(&self.frames)?;
            sent += (self.frames.len() / self.frame_len) as u64;
        }
        Ok(sent)
    }

    /// Never sleeps, as clients across a network do not cost their peer a wake-up.
    fn echo(&mut self, time: Duration, window: usize) -> Result<u64, Box<dyn Error>> {
        let reply_len = CLIENT_HEADER + self.scenario.size;
        let mut buffer = vec![0; reply_len * window];
        let (mut filled, mut sent, mut replies) = (0, window as u64, 0);
        self.stream.write_all(&self.frames)?;
        self.stream.set_nonblocking(true)?;
        let begun = Instant::now();
        while replies < sent {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err("the client has gone".into()),
                Ok(size) => filled += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < time + TIMEOUT => continue,
                Err(error) => return Err(error.into()),
            }
            let whole = filled / reply_len;
            for reply in buffer.chunks_exact(reply_len).take(whole) {
                self.compare(reply)?;
            }
            buffer.copy_within(whole * reply_len..filled, 0);
            filled -= whole * reply_len;
            replies += whole as u64;
            if whole > 0 && begun.elapsed() < time {
                // As much as was just received: the socket has room for it.
                self.stream.write_all(&self.frames[..whole * self.frame_len])?;
                sent += whole as u64;
            }
        }
        self.stream.set_nonblocking(false)?;
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
            if payload != self.frames[self.frame_len - self.scenario.size..self.frame_len] {
                return Err("a reply differs from its message".into());
            }
        }
        Ok(())
    }
}
