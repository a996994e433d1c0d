//! What the measured programs share: the command line, a large message and, for some servers, the tokio runtime.

pub mod large;

use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
#[cfg(feature = "tokio")]
use tokio::sync::broadcast::{self, Sender};

/// The capacity of a broadcast channel. A connection that is further behind misses messages.
#[cfg(feature = "tokio")]
const CAPACITY: usize = 1024;

const USAGE: &str = "\
A WebSocket server to be measured.

Usage: SERVER ADDR [OPTIONS]

  ADDR         where to listen
  --mode MODE  echo (default), broadcast, or another one; an unknown mode lists those of this server
  --workers N  the number of the runtime's threads, if the server has a runtime (default 1)
  --cert FILE, --key FILE
               TLS with this certificate and its key, if the server knows TLS
  --help       print this text
";

/// The command line.
pub struct Options {
    pub addr: String,
    pub mode: String,
    pub workers: usize,
    /// The certificate and its key, in PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Parses the command line and runs the server.
pub fn main(serve: impl FnOnce(Options) -> Result<(), Box<dyn Error>>) -> ExitCode {
    run(USAGE, parse, serve)
}

/// Parses the command line and runs `work`. Prints `usage` if the command line asks for it, and ends with status 2 if it
/// cannot be parsed.
pub fn run<O, E: Display>(
    usage: &str,
    parse: impl FnOnce(lexopt::Parser) -> Result<Option<O>, E>,
    work: impl FnOnce(O) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
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
    match work(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let (mut addr, mut mode, mut workers) = (None, "echo".to_owned(), 1);
    let (mut cert, mut key) = (None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("mode") => mode = parser.value()?.string()?,
            Long("workers") => workers = parser.value()?.parse()?,
            Long("cert") => cert = Some(PathBuf::from(parser.value()?)),
            Long("key") => key = Some(PathBuf::from(parser.value()?)),
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    let addr = addr.ok_or("ADDR is missing")?;
    Ok(Some(Options { addr, mode, workers, certificate: cert.zip(key) }))
}

impl Options {
    /// The channel through which a server broadcasts; `None` in mode `echo`.
    ///
    /// # Errors
    ///
    /// The mode is another one.
    #[cfg(feature = "tokio")]
    pub fn everyone<T: Clone>(&self) -> Result<Option<Sender<T>>, Box<dyn Error>> {
        match self.mode.as_str() {
            "echo" => Ok(None),
            "broadcast" => Ok(Some(broadcast::channel(CAPACITY).0)),
            _ => Err(self.no_such_mode("echo and broadcast")),
        }
    }

    /// Runs a server in tokio's runtime. One worker is the calling thread.
    ///
    /// # Errors
    ///
    /// The runtime cannot be built, or the server fails.
    #[cfg(feature = "tokio")]
    pub fn block_on(&self, serve: impl Future<Output = Result<(), Box<dyn Error>>>) -> Result<(), Box<dyn Error>> {
        let mut builder = match self.workers {
            0 | 1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        builder.worker_threads(self.workers.max(1)).enable_all().build()?.block_on(serve)
    }

    /// The error for an unknown mode.
    #[must_use]
    pub fn no_such_mode(&self, modes: &str) -> Box<dyn Error> {
        format!("--mode {}: this server knows {modes}", self.mode).into()
    }
}
