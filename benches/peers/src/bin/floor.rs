//! The floor: the least work that a server can do. For each readiness event it does one read and one write of the right
//! size, and it parses no frame.
//!
//! It knows in advance what it receives and what it replies. No WebSocket server can be cheaper with the same system calls,
//! except by where its buffers are: with `--placed` they are where this library's are. Like other servers it accepts until
//! there is no connection left. It waits for the complete opening handshake. With permessage-deflate it also parses each
//! connection's first message, whose compressed bytes it then sends back.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::process::{self, ExitCode};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use lexopt::prelude::*;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use peers::frames::{self, Frames};
use peers::handshake;
use peers::program;
use peers::scenario::{Kind, Scenario};

const USAGE: &str = "\
Serves the load generator with as little work as possible.

Usage: floor ADDR --scenario NAME [--threads N] [--placed]

  ADDR             where to listen
  --scenario NAME  the scenario that the load generator will run
  --placed         buffers begin at three quarters of a page, not where the allocator puts them
  --threads N      threads that serve (default 1); the first one also accepts, and distributes the connections
  --help           print this text
";

const LISTENER: Token = Token(usize::MAX);
const HANDED_OVER: Token = Token(usize::MAX - 1);

/// The size of the receive buffer, whose contents are ignored.
const BUFFER: usize = 256 << 10;

fn main() -> ExitCode {
    program::run(USAGE, parse, serve)
}

struct Options {
    addr: String,
    scenario: Scenario,
    threads: usize,
    placed: bool,
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let (mut addr, mut scenario, mut threads, mut placed) = (None, None, 1, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("scenario") => scenario = Some(parser.value()?.parse_with(Scenario::named)?),
            Long("placed") => placed = true,
            Long("threads") => threads = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    let (Some(addr), Some(scenario)) = (addr, scenario) else { return Err("ADDR and --scenario are needed".into()) };
    match (threads, scenario.kind) {
        (0, _) => Err("--threads: at least 1".into()),
        (2.., Kind::FanOut { .. }) => Err("a fan-out needs one thread that has all connections".into()),
        _ => Ok(Some(Options { addr, scenario, threads, placed })),
    }
}

fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    peers::process::raise_descriptor_limit()?;
    let listener = TcpListener::bind(options.addr.parse()?)?;
    let mut others = Vec::new();
    for _ in 1..options.threads {
        let (sender, connections) = mpsc::channel();
        let poll = Poll::new()?;
        others.push(OtherThread { waker: Waker::new(poll.registry(), HANDED_OVER)?, sender });
        let (scenario, placed) = (options.scenario, options.placed);
        thread::spawn(move || {
            if let Err(error) = Floor::new(poll, scenario, placed, Source::HandedOver(connections)).run() {
                eprintln!("error: {error}");
                process::exit(1);
            }
        });
    }
    let source = Source::Accepted { listener, others, accepted: 0 };
    Floor::new(Poll::new()?, options.scenario, options.placed, source).run()
}

/// A thread that accepted connections are handed over to.
struct OtherThread {
    sender: Sender<TcpStream>,
    waker: Waker,
}

/// Where a thread's connections come from.
enum Source {
    Accepted { listener: TcpListener, others: Vec<OtherThread>, accepted: usize },
    HandedOver(Receiver<TcpStream>),
}

impl Source {
    /// Returns the next connection of this thread. Hands those of other threads over.
    fn next(&mut self) -> io::Result<Option<TcpStream>> {
        let (listener, others, accepted) = match self {
            Source::Accepted { listener, others, accepted } => (listener, others, accepted),
            Source::HandedOver(connections) => return Ok(connections.try_recv().ok()),
        };
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            *accepted += 1;
            match others.get(*accepted % (others.len() + 1)) {
                Some(other) => {
                    other.sender.send(stream).map_err(io::Error::other)?;
                    other.waker.wake()?;
                }
                None => return Ok(Some(stream)),
            }
        }
    }
}

struct Floor {
    poll: Poll,
    source: Source,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    scenario: Scenario,
    placed: bool,
    /// `None` if each connection has its own.
    replies: Option<Rc<Frames>>,
    response: String,
}

struct Connection {
    stream: TcpStream,
    open: bool,
    /// With permessage-deflate, known once the first message is received.
    replies: Option<Rc<Frames>>,
    received: u64,
    /// How many bytes are still to be written.
    unsent: usize,
    /// Where in the reply they begin.
    offset: usize,
}

impl Floor {
    fn new(poll: Poll, scenario: Scenario, placed: bool, source: Source) -> Floor {
        let deflate = matches!(scenario.kind, Kind::Deflate { .. });
        let replies = || {
            let replies = Frames::from_server(scenario.opcode, scenario.size, scenario.burst());
            Rc::new(if placed { replies.placed() } else { replies })
        };
        Floor {
            poll,
            source,
            connections: Vec::new(),
            free: Vec::new(),
            scenario,
            placed,
            replies: (!deflate).then(replies),
            response: handshake::response(deflate),
        }
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        if let Source::Accepted { listener, .. } = &mut self.source {
            self.poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        let mut events = Events::with_capacity(1024);
        let (mut buffer, front) = if self.placed { frames::placed(BUFFER) } else { (vec![0; BUFFER], 0) };
        let buffer = &mut buffer[front..];
        loop {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                match event.token() {
                    LISTENER | HANDED_OVER => self.accept_new()?,
                    // An error means that the client has gone.
                    Token(index) => {
                        if self.ready(index, buffer).is_err() {
                            self.connections[index] = None;
                            self.free.push(index);
                        }
                    }
                }
            }
        }
    }

    fn accept_new(&mut self) -> io::Result<()> {
        while let Some(mut stream) = self.source.next()? {
            let index = self.free.pop().unwrap_or(self.connections.len());
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            let connection =
                Connection { stream, open: false, replies: self.replies.clone(), received: 0, unsent: 0, offset: 0 };
            match self.connections.get_mut(index) {
                Some(slot) => *slot = Some(connection),
                None => self.connections.push(Some(connection)),
            }
        }
        Ok(())
    }

    fn ready(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        if !connection.open {
            return connection.accept_handshake(buffer, &self.response);
        }
        loop {
            let read = match connection.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return connection.flush(),
                Err(error) => return Err(error),
            };
            let unsent = connection.received(&buffer[..read], &self.scenario)?;
            if let Kind::FanOut { .. } = self.scenario.kind {
                return self.publish(unsent);
            }
            connection.unsent += unsent;
            connection.flush()?;
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    /// All receivers belong to the load generator: if one fails, the run fails anyway.
    fn publish(&mut self, unsent: usize) -> io::Result<()> {
        for connection in self.connections.iter_mut().flatten().filter(|connection| connection.open) {
            connection.unsent += unsent;
            connection.flush()?;
        }
        Ok(())
    }
}

/// The replies on a connection whose first message was read: the same compressed bytes.
fn replies_to(read: &[u8], scenario: &Scenario) -> io::Result<Frames> {
    let parsed = frames::parse_compressed(scenario.opcode, read).map_err(io::Error::other)?;
    let frames = parsed.and_then(|(_, payload)| Frames::compressed(scenario.opcode, &payload, None, scenario.burst()));
    frames.ok_or_else(|| io::Error::other("the load generator's first message arrives in one piece"))
}

/// How many bytes of replies belong to `received` bytes of messages: all except the masking keys.
fn reply_bytes(received: u64, frame_len: u64) -> u64 {
    received / frame_len * (frame_len - 4) + (received % frame_len).saturating_sub(4)
}

impl Connection {
    fn accept_handshake(&mut self, buffer: &mut [u8], response: &str) -> io::Result<()> {
        let read = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if !buffer[..read].ends_with(handshake::END) {
            return Err(io::Error::other("the load generator's request arrives in one piece"));
        }
        self.open = true;
        self.stream.write_all(response.as_bytes())
    }

    /// Returns how many bytes of replies belong to what was read.
    fn received(&mut self, read: &[u8], scenario: &Scenario) -> io::Result<usize> {
        let replies = match &self.replies {
            Some(replies) => replies,
            None => self.replies.insert(Rc::new(replies_to(read, scenario)?)),
        };
        // A client's frame is longer than the reply by the masking key.
        let frame_len = replies.frame_len() as u64 + 4;
        let before = reply_bytes(self.received, frame_len);
        self.received += read.len() as u64;
        Ok((reply_bytes(self.received, frame_len) - before) as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(replies) = &self.replies else { return Ok(()) };
        while self.unsent > 0 {
            match self.stream.write(replies.piece(self.offset, self.unsent)) {
                Ok(written) => {
                    self.unsent -= written;
                    self.offset = (self.offset + written) % replies.frame_len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
