use flate2::{Compress, Compression as Level};
use proptest::prelude::*;

use super::fragment_tests::join;
use super::tests::{KEY, LIMIT, Seen, client_frame, failure, feed_to, frame};
use super::*;
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::Compression;
use crate::protocol::deflate::tests::{bomb, params, payload, zlib_deflate};
use crate::protocol::frame;

fn server(takeover: bool, limit: u64) -> Connection {
    Connection::new(Role::Server, limit).with_deflate(params(takeover, 15, 1))
}

fn whole(takeover: bool, limit: u64, bytes: &[u8]) -> Vec<Seen> {
    feed_to(&mut server(takeover, limit), &mut Codec::new(), [bytes])
}

/// Checks that the same bytes give the same events as a whole, byte by byte, and split in two at every offset, with and
/// without context takeover.
fn every_way(bytes: &[u8], limit: u64) -> Vec<Seen> {
    let events = whole(true, limit, bytes);
    let mut codec = Codec::new();
    for takeover in [true, false] {
        assert_eq!(whole(takeover, limit, bytes), events, "{bytes:02x?}");
        assert_eq!(feed_to(&mut server(takeover, limit), &mut codec, bytes.chunks(1)), events, "{bytes:02x?}");
        for cut in 1..bytes.len() {
            let pieces = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(feed_to(&mut server(takeover, limit), &mut codec, pieces), events, "cut at {cut}: {bytes:02x?}");
        }
    }
    events
}

fn deflated(plain: &[u8]) -> Vec<u8> {
    zlib_deflate(&mut Compress::new(Level::new(6), false), plain)
}

fn text(text: &str) -> Seen {
    Seen::Text(text.into())
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 24 + 8);
}

#[test]
fn the_frames_of_rfc_7692_7_2_3_are_decompressed() {
    let examples: [&[&[u8]]; 5] = [
        &[b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"],
        &[b"\x41\x03\xf2\x48\xcd", b"\x80\x04\xc9\xc9\x07\x00"],
        &[b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"],
        &[b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00"],
        &[b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"],
    ];
    for frames in examples {
        let mut client = Connection::new(Role::Client, 5).with_deflate(params(false, 15, 1));
        let events = feed_to(&mut client, &mut Codec::new(), frames.iter().copied());
        assert_eq!(events, [text("Hello")], "{frames:02x?}");
    }
    // RFC 7692 7.2.3.2: the second message refers to the first, which it must not do without context takeover.
    let frames: [&[u8]; 2] = [b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xc1\x05\xf2\x00\x11\x00\x00"];
    let client = |takeover| Connection::new(Role::Client, 5).with_deflate(params(takeover, 15, 1));
    assert_eq!(feed_to(&mut client(true), &mut Codec::new(), frames), [text("Hello"), text("Hello")]);
    assert_eq!(
        feed_to(&mut client(false), &mut Codec::new(), frames),
        [text("Hello"), Seen::Failed(ProtocolError::InvalidDeflate)]
    );
    let mut server = Connection::new(Role::Server, LIMIT).with_deflate(params(true, 15, 6));
    let (mut out, mut codec) = (Vec::new(), Codec::new());
    for _ in 0..2 {
        let payload = server.compress(b"Hello", Compression::Auto, &mut codec).expect("always, under takeover");
        frame::encode_compressed(&mut out, Opcode::Text, payload, None);
    }
    assert_eq!(out, frames.concat());
}

#[test]
fn p_05_rsv1_is_refused_except_on_the_first_frame_of_a_message() {
    let hello = deflated(b"Hello");
    let start = client_frame(false, RSV1, Opcode::Text, &hello[..3]);
    let rest = |rsv| client_frame(true, rsv, Opcode::Continuation, &hello[3..]);
    assert_eq!(every_way(&[start.clone(), rest(0)].concat(), LIMIT), [text("Hello")]);
    assert_eq!(every_way(&[start.clone(), rest(RSV1)].concat(), LIMIT), failure(ProtocolError::ReservedBits(RSV1)));
    // also on a continuation of a message that is not compressed.
    let plain = client_frame(false, 0, Opcode::Text, b"a");
    assert_eq!(every_way(&[plain, rest(RSV1)].concat(), LIMIT), failure(ProtocolError::ReservedBits(RSV1)));
    for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close] {
        let control = client_frame(true, RSV1, opcode, b"");
        assert_eq!(every_way(&control, LIMIT), failure(ProtocolError::ReservedBits(RSV1)));
        assert_eq!(every_way(&[start.clone(), control].concat(), LIMIT), failure(ProtocolError::ReservedBits(RSV1)));
    }
    for rsv in [0b001, 0b010, 0b011, 0b101, 0b110, 0b111] {
        let bytes = client_frame(true, rsv, Opcode::Text, &hello);
        assert_eq!(every_way(&bytes, LIMIT), failure(ProtocolError::ReservedBits(rsv)));
    }
    let twice = [start.clone(), start].concat();
    assert_eq!(every_way(&twice, LIMIT), failure(ProtocolError::UnfinishedMessage));
    let plain = feed_to(&mut Connection::new(Role::Server, LIMIT), &mut Codec::new(), [&frame(Opcode::Text, b"x")[..]]);
    assert_eq!(plain, [text("x")]);
}

#[test]
fn p_12_invalid_compressed_data_is_refused_with_1007() {
    let bad = client_frame(true, RSV1, Opcode::Binary, b"\x06\x00");
    assert_eq!(every_way(&bad, LIMIT), failure(ProtocolError::InvalidDeflate));
    assert_eq!(ProtocolError::InvalidDeflate.close_code(), CloseCode::INVALID_FRAME_PAYLOAD_DATA);
    // At the first invalid frame, not at the end of the message.
    let start = client_frame(false, RSV1, Opcode::Binary, b"\x06\x00");
    assert_eq!(every_way(&start, LIMIT), failure(ProtocolError::InvalidDeflate));
}

#[test]
fn p_07_compressed_text_is_refused_at_its_first_invalid_byte() {
    // Stored blocks, so that each received byte decompresses to one byte.
    let mut compress = Compress::new(Level::none(), false);
    let bytes = zlib_deflate(&mut compress, b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80edited");
    let first = client_frame(false, RSV1, Opcode::Text, &bytes[..5 + 6]);
    assert_eq!(every_way(&first, LIMIT), []);
    let second = client_frame(false, 0, Opcode::Continuation, &bytes[5 + 6..5 + 7]);
    assert_eq!(every_way(&[first, second].concat(), LIMIT), failure(ProtocolError::InvalidUtf8));
    let cut = client_frame(true, RSV1, Opcode::Text, &deflated(b"\xe2\x82"));
    assert_eq!(every_way(&cut, LIMIT), failure(ProtocolError::InvalidUtf8));
    assert_eq!(every_way(&client_frame(true, RSV1, Opcode::Text, &deflated("€".as_bytes())), LIMIT), [text("€")]);
}

#[test]
fn p_10_the_limit_is_on_the_decompressed_message() {
    let too_big = failure(ProtocolError::MessageTooBig { size: 11, limit: 10 });
    for over in -2_isize..=2 {
        let plain = vec![b'x'; (10 + over) as usize];
        let payload = deflated(&plain);
        let whole = client_frame(true, RSV1, Opcode::Binary, &payload);
        let (head, tail) = payload.split_at(payload.len() / 2);
        let parts =
            [client_frame(false, RSV1, Opcode::Binary, head), client_frame(true, 0, Opcode::Continuation, tail)];
        for bytes in [whole, parts.concat()] {
            let expected = if over <= 0 { vec![Seen::Binary(plain.clone())] } else { too_big.clone() };
            assert_eq!(every_way(&bytes, 10), expected, "{over}");
        }
    }
    // The compressed data is larger than the limit, the message is not.
    let noise = client_frame(true, RSV1, Opcode::Binary, b"\x00\x00\x00\xff\xff\x00\x03\x00\xfc\xffabc\x00");
    assert_eq!(every_way(&noise, 3), [Seen::Binary(b"abc".to_vec())]);
}

/// The limit on the compressed size of a message without fragments that earn slack.
fn wire_limit(limit: u64) -> u64 {
    limit + limit / 8 + limit / 64 + (64 << 10)
}

/// The header of a client's frame.
fn client_header(fin: bool, rsv: u8, opcode: Opcode, payload_len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHeader { fin, rsv, opcode, mask: Some(KEY), payload_len }.encode(&mut bytes);
    bytes
}

#[test]
fn a_41_a_compressed_message_is_refused_at_the_header_that_makes_it_too_big() {
    for limit in [0, 1000, LIMIT] {
        let most = wire_limit(limit);
        let refused = |size| failure(ProtocolError::CompressedMessageTooBig { size, limit: most });
        for size in [most + 1, 1 << 32, (1 << 32) + 10, 1 << 60, (1 << 63) - 1] {
            let header = client_header(true, RSV1, Opcode::Binary, size);
            assert_eq!(every_way(&header, limit), refused(size), "{size} of {limit}");
        }
        assert_eq!(every_way(&client_header(true, RSV1, Opcode::Binary, most), limit), []);
        // The sum of the fragments counts, and it does not overflow.
        let start = client_frame(false, RSV1, Opcode::Binary, b"\x00\x00\x00\xff\xff");
        let ping = frame(Opcode::Ping, b"");
        for (size, sum) in [(most - 5, most), (most - 4, most + 1), ((1 << 63) - 1, (1 << 63) + 4)] {
            let bytes = [&start[..], &ping, &client_header(true, 0, Opcode::Continuation, size)].concat();
            let mut expected = vec![Seen::Ping(Vec::new())];
            expected.extend(if sum > most { refused(sum) } else { Vec::new() });
            assert_eq!(every_way(&bytes, limit), expected, "{size} more of {limit}");
        }
    }
    // Sums and limits beyond 2^64.
    for limit in [1 << 63, u64::MAX - 1, u64::MAX] {
        let bytes = client_header(true, RSV1, Opcode::Binary, (1 << 63) - 1);
        assert_eq!(every_way(&bytes, limit), []);
    }
    assert_eq!(ProtocolError::CompressedMessageTooBig { size: 2, limit: 1 }.close_code(), CloseCode::MESSAGE_TOO_BIG);
}

#[test]
fn a_41_fragments_that_inflate_to_nothing_are_refused() {
    let limit = 1000;
    let most = wire_limit(limit);
    let full = [&deflated(&[b'x'; 1000])[..], b"\x00\x00\xff\xff"].concat();
    for (start, slack) in [(&b""[..], 0), (&full, 16 * limit)] {
        for unit in [&b"\x00\x00\x00\xff\xff"[..], b"\x03\x00", b"\x00\x00\x00\xff\xff\x03\x00\x03\x00"] {
            let mut bytes = client_frame(false, RSV1, Opcode::Binary, start);
            let fragment = client_frame(false, 0, Opcode::Continuation, unit);
            let count = (most + slack) as usize / unit.len() + 2;
            bytes.extend(fragment.repeat(count));
            let [Seen::Failed(ProtocolError::CompressedMessageTooBig { size, limit: met })] =
                whole(true, limit, &bytes)[..]
            else {
                panic!("it is not refused")
            };
            assert_eq!(met, most + slack);
            assert!(size > met && size <= met + unit.len() as u64, "{size} of {met}");
            // A fragment less, and the message is taken.
            let kept = bytes.len() - 2 * fragment.len() - fragment.len() * usize::from(!start.is_empty()) * 40;
            assert_eq!(whole(true, limit, &bytes[..kept]), []);
        }
    }
}

/// The largest permitted messages, by encoders that make much of them.
#[test]
fn a_41_the_largest_message_is_received_however_it_was_compressed() {
    let noise = |size: usize| -> Vec<u8> {
        (0..size as u64).map(|n| 144 + (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as u8 % 112).collect()
    };
    let mut codec = Codec::new();
    for size in [1, 2, 100, 5000, 66_000, 800_000] {
        let plain = noise(size);
        let mut payloads: Vec<Vec<u8>> =
            [0, 1, 2, 6, 9].map(|level| zlib_deflate(&mut Compress::new(Level::new(level), false), &plain)).into();
        payloads.push(fixed_literals(&plain));
        for payload in &payloads {
            let bytes = client_frame(true, RSV1, Opcode::Binary, payload);
            let events = feed_to(&mut server(false, size as u64), &mut codec, [&bytes[..]]);
            assert!(events == [Seen::Binary(plain.clone())], "{size} bytes in {}", payload.len());
        }
        assert!(payloads.last().is_some_and(|payload| payload.len() > size + size / 8));
        // Flushed after each fragment.
        for part in if size < 100_000 { &[1, 2, 3, 50, 1000][..] } else { &[65_535] } {
            for level in [0, 1, 6] {
                let mut compress = Compress::new(Level::new(level), false);
                let mut bytes = Vec::new();
                for piece in plain.chunks(*part).take(20_000) {
                    let (rsv, opcode) =
                        if bytes.is_empty() { (RSV1, Opcode::Binary) } else { (0, Opcode::Continuation) };
                    let payload = [&zlib_deflate(&mut compress, piece)[..], b"\x00\x00\xff\xff"].concat();
                    bytes.extend(client_frame(false, rsv, opcode, &payload));
                }
                bytes.extend(client_frame(true, 0, Opcode::Continuation, b"\x00"));
                let sent = size.min(part * 20_000);
                let events = feed_to(&mut server(false, sent as u64), &mut codec, [&bytes[..]]);
                assert!(
                    events == [Seen::Binary(plain[..sent].to_vec())],
                    "{size} bytes in fragments of {part}, level {level}"
                );
            }
        }
    }
}

/// Compresses bytes of 144 and more as literals with the fixed codes of nine bits (RFC 1951 3.2.6), as an encoder that has
/// no other block does.
fn fixed_literals(plain: &[u8]) -> Vec<u8> {
    let mut bits = vec![false, true, false];
    for byte in plain {
        let code = 0b1_1001_0000 + u16::from(byte - 144);
        bits.extend((0..9).rev().map(|place| code >> place & 1 == 1));
    }
    // The end of the block, and the header of an empty stored one.
    bits.extend([false; 7 + 3]);
    bits.chunks(8).map(|byte| byte.iter().enumerate().map(|(place, bit)| u8::from(*bit) << place).sum()).collect()
}

#[test]
fn p_19_control_frames_between_compressed_fragments_are_received() {
    let payload = deflated(b"Hello, Hello, Hello");
    let mut bytes = client_frame(false, RSV1, Opcode::Text, &payload[..1]);
    for byte in &payload[1..] {
        bytes.extend(frame(Opcode::Ping, b"p"));
        bytes.extend(client_frame(false, 0, Opcode::Continuation, &[*byte]));
    }
    bytes.extend(client_frame(true, 0, Opcode::Continuation, b""));
    bytes.extend(frame(Opcode::Text, b"plain"));
    let mut expected = vec![Seen::Ping(b"p".to_vec()); payload.len() - 1];
    expected.extend([text("Hello, Hello, Hello"), text("plain")]);
    assert_eq!(every_way(&bytes, LIMIT), expected);
}

#[test]
fn a_20_fifty_compressed_frames_in_one_segment_are_received() {
    for takeover in [true, false] {
        let mut compress = Compress::new(Level::fast(), false);
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for n in 0..50 {
            let plain = format!("message {n} of fifty, {}", "again and ".repeat(n));
            if !takeover {
                compress.reset();
            }
            bytes.extend(client_frame(true, RSV1, Opcode::Text, &zlib_deflate(&mut compress, plain.as_bytes())));
            expected.push(Seen::Text(plain));
        }
        assert_eq!(whole(takeover, LIMIT, &bytes), expected);
        for size in [1, 3, 64, 1000] {
            let events = feed_to(&mut server(takeover, LIMIT), &mut Codec::new(), bytes.chunks(size));
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }
}

#[test]
fn a_15_a_bomb_is_refused_whole_or_in_fragments_and_chunks() {
    let bomb = bomb();
    let refused = failure(ProtocolError::MessageTooBig { size: LIMIT + 1, limit: LIMIT });
    let flat = client_frame(true, RSV1, Opcode::Binary, &bomb);
    let mut fragments = client_frame(false, RSV1, Opcode::Binary, b"");
    for piece in bomb.chunks(bomb.len() / 1000) {
        fragments.extend(client_frame(false, 0, Opcode::Continuation, piece));
    }
    for takeover in [true, false] {
        assert_eq!(whole(takeover, LIMIT, &flat), refused);
        assert_eq!(feed_to(&mut server(takeover, LIMIT), &mut Codec::new(), flat.chunks(4096)), refused);
        assert_eq!(whole(takeover, LIMIT, &fragments), refused);
    }
    // a second bomb after the first changes nothing, and the inflater was dropped.
    let mut connection = server(true, LIMIT);
    let mut codec = Codec::new();
    assert_eq!(feed_to(&mut connection, &mut codec, [&flat[..], &flat[..]]), refused);
    assert!(connection.assembly.is_none());
    assert!(codec.take_work() <= LIMIT + 1 + 64 * 4096);
    // A hundred connections at once, each with a part of a bomb received.
    for connection in &mut (0..100).map(|_| server(false, LIMIT)).collect::<Vec<_>>() {
        assert_eq!(feed_to(connection, &mut codec, [&flat[..1000]]), []);
        assert_eq!(feed_to(connection, &mut codec, flat[1000..].chunks(999)), refused);
    }
}

#[test]
fn compressed_frames_are_not_received_into_spare_mut() {
    let plain: Vec<u8> = (0..500_000_u32).map(|n| (n.wrapping_mul(n) >> 8) as u8).collect();
    let mut bytes = client_frame(true, RSV1, Opcode::Binary, &deflated(&plain));
    let mut connection = server(false, LIMIT);
    let mut start = 0;
    let message = loop {
        let (taken, received) = connection.receive(&mut bytes[start..]).expect("legal");
        start += taken;
        assert_eq!((connection.lacks(), connection.wants_buffer()), (0, None));
        assert!(connection.spare_mut().is_empty());
        assert!(matches!(connection.advance(0), Ok(Received::Nothing)));
        if let Received::Assembled(message) = received {
            break message;
        }
    };
    assert!(message.as_bytes() == plain && start == bytes.len());
    let stats = connection.deflate_stats().expect("negotiated");
    assert_eq!((stats.received, stats.received_compressed), (500_000, bytes.len() as u64 - 14));
}

#[test]
fn t_21_a_step_decompresses_4_kib_and_counts_them() {
    for unit in [&b"\x03\x00"[..], b"\x00\x00\x00\xff\xff"] {
        let payload: Vec<u8> = unit.iter().copied().cycle().take(100_000).collect();
        let mut bytes = client_frame(true, RSV1, Opcode::Binary, &payload);
        let (mut connection, mut codec) = (server(false, LIMIT), Codec::new());
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let (taken, _) = connection.receive_with(rest, &mut codec).expect("legal");
            assert!((1..=14 + 4096).contains(&taken), "{taken} bytes");
            assert!(codec.take_work() >= 64 * (taken as u64 - 14), "what inflates to nothing counts as well");
            rest = &mut rest[taken..];
        }
        assert_eq!(codec.take_work(), 0);
    }
}

/// A received byte may inflate to a thousand: what one call inflates is bounded, and the input behind it stays as it was.
#[test]
fn a_fragment_of_data_that_compress_well_is_small() {
    let plain: Vec<u8> = (0..40_000_000_u32).map(|n| if n % 100_000 == 0 { (n / 100_000) as u8 } else { 0 }).collect();
    let bytes = client_frame(true, RSV1, Opcode::Binary, &deflated(&plain));
    for limit in [None, Some(plain.len() as u64)] {
        let (mut server, mut codec) = (server(false, 0), Codec::new());
        server.deliver_fragments(limit);
        // The fragments are checked there.
        assert!(join(&mut server, &mut codec, [&bytes[..]]) == [Seen::Binary(plain.clone())]);
        assert!(codec.memory() < 512 << 10, "{} bytes", codec.memory());
        assert_eq!(server.deflate_stats().map(|stats| stats.received), Some(plain.len() as u64));
    }
    let (mut server, mut codec) = (server(false, 0), Codec::new());
    let limit = plain.len() as u64 - 1;
    server.deliver_fragments(Some(limit));
    let too_big = ProtocolError::MessageTooBig { size: limit + 1, limit };
    assert_eq!(join(&mut server, &mut codec, [&bytes[..]]), failure(too_big));
}

#[test]
fn messages_are_compressed_only_from_the_threshold_on_and_if_permitted() {
    let mut codec = Codec::new();
    let mut plain = Connection::new(Role::Server, LIMIT);
    assert_eq!(plain.compress(&[b'x'; 1000], Compression::Auto, &mut codec), None);
    assert_eq!((plain.deflate_stats(), plain.shared_window_bits()), (None, None));
    let mut params = params(false, 12, 1);
    params.threshold = 100;
    let mut server = Connection::new(Role::Server, LIMIT).with_deflate(params);
    assert_eq!(server.shared_window_bits(), Some(12));
    assert_eq!(server.compress(&[b'x'; 99], Compression::Auto, &mut codec), None);
    assert_eq!(server.compress(&[b'x'; 100], Compression::Never, &mut codec), None);
    let size = server.compress(&[b'x'; 100], Compression::Auto, &mut codec).expect("large enough").len() as u64;
    let stats = server.deflate_stats().expect("negotiated");
    assert_eq!((stats.sent, stats.sent_compressed), (100, size));
    server.close(None, None, &mut Vec::new());
    assert_eq!(server.compress(&[b'x'; 100], Compression::Auto, &mut codec), None);
}

#[test]
fn a_36_an_idle_connection_keeps_its_received_window_and_the_end_of_its_sent_messages() {
    let mut server = server(true, LIMIT);
    let mut client = Connection::new(Role::Client, LIMIT).with_deflate(params(true, 15, 1));
    let mut codec = Codec::new();
    assert!(!server.trim() && !server.begins_to_keep(), "nothing was sent");
    for round in 0..8 {
        let mut bytes = Vec::new();
        let payload = server.compress(b"Hello, Hello", Compression::Auto, &mut codec).expect("compressed");
        assert_eq!(payload.len() < 8, round > 0, "every message refers to the one before");
        frame::encode_compressed(&mut bytes, Opcode::Text, payload, None);
        assert_eq!(feed_to(&mut client, &mut codec, [&bytes[..]]), [text("Hello, Hello")]);
        bytes.clear();
        let payload = client.compress(b"Hello, Hello", Compression::Auto, &mut codec).expect("compressed");
        frame::encode_compressed(&mut bytes, Opcode::Text, payload, Some(KEY));
        assert_eq!(feed_to(&mut server, &mut codec, [&bytes[..]]), [text("Hello, Hello")]);
        if round % 2 == 1 {
            assert!(server.begins_to_keep() && !server.begins_to_keep(), "once");
            assert!(server.trim(), "it was used since");
            assert!(!server.trim(), "it is given back");
            codec.trim();
        }
    }
}

/// Generates frames of every kind, most of them valid and many of them compressed.
fn frames() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let broken = prop_oneof![12 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let message = (any::<bool>(), 0..4_u8, payload(), 1..4_usize, any::<bool>(), broken);
    (proptest::collection::vec(message, 1..6), any::<bool>()).prop_map(|(messages, takeover)| {
        let mut compress = Compress::new(Level::fast(), false);
        let mut bytes = Vec::new();
        for (is_text, compressed, mut payload, parts, ping, broken) in messages {
            if is_text && broken.is_none() {
                payload = String::from_utf8_lossy(&payload).into_owned().into_bytes();
            }
            let mut rsv = 0;
            if compressed > 0 {
                rsv = RSV1;
                if !takeover {
                    compress.reset();
                }
                payload = if payload.is_empty() { vec![0] } else { zlib_deflate(&mut compress, &payload) };
            }
            if let (Some(place), false) = (broken, payload.is_empty()) {
                let place = place.index(payload.len());
                payload[place] ^= 0x55;
            }
            let size = payload.len().div_ceil(parts).max(1);
            let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
            if pieces.is_empty() {
                pieces.push(&[]);
            }
            let last = pieces.len() - 1;
            for (index, piece) in pieces.into_iter().enumerate() {
                let opcode = if is_text { Opcode::Text } else { Opcode::Binary };
                let (opcode, rsv) = if index == 0 { (opcode, rsv) } else { (Opcode::Continuation, 0) };
                bytes.extend(client_frame(index == last, rsv, opcode, piece));
                if ping {
                    bytes.extend(frame(Opcode::Ping, b"p"));
                }
            }
        }
        (bytes, takeover)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_chunking_gives_the_same_events(
        (bytes, takeover) in frames(), limit in prop_oneof![Just(LIMIT), 0..3000_u64],
        cuts in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 1..6), 10),
    ) {
        let events = whole(takeover, limit, &bytes);
        let mut codec = Codec::new();
        prop_assert_eq!(&feed_to(&mut server(takeover, limit), &mut codec, bytes.chunks(1)), &events);
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
            prop_assert_eq!(&feed_to(&mut server(takeover, limit), &mut codec, pieces), &events);
        }
    }

    #[test]
    fn fragments_joined_are_the_messages_in_any_chunking(
        (bytes, takeover) in frames(), limit in prop_oneof![Just(LIMIT), 0..3000_u64], sizes in proptest::collection::vec(1..3000_usize, 5),
    ) {
        let expected = whole(takeover, limit, &bytes);
        let mut codec = Codec::new();
        for size in sizes.into_iter().chain([1, bytes.len().max(1)]) {
            let mut server = server(takeover, 0);
            server.deliver_fragments(Some(limit));
            prop_assert_eq!(&join(&mut server, &mut codec, bytes.chunks(size)), &expected);
        }
    }

    #[test]
    fn messages_sent_by_one_endpoint_are_received_by_the_other(
        messages in proptest::collection::vec((payload(), any::<bool>(), any::<bool>()), 1..8), takeover: bool,
        window_bits in 9_u8..=15, level in 1_u8..=9, chunk in 1_usize..2000,
    ) {
        let end = |role| Connection::new(role, LIMIT).with_deflate(params(takeover, window_bits, level));
        let (mut client, mut server) = (end(Role::Client), end(Role::Server));
        let (mut bytes, mut codec) = (Vec::new(), Codec::new());
        for (message, wanted, idle) in &messages {
            if *idle {
                while client.trim() {}
            }
            let compression = if *wanted { Compression::Auto } else { Compression::Never };
            match client.compress(message, compression, &mut codec) {
                Some(payload) => frame::encode_compressed(&mut bytes, Opcode::Binary, payload, Some(KEY)),
                None => frame::encode(&mut bytes, Opcode::Binary, message, Some(KEY)),
            }
        }
        let expected: Vec<Seen> = messages.into_iter().map(|(message, ..)| Seen::Binary(message)).collect();
        prop_assert_eq!(feed_to(&mut server, &mut codec, bytes.chunks(chunk)), expected);
    }
}
