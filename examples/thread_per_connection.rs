//! An echo server with a thread for each connection: `std::net::TcpListener` and `WebSocket<TcpStream>`, no worker.

use std::error::Error;
use std::io::{self, Read, Write, stdout};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::Chain;
use common::tls::Certificate;
use threadbare::{Accept, Config, SocketError, WebSocket};

const USAGE: &str = "\
Echoes text and binary messages, with a thread for each connection.

Usage: thread_per_connection [ADDR] [OPTIONS]

  ADDR                    where to listen (default 127.0.0.1:8080; port 0 picks a free one)
  --cert FILE --key FILE  TLS, with this certificate chain and private key in PEM
                          (built with --features rustls-tls-webpki-roots)
  --help                  this text
";

/// A peer that sends nothing for this long is dropped, because no worker pings it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest message. Test programs send large messages to an echo server.
const MAX_MESSAGE: usize = 16 << 20;

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

struct Options {
    addr: String,
    certificate: Certificate,
}

fn parse(mut args: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut addr = "127.0.0.1:8080".to_owned();
    let mut certificate = Certificate::default();
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(None),
            lexopt::Arg::Long("cert") => certificate.set_cert(args.value()?),
            lexopt::Arg::Long("key") => certificate.set_key(args.value()?),
            lexopt::Arg::Value(value) => addr = value.into_string()?,
            _ => return Err(arg.unexpected()),
        }
    }
    certificate.check()?;
    Ok(Some(Options { addr, certificate }))
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(options.addr)?;
    #[cfg(feature = "rustls-tls")]
    let tls = options.certificate.tls()?;
    // The handshake of TLS is the thread's as well, so that a slow one holds nobody up.
    let answer = Arc::new(move |stream: TcpStream| {
        prepare(&stream)?;
        #[cfg(feature = "rustls-tls")]
        if let Some(tls) = &tls {
            return echo(tls.accept(stream).map_err(io::Error::other)?);
        }
        echo(stream)
    });
    // Each connection has a thread. The threads end with the process.
    ctrlc::set_handler(|| std::process::exit(0))?;
    let mut out = stdout().lock();
    writeln!(out, "listening on {}://{}", options.certificate.scheme(), listener.local_addr()?)?;
    out.flush()?;
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                let answer = Arc::clone(&answer);
                drop(std::thread::Builder::new().spawn(move || {
                    if let Err(error) = answer(stream) {
                        log::info!("{}", Chain(&error));
                    }
                }));
            }
            Err(error) => log::warn!("not accepted: {error}"),
        }
    }
    Ok(())
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
    stream.set_write_timeout(Some(IDLE_TIMEOUT))
}

fn echo<S: Read + Write + 'static>(stream: S) -> Result<(), SocketError> {
    let config = Config::default().max_message_size(MAX_MESSAGE);
    #[cfg(feature = "deflate")]
    let config = config.deflate(threadbare::DeflateConfig::default());
    let mut socket = WebSocket::accept_with(stream, &config, |_| Ok(Accept::new()))?;
    while let Some(message) = socket.recv()? {
        socket.send(&message)?;
    }
    Ok(())
}
