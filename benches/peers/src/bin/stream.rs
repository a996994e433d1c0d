//! Measures what a server takes for a message of 2 GiB that it sends back as it arrives, beside a bare loop that reads, unmasks
//! and writes.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use peers::cargo;
use peers::handshake::{self, Request};
use peers::machine::Machine;
use peers::process::{Process, pin};
use peers::program;
use threadbare::protocol::frame::{FrameHeader, MAX_HEADER_SIZE, Opcode};
use threadbare::protocol::mask;

const USAGE: &str = "\
Measures a message of 2 GiB that a server sends back as it arrives.

Usage: stream [OPTIONS]

  --rounds N          how often each server is measured (default 5)
  --examples-dir DIR  where the library's examples are, built with --release (default: build them)
  --out DIR           where to write the results (default benches/results)
  --bare ADDR         be the bare loop
  --help              print this text
";

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The size of the message.
const SIZE: u64 = 2 << 30;
/// What is read and written at once, and what the message repeats.
const PIECE: usize = 256 << 10;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const PATIENCE: Duration = Duration::from_secs(20);

struct Options {
    rounds: usize,
    examples: Option<PathBuf>,
    out: PathBuf,
    bare: Option<String>,
}

/// What a server took for the message.
struct Cost {
    cpu: Duration,
    /// The most resident memory, above that at rest.
    memory: u64,
}

fn main() -> ExitCode {
    program::run(USAGE, parse, |options| match &options.bare {
        Some(addr) => Ok(serve_bare(addr)?),
        None => compare(options),
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let out = PathBuf::from(HERE).join("../results");
    let mut options = Options { rounds: 5, examples: None, out, bare: None };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("examples-dir") => options.examples = Some(parser.value()?.into()),
            Long("out") => options.out = parser.value()?.into(),
            Long("bare") => options.bare = Some(parser.value()?.string()?),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(options))
}

fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    let machine = Machine::look();
    let echo = match &options.examples {
        Some(dir) => dir.join("echo"),
        None => cargo::build(Path::new(LIBRARY), &["--package", "threadbare-examples", "--example", "echo"])?
            .remove("echo")
            .ok_or("echo cannot be built")?,
    };
    let echo = echo.display().to_string();
    let this = std::env::current_exe()?.display().to_string();
    let limit = SIZE.to_string();
    let servers: [(&str, Vec<&str>); 3] = [
        ("bare loop", vec![&this, "--bare", "{addr}"]),
        ("threadbare, in parts", vec![&echo, "{addr}", "--workers", "1", "--stream", "--max-message", &limit]),
        ("threadbare, whole", vec![&echo, "{addr}", "--workers", "1", "--max-message", &limit]),
    ];
    let mut costs: Vec<Vec<Cost>> = servers.iter().map(|_| Vec::new()).collect();
    pin(&[1])?;
    for round in 1..=options.rounds {
        for ((name, command), costs) in servers.iter().zip(&mut costs) {
            let cost = measure(command)?;
            println!("round {round}  {name}: {:?}, {} kB", cost.cpu, cost.memory / 1000);
            costs.push(cost);
        }
    }
    let table = table(&machine, &servers.map(|(name, _)| name), &costs);
    println!("{table}");
    fs::create_dir_all(&options.out)?;
    fs::write(options.out.join("stream.md"), table)?;
    Ok(())
}

fn measure(command: &[&str]) -> Result<Cost, Box<dyn Error>> {
    // A port that was free a moment ago.
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut arguments = command.iter().map(|argument| argument.replace("{addr}", &addr.to_string()));
    let mut start = Command::new("taskset");
    let server = start.args(["-c", "0"]).args(arguments.by_ref()).stdout(Stdio::null()).spawn()?;
    let mut server = Server(server);
    let mut stream = connect(addr, &mut server)?;
    let process = Process::new(server.0.id())?;
    let (before, at_rest) = (process.cost()?.cpu, process.memory()?.resident);
    let mut sender = stream.try_clone()?;
    let sending = thread::spawn(move || send(&mut sender));
    receive(&mut stream)?;
    sending.join().map_err(|_| "the sender panicked")??;
    Ok(Cost { cpu: process.cost()?.cpu - before, memory: peak(server.0.id())?.saturating_sub(at_rest) })
}

/// Stopped when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that the server has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connect(addr: SocketAddr, server: &mut Server) -> Result<TcpStream, Box<dyn Error>> {
    let begun = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(addr) {
            Ok(stream) => break stream,
            Err(_) if begun.elapsed() < PATIENCE && server.0.try_wait()?.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = Request::new(&addr.to_string());
    stream.write_all(request.as_bytes())?;
    request.check(&read_head(&mut stream)?)?;
    Ok(stream)
}

fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(handshake::END) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

/// The bytes that the message repeats. No two places of it are alike.
fn pattern() -> Vec<u8> {
    (0..PIECE / 4).flat_map(|number: usize| (number as u32).wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

fn send(stream: &mut TcpStream) -> io::Result<()> {
    let mut masked = pattern();
    mask::apply(&mut masked, KEY);
    let mut header = Vec::new();
    FrameHeader::new(Opcode::Binary, SIZE, Some(KEY)).encode(&mut header);
    stream.write_all(&header)?;
    for _ in 0..SIZE / PIECE as u64 {
        stream.write_all(&masked)?;
    }
    Ok(())
}

/// Receives the message, and compares each byte.
fn receive(stream: &mut TcpStream) -> Result<(), Box<dyn Error>> {
    let mut pattern = pattern();
    pattern.extend_from_within(..);
    let (mut header, mut buffer, mut received, mut left) = (Vec::new(), vec![0; PIECE], 0_u64, 0);
    while received < SIZE || left > 0 {
        if left == 0 {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            header.push(byte[0]);
            if let Some((parsed, _)) = FrameHeader::parse(&header)? {
                left = parsed.payload_len;
                header.clear();
            } else if header.len() > MAX_HEADER_SIZE {
                return Err("no header".into());
            }
            continue;
        }
        let most = left.min(PIECE as u64) as usize;
        let size = stream.read(&mut buffer[..most])?;
        let start = (received % PIECE as u64) as usize;
        if size == 0 || buffer[..size] != pattern[start..start + size] {
            return Err(format!("other bytes, or none, after {received}").into());
        }
        received += size as u64;
        left -= size as u64;
    }
    Ok(())
}

/// `VmHWM` in bytes.
fn peak(pid: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

fn serve_bare(addr: &str) -> io::Result<()> {
    for stream in TcpListener::bind(addr)?.incoming() {
        let mut stream = stream?;
        if let Ok(head) = read_head(&mut stream)
            && !head.is_empty()
        {
            stream.write_all(handshake::response(false).as_bytes())?;
            echo_bare(&mut stream)?;
        }
    }
    Ok(())
}

fn echo_bare(stream: &mut TcpStream) -> io::Result<()> {
    let mut header = [0; MAX_HEADER_SIZE];
    stream.read_exact(&mut header)?;
    let mut answer = Vec::new();
    FrameHeader::new(Opcode::Binary, SIZE, None).encode(&mut answer);
    stream.write_all(&answer)?;
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < SIZE {
        let size = stream.read(&mut buffer)?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let piece = &mut buffer[..size];
        mask::apply(piece, mask::rotated(KEY, done));
        stream.write_all(piece)?;
        done += size as u64;
    }
    Ok(())
}

fn table(machine: &Machine, names: &[&str], costs: &[Vec<Cost>]) -> String {
    let mut text = machine.heading(&[program::command_line("stream")]);
    text += "One client sends one message of 2 GiB, and compares each byte that comes back. CPU time of the server's process for each\n";
    text += "byte, and its ratio to the bare loop's, which reads 256 KiB at most, unmasks in place, and writes; medians of the rounds.\n";
    text += "The memory is the most that was resident, above that before the message. In parts is `echo --stream`.\n\n";
    text += "| server | CPU, ns/B | ratio | memory |\n|---|---|---|---|\n";
    let median = |costs: &[Cost]| {
        let mut times: Vec<f64> = costs.iter().map(|cost| cost.cpu.as_nanos() as f64 / SIZE as f64).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let bare = costs.first().map_or(f64::NAN, |costs| median(costs));
    for (name, costs) in names.iter().zip(costs) {
        let (time, memory) = (median(costs), costs.iter().map(|cost| cost.memory).max().unwrap_or_default());
        let _ = writeln!(text, "| {name} | {time:.3} | {:.2} | {} kB |", time / bare, memory / 1000);
    }
    text
}
