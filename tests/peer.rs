//! `Peer`: the handle of a connection that any thread can use.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, echo, fill_send_queue};
use common::servers::Mode;
use common::{Client, DEADLINE, Frame, binary, close, eventually, masked, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCause, CloseCode, Config, ControlError, Message, Peer, Prepared, SendError, SendTimeoutError, Server,
    SlowConsumer, TrySendError,
};

const HIGH_WATER: usize = 64 << 10;

/// Larger than what the kernel may still accept, so that a full queue stays above the high-water mark.
const SIZE: usize = 1 << 20;

/// A connection whose client does not read and whose send queue is full, and another connection of the same worker.
struct FullQueue {
    app: App,
    client: Client,
    peer: Peer,
    sent: usize,
    other: (Peer, Client),
}

impl FullQueue {
    fn new(mode: Mode, policy: SlowConsumer) -> FullQueue {
        let config = Config::default().max_write_buffer_size(HIGH_WATER).slow_consumer(policy);
        let app = App::start(mode, Server::builder().workers(1).config(config), echo);
        let client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let mut other_client = Client::open(app.addr);
        let other = app.opened();
        let sent = fill_send_queue(&peer, SIZE, (&other, &mut other_client));
        assert!(peer.queued_bytes() >= HIGH_WATER, "{:?}", peer.stats());
        assert!(peer.queued_bytes() < HIGH_WATER + SIZE + 10, "{:?}", peer.stats());
        FullQueue { app, client, peer, sent, other: (other, other_client) }
    }

    /// Lets the client receive what was sent.
    fn drain(&mut self) {
        for number in 0..self.sent {
            assert_eq!(self.client.expect_frame(), Frame::binary(&vec![number as u8; SIZE]));
        }
    }
}

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
                        // Small messages are copied, large ones moved, prepared ones shared.
                        let mut message = vec![sender as u8; if number % 50 == 7 { 40_000 } else { 10 }];
                        message[1..5].copy_from_slice(&(number as u32).to_be_bytes());
                        if number % 3 == 0 {
                            peer.send_prepared(&Prepared::new(&message)).expect("the connection is open");
                        } else {
                            peer.send(message).expect("the connection is open");
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

#[test]
fn t_03_a_full_queue_returns_the_message() {
    for mode in Mode::ALL {
        let mut full = FullQueue::new(mode, SlowConsumer::Block);
        let message = Message::Text("not now".into());
        assert_eq!(full.peer.try_send(message.clone()), Err(TrySendError::Full(message.clone())));
        let start = Instant::now();
        let wait = Duration::from_millis(100);
        assert_eq!(full.peer.send_timeout(message.clone(), wait), Err(SendTimeoutError::Timeout(message)));
        assert!(start.elapsed() >= wait);
        full.drain();
        eventually("the send queue has room", || full.peer.try_send("now").is_ok());
        assert_eq!(full.client.expect_frame(), Frame::text("now"));
        drop((full.client, full.other));
        full.app.finish();
    }
}

#[test]
fn a_blocked_send_completes_when_the_client_reads() {
    for mode in Mode::ALL {
        let mut full = FullQueue::new(mode, SlowConsumer::Block);
        let done = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let (peer, done) = (full.peer.clone(), done.clone());
                thread::spawn(move || {
                    match sender {
                        0 => peer.send_timeout("late", Duration::MAX).expect("room in the end"),
                        1 => peer.send_prepared(&Prepared::new("late")).expect("room in the end"),
                        _ => peer.send("late").expect("room in the end"),
                    }
                    done.store(true, Ordering::SeqCst);
                })
            })
            .collect();
        assert!(full.peer.send_timeout("never", Duration::from_millis(50)).is_err());
        assert!(!done.load(Ordering::SeqCst), "the sends block");
        full.drain();
        for sender in senders {
            sender.join().expect("a sender");
            assert_eq!(full.client.expect_frame(), Frame::text("late"));
        }
        drop((full.client, full.other));
        full.app.finish();
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
fn a_blocked_send_fails_when_the_connection_ends() {
    for mode in Mode::ALL {
        for end in ["client", "abort", "close", "shutdown"] {
            let full = FullQueue::new(mode, SlowConsumer::Block);
            let sender = thread::spawn({
                let peer = full.peer.clone();
                move || peer.send("never")
            });
            assert!(full.peer.send_timeout("never", Duration::from_millis(20)).is_err());
            match end {
                "client" => full.client.reset(),
                "abort" => full.peer.abort(),
                "close" => full.peer.close(CloseCode(4000), "").expect("the connection is open"),
                _ => drop(full.app.handle().shutdown(Duration::from_millis(50))),
            }
            let message = Message::Text("never".into());
            assert_eq!(sender.join().expect("the sender"), Err(SendError::Disconnected(message)), "{mode:?}: {end}");
            drop(full.other);
            full.app.finish();
        }
    }
}

#[test]
fn the_refuse_policy_returns_the_message() {
    for mode in Mode::ALL {
        let mut full = FullQueue::new(mode, SlowConsumer::Refuse);
        let message = Message::Binary(vec![7; 100]);
        assert_eq!(full.peer.send(message.clone()), Err(SendError::Full(message)));
        let no = Prepared::new("no");
        assert_eq!(full.peer.send_prepared(&no), Err(SendError::Full(())));
        let refused = full.peer.send_prepared_timeout(&no, Duration::from_millis(10));
        assert_eq!(refused, Err(SendTimeoutError::Timeout(())));
        full.drain();
        full.peer.send_prepared_timeout(&Prepared::new("now"), DEADLINE).expect("room");
        assert_eq!(full.client.expect_frame(), Frame::text("now"));
        assert_eq!(full.peer.stats().dropped, 0);
        drop((full.client, full.other));
        full.app.finish();
    }
}

#[test]
fn the_drop_policy_drops_and_counts_messages() {
    for mode in Mode::ALL {
        let mut full = FullQueue::new(mode, SlowConsumer::Drop);
        for _ in 0..10 {
            assert_eq!(full.peer.send("dropped"), Ok(()));
        }
        assert_eq!(full.peer.send_prepared(&Prepared::new("dropped")), Ok(()));
        assert_eq!(full.peer.stats().dropped, 11);
        assert_eq!(full.peer.stats().messages_sent, full.sent as u64);
        // `try_send` and broadcasts do not depend on the policy.
        assert!(matches!(full.peer.try_send("no"), Err(TrySendError::Full(_))));
        full.app.handle().broadcast("a broadcast");
        assert_eq!(full.other.1.expect_frame(), Frame::text("a broadcast"));
        eventually("the broadcast is counted as dropped", || full.peer.stats().dropped == 12);
        full.drain();
        eventually("the send queue has room", || full.peer.try_send("now").is_ok());
        assert_eq!(full.client.expect_frame(), Frame::text("now"));
        assert_eq!(full.peer.stats().dropped, 12);
        drop((full.client, full.other));
        full.app.finish();
    }
}

#[test]
fn the_disconnect_policy_closes_with_1008() {
    for mode in Mode::ALL {
        for by_broadcast in [false, true] {
            let mut full = FullQueue::new(mode, SlowConsumer::Disconnect);
            if by_broadcast {
                full.app.handle().broadcast("a broadcast");
                assert_eq!(full.other.1.expect_frame(), Frame::text("a broadcast"));
            } else {
                let message = Message::Text("no".into());
                assert_eq!(full.peer.send(message.clone()), Err(SendError::Disconnected(message)));
            }
            full.drain();
            assert_eq!(full.client.expect_frame().close_code(), 1008, "{mode:?}");
            full.client.send(&close(1008));
            assert_eq!(full.client.frame(), None);
            let reason = full.app.closed();
            assert_eq!(reason.code, CloseCode::POLICY_VIOLATION, "{mode:?}: {reason}");
            assert!(!full.peer.is_open());
            drop((full.client, full.other));
            full.app.finish();
        }
    }
}

/// The message is returned instead.
#[test]
fn a_handler_that_sends_to_a_full_queue_does_not_block() {
    let config = Config::default().max_write_buffer_size(HIGH_WATER);
    let target: Arc<std::sync::OnceLock<Peer>> = Arc::default();
    let app = App::start(Mode::Handler, Server::builder().workers(1).config(config), {
        let target = target.clone();
        move |connection, message| {
            let Some(peer) = target.get() else { return };
            let outcome = match message.as_text() {
                Some("send") => peer.send("no").map_err(|error| error.to_string()),
                Some("wait") => peer.send_timeout("no", Duration::from_secs(3600)).map_err(|error| error.to_string()),
                _ => peer.send_prepared(&Prepared::new("no")).map_err(|error| error.to_string()),
            };
            connection.send(if outcome.is_err() { "refused" } else { "queued" }.into());
        }
    });
    let mut client = Client::open_with_small_buffer(app.addr);
    let peer = app.opened();
    let mut other = Client::open(app.addr);
    let sent = fill_send_queue(&peer, SIZE, (&app.opened(), &mut other));
    target.set(peer).expect("the first");
    for what in ["send", "wait", "prepared"] {
        other.send(&text(what));
        assert_eq!(other.expect_frame(), Frame::text("refused"), "{what}");
    }
    for _ in 0..sent {
        assert_eq!(client.expect_frame().payload.len(), SIZE);
    }
    drop((client, other));
    app.finish();
}

#[test]
fn control_frames_are_queued_above_the_high_water_mark() {
    for mode in Mode::ALL {
        let mut full = FullQueue::new(mode, SlowConsumer::Block);
        for number in 0..10 {
            full.peer.ping(&[number]).expect("the connection is open");
            full.peer.send(Message::Pong(vec![number])).expect("the connection is open");
        }
        full.peer.close(CloseCode(4000), "enough").expect("the connection is open");
        full.drain();
        for number in 0..10 {
            let frame = full.client.expect_frame();
            assert_eq!((frame.opcode, frame.payload), (Opcode::Ping, vec![number]), "{mode:?}");
            assert_eq!(full.client.expect_frame(), Frame::pong(&[number]));
        }
        assert_eq!(full.client.expect_frame().close_code(), 4000);
        full.client.send(&close(4000));
        assert_eq!(full.client.frame(), None);
        full.app.expect_closed(4000, CloseCause::Local);
        drop((full.client, full.other));
        full.app.finish();
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
        let builder = Server::builder().workers(1).config(Config::default().max_message_size(SIZE));
        let app = App::start(mode, builder, |connection, message| {
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
