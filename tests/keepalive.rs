//! Keepalive pings, close frames behind much data, the maximum lifetime, and clients that stop reading.

use crate::common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, TICK, echo};
use common::servers::Mode;
use common::{Client, Frame, accept, binary, close, eventually, masked, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Client as ThreadedClient, CloseCause, CloseCode, Config, EventRef, Message, SendError, Server, SlowConsumer,
};

const INTERVAL: Duration = Duration::from_millis(150);
const PONG_TIMEOUT: Duration = Duration::from_millis(200);

fn start(mode: Mode, config: Config) -> App {
    App::start(mode, Server::builder().workers(1).config(config), echo)
}

/// An application that pings. The client is not timed out though a busy machine delays it.
fn with_pings(mode: Mode) -> App {
    start(mode, Config::default().ping_interval(INTERVAL).pong_timeout(common::DEADLINE))
}

/// Asserts that the server gives up a client that stays, and removes the connection.
fn expect_given_up(app: App, client: Client) {
    app.expect_closed(1006, CloseCause::TimedOut);
    eventually("the connection is removed", || app.handle().connections() == 0);
    app.finish();
    drop(client);
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

/// What a peer is sent that reads it for longer than a ping and its answer may take. The kernel holds all of it.
const DOWNLOAD: usize = 3_000_000;

fn download_config() -> Config {
    let config = Config::default().max_write_buffer_size(4 * DOWNLOAD);
    config.ping_interval(Duration::from_millis(300)).pong_timeout(Duration::from_millis(1500))
}

/// Reads so many bytes, at 1 MB/s.
fn read_slowly(stream: &mut TcpStream, size: usize) {
    let (start, mut received, mut chunk) = (Instant::now(), 0, vec![0; 16 << 10]);
    while received < size {
        let room = chunk.len().min(size - received);
        match stream.read(&mut chunk[..room]) {
            Ok(0) => panic!("the end of the stream after {received} bytes"),
            Ok(count) => received += count,
            Err(error) => panic!("{error} after {received} bytes and {:?}", start.elapsed()),
        }
        let next = start + Duration::from_micros(received as u64);
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
}

/// Reads the frame of a download slowly, whose sender masks with a key of so many bytes. A busy machine may have delayed
/// it, so that a ping is before it.
fn read_download(stream: &mut TcpStream, key_size: usize) {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).expect("a frame");
        if head[0] == 0x82 {
            return read_slowly(stream, 8 + key_size + DOWNLOAD);
        }
        assert_eq!(head[0], 0x89, "a ping");
        let mut rest = vec![0; key_size + usize::from(head[1] & 0x7F)];
        stream.read_exact(&mut rest).expect("its payload");
    }
}

/// Downloads from a server that answers `download`, and sees that the connection is open.
fn download_slowly(mut client: Client) {
    client.send(&text("download"));
    read_download(&mut client.stream, 0);
    client.send(&text("still here"));
    loop {
        let frame = client.expect_frame();
        if frame.opcode != Opcode::Ping {
            assert_eq!(frame, Frame::text("still here"));
            break;
        }
    }
}

/// The ping waits in the server's kernel, behind data that the client still receives.
#[test]
fn r_01_a_client_in_the_middle_of_a_slow_download_is_not_reset() {
    for (mode, workers) in [(Mode::Handler, 1), (Mode::Channel, 2)] {
        let builder = Server::builder().workers(workers).config(download_config());
        let app = App::start(mode, builder, move |connection, message| {
            let sent = match message.as_text() {
                Some("download") => connection.send(vec![7; DOWNLOAD][..].into()),
                _ => connection.send(message),
            };
            assert!(sent, "{mode:?}");
        });
        download_slowly(Client::open_with_small_buffer(app.addr));
        app.finish();
    }
}

#[test]
fn r_01_a_client_of_an_inline_loop_in_the_middle_of_a_slow_download_is_not_reset() {
    let builder = Server::builder().config(download_config());
    let mut event_loop = builder.bind_inline("127.0.0.1:0").expect("a server");
    let (addr, handle) = (event_loop.local_addr(), event_loop.handle());
    let client = thread::spawn(move || {
        let client = thread::spawn(move || download_slowly(Client::open_with_small_buffer(addr)));
        let downloaded = client.join();
        handle.shutdown(Duration::from_millis(200));
        downloaded
    });
    let ran = event_loop.run(|event| {
        if let EventRef::Message(peer, message) = event {
            let sent = match message.as_message().as_text() {
                Some("download") => peer.send(vec![7; DOWNLOAD]),
                _ => peer.send(message),
            };
            assert_eq!(sent, Ok(()));
        }
    });
    ran.expect("no error");
    client.join().expect("the thread").expect("the client");
}

#[test]
fn r_01_a_server_in_the_middle_of_a_slow_upload_is_not_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket2::SockRef::from(&listener).set_recv_buffer_size(128 << 10).expect("a socket");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let mut stream = accept(&listener, &[]);
        read_download(&mut stream, 4);
        stream.write_all(b"\x81\x0Astill here").expect("the client reads it");
        stream
    });
    let client = ThreadedClient::builder().config(download_config()).connect(&url).expect("connected");
    client.send(vec![7; DOWNLOAD]).expect("sent");
    assert_eq!(client.recv_timeout(common::DEADLINE), Ok(Some(Message::Text("still here".into()))));
    drop(server.join().expect("the server"));
}

/// The close frame waits in the server's kernel, behind data that the client still receives.
#[test]
fn p_15_a_client_that_reads_slowly_gets_what_was_sent_before_a_close_frame() {
    for mode in Mode::ALL {
        let config = download_config().ping_interval(None).close_timeout(Duration::from_millis(1500));
        let app = App::start(mode, Server::builder().workers(1).config(config), |connection, _| {
            assert!(connection.send(vec![7; DOWNLOAD][..].into()));
            connection.close(CloseCode(4000), "").expect("the connection is open");
        });
        let mut client = Client::open_with_small_buffer(app.addr);
        client.send(&text("download"));
        read_download(&mut client.stream, 0);
        assert_eq!(client.expect_frame().close_code(), 4000);
        client.send(&close(4000));
        assert_eq!(client.frame(), None);
        app.expect_closed(4000, CloseCause::Local);
        app.finish();
    }
}

#[test]
fn p_15_a_server_that_reads_slowly_gets_what_was_sent_before_a_close_frame() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket2::SockRef::from(&listener).set_recv_buffer_size(128 << 10).expect("a socket");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let mut stream = accept(&listener, &[]);
        read_download(&mut stream, 4);
        stream.read_exact(&mut [0; 8]).expect("a close frame");
        stream.write_all(b"\x88\x02\x03\xE8").expect("the client reads it");
    });
    let config = download_config().ping_interval(None).close_timeout(Duration::from_millis(1500));
    let client = ThreadedClient::builder().config(config).connect(&url).expect("connected");
    client.send(vec![7; DOWNLOAD]).expect("sent");
    client.close(CloseCode::NORMAL_CLOSURE, "").expect("the connection is open");
    assert_eq!(client.recv_timeout(common::DEADLINE), Ok(None));
    server.join().expect("the server");
}

/// The close frame can not reach it.
#[test]
fn p_15_a_client_that_does_not_read_what_was_sent_before_a_close_frame_is_reset() {
    for mode in Mode::ALL {
        let timeout = Duration::from_millis(300);
        let config = download_config().ping_interval(None).close_timeout(timeout).write_timeout(timeout);
        let app = App::start(mode, Server::builder().workers(1).config(config), |connection, _| {
            assert!(connection.send(vec![7; DOWNLOAD][..].into()));
            connection.close(CloseCode(4000), "").expect("the connection is open");
        });
        let mut client = Client::open_with_small_buffer(app.addr);
        client.send(&text("download"));
        expect_given_up(app, client);
    }
}

/// Some of the download is in the client's kernel, some in the server's, and in the larger one some in the server.
#[test]
fn r_01_a_client_that_stops_in_the_middle_of_a_download_is_given_up() {
    for (mode, size) in [(Mode::Handler, DOWNLOAD), (Mode::Channel, DOWNLOAD), (Mode::Handler, 4 * DOWNLOAD)] {
        let config =
            Config::default().max_write_buffer_size(5 * DOWNLOAD).ping_interval(INTERVAL).pong_timeout(PONG_TIMEOUT);
        let app = App::start(mode, Server::builder().workers(1).config(config), move |connection, _| {
            assert!(connection.send(vec![7; size][..].into()));
        });
        let mut client = Client::open_with_small_buffer(app.addr);
        client.send(&text("download"));
        // A busy machine may have delayed this client until it was given up.
        let _ = client.stream.read(&mut [0; 1000]);
        expect_given_up(app, client);
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
        let mut held = Duration::ZERO;
        for _ in 0..4 {
            let frame = client.expect_frame();
            assert_eq!(frame.opcode, Opcode::Ping);
            let received = Instant::now();
            thread::sleep(Duration::from_millis(2)); // the answer takes its time
            held = received.elapsed();
            client.send(&masked(true, 0, Opcode::Pong, &frame.payload));
        }
        client.send(&text("hello"));
        assert_eq!(client.expect_frame(), Frame::text("hello"), "{mode:?}");
        let round_trip = peer.stats().round_trip.expect("pongs were received");
        assert!((held..common::DEADLINE).contains(&round_trip), "{round_trip:?}, held for {held:?}");
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
