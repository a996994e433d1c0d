//! The least that a server can do: for each readiness one read and one write of the right size, and no frame looked at.
//!
//! It knows beforehand what comes and what is to be sent back; no WebSocket server can be cheaper on the same system
//! calls, but for where its buffers lie: with `--placed` they do where this library's does. It accepts as servers do,
//! until an attempt finds nobody. Only the opening handshake is answered as it is asked; and with permessage-deflate each
//! connection's first message is looked at, whose compressed bytes are then sent back as they are.

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
Answers the load generator with as little work as possible.

Usage: floor ADDR --scenario NAME [--threads N] [--placed]

  ADDR             where to listen
  --scenario NAME  which the load generator will run
  --placed         its buffers begin far into a page, not wherever memory is given out
  --threads N      threads that answer (default 1); the first accepts as well, and deals the connections out
  --help           this text
";

const LISTENER: Token = Token(usize::MAX);
const ARRIVALS: Token = Token(usize::MAX - 1);

/// What is received is received into this much, and forgotten.
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
        (0, _) => Err("--threads 0 answers nobody".into()),
        (2.., Kind::FanOut { .. }) => Err("a fan-out has one thread, which has all connections".into()),
        _ => Ok(Some(Options { addr, scenario, threads, placed })),
    }
}

fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    peers::process::raise_descriptor_limit()?;
    let listener = TcpListener::bind(options.addr.parse()?)?;
    let mut others = Vec::new();
    for _ in 1..options.threads {
        let (sender, arrivals) = mpsc::channel();
        let poll = Poll::new()?;
        others.push(Other { waker: Waker::new(poll.registry(), ARRIVALS)?, sender });
        let (scenario, placed) = (options.scenario, options.placed);
        thread::spawn(move || {
            if let Err(error) = Floor::new(poll, scenario, placed, Source::Dealt(arrivals)).run() {
                eprintln!("error: {error}");
                process::exit(1);
            }
        });
    }
    let source = Source::Accepted { listener, others, accepted: 0 };
    Floor::new(Poll::new()?, options.scenario, options.placed, source).run()
}

/// A thread that connections are dealt out to.
struct Other {
    sender: Sender<TcpStream>,
    waker: Waker,
}

/// Where a thread's connections come from.
enum Source {
    Accepted { listener: TcpListener, others: Vec<Other>, accepted: usize },
    Dealt(Receiver<TcpStream>),
}

impl Source {
    /// The next connection of this thread; those of others are on their way to them.
    fn next(&mut self) -> io::Result<Option<TcpStream>> {
        let (listener, others, accepted) = match self {
            Source::Accepted { listener, others, accepted } => (listener, others, accepted),
            Source::Dealt(arrivals) => return Ok(arrivals.try_recv().ok()),
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
    /// Unless each connection has its own.
    answers: Option<Rc<Frames>>,
    response: String,
}

struct Connection {
    stream: TcpStream,
    open: bool,
    /// With permessage-deflate known from the first message only.
    answers: Option<Rc<Frames>>,
    received: u64,
    /// Bytes to be written, and where in the answer they begin.
    owed: usize,
    offset: usize,
}

impl Floor {
    fn new(poll: Poll, scenario: Scenario, placed: bool, source: Source) -> Floor {
        let deflate = matches!(scenario.kind, Kind::Deflate { .. });
        let answers = || {
            let answers = Frames::from_server(scenario.opcode, scenario.size, scenario.burst());
            Rc::new(if placed { answers.placed() } else { answers })
        };
        Floor {
            poll,
            source,
            connections: Vec::new(),
            free: Vec::new(),
            scenario,
            placed,
            answers: (!deflate).then(answers),
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
                    LISTENER | ARRIVALS => self.arrive()?,
                    // An error is a client's that has gone.
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

    fn arrive(&mut self) -> io::Result<()> {
        while let Some(mut stream) = self.source.next()? {
            let index = self.free.pop().unwrap_or(self.connections.len());
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            let connection =
                Connection { stream, open: false, answers: self.answers.clone(), received: 0, owed: 0, offset: 0 };
            match self.connections.get_mut(index) {
                Some(place) => *place = Some(connection),
                None => self.connections.push(Some(connection)),
            }
        }
        Ok(())
    }

    fn ready(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        if !connection.open {
            return connection.answer_handshake(buffer, &self.response);
        }
        loop {
            let read = match connection.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return connection.flush(),
                Err(error) => return Err(error),
            };
            let owed = connection.received(&buffer[..read], &self.scenario)?;
            if let Kind::FanOut { .. } = self.scenario.kind {
                return self.publish(owed);
            }
            connection.owed += owed;
            connection.flush()?;
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    /// The audience of a fan-out is the load generator's: if one fails, so will the run.
    fn publish(&mut self, owed: usize) -> io::Result<()> {
        for connection in self.connections.iter_mut().flatten().filter(|connection| connection.open) {
            connection.owed += owed;
            connection.flush()?;
        }
        Ok(())
    }
}

/// The answers of a connection whose first message this is: the same compressed bytes.
fn same_payload(read: &[u8], scenario: &Scenario) -> io::Result<Frames> {
    let parsed = frames::parse_compressed(scenario.opcode, read).map_err(io::Error::other)?;
    let frames = parsed.and_then(|(_, payload)| Frames::compressed(scenario.opcode, &payload, None, scenario.burst()));
    frames.ok_or_else(|| io::Error::other("the load generator's first message comes in one piece"))
}

/// How many bytes of answers belong to so many bytes of messages: all but each frame's masking key.
fn owed_after(received: u64, frame_len: u64) -> u64 {
    received / frame_len * (frame_len - 4) + (received % frame_len).saturating_sub(4)
}

impl Connection {
    fn answer_handshake(&mut self, buffer: &mut [u8], response: &str) -> io::Result<()> {
        let read = match self.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if !buffer[..read].ends_with(handshake::END) {
            return Err(io::Error::other("the load generator's head comes in one piece"));
        }
        self.open = true;
        self.stream.write_all(response.as_bytes())
    }

    /// Answers how many bytes are owed for what was read.
    fn received(&mut self, read: &[u8], scenario: &Scenario) -> io::Result<usize> {
        let answers = match &self.answers {
            Some(answers) => answers,
            None => self.answers.insert(Rc::new(same_payload(read, scenario)?)),
        };
        // Of a client's frame: as long as the answer, and its masking key.
        let frame_len = answers.frame_len() as u64 + 4;
        let answered = owed_after(self.received, frame_len);
        self.received += read.len() as u64;
        Ok((owed_after(self.received, frame_len) - answered) as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(answers) = &self.answers else { return Ok(()) };
        while self.owed > 0 {
            match self.stream.write(answers.piece(self.offset, self.owed)) {
                Ok(written) => {
                    self.owed -= written;
                    self.offset = (self.offset + written) % answers.frame_len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
