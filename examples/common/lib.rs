//! Code that the examples share: the command line, TLS, Redis, and the shutdown on a signal.

pub mod page;
pub mod redis;
pub mod tls;

use std::error::Error;
use std::fmt;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use threadbare::{Config, PeerAddr, Server, ServerHandle, Trusted};

/// How long clients have to complete the closing handshake after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// The longest that a ping may stay unanswered.
const MAX_PONG_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the command line and runs the server. `parse` returns `None` for `--help`.
///
/// The exit code is 2 for an invalid command line and 1 for a server that failed.
pub fn main<O>(
    usage: &str,
    parse: impl FnOnce(lexopt::Parser) -> Result<Option<O>, lexopt::Error>,
    serve: impl FnOnce(O) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    env_logger::init();
    let options = match parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{usage}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{usage}");
            return ExitCode::from(2);
        }
    };
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Parses the command line of an example that takes an address and nothing else.
///
/// # Errors
///
/// An argument that is not known.
pub fn parse_addr(mut parser: lexopt::Parser) -> Result<Option<String>, lexopt::Error> {
    let mut addr = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned())))
}

/// Displays an error and its causes, as `error: cause: cause of that`. Each of them only displays itself.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut error = self.0;
        while let Some(source) = error.source() {
            write!(f, ": {source}")?;
            error = source;
        }
        Ok(())
    }
}

/// Installs the handler for signals, and prints where the server listens. In this order, because a program that reads
/// the line may send a signal at once.
pub fn announce(server: &Server) -> Result<(), Box<dyn Error>> {
    announce_handle(server.handle())
}

/// As [`announce`], for the server of a handle.
pub fn announce_handle(handle: ServerHandle) -> Result<(), Box<dyn Error>> {
    announce_urls("ws", handle)
}

/// As [`announce_handle`], with the scheme `ws` or `wss`.
fn announce_urls(scheme: &str, handle: ServerHandle) -> Result<(), Box<dyn Error>> {
    let addrs = handle.local_addrs().to_vec();
    ctrlc::set_handler(move || {
        log::info!("shutting down");
        let report = handle.shutdown(GRACE);
        log::info!("{report}");
    })?;
    Ok(print_urls(scheme, &addrs)?)
}

/// Prints where the server listens, each address in a line.
/// The scheme is `ws` or `wss`.
pub fn print_urls(scheme: &str, addrs: &[PeerAddr]) -> std::io::Result<()> {
    // Flushed, and returns an error where println! would panic, because stdout is often a pipe.
    let mut stdout = stdout().lock();
    for addr in addrs {
        writeln!(stdout, "listening on {}", place(scheme, addr))?;
    }
    stdout.flush()
}

/// The URL of a server that listens on this address, if there is one for clients.
fn place(scheme: &str, addr: &PeerAddr) -> String {
    match addr {
        PeerAddr::Unix(path) => {
            let path = path.as_deref().unwrap_or(Path::new("")).display();
            match scheme {
                "ws" => format!("ws+unix:{path}:/"),
                // No URL says so, and the library's clients do not do it. A proxy may.
                _ => format!("unix:{path} with TLS"),
            }
        }
        addr => format!("{scheme}://{addr}"),
    }
}

/// Sets how long a connection may be silent before it is sent a ping.
pub fn ping_idle(config: Config, idle: Duration) -> Config {
    config.ping_interval(Some(idle)).pong_timeout(idle.min(MAX_PONG_TIMEOUT))
}

/// Parses addresses and networks, separated by commas.
pub fn networks(text: &str) -> Result<Trusted, String> {
    let networks = Trusted::from(text.split(','));
    match networks.invalid_entry() {
        Some(entry) => Err(format!("{entry:?} is neither an address nor a network such as 10.0.0.0/8")),
        None => Ok(networks),
    }
}

/// Parses a number of seconds, which may have a fraction and must not be zero.
pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "not a positive number of seconds".to_owned())
}
