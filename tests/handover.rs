//! A server that another takes over, with every connection. Both run in this process, and speak over a Unix socket as two
//! processes do.
#![cfg(target_os = "linux")]

mod common;
#[path = "handover/topics.rs"]
mod topics;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client as Raw, DEADLINE, Frame, eventually, masked, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    BuildError, Client, CloseCode, CloseReason, Config, Event, Handler, Message, MessageRef, Peer, Request, Server,
    ServerBuilder, Slow, Socket, TopicConfig, TopicEvent,
};

/// Counts the messages of its connection, answers each with its number, and gives the count to the next process.
struct Counter {
    count: u64,
    keeps: bool,
    app: Arc<App>,
}

/// What the handlers of one server have in common.
#[derive(Default)]
struct App {
    opened: AtomicU64,
    taken_over: AtomicU64,
    closed: Mutex<Vec<CloseReason>>,
    peers: Mutex<Vec<Peer>>,
    /// Whether the handlers subscribe their connections, and keep their handles.
    subscribes: bool,
    keeps_peers: bool,
}

impl Counter {
    fn new(request: &Request, app: Arc<App>) -> Counter {
        let before = request.handed_over().map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")));
        Counter { count: before.unwrap_or(0), keeps: request.path() != "/stays", app }
    }

    fn began(&self, socket: &mut Socket<'_>) {
        if self.app.keeps_peers {
            self.app.peers.lock().expect("no panic").push(socket.peer());
        }
    }
}

impl Handler for Counter {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.app.opened.fetch_add(1, Ordering::SeqCst);
        if self.app.subscribes {
            socket.subscribe("news").expect("subscribed");
        }
        self.began(socket);
    }

    fn on_taken_over(&mut self, socket: &mut Socket<'_>) {
        self.app.taken_over.fetch_add(1, Ordering::SeqCst);
        self.began(socket);
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        self.count += 1;
        match message {
            MessageRef::Text("large") => drop(socket.send(vec![7; 4 << 20])),
            MessageRef::Text(text) => drop(socket.send(format!("{} {text}", self.count))),
            other => drop(socket.send(other)),
        }
    }

    fn on_close(&mut self, _: &mut Socket<'_>, reason: &CloseReason) {
        self.app.closed.lock().expect("no panic").push(reason.clone());
    }

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        self.keeps.then(|| self.count.to_be_bytes().to_vec())
    }
}

/// A directory for the socket, which is removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        common::logged::install();
        let path = std::env::temp_dir().join(format!("threadbare-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Place(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("hand-over")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config() -> Config {
    // What stays is closed in the course of this time.
    Config::default().drop_timeout(Duration::from_secs(2))
}

fn start_with(builder: ServerBuilder, socket: &Path, app: &Arc<App>) -> Result<Server, BuildError> {
    let app = app.clone();
    builder.hand_over(socket).serve("127.0.0.1:0", move |request| Counter::new(request, app.clone()))
}

/// A server, which takes over from the one that runs there.
fn start(workers: usize, place: &Place, app: &Arc<App>) -> Server {
    start_with(Server::builder().workers(workers).config(config()), &place.socket(), app).expect("a server")
}

fn connect(addr: SocketAddr) -> Client {
    Client::connect(&format!("ws://{addr}")).expect("connected")
}

#[track_caller]
fn expect(client: &Client, text: &str) {
    assert_eq!(client.recv_timeout(DEADLINE).expect("received"), Some(Message::from(text)));
}

#[test]
fn connections_go_on_in_the_next_server_with_the_state_of_their_handlers() {
    for workers in [1, 2] {
        let place = Place::new(&format!("state-{workers}"));
        let apps: Vec<Arc<App>> = (0..4).map(|_| Arc::default()).collect();
        let mut server = start(workers, &place, &apps[0]);
        let addr = server.local_addr();
        let clients: Vec<Client> = (0..10).map(|_| connect(addr)).collect();
        let mut count = 0;
        for (index, app) in apps.iter().enumerate() {
            if index > 0 {
                let next = start(workers, &place, app);
                assert_eq!(next.local_addr(), addr, "the same listener");
                server.join(); // it ends by itself
                drop(std::mem::replace(&mut server, next));
            }
            for _ in 0..3 {
                count += 1;
                clients.iter().for_each(|client| client.send("hello").expect("sent"));
                clients.iter().for_each(|client| expect(client, &format!("{count} hello")));
            }
            assert_eq!(server.handle().connections(), 10);
        }
        let sum = |of: fn(&App) -> u64| apps.iter().map(|app| of(app)).collect::<Vec<_>>();
        assert_eq!(sum(|app| app.opened.load(Ordering::SeqCst)), [10, 0, 0, 0]);
        assert_eq!(sum(|app| app.taken_over.load(Ordering::SeqCst)), [0, 10, 10, 10]);
        assert!(apps.iter().all(|app| app.closed.lock().expect("no panic").is_empty()), "nobody was disconnected");
        let late = connect(addr);
        late.send("new").expect("sent");
        expect(&late, "1 new");
    }
}

/// Every byte of a frame, of a fragmented message and of a character is where the hand-over may come.
#[test]
fn what_was_half_received_goes_on() {
    let place = Place::new("half");
    let app = Arc::<App>::default();
    let mut stream = text("hello");
    stream.extend(masked(false, 0, Opcode::Text, "grö".as_bytes().split_at(3).0));
    stream.extend(masked(true, 0, Opcode::Ping, b"between"));
    stream.extend(masked(true, 0, Opcode::Continuation, "grö".as_bytes().split_at(3).1));
    let mut server = start(1, &place, &app);
    let mut clients: Vec<Raw> = (0..=stream.len()).map(|_| Raw::open(server.local_addr())).collect();
    for (cut, client) in clients.iter_mut().enumerate() {
        client.send(&stream[..cut]);
        let _ = client.stream.flush();
    }
    // Whatever has arrived is read before the hand-over or after it.
    let next = start(1, &place, &app);
    drop(std::mem::replace(&mut server, next));
    for (cut, client) in clients.iter_mut().enumerate() {
        client.send(&stream[cut..]);
        let frames = [Frame::text("1 hello"), Frame::pong(b"between"), Frame::text("2 grö")];
        for frame in frames {
            assert_eq!(client.expect_frame(), frame, "cut at {cut}");
        }
    }
}

#[test]
fn output_that_waits_for_a_slow_reader_arrives_whole() {
    let place = Place::new("slow");
    let app = Arc::<App>::default();
    let builder = || Server::builder().workers(1).config(config().max_write_buffer_size(64 << 20));
    let mut server = start_with(builder(), &place.socket(), &app).expect("a server");
    let mut client = Raw::open_with_small_buffer(server.local_addr());
    for _ in 0..3 {
        client.send(&text("large"));
        client.send(&text("small"));
    }
    eventually("the messages were answered", || server.handle().stats().traffic.messages_sent == 6);
    for _ in 0..2 {
        let next = start_with(builder(), &place.socket(), &app).expect("a server");
        drop(std::mem::replace(&mut server, next));
    }
    for count in [2, 4, 6] {
        assert_eq!(client.expect_frame(), Frame::binary(&vec![7; 4 << 20]));
        assert_eq!(client.expect_frame(), Frame::text(&format!("{count} small")));
    }
    client.send(&text("on"));
    assert_eq!(client.expect_frame(), Frame::text("7 on"));
}

/// A client that sends numbered messages, at most 50 more than were answered, and checks each answer. Returns their number.
fn stream(addr: SocketAddr, index: u64, is_over: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let client = connect(addr);
        let (mut sent, mut received) = (0, 0);
        while !is_over.load(Ordering::SeqCst) || received < sent {
            while sent < received + 50 && !is_over.load(Ordering::SeqCst) {
                sent += 1;
                client.send(format!("of {index}")).expect("it is open");
            }
            if received < sent {
                received += 1;
                expect(&client, &format!("{received} of {index}"));
            }
        }
        received
    })
}

/// Numbered messages flow both ways while one server after the other takes over.
#[test]
fn streams_of_messages_lose_and_double_nothing() {
    let place = Place::new("stream");
    let app = Arc::<App>::default();
    let mut server = start(2, &place, &app);
    let addr = server.local_addr();
    let is_over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8).map(|index| stream(addr, index, is_over.clone())).collect();
    eventually("all are connected", || app.opened.load(Ordering::SeqCst) == 8);
    for _ in 0..20 {
        let next = start(2, &place, &app);
        drop(std::mem::replace(&mut server, next));
    }
    is_over.store(true, Ordering::SeqCst);
    let counts: Vec<u64> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    assert_eq!(app.taken_over.load(Ordering::SeqCst), 8 * 20);
    assert!(app.closed.lock().expect("no panic").iter().all(|reason| reason.code == CloseCode::NORMAL_CLOSURE));
}

#[test]
fn a_connection_whose_handler_gives_nothing_is_closed_with_1012() {
    let place = Place::new("stays");
    let (first, second) = (Arc::<App>::default(), Arc::<App>::default());
    let server = start(2, &place, &first);
    let mut stays = Raw::open_with(server.local_addr(), "/stays", "");
    let mut goes = Raw::open(server.local_addr());
    eventually("both are open", || first.opened.load(Ordering::SeqCst) == 2);
    let next = start(2, &place, &second);
    stays.answer_close(1012);
    assert_eq!(stays.frame(), None);
    server.join();
    goes.send(&text("on"));
    assert_eq!(goes.expect_frame(), Frame::text("1 on"));
    assert_eq!(next.handle().connections(), 1);
    let closed = first.closed.lock().expect("no panic");
    assert_eq!(closed.iter().map(|reason| reason.code).collect::<Vec<_>>(), [CloseCode::SERVICE_RESTART]);
}

/// Subscribers get every message once: those that the old server publishes until it is over, and those of the new one.
#[test]
fn subscribers_miss_nothing() {
    let place = Place::new("topics");
    let app = Arc::new(App { subscribes: true, ..App::default() });
    let mut server = start(2, &place, &app);
    let clients: Vec<Client> = (0..10).map(|_| connect(server.local_addr())).collect();
    eventually("all are subscribed", || server.handle().stats().topic_totals.subscribers == 10);
    let mut number = 0;
    for _ in 0..5 {
        for _ in 0..100 {
            number += 1;
            assert_eq!(server.handle().publish("news", format!("news {number}")).subscribers, 10);
        }
        let next = start(2, &place, &app);
        drop(std::mem::replace(&mut server, next));
        eventually("all are subscribed again", || server.handle().stats().topic_totals.subscribers == 10);
    }
    for client in &clients {
        (1..=number).for_each(|number| expect(client, &format!("news {number}")));
    }
}

/// A subscriber that has missed messages, of which the application is not told yet, goes on: the next server tells the gap, and nothing
/// follows it before.
#[test]
fn nothing_follows_a_gap_that_was_not_told() {
    const COUNT: usize = 400;
    let place = Place::new("gap");
    let app = Arc::new(App { subscribes: true, ..App::default() });
    let start = || {
        let topics = |_: &str| TopicConfig::default().slow(Slow::Skip).buffer(16, 1 << 20);
        let builder = Server::builder().workers(1).config(config()).topics(topics).on_topic(|event| {
            if let TopicEvent::Gap(peer, _, missed) = event {
                let _ = peer.send(format!("gap {missed}"));
            }
        });
        start_with(builder, &place.socket(), &app).expect("a server")
    };
    let server = start();
    let mut stalled = Raw::open_with_small_buffer(server.local_addr());
    let other = connect(server.local_addr());
    eventually("both are subscribed", || server.handle().stats().topic_totals.subscribers == 2);
    for number in 1..=COUNT {
        let text = format!("{number:>20000}");
        server.handle().publish("news", text.as_str());
        // So that nothing is lost because the worker has not come to it.
        expect(&other, &text);
    }
    let next = start();
    let (mut expected, mut received) = (1, 0);
    while expected <= COUNT {
        let text = String::from_utf8(stalled.expect_frame().payload).expect("text");
        if let Some(missed) = text.strip_prefix("gap ") {
            expected += missed.parse::<usize>().expect("a number");
            continue;
        }
        assert_eq!(text.trim().parse(), Ok(expected), "nothing is missing");
        (expected, received) = (expected + 1, received + 1);
    }
    assert!(received < COUNT, "it has missed messages");
    drop(server);
    eventually("both are subscribed again", || next.handle().stats().topic_totals.subscribers == 2);
    next.handle().publish("news", "on");
    expect(&other, "on");
    assert_eq!(stalled.expect_frame(), Frame::text("on"));
    drop((other, stalled));
}

/// Messages that other threads send until the hand-over arrive, and later ones are refused.
#[test]
fn what_other_threads_send_arrives_or_is_refused() {
    let place = Place::new("threads");
    let app = |_| Arc::new(App { keeps_peers: true, ..App::default() });
    let mut apps: Vec<Arc<App>> = (0..6).map(app).collect();
    let last = apps.pop().expect("six");
    let mut server = start(2, &place, &apps[0]);
    let client = connect(server.local_addr());
    let (mut sent, mut received) = (0, 0);
    for index in 0..apps.len() {
        let app = apps[index].clone();
        eventually("there is a handle", || !app.peers.lock().expect("no panic").is_empty());
        let peer = app.peers.lock().expect("no panic")[0].clone();
        let thread = thread::spawn(move || {
            let mut number = sent;
            while peer.send(format!("{}", number + 1)).is_ok() {
                number += 1;
                if number % 64 == 0 {
                    thread::yield_now();
                }
            }
            number
        });
        let next = start(2, &place, apps.get(index + 1).unwrap_or(&last));
        sent = thread.join().expect("no panic");
        drop(std::mem::replace(&mut server, next));
        while received < sent {
            received += 1;
            expect(&client, &format!("{received}"));
        }
    }
}

/// A number that a thread of the application counts up and sends, under one lock, and that the handler gives.
type Number = Arc<Mutex<u64>>;

/// The connections of a server, each with its number.
type Numbered = Mutex<Vec<(Peer, Number)>>;

struct Shared {
    number: Number,
    peers: Arc<Numbered>,
}

impl Shared {
    fn began(&self, socket: &mut Socket<'_>) {
        self.peers.lock().expect("no panic").push((socket.peer(), self.number.clone()));
    }
}

impl Handler for Shared {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.began(socket);
    }

    fn on_taken_over(&mut self, socket: &mut Socket<'_>) {
        self.began(socket);
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        Some(self.number.lock().expect("no panic").to_be_bytes().to_vec())
    }
}

/// What the handler gives tells of every message that another thread has sent, and of none that was refused.
#[test]
fn what_another_thread_has_sent_and_the_state_of_the_handler_agree() {
    const CLIENTS: usize = 16;
    let place = Place::new("agree");
    let start = |peers: Arc<Numbered>| {
        let make = move |request: &Request| {
            let before = request.handed_over().map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight bytes")));
            Shared { number: Arc::new(Mutex::new(before.unwrap_or(0))), peers: peers.clone() }
        };
        Server::builder()
            .workers(2)
            .config(config())
            .hand_over(place.socket())
            .serve("127.0.0.1:0", make)
            .expect("a server")
    };
    let peers = Arc::<Numbered>::default();
    let mut server = start(peers.clone());
    let clients: Vec<Client> = (0..CLIENTS).map(|_| connect(server.local_addr())).collect();
    let mut senders = spawn_senders(&peers, CLIENTS);
    for _ in 0..8 {
        let peers = Arc::<Numbered>::default();
        drop(std::mem::replace(&mut server, start(peers.clone())));
        senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
        senders = spawn_senders(&peers, CLIENTS);
    }
    server.shutdown(DEADLINE);
    senders.into_iter().for_each(|sender| sender.join().expect("no panic"));
    for client in &clients {
        let mut last = 0;
        while let Some(message) = client.recv().expect("received") {
            last += 1;
            assert_eq!(message, Message::from(last.to_string()));
        }
        assert!(last > 8, "each server has sent something");
    }
}

/// Sends numbers to each of these connections, on a thread of its own, until it is refused.
fn spawn_senders(peers: &Numbered, count: usize) -> Vec<thread::JoinHandle<()>> {
    eventually("there are handles", || peers.lock().expect("no panic").len() == count);
    let peers = std::mem::take(&mut *peers.lock().expect("no panic"));
    let send = |(peer, number): (Peer, Number)| {
        thread::spawn(move || {
            loop {
                let mut number = number.lock().expect("no panic");
                match peer.send((*number + 1).to_string()) {
                    Ok(()) => *number += 1,
                    Err(threadbare::SendError::Full(_)) => {}
                    Err(_) => return,
                }
                drop(number);
                thread::yield_now();
            }
        })
    };
    peers.into_iter().map(send).collect()
}

/// An application that receives events, on two threads, and gives its counts to the next server.
fn start_with_events(place: &Place, workers: usize) -> (Server, Vec<thread::JoinHandle<()>>) {
    let builder = Server::builder().workers(workers).channels(2).config(config()).hand_over(place.socket());
    let mut server = builder.bind("127.0.0.1:0").expect("a server");
    let threads = server.take_events().into_iter().map(|events| {
        thread::spawn(move || {
            for event in &events {
                match event {
                    Event::Open(peer, request) => {
                        let before = request.handed_over().and_then(|bytes| bytes.try_into().ok());
                        let count = Arc::new(AtomicU64::new(before.map_or(0, u64::from_be_bytes)));
                        peer.set_data(count.clone()).expect("it has none");
                        if request.path() != "/stays" {
                            peer.on_hand_over(move || Some(count.load(Ordering::SeqCst).to_be_bytes().to_vec()));
                        }
                    }
                    Event::Message(peer, message) => {
                        let count = peer.data::<Arc<AtomicU64>>().expect("set").fetch_add(1, Ordering::SeqCst) + 1;
                        peer.send(format!("{count} {message}")).expect("it is open");
                    }
                    _ => {}
                }
            }
        })
    });
    let threads = threads.collect();
    (server, threads)
}

#[test]
fn servers_with_events_are_handed_over_between_two_events() {
    for workers in [1, 2] {
        let place = Place::new(&format!("events-{workers}"));
        let (mut server, mut threads) = start_with_events(&place, workers);
        let addr = server.local_addr();
        let is_over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..8).map(|index| stream(addr, index, is_over.clone())).collect();
        let mut stays = Raw::open_with(addr, "/stays", "");
        stays.send(&text("on"));
        assert_eq!(stays.expect_frame(), Frame::text("1 on"));
        for round in 0..10 {
            let (next, next_threads) = start_with_events(&place, workers);
            if round == 0 {
                stays.answer_close(1012);
            }
            drop(std::mem::replace(&mut server, next));
            for thread in std::mem::replace(&mut threads, next_threads) {
                thread.join().expect("no panic");
            }
        }
        is_over.store(true, Ordering::SeqCst);
        let counts: Vec<u64> = clients.into_iter().map(|client| client.join().expect("no panic")).collect();
        assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    }
}

/// A thread that is stuck in an event prevents the hand-over, and loses nothing.
#[test]
fn an_event_that_is_not_handled_prevents_the_hand_over() {
    let place = Place::new("stuck");
    let builder = || Server::builder().workers(1).config(config()).hand_over(place.socket());
    let server = builder().bind("127.0.0.1:0").expect("a server");
    let mut client = Raw::open(server.local_addr());
    let Event::Open(peer, _) = server.recv().expect("an event") else { panic!("the first event") };
    peer.on_hand_over(|| Some(Vec::new()));
    client.send(&text("first"));
    let Event::Message(..) = server.recv().expect("an event") else { panic!("the message") };
    let error = builder().bind("127.0.0.1:0").expect_err("the first message is being handled");
    assert!(common::chain(&error).contains("was not taken over"), "{error}");
    peer.send("answer").expect("sent");
    assert_eq!(client.expect_frame(), Frame::text("answer"));
    client.send(&text("second"));
    assert!(
        matches!(server.recv().expect("an event"), Event::Message(_, message) if message == Message::from("second"))
    );
    drop(client);
}

/// What connects and is no server of this library is refused, and the server goes on.
#[test]
fn garbage_on_the_socket_changes_nothing() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let place = Place::new("garbage");
    let app = Arc::<App>::default();
    let server = start(2, &place, &app);
    let mode = std::fs::metadata(place.socket()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = connect(server.local_addr());
    let mut count = 0;
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    let version = [&[1, 0, 0, 0, 0, 0, 0, 0, 10][..], b"tb-hand\n", &[0, 99]].concat();
    let huge = [1, 255, 255, 255, 255, 255, 255, 255, 255];
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &noise, &version, &huge, &version[..12], b""] {
        let mut stream = UnixStream::connect(place.socket()).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer); // it may be reset
        count += 1;
        client.send("still there").expect("sent");
        expect(&client, &format!("{count} still there"));
    }
    let next = start(2, &place, &app);
    server.join();
    client.send("on").expect("sent");
    expect(&client, &format!("{} on", count + 1));
    drop(next);
}

/// Panics where its path says.
struct Faulty(String);

impl Handler for Faulty {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        assert_ne!(self.0, "/gives", "the fault of a test");
        Some(Vec::new())
    }

    fn on_taken_over(&mut self, _: &mut Socket<'_>) {
        assert_ne!(self.0, "/goes-on", "the fault of a test");
    }
}

#[test]
fn a_panic_of_a_handler_ends_its_connection_only() {
    let _expected = common::logged::expect_error("the fault of a test");
    for workers in [1, 2] {
        let place = Place::new(&format!("faults-{workers}"));
        let start = || {
            let builder = Server::builder().workers(workers).config(config()).hand_over(place.socket());
            let make = |request: &Request| {
                assert!(request.handed_over().is_none() || request.path() != "/is-made", "the fault of a test");
                Faulty(request.path().to_owned())
            };
            builder.serve("127.0.0.1:0", make).expect("a server")
        };
        let server = start();
        let addr = server.local_addr();
        let [mut gives, mut goes_on, mut is_made, mut good] =
            ["/gives", "/goes-on", "/is-made", "/good"].map(|path| Raw::open_with(addr, path, ""));
        eventually("all are open", || server.stats().traffic.opened == 4);
        let next = start();
        gives.answer_close(1011);
        goes_on.answer_close(1011);
        is_made.answer_close(1011);
        // The server waits for clients that it has failed to end TCP.
        drop((gives, goes_on, is_made));
        server.join();
        good.send(&text("on"));
        assert_eq!(good.expect_frame(), Frame::text("on"));
        eventually("only that is left", || next.handle().connections() == 1);
        drop(good);
    }
}

/// The file of a Unix socket goes with the last server that has it.
#[test]
fn the_file_of_a_listener_is_removed_by_the_last_that_has_it() {
    for workers in [1, 2] {
        let place = Place::new(&format!("file-{workers}"));
        let (path, app) = (place.0.join("app"), Arc::<App>::default());
        let start = || {
            let app = app.clone();
            let builder = Server::builder().workers(workers).config(config()).hand_over(place.socket());
            builder.serve(format!("unix:{}", path.display()), move |request| Counter::new(request, app.clone()))
        };
        let mut server = start().expect("a server");
        for _ in 0..2 {
            let two = ["127.0.0.1:0", "127.0.0.1:0"].map(threadbare::Listener::from);
            let failed = Server::builder().hand_over(place.socket()).serve(two, |_| Faulty(String::new()));
            drop(failed.expect_err("as many listeners as the old server has"));
            assert!(path.exists(), "the server goes on");
            let next = start().expect("a server");
            drop(std::mem::replace(&mut server, next));
            assert!(path.exists(), "the next one has it");
            std::os::unix::net::UnixStream::connect(&path).expect("connected");
        }
        drop(server);
        assert!(!path.exists(), "nobody has it any more");
    }
}

/// What is in the place of the socket, and could not be replaced, is refused before anything is taken over.
#[test]
fn a_path_of_something_else_is_refused() {
    let place = Place::new("path");
    let app = Arc::<App>::default();
    let server = start(1, &place, &app);
    let client = connect(server.local_addr());
    let (file, link) = (place.0.join("file"), place.0.join("link"));
    std::fs::write(&file, "text").expect("written");
    std::os::unix::fs::symlink(place.socket(), &link).expect("linked");
    for (path, number) in [(&file, 1), (&link, 2)] {
        let error = start_with(Server::builder(), path, &app).expect_err("refused");
        assert!(common::chain(&error).contains("is no socket"), "{}", common::chain(&error));
        client.send("on").expect("sent");
        expect(&client, &format!("{number} on"));
    }
    assert_eq!(std::fs::read(&file).expect("it is there"), b"text");
    assert_eq!(std::fs::read_dir(&place.0).expect("a directory").count(), 3, "nothing is left");
}

#[test]
fn a_server_that_can_not_be_handed_over_is_not_started() {
    let place = Place::new("config");
    let refused = |error: BuildError| common::chain(&error);
    let inline = Server::builder().hand_over(place.socket()).bind_inline("127.0.0.1:0").expect_err("events");
    let inline = refused(inline);
    assert!(inline.contains("hand_over is ") && inline.contains("an event loop can not be handed over"), "{inline}");
    let app = Arc::<App>::default();
    let server = start(1, &place, &app);
    let client = connect(server.local_addr());
    let app_of_two = app.clone();
    let two = Server::builder()
        .hand_over(place.socket())
        .serve(["127.0.0.1:0", "127.0.0.1:0"].map(threadbare::Listener::from), move |request| {
            Counter::new(request, app_of_two.clone())
        })
        .expect_err("two listeners");
    assert!(refused(two).contains("listeners is 2, but must be as many as the server has"));
    client.send("on").expect("sent");
    expect(&client, "1 on");
    let nowhere = start_with(Server::builder(), Path::new("/nowhere/hand-over"), &app).expect_err("no directory");
    assert!(refused(nowhere).contains("/nowhere/hand-over"));
    let file = start_with(Server::builder(), Path::new("/dev/null"), &app).expect_err("no socket");
    assert!(refused(file).contains("/dev/null: what is there is no socket"));
}

/// With context takeover each message refers to those before it, which another process has received.
#[cfg(feature = "deflate")]
#[test]
fn compressed_messages_refer_to_those_that_the_server_before_has_received() {
    use threadbare::DeflateConfig;
    for without in [false, true] {
        let deflate = DeflateConfig::default()
            .server_no_context_takeover(without)
            .client_no_context_takeover(without)
            .threshold(1);
        let config = config().deflate(deflate);
        let place = Place::new(&format!("deflate-{without}"));
        let app = Arc::<App>::default();
        let builder = || Server::builder().workers(1).config(config.clone());
        let mut server = start_with(builder(), &place.socket(), &app).expect("a server");
        let client = Client::builder().config(config.clone());
        let client = client.connect(&format!("ws://{}", server.local_addr())).expect("connected");
        assert!(client.response().header("Sec-WebSocket-Extensions").is_some(), "negotiated");
        let line = |number: u64| format!("{{\"sensor\":{number},\"values\":[1,2,3,5,8,13,21,34]}}").repeat(40);
        let mut count = 0;
        for _ in 0..5 {
            for _ in 0..3 {
                count += 1;
                client.send(line(count)).expect("sent");
                expect(&client, &format!("{count} {}", line(count)));
            }
            let next = start_with(builder(), &place.socket(), &app).expect("a server");
            drop(std::mem::replace(&mut server, next));
        }
        let stats = client.peer().stats().deflate.expect("negotiated");
        assert!(stats.received_compressed * 4 < stats.received && stats.sent_compressed * 4 < stats.sent, "{stats:?}");
    }
}

/// A connection that receives fragments goes on between two of them.
#[test]
fn a_message_that_is_received_in_fragments_goes_on() {
    struct Upload(Vec<u8>);

    impl Handler for Upload {
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}

        fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: threadbare::FragmentRef<'_>) {
            assert_eq!(fragment.offset(), self.0.len() as u64);
            self.0.extend_from_slice(fragment.as_bytes());
            if fragment.is_last() {
                socket.send(&self.0[..]);
            }
        }

        fn hand_over(&mut self) -> Option<Vec<u8>> {
            Some(self.0.clone())
        }
    }

    let place = Place::new("fragments");
    let start = || {
        let config = config().receive(threadbare::Receive::Fragments { max_size: None });
        let make = |request: &Request| Upload(request.handed_over().unwrap_or_default().to_vec());
        Server::builder().workers(1).config(config).hand_over(place.socket()).serve("127.0.0.1:0", make)
    };
    let mut server = start().expect("a server");
    let mut client = Raw::open(server.local_addr());
    let payload: Vec<u8> = (0..50_000_u32).map(|n| (n / 7) as u8).collect();
    let frame = masked(true, 0, Opcode::Binary, &payload);
    for piece in frame.chunks(frame.len() / 5 + 1) {
        client.send(piece);
        eventually("some of it has arrived", || server.handle().stats().traffic.bytes_received > 0);
        let next = start().expect("a server");
        drop(std::mem::replace(&mut server, next));
    }
    assert_eq!(client.expect_frame(), Frame::binary(&payload));
}

/// The environment variables that make this program a server: where it hands over, and whether it kills itself on the way.
const PLACE: &str = "THREADBARE_TEST_HAND_OVER_AT";
const FAULT: &str = "THREADBARE_TEST_HAND_OVER_FAULT";

/// A server that is a process of its own.
struct Process(std::process::Child);

impl Process {
    fn start(place: &Place, fault: &str) -> Process {
        let program = std::env::current_exe().expect("a path");
        let mut command = std::process::Command::new(program);
        command.args(["--exact", "processes_follow_each_other_under_load", "--nocapture", "--test-threads=1"]);
        command.env(PLACE, place.socket()).env(FAULT, fault).stdin(std::process::Stdio::null());
        Process(command.stdout(std::process::Stdio::piped()).spawn().expect("starts"))
    }

    /// Its address, once it serves.
    fn addr(&mut self) -> SocketAddr {
        use std::io::BufRead;
        let lines = std::io::BufReader::new(self.0.stdout.as_mut().expect("a pipe")).lines();
        let addr = lines.map_while(Result::ok).find_map(|line| line.split_once("serving on ")?.1.parse().ok());
        addr.expect("it serves")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// Kills this process when the library logs a text: the step of a hand-over that it has come to.
struct KillAt(String);

impl log::Log for KillAt {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains(&self.0) {
            kill();
        }
    }

    fn flush(&self) {}
}

/// Kills this process, as `kill -9` does.
fn kill() {
    let signal = rustix::process::Signal::KILL;
    rustix::process::kill_process(rustix::process::getpid(), signal).expect("killed");
    thread::sleep(DEADLINE); // it does not come back
}

/// A process that may open only some more files than it gets connections.
const FEW_DESCRIPTORS: &str = "few descriptors";

/// How many connections it gets.
const CONNECTIONS: u64 = 100;

fn limit_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let open = std::fs::read_dir("/proc/self/fd").expect("the open files").count() as u64;
    // Those of a server that starts are about 20.
    let current = Some(open + 20 + CONNECTIONS + 12);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current, ..getrlimit(Resource::Nofile) })
        .expect("a lower limit");
}

/// A new process that could not accept, or be taken over itself, takes nothing over.
#[test]
fn a_new_process_that_has_no_descriptors_left_says_so() {
    let place = Place::new("descriptors");
    let mut server = Process::start(&place, "none");
    let addr = server.addr();
    let clients: Vec<Client> = (0..CONNECTIONS).map(|_| connect(addr)).collect();
    let mut limited = Process::start(&place, FEW_DESCRIPTORS);
    let mut said = String::new();
    std::io::Read::read_to_string(limited.0.stdout.as_mut().expect("a pipe"), &mut said).expect("text");
    assert!(said.contains("was not taken over") && said.contains("descriptors are left"), "{said}");
    assert_eq!(limited.0.wait().expect("a process").code(), Some(7));
    for client in &clients {
        client.send("on").expect("sent");
        expect(client, "1 on");
    }
}

/// Runs as one of the processes.
fn be_a_process(path: &Path) {
    let fault = std::env::var(FAULT).expect("set");
    if fault == FEW_DESCRIPTORS {
        limit_descriptors();
    }
    log::set_boxed_logger(Box::new(KillAt(fault.clone()))).expect("the first logger");
    log::set_max_level(log::LevelFilter::Debug);
    let app = Arc::<App>::default();
    let app_of_handlers = app.clone();
    let builder = Server::builder().workers(2).config(config()).hand_over(path);
    let server = builder.serve("127.0.0.1:0", move |request| {
        if fault == "a handler" && request.handed_over().is_some() {
            kill();
        }
        Counter::new(request, app_of_handlers.clone())
    });
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            println!("refused: {}", common::chain(&error));
            std::process::exit(7);
        }
    };
    println!("serving on {}", server.local_addr());
    server.join();
    assert!(app.closed.lock().expect("no panic").iter().all(|reason| reason.code == CloseCode::NORMAL_CLOSURE));
}

/// The new process is killed at each step. The old one serves on, and the next hand-over succeeds.
#[test]
fn a_new_process_that_is_killed_at_any_step_changes_nothing() {
    use std::os::unix::process::ExitStatusExt;
    const STEPS: [&str; 11] = [
        "hand-over: connected",
        "hand-over: asked for the server",
        "hand-over: the listeners have come",
        "hand-over: said that this process is ready",
        "connections have come",
        "a handler",
        "hand-over: all connections are held",
        "hand-over: said that all are held",
        "hand-over: the rest of",
        "hand-over: this process may serve",
        "hand-over: the handlers are made",
    ];
    let place = Place::new("killed");
    let mut server = Process::start(&place, "none");
    let addr = server.addr();
    let is_over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8).map(|index| stream(addr, index, is_over.clone())).collect();
    let idle: Vec<Client> = (0..100).map(|_| connect(addr)).collect();
    for step in STEPS {
        let mut killed = Process::start(&place, step);
        assert_eq!(killed.0.wait().expect("a process").signal(), Some(9), "killed at {step:?}");
        let new = connect(addr);
        new.send("new").expect("sent");
        expect(&new, "1 new");
        eventually("nothing is left of it", || std::fs::read_dir(&place.0).expect("a directory").count() == 1);
        let mut next = Process::start(&place, "none");
        assert_eq!(next.addr(), addr, "after {step:?}");
        assert!(server.0.wait().expect("a process").success(), "it ends by itself");
        server = next;
    }
    is_over.store(true, Ordering::SeqCst);
    for thread in threads {
        assert!(thread.join().expect("no panic") > 100);
    }
    for client in &idle {
        client.send("woken").expect("sent");
        expect(client, "1 woken");
    }
}

#[test]
fn processes_follow_each_other_under_load() {
    if let Some(path) = std::env::var_os(PLACE) {
        return be_a_process(Path::new(&path));
    }
    let place = Place::new("processes");
    let mut server = Process::start(&place, "none");
    let addr = server.addr();
    let is_over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8).map(|index| stream(addr, index, is_over.clone())).collect();
    for round in 0..10 {
        if round % 3 == 1 {
            let mut killed = Process::start(&place, "the listeners have come");
            assert!(!killed.0.wait().expect("a process").success(), "it was killed");
        }
        let mut next = Process::start(&place, "none");
        assert_eq!(next.addr(), addr);
        assert!(server.0.wait().expect("a process").success(), "it ends by itself");
        server = next;
        let new = connect(addr);
        new.send("new").expect("sent");
        expect(&new, "1 new");
    }
    is_over.store(true, Ordering::SeqCst);
    let counts: Vec<u64> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}

/// Measures the pause that clients see: half of them are idle, the others always have a message on its way. Run it with
/// `HAND_OVER_CLIENTS=1000 cargo test --release --features handover --test handover -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn the_pause_that_clients_see() {
    let count: usize = std::env::var("HAND_OVER_CLIENTS").map_or(100, |count| count.parse().expect("a number"));
    let place = Place::new("pause");
    let mut server = Process::start(&place, "none");
    let addr = server.addr();
    let pool = threadbare::ClientPool::new(1, Config::default()).expect("a pool");
    let connect = |_| {
        let client = Client::builder().pool(&pool).connect(&format!("ws://{addr}"));
        client.expect("connected")
    };
    let clients: Vec<Client> = (0..count).map(connect).collect();
    let (busy, idle) = clients.split_at(count / 2);
    let mut numbers = vec![0_u64; busy.len()];
    busy.iter().for_each(|client| client.send("on").expect("sent"));
    // How long each client waits at most, until half a second after the event.
    let mut waits_until = |has_come: &mut dyn FnMut() -> bool| {
        let (mut since, mut waits) = (vec![Instant::now(); busy.len()], vec![Duration::ZERO; busy.len()]);
        let mut came: Option<Instant> = None;
        while came.is_none_or(|came| came.elapsed() < Duration::from_millis(500)) {
            let before: u64 = numbers.iter().sum();
            for (index, client) in busy.iter().enumerate() {
                if let Ok(Some(message)) = client.try_recv() {
                    numbers[index] += 1;
                    assert_eq!(message, Message::from(format!("{} on", numbers[index])));
                    client.send("on").expect("sent");
                    waits[index] = waits[index].max(since[index].elapsed());
                    since[index] = Instant::now();
                }
            }
            if numbers.iter().sum::<u64>() == before {
                thread::sleep(Duration::from_micros(100)); // leaves the processor to the servers
            }
            if came.is_none() && has_come() {
                came = Some(Instant::now());
            }
        }
        waits
    };
    let mut without = waits_until(&mut || true);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let mut next = Process::start(&place, "none");
        pauses.extend(waits_until(&mut || server.0.try_wait().expect("a process").is_some()));
        next.addr();
        server = next;
    }
    for client in idle {
        client.send("woken").expect("sent");
        expect(client, "1 woken");
    }
    for (what, waits) in [("no hand-over", &mut without), ("20 hand-overs", &mut pauses)] {
        waits.sort();
        let at = |share: usize| waits[(waits.len() - 1) * share / 1000];
        println!("{count} clients, {what}: p50 {:?}, p99 {:?}, most {:?}", at(500), at(990), at(1000));
    }
}

/// Each server lives for much less time than the limits: they hold because the clocks travel.
#[test]
fn lifetime_and_keepalive_are_counted_through_hand_overs() {
    let place = Place::new("clocks");
    let app = Arc::<App>::default();
    let limited = config().max_lifetime(Some(Duration::from_secs(3))).ping_interval(Duration::from_secs(1));
    let start = || start_with(Server::builder().workers(1).config(limited.clone()), &place.socket(), &app);
    let mut server = start().expect("a server");
    let mut client = Raw::open(server.local_addr());
    let (to_test, ended) = std::sync::mpsc::channel::<()>();
    let reader = thread::spawn(move || {
        let _ended = to_test; // dropped with the thread
        let opened = Instant::now();
        let mut pings = 0;
        loop {
            let frame = client.expect_frame();
            match frame.opcode {
                Opcode::Ping => pings += 1,
                _ => break (frame.close_code(), pings, opened.elapsed()),
            }
            client.send(&masked(true, 0, Opcode::Pong, &frame.payload));
        }
    });
    // Times are told in ticks of 32 ms.
    while ended.recv_timeout(Duration::from_millis(200)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        let next = start().expect("a server");
        drop(std::mem::replace(&mut server, next));
    }
    let (code, pings, lived) = reader.join().expect("no panic");
    assert_eq!(code, 1001, "its lifetime is over");
    assert!(pings >= 1 && lived < DEADLINE, "{pings} pings in {lived:?}");
}
