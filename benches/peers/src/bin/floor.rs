//! The least that a server can do: for each readiness one read and one write of the right size, and no frame looked at.
//!
//! It knows beforehand what comes and what is to be sent back; no WebSocket server can be cheaper on the same system
//! calls. Only the opening handshake is answered as it is asked.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use lexopt::prelude::*;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use peers::frames::Frames;
use peers::handshake;
use peers::scenario::{Kind, Scenario};

const USAGE: &str = "\
Answers the load generator with as little work as possible.

Usage: floor ADDR --scenario NAME

  ADDR             where to listen
  --scenario NAME  which the load generator will run
  --help           this text
";

const LISTENER: Token = Token(usize::MAX);

/// What is received is received into this much, and forgotten.
const BUFFER: usize = 256 << 10;

fn main() -> ExitCode {
    let (addr, scenario) = match parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match Floor::new(&addr, scenario).and_then(|mut floor| floor.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<(String, Scenario)>, lexopt::Error> {
    let (mut addr, mut scenario) = (None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("scenario") => scenario = Some(parser.value()?.parse_with(Scenario::named)?),
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    match (addr, scenario) {
        (Some(addr), Some(scenario)) => Ok(Some((addr, scenario))),
        _ => Err("ADDR and --scenario are needed".into()),
    }
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    answers: Frames,
    /// Of a client's frame: as long as the answer, and its masking key.
    frame_len: u64,
    fan_out: bool,
    response: String,
}

struct Connection {
    stream: TcpStream,
    open: bool,
    received: u64,
    /// Bytes to be written, and where in the answer they begin.
    owed: usize,
    offset: usize,
}

impl Floor {
    fn new(addr: &str, scenario: Scenario) -> Result<Floor, Box<dyn Error>> {
        peers::process::raise_descriptor_limit()?;
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(addr.parse()?)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let answers = Frames::from_server(scenario.opcode, scenario.size, scenario.burst());
        Ok(Floor {
            poll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            frame_len: answers.frame_len() as u64 + 4,
            answers,
            fan_out: matches!(scenario.kind, Kind::FanOut { .. }),
            response: handshake::response(),
        })
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; BUFFER];
        loop {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    // An error is a client's that has gone.
                    Token(index) => {
                        if self.ready(index, &mut buffer).is_err() {
                            self.connections[index] = None;
                            self.free.push(index);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.connections.len());
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            let connection = Connection { stream, open: false, received: 0, owed: 0, offset: 0 };
            match self.connections.get_mut(index) {
                Some(place) => *place = Some(connection),
                None => self.connections.push(Some(connection)),
            }
        }
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
                Err(error) if error.kind() == ErrorKind::WouldBlock => return connection.flush(&self.answers),
                Err(error) => return Err(error),
            };
            let answered = owed_after(connection.received, self.frame_len);
            connection.received += read as u64;
            let owed = (owed_after(connection.received, self.frame_len) - answered) as usize;
            if self.fan_out {
                return self.publish(owed);
            }
            connection.owed += owed;
            connection.flush(&self.answers)?;
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    /// The audience of a fan-out is the load generator's: if one fails, so will the run.
    fn publish(&mut self, owed: usize) -> io::Result<()> {
        for connection in self.connections.iter_mut().flatten().filter(|connection| connection.open) {
            connection.owed += owed;
            connection.flush(&self.answers)?;
        }
        Ok(())
    }
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

    fn flush(&mut self, answers: &Frames) -> io::Result<()> {
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
