//! `Receive::Fragments`: what arrives of a message is delivered at once, to handlers, channels and event loops.

use crate::common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::large::{Checked, LARGE, bytes_at, send_large};
use common::{Client, DEADLINE, Frame, binary, close, masked, ping, text};
use crossbeam_channel::{Receiver, Sender};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Accept, CloseCode, CloseReason, Config, Event, EventRef, FragmentRef, Handler, MessageRef, Receive, Server,
    ServerHandle, Socket, StreamOptions,
};

/// How fragments reach the application.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Handler,
    Channel,
    Inline,
}

const MODES: [Mode; 3] = [Mode::Handler, Mode::Channel, Mode::Inline];

/// What the application saw.
#[derive(Debug, PartialEq)]
enum Seen {
    /// A message has so many bytes so far.
    Part(usize),
    /// A message ended, and had these bytes, or more than a test compares.
    Whole(Vec<u8>),
    /// A connection ended.
    Close(CloseCode),
}

/// What all connections share.
struct App {
    seen: Sender<Seen>,
    handle: OnceLock<ServerHandle>,
    /// The most memory that the connections took while a fragment was delivered.
    peak: AtomicUsize,
}

/// The application's part of a connection. Small messages are kept, and of large ones each byte is compared.
struct Connection {
    app: Arc<App>,
    small: Vec<u8>,
    large: Checked,
}

const MAX_SMALL: u64 = 1_000;

impl Connection {
    fn new(app: &Arc<App>) -> Connection {
        Connection { app: app.clone(), small: Vec::new(), large: Checked::new() }
    }

    /// Returns the answer to a fragment: the size of the message that it ended.
    fn fragment(&mut self, fragment: FragmentRef<'_>) -> Option<String> {
        let memory = self.app.handle.get().map_or(0, ServerHandle::memory);
        self.app.peak.fetch_max(memory, Ordering::Relaxed);
        if fragment.is_first() {
            self.small.clear();
            self.large.received = 0;
        }
        let size = fragment.offset() + fragment.len() as u64;
        if size <= MAX_SMALL {
            self.small.extend_from_slice(fragment.as_bytes());
            assert_eq!(self.small.len() as u64, size, "no byte is missing");
        } else {
            if self.large.received == 0 {
                self.large.add(&self.small);
            }
            assert_eq!(self.large.received as u64, fragment.offset());
            self.large.add(fragment.as_bytes());
        }
        let seen = if fragment.is_last() { Seen::Whole(self.small.clone()) } else { Seen::Part(size as usize) };
        let _ = self.app.seen.send(seen); // the test may have ended
        fragment.is_last().then(|| size.to_string())
    }
}

impl Handler for Connection {
    fn on_message(&mut self, _: &mut Socket<'_>, message: MessageRef<'_>) {
        panic!("a whole message: {message}");
    }

    fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
        if let Some(answer) = self.fragment(fragment) {
            socket.send(answer);
        }
    }

    fn on_close(&mut self, _: &mut Socket<'_>, reason: &CloseReason) {
        on_close(&self.app, reason);
    }
}

fn on_close(app: &App, reason: &CloseReason) {
    let _ = app.seen.send(Seen::Close(reason.code)); // the test may have ended
}

/// Handles the events of all connections.
fn events(app: &Arc<App>) -> impl FnMut(EventRef<'_>) + use<> {
    let (app, mut connections) = (app.clone(), HashMap::new());
    move |event| match event {
        EventRef::Open(peer, _) => drop(connections.insert(peer.id(), Connection::new(&app))),
        EventRef::Fragment(peer, fragment) => {
            let connection = connections.get_mut(&peer.id()).expect("it was opened");
            if let Some(answer) = connection.fragment(fragment) {
                let _ = peer.send(answer); // it may be gone
            }
        }
        EventRef::Close(peer, reason) => {
            connections.remove(&peer.id());
            on_close(&app, reason);
        }
        other => panic!("{other:?}"),
    }
}

/// A server that answers each message with its size.
struct SizeServer {
    addr: SocketAddr,
    handle: ServerHandle,
    app: Arc<App>,
    seen: Receiver<Seen>,
    server: Option<Server>,
    thread: Option<JoinHandle<()>>,
}

impl SizeServer {
    fn start(mode: Mode, config: Config) -> SizeServer {
        common::logged::install();
        let (sender, seen) = crossbeam_channel::unbounded();
        let app = Arc::new(App { seen: sender, handle: OnceLock::new(), peak: AtomicUsize::new(0) });
        // No message of two bytes could be assembled.
        let builder = Server::builder().workers(1).config(config.max_message_size(1)).on_request(|request| {
            let fragments = Receive::Fragments { max_size: None };
            Ok(if request.path() == "/fragments" { Accept::new().receive(fragments) } else { Accept::new() })
        });
        let mut on_event = events(&app);
        let (mut kept, mut thread) = (None, None);
        let (addr, handle) = match mode {
            Mode::Handler => {
                let app = app.clone();
                let server = builder.serve("127.0.0.1:0", move |_| Connection::new(&app)).expect("a server");
                let of_server = (server.local_addr(), server.handle());
                kept = Some(server);
                of_server
            }
            Mode::Channel => {
                let server = builder.bind("127.0.0.1:0").expect("a server");
                let of_server = (server.local_addr(), server.handle());
                thread = Some(std::thread::spawn(move || {
                    let mut events = server.iter();
                    while let Some(event) = events.next_ref() {
                        on_event(event);
                    }
                }));
                of_server
            }
            Mode::Inline => {
                let mut event_loop = builder.bind_inline("127.0.0.1:0").expect("a server");
                let of_server = (event_loop.local_addr(), event_loop.handle());
                thread = Some(std::thread::spawn(move || {
                    event_loop.run(on_event).expect("a poll");
                }));
                of_server
            }
        };
        app.handle.set(handle.clone()).expect("set once");
        SizeServer { addr, handle, app, seen, server: kept, thread }
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(DEADLINE).expect("in time")
    }
}

impl Drop for SizeServer {
    fn drop(&mut self) {
        self.handle.shutdown(Duration::from_secs(1));
        drop(self.server.take());
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("no panic of the application");
        }
    }
}

fn unlimited() -> Config {
    Config::default().receive(Receive::Fragments { max_size: None })
}

#[test]
fn the_hook_for_the_handshake_chooses_for_each_connection() {
    for mode in MODES {
        // The path says who receives fragments, and messages of two bytes can not be whole.
        let server = SizeServer::start(mode, Config::default());
        let mut client = Client::open_with(server.addr, "/fragments", "");
        client.send(&binary(b"abc"));
        assert_eq!(
            (server.next(), client.expect_frame()),
            (Seen::Whole(b"abc".to_vec()), Frame::text("3")),
            "{mode:?}"
        );
        let mut client = Client::open(server.addr);
        client.send(&binary(b"abc"));
        assert_eq!(client.expect_frame().close_code(), 1009);
    }
}

fn first(bytes: &[u8]) -> Vec<u8> {
    masked(false, 0, Opcode::Binary, bytes)
}

#[test]
fn a_message_larger_than_any_buffer_takes_little_memory() {
    for mode in MODES {
        let config = unlimited().max_event_buffer_size(256 << 10).max_write_buffer_size(64 << 10);
        let server = SizeServer::start(mode, config);
        let mut client = Client::open(server.addr);
        let sender = send_large(&client.stream, LARGE, true);
        assert_eq!(client.expect_frame(), Frame::text(&LARGE.to_string()), "{mode:?}");
        sender.join().expect("no panic").expect("all of it was read");
        let peak = server.app.peak.load(Ordering::Relaxed);
        assert!(peak < 4 << 20, "{mode:?}: {peak} bytes");
    }
}

#[test]
fn small_messages_are_one_fragment_and_pings_are_answered_between_fragments() {
    for mode in MODES {
        let server = SizeServer::start(mode, unlimited());
        let mut client = Client::open(server.addr);
        client.send(&[text("größer"), binary(b""), first(b"one")].concat());
        assert_eq!(server.next(), Seen::Whole("größer".into()));
        assert_eq!(server.next(), Seen::Whole(Vec::new()));
        assert_eq!(server.next(), Seen::Part(3), "{mode:?}: before the rest is sent");
        assert_eq!((client.expect_frame(), client.expect_frame()), (Frame::text("8"), Frame::text("0")));
        client.send(&ping(b"?"));
        assert_eq!(client.expect_frame(), Frame::pong(b"?"));
        client.send(&masked(true, 0, Opcode::Continuation, b""));
        assert_eq!((server.next(), client.expect_frame()), (Seen::Whole(b"one".to_vec()), Frame::text("3")));
        client.send(&close(1000));
        assert_eq!(server.next(), Seen::Close(CloseCode::NORMAL_CLOSURE));
    }
}

#[test]
fn the_sum_of_the_fragments_is_limited() {
    for mode in MODES {
        let server = SizeServer::start(mode, Config::default().receive(Receive::Fragments { max_size: Some(5) }));
        let mut client = Client::open(server.addr);
        client.send(&[first(b"abc"), masked(true, 0, Opcode::Continuation, b"def")].concat());
        assert_eq!(
            (server.next(), server.next()),
            (Seen::Part(3), Seen::Close(CloseCode::MESSAGE_TOO_BIG)),
            "{mode:?}"
        );
        assert_eq!(client.expect_frame().close_code(), 1009);
    }
}

#[test]
fn invalid_text_fails_the_connection_as_soon_as_it_arrives() {
    for mode in MODES {
        let server = SizeServer::start(mode, unlimited());
        let mut client = Client::open(server.addr);
        client.send(&masked(false, 0, Opcode::Text, "gut".as_bytes()));
        assert_eq!(server.next(), Seen::Part(3));
        client.send(&masked(false, 0, Opcode::Continuation, b"\xc3\x28"));
        assert_eq!(server.next(), Seen::Close(CloseCode::INVALID_FRAME_PAYLOAD_DATA), "{mode:?}");
        assert_eq!(client.expect_frame().close_code(), 1007);
    }
}

#[test]
fn a_connection_that_ends_inside_a_message_has_no_last_fragment() {
    for mode in MODES {
        let server = SizeServer::start(mode, unlimited());
        let mut client = Client::open(server.addr);
        client.send(&first(b"abc"));
        assert_eq!(server.next(), Seen::Part(3));
        client.reset();
        assert_eq!(server.next(), Seen::Close(CloseCode::ABNORMAL_CLOSURE), "{mode:?}");
        common::eventually("its memory is freed", || server.handle.memory() == 0);
    }
}

#[test]
fn a_shutdown_inside_a_message_ends_its_connection() {
    for mode in MODES {
        let server = SizeServer::start(mode, unlimited());
        let mut client = Client::open(server.addr);
        client.send(&first(b"abc"));
        assert_eq!(server.next(), Seen::Part(3));
        let handle = server.handle.clone();
        let shutdown = std::thread::spawn(move || handle.shutdown(DEADLINE));
        // RFC 6455 5.4: the rest of the message may come before the answer to the close frame.
        assert_eq!(client.expect_frame().close_code(), 1001);
        client.send(&[masked(true, 0, Opcode::Continuation, b"def"), close(1001)].concat());
        assert_eq!(client.frame(), None);
        let report = shutdown.join().expect("no panic");
        assert_eq!((report.clean, report.forced), (1, 0), "{mode:?}");
        assert_eq!(server.next(), Seen::Close(CloseCode::GOING_AWAY), "and no fragment");
    }
}

/// The channel is full of one connection's fragments: that is not read, the others are, and nothing is lost.
/// Large fragments stay in the receive buffer that they came in, and that goes back to the worker, which frees it.
#[test]
fn receive_buffers_come_back_from_the_application() {
    let server = Server::builder().workers(1).config(unlimited()).bind("127.0.0.1:0").expect("a port");
    let handle = server.handle();
    let (mut checked, mut kept) = (Checked::new(), Vec::new());
    let client = Client::open(server.local_addr());
    let sender = send_large(&client.stream, LARGE, true);
    let mut peak = 0;
    while checked.received < LARGE / 8 {
        match server.recv_timeout(DEADLINE).expect("an event") {
            Event::Fragment(_, fragment) => {
                assert_eq!(checked.received as u64, fragment.offset());
                checked.add(fragment.as_bytes());
                kept.push(fragment);
                peak = peak.max(handle.memory());
            }
            event => assert!(matches!(event, Event::Open(..)), "{event:?}"),
        }
    }
    assert!(peak < 3 << 20, "{peak} bytes");
    // In the middle of the message, and of what waits for the application.
    client.stream.shutdown(Shutdown::Both).expect("open");
    assert!(sender.join().expect("no panic").is_err());
    let mut events = server.iter();
    loop {
        match events.next_ref().expect("an event") {
            EventRef::Fragment(_, fragment) => checked.add(fragment.as_bytes()),
            EventRef::Close(_, reason) => break assert_eq!(reason.code, CloseCode::ABNORMAL_CLOSURE),
            event => panic!("{event:?}"),
        }
    }
    drop(events);
    let mut again = Checked::new();
    kept.iter().for_each(|fragment| again.add(fragment.as_bytes()));
    common::eventually("all memory is given back", || handle.memory() == 0);
}

#[test]
fn a_connection_whose_fragments_nobody_takes_is_not_read() {
    let config = unlimited().max_event_buffer_size(512 << 10);
    let server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let (client, peer) = common::open_with_peer(&server);
    let mut other = Client::open(server.local_addr());
    let sender = send_large(&client.stream, LARGE, true);
    common::eventually("the channel is full", || peer.stats().bytes_received >= 128 << 10);
    for round in 0..20 {
        other.send(&ping(&[round]));
        assert_eq!(other.expect_frame(), Frame::pong(&[round]));
    }
    let (read, memory) = (peer.stats().bytes_received, server.handle().memory());
    assert!(read < 1 << 20 && memory < 4 << 20 && !sender.is_finished(), "{read} bytes, {memory} in memory");
    let mut checked = Checked::new();
    while checked.received < LARGE {
        if let Event::Fragment(from, fragment) = server.recv_timeout(DEADLINE).expect("an event") {
            assert_eq!(from, peer);
            checked.add(fragment.as_bytes());
            assert_eq!(fragment.is_last(), checked.received == LARGE);
        }
    }
    sender.join().expect("no panic").expect("all of it was read");
}

/// Sends fragments back, and a text behind each message, as soon as that begins.
struct EchoFragments;

impl Handler for EchoFragments {
    fn on_message(&mut self, _: &mut Socket<'_>, message: MessageRef<'_>) {
        panic!("a whole message: {message}");
    }

    fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
        assert!(socket.send_fragment(fragment));
        if fragment.is_first() {
            assert!(socket.send("behind it"));
        } else if !fragment.is_last() {
            let again = FragmentRef::whole(MessageRef::Binary(b"another"));
            assert!(!socket.send_fragment(again), "it would be in the middle of the message");
        }
    }
}

#[test]
fn a_handler_answers_fragments_with_fragments() {
    common::logged::install();
    let server =
        Server::builder().config(unlimited()).workers(1).serve("127.0.0.1:0", |_| EchoFragments).expect("a server");
    let handle = server.handle();
    let url = format!("ws://{}", server.local_addr());
    let client = threadbare::Client::builder().config(unlimited()).connect(&url).expect("connected");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = client.writer(StreamOptions::binary());
            for start in (0..LARGE).step_by(1 << 20) {
                writer.write_all(&bytes_at(start, 1 << 20)).expect("written");
            }
            writer.finish().expect("written");
            client.send("small").expect("sent");
        });
        let (mut checked, mut buffer, mut peak) = (Checked::new(), vec![0; 64 << 10], 0);
        let mut reader = client.recv_reader_timeout(DEADLINE).expect("received").expect("a message");
        while let size @ 1.. = reader.read(&mut buffer).expect("read") {
            // It is that of each read, and not of the 64 MiB.
            reader.set_deadline(Instant::now() + DEADLINE);
            checked.add(&buffer[..size]);
            peak = peak.max(handle.memory());
        }
        assert_eq!(checked.received, LARGE);
        assert!(peak < 4 << 20, "{peak} bytes");
    });
    for expected in ["behind it", "small", "behind it"] {
        assert_eq!(client.recv_timeout(DEADLINE).expect("received"), Some(expected.into()));
    }
}

/// Subscribes its connection, and sends fragments back.
struct Subscribed;

impl Handler for Subscribed {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        socket.subscribe("news").expect("subscribed");
    }

    fn on_message(&mut self, _: &mut Socket<'_>, message: MessageRef<'_>) {
        panic!("a whole message: {message}");
    }

    fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
        assert!(socket.send_fragment(fragment));
    }
}

#[test]
fn what_is_published_meanwhile_follows_the_message_of_a_handler() {
    common::logged::install();
    let server =
        Server::builder().config(unlimited()).workers(1).serve("127.0.0.1:0", |_| Subscribed).expect("a server");
    let (handle, mut client) = (server.handle(), Client::open(server.local_addr()));
    for round in 0..20 {
        client.send(&masked(false, 0, Opcode::Text, b"begin"));
        let begun = client.expect_frame();
        assert_eq!((begun.fin, &begun.payload[..]), (false, &b"begin"[..]));
        handle.publish("news", round.to_string());
        // The worker has come to the publication when it answers this.
        client.send(&ping(b"now"));
        assert_eq!(client.expect_frame(), Frame::pong(b"now"));
        client.send(&masked(true, 0, Opcode::Continuation, b"end"));
        assert_eq!(&client.expect_frame().payload[..], b"end");
        assert_eq!(client.expect_frame(), Frame::text(&round.to_string()));
    }
}
