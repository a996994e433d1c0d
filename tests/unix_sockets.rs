//! Clients and servers over Unix sockets: whatever holds for TCP holds for them, but for resets and IP addresses.
#![cfg(unix)]

use crate::common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::servers::Echo;
use common::sockets::{TestDir, abstract_name, address, url};
use common::{DEADLINE, logged};
use threadbare::{
    Accept, Client, ClientLoop, ClientPool, CloseCause, CloseCode, Config, ConnectError, Event, EventRef, Handler,
    Message, MessageRef, Outage, PeerAddr, Reconnect, Response, Server, ServerBuilder, SlowConsumer, Socket, WebSocket,
};

const LARGE: usize = 16 << 20;

fn large_messages() -> Config {
    Config::default().max_message_size(LARGE).max_write_buffer_size(2 * LARGE)
}

fn echo_server(path: &Path) -> Server {
    logged::install();
    let builder = Server::builder().workers(2).config(large_messages());
    builder.serve(address(path), |_| Echo).expect("a server")
}

fn message(size: usize) -> Message {
    Message::Binary((0..size).map(|n| (n % 251) as u8).collect())
}

// Each kind of client

#[test]
fn messages_of_every_size_are_echoed() {
    let dir = TestDir::new();
    let abstract_path = if cfg!(target_os = "linux") { abstract_name() } else { dir.join("other.sock") };
    for path in [dir.join("app.sock"), abstract_path] {
        let _server = echo_server(&path);
        let client = Client::builder().config(large_messages()).connect(&url(&path)).expect("connects");
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, LARGE] {
            client.send(message(size)).expect("sent");
            assert!(client.recv_timeout(DEADLINE).expect("received") == Some(message(size)), "{size} bytes");
        }
        assert_eq!((client.peer_addr(), client.local_addr()), (PeerAddr::Unix(Some(path)), PeerAddr::Unix(None)));
        let reason = client.finish(DEADLINE).expect("in time");
        assert_eq!((reason.code, reason.cause), (CloseCode::NORMAL_CLOSURE, CloseCause::Local));
    }
}

#[test]
fn a_sender_thread_and_a_receiver_thread_share_one_client() {
    const COUNT: u32 = 200_000;
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let _server = echo_server(&path);
    let client = Arc::new(Client::connect(&url(&path)).expect("connects"));
    let sender = client.clone();
    let sending = thread::spawn(move || (0..COUNT).for_each(|n| sender.send(n.to_le_bytes().to_vec()).expect("open")));
    for n in 0..COUNT {
        let received = client.recv_timeout(DEADLINE).expect("in time").expect("open");
        assert_eq!(received.as_bytes(), n.to_le_bytes());
    }
    sending.join().expect("no panic");
}

#[test]
fn a_pool_and_a_loop_of_clients_use_unix_sockets() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let _server = echo_server(&path);
    let pool = ClientPool::new(2, Config::default()).expect("a pool");
    let clients: Vec<_> =
        (0..10).map(|_| Client::builder().pool(&pool).connect(&url(&path)).expect("connects")).collect();
    for client in &clients {
        client.send("hello").expect("open");
        assert_eq!(client.recv_timeout(DEADLINE).expect("in time"), Some("hello".into()));
    }
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    let peer = Client::builder().connect_inline(&url(&path), &mut client_loop).expect("connects");
    assert_eq!(peer.addr(), PeerAddr::Unix(Some(path)));
    peer.send("hello").expect("open");
    let mut received = None;
    let on_event = |event: EventRef<'_>| {
        if let EventRef::Message(peer, message) = event {
            received = Some(message.into_message());
            peer.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
        }
    };
    client_loop.run(on_event).expect("a poll");
    assert_eq!(received, Some("hello".into()));
}

#[test]
fn a_reconnecting_client_comes_back_to_the_socket_of_the_next_server() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let first = echo_server(&path);
    let settings = Reconnect::new().initial_delay(Duration::from_millis(1)).max_delay(Duration::from_millis(20));
    let client = Client::builder().reconnect(&url(&path), settings).expect("a URL");
    client.send("one").expect("open");
    assert_eq!(client.recv_timeout(DEADLINE).expect("in time"), Some("one".into()));
    first.shutdown(DEADLINE);
    assert!(!path.exists(), "nobody listens");
    let _second = echo_server(&path);
    client.send("two").expect("open");
    assert_eq!(client.recv_timeout(DEADLINE).expect("in time"), Some("two".into()));
}

#[test]
fn the_request_has_the_target_and_the_host_localhost() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let seen = |builder: ServerBuilder| {
        builder.on_request(|request| {
            assert_eq!((request.host(), request.addr()), (Some("localhost"), &PeerAddr::Unix(None)));
            Ok(Accept::new().header("X-Target", request.target()))
        })
    };
    let _server = seen(Server::builder().workers(2)).serve(address(&path), |_| Echo).expect("a server");
    let client = Client::connect(&format!("ws+unix:{}:/chat?room=7", path.display())).expect("connects");
    assert_eq!(client.response().header("X-Target"), Some("/chat?room=7"));
}

#[test]
fn an_error_names_the_socket() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let nobody = Client::connect(&url(&path)).expect_err("nobody listens");
    assert_eq!(nobody.to_string(), format!("no connection to unix:{}", path.display()));
    assert!(Outage::Connect(nobody).is_transient(), "the server may come");
    let refused = Server::builder().on_request(|_| Err(Response::new(403)));
    let _server = refused.bind(address(&path)).expect("a server");
    let error = Client::connect(&url(&path)).expect_err("refused");
    assert_eq!(error.to_string(), format!("the opening handshake with {} failed", url(&path)));
    // No proxy reaches it.
    let error = Client::builder().proxy("http://127.0.0.1:1").connect(&url(&path)).expect_err("refused");
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error}");
    let long = format!("ws+unix:/{}:/", "x".repeat(200));
    assert!(Client::connect(&long).expect_err("too long").to_string().starts_with("no connection to unix:/xxx"));
}

#[test]
fn a_redirect_stays_at_the_socket_and_never_leads_to_another() {
    let dir = TestDir::new();
    let (first, second) = (dir.join("first.sock"), dir.join("second.sock"));
    let elsewhere = format!("ws+unix:{}:/", second.display());
    let hook = move |request: &threadbare::Request| match request.path() {
        "/here" => Err(Response::new(307).header("Location", "/there")),
        "/away" => Err(Response::new(307).header("Location", &elsewhere)),
        _ => Ok(Accept::new()),
    };
    let _first = Server::builder().on_request(hook).bind(address(&first)).expect("a server");
    let _second = echo_server(&second);
    let builder = Client::builder().max_redirects(3);
    drop(builder.connect(&format!("ws+unix:{}:/here", first.display())).expect("redirected"));
    let error = builder.connect(&format!("ws+unix:{}:/away", first.display())).expect_err("refused");
    assert!(common::chain(&error).contains("leads to another Unix socket"), "{}", common::chain(&error));
}

#[test]
fn the_hook_of_a_client_sees_its_unix_socket() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let _server = echo_server(&path);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let builder = Client::builder().socket_hook(|_| panic!("it is for TCP")).unix_socket_hook(move |socket| {
        counted.fetch_add(1, Ordering::SeqCst);
        socket2::SockRef::from(socket).set_send_buffer_size(64 << 10)
    });
    drop(builder.connect(&url(&path)).expect("connects"));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let fails = Client::builder().unix_socket_hook(|_| Err(std::io::Error::other("not here")));
    assert!(matches!(fails.connect(&url(&path)), Err(ConnectError::Hook(_))));
}

// How connections end

/// A handler that tells how its connection ended.
struct Ends(crossbeam_channel::Sender<threadbare::CloseReason>);

impl Handler for Ends {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        match message.as_text() {
            Some("abort") => socket.abort(),
            Some("close") => socket.close(CloseCode(4001), "as requested").expect("open"),
            _ => assert!(socket.send(message)),
        }
    }

    fn on_close(&mut self, _: &mut Socket<'_>, reason: &threadbare::CloseReason) {
        self.0.send(reason.clone()).expect("the test waits");
    }
}

#[test]
fn connections_end_as_over_tcp() {
    logged::install();
    for workers in [1, 2] {
        let dir = TestDir::new();
        let path = dir.join("app.sock");
        let (sender, ends) = crossbeam_channel::unbounded();
        let builder = Server::builder().workers(workers);
        let server = builder.serve(address(&path), move |_| Ends(sender.clone())).expect("a server");
        let connect = || Client::connect(&url(&path)).expect("connects");
        let ended = || ends.recv_timeout(DEADLINE).expect("in time");

        let client = connect();
        client.send("close").expect("open");
        assert_eq!(client.recv_timeout(DEADLINE).expect("clean"), None);
        assert_eq!(client.close_reason().expect("closed").code, CloseCode(4001));
        assert_eq!((ended().code, ended_is_last(&ends)), (CloseCode(4001), true));

        connect().send("abort").expect("open");
        assert_eq!(ended().cause, CloseCause::Aborted);

        let client = connect();
        client.abort();
        let reason = ended();
        assert_eq!((reason.code, reason.cause), (CloseCode(1006), CloseCause::Lost));
        drop(client);

        // A peer that vanishes in the middle, and one that sends no close frame.
        let mut raw = UnixStream::connect(&path).expect("connects");
        raw.write_all(common::request("/", "").as_bytes()).expect("sent");
        raw.read_exact(&mut [0; 12]).expect("a response");
        drop(raw);
        assert_eq!(ended().code, CloseCode(1006));

        // The server's shutdown.
        let client = connect();
        client.send("hello").expect("open");
        assert!(client.recv_timeout(DEADLINE).expect("in time").is_some());
        let closing = thread::spawn(move || {
            client.recv_timeout(DEADLINE).map(|message| (message, client.close_reason().cloned()))
        });
        let report = server.shutdown(DEADLINE);
        assert_eq!((report.clean, report.forced), (1, 0));
        let (message, reason) = closing.join().expect("no panic").expect("clean");
        assert_eq!((message, reason.expect("closed").code), (None, CloseCode::GOING_AWAY));
    }
}

fn ended_is_last(ends: &crossbeam_channel::Receiver<threadbare::CloseReason>) -> bool {
    ends.try_recv().is_err()
}

/// A masked frame that is no UTF-8, and one that is not masked.
#[test]
fn violations_are_answered_with_their_close_codes() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let _server = echo_server(&path);
    for (frame, code) in [
        (common::masked(true, 0, threadbare::protocol::frame::Opcode::Text, b"\xff"), 1007_u16),
        (b"\x81\x01a".to_vec(), 1002),
    ] {
        let mut raw = UnixStream::connect(&path).expect("connects");
        raw.set_read_timeout(Some(DEADLINE)).expect("a socket");
        // Input behind the violation does not take the close frame with it.
        let sent = [common::request("/", "").as_bytes(), &frame, &[0; 100_000]].concat();
        raw.write_all(&sent).expect("sent");
        let mut received = Vec::new();
        let mut chunk = [0; 1024];
        while !received.windows(4).any(|window| window[0] == 0x88 && window[2..] == code.to_be_bytes()) {
            let size = raw.read(&mut chunk).expect("no reset before it");
            assert!(size > 0, "{received:?}");
            received.extend_from_slice(&chunk[..size]);
        }
    }
}

#[test]
fn a_slow_reader_is_disconnected_and_others_are_not() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let config = Config::default().max_write_buffer_size(64 << 10).slow_consumer(SlowConsumer::Disconnect);
    logged::install();
    let server = Server::builder().workers(2).config(config).bind(address(&path)).expect("a server");
    let mut slow = UnixStream::connect(&path).expect("connects");
    slow.write_all(common::request("/", "").as_bytes()).expect("sent");
    let Ok(Event::Open(peer, _)) = server.recv_timeout(DEADLINE) else { panic!("an open event") };
    let quick = Client::connect(&url(&path)).expect("connects");
    while peer.is_open() {
        let _ = peer.send(vec![7; 10_000]); // it is closed at the end
    }
    // In any order: a client has its answer before the server has the connection, which a broadcast does not reach until then.
    let (mut reason, mut has_opened) = (None, false);
    while reason.is_none() || !has_opened {
        match server.recv_timeout(DEADLINE).expect("in time") {
            Event::Open(..) => has_opened = true,
            Event::Close(closed, told) if closed.id() == peer.id() => reason = Some(told),
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(reason.map(|reason| reason.code), Some(CloseCode::POLICY_VIOLATION));
    server.handle().broadcast("hello");
    assert_eq!(quick.recv_timeout(DEADLINE).expect("in time"), Some("hello".into()));
}

/// Both send more than the sockets take before they read.
#[test]
fn two_ends_that_send_much_before_they_read_do_not_stand_still() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let _server = echo_server(&path);
    let client = Client::builder().config(large_messages()).connect(&url(&path)).expect("connects");
    for _ in 0..2 {
        client.send(message(LARGE / 2)).expect("open");
    }
    for _ in 0..2 {
        assert!(client.recv_timeout(DEADLINE).expect("in time") == Some(message(LARGE / 2)));
    }
}

// Other parts of the library at one end

#[test]
fn a_blocking_socket_and_a_server_understand_each_other() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let _server = echo_server(&path);
    let stream = UnixStream::connect(&path).expect("connects");
    let mut socket = WebSocket::connect("ws://localhost/", stream).expect("a handshake");
    for size in [0, 1, 65_536, 1 << 20] {
        socket.send(message(size)).expect("open");
        assert!(socket.recv().expect("open") == Some(message(size)));
    }
    socket.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
    assert_eq!(socket.recv().expect("clean"), None);
}

#[test]
fn a_client_and_a_blocking_socket_understand_each_other() {
    logged::install();
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut socket = WebSocket::accept(stream).expect("a handshake");
        while let Some(message) = socket.recv().expect("open") {
            socket.send(&message).expect("open");
        }
    });
    let client = Client::connect(&url(&path)).expect("connects");
    for size in [0, 1, 65_536, 1 << 20] {
        client.send(message(size)).expect("open");
        assert!(client.recv_timeout(DEADLINE).expect("in time") == Some(message(size)));
    }
    client.finish(DEADLINE).expect("in time");
    server.join().expect("no panic");
}

/// A plain HTTP request, as `curl --unix-socket` sends it.
#[test]
fn plain_http_is_answered() {
    let dir = TestDir::new();
    let path = dir.join("app.sock");
    let builder = Server::builder().workers(2).http(|_| Response::new(200).text(&"x".repeat(300_000)));
    let _server = builder.serve(address(&path), |_| Echo).expect("a server");
    let mut raw = UnixStream::connect(&path).expect("connects");
    raw.set_read_timeout(Some(DEADLINE)).expect("a socket");
    raw.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = String::new();
    raw.read_to_string(&mut answer).expect("a response and the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&"x".repeat(300_000)));
}
