//! One server, one scenario, once.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peers::process;
use peers::report::Report;
use peers::scenario::Scenario;

use crate::options::Options;
use crate::servers::CommandLine;

/// So long may a server take until it listens.
const START: Duration = Duration::from_secs(10);

pub(crate) fn run(
    options: &Options,
    loadgen: &Path,
    line: &CommandLine,
    scenario: &Scenario,
) -> Result<Report, Box<dyn Error>> {
    let server = Running::start(options, line, scenario)?;
    process::pin(&options.generator_core)?;
    let output = Command::new(loadgen)
        .arg(server.addr.to_string())
        .args(["--scenario", scenario.name])
        .args(["--pid", &server.child.id().to_string()])
        .args(["--seconds", &options.seconds.to_string()])
        .args(["--warm-up", &options.warm_up.to_string()])
        .output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(error.trim().trim_start_matches("error: ").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
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
