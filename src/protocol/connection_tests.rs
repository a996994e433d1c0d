use proptest::prelude::*;

use super::*;
use crate::protocol::close::CloseCode;

pub(super) const KEY: MaskingKey = [0x37, 0xfa, 0x21, 0x3d];
pub(super) const LIMIT: u64 = 1 << 20;

/// An event that an application sees.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseFrame>),
    Failed(ProtocolError),
}

fn seen(received: Received<'_>) -> Option<Seen> {
    let message = |message: MessageRef<'_>| match message {
        MessageRef::Text(text) => Seen::Text(text.to_owned()),
        other => Seen::Binary(other.as_bytes().to_owned()),
    };
    match received {
        Received::Nothing => None,
        Received::Message(whole) => Some(message(whole)),
        Received::Assembled(parts) => Some(message(parts.as_message())),
        Received::Fragment(_) | Received::OwnFragment(_) => panic!("messages are assembled"),
        Received::Ping(payload) => Some(Seen::Ping(payload.into_owned())),
        Received::Pong(payload) => Some(Seen::Pong(payload.into_owned())),
        Received::Close(frame) => Some(Seen::Close(frame)),
    }
}

/// Passes `pieces` to a new connection, one after the other.
fn feed<'a>(role: Role, limit: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    feed_to(&mut Connection::new(role, limit), &mut Codec::new(), pieces)
}

/// Passes `pieces` to `connection`, one after the other.
pub(super) fn feed_to<'a>(
    connection: &mut Connection,
    codec: &mut Codec,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Seen> {
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        while !rest.is_empty() {
            match connection.receive_with(rest, codec) {
                Ok((taken, received)) => {
                    assert!(taken > 0, "every step takes something");
                    events.extend(seen(received));
                    rest = &mut rest[taken..];
                }
                Err(error) => {
                    events.push(Seen::Failed(error));
                    break;
                }
            }
        }
    }
    events
}

fn whole(bytes: &[u8]) -> Vec<Seen> {
    feed(Role::Server, LIMIT, [bytes])
}

/// Checks that the same bytes give the same events as a whole, byte by byte, and split in two at every offset.
fn every_way(bytes: &[u8]) -> Vec<Seen> {
    let events = whole(bytes);
    assert_eq!(feed(Role::Server, LIMIT, bytes.chunks(1)), events, "byte by byte: {bytes:02x?}");
    for cut in 1..bytes.len() {
        assert_eq!(feed(Role::Server, LIMIT, [&bytes[..cut], &bytes[cut..]]), events, "cut at {cut}: {bytes:02x?}");
    }
    events
}

/// Encodes a masked frame of a client.
pub(super) fn client_frame(fin: bool, rsv: u8, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHeader { fin, rsv, ..FrameHeader::new(opcode, payload.len() as u64, Some(KEY)) }.encode(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], KEY);
    out
}

pub(super) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    client_frame(true, 0, opcode, payload)
}

fn fragment(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    client_frame(false, 0, opcode, payload)
}

pub(super) fn failure(error: ProtocolError) -> Vec<Seen> {
    vec![Seen::Failed(error)]
}

#[test]
fn p_01_masked_and_unmasked_frames_are_refused_by_the_wrong_role() {
    assert_eq!(every_way(b"\x81\x05Hello"), failure(ProtocolError::UnmaskedFrame));
    let masked = frame(Opcode::Text, b"Hello");
    assert_eq!(feed(Role::Client, LIMIT, [&masked[..]]), failure(ProtocolError::MaskedFrame));
    assert_eq!(ProtocolError::MaskedFrame.close_code(), CloseCode::PROTOCOL_ERROR);
}

#[test]
fn p_02_reserved_bits_and_opcodes_are_refused() {
    for rsv in 1..8 {
        let bytes = client_frame(true, rsv, Opcode::Text, b"x");
        assert_eq!(every_way(&bytes), failure(ProtocolError::ReservedBits(rsv)));
    }
    for opcode in (3..=7).chain(0xB..=0xF) {
        assert_eq!(every_way(&[0x80 | opcode, 0x80, 0, 0, 0, 0]), failure(ProtocolError::ReservedOpcode(opcode)));
    }
}

#[test]
fn p_03_fragmented_and_long_control_frames_are_refused() {
    assert_eq!(every_way(&fragment(Opcode::Ping, b"")), failure(ProtocolError::FragmentedControl(Opcode::Ping)));
    assert_eq!(every_way(&frame(Opcode::Pong, &[0; 126])), failure(ProtocolError::ControlTooLong(Opcode::Pong)));
}

#[test]
fn p_04_fragments_out_of_order_are_refused() {
    let stray = frame(Opcode::Continuation, b"x");
    assert_eq!(every_way(&stray), failure(ProtocolError::UnexpectedContinuation));
    let interleaved = [fragment(Opcode::Text, b"a"), frame(Opcode::Text, b"b")].concat();
    assert_eq!(every_way(&interleaved), failure(ProtocolError::UnfinishedMessage));
    let after = [frame(Opcode::Text, b"a"), stray].concat();
    assert_eq!(every_way(&after), [Seen::Text("a".into()), Seen::Failed(ProtocolError::UnexpectedContinuation)]);
}

#[test]
fn p_05_reserved_bits_on_continuation_and_control_frames_are_refused() {
    let continued = [fragment(Opcode::Text, b"a"), client_frame(true, 0b100, Opcode::Continuation, b"b")].concat();
    assert_eq!(every_way(&continued), failure(ProtocolError::ReservedBits(0b100)));
    assert_eq!(every_way(&client_frame(true, 0b100, Opcode::Ping, b"")), failure(ProtocolError::ReservedBits(0b100)));
}

#[test]
fn p_06_lengths_that_are_not_minimal_are_refused() {
    assert_eq!(every_way(&[0x82, 0xFE, 0, 5, 0, 0, 0, 0]), failure(ProtocolError::NonMinimalLength(5)));
    let mut bytes = vec![0x82, 0xFF];
    bytes.extend_from_slice(&[0xFF; 8]);
    assert_eq!(every_way(&bytes), failure(ProtocolError::LengthOverflow(u64::MAX)));
}

#[test]
fn p_07_invalid_utf_8_is_refused_before_its_frame_is_complete() {
    let text = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
    let bytes = frame(Opcode::Text, text);
    assert_eq!(every_way(&bytes), failure(ProtocolError::InvalidUtf8));
    // The header, and the text up to its first invalid byte.
    assert_eq!(feed(Role::Server, LIMIT, [&bytes[..6 + 12]]), []);
    assert_eq!(feed(Role::Server, LIMIT, [&bytes[..6 + 13]]), failure(ProtocolError::InvalidUtf8));
    // A fragment may end inside a character, a message may not.
    let cut = [fragment(Opcode::Text, b"\xe2\x82"), frame(Opcode::Continuation, b"\xac")].concat();
    assert_eq!(every_way(&cut), [Seen::Text("€".into())]);
    assert_eq!(every_way(&frame(Opcode::Text, b"\xe2\x82")), failure(ProtocolError::InvalidUtf8));
    assert_eq!(ProtocolError::InvalidUtf8.close_code(), CloseCode::INVALID_FRAME_PAYLOAD_DATA);
}

#[test]
fn p_08_invalid_close_frames_are_refused() {
    assert_eq!(every_way(&frame(Opcode::Close, b"\x03")), failure(ProtocolError::CloseWithoutCode));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        let refused = failure(ProtocolError::InvalidCloseCode(CloseCode(code)));
        assert_eq!(every_way(&frame(Opcode::Close, &code.to_be_bytes())), refused);
    }
    assert_eq!(every_way(&frame(Opcode::Close, b"")), [Seen::Close(None)]);
}

#[test]
fn p_09_a_close_reason_that_is_not_utf_8_is_refused() {
    assert_eq!(every_way(&frame(Opcode::Close, b"\x03\xe8\xff")), failure(ProtocolError::InvalidUtf8));
}

#[test]
fn p_10_a_message_over_the_limit_is_refused_at_its_frame_header() {
    let limited = |bytes: &[u8]| feed(Role::Server, 10, [bytes]);
    assert_eq!(limited(&frame(Opcode::Binary, &[7; 10])), [Seen::Binary(vec![7; 10])]);
    let too_big = |size| failure(ProtocolError::MessageTooBig { size, limit: 10 });
    assert_eq!(limited(&frame(Opcode::Binary, &[7; 11])[..6]), too_big(11));
    let parts = [fragment(Opcode::Binary, &[7; 6]), frame(Opcode::Continuation, &[7; 5])].concat();
    assert_eq!(limited(&parts[..12 + 6]), too_big(11));
    // T-08: lengths whose sum overflows 64 bits, or a signed 64-bit integer.
    let mut overflow = fragment(Opcode::Binary, b"x");
    overflow.extend_from_slice(b"\x00\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0");
    assert_eq!(limited(&overflow), too_big(1 << 63));
}

#[test]
fn p_13_data_after_the_close_frame_is_ignored() {
    let bytes = [frame(Opcode::Close, b"\x03\xe8bye"), frame(Opcode::Text, b"late")].concat();
    let close = CloseFrame { code: CloseCode::NORMAL_CLOSURE, reason: "bye".into() };
    assert_eq!(every_way(&bytes), [Seen::Close(Some(close))]);
    let failed = [frame(Opcode::Close, b"x"), frame(Opcode::Text, b"late")].concat();
    assert_eq!(every_way(&failed), failure(ProtocolError::CloseWithoutCode));
}

#[test]
fn p_16_a_close_frame_inside_a_fragmented_message_is_received() {
    let bytes = [fragment(Opcode::Text, b"half"), frame(Opcode::Close, b"\x03\xe8")].concat();
    let close = CloseFrame { code: CloseCode::NORMAL_CLOSURE, reason: String::new() };
    assert_eq!(every_way(&bytes), [Seen::Close(Some(close))]);
}

#[test]
fn p_18_messages_before_a_violation_are_received() {
    let bytes = [frame(Opcode::Text, b"one"), frame(Opcode::Ping, b"two"), vec![0x83, 0x80]].concat();
    let expected =
        [Seen::Text("one".into()), Seen::Ping(b"two".to_vec()), Seen::Failed(ProtocolError::ReservedOpcode(3))];
    assert_eq!(every_way(&bytes), expected);
}

#[test]
fn control_frames_between_fragments_are_received() {
    let bytes = [
        fragment(Opcode::Text, b"a"),
        frame(Opcode::Ping, b"p"),
        fragment(Opcode::Continuation, b"b"),
        frame(Opcode::Pong, b"q"),
        frame(Opcode::Continuation, b"c"),
    ]
    .concat();
    assert_eq!(every_way(&bytes), [Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec()), Seen::Text("abc".into())]);
}

#[test]
fn a_close_frame_is_sent_once_and_no_frame_after_it() {
    let mut connection = Connection::new(Role::Server, LIMIT);
    let mut out = Vec::new();
    assert!(connection.send(Opcode::Text, b"a", None, &mut out));
    assert!(connection.close(None, None, &mut out));
    assert_eq!(connection.state(), State::Closing);
    assert!(!connection.send(Opcode::Text, b"b", None, &mut out));
    assert!(!connection.close(None, None, &mut out));
    assert_eq!(out, b"\x81\x01a\x88\x00");
    connection.receive(&mut frame(Opcode::Close, b"")).expect("a close frame");
    assert_eq!(connection.state(), State::Closed);
}

#[test]
fn memory_grows_with_the_received_payload_and_not_with_the_announced_length() {
    let mut connection = Connection::new(Role::Server, u64::MAX);
    let (taken, _) = connection.receive(&mut b"\x82\xff\0\0\x01\0\0\0\0\0\0\0\0\0payload"[..].to_vec()).expect("legal");
    assert_eq!(taken, 21);
    assert_eq!(connection.lacks(), (1 << 40) - 7);
    assert!(connection.spare_mut().len() <= 4096);
}

#[test]
fn a_payload_received_into_spare_mut_is_the_same() {
    let payload: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let bytes = frame(Opcode::Binary, &payload);
    let mut connection = Connection::new(Role::Server, LIMIT);
    connection.receive(&mut bytes[..1000].to_vec()).expect("legal");
    let mut rest = &bytes[1000..];
    loop {
        if connection.wants_buffer() == Some(300_000) {
            connection.move_to(vec![0xEE; 299_999]);
        }
        let spare = connection.spare_mut();
        let size = spare.len().min(rest.len()).min(70_001);
        spare[..size].copy_from_slice(&rest[..size]);
        rest = &rest[size..];
        if let Received::Assembled(message) = connection.advance(size).expect("legal") {
            assert_eq!(message.as_message(), MessageRef::Binary(&payload));
            break;
        }
    }
    assert!(rest.is_empty() && connection.assembly.is_none());
}

/// Generates frames of every kind, most of them valid.
pub(super) fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..20),
        4 => ".{0,12}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(Just(b'x'), 120..300),
    ];
    let opcode = prop_oneof![
        3 => Just(Opcode::Text), 3 => Just(Opcode::Binary), 4 => Just(Opcode::Continuation),
        2 => Just(Opcode::Ping), 1 => Just(Opcode::Pong), 1 => Just(Opcode::Close),
    ];
    let rsv = prop_oneof![30 => Just(0_u8), 1 => 0_u8..8];
    let frame = (any::<bool>(), rsv, opcode, payload).prop_map(|(fin, rsv, opcode, payload)| {
        client_frame(fin || (opcode.is_control() && payload.len() != 3), rsv, opcode, &payload)
    });
    proptest::collection::vec(frame, 1..8).prop_map(|frames| frames.concat())
}

/// The number of frame sequences. Each is received as a whole, byte by byte, and in 25 random chunkings.
const SEQUENCES: u32 = 4_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(SEQUENCES))]

    #[test]
    fn any_chunking_gives_the_same_events(
        bytes in frames(), cuts in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 1..6), 25),
    ) {
        let events = whole(&bytes);
        prop_assert_eq!(&feed(Role::Server, LIMIT, bytes.chunks(1)), &events);
        for cuts in cuts {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut start = 0;
            for cut in cuts {
                pieces.push(&bytes[start..cut]);
                start = cut;
            }
            pieces.push(&bytes[start..]);
            prop_assert_eq!(&feed(Role::Server, LIMIT, pieces), &events);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let events = whole(&bytes);
        prop_assert_eq!(feed(Role::Server, LIMIT, bytes.chunks(1)), events);
    }
}
