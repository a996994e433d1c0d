//! One server, one scenario, once.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peers::others::Others;
use peers::process;
use peers::report::Report;
use peers::scenario::Scenario;

use crate::options::Options;
use crate::servers::CommandLine;

/// So long may a server take until it listens.
const START: Duration = Duration::from_secs(10);

/// Others may have so much of a core before a run counts as disturbed. A server waits for them for up to a tick of the
/// scheduler, some milliseconds, and of its messages it takes one in a hundred to move the 99th percentile.
pub(crate) const DISTURBED: f64 = 0.02;

/// What a run found, and how quiet the machine was.
pub(crate) struct Attempt {
    pub(crate) report: Report,
    /// What others than the server and the generator had of a core meanwhile, the host of a virtual machine among them.
    pub(crate) others: f64,
}

/// Whether what others had of a core was too much.
pub(crate) fn is_disturbed(others: f64) -> bool {
    others > DISTURBED
}

/// The first attempt that nobody disturbs, or else the least disturbed of `most`; and how many there were. What fails is
/// not tried again.
pub(crate) fn quietest(
    most: usize,
    mut attempt: impl FnMut() -> Result<Attempt, String>,
) -> (usize, Result<Attempt, String>) {
    let mut taken = 1;
    let mut quietest = attempt();
    while taken < most && quietest.as_ref().is_ok_and(|attempt| is_disturbed(attempt.others)) {
        eprint!("{:>40}", "again ");
        taken += 1;
        quietest = match (quietest, attempt()) {
            (Ok(quietest), Ok(latest)) if quietest.others <= latest.others => Ok(quietest),
            (_, latest) => latest,
        };
    }
    (taken, quietest)
}

pub(crate) fn run(
    options: &Options,
    loadgen: &Path,
    line: &CommandLine,
    scenario: &Scenario,
) -> Result<Attempt, Box<dyn Error>> {
    let server = Running::start(options, line, scenario)?;
    process::pin(&options.generator_core)?;
    let others = Others::but(&[server.child.id(), std::process::id()])?;
    let output = Command::new(loadgen)
        .arg(server.addr.to_string())
        .args(["--scenario", scenario.name])
        .args(["--pid", &server.child.id().to_string()])
        .args(["--seconds", &options.seconds.to_string()])
        .args(["--warm-up", &options.warm_up.to_string()])
        .output()?;
    let others = others.share_since()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(error.trim().trim_start_matches("error: ").into());
    }
    Ok(Attempt { report: serde_json::from_slice(&output.stdout)?, others })
}

/// A server's process, which ends with this.
struct Running {
    child: Child,
    addr: SocketAddr,
}

impl Running {
    fn start(options: &Options, line: &CommandLine, scenario: &Scenario) -> Result<Running, Box<dyn Error>> {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let replace = |word: &String| {
            let (host, port) = (addr.ip().to_string(), addr.port().to_string());
            let word = word.replace("{addr}", &addr.to_string()).replace("{scenario}", scenario.name);
            word.replace("{host}", &host).replace("{port}", &port)
        };
        let words: Vec<String> = line.iter().map(replace).collect();
        let [program, arguments @ ..] = words.as_slice() else { return Err("an empty command".into()) };
        // What is started inherits the cores.
        process::pin(&options.server_core)?;
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
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

    /// What comes of attempts with these shares of others; one that is not a number fails.
    fn taken(most: usize, others: &[f64]) -> (usize, Result<f64, String>) {
        let mut others = others.iter().copied();
        let (taken, quietest) = quietest(most, || {
            let others = others.next().expect("no attempt more than these");
            let none = || PerConnection { anonymous: 0.0, resident: 0.0 };
            let outcome = Outcome::Memory(Memory { fresh: none(), after_echo: none(), threads: 1 });
            let report = Report { scenario: "I1".to_owned(), connections: 1, outcome };
            if others.is_nan() { Err("failed".to_owned()) } else { Ok(Attempt { report, others }) }
        });
        (taken, quietest.map(|attempt| attempt.others))
    }

    #[test]
    fn a_run_is_taken_again_until_the_machine_is_quiet() {
        assert_eq!(taken(3, &[0.01]), (1, Ok(0.01)));
        assert_eq!(taken(3, &[0.05, 0.01]), (2, Ok(0.01)));
        assert_eq!(taken(3, &[0.05, 0.03, 0.04]), (3, Ok(0.03)));
        assert_eq!(taken(1, &[0.05]), (1, Ok(0.05)));
        assert_eq!(taken(3, &[0.05, f64::NAN]), (2, Err("failed".to_owned())));
        assert_eq!(taken(3, &[f64::NAN]), (1, Err("failed".to_owned())));
    }
}
