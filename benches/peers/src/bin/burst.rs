//! How long an echo takes on established connections while many handshakes of TLS arrive at once, compared with none.
//!
//! Two threads measure. One sends a message to one connection after the other, and waits for each reply. The other has
//! connected many sockets, and sends the first message of the handshake on all of them at the same moment. An echo counts
//! until the server has answered them all. The client does not continue these handshakes meanwhile, so that it takes little of
//! the cores: what the server does at once, the key agreement and its signature, is most of a handshake.
//!
//! For comparison the same handshakes go to another process, the floor: there it is the scheduler alone that shares the cores.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lexopt::prelude::*;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use peers::frames::{Frames, Opcode};
use peers::handshake::{self, Request};
use peers::machine::Machine;
use peers::tls::{self, Handshake, Stream};
use peers::{cargo, median, priority, process, program};

const USAGE: &str = "\
Measures established echoes while many handshakes of TLS arrive.

Usage: burst [OPTIONS]

  --handshakes N  how many arrive at once (default 1000)
  --rounds N      how often (default 20)
  --workers N     the server's workers (default 2)
  --tls-examples-dir DIR
                  where the library's examples are, built with --release --features rustls-tls (default: build them)
  --out DIR       where to write the results (default benches/results)
  --name NAME     the name of the results (default tls-burst)
  --help          print this text
";

/// The connections that echo, one after the other.
const ECHOES: usize = 20;

/// The size of their messages.
const SIZE: usize = 32;

/// Between two echoes.
const PAUSE: Duration = Duration::from_micros(100);

/// An error is reported if nothing happens for this long.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Latencies above this are recorded as this, in nanoseconds.
const MAX_LATENCY: u64 = 60_000_000_000;

/// Both servers have rest between two measurements.
const REST: Duration = Duration::from_millis(50);

struct Options {
    handshakes: usize,
    rounds: usize,
    workers: usize,
    examples_dir: Option<PathBuf>,
    out: PathBuf,
    name: String,
}

fn main() -> ExitCode {
    program::run(USAGE, parse, measure)
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let out = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../results"));
    let name = "tls-burst".to_owned();
    let mut options = Options { handshakes: 1000, rounds: 20, workers: 2, examples_dir: None, out, name };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("handshakes") => options.handshakes = parser.value()?.parse()?,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("workers") => options.workers = parser.value()?.parse()?,
            Long("tls-examples-dir") => options.examples_dir = Some(PathBuf::from(parser.value()?)),
            Long("out") => options.out = PathBuf::from(parser.value()?),
            Long("name") => options.name = parser.value()?.string()?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(options))
}

/// What goes on while an echo is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It does not count.
    Between,
    Idle,
    /// Handshakes at the server that echoes.
    Burst,
    /// Handshakes at another process.
    Elsewhere,
    /// The measurement has ended.
    Over,
}

impl Phase {
    const MEASURED: [(Phase, &str); 3] = [
        (Phase::Idle, "no handshakes"),
        (Phase::Burst, "handshakes at the same server"),
        (Phase::Elsewhere, "handshakes at another process"),
    ];
}

/// The latencies of a phase in a round.
struct Figures {
    phase: Phase,
    round: usize,
    latencies: Histogram<u64>,
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err("only a release build measures: cargo run --release".into());
    }
    process::raise_descriptor_limit()?;
    let machine = Machine::look();
    let this = std::env::current_exe()?;
    let beside = |name: &str| this.with_file_name(name);
    cargo::build(Path::new(env!("CARGO_MANIFEST_DIR")), &["--package", "peers"])?;
    let echo = match &options.examples_dir {
        Some(dir) => dir.join("echo"),
        None => {
            let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let target = this.parent().ok_or("this program is in no directory")?.join("rustls-tls");
            let target = target.display().to_string();
            let what = ["--example", "echo", "--features", "rustls-tls", "--target-dir", &target];
            cargo::build(&library, &what)?.remove("echo").ok_or("the echo server cannot be built")?
        }
    };
    let certificate = beside("certificate");
    tls::write_certificate(&certificate)?;
    let workers = options.workers.to_string();
    let raise = beside("raise_priority");
    let server = Server::start(&raise, &echo, &certificate, &["--workers", &workers, "--idle-timeout", "600"])?;
    let floor = Server::start(&raise, &beside("floor"), &certificate, &["--scenario", "connect-tls"])?;
    // This process is measured like the load generator.
    let _ = priority::raise();

    let phase = Arc::new(AtomicUsize::new(Phase::Between as usize));
    let latencies = Arc::new(Mutex::new(Histogram::<u64>::new_with_max(MAX_LATENCY, 3)?));
    {
        let (phase, latencies, addr) = (Arc::clone(&phase), Arc::clone(&latencies), server.addr);
        thread::spawn(move || {
            let outcome = Echoes::open(addr).and_then(|mut echoes| echoes.run(&phase, &latencies));
            // In the end the servers are killed.
            if let Err(error) = outcome
                && phase.load(Ordering::SeqCst) != Phase::Over as usize
            {
                eprintln!("error: an echo: {error}");
                std::process::exit(1);
            }
        });
    }
    let set = |wanted: Phase| phase.store(wanted as usize, Ordering::SeqCst);
    let all = rounds(options, [server.addr, floor.addr], set, &latencies);
    set(Phase::Over);
    let text = report(options, &machine, &all?)?;
    println!("{text}");
    fs::create_dir_all(&options.out)?;
    fs::write(options.out.join(format!("{}.md", options.name)), text)?;
    Ok(())
}

/// Measures all phases in each round, with handshakes at the first address or at the second.
fn rounds(
    options: &Options,
    [server, floor]: [SocketAddr; 2],
    set: impl Fn(Phase),
    latencies: &Mutex<Histogram<u64>>,
) -> Result<Vec<Figures>, Box<dyn Error>> {
    let mut all = Vec::new();
    for round in 0..options.rounds {
        eprintln!("round {}/{}", round + 1, options.rounds);
        let mut lasted = Duration::ZERO;
        for (measured, _) in [Phase::MEASURED[1], Phase::MEASURED[2], Phase::MEASURED[0]] {
            let addr = if measured == Phase::Burst { server } else { floor };
            let burst = if measured == Phase::Idle { None } else { Some(Burst::connect(addr, options.handshakes)?) };
            thread::sleep(REST);
            lock(latencies).reset();
            set(measured);
            let start = Instant::now();
            match burst {
                Some(burst) => burst.run()?,
                None => thread::sleep(lasted),
            }
            lasted = lasted.max(start.elapsed());
            set(Phase::Between);
            thread::sleep(REST);
            all.push(Figures { phase: measured, round, latencies: lock(latencies).clone() });
        }
    }
    Ok(all)
}

fn lock(latencies: &Mutex<Histogram<u64>>) -> std::sync::MutexGuard<'_, Histogram<u64>> {
    latencies.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server. Dropping this ends it.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(raise: &Path, program: &Path, certificate: &Path, more: &[&str]) -> Result<Server, Box<dyn Error>> {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(raise);
        command.arg(program).arg(addr.to_string()).args(more);
        command.arg("--cert").arg(certificate.join("chain.pem")).arg("--key").arg(certificate.join("key.pem"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut server = Server { child, addr };
        let start = Instant::now();
        while std::net::TcpStream::connect(addr).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("{} ended before it listened: {status}", program.display()).into());
            }
            if start.elapsed() > TIMEOUT {
                return Err(format!("{} does not listen", program.display()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that the server has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects, and begins with a handshake once the socket is connected.
fn connect(poll: &Poll, index: usize, addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect(addr)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
    Ok(stream)
}

/// Waits for an event.
fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    poll.poll(events, Some(TIMEOUT))?;
    if events.is_empty() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing for {TIMEOUT:?}")));
    }
    Ok(())
}

/// Sockets that are connected, and have not begun with TLS.
struct Burst {
    poll: Poll,
    streams: Vec<Stream>,
}

impl Burst {
    fn connect(addr: SocketAddr, count: usize) -> io::Result<Burst> {
        let poll = Poll::new()?;
        let config = tls::client_config()?;
        let connect = |index| {
            let stream = connect(&poll, index, addr)?;
            let mut stream = Stream::Handshaking(Box::new(Handshake::client(stream, &config)?));
            stream.prepare()?;
            Ok(stream)
        };
        let streams = (0..count).map(connect).collect::<io::Result<_>>()?;
        Ok(Burst { poll, streams })
    }

    /// Begins all handshakes, and waits until the server has answered them all.
    fn run(mut self) -> io::Result<()> {
        for stream in &mut self.streams {
            stream.begin()?;
        }
        let mut events = Events::with_capacity(1024);
        let mut answered = vec![false; self.streams.len()];
        let mut left = answered.len();
        while left > 0 {
            wait(&mut self.poll, &mut events)?;
            for event in &events {
                let Token(index) = event.token();
                if !std::mem::replace(&mut answered[index], true) {
                    left -= 1;
                }
            }
        }
        Ok(())
    }
}

/// Established connections.
struct Echoes {
    poll: Poll,
    streams: Vec<Stream>,
}

impl Echoes {
    fn open(addr: SocketAddr) -> io::Result<Echoes> {
        let mut poll = Poll::new()?;
        let config = tls::client_config()?;
        let request = Request::new(&addr.to_string());
        let mut streams = Vec::new();
        let mut events = Events::with_capacity(16);
        for index in 0..ECHOES {
            let stream = connect(&poll, index, addr)?;
            let mut stream = Stream::Handshaking(Box::new(Handshake::client(stream, &config)?));
            while !stream.is_ready()? {
                wait(&mut poll, &mut events)?;
            }
            stream.write_first(request.as_bytes())?;
            let mut response = Vec::new();
            while !response.ends_with(handshake::END) {
                wait(&mut poll, &mut events)?;
                read(&mut stream, &mut response)?;
            }
            request.check(&response).map_err(io::Error::other)?;
            streams.push(stream);
        }
        Ok(Echoes { poll, streams })
    }

    fn run(&mut self, phase: &AtomicUsize, latencies: &Mutex<Histogram<u64>>) -> io::Result<()> {
        let message = Frames::from_client(Opcode::Text, SIZE, [1, 2, 3, 4], 1);
        let reply = Frames::from_server(Opcode::Text, SIZE, 1);
        let mut events = Events::with_capacity(16);
        let (mut scratch, mut received) = (Vec::new(), Vec::new());
        for index in (0..self.streams.len()).cycle() {
            let stream = &mut self.streams[index];
            let before = phase.load(Ordering::SeqCst);
            let start = Instant::now();
            stream.write(message.piece(0, message.frame_len()), &mut scratch)?;
            received.clear();
            while received.len() < reply.frame_len() {
                wait(&mut self.poll, &mut events)?;
                read(stream, &mut received)?;
            }
            let took = start.elapsed();
            if received != reply.piece(0, reply.frame_len()) {
                return Err(io::Error::other("the reply is not the message"));
            }
            if before != Phase::Between as usize && before == phase.load(Ordering::SeqCst) {
                lock(latencies).saturating_record(u64::try_from(took.as_nanos()).unwrap_or(MAX_LATENCY));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Reads until the socket is empty.
fn read(stream: &mut Stream, received: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 20 << 10];
    let mut may_have_more = true;
    while may_have_more {
        may_have_more = stream.read(&mut buffer, |read| {
            received.extend_from_slice(read);
            Ok(())
        })?;
    }
    Ok(())
}

fn report(options: &Options, machine: &Machine, all: &[Figures]) -> Result<String, Box<dyn Error>> {
    let mut text = machine.heading(&[program::command_line("burst")]);
    let _ = writeln!(
        text,
        "Latency of an echo of {SIZE} B over TLS on established connections, one at a time, while {} handshakes of TLS arrive at once, \
         {} times, at a server with {} workers; until the server has answered the last of them. In microseconds, of all \
         rounds together; in parentheses the ratio to no handshakes. The last column is the median of the p99 of each round.\n",
        options.handshakes, options.rounds, options.workers
    );
    text += "| | echoes | p50 | p99 | p99.9 | p99 of a round |\n|---|---|---|---|---|---|\n";
    let mut idle: Option<[f64; 4]> = None;
    for (phase, name) in Phase::MEASURED {
        let mut total = Histogram::<u64>::new_with_max(MAX_LATENCY, 3)?;
        let mut by_round = Vec::new();
        for figures in all.iter().filter(|figures| figures.phase == phase && !figures.latencies.is_empty()) {
            total.add(&figures.latencies)?;
            by_round.push(figures.latencies.value_at_quantile(0.99) as f64 / 1e3);
        }
        let at = |quantile| total.value_at_quantile(quantile) as f64 / 1e3;
        let figures = [at(0.5), at(0.99), at(0.999), median(&by_round)];
        let idle = *idle.get_or_insert(figures);
        let cells: Vec<_> = figures.iter().zip(idle).map(|(us, idle)| format!("{us:.0} ({:.2})", us / idle)).collect();
        let _ = writeln!(text, "| {name} | {} | {} |", total.len(), cells.join(" | "));
    }
    let rounds = all.iter().map(|figures| figures.round + 1).max().unwrap_or_default();
    let _ = writeln!(text, "\n{rounds} rounds.");
    Ok(text)
}
