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
//!
//! With `--hand-over` no client has to leave: the successor takes over the connections as well, through a Unix socket. Without
//! a signal it does so too, however it is started:
//!
//! ```sh
//! cargo run --release --features handover --example restart -- 127.0.0.1:8080 --hand-over /tmp/restart.sock
//! cargo run --release --features handover --example restart -- 127.0.0.1:8080 --hand-over /tmp/restart.sock # takes over
//! ```

use std::process::ExitCode;

const USAGE: &str = "\
Echoes messages, and starts again without a gap on SIGHUP.

Usage: restart [ADDR] [OPTIONS]

  ADDR              where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --drain SECS      how long clients of a process that was replaced may stay (default 60)
  --spread SECS     how long it takes then to close those that have stayed, one after the other (default 10)
  --after PID       take the place of this process: its listener is the standard input (the process itself says so)
  --hand-over PATH  take over from the process that listens on this Unix socket, if there is one, with its connections,
                    and hand over there to the next (Linux, with the feature handover)
  --help            this text
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
    use std::path::{Path, PathBuf};
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

        #[cfg(all(target_os = "linux", feature = "handover"))]
        fn hand_over(&mut self) -> Option<Vec<u8>> {
            Some(Vec::new()) // an echo has no state
        }
    }

    pub(super) struct Options {
        addr: String,
        drain: Duration,
        spread: Duration,
        after: Option<Pid>,
        hand_over: Option<PathBuf>,
    }

    pub(super) fn serve(options: Options) -> Result<(), Box<dyn Error>> {
        if let Some(path) = &options.hand_over {
            return serve_and_hand_over(&options, path);
        }
        let listener = match options.after {
            Some(_) => TcpListener::from(stdin().as_fd().try_clone_to_owned()?),
            None => TcpListener::bind(&options.addr)?,
        };
        // Before the line below is printed, because a program that reads it may send a signal at once.
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
        let server = Server::builder().serve(listener.try_clone()?, |_request| Echo)?;
        say_ready(&server)?;
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

    /// Says where the server listens, and has the service manager, if there is one, supervise this process from now on.
    fn say_ready(server: &Server) -> std::io::Result<()> {
        let mut out = stdout().lock();
        writeln!(out, "listening on ws://{}", server.local_addr())?;
        writeln!(out, "process {}", std::process::id())?;
        out.flush()?;
        sd_notify::notify(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready])
    }

    #[cfg(not(all(target_os = "linux", feature = "handover")))]
    fn serve_and_hand_over(_: &Options, _: &Path) -> Result<(), Box<dyn Error>> {
        Err("--hand-over needs Linux, and the feature handover".into())
    }

    /// Takes over, if there is something, and serves until another process does.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn serve_and_hand_over(options: &Options, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let server = Server::builder().hand_over(path).serve(&*options.addr, |_request| Echo)?;
        say_ready(&server)?;
        let (handle, ended) = (server.handle(), signals.handle());
        thread::spawn(move || {
            handle.join(); // another process serves, or this one was stopped
            ended.close();
        });
        for signal in &mut signals {
            if signal != SIGHUP {
                break;
            }
            let mut args = std::env::args_os();
            // The path, and not the file that runs: it may have been replaced.
            let started = args.next().map(|program| Command::new(program).args(args).stdin(Stdio::null()).spawn());
            match started {
                Some(Ok(child)) => log::info!("process {} is to take over", child.id()),
                other => log::error!("no successor: {other:?}"),
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
        let (mut addr, mut after, mut hand_over) = (None, None, None);
        let (mut drain, mut spread) = (Duration::from_secs(60), Duration::from_secs(10));
        while let Some(arg) = parser.next()? {
            match arg {
                Long("drain") => drain = parser.value()?.parse_with(common::seconds)?,
                Long("spread") => spread = parser.value()?.parse_with(common::seconds)?,
                Long("after") => after = Pid::from_raw(parser.value()?.parse()?),
                Long("hand-over") => hand_over = Some(parser.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                Value(value) if addr.is_none() => addr = Some(value.string()?),
                _ => return Err(arg.unexpected()),
            }
        }
        let addr = addr.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        Ok(Some(Options { addr, drain, spread, after, hand_over }))
    }
}
