//! Messages of which only the latest of each key counts: `SendOptions::latest`.

use crate::common;

use std::time::Duration;

use common::app::App;
use common::servers::Mode;
use common::stalled::{HIGH_WATER, SIZE, Stalled, config, each_setting};
use common::{Client, DEADLINE, Frame, close, eventually, text};
use crossbeam_channel::Sender;
use threadbare::{
    CloseCause, CloseCode, Config, Event, EventRef, Message, MessageRef, Peer, Prepared, SendError, SendOptions,
    Server, SlowConsumer, Socket, Stats, TrySendError,
};

const KEYS: u64 = 3;

fn latest(key: u64) -> SendOptions {
    SendOptions::new().latest(key)
}

/// An update of one of the keys. It says how many ordinary messages were sent before it.
fn update(number: u64, ordinary: u64, padding: &str) -> String {
    format!("update {} {number} {ordinary} {padding}", number % KEYS)
}

/// What a client has received.
#[derive(Debug, Default)]
struct Received {
    newest: [u64; KEYS as usize],
    updates: u64,
    ordinary: u64,
}

impl Received {
    /// Notes a message, and asserts that it may come now.
    fn note(&mut self, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().expect("a number");
        if words[0] == "ordinary" {
            assert_eq!(number(1), self.ordinary, "in order and complete");
            self.ordinary += 1;
            return;
        }
        let newest = &mut self.newest[number(1) as usize];
        assert!(number(2) > *newest, "{} after {newest}", number(2));
        assert!(number(3) <= self.ordinary, "{} overtook an ordinary message: {self:?}", number(2));
        *newest = number(2);
        self.updates += 1;
    }

    /// Whether the newest of `updates` have arrived, and all ordinary messages.
    fn is_complete(&self, updates: u64, ordinary: u64) -> bool {
        self.ordinary == ordinary && self.newest.iter().all(|newest| *newest + KEYS > updates)
    }

    /// Asserts that each update either arrived or was replaced.
    fn expect_all(&self, updates: u64, stats: impl Fn() -> Stats) {
        eventually("the messages are counted", || stats().messages_sent == self.updates + self.ordinary);
        assert_eq!(stats().replaced + self.updates, updates, "{self:?}");
        assert_eq!((stats().dropped, stats().queued_bytes), (0, 0));
    }
}

#[test]
fn t_03_a_client_that_reads_again_gets_the_newest_of_each_key() {
    const UPDATES: u64 = 100_000;
    let padding = "x".repeat(1000);
    each_setting(|mode, workers| {
        let mut stalled = Stalled::new(mode, workers, config());
        let (mut highest, mut ordinary) = (0, 0);
        for number in 1..=UPDATES {
            let sent = stalled.peer.send_with(update(number, ordinary, &padding), latest(number % KEYS));
            assert_eq!(sent, Ok(()));
            if number % 1000 == 0 {
                let sent = stalled.peer.send(format!("ordinary {ordinary}"));
                assert!(sent.is_ok(), "{sent:?} {mode:?} {workers} {number} {:?}", stalled.peer.stats());
                ordinary += 1;
            }
            highest = highest.max(stalled.peer.queued_bytes());
        }
        assert!(highest <= 16 << 10, "{highest} bytes were queued");
        let mut received = Received::default();
        while !received.is_complete(UPDATES, ordinary) {
            received.note(&String::from_utf8(stalled.client.expect_frame().payload).expect("text"));
        }
        received.expect_all(UPDATES, || stalled.peer.stats());
        assert!(stalled.peer.stats().replaced > UPDATES / 2, "{:?}", stalled.peer.stats());
        stalled.peer.close(CloseCode(4000), "").expect("the connection is open");
        assert_eq!(stalled.client.expect_frame().close_code(), 4000, "nothing is left");
        drop((stalled.client, stalled.other));
        stalled.app.finish();
    });
}

/// A server whose worker is busy until `release`, so that messages stay in its inbox.
fn busy_worker() -> (App, Client, Peer, Sender<()>) {
    let (enter, entered) = crossbeam_channel::bounded(1);
    let (release, released) = crossbeam_channel::bounded(1);
    let app = App::start(Mode::Handler, Server::builder().workers(1), move |_, message| {
        if message.as_text() == Some("block") {
            enter.send(()).expect("the test waits");
            let _ = released.recv_timeout(DEADLINE); // the test may have failed
        }
    });
    let mut client = Client::open(app.addr);
    let peer = app.opened();
    client.send(&text("block"));
    entered.recv_timeout(DEADLINE).expect("the worker is busy");
    (app, client, peer, release)
}

#[test]
fn a_worker_that_does_not_run_holds_one_message_of_each_key() {
    const UPDATES: u64 = 100_000;
    let (app, mut client, peer, release) = busy_worker();
    let mut ordinary = 0;
    for number in 1..=UPDATES {
        peer.send_with(update(number, ordinary, ""), latest(number % KEYS)).expect("the connection is open");
        if number % 10_000 == 0 {
            peer.send(format!("ordinary {ordinary}")).expect("there is room");
            ordinary += 1;
        }
        assert!(peer.queued_bytes() < 300, "{} bytes are queued", peer.queued_bytes());
    }
    assert_eq!(peer.stats().replaced, UPDATES - KEYS);
    release.send(()).expect("the worker is busy");
    let mut received = Received::default();
    while !received.is_complete(UPDATES, ordinary) {
        received.note(&String::from_utf8(client.expect_frame().payload).expect("text"));
    }
    assert_eq!(received.updates, KEYS);
    received.expect_all(UPDATES, || peer.stats());
    drop(client);
    app.finish();
}

/// All messages are too many for one write, and the broadcast comes before the rest of them is written.
#[test]
fn a_broadcast_does_not_arrive_before_an_older_message_with_its_key() {
    const COUNT: u64 = 200;
    let (app, mut client, peer, release) = busy_worker();
    let old = |key: u64| format!("old {key} {}", "x".repeat(1000));
    for key in 0..COUNT {
        peer.send_with(old(key), latest(key)).expect("there is room");
    }
    app.handle().broadcast_prepared(&Prepared::with("new", latest(COUNT - 1)));
    release.send(()).expect("the worker is busy");
    for key in 0..COUNT - 1 {
        assert_eq!(client.expect_frame(), Frame::text(&old(key)));
    }
    assert_eq!(client.expect_frame(), Frame::text("new"));
    eventually("the messages are counted", || peer.stats().messages_sent == COUNT);
    assert_eq!((peer.stats().replaced, peer.queued_bytes()), (1, 0));
    drop(client);
    app.finish();
}

#[test]
fn a_new_key_needs_room_and_a_known_one_does_not() {
    for mode in Mode::ALL {
        let mut full = Stalled::new(mode, 1, config()).filled();
        for key in 0..1024 {
            assert_eq!(full.peer.send_with("first", latest(key)), Ok(()), "{key}");
        }
        let new = |policy| latest(9999).slow_consumer(policy);
        let full_error = |text: &str| Err(SendError::Full(Message::from(text)));
        assert_eq!(full.peer.send_with("refused", latest(9999)), full_error("refused"));
        assert_eq!(full.peer.send_with("dropped", new(SlowConsumer::Drop)), Ok(()));
        full.peer.set_slow_consumer(SlowConsumer::Drop);
        assert_eq!(full.peer.send_with("dropped", latest(9999)), Ok(()));
        assert_eq!(full.peer.send_with("refused", new(SlowConsumer::Refuse)), full_error("refused"));
        assert_eq!(full.peer.stats().dropped, 2);
        let prepared = |text: &str, key| Prepared::with(text, latest(key));
        assert_eq!(full.peer.try_send_prepared(&prepared("no", 9999)), Err(TrySendError::Full(())));
        assert_eq!(full.peer.try_send_prepared(&prepared("second", 5)), Ok(()));
        assert_eq!((full.peer.stats().replaced, full.peer.stats().dropped), (1, 2));
        let late = std::thread::spawn({
            let peer = full.peer.clone();
            move || peer.send_with("late", latest(9999).slow_consumer(SlowConsumer::Block))
        });
        assert!(full.peer.send_prepared_timeout(&prepared("never", 9998), Duration::from_millis(20)).is_err());
        full.drain();
        for key in 0..1024 {
            assert_eq!(full.client.expect_frame(), Frame::text(if key == 5 { "second" } else { "first" }), "{key}");
        }
        assert_eq!(late.join().expect("the sender"), Ok(()));
        assert_eq!(full.client.expect_frame(), Frame::text("late"));
        drop((full.client, full.other));
        full.app.finish();
    }
}

#[test]
fn a_new_key_beyond_the_limit_may_disconnect() {
    let mut full = Stalled::new(Mode::Channel, 1, config()).filled();
    assert_eq!(full.peer.send_with(vec![1; HIGH_WATER], latest(1)), Ok(()));
    let gone = full.peer.send_with("no", latest(2).slow_consumer(SlowConsumer::Disconnect));
    assert_eq!(gone, Err(SendError::Disconnected("no".into())));
    assert_eq!(full.app.closed().code, CloseCode::POLICY_VIOLATION);
    assert_eq!(full.peer.send_with("no", latest(1)), Err(SendError::Disconnected("no".into())));
    full.drain();
    assert_eq!(full.client.expect_frame().payload.len(), HIGH_WATER, "what waited precedes the close frame");
    assert_eq!(full.client.expect_frame().close_code(), 1008);
    drop((full.client, full.other));
    full.app.finish();
}

/// The two have room of their own, so that answers are not refused because of updates.
#[test]
fn updates_take_no_room_of_the_queue() {
    const LIMIT: usize = 32 << 20;
    for mode in Mode::ALL {
        let config = config().max_write_buffer_size(LIMIT);
        let mut stalled = Stalled::new(mode, 1, config);
        for number in 0..16 {
            stalled.peer.send(vec![number; SIZE]).expect("there is room");
        }
        assert_eq!(stalled.peer.send_with(vec![16; LIMIT], latest(1)), Ok(()));
        assert!(stalled.peer.queued_bytes() >= LIMIT);
        assert_eq!(stalled.peer.send_with("no", latest(2)), Err(SendError::Full("no".into())));
        stalled.peer.try_send("there is room").expect("there is room");
        // The connection is read, and answered.
        stalled.client.send(&text("echo"));
        for number in 0..16 {
            assert!(stalled.client.expect_frame() == Frame::binary(&vec![number; SIZE]));
        }
        let mut rest: Vec<_> = (0..3).map(|_| stalled.client.expect_frame().payload).collect();
        rest.retain(|payload| payload.len() < LIMIT);
        rest.sort();
        assert_eq!(rest, [&b"echo"[..], b"there is room"]);
        drop((stalled.client, stalled.other));
        stalled.app.finish();
    }
}

#[test]
fn what_waits_is_sent_before_the_close_frame() {
    each_setting(|mode, workers| {
        for by_client in [false, true] {
            let mut full = Stalled::new(mode, workers, config()).filled();
            for number in 0..10 {
                full.peer.send_with(format!("{number}"), latest(number % KEYS)).expect("the connection is open");
            }
            if !by_client {
                full.peer.close(CloseCode(4000), "").expect("the connection is open");
                assert!(full.peer.send_with("late", latest(0)).is_err());
            }
            full.drain();
            if by_client {
                full.client.send(&close(4000));
            }
            for newest in ["9", "7", "8"] {
                assert_eq!(full.client.expect_frame(), Frame::text(newest));
            }
            assert_eq!(full.client.expect_frame().close_code(), 4000);
            if !by_client {
                full.client.send(&close(4000));
            }
            assert_eq!(full.client.frame(), None);
            full.app.expect_closed(4000, if by_client { CloseCause::Peer } else { CloseCause::Local });
            eventually("nothing is queued", || full.peer.queued_bytes() == 0);
            assert_eq!(full.peer.stats().replaced, 7);
            drop(full.other);
            full.app.finish();
        }
    });
}

#[test]
fn what_waits_is_discarded_if_the_connection_is_lost() {
    for mode in Mode::ALL {
        let full = Stalled::new(mode, 1, config()).filled();
        full.peer.send_with("lost", latest(1)).expect("the connection is open");
        full.client.reset();
        full.app.closed();
        eventually("nothing can be sent", || full.peer.send_with("no", latest(1)).is_err());
        drop(full.other);
        full.app.finish();
    }
}

#[test]
fn a_broadcast_replaces_the_one_before_where_it_waits() {
    each_setting(|mode, workers| {
        let mut full = Stalled::new(mode, workers, config()).filled();
        let handle = full.app.handle();
        for number in 0..50 {
            let message = format!("tick {number}");
            handle.broadcast_prepared(&Prepared::with(&*message, latest(7)));
            assert_eq!(full.other.1.expect_frame(), Frame::text(&message));
        }
        eventually("all of them were replaced", || full.peer.stats().replaced == 49);
        full.peer.send_with("the newest", latest(7)).expect("its key is known");
        assert_eq!((full.peer.stats().replaced, full.peer.stats().dropped), (50, 0));
        full.drain();
        assert_eq!(full.client.expect_frame(), Frame::text("the newest"));
        handle.broadcast_prepared(&Prepared::with("at once", latest(7)));
        assert_eq!(full.client.expect_frame(), Frame::text("at once"));
        drop((full.client, full.other));
        full.app.finish();
    });
}

#[test]
fn a_handler_replaces_its_own_messages() {
    let server = Server::builder().workers(1).config(config()).serve("127.0.0.1:0", |_| {
        |socket: &mut Socket<'_>, _message: MessageRef<'_>| {
            assert!(socket.send_with("at once", latest(0)));
            assert!(socket.send(vec![7; SIZE]));
            for number in 1..=1000 {
                assert!(socket.send_with(update(number, 0, ""), latest(number % KEYS)));
            }
            let prepared = Prepared::with(&*update(1002, 0, ""), latest(1002 % KEYS));
            assert!(socket.send_prepared(&prepared));
            assert_eq!(socket.stats().replaced, 1001 - KEYS);
            assert!((SIZE..SIZE + 200).contains(&socket.queued_bytes()), "{}", socket.queued_bytes());
            for key in 3..1024 {
                assert!(socket.send_with("", latest(key)), "{key}");
            }
            assert!(!socket.send_with("no room", latest(9999)));
            assert!(socket.send_with("no room", latest(9999).slow_consumer(SlowConsumer::Drop)));
            assert_eq!(socket.stats().dropped, 1);
            // It is executed after the callback, when the messages before it wait.
            socket.broadcast_prepared(&Prepared::with("the newest", latest(1)));
        }
    });
    let server = server.expect("a server");
    let mut client = Client::open(server.local_addr());
    client.send(&text("go"));
    assert_eq!(client.expect_frame(), Frame::text("at once"));
    assert_eq!(client.expect_frame(), Frame::binary(&vec![7; SIZE]));
    assert_eq!(client.expect_frame(), Frame::text("the newest"));
    for newest in [998, 1002] {
        assert_eq!(client.expect_frame(), Frame::text(&update(newest, 0, "")));
    }
    for _ in 3..1024 {
        assert_eq!(client.expect_frame(), Frame::text(""));
    }
    client.send(&close(1000));
    assert_eq!(client.expect_frame().close_code(), 1000);
}

#[test]
fn a_thread_that_runs_the_loop_replaces_its_messages_between_polls() {
    let mut event_loop = Server::builder().bind_inline("127.0.0.1:0").expect("a server");
    let mut client = std::thread::scope(|scope| {
        let addr = event_loop.local_addr();
        let client = scope.spawn(move || Client::open(addr));
        while !client.is_finished() {
            event_loop.poll(Some(Duration::from_millis(1)), |_| {}).expect("no error");
        }
        client.join().expect("connects")
    });
    client.send(&text("hello"));
    let mut peer: Option<Peer> = None;
    while peer.is_none() {
        let on_event = |event: EventRef<'_>| {
            if let EventRef::Message(from, _) = event {
                peer = Some(from.clone());
            }
        };
        event_loop.poll(Some(DEADLINE), on_event).expect("no error");
    }
    let peer = peer.expect("a message");
    for number in 1..=1000 {
        peer.send_with(update(number, 0, ""), latest(number % KEYS)).expect("the connection is open");
    }
    assert_eq!(peer.stats().replaced, 1000 - KEYS);
    event_loop.poll(Some(Duration::ZERO), |_| {}).expect("no error");
    for newest in [1000, 998, 999] {
        assert_eq!(client.expect_frame(), Frame::text(&update(newest, 0, "")));
    }
    assert_eq!(peer.queued_bytes(), 0);
}

/// A server and a client, neither of which receives: what waits is compressed and masked when it is sent.
#[test]
fn both_ends_replace_what_waits_with_compression_and_masking() {
    const UPDATES: u64 = 20_000;
    let padding: String =
        (0..4000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    for compressed in [false, true] {
        let config = with_deflate(Config::default().max_event_buffer_size(1), compressed);
        let server = Server::builder().workers(1).config(config.clone()).bind("127.0.0.1:0").expect("a server");
        let url = format!("ws://{}", server.local_addr());
        let client = threadbare::Client::builder().no_proxy().config(config).connect(&url).expect("connects");
        let Ok(Event::Open(peer, _)) = server.recv_timeout(DEADLINE) else { panic!("the first event") };
        let mut highest = 0;
        for number in 1..=UPDATES {
            let options = latest(number % KEYS);
            peer.send_with(update(number, 0, &padding), options).expect("the connection is open");
            client.send_with(update(number, 0, &padding), options).expect("the connection is open");
            highest = highest.max(peer.queued_bytes()).max(client.stats().queued_bytes);
        }
        assert!(highest <= 64 << 10, "{highest} bytes were queued");
        let (mut at_client, mut at_server) = (Received::default(), Received::default());
        while !at_client.is_complete(UPDATES, 0) {
            let message = client.recv_timeout(DEADLINE).expect("a message");
            at_client.note(message.as_ref().and_then(Message::as_text).expect("text"));
        }
        while !at_server.is_complete(UPDATES, 0) {
            match server.recv_timeout(DEADLINE) {
                Ok(Event::Message(_, message)) => at_server.note(message.as_text().expect("text")),
                other => panic!("{other:?}"),
            }
        }
        at_client.expect_all(UPDATES, || peer.stats());
        at_server.expect_all(UPDATES, || client.stats());
        assert!(peer.stats().replaced > 0 && client.stats().replaced > 0);
        let is_negotiated = peer.stats().deflate.is_some_and(|deflate| deflate.sent > deflate.sent_compressed);
        assert_eq!(is_negotiated, compressed && cfg!(feature = "deflate"));
    }
}

#[cfg(feature = "deflate")]
fn with_deflate(config: Config, compressed: bool) -> Config {
    config.deflate(compressed.then(threadbare::DeflateConfig::default))
}

#[cfg(not(feature = "deflate"))]
fn with_deflate(config: Config, _: bool) -> Config {
    config
}
