//! Receivers and servers that the application drops.

mod common;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::thread;

use common::app::{App, echo};
use common::servers::{Echo, Mode};
use common::{
    Client, DEADLINE, Frame, close, eventually, flood, handshake_status, open_with_peer, serialize_test, text,
    wait_for_end_of_threads,
};
use threadbare::{Config, Event, Message, Peer, SendError, Server};

#[test]
fn r_06_dropping_every_receiver_closes_connections_with_1001() {
    let _guard = serialize_test();
    let mut server = Server::builder().workers(2).bind("127.0.0.1:0").expect("a server");
    let mut connections: Vec<_> = (0..10).map(|_| open_with_peer(&server)).collect();
    let events = server.take_events();
    let clones = events.clone();
    drop(events);
    // A clone still receives.
    connections[0].0.send(&text("hello"));
    assert!(matches!(clones[0].recv_timeout(DEADLINE), Ok(Event::Message(..))));
    for (_, peer) in &connections {
        peer.send("before").expect("the connection is open");
    }
    drop(clones);
    for (client, peer) in &mut connections {
        assert_eq!(client.expect_frame(), Frame::text("before"));
        client.answer_close(1001);
        eventually("the connection is closed", || !peer.is_open());
        let message = Message::Text("gone".into());
        assert_eq!(peer.send(message.clone()), Err(SendError::Disconnected(message)));
    }
    drop(connections);
    assert_eq!(handshake_status(server.local_addr()), Some(503));
    eventually("all connections are removed", || server.handle().connections() == 0);
    let report = server.shutdown(DEADLINE);
    assert_eq!((report.clean, report.forced), (0, 0), "the connections were closed before the shutdown");
}

#[test]
fn r_06_a_server_without_receivers_answers_503() {
    let _guard = serialize_test();
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    drop(server.take_events());
    for _ in 0..3 {
        assert_eq!(handshake_status(server.local_addr()), Some(503));
    }
}

/// Events wait and reading is paused when the receiver is dropped.
#[test]
fn r_06_dropping_a_receiver_with_waiting_events_closes_with_1001() {
    let _guard = serialize_test();
    let config = Config::default().max_event_buffer_size(10_000).close_timeout(DEADLINE);
    let mut server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let (mut clients, peers): (Vec<_>, Vec<_>) = (0..4).map(|_| open_with_peer(&server)).unzip();
    let writers: Vec<_> = clients.iter().map(|client| flood(client, 20 << 20)).collect();
    let events = server.take_events();
    // The first message to wait reaches the limit.
    eventually("reading is paused", || peers.iter().any(|peer| peer.stats().messages_received > 0));
    drop(events);
    for (client, writer) in clients.iter_mut().zip(writers) {
        assert_eq!(client.expect_frame().close_code(), 1001);
        // The server reads and discards the rest.
        writer.join().expect("the writer").expect("no reset");
        client.send(&close(1001));
        assert_eq!(client.frame(), None);
    }
}

#[test]
fn r_06_dropping_one_of_two_receivers_closes_its_connections_only() {
    let _guard = serialize_test();
    let mut server = Server::builder().workers(2).channels(2).bind("127.0.0.1:0").expect("a server");
    let mut events = server.take_events();
    let (kept, dropped) = (events.remove(0), events.remove(0));
    // Connections are assigned to the channels in turn.
    let mut clients: Vec<_> = (0..8).map(|_| Client::open(server.local_addr())).collect();
    let mut peers: Vec<Peer> = Vec::new();
    while peers.len() < 4 {
        match kept.recv_timeout(DEADLINE).expect("an event") {
            Event::Open(peer, _) => peers.push(peer),
            other => panic!("{other:?}"),
        }
    }
    drop(dropped);
    let kept_addrs: HashSet<SocketAddr> = peers.iter().filter_map(|peer| peer.addr().as_socket_addr()).collect();
    for client in &mut clients {
        if kept_addrs.contains(&client.stream.local_addr().expect("an address")) {
            client.send(&text("hello"));
            assert!(matches!(kept.recv_timeout(DEADLINE), Ok(Event::Message(..))));
        } else {
            client.answer_close(1001);
        }
    }
    // New connections are all assigned to the other receiver.
    for _ in 0..4 {
        let _client = Client::open(server.local_addr());
        loop {
            match kept.recv_timeout(DEADLINE).expect("an event") {
                Event::Open(..) => break,
                Event::Close(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn r_06_dropping_the_server_ends_connections_in_every_state() {
    let _guard = serialize_test();
    for mode in Mode::ALL {
        // A server without connections.
        App::start(mode, Server::builder().workers(2), echo).finish();
        // Connections that are idle, in a frame, in the handshake, and closing.
        let server = match mode {
            Mode::Handler => Server::builder().workers(2).serve("127.0.0.1:0", |_| Echo).expect("a server"),
            Mode::Channel => Server::builder().workers(2).bind("127.0.0.1:0").expect("a server"),
        };
        let addr = server.local_addr();
        let mut idle = Client::open(addr);
        let mut half = Client::open(addr);
        half.send(&text("half a frame")[..8]);
        let mut opening = Client::tcp(addr);
        opening.send(b"GET / HTTP/1.1\r\n");
        let mut silent = Client::tcp(addr);
        let mut closing = Client::open(addr);
        closing.send(&close(1000));
        if mode == Mode::Handler {
            closing.expect_close(1000);
        }
        let clients = thread::spawn(move || {
            idle.answer_close(1001);
            assert_eq!(half.expect_frame().close_code(), 1001);
            // The server discards the message, which is completed after its close frame.
            half.send(&[&text("half a frame")[8..], &close(1001)].concat());
            assert_eq!(half.frame(), None);
            assert_eq!(opening.status(), 503);
            assert_eq!(silent.status(), 503);
            closing.wait_for_end();
        });
        drop(server);
        clients.join().expect("the clients");
        assert_eq!(handshake_status(addr), None, "the listener is closed");
        wait_for_end_of_threads("a server");
    }
}

#[test]
fn r_06_the_receiving_thread_can_drop_its_server() {
    let _guard = serialize_test();
    let server = Server::builder().workers(2).bind("127.0.0.1:0").expect("a server");
    let mut clients: Vec<_> = (0..4).map(|_| Client::open(server.local_addr())).collect();
    for client in &mut clients {
        client.send(&text("a").repeat(1000));
    }
    let application = thread::spawn(move || {
        let mut count = 0;
        for event in &server {
            count += usize::from(matches!(event, Event::Message(..)));
            if count == 100 {
                break;
            }
        }
        drop(server);
    });
    for client in &mut clients {
        client.answer_close(1001);
    }
    application.join().expect("no panic");
}
