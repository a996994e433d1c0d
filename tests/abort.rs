//! `abort`: the application drops a connection in a callback, and hears no more of it than that it has ended.

mod common;

use std::io::{ErrorKind, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use common::{Client, DEADLINE, Frame, binary, close, masked, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCause, CloseCode, CloseReason, ControlError, EventRef, Handler, MessageRef, Peer, Prepared, Server,
    ServerBuilder, Socket,
};

/// Drops its connection when it gets what `way` says, and tells the test what it is called with.
struct Aborts {
    way: String,
    /// A handle that the application has kept.
    kept: Option<Peer>,
    log: Sender<String>,
}

impl Aborts {
    fn tell(&self, what: impl Into<String>) {
        let _ = self.log.send(what.into()); // a test that failed no longer listens
    }

    /// Drops the connection in the way of the test, and finds that nothing more can be sent.
    fn abort(&mut self, socket: &mut Socket<'_>) {
        assert!(socket.send("discarded") || self.way == "in on_close");
        let handle = socket.peer();
        match self.way.as_str() {
            "through the handle" => handle.abort(),
            "after close" => {
                socket.close(CloseCode::NORMAL_CLOSURE, "").expect("it is open");
                socket.abort();
            }
            "after close through the handle" => {
                handle.close(CloseCode::NORMAL_CLOSURE, "").expect("it is open");
                handle.abort();
            }
            "twice" => {
                socket.abort();
                handle.abort();
                socket.abort();
            }
            _ => socket.abort(),
        }
        let prepared = Prepared::new("late");
        assert!(!socket.send("late") && !socket.send(vec![0; 100_000]) && !socket.send_prepared(&prepared));
        assert!(matches!(socket.ping(b"late"), Err(ControlError::Disconnected)));
        assert!(socket.close(CloseCode::NORMAL_CLOSURE, "late").is_err());
        for handle in [socket.peer(), self.kept.clone().unwrap_or(handle)] {
            assert!(handle.send("late").is_err() && handle.send_prepared(&prepared).is_err() && !handle.is_open());
            assert!(handle.ping(b"late").is_err() && handle.close(CloseCode::NORMAL_CLOSURE, "late").is_err());
        }
    }
}

impl Handler for Aborts {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        if self.way == "with a kept handle" {
            self.kept = Some(socket.peer());
        }
        if self.way == "in on_open" {
            self.abort(socket);
        }
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        let bytes = message.as_bytes();
        self.tell(String::from_utf8_lossy(&bytes[..bytes.len().min(5)]));
        if bytes.starts_with(b"abort") || bytes == b"Hello" {
            assert!(socket.send(message), "an answer that lies in the input");
            self.abort(socket);
        }
    }

    fn on_ping(&mut self, socket: &mut Socket<'_>, _: &[u8]) {
        self.tell("ping");
        if self.way == "in on_ping" {
            self.abort(socket);
        }
    }

    fn on_pong(&mut self, socket: &mut Socket<'_>, _: &[u8]) {
        self.tell("pong");
        if self.way == "in on_pong" {
            self.abort(socket);
        }
    }

    fn on_close(&mut self, socket: &mut Socket<'_>, reason: &CloseReason) {
        self.tell(format!("{} {:?}", reason.code.0, reason.cause));
        if self.way == "in on_close" {
            self.abort(socket);
        }
    }
}

/// The way is the path of the request.
fn serve(builder: ServerBuilder) -> (Server, Receiver<String>) {
    let (log, told) = channel();
    let server = builder.workers(1).serve("127.0.0.1:0", move |request| {
        let way = request.path()[1..].replace('-', " ");
        Aborts { way, kept: None, log: log.clone() }
    });
    (server.expect("a server"), told)
}

/// Sends bytes of which the server may not take all, receives nothing but a reset. The system reports that to the write
/// or to the read.
fn send_and_expect_reset(client: &mut Client, bytes: &[u8], what: &str) {
    let written = client.stream.write_all(bytes);
    match client.try_read() {
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}"),
        Ok(size) => assert!(size == 0 && written.is_err(), "{what}: {size} bytes after {written:?}"),
    }
}

/// Sends `bytes` on a connection of this way, and asserts what the handler is called with, before it is told the end.
fn check(builder: ServerBuilder, way: &str, extension: &str, bytes: &[u8], expected: &[&str]) {
    let (server, told) = serve(builder);
    let mut bystander = Client::open(server.local_addr());
    let what = format!("{way}, {} bytes", bytes.len());
    let mut client = Client::open_with(server.local_addr(), &format!("/{}", way.replace(' ', "-")), extension);
    send_and_expect_reset(&mut client, bytes, &what);
    for expected in expected {
        assert_eq!(told.recv_timeout(DEADLINE).as_deref(), Ok(*expected), "{what}");
    }
    let end = if way == "in on_close" { "1000 Peer" } else { "1006 Aborted" };
    assert_eq!(told.recv_timeout(DEADLINE).as_deref(), Ok(end), "{what}");
    bystander.send(&[text("abc"), ping(b"still here")].concat());
    assert_eq!(bystander.expect_frame(), Frame::pong(b"still here"), "{what}");
    drop((bystander, server));
    let rest: Vec<_> = told.iter().collect();
    assert!(rest[0] == "abc" && rest[1] == "ping" && rest.len() == 3, "{what}: {rest:?}");
}

fn late_messages() -> Vec<u8> {
    let fragments = [masked(false, 0, Opcode::Text, b"la"), masked(true, 0, Opcode::Continuation, b"te")].concat();
    [text("late"), binary(b"late"), text(&"late".repeat(10_000)), fragments, text("late")].concat()
}

/// What follows in the same read.
fn late() -> Vec<u8> {
    let control = [ping(b"late"), masked(true, 0, Opcode::Pong, b"late")].concat();
    [text("late"), control, late_messages(), close(1000)].concat()
}

#[test]
fn nothing_is_delivered_or_sent_after_an_abort_in_a_callback() {
    for way in [
        "by the socket",
        "through the handle",
        "with a kept handle",
        "after close",
        "after close through the handle",
        "twice",
    ] {
        check(Server::builder(), way, "", &[text("abort"), late()].concat(), &["abort"]);
    }
}

#[test]
fn an_abort_discards_answers_whatever_the_message_is_made_of() {
    let long = |size: usize| format!("abort{}", "x".repeat(size)).into_bytes();
    for size in [0, 200, 20_000, 100_000, 1_000_000] {
        check(Server::builder(), "whole", "", &[binary(&long(size)), late()].concat(), &["abort"]);
        let first = masked(false, 0, Opcode::Binary, b"ab");
        let between = masked(true, 0, Opcode::Pong, b"between");
        let last = masked(true, 0, Opcode::Continuation, &long(size)[2..]);
        check(Server::builder(), "fragments", "", &[first, between, last, late()].concat(), &["pong", "abort"]);
    }
}

#[test]
fn each_callback_may_abort() {
    check(Server::builder(), "in on_open", "", &late(), &[]);
    check(Server::builder(), "in on_ping", "", &[ping(b"now"), late()].concat(), &["ping"]);
    let pong = masked(true, 0, Opcode::Pong, b"now");
    check(Server::builder(), "in on_pong", "", &[pong, late()].concat(), &["pong"]);
    check(Server::builder(), "in on_close", "", &[close(1000), late()].concat(), &[]);
}

#[cfg(feature = "deflate")]
#[test]
fn nothing_is_delivered_or_sent_after_an_abort_with_compressed_messages() {
    let builder =
        || Server::builder().config(threadbare::Config::default().deflate(threadbare::DeflateConfig::default()));
    // RFC 7692 7.2.3.1: "Hello".
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let whole = masked(true, 0b100, Opcode::Text, &hello);
    let fragments =
        [masked(false, 0b100, Opcode::Text, &hello[..3]), masked(true, 0, Opcode::Continuation, &hello[3..])].concat();
    for hello in [&whole, &fragments] {
        let bytes = [&hello[..], &whole[..], &fragments[..], &late()[..]].concat();
        for way in ["by the socket", "through the handle"] {
            check(builder(), way, "Sec-WebSocket-Extensions: permessage-deflate\r\n", &bytes, &["Hello"]);
        }
    }
}

/// A handler that panics after it has dropped its connection changes nothing.
#[test]
fn an_abort_before_a_panic_is_an_abort() {
    let _panic = common::logged::expect_error("a callback panicked");
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| {
        |socket: &mut Socket<'_>, message: MessageRef<'_>| {
            socket.send(message);
            socket.abort();
            common::app::panic_quietly()
        }
    });
    let server = server.expect("a server");
    let mut client = Client::open(server.local_addr());
    send_and_expect_reset(&mut client, &[text("abort"), late()].concat(), "no close frame with 1011");
}

/// The events that one poll of an event loop has gathered are given to its callback one by one.
#[test]
fn an_event_loop_delivers_no_message_after_an_abort_in_its_callback() {
    for closes_first in [false, true] {
        let mut event_loop = Server::builder().bind_inline("127.0.0.1:0").expect("a server");
        let addr = event_loop.local_addr();
        let client = thread::spawn(move || {
            let mut client = Client::open(addr);
            send_and_expect_reset(&mut client, &[text("abort"), late_messages()].concat(), "in an event loop");
        });
        let (mut messages, mut ended) = (Vec::new(), None);
        let start = Instant::now();
        while ended.is_none() {
            assert!(start.elapsed() < DEADLINE, "timed out");
            let on_event = |event: EventRef<'_>| match event {
                EventRef::Message(peer, message) => {
                    messages.push(message.to_string());
                    if closes_first {
                        peer.close(CloseCode::NORMAL_CLOSURE, "").expect("it is open");
                    }
                    peer.abort();
                    assert!(peer.send("late").is_err() && peer.ping(b"late").is_err() && !peer.is_open());
                }
                EventRef::Close(_, reason) => ended = Some((reason.code, reason.cause)),
                _ => {}
            };
            event_loop.poll(DEADLINE, on_event).expect("a poll");
        }
        assert_eq!(messages, ["abort"]);
        client.join().expect("a reset");
        assert_eq!(ended, Some((CloseCode(1006), CloseCause::Aborted)));
    }
}
