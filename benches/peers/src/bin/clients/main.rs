//! Compares clients: the CPU time of a client's process for each message that it receives, or echoes.

mod options;
mod programs;
mod server;
mod table;

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use peers::background::Background;
use peers::machine::Machine;
use peers::started::Started;
use peers::{process, program, tls};
use serde::Serialize;

use options::Options;
use programs::{PYTHON, Programs};
use server::{Connection, Scenario, Transport};

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
    let programs = Programs::build(options)?;
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

/// Measures each scenario in each round with all clients, whose slices alternate. The client that starts changes.
fn measure(options: &Options, programs: &Programs) -> Result<Results, Box<dyn Error>> {
    let machine = Machine::look();
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for scenario in &options.scenarios {
            eprintln!("round {round}/{}  {}", options.rounds, scenario.name);
            let names: Vec<&str> = options.clients_of(scenario).collect();
            let open = |name: &&str| Measured::open(programs, options, scenario, name);
            let mut clients: Vec<Result<Measured, String>> = names.iter().map(open).collect();
            let own: Vec<u32> = clients.iter().flatten().map(|client| client.started.id()).collect();
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
            for (client, measured) in names.into_iter().zip(clients) {
                let figures = measured.map(|client| client.figures);
                match &figures {
                    Ok(figures) => eprintln!("    {client:24} {:8.1} ns", figures.nanos_per_message()),
                    Err(error) => eprintln!("    {client:24} FAILED: {error}"),
                }
                runs.push(Run { round, scenario: scenario.name, client: client.to_owned(), background, figures });
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
    started: Started,
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
        let mut command = Command::new(&programs.raise_priority);
        let (addr, size, first) = (listener.local_addr()?.to_string(), scenario.size.to_string(), scenario.first());
        if name == PYTHON {
            command.arg(&programs.python).arg(&programs.feed).args([addr, size, first.to_string()]);
        } else {
            command.arg(programs.client(scenario.transport)).arg(name).arg(addr);
            command.args(["--mode", scenario.mode(), "--size", &size, "--first", &first.to_string()]);
        }
        let file = |name: &str| programs.certificate.join(name);
        let config = match scenario.transport {
            Transport::Plain => None,
            Transport::Tls => {
                command.arg("--root").arg(file("chain.pem"));
                Some(tls::server_config(&file("chain.pem"), &file("key.pem"))?)
            }
            Transport::Deflate => {
                command.arg("--deflate");
                None
            }
        };
        // A process inherits the cores of the thread that starts it.
        process::pin(&[options.core])?;
        let started = Started::new(&mut command);
        process::pin(&[options.other_core])?;
        let mut started = started?;
        let connection = Connection::accept(started.accept(&listener)?, scenario, config.as_ref())?;
        Ok(Measured { started, connection, figures: Figures::default() })
    }

    /// Warms up, and measures.
    fn run_slice(&mut self, options: &Options) -> Result<(), Box<dyn Error>> {
        self.connection.run(options.warm_up)?;
        let (before, begun) = (self.started.process.cost()?, Instant::now());
        self.figures.messages += self.connection.run(options.measured)?;
        self.figures.elapsed += begun.elapsed();
        self.figures.cpu += self.started.process.cost()?.cpu - before.cpu;
        Ok(())
    }
}
