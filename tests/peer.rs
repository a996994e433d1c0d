//! `Peer`: the handle of a connection that any thread can use.

use crate::common;

use std::thread;
use std::time::Duration;

use common::app::{App, echo};
use common::servers::Mode;
use common::{Client, DEADLINE, Frame, binary, close, eventually, masked, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCause, CloseCode, Compression, Config, ControlError, Event, Message, Peer, Prepared, SendError,
    SendTimeoutError, Server, SlowConsumer, TrySendError,
};

const HIGH_WATER: usize = 64 << 10;

#[test]
fn messages_of_each_thread_stay_in_order() {
    const SENDERS: usize = 8;
    const MESSAGES: usize = 500;
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let peer = peer.clone();
                thread::spawn(move || {
                    for number in 0..MESSAGES {
                        // Small messages are copied, large ones moved, prepared ones shared, and some are not compressed.
                        let mut message = vec![sender as u8; if number % 50 == 7 { 40_000 } else { 10 }];
                        message[1..5].copy_from_slice(&(number as u32).to_be_bytes());
                        match number % 4 {
                            0 => peer.send_prepared(&Prepared::new(&message)).expect("the connection is open"),
                            1 => peer.send_with(message, Compression::Never).expect("the connection is open"),
                            _ => peer.send(message).expect("the connection is open"),
                        }
                    }
                })
            })
            .collect();
        let mut next = [0_u32; SENDERS];
        for _ in 0..SENDERS * MESSAGES {
            let payload = client.expect_frame().payload;
            let expected = &mut next[usize::from(payload[0])];
            assert_eq!(payload[1..5], expected.to_be_bytes(), "{mode:?}: the order of sender {}", payload[0]);
            assert!(payload[5..].iter().all(|byte| *byte == payload[0]));
            *expected += 1;
        }
        for sender in senders {
            sender.join().expect("a sender");
        }
        app.finish();
    }
}

/// The thread that closes can send nothing afterwards, and is told so at once.
#[test]
fn nothing_is_sent_behind_a_close() {
    for mode in Mode::ALL {
        for _ in 0..50 {
            let app = App::echo(mode);
            let mut client = Client::open(app.addr);
            let peer = app.opened();
            peer.send("before").expect("the connection is open");
            peer.close(CloseCode::NORMAL_CLOSURE, "").expect("the connection is open");
            assert!(!peer.is_open());
            let text = || Message::from("behind");
            assert_eq!(peer.send("behind"), Err(SendError::Disconnected(text())), "{mode:?}");
            assert_eq!(peer.try_send("behind"), Err(TrySendError::Disconnected(text())));
            assert_eq!(peer.send_prepared(&Prepared::new("behind")), Err(SendError::Disconnected(())));
            assert_eq!(peer.ping(b""), Err(ControlError::Disconnected));
            assert_eq!(peer.close(CloseCode::NORMAL_CLOSURE, ""), Err(ControlError::Disconnected));
            assert_eq!(client.expect_frame(), Frame::text("before"));
            assert_eq!(client.expect_frame().close_code(), 1000);
            client.send(&close(1000));
            app.finish();
        }
    }
}

/// The rest of a partial write is queued, with all messages after it.
#[test]
fn short_messages_after_a_partial_write_arrive_whole_and_in_order() {
    const MESSAGES: u32 = 50_000;
    const SIZE: usize = 120;
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(1), echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let sender = thread::spawn({
            let peer = peer.clone();
            move || {
                for number in 0..MESSAGES {
                    let mut message = [number as u8; SIZE];
                    message[..4].copy_from_slice(&number.to_be_bytes());
                    peer.send(&message[..]).expect("the connection is open");
                }
            }
        });
        eventually("the socket is full", || peer.queued_bytes() > HIGH_WATER);
        for number in 0..MESSAGES {
            let payload = client.expect_frame().payload;
            assert_eq!(payload[..4], number.to_be_bytes(), "{mode:?}");
            assert!(payload.len() == SIZE && payload[4..].iter().all(|byte| *byte == number as u8));
        }
        sender.join().expect("the sender");
        eventually("every message and byte is counted", || {
            let stats = peer.stats();
            let bytes_sent = u64::from(MESSAGES) * (2 + SIZE as u64);
            (stats.messages_sent, stats.bytes_sent, stats.queued_bytes) == (u64::from(MESSAGES), bytes_sent, 0)
        });
        drop(client);
        app.finish();
    }
}

#[test]
fn a_closed_peer_returns_every_message() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        assert!(peer.is_open());
        client.send(&close(1000));
        client.expect_close(1000);
        app.expect_closed(1000, CloseCause::Peer);
        eventually("the connection is closed", || !peer.is_open());
        for size in [0, 100, 100_000] {
            let message = Message::Binary(vec![3; size]);
            assert_eq!(peer.send(message.clone()), Err(SendError::Disconnected(message.clone())));
            assert_eq!(peer.try_send(message.clone()), Err(TrySendError::Disconnected(message.clone())));
            let timed = peer.send_timeout(message.clone(), Duration::from_secs(3600));
            assert_eq!(timed, Err(SendTimeoutError::Disconnected(message)));
        }
        let ping = Message::Ping(vec![1]);
        assert_eq!(peer.send(ping.clone()), Err(SendError::Disconnected(ping)));
        assert_eq!(peer.send_prepared(&Prepared::new("x")), Err(SendError::Disconnected(())));
        assert_eq!(peer.ping(b""), Err(ControlError::Disconnected));
        assert_eq!(peer.close(CloseCode(1000), ""), Err(ControlError::Disconnected));
        app.finish();
        // The same holds after the end of the server.
        assert_eq!(peer.ping(b""), Err(ControlError::Disconnected));
        peer.abort();
    }
}

/// The slot of a closed connection is used again.
#[test]
fn r_09_a_stale_peer_never_reaches_a_later_connection() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(1), echo);
        let mut old: Vec<Peer> = Vec::new();
        for round in 0..50 {
            let mut client = Client::open(app.addr);
            let peer = app.opened();
            for stale in &old {
                assert_ne!(stale.id(), peer.id());
                assert!(*stale != peer && !stale.is_open());
                stale.abort();
                assert!(stale.send("stale").is_err() && stale.ping(b"stale").is_err());
                assert!(stale.close(CloseCode(4000), "stale").is_err());
            }
            let message = round.to_string();
            client.send(&text(&message));
            assert_eq!(client.expect_frame(), Frame::text(&message), "{mode:?}");
            if round % 2 == 0 {
                client.send(&close(1000));
                client.expect_close(1000);
            }
            drop(client);
            // Messages that are sent during the close are lost. No other connection receives them.
            while peer.send("closing").is_ok() {}
            old.push(peer);
            eventually("the connection is removed", || app.handle().connections() == 0);
        }
        app.finish();
    }
}

#[test]
fn peer_data_is_set_once_and_read_by_any_thread() {
    let app = App::echo(Mode::Channel);
    let _client = Client::open(app.addr);
    let peer = app.opened();
    assert_eq!(peer.data::<String>(), None);
    assert_eq!(peer.set_data("Ada".to_owned()), Ok(()));
    assert_eq!(peer.set_data("Bob".to_owned()), Err("Bob".to_owned()), "data is set once");
    assert_eq!(peer.set_data(7_u8), Err(7), "data of another type neither");
    assert_eq!(peer.data::<String>().map(String::as_str), Some("Ada"));
    assert_eq!(peer.data::<u8>(), None);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let peer = peer.clone();
            thread::spawn(move || peer.data::<String>().cloned())
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().expect("a thread").as_deref(), Some("Ada"));
    }
}

#[test]
fn stats_count_messages_and_bytes() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        let before = peer.stats();
        assert_eq!((before.messages_received, before.messages_sent, before.round_trip), (0, 0, None));
        let messages = [text("one"), binary(&[0; 1000]), masked(true, 0, Opcode::Text, &[b'x'; 100_000])];
        client.send(&messages.concat());
        let received: usize = messages.iter().map(Vec::len).sum();
        for size in [3, 1000, 100_000] {
            assert_eq!(client.expect_frame().payload.len(), size);
        }
        // A server's frames have no masking key, which is four bytes long.
        let sent = received - 3 * 4;
        eventually("every message and byte is counted", || {
            let stats = peer.stats();
            (stats.messages_received, stats.messages_sent) == (3, 3)
                && (stats.bytes_received, stats.bytes_sent) == (received as u64, sent as u64)
        });
        let stats = peer.stats();
        assert_eq!((stats.queued_bytes, stats.dropped, peer.queued_bytes()), (0, 0, 0), "{mode:?}");
        assert_eq!(peer.addr(), client.stream.local_addr().expect("an address"));
        assert_eq!(peer.subprotocol(), None);
        drop(client);
        app.finish();
    }
}

#[test]
fn abort_resets_the_connection() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(1), |connection, message| {
            assert!(message.as_text().is_some());
            connection.abort();
        });
        let mut client = Client::open(app.addr);
        app.opened();
        client.send(&text("abort"));
        assert_eq!(client.try_read().expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
        app.expect_closed(1006, CloseCause::Aborted);
        // By another thread than the application's.
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        peer.abort();
        peer.abort();
        assert_eq!(client.try_read().expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
        app.expect_closed(1006, CloseCause::Aborted);
        assert!(!peer.is_open());
        app.finish();
    }
}

#[test]
fn large_messages_are_echoed_twice_in_order() {
    const SIZE: usize = 5 << 20;
    for mode in Mode::ALL {
        // More is sent than one answer to each event: the sender has to wait for room.
        let config = Config::default().max_message_size(SIZE).slow_consumer(SlowConsumer::Block);
        let app = App::start(mode, Server::builder().workers(1).config(config), |connection, message| {
            connection.send(message);
            connection.send(message);
            connection.send("both".into());
        });
        let mut client = Client::open(app.addr);
        let payload: Vec<u8> = (0..SIZE as u32).map(|number| (number / 3 % 251) as u8).collect();
        let whole = binary(&payload);
        let (front, back) = payload.split_at(SIZE / 3);
        let halves = [masked(false, 0, Opcode::Binary, front), masked(true, 0, Opcode::Continuation, back)].concat();
        for bytes in [whole.clone(), halves, whole] {
            let mut stream = client.stream.try_clone().expect("a socket");
            let writer = thread::spawn(move || std::io::Write::write_all(&mut stream, &bytes));
            for _ in 0..2 {
                let frame = client.expect_frame();
                assert!(frame.opcode == Opcode::Binary && frame.payload == payload, "{mode:?}");
            }
            assert_eq!(client.expect_frame(), Frame::text("both"));
            writer.join().expect("the writer").expect("the server reads it");
        }
        client.send(&close(1000));
        client.expect_close(1000);
        app.finish();
    }
}

#[test]
fn a_prepared_message_is_sent_to_many_connections() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut connections: Vec<_> = (0..10)
            .map(|_| {
                let client = Client::open(app.addr);
                (client, app.opened())
            })
            .collect();
        let large = vec![9; 200_000];
        let prepared = [Prepared::new("small"), Prepared::new(&large), Prepared::new("")];
        for (_, peer) in &connections {
            for message in &prepared {
                peer.send_prepared(message).expect("the connection is open");
            }
            peer.send("after").expect("the connection is open");
        }
        for (client, peer) in &mut connections {
            for expected in [Frame::text("small"), Frame::binary(&large), Frame::text(""), Frame::text("after")] {
                assert_eq!(client.expect_frame(), expected, "{mode:?}");
            }
            eventually("every message is counted", || peer.stats().messages_sent == 4);
        }
        drop(connections);
        app.finish();
    }
}

#[test]
fn a_peer_of_a_dual_stack_server_has_an_ipv4_address_and_is_counted_by_it() {
    let config = Config::default().max_connections_per_address(1);
    let server = Server::builder().workers(1).config(config).bind("[::]:0").expect("a server");
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], server.local_addr().port()));
    for _ in 0..2 {
        let mut client = Client::open(addr);
        let local = client.stream.local_addr().expect("an address");
        let Ok(Event::Open(peer, request)) = server.recv_timeout(DEADLINE) else { panic!("not open") };
        assert_eq!((peer.addr(), request.addr()), (local.into(), &local.into()));
        assert!(peer.addr().ip().is_some_and(|ip| ip.is_ipv4()), "{}", peer.addr());
        assert_eq!(common::handshake_status(addr), Some(503), "a second one of this address");
        client.send(&close(1000));
        while !matches!(server.recv_timeout(DEADLINE), Ok(Event::Close(..))) {}
        client.wait_for_end();
        eventually("the connection is not counted any more", || server.handle().connections() == 0);
    }
}
