//! Measures what the smallest echo server takes: its program, its start, and its memory with idle connections, beside those
//! of tokio-tungstenite and of a bare epoll loop, all built for size.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use peers::cargo;
use peers::handshake::{self, Request};
use peers::machine::Machine;
use peers::process::{Memory, Process, raise_descriptor_limit};
use peers::program;

const USAGE: &str = "\
Measures the program, the start and the memory of the smallest echo servers.

Usage: tiny [OPTIONS]

  --out DIR    where to write the results (default benches/results)
  --help       print this text
";

/// This workspace.
const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// The library with its examples.
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A server's start is measured so often.
const STARTS: usize = 31;

/// The numbers of idle connections.
const CONNECTIONS: [usize; 3] = [0, 1_000, 10_000];

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    name: &'static str,
    workspace: &'static str,
    /// The arguments of Cargo.
    target: &'static [&'static str],
    program: &'static str,
    /// What follows the address on its command line.
    arguments: &'static [&'static str],
}

const SERVERS: [Server; 3] = [
    Server {
        name: "bare epoll loop",
        workspace: HERE,
        target: &["--package", "peers", "--bin", "floor"],
        program: "floor",
        arguments: &["--scenario", "echo-32B"],
    },
    Server {
        name: "threadbare",
        workspace: LIBRARY,
        target: &["--package", "threadbare-examples", "--example", "tiny"],
        program: "tiny",
        arguments: &[],
    },
    Server {
        name: "tokio-tungstenite",
        workspace: HERE,
        target: &["--package", "peer-tokio-tungstenite"],
        program: "peer-tokio-tungstenite",
        arguments: &[],
    },
];

struct Row {
    name: &'static str,
    bytes: u64,
    start: Duration,
    memory: Vec<Memory>,
}

fn main() -> ExitCode {
    program::run(USAGE, parse, |out| measure(out))
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<PathBuf>, lexopt::Error> {
    let mut out = PathBuf::from(HERE).join("../results");
    while let Some(arg) = parser.next()? {
        match arg {
            Long("out") => out = PathBuf::from(parser.value()?),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(out))
}

fn measure(out: &Path) -> Result<(), Box<dyn Error>> {
    raise_descriptor_limit()?;
    let machine = Machine::look();
    let mut rows = Vec::new();
    for server in &SERVERS {
        let mut built = cargo::build_with_profile(Path::new(server.workspace), "size", server.target)?;
        let program = built.remove(server.program).ok_or("it cannot be built")?;
        let bytes = fs::metadata(&program)?.len();
        let start = |_| Running::start(server, &program).map(|running| running.started);
        let mut starts = (0..STARTS).map(start).collect::<Result<Vec<_>, _>>()?;
        starts.sort_unstable();
        rows.push(Row { name: server.name, bytes, start: starts[STARTS / 2], memory: memory(server, &program)? });
    }
    let table = table(&machine, &rows);
    println!("{table}");
    fs::create_dir_all(out)?;
    fs::write(out.join("tiny.md"), table)?;
    println!("written to {}", out.display());
    Ok(())
}

/// The memory of a server with each number of idle connections, each of which has echoed one message.
fn memory(server: &Server, program: &Path) -> Result<Vec<Memory>, Box<dyn Error>> {
    let running = Running::start(server, program)?;
    let process = Process::new(running.child.id())?;
    let mut connections = Vec::new();
    let mut memory = Vec::new();
    for count in CONNECTIONS {
        while connections.len() < count {
            connections.push(connect(running.addr)?);
        }
        memory.push(process.memory()?);
    }
    Ok(memory)
}

/// Opens a connection, and has one message of 32 bytes answered.
fn connect(addr: SocketAddr) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = Request::new(&addr.to_string());
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(handshake::END) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    request.check(&head)?;
    // A text of 32 bytes, masked with zeros.
    let mut frame = vec![0x81, 0x80 | 32, 0, 0, 0, 0];
    frame.extend_from_slice(&[b'x'; 32]);
    stream.write_all(&frame)?;
    let mut echo = [0; 34];
    stream.read_exact(&mut echo)?;
    // The bare loop does not look at what it receives.
    if echo[..2] == [0x81, 32] { Ok(stream) } else { Err("no text of 32 bytes came back".into()) }
}

/// A server that runs until this is dropped.
struct Running {
    child: Child,
    addr: SocketAddr,
    /// From just before its start until it accepted a connection.
    started: Duration,
}

impl Running {
    fn start(server: &Server, program: &Path) -> Result<Running, Box<dyn Error>> {
        // A port that was free a moment ago.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let begun = Instant::now();
        let mut command = Command::new(program);
        let child = command.arg(addr.to_string()).args(server.arguments).stdout(Stdio::null()).spawn()?;
        let mut running = Running { child, addr, started: Duration::ZERO };
        while TcpStream::connect(addr).is_err() {
            if begun.elapsed() > PATIENCE || running.child.try_wait()?.is_some() {
                return Err(format!("{} does not listen", server.name).into());
            }
        }
        running.started = begun.elapsed();
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that the server has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn table(machine: &Machine, rows: &[Row]) -> String {
    let mut text = machine.heading(&[program::command_line("tiny")]);
    text += "Each program is built with the profile `size` and stripped. Its start is the median time from its creation until it\n";
    text += "accepts a connection. The memory is anonymous memory (heap and stacks), and in parentheses the whole resident memory,\n";
    text += "at rest and with idle connections, each of which has echoed one message. threadbare is its example `tiny`. The bare\n";
    text += "epoll loop knows in advance what it receives: it parses no frame, and shares its code with the load generator.\n\n";
    text += "| server | program | start |";
    for count in CONNECTIONS {
        let _ = write!(text, " {count} connections |");
    }
    text += "\n|---|---|---|";
    text += &"---|".repeat(CONNECTIONS.len());
    text.push('\n');
    for Row { name, bytes, start, memory } in rows {
        let _ = write!(text, "| {name} | {} kB | {:.2} ms |", bytes / 1000, start.as_secs_f64() * 1e3);
        for Memory { anonymous, resident, .. } in memory {
            let _ = write!(text, " {} kB ({} kB) |", anonymous / 1000, resident / 1000);
        }
        text.push('\n');
    }
    text
}
