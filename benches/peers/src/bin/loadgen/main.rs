//! Loads a WebSocket server with one scenario, and prints the measurement as one line of JSON.
//!
//! It is one thread, and its frames are encoded in advance. While it measures it polls without ever sleeping, so that the
//! server spends no time on waking it.

mod connect;
mod connection;
mod deflate;
mod dial;
mod echo;
mod fanout;
mod idle;
mod meter;
mod neighbours;
mod open_loop;
mod replies;
mod slices;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use connect::Connect;
use echo::Echo;
use fanout::FanOut;
use lexopt::prelude::*;
use open_loop::OpenLoop;
use peers::process::{self, Process};
use peers::program;
use peers::report::{Outcome, Report};
use peers::scenario::{Kind, Scenario};
use peers::target::Target;

const USAGE: &str = "\
Loads a WebSocket server and prints one line of JSON.

Usage: loadgen ADDR --pid PID --scenario NAME [OPTIONS]

  ADDR             the server's address, such as 127.0.0.1:8080 or unix:/tmp/echo.sock
  --pid PID        the server's process, whose CPU time and memory are read
  --scenario NAME  what to send, such as echo-32B; an unknown name lists all of them
  --seconds S      how long to measure (default 1.5)
  --warm-up S      how long to send before that (default 0.3)
  --slices         measure one slice of time for each line on standard input, and report on all slices at its end. An
                   empty line on standard output says that the connections are open, and then that a slice is over.
                   From the second slice on, the warm-up is at most 0.2 s
  --core N,...     the cores to run on (default: any)
  --connections N, --size BYTES, --in-flight N, --rate PER_SECOND
                   override what the scenario says
  --neighbours     three more clients that misbehave, in an echo or an open loop: one reads nothing, one reads a
                   trickle, and one floods
  --help           this text
";

/// An error is reported if no reply arrives for this long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// The command line.
pub(crate) struct Run {
    pub(crate) target: Target,
    pub(crate) server: Process,
    pub(crate) scenario: Scenario,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) slices: bool,
    /// Whether clients that misbehave are connected as well.
    pub(crate) neighbours: bool,
}

fn main() -> ExitCode {
    program::run(USAGE, parse, |run| {
        let report = measure(run).map_err(|error| format!("{}: {error}", run.scenario.name))?;
        println!("{}", serde_json::to_string(&report)?);
        Ok(())
    })
}

fn measure(run: &Run) -> Result<Report, Box<dyn Error>> {
    let limit = process::raise_descriptor_limit()?;
    let connections = run.scenario.connections;
    if limit < connections as u64 + 64 {
        return Err(format!("{connections} connections need more than the {limit} descriptors allowed").into());
    }
    let load = match run.scenario.kind {
        Kind::Echo { in_flight } | Kind::Deflate { in_flight } => slices::run(run, Echo::open(run, in_flight)?),
        Kind::OpenLoop { rate } => slices::run(run, OpenLoop::open(run, rate)?),
        Kind::FanOut { in_flight } => slices::run(run, FanOut::open(run, in_flight)?),
        Kind::Connect => slices::run(run, Connect::new(run)?),
        Kind::Idle => return Ok(report(run, idle::run(run)?)),
    };
    Ok(report(run, Outcome::Load(load?)))
}

fn report(run: &Run, outcome: Outcome) -> Report {
    Report { scenario: run.scenario.name.to_owned(), connections: run.scenario.connections, outcome }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Run>, Box<dyn Error>> {
    let (mut addr, mut pid, mut scenario) = (None, None, None);
    let (mut warm_up, mut measured) = (Duration::from_millis(300), Duration::from_millis(1500));
    let (mut connections, mut size, mut in_flight, mut rate) = (None, None, None, None);
    let (mut slices, mut neighbours) = (false, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("pid") => pid = Some(parser.value()?.parse()?),
            Long("scenario") => scenario = Some(parser.value()?.parse_with(Scenario::named)?),
            Long("seconds") => measured = parser.value()?.parse_with(seconds)?,
            Long("warm-up") => warm_up = parser.value()?.parse_with(seconds)?,
            Long("slices") => slices = true,
            Long("neighbours") => neighbours = true,
            Long("core") => process::pin(&parser.value()?.parse_with(process::cores)?)?,
            Long("connections") => connections = Some(parser.value()?.parse()?),
            Long("size") => size = Some(parser.value()?.parse()?),
            Long("in-flight") => in_flight = Some(parser.value()?.parse()?),
            Long("rate") => rate = Some(parser.value()?.parse()?),
            Short('h') | Long("help") => return Ok(None),
            Value(value) if addr.is_none() => addr = Some(value.parse()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let mut scenario: Scenario = scenario.ok_or("--scenario is missing")?;
    scenario.connections = connections.unwrap_or(scenario.connections);
    scenario.size = size.unwrap_or(scenario.size);
    match (&mut scenario.kind, in_flight, rate) {
        (_, None, None) => {}
        (Kind::Echo { in_flight } | Kind::Deflate { in_flight } | Kind::FanOut { in_flight }, Some(wanted), None) => {
            *in_flight = wanted
        }
        (Kind::OpenLoop { rate }, None, Some(wanted)) => *rate = wanted,
        _ => return Err(format!("--in-flight and --rate: not both, and not with {}", scenario.name).into()),
    }
    let (connections, burst) = (scenario.connections, scenario.burst());
    if connections == 0 || burst == 0 || matches!(scenario.kind, Kind::OpenLoop { rate: 0 }) {
        return Err("--connections, --in-flight and --rate: at least 1".into());
    }
    if matches!(scenario.kind, Kind::Deflate { .. }) && scenario.size < 200 {
        return Err("--size: at least 200 for a JSON text".into());
    }
    if slices && matches!(scenario.kind, Kind::Idle) {
        return Err(format!("--slices: {} has only one", scenario.name).into());
    }
    if neighbours && (scenario.tls || !matches!(scenario.kind, Kind::Echo { .. } | Kind::OpenLoop { .. })) {
        return Err(format!("--neighbours: not with {}", scenario.name).into());
    }
    let target = addr.ok_or("the server's address is missing")?;
    let server = Process::new(pid.ok_or("--pid is missing")?)?;
    Ok(Some(Run { target, server, scenario, warm_up, measured, slices, neighbours }))
}

fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}
