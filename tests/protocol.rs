//! What a peer may do wrong on an established connection, and how one ends (RFC 6455 5 to 7).

mod common;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use common::app::{App, BOTH_WAYS, Seen, TICK, Way, echo, texts};
use common::{Client, DEADLINE, Frame, KEY, binary, close, masked, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{CloseCause, CloseCode, CloseFrame, Config, Message, MessageRef, SendError, Server};

/// Any frame, legal or not: `first` has FIN, RSV and opcode, `length` the mask bit and whatever follows.
fn raw(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    frame.extend_from_slice(length);
    frame.extend_from_slice(&KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Sends each of `cases` behind a whole message, in one write, on a connection of its own. The message is answered, then
/// comes a close frame with `code`, FIN and no RST; the application is told once.
fn violations(code: u16, cases: &[(String, Vec<u8>)]) {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        for (what, bytes) in cases {
            let mut client = Client::open(app.addr);
            client.send(&[text("before"), bytes.clone()].concat());
            assert_eq!(client.expect_frame(), Frame::text("before"), "{way:?}: {what}");
            let frame = client.expect_frame();
            assert_eq!((frame.opcode, frame.close_code()), (Opcode::Close, code), "{way:?}: {what}");
            assert_eq!(client.frame(), None, "{way:?}: {what}: nothing follows");
            let reason = app.closed();
            assert_eq!((reason.code.0, reason.cause), (code, CloseCause::Failed), "{way:?}: {what}");
        }
        let history = app.finish();
        assert_eq!(texts(&history), vec!["before"; cases.len()], "{way:?}");
    }
}

fn case(what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (what.into(), bytes.into())
}

#[test]
fn p_01_an_unmasked_frame() {
    let mut cases = vec![
        case("text", b"\x81\x02hi".as_slice()),
        case("empty text", b"\x81\x00".as_slice()),
        case("ping", b"\x89\x00".as_slice()),
        case("close", b"\x88\x02\x03\xe8".as_slice()),
        case("a header alone", b"\x82\x7e\xff\xff".as_slice()),
    ];
    let unmasked_continuation = [masked(false, 0, Opcode::Text, b"a"), b"\x80\x01b".to_vec()].concat();
    cases.push(case("continuation", unmasked_continuation));
    violations(1002, &cases);
}

#[test]
fn p_02_reserved_bits_and_opcodes() {
    let mut cases = Vec::new();
    for rsv in 1..8 {
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close] {
            cases.push(case(format!("rsv {rsv:03b} on {opcode:?}"), masked(true, rsv, opcode, b"")));
        }
    }
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        cases.push(case(format!("opcode {opcode:x}"), raw(0x80 | opcode, &[0x80], b"")));
        cases.push(case(format!("opcode {opcode:x} with payload"), raw(0x80 | opcode, &[0x83], b"abc")));
        let inside = [masked(false, 0, Opcode::Text, b"a"), raw(0x80 | opcode, &[0x80], b"")].concat();
        cases.push(case(format!("opcode {opcode:x} inside a message"), inside));
    }
    violations(1002, &cases);
}

#[test]
fn p_03_control_frames_are_whole_and_short() {
    let mut cases = Vec::new();
    for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
        cases.push(case(format!("{opcode:?} without FIN"), masked(false, 0, opcode, b"")));
        cases.push(case(format!("{opcode:?} of 126 bytes"), masked(true, 0, opcode, &[b'x'; 126])));
        cases.push(case(format!("{opcode:?} of 70,000 bytes"), masked(true, 0, opcode, &[b'x'; 70_000])));
    }
    violations(1002, &cases);
}

#[test]
fn p_04_fragments_out_of_place() {
    let start = masked(false, 0, Opcode::Text, b"a");
    let cases = [
        case("a continuation of nothing", masked(true, 0, Opcode::Continuation, b"a")),
        case("a fragment of nothing", masked(false, 0, Opcode::Continuation, b"a")),
        case("text inside text", [start.clone(), text("b")].concat()),
        case("binary inside text", [start.clone(), binary(b"b")].concat()),
        case("a second start", [start.clone(), start.clone()].concat()),
        case(
            "a continuation behind the last",
            [start, masked(true, 0, Opcode::Continuation, b""), masked(true, 0, Opcode::Continuation, b"")].concat(),
        ),
    ];
    // The last one's message was complete, so it is delivered.
    violations(1002, &cases[..5]);
    for way in BOTH_WAYS {
        let app = App::echo(way);
        let mut client = Client::open(app.addr);
        client.send(&cases[5].1);
        assert_eq!(client.expect_frame(), Frame::text("a"));
        client.expect_close(1002);
        app.finish();
    }
}

#[test]
fn p_05_reserved_bits_on_a_continuation() {
    let start = masked(false, 0, Opcode::Text, b"a");
    let cases: Vec<_> = (1..8)
        .map(|rsv| {
            let bytes = [start.clone(), masked(true, rsv, Opcode::Continuation, b"b")].concat();
            case(format!("rsv {rsv:03b}"), bytes)
        })
        .collect();
    violations(1002, &cases);
}

#[test]
fn p_06_lengths_have_one_form() {
    let long = |length: u64| [[0xFF].as_slice(), &length.to_be_bytes()].concat();
    let cases = [
        case("0 in 16 bits", raw(0x82, &[0xFE, 0, 0], b"")),
        case("125 in 16 bits", raw(0x82, &[0xFE, 0, 125], b"")),
        case("0 in 64 bits", raw(0x82, &long(0), b"")),
        case("65,535 in 64 bits", raw(0x82, &long(0xFFFF), b"")),
        case("the highest bit", raw(0x82, &long(1 << 63), b"")),
        case("all bits", raw(0x82, &long(u64::MAX), b"")),
    ];
    violations(1002, &cases);
}

#[test]
fn p_07_text_that_is_not_utf_8() {
    let whole = |bytes: &[u8]| masked(true, 0, Opcode::Text, bytes);
    let last = |bytes: &[u8]| masked(true, 0, Opcode::Continuation, bytes);
    let cases = [
        case("a stray byte", whole(b"caf\xe9")),
        case("a cut character", whole("ab€".as_bytes().split_last().expect("bytes").1)),
        case("overlong", whole(b"\xc0\x80")),
        case("a surrogate", whole(b"\xed\xa0\x80")),
        case("beyond U+10FFFF", whole(b"\xf4\x90\x80\x80")),
        case("the first fragment", masked(false, 0, Opcode::Text, b"ok\xff")),
        case("the second", [masked(false, 0, Opcode::Text, b"ok \xe2\x82"), last(b"x")].concat()),
        case("cut at the end", [masked(false, 0, Opcode::Text, b"ok \xe2"), last(b"\x82")].concat()),
        case("cut before nothing", [masked(false, 0, Opcode::Text, b"ok \xe2\x82"), last(b"")].concat()),
    ];
    violations(1007, &cases);
}

#[test]
fn p_07_inside_a_half_received_frame() {
    let half = |payload: &[u8], at: usize, announced: u64| {
        let mut length = vec![0xFF];
        length.extend_from_slice(&announced.to_be_bytes());
        let mut payload = payload.to_vec();
        payload[at] = 0xFF;
        raw(0x81, &length, &payload)
    };
    let mut cases = vec![
        case("a small frame", raw(0x81, &[0x80 | 100], b"abc\xffdef")),
        case("the first byte of it", raw(0x81, &[0x80 | 100], b"\xff")),
        case("a surrogate's second byte", raw(0x81, &[0x80 | 100], b"\xed\xa0")),
        case("half of a fragment", raw(0x01, &[0x80 | 100], b"abc\xff")),
        case(
            "half of a last fragment",
            [masked(false, 0, Opcode::Text, b"ok \xe2"), raw(0x80, &[0x80 | 100], b"\x28")].concat(),
        ),
    ];
    // Beyond what is received straight into the message's buffer.
    for at in [0, 10_000, 99_999] {
        cases.push(case(format!("byte {at} of a large one"), half(&[b'x'; 100_000], at, 1 << 20)));
    }
    violations(1007, &cases);
}

#[test]
fn p_07_whatever_the_chunks() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        let bytes = masked(true, 0, Opcode::Text, b"ab\xe2\x82\x28cd");
        for cut in 1..bytes.len() {
            let mut client = Client::open(app.addr);
            let (front, back) = bytes.split_at(cut);
            client.send(front);
            // The pong of a second connection would not tell that the first part was read; the order does not matter.
            let _ = std::io::Write::write_all(&mut client.stream, back);
            client.expect_close(1007);
            app.expect_end(1007, CloseCause::Failed);
        }
        assert_eq!(texts(&app.finish()), [""; 0]);
    }
}

#[test]
fn p_08_close_frames_that_are_not_legal() {
    let mut cases = vec![case("one byte", masked(true, 0, Opcode::Close, b"\x03"))];
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(case(format!("{code}"), close(code)));
    }
    violations(1002, &cases);
}

#[test]
fn p_08_legal_codes_are_echoed() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
            let mut client = Client::open(app.addr);
            let with_reason = [&u16::to_be_bytes(code)[..], "wiedersehen ü".as_bytes()].concat();
            client.send(&[text("before"), masked(true, 0, Opcode::Close, &with_reason)].concat());
            assert_eq!(client.expect_frame(), Frame::text("before"));
            client.expect_close(code);
            let reason = app.closed();
            assert_eq!((reason.code.0, reason.cause), (code, CloseCause::Peer));
            assert_eq!(reason.reason, "wiedersehen ü");
        }
        let mut client = Client::open(app.addr);
        client.send(&masked(true, 0, Opcode::Close, b""));
        assert_eq!(client.expect_frame().payload, b"", "no code, no code");
        assert_eq!(client.frame(), None);
        app.expect_end(1005, CloseCause::Peer);
        app.finish();
    }
}

#[test]
fn p_09_a_close_reason_that_is_not_utf_8() {
    let reason = |bytes: &[u8]| masked(true, 0, Opcode::Close, &[b"\x03\xe8", bytes].concat());
    violations(1007, &[case("a stray byte", reason(b"caf\xe9")), case("cut", reason(b"\xe2\x82"))]);
}

#[test]
fn p_10_a_message_over_the_limit() {
    for way in BOTH_WAYS {
        let builder = Server::builder().workers(2).config(Config::default().max_message_size(1000));
        let app = App::start(way, builder, echo);
        let long = |length: u64| raw(0x82, &[[0xFF].as_slice(), &length.to_be_bytes()].concat(), b"");
        let fragments = [
            masked(false, 0, Opcode::Binary, &[1; 600]),
            ping(b"inside"),
            masked(false, 0, Opcode::Continuation, &[2; 400]),
        ];
        let cases = [
            ("a header alone", raw(0x82, &[0xFE, 1001_u16.to_be_bytes()[0], 1001_u16.to_be_bytes()[1]], b"")),
            ("a terabyte", long(1 << 40)),
            ("2^63 - 1", long(u64::MAX >> 1)),
            ("text", masked(true, 0, Opcode::Text, &[b'x'; 1001])),
            ("one byte more in fragments", [&fragments[0][..], &fragments[2], &raw(0x00, &[0x81], b"")].concat()),
            (
                "a sum over 2^64",
                [&fragments[0][..], &raw(0x80, &[0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255], b"")].concat(),
            ),
        ];
        for (what, bytes) in cases {
            let mut client = Client::open(app.addr);
            client.send(&[binary(&[7; 1000]), bytes].concat());
            assert_eq!(client.expect_frame(), Frame::binary(&[7; 1000]), "{what}");
            let frame = client.expect_frame();
            assert_eq!(frame.close_code(), 1009, "{way:?}: {what}");
            assert_eq!(client.frame(), None, "{what}");
            app.expect_end(1009, CloseCause::Failed);
        }
        let mut client = Client::open(app.addr);
        client.send(&fragments.concat());
        client.send(&masked(true, 0, Opcode::Continuation, b""));
        assert_eq!(client.expect_frame(), Frame::pong(b"inside"));
        assert_eq!(client.expect_frame(), Frame::binary(&[[1; 600].as_slice(), &[2; 400]].concat()), "just as long");
        drop(client);
        app.finish();
    }
}

#[test]
fn p_11_codes_of_the_application() {
    for way in BOTH_WAYS {
        let app = App::start(way, Server::builder().workers(2), move |link, message| {
            let code = message.as_text().and_then(|text| text.parse().ok()).expect("a code");
            link.send(message);
            link.close(CloseCode(code), "because").expect("the closing handshake begins");
            let again = link.close(CloseCode(code), "again");
            // A peer in another thread only asks for it.
            assert!(way == Way::Channel || again.is_err(), "twice");
        });
        for code in [1000, 1001, 1003, 1008, 1011, 1012, 1013, 4999] {
            let mut client = Client::open(app.addr);
            client.send(&text(&code.to_string()));
            assert_eq!(client.expect_frame(), Frame::text(&code.to_string()));
            let frame = client.expect_frame();
            assert_eq!((frame.close_code(), &frame.payload[2..]), (code, b"because".as_slice()), "{way:?}");
            client.send(&close(code));
            assert_eq!(client.frame(), None, "FIN, and no second close frame");
            app.expect_end(code, CloseCause::Local);
        }
        app.finish();
    }
}

/// An application that closes with 4000 when it is told to.
fn closing(way: Way, config: Config) -> App {
    App::start(way, Server::builder().workers(2).config(config), |link, message| {
        if message.as_text() == Some("close") {
            link.close(CloseCode(4000), "as you wish").expect("the closing handshake begins");
        } else {
            link.send(message);
        }
    })
}

#[test]
fn p_13_data_after_our_close_is_discarded() {
    for way in BOTH_WAYS {
        let app = closing(way, Config::default());
        let mut client = Client::open(app.addr);
        client.send(&text("close"));
        assert_eq!(client.expect_frame().close_code(), 4000);
        for _ in 0..100 {
            client.send(&[text("late"), ping(b"late"), binary(&[0; 50_000])].concat());
        }
        client.send(&[masked(false, 0, Opcode::Text, b"la"), close(4001)].concat());
        assert_eq!(client.frame(), None, "no answer to anything late");
        app.expect_end(4001, CloseCause::Local);
        assert_eq!(texts(&app.finish()), ["close"]);
    }
}

#[test]
fn p_13_data_after_their_close_is_ignored() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        for late in [text("late"), ping(b"late"), close(4444), b"\xff\xff\xff\xff".to_vec(), binary(&[0; 200_000])] {
            let mut client = Client::open(app.addr);
            client.send(&[text("in time"), close(1000), late].concat());
            assert_eq!(client.expect_frame(), Frame::text("in time"));
            client.expect_close(1000);
            app.expect_end(1000, CloseCause::Peer);
        }
        assert_eq!(texts(&app.finish()), ["in time"; 5]);
    }
}

/// Whoever breaks the protocol and goes on sending still gets the close frame, and no RST that would take it away.
#[test]
fn p_13_data_after_a_violation_is_read_out() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        for _ in 0..10 {
            let mut client = Client::open(app.addr);
            client.send(&masked(true, 0b100, Opcode::Text, b"bad"));
            for _ in 0..50 {
                client.send(&binary(&[0; 20_000]));
            }
            client.expect_close(1002);
            app.expect_end(1002, CloseCause::Failed);
        }
        app.finish();
    }
}

#[test]
fn p_14_both_sides_close_at_once() {
    for way in BOTH_WAYS {
        let app = closing(way, Config::default());
        for _ in 0..20 {
            // The server's close frame answers the message, and the client's is on its way already.
            let mut client = Client::open(app.addr);
            let peer = app.opened();
            match way {
                Way::Handler => client.send(&[text("close"), close(4001)].concat()),
                Way::Channel => {
                    peer.close(CloseCode(4000), "as you wish").expect("it is open");
                    client.send(&close(4001));
                }
            }
            let frame = client.expect_frame();
            assert_eq!(client.frame(), None, "one close frame and FIN, before the client closes TCP");
            let reason = app.closed();
            match frame.close_code() {
                4000 => assert_eq!((reason.code.0, reason.cause), (4001, CloseCause::Local)),
                // The client's was first.
                code => assert_eq!((code, reason.code.0, reason.cause), (4001, 4001, CloseCause::Peer), "{way:?}"),
            }
        }
        app.finish();
    }
}

#[test]
fn p_15_the_peer_never_answers_our_close() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    for way in BOTH_WAYS {
        let app = closing(way, Config::default().close_timeout(TIMEOUT));
        let mut client = Client::open(app.addr);
        let start = Instant::now();
        client.send(&text("close"));
        assert_eq!(client.expect_frame().close_code(), 4000);
        let error = client.try_fill().expect_err("no FIN before the client's close frame");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{way:?}");
        assert!(start.elapsed() >= TIMEOUT - TICK, "{:?}", start.elapsed());
        app.expect_end(1006, CloseCause::TimedOut);
        app.finish();
    }
}

/// A failed connection whose peer does not close its end does not stay either.
#[test]
fn p_15_the_peer_never_closes_after_a_violation() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    for way in BOTH_WAYS {
        let app = closing(way, Config::default().close_timeout(TIMEOUT));
        let mut client = Client::open(app.addr);
        client.send(b"\xff\xff");
        client.expect_close(1002);
        app.expect_end(1002, CloseCause::Failed);
        common::eventually("the connection's end", || app.handle().connections() == 0);
        app.finish();
    }
}

#[test]
fn p_16_a_close_inside_a_fragmented_message() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        let mut client = Client::open(app.addr);
        client.send(&[masked(false, 0, Opcode::Text, b"half a "), close(1000)].concat());
        client.expect_close(1000);
        app.expect_end(1000, CloseCause::Peer);
        let mut client = Client::open(app.addr);
        client.send(&[masked(false, 0, Opcode::Text, b"half a "), masked(true, 0, Opcode::Close, b"")].concat());
        client.expect_close(1005);
        app.expect_end(1005, CloseCause::Peer);
        assert_eq!(texts(&app.finish()), [""; 0]);
    }
}

#[test]
fn p_17_misuse_is_an_error_and_nothing_on_the_wire() {
    for way in BOTH_WAYS {
        let app = App::start(way, Server::builder().workers(2), |link, message| {
            let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535];
            for code in codes {
                link.close(CloseCode(code), "").expect_err("a code that may not be sent");
            }
            link.close(CloseCode(1000), &"x".repeat(124)).expect_err("a reason over 123 bytes");
            link.ping(&[0; 126]).expect_err("a ping over 125 bytes");
            let frames: Vec<_> =
                codes.iter().map(|code| CloseFrame { code: CloseCode(*code), reason: String::new() }).collect();
            let long = CloseFrame { code: CloseCode(1000), reason: "x".repeat(124) };
            for frame in frames.iter().chain([&long]) {
                assert!(!link.send(MessageRef::Close(Some(frame))), "{frame:?}");
            }
            assert!(!link.send(MessageRef::Ping(&[0; 126])) && !link.send(MessageRef::Pong(&[0; 126])));
            let peer = link.peer();
            for wrong in [Message::Ping(vec![0; 126]), Message::Pong(vec![1; 126]), Message::Close(Some(long.clone()))]
            {
                match peer.send(wrong.clone()) {
                    Err(SendError::Invalid(back)) => assert_eq!(back, wrong),
                    other => panic!("{other:?}"),
                }
            }
            assert!(peer.is_open());
            link.send(message);
            link.ping(&[7; 125]).expect("just as long");
            link.close(CloseCode(4999), &"x".repeat(123)).expect("just as long");
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
        app.expect_end(4999, CloseCause::Local);
        app.finish();
    }
}

/// The application answers each message after a little work, and all its answers come before the close frame.
#[test]
fn p_18_answers_leave_before_the_close_frame() {
    for way in BOTH_WAYS {
        for end in [close(1000), b"\xff\xff".to_vec(), masked(true, 0, Opcode::Text, b"\xff")] {
            let app = App::start(way, Server::builder().workers(1), |link, message| {
                std::thread::sleep(Duration::from_millis(10)); // the work
                link.send(message);
            });
            let mut client = Client::open(app.addr);
            let numbers: Vec<String> = (0..5).map(|number| number.to_string()).collect();
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| text(number)).collect();
            bytes.extend_from_slice(&end);
            client.send(&bytes);
            for number in &numbers {
                assert_eq!(client.expect_frame(), Frame::text(number), "{way:?}");
            }
            assert_eq!(client.expect_frame().opcode, Opcode::Close);
            assert_eq!(client.frame(), None);
            app.closed();
            assert_eq!(texts(&app.finish()), numbers);
        }
    }
}

#[test]
fn p_18_an_application_that_never_takes_the_end() {
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let events = server.take_events();
    let start = Instant::now();
    for (end, code) in [(close(4000), 4000), (b"\xff\xff".to_vec(), 1002)] {
        let mut client = Client::open(server.local_addr());
        client.send(&[text("unheard"), end].concat());
        let sent = Instant::now();
        client.expect_close(code);
        assert!(sent.elapsed() >= Duration::from_millis(500) - TICK, "{:?}", sent.elapsed());
    }
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    drop(events);
}

/// Dropping what is left of a batch is an answer too: nobody has to wait for those who do not care.
#[test]
fn p_18_an_application_that_drops_its_batches() {
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let events = server.take_events().remove(0);
    let application = std::thread::spawn(move || events.as_channel().iter().for_each(drop));
    let quick = (0..50).any(|_| {
        let mut client = Client::open(server.local_addr());
        client.send(&[text("unheard"), close(4000)].concat());
        let sent = Instant::now();
        client.expect_close(4000);
        sent.elapsed() < Duration::from_millis(400)
    });
    assert!(quick, "each close frame waited for the application");
    drop(server);
    application.join().expect("the application");
}

#[test]
fn p_19_many_pings_inside_a_fragmented_message() {
    const PINGS: u32 = 10_000;
    for way in BOTH_WAYS {
        let app = App::echo(way);
        let mut client = Client::open(app.addr);
        let mut bytes = masked(false, 0, Opcode::Text, b"the beginning, ");
        for number in 0..PINGS {
            bytes.extend(ping(&number.to_be_bytes()));
            if number % 1000 == 0 {
                bytes.extend(masked(false, 0, Opcode::Continuation, b"."));
            }
        }
        bytes.extend(masked(true, 0, Opcode::Continuation, b" and the end"));
        client.send(&bytes);
        for number in 0..PINGS {
            assert_eq!(client.expect_frame(), Frame::pong(&number.to_be_bytes()), "{way:?}");
        }
        assert_eq!(client.expect_frame(), Frame::text("the beginning, .......... and the end"));
        client.send(&close(1000));
        client.expect_close(1000);
        app.expect_end(1000, CloseCause::Peer);
        app.finish();
    }
}

/// RFC 6455 5.5.3 would let the last pong stand for all; each is sent.
#[test]
fn p_19_ten_pongs_for_ten_pings() {
    for way in BOTH_WAYS {
        let app = App::echo(way);
        let mut client = Client::open(app.addr);
        let pings: Vec<u8> = (0..10_u8).flat_map(|number| ping(&[number; 125])).collect();
        client.send(&[pings, ping(b""), masked(true, 0, Opcode::Pong, b"unasked"), text("end")].concat());
        for number in 0..10 {
            assert_eq!(client.expect_frame(), Frame::pong(&[number; 125]));
        }
        assert_eq!(client.expect_frame(), Frame::pong(b""));
        assert_eq!(client.expect_frame(), Frame::text("end"));
        drop(client);
        app.expect_end(1006, CloseCause::Lost);
        let history = app.finish();
        assert!(matches!(history[..], [Seen::Open(_), Seen::Message(..), Seen::Close(..)]), "no event for a pong");
    }
}

/// A mark below one message holds nobody up for ever: reading goes on when the answer is out.
#[test]
fn a_small_mark_does_not_stall_an_echo() {
    for way in BOTH_WAYS {
        let builder = Server::builder().workers(1).config(Config::default().max_write_buffer_size(100));
        let app = App::start(way, builder, echo);
        let mut client = Client::open(app.addr);
        let messages: Vec<Vec<u8>> = (0..20_u8).map(|number| vec![number; 1000]).collect();
        client.send(&messages.iter().flat_map(|message| binary(message)).collect::<Vec<_>>());
        for message in &messages {
            assert_eq!(client.expect_frame(), Frame::binary(message), "{way:?}");
        }
        drop(client);
        app.finish();
    }
}
