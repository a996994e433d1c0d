//! Measures what the smallest echo server takes: its program, its start, and its memory with idle connections, beside those
//! of tokio-tungstenite and of a bare epoll loop, all built for size.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use peers::handshake::Request;
use peers::machine::Machine;
use peers::process::{Memory, raise_descriptor_limit};
use peers::started::Started;
use peers::tls::Stream;
use peers::wire::{self, Mode};
use peers::{cargo, program};

const USAGE: &str = "\
Measures the program, the start and the memory of the smallest echo servers.

Usage: tiny [OPTIONS]

  --short      five starts, and 100 and 1,000 connections
  --starts N   how often a start is measured (default 31)
  --out DIR    where to write the results (default benches/results)
  --name NAME  the name of the results (default tiny)
  --help       print this text
";

/// This workspace.
const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// The library with its examples.
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The numbers of idle connections.
const CONNECTIONS: [usize; 3] = [0, 1_000, 10_000];
const SHORT_CONNECTIONS: [usize; 3] = [0, 100, 1_000];

struct Options {
    starts: usize,
    connections: [usize; 3],
    out: PathBuf,
    name: String,
}

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
    program::run(USAGE, parse, measure)
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let out = PathBuf::from(HERE).join("../results");
    let mut options = Options { starts: 31, connections: CONNECTIONS, out, name: "tiny".to_owned() };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("short") => {
                (options.starts, options.connections) = (5, SHORT_CONNECTIONS);
                options.name = "short-tiny".to_owned();
            }
            Long("starts") => options.starts = parser.value()?.parse()?,
            Long("out") => options.out = PathBuf::from(parser.value()?),
            Long("name") => options.name = parser.value()?.string()?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if options.starts == 0 { Err("--starts: at least 1".into()) } else { Ok(Some(options)) }
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    raise_descriptor_limit()?;
    let mut programs = Vec::new();
    for server in &SERVERS {
        let mut built = cargo::build_with_profile(Path::new(server.workspace), "size", server.target)?;
        programs.push((server, built.remove(server.program).ok_or("it cannot be built")?));
    }
    let nightly = nightly();
    let machine = Machine::look();
    let mut rows = Vec::new();
    for (server, program) in &programs {
        let bytes = fs::metadata(program)?.len();
        let start = |_| Running::start(server, program).map(|running| running.started);
        let mut starts = (0..options.starts).map(start).collect::<Result<Vec<_>, _>>()?;
        starts.sort_unstable();
        let memory = memory(options, server, program)?;
        rows.push(Row { name: server.name, bytes, start: starts[options.starts / 2], memory });
    }
    let table = table(&machine, options, &rows, &nightly);
    println!("{table}");
    fs::create_dir_all(&options.out)?;
    fs::write(options.out.join(format!("{}.md", options.name)), table)?;
    println!("written to {}", options.out.display());
    Ok(())
}

/// The size of threadbare's program with a standard library that is built for size too, which only a nightly compiler does. The
/// error says why it was not built.
fn nightly() -> Result<u64, String> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(HERE).join("target"), PathBuf::from);
    let target = target.join("tiny-nightly");
    let rustc = Command::new("rustc").args(["+nightly", "--version", "--verbose"]).output();
    let version = rustc.ok().filter(|output| output.status.success()).ok_or("there is no nightly compiler")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc does not name its host")?;
    let status = Command::new("cargo")
        .args(["+nightly", "build", "--quiet", "--profile", "size", "--target", host])
        .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"])
        .args(["--config", "profile.size.panic=\"abort\""])
        .args(["--package", "threadbare-examples", "--example", "tiny", "--manifest-path"])
        .arg(Path::new(LIBRARY).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // Nothing is unwound, so that nothing has to know how.
        .env("RUSTFLAGS", "-Cforce-unwind-tables=no")
        // Cargo names the toolchain that runs this program in its environment.
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .status();
    let program = target.join(host).join("size/examples/tiny");
    match (status, fs::metadata(program)) {
        (Ok(status), Ok(program)) if status.success() => Ok(program.len()),
        _ => {
            Err("its standard library cannot be built: `rustup component add rust-src --toolchain nightly`".to_owned())
        }
    }
}

/// The memory of a server with each number of idle connections, each of which has echoed one message.
fn memory(options: &Options, server: &Server, program: &Path) -> Result<Vec<Memory>, Box<dyn Error>> {
    let mut running = Running::start(server, program)?;
    let mut connections = Vec::new();
    let mut memory = Vec::new();
    for count in options.connections {
        while connections.len() < count {
            connections.push(connect(&mut running)?);
        }
        memory.push(running.server.process.memory()?);
    }
    Ok(memory)
}

/// Opens a connection, and has one message of 32 bytes answered.
fn connect(running: &mut Running) -> Result<Stream, Box<dyn Error>> {
    let request = Request::new(&running.addr.to_string());
    let mut stream = wire::connect(running.server.connect(running.addr)?, None, &request, Mode::Blocking)?;
    // A text of 32 bytes, masked with zeros.
    let mut frame = vec![0x81, 0x80 | 32, 0, 0, 0, 0];
    frame.extend_from_slice(&[b'x'; 32]);
    wire::write_all(&mut stream, &frame, &mut Vec::new())?;
    let mut echo = Vec::new();
    while echo.len() < 34 {
        wire::read(&mut stream, &mut [0; 64], |bytes| {
            echo.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    // The bare loop does not look at what it receives.
    if echo[..2] == [0x81, 32] { Ok(stream) } else { Err("no text of 32 bytes came back".into()) }
}

/// A server that runs until this is dropped.
struct Running {
    server: Started,
    addr: SocketAddr,
    /// From just before its start until it accepted a connection.
    started: Duration,
}

impl Running {
    fn start(server: &Server, program: &Path) -> Result<Running, Box<dyn Error>> {
        // A port that was free a moment ago.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let begun = Instant::now();
        let mut server = Started::new(Command::new(program).arg(addr.to_string()).args(server.arguments))?;
        drop(server.connect(addr)?);
        Ok(Running { server, addr, started: begun.elapsed() })
    }
}

fn table(machine: &Machine, options: &Options, rows: &[Row], nightly: &Result<u64, String>) -> String {
    let mut text = machine.heading(&[program::command_line("tiny")]);
    text += "Each program is built with the profile `size` and stripped. Its start is the median time from its creation until it\n";
    text += "accepts a connection. The memory is anonymous memory (heap and stacks), and in parentheses the whole resident memory,\n";
    text += "at rest and with idle connections, each of which has echoed one message. threadbare is its example `tiny`. The bare\n";
    text += "epoll loop knows in advance what it receives: it parses no frame, and shares its code with the load generator.\n";
    text.push('\n');
    text += "| server | program | start |";
    for count in options.connections {
        let _ = write!(text, " {count} connections |");
    }
    text += "\n|---|---|---|";
    text += &"---|".repeat(options.connections.len());
    text.push('\n');
    for Row { name, bytes, start, memory } in rows {
        let _ = write!(text, "| {name} | {} kB | {:.2} ms |", bytes / 1000, start.as_secs_f64() * 1e3);
        for Memory { anonymous, resident, .. } in memory {
            let _ = write!(text, " {} kB ({} kB) |", anonymous / 1000, resident / 1000);
        }
        text.push('\n');
    }
    let _ = match nightly {
        Ok(bytes) => writeln!(
            text,
            "\nWith a nightly compiler, a standard library that is built for size too, `panic = \"abort\"`, and without the\n\
             tables for unwinding, threadbare's program has {} kB.",
            bytes / 1000
        ),
        Err(error) => {
            writeln!(text, "\nWith a nightly compiler and a standard library for size: not measured, as {error}.")
        }
    };
    text
}
