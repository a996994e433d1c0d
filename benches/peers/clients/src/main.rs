//! A client that is measured: it receives a feed, or echoes, and says how many messages came when it is asked.

mod asynchronous;
mod blocking;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use lexopt::prelude::*;

type Outcome = Result<(), Box<dyn Error>>;

const USAGE: &str = "\
A WebSocket client to be measured.

Usage: peer-clients NAME ADDR --mode MODE --size BYTES

  NAME          which client; an unknown name lists them
  ADDR          the server's address
  --mode MODE   feed: receive; echo: send each message back
  --size BYTES  the size of a message
  --help        print this text
";

/// What ends a slice: the client replies with the number of messages since the last one.
const END: &[u8] = b"end";

/// Checks and counts what a client receives.
struct Received {
    size: usize,
    echoes: bool,
    count: u64,
}

/// What a client replies to a message.
enum Reply {
    Nothing,
    TheSame,
    Count(String),
}

impl Received {
    /// Checks a message. The server's text begins with `0`, and the last byte follows from the size.
    #[inline]
    fn take(&mut self, payload: &[u8]) -> Result<Reply, Box<dyn Error>> {
        if payload.len() == self.size && payload.first() == Some(&b'0') {
            self.count += 1;
            return Ok(if self.echoes { Reply::TheSame } else { Reply::Nothing });
        }
        if payload != END {
            return Err(format!("a message of {} bytes, and {} were expected", payload.len(), self.size).into());
        }
        Ok(Reply::Count(std::mem::take(&mut self.count).to_string()))
    }
}

struct Options {
    name: String,
    addr: SocketAddr,
    received: Received,
}

fn main() -> ExitCode {
    let options = match parse(lexopt::Parser::from_env()) {
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
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(Options { name, addr, received }: Options) -> Outcome {
    match name.as_str() {
        "tungstenite" => blocking::tungstenite(addr, received),
        "threadbare-socket" => blocking::socket(addr, received),
        "threadbare-socket-lent" => blocking::socket_lent(addr, received),
        "threadbare-client" => blocking::client(addr, received),
        "threadbare-client-lent" => blocking::client_lent(addr, received),
        "threadbare-inline" => blocking::inline(addr, received),
        "tokio-tungstenite" => asynchronous::run(asynchronous::tokio_tungstenite(addr, received)),
        "fastwebsockets" => asynchronous::run(asynchronous::fastwebsockets(addr, received)),
        other => Err(format!("there is no client {other}").into()),
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let (mut name, mut addr, mut mode, mut size) = (None, None, "feed".to_owned(), 64);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("mode") => mode = parser.value()?.string()?,
            Long("size") => size = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if name.is_none() => name = Some(value.string()?),
            Value(value) if addr.is_none() => addr = Some(value.parse()?),
            _ => return Err(arg.unexpected()),
        }
    }
    let (Some(name), Some(addr)) = (name, addr) else { return Err("NAME and ADDR are needed".into()) };
    let echoes = match mode.as_str() {
        "feed" => false,
        "echo" => true,
        _ => return Err("--mode: feed or echo".into()),
    };
    Ok(Some(Options { name, addr, received: Received { size, echoes, count: 0 } }))
}
