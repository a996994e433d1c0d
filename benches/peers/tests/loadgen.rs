//! Runs the load generator against the floor: every kind of scenario, and wrong replies.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use peers::priority;
use peers::report::{Outcome, Report};
use peers::tls;

struct Floor {
    child: Child,
    addr: SocketAddr,
}

impl Floor {
    fn start(scenario: &str) -> Floor {
        Floor::start_with(scenario, &[])
    }

    /// With the certificate that a scenario with TLS needs.
    fn start_with_tls(scenario: &str) -> Floor {
        static CERTIFICATE: OnceLock<PathBuf> = OnceLock::new();
        let directory = CERTIFICATE.get_or_init(|| {
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("loadgen-{}", std::process::id()));
            tls::write_certificate(&directory).expect("a certificate");
            directory
        });
        let file = |name: &str| directory.join(name).display().to_string();
        Floor::start_with(scenario, &["--cert", &file("chain.pem"), "--key", &file("key.pem")])
    }

    fn start_with(scenario: &str, more: &[&str]) -> Floor {
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
        let child =
            command.arg(addr.to_string()).args(["--scenario", scenario]).args(more).spawn().expect("the floor starts");
        let floor = Floor { child, addr };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(addr).is_err() {
            assert!(Instant::now() < deadline, "the floor does not listen");
            std::thread::yield_now();
        }
        floor
    }

    fn load(&self, scenario: &str, more: &[&str]) -> Output {
        self.generator(scenario).args(more).output().expect("the load generator starts")
    }

    fn generator(&self, scenario: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args([&self.addr.to_string(), "--pid", &self.child.id().to_string(), "--scenario", scenario]).args([
            "--seconds",
            "0.05",
            "--warm-up",
            "0.01",
        ]);
        command
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().expect("the floor still runs");
        self.child.wait().expect("the floor ends");
    }
}

fn report(output: &Output) -> Report {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one report")
}

#[test]
fn a_floor_with_two_threads_serves_all_connections() {
    let output = Floor::start_with("echo-128B-pipelined", &["--threads", "2"])
        .load("echo-128B-pipelined", &["--connections", "5"]);
    let Outcome::Load(load) = report(&output).outcome else { panic!("an echo sends messages") };
    assert!(load.messages > 0, "{load:?}");
}

#[test]
fn a_floor_with_placed_buffers_sends_the_same_replies() {
    for (scenario, connections) in [("echo-32B-pipelined", "3"), ("echo-64KiB", "2"), ("echo-16MiB", "1")] {
        let output = Floor::start_with(scenario, &["--placed"]).load(scenario, &["--connections", connections]);
        let Outcome::Load(load) = report(&output).outcome else { panic!("{scenario} sends messages") };
        assert!(load.messages > 0, "{scenario}: {load:?}");
    }
}

#[test]
fn every_kind_of_scenario_runs() {
    for (scenario, connections) in [
        ("echo-32B-pipelined", 3),
        ("echo-64KiB", 2),
        ("echo-16MiB", 1),
        ("deflate-1KiB-pipelined", 70),
        ("fan-out-1000-pipelined", 5),
        ("open-loop-1000", 4),
        ("connect", 2),
    ] {
        let output = Floor::start(scenario).load(scenario, &["--connections", &connections.to_string()]);
        let report = report(&output);
        assert_eq!((report.scenario.as_str(), report.connections), (scenario, connections));
        let Outcome::Load(load) = report.outcome else { panic!("{scenario} sends messages") };
        assert!(load.messages > 0 && load.cpu_ns_per_message > 0.0, "{scenario}: {load:?}");
    }
}

#[test]
fn every_kind_of_scenario_runs_over_tls() {
    for (scenario, connections) in [
        ("echo-tls-32B", 3),
        ("echo-tls-32B-pipelined", 3),
        ("echo-tls-32B-records", 3),
        ("echo-tls-1KiB", 2),
        ("echo-tls-64KiB", 2),
        ("connect-tls", 2),
    ] {
        let output = Floor::start_with_tls(scenario).load(scenario, &["--connections", &connections.to_string()]);
        let Outcome::Load(load) = report(&output).outcome else { panic!("{scenario} sends messages") };
        assert!(load.messages > 0 && load.cpu_ns_per_message > 0.0, "{scenario}: {load:?}");
    }
}

#[test]
fn the_memory_of_idle_connections_over_tls_is_measured() {
    let report = report(&Floor::start_with_tls("idle-memory-tls").load("idle-memory-tls", &["--connections", "500"]));
    let Outcome::Memory(memory) = report.outcome else { panic!("this scenario measures memory") };
    assert!(memory.fresh.anonymous > 500.0 && memory.after_large.is_some(), "{memory:?}");
}

#[test]
fn a_server_without_tls_is_reported() {
    let output = Floor::start("echo-32B").load("echo-tls-32B", &["--connections", "1"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("closed the connection during the handshake"), "{error}");
}

#[test]
fn a_slice_is_measured_for_each_line_of_input() {
    for (scenario, connections) in [
        ("echo-32B-pipelined", 3),
        ("echo-64KiB", 2),
        ("deflate-1KiB-pipelined", 70),
        ("fan-out-1000-pipelined", 5),
        ("open-loop-1000", 4),
        ("connect", 2),
    ] {
        let floor = Floor::start(scenario);
        let mut generator = floor.generator(scenario);
        generator.args(["--slices", "--connections", &connections.to_string()]);
        let mut generator = generator.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut input = generator.stdin.take().expect("its input");
        let mut lines = BufReader::new(generator.stdout.take().expect("its output")).lines();
        let mut line = move || lines.next().expect("one more line").expect("text");
        assert_eq!(line(), "", "{scenario}: its connections are open");
        for slice in 0..3 {
            input.write_all(b"\n").expect("it listens");
            assert_eq!(line(), "", "{scenario}: slice {slice} is over");
        }
        drop(input);
        let report: Report = serde_json::from_str(&line()).expect("a report");
        let Outcome::Load(load) = report.outcome else { panic!("{scenario} sends messages") };
        assert!(load.messages > 0 && load.seconds >= 0.15, "{scenario}: {load:?}");
        let (least, most) = (load.p99_by_slice_us.iter().copied().fold(f64::MAX, f64::min), load.latency_us.max);
        assert!(load.p99_by_slice_us.len() == 3 && 0.0 < least && least <= most, "{scenario}: {load:?}");
        assert!(generator.wait().expect("it ends").success(), "{scenario}");
    }
}

#[test]
fn a_program_runs_with_raised_priority_where_permitted() {
    let output = Command::new(env!("CARGO_BIN_EXE_raise_priority"))
        .args(["sh", "-c", "nice; exit 3"])
        .output()
        .expect("it runs");
    let expected = if priority::may_raise() { "-20" } else { "0" };
    assert_eq!((String::from_utf8_lossy(&output.stdout).trim(), output.status.code()), (expected, Some(3)));
}

#[test]
fn the_memory_of_idle_connections_is_measured() {
    let report = report(&Floor::start("idle-memory").load("idle-memory", &["--connections", "500"]));
    let Outcome::Memory(memory) = report.outcome else { panic!("this scenario measures memory") };
    assert_eq!(memory.threads, 1);
}

#[test]
fn a_wrong_reply_is_reported() {
    let output = Floor::start("echo-1KiB").load("echo-32B", &["--connections", "1", "--size", "1025"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("of the first reply"), "{error}");
}

#[test]
fn compression_that_was_not_negotiated_is_reported() {
    let output = Floor::start("echo-32B").load("deflate-1KiB", &["--connections", "1"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("does not accept permessage-deflate"), "{error}");
}
