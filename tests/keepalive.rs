//! Peers that fall silent, stay too long, or stop reading.

mod common;

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, BOTH_WAYS, TICK, Way, echo};
use common::{Client, Frame, binary, close, eventually, masked, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{CloseCause, Config, SendError, Server};

const INTERVAL: Duration = Duration::from_millis(150);
const GRACE: Duration = Duration::from_millis(200);

fn with(way: Way, config: Config) -> App {
    App::start(way, Server::builder().workers(1).config(config), echo)
}

/// With grace enough for a client that a busy machine holds up: it gets no second ping before it was heard.
fn kept_alive(way: Way) -> App {
    with(way, Config::default().ping_interval(INTERVAL).pong_timeout(common::DEADLINE))
}

/// R-01 without a network that breaks: a peer whose TCP acknowledges but which is dead.
#[test]
fn r_01_a_silent_peer_is_pinged_and_given_up() {
    for way in BOTH_WAYS {
        let app = with(way, Config::default().ping_interval(INTERVAL).pong_timeout(GRACE));
        let start = Instant::now();
        let mut client = Client::open(app.addr);
        let frame = client.expect_frame();
        assert_eq!((frame.opcode, frame.payload.len() <= 125), (Opcode::Ping, true));
        assert!(start.elapsed() >= INTERVAL - TICK, "pinged after {:?}", start.elapsed());
        let error = client.try_fill().expect_err("one ping, and no orderly close");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{way:?}");
        assert!(start.elapsed() >= INTERVAL + GRACE - 2 * TICK, "given up after {:?}", start.elapsed());
        app.expect_end(1006, CloseCause::TimedOut);
        app.finish();
    }
}

#[test]
fn a_peer_that_answers_pings_stays() {
    for way in BOTH_WAYS {
        let app = kept_alive(way);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        assert_eq!(peer.stats().round_trip, None);
        for _ in 0..4 {
            let frame = client.expect_frame();
            assert_eq!(frame.opcode, Opcode::Ping);
            client.send(&masked(true, 0, Opcode::Pong, &frame.payload));
        }
        client.send(&text("still here"));
        assert_eq!(client.expect_frame(), Frame::text("still here"), "{way:?}");
        let round_trip = peer.stats().round_trip.expect("pongs came");
        assert!(round_trip < common::DEADLINE, "{round_trip:?}");
        drop(client);
        app.expect_end(1006, CloseCause::Lost);
        app.finish();
    }
}

/// Whatever a peer sends shows that it is alive, be it part of a frame or a pong for nothing.
#[test]
fn a_peer_that_sends_is_not_given_up() {
    for way in BOTH_WAYS {
        let app = kept_alive(way);
        let mut client = Client::open(app.addr);
        let message = text(&"x".repeat(12));
        let mut bytes = message.iter();
        let start = Instant::now();
        // Each ping is met by one byte of a message, and never by a pong.
        for byte in bytes.by_ref().take(6) {
            client.send(&[*byte]);
            assert_eq!(client.expect_frame().opcode, Opcode::Ping, "{way:?}");
        }
        assert!(start.elapsed() < common::DEADLINE, "the next ping waited for the grace of the one before");
        client.send(bytes.as_slice());
        loop {
            let frame = client.expect_frame();
            if frame.opcode != Opcode::Ping {
                assert_eq!(frame, Frame::text(&"x".repeat(12)));
                break;
            }
        }
        drop(client);
        app.finish();
    }
}

/// No ping before its time: a connection in use is not pinged.
#[test]
fn a_connection_in_use_is_not_pinged() {
    let app = with(Way::Handler, Config::default().ping_interval(Duration::from_secs(5)));
    let mut client = Client::open(app.addr);
    for number in 0..1000 {
        client.send(&text(&number.to_string()));
        assert_eq!(client.expect_frame(), Frame::text(&number.to_string()));
    }
    drop(client);
    app.finish();
}

#[test]
fn a_lifetime_ends_with_1001() {
    const LIFETIME: Duration = Duration::from_millis(200);
    for way in BOTH_WAYS {
        let app = with(way, Config::default().max_lifetime(LIFETIME));
        let start = Instant::now();
        let mut client = Client::open(app.addr);
        // Though it is in use all the time.
        let mut number = 0;
        loop {
            number += 1;
            client.send(&text(&number.to_string()));
            let frame = client.expect_frame();
            if frame.opcode == Opcode::Close {
                assert_eq!(frame.close_code(), 1001, "{way:?}");
                break;
            }
            assert_eq!(frame, Frame::text(&number.to_string()));
        }
        assert!(start.elapsed() >= LIFETIME - TICK, "{:?}", start.elapsed());
        client.send(&close(1001));
        assert_eq!(client.frame(), None);
        app.expect_end(1001, CloseCause::Local);
        app.finish();
    }
}

const MARK: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_millis(300);

/// T-03: a peer that asks and asks and never reads. What is queued for it stays near the mark, and it does not stay.
#[test]
fn t_03_a_peer_that_never_reads_is_closed_with_1008() {
    for way in BOTH_WAYS {
        let config = Config::default()
            .max_write_buffer_size(MARK)
            .max_event_buffer_size(MARK)
            .write_timeout(TIMEOUT)
            .close_timeout(TIMEOUT);
        let app = with(way, config);
        let mut client = Client::narrow(app.addr);
        let peer = app.opened();
        let start = Instant::now();
        let writer = thread::spawn({
            let mut stream = client.stream.try_clone().expect("a socket");
            let message = binary(&[7; 10_000]);
            move || while stream.write_all(&message).is_ok() {}
        });
        let highest = std::cell::Cell::new(0);
        eventually(&format!("its end, {way:?}"), || {
            highest.set(highest.get().max(peer.queued_bytes()));
            !peer.is_open()
        });
        let highest = highest.get();
        assert!(start.elapsed() >= TIMEOUT - TICK, "{:?}", start.elapsed());
        assert!(highest < MARK + 2 * 10_004, "{way:?}: {highest} bytes were queued");
        let reason = app.closed();
        assert_eq!((reason.code.0, reason.cause), (1008, CloseCause::Failed), "{way:?}: {reason}");
        eventually("the connection's end", || app.handle().connections() == 0);
        writer.join().expect("the writer");
        // Whole frames, as far as they came.
        while client.try_fill().is_ok_and(|size| size > 0) {}
        app.finish();
    }
}

/// Progress is what counts: a peer that reads slowly, but reads, stays.
#[test]
fn t_03_a_peer_that_reads_slowly_stays() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let config = Config::default().max_write_buffer_size(MARK).write_timeout(TIMEOUT);
    let app = with(Way::Channel, config);
    let mut client = Client::narrow(app.addr);
    let peer = app.opened();
    let sender = thread::spawn(move || {
        let mut sent = 0;
        for number in 0..200_u8 {
            match peer.send(vec![number; 100_000]) {
                Ok(()) => sent += 1,
                Err(SendError::Disconnected(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        sent
    });
    let start = Instant::now();
    for number in 0..200_u8 {
        assert_eq!(client.expect_frame(), Frame::binary(&vec![number; 100_000]));
        // Slower than the timeout for the whole, faster for each part.
        let next = start + Duration::from_millis(12) * u32::from(number);
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    assert!(start.elapsed() > TIMEOUT);
    assert_eq!(sender.join().expect("the sender"), 200);
    drop(client);
    app.finish();
}
