//! A server that is handed over to another while it is joined with a third: nothing is missing and nothing comes twice, whichever of
//! them publishes.
#![cfg(target_os = "linux")]

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use threadbare::{
    Client, Config, Handler, MessageRef, Redis, Request, Server, ServerHandle, Socket, TopicConfig, TopicEvent,
};
use threadbare_redis_tests::{DEADLINE, RedisServer, eventually};

/// Subscribes its connection.
struct Subscriber;

impl Handler for Subscriber {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        socket.subscribe("news").expect("a name");
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        Some(Vec::new())
    }
}

/// The socket for the next server, which is removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        Place(std::env::temp_dir().join(format!("threadbare-bridge-{name}-{}", std::process::id())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A server that is joined with others. Its gaps are told to the subscribers.
fn node(redis: &RedisServer, streams: bool, place: Option<&Place>) -> Server {
    let bridge = Redis::new(&redis.url()).expect("a URL").queue(64 << 20);
    let bridge = if streams { bridge.streams(100_000) } else { bridge };
    let topics = |_: &str| TopicConfig::default().keep(100_000, 64 << 20, Duration::from_secs(600));
    let tell = |event| {
        if let TopicEvent::Gap(peer, _, missed) = event {
            let _ = peer.send(format!("gap {missed}")); // it may be gone
        }
    };
    let config = Config::default().drop_timeout(Duration::from_secs(2));
    let mut builder = Server::builder().workers(2).config(config).topics(topics).on_topic(tell).bridge(bridge);
    if let Some(Place(path)) = place {
        builder = builder.hand_over(path);
    }
    builder.serve("127.0.0.1:0", |_: &Request| Subscriber).expect("a server")
}

fn subscriber(server: &Server) -> Client {
    let client = Client::builder().no_proxy().connect(&format!("ws://{}", server.local_addr()));
    client.expect("connects")
}

/// Numbers that were given to a server which had left already: the bridge takes them along if it has not ended. They are published
/// once more.
type Unsure = Arc<Mutex<HashSet<u64>>>;

/// Publishes numbers in whichever server serves until it is told to end. Returns how many there are.
fn publish_all_the_time(
    name: &'static str,
    serving: Arc<Mutex<ServerHandle>>,
    is_over: Arc<AtomicBool>,
    unsure: Unsure,
) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut number = 0;
        while !is_over.load(Ordering::SeqCst) {
            let handle = serving.lock().expect("no panic").clone();
            match handle.publish("news", format!("{name} {}", number + 1)).position {
                Some(_) => number += 1,
                None => drop(unsure.lock().expect("no panic").insert(number + 1)),
            }
            thread::sleep(Duration::from_micros(300)); // leaves the processor to the others
        }
        number
    })
}

/// The next numbers of both publishers.
#[derive(Debug, Default)]
struct Seen {
    here: u64,
    there: u64,
    /// Those of `here` that have overtaken others: what is given to the old server late has no order with what is published in the new
    /// one.
    ahead: BTreeSet<u64>,
}

impl Seen {
    /// Receives up to these numbers, and checks that none is missing or comes twice.
    fn receive(&mut self, client: &Client, here: u64, there: u64, unsure: &Unsure) {
        while self.here < here || self.there < there {
            let message = client.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{error} behind {self:?}"));
            let message = message.expect("it is open");
            let text = message.as_text().expect("text");
            let (from, number) = text.split_once(' ').expect("two words");
            if from == "begun" {
                continue;
            }
            let number: u64 = number.parse().expect("a number");
            match from {
                "here" => {
                    let is_new = number > self.here && self.ahead.insert(number);
                    let may_come_twice = unsure.lock().expect("no panic").contains(&number);
                    assert!(is_new || may_come_twice, "{number} comes twice, behind {}", self.here);
                    assert!(self.ahead.len() < 1000, "missing: {self:?}");
                    while self.ahead.remove(&(self.here + 1)) {
                        self.here += 1;
                    }
                }
                "there" => {
                    self.there += 1;
                    assert_eq!(number, self.there, "nothing is missing, nothing comes twice");
                }
                other => panic!("{other} {number} behind here {} and there {}", self.here, self.there),
            }
        }
    }
}

/// What is published in the server that is handed over comes to the other through Redis, and the other way round. A message that is given
/// to the old server after it has left comes to the new one through Redis as well.
fn five_hand_overs(streams: bool) {
    let redis = RedisServer::start(&[]);
    let place = Place::new(if streams { "streams" } else { "plain" });
    let mut server = node(&redis, streams, Some(&place));
    let other = node(&redis, streams, None);
    let clients: Vec<Client> = (0..4).map(|_| subscriber(&server)).collect();
    let distant = subscriber(&other);
    let is_joined =
        |server: &Server| server.handle().bridge_stats().is_some_and(|stats| stats.connected && stats.topics == 1);
    eventually("both are joined", || is_joined(&server) && is_joined(&other));
    // The subscriptions have begun once a message has come through.
    for (from, word, clients) in
        [(&server, "begun here", std::slice::from_ref(&distant)), (&other, "begun there", &clients[..])]
    {
        for client in clients {
            eventually("a message comes", || {
                from.handle().publish("news", word);
                client.try_recv().is_ok_and(|message| message.is_some_and(|message| message.as_text() == Some(word)))
            });
        }
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let serving = Arc::new(Mutex::new(server.handle()));
    let unsure = Unsure::default();
    let here = publish_all_the_time("here", serving.clone(), is_over.clone(), unsure.clone());
    let there = publish_all_the_time("there", Arc::new(Mutex::new(other.handle())), is_over.clone(), unsure.clone());
    let (mut seen, mut seen_there) = ([(); 4].map(|()| Seen::default()), Seen::default());
    for _ in 0..5 {
        for (client, seen) in clients.iter().zip(&mut seen) {
            let (here, there) = (seen.here + 50, seen.there + 50);
            seen.receive(client, here, there, &unsure);
        }
        let next = node(&redis, streams, Some(&place));
        *serving.lock().expect("no panic") = next.handle();
        drop(std::mem::replace(&mut server, next));
    }
    is_over.store(true, Ordering::SeqCst);
    let (here, there) = (here.join().expect("no panic"), there.join().expect("no panic"));
    for (client, seen) in clients.iter().zip(&mut seen) {
        seen.receive(client, here, there, &unsure);
    }
    seen_there.receive(&distant, here, there, &unsure);
    let stats = server.handle().bridge_stats().expect("a bridge");
    assert_eq!((stats.missed, stats.garbage), (0, 0), "{stats:?}");
}

#[test]
fn nothing_is_missing_and_nothing_comes_twice_over_plain_redis() {
    five_hand_overs(false);
}

#[test]
fn nothing_is_missing_and_nothing_comes_twice_over_streams() {
    five_hand_overs(true);
}

/// A Redis that is gone holds up the hand-over for 3 s, and no longer.
#[test]
fn a_redis_that_is_gone_does_not_prevent_the_hand_over() {
    let redis = RedisServer::absent();
    let place = Place::new("gone");
    let server = node(&redis, false, Some(&place));
    let client = subscriber(&server);
    eventually("it is subscribed", || server.handle().publish("news", "old").subscribers == 1);
    let begun = std::time::Instant::now();
    let next = node(&redis, false, Some(&place));
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    next.handle().publish("news", "new");
    let mut received = Vec::new();
    while received.last().is_none_or(|text| text != "new") {
        received
            .push(client.recv_timeout(DEADLINE).expect("open").expect("a message").as_text().expect("text").to_owned());
    }
    drop((server, client));
}
