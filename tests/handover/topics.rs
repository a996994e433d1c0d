//! Topics that go on in the next server: their messages, their positions, and the place of each subscriber.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use threadbare::{
    BridgeMessage, Client, Event, Events, Handler, LocalTopics, Message, MessageRef, Position, Request, Server,
    ServerHandle, Since, Socket, Subscription, TopicConfig, TopicEvent,
};

use super::{Frame, Place, Raw, config, expect};
use crate::common::bridge::TestBridge;
use crate::common::{DEADLINE, eventually};

/// How a server delivers: to handlers, or as events.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Handlers,
    Events,
}

const BOTH: [Mode; 2] = [Mode::Handlers, Mode::Events];

/// Subscribes each new connection to the topic that is its path, behind the position that is its query, and says how that began.
struct Reader(Request);

fn since(request: &Request) -> Since {
    request.query().map_or(Since::Now, |query| Since::Position(query.parse().expect("a position")))
}

fn begun(subscription: Subscription) -> String {
    format!("missed {}", subscription.missed)
}

impl Handler for Reader {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let subscription = socket.subscribe_since(self.0.path(), since(&self.0)).expect("subscribed");
        socket.send(begun(subscription));
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        (self.0.path() != "/stays").then(Vec::new)
    }
}

/// The same with events.
fn serve_events(events: &Events) {
    for event in events {
        match event {
            Event::Open(peer, request) => {
                if request.handed_over().is_none() {
                    let subscription = peer.subscribe_since(request.path(), since(&request)).expect("subscribed");
                    let _ = peer.send(begun(subscription)); // it may be gone
                }
                peer.on_hand_over(|| Some(Vec::new()));
            }
            Event::Message(peer, message) => drop(peer.send(message)),
            _ => {}
        }
    }
}

/// A server whose topics keep so many messages, or as many as a test may need.
fn start(place: &Place, mode: Mode, workers: usize, keep: usize) -> Server {
    let topics = move |name: &str| match name {
        "/plain" => TopicConfig::default().buffer(100_000, 64 << 20),
        _ => TopicConfig::default().keep(keep, 64 << 20, Duration::from_secs(600)),
    };
    let builder = Server::builder().workers(workers).config(config()).topics(topics).hand_over(place.socket());
    match mode {
        Mode::Handlers => builder.serve("127.0.0.1:0", |request: &Request| Reader(request.clone())).expect("a server"),
        Mode::Events => {
            let mut server = builder.bind("127.0.0.1:0").expect("a server");
            for events in server.take_events() {
                thread::spawn(move || serve_events(&events));
            }
            server
        }
    }
}

fn connect(addr: SocketAddr, topic: &str, behind: Option<Position>) -> Client {
    let query = behind.map(|position| format!("?{position}")).unwrap_or_default();
    Client::connect(&format!("ws://{addr}{topic}{query}")).expect("connected")
}

/// The next messages of a client.
#[track_caller]
fn next_texts(client: &Client, count: usize) -> Vec<String> {
    let receive = |_| client.recv_timeout(DEADLINE).expect("received").expect("a message").to_string();
    (0..count).map(receive).collect()
}

/// Publishes a number, which is to be the position.
#[track_caller]
fn publish(handle: &ServerHandle, topic: &str, number: u64) -> Position {
    let position = handle.publish(topic, number.to_string()).position.expect("there is a history");
    assert_eq!(position.offset(), number, "positions go on");
    position
}

#[test]
fn a_topic_without_subscribers_goes_on_with_its_history_and_its_positions() {
    for mode in BOTH {
        let place = Place::new(&format!("history-{mode:?}"));
        let mut server = start(&place, mode, 2, 1000);
        let (addr, mut number) = (server.local_addr(), 0);
        let mut positions = Vec::new();
        for workers in [1, 3, 2, 1] {
            for _ in 0..10 {
                number += 1;
                positions.push(publish(&server.handle(), "/kept", number));
            }
            let next = start(&place, mode, workers, 1000);
            drop(std::mem::replace(&mut server, next));
        }
        let texts: HashSet<String> = positions.iter().map(Position::to_string).collect();
        assert_eq!(texts.len(), 40);
        for seen in [0, 9, 10, 25, 39] {
            let client = connect(addr, "/kept", Some(positions[seen]));
            // What is sent and what is of the topic have no order.
            let mut received = next_texts(&client, positions.len() - seen);
            let word = received.iter().position(|text| text == "missed 0").expect("nothing is missed");
            received.remove(word);
            assert!(received.iter().map(|text| text.parse()).eq((seen as u64 + 2..=number).map(Ok)), "{received:?}");
        }
    }
}

#[test]
fn a_history_is_trimmed_to_what_the_next_server_keeps_and_the_loss_is_told() {
    let place = Place::new("trimmed");
    let server = start(&place, Mode::Handlers, 1, 1000);
    let positions: Vec<Position> = (1..=10).map(|number| publish(&server.handle(), "/kept", number)).collect();
    let next = start(&place, Mode::Handlers, 2, 3);
    // Until it knows that no subscribers come, it keeps more.
    let topic = next.handle().topic("/kept").expect("a name");
    eventually("it is trimmed", || topic.stats().messages == 3);
    let client = connect(next.local_addr(), "/kept", Some(positions[1]));
    let mut received = next_texts(&client, 4);
    received.sort();
    assert_eq!(received, ["10", "8", "9", "missed 5"]);
    drop((client, server));
}

/// A handle of the application keeps the topic, and with it the positions; the next process has a minute to take it again.
#[test]
fn positions_of_a_topic_without_history_go_on_behind_a_handle() {
    let place = Place::new("handle");
    let server = start(&place, Mode::Events, 2, 1);
    let topic = server.handle().topic("/plain").expect("a name");
    let seen: Vec<Position> = (0..5).map(|_| topic.publish("to nobody").position.expect("it is held")).collect();
    let next = start(&place, Mode::Events, 1, 1);
    assert_eq!(topic.publish("too late"), threadbare::Published::default(), "it is the next server's");
    let held = next.handle().topic("/plain").expect("a name");
    let mut positions = Vec::new();
    held.publish_with(|position| {
        positions.push(position);
        "on"
    });
    assert_eq!(positions[0].offset(), 6);
    let client = connect(next.local_addr(), "/plain", Some(seen[4]));
    expect(&client, "missed 1");
    drop((client, server));
}

/// A bridge that does something as soon as it is asked for a topic, the first time.
fn eager(act: impl Fn(&LocalTopics, &str) + Send + Sync + 'static) -> TestBridge {
    let was_asked = AtomicBool::new(false);
    TestBridge::with_hook(move |topics, word, topic| {
        if word == "subscribe" && !was_asked.swap(true, Ordering::SeqCst) {
            act(topics, topic);
        }
    })
}

/// The bridge is asked for the topics while the old server serves. What it brings before the new one serves follows what was published
/// in the old one, with the next number.
#[test]
fn what_a_bridge_brings_early_follows_what_was_published_before() {
    let place = Place::new("early");
    let server = start(&place, Mode::Handlers, 1, 100);
    let client = connect(server.local_addr(), "/kept", None);
    expect(&client, "missed 0");
    let positions: Vec<Position> = (1..=3).map(|number| publish(&server.handle(), "/kept", number)).collect();
    let topics = |_: &str| TopicConfig::default().keep(100, 1 << 20, Duration::from_secs(600));
    let builder = Server::builder().workers(2).config(config()).topics(topics).hand_over(place.socket());
    let bridge = eager(|topics, topic| topics.deliver(topic, &BridgeMessage::text("early")));
    let next = builder.bridge(bridge).serve("127.0.0.1:0", |request: &Request| Reader(request.clone()));
    let next = next.expect("a server");
    for text in ["1", "2", "3", "early"] {
        expect(&client, text);
    }
    publish(&next.handle(), "/kept", 5);
    expect(&client, "5");
    let back = connect(next.local_addr(), "/kept", Some(positions[1]));
    let mut received = next_texts(&back, 4);
    received.retain(|text| text != "missed 0");
    assert_eq!(received, ["3", "early", "5"]);
    drop((client, back, server));
}

/// Publishes numbers in whichever server serves, each until one has taken it, until it is told to end. Returns the last.
fn publish_all_the_time(
    serving: Arc<Mutex<ServerHandle>>,
    topic: &'static str,
    is_over: Arc<AtomicBool>,
) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let (mut number, mut refused) = (0, 0_u64);
        while !is_over.load(Ordering::SeqCst) {
            let handle = serving.lock().expect("no panic").clone();
            match handle.publish(topic, (number + 1).to_string()).position {
                Some(position) => {
                    number += 1;
                    assert_eq!(position.offset(), number, "positions go on");
                }
                None => refused += 1, // it has left, and the next one is about to be known
            }
            if (number + refused) % 16 == 0 {
                thread::sleep(Duration::from_micros(200)); // leaves the processor to the servers
            }
        }
        number
    })
}

/// Receives the numbers behind `last` up to one that is at least `upto`, and checks that none is missing or comes twice.
fn receive(client: &Client, last: &mut u64, upto: u64) {
    while *last < upto {
        let message = client.recv_timeout(DEADLINE).expect("it is open").expect("within the deadline");
        let Message::Text(text) = &message else { panic!("{message:?}") };
        match text.strip_prefix("missed ") {
            Some(missed) => assert_eq!(missed, "0"),
            None => {
                *last += 1;
                assert_eq!(text.parse(), Ok(*last), "nothing is missing, nothing comes twice");
            }
        }
    }
}

fn five_hand_overs(mode: Mode, topic: &'static str) {
    let place = Place::new(&format!("five-{mode:?}-{}", &topic[1..]));
    let mut server = start(&place, mode, 2, 100_000);
    let addr = server.local_addr();
    let clients: Vec<Client> = (0..6).map(|_| connect(addr, topic, None)).collect();
    let mut stalled = Raw::open_with(addr, topic, "");
    eventually("all are subscribed", || server.handle().stats().topic_totals.subscribers == 7);
    let first = server.handle().topic(topic).expect("a name");
    let serving = Arc::new(Mutex::new(server.handle()));
    let is_over = Arc::new(AtomicBool::new(false));
    let publisher = publish_all_the_time(serving.clone(), topic, is_over.clone());
    eventually("something is published", || first.stats().published > 100);
    let mut seen = [0; 6];
    for workers in [3, 1, 2, 4, 2] {
        for (client, last) in clients.iter().zip(&mut seen) {
            let upto = *last + 50;
            receive(client, last, upto);
        }
        let next = start(&place, mode, workers, 100_000);
        *serving.lock().expect("no panic") = next.handle();
        drop(std::mem::replace(&mut server, next));
        let on = server.handle().topic(topic).expect("a name");
        let published = on.stats().published;
        eventually("it goes on", || on.stats().published > published + 100);
    }
    is_over.store(true, Ordering::SeqCst);
    let number = publisher.join().expect("no panic");
    for (client, last) in clients.iter().zip(&mut seen) {
        receive(client, last, number);
    }
    // Those that have not read all the time are behind, and miss nothing either.
    let mut last = 0;
    while last < number {
        let frame = stalled.expect_frame();
        let text = String::from_utf8(frame.payload).expect("text");
        if text != "missed 0" {
            last += 1;
            assert_eq!(text.parse(), Ok(last));
        }
    }
    assert_eq!(server.handle().connections(), 7, "nobody was disconnected");
}

#[test]
fn subscribers_miss_nothing_in_five_hand_overs_while_messages_are_published() {
    five_hand_overs(Mode::Handlers, "/kept");
    five_hand_overs(Mode::Events, "/kept");
}

/// Without a history, what a subscriber lacks is in the ring, and travels.
#[test]
fn subscribers_of_a_topic_without_history_miss_nothing_either() {
    five_hand_overs(Mode::Handlers, "/plain");
}

/// What a subscriber with a full socket lacks stays in the ring, through several servers, and is not put into its output.
#[test]
fn a_subscriber_that_is_behind_takes_what_it_lacks_from_the_server_that_it_comes_to() {
    const COUNT: usize = 300;
    let place = Place::new("behind");
    let mut server = start(&place, Mode::Handlers, 2, 1000);
    let mut stalled = Raw::open_with_small_buffer(server.local_addr());
    assert_eq!(stalled.expect_frame(), Frame::text("missed 0"));
    for number in 1..=COUNT {
        if number % 100 == 0 {
            let next = start(&place, Mode::Handlers, 1 + number / 100, 1000);
            drop(std::mem::replace(&mut server, next));
        }
        server.handle().publish("/", format!("{number:>20000}"));
    }
    let queued = server.stats().traffic.queued_bytes;
    assert!(queued < 1 << 20, "{queued} bytes are in its output");
    for number in 1..=COUNT {
        assert_eq!(stalled.expect_frame(), Frame::text(&format!("{number:>20000}")));
    }
}

/// Clients that come back, with the last position that they have seen, to whichever server is there.
#[test]
fn a_client_that_comes_back_by_its_position_gets_what_it_missed_through_hand_overs() {
    for mode in BOTH {
        let place = Place::new(&format!("back-{mode:?}"));
        let mut server = start(&place, mode, 2, 100_000);
        let addr = server.local_addr();
        let begin = server.handle().publish("/kept", "1").position.expect("there is a history");
        let prefix = begin.to_string().split_once('-').expect("two parts").0.to_owned();
        let position = move |number: u64| format!("{prefix}-{number}").parse::<Position>().expect("a position");
        let serving = Arc::new(Mutex::new(server.handle()));
        let (is_over, is_published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let publisher = {
            let (serving, is_published) = (serving.clone(), is_published.clone());
            thread::spawn(move || {
                let mut number = 1;
                while !is_published.load(Ordering::SeqCst) {
                    let handle = serving.lock().expect("no panic").clone();
                    if let Some(position) = handle.publish("/kept", (number + 1).to_string()).position {
                        number += 1;
                        assert_eq!(position.offset(), number);
                    }
                    thread::sleep(Duration::from_micros(300)); // leaves the processor to the servers
                }
                number
            })
        };
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (is_over, position) = (is_over.clone(), position.clone());
                thread::spawn(move || {
                    let (mut last, mut comes) = (1, 0);
                    while !is_over.load(Ordering::SeqCst) {
                        // A handshake that comes between the two is refused, and tried again.
                        let url = format!("ws://{addr}/kept?{}", position(last));
                        let Ok(client) = Client::connect(&url) else { continue };
                        comes += 1;
                        // Whatever ends it, it comes back.
                        for _ in 0..40 {
                            let Ok(Some(message)) = client.recv_timeout(DEADLINE) else { break };
                            let text = message.to_string();
                            if text.starts_with("missed") {
                                assert_eq!(text, "missed 0");
                                continue;
                            }
                            last += 1;
                            assert_eq!(text.parse(), Ok(last), "nothing is missing, nothing comes twice");
                        }
                    }
                    (last, comes)
                })
            })
            .collect();
        for workers in [1, 3, 2, 2, 1] {
            let next = start(&place, mode, workers, 100_000);
            *serving.lock().expect("no panic") = next.handle();
            drop(std::mem::replace(&mut server, next));
            let on = server.handle().topic("/kept").expect("a name");
            let published = on.stats().published;
            eventually("it goes on", || on.stats().published > published + 100);
        }
        is_over.store(true, Ordering::SeqCst);
        let seen: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
        // Until then, so that the readers need not wait for the last messages.
        is_published.store(true, Ordering::SeqCst);
        let number = publisher.join().expect("no panic");
        for (last, comes) in seen {
            assert!(comes > 3, "it came {comes} times");
            let client = connect(addr, "/kept", Some(position(last)));
            let mut last = last;
            receive(&client, &mut last, number);
        }
    }
}

/// The application of the next server may be behind with its events: then connections wait until there is room for these, and their
/// topics keep what they lack.
#[test]
fn subscribers_whose_events_have_no_room_yet_miss_nothing() {
    for workers in [1, 2] {
        let place = Place::new(&format!("no-room-{workers}"));
        let server = start(&place, Mode::Events, 2, 10);
        let clients: Vec<Client> = (0..6).map(|_| connect(server.local_addr(), "/plain", None)).collect();
        clients.iter().for_each(|client| expect(client, "missed 0"));
        let config = config().max_event_buffer_size(1);
        let builder = Server::builder().workers(workers).config(config).hand_over(place.socket());
        let mut next = builder.bind("127.0.0.1:0").expect("a server");
        // Nobody receives events meanwhile.
        (1..=20).for_each(|number| _ = publish(&next.handle(), "/plain", number));
        for events in next.take_events() {
            thread::spawn(move || serve_events(&events));
        }
        (21..=30).for_each(|number| _ = publish(&next.handle(), "/plain", number));
        // Those that still wait for room are handed over as well.
        let last = start(&place, Mode::Events, 2, 10);
        last.handle().publish("/plain", "31");
        for client in &clients {
            (1..=31).for_each(|number| expect(client, &number.to_string()));
        }
        drop((clients, server, next));
    }
}

/// A bridge is asked for what has subscribers, told once of a topic whose subscribers have stayed, and of no other.
#[test]
fn a_bridge_is_told_only_of_topics_that_it_was_asked_for() {
    let place = Place::new("asked");
    let server = start(&place, Mode::Handlers, 2, 100);
    let comes = connect(server.local_addr(), "/comes", None);
    let stays = connect(server.local_addr(), "/stays", None);
    [&comes, &stays].into_iter().for_each(|client| expect(client, "missed 0"));
    publish(&server.handle(), "/history", 1);
    let words = Arc::new(Mutex::new(Vec::new()));
    let noted = words.clone();
    let recorder = TestBridge::with_hook(move |_, word, topic| {
        noted.lock().expect("no panic").push(format!("{word} {topic}"));
    });
    let builder = Server::builder().workers(2).config(config()).hand_over(place.socket()).bridge(recorder);
    let next = builder.serve("127.0.0.1:0", |request: &Request| Reader(request.clone())).expect("a server");
    eventually("it goes on", || words.lock().expect("no panic").iter().any(|word| word == "go on "));
    let mut words = words.lock().expect("no panic").clone();
    words.sort();
    // It is asked once more as the first subscriber is there.
    let expected = ["go on ", "subscribe /comes", "subscribe /comes", "subscribe /stays", "unsubscribe /stays"];
    assert_eq!(words, expected);
    drop((comes, stays, next, server));
}

/// What is lost before the next server serves is told to the subscribers that come.
#[test]
fn a_gap_from_before_a_server_serves_is_told_to_its_subscribers() {
    let place = Place::new("gap-early");
    let server = start(&place, Mode::Handlers, 2, 100);
    let clients: Vec<Client> = (0..4).map(|_| connect(server.local_addr(), "/plain", None)).collect();
    clients.iter().for_each(|client| expect(client, "missed 0"));
    let bridge = eager(|topics, topic| topics.gap(Some(topic), Some(7)));
    let builder = Server::builder().workers(2).config(config()).hand_over(place.socket()).bridge(bridge);
    let builder = builder.on_topic(|event| {
        if let TopicEvent::Gap(peer, topic, missed) = event {
            let _ = peer.send(format!("gap of {missed} in {topic}")); // it may be gone
        }
    });
    let next = builder.serve("127.0.0.1:0", |request: &Request| Reader(request.clone())).expect("a server");
    clients.iter().for_each(|client| expect(client, "gap of 0 in /plain"));
    drop((clients, next, server));
}
