//! Compares clients: the CPU time of a client's process for each message that it receives, or echoes.

mod options;
mod server;
mod table;

use std::error::Error;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use peers::background::Background;
use peers::machine::Machine;
use peers::process::{self, Process};
use peers::{cargo, program};
use serde::Serialize;

use options::Options;
use server::{Connection, Scenario};

/// A client must connect within this time.
const START: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    program::run(options::USAGE, Options::parse, clients)
}

/// The measurements of all rounds.
#[derive(Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) commands: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) scenarios: Vec<&'static str>,
    pub(crate) clients: Vec<String>,
    pub(crate) runs: Vec<Run>,
}

/// A client in one round of a scenario.
#[derive(Serialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) scenario: &'static str,
    pub(crate) client: String,
    /// The share of a core that other programs used during the round.
    pub(crate) background: f64,
    pub(crate) figures: Result<Figures, String>,
}

/// The sum of all slices.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) messages: u64,
    /// CPU time of the client's process.
    pub(crate) cpu: Duration,
    pub(crate) elapsed: Duration,
}

impl Figures {
    pub(crate) fn nanos_per_message(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.messages as f64
    }

    pub(crate) fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }
}

fn clients(options: &Options) -> Result<(), Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err("only a release build measures: cargo run --release".into());
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = cargo::build(package, &["--workspace", "--bin", "raise_priority", "--bin", "peer-clients"])?;
    let program = |name: &str| built.get(name).cloned().ok_or_else(|| format!("{name} was not built"));
    let programs = Programs { client: program("peer-clients")?, raise_priority: program("raise_priority")? };
    let results = measure(options, &programs)?;
    let tables = table::all(&results);
    println!("{tables}");
    fs::create_dir_all(&options.out)?;
    let path = |extension: &str| options.out.join(format!("{}.{extension}", options.name));
    fs::write(path("json"), serde_json::to_string_pretty(&results)?)?;
    fs::write(path("md"), tables)?;
    println!("written to {}", options.out.display());
    match results.runs.iter().filter(|run| run.figures.is_err()).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} runs FAILED", results.runs.len()).into()),
    }
}

struct Programs {
    client: PathBuf,
    raise_priority: PathBuf,
}

/// Measures each scenario in each round with all clients, whose slices alternate. The client that starts changes.
fn measure(options: &Options, programs: &Programs) -> Result<Results, Box<dyn Error>> {
    let machine = Machine::look();
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for scenario in &options.scenarios {
            eprintln!("round {round}/{}  {}", options.rounds, scenario.name);
            let open = |name: &String| Measured::open(programs, options, scenario, name);
            let mut clients: Vec<Result<Measured, String>> = options.clients.iter().map(open).collect();
            let own: Vec<u32> = clients.iter().flatten().map(|client| client.child.id()).collect();
            let background = Background::sample(&[own, vec![std::process::id()]].concat())?;
            for slice in 0..options.slices {
                for place in 0..clients.len() {
                    let next = (round + slice + place) % clients.len();
                    if let Err(error) = clients[next].as_mut().map_or(Ok(()), |client| client.run_slice(options)) {
                        clients[next] = Err(error.to_string());
                    }
                }
            }
            let background = background.share_since()?;
            for (client, measured) in options.clients.iter().zip(clients) {
                let figures = measured.map(|client| client.figures);
                match &figures {
                    Ok(figures) => eprintln!("    {client:24} {:8.1} ns", figures.nanos_per_message()),
                    Err(error) => eprintln!("    {client:24} FAILED: {error}"),
                }
                runs.push(Run { round, scenario: scenario.name, client: client.clone(), background, figures });
            }
        }
    }
    Ok(Results {
        machine,
        commands: vec![program::command_line("clients")],
        rounds: options.rounds,
        scenarios: options.scenarios.iter().map(|scenario| scenario.name).collect(),
        clients: options.clients.clone(),
        runs,
    })
}

/// A client's process and the connection to it. Dropping this ends it.
struct Measured {
    child: Child,
    process: Process,
    connection: Connection,
    figures: Figures,
}

impl Measured {
    fn open(programs: &Programs, options: &Options, scenario: &Scenario, name: &str) -> Result<Measured, String> {
        Measured::try_open(programs, options, scenario, name).map_err(|error| error.to_string())
    }

    fn try_open(
        programs: &Programs,
        options: &Options,
        scenario: &Scenario,
        name: &str,
    ) -> Result<Measured, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        // A process inherits the cores of the thread that starts it.
        process::pin(&[options.core])?;
        let mut command = Command::new(&programs.raise_priority);
        command.arg(&programs.client).arg(name).arg(listener.local_addr()?.to_string());
        command.args(["--mode", scenario.mode(), "--size", &scenario.size.to_string()]);
        let mut child = command.stdin(Stdio::null()).spawn()?;
        process::pin(&[options.other_core])?;
        let opened = accept(&listener, &mut child).and_then(|stream| Connection::accept(stream, scenario));
        let connection = opened.inspect_err(|_| drop(child.kill().and_then(|()| child.wait())))?;
        let process = Process::new(child.id())?;
        Ok(Measured { child, process, connection, figures: Figures::default() })
    }

    /// Warms up, and measures.
    fn run_slice(&mut self, options: &Options) -> Result<(), Box<dyn Error>> {
        self.connection.run(options.warm_up)?;
        let (before, begun) = (self.process.cost()?, Instant::now());
        self.figures.messages += self.connection.run(options.measured)?;
        self.figures.elapsed += begun.elapsed();
        self.figures.cpu += self.process.cost()?.cpu - before.cpu;
        Ok(())
    }
}

/// Waits for the client's connection, without an end only as long as the client runs.
fn accept(listener: &TcpListener, child: &mut Child) -> Result<std::net::TcpStream, Box<dyn Error>> {
    listener.set_nonblocking(true)?;
    let begun = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("the client ended: {status}").into());
        }
        if begun.elapsed() > START {
            return Err("the client does not connect".into());
        }
        std::thread::yield_now();
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
