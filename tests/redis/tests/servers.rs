//! Servers whose topics a bridge joins: what is published at one reaches the subscribers of all, once and in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use threadbare::{Client, Handler, Message, MessageRef, Redis, Server, ServerHandle, Socket, TopicConfig, TopicEvent};
use threadbare_redis_tests::{DEADLINE, RedisServer, eventually};

/// Subscribes to the topic that its first message names, and says when that is done.
struct Subscriber;

impl Handler for Subscriber {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        let topic = message.as_text().expect("a name");
        socket.subscribe(topic).expect("a name");
        socket.send("subscribed");
    }
}

/// A server that is joined with others.
fn node(redis: &RedisServer) -> Server {
    let bridge = Redis::new(&redis.url()).expect("a URL").prefix("test:").queue(64 << 20);
    // A subscriber may be behind by all that the test publishes, and misses nothing.
    let topics = |_: &str| TopicConfig::default().keep(100_000, 64 << 20, Duration::from_secs(600));
    Server::builder().workers(2).topics(topics).bridge(bridge).serve("127.0.0.1:0", |_| Subscriber).expect("a server")
}

fn subscriber(server: &Server, topic: &str) -> Client {
    let url = format!("ws://{}", server.local_addr());
    let client = Client::builder().no_proxy().connect(&url).expect("connects");
    client.send(topic).expect("it is open");
    assert_eq!(client.recv().expect("an answer"), Some(Message::from("subscribed")));
    client
}

fn connected(handle: &ServerHandle, topics: usize) -> bool {
    handle.bridge_stats().is_some_and(|stats| stats.connected && stats.topics == topics)
}

/// Publishes until a message of each node has come through Redis to the others: the subscriptions have begun.
fn wait_until_joined(nodes: &[Server], clients: &[Client]) {
    for (index, node) in nodes.iter().enumerate() {
        eventually("the bridge is connected", || connected(&node.handle(), 1));
        let text = format!("begun {index}");
        node.handle().publish("news", text.as_str());
        for client in clients {
            while client.recv_timeout(DEADLINE).expect("it is open") != Some(Message::from(text.as_str())) {}
        }
    }
}

#[test]
fn every_subscriber_of_three_servers_gets_each_message_once_and_in_order() {
    const MESSAGES: u64 = 10_000;
    let redis = RedisServer::start(&[]);
    let nodes: Vec<Server> = (0..3).map(|_| node(&redis)).collect();
    let clients: Vec<Client> =
        nodes.iter().flat_map(|node| [subscriber(node, "news"), subscriber(node, "news")]).collect();
    wait_until_joined(&nodes, &clients);
    thread::scope(|scope| {
        for (index, node) in nodes.iter().enumerate() {
            let handle = node.handle();
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    handle.publish("news", format!("{index} {number}"));
                }
            });
        }
        for client in &clients {
            scope.spawn(move || {
                let mut next: HashMap<String, u64> = HashMap::new();
                for _ in 0..3 * MESSAGES {
                    let message = client.recv_timeout(DEADLINE).expect("it is open").expect("within the deadline");
                    let text = message.as_text().expect("text");
                    let (from, number) = text.split_once(' ').expect("two words");
                    let expected = next.entry(from.to_owned()).or_default();
                    assert_eq!(number.parse(), Ok(*expected), "of {from}");
                    *expected += 1;
                }
                assert!(next.len() == 3 && next.values().all(|count| *count == MESSAGES), "{next:?}");
            });
        }
    });
    for node in &nodes {
        let stats = node.handle().bridge_stats().expect("a bridge");
        assert_eq!((stats.refused, stats.missed, stats.duplicates, stats.garbage), (0, 0, 0, 0), "{stats:?}");
        assert_eq!((stats.queued, stats.received), (MESSAGES + 1, 2 * (MESSAGES + 1)), "{stats:?}");
        let text = node.stats().openmetrics();
        assert!(text.contains(&format!("\nthreadbare_bridge_received_total {}\n", stats.received)), "{text}");
    }
}

/// Redis is asked for the topics that have subscribers here, and for no others.
#[test]
fn a_server_asks_for_what_its_clients_subscribe_to() {
    let redis = RedisServer::start(&[]);
    let server = node(&redis);
    let client = subscriber(&server, "a");
    eventually("one topic is asked for", || connected(&server.handle(), 1));
    let other = subscriber(&server, "b");
    eventually("two topics are asked for", || connected(&server.handle(), 2));
    drop(client);
    eventually("the topic of a client that left is given up", || connected(&server.handle(), 1));
    drop(other);
    eventually("all are given up", || connected(&server.handle(), 0));
}

/// a server whose Redis is gone serves its own clients as before, and tells of what may be lost.
#[test]
fn r_17_subscribers_here_miss_nothing_while_redis_is_gone() {
    let mut redis = RedisServer::start(&[]);
    let gaps = Arc::new(std::sync::Mutex::new(0_u64));
    let told = gaps.clone();
    let bridge = Redis::new(&redis.url()).expect("a URL");
    let server = Server::builder()
        .workers(2)
        .bridge(bridge)
        .on_topic(move |event| {
            if let TopicEvent::Gap(..) = event {
                *told.lock().expect("no panic") += 1;
            }
        })
        .serve("127.0.0.1:0", |_| Subscriber)
        .expect("a server");
    let client = subscriber(&server, "news");
    eventually("the bridge is connected", || connected(&server.handle(), 1));
    redis.kill();
    eventually("the bridge notices", || !server.handle().bridge_stats().is_some_and(|stats| stats.connected));
    for number in 0..1_000 {
        server.handle().publish("news", format!("{number}"));
        let got = client.recv_timeout(DEADLINE).expect("it is open");
        assert_eq!(got, Some(Message::from(format!("{number}"))));
    }
    redis.restart();
    eventually("the bridge is back", || connected(&server.handle(), 1));
    eventually("the subscriber's gap is told", || *gaps.lock().expect("no panic") > 0);
}

/// The bridge's threads end with the server.
#[test]
fn the_bridge_ends_with_the_server() {
    let redis = RedisServer::start(&[]);
    let server = node(&redis);
    let _client = subscriber(&server, "news");
    eventually("the bridge is connected", || connected(&server.handle(), 1));
    let handle = server.handle();
    drop(server);
    assert_eq!(handle.bridge_stats().map(|stats| stats.connected), Some(false));
    assert_eq!(handle.failed_threads(), 0);
}
