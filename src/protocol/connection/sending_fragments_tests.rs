use proptest::prelude::*;

use super::*;
use crate::protocol::Role;
use crate::protocol::frame;

/// What an application asks for.
#[derive(Clone, Debug)]
enum Step {
    Whole(Opcode, Vec<u8>),
    Part(Opcode, Vec<u8>, Last, Compression),
    Control(Opcode, Vec<u8>),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let opcode = || prop_oneof![Just(Opcode::Text), Just(Opcode::Binary)];
    let payload = || prop_oneof![prop::collection::vec(b'a'..b'e', 0..200), prop::collection::vec(b'a'..b'e', 0..3)];
    let last = prop_oneof![3 => Just(Last::No), 1 => Just(Last::Yes)];
    let compression = prop_oneof![2 => Just(Compression::Auto), 1 => Just(Compression::Never)];
    let control = prop_oneof![Just(Opcode::Ping), Just(Opcode::Pong)];
    prop_oneof![
        4 => (opcode(), payload()).prop_map(|(opcode, payload)| Step::Whole(opcode, payload)),
        12 => (opcode(), payload(), last, compression).prop_map(|(o, p, l, c)| Step::Part(o, p, l, c)),
        3 => (control, prop::collection::vec(any::<u8>(), 0..10)).prop_map(|(o, p)| Step::Control(o, p)),
        1 => Just(Step::Close),
    ]
}

/// A message, or the payload of a control frame.
type Received = (Opcode, Vec<u8>);

/// A receiver of its own: it knows the frames of RFC 6455 5.4, and inflates with zlib.
#[derive(Default)]
struct Receiver {
    inflate: Option<Inflate>,
    message: Option<(Opcode, u8, Vec<u8>)>,
    is_closed: bool,
    received: Vec<Received>,
}

#[cfg(feature = "deflate")]
type Inflate = flate2::Decompress;
#[cfg(not(feature = "deflate"))]
type Inflate = ();

impl Receiver {
    fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((header, size)) = FrameHeader::parse(bytes).expect("a legal header") {
            let end = size + header.payload_len as usize;
            let mut payload = bytes[size..end].to_vec();
            bytes = &bytes[end..];
            if let Some(key) = header.mask {
                crate::protocol::mask::apply(&mut payload, key);
            }
            self.frame(&header, payload);
        }
        assert!(bytes.is_empty(), "whole frames");
    }

    fn frame(&mut self, header: &FrameHeader, payload: Vec<u8>) {
        assert!(!self.is_closed, "nothing follows a close frame");
        if header.opcode.is_control() {
            assert!(header.fin && header.rsv == 0);
            self.is_closed = header.opcode == Opcode::Close;
            return self.received.push((header.opcode, payload));
        }
        let (opcode, rsv, mut before) = match (header.opcode, self.message.take()) {
            (Opcode::Continuation, Some(message)) => {
                assert_eq!(header.rsv, 0, "RSV1 is set on the first frame alone");
                message
            }
            (Opcode::Text | Opcode::Binary, None) => (header.opcode, header.rsv, Vec::new()),
            (opcode, message) => panic!("{opcode:?} while {message:?} is under way"),
        };
        assert!(rsv == 0 || (rsv == RSV1 && self.inflate.is_some()));
        before.extend(payload);
        if !header.fin {
            self.message = Some((opcode, rsv, before));
        } else if rsv == 0 {
            self.received.push((opcode, before));
        } else {
            let plain = self.inflate(before);
            self.received.push((opcode, plain));
        }
    }

    #[cfg(feature = "deflate")]
    fn inflate(&mut self, mut payload: Vec<u8>) -> Vec<u8> {
        payload.extend([0x00, 0x00, 0xff, 0xff]);
        let inflate = self.inflate.as_mut().expect("it was negotiated");
        let (mut plain, mut rest) = (Vec::new(), &payload[..]);
        loop {
            plain.reserve(1024);
            let before = inflate.total_in();
            inflate.decompress_vec(rest, &mut plain, flate2::FlushDecompress::Sync).expect("it was compressed");
            rest = &rest[(inflate.total_in() - before) as usize..];
            if rest.is_empty() && plain.len() < plain.capacity() {
                return plain;
            }
        }
    }

    #[cfg(not(feature = "deflate"))]
    fn inflate(&mut self, _: Vec<u8>) -> Vec<u8> {
        panic!("it was not negotiated");
    }
}

/// Sends what is permitted of `steps`, and returns the bytes and what a receiver is to see of them.
fn send(connection: &mut Connection, steps: &[Step], key: Option<MaskingKey>) -> (Vec<u8>, Vec<Received>) {
    let (mut codec, mut out, mut expected) = (Codec::new(), Vec::new(), Vec::new());
    let mut message: Option<(Opcode, Vec<u8>)> = None;
    for step in steps {
        match step {
            Step::Whole(opcode, payload) => {
                assert_eq!(connection.can_send(), message.is_none() && !connection.close_sent());
                if !connection.can_send() {
                    assert!(!connection.send(*opcode, payload, key, &mut out));
                    continue;
                }
                match connection.compress(payload, Compression::Auto, &mut codec) {
                    Some(deflated) => frame::encode_compressed(&mut out, *opcode, deflated, key),
                    None => assert!(connection.send(*opcode, payload, key, &mut out)),
                }
                expected.push((*opcode, payload.clone()));
            }
            Step::Part(opcode, payload, last, compression) => {
                let opcode = message.as_ref().map_or(*opcode, |(opcode, _)| *opcode);
                let fragment = OutgoingFragment { opcode, payload, last: *last, compression: *compression };
                let sent = connection.send_fragment(fragment, &mut codec, key, &mut out);
                assert_eq!(sent, !connection.close_sent());
                if sent {
                    let (_, whole) = message.get_or_insert((opcode, Vec::new()));
                    whole.extend(payload);
                    assert_eq!(connection.is_in_message(), *last == Last::No);
                    if *last == Last::Yes {
                        expected.extend(message.take());
                    }
                }
            }
            Step::Control(opcode, payload) => {
                if connection.send(*opcode, payload, key, &mut out) {
                    expected.push((*opcode, payload.clone()));
                }
            }
            Step::Close => {
                if connection.close(None, key, &mut out) {
                    expected.push((Opcode::Close, Vec::new()));
                }
            }
        }
    }
    (out, expected)
}

fn check(connection: &mut Connection, inflate: Option<Inflate>, steps: &[Step], key: Option<MaskingKey>) {
    let (sent, expected) = send(connection, steps, key);
    let mut receiver = Receiver { inflate, ..Receiver::default() };
    receiver.feed(&sent);
    assert_eq!(receiver.received, expected);
}

proptest! {
    #[test]
    fn whatever_is_asked_for_a_receiver_sees_legal_frames(
        steps in prop::collection::vec(step(), 0..60), key: Option<[u8; 4]>,
    ) {
        check(&mut Connection::new(Role::Client, 1 << 20), None, &steps, key);
    }

    #[cfg(feature = "deflate")]
    #[test]
    fn compressed_messages_are_legal_with_and_without_takeover(
        steps in prop::collection::vec(step(), 0..60), takeover: bool, bits in 9_u8..=15, level in 1_u8..=9,
    ) {
        use crate::protocol::deflate::tests::params;
        let mut connection = Connection::new(Role::Server, 1 << 20).with_deflate(params(takeover, bits, level));
        let inflate = flate2::Decompress::new_with_window_bits(false, bits);
        check(&mut connection, Some(inflate), &steps, None);
    }
}

/// RFC 7692 7.2.3.1: without context takeover the compressor goes with its message, and so does its memory.
#[cfg(feature = "deflate")]
#[test]
fn the_memory_of_a_compressor_is_counted_while_the_message_lasts() {
    use crate::protocol::deflate::tests::params;
    for takeover in [true, false] {
        let mut connection = Connection::new(Role::Server, 1 << 20).with_deflate(params(takeover, 15, 1));
        let (mut codec, mut out) = (Codec::new(), Vec::new());
        let part =
            |last| OutgoingFragment { opcode: Opcode::Text, payload: b"aaaa", last, compression: Compression::Auto };
        assert_eq!(connection.memory(), 0);
        assert!(connection.send_fragment(part(Last::No), &mut codec, None, &mut out));
        assert!(connection.memory() > 300_000);
        connection.trim();
        assert!(!connection.trim() && connection.memory() < 10_000, "no part came for a while");
        assert!(connection.send_fragment(part(Last::No), &mut codec, None, &mut out));
        assert!(connection.send_fragment(part(Last::Yes), &mut codec, None, &mut out));
        assert_eq!(connection.memory() > 0, takeover);
        let mut receiver = Receiver { inflate: Some(flate2::Decompress::new(false)), ..Receiver::default() };
        receiver.feed(&out);
        assert_eq!(receiver.received, [(Opcode::Text, b"aaaaaaaaaaaa".to_vec())]);
    }
}

#[test]
fn a_fragment_of_a_control_frame_or_of_a_continuation_is_refused() {
    let mut connection = Connection::new(Role::Server, 1 << 20);
    for opcode in [Opcode::Continuation, Opcode::Ping, Opcode::Pong, Opcode::Close] {
        let fragment = OutgoingFragment { opcode, payload: b"", last: Last::No, compression: Compression::Auto };
        assert!(!connection.send_fragment(fragment, &mut Codec::new(), None, &mut Vec::new()));
    }
    assert!(connection.can_send());
}
