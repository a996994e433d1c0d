//! The bridge over Redis, against the crate `redis` alone: CPU time of this process for each message of 128 bytes.
//!
//!     cargo bench --manifest-path benches/parts/Cargo.toml --features redis --bench bridge [ROUNDS]
//!
//! It starts a `redis-server` of its own, and runs on Linux: it reads how long each thread was on a processor, so that other
//! programs change the figures little. Each figure is the median of the rounds, in which all cases take turns.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use threadbare::{Bridge, BridgeMessage, LocalEvent, LocalTopics, Redis};

const MESSAGES: u64 = 100_000;
const PAYLOAD: [u8; 128] = [b'x'; 128];

/// A name, and what measures it.
type Case = (&'static str, fn(&Server) -> f64);

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5);
    let server = Server::start();
    let cases: [Case; 16] = [
        ("publish, crate, pipelines of 64", |server| crate_publish(server, 64)),
        ("publish, crate, pipelines of 256", |server| crate_publish(server, 256)),
        ("publish, bridge, in bursts of 64: its thread", |server| bridge_publish(server, 64).thread),
        ("publish, bridge, in bursts of 256: its thread", |server| bridge_publish(server, 256).thread),
        ("publish, bridge, without a pause: its thread", |server| bridge_publish(server, MESSAGES).thread),
        ("publish, bridge, without a pause: the caller", |server| bridge_publish(server, MESSAGES).caller),
        ("receive, crate, get_message", crate_receive),
        ("receive, bridge", |server| bridge_receive(server, None)),
        ("XADD, crate, pipelines of 256", crate_append),
        ("XREAD, crate, COUNT 100", crate_read),
        ("receive, bridge, streams", |server| bridge_receive(server, Some(1_000_000))),
        ("Redis: publish to a topic without nodes", |server| redis_work(server, 0, None)),
        ("Redis: publish to a topic of one node", |server| redis_work(server, 1, None)),
        ("Redis: publish to a topic of 4 nodes", |server| redis_work(server, 4, None)),
        ("Redis: publish to a topic of 16 nodes", |server| redis_work(server, 16, None)),
        ("Redis: append to a stream that one node reads", |server| redis_work(server, 1, Some(1_000_000))),
    ];
    let mut figures = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, measure), figures) in cases.iter().zip(&mut figures) {
            figures.push(measure(&server));
        }
    }
    println!("CPU ns per message, median of {rounds} rounds of {MESSAGES} messages [least]");
    for ((name, _), mut figures) in cases.iter().zip(figures) {
        figures.sort_by(f64::total_cmp);
        println!("{name:50} {:6.0} [{:.0}]", figures[figures.len() / 2], figures[0]);
    }
}

/// How long the threads of this process with this name were on a processor, in nanoseconds.
fn cpu(name: &str) -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let of_name =
        tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    of_name.map(|task| schedstat(&task.path().join("schedstat"))).sum()
}

/// How long the calling thread was on a processor.
fn own_cpu() -> u64 {
    schedstat("/proc/thread-self/schedstat".as_ref())
}

fn schedstat(path: &std::path::Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

fn each(nanos: u64) -> f64 {
    nanos as f64 / MESSAGES as f64
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::park_timeout(Duration::from_micros(50));
    }
}

fn crate_publish(server: &Server, batch: u64) -> f64 {
    let mut connection = server.connection();
    let before = own_cpu();
    for _ in 0..MESSAGES / batch {
        let mut pipeline = redis::Pipeline::with_capacity(batch as usize);
        for _ in 0..batch {
            pipeline.cmd("PUBLISH").arg("t").arg(&PAYLOAD[..]).ignore();
        }
        pipeline.exec(&mut connection).expect("replies");
    }
    (own_cpu() - before) as f64 / (MESSAGES / batch * batch) as f64
}

struct Published {
    thread: f64,
    caller: f64,
}

fn bridge_publish(server: &Server, burst: u64) -> Published {
    let bridge = Redis::new(&server.url()).expect("a URL").queue(64 << 20);
    bridge.start(LocalTopics::from_fn(|_| {})).expect("a bridge");
    until("connected", || bridge.stats().connected);
    let message = BridgeMessage::binary(&PAYLOAD);
    let before = cpu("ws-bridge-pub");
    let mut caller = 0;
    for _ in 0..MESSAGES / burst {
        let begin = own_cpu();
        for _ in 0..burst {
            assert!(bridge.publish("t", &message).is_queued());
        }
        caller += own_cpu() - begin;
        until("sent", || bridge.stats().queued_bytes == 0);
    }
    let sent = MESSAGES / burst * burst;
    assert_eq!(bridge.stats().sent, sent);
    let thread = cpu("ws-bridge-pub") - before;
    Published { thread: thread as f64 / sent as f64, caller: caller as f64 / sent as f64 }
}

fn crate_receive(server: &Server) -> f64 {
    let mut connection = server.connection();
    let received = thread::scope(|scope| {
        let mut subscription = connection.as_pubsub();
        subscription.subscribe("t").expect("a reply");
        let receiver = scope.spawn(move || {
            let before = own_cpu();
            let mut bytes = 0;
            for _ in 0..MESSAGES {
                bytes += subscription.get_message().expect("a message").get_payload_bytes().len();
            }
            let nanos = own_cpu() - before;
            assert_eq!(bytes as u64, MESSAGES * 128);
            nanos
        });
        crate_publish(server, 50);
        receiver.join().expect("no panic")
    });
    each(received)
}

/// What one bridge receives of another.
fn bridge_receive(server: &Server, keep: Option<u64>) -> f64 {
    let new = || {
        let bridge = Redis::new(&server.url()).expect("a URL").queue(64 << 20);
        match keep {
            Some(keep) => bridge.streams(keep),
            None => bridge,
        }
    };
    let (from, to) = (new(), new());
    let received = Arc::new(AtomicU64::new(0));
    let counter = received.clone();
    to.subscribe("bridged");
    to.start(LocalTopics::from_fn(move |event| {
        if let LocalEvent::Message { message, .. } = event {
            counter.fetch_add(message.payload().len() as u64, Ordering::Relaxed);
        }
    }))
    .expect("a bridge");
    until("connected", || to.stats().connected);
    // The sender's thread of the same name sleeps, without topics.
    from.start(LocalTopics::from_fn(|_| {})).expect("a bridge");
    until("connected", || from.stats().connected);
    let before = cpu("ws-bridge-sub");
    let message = BridgeMessage::binary(&PAYLOAD);
    for _ in 0..MESSAGES {
        assert!(from.publish("bridged", &message).is_queued());
    }
    until("received", || received.load(Ordering::Relaxed) == MESSAGES * 128);
    assert_eq!(to.stats().missed, 0);
    let nanos = cpu("ws-bridge-sub") - before;
    drop((from, to));
    server.command("FLUSHALL");
    each(nanos)
}

/// How long Redis works for each message to a topic that so many nodes ask for.
fn redis_work(server: &Server, nodes: usize, keep: Option<u64>) -> f64 {
    let new = || {
        let bridge = Redis::new(&server.url()).expect("a URL").queue(64 << 20);
        match keep {
            Some(keep) => bridge.streams(keep),
            None => bridge,
        }
    };
    let nodes: Vec<Redis> = (0..nodes).map(|_| new()).collect();
    let from = new();
    for node in &nodes {
        node.subscribe("wide");
    }
    for node in nodes.iter().chain([&from]) {
        node.start(LocalTopics::from_fn(|_| {})).expect("a bridge");
        until("connected", || node.stats().connected);
    }
    let before = server.cpu();
    for _ in 0..MESSAGES {
        assert!(from.publish("wide", &BridgeMessage::binary(&PAYLOAD)).is_queued());
    }
    until("received", || nodes.iter().all(|node| node.stats().received == MESSAGES) && from.stats().sent == MESSAGES);
    let nanos = server.cpu() - before;
    drop((from, nodes));
    server.command("FLUSHALL");
    each(nanos)
}

fn crate_append(server: &Server) -> f64 {
    let mut connection = server.connection();
    let before = own_cpu();
    for _ in 0..MESSAGES / 256 {
        let mut pipeline = redis::Pipeline::with_capacity(256);
        for _ in 0..256 {
            pipeline
                .cmd("XADD")
                .arg("s")
                .arg("MAXLEN")
                .arg("~")
                .arg(1_000_000)
                .arg("*")
                .arg("m")
                .arg(&PAYLOAD[..])
                .ignore();
        }
        pipeline.exec(&mut connection).expect("replies");
    }
    (own_cpu() - before) as f64 / (MESSAGES / 256 * 256) as f64
}

/// Reads what [`crate_append`] has appended.
fn crate_read(server: &Server) -> f64 {
    let mut connection = server.connection();
    let before = own_cpu();
    let (mut last, mut read) = ("0-0".to_owned(), 0_u64);
    loop {
        type Entry = (String, Vec<Vec<u8>>);
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(100).arg("STREAMS").arg("s").arg(&last);
        let streams: Option<Vec<(String, Vec<Entry>)>> = command.query(&mut connection).expect("a reply");
        let Some((_, entries)) = streams.and_then(|streams| streams.into_iter().next()) else { break };
        read += entries.len() as u64;
        if let Some((id, _)) = entries.last() {
            last.clone_from(id);
        }
    }
    assert_eq!(read, MESSAGES / 256 * 256);
    let nanos = own_cpu() - before;
    server.command("FLUSHALL");
    nanos as f64 / read as f64
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Server {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--client-output-buffer-limit", "pubsub", "0", "0", "0"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, of the Debian package of that name");
        until("redis-server answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Server { child, port }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How long it was on a processor.
    fn cpu(&self) -> u64 {
        schedstat(format!("/proc/{}/schedstat", self.child.id()).as_ref())
    }

    fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("a connection")
    }

    fn command(&self, name: &str) {
        redis::cmd(name).exec(&mut self.connection()).expect("a reply");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
