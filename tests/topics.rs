//! Topics: publishing to those who are subscribed, whatever subscribes and publishes, and however slowly they read.

use crate::common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::app::{App, echo};
use common::bridge::TestBridge;
use common::servers::Mode;
use common::{Client, DEADLINE, Frame, eventually, text};
use crossbeam_channel::{Receiver, unbounded};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Config, EventRef, Handler, InvalidTopicName, MessageRef, Peer, Published, Server, ServerBuilder, Since, Slow,
    Socket, SubscribeError, Topic, TopicConfig, TopicEvent,
};

/// A message that says its number, of `size` bytes.
fn numbered(number: usize, size: usize) -> String {
    format!("{number:>size$}")
}

fn number_in(frame: &Frame) -> usize {
    let text = String::from_utf8(frame.payload.clone()).expect("text");
    text.trim().parse().unwrap_or_else(|_| panic!("a number, not {text:?}"))
}

/// Receives up to `last`, and returns the numbers.
fn receive_until(client: &mut Client, last: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        numbers.push(number_in(&client.expect_frame()));
    }
    assert!(numbers.is_sorted_by(|one, other| one < other), "in order, and none twice: {numbers:?}");
    numbers
}

/// A handler that does what it is told: `sub TOPIC`, `unsub TOPIC`, `pub TOPIC TEXT`, `others TOPIC TEXT`, `topics`.
struct Told;

impl Handler for Told {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        for line in message.as_text().expect("text").lines() {
            let mut words = line.splitn(3, ' ');
            let (act, topic, text) = (words.next(), words.next().unwrap_or(""), words.next().unwrap_or(""));
            match act {
                Some("sub") => drop(socket.subscribe(topic).expect("subscribed")),
                Some("unsub") => socket.unsubscribe(topic),
                Some("pub") => drop(socket.publish(topic, text)),
                Some("others") => drop(socket.publish_to_others(topic, text)),
                Some("say") => drop(socket.send(text)),
                Some("topics") => {
                    let mut topics = socket.topics();
                    topics.sort();
                    socket.send(topics.join(","));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn told(builder: ServerBuilder) -> Server {
    common::logged::install();
    builder.serve("127.0.0.1:0", |_| Told).expect("a server")
}

fn tell(client: &mut Client, lines: &str) {
    client.send(&text(lines));
}

/// Waits until the server has done what it was told.
fn settle(client: &mut Client) {
    tell(client, "say x settled");
    assert_eq!(client.expect_frame(), Frame::text("settled"));
}

#[test]
fn what_is_published_reaches_each_subscriber_once_and_in_order() {
    const CLIENTS: usize = 12;
    const MESSAGES: usize = 500;
    for mode in Mode::ALL {
        for workers in [1, 3] {
            let app = App::start(mode, Server::builder().workers(workers), echo);
            let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(app.addr)).collect();
            let peers: Vec<_> = (0..CLIENTS).map(|_| app.opened()).collect();
            // All but every third, which are matched with their clients by what they are sent.
            for (number, peer) in peers.iter().enumerate() {
                peer.send(number.to_string()).expect("open");
                if number % 3 > 0 {
                    peer.subscribe("room").expect("subscribed");
                    peer.subscribe("room").expect("subscribed already");
                }
            }
            let topic = app.handle().topic("room").expect("a name");
            for number in 0..MESSAGES {
                let published = match number % 2 {
                    0 => app.handle().publish("room", number.to_string()),
                    _ => topic.publish(number.to_string()),
                };
                assert_eq!(published.position.map(|position| position.offset()), Some(number as u64 + 1));
            }
            eventually("each subscription counts once", || topic.subscribers() == CLIENTS * 2 / 3);
            for client in &mut clients {
                let is_subscribed = !number_in(&client.expect_frame()).is_multiple_of(3);
                if is_subscribed {
                    for number in 0..MESSAGES {
                        assert_eq!(client.expect_frame(), Frame::text(&number.to_string()), "{mode:?}");
                    }
                }
                client.send(&text("the end"));
                assert_eq!(client.expect_frame(), Frame::text("the end"), "and nothing else");
            }
            eventually("what all have is freed", || topic.stats().messages == 0);
            let stats = topic.stats();
            assert_eq!((stats.published, stats.skipped, stats.disconnected), (MESSAGES as u64, 0, 0));
            assert_eq!(stats.delivered, (MESSAGES * CLIENTS * 2 / 3) as u64);
            drop(clients);
            eventually("a closed connection leaves its topics", || topic.subscribers() == 0);
            app.finish();
        }
    }
}

#[test]
fn handlers_subscribe_publish_and_leave() {
    for workers in [1, 2] {
        let server = told(Server::builder().workers(workers));
        let mut clients: Vec<_> = (0..4).map(|_| Client::open(server.local_addr())).collect();
        for client in &mut clients {
            tell(client, "sub a\nsub b\nsub a\ntopics");
            assert_eq!(client.expect_frame(), Frame::text("a,b"));
        }
        tell(&mut clients[0], "pub a one\nothers a two\npub b three");
        for (number, client) in clients.iter_mut().enumerate() {
            let a: &[&str] = if number == 0 { &["one"] } else { &["one", "two"] };
            let mut expected: Vec<_> = a.iter().chain(&["three"]).map(|text| Frame::text(text)).collect();
            // The order of two topics is not promised.
            let mut got: Vec<_> = expected.iter().map(|_| client.expect_frame()).collect();
            let key = |frame: &Frame| frame.payload.clone();
            expected.sort_by_key(key);
            got.sort_by_key(key);
            assert_eq!(got, expected);
        }
        // Who leaves in the turn in which it publishes gets that message, and none behind it.
        tell(&mut clients[0], "pub a four\nunsub a\npub a five\ntopics");
        assert_eq!(clients[0].expect_frame(), Frame::text("four"));
        assert_eq!(clients[0].expect_frame(), Frame::text("b"));
        settle(&mut clients[0]);
        for client in &mut clients[1..] {
            assert_eq!((client.expect_frame(), client.expect_frame()), (Frame::text("four"), Frame::text("five")));
            settle(client);
        }
        drop(clients);
        eventually("topics end without subscribers", || server.handle().publish("a", "x") == Published::default());
    }
}

/// The loop does not run between the calls.
#[test]
fn what_is_published_behind_an_unsubscribe_is_not_sent() {
    common::logged::install();
    let mut event_loop = Server::builder().bind_inline("127.0.0.1:0").expect("an event loop");
    let (handle, addr) = (event_loop.handle(), event_loop.handle().local_addr());
    let client = std::thread::spawn(move || {
        let mut client = Client::open(addr);
        client.send(&text("go"));
        [(); 3].map(|()| client.expect_frame())
    });
    let other = handle.topic("room").expect("a name");
    while !client.is_finished() {
        let polled = event_loop.poll(Some(Duration::from_millis(50)), |event| {
            if let EventRef::Message(peer, _) = event {
                peer.subscribe("room").expect("subscribed");
                for text in ["one", "two"] {
                    other.publish(text);
                }
                peer.unsubscribe("room");
                other.publish("behind");
                peer.send("end").expect("open");
            }
        });
        polled.expect("a poll");
    }
    assert_eq!(client.join().expect("the client"), ["one", "two", "end"].map(Frame::text));
    assert_eq!(other.stats().delivered, 2);
}

#[test]
fn who_is_left_out_gets_the_others() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(2), echo);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        let mut other = Client::open(app.addr);
        let other_peer = app.opened();
        for peer in [&peer, &other_peer] {
            peer.subscribe_all(["a", "b"]).expect("subscribed");
        }
        let handle = app.handle();
        for number in 0..100 {
            match number % 3 {
                0 => handle.publish_except(&peer, "a", number.to_string()),
                1 => handle.publish_except(&other_peer, "a", number.to_string()),
                _ => handle.publish("a", number.to_string()),
            };
        }
        for (client, left_out) in [(&mut client, 0), (&mut other, 1)] {
            for number in (0..100).filter(|number| number % 3 != left_out) {
                assert_eq!(client.expect_frame(), Frame::text(&number.to_string()));
            }
        }
        eventually("the list of topics", || peer.topics().len() == 2);
        peer.unsubscribe_all(["a"]);
        eventually("the list of topics", || *peer.topics() == ["b".into()]);
        app.finish();
    }
}

#[test]
fn what_one_thread_publishes_and_sends_to_a_peer_arrives_in_order() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(2), echo);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        peer.subscribe("room").expect("subscribed");
        let topic = app.handle().topic("room").expect("a name");
        for number in 0..3_000 {
            match number % 5 {
                0 | 3 => peer.send(number.to_string()).expect("room for it"),
                4 => app.handle().broadcast(number.to_string()),
                _ => drop(topic.publish(number.to_string())),
            }
        }
        for number in 0..3_000 {
            assert_eq!(client.expect_frame(), Frame::text(&number.to_string()), "{mode:?}");
        }
        app.finish();
    }
}

/// A subscriber that did not read what was published.
struct Stalled {
    app: App,
    client: Client,
    peer: Peer,
    topic: Topic,
    events: Receiver<TopicEvent>,
}

/// Publishes to a stalled subscriber and to one that keeps up, and returns what the stalled one receives and missed.
fn stall(mode: Mode, slow: Slow, size: usize, count: usize) -> Stalled {
    let (log, events) = unbounded();
    let config = Config::default().max_write_buffer_size(64 << 10);
    let builder = Server::builder()
        .workers(1)
        .config(config)
        .topics(move |_| TopicConfig::default().slow(slow).buffer(16, 1 << 20))
        .on_topic(move |event| drop(log.send(event)));
    let app = App::start(mode, builder, echo);
    let stalled = Client::open_with_small_buffer(app.addr);
    let peer = app.opened();
    let mut other = Client::open(app.addr);
    for peer in [&peer, &app.opened()] {
        peer.subscribe("room").expect("subscribed");
    }
    let topic = app.handle().topic("room").expect("a name");
    for number in 1..=count {
        topic.publish(numbered(number, size));
        // So that nothing is lost because the worker has not come to it.
        assert_eq!(number_in(&other.expect_frame()), number);
    }
    assert!(topic.stats().messages <= 16, "{:?}", topic.stats());
    drop(other);
    Stalled { app, client: stalled, peer, topic, events }
}

fn gaps(events: &Receiver<TopicEvent>, of: &Peer) -> Vec<u64> {
    let gap = |event| match event {
        TopicEvent::Gap(peer, topic, missed) => {
            assert_eq!((&peer, &*topic), (of, "room"));
            Some(missed)
        }
        _ => None,
    };
    events.try_iter().filter_map(gap).collect()
}

#[test]
fn topics_and_subscriptions_are_bounded_and_the_refusal_says_which() {
    for mode in Mode::ALL {
        let config = Config::default().max_subscriptions(3).max_topics(4);
        let app = App::start(mode, Server::builder().workers(1).config(config), echo);
        let _clients = [(); 2].map(|()| Client::open(app.addr));
        let peers = [app.opened(), app.opened()];
        for topic in ["a", "b", "c"] {
            peers[0].subscribe(topic).expect("there is room");
        }
        assert_eq!(peers[0].subscribe("d"), Err(SubscribeError::TooManySubscriptions));
        eventually("the worker has come to them", || peers[0].topics().len() == 3);
        assert_eq!(peers[0].subscribe("d"), Err(SubscribeError::TooManySubscriptions));
        peers[0].subscribe("a").expect("subscribed already");
        peers[1].subscribe_all(["a", "d"]).expect("there is room");
        assert_eq!(peers[1].subscribe("e"), Err(SubscribeError::TooManyTopics));
        peers[1].subscribe("b").expect("there is such a topic");
        let held = app.handle().topic("e").expect("what the application holds is not limited");
        peers[1].unsubscribe("a");
        eventually("the worker has come to it", || {
            let mut topics = peers[1].topics();
            topics.sort();
            topics == ["b".into(), "d".into()]
        });
        peers[1].subscribe("e").expect("there is such a topic");
        drop(held);
        peers[0].unsubscribe_all(["a", "c"]);
        peers[1].unsubscribe("e");
        eventually("two topics are left", || app.handle().stats().topics == 2);
        peers[0].subscribe("f").expect("there is room again");
        app.finish();
    }
}

#[test]
fn a_handler_is_refused_too_many_subscriptions() {
    let config = Config::default().max_subscriptions(2);
    let server = Server::builder().config(config).serve("127.0.0.1:0", |_: &_| {
        |socket: &mut Socket<'_>, message: MessageRef<'_>| {
            let subscribed = socket.subscribe(message.as_text().expect("text"));
            socket.send(subscribed.map_or_else(|error| error.to_string(), |_| "subscribed".to_owned()));
        }
    });
    let server = server.expect("a server");
    let mut client = Client::open(server.local_addr());
    let refused = SubscribeError::TooManySubscriptions.to_string();
    for (topic, answer) in
        [("a", "subscribed"), ("b", "subscribed"), ("c", &*refused), ("b", "subscribed"), ("", &*refused)]
    {
        client.send(&text(topic));
        assert_eq!(client.expect_frame(), Frame::text(answer), "{topic}");
    }
}

#[test]
fn what_is_published_to_more_topics_than_there_may_be_is_not_kept() {
    let keep = |_: &str| TopicConfig::default().keep(1, 1 << 10, Duration::MAX);
    let config = Config::default().max_topics(2);
    let server = Server::builder().config(config).topics(keep).bind("127.0.0.1:0").expect("a server");
    let published = ["a", "b", "c", "a"].map(|topic| server.handle().publish(topic, "x").position.is_some());
    assert_eq!((published, server.stats().topics), ([true, true, false, true], 2));
}

/// What others have published while a topic had no subscriber here did not come here.
#[test]
fn who_comes_back_to_a_bridged_topic_that_had_no_subscribers_is_told_of_a_gap() {
    for is_bridged in [true, false] {
        let (log, events) = unbounded();
        let builder = Server::builder()
            .workers(1)
            .topics(|_| TopicConfig::default().keep(10, 1 << 20, Duration::MAX))
            .on_topic(move |event| drop(log.send(event)));
        let builder = if is_bridged { builder.bridge(TestBridge::default()) } else { builder };
        let app = App::start(Mode::Handler, builder, echo);
        let _client = Client::open(app.addr);
        let peer = app.opened();
        let topic = app.handle().topic("room").expect("a name");
        // Subscribes, says which gaps were told until it has left again, and where it is then.
        let come_and_go = |since| {
            peer.subscribe_since("room", since).expect("subscribed");
            let position = topic.publish("x").position.expect("there is a history");
            peer.unsubscribe("room");
            let mut gaps = Vec::new();
            loop {
                match events.recv_timeout(DEADLINE).expect("an event") {
                    TopicEvent::Gap(_, _, missed) => gaps.push(missed),
                    TopicEvent::Last(_) => return (gaps, position),
                    _ => {}
                }
            }
        };
        let (gaps, position) = come_and_go(Since::Oldest);
        assert!(gaps.is_empty());
        let unknown = if is_bridged { vec![0] } else { vec![] };
        let (gaps, position) = come_and_go(Since::Position(position));
        assert_eq!(gaps, unknown);
        assert!(come_and_go(Since::Now).0.is_empty());
        assert_eq!(come_and_go(Since::Position(position)).0, unknown);

        // There is a subscriber all the time.
        let _other = Client::open(app.addr);
        let other = app.opened();
        other.subscribe("room").expect("subscribed");
        eventually("the worker has come to it", || other.topics().len() == 1);
        let position = topic.publish("x").position.expect("there is a history");
        peer.subscribe_since("room", Since::Position(position)).expect("subscribed");
        eventually("the worker has come to it", || topic.subscribers() == 2 && peer.topics().len() == 1);
        app.finish();
        assert!(gaps_in(&events).is_empty());
    }
}

fn gaps_in(events: &Receiver<TopicEvent>) -> Vec<u64> {
    let gap = |event| if let TopicEvent::Gap(_, _, missed) = event { Some(missed) } else { None };
    events.try_iter().filter_map(gap).collect()
}

#[test]
fn a_newcomer_gets_the_history_and_not_what_a_slow_subscriber_lacks() {
    let config = Config::default().max_write_buffer_size(64 << 10);
    let builder = Server::builder()
        .workers(1)
        .config(config)
        .topics(|_| TopicConfig::default().buffer(64, 64 << 20).keep(2, 64 << 20, Duration::MAX));
    let app = App::start(Mode::Handler, builder, echo);
    let stalled = Client::open_with_small_buffer(app.addr);
    app.opened().subscribe("room").expect("subscribed");
    let topic = app.handle().topic("room").expect("a name");
    let mut last = 0;
    while topic.stats().messages < 20 {
        last += 1;
        topic.publish(numbered(last, 50_000));
    }
    let mut newcomer = Client::open(app.addr);
    let subscription = app.opened().subscribe_since("room", Since::Oldest).expect("subscribed");
    assert_eq!((subscription.position.offset(), subscription.missed), (last as u64 - 2, 0));
    assert_eq!(receive_until(&mut newcomer, last), [last - 1, last]);
    drop(stalled);
    app.finish();
}

/// T-04: a subscriber that does not read costs the topic's buffer, and what it misses is counted and told.
#[test]
fn t_04_a_slow_subscriber_misses_the_oldest_and_is_told_how_many() {
    for (mode, size) in Mode::ALL.into_iter().flat_map(|mode| [(mode, 500), (mode, 20_000)]) {
        let count = (16 << 20) / size;
        let Stalled { app, client: mut stalled, peer, topic, events } = stall(mode, Slow::Skip, size, count);
        assert!(peer.queued_bytes() < (64 << 10) + 2 * size, "{:?}", peer.stats());
        let received = receive_until(&mut stalled, count);
        let missed = peer.stats().dropped;
        assert_eq!(received.len() as u64 + missed, count as u64, "{mode:?}: each is received or counted");
        assert!(missed > 0 && received.len() > 16, "{mode:?}: {missed} of {count}");
        eventually("the gap is told", || !events.is_empty());
        assert_eq!(gaps(&events, &peer).iter().sum::<u64>(), missed);
        let holes: Vec<_> = received.windows(2).filter(|pair| pair[1] > pair[0] + 1).collect();
        assert_eq!(holes.len(), 1, "what it had in its sockets, and then the newest: {holes:?}");
        let stats = topic.stats();
        assert_eq!((stats.skipped, stats.delivered), (missed, (received.len() + count) as u64));
        eventually("what all have is freed", || topic.stats().messages == 0);
        app.finish();
    }
}

#[test]
fn a_slow_subscriber_of_the_latest_gets_the_newest() {
    for mode in Mode::ALL {
        let (size, count) = (20_000, 800);
        let Stalled { app, client: mut stalled, peer, topic, events } = stall(mode, Slow::Latest, size, count);
        let received = receive_until(&mut stalled, count);
        let before = received[received.len() - 2];
        let missed = peer.stats().dropped;
        assert!(missed > 16, "not even what the topic has: {missed}");
        assert_eq!((received.len() as u64 + missed, count as u64 - 1 - before as u64), (count as u64, missed));
        eventually("the gap is told", || !events.is_empty());
        assert_eq!((gaps(&events, &peer), topic.stats().skipped), (vec![missed], missed));
        app.finish();
    }
}

#[test]
fn a_slow_subscriber_that_must_miss_nothing_is_closed() {
    for mode in Mode::ALL {
        let (size, count) = (20_000, 800);
        let Stalled { app, client: mut stalled, peer, topic, .. } = stall(mode, Slow::Disconnect, size, count);
        assert_eq!((topic.stats().disconnected, topic.stats().skipped, peer.is_open()), (1, 0, false));
        let mut next = 1;
        let last = loop {
            let frame = stalled.expect_frame();
            if frame.opcode == Opcode::Close {
                break frame;
            }
            assert_eq!(number_in(&frame), next, "without a gap");
            next += 1;
        };
        assert!(last.close_code() == 1008 && next < count);
        app.finish();
    }
}

/// A burst is longer than the buffer: who keeps up as well as it can is told of the loss too.
#[test]
fn each_message_of_a_burst_is_received_or_counted() {
    for mode in Mode::ALL {
        let builder = Server::builder().workers(2).topics(|_| TopicConfig::default().buffer(8, 1 << 20));
        let app = App::start(mode, builder, echo);
        let mut clients: Vec<_> = (0..4).map(|_| Client::open(app.addr)).collect();
        let mut peers = HashMap::new();
        for _ in 0..4 {
            let peer = app.opened();
            peer.send(peer.id().to_string()).expect("open");
            peer.subscribe("room").expect("subscribed");
            peers.insert(peer.id().to_string(), peer);
        }
        const COUNT: usize = 20_000;
        let topic = app.handle().topic("room").expect("a name");
        for number in 1..=COUNT {
            topic.publish(number.to_string());
        }
        for client in &mut clients {
            let id = String::from_utf8(client.expect_frame().payload).expect("text");
            let received = receive_until(client, COUNT);
            let missed = peers[&id].stats().dropped;
            assert_eq!(received.len() as u64 + missed, COUNT as u64, "{mode:?}");
        }
        let stats = topic.stats();
        assert_eq!(stats.skipped + stats.delivered, 4 * COUNT as u64);
        app.finish();
    }
}

#[test]
fn history_is_sent_from_where_it_is_asked_for() {
    for mode in Mode::ALL {
        let builder = Server::builder().topics(|_| TopicConfig::default().keep(10, 1 << 20, Duration::MAX));
        let app = App::start(mode, builder, echo);
        let handle = app.handle();
        let positions: Vec<_> = (1..=30)
            .map(|number: u32| handle.publish("room", number.to_string()).position.expect("the history needs it"))
            .collect();
        let from = |since, expected: &[usize], missed| {
            let mut client = Client::open(app.addr);
            let subscription = app.opened().subscribe_since("room", since).expect("subscribed");
            assert_eq!(subscription.missed, missed);
            for number in expected {
                assert_eq!(number_in(&client.expect_frame()), *number, "{since:?}");
            }
            client.send(&text("the end"));
            assert_eq!(client.expect_frame(), Frame::text("the end"), "{since:?}");
        };
        from(Since::Now, &[], 0);
        from(Since::Oldest, &[21, 22, 23, 24, 25, 26, 27, 28, 29, 30], 0);
        from(Since::Position(positions[27]), &[29, 30], 0);
        from(Since::Position(positions[29]), &[], 0);
        from(Since::Position(positions[14]), &[21, 22, 23, 24, 25, 26, 27, 28, 29, 30], 5);
        let stranger = "0000000000000000-7".parse().expect("a position");
        from(Since::Position(stranger), &[21, 22, 23, 24, 25, 26, 27, 28, 29, 30], u64::MAX);
        app.finish();
    }
}

/// The environment variable `TOPIC_RETURNS` has a subscriber come back more often, in each mode.
#[test]
fn who_comes_back_misses_nothing_untold() {
    let returns = std::env::var("TOPIC_RETURNS").map_or(400, |count| count.parse().expect("a number"));
    for mode in Mode::ALL {
        let builder = Server::builder().workers(2).topics(|_| TopicConfig::default().keep(64, 1 << 20, Duration::MAX));
        let app = App::start(mode, builder, echo);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        let topic = app.handle().topic("room").expect("a name");
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let publisher = std::thread::spawn({
            let (topic, done) = (topic.clone(), done.clone());
            move || {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    topic.publish_with(|position| position.to_string());
                    std::thread::yield_now();
                }
            }
        });
        let mut since = Since::Now;
        let (mut next, mut gaps) = (None, 0);
        for round in 0..returns {
            let subscription = peer.subscribe_since("room", since).expect("subscribed");
            let begin = subscription.position.offset() + 1;
            if let Some(next) = next {
                assert_eq!(begin, next + subscription.missed, "{mode:?}, round {round}");
            }
            let mut expected = begin;
            let mut last = subscription.position;
            peer.send("begins").expect("room");
            while expected < begin + 5 {
                let payload = String::from_utf8(client.expect_frame().payload).expect("text");
                let Ok(position) = payload.parse::<threadbare::Position>() else { continue };
                if position.offset() >= begin {
                    assert!(position.offset() >= expected, "{mode:?}, round {round}");
                    gaps += position.offset() - expected;
                    expected = position.offset() + 1;
                }
                last = position;
            }
            peer.unsubscribe("room");
            peer.send("ended").expect("room");
            loop {
                let frame = client.expect_frame();
                let payload = String::from_utf8(frame.payload).expect("text");
                match payload.parse::<threadbare::Position>() {
                    Ok(position) => {
                        assert!(position.offset() >= expected, "{mode:?}, round {round}");
                        gaps += position.offset() - expected;
                        (last, expected) = (position, position.offset() + 1);
                    }
                    Err(_) if payload == "ended" => break,
                    Err(_) => {}
                }
            }
            (since, next) = (Since::Position(last), Some(expected));
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        publisher.join().expect("the publisher");
        // The publisher may have outrun the worker.
        eventually("each gap is counted", || peer.stats().dropped == gaps && topic.stats().skipped == gaps);
        app.finish();
    }
}

#[test]
fn the_application_is_told_who_comes_and_goes() {
    for mode in Mode::ALL {
        for workers in [1, 2] {
            let (log, events) = unbounded();
            let builder = Server::builder()
                .workers(workers)
                .topics(|_| TopicConfig::default().presence(true))
                .on_topic(move |event| drop(log.send(event)));
            let app = App::start(mode, builder, echo);
            let clients: Vec<_> = (0..3).map(|_| Client::open(app.addr)).collect();
            let peers: Vec<_> = (0..3).map(|_| app.opened()).collect();
            let next = || events.recv_timeout(DEADLINE).expect("an event");
            let is_first = |event| matches!(event, TopicEvent::First(topic) if &*topic == "room");
            let is_last = |event| matches!(event, TopicEvent::Last(topic) if &*topic == "room");
            let joined = |event| match event {
                TopicEvent::Joined(peer, topic) if &*topic == "room" => peer,
                other => panic!("{other:?}"),
            };
            let left = |event| match event {
                TopicEvent::Left(peer, topic) if &*topic == "room" => peer,
                other => panic!("{other:?}"),
            };
            let topic = app.handle().topic("room").expect("a name");
            for (number, peer) in peers.iter().enumerate() {
                for _ in 0..2 {
                    peer.subscribe("room").expect("subscribed");
                }
                assert!(number > 0 || is_first(next()));
                assert_eq!(joined(next()), *peer);
            }
            assert_eq!(topic.peers().len(), 3);
            peers[0].unsubscribe("room");
            peers[0].unsubscribe("room");
            assert_eq!(left(next()), peers[0]);
            assert!(topic.peers().iter().all(|peer| *peer != peers[0]));
            drop(clients);
            let gone = [left(next()), left(next())];
            assert!(gone.contains(&peers[1]) && gone.contains(&peers[2]));
            assert!(is_last(next()));
            assert_eq!((topic.peers(), topic.subscribers()), (vec![], 0));
            app.finish();
            assert!(events.try_recv().is_err(), "nothing twice");
        }
    }
}

#[test]
fn a_handler_has_its_topics_until_its_end_was_told() {
    struct Subscribed(crossbeam_channel::Sender<String>);
    impl Handler for Subscribed {
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            socket.subscribe_all(["a", "b"]).expect("subscribed");
            socket.send("open");
        }

        fn on_message(&mut self, socket: &mut Socket<'_>, _message: MessageRef<'_>) {
            // In the same turn as the close, which it comes before.
            socket.publish("a", "to all");
            socket.unsubscribe("b");
            socket.close(threadbare::CloseCode::NORMAL_CLOSURE, "").expect("open");
        }

        fn on_close(&mut self, socket: &mut Socket<'_>, _reason: &threadbare::CloseReason) {
            drop(self.0.send(socket.topics().join(",")));
            assert_eq!(socket.subscribe("c"), Err(SubscribeError::Disconnected));
        }
    }
    common::logged::install();
    let ((log, events), (at_close, topics)) = (unbounded(), unbounded());
    let server = Server::builder()
        .workers(1)
        .topics(|_| TopicConfig::default().presence(true))
        .on_topic(move |event| drop(log.send(format!("{event:?}"))))
        .serve("127.0.0.1:0", move |_| Subscribed(at_close.clone()))
        .expect("a server");
    let [mut client, mut other] = [(); 2].map(|()| {
        let mut client = Client::open(server.local_addr());
        assert_eq!(client.expect_frame(), Frame::text("open"));
        client
    });
    client.send(&text("leave"));
    client.answer_close(1000);
    assert_eq!(other.expect_frame(), Frame::text("to all"));
    assert_eq!(topics.recv_timeout(DEADLINE).as_deref(), Ok("a"));
    drop(other);
    let mut at_end = topics.recv_timeout(DEADLINE).expect("its topics");
    if at_end == "b,a" {
        at_end = "a,b".into();
    }
    assert_eq!(at_end, "a,b");
    let kinds = (0..12).map(|_| {
        let event = events.recv_timeout(DEADLINE).expect("an event");
        event.split('(').next().unwrap_or("").to_owned()
    });
    let mut counts = HashMap::new();
    kinds.for_each(|kind| *counts.entry(kind).or_insert(0) += 1);
    let expected =
        [("First", 2), ("Joined", 4), ("Left", 4), ("Last", 2)].map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(counts, HashMap::from(expected));
}

#[test]
fn first_and_last_alternate_whatever_threads_subscribe() {
    let (log, events) = unbounded();
    let builder = Server::builder().workers(3).on_topic(move |event| drop(log.send(event)));
    let app = App::start(Mode::Channel, builder, echo);
    let _clients: Vec<_> = (0..6).map(|_| Client::open(app.addr)).collect();
    let peers: Vec<_> = (0..6).map(|_| app.opened()).collect();
    std::thread::scope(|scope| {
        for peer in &peers {
            scope.spawn(move || {
                for _ in 0..500 {
                    peer.subscribe("room").expect("subscribed");
                    peer.unsubscribe("room");
                }
            });
        }
    });
    let topic = app.handle().topic("room").expect("a name");
    eventually("all have left", || topic.subscribers() == 0);
    app.finish();
    let told: Vec<_> = events.try_iter().map(|event| format!("{event:?}")).collect();
    assert!(!told.is_empty());
    for (number, pair) in told.chunks(2).enumerate() {
        assert_eq!(pair, [r#"First("room")"#, r#"Last("room")"#], "pair {number} of {told:?}");
    }
}

#[test]
fn an_event_loop_of_the_application_has_topics_too() {
    common::logged::install();
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut event_loop = Server::builder()
        .topics(|_| TopicConfig::default().presence(true))
        .on_topic({
            let told = told.clone();
            move |event| told.lock().expect("no panic").push(format!("{event:?}"))
        })
        .bind_inline("127.0.0.1:0")
        .expect("an event loop");
    let handle = event_loop.handle();
    let addr = handle.local_addr();
    let client = std::thread::spawn(move || {
        let mut client = Client::open(addr);
        client.send(&text("hello"));
        assert_eq!(client.expect_frame(), Frame::text("hello"));
        client
    });
    while !client.is_finished() {
        let polled = event_loop.poll(Some(Duration::from_millis(50)), |event| match event {
            EventRef::Open(peer, _) => drop(peer.subscribe("room").expect("subscribed")),
            EventRef::Message(_, message) => drop(handle.publish("room", message)),
            _ => {}
        });
        polled.expect("a poll");
    }
    drop(client.join().expect("the client"));
    while told.lock().expect("no panic").len() < 4 {
        event_loop.poll(Some(Duration::from_millis(50)), |_| {}).expect("a poll");
    }
    let told = told.lock().expect("no panic");
    let order: Vec<_> = told.iter().map(|event| event.split('(').next().unwrap_or("")).collect();
    assert_eq!(order, ["First", "Joined", "Left", "Last"]);
}

#[test]
fn a_hook_may_use_topics_and_may_panic() {
    let server = Arc::new(std::sync::OnceLock::<threadbare::ServerHandle>::new());
    let builder = Server::builder().workers(2).topics(|_| TopicConfig::default().presence(true)).on_topic({
        let server = server.clone();
        move |event| {
            if let TopicEvent::Joined(peer, topic) = event {
                if &*topic == "room" {
                    peer.subscribe("hall").expect("subscribed");
                }
                server.get().expect("it runs").publish(&topic, format!("in the {topic}"));
            }
        }
    });
    let app = App::start(Mode::Channel, builder, echo);
    drop(server.set(app.handle()));
    let mut client = Client::open(app.addr);
    app.opened().subscribe("room").expect("subscribed");
    let mut got = [client.expect_frame(), client.expect_frame()];
    got.sort_by_key(|frame| frame.payload.clone());
    assert_eq!(got, [Frame::text("in the hall"), Frame::text("in the room")]);
    app.finish();
}

#[test]
fn names_and_ends_are_checked() {
    let app = App::start(Mode::Channel, Server::builder(), echo);
    let client = Client::open(app.addr);
    let peer = app.opened();
    for (name, size) in [(String::new(), 0), ("x".repeat(256), 256)] {
        match peer.subscribe(&name) {
            Err(SubscribeError::InvalidName(InvalidTopicName { size: told, .. })) => assert_eq!(told, size),
            other => panic!("{other:?}"),
        }
        assert!(app.handle().topic(&name).is_err());
        assert_eq!(app.handle().publish(&name, "x"), Published::default());
    }
    assert!(peer.subscribe(&"x".repeat(255)).is_ok());
    drop(client);
    eventually("the connection ends", || !peer.is_open());
    assert_eq!(peer.subscribe("room"), Err(SubscribeError::Disconnected));
    eventually("it has left its topics", || peer.topics().is_empty());
    let client = threadbare::Client::connect(&format!("ws://{}", app.addr)).expect("connected");
    assert_eq!(client.peer().subscribe("room"), Err(SubscribeError::NoServer));
    client.close(threadbare::CloseCode::NORMAL_CLOSURE, "").expect("open");
    app.finish();
}

#[test]
fn memory_is_given_back() {
    let builder =
        Server::builder().workers(2).topics(|_| TopicConfig::default().keep(5, 1 << 20, Duration::from_millis(200)));
    let app = App::start(Mode::Handler, builder, echo);
    let handle = app.handle();
    let client = Client::open(app.addr);
    app.opened().subscribe("room").expect("subscribed");
    for _ in 0..20 {
        handle.publish("room", vec![7; 10_000]);
    }
    let topic = handle.topic("room").expect("a name");
    eventually("what all have is freed", || topic.stats().messages <= 5);
    drop(topic);
    drop(client);
    eventually("what is too old is freed, and the topic ends", || handle.memory() == 0);
    app.finish();
}

#[test]
fn a_connection_of_another_server_is_not_taken_for_one_of_this() {
    let apps = [(); 2].map(|()| App::start(Mode::Channel, Server::builder().workers(1), echo));
    let mut clients = apps.each_ref().map(|app| Client::open(app.addr));
    let peers = apps.each_ref().map(App::opened);
    for peer in &peers {
        peer.subscribe("room").expect("subscribed");
    }
    apps[0].handle().publish_except(&peers[1], "room", "for all");
    apps[0].handle().publish_except(&peers[0], "room", "for nobody");
    apps[0].handle().publish("room", "for all again");
    assert_eq!(clients[0].expect_frame(), Frame::text("for all"));
    assert_eq!(clients[0].expect_frame(), Frame::text("for all again"));
    drop(clients);
    for app in apps {
        app.finish();
    }
}

/// The thread of a bridge must not end with the closure that configures topics.
#[test]
fn a_closure_that_panics_for_what_a_bridge_delivers_is_contained() {
    let _panic = common::logged::expect_error("no such topic");
    let bridge = TestBridge::default();
    let configure = |name: &str| match name {
        "unknown" => panic!("no such topic"),
        _ => TopicConfig::default(),
    };
    let app = App::start(Mode::Channel, Server::builder().topics(configure).bridge(bridge.clone()), echo);
    let mut client = Client::open(app.addr);
    app.opened().subscribe("room").expect("subscribed");
    bridge.topics().deliver("unknown", &threadbare::BridgeMessage::text("lost"));
    bridge.topics().deliver("room", &threadbare::BridgeMessage::text("next"));
    assert_eq!(client.expect_frame(), Frame::text("next"));
    app.finish();
}

#[cfg(feature = "deflate")]
#[test]
fn subscribers_with_and_without_compression_get_the_same() {
    let config = Config::default().deflate(threadbare::DeflateConfig::default());
    for workers in [1, 2] {
        let app = App::start(Mode::Channel, Server::builder().workers(workers).config(config.clone()), echo);
        let url = format!("ws://{}", app.addr);
        let compressing = threadbare::Client::builder().config(config.clone());
        let clients =
            [compressing.connect(&url), threadbare::Client::connect(&url)].map(|client| client.expect("open"));
        for _ in 0..2 {
            app.opened().subscribe("room").expect("subscribed");
        }
        for number in 0..100 {
            let message = format!("{number}: {}", "again and again, ".repeat(50));
            app.handle().publish("room", message.as_str());
            for client in &clients {
                let received = client.recv_timeout(DEADLINE).expect("a message");
                assert_eq!(received.as_ref().and_then(|message| message.as_text()), Some(message.as_str()));
            }
        }
        assert!(clients[0].stats().deflate.is_some_and(|stats| stats.received_compressed < stats.received / 5));
        drop(clients);
        app.finish();
    }
}
