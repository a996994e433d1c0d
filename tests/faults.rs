//! Connections that end abnormally, and applications that panic.

mod common;

use std::net::Shutdown;

use common::app::{App, AppEvent, panic_quietly, texts};
use common::logged::expect_error;
use common::servers::Mode;
use common::{Client, Frame, close, eventually, masked, ping, serialize_test, server_threads, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{CloseCause, CloseReason, Handler, MessageRef, Server, ServerBuilder, Socket};

/// The bytes of a session, and its messages with the offsets at which they are complete.
fn session() -> (Vec<u8>, Vec<(usize, &'static str)>) {
    let mut bytes = Vec::new();
    let mut complete = Vec::new();
    for message in ["one", "", "three is longer"] {
        bytes.extend(text(message));
        complete.push((bytes.len(), message));
    }
    bytes.extend(ping(b"are you there"));
    bytes.extend(masked(false, 0, Opcode::Text, b"fr"));
    bytes.extend(masked(true, 0, Opcode::Pong, b""));
    bytes.extend(masked(true, 0, Opcode::Continuation, b"agments"));
    complete.push((bytes.len(), "fragments"));
    bytes.extend(close(1000));
    (bytes, complete)
}

/// Ends the session at every offset by `disconnect`. With `exact`, the application receives every message that was
/// complete; otherwise the last ones may be missing.
fn disconnect_at_every_offset(disconnect: impl Fn(Client), exact: bool) {
    let (bytes, complete) = session();
    assert!((90..=110).contains(&bytes.len()), "{}", bytes.len());
    for mode in Mode::ALL {
        for at in 0..=bytes.len() {
            let app = App::echo(mode);
            let mut client = Client::open(app.addr);
            client.send(&bytes[..at]);
            disconnect(client);
            let reason = app.closed();
            match reason.cause {
                CloseCause::Peer => assert_eq!((at, reason.code.0), (bytes.len(), 1000), "{mode:?}"),
                cause => {
                    assert_eq!((cause, reason.code.0), (CloseCause::Lost, 1006), "{mode:?} at {at}");
                    // A reset may be seen by a write, for which the system has other words.
                    let fin = "the peer closed TCP without a close frame";
                    assert_eq!(reason.reason == fin, exact, "{}", reason.reason);
                    assert!(!reason.reason.is_empty());
                }
            }
            let expected: Vec<_> = complete.iter().filter(|(end, _)| *end <= at).map(|(_, message)| *message).collect();
            let history = app.finish();
            let received = texts(&history);
            if exact {
                assert_eq!(received, expected, "{mode:?} at {at}");
            } else {
                assert!(expected.starts_with(&received), "{mode:?} at {at}: {received:?}");
            }
        }
    }
}

#[test]
fn r_02_fin_at_any_offset_delivers_every_complete_message() {
    let _guard = serialize_test();
    disconnect_at_every_offset(
        |mut client| {
            client.stream.shutdown(Shutdown::Write).expect("a socket");
            client.wait_for_end();
        },
        true,
    );
}

#[test]
fn r_02_rst_at_any_offset_delivers_complete_messages_only() {
    let _guard = serialize_test();
    disconnect_at_every_offset(Client::reset, false);
}

#[test]
fn r_02_rst_or_fin_while_the_server_writes_ends_with_1006() {
    let _guard = serialize_test();
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(1), |connection, message| {
            for _ in 0..100 {
                connection.send(message);
            }
        });
        for round in 0..20 {
            let mut client = Client::open(app.addr);
            for _ in 0..5 {
                client.send(&masked(true, 0, Opcode::Binary, &[0; 10_000]));
            }
            if round % 2 == 0 {
                client.reset();
            } else {
                drop(client);
            }
            app.expect_closed(1006, CloseCause::Lost);
        }
        app.finish();
    }
}

/// A handler that panics in the callback that its path names.
struct Panicking {
    at: &'static str,
}

impl Panicking {
    fn at(&self, place: &str) {
        if self.at == place {
            panic_quietly();
        }
    }
}

impl Handler for Panicking {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.at("open");
        socket.send("hello");
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        self.at("message");
        socket.send(message);
        self.at("after the answer");
    }

    fn on_ping(&mut self, _: &mut Socket<'_>, _: &[u8]) {
        self.at("ping");
    }

    fn on_pong(&mut self, _: &mut Socket<'_>, _: &[u8]) {
        self.at("pong");
    }

    fn on_close(&mut self, _: &mut Socket<'_>, _: &CloseReason) {
        self.at("close");
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        self.at("drop");
    }
}

fn panicking_server(builder: ServerBuilder) -> Server {
    let places = ["open", "message", "after the answer", "ping", "pong", "close", "drop"];
    let make = move |request: &threadbare::Request| {
        let at = places.into_iter().find(|place| request.path()[1..] == place.replace(' ', "-")).unwrap_or("nowhere");
        Panicking { at }
    };
    builder.serve("127.0.0.1:0", make).expect("a server")
}

#[test]
fn r_04_a_panic_closes_its_connection_with_1011() {
    let _expected = expect_error("a callback panicked");
    let _guard = serialize_test();
    let server = panicking_server(Server::builder().workers(2));
    for place in ["open", "message", "after-the-answer", "ping", "pong"] {
        let mut client = Client::open_with(server.local_addr(), &format!("/{place}"), "");
        if place != "open" {
            assert_eq!(client.expect_frame(), Frame::text("hello"));
            client.send(&match place {
                "ping" => ping(b""),
                "pong" => masked(true, 0, Opcode::Pong, b""),
                _ => text("go"),
            });
        }
        loop {
            let frame = client.expect_frame();
            if frame.opcode == Opcode::Close {
                assert_eq!(frame.close_code(), 1011, "{place}");
                break;
            }
        }
        assert_eq!(client.frame(), None, "{place}");
    }
    drop(server);
}

/// `on_close` is called before the close frame is sent, whose code can therefore still become 1011.
#[test]
fn r_04_a_panic_in_on_close_closes_with_1011() {
    let _expected = expect_error("a callback panicked");
    let _guard = serialize_test();
    let server = panicking_server(Server::builder().workers(2));
    for end in [close(1000), b"\xff\xff".to_vec()] {
        let mut client = Client::open_with(server.local_addr(), "/close", "");
        assert_eq!(client.expect_frame(), Frame::text("hello"));
        client.send(&end);
        client.expect_close(1011);
    }
    // After a reset no close frame can be sent.
    Client::open_with(server.local_addr(), "/close", "").reset();
    eventually("all connections are removed", || server.handle().connections() == 0);
}

#[test]
fn r_04_a_panic_in_drop_does_not_change_the_close_code() {
    let _expected = expect_error("a handler panicked as it was dropped");
    let _guard = serialize_test();
    let server = panicking_server(Server::builder().workers(2));
    let mut client = Client::open_with(server.local_addr(), "/drop", "");
    assert_eq!(client.expect_frame(), Frame::text("hello"));
    client.send(&[text("before"), close(1000)].concat());
    assert_eq!(client.expect_frame(), Frame::text("before"));
    client.expect_close(1000);
    drop(client);
    Client::open_with(server.local_addr(), "/drop", "").reset();
    eventually("all connections are removed", || server.handle().connections() == 0);
}

/// The handler is dropped because of its panic, and panics again.
#[test]
fn r_04_a_panic_in_drop_after_a_panic_closes_with_1011() {
    let _first = expect_error("a callback panicked");
    let _second = expect_error("and again");
    struct Twice;
    impl Handler for Twice {
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {
            panic_quietly();
        }
    }
    impl Drop for Twice {
        fn drop(&mut self) {
            panic_quietly();
        }
    }
    let _guard = serialize_test();
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| Twice).expect("a server");
    for _ in 0..3 {
        let mut client = Client::open(server.local_addr());
        client.send(&text("go"));
        client.expect_close(1011);
    }
    eventually("all connections are removed", || server.handle().connections() == 0);
}

#[test]
fn r_04_panics_of_ten_handlers_leave_ninety_connections_open() {
    let _guard = serialize_test();
    // With two workers there is a reactor thread as well.
    for (workers, threads) in [(1, 1), (2, 3)] {
        // Only Linux lists the threads.
        ten_of_a_hundred_handlers_panic(workers, if cfg!(target_os = "linux") { threads } else { 0 });
    }
}

fn ten_of_a_hundred_handlers_panic(workers: usize, threads: usize) {
    let _first = expect_error("a callback panicked");
    let _second = expect_error("a handler panicked as it was dropped");
    let server = panicking_server(Server::builder().workers(workers));
    // A thread has its name once it runs.
    eventually("the server's threads run", || server_threads().len() == threads);
    let places = ["open", "message", "ping", "close", "drop"];
    let mut clients = Vec::new();
    for number in 0..100 {
        let place = if number % 10 == 0 { places[number / 10 % places.len()] } else { "nowhere" };
        clients.push((place, Client::open_with(server.local_addr(), &format!("/{place}"), "")));
    }
    for round in 0..5 {
        for (number, (place, client)) in clients.iter_mut().enumerate() {
            if round == 0 {
                match *place {
                    "nowhere" => {}
                    "open" => {
                        client.expect_close(1011);
                        continue;
                    }
                    "message" => client.send(&text("go")),
                    "ping" => client.send(&ping(b"go")),
                    _ => client.send(&close(1000)),
                }
                assert_eq!(client.expect_frame(), Frame::text("hello"));
            }
            if *place == "nowhere" {
                let message = format!("{round} from {number}");
                client.send(&text(&message));
                assert_eq!(client.expect_frame(), Frame::text(&message));
            }
        }
    }
    let (open, panicked): (Vec<_>, Vec<_>) = clients.into_iter().partition(|(place, _)| *place == "nowhere");
    assert_eq!(open.len(), 90);
    drop(panicked);
    eventually("the connections of the handlers that panicked are closed", || server.handle().connections() == 90);
    assert_eq!(server_threads().len(), threads, "no thread has ended, and none is new");
    drop(open);
}

/// The panic drops the server, which shuts down in order. Another server in the process is not affected.
#[test]
fn r_04_a_panic_of_the_receiving_thread_shuts_down_its_server() {
    let _guard = serialize_test();
    let app = App::echo(Mode::Channel);
    let mut other = Client::open(app.addr);
    let server = Server::bind("127.0.0.1:0").expect("a server");
    let mut client = Client::open(server.local_addr());
    let application = std::thread::spawn(move || {
        for event in &server {
            if let threadbare::Event::Open(..) = event {
                panic_quietly();
            }
        }
    });
    assert_eq!(client.expect_frame().close_code(), 1001);
    client.send(&close(1001));
    assert_eq!(client.frame(), None);
    application.join().expect_err("the thread panicked");
    other.send(&text("hello"));
    assert_eq!(other.expect_frame(), Frame::text("hello"));
    drop(other);
    assert!(matches!(app.finish()[..], [AppEvent::Open(_), AppEvent::Message(..), AppEvent::Close(..)]));
}
