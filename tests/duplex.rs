//! Both directions at once.

mod common;

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{DEADLINE, Frame, ping};
use threadbare::{Client, Config, Event, Message, Server, WebSocket};

/// More than the socket buffers of both ends take.
const COUNT: u8 = 32;
const SIZE: usize = 1 << 20;

/// A server that reads nothing until its own messages are taken: if the client did not read either while its output
/// stands above its mark, both would wait for ever.
#[test]
fn a_client_reads_while_its_output_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let (start, started) = mpsc::channel();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut socket = WebSocket::accept(stream).expect("a handshake");
        let waiting: usize = started.recv().expect("the client's output is full");
        for number in 0..COUNT {
            socket.send(vec![number; SIZE].as_slice()).expect("sent");
        }
        for _ in 0..waiting {
            assert!(socket.recv().expect("received").is_some_and(|message| message.len() == SIZE));
        }
        assert_eq!(socket.recv().expect("closed in order"), None);
    });

    let config = Config::default().max_message_size(SIZE).write_timeout(DEADLINE);
    let client = Client::builder().no_proxy().config(config).connect(&url).expect("connected");
    let full = |count: &usize| client.send_timeout(vec![*count as u8; SIZE], Duration::from_millis(200)).is_err();
    let waiting = (0..).find(full).expect("the server does not read");
    start.send(waiting).expect("the server waits");
    for number in 0..COUNT {
        let message = client.recv_timeout(DEADLINE).expect("a message of the server's");
        assert!(message == Message::Binary(vec![number; SIZE]), "message {number} is another");
    }
    client.finish(DEADLINE).expect("closed");
    server.join().expect("the server");
}

/// A server that hands its messages to another thread reads on as well, and answers the latest of the pings that came
/// meanwhile (RFC 6455 5.5.3): the others take no memory.
#[test]
fn pings_over_a_full_output_do_not_pile_up() {
    const MARK: usize = 1 << 20;
    const PINGS: u64 = 100_000;
    let config = Config::default().max_write_buffer_size(MARK).write_timeout(DEADLINE);
    let server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let mut client = common::Client::narrow(server.local_addr());
    let mut witness = common::Client::open(server.local_addr());
    let opened = || match server.recv_timeout(DEADLINE) {
        Ok(Event::Open(peer, _)) => peer,
        other => panic!("{other:?}"),
    };
    let (peer, other) = (opened(), opened());
    let sent = common::app::fill(&peer, 64 << 10, (&other, &mut witness));

    let pings: Vec<u8> = (1..=PINGS).flat_map(|number| ping(&number.to_be_bytes())).collect();
    client.send(&pings);
    client.send(&common::text("all of them"));
    match server.recv_timeout(DEADLINE) {
        Ok(Event::Message(_, message)) => assert_eq!(message, Message::from("all of them")),
        other => panic!("{other:?}"),
    }
    let queued = peer.stats().queued_bytes;
    assert!(queued < 2 * MARK, "{queued} bytes are queued");

    for number in 0..sent {
        let frame = client.expect_frame();
        assert!(frame.payload == vec![number as u8; 64 << 10], "message {number} is another");
    }
    loop {
        if client.expect_frame() == Frame::pong(&PINGS.to_be_bytes()) {
            break;
        }
    }
}
