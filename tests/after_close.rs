//! What an end that has sent its close frame still receives, and that it sends nothing more.

use crate::common;

use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, texts};
use common::server_end::{CLOSE, ServerEnd, listen};
use common::servers::{Mode, echo_server};
use common::{Client as Raw, DEADLINE, Frame, close, masked, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    AfterClose, Client, ClientLoop, ClientPool, CloseCause, CloseCode, CloseReason, Compression, Config,
    ConnectionState, EventRef, Handler, Message, MessageRef, Peer, Prepared, Reconnect, ReconnectingClient, Server,
    Socket, WebSocket,
};

fn delivering() -> Config {
    Config::default().after_close(AfterClose::Deliver)
}

/// What a client sends behind the server's close frame: 102 messages, a ping, and its close frame.
fn late() -> Vec<u8> {
    let many: Vec<u8> = (0..100).flat_map(|number| text(&format!("late {number}"))).collect();
    let fragments = [masked(false, 0, Opcode::Text, b"late "), masked(true, 0, Opcode::Continuation, b"100")].concat();
    let large = text(&format!("late 101{}", " ".repeat(100_000)));
    [many, fragments, large, ping(b"late"), close(4001), text("too late")].concat()
}

fn late_texts() -> Vec<String> {
    (0..102).map(|number| format!("late {number}")).collect()
}

/// Plays the client: has the server close, sends the rest behind its close frame, and finds that nothing but the ping is
/// answered.
fn play_client(mut client: Raw) {
    client.send(&text("close"));
    assert_eq!(client.expect_frame().close_code(), 4000);
    client.send(&late());
    assert_eq!(client.expect_frame(), Frame::pong(b"late"));
    assert_eq!(client.frame(), None);
}

#[test]
fn a_server_can_receive_after_its_own_close_frame() {
    for (mode, workers) in [(Mode::Handler, 1), (Mode::Handler, 2), (Mode::Channel, 1), (Mode::Channel, 2)] {
        let app = App::start(mode, Server::builder().workers(workers).config(delivering()), |connection, message| {
            if message.as_text() == Some("close") {
                connection.close(CloseCode(4000), "as requested").expect("the closing handshake begins");
            }
            assert!(!connection.send(message) && connection.ping(b"").is_err(), "behind the close");
        });
        play_client(Raw::open(app.addr));
        app.expect_closed(4001, CloseCause::Local);
        let history = app.finish();
        let received: Vec<_> = texts(&history).into_iter().map(str::trim_end).collect();
        assert_eq!(received[0], "close");
        assert_eq!(received[1..], late_texts(), "{mode:?}");
    }
}

/// As the default, for a client and a server that say so.
#[test]
fn a_server_discards_after_its_own_close_frame_if_it_is_told_to() {
    let config = Config::default().after_close(AfterClose::Discard);
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(1).config(config.clone()), |connection, _| {
            connection.close(CloseCode(4000), "as requested").expect("the closing handshake begins");
        });
        play_client(Raw::open(app.addr));
        app.expect_closed(4001, CloseCause::Local);
        assert_eq!(texts(&app.finish()), ["close"], "{mode:?}");
    }
}

#[test]
fn an_event_loop_can_receive_after_its_own_close_frame() {
    for config in [delivering(), Config::default()] {
        let mut event_loop = Server::builder().config(config.clone()).bind_inline("127.0.0.1:0").expect("a server");
        let addr = event_loop.local_addr();
        let client = thread::spawn(move || play_client(Raw::open(addr)));
        let (mut received, mut ended) = (Vec::new(), None);
        let start = Instant::now();
        while ended.is_none() {
            assert!(start.elapsed() < DEADLINE, "timed out");
            let on_event = |event: EventRef<'_>| match event {
                EventRef::Message(peer, message) => {
                    received.push(message.as_message().as_text().expect("text").trim_end().to_owned());
                    let first = received.len() == 1;
                    assert_eq!(peer.close(CloseCode(4000), "").is_ok(), first, "the closing handshake begins once");
                    assert!(peer.send("late").is_err() && peer.ping(b"").is_err(), "behind the close");
                }
                EventRef::Close(_, reason) => ended = Some((reason.code.0, reason.cause)),
                _ => {}
            };
            event_loop.poll(DEADLINE, on_event).expect("a poll");
        }
        // The last bytes leave.
        event_loop.shutdown(DEADLINE);
        client.join().expect("the client");
        assert_eq!((ended, received.remove(0)), (Some((4001, CloseCause::Local)), "close".to_owned()));
        assert_eq!(received, if config == delivering() { late_texts() } else { Vec::new() });
    }
}

#[test]
fn a_blocking_server_can_receive_after_its_own_close_frame() {
    for config in [delivering(), Config::default()] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let client = thread::spawn(move || play_client(Raw::open(addr)));
        let (stream, _) = listener.accept().expect("a client");
        let mut socket = WebSocket::accept_with(stream, &config, |_| Ok(threadbare::Accept::new())).expect("accepted");
        assert_eq!(socket.recv().expect("a message"), Some(Message::from("close")));
        socket.close(CloseCode(4000), "as requested").expect("the closing handshake begins");
        assert!(socket.send("late").is_err() && socket.send(Message::Ping(Vec::new())).is_err(), "behind the close");
        let received: Vec<_> = socket.iter().map(|message| message.expect("a message").to_string()).collect();
        let received: Vec<_> = received.iter().map(|text| text.split("  ").next().unwrap_or_default()).collect();
        assert_eq!(received, if config == delivering() { late_texts() } else { Vec::new() });
        drop(socket);
        client.join().expect("the client");
    }
}

/// What a server sends behind a client's close frame: 12 messages, a ping, and its close frame.
fn servers_late() -> Vec<u8> {
    let many: Vec<u8> = (0..10).flat_map(|number| [&b"\x81\x06late "[..], &[b'0' + number]].concat()).collect();
    let large = [&b"\x82\x7f\x00\x00\x00\x00\x00\x01\x86\xa0"[..], &[7; 100_000]].concat();
    [&many[..], b"\x01\x02la", b"\x80\x02te", &large, b"\x89\x02hi", CLOSE, b"\x81\x08too late"].concat()
}

/// Plays the server: waits for the client's close frame, sends the rest, and receives the pong and FIN.
fn play_server(listener: &TcpListener) {
    let mut server = ServerEnd::accept(listener);
    assert_eq!(server.frames().len(), 1, "the close frame");
    server.send(&servers_late());
    let pong = server.expect_frame();
    assert_eq!((pong.opcode, &pong.payload[..]), (Opcode::Pong, &b"hi"[..]));
    // RFC 6455 7.1.1: the server closes TCP first.
    server.stream.shutdown(Shutdown::Write).expect("FIN");
    assert_eq!(server.frame(), None);
}

/// Returns how many messages a client of this kind receives after its own close frame.
fn received_after_close(kind: &str, config: Config) -> usize {
    let (listener, url) = listen();
    let server = thread::spawn(move || play_server(&listener));
    let builder = || Client::builder().no_proxy().config(config.clone());
    let closed = "the closing handshake begins";
    let count = match kind {
        "client" | "pool" => {
            let pool = ClientPool::new(1, config.clone()).expect("a pool");
            let builder = if kind == "pool" { Client::builder().no_proxy().pool(&pool) } else { builder() };
            let client = builder.connect(&url).expect("connected");
            client.close(CloseCode::NORMAL_CLOSURE, "").expect(closed);
            client.iter().inspect(|message| assert!(message.is_ok(), "{message:?}")).count()
        }
        "reconnecting" => {
            let client = builder().reconnect(&url, Reconnect::new()).expect("a client");
            client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
            client.close(CloseCode::NORMAL_CLOSURE, "").expect(closed);
            client.iter().inspect(|message| assert!(message.is_ok(), "{message:?}")).count()
        }
        "inline" => {
            let mut client_loop = ClientLoop::new(config.clone()).expect("a loop");
            let peer = builder().connect_inline(&url, &mut client_loop).expect("connected");
            peer.close(CloseCode::NORMAL_CLOSURE, "").expect(closed);
            let mut count = 0;
            client_loop.run(|event| count += usize::from(matches!(event, EventRef::Message(..)))).expect("polls");
            count
        }
        _ => {
            let stream = TcpStream::connect(url.trim_start_matches("ws://").trim_end_matches('/')).expect("connected");
            let request = threadbare::ClientRequest::new(threadbare::Url::parse(&url).expect("a URL"));
            let mut socket = WebSocket::connect_with(request, stream, &config).expect("connected");
            socket.close(CloseCode::NORMAL_CLOSURE, "").expect(closed);
            socket.iter().inspect(|message| assert!(message.is_ok(), "{message:?}")).count()
        }
    };
    server.join().expect("the server");
    count
}

#[test]
fn a_client_receives_after_its_own_close_frame_unless_it_is_told_not_to() {
    for kind in ["client", "pool", "reconnecting", "inline", "blocking"] {
        assert_eq!(received_after_close(kind, Config::default()), 12, "{kind}");
        assert_eq!(received_after_close(kind, delivering()), 12, "{kind}");
        assert_eq!(received_after_close(kind, Config::default().after_close(AfterClose::Discard)), 0, "{kind}");
    }
}

/// Asserts that the client neither sends more nor closes TCP before this end does, and that it closes then.
fn expect_open_until_fin(mut end: ServerEnd) {
    // A closed socket would answer this with RST.
    end.send(b"\x81\x04late");
    end.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
    let read = end.stream.read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(read, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "the client closed first: {read:?}");
    end.stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    end.stream.shutdown(Shutdown::Write).expect("FIN");
    assert_eq!(end.frame(), None);
}

/// RFC 6455 7.1.1: "in most cases the server should close first, and the client should wait for the server".
#[test]
fn a_client_keeps_tcp_open_until_the_server_closes_it() {
    let config = Config::default().close_timeout(DEADLINE);
    for kind in ["client", "reconnecting", "inline"] {
        for server_begins in [false, true] {
            let (listener, url) = listen();
            let (tell, told) = channel::<()>();
            let server = thread::spawn(move || {
                let mut end = ServerEnd::accept(&listener);
                if server_begins {
                    end.send(CLOSE);
                }
                assert_eq!(end.frames().len(), 1, "the close frame");
                if !server_begins {
                    end.send(CLOSE);
                }
                // Either is told when the closing handshake is complete; a reconnecting client when TCP is closed.
                if kind != "reconnecting" {
                    told.recv_timeout(DEADLINE).expect("the application is told");
                }
                expect_open_until_fin(end);
            });
            let builder = Client::builder().no_proxy().config(config.clone());
            match kind {
                "client" => {
                    let client = builder.connect(&url).expect("connected");
                    if !server_begins {
                        client.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
                    }
                    assert_eq!(client.recv().expect("a clean end"), None);
                    tell.send(()).expect("the server waits");
                    drop(client); // waits for the end
                }
                "reconnecting" => {
                    let client = builder.reconnect(&url, Reconnect::new()).expect("a client");
                    if !server_begins {
                        client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
                        client.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
                    }
                    assert_eq!(client.recv().expect("a clean end"), None);
                }
                _ => {
                    let mut client_loop = ClientLoop::new(config.clone()).expect("a loop");
                    let peer = builder.connect_inline(&url, &mut client_loop).expect("connected");
                    if !server_begins {
                        peer.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
                    }
                    client_loop
                        .run(|event| {
                            if let EventRef::Close(_, reason) = event {
                                assert!(reason.is_clean());
                                tell.send(()).expect("the server waits");
                            }
                        })
                        .expect("polls");
                }
            }
            server.join().expect("the server");
        }
    }
}

const ANSWERS: usize = 1_000;

fn is_number(number: usize, message: &Message) -> bool {
    message.as_text() == Some(&number.to_string())
}

#[test]
fn a_reconnecting_client_that_sends_and_closes_gets_every_answer() {
    let server = echo_server(Server::builder());
    for connected in [true, false] {
        let client = reconnecting(&format!("ws://{}", server.addr));
        if connected {
            client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
        }
        for number in 0..ANSWERS {
            client.send(number.to_string()).expect("sent or queued");
        }
        if !connected {
            // A close gives up what is in the outbox.
            client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
            common::eventually("the outbox is sent", || client.queued_bytes() == 0);
        }
        client.close(CloseCode::NORMAL_CLOSURE, "").expect("the closing handshake begins");
        let mut count = 0;
        for message in &client {
            assert!(is_number(count, &message.expect("a clean end")), "message {count}");
            count += 1;
        }
        assert_eq!(count, ANSWERS, "connected: {connected}");
    }
}

#[test]
fn a_client_of_a_loop_that_sends_and_closes_gets_every_answer() {
    let server = echo_server(Server::builder());
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    let builder = Client::builder().no_proxy();
    let peer = builder.connect_inline(&format!("ws://{}", server.addr), &mut client_loop).expect("connected");
    for number in 0..ANSWERS {
        peer.send(number.to_string()).expect("sent");
    }
    peer.close(CloseCode::NORMAL_CLOSURE, "").expect("the closing handshake begins");
    let (mut count, mut ended) = (0, None);
    client_loop
        .run(|event| match event {
            EventRef::Message(_, message) => {
                assert!(is_number(count, &message.into_message()), "message {count}");
                count += 1;
            }
            EventRef::Close(_, reason) => ended = Some((reason.code, reason.cause)),
            _ => {}
        })
        .expect("polls");
    assert_eq!((count, ended), (ANSWERS, Some((CloseCode::NORMAL_CLOSURE, CloseCause::Local))));
}

fn reconnecting(url: &str) -> ReconnectingClient {
    Client::builder().no_proxy().reconnect(url, Reconnect::new()).expect("a client")
}

/// Asserts that every way to send is refused at once.
macro_rules! refuses_all {
    ($sender:expr, $what:expr) => {{
        let (sender, what, prepared) = (&$sender, $what, Prepared::new("late"));
        let (soon, long) = (Duration::from_secs(3600), || vec![7; 100_000]);
        let start = Instant::now();
        assert!(sender.send("late").is_err() && sender.send(long()).is_err(), "{what}");
        assert!(sender.send(Message::Ping(Vec::new())).is_err() && sender.send(Message::Pong(Vec::new())).is_err());
        assert!(sender.send(Message::Close(None)).is_err(), "{what}");
        assert!(sender.send_with("late", Compression::Never).is_err(), "{what}");
        assert!(sender.try_send("late").is_err() && sender.try_send(long()).is_err(), "{what}");
        assert!(sender.send_timeout("late", soon).is_err(), "{what}");
        assert!(sender.send_deadline(long(), start + soon).is_err(), "{what}");
        assert!(sender.send_prepared(&prepared).is_err() && sender.try_send_prepared(&prepared).is_err(), "{what}");
        assert!(sender.send_prepared_timeout(&prepared, soon).is_err(), "{what}");
        assert!(sender.send_prepared_deadline(&prepared, start + soon).is_err(), "{what}");
        assert!(sender.close(CloseCode::NORMAL_CLOSURE, "").is_err(), "{what}");
        assert!(start.elapsed() < DEADLINE, "{what}");
    }};
}

#[test]
fn a_client_sends_nothing_behind_its_own_close() {
    let (listener, url) = listen();
    // It answers no close frame, so that no client learns of an end.
    let server = thread::spawn(move || (0..6).map(|_| ServerEnd::accept(&listener)).collect::<Vec<_>>());
    let config = Config::default().close_timeout(Duration::from_millis(500)).drop_timeout(Duration::ZERO);
    let builder = || Client::builder().no_proxy().config(config.clone());
    let code = CloseCode(4000);

    let client = builder().connect(&url).expect("connected");
    client.close(code, "").expect("open");
    refuses_all!(client, "a client");
    refuses_all!(client.peer(), "its handle");
    assert!(client.ping(b"").is_err() && !client.is_open());

    let other = builder().connect(&url).expect("connected");
    other.send(Message::Close(None)).expect("open");
    refuses_all!(other, "a client that sent a close message");

    let connected = builder().reconnect(&url, Reconnect::new()).expect("a client");
    connected.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
    connected.close(code, "").expect("open");
    refuses_all!(connected, "a reconnecting client");
    refuses_all!(connected.sender(), "its sender");

    let by_sender = builder().reconnect(&url, Reconnect::new()).expect("a client");
    by_sender.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
    by_sender.sender().send_prepared(&Prepared::new(Message::Close(None))).expect("open");
    refuses_all!(by_sender, "a reconnecting client whose sender closed");

    let mut client_loop = ClientLoop::new(config.clone()).expect("a loop");
    let inline = builder().connect_inline(&url, &mut client_loop).expect("connected");
    inline.close(code, "").expect("open");
    refuses_all!(inline, "a client of a loop, before a poll");
    client_loop.poll(Duration::ZERO, |_| {}).expect("a poll");
    refuses_all!(inline, "a client of a loop, after a poll");

    let stream = TcpStream::connect(url.trim_start_matches("ws://").trim_end_matches('/')).expect("connected");
    let mut socket = WebSocket::connect(&url, stream).expect("connected");
    socket.close(code, "").expect("open");
    assert!(socket.send("late").is_err() && socket.send(vec![7; 100_000]).is_err());
    assert!(socket.send(Message::Ping(Vec::new())).is_err());
    assert!(socket.send_with("late", Compression::Never).is_err() && socket.close(code, "").is_err());

    drop((client, other, connected, by_sender, client_loop, socket));
    for mut end in server.join().expect("the server") {
        assert_eq!(end.frames().len(), 1, "nothing but one close frame");
        match end.stream.read(&mut [0]) {
            Ok(size) => assert_eq!(size, 0, "nothing behind it"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn a_reconnecting_client_sends_nothing_behind_its_own_close_without_a_connection() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let client = reconnecting(&format!("ws://{nobody}/"));
    client.send("queued").expect("room");
    client.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
    refuses_all!(client, "a reconnecting client");
    refuses_all!(client.sender(), "its sender");
    assert_eq!(client.take_queued(), ["queued".into()]);
}

#[test]
fn a_server_sends_nothing_behind_its_own_close() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let (mut client, peer) = common::open_with_peer(&server);
    peer.close(CloseCode(4000), "").expect("open");
    refuses_all!(peer, "a peer");
    client.answer_close(4000);
}

#[test]
fn an_event_loop_sends_nothing_behind_a_close_in_its_callback() {
    let mut event_loop = Server::builder().bind_inline("127.0.0.1:0").expect("a server");
    let addr = event_loop.local_addr();
    let client = thread::spawn(move || {
        let mut client = Raw::open(addr);
        client.send(&[text("close"), text("late"), text("late")].concat());
        client.answer_close(4000);
    });
    let mut kept = None;
    let mut ended = false;
    let start = Instant::now();
    while !ended {
        assert!(start.elapsed() < DEADLINE, "timed out");
        let on_event = |event: EventRef<'_>| match event {
            EventRef::Message(peer, message) if message.as_message().as_text() == Some("close") => {
                peer.close(CloseCode(4000), "").expect("open");
                refuses_all!(*peer, "in the callback");
                kept = Some(peer.clone());
            }
            EventRef::Message(peer, _) => refuses_all!(*peer, "in a later callback"),
            EventRef::Close(..) => ended = true,
            _ => {}
        };
        event_loop.poll(DEADLINE, on_event).expect("a poll");
        if let Some(peer) = &kept {
            refuses_all!(*peer, "between two polls");
        }
    }
    event_loop.shutdown(DEADLINE);
    client.join().expect("the client");
}

/// A handler that closes when it gets a message, in one of several ways.
struct Closes {
    way: String,
    kept: Option<Peer>,
    done: std::sync::mpsc::Sender<()>,
}

impl Handler for Closes {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        if self.way.starts_with("/kept") {
            self.kept = Some(socket.peer());
        }
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, _: MessageRef<'_>) {
        let code = CloseCode(4000);
        match self.way.as_str() {
            "/socket" | "/kept" => socket.close(code, "").expect("open"),
            "/message" => assert!(socket.send(Message::Close(None))),
            "/kept/handle" => self.kept.as_ref().expect("kept").close(code, "").expect("open"),
            _ => socket.peer().close(code, "").expect("open"),
        }
        self.check(socket);
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, _: &CloseReason) {
        self.check(socket);
        let _ = self.done.send(()); // a test that failed no longer waits
    }
}

impl Closes {
    fn check(&mut self, socket: &mut Socket<'_>) {
        assert!(!socket.send("late") && !socket.send(vec![7; 100_000]) && !socket.send(Message::Close(None)));
        assert!(!socket.send_with("late", Compression::Never) && !socket.send_prepared(&Prepared::new("late")));
        assert!(!socket.send(Message::Pong(Vec::new())) && socket.ping(b"").is_err());
        assert!(socket.close(CloseCode::NORMAL_CLOSURE, "").is_err());
        if let Some(kept) = &self.kept {
            refuses_all!(*kept, "a handle that was kept");
        }
        refuses_all!(socket.peer(), "a handle that is made now");
    }
}

#[test]
fn a_handler_sends_nothing_behind_a_close() {
    let (done, closed) = channel();
    let server = Server::builder().workers(1).serve("127.0.0.1:0", move |request| Closes {
        way: request.path().to_owned(),
        kept: None,
        done: done.clone(),
    });
    let server = server.expect("a server");
    for way in ["/socket", "/message", "/handle", "/kept", "/kept/handle"] {
        let mut client = Raw::open_with(server.local_addr(), way, "");
        client.send(&text("now"));
        let code = if way == "/message" { 1005 } else { 4000 };
        client.answer_close(code);
        closed.recv_timeout(DEADLINE).expect("told the end");
    }
    // The peer's close: nothing can be sent in `on_close`.
    for way in ["/", "/kept"] {
        let mut client = Raw::open_with(server.local_addr(), way, "");
        client.send(&close(1000));
        client.expect_close(1000);
        closed.recv_timeout(DEADLINE).expect("told the end");
    }
}
