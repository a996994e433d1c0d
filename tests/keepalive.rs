//! Keepalive pings, the maximum lifetime, and clients that stop reading.

mod common;

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, TICK, echo};
use common::servers::Mode;
use common::{Client, Frame, binary, close, eventually, masked, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{CloseCause, Config, SendError, Server, SlowConsumer};

const INTERVAL: Duration = Duration::from_millis(150);
const PONG_TIMEOUT: Duration = Duration::from_millis(200);

fn start(mode: Mode, config: Config) -> App {
    App::start(mode, Server::builder().workers(1).config(config), echo)
}

/// An application that pings. The client is not timed out though a busy machine delays it.
fn with_pings(mode: Mode) -> App {
    start(mode, Config::default().ping_interval(INTERVAL).pong_timeout(common::DEADLINE))
}

/// the client's kernel acknowledges, but the client does not answer.
#[test]
fn r_01_a_silent_client_is_pinged_and_reset() {
    for mode in Mode::ALL {
        let app = start(mode, Config::default().ping_interval(INTERVAL).pong_timeout(PONG_TIMEOUT));
        let start = Instant::now();
        let mut client = Client::open(app.addr);
        let frame = client.expect_frame();
        assert_eq!((frame.opcode, frame.payload.len() <= 125), (Opcode::Ping, true));
        assert!(start.elapsed() >= INTERVAL - TICK, "pinged after {:?}", start.elapsed());
        let error = client.try_read().expect_err("a reset after one ping");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{mode:?}");
        assert!(start.elapsed() >= INTERVAL + PONG_TIMEOUT - 2 * TICK, "reset after {:?}", start.elapsed());
        app.expect_closed(1006, CloseCause::TimedOut);
        app.finish();
    }
}

/// A callback holds up the worker for longer than a ping and its answer may take. The ping that is sent late has its whole
/// time.
#[test]
fn a_client_is_not_blamed_for_a_worker_that_was_held_up() {
    const PONG_TIMEOUT: Duration = Duration::from_secs(2);
    let config = Config::default().ping_interval(INTERVAL).pong_timeout(PONG_TIMEOUT);
    let app = App::start(Mode::Handler, Server::builder().workers(1).config(config), |connection, message| {
        if message.as_text() == Some("hold") {
            thread::sleep(INTERVAL + PONG_TIMEOUT + Duration::from_millis(500));
        }
        connection.send(message);
    });
    let mut idle = Client::open(app.addr);
    let mut busy = Client::open(app.addr);
    busy.send(&text("hold"));
    assert_eq!(busy.expect_frame(), Frame::text("hold"));
    let ping = idle.expect_frame();
    assert_eq!(ping.opcode, Opcode::Ping);
    idle.send(&masked(true, 0, Opcode::Pong, &ping.payload));
    idle.send(&text("still here"));
    assert_eq!(idle.expect_frame(), Frame::text("still here"));
    drop((idle, busy));
    app.finish();
}

#[test]
fn a_client_that_answers_pings_stays_connected() {
    for mode in Mode::ALL {
        let app = with_pings(mode);
        let mut client = Client::open(app.addr);
        let peer = app.opened();
        assert_eq!(peer.stats().round_trip, None);
        for _ in 0..4 {
            let frame = client.expect_frame();
            assert_eq!(frame.opcode, Opcode::Ping);
            client.send(&masked(true, 0, Opcode::Pong, &frame.payload));
        }
        client.send(&text("hello"));
        assert_eq!(client.expect_frame(), Frame::text("hello"), "{mode:?}");
        let round_trip = peer.stats().round_trip.expect("pongs were received");
        assert!(round_trip < common::DEADLINE, "{round_trip:?}");
        drop(client);
        app.expect_closed(1006, CloseCause::Lost);
        app.finish();
    }
}

/// A byte in the middle of a frame is enough.
#[test]
fn any_received_byte_answers_a_ping() {
    for mode in Mode::ALL {
        let app = with_pings(mode);
        let mut client = Client::open(app.addr);
        let message = text(&"x".repeat(12));
        let mut bytes = message.iter();
        let start = Instant::now();
        // The client answers each ping by one byte of a message, and never by a pong.
        for byte in bytes.by_ref().take(6) {
            client.send(&[*byte]);
            assert_eq!(client.expect_frame().opcode, Opcode::Ping, "{mode:?}");
        }
        assert!(start.elapsed() < common::DEADLINE, "a ping waited for the pong timeout of the one before");
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

#[test]
fn a_connection_in_use_is_not_pinged() {
    let app = with_pings(Mode::Handler);
    let start = Instant::now();
    let mut client = Client::open(app.addr);
    let mut echoed_since = start;
    while start.elapsed() < 5 * INTERVAL {
        let sent = Instant::now();
        client.send(&text("in use"));
        let mut frame = client.expect_frame();
        if frame.opcode == Opcode::Ping {
            // A busy machine may have delayed this client, or the server, by the interval.
            assert!(echoed_since.elapsed() >= INTERVAL - TICK, "pinged after {:?}", echoed_since.elapsed());
            client.send(&masked(true, 0, Opcode::Pong, &frame.payload));
            frame = client.expect_frame();
        }
        assert_eq!(frame, Frame::text("in use"));
        echoed_since = sent;
    }
    drop(client);
    app.finish();
}

#[test]
fn max_lifetime_closes_with_1001() {
    const LIFETIME: Duration = Duration::from_millis(200);
    for mode in Mode::ALL {
        let app = start(mode, Config::default().max_lifetime(LIFETIME));
        let start = Instant::now();
        let mut client = Client::open(app.addr);
        // The connection is in use all the time.
        let mut number = 0;
        loop {
            number += 1;
            client.send(&text(&number.to_string()));
            let frame = client.expect_frame();
            if frame.opcode == Opcode::Close {
                assert_eq!(frame.close_code(), 1001, "{mode:?}");
                break;
            }
            assert_eq!(frame, Frame::text(&number.to_string()));
        }
        assert!(start.elapsed() >= LIFETIME - TICK, "{:?}", start.elapsed());
        client.send(&close(1001));
        assert_eq!(client.frame(), None);
        app.expect_closed(1001, CloseCause::Local);
        app.finish();
    }
}

const HIGH_WATER: usize = 64 << 10;
const WRITE_TIMEOUT: Duration = Duration::from_millis(300);

/// T-03: the client sends and never reads. The send queue stays near the high-water mark.
#[test]
fn t_03_a_client_that_never_reads_is_closed_with_1008() {
    for mode in Mode::ALL {
        let config = Config::default()
            .max_write_buffer_size(HIGH_WATER)
            .max_event_buffer_size(HIGH_WATER)
            .write_timeout(WRITE_TIMEOUT)
            .close_timeout(WRITE_TIMEOUT);
        let app = start(mode, config);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let start = Instant::now();
        let writer = thread::spawn({
            let mut stream = client.stream.try_clone().expect("a socket");
            let message = binary(&[7; 10_000]);
            move || while stream.write_all(&message).is_ok() {}
        });
        let highest = std::cell::Cell::new(0);
        eventually(&format!("{mode:?}: the connection is closed"), || {
            highest.set(highest.get().max(peer.queued_bytes()));
            !peer.is_open()
        });
        let highest = highest.get();
        assert!(start.elapsed() >= WRITE_TIMEOUT - TICK, "{:?}", start.elapsed());
        // Answers to the events that had been delivered come on top.
        let events = if mode == Mode::Channel { HIGH_WATER } else { 0 };
        assert!(highest < HIGH_WATER + events + 2 * 10_004, "{mode:?}: {highest} bytes were queued");
        let reason = app.closed();
        assert_eq!((reason.code.0, reason.cause), (1008, CloseCause::Failed), "{mode:?}: {reason}");
        eventually("the connection is removed", || app.handle().connections() == 0);
        writer.join().expect("the writer");
        client.wait_for_end();
        app.finish();
    }
}

/// `write_timeout` counts from the last progress.
#[test]
fn t_03_a_client_that_reads_slowly_stays_connected() {
    const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
    let config = Config::default()
        .max_write_buffer_size(HIGH_WATER)
        .write_timeout(WRITE_TIMEOUT)
        .slow_consumer(SlowConsumer::Block);
    let app = start(Mode::Channel, config);
    let mut client = Client::open_with_small_buffer(app.addr);
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
        // All messages together take longer than the timeout, each one far less.
        let next = start + Duration::from_millis(12) * u32::from(number);
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    assert!(start.elapsed() > WRITE_TIMEOUT);
    assert_eq!(sender.join().expect("the sender"), 200);
    drop(client);
    app.finish();
}
