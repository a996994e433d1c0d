//! Frames and messages on an established connection, valid ones and violations (RFC 6455 5).

use crate::common;

use common::app::{App, AppEvent, echo, texts};
use common::servers::Mode;
use common::{Client, Frame, KEY, binary, close, masked, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{CloseCause, Config, Server};

/// The bytes of a frame, valid or not: `first` has FIN, RSV and opcode, `length` the mask bit and the payload length.
fn raw(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    frame.extend_from_slice(length);
    frame.extend_from_slice(&KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Sends each of `cases` in one write with a message before it, on a new connection. Asserts that the server echoes the
/// message and fails the connection with `code`: a close frame, then FIN and no RST, and one event for the application.
fn expect_failures(code: u16, cases: &[(String, Vec<u8>)]) {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        for (what, bytes) in cases {
            let mut client = Client::open(app.addr);
            client.send(&[text("before"), bytes.clone()].concat());
            assert_eq!(client.expect_frame(), Frame::text("before"), "{mode:?}: {what}");
            let frame = client.expect_frame();
            assert_eq!((frame.opcode, frame.close_code()), (Opcode::Close, code), "{mode:?}: {what}");
            assert_eq!(client.frame(), None, "{mode:?}: {what}: no frame after the close frame");
            let reason = app.closed();
            assert_eq!((reason.code.0, reason.cause), (code, CloseCause::Failed), "{mode:?}: {what}");
        }
        let history = app.finish();
        assert_eq!(texts(&history), vec!["before"; cases.len()], "{mode:?}");
    }
}

fn case(what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (what.into(), bytes.into())
}

#[test]
fn p_01_an_unmasked_frame_fails_with_1002() {
    let mut cases = vec![
        case("text", b"\x81\x02hi".as_slice()),
        case("empty text", b"\x81\x00".as_slice()),
        case("ping", b"\x89\x00".as_slice()),
        case("close", b"\x88\x02\x03\xe8".as_slice()),
        case("a header alone", b"\x82\x7e\xff\xff".as_slice()),
    ];
    let unmasked_continuation = [masked(false, 0, Opcode::Text, b"a"), b"\x80\x01b".to_vec()].concat();
    cases.push(case("continuation", unmasked_continuation));
    expect_failures(1002, &cases);
}

#[test]
fn p_02_reserved_bits_and_opcodes_fail_with_1002() {
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
    expect_failures(1002, &cases);
}

#[test]
fn p_03_fragmented_and_long_control_frames_fail_with_1002() {
    let mut cases = Vec::new();
    for opcode in [Opcode::Close, Opcode::Ping, Opcode::Pong] {
        cases.push(case(format!("{opcode:?} without FIN"), masked(false, 0, opcode, b"")));
        cases.push(case(format!("{opcode:?} of 126 bytes"), masked(true, 0, opcode, &[b'x'; 126])));
        cases.push(case(format!("{opcode:?} of 70,000 bytes"), masked(true, 0, opcode, &[b'x'; 70_000])));
    }
    expect_failures(1002, &cases);
}

#[test]
fn p_04_fragments_out_of_order_fail_with_1002() {
    let start = masked(false, 0, Opcode::Text, b"a");
    let cases = [
        case("a last fragment without a first one", masked(true, 0, Opcode::Continuation, b"a")),
        case("a fragment without a first one", masked(false, 0, Opcode::Continuation, b"a")),
        case("a text frame inside a text message", [start.clone(), text("b")].concat()),
        case("a binary frame inside a text message", [start.clone(), binary(b"b")].concat()),
        case("a second first fragment", [start.clone(), start.clone()].concat()),
        case(
            "a fragment after the last one",
            [start, masked(true, 0, Opcode::Continuation, b""), masked(true, 0, Opcode::Continuation, b"")].concat(),
        ),
    ];
    // The message of the last case is complete, and is delivered.
    expect_failures(1002, &cases[..5]);
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut client = Client::open(app.addr);
        client.send(&cases[5].1);
        assert_eq!(client.expect_frame(), Frame::text("a"));
        client.expect_close(1002);
        app.finish();
    }
}

#[test]
fn p_05_reserved_bits_on_a_continuation_fail_with_1002() {
    let start = masked(false, 0, Opcode::Text, b"a");
    let cases: Vec<_> = (1..8)
        .map(|rsv| {
            let bytes = [start.clone(), masked(true, rsv, Opcode::Continuation, b"b")].concat();
            case(format!("rsv {rsv:03b}"), bytes)
        })
        .collect();
    expect_failures(1002, &cases);
}

#[test]
fn p_06_lengths_that_are_not_minimal_fail_with_1002() {
    let long = |length: u64| [[0xFF].as_slice(), &length.to_be_bytes()].concat();
    let cases = [
        case("0 in 16 bits", raw(0x82, &[0xFE, 0, 0], b"")),
        case("125 in 16 bits", raw(0x82, &[0xFE, 0, 125], b"")),
        case("0 in 64 bits", raw(0x82, &long(0), b"")),
        case("65,535 in 64 bits", raw(0x82, &long(0xFFFF), b"")),
        case("the highest bit", raw(0x82, &long(1 << 63), b"")),
        case("all bits", raw(0x82, &long(u64::MAX), b"")),
    ];
    expect_failures(1002, &cases);
}

#[test]
fn p_07_text_that_is_not_utf_8_fails_with_1007() {
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
    expect_failures(1007, &cases);
}

#[test]
fn p_07_invalid_utf_8_fails_before_its_frame_is_complete() {
    let half = |payload: &[u8], at: usize, announced: u64| {
        let mut length = vec![0xFF];
        length.extend_from_slice(&announced.to_be_bytes());
        let mut payload = payload.to_vec();
        payload[at] = 0xFF;
        raw(0x81, &length, &payload)
    };
    let mut cases = vec![
        case("a small frame", raw(0x81, &[0x80 | 100], b"abc\xffdef")),
        case("the first byte of a frame", raw(0x81, &[0x80 | 100], b"\xff")),
        case("a surrogate's second byte", raw(0x81, &[0x80 | 100], b"\xed\xa0")),
        case("half of a fragment", raw(0x01, &[0x80 | 100], b"abc\xff")),
        case(
            "half of a last fragment",
            [masked(false, 0, Opcode::Text, b"ok \xe2"), raw(0x80, &[0x80 | 100], b"\x28")].concat(),
        ),
    ];
    // The payload of a large frame is received directly into the message's buffer.
    for at in [0, 10_000, 99_999] {
        cases.push(case(format!("byte {at} of a large frame"), half(&[b'x'; 100_000], at, 1 << 20)));
    }
    expect_failures(1007, &cases);
}

#[test]
fn p_07_invalid_utf_8_fails_at_every_split() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let bytes = masked(true, 0, Opcode::Text, b"ab\xe2\x82\x28cd");
        for cut in 1..bytes.len() {
            let mut client = Client::open(app.addr);
            let (front, back) = bytes.split_at(cut);
            client.send(front);
            // The server may have closed the connection already.
            let _ = std::io::Write::write_all(&mut client.stream, back);
            client.expect_close(1007);
            app.expect_closed(1007, CloseCause::Failed);
        }
        assert_eq!(texts(&app.finish()), [""; 0]);
    }
}

#[test]
fn p_08_invalid_close_frames_fail_with_1002() {
    let mut cases = vec![case("one byte", masked(true, 0, Opcode::Close, b"\x03"))];
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(case(format!("{code}"), close(code)));
    }
    expect_failures(1002, &cases);
}

#[test]
fn p_08_valid_close_codes_are_echoed() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
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
        assert_eq!(
            client.expect_frame().payload,
            b"",
            "a close frame without a code is answered by one without a code"
        );
        assert_eq!(client.frame(), None);
        app.expect_closed(1005, CloseCause::Peer);
        app.finish();
    }
}

#[test]
fn p_09_a_close_reason_that_is_not_utf_8_fails_with_1007() {
    let reason = |bytes: &[u8]| masked(true, 0, Opcode::Close, &[b"\x03\xe8", bytes].concat());
    expect_failures(1007, &[case("a stray byte", reason(b"caf\xe9")), case("cut", reason(b"\xe2\x82"))]);
}

#[test]
fn p_10_a_message_over_max_message_size_fails_with_1009() {
    for mode in Mode::ALL {
        let builder = Server::builder().workers(2).config(Config::default().max_message_size(1000));
        let app = App::start(mode, builder, echo);
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
            assert_eq!(frame.close_code(), 1009, "{mode:?}: {what}");
            assert_eq!(client.frame(), None, "{what}");
            app.expect_closed(1009, CloseCause::Failed);
        }
        let mut client = Client::open(app.addr);
        client.send(&fragments.concat());
        client.send(&masked(true, 0, Opcode::Continuation, b""));
        assert_eq!(client.expect_frame(), Frame::pong(b"inside"));
        assert_eq!(
            client.expect_frame(),
            Frame::binary(&[[1; 600].as_slice(), &[2; 400]].concat()),
            "a message of the maximum size"
        );
        drop(client);
        app.finish();
    }
}

#[test]
fn p_19_pings_inside_a_fragmented_message_are_answered() {
    const PINGS: u32 = 10_000;
    for mode in Mode::ALL {
        let app = App::echo(mode);
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
            assert_eq!(client.expect_frame(), Frame::pong(&number.to_be_bytes()), "{mode:?}");
        }
        assert_eq!(client.expect_frame(), Frame::text("the beginning, .......... and the end"));
        client.send(&close(1000));
        client.expect_close(1000);
        app.expect_closed(1000, CloseCause::Peer);
        app.finish();
    }
}

/// RFC 6455 5.5.3 requires a pong for the latest ping only.
#[test]
fn p_19_every_ping_is_answered_by_its_own_pong() {
    for mode in Mode::ALL {
        let app = App::echo(mode);
        let mut client = Client::open(app.addr);
        let pings: Vec<u8> = (0..10_u8).flat_map(|number| ping(&[number; 125])).collect();
        client.send(&[pings, ping(b""), masked(true, 0, Opcode::Pong, b"unasked"), text("end")].concat());
        for number in 0..10 {
            assert_eq!(client.expect_frame(), Frame::pong(&[number; 125]));
        }
        assert_eq!(client.expect_frame(), Frame::pong(b""));
        assert_eq!(client.expect_frame(), Frame::text("end"));
        drop(client);
        app.expect_closed(1006, CloseCause::Lost);
        let history = app.finish();
        assert!(
            matches!(history[..], [AppEvent::Open(_), AppEvent::Message(..), AppEvent::Close(..)]),
            "a pong is no event"
        );
    }
}

/// Reading is paused while an answer is queued, and resumed when it is sent.
#[test]
fn a_max_write_buffer_size_below_one_message_does_not_stall_an_echo() {
    for mode in Mode::ALL {
        let builder = Server::builder().workers(1).config(Config::default().max_write_buffer_size(100));
        let app = App::start(mode, builder, echo);
        let mut client = Client::open(app.addr);
        let messages: Vec<Vec<u8>> = (0..20_u8).map(|number| vec![number; 1000]).collect();
        client.send(&messages.iter().flat_map(|message| binary(message)).collect::<Vec<_>>());
        for message in &messages {
            assert_eq!(client.expect_frame(), Frame::binary(message), "{mode:?}");
        }
        drop(client);
        app.finish();
    }
}
