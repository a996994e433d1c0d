//! The memory of an idle connection.

use std::error::Error;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use peers::frames::Frames;
use peers::process::{self, Process};
use peers::report::{Memory, Outcome, PerConnection};
use peers::scenario::LARGE;

use crate::connection::{BUFFER, Connection};
use crate::replies::Replies;
use crate::{Run, TIMEOUT};

/// The server's memory is read once the server has used at most [`QUIET`] of CPU time in an interval of this length.
const INTERVAL: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_millis(1);

/// The masking key of the large message.
const KEY: [u8; 4] = [0x5b, 0xd1, 0xe9, 0x95];

pub(crate) fn run(run: &Run) -> Result<Outcome, Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let before = memory_when_quiet(&run.server)?;
    let mut connections = Connection::open(&mut poll, run, 0)?;
    let fresh = memory_when_quiet(&run.server)?;
    echo_once(&mut poll, &mut connections)?;
    let after_echo = memory_when_quiet(&run.server)?;
    // A library of TLS may keep the buffer of a large record.
    let after_large = if run.scenario.tls {
        let opcode = run.scenario.opcode;
        let (outgoing, incoming) = (Frames::from_client(opcode, LARGE, KEY, 1), Frames::from_server(opcode, LARGE, 1));
        let (outgoing, incoming) = (Rc::new(outgoing), Rc::new(incoming));
        for connection in &mut connections {
            connection.change(&outgoing, Replies::same(&incoming));
        }
        echo_once(&mut poll, &mut connections)?;
        Some(memory_when_quiet(&run.server)?)
    } else {
        None
    };
    let growth = |now: u64, before: u64| (now as f64 - before as f64) / connections.len() as f64;
    let per_connection = |now: process::Memory| PerConnection {
        anonymous: growth(now.anonymous, before.anonymous),
        resident: growth(now.resident, before.resident),
    };
    Ok(Outcome::Memory(Memory {
        fresh: per_connection(fresh),
        after_echo: per_connection(after_echo),
        after_large: after_large.map(per_connection),
        threads: after_echo.threads,
    }))
}

fn memory_when_quiet(server: &Process) -> io::Result<process::Memory> {
    let start = Instant::now();
    let mut cpu = server.cost()?.cpu;
    while start.elapsed() < TIMEOUT {
        thread::sleep(INTERVAL);
        let now = server.cost()?.cpu;
        if now - cpu <= QUIET {
            return server.memory();
        }
        cpu = now;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("the server is still busy after {TIMEOUT:?}")))
}

fn echo_once(poll: &mut Poll, connections: &mut [Connection]) -> io::Result<()> {
    for connection in &mut *connections {
        connection.send(1)?;
    }
    let mut buffer = vec![0; BUFFER];
    let mut events = Events::with_capacity(1024);
    let mut replies = 0;
    while replies < connections.len() {
        poll.poll(&mut events, Some(TIMEOUT))?;
        if events.is_empty() {
            let text = format!("{replies} of {} connections received a reply", connections.len());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        for event in &events {
            let Token(index) = event.token();
            replies += connections[index].receive(&mut buffer)?;
            connections[index].flush()?;
        }
    }
    Ok(())
}
