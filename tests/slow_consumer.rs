//! Clients that do not read: what happens to messages when the send queue is full.

mod common;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, echo, fill_send_queue};
use common::servers::Mode;
use common::{Client, DEADLINE, Frame, binary, close, eventually, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCause, CloseCode, Config, Event, Message, Peer, Prepared, SendError, SendTimeoutError, Server, SlowConsumer,
    TrySendError,
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
        let config = Config::default().max_write_buffer_size(HIGH_WATER).max_event_buffer_size(1).slow_consumer(policy);
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
            // The application is told the first cause, before the client has read anything.
            if by_broadcast {
                full.app.handle().broadcast("a broadcast");
                assert_eq!(full.other.1.expect_frame(), Frame::text("a broadcast"));
            } else {
                let message = Message::Text("no".into());
                assert_eq!(full.peer.send(message.clone()), Err(SendError::Disconnected(message)));
            }
            let reason = full.app.closed();
            assert_eq!((reason.code, reason.cause), (CloseCode::POLICY_VIOLATION, CloseCause::Failed), "{mode:?}");
            full.drain();
            assert_eq!(full.client.expect_frame().close_code(), 1008, "{mode:?}");
            full.client.send(&close(1008));
            assert_eq!(full.client.frame(), None);
            assert!(!full.peer.is_open());
            drop((full.client, full.other));
            full.app.finish();
        }
    }
}

/// The message is returned instead.
#[test]
fn a_handler_that_sends_to_a_full_queue_does_not_block() {
    let config = Config::default().max_write_buffer_size(HIGH_WATER).max_event_buffer_size(1);
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

/// With the default policy, a loop that answers each event is safe: a client that sends and does not read holds up no
/// other client, its answers are bounded, and all of them arrive once it reads.
#[test]
fn t_03_a_client_that_does_not_read_holds_up_no_other() {
    const COUNT: u32 = 1_000;
    const EVENTS: usize = 256 << 10;
    let payload = |number: u32| [&number.to_be_bytes()[..], &[7; 9_996]].concat();
    for workers in [1, 2] {
        let config = Config::default()
            .max_write_buffer_size(HIGH_WATER)
            .max_event_buffer_size(EVENTS)
            .write_timeout(Duration::from_secs(3600));
        let server = Server::builder().workers(workers).config(config).bind("127.0.0.1:0").expect("a server");
        let (highest, handle) = (Arc::new(AtomicUsize::new(0)), server.handle());
        let mut slow = Client::open_with_small_buffer(server.local_addr());
        let mut other = Client::open(server.local_addr());
        let answers = thread::spawn({
            let highest = highest.clone();
            move || {
                for event in &server {
                    if let Event::Message(peer, message) = event {
                        peer.send(message).expect("an answer to an event has room");
                        highest.fetch_max(peer.queued_bytes(), Ordering::SeqCst);
                    }
                }
            }
        });
        let writer = thread::spawn({
            let mut stream = slow.stream.try_clone().expect("a socket");
            move || (0..COUNT).for_each(|number| stream.write_all(&binary(&payload(number))).expect("written"))
        });
        eventually("the queue is full", || highest.load(Ordering::SeqCst) >= HIGH_WATER);
        for number in 0..100 {
            other.send(&text(&number.to_string()));
            assert_eq!(other.expect_frame(), Frame::text(&number.to_string()));
        }
        other.send(&ping(b"pong at once"));
        assert_eq!(other.expect_frame(), Frame::pong(b"pong at once"));
        for number in 0..COUNT {
            assert!(slow.expect_frame() == Frame::binary(&payload(number)), "answer {number} differs");
        }
        writer.join().expect("the writer");
        let highest = highest.load(Ordering::SeqCst);
        assert!(highest <= HIGH_WATER + EVENTS + 2 * 10_010, "{highest} bytes were queued");
        drop((slow, other));
        handle.shutdown(DEADLINE);
        answers.join().expect("the loop");
    }
}
