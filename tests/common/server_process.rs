//! An echo server in a process of its own, whose threads, file descriptors, memory and CPU time are not mixed with the
//! test's.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use threadbare::ServerBuilder;

use super::memory::ProcessMemory;
use super::servers::echo_server;

/// The environment variable that makes the test run as the server.
const IS_SERVER: &str = "THREADBARE_TEST_IS_SERVER";

/// What the server prints before its address.
const LISTENING_ON: &str = "listening on ";

/// The server's process. Dropping this ends the process.
pub struct ServerProcess {
    process: Child,
    pub addr: SocketAddr,
}

impl ServerProcess {
    /// Runs the test named `test` again in a child process, after the shell commands in `setup`. In that process this
    /// function is the server, and returns `None` once the parent is done with it.
    pub fn start(test: &str, setup: &str, builder: ServerBuilder) -> Option<ServerProcess> {
        if std::env::var_os(IS_SERVER).is_some() {
            let server = echo_server(builder);
            println!("{LISTENING_ON}{}", server.addr);
            // The pipe closes when the parent drops its end, and also when the parent dies.
            std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
            return None;
        }
        let mut process = Command::new("sh")
            .args(["-c", &format!("{setup}\nexec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().expect("a path"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(process.stdout.as_mut().expect("a pipe")).lines();
        let addr = lines.map_while(Result::ok).find_map(|line| line.split_once(LISTENING_ON)?.1.parse().ok());
        Some(ServerProcess { process, addr: addr.expect("the server prints its address") })
    }

    pub fn memory(&self) -> ProcessMemory {
        ProcessMemory::of(self.process.id())
    }

    /// The number of its threads.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs").count()
    }

    /// The number of its open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it runs").count()
    }

    /// Stops it, and has it go on. In Linux its polls end with EINTR then, whatever handlers there are: signal(7).
    pub fn interrupt(&self) {
        let id = self.process.id().to_string();
        let signal = |name: &str| {
            let sent = Command::new("kill").args([name, &id]).status().expect("it runs");
            assert!(sent.success(), "{sent}");
        };
        signal("-STOP");
        super::eventually("it is stopped", || {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
            stat.contains(") T ")
        });
        signal("-CONT");
    }

    /// The CPU time that it has used, in steps of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("it runs");
        // proc_pid_stat(5): utime and stime are fields 14 and 15; field 2, in parentheses, may contain any character.
        let fields = stat.rsplit_once(") ").expect("a name").1.split(' ').skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().expect("it was started");
        assert!(status.success() || std::thread::panicking(), "the server ended with {status}");
    }
}
