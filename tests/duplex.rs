//! Full duplex: one direction is full, and the other one is used.

use crate::common;

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{DEADLINE, Frame, ping};
use threadbare::{Client, Config, Event, Message, Server, SlowConsumer, WebSocket};

/// The messages of one direction exceed the socket buffers of both ends.
const COUNT: u8 = 32;
const SIZE: usize = 1 << 20;

/// The server reads nothing until its own messages are sent. A client that did not read while its send queue is above the
/// high-water mark would deadlock with it.
#[test]
fn a_client_reads_while_its_send_queue_is_full() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let (start, started) = mpsc::channel();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut socket = WebSocket::accept(stream).expect("a handshake");
        let queued: usize = started.recv().expect("the client's send queue is full");
        for number in 0..COUNT {
            socket.send(vec![number; SIZE].as_slice()).expect("sent");
        }
        for _ in 0..queued {
            assert!(socket.recv().expect("received").is_some_and(|message| message.len() == SIZE));
        }
        assert_eq!(socket.recv().expect("a clean close"), None);
    });

    let config = Config::default().max_message_size(SIZE).write_timeout(DEADLINE);
    let client = Client::builder().no_proxy().config(config).connect(&url).expect("connected");
    let full = |count: &usize| client.send_timeout(vec![*count as u8; SIZE], Duration::from_millis(200)).is_err();
    let queued = (0..).find(full).expect("the server does not read");
    start.send(queued).expect("the server waits");
    for number in 0..COUNT {
        let message = client.recv_timeout(DEADLINE).expect("a message");
        assert!(message == Some(Message::Binary(vec![number; SIZE])), "message {number} differs");
    }
    client.finish(DEADLINE).expect("closed");
    server.join().expect("the server");
}

/// A server in channel mode whose senders wait reads while its send queue is full. It answers only the latest ping (RFC 6455 5.5.3), so that
/// the others use no memory.
#[test]
fn pongs_behind_a_full_send_queue_are_bounded() {
    const HIGH_WATER: usize = 1 << 20;
    const PINGS: u64 = 100_000;
    let config =
        Config::default().max_write_buffer_size(HIGH_WATER).write_timeout(DEADLINE).slow_consumer(SlowConsumer::Block);
    let server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let mut client = common::Client::open_with_small_buffer(server.local_addr());
    let mut other_client = common::Client::open(server.local_addr());
    let opened = || match server.recv_timeout(DEADLINE) {
        Ok(Event::Open(peer, _)) => peer,
        other => panic!("{other:?}"),
    };
    let (peer, other) = (opened(), opened());
    let sent = common::app::fill_send_queue(&peer, 64 << 10, (&other, &mut other_client));

    let pings: Vec<u8> = (1..=PINGS).flat_map(|number| ping(&number.to_be_bytes())).collect();
    client.send(&pings);
    client.send(&common::text("after the pings"));
    match server.recv_timeout(DEADLINE) {
        Ok(Event::Message(_, message)) => assert_eq!(message, Message::from("after the pings")),
        other => panic!("{other:?}"),
    }
    let queued = peer.stats().queued_bytes;
    assert!(queued < 2 * HIGH_WATER, "{queued} bytes are queued");

    for number in 0..sent {
        let frame = client.expect_frame();
        assert!(frame.payload == vec![number as u8; 64 << 10], "message {number} differs");
    }
    loop {
        if client.expect_frame() == Frame::pong(&PINGS.to_be_bytes()) {
            break;
        }
    }
}
