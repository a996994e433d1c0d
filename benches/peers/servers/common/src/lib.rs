//! What the peers share: their command line and, for those that need one, their runtime.

use std::error::Error;
use std::process::ExitCode;

use lexopt::prelude::*;
#[cfg(feature = "tokio")]
use tokio::sync::broadcast::{self, Sender};

/// So many messages a connection may be behind before it misses some.
#[cfg(feature = "tokio")]
const BEHIND: usize = 1024;

const USAGE: &str = "\
A WebSocket server to be measured.

Usage: SERVER ADDR [OPTIONS]

  ADDR         where to listen
  --mode MODE  echo (default); broadcast, or another that this server names when it is given a wrong one
  --workers N  threads of the runtime, where there is one (default 1)
  --help       this text
";

/// What the command line asks for.
pub struct Options {
    pub addr: String,
    pub mode: String,
    pub workers: usize,
}

/// Reads the command line and serves.
pub fn main(serve: impl FnOnce(Options) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let options = match parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let (mut addr, mut mode, mut workers) = (None, "echo".to_owned(), 1);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("mode") => mode = parser.value()?.string()?,
            Long("workers") => workers = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    let addr = addr.ok_or("ADDR is missing")?;
    Ok(Some(Options { addr, mode, workers }))
}

impl Options {
    /// What the messages of a server that broadcasts go through; `None` if it is to echo.
    ///
    /// # Errors
    ///
    /// It is to do something else.
    #[cfg(feature = "tokio")]
    pub fn everyone<T: Clone>(&self) -> Result<Option<Sender<T>>, Box<dyn Error>> {
        match self.mode.as_str() {
            "echo" => Ok(None),
            "broadcast" => Ok(Some(broadcast::channel(BEHIND).0)),
            _ => Err(self.no_such_mode("echo and broadcast")),
        }
    }

    /// Runs a server in tokio's runtime; one worker is the thread that calls.
    ///
    /// # Errors
    ///
    /// The runtime can not be built, or the server fails.
    #[cfg(feature = "tokio")]
    pub fn block_on(&self, serve: impl Future<Output = Result<(), Box<dyn Error>>>) -> Result<(), Box<dyn Error>> {
        let mut builder = match self.workers {
            0 | 1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        builder.worker_threads(self.workers.max(1)).enable_all().build()?.block_on(serve)
    }

    /// For a mode that the server does not have.
    #[must_use]
    pub fn no_such_mode(&self, modes: &str) -> Box<dyn Error> {
        format!("--mode {}: this server has {modes}", self.mode).into()
    }
}
