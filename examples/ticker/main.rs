//! Prices that change faster than some can read: each symbol has a topic, of which a slow reader gets the newest price.
//!
//! ```sh
//! cargo run --release --example ticker
//! ```
//!
//! Open `http://127.0.0.1:8080/`, and turn on the slow reader. Its prices jump, but they are not old: while it reads, the topic
//! waits with the newest price, and leaves out those between. Each one that is left out is counted and told.
//!
//! # How the reader can be slow
//!
//! A page can not read its WebSocket slowly: the browser takes in whatever arrives, and lets it wait for the page. (With
//! `WebSocketStream`, which Chromium alone has, a page stops reading when it wants to. But then 100 kB and more wait in buffers
//! that it does not see, and their prices would be old.) So the slow reader is a client in this process, with a connection of
//! its own to this server. It has a small receive buffer, and takes one price every [`PAUSE`]. The rest is what happens with any
//! client that is slow: its system's buffer fills, TCP tells the server to stop, and the server does. What the client has read is
//! passed on to the page through another connection.
//!
//! What waits in the systems' buffers is as old as the reader is slow, so for prices they should be small. Here the server's
//! have [`SEND_BUFFER`].

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use common::Chain;
use lexopt::prelude::*;
use socket2::{Domain, SockRef, Type};
use threadbare::{
    Accept, CloseCode, Handler, Listener, MessageRef, Peer, PeerAddr, Request, Response, Server, ServerHandle, Since,
    Slow, Socket, Topic, TopicConfig, TopicEvent, WebSocket,
};

const USAGE: &str = "\
Prices that change faster than some can read, and a web page that plots them.

Usage: ticker [ADDR] [OPTIONS]

  ADDR      where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --rate N  how many prices each symbol has in a second (default 250)
  --help    this text
";

/// The symbols, and what they cost at first. The page has a plot for each.
const SYMBOLS: [(&str, f64); 4] = [("ASH", 48.0), ("ELM", 120.0), ("FIR", 230.0), ("OAK", 515.0)];

/// The slow reader takes a price every 5 ms, which is 200 a second.
const PAUSE: Duration = Duration::from_millis(5);

/// The send buffer of each connection. Larger is faster where a client is far away; in a smaller one fewer old prices wait.
const SEND_BUFFER: usize = 4 << 10;

/// The receive buffer of the slow reader.
const RECEIVE_BUFFER: usize = 2 << 10;

/// How many slow readers there are at most: each has a thread.
const MAX_SLOW: usize = 8;

/// One connection of the page: all prices, or those that a slow reader has read.
enum Viewer {
    Live,
    Slow(SyncSender<Peer>),
}

impl Handler for Viewer {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        match self {
            Viewer::Live => {
                for (symbol, _) in SYMBOLS {
                    // The last price at once. The name is valid, and the connection is open.
                    let _ = socket.subscribe_since(symbol, Since::Oldest);
                }
            }
            Viewer::Slow(readers) => {
                if readers.try_send(socket.peer()).is_err() {
                    let _ = socket.close(CloseCode::TRY_AGAIN_LATER, "too many slow readers at once"); // a valid reason
                }
            }
        }
    }

    fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}
}

struct Options {
    addr: String,
    rate: u32,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let page = common::page::serve_plots(include_str!("page.html"), include_str!("page.css"), include_str!("page.js"));
    let (to_readers, viewers) = mpsc::sync_channel(MAX_SLOW);
    // An old price is worth nothing, so that a slow reader goes on with the newest. A new subscriber is told the last one.
    let prices = TopicConfig::default().slow(Slow::Latest).keep(1, 1 << 10, Duration::MAX);
    let listener = Listener::from(options.addr.as_str())
        .socket_hook(|socket| SockRef::from(socket).set_send_buffer_size(SEND_BUFFER));
    let server = Server::builder()
        .topics(move |_| prices)
        .on_topic(|event| {
            if let TopicEvent::Gap(peer, symbol, skipped) = event {
                let told = format!(r#"{{"symbol":"{symbol}","skipped":{skipped}}}"#);
                let _ = peer.send(told); // it may be gone
            }
        })
        .on_request(|request| match request.path() {
            "/feed" | "/slow" => Ok(Accept::new()),
            _ => Err(Response::new(404).text("the prices are at /feed\n")),
        })
        .http_with_server(move |request, server| match request.path() {
            "/metrics" => server.stats().response(),
            _ => page(request),
        })
        .serve(listener, move |request: &Request| match request.path() {
            "/slow" => Viewer::Slow(to_readers.clone()),
            _ => Viewer::Live,
        })?;
    common::announce(&server)?;

    let (handle, ended) = (server.handle(), AtomicBool::new(false));
    let here = own_address(&handle);
    thread::spawn(move || start_readers(here, &viewers));
    let feed = Feed::new(&handle, options.rate)?;
    thread::scope(|scope| {
        scope.spawn(|| feed.publish(&ended));
        server.join();
        ended.store(true, Ordering::Relaxed);
    });
    Ok(())
}

// --- The prices

struct Feed {
    symbols: Vec<Symbol>,
    period: Duration,
}

struct Symbol {
    topic: Topic,
    first: f64,
    price: f64,
}

impl Feed {
    fn new(server: &ServerHandle, rate: u32) -> Result<Feed, Box<dyn Error>> {
        let symbol = |(name, first)| Ok(Symbol { topic: server.topic(name)?, first, price: first });
        let symbols = SYMBOLS.into_iter().map(symbol).collect::<Result<_, Box<dyn Error>>>()?;
        Ok(Feed { symbols, period: Duration::from_secs(1) / rate })
    }

    /// Publishes prices until `ended`. It waits for no subscriber.
    fn publish(mut self, ended: &AtomicBool) {
        let began = Instant::now();
        let (mut due, mut random) = (began, 0x9e37_79b9_7f4a_7c15);
        while !ended.load(Ordering::Relaxed) {
            let time = began.elapsed().as_millis();
            for Symbol { topic, first, price } in &mut self.symbols {
                // A walk that is drawn back to where it began.
                *price += (*first - *price) * 0.002 + *first * 0.002 * fraction(&mut random);
                let (symbol, price) = (topic.name().to_owned(), *price);
                topic.publish_with(|position| {
                    let number = position.offset();
                    format!(r#"{{"symbol":"{symbol}","number":{number},"price":{price:.2},"time":{time}}}"#)
                });
            }
            // After a pause of this process it goes on as before, and not faster.
            due = (due + self.period).max(Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

/// The next random number from -1 to 1, of Marsaglia's xorshift.
fn fraction(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 40) as f64 / (1 << 23) as f64 - 1.0
}

// --- The slow readers

/// Starts a slow reader for each viewer that asks for one.
fn start_readers(here: Option<SocketAddr>, viewers: &Receiver<Peer>) {
    let running = Arc::new(());
    for viewer in viewers {
        // One of them is here.
        let Some(here) = here.filter(|_| Arc::strong_count(&running) <= MAX_SLOW) else {
            let _ = viewer.close(CloseCode::TRY_AGAIN_LATER, "no slow reader is free"); // a valid reason
            continue;
        };
        let running = Arc::clone(&running);
        thread::spawn(move || {
            if let Err(error) = read_slowly(here, &viewer) {
                log::warn!("a slow reader: {}", Chain(&*error));
            }
            let _ = viewer.close(CloseCode::GOING_AWAY, "the slow reader has ended"); // a valid reason
            drop(running);
        });
    }
}

/// Reads the prices slowly, and passes them on, as long as the viewer is there.
fn read_slowly(here: SocketAddr, viewer: &Peer) -> Result<(), Box<dyn Error>> {
    let socket = socket2::Socket::new(Domain::for_address(here), Type::STREAM, None)?;
    // Before it connects, because the window of TCP begins with it.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.connect(&here.into())?;
    let mut feed = WebSocket::connect(&format!("ws://{here}/feed"), TcpStream::from(socket))?;
    while let Some(message) = feed.recv()? {
        let is_price = message.as_text().is_some_and(|text| text.contains("price"));
        if viewer.send(message).is_err() && !viewer.is_open() {
            break;
        }
        // What the server says of prices that it has left out takes no time to read.
        if is_price {
            thread::sleep(PAUSE);
        }
    }
    Ok(feed.close(CloseCode::NORMAL_CLOSURE, "")?)
}

/// Where a client in this process reaches the server; nowhere if it has a Unix socket alone.
fn own_address(server: &ServerHandle) -> Option<SocketAddr> {
    let mut here = server.local_addrs().iter().find_map(PeerAddr::as_socket_addr)?;
    if here.ip().is_unspecified() {
        here.set_ip(match here.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(here)
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut addr = None;
    let mut rate = 250;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rate") => rate = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    if !(1..=10_000).contains(&rate) {
        return Err("--rate: from 1 to 10000".into());
    }
    let addr = addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Ok(Some(Options { addr, rate }))
}
