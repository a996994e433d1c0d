//! The handle to a connection that any thread may hold.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, BOTH_WAYS, Way, echo, fill};
use common::{Client, DEADLINE, Frame, binary, close, eventually, masked, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCause, CloseCode, Config, ControlError, Message, Peer, Prepared, SendError, SendTimeoutError, Server,
    SlowConsumer, TrySendError,
};

const MARK: usize = 64 << 10;

/// So large that what the kernel takes late does not bring a full queue below the mark.
const SIZE: usize = 1 << 20;

/// A connection whose client does not read, its queue full, and another one of the same worker.
struct Full {
    app: App,
    client: Client,
    peer: Peer,
    sent: usize,
    other: (Peer, Client),
}

impl Full {
    fn new(way: Way, policy: SlowConsumer) -> Full {
        let config = Config::default().max_write_buffer_size(MARK).slow_consumer(policy);
        let app = App::start(way, Server::builder().workers(1).config(config), echo);
        let client = Client::narrow(app.addr);
        let peer = app.opened();
        let mut witness = Client::open(app.addr);
        let other = app.opened();
        let sent = fill(&peer, SIZE, (&other, &mut witness));
        assert!(peer.queued_bytes() >= MARK, "{:?}", peer.stats());
        assert!(peer.queued_bytes() < MARK + SIZE + 10, "{:?}", peer.stats());
        Full { app, client, peer, sent, other: (other, witness) }
    }

    /// The client reads what was sent, whole and in order.
    fn drain(&mut self) {
        for number in 0..self.sent {
            assert_eq!(self.client.expect_frame(), Frame::binary(&vec![number as u8; SIZE]));
        }
    }
}

#[test]
fn each_senders_order_is_kept() {
    const SENDERS: usize = 8;
    const MESSAGES: usize = 500;
    for way in BOTH_WAYS {
        let app = App::echo(way);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let peer = peer.clone();
                thread::spawn(move || {
                    for number in 0..MESSAGES {
                        // Small ones are copied, large ones moved, prepared ones shared.
                        let mut message = vec![sender as u8; if number % 50 == 7 { 40_000 } else { 10 }];
                        message[1..5].copy_from_slice(&(number as u32).to_be_bytes());
                        if number % 3 == 0 {
                            peer.send_prepared(&Prepared::new(&message)).expect("it is open");
                        } else {
                            peer.send(message).expect("it is open");
                        }
                    }
                })
            })
            .collect();
        let mut next = [0_u32; SENDERS];
        for _ in 0..SENDERS * MESSAGES {
            let payload = client.expect_frame().payload;
            let expected = &mut next[usize::from(payload[0])];
            assert_eq!(payload[1..5], expected.to_be_bytes(), "{way:?}: the order of sender {}", payload[0]);
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
fn t_03_a_full_queue_hands_the_message_back() {
    for way in BOTH_WAYS {
        let mut full = Full::new(way, SlowConsumer::Block);
        let message = Message::Text("not now".into());
        assert_eq!(full.peer.try_send(message.clone()), Err(TrySendError::Full(message.clone())));
        let start = Instant::now();
        let wait = Duration::from_millis(100);
        assert_eq!(full.peer.send_timeout(message.clone(), wait), Err(SendTimeoutError::Timeout(message)));
        assert!(start.elapsed() >= wait);
        full.drain();
        eventually("room", || full.peer.try_send("now").is_ok());
        assert_eq!(full.client.expect_frame(), Frame::text("now"));
        drop((full.client, full.other));
        full.app.finish();
    }
}

#[test]
fn a_blocked_send_goes_on_when_the_client_reads() {
    for way in BOTH_WAYS {
        let mut full = Full::new(way, SlowConsumer::Block);
        let done = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let (peer, done) = (full.peer.clone(), done.clone());
                thread::spawn(move || {
                    match sender {
                        0 => peer.send_timeout("late", Duration::MAX).expect("there is room in the end"),
                        1 => peer.send_prepared(&Prepared::new("late")).expect("there is room in the end"),
                        _ => peer.send("late").expect("there is room in the end"),
                    }
                    done.store(true, Ordering::SeqCst);
                })
            })
            .collect();
        assert!(full.peer.send_timeout("never", Duration::from_millis(50)).is_err());
        assert!(!done.load(Ordering::SeqCst), "they wait");
        full.drain();
        for sender in senders {
            sender.join().expect("a sender");
            assert_eq!(full.client.expect_frame(), Frame::text("late"));
        }
        drop((full.client, full.other));
        full.app.finish();
    }
}

/// Short messages go from the inbox to the socket; what it takes in part is kept, and waits with all that follow.
#[test]
fn short_messages_outlast_a_full_socket() {
    const MESSAGES: u32 = 50_000;
    const SIZE: usize = 120;
    for way in BOTH_WAYS {
        let app = App::start(way, Server::builder().workers(1), echo);
        let mut client = Client::narrow(app.addr);
        let peer = app.opened();
        let sender = thread::spawn({
            let peer = peer.clone();
            move || {
                for number in 0..MESSAGES {
                    let mut message = [number as u8; SIZE];
                    message[..4].copy_from_slice(&number.to_be_bytes());
                    peer.send(&message[..]).expect("it is open");
                }
            }
        });
        eventually("a full socket", || peer.queued_bytes() > MARK);
        for number in 0..MESSAGES {
            let payload = client.expect_frame().payload;
            assert_eq!(payload[..4], number.to_be_bytes(), "{way:?}");
            assert!(payload.len() == SIZE && payload[4..].iter().all(|byte| *byte == number as u8));
        }
        sender.join().expect("the sender");
        eventually("the counts", || {
            let stats = peer.stats();
            let bytes_sent = u64::from(MESSAGES) * (2 + SIZE as u64);
            (stats.messages_sent, stats.bytes_sent, stats.queued_bytes) == (u64::from(MESSAGES), bytes_sent, 0)
        });
        drop(client);
        app.finish();
    }
}

#[test]
fn a_blocked_send_ends_with_the_connection() {
    for way in BOTH_WAYS {
        for end in ["client", "abort", "close", "shutdown"] {
            let full = Full::new(way, SlowConsumer::Block);
            let sender = thread::spawn({
                let peer = full.peer.clone();
                move || peer.send("never")
            });
            assert!(full.peer.send_timeout("never", Duration::from_millis(20)).is_err());
            match end {
                "client" => full.client.reset(),
                "abort" => full.peer.abort(),
                "close" => full.peer.close(CloseCode(4000), "").expect("it is open"),
                _ => drop(full.app.handle().shutdown(Duration::from_millis(50))),
            }
            let message = Message::Text("never".into());
            assert_eq!(sender.join().expect("the sender"), Err(SendError::Disconnected(message)), "{way:?}: {end}");
            drop(full.other);
            full.app.finish();
        }
    }
}

#[test]
fn the_policy_refuse() {
    for way in BOTH_WAYS {
        let mut full = Full::new(way, SlowConsumer::Refuse);
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
fn the_policy_drop() {
    for way in BOTH_WAYS {
        let mut full = Full::new(way, SlowConsumer::Drop);
        for _ in 0..10 {
            assert_eq!(full.peer.send("dropped"), Ok(()));
        }
        assert_eq!(full.peer.send_prepared(&Prepared::new("dropped")), Ok(()));
        assert_eq!(full.peer.stats().dropped, 11);
        assert_eq!(full.peer.stats().messages_sent, full.sent as u64);
        // The other forms say what they do.
        assert!(matches!(full.peer.try_send("no"), Err(TrySendError::Full(_))));
        full.app.handle().broadcast("to those with room");
        assert_eq!(full.other.1.expect_frame(), Frame::text("to those with room"));
        eventually("the broadcast counted", || full.peer.stats().dropped == 12);
        full.drain();
        eventually("room", || full.peer.try_send("now").is_ok());
        assert_eq!(full.client.expect_frame(), Frame::text("now"));
        assert_eq!(full.peer.stats().dropped, 12);
        drop((full.client, full.other));
        full.app.finish();
    }
}

#[test]
fn the_policy_disconnect() {
    for way in BOTH_WAYS {
        for by_broadcast in [false, true] {
            let mut full = Full::new(way, SlowConsumer::Disconnect);
            if by_broadcast {
                full.app.handle().broadcast("to those with room");
                assert_eq!(full.other.1.expect_frame(), Frame::text("to those with room"));
            } else {
                let message = Message::Text("no".into());
                assert_eq!(full.peer.send(message.clone()), Err(SendError::Disconnected(message)));
            }
            full.drain();
            assert_eq!(full.client.expect_frame().close_code(), 1008, "{way:?}");
            full.client.send(&close(1008));
            assert_eq!(full.client.frame(), None);
            let reason = full.app.closed();
            assert_eq!(reason.code, CloseCode::POLICY_VIOLATION, "{way:?}: {reason}");
            assert!(!full.peer.is_open());
            drop((full.client, full.other));
            full.app.finish();
        }
    }
}

/// A worker never waits: where it would have to, the message comes back.
#[test]
fn a_worker_that_sends_to_a_full_queue_does_not_wait() {
    let config = Config::default().max_write_buffer_size(MARK);
    let target: Arc<std::sync::OnceLock<Peer>> = Arc::default();
    let app = App::start(Way::Handler, Server::builder().workers(1).config(config), {
        let target = target.clone();
        move |link, message| {
            let Some(peer) = target.get() else { return };
            let outcome = match message.as_text() {
                Some("send") => peer.send("no").map_err(|error| error.to_string()),
                Some("wait") => peer.send_timeout("no", Duration::from_secs(3600)).map_err(|error| error.to_string()),
                _ => peer.send_prepared(&Prepared::new("no")).map_err(|error| error.to_string()),
            };
            link.send(if outcome.is_err() { "refused" } else { "taken" }.into());
        }
    });
    let mut client = Client::narrow(app.addr);
    let peer = app.opened();
    let mut other = Client::open(app.addr);
    let sent = fill(&peer, SIZE, (&app.opened(), &mut other));
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
fn control_frames_get_through_a_full_queue() {
    for way in BOTH_WAYS {
        let mut full = Full::new(way, SlowConsumer::Block);
        for number in 0..10 {
            full.peer.ping(&[number]).expect("it is open");
            full.peer.send(Message::Pong(vec![number])).expect("it is open");
        }
        full.peer.close(CloseCode(4000), "enough").expect("it is open");
        full.drain();
        for number in 0..10 {
            let frame = full.client.expect_frame();
            assert_eq!((frame.opcode, frame.payload), (Opcode::Ping, vec![number]), "{way:?}");
            assert_eq!(full.client.expect_frame(), Frame::pong(&[number]));
        }
        assert_eq!(full.client.expect_frame().close_code(), 4000);
        full.client.send(&close(4000));
        assert_eq!(full.client.frame(), None);
        full.app.expect_end(4000, CloseCause::Local);
        drop((full.client, full.other));
        full.app.finish();
    }
}

#[test]
fn a_closed_peer_gives_every_message_back() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        assert!(peer.is_open());
        client.send(&close(1000));
        client.expect_close(1000);
        app.expect_end(1000, CloseCause::Peer);
        eventually("the end", || !peer.is_open());
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
        // Nor does anything change when the server is gone.
        assert_eq!(peer.ping(b""), Err(ControlError::Disconnected));
        peer.abort();
    }
}

/// An old handle never reaches the connection that has its place now.
#[test]
fn r_09_a_reused_place_has_another_name() {
    for way in BOTH_WAYS {
        let app = App::start(way, Server::builder().workers(1), echo);
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
            assert_eq!(client.expect_frame(), Frame::text(&message), "{way:?}");
            if round % 2 == 0 {
                client.send(&close(1000));
                client.expect_close(1000);
            }
            drop(client);
            // What is posted while it goes down is lost, and reaches nobody else.
            while peer.send("going down").is_ok() {}
            old.push(peer);
            eventually("the end", || app.handle().connections() == 0);
        }
        app.finish();
    }
}

#[test]
fn data_about_a_connection() {
    let app = App::echo(Way::Channel);
    let _client = Client::open(app.addr);
    let peer = app.opened();
    assert_eq!(peer.data::<String>(), None);
    assert_eq!(peer.set_data("Ada".to_owned()), Ok(()));
    assert_eq!(peer.set_data("Bob".to_owned()), Err("Bob".to_owned()), "once");
    assert_eq!(peer.set_data(7_u8), Err(7), "of whatever type");
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
fn what_the_stats_say() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
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
        // A server's frames are as long but for the masking key.
        let sent = received - 3 * 4;
        eventually("the counts", || {
            let stats = peer.stats();
            (stats.messages_received, stats.messages_sent) == (3, 3)
                && (stats.bytes_received, stats.bytes_sent) == (received as u64, sent as u64)
        });
        let stats = peer.stats();
        assert_eq!((stats.queued_bytes, stats.dropped, peer.queued_bytes()), (0, 0, 0), "{way:?}");
        assert_eq!(peer.addr(), client.stream.local_addr().expect("an address"));
        assert_eq!(peer.subprotocol(), None);
        drop(client);
        app.finish();
    }
}

#[test]
fn an_abort_is_a_reset() {
    for way in BOTH_WAYS {
        let app = App::start(way, Server::builder().workers(1), |link, message| {
            assert!(message.as_text().is_some());
            link.abort();
        });
        let mut client = Client::open(app.addr);
        app.opened();
        client.send(&text("abort"));
        assert_eq!(client.try_fill().expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
        app.expect_end(1006, CloseCause::Aborted);
        // From elsewhere as well.
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        peer.abort();
        peer.abort();
        assert_eq!(client.try_fill().expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
        app.expect_end(1006, CloseCause::Aborted);
        assert!(!peer.is_open());
        app.finish();
    }
}

#[test]
fn large_messages_echoed_twice() {
    const SIZE: usize = 5 << 20;
    for way in BOTH_WAYS {
        let builder = Server::builder().workers(1).config(Config::default().max_message_size(SIZE));
        let app = App::start(way, builder, |link, message| {
            link.send(message);
            link.send(message);
            link.send("both".into());
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
                assert!(frame.opcode == Opcode::Binary && frame.payload == payload, "{way:?}");
            }
            assert_eq!(client.expect_frame(), Frame::text("both"));
            writer.join().expect("the writer").expect("the server takes it");
        }
        client.send(&close(1000));
        client.expect_close(1000);
        app.finish();
    }
}

#[test]
fn a_prepared_message_to_many() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        let mut joined: Vec<_> = (0..10)
            .map(|_| {
                let client = Client::open(app.addr);
                (client, app.opened())
            })
            .collect();
        let large = vec![9; 200_000];
        let prepared = [Prepared::new("small"), Prepared::new(&large), Prepared::new("")];
        for (_, peer) in &joined {
            for message in &prepared {
                peer.send_prepared(message).expect("it is open");
            }
            peer.send("after").expect("it is open");
        }
        for (client, peer) in &mut joined {
            for expected in [Frame::text("small"), Frame::binary(&large), Frame::text(""), Frame::text("after")] {
                assert_eq!(client.expect_frame(), expected, "{way:?}");
            }
            eventually("the count", || peer.stats().messages_sent == 4);
        }
        drop(joined);
        app.finish();
    }
}
