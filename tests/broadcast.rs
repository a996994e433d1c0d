//! Broadcasts, of servers and of handlers.

use crate::common;

use std::thread;

use common::app::{App, echo};
use common::servers::Mode;
use common::{Client, Frame, text};
use threadbare::{Config, Handler, MessageRef, Peer, Prepared, Server, SlowConsumer, Socket};

#[test]
fn broadcasts_reach_every_connection_once_and_in_order() {
    const CLIENTS: usize = 20;
    const MESSAGES: usize = 500;
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(2), echo);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(app.addr)).collect();
        // A client may receive its 101 before a worker has the connection.
        (0..CLIENTS).for_each(|_| drop(app.opened()));
        let broadcaster = thread::spawn({
            let handle = app.handle();
            move || {
                for number in 0..MESSAGES {
                    if number % 3 == 0 {
                        handle.broadcast_prepared(&Prepared::new(number.to_string().as_str()));
                    } else {
                        handle.broadcast(number.to_string().as_str());
                    }
                }
            }
        });
        for client in &mut clients {
            for number in 0..MESSAGES {
                assert_eq!(client.expect_frame(), Frame::text(&number.to_string()), "{mode:?}");
            }
        }
        broadcaster.join().expect("the broadcaster");
        for client in &mut clients {
            client.send(&text("the end"));
            assert_eq!(client.expect_frame(), Frame::text("the end"), "no frame before it");
        }
        drop(clients);
        app.finish();
    }
}

#[test]
fn broadcasts_of_handlers_reach_every_connection_once_and_in_order() {
    struct Chat;
    impl Handler for Chat {
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            socket.send("welcome");
        }

        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            socket.broadcast(message);
        }
    }
    const CLIENTS: usize = 10;
    const MESSAGES: usize = 200;
    let server = Server::builder().workers(2).serve("127.0.0.1:0", |_| Chat).expect("a server");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(server.local_addr())).collect();
    for client in &mut clients {
        assert_eq!(client.expect_frame(), Frame::text("welcome"));
    }
    for (speaker, client) in clients.iter_mut().enumerate().take(4) {
        let bytes: Vec<u8> = (0..MESSAGES).flat_map(|number| text(&format!("{speaker} {number}"))).collect();
        client.send(&bytes);
    }
    for client in &mut clients {
        let mut next = [0; 4];
        for _ in 0..4 * MESSAGES {
            let message = String::from_utf8(client.expect_frame().payload).expect("text");
            let (speaker, number) = message.split_once(' ').expect("two numbers");
            let expected = &mut next[speaker.parse::<usize>().expect("a number")];
            assert_eq!(number.parse(), Ok(*expected), "the order of speaker {speaker}");
            *expected += 1;
        }
    }
    clients[0].send(&text("0 the end"));
    for client in &mut clients {
        assert_eq!(client.expect_frame(), Frame::text("0 the end"), "no frame before it");
    }
}

#[test]
fn small_broadcasts_after_a_partial_write_arrive_whole_and_in_order() {
    const MESSAGES: usize = 12_000;
    for mode in Mode::ALL {
        let builder = Server::builder().config(Config::default().max_write_buffer_size(16 << 20));
        let app = App::start(mode, builder, echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let message = |number: usize| format!("{number:>900}");
        for number in 0..MESSAGES {
            app.handle().broadcast(message(number).as_str());
        }
        common::eventually("all are sent or queued, and the socket is full", || {
            let stats = peer.stats();
            stats.messages_sent == MESSAGES as u64 && stats.queued_bytes > 0
        });
        for number in 0..MESSAGES {
            assert_eq!(client.expect_frame(), Frame::text(&message(number)), "{mode:?}");
        }
        app.handle().broadcast("the end");
        assert_eq!(client.expect_frame(), Frame::text("the end"), "no frame before it");
        common::eventually("every byte is counted", || {
            let stats = peer.stats();
            stats.bytes_sent == (MESSAGES * 904 + 9) as u64 && stats.queued_bytes == 0 && stats.dropped == 0
        });
        drop(client);
        app.finish();
    }
}

/// T-04: broadcasts to a client that does not read are dropped and counted.
#[test]
fn t_04_a_stalled_connection_does_not_delay_broadcasts_to_others() {
    const ROUNDS: usize = 1000;
    let payload = vec![b'x'; 16 << 10];
    for mode in Mode::ALL {
        let builder = Server::builder().workers(2).config(Config::default().max_write_buffer_size(256 << 10));
        let app = App::start(mode, builder, echo);
        let stalled = Client::open_with_small_buffer(app.addr);
        let stalled_peer = app.opened();
        let mut others: Vec<_> = (0..4).map(|_| Client::open(app.addr)).collect();
        let peers: Vec<_> = (0..4).map(|_| app.opened()).collect();
        for round in 0..ROUNDS {
            app.handle().broadcast(&payload);
            for client in &mut others {
                assert_eq!(client.expect_frame().payload.len(), payload.len(), "{mode:?}: round {round}");
            }
        }
        assert!(peers.iter().all(|peer| peer.stats().dropped == 0));
        let stats = stalled_peer.stats();
        assert!(stats.dropped > 0, "{stats:?}");
        assert!(stats.queued_bytes < (256 << 10) + payload.len() + 10, "{stats:?}");
        common::eventually("every broadcast is counted as sent or dropped", || {
            let stats = stalled_peer.stats();
            stats.messages_sent + stats.dropped == ROUNDS as u64
        });
        drop(stalled);
        app.finish();
    }
}

/// All broadcasts of a callback are sent in one iteration. The queue of a client that does not read holds the high-water
/// mark and one message of them, and the rest is counted.
#[test]
fn t_04_a_burst_of_broadcasts_stops_at_the_high_water_mark() {
    const HIGH_WATER: usize = 64 << 10;
    const COUNT: u64 = 4_000;
    struct Burst {
        size: usize,
        opened: crossbeam_channel::Sender<Peer>,
    }
    impl Handler for Burst {
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            self.opened.send(socket.peer()).expect("the test waits");
        }

        fn on_message(&mut self, socket: &mut Socket<'_>, _: MessageRef<'_>) {
            (0..COUNT).for_each(|_| socket.broadcast("x".repeat(self.size).as_str()));
        }
    }
    for (size, workers) in [(500, 1), (500, 2), (20_000, 1)] {
        let config = Config::default().max_write_buffer_size(HIGH_WATER).slow_consumer(SlowConsumer::Drop);
        let (opened, peers) = crossbeam_channel::unbounded();
        let server = Server::builder()
            .workers(workers)
            .config(config)
            .serve("127.0.0.1:0", move |_| Burst { size, opened: opened.clone() })
            .expect("a server");
        let silent = Client::open_with_small_buffer(server.local_addr());
        let peer = peers.recv_timeout(common::DEADLINE).expect("opened");
        // The kernel takes the first of these.
        for burst in 1..=4 {
            // A client whose own queue is full is not read.
            let mut other = Client::open(server.local_addr());
            other.send(&text("burst"));
            common::eventually("each broadcast is sent or counted", || {
                let stats = peer.stats();
                stats.messages_sent + stats.dropped == burst * COUNT
            });
            let queued = peer.queued_bytes();
            assert!(queued < HIGH_WATER + size + 10, "{queued} bytes are queued, {workers} workers");
            other.reset();
        }
        assert!(peer.stats().dropped > 0);
        silent.reset();
    }
}
