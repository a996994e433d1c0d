//! What the server examples share: the way in from the command line and the way out on a signal.

pub mod page;

use std::error::Error;
use std::fmt;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use threadbare::{Config, Server, ServerHandle};

/// What clients get to finish the closing handshake once we have been told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// The longest that a ping may stay unanswered.
const MAX_PONG_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the command line and serves; `parse` answers `None` to `--help`.
///
/// The exit code is 2 for a command line that is wrong and 1 for a server that failed.
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

/// An error with its causes, `error: cause: cause of that`: each of them says only what it adds.
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

/// Says where the server listens, once a signal can stop it: whoever reads the line may send one.
pub fn announce(server: &Server) -> Result<(), Box<dyn Error>> {
    announce_handle(server.handle())
}

/// Says where the server listens that this is the handle of, as [`announce`] does.
pub fn announce_handle(handle: ServerHandle) -> Result<(), Box<dyn Error>> {
    let addr = handle.local_addr();
    ctrlc::set_handler(move || {
        log::info!("shutting down");
        let report = handle.shutdown(GRACE);
        log::info!("{report}");
    })?;

    // Flushed, and an error rather than println!'s panic: stdout is often a pipe.
    let mut stdout = stdout().lock();
    writeln!(stdout, "listening on ws://{addr}")?;
    stdout.flush()?;
    Ok(())
}

/// Has connections pinged that have been silent for so long.
pub fn ping_idle(config: Config, idle: Duration) -> Config {
    config.ping_interval(Some(idle)).pong_timeout(idle.min(MAX_PONG_TIMEOUT))
}

/// A number of seconds, of which a fraction is fine and none at all is not.
pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "not a positive number of seconds".to_owned())
}
