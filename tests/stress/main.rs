//! Random traffic, round by round: every way to serve and to connect, with messages of 0 to 1 MiB, broadcasts, closes,
//! aborts, panics, slow readers, servers that shut down and clients that are dropped. Each sender numbers its messages,
//! and each receiver checks the order. After a round nothing may be lost on connections that ended cleanly, every thread
//! has ended, and the process has as many descriptors and threads and about as much memory as before.
//!
//! The seed of a round decides all but the timing. `STRESS_SECONDS` says how long to go on, `STRESS_SEED` with which round
//! to begin; `STRESS_ROUNDS` bounds the number of rounds, `STRESS_MEMORY_MIB` the growth of the memory. With
//! `STRESS_SLOWNESS`, as under a sanitizer, deadlines are longer and large messages smaller by that factor. The package of TLS' tests builds this once more, for TLS.
#![cfg(target_os = "linux")] // reads /proc

mod board;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod ledger;
mod links;
mod message;
mod plan;
mod random;
mod round;
mod security;
mod servers;
mod talk;
mod usage;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use board::{Actor, fail};
use common::logged::expect_error;
use ledger::Totals;
use plan::Plan;
use random::Random;
use round::Round;
use usage::Usage;

/// A round may take this long. Most take a second.
const ROUND: Duration = Duration::from_secs(40);

/// The first rounds fill what is kept: buffers, the allocator's arenas.
const WARM_UP: u64 = 5;

/// How many times slower the program is than it should be; under a sanitizer, for example.
fn slowness() -> u32 {
    static SLOWNESS: LazyLock<u32> = LazyLock::new(|| number("STRESS_SLOWNESS", 1) as u32);
    *SLOWNESS
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().expect("a number"))
}

/// Has glibc give back what is freed, so that the resident memory is that in use. It reads these when a process begins.
const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_MMAP_THRESHOLD_", "65536")];

#[test]
fn random_traffic_loses_nothing_and_leaves_nothing_behind() {
    if std::env::var_os(ALLOCATOR[0].0).is_some() {
        return run_rounds();
    }
    let program = std::env::current_exe().expect("a path");
    let mut again = std::process::Command::new(program);
    again.args(std::env::args_os().skip(1)).envs(ALLOCATOR);
    // The harness of this process prints the result.
    let status = again.stdout(std::process::Stdio::null()).status().expect("it starts");
    assert!(status.success(), "the rounds ended with {status}");
}

fn run_rounds() {
    let _callbacks = expect_error("a callback panicked").or_nothing();
    let _again = expect_error("and again").or_nothing();
    let _hooks = expect_error("a handshake hook panicked").or_nothing();
    let _drops = expect_error("panicked as it was dropped").or_nothing();
    // The deadline of a shutdown may pass on a busy machine. The round's own checks find a thread that never ends.
    let _late = expect_error("a server thread did not end").or_nothing();
    let start = Instant::now();
    let length = Duration::from_secs(number("STRESS_SECONDS", 12));
    let first = number("STRESS_SEED", 1);
    let rounds = number("STRESS_ROUNDS", u64::MAX);
    let tolerance = number("STRESS_MEMORY_MIB", 16) << 20;
    let mut totals = Totals::default();
    let before = Usage::now();
    let mut warm = None;
    let mut count = 0;
    while count < rounds && (count == 0 || start.elapsed() < length) {
        let seed = first + count;
        count += 1;
        let began = Instant::now();
        let plan = run(seed, &mut totals);
        let usage = Usage::back_to(before, Duration::from_secs(20) * slowness()).unwrap_or_else(|usage| {
            let threads = common::server_threads();
            fail(&format!("left behind: {usage:?}, before: {before:?}, {threads:?}\n{}", usage::descriptors()))
        });
        let (memory, took) = (usage.memory >> 20, began.elapsed());
        say(&format!("round {seed}: {took:.2?}, {memory} MiB, {:?}, {:?}\n", plan.server, plan.clients));
        if count == WARM_UP {
            warm = Some(usage.memory);
        }
        if let Some(warm) = warm
            && usage.memory > warm + tolerance
        {
            fail(&format!("{} bytes of memory, and {warm} after {WARM_UP} rounds", usage.memory));
        }
    }
    say(&format!("{count} rounds in {:.0?}: {totals:?}\n", start.elapsed()));
    if count >= 10 {
        let least = totals.connections / 10;
        assert!(
            totals.complete.0 >= least && totals.complete.1 >= least,
            "too few connections end cleanly: {totals:?}"
        );
    }
}

/// Prints where a long run has come, past the harness's capture.
fn say(what: &str) {
    if std::env::var_os("STRESS_SECONDS").is_some() {
        let _ = std::io::stderr().write_all(what.as_bytes());
    }
}

/// Runs the round that the seed determines.
fn run(seed: u64, totals: &mut Totals) -> Plan {
    let mut random = Random::new(seed);
    let plan = Plan::new(&mut random);
    board::begin(seed, &plan);
    let _watchdog = board::watchdog(ROUND * slowness());
    let port = bind();
    let addr = port.local_addr().expect("an address").as_socket().expect("of IP");
    let (end, over) = crossbeam_channel::bounded(0);
    let (peers, to_push) = crossbeam_channel::bounded(64);
    let round = Arc::new(Round::new(seed, plan.clone(), addr, peers, over));
    let shared = round.clone();
    let conducting = board::spawn("conductor".into(), move |actor| {
        let pushing = random.fork();
        let pushed = shared.clone();
        let pusher = board::spawn("pusher".into(), move |actor| servers::push(&pushed, actor, &to_push, pushing));
        conduct(&shared, actor, &mut random);
        drop(end);
        actor.does("joins the pusher", 0, 0);
        pusher.join().expect("a panic ends the process");
    });
    conducting.join().expect("a panic ends the process");
    round.ledger.check(&plan, totals);
    board::clear();
    plan
}

/// A port that no other socket is given; connections to it are refused while no server listens.
fn bind() -> socket2::Socket {
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    bound.set_reuse_address(true).expect("a socket");
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    bound
}

/// Starts the server and the clients, ends the server while they go on or after them, and waits for all.
fn conduct(round: &Arc<Round>, actor: &Arc<Actor>, random: &mut Random) {
    let mut server = Some(servers::start(round));
    let mut clients = Vec::new();
    for (index, kind) in round.plan.clients.iter().copied().enumerate() {
        let (round, random) = (round.clone(), random.fork());
        clients.push(board::spawn(format!("{kind:?} {index}"), move |actor| clients::run(&round, actor, kind, random)));
    }
    let mut broadcasts = 0;
    let mut ends_at = round.plan.ends_early.then(|| 100 + random.below(1_500));
    while clients.iter().any(|client| !client.is_finished()) {
        actor.does("waits for the clients", round.steps(), broadcasts);
        round.pause(Duration::from_millis(3));
        if let Some(server) = &server
            && random.percent(20)
        {
            server.broadcast(broadcasts, random);
            broadcasts += 1;
        }
        if ends_at.is_some_and(|steps| round.steps() > steps) {
            ends_at = None;
            if let Some(server) = server.take() {
                server.end(round, actor, random);
            }
            if round.plan.restarts {
                actor.does("restarts the server", 0, 0);
                server = Some(servers::start(round));
            }
        }
    }
    for client in clients {
        client.join().expect("a panic ends the process");
    }
    if let Some(server) = server {
        server.end(round, actor, random);
    }
}
