//! Values of the application that panic as they are dropped: the payload of a panic, data of a connection, hooks.

mod common;

use std::io::{self, Read};
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::time::Duration;

use common::app::panic_quietly;
use common::logged::expect_error;
use common::{Client, Frame, accept, close, eventually, request, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Accept, Draining, Handler, MessageRef, Reconnect, Response, Server, ServerBuilder, ShutdownReport, Socket,
    StreamOptions,
};

/// Panics as it is dropped, and so does the payload of that panic.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        resume_unwind(Box::new(Bomb));
    }
}

/// Panics when it is told to; otherwise echoes.
struct Bomber;

impl Handler for Bomber {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        if message.as_text() == Some("bomb") {
            resume_unwind(Box::new(Bomb));
        }
        socket.send(message);
    }
}

/// A server with a reactor of its own, and one without.
fn servers() -> impl Iterator<Item = ServerBuilder> {
    [1, 2].into_iter().map(|workers| Server::builder().workers(workers))
}

#[test]
fn r_04_a_payload_that_panics_as_it_is_dropped_closes_its_connection_only() {
    let _expected = expect_error("a callback panicked");
    for builder in servers() {
        let server = builder.serve("127.0.0.1:0", |_| Bomber).expect("a server");
        let mut others: Vec<_> = (0..4).map(|_| Client::open(server.local_addr())).collect();
        for _ in 0..4 {
            let mut client = Client::open(server.local_addr());
            client.send(&text("bomb"));
            client.expect_close(1011);
        }
        others.push(Client::open(server.local_addr()));
        for client in &mut others {
            client.send(&text("still there"));
            assert_eq!(client.expect_frame(), Frame::text("still there"));
            client.send(&close(1000));
            client.expect_close(1000);
        }
        assert_eq!(server.handle().failed_threads(), 0);
        eventually("all connections are removed", || server.handle().connections() == 0);
        assert_eq!(server.shutdown(Duration::from_secs(10)), ShutdownReport::default());
    }
}

/// A source without an end, which tells when it is dropped.
struct Endless(#[expect(dead_code, reason = "it is dropped")] mpsc::Sender<()>);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }
}

/// Sends a message without an end, and another behind it, and panics at the next message.
struct Streams(Option<mpsc::Sender<()>>);

impl Handler for Streams {
    fn on_message(&mut self, socket: &mut Socket<'_>, _: MessageRef<'_>) {
        let Some(dropped) = self.0.take() else { resume_unwind(Box::new("in the middle of a message")) };
        assert!(socket.send_stream(Endless(dropped.clone()), StreamOptions::binary()));
        assert!(socket.send("behind"));
        assert!(socket.send_stream(Endless(dropped), StreamOptions::binary()));
    }
}

#[test]
fn r_04_a_panic_ends_the_messages_that_are_sent_in_parts() {
    let _expected = expect_error("a callback panicked");
    for builder in servers() {
        let (sender, dropped) = mpsc::channel();
        let server = builder.serve("127.0.0.1:0", move |_| Streams(Some(sender.clone()))).expect("a server");
        let mut client = Client::open(server.local_addr());
        client.send(&text("go"));
        assert_eq!(client.expect_frame().opcode, Opcode::Binary);
        client.send(&text("panic"));
        let last = loop {
            let frame = client.expect_frame();
            if frame.opcode != Opcode::Continuation {
                break frame;
            }
            assert!(!frame.fin);
        };
        assert_eq!(last.close_code(), 1011);
        client.wait_for_end();
        drop(client);
        let handle = server.handle();
        drop(server);
        assert_eq!(dropped.recv_timeout(common::DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected));
        eventually("no memory is taken", || handle.memory() == 0);
    }
}

#[test]
fn r_04_a_payload_of_a_hook_that_panics_as_it_is_dropped_is_answered_500() {
    let _expected = expect_error("a handshake hook panicked");
    let refused = |addr| {
        let mut client = Client::tcp(addr);
        client.send(request("/", "").as_bytes());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 500"), "{head}");
    };
    for builder in servers() {
        let builder = builder.on_request(|_| resume_unwind(Box::new(Bomb)));
        let server = builder.serve("127.0.0.1:0", |_| Bomber).expect("a server");
        (0..3).for_each(|_| refused(server.local_addr()));
        assert_eq!(server.handle().failed_threads(), 0);
    }
    for builder in servers() {
        let builder = builder.on_request_deferred(|_, _pending| resume_unwind(Box::new(Bomb)));
        let server = builder.bind("127.0.0.1:0").expect("a server");
        (0..3).for_each(|_| refused(server.local_addr()));
        assert_eq!(server.handle().failed_threads(), 0);
    }
    for builder in servers() {
        let make = |_: &_| -> Bomber { resume_unwind(Box::new(Bomb)) };
        let server = builder.serve("127.0.0.1:0", make).expect("a server");
        (0..3).for_each(|_| refused(server.local_addr()));
        assert_eq!(server.handle().failed_threads(), 0);
    }
}

/// Data of `Accept::data` and of `Peer::set_data`, whichever thread has the last handle to it.
#[test]
fn r_04_data_that_panics_as_it_is_dropped_affects_no_other_connection() {
    let _expected = expect_error("panicked as it was dropped").or_nothing();
    struct SetsData;
    impl Handler for SetsData {
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            assert!(socket.peer().set_data(Bomb).is_ok());
        }

        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            socket.send(message);
        }
    }
    let come_and_go = |addr, other: &mut Client| {
        for _ in 0..4 {
            let mut client = Client::open(addr);
            client.send(&close(1000));
            client.expect_close(1000);
            Client::open(addr).reset();
            other.send(&text("still there"));
            assert_eq!(other.expect_frame(), Frame::text("still there"));
        }
    };
    for builder in servers() {
        let builder = builder.on_request(|_| Ok(Accept::new().data(Bomb)));
        let server = builder.serve("127.0.0.1:0", |_| SetsData).expect("a server");
        let mut other = Client::open(server.local_addr());
        come_and_go(server.local_addr(), &mut other);
        eventually("one connection is left", || server.handle().connections() == 1);
        assert_eq!(server.handle().failed_threads(), 0);
    }
    for builder in servers() {
        let builder = builder.on_request(|_| Ok(Accept::new().data(Bomb)));
        let mut server = builder.bind("127.0.0.1:0").expect("a server");
        let events = server.take_events().remove(0);
        let receiver = std::thread::spawn(move || {
            for event in &events {
                match event {
                    threadbare::Event::Open(peer, _) => assert!(peer.set_data(Bomb).is_ok()),
                    threadbare::Event::Message(peer, message) => drop(peer.send(message)),
                    _ => {}
                }
            }
        });
        let mut other = Client::open(server.local_addr());
        come_and_go(server.local_addr(), &mut other);
        eventually("one connection is left", || server.handle().connections() == 1);
        assert_eq!(server.handle().failed_threads(), 0);
        drop(other);
        drop(server);
        receiver.join().expect("no panic in the application");
    }
    // Nobody receives the events, which have the data as well.
    for builder in servers() {
        let builder = builder.on_request(|_| Ok(Accept::new().data(Bomb)));
        let mut server = builder.channels(2).bind("127.0.0.1:0").expect("a server");
        let _kept = server.take_events().remove(0);
        let mut clients: Vec<_> = (0..6).map(|_| Client::tcp(server.local_addr())).collect();
        clients.iter_mut().for_each(|client| client.send(request("/", "").as_bytes()));
        clients.iter_mut().for_each(|client| drop(client.head()));
        assert_eq!(server.handle().failed_threads(), 0);
    }
}

/// Two panics in one drop would abort the process.
#[test]
fn r_04_a_server_ends_whose_hooks_all_panic_as_they_are_dropped() {
    let _expected = expect_error("panicked as it was dropped");
    for builder in servers() {
        let (one, two, three) = (Bomb, Bomb, Bomb);
        let builder = builder.on_request(move |_| {
            let _one = &one;
            Ok(Accept::new())
        });
        let builder = builder.http(move |_| {
            let _two = &two;
            Response::new(404)
        });
        let make = move |_: &_| {
            let _three = &three;
            Bomber
        };
        let server = builder.serve("127.0.0.1:0", make).expect("a server");
        let mut client = Client::open(server.local_addr());
        client.send(&close(1000));
        client.expect_close(1000);
        eventually("all connections are removed", || server.handle().connections() == 0);
        assert_eq!(server.shutdown(Duration::from_secs(10)), ShutdownReport::default());
    }
}

#[test]
fn r_04_a_reconnecting_client_ends_whose_hook_panics_with_such_a_payload() {
    let _expected = expect_error("a hook of a reconnecting client panicked");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let mut stream = accept(&listener, b"");
        // The first bytes of a masked close frame with "internal error".
        let mut received = [0; 2];
        stream.read_exact(&mut received).expect("a close frame");
        assert_eq!(received, [0x88, 0x80 | 16]);
    });
    let settings = Reconnect::new().on_connect(|_| resume_unwind(Box::new(Bomb)));
    let client = threadbare::Client::builder().no_proxy().reconnect(&url, settings).expect("a client");
    assert!(client.recv().is_err(), "it has ended");
    server.join().expect("a close frame with 1011");
}

#[test]
fn r_04_an_event_loop_goes_on_after_such_a_panic() {
    let mut event_loop = Server::builder().bind_inline("127.0.0.1:0").expect("a server");
    let mut client = Client::tcp(event_loop.local_addr());
    client.send(request("/", "").as_bytes());
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event_loop.run(|_| panic_quietly())));
    assert!(polled.is_err(), "the panic passes to the caller");
    assert_eq!(event_loop.handle().connections(), 1);
}

/// The messages before came in the same read, and were answered. What breaks the protocol does not undo that either.
#[test]
fn r_04_the_answers_before_a_panic_are_sent() {
    let _expected = expect_error("a callback panicked");
    for builder in servers() {
        let server = builder.serve("127.0.0.1:0", |_| Bomber).expect("a server");
        let mut client = Client::open(server.local_addr());
        let messages: Vec<u8> = (0..5).flat_map(|number| text(&format!("message {number}"))).collect();
        client.send(&[messages, text("bomb")].concat());
        for number in 0..5 {
            assert_eq!(client.expect_frame(), Frame::text(&format!("message {number}")));
        }
        client.expect_close(1011);
        assert_eq!(server.handle().failed_threads(), 0);
    }
}

/// A large answer is not copied, but written from the buffer of the read. That is gone after a panic, and nothing else
/// may be sent in its place.
#[test]
fn r_04_a_large_answer_before_a_panic_is_whole_or_missing() {
    let _expected = expect_error("a callback panicked");
    for builder in servers() {
        let server = builder.serve("127.0.0.1:0", |_| Bomber).expect("a server");
        for size in [20_000, 60_000] {
            let large = "x".repeat(size);
            let mut client = Client::open(server.local_addr());
            client.send(&[text("small"), text(&large), text("bomb")].concat());
            let mut frames = std::iter::from_fn(|| Some(client.expect_frame()));
            let close = frames.find(|frame| {
                let is_answer = *frame == Frame::text("small") || *frame == Frame::text(&large);
                assert!(is_answer || frame.opcode == Opcode::Close, "{} bytes", frame.payload.len());
                !is_answer
            });
            assert_eq!(close.expect("a close frame").close_code(), 1011);
        }
        assert_eq!(server.handle().failed_threads(), 0);
    }
}

/// Panics when it is told of a drain, if its client has asked for that.
#[derive(Default)]
struct PanicsInDrain(bool);

impl Handler for PanicsInDrain {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        self.0 = true;
        socket.send(message);
    }

    fn on_drain(&mut self, _: &mut Socket<'_>, _: Draining) {
        if self.0 {
            panic_quietly();
        }
    }
}

#[test]
fn r_04_a_panic_as_a_drain_begins_closes_its_connection_only() {
    let _expected = expect_error("a callback panicked");
    for builder in servers() {
        let server = builder.serve("127.0.0.1:0", |_| PanicsInDrain::default()).expect("a server");
        let mut clients: Vec<_> = (0..4).map(|_| Client::open(server.local_addr())).collect();
        clients[1].send(&text("panic"));
        assert_eq!(clients[1].expect_frame(), Frame::text("panic"));
        eventually("all are established", || server.stats().traffic.opened == 4);
        let clients: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| {
                let code = if number == 1 { 1011 } else { 1012 };
                std::thread::spawn(move || {
                    assert_eq!(client.expect_frame().close_code(), code);
                    client.send(&close(code));
                    client.wait_for_end();
                })
            })
            .collect();
        let report = server.drain(Duration::from_secs(4));
        clients.into_iter().for_each(|client| client.join().expect("closed"));
        assert_eq!((report.left, report.idle, report.cut), (1, 3, 0), "{report}");
    }
}
