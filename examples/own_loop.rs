//! A server in a program that has an event loop of its own: one poll waits for the server, standard input and a timer.
//!
//! ```sh
//! cargo run --release --example own_loop
//! ```
//!
//! A line on standard input goes to every client. A message of a client goes to standard output. Every client is sent
//! the number of connections each second.

use std::process::ExitCode;

const USAGE: &str = "\
A server in the event loop of a program, beside standard input and a timer.

Usage: own_loop [ADDR]

  ADDR    where to listen (default 127.0.0.1:8080; port 0 picks a free port)
  --help  this text

A line on standard input goes to every client, and a message of a client to
standard output. Every client is sent the number of connections each second.
";

fn main() -> ExitCode {
    common::main(USAGE, common::parse_addr, serve)
}

#[cfg(not(unix))]
fn serve(_: String) -> Result<(), Box<dyn std::error::Error>> {
    Err("this needs a system whose polls have descriptors".into())
}

#[cfg(unix)]
use unix::serve;

#[cfg(unix)]
mod unix {
    use std::error::Error;
    use std::fs::File;
    use std::io::{self, ErrorKind, Read, Write};
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::{Duration, Instant};

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use threadbare::{EventRef, OriginPolicy, Server};

    const SERVER: Token = Token(0);
    const INPUT: Token = Token(1);

    /// How often the timer goes off.
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn serve(addr: String) -> Result<(), Box<dyn Error>> {
        let mut event_loop = Server::builder().origins(OriginPolicy::Any).bind_inline(&addr)?;
        let server = event_loop.handle();
        let mut poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&event_loop.as_raw_fd()), SERVER, Interest::READABLE)?;
        let mut input = Input::new(&poll)?;
        common::announce_handle(server.clone())?;

        let mut events = Events::with_capacity(16);
        let mut next_tick = Instant::now() + INTERVAL;
        while !event_loop.is_finished() {
            let due = [Some(next_tick), deadline_of(&event_loop)].into_iter().flatten().min();
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            if events.iter().any(|event| event.token() == INPUT) {
                for line in input.read(&poll)? {
                    server.broadcast(line.as_str());
                }
            }
            let now = Instant::now();
            if now >= next_tick {
                server.broadcast(format!("{} connections", server.connections()).as_str());
                next_tick = now + INTERVAL;
            }
            // Costs little if there is nothing to do. Writes what was sent above.
            event_loop.poll(Duration::ZERO, print)?;
        }
        Ok(())
    }

    /// On Linux the server's descriptor reports its deadlines.
    fn deadline_of(event_loop: &threadbare::EventLoop) -> Option<Instant> {
        if cfg!(target_os = "linux") { None } else { event_loop.next_deadline() }
    }

    fn print(event: EventRef<'_>) {
        let line = match event {
            EventRef::Open(peer, _) => format!("{} joined", peer.addr()),
            EventRef::Message(peer, message) => match message.as_message().as_text() {
                Some(text) => format!("{}: {text}", peer.addr()),
                None => format!("{}: {} bytes", peer.addr(), message.as_message().len()),
            },
            EventRef::Close(peer, reason) => format!("{} left: {reason}", peer.addr()),
            _ => return,
        };
        // An error means that the reader has closed the pipe.
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// Standard input, read when the poll reports it.
    struct Input {
        /// `None` at its end, and for a file, which no poll reports.
        file: Option<File>,
        /// The beginning of a line.
        partial: Vec<u8>,
    }

    impl Input {
        fn new(poll: &Poll) -> io::Result<Input> {
            let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            let file = match poll.registry().register(&mut SourceFd(&file.as_raw_fd()), INPUT, Interest::READABLE) {
                Ok(()) => Some(file),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
                Err(error) => return Err(error),
            };
            Ok(Input { file, partial: Vec::new() })
        }

        /// Reads once, which does not block after the poll reported it, and returns the complete lines.
        fn read(&mut self, poll: &Poll) -> io::Result<Vec<String>> {
            let Some(file) = &mut self.file else { return Ok(Vec::new()) };
            let mut chunk = [0; 4096];
            let size = match file.read(&mut chunk) {
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                    return Ok(Vec::new());
                }
                other => other?,
            };
            if size == 0 {
                poll.registry().deregister(&mut SourceFd(&file.as_raw_fd()))?;
                self.file = None;
                return Ok(Vec::new());
            }
            // The poll reports arriving data once. Registering again makes it report what is left.
            poll.registry().reregister(&mut SourceFd(&file.as_raw_fd()), INPUT, Interest::READABLE)?;
            self.partial.extend_from_slice(&chunk[..size]);
            let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
            let rest = self.partial.split_off(end + 1);
            let whole = std::mem::replace(&mut self.partial, rest);
            Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
        }
    }
}
