//! One scenario, once, with all servers.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peers::others::Others;
use peers::process;
use peers::report::{Load, Outcome, Report};
use peers::scenario::{Kind, Scenario};

use crate::options::Options;
use crate::servers::CommandLine;

/// So long may a server take until it listens.
const START: Duration = Duration::from_secs(10);

/// Others may have so much of a core before a run counts as disturbed. A server waits for them for up to a tick of the
/// scheduler, some milliseconds, and of its messages it takes one in a hundred to move the 99th percentile.
pub(crate) const DISTURBED: f64 = 0.02;

/// What a round of a scenario found, and how quiet the machine was.
pub(crate) struct Attempt {
    /// Of each server, in their order.
    pub(crate) reports: Vec<Result<Report, String>>,
    /// What others than the servers and the generators had of a core meanwhile, the host of a virtual machine among them.
    pub(crate) others: f64,
}

impl Attempt {
    /// Whether another might be quieter; what fails is not tried again.
    fn is_to_be_repeated(&self) -> bool {
        is_disturbed(self.others) && self.reports.iter().all(Result::is_ok)
    }
}

/// Whether what others had of a core was too much.
pub(crate) fn is_disturbed(others: f64) -> bool {
    others > DISTURBED
}

/// The first attempt that nobody disturbs or in which something fails, or else the least disturbed of `most`; and how many
/// there were.
pub(crate) fn quietest<E>(most: usize, mut attempt: impl FnMut() -> Result<Attempt, E>) -> Result<(usize, Attempt), E> {
    let mut taken = 1;
    let mut quietest = attempt()?;
    while taken < most && quietest.is_to_be_repeated() {
        eprintln!("again, for others had {:.1} %", quietest.others * 100.0);
        taken += 1;
        let latest = attempt()?;
        if latest.others < quietest.others || latest.reports.iter().any(Result::is_err) {
            quietest = latest;
        }
    }
    Ok((taken, quietest))
}

/// A scenario that is measured once with each server.
pub(crate) struct Round<'a> {
    pub(crate) options: &'a Options,
    pub(crate) loadgen: &'a Path,
    pub(crate) ahead: &'a Path,
    pub(crate) scenario: &'a Scenario,
    /// Which server goes first, modulo how many there are.
    pub(crate) first: usize,
}

impl Round<'_> {
    pub(crate) fn run(&self, servers: &[&CommandLine]) -> Result<Attempt, Box<dyn Error>> {
        match self.scenario.kind {
            Kind::Idle => Ok(self.one_by_one(servers)),
            _ => self.in_turns(servers),
        }
    }

    /// All are there all the time, and have one short turn after the other: what changes about the machine from one second
    /// to the next changes for all.
    fn in_turns(&self, servers: &[&CommandLine]) -> Result<Attempt, Box<dyn Error>> {
        let open = |line: &&CommandLine| Measured::open(self, line);
        let mut measured: Vec<Result<Measured, Box<dyn Error>>> = servers.iter().map(open).collect();
        let processes = measured.iter().flatten().flat_map(Measured::processes);
        let others = Others::but(&processes.chain([std::process::id()]).collect::<Vec<_>>())?;
        for turn in 0..self.turns() {
            for place in 0..servers.len() {
                let next = &mut measured[(self.first + turn + place) % servers.len()];
                if let Err(error) = next.as_mut().map_or(Ok(()), Measured::turn) {
                    *next = Err(error);
                }
            }
        }
        let others = others.share_since()?;
        let report = |measured: Result<Measured, Box<dyn Error>>| measured?.report();
        let reports = measured.into_iter().map(|measured| report(measured).map_err(|error| error.to_string()));
        Ok(Attempt { reports: reports.collect(), others })
    }

    /// Servers give the memory of large messages back when they have nothing to do, and do not need it back with each turn.
    fn turns(&self) -> usize {
        if self.scenario.size >= 1 << 20 { 1 } else { self.options.turns }
    }

    /// What a server holds is seen from how it grows, once. Nothing is timed, so nobody is in the way.
    fn one_by_one(&self, servers: &[&CommandLine]) -> Attempt {
        let report = |line: &CommandLine| -> Result<Report, Box<dyn Error>> {
            let server = Running::start(self, line)?;
            report(self.generator(&server, &self.options.generator_core)?.output()?)
        };
        let reports = servers.iter().map(|line| report(line).map_err(|error| error.to_string()));
        Attempt { reports: reports.collect(), others: 0.0 }
    }

    /// Where load generators run, which share the connections. Two threads of a server can only be kept as busy as one by
    /// as many generators; in an open loop they are not to be.
    fn generator_cores(&self) -> Vec<&[usize]> {
        let cores = &self.options.generator_core;
        match self.scenario.kind {
            Kind::Echo { .. } if self.options.scaling => cores.chunks(1).collect(),
            _ => vec![cores],
        }
    }

    /// A load generator for a server, to be started on these cores.
    fn generator(&self, server: &Running, cores: &[usize]) -> Result<Command, Box<dyn Error>> {
        process::pin(cores)?;
        let mut command = Command::new(self.ahead);
        command
            .arg(self.loadgen)
            .arg(server.addr.to_string())
            .args(["--scenario", self.scenario.name])
            .args(["--pid", &server.child.id().to_string()])
            .args(["--seconds", &(self.options.seconds / self.turns() as f64).to_string()])
            .args(["--warm-up", &self.options.warm_up.to_string()]);
        Ok(command)
    }
}

fn report(output: Output) -> Result<Report, Box<dyn Error>> {
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(error.trim().trim_start_matches("error: ").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A server and its load generators, whose connections are open.
struct Measured {
    generators: Vec<Generator>,
    server: Running,
}

impl Measured {
    fn open(round: &Round<'_>, line: &CommandLine) -> Result<Measured, Box<dyn Error>> {
        let server = Running::start(round, line)?;
        let places = round.generator_cores();
        let connections = (round.scenario.connections / places.len()).to_string();
        let generator = |cores: &[usize]| {
            Generator::open(round.generator(&server, cores)?.args(["--connections", &connections, "--turns"]))
        };
        let generators = places.into_iter().map(generator).collect::<Result<_, _>>()?;
        Ok(Measured { generators, server })
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        self.generators.iter().map(|generator| generator.child.id()).chain([self.server.child.id()])
    }

    /// All generators at the same time.
    fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        self.generators.iter_mut().try_for_each(Generator::tell)?;
        self.generators.iter_mut().try_for_each(Generator::answer)
    }

    fn report(mut self) -> Result<Report, Box<dyn Error>> {
        let (mut loads, mut connections) = (Vec::new(), 0);
        let mut scenario = String::new();
        for generator in &mut self.generators {
            let report = report(generator.end()?)?;
            let Outcome::Load(load) = report.outcome else { return Err("it measured no messages".into()) };
            loads.push(load);
            connections += report.connections;
            scenario = report.scenario;
        }
        let load = Load::of_all(&loads).ok_or("there is no load generator")?;
        Ok(Report { scenario, connections, outcome: Outcome::Load(load) })
    }
}

/// A load generator, which ends with this.
struct Generator {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Generator {
    /// Once its connections are open.
    fn open(command: &mut Command) -> Result<Generator, Box<dyn Error>> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("its output is not there")?);
        let mut generator = Generator { child, answers };
        generator.answer()?;
        Ok(generator)
    }

    /// Lets it take a turn.
    fn tell(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.child.stdin.as_mut().ok_or("its input is not there")?.write_all(b"\n")?)
    }

    fn answer(&mut self) -> Result<(), Box<dyn Error>> {
        match self.answers.read_line(&mut String::new())? {
            0 => Err(report(self.end()?).err().unwrap_or_else(|| "the load generator ended by itself".into())),
            _ => Ok(()),
        }
    }

    /// With its input at its end, the generator reports and ends.
    fn end(&mut self) -> io::Result<Output> {
        drop(self.child.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.answers.read_to_end(&mut stdout)?;
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_end(&mut stderr)?;
        }
        Ok(Output { status: self.child.wait()?, stdout, stderr })
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It can only fail where the generator has ended by itself, as it mostly has.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server's process, which ends with this.
struct Running {
    child: Child,
    addr: SocketAddr,
}

impl Running {
    fn start(round: &Round<'_>, line: &CommandLine) -> Result<Running, Box<dyn Error>> {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let replace = |word: &String| {
            let (host, port) = (addr.ip().to_string(), addr.port().to_string());
            let word = word.replace("{addr}", &addr.to_string()).replace("{scenario}", round.scenario.name);
            word.replace("{host}", &host).replace("{port}", &port)
        };
        let words: Vec<String> = line.iter().map(replace).collect();
        let [program, arguments @ ..] = words.as_slice() else { return Err("an empty command".into()) };
        // What is started inherits the cores.
        process::pin(&round.options.server_core)?;
        let child =
            Command::new(round.ahead).arg(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut running = Running { child: child.map_err(|error| format!("{program}: {error}"))?, addr };
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if let Some(status) = running.child.try_wait()? {
                return Err(format!("{program} ended before it listened: {status}").into());
            }
            if start.elapsed() > START {
                return Err(format!("{program} does not listen on {addr} after {START:?}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It can only fail where the server has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use peers::report::{Memory, Outcome, PerConnection, Report};

    use super::{Attempt, quietest};

    /// What comes of attempts with these shares of others; in one that is negative a server fails.
    fn taken(most: usize, others: &[f64]) -> (usize, f64) {
        let mut others = others.iter().copied();
        let attempt = || {
            let others = others.next().ok_or("no attempt more than these")?;
            let none = || PerConnection { anonymous: 0.0, resident: 0.0 };
            let outcome = Outcome::Memory(Memory { fresh: none(), after_echo: none(), threads: 1 });
            let report = Report { scenario: "idle-memory".to_owned(), connections: 1, outcome };
            let second = if others < 0.0 { Err("failed".to_owned()) } else { Ok(report.clone()) };
            Ok::<_, &str>(Attempt { reports: vec![Ok(report), second], others: others.abs() })
        };
        let (taken, quietest) = quietest(most, attempt).unwrap();
        (taken, quietest.others)
    }

    #[test]
    fn a_round_is_taken_again_until_the_machine_is_quiet() {
        assert_eq!(taken(3, &[0.01]), (1, 0.01));
        assert_eq!(taken(3, &[0.05, 0.01]), (2, 0.01));
        assert_eq!(taken(3, &[0.05, 0.03, 0.04]), (3, 0.03));
        assert_eq!(taken(1, &[0.05]), (1, 0.05));
    }

    #[test]
    fn what_fails_stands() {
        assert_eq!(taken(3, &[-0.05]), (1, 0.05));
        assert_eq!(taken(3, &[0.05, -0.06]), (2, 0.06));
    }
}
