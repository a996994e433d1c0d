//! A chat with rooms, and the web page to use it on the same port.
//!
//! ```sh
//! cargo run --release --example chat -- 127.0.0.1:8080
//! ```
//!
//! Then open `http://127.0.0.1:8080/` in two windows, or `https://` if there are `--cert` and `--key`. The page is in `page.html`, and the messages are in `rooms.rs`.
//! This file makes a server of the two, and with `--redis` one chat of many servers.

use std::error::Error;
use std::process::ExitCode;

use common::redis::Joined;
use common::tls::Certificate;
use lexopt::prelude::*;
use rooms::Rooms;
use threadbare::{Accept, Config, Event, Request, Response, Server, SlowConsumer};

mod rooms;

const USAGE: &str = "\
A chat with rooms, and the web page to use it on the same port.

Usage: chat [ADDR] [OPTIONS]

  ADDR                    where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --workers N             worker threads
  --cert FILE --key FILE  TLS, with this certificate chain and private key in PEM
                          (built with --features rustls-tls-webpki-roots)
  --redis URL             share what is said with the other servers at this Redis, such as redis://127.0.0.1:6379
                          (built with --features redis)
  --help                  this text
";

/// The size of the longest message: its text with every character as two JSON escapes of six bytes.
const MAX_MESSAGE_SIZE: usize = rooms::MAX_TEXT * 12 + 1024;

struct Options {
    addr: String,
    workers: Option<usize>,
    certificate: Certificate,
    joined: Joined,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let config = Config::default()
        .max_message_size(MAX_MESSAGE_SIZE)
        // One thread tells all clients who comes and goes, so it must not wait for one whose network is slow.
        .slow_consumer(SlowConsumer::Disconnect);
    let page = common::page::serve(include_str!("page.html"), include_str!("page.css"), include_str!("page.js"));

    // `origins` is not set: by default, only a page from this host may connect.
    let builder = Server::builder().config(config).http(page).on_request(only_chat);
    let builder = options.joined.apply(rooms::topics(builder), "chat:");
    let mut builder = options.certificate.apply(builder)?;
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    let server = builder.bind(&options.addr)?;
    options.certificate.announce(server.handle())?;

    // Only this thread uses the rooms, so they need no lock.
    let mut rooms = Rooms::new(server.handle());
    for event in &server {
        match event {
            Event::Open(peer, _) => log::info!("{} connected", peer.addr()),
            Event::Message(peer, message) => rooms.receive(&peer, &message),
            Event::Close(peer, reason) => {
                log::info!("{} left: {reason}", peer.addr());
                rooms.leave(&peer);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Accepts WebSocket handshakes at `/ws` only.
fn only_chat(request: &Request) -> Result<Accept, Response> {
    match request.path() {
        "/ws" => Ok(Accept::new()),
        _ => Err(Response::new(404).text("the chat is at /ws\n")),
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut addr = None;
    let mut workers = None;
    let mut certificate = Certificate::default();
    let mut joined = Joined::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("workers") => workers = Some(parser.value()?.parse()?),
            Long("cert") => certificate.set_cert(parser.value()?),
            Long("key") => certificate.set_key(parser.value()?),
            Long("redis") => joined.set(parser.value()?)?,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    certificate.check()?;
    let addr = addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Ok(Some(Options { addr, workers, certificate, joined }))
}
