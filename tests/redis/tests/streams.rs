//! The second form of the bridge: streams, which lose nothing while an outage fits them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use threadbare::{Bridge, BridgeMessage, Redis};
use threadbare_redis_tests::{Heard, Node, RedisServer, SetOnDrop, eventually};

/// A node is back within this time of Redis' return.
const BACK: Duration = Duration::from_secs(5);

fn bridge(server: &RedisServer) -> Redis {
    Redis::new(&server.url()).expect("a URL").prefix("app:").queue(16 << 20).streams(1_000_000)
}

fn positions(heard: &[Heard]) -> Vec<(u64, u64)> {
    let position = |heard: &Heard| {
        let Heard::Message(_, _, Some(position)) = heard else { panic!("no position: {heard:?}") };
        let (time, number) = position.split_once('-').expect("an id");
        (time.parse().expect("a time"), number.parse().expect("a number"))
    };
    heard.iter().map(position).collect()
}

#[test]
fn messages_have_positions_that_grow_and_are_the_same_on_every_node() {
    let server = RedisServer::start(&[]);
    let nodes = [Node::connected(bridge(&server), &["t"]), Node::connected(bridge(&server), &["t"])];
    let from = Node::connected(bridge(&server), &["t"]);
    for number in 1..=1_000 {
        assert!(from.publish("t", number));
    }
    for node in &nodes {
        node.until_number("t", 1_000);
        assert!(node.numbers("t").into_iter().eq(1..=1_000));
    }
    assert_eq!(nodes[0].heard(), nodes[1].heard());
    assert!(positions(&nodes[0].heard()).is_sorted_by(|before, after| before < after));
    eventually("the sender has read its own", || from.stats().own == 1_000);
    assert_eq!(from.heard(), []);
}

#[test]
fn a_topic_that_is_asked_for_later_begins_at_its_end_and_without_delay() {
    let server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["first"]));
    assert!(from.publish("second", 1));
    eventually("it is kept", || from.stats().sent == 1);
    // The wait of the reader is ended for the new topic.
    eventually("the reader waits", || server.command("CLIENT LIST").contains(" flags=b "));
    to.bridge.subscribe("second");
    let mut number = 1;
    while to.numbers("second").is_empty() {
        number += 1;
        assert!(from.publish("second", number));
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert!(server.command("INFO commandstats").contains("cmdstat_client|unblock:calls="), "the read was not ended");
    assert!(
        to.numbers("second").first().is_some_and(|first| *first > 1),
        "what was before the subscription is not delivered"
    );
    to.bridge.unsubscribe("second");
    assert!(from.publish("first", 1));
    to.until_number("first", 1);
    assert_eq!(to.stats().missed, 0);
}

/// Redis writes each command to its disk before it answers, so that what it has acknowledged survives.
#[test]
fn r_16_streams_lose_nothing_over_the_death_of_redis() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["t"]));
    assert!(from.publish("t", 0));
    to.until_number("t", 0);
    let stop = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..5 {
                    number += 1;
                    assert!(from.publish("t", number));
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            number
        });
        let stopped = SetOnDrop(&stop);
        for round in 1..=4 {
            let heard = to.heard().len();
            to.until("more", |all| all.len() > heard + 10);
            server.kill();
            eventually("both know", || !from.stats().connected && !to.stats().connected);
            server.restart();
            let back = Instant::now();
            eventually("both are back", || from.stats().connected && to.stats().connected);
            assert!(back.elapsed() <= BACK, "round {round}: back after {:?}", back.elapsed());
        }
        drop(stopped);
        publisher.join().expect("no panic")
    });
    to.until_number("t", last);
    assert!(to.numbers("t").into_iter().eq(0..=last), "each once and in order");
    assert!(positions(&to.heard()).is_sorted_by(|before, after| before < after));
    eventually("the last batch is counted", || to.stats().received == last + 1);
    eventually("all is answered", || from.stats().sent == last + 1);
    let (stats, sent) = (to.stats(), from.stats());
    assert_eq!((stats.missed, stats.garbage), (0, 0), "{stats:?}");
    assert_eq!((sent.refused, sent.rejected, sent.unacknowledged), (0, 0, 0), "{sent:?}");
}

#[test]
fn r_16_connections_that_break_cost_a_stream_nothing() {
    let server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["t"]));
    let mut number = 0;
    for round in 1..=6 {
        for _ in 0..2_000 {
            number += 1;
            assert!(from.publish("t", number));
        }
        server.command("CLIENT KILL TYPE normal");
        let is_back = |node: &Node| node.stats().reconnects >= round && node.stats().connected;
        eventually("both are back", || is_back(&from) && is_back(&to));
    }
    to.until_number("t", number);
    assert!(to.numbers("t").into_iter().eq(1..=number));
    assert_eq!(to.stats().missed, 0);
}

#[test]
fn what_a_stream_no_longer_keeps_is_counted_as_missed() {
    let server = RedisServer::start(&[]);
    let few = || Redis::new(&server.url()).expect("a URL").queue(16 << 20).streams(100);
    let (from, to) = (Node::connected(few(), &[]), Node::connected(few(), &["t"]));
    assert!(from.publish("t", 0));
    to.until_number("t", 0);
    to.while_stuck(|| {
        for number in 1..=5_000 {
            assert!(from.publish("t", number));
        }
        eventually("Redis has taken all", || from.stats().queued_bytes == 0);
    });
    to.until_number("t", 5_000);
    let numbers = to.numbers("t");
    assert!(numbers.is_sorted_by(|before, after| before < after));
    assert!(to.stats().missed > 1_000, "{:?}", to.stats());
    assert_eq!(numbers.len() as u64 + to.stats().missed, 5_001);
    assert_eq!(to.told_missing(), to.stats().missed);
}

#[test]
fn a_topic_whose_key_is_no_stream_is_left_out_and_others_go_on() {
    let server = RedisServer::start(&[]);
    server.command("SET app:wrong value");
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["wrong", "right"]));
    assert!(from.publish("wrong", 1));
    assert!(from.publish("right", 2));
    to.until_number("right", 2);
    eventually("both are answered", || from.stats().queued_bytes == 0);
    assert_eq!((from.stats().rejected, from.stats().sent, to.stats().garbage), (1, 1, 1));
}

/// A stream that was lost, and made anew while the clock of Redis was behind, has ids that are lower than those that were read.
#[test]
fn a_stream_that_was_made_anew_is_read_from_its_beginning() {
    let server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["t"]));
    server.command("XADD app:t 99999999999999-0 m future");
    eventually("it is read", || to.stats().garbage == 1);
    assert!(from.publish("t", 1));
    to.until_number("t", 1);
    server.command("DEL app:t");
    assert!(from.publish("t", 2));
    eventually("it is kept", || from.stats().sent == 2);
    server.command("CLIENT KILL TYPE normal");
    to.until_number("t", 2);
    assert!(from.publish("t", 3));
    to.until_number("t", 3);
    assert_eq!((to.numbers("t"), to.stats().missed, to.stats().duplicates), (vec![1, 2, 3], 0, 0));
}

/// What is no stream when a topic is asked for may be one when it is asked for again.
#[test]
fn a_topic_whose_key_was_no_stream_is_heard_once_it_is_asked_for_again() {
    let server = RedisServer::start(&[]);
    for name in ["t", "second", "third"] {
        server.command(&format!("SET app:{name} value"));
    }
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["t"]));
    assert_eq!(to.stats().garbage, 1);
    to.bridge.unsubscribe("t");
    // That these are found says that what was asked before was done.
    to.bridge.subscribe("second");
    eventually("it has left", || to.stats().garbage == 2);
    server.command("DEL app:t");
    to.bridge.subscribe("t");
    to.bridge.subscribe("third");
    eventually("it has asked again", || to.stats().garbage == 3);
    assert!(from.publish("t", 1));
    to.until_number("t", 1);
}

/// The last entry of a stream is looked at for its id alone, with each connection.
#[test]
fn a_message_that_is_too_large_does_not_keep_others_from_a_reader_of_streams() {
    let server = RedisServer::start(&[]);
    let from = Node::connected(bridge(&server), &[]);
    let to = Node::connected(bridge(&server).max_message_size(1000), &["large", "right"]);
    let large = vec![0; 200_000];
    assert!(from.bridge.publish("large", &BridgeMessage::binary(&large)).is_queued());
    assert!(from.publish("right", 1));
    to.until_number("right", 1);
    assert!(from.publish("large", 2));
    to.until_number("large", 2);
    let late = Node::start(bridge(&server).max_message_size(1000), &["large", "right"]);
    assert!(from.bridge.publish("large", &BridgeMessage::binary(&large)).is_queued());
    late.await_connected();
    assert!(from.publish("right", 2));
    late.until_number("right", 2);
}

#[test]
fn a_user_who_may_not_end_the_wait_of_a_read_reads_streams_all_the_same() {
    let server = RedisServer::start(&[]);
    server.command("ACL SETUSER few on nopass allkeys allchannels +@all -client");
    let url = server.url().replace("redis://", "redis://few:x@");
    let from = Node::connected(bridge(&server), &[]);
    let to = Node::connected(Redis::new(&url).expect("a URL").prefix("app:").streams(1000), &["t"]);
    assert!(from.publish("t", 1));
    to.until_number("t", 1);
    assert_eq!(to.stats().garbage, 0);
    server.command("SET app:wrong value");
    to.bridge.subscribe("later");
    to.bridge.subscribe("wrong");
    eventually("the read has ended by itself", || to.stats().garbage == 1);
    assert!(from.publish("later", 2));
    to.until_number("later", 2);
}
