//! An echo server in a process of its own, so that its threads, descriptors and CPU time can be told from the test's.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use threadbare::ServerBuilder;

use super::memory::Memory;
use super::servers::echo;

/// Set where the test is to be the server.
const IS_SERVER: &str = "THREADBARE_TEST_IS_SERVER";

const SAYS: &str = "listening on ";

/// The server's process, which ends when this is dropped.
pub struct Child {
    process: std::process::Child,
    pub addr: SocketAddr,
}

impl Child {
    /// Runs the test of this name again, in a process where it gets `None` after it was the server. `limits` are
    /// shell commands.
    pub fn start(test: &str, limits: &str, builder: ServerBuilder) -> Option<Child> {
        if std::env::var_os(IS_SERVER).is_some() {
            let server = echo(builder);
            println!("{SAYS}{}", server.addr);
            // Until the parent is gone, however it ends.
            std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
            return None;
        }
        let mut process = Command::new("sh")
            .args(["-c", &format!("{limits}\nexec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().expect("a path"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(process.stdout.as_mut().expect("a pipe")).lines();
        let addr = lines.map_while(Result::ok).find_map(|line| line.split_once(SAYS)?.1.parse().ok());
        Some(Child { process, addr: addr.expect("it says where it listens") })
    }

    /// The memory it uses.
    pub fn memory(&self) -> Memory {
        Memory::of(self.process.id())
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs").count()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it runs").count()
    }

    /// The CPU time it has used, to 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("it runs");
        // proc_pid_stat(5): utime and stime are the 14th and 15th; the 2nd, in parentheses, may have anything in it.
        let fields = stat.rsplit_once(") ").expect("a name").1.split(' ').skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().expect("it was started");
        assert!(status.success() || std::thread::panicking(), "the server ended with {status}");
    }
}
