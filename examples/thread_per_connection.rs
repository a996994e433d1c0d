//! An echo server with a thread for each connection: `std::net::TcpListener` and `WebSocket<TcpStream>`, no worker.

use std::error::Error;
use std::io::{Write, stdout};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use common::Chain;
use threadbare::{Accept, Config, SocketError, WebSocket};

const USAGE: &str = "\
Echoes text and binary messages, with a thread for each connection.

usage: thread_per_connection [ADDR]

  ADDR  where to listen (default 127.0.0.1:8080; port 0 picks a free one)
";

/// A peer that sends nothing for this long is dropped, because no worker pings it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The largest message. Test programs send large messages to an echo server.
const MAX_MESSAGE: usize = 16 << 20;

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

fn parse(mut args: lexopt::Parser) -> Result<Option<String>, lexopt::Error> {
    let mut addr = "127.0.0.1:8080".to_owned();
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return Ok(None),
            lexopt::Arg::Value(value) => addr = value.into_string()?,
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(addr))
}

fn serve(addr: String) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(addr)?;
    // Each connection has a thread. The threads end with the process.
    ctrlc::set_handler(|| std::process::exit(0))?;
    let mut out = stdout().lock();
    writeln!(out, "listening on ws://{}", listener.local_addr()?)?;
    out.flush()?;
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => drop(std::thread::Builder::new().spawn(move || {
                if let Err(error) = echo(stream) {
                    log::info!("{}", Chain(&error));
                }
            })),
            Err(error) => log::warn!("not accepted: {error}"),
        }
    }
    Ok(())
}

fn echo(stream: TcpStream) -> Result<(), SocketError> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
    stream.set_write_timeout(Some(IDLE_TIMEOUT))?;
    let config = Config::default().max_message_size(MAX_MESSAGE);
    #[cfg(feature = "deflate")]
    let config = config.deflate(threadbare::DeflateConfig::default());
    let mut socket = WebSocket::accept_with(stream, &config, |_| Ok(Accept::new()))?;
    while let Some(message) = socket.recv()? {
        socket.send(&message)?;
    }
    Ok(())
}
