//! The floor: the least work that a server can do. For each readiness event it does one read and one write of the right
//! size, and it parses no frame.
//!
//! It knows in advance what it receives and what it replies. No WebSocket server can be cheaper with the same system calls,
//! except by where its buffers are: with `--placed` they are where this library's are. Like other servers it accepts until
//! there is no connection left. It waits for the complete opening handshake. With permessage-deflate it also parses each
//! connection's first message, whose compressed bytes it then sends back. With TLS it opens the records of a read in place,
//! and seals the reply in place for one write.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use lexopt::prelude::*;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use peers::frames::{self, Frames};
use peers::handshake;
use peers::program;
use peers::scenario::{Kind, LARGE, Scenario};
use peers::tls::{self, Handshake, Stream};
use rustls::ServerConfig;

const USAGE: &str = "\
Serves the load generator with as little work as possible.

Usage: floor ADDR --scenario NAME [--threads N] [--placed] [--cert FILE --key FILE]

  ADDR             where to listen
  --scenario NAME  the scenario that the load generator will run
  --placed         buffers begin at three quarters of a page, not where the allocator puts them
  --threads N      threads that serve (default 1); the first one also accepts, and distributes the connections
  --cert FILE, --key FILE
                   the certificate and its key, for a scenario with TLS
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
    tls: Option<Arc<ServerConfig>>,
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let (mut addr, mut scenario, mut threads, mut placed) = (None, None, 1, false);
    let (mut cert, mut key) = (None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("scenario") => scenario = Some(parser.value()?.parse_with(Scenario::named)?),
            Long("placed") => placed = true,
            Long("cert") => cert = Some(PathBuf::from(parser.value()?)),
            Long("key") => key = Some(PathBuf::from(parser.value()?)),
            Long("threads") => threads = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    let (Some(addr), Some(scenario)) = (addr, scenario) else { return Err("ADDR and --scenario are needed".into()) };
    let tls = match (scenario.tls, cert.zip(key)) {
        (false, _) => None,
        (true, Some((cert, key))) => {
            Some(tls::server_config(&cert, &key).map_err(|error| format!("--cert and --key: {error}"))?)
        }
        (true, None) => return Err("--cert and --key are needed".into()),
    };
    match (threads, scenario.kind) {
        (0, _) => Err("--threads: at least 1".into()),
        (2.., Kind::FanOut { .. }) => Err("a fan-out needs one thread that has all connections".into()),
        _ => Ok(Some(Options { addr, scenario, threads, placed, tls })),
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
        let (scenario, placed, tls) = (options.scenario, options.placed, options.tls.clone());
        thread::spawn(move || {
            if let Err(error) = Floor::new(poll, scenario, placed, tls, Source::HandedOver(connections)).run() {
                eprintln!("error: {error}");
                process::exit(1);
            }
        });
    }
    let source = Source::Accepted { listener, others, accepted: 0 };
    Floor::new(Poll::new()?, options.scenario, options.placed, options.tls.clone(), source).run()
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
    tls: Option<Arc<ServerConfig>>,
    /// Sealed bytes on their way to a socket.
    scratch: Vec<u8>,
    /// `None` if each connection has its own.
    replies: Option<Rc<Frames>>,
    /// What idle connections over TLS are sent after the first reply.
    large: Option<Rc<Frames>>,
    response: String,
}

struct Connection {
    stream: Stream,
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
    fn new(poll: Poll, scenario: Scenario, placed: bool, tls: Option<Arc<ServerConfig>>, source: Source) -> Floor {
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
            large: (scenario.tls && scenario.kind == Kind::Idle)
                .then(|| Rc::new(Frames::from_server(scenario.opcode, LARGE, 1))),
            tls,
            scratch: Vec::new(),
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
            let stream = match &self.tls {
                Some(config) => Stream::Handshaking(Box::new(Handshake::server(stream, config)?)),
                None => Stream::Plain(stream),
            };
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
            connection.accept_handshake(buffer, &self.response)?;
            if let Some(replies) = connection.replies.as_ref().filter(|_| connection.open && self.scenario.own_records)
            {
                connection.stream.limit_records(replies.frame_len());
            }
            return Ok(());
        }
        loop {
            let Connection { stream, replies, received, .. } = connection;
            let mut unsent = 0;
            if let Some(large) = self.large.as_ref().filter(|_| *received > 0) {
                (*replies, *received) = (Some(Rc::clone(large)), 0);
            }
            let may_have_more = stream.read(buffer, |read| {
                unsent += replies_for(replies, received, read, &self.scenario)?;
                Ok(())
            })?;
            if let Kind::FanOut { .. } = self.scenario.kind {
                return self.publish(unsent);
            }
            connection.unsent += unsent;
            connection.flush(&mut self.scratch)?;
            if !may_have_more {
                return Ok(());
            }
        }
    }

    /// All receivers belong to the load generator: if one fails, the run fails anyway.
    fn publish(&mut self, unsent: usize) -> io::Result<()> {
        for connection in self.connections.iter_mut().flatten().filter(|connection| connection.open) {
            connection.unsent += unsent;
            connection.flush(&mut self.scratch)?;
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

/// Returns how many bytes of replies belong to what was read.
fn replies_for(
    replies: &mut Option<Rc<Frames>>,
    received: &mut u64,
    read: &[u8],
    scenario: &Scenario,
) -> io::Result<usize> {
    let replies = match replies {
        Some(replies) => replies,
        None => replies.insert(Rc::new(replies_to(read, scenario)?)),
    };
    // A client's frame is longer than the reply by the masking key.
    let frame_len = replies.frame_len() as u64 + 4;
    let before = reply_bytes(*received, frame_len);
    *received += read.len() as u64;
    Ok((reply_bytes(*received, frame_len) - before) as usize)
}

impl Connection {
    fn accept_handshake(&mut self, buffer: &mut [u8], response: &str) -> io::Result<()> {
        if !self.stream.is_ready()? {
            return Ok(());
        }
        let mut is_complete = false;
        self.stream.read(buffer, |read| match read.ends_with(handshake::END) {
            true => {
                is_complete = true;
                Ok(())
            }
            false => Err(io::Error::other("the load generator's request arrives in one piece")),
        })?;
        if is_complete {
            self.open = true;
            if self.stream.write_first(response.as_bytes())? < response.len() {
                return Err(io::Error::other("a new socket has room for a response"));
            }
        }
        Ok(())
    }

    fn flush(&mut self, scratch: &mut Vec<u8>) -> io::Result<()> {
        let Some(replies) = &self.replies else { return Ok(()) };
        if !self.stream.flush()? {
            return Ok(());
        }
        while self.unsent > 0 {
            match self.stream.write(replies.piece(self.offset, self.unsent), scratch)? {
                0 => return Ok(()),
                written => {
                    self.unsent -= written;
                    self.offset = (self.offset + written) % replies.frame_len();
                }
            }
        }
        Ok(())
    }
}
