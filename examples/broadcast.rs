//! Sends every message to every connection, the sender's included.
//!
//! ```sh
//! cargo run --release --example broadcast -- 127.0.0.1:8080 --workers 2
//! ```

use std::error::Error;
use std::process::ExitCode;

use common::redis::Joined;
use common::tls::Certificate;
use lexopt::prelude::*;
use threadbare::{Config, Event, Handler, MessageRef, OriginPolicy, Server, Slow, SlowConsumer, Socket, TopicConfig};

const USAGE: &str = "\
Sends every message to every connection, the sender's too.

Usage: broadcast [ADDR] [OPTIONS]

  ADDR                    where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --workers N             worker threads
  --topic                 publish to a topic that every connection is subscribed to
  --channel               publish from the main thread, which gets the messages through a channel
  --idle-timeout SECS     ping a connection that has been silent for so long
  --cert FILE --key FILE  TLS, with this certificate chain and private key in PEM
                          (built with --features rustls-tls-webpki-roots)
  --redis URL             with --topic, which it implies: also to the connections of the other servers at this Redis
                          (built with --features redis)
  --help                  this text
";

/// The handler of each connection, called on its worker's thread.
struct Broadcast;

impl Handler for Broadcast {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.broadcast(message);
    }
}

/// As [`Broadcast`], through a topic.
struct InTopic;

impl Handler for InTopic {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = socket.subscribe(TOPIC); // the name is valid, and the connection is open
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.publish(TOPIC, message);
    }
}

const TOPIC: &str = "everyone";

struct Options {
    addr: String,
    workers: Option<usize>,
    channel: bool,
    topic: bool,
    config: Config,
    certificate: Certificate,
    joined: Joined,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    // A client that cannot keep up is closed. To wait for it would delay the others, and to skip messages would break
    // the promise that every client gets every message.
    let config = options.config.slow_consumer(SlowConsumer::Disconnect);
    let mut builder = options.certificate.apply(Server::builder().origins(OriginPolicy::Any).config(config))?;
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    // A gap would break that promise too. What is lost between servers is in `ServerHandle::bridge_stats`.
    builder = builder.topics(|_| TopicConfig::default().slow(Slow::Disconnect));
    builder = options.joined.apply(builder, "broadcast:");
    if options.channel {
        let server = builder.bind(&options.addr)?;
        options.certificate.announce(server.handle())?;
        broadcast(&server, options.topic);
    } else if options.topic {
        let server = builder.serve(&options.addr, |_request| InTopic)?;
        options.certificate.announce(server.handle())?;
        server.join();
    } else {
        let server = builder.serve(&options.addr, |_request| Broadcast)?;
        options.certificate.announce(server.handle())?;
        server.join();
    }
    Ok(())
}

/// Broadcasts by events on this thread, until the server has shut down.
fn broadcast(server: &Server, in_topic: bool) {
    let everyone = server.handle();
    for event in server {
        match event {
            Event::Open(peer, _) if in_topic => drop(peer.subscribe(TOPIC)), // an error says that it has left
            Event::Message(_, message) if in_topic => drop(everyone.publish(TOPIC, &message)),
            Event::Message(_, message) => everyone.broadcast(&message),
            _ => {}
        }
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut addr = None;
    let mut workers = None;
    let mut channel = false;
    let mut topic = false;
    let mut config = Config::default();
    let mut certificate = Certificate::default();
    let mut joined = Joined::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("workers") => workers = Some(parser.value()?.parse()?),
            Long("channel") => channel = true,
            Long("topic") => topic = true,
            Long("idle-timeout") => config = common::ping_idle(config, parser.value()?.parse_with(common::seconds)?),
            Long("cert") => certificate.set_cert(parser.value()?),
            Long("key") => certificate.set_key(parser.value()?),
            Long("redis") => {
                joined.set(parser.value()?)?;
                topic = true; // A bridge carries topics.
            }
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    certificate.check()?;
    let addr = addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Ok(Some(Options { addr, workers, channel, topic, config, certificate, joined }))
}
