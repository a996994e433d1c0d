//! A client that is measured: it receives a feed, or echoes, and says how many messages came when it is asked.

mod asynchronous;
#[cfg(feature = "deflate")]
mod bare;
mod blocking;
mod target;

use std::error::Error;
use std::process::ExitCode;

use lexopt::prelude::*;
use target::Target;

type Outcome = Result<(), Box<dyn Error>>;

const USAGE: &str = "\
A WebSocket client to be measured.

Usage: peer-clients NAME ADDR --mode MODE --size BYTES

  NAME          which client; an unknown name lists them
  ADDR          the server's address
  --mode MODE   feed: receive; echo: send each message back
  --size BYTES  the size of a message
  --first BYTE  its first byte (default 0)
  --root FILE   TLS, with a server that has this certificate (built with --features tls)
  --deflate     permessage-deflate, of clients that have it (built with --features deflate)
  --help        print this text
";

/// What ends a slice: the client replies with the number of messages since the last one.
const END: &[u8] = b"end";

/// Checks and counts what a client receives.
struct Received {
    size: usize,
    first: u8,
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
    /// Checks the size and the first byte of a message.
    #[inline]
    fn take(&mut self, payload: &[u8]) -> Result<Reply, Box<dyn Error>> {
        if payload.len() == self.size && payload.first() == Some(&self.first) {
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
    target: Target,
    received: Received,
}

fn main() -> ExitCode {
    peer_common::run(USAGE, parse, run)
}

fn run(Options { name, target, received }: Options) -> Outcome {
    let target = &target;
    match name.as_str() {
        "tungstenite" => blocking::tungstenite(target, received),
        "threadbare-socket" => blocking::socket(target, received),
        "threadbare-socket-lent" => blocking::socket_lent(target, received),
        "threadbare-client" => blocking::client(target, received),
        "threadbare-client-lent" => blocking::client_lent(target, received),
        "threadbare-inline" => blocking::inline(target, received),
        #[cfg(feature = "deflate")]
        "bare-inflate" => bare::inflate(target, received),
        "tokio-tungstenite" => asynchronous::run(asynchronous::tokio_tungstenite(target, received)),
        "fastwebsockets" => asynchronous::run(asynchronous::fastwebsockets(target, received)),
        other => Err(format!("there is no client {other}").into()),
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let (mut name, mut addr, mut mode, mut size) = (None, None, "feed".to_owned(), 64);
    let mut first = b'0';
    #[cfg_attr(not(feature = "tls"), expect(unused_mut))]
    let mut root = None;
    #[cfg_attr(not(feature = "deflate"), expect(unused_mut))]
    let mut deflate = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("mode") => mode = parser.value()?.string()?,
            Long("size") => size = parser.value()?.parse()?,
            Long("first") => first = parser.value()?.parse::<char>()?.try_into().map_err(|_| "--first: one byte")?,
            #[cfg(feature = "tls")]
            Long("root") => root = Some(parser.value()?.into()),
            #[cfg(feature = "deflate")]
            Long("deflate") => deflate = true,
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
    let target = Target { addr, root, deflate };
    Ok(Some(Options { name, target, received: Received { size, first, echoes, count: 0 } }))
}
