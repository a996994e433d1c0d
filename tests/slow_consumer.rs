//! Clients that do not read: what happens to messages when the send queue is full.

use crate::common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, Connection, TICK, echo, fill_send_queue};
use common::servers::Mode;
use common::{Client, DEADLINE, Frame, accept, binary, close, eventually, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Client as ThreadedClient, ClientError, CloseCause, CloseCode, Config, Event, Message, Peer, Prepared, SendError,
    SendTimeoutError, Server, SlowConsumer, TrySendError,
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

/// What a client takes in each `write_timeout` that takes its download at the least rate, and what it is sent.
const DOWNLOAD: usize = 16 << 20;
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// A server that demands more of its clients than any of the tests takes, and sends `DOWNLOAD` bytes for each message.
fn demanding(mode: Mode, on_download: impl Fn(&mut dyn Connection) + Send + Sync + 'static) -> App {
    let config = Config::default()
        .max_write_buffer_size(HIGH_WATER)
        .write_timeout(WRITE_TIMEOUT)
        .min_write_progress(DOWNLOAD)
        .close_timeout(DEADLINE)
        .ping_interval(None);
    App::start(mode, Server::builder().workers(1).config(config), move |connection, _| {
        assert!(connection.send(vec![7; DOWNLOAD][..].into()));
        on_download(connection);
    })
}

/// Reads a little again and again, until the connection ends or the condition holds. Returns how much that was.
fn trickle(stream: &mut TcpStream, mut until: impl FnMut() -> bool) -> usize {
    let (start, mut received, mut chunk) = (Instant::now(), 0, vec![0; 64 << 10]);
    while !until()
        && let Ok(size @ 1..) = stream.read(&mut chunk)
    {
        received += size;
        assert!(start.elapsed() < DEADLINE, "the connection is open");
        thread::park_timeout(Duration::from_millis(20));
    }
    received
}

/// The client always takes some of its output, and less than `min_write_progress` in each `write_timeout`.
#[test]
fn t_03_a_client_that_takes_too_little_is_closed_with_1008() {
    for mode in Mode::ALL {
        let app = demanding(mode, |_| ());
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let start = Instant::now();
        client.send(&text("download"));
        trickle(&mut client.stream, || !peer.is_open());
        assert!(start.elapsed() >= WRITE_TIMEOUT - TICK, "{:?}", start.elapsed());
        let reason = app.closed();
        assert_eq!((reason.code.0, reason.cause), (1008, CloseCause::Failed), "{mode:?}: {reason}");
        // The close frame is behind the rest, which has as long again.
        trickle(&mut client.stream, || app.handle().connections() == 0);
        app.finish();
    }
}

/// The same for what waits before a close frame of the application.
#[test]
fn t_03_a_client_that_takes_too_little_before_a_close_frame_is_reset() {
    for mode in Mode::ALL {
        let app = demanding(mode, |connection| connection.close(CloseCode(4000), "").expect("open"));
        let mut client = Client::open_with_small_buffer(app.addr);
        client.send(&text("download"));
        let received = trickle(&mut client.stream, || app.handle().connections() == 0);
        assert!(received < DOWNLOAD, "{mode:?}: {received}");
        app.expect_closed(1006, CloseCause::TimedOut);
        app.finish();
    }
}

/// The same for a client whose server takes too little.
#[test]
fn t_03_a_server_that_takes_too_little_is_closed_with_1008() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket2::SockRef::from(&listener).set_recv_buffer_size(128 << 10).expect("a socket");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || trickle(&mut accept(&listener, &[]), || false));
    let config = Config::default()
        .max_write_buffer_size(HIGH_WATER)
        .write_timeout(WRITE_TIMEOUT)
        .min_write_progress(DOWNLOAD)
        .ping_interval(None);
    let client = ThreadedClient::builder().config(config).connect(&url).expect("connected");
    client.send(vec![7; DOWNLOAD]).expect("sent");
    let error = client.recv_timeout(DEADLINE).expect_err("a failure");
    assert!(matches!(error, ClientError::Failed(..)), "{error:?}");
    let reason = client.close_reason().expect("closed");
    assert_eq!((reason.code, reason.cause), (CloseCode::POLICY_VIOLATION, CloseCause::Failed), "{reason}");
    drop(client);
    assert!(server.join().expect("the server") < DOWNLOAD);
}

/// The output goes below the high-water mark with each read of the client, and above it with the next message.
#[test]
fn t_03_messages_that_refill_the_queue_do_not_renew_the_timeout() {
    for mode in Mode::ALL {
        let config = Config::default()
            .max_write_buffer_size(DOWNLOAD)
            .write_timeout(WRITE_TIMEOUT)
            .min_write_progress(DOWNLOAD / 2)
            .close_timeout(DEADLINE)
            .ping_interval(None);
        let app = App::start(mode, Server::builder().workers(1).config(config), echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let sender = thread::spawn({
            let peer = peer.clone();
            move || {
                loop {
                    match peer.try_send(vec![7; 10_000]) {
                        Err(TrySendError::Disconnected(_)) => break,
                        Err(_) => thread::park_timeout(Duration::from_millis(1)),
                        Ok(()) => {}
                    }
                }
            }
        });
        eventually("the queue is full", || peer.queued_bytes() >= DOWNLOAD);
        trickle(&mut client.stream, || !peer.is_open());
        app.expect_closed(1008, CloseCause::Failed);
        sender.join().expect("the sender");
        client.reset();
        app.finish();
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
