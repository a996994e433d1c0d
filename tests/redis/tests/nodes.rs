//! Nodes that share a Redis: who gets what, in which order, and who asks for what.

use threadbare::{Accepted, Bridge, BridgeError, BridgeMessage, LocalTopics, Redis};
use threadbare_redis_tests::{Heard, Node, RedisServer, eventually};

fn bridge(server: &RedisServer) -> Redis {
    Redis::new(&server.url()).expect("a URL").prefix("app:")
}

#[test]
fn text_and_binary_messages_of_any_size_reach_the_other_node_unchanged() {
    let server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["t", "größe\r\n"]));
    let large = vec![0xa5; 1 << 20];
    for (topic, message) in [
        ("t", BridgeMessage::text("hello")),
        ("t", BridgeMessage::text("")),
        ("t", BridgeMessage::binary(b"\r\n$5\r\n\0")),
        ("größe\r\n", BridgeMessage::binary(&large)),
    ] {
        assert_eq!(from.bridge.publish(topic, &message), Accepted::Queued);
    }
    to.until("four messages", |heard| heard.len() == 4);
    let heard = |topic: &str, payload: &[u8]| Heard::Message(topic.to_owned(), payload.to_vec(), None);
    assert_eq!(
        to.heard(),
        [heard("t", b"hello"), heard("t", b""), heard("t", b"\r\n$5\r\n\0"), heard("größe\r\n", &large)]
    );
    let too_large = vec![0; (1 << 20) + 1];
    assert_eq!(from.bridge.publish("t", &BridgeMessage::binary(&too_large)), Accepted::TooLarge);
    assert!(from.publish("t", 1));
    to.until_number("t", 1);
    assert_eq!((to.stats().missed, to.told_missing()), (1, 1), "the refused message is a gap for the others");
    eventually("everything is answered", || from.stats().queued_bytes == 0);
    let stats = from.stats();
    assert_eq!((stats.queued, stats.sent, stats.refused, stats.rejected, stats.unacknowledged), (5, 5, 1, 0, 0));
    assert!(stats.lag.is_zero());
}

/// Each of three nodes publishes 10,000 numbers to one topic; one is restarted in the middle.
#[test]
fn r_17_three_nodes_hear_each_message_once_and_never_their_own() {
    const COUNT: u64 = 10_000;
    let server = RedisServer::start(&[]);
    let start = || Node::connected(bridge(&server).queue(64 << 20), &["all"]);
    let mut nodes = [start(), start(), start()];
    // The number says who sent it: 1, 2 and 3 millions, and 4 millions for the third's second life.
    let publish = |node: &Node, sender: u64, from: u64, to: u64| {
        for number in from..to {
            assert!(node.publish("all", sender * 1_000_000 + number));
        }
    };
    let halves = |nodes: &[Node; 3], from, to, third| {
        std::thread::scope(|scope| {
            scope.spawn(|| publish(&nodes[0], 1, from, to));
            scope.spawn(|| publish(&nodes[1], 2, from, to));
            scope.spawn(|| publish(&nodes[2], third, from, to));
        });
    };
    halves(&nodes, 0, COUNT / 2, 3);
    // What each hears of a sender is all of it, in order and once.
    let check = |node: &Node, sender: u64, from: u64, to: u64| {
        node.until_number("all", sender * 1_000_000 + to - 1);
        let numbers = node.numbers("all").into_iter().filter(|number| number / 1_000_000 == sender);
        assert!(numbers.eq((from..to).map(|number| sender * 1_000_000 + number)), "of {sender}");
    };
    for (node, senders) in [(0, [2, 3]), (1, [1, 3]), (2, [1, 2])] {
        for sender in senders {
            check(&nodes[node], sender, 0, COUNT / 2);
        }
    }
    nodes[2].bridge.stop();
    nodes[2] = start();
    halves(&nodes, COUNT / 2, COUNT, 4);
    for (node, senders) in [(0, [2, 4]), (1, [1, 4]), (2, [1, 2])] {
        for sender in senders {
            let from = if sender == 4 || node == 2 { COUNT / 2 } else { 0 };
            check(&nodes[node], sender, from, COUNT);
        }
    }
    for (node, sent, heard) in [(0, COUNT, 2 * COUNT), (1, COUNT, 2 * COUNT), (2, COUNT / 2, COUNT)] {
        eventually("the node's own have come back", || nodes[node].stats().own == sent);
        eventually("the last batch is counted", || nodes[node].stats().received == heard);
        let stats = nodes[node].stats();
        assert_eq!((stats.missed, stats.duplicates, stats.garbage), (0, 0, 0), "of {node}");
    }
}

#[test]
fn a_node_asks_for_the_topics_that_have_subscribers_and_for_no_others() {
    let server = RedisServer::start(&[]);
    let node = Node::connected(bridge(&server), &["one", "two"]);
    let channels = || {
        let reply = server.command("PUBSUB CHANNELS *");
        let mut names: Vec<String> = reply.lines().filter(|line| line.starts_with("app:")).map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(channels(), ["app:one", "app:two"]);
    node.bridge.unsubscribe("one");
    node.bridge.subscribe("three");
    node.bridge.subscribe("three");
    eventually("the change has arrived", || channels() == ["app:three", "app:two"]);
    let other = Node::connected(bridge(&server), &[]);
    for (topic, number) in [("one", 1), ("two", 2), ("three", 3)] {
        assert!(other.publish(topic, number));
    }
    node.until_number("three", 3);
    assert_eq!((node.numbers("one"), node.numbers("two")), (vec![], vec![2]));
    for topic in ["two", "three"] {
        node.bridge.unsubscribe(topic);
    }
    eventually("nothing is left", || channels().is_empty());
    assert!(node.stats().connected);
    assert_eq!(node.stats().topics, 0);
}

#[test]
fn thousands_of_topics_are_subscribed_and_come_back_after_the_connection_is_lost() {
    let server = RedisServer::start(&[]);
    let names: Vec<String> = (0..3_000).map(|number| format!("topic-{number}")).collect();
    let topics: Vec<&str> = names.iter().map(String::as_str).collect();
    let node = Node::connected(bridge(&server), &topics);
    let count = || server.command("PUBSUB CHANNELS *").lines().filter(|line| line.starts_with("app:")).count();
    assert_eq!(count(), 3_000);
    server.command("CLIENT KILL TYPE pubsub");
    node.until("the unknown gap", |heard| heard == [Heard::Gap(None, None)]);
    assert_eq!(count(), 3_000);
    assert_eq!(node.stats().reconnects, 1);
}

/// What is sent before Redis has confirmed the second subscription belongs to the first one, which is over.
#[test]
fn a_topic_that_is_asked_for_again_begins_anew() {
    let server = RedisServer::start(&[]);
    let (from, to) = (Node::connected(bridge(&server), &[]), Node::connected(bridge(&server), &["t", "marks"]));
    assert!(from.publish("t", 1));
    to.until_number("t", 1);
    to.bridge.unsubscribe("t");
    eventually("the topic is left", || server.command("PUBSUB NUMSUB app:t").contains(":0\r\n"));
    assert!(from.publish("t", 2));
    assert!(from.publish("marks", 1));
    to.until_number("marks", 1);
    to.bridge.subscribe("t");
    eventually("the topic is back", || server.command("PUBSUB NUMSUB app:t").contains(":1\r\n"));
    assert!(from.publish("t", 3));
    to.until_number("t", 3);
    assert_eq!((to.numbers("t"), to.stats().missed), (vec![1, 3], 0));
}

#[test]
fn passwords_users_databases_and_unix_sockets_are_those_of_the_url() {
    let server = RedisServer::start(&["--requirepass", "s3cret@", "--user", "me", "on", ">pw", "~*", "&*", "+@all"]);
    let port = server.port();
    let (from, to) = (
        Node::connected(Redis::new(&format!("redis://:s3cret%40@127.0.0.1:{port}")).expect("a URL"), &[]),
        Node::connected(Redis::new(&format!("redis://me:pw@127.0.0.1:{port}/2")).expect("a URL"), &["t"]),
    );
    assert!(from.publish("t", 7));
    to.until_number("t", 7);
    let wrong = Node::start(Redis::new(&format!("redis://:wrong@127.0.0.1:{port}")).expect("a URL"), &["t"]);
    assert!(wrong.publish("t", 8));
    assert!(from.publish("t", 9));
    to.until_number("t", 9);
    assert!(!wrong.stats().connected);
    assert_eq!(to.numbers("t"), [7, 9]);
    assert!(!format!("{:?} {:?}", from.bridge, wrong.bridge).contains("s3cret"));

    let open = RedisServer::start(&[]);
    let (from, to) = (
        Node::connected(Redis::new(&open.url()).expect("a URL"), &[]),
        Node::connected(Redis::new(&open.unix_url()).expect("a URL"), &["t"]),
    );
    assert!(from.publish("t", 1));
    to.until_number("t", 1);
}

#[test]
fn a_bridge_is_started_once_and_refuses_messages_before_and_after() {
    let server = RedisServer::start(&[]);
    let idle = bridge(&server);
    assert_eq!(idle.publish("t", &BridgeMessage::text("x")), Accepted::Stopped);
    let local = || LocalTopics::from_fn(|_| {});
    idle.start(local()).expect("the first time");
    assert!(matches!(idle.start(local()), Err(BridgeError::AlreadyStarted)));
    eventually("connected", || idle.stats().connected);
    assert!(idle.publish("t", &BridgeMessage::text("x")).is_queued());
    idle.stop();
    idle.stop();
    assert_eq!(idle.publish("t", &BridgeMessage::text("x")), Accepted::Stopped);
    let stats = idle.stats();
    assert_eq!((stats.queued, stats.sent, stats.refused, stats.connected), (1, 1, 2, false));
    assert!(matches!(bridge(&server).queue(100).start(local()), Err(BridgeError::Setting { setting: "queue", .. })));
    assert!(matches!(bridge(&server).streams(0).start(local()), Err(BridgeError::Setting { setting: "streams", .. })));
}
