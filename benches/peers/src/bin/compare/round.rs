//! One scenario, once, with all servers.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peers::background::Background;
use peers::process;
use peers::report::{Load, Outcome, Report};
use peers::scenario::{Kind, Scenario};
use peers::target::Target;

use crate::options::{Options, Preset};
use crate::servers::{CommandLine, Neighbours};

/// A server must listen within this time.
const START: Duration = Duration::from_secs(10);

/// A run counts as disturbed if other programs used more than this share of a core. A server waits for them for up to a tick
/// of the scheduler, some milliseconds, and one late message in a hundred changes the 99th percentile.
pub(crate) const DISTURBED: f64 = 0.02;

/// One measurement of a scenario with all servers.
pub(crate) struct Attempt {
    /// The report of each server, in their order.
    pub(crate) reports: Vec<Result<Report, String>>,
    /// The share of a core that other programs, and the host of a virtual machine, used meanwhile.
    pub(crate) background: f64,
}

impl Attempt {
    /// Whether to measure again. A run that failed is not repeated.
    fn should_repeat(&self) -> bool {
        is_disturbed(self.background) && self.reports.iter().all(Result::is_ok)
    }
}

/// Whether other programs used too much of a core.
pub(crate) fn is_disturbed(background: f64) -> bool {
    background > DISTURBED
}

/// Measures until an attempt is undisturbed or fails, but at most `most` times. Returns the number of attempts, and that
/// attempt or the least disturbed one.
pub(crate) fn quietest<E>(most: usize, mut attempt: impl FnMut() -> Result<Attempt, E>) -> Result<(usize, Attempt), E> {
    let mut taken = 1;
    let mut quietest = attempt()?;
    while taken < most && quietest.should_repeat() {
        eprintln!("repeated, because other programs used {:.1} % of a core", quietest.background * 100.0);
        taken += 1;
        let latest = attempt()?;
        if latest.background < quietest.background || latest.reports.iter().any(Result::is_err) {
            quietest = latest;
        }
    }
    Ok((taken, quietest))
}

/// Measures a scenario once with each server.
pub(crate) struct Round<'a> {
    pub(crate) options: &'a Options,
    pub(crate) loadgen: &'a Path,
    pub(crate) raise_priority: &'a Path,
    /// Where the certificate and its key are.
    pub(crate) certificate: &'a Path,
    pub(crate) scenario: &'a Scenario,
    /// The server that starts, modulo the number of servers.
    pub(crate) first: usize,
}

impl Round<'_> {
    /// Measures these servers, each with whether clients that misbehave are connected to it as well.
    pub(crate) fn run(&self, servers: &[(&CommandLine, Neighbours)]) -> Result<Attempt, Box<dyn Error>> {
        match self.scenario.kind {
            Kind::Idle => Ok(self.sequential(servers)),
            _ => self.interleaved(servers),
        }
    }

    /// All servers run all the time, and short slices of them alternate. So a change of the machine's speed affects all.
    fn interleaved(&self, servers: &[(&CommandLine, Neighbours)]) -> Result<Attempt, Box<dyn Error>> {
        let open = |(line, neighbours): &(&CommandLine, Neighbours)| LoadedServer::open(self, line, *neighbours);
        let mut measured: Vec<Result<LoadedServer, Box<dyn Error>>> = servers.iter().map(open).collect();
        let processes = measured.iter().flatten().flat_map(LoadedServer::processes);
        let background = Background::sample(&processes.chain([std::process::id()]).collect::<Vec<_>>())?;
        for slice in 0..self.slices() {
            for place in 0..servers.len() {
                let next = &mut measured[(self.first + slice + place) % servers.len()];
                if let Err(error) = next.as_mut().map_or(Ok(()), LoadedServer::run_slice) {
                    *next = Err(error);
                }
            }
        }
        let background = background.share_since()?;
        let report = |measured: Result<LoadedServer, Box<dyn Error>>| measured?.report();
        let reports = measured.into_iter().map(|measured| report(measured).map_err(|error| error.to_string()));
        Ok(Attempt { reports: reports.collect(), background })
    }

    /// An idle server frees the memory of large messages. With one slice it allocates that memory only once.
    fn slices(&self) -> usize {
        if self.scenario.size >= 1 << 20 { 1 } else { self.options.slices }
    }

    /// One server after the other, once. Memory is measured, so other programs do not disturb.
    fn sequential(&self, servers: &[(&CommandLine, Neighbours)]) -> Attempt {
        let report = |(line, _): &(&CommandLine, Neighbours)| -> Result<Report, Box<dyn Error>> {
            let server = ServerProcess::start(self, line)?;
            report(self.generator(&server, &self.options.generator_core)?.output()?)
        };
        let reports = servers.iter().map(|server| report(server).map_err(|error| error.to_string()));
        Attempt { reports: reports.collect(), background: 0.0 }
    }

    /// The cores of each load generator; the generators share the connections. In a closed loop, two threads of a server are as
    /// busy as one only if there are two generators.
    fn generator_cores(&self) -> Vec<&[usize]> {
        let cores = &self.options.generator_core;
        match self.scenario.kind {
            Kind::Echo { .. } if self.options.preset == Some(Preset::Scaling) => cores.chunks(1).collect(),
            _ => vec![cores],
        }
    }

    /// The command of a load generator on these cores.
    fn generator(&self, server: &ServerProcess, cores: &[usize]) -> Result<Command, Box<dyn Error>> {
        process::pin(cores)?;
        let mut command = Command::new(self.raise_priority);
        command
            .arg(self.loadgen)
            .arg(server.target.to_string())
            .args(["--scenario", self.scenario.name])
            .args(["--pid", &server.child.id().to_string()])
            .args(["--seconds", &(self.options.seconds / self.slices() as f64).to_string()])
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

/// A server with open connections to its load generators.
struct LoadedServer {
    generators: Vec<Generator>,
    server: ServerProcess,
}

impl LoadedServer {
    fn open(round: &Round<'_>, line: &CommandLine, neighbours: Neighbours) -> Result<LoadedServer, Box<dyn Error>> {
        let server = ServerProcess::start(round, line)?;
        let places = round.generator_cores();
        let connections = (round.scenario.connections / places.len()).to_string();
        let generator = |cores: &[usize]| {
            let mut command = round.generator(&server, cores)?;
            command.args(["--connections", &connections, "--slices"]);
            if neighbours == Neighbours::Misbehaving {
                command.arg("--neighbours");
            }
            Generator::open(&mut command)
        };
        let generators = places.into_iter().map(generator).collect::<Result<_, _>>()?;
        Ok(LoadedServer { generators, server })
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        self.generators.iter().map(|generator| generator.child.id()).chain([self.server.child.id()])
    }

    /// Runs a slice of all generators at the same time.
    fn run_slice(&mut self) -> Result<(), Box<dyn Error>> {
        self.generators.iter_mut().try_for_each(Generator::start_slice)?;
        self.generators.iter_mut().try_for_each(Generator::wait_for_line)
    }

    fn report(mut self) -> Result<Report, Box<dyn Error>> {
        let (mut loads, mut connections) = (Vec::new(), 0);
        let mut scenario = String::new();
        for generator in &mut self.generators {
            let report = report(generator.end()?)?;
            let Outcome::Load(load) = report.outcome else {
                return Err("the load generator measured no messages".into());
            };
            loads.push(load);
            connections += report.connections;
            scenario = report.scenario;
        }
        let load = Load::of_all(&loads).ok_or("there is no load generator")?;
        Ok(Report { scenario, connections, outcome: Outcome::Load(load) })
    }
}

/// A load generator. Dropping this ends it.
struct Generator {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts it, and waits until its connections are open.
    fn open(command: &mut Command) -> Result<Generator, Box<dyn Error>> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("the load generator has no output")?);
        let mut generator = Generator { child, output };
        generator.wait_for_line()?;
        Ok(generator)
    }

    fn start_slice(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.child.stdin.as_mut().ok_or("the load generator has no input")?.write_all(b"\n")?)
    }

    /// Waits for the empty line that says that the connections are open, or that the slice is over.
    fn wait_for_line(&mut self) -> Result<(), Box<dyn Error>> {
        match self.output.read_line(&mut String::new())? {
            0 => Err(report(self.end()?).err().unwrap_or_else(|| "the load generator ended too early".into())),
            _ => Ok(()),
        }
    }

    /// Closes its input, upon which it reports and ends.
    fn end(&mut self) -> io::Result<Output> {
        drop(self.child.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.output.read_to_end(&mut stdout)?;
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_end(&mut stderr)?;
        }
        Ok(Output { status: self.child.wait()?, stdout, stderr })
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // An error means that the generator has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process of a server. Dropping this ends it.
struct ServerProcess {
    child: Child,
    target: Target,
}

impl ServerProcess {
    fn start(round: &Round<'_>, line: &CommandLine) -> Result<ServerProcess, Box<dyn Error>> {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let socket = env::temp_dir().join(format!("peers-{}-{}.sock", std::process::id(), addr.port()));
        let is_unix = line.iter().any(|word| word.contains("{socket}"));
        let replace = |word: &String| {
            let (host, port) = (addr.ip().to_string(), addr.port().to_string());
            let word = word.replace("{addr}", &addr.to_string()).replace("{scenario}", round.scenario.name);
            let word = word
                .replace("{host}", &host)
                .replace("{port}", &port)
                .replace("{socket}", &socket.display().to_string());
            let file = |name: &str| round.certificate.join(name).display().to_string();
            word.replace("{cert}", &file("chain.pem")).replace("{key}", &file("key.pem"))
        };
        let words: Vec<String> = line.iter().map(replace).collect();
        let [program, arguments @ ..] = words.as_slice() else { return Err("an empty command".into()) };
        // The process inherits the cores.
        process::pin(&round.options.server_core)?;
        let child = Command::new(round.raise_priority)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let mut running = ServerProcess {
            child: child.map_err(|error| format!("{program}: {error}"))?,
            target: if is_unix { Target::Unix(socket) } else { Target::Tcp(addr) },
        };
        let start = Instant::now();
        while !running.target.is_open() {
            if let Some(status) = running.child.try_wait()? {
                return Err(format!("{program} ended before it listened: {status}").into());
            }
            if start.elapsed() > START {
                return Err(format!("{program} does not listen on {} after {START:?}", running.target).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // An error means that the server has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Target::Unix(path) = &self.target {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use peers::report::{Memory, Outcome, PerConnection, Report};

    use super::{Attempt, quietest};

    /// Runs attempts with these background shares; if one is negative, a server fails. Returns the number of attempts, and the
    /// share of the one that counts.
    fn attempts(most: usize, shares: &[f64]) -> (usize, f64) {
        let mut shares = shares.iter().copied();
        let attempt = || {
            let share = shares.next().ok_or("no attempt is left")?;
            let none = || PerConnection { anonymous: 0.0, resident: 0.0 };
            let outcome = Outcome::Memory(Memory { fresh: none(), after_echo: none(), after_large: None, threads: 1 });
            let report = Report { scenario: "idle-memory".to_owned(), connections: 1, outcome };
            let second = if share < 0.0 { Err("failed".to_owned()) } else { Ok(report.clone()) };
            Ok::<_, &str>(Attempt { reports: vec![Ok(report), second], background: share.abs() })
        };
        let (taken, quietest) = quietest(most, attempt).unwrap();
        (taken, quietest.background)
    }

    #[test]
    fn a_round_is_repeated_until_the_machine_is_quiet() {
        assert_eq!(attempts(3, &[0.01]), (1, 0.01));
        assert_eq!(attempts(3, &[0.05, 0.01]), (2, 0.01));
        assert_eq!(attempts(3, &[0.05, 0.03, 0.04]), (3, 0.03));
        assert_eq!(attempts(1, &[0.05]), (1, 0.05));
    }

    #[test]
    fn a_failed_round_is_not_repeated() {
        assert_eq!(attempts(3, &[-0.05]), (1, 0.05));
        assert_eq!(attempts(3, &[0.05, -0.06]), (2, 0.06));
    }
}
