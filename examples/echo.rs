//! Sends every message back to its sender.
//!
//! ```sh
//! cargo run --release --example echo -- 127.0.0.1:8080 --workers 2
//! ```

use std::error::Error;
use std::process::ExitCode;

use common::tls::Certificate;
use lexopt::prelude::*;
use threadbare::{
    Config, EventRef, ForwardedHeader, FragmentRef, Handler, MessageRef, OriginPolicy, Receive, Server, Socket, Trusted,
};

const USAGE: &str = "\
Sends every message back to where it came from.

Usage: echo [ADDR] [OPTIONS]

  ADDR                      where to listen (default 127.0.0.1:8080; port 0 picks a free port;
                            unix:PATH is a Unix socket)
  --workers N               worker threads
  --channel                 answer from the main thread, which gets the messages through a channel
  --inline                  the main thread does all the work; the server has no thread of its own
  --stream                  receive what arrives of a message at once, with a handler
  --max-message BYTES       largest message that is taken
  --max-connections N       connections at a time
  --idle-timeout SECS       ping a connection that has been silent for so long
  --handshake-timeout SECS  time for the opening handshake
  --proxy-protocol NETWORKS proxies that begin connections with a PROXY header, separated by commas
  --trust-proxy NETWORKS    proxies whose X-Forwarded-For is believed
  --deflate                 permessage-deflate (built with --features deflate)
  --cert FILE --key FILE    TLS, with this certificate chain and private key in PEM
                            (built with --features rustls-tls-webpki-roots)
  --help                    this text
";

/// The handler of each connection, called on its worker's thread. It has no state, so it takes no memory.
struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

/// Sends back what arrives of a message at once, so that a message of any size takes little memory.
struct StreamEcho;

impl Handler for StreamEcho {
    fn on_message(&mut self, _socket: &mut Socket<'_>, _message: MessageRef<'_>) {}

    fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
        socket.send_fragment(fragment);
    }
}

struct Options {
    addr: String,
    workers: Option<usize>,
    channel: bool,
    inline: bool,
    stream: bool,
    config: Config,
    proxy_protocol: Trusted,
    trusted_proxies: Trusted,
    certificate: Certificate,
}

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    // Any page may connect: an echo server has no data that another site's page could misuse.
    let builder = Server::builder()
        .origins(OriginPolicy::Any)
        .config(options.config)
        .proxy_protocol(options.proxy_protocol)
        .trusted_proxies(ForwardedHeader::XForwardedFor, options.trusted_proxies);
    let mut builder = options.certificate.apply(builder)?;
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    if options.inline {
        let mut event_loop = builder.bind_inline(&options.addr)?;
        options.certificate.announce(event_loop.handle())?;
        event_loop.run(answer)?;
    } else if options.channel {
        let server = builder.bind(&options.addr)?;
        options.certificate.announce(server.handle())?;
        echo(&server);
    } else if options.stream {
        let server = builder.serve(&options.addr, |_request| StreamEcho)?;
        options.certificate.announce(server.handle())?;
        server.join();
    } else {
        let server = builder.serve(&options.addr, |_request| Echo)?;
        options.certificate.announce(server.handle())?;
        server.join();
    }
    Ok(())
}

/// Echoes by events on this thread, until the server has shut down.
fn echo(server: &Server) {
    let mut events = server.iter();
    // A message that is answered at once is borrowed, not copied.
    while let Some(event) = events.next_ref() {
        answer(event);
    }
}

fn answer(event: EventRef<'_>) {
    if let EventRef::Message(peer, message) = event
        && let Err(error) = peer.send(message)
    {
        // The peer left before the answer. The other connections are not affected.
        log::debug!("{}: {error}", peer.addr());
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut addr = None;
    let mut workers = None;
    let (mut channel, mut inline, mut stream) = (false, false, false);
    let mut max_message = 1 << 20;
    let mut config = Config::default();
    let (mut proxy_protocol, mut trusted_proxies) = (Trusted::default(), Trusted::default());
    let mut certificate = Certificate::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("workers") => workers = Some(parser.value()?.parse()?),
            Long("channel") => channel = true,
            Long("inline") => inline = true,
            Long("stream") => stream = true,
            Long("max-message") => max_message = parser.value()?.parse()?,
            Long("max-connections") => config = config.max_connections(parser.value()?.parse()?),
            Long("idle-timeout") => config = common::ping_idle(config, parser.value()?.parse_with(common::seconds)?),
            Long("handshake-timeout") => {
                config = config.handshake_timeout(parser.value()?.parse_with(common::seconds)?);
            }
            Long("proxy-protocol") => proxy_protocol = parser.value()?.parse_with(common::networks)?,
            Long("trust-proxy") => trusted_proxies = parser.value()?.parse_with(common::networks)?,
            #[cfg(feature = "deflate")]
            Long("deflate") => config = config.deflate(threadbare::DeflateConfig::default()),
            #[cfg(not(feature = "deflate"))]
            Long("deflate") => return Err("--deflate: build with --features deflate".into()),
            Long("cert") => certificate.set_cert(parser.value()?),
            Long("key") => certificate.set_key(parser.value()?),
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    if channel && inline {
        return Err("--channel and --inline: choose one".into());
    }
    config = config.max_message_size(max_message);
    if stream {
        if channel || inline {
            return Err("--stream: with a handler alone".into());
        }
        // It keeps a message until it is whole.
        config = config.receive(Receive::Fragments { max_size: Some(max_message as u64) });
    }
    certificate.check()?;
    let addr = addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Ok(Some(Options { addr, workers, channel, inline, stream, config, proxy_protocol, trusted_proxies, certificate }))
}
