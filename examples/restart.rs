//! An echo server that is replaced by a new process without a gap: no client is refused, and none is disconnected before it
//! has had time to leave.
//!
//! On SIGHUP the process starts its successor and gives it the listening socket, as its standard input. When the successor
//! serves, it sends SIGQUIT to the process before it, which then accepts no more connections, waits for its clients to leave,
//! closes those that have not, one after the other, and ends. If the successor can not start, nothing changes.
//!
//! ```sh
//! cargo run --release --example restart -- 127.0.0.1:8080
//! kill -HUP PID       # in another terminal, after a new program was installed in place of the old
//! ```

use std::process::ExitCode;

const USAGE: &str = "\
Echoes messages, and starts again without a gap on SIGHUP.

Usage: restart [ADDR] [OPTIONS]

  ADDR          where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --drain SECS  how long clients of a process that was replaced may stay (default 60)
  --spread SECS how long it takes then to close those that have stayed, one after the other (default 10)
  --after PID   take the place of this process: its listener is the standard input (the process itself says so)
  --help        this text
";

fn main() -> ExitCode {
    common::main(USAGE, parse, serve)
}

#[cfg(not(unix))]
fn parse(_: lexopt::Parser) -> Result<Option<()>, lexopt::Error> {
    Ok(Some(()))
}

#[cfg(not(unix))]
fn serve((): ()) -> Result<(), Box<dyn std::error::Error>> {
    Err("this needs the signals of Unix".into())
}

#[cfg(unix)]
use unix::{parse, serve};

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::io::{Write, stdin, stdout};
    use std::net::TcpListener;
    use std::os::fd::{AsFd, OwnedFd};
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use lexopt::prelude::*;
    use rustix::process::{Pid, Signal, getppid, kill_process};
    use sd_notify::NotifyState;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::Signals;
    use threadbare::{Handler, MessageRef, Server, ServerHandle, Socket};

    /// How long clients have to complete the closing handshake, if the service ends.
    const GRACE: Duration = Duration::from_secs(5);

    /// How often a process that was replaced looks whether its clients have left.
    const CHECK: Duration = Duration::from_millis(20);

    struct Echo;

    impl Handler for Echo {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            socket.send(message);
        }
    }

    pub(super) struct Options {
        addr: String,
        drain: Duration,
        spread: Duration,
        after: Option<Pid>,
    }

    pub(super) fn serve(options: Options) -> Result<(), Box<dyn Error>> {
        let listener = match options.after {
            Some(_) => TcpListener::from(stdin().as_fd().try_clone_to_owned()?),
            None => TcpListener::bind(&options.addr)?,
        };
        // Before the line below is printed, because a program that reads it may send a signal at once.
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
        let server = Server::builder().serve(listener.try_clone()?, |_request| Echo)?;
        let mut out = stdout().lock();
        writeln!(out, "listening on ws://{}", server.local_addr())?;
        writeln!(out, "process {}", std::process::id())?;
        out.flush()?;
        drop(out);
        // The service manager, if there is one, supervises this process from now on.
        sd_notify::notify(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready])?;
        if let Some(before) = options.after.filter(|before| getppid() == Some(*before)) {
            kill_process(before, Signal::QUIT)?;
        }
        loop {
            let Some(signal) = signals.wait().next() else { continue };
            match signal {
                SIGHUP => match start_successor(&listener, &options) {
                    Ok(()) => log::info!("a successor is started"),
                    Err(error) => log::error!("no successor: {error}"),
                },
                SIGQUIT => {
                    drain(&server.handle(), &mut signals, &options);
                    return Ok(());
                }
                _ => break,
            }
        }
        let report = server.shutdown(GRACE);
        log::info!("{report}");
        Ok(())
    }

    /// Starts the program anew, with the listener as its standard input.
    fn start_successor(listener: &TcpListener, options: &Options) -> std::io::Result<()> {
        // The path, and not the file that runs: it may have been replaced.
        let program = std::env::args_os().next().ok_or(std::io::ErrorKind::NotFound)?;
        let mut child = Command::new(program)
            .arg("--drain")
            .arg(options.drain.as_secs_f64().to_string())
            .arg("--spread")
            .arg(options.spread.as_secs_f64().to_string())
            .arg("--after")
            .arg(std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(listener.try_clone()?)))
            .spawn()?;
        thread::spawn(move || match child.wait() {
            Ok(status) => log::error!("the successor ended: {status}"),
            Err(error) => log::error!("the successor is lost: {error}"),
        });
        Ok(())
    }

    /// Ends when the clients have left, or at a further signal. Closes those that have not, so that they do not all come
    /// to the successor at once.
    fn drain(handle: &ServerHandle, signals: &mut Signals, options: &Options) {
        handle.stop_accepting();
        let deadline = Instant::now() + options.drain;
        while handle.connections() > 0 && Instant::now() < deadline && signals.pending().next().is_none() {
            thread::sleep(CHECK);
        }
        let report = handle.drain(options.spread);
        log::info!("{report}");
    }

    pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
        let (mut addr, mut drain, mut spread, mut after) =
            (None, Duration::from_secs(60), Duration::from_secs(10), None);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("drain") => drain = parser.value()?.parse_with(common::seconds)?,
                Long("spread") => spread = parser.value()?.parse_with(common::seconds)?,
                Long("after") => after = Pid::from_raw(parser.value()?.parse()?),
                Short('h') | Long("help") => return Ok(None),
                Value(value) if addr.is_none() => addr = Some(value.string()?),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(Options { addr: addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned()), drain, spread, after }))
    }
}
