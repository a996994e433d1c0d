//! The library's servers and clients that are measured and are none of its examples.

mod clients;
mod servers;
mod topic;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use peer_common::large::Large;
use threadbare::{Config, DeflateConfig, Receive};

const USAGE: &str = "\
A server or client of the library, to be measured.

Usage: peer-threadbare WAY ADDR [OPTIONS]

  WAY              handler, events: a server that receives in parts
                   client, socket: a client that does
                   topic: a server that publishes each message to all, and closes none that is slow
  ADDR             where to listen, or to connect to
  --direction D    in: receive a large message, and reply with its checksum
                   out: send one, when a message says so
                   echo: send back what arrives
  --transport T    plain, tls or deflate
  --piece FILE     what a large message repeats
  --size BYTES     its size
  --certificate DIR
                   where chain.pem and key.pem are
  --help           print this text
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
    Echo,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
    Deflate,
}

struct Options {
    way: String,
    addr: String,
    direction: Direction,
    transport: Transport,
    message: Large,
    certificate: PathBuf,
}

impl Options {
    /// Fragments of messages of any size, and no pings: the other end does not answer them.
    fn config(&self) -> Config {
        let config = Config::default().ping_interval(None).receive(Receive::Fragments { max_size: None });
        match self.transport {
            Transport::Deflate => config.deflate(DeflateConfig::default()),
            Transport::Plain | Transport::Tls => config,
        }
    }
}

fn main() -> ExitCode {
    peer_common::run(USAGE, parse, |options| match options.way.as_str() {
        "handler" => servers::handler(options),
        "events" => servers::events(&options),
        "client" => clients::client(&options),
        "socket" => clients::socket(&options),
        "topic" => topic::serve(&options.addr),
        other => Err(format!("there is no way {other}").into()),
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, Box<dyn Error>> {
    let (mut way, mut addr, mut piece, mut certificate) = (None, None, None, PathBuf::new());
    let (mut direction, mut transport, mut size) = (Direction::Echo, Transport::Plain, 0);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("direction") => {
                direction = match parser.value()?.string()?.as_str() {
                    "in" => Direction::In,
                    "out" => Direction::Out,
                    "echo" => Direction::Echo,
                    _ => return Err("--direction: in, out or echo".into()),
                }
            }
            Long("transport") => {
                transport = match parser.value()?.string()?.as_str() {
                    "plain" => Transport::Plain,
                    "tls" => Transport::Tls,
                    "deflate" => Transport::Deflate,
                    _ => return Err("--transport: plain, tls or deflate".into()),
                }
            }
            Long("piece") => piece = Some(PathBuf::from(parser.value()?)),
            Long("size") => size = parser.value()?.parse()?,
            Long("certificate") => certificate = PathBuf::from(parser.value()?),
            Short('h') | Long("help") => return Ok(None),
            Value(value) if way.is_none() => way = Some(value.string()?),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let (Some(way), Some(addr)) = (way, addr) else { return Err("WAY and ADDR are needed".into()) };
    let message = match piece {
        Some(piece) => Large::from_file(&piece, size)?,
        None => Large { piece: Vec::new().into(), size: 0 },
    };
    Ok(Some(Options { way, addr, direction, transport, message, certificate }))
}
