//! The closing handshake (RFC 6455 5.5.1 and 7), started by the client, the application, or both.

use crate::common;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use common::app::{App, TICK, texts};
use common::servers::Mode;
use common::{Client, DEADLINE, Frame, binary, close, eventually, flood, masked, open_with_peer, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{CloseCause, CloseCode, CloseFrame, Config, Message, MessageRef, SendError, Server};

#[test]
fn p_11_the_application_closes_with_its_code_and_reason() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(2), move |connection, message| {
            let code = message.as_text().and_then(|text| text.parse().ok()).expect("a code");
            connection.send(message);
            connection.close(CloseCode(code), "because").expect("the closing handshake begins");
            let again = connection.close(CloseCode(code), "again");
            assert!(again.is_err(), "{mode:?}: closed twice");
        });
        for code in [1000, 1001, 1003, 1008, 1011, 1012, 1013, 4999] {
            let mut client = Client::open(app.addr);
            client.send(&text(&code.to_string()));
            assert_eq!(client.expect_frame(), Frame::text(&code.to_string()));
            let frame = client.expect_frame();
            assert_eq!((frame.close_code(), &frame.payload[2..]), (code, b"because".as_slice()), "{mode:?}");
            client.send(&close(code));
            assert_eq!(client.frame(), None, "FIN, and no second close frame");
            app.expect_closed(code, CloseCause::Local);
        }
        app.finish();
    }
}

/// An application that closes with 4000 when it receives `close`, and echoes other messages.
fn closing_app(mode: Mode, config: Config) -> App {
    App::start(mode, Server::builder().workers(2).config(config), |connection, message| {
        if message.as_text() == Some("close") {
            connection.close(CloseCode(4000), "as requested").expect("the closing handshake begins");
        } else {
            connection.send(message);
        }
    })
}

#[test]
fn p_13_data_after_the_servers_close_frame_is_discarded() {
    for mode in Mode::ALL {
        let app = closing_app(mode, Config::default());
        let mut client = Client::open(app.addr);
        client.send(&text("close"));
        assert_eq!(client.expect_frame().close_code(), 4000);
        for _ in 0..100 {
            client.send(&[text("late"), ping(b"late"), binary(&[0; 50_000])].concat());
        }
        client.send(&[masked(false, 0, Opcode::Text, b"la"), close(4001), ping(b"later")].concat());
        // RFC 6455 5.5.2: pings are answered until the client's close frame. 5.5.1 forbids only data frames.
        for _ in 0..100 {
            assert_eq!(client.expect_frame(), Frame::pong(b"late"));
        }
        assert_eq!(client.frame(), None, "no answer to anything else that was sent after the close frame");
        app.expect_closed(4001, CloseCause::Local);
        assert_eq!(texts(&app.finish()), ["close"]);
    }
}

#[test]
fn p_13_data_after_the_clients_close_frame_is_ignored() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        for late in [text("late"), ping(b"late"), close(4444), b"\xff\xff\xff\xff".to_vec(), binary(&[0; 200_000])] {
            let mut client = Client::open(app.addr);
            client.send(&[text("before"), close(1000), late].concat());
            assert_eq!(client.expect_frame(), Frame::text("before"));
            client.expect_close(1000);
            app.expect_closed(1000, CloseCause::Peer);
        }
        assert_eq!(texts(&app.finish()), ["before"; 5]);
    }
}

/// A RST could make the client's kernel discard the close frame before the client has read it.
#[test]
fn p_13_data_after_a_violation_is_discarded_without_a_reset() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        for _ in 0..10 {
            let mut client = Client::open(app.addr);
            client.send(&masked(true, 0b100, Opcode::Text, b"bad"));
            for _ in 0..50 {
                client.send(&binary(&[0; 20_000]));
            }
            client.expect_close(1002);
            app.expect_closed(1002, CloseCause::Failed);
        }
        app.finish();
    }
}

/// Reading is paused because the application does not receive. The server reads and discards the rest.
#[test]
fn p_13_a_close_completes_though_reading_was_paused() {
    let config = Config::default().max_event_buffer_size(10_000).close_timeout(DEADLINE);
    let server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let (mut client, peer) = open_with_peer(&server);
    let writer = flood(&client, 20 << 20);
    // The first message to wait reaches the limit.
    eventually("reading is paused", || peer.stats().messages_received > 0);
    peer.close(CloseCode(4000), "enough").expect("the connection is open");
    assert_eq!(client.expect_frame().close_code(), 4000);
    writer.join().expect("the writer").expect("no reset");
    client.send(&close(4000));
    assert_eq!(client.frame(), None);
}

#[test]
fn p_14_when_both_close_at_once_the_server_sends_one_close_frame() {
    for mode in Mode::ALL {
        let app = closing_app(mode, Config::default());
        for _ in 0..20 {
            // Both send a close frame before they receive the other's.
            let mut client = Client::open(app.addr);
            let peer = app.opened();
            match mode {
                Mode::Handler => client.send(&[text("close"), close(4001)].concat()),
                Mode::Channel => {
                    peer.close(CloseCode(4000), "as requested").expect("the connection is open");
                    client.send(&close(4001));
                }
            }
            let frame = client.expect_frame();
            assert_eq!(client.frame(), None, "one close frame and FIN, before the client closes TCP");
            let reason = app.closed();
            match frame.close_code() {
                4000 => assert_eq!((reason.code.0, reason.cause), (4001, CloseCause::Local)),
                // The server received the client's close frame before it sent its own.
                code => assert_eq!((code, reason.code.0, reason.cause), (4001, 4001, CloseCause::Peer), "{mode:?}"),
            }
        }
        app.finish();
    }
}

#[test]
fn p_15_a_client_that_does_not_answer_a_close_is_reset() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    for mode in Mode::ALL {
        let app = closing_app(mode, Config::default().close_timeout(TIMEOUT));
        let mut client = Client::open(app.addr);
        let start = Instant::now();
        client.send(&text("close"));
        assert_eq!(client.expect_frame().close_code(), 4000);
        let error = client.try_read().expect_err("no FIN before the client's close frame");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{mode:?}");
        assert!(start.elapsed() >= TIMEOUT - TICK, "{:?}", start.elapsed());
        app.expect_closed(1006, CloseCause::TimedOut);
        app.finish();
    }
}

/// The client does not close its socket after the violation.
#[test]
fn p_15_a_failed_connection_is_removed_at_its_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    for mode in Mode::ALL {
        let app = closing_app(mode, Config::default().close_timeout(TIMEOUT));
        let mut client = Client::open(app.addr);
        client.send(b"\xff\xff");
        client.expect_close(1002);
        app.expect_closed(1002, CloseCause::Failed);
        common::eventually("the connection is removed", || app.handle().connections() == 0);
        app.finish();
    }
}

#[test]
fn p_16_a_close_inside_a_fragmented_message_is_answered() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut client = Client::open(app.addr);
        client.send(&[masked(false, 0, Opcode::Text, b"half a "), close(1000)].concat());
        client.expect_close(1000);
        app.expect_closed(1000, CloseCause::Peer);
        let mut client = Client::open(app.addr);
        client.send(&[masked(false, 0, Opcode::Text, b"half a "), masked(true, 0, Opcode::Close, b"")].concat());
        client.expect_close(1005);
        app.expect_closed(1005, CloseCause::Peer);
        assert_eq!(texts(&app.finish()), [""; 0]);
    }
}

#[test]
fn p_17_invalid_control_frames_are_errors_and_are_not_sent() {
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(2), |connection, message| {
            let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535];
            for code in codes {
                connection.close(CloseCode(code), "").expect_err("a code that may not be sent");
            }
            connection.close(CloseCode(1000), &"x".repeat(124)).expect_err("a reason over 123 bytes");
            connection.ping(&[0; 126]).expect_err("a ping over 125 bytes");
            let frames: Vec<_> =
                codes.iter().map(|code| CloseFrame { code: CloseCode(*code), reason: String::new() }).collect();
            let long = CloseFrame { code: CloseCode(1000), reason: "x".repeat(124) };
            for frame in frames.iter().chain([&long]) {
                assert!(!connection.send(MessageRef::Close(Some(frame))), "{frame:?}");
            }
            assert!(!connection.send(MessageRef::Ping(&[0; 126])) && !connection.send(MessageRef::Pong(&[0; 126])));
            let peer = connection.peer();
            for wrong in [Message::Ping(vec![0; 126]), Message::Pong(vec![1; 126]), Message::Close(Some(long.clone()))]
            {
                match peer.send(wrong.clone()) {
                    Err(SendError::Invalid(back)) => assert_eq!(back, wrong),
                    other => panic!("{other:?}"),
                }
            }
            assert!(peer.is_open());
            connection.send(message);
            connection.ping(&[7; 125]).expect("a ping of the maximum length");
            connection.close(CloseCode(4999), &"x".repeat(123)).expect("a reason of the maximum length");
        });
        let mut client = Client::open(app.addr);
        client.send(&text("go"));
        assert_eq!(client.expect_frame(), Frame::text("go"));
        let frame = client.expect_frame();
        assert_eq!((frame.opcode, frame.payload), (Opcode::Ping, vec![7; 125]));
        let frame = client.expect_frame();
        assert_eq!((frame.close_code(), frame.payload.len()), (4999, 125));
        client.send(&close(4999));
        assert_eq!(client.frame(), None);
        app.expect_closed(4999, CloseCause::Local);
        app.finish();
    }
}

/// The server has received the client's close frame, or a violation, before the application answers.
#[test]
fn p_18_answers_are_sent_before_the_close_frame() {
    for mode in Mode::ALL {
        for end in [close(1000), b"\xff\xff".to_vec(), masked(true, 0, Opcode::Text, b"\xff")] {
            let numbers: Vec<String> = (0..5).map(|number| number.to_string()).collect();
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| text(number)).collect();
            bytes.extend_from_slice(&end);
            let size = bytes.len() as u64;
            let app = App::start(mode, Server::builder().workers(1), move |connection, message| {
                // A handler is called by the thread that reads, which has then read everything that was sent at once.
                if mode == Mode::Channel {
                    let peer = connection.peer();
                    common::eventually("the server reads the end", || peer.stats().bytes_received == size);
                }
                connection.send(message);
            });
            let mut client = Client::open(app.addr);
            client.send(&bytes);
            for number in &numbers {
                assert_eq!(client.expect_frame(), Frame::text(number), "{mode:?}");
            }
            assert_eq!(client.expect_frame().opcode, Opcode::Close);
            assert_eq!(client.frame(), None);
            app.closed();
            assert_eq!(texts(&app.finish()), numbers);
        }
    }
}

#[test]
fn p_18_the_close_frame_waits_500_ms_for_an_application_that_does_not_receive() {
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let events = server.take_events();
    let start = Instant::now();
    for (end, code) in [(close(4000), 4000), (b"\xff\xff".to_vec(), 1002)] {
        let mut client = Client::open(server.local_addr());
        let sent = Instant::now();
        client.send(&[text("not received"), end].concat());
        client.expect_close(code);
        assert!(sent.elapsed() >= Duration::from_millis(500) - TICK, "{:?}", sent.elapsed());
    }
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    drop(events);
}

/// An application that drops a batch will not answer the messages in it.
#[test]
fn p_18_the_close_frame_does_not_wait_for_a_dropped_batch() {
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let events = server.take_events().remove(0);
    let application = std::thread::spawn(move || events.as_channel().iter().for_each(drop));
    let quick = (0..50).any(|_| {
        let mut client = Client::open(server.local_addr());
        client.send(&[text("not received"), close(4000)].concat());
        let sent = Instant::now();
        client.expect_close(4000);
        sent.elapsed() < Duration::from_millis(400)
    });
    assert!(quick, "every close frame waited for the application");
    drop(server);
    application.join().expect("the application");
}

/// The client reads all the time, and takes longer for what is queued than `close_timeout`. That counts from when the close
/// frame is written.
#[test]
fn what_was_queued_before_a_close_arrives_however_long_it_takes() {
    const SIZE: usize = 1 << 20;
    const COUNT: u8 = 24;
    for mode in Mode::ALL {
        let config = Config::default().max_write_buffer_size(100 << 20).close_timeout(Duration::from_millis(300));
        let app = App::start(mode, Server::builder().workers(1).config(config), |connection, message| {
            for number in 0..COUNT {
                connection.send(MessageRef::Binary(&vec![number; SIZE]));
            }
            connection.send(message);
            connection.close(CloseCode(4000), "done").expect("the closing handshake begins");
        });
        let mut client = Client::open_with_small_buffer(app.addr);
        client.send(&text("all of it"));
        let start = Instant::now();
        for number in 0..COUNT {
            let frame = client.expect_frame();
            assert!(frame == Frame::binary(&vec![number; SIZE]), "{mode:?}: message {number} differs");
            let next = start + Duration::from_millis(50) * u32::from(number + 1);
            std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
        }
        assert!(start.elapsed() > 3 * Duration::from_millis(300));
        assert_eq!(client.expect_frame(), Frame::text("all of it"));
        assert_eq!(client.expect_frame().close_code(), 4000);
        client.send(&close(4000));
        assert_eq!(client.frame(), None);
        app.expect_closed(4000, CloseCause::Local);
        app.finish();
    }
}
