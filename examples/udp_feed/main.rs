//! Datagrams in, WebSocket messages out, and a web page that plots them.
//!
//! ```sh
//! cargo run --release --example udp_feed
//! while sleep 0.1; do echo $((RANDOM % 100)) >/dev/udp/127.0.0.1/8081; done
//! ```
//!
//! Then open `http://127.0.0.1:8080/`. A page that comes late is sent the last datagram, and one that comes back is told how many it
//! has missed.
//!
//! Every datagram is also sent back to its sender. A stranger could forge that
//! address and so aim the answers at others: make the UDP port reachable only for senders that you trust.

use std::error::Error;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lexopt::prelude::*;
use threadbare::{Handler, MessageRef, OriginPolicy, Request, Server, Since, Socket, Topic, TopicConfig, TopicEvent};

const USAGE: &str = "\
Datagrams in, WebSocket messages out, and a web page that plots them.

Usage: udp_feed [ADDR] [OPTIONS]

  ADDR        where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --udp ADDR  where datagrams come in (default 127.0.0.1:8081)
  --help      this text
";

/// The UDP thread checks at least every 200 ms whether it should end.
const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// The topic of the datagrams.
const DATAGRAMS: &str = "datagrams";

/// How long a datagram is kept for a viewer that comes: as long as the page would show it.
const MAX_AGE: Duration = Duration::from_secs(30);

/// The handler of a viewer. It ignores the messages that a viewer sends.
struct Viewer {
    /// Up to where the viewer has the datagrams, if it comes back.
    since: Since,
}

impl Viewer {
    fn new(request: &Request) -> Viewer {
        let position = request.query().and_then(|query| query.strip_prefix("since=")).map(str::parse);
        Viewer { since: position.and_then(Result::ok).map_or(Since::Oldest, Since::Position) }
    }
}

impl Handler for Viewer {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let Ok(begun) = socket.subscribe_since(DATAGRAMS, self.since) else { return }; // it is closing already
        // It is not known how many were missed while another process was here.
        let missed = Some(begun.missed).filter(|missed| *missed < u64::MAX);
        let missed = missed.map_or_else(|| "null".to_owned(), |missed| missed.to_string());
        socket.send(format!(r#"{{"position":"{}","missed":{missed}}}"#, begun.position));
    }

    fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
}

struct Options {
    addr: String,
    udp: String,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let udp =
        UdpSocket::bind(&options.udp).map_err(|error| format!("cannot listen on udp://{}: {error}", options.udp))?;
    udp.set_read_timeout(Some(READ_TIMEOUT))?;

    // The page shows a command that sends to this address.
    let html = include_str!("page.html").replace("{udp}", &udp.local_addr()?.to_string());
    let page = common::page::serve_plots(&html, include_str!("page.css"), include_str!("page.js"));
    let server = Server::builder()
        .origins(OriginPolicy::Any)
        // A viewer that cannot keep up misses datagrams, as with UDP, and is told how many. The feed does not wait for it.
        .topics(|_| TopicConfig::default().keep(1, 128 << 10, MAX_AGE))
        .on_topic(|event| {
            if let TopicEvent::Gap(viewer, _, missed) = event {
                let _ = viewer.send(format!(r#"{{"missed":{missed}}}"#)); // it may be gone
            }
        })
        .http(page)
        .serve(&options.addr, Viewer::new)?;
    common::announce(&server)?;
    writeln!(io::stdout(), "listening on udp://{}", udp.local_addr()?)?;

    let datagrams = server.handle().topic(DATAGRAMS)?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| feed(&udp, &datagrams, &ended));
        server.join();
        ended.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Sends each datagram back and on to all viewers, until `ended`.
fn feed(udp: &UdpSocket, datagrams: &Topic, ended: &AtomicBool) {
    let mut buffer = vec![0; 65_535]; // the largest datagram there is
    while !ended.load(Ordering::Relaxed) {
        let (length, sender) = match udp.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if is_expected(&error) => continue,
            Err(error) => {
                log::warn!("receiving a datagram: {error}");
                thread::sleep(READ_TIMEOUT);
                continue;
            }
        };
        let datagram = &buffer[..length];
        if let Err(error) = udp.send_to(datagram, sender) {
            log::warn!("answering {sender}: {error}");
        }
        datagrams.publish(datagram);
    }
}

/// When the read timeout is over, Unix returns `WouldBlock` and Windows `TimedOut`. If an earlier answer was not
/// received, Windows returns `ConnectionReset` here.
fn is_expected(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionReset | Interrupted | TimedOut | WouldBlock)
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut addr = None;
    let mut udp = "127.0.0.1:8081".to_owned();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("udp") => udp = parser.value()?.string()?,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    let addr = addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Ok(Some(Options { addr, udp }))
}
