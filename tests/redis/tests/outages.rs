//! A Redis that is absent, killed, stopped, or cuts the connection: what comes late, what is lost, and what is counted.

use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use threadbare::{Bridge, Redis};
use threadbare_redis_tests::{Heard, Node, RedisServer, SetOnDrop, eventually};

/// A node is back within this time of Redis' return.
const BACK: Duration = Duration::from_secs(5);

fn bridge(server: &RedisServer) -> Redis {
    Redis::new(&server.url()).expect("a URL").prefix("app:")
}

/// Publishes numbers from 1 on, until it is told to end.
struct Load {
    stop: AtomicBool,
    last: AtomicU64,
}

impl Load {
    fn run(&self, node: &Node, topic: &str) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..5 {
                number += 1;
                node.publish(topic, number);
            }
            self.last.store(number, Ordering::Relaxed);
            // About 5,000 messages a second.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Publishes while `act` runs. Returns the last number.
    fn during(node: &Node, topic: &str, act: impl FnOnce(&dyn Fn() -> u64)) -> u64 {
        let load = Load { stop: AtomicBool::new(false), last: AtomicU64::new(0) };
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| load.run(node, topic));
            let stop = SetOnDrop(&load.stop);
            act(&|| load.last.load(Ordering::Relaxed));
            drop(stop);
            publisher.join().expect("no panic");
        });
        load.last.load(Ordering::Relaxed)
    }
}

/// Whether numbers grow, so that none came twice or late.
fn grow(numbers: &[u64]) -> bool {
    numbers.is_sorted_by(|before, after| before < after)
}

/// Of the numbers from 0 to `published` that one node gave to the bridge, the other has heard each once, or counts it as lost.
fn assert_accounted(from: &Node, to: &Node, topic: &str, published: u64) {
    // Whatever was lost at the end becomes known by one more message, which arrives if both are connected.
    to.await_connected();
    from.await_connected();
    eventually("all is answered", || from.stats().queued_bytes == 0);
    assert!(from.publish(topic, published));
    to.until_number(topic, published);
    let numbers = to.numbers(topic);
    assert!(grow(&numbers), "a message came twice or late");
    let first = numbers.first().copied().expect("at least one");
    eventually("the last batch is counted", || to.stats().received == numbers.len() as u64);
    let stats = to.stats();
    assert_eq!(stats.received + stats.missed, published + 1 - first, "heard and missed are all");
    assert_eq!(stats.missed, to.told_missing(), "what is counted is told");
    assert_eq!((stats.duplicates, stats.garbage), (0, 0));
    eventually("all is answered", || from.stats().queued_bytes == 0);
    let sent = from.stats();
    assert_eq!(sent.queued + sent.refused, published + 1, "every message was queued or refused");
    assert_eq!(sent.sent + sent.unacknowledged, sent.queued, "what became of each is counted");
    assert_eq!((sent.rejected, sent.garbage), (0, 0));
    // Redis can not deliver what it was never given. It can lose more, between itself and the receiver.
    assert!(stats.missed >= sent.refused.saturating_sub(first), "{stats:?} {sent:?}");
}

#[test]
fn r_16_a_redis_that_is_killed_again_and_again_loses_only_what_is_counted() {
    let mut server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server), &["other"]), Node::connected(bridge(&server), &["t"]));
    assert!(from.publish("t", 0));
    to.until_number("t", 0);
    let kills = env::var("REDIS_KILLS").map_or(6, |kills| kills.parse().expect("a number"));
    let last = Load::during(&from, "t", |last| {
        for round in 1..=kills {
            let heard = to.numbers("t").len();
            to.until("more of it", |all| all.len() > heard + 10);
            server.kill();
            eventually("both know", || !from.stats().connected && !to.stats().connected);
            let before = last();
            eventually("the application goes on", || last() > before + 100);
            server.restart();
            let back = Instant::now();
            eventually("both are back", || from.stats().connected && to.stats().connected);
            assert!(back.elapsed() <= BACK, "round {round}: back after {:?}", back.elapsed());
        }
    });
    // A thread that had no processor may notice the last outage now.
    eventually("each outage is told", || to.unknown_gaps() >= kills);
    assert_eq!(to.unknown_gaps(), kills);
    assert_accounted(&from, &to, "t", last + 1);
    // Each node has two connections.
    let each = 2 * kills as u64;
    eventually("all are made again", || (from.stats().reconnects, to.stats().reconnects) == (each, each));
    println!("after {kills} kills: {:?}, {:?}", from.stats(), to.stats());
}

#[test]
fn r_16_a_redis_that_is_absent_at_the_start_is_waited_for() {
    let mut server = RedisServer::absent();
    let (from, to) = (Node::start(bridge(&server).queue(2 << 20), &[]), Node::start(bridge(&server), &["t"]));
    let mut queued = 0;
    while from.publish("t", queued) {
        queued += 1;
    }
    let stats = from.stats();
    assert!((10_000..40_000).contains(&queued), "{queued} messages fit 2 MiB");
    assert_eq!((stats.queued, stats.refused, stats.connected), (queued, 1, false));
    assert!(stats.queued_bytes <= 2 << 20 && stats.lag > Duration::ZERO);
    server.restart();
    let back = Instant::now();
    eventually("both are there", || from.stats().connected && to.stats().connected);
    assert!(back.elapsed() <= BACK, "there after {:?}", back.elapsed());
    assert_accounted(&from, &to, "t", queued + 1);
}

#[test]
fn r_16_a_redis_that_stops_for_5_seconds_loses_nothing() {
    let server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["t"]));
    assert!(from.publish("t", 0));
    to.until_number("t", 0);
    let last = Load::during(&from, "t", |last| {
        eventually("some are on their way", || last() > 100);
        server.pause();
        let stopped = Instant::now();
        let at = last();
        eventually("5 s are over", || stopped.elapsed() >= Duration::from_secs(5));
        assert!(last() > at + 1_000, "the application goes on");
        assert!(from.stats().lag >= Duration::from_secs(4), "what waits is seen: {:?}", from.stats());
        server.resume();
        let at = last();
        to.until_number("t", at);
    });
    to.until_number("t", last);
    assert!(to.numbers("t").into_iter().eq(0..=last));
    for node in [&from, &to] {
        let stats = node.stats();
        assert_eq!((stats.reconnects, stats.missed, stats.duplicates, stats.unacknowledged), (0, 0, 0, 0), "{stats:?}");
    }
    assert_eq!(from.stats().refused, 0);
}

#[test]
fn r_16_connections_that_redis_closes_are_made_again() {
    let server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server), &["t"]), Node::connected(bridge(&server), &["t"]));
    assert!(from.publish("t", 0));
    to.until_number("t", 0);
    let last = Load::during(&from, "t", |_| {
        for round in 1..=5_usize {
            server.command(if round % 2 == 0 { "CLIENT KILL TYPE normal" } else { "CLIENT KILL TYPE pubsub" });
            if round % 2 == 1 {
                eventually("told of the outage", || to.unknown_gaps() == round.div_ceil(2));
            }
            let heard = to.numbers("t").len();
            to.until("more", |all| all.len() > heard + 10);
        }
    });
    eventually("each loss is told", || to.unknown_gaps() >= 3);
    assert_eq!(to.unknown_gaps(), 3, "the loss of the sending connection is none of the receiver's");
    assert_accounted(&from, &to, "t", last + 1);
}

#[test]
fn r_16_a_node_that_lags_is_cut_off_by_redis_and_counts_what_it_missed() {
    let server = RedisServer::start(&["--client-output-buffer-limit", "pubsub", "1mb", "0", "0"]);
    let (from, to) = (Node::connected(bridge(&server).queue(64 << 20), &[]), Node::connected(bridge(&server), &["t"]));
    assert!(from.publish("t", 0));
    to.until_number("t", 0);
    const COUNT: u64 = 200_000;
    to.while_stuck(|| {
        for number in 1..=COUNT {
            assert!(from.publish("t", number));
        }
        eventually("Redis has taken all", || from.stats().queued_bytes == 0);
    });
    to.until("the unknown gap", |heard| heard.contains(&Heard::Gap(None, None)));
    assert!(from.publish("t", COUNT + 1));
    to.until_number("t", COUNT + 1);
    let numbers = to.numbers("t");
    assert!(grow(&numbers));
    let missed = to.stats().missed;
    assert!(missed > COUNT / 2, "only {missed} missed: the buffers held the rest");
    assert_eq!(numbers.len() as u64 + missed, COUNT + 2);
    assert_eq!((missed, 1), (to.told_missing(), to.stats().reconnects));
    assert_eq!(from.stats().sent, COUNT + 2, "the sender can not know");
}

/// With topics and without, a silent connection is asked for a PONG every 5 s, and takes it for what it is.
#[test]
fn connections_without_messages_are_kept_alive() {
    let server = RedisServer::start(&[]);
    let nodes = [
        Node::connected(bridge(&server), &["t"]),
        Node::connected(bridge(&server), &[]),
        Node::connected(bridge(&server).streams(100), &["t"]),
        Node::connected(bridge(&server).streams(100), &[]),
    ];
    let pings = || {
        let stats = server.command("INFO commandstats");
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_ping:calls=")).expect("a count");
        calls.split(',').next().and_then(|calls| calls.parse::<u64>().ok()).expect("a number")
    };
    // Ten connections, of which the one that waits in a read is never silent.
    let before = pings();
    eventually("each was asked twice", || pings() >= before + 18);
    for node in nodes {
        let stats = node.stats();
        assert!(stats.connected, "{stats:?}");
        assert_eq!((stats.reconnects, stats.garbage), (0, 0));
    }
}

#[test]
fn r_16_a_stop_does_not_wait_for_a_redis_that_is_stuck() {
    let server = RedisServer::start(&[]);
    let node = Node::connected(bridge(&server), &["t"]);
    server.pause();
    assert!(node.publish("t", 1));
    let begun = Instant::now();
    node.bridge.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "stopped after {:?}", begun.elapsed());
    assert_eq!((node.stats().queued, node.stats().unacknowledged, node.stats().sent), (1, 1, 0));
    server.resume();
}
