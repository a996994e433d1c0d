#[path = "naive.rs"]
mod naive;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use proptest::prelude::*;

use super::codec::Compressor;
use super::inflater::{Inflater, TAIL};
use super::*;
use crate::protocol::error::ProtocolError;

/// The payloads of RFC 7692 7.2.3, with their sections and decompressed messages.
const HELLO: [(&str, &[u8], &[u8]); 5] = [
    ("7.2.3.1", b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
    ("7.2.3.3", b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
    ("7.2.3.4", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
    ("7.2.3.5", b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
    ("7.2.3.6", b"\x00", b""),
];

/// Decompresses one message that arrives in these pieces.
fn inflate_with<'a>(
    inflater: &mut Inflater,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limit: u64,
) -> Result<Assembled, ProtocolError> {
    let mut message = Assembled::default();
    inflater.begin();
    for piece in pieces {
        inflater.inflate(piece, &mut Sink::whole(&mut message, None, limit))?;
    }
    inflater.finish(&mut Sink::whole(&mut message, None, limit))?;
    Ok(message)
}

fn inflate(payload: &[u8], limit: u64) -> Result<Vec<u8>, ProtocolError> {
    inflate_with(&mut Inflater::new(), [payload], limit).map(|message| message.as_bytes().to_vec())
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(Compressor::new(1, 15).unwrap().run(payload, &mut out, usize::MAX));
    out
}

/// Compresses with zlib alone, as another implementation does.
pub(in crate::protocol) fn zlib_deflate(compress: &mut Compress, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() * 2 + 100);
    assert_eq!(compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap(), Status::Ok);
    assert!(out.len() < out.capacity() && out.ends_with(&TAIL));
    out.truncate(out.len() - 4);
    out
}

/// Decompresses with zlib alone, as another implementation does.
fn zlib_inflate(decompress: &mut Decompress, payload: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 100);
    for input in [payload, &TAIL] {
        let before = decompress.total_in();
        decompress.decompress_vec(input, &mut out, FlushDecompress::Sync).unwrap();
        assert_eq!(decompress.total_in() - before, input.len() as u64);
    }
    out
}

#[test]
fn the_examples_of_rfc_7692_7_2_3_are_decompressed() {
    for (section, payload, text) in HELLO {
        assert_eq!(inflate(payload, 5), Ok(text.to_vec()), "{section}");
        let bytes = payload.chunks(1);
        let message = inflate_with(&mut Inflater::new(), bytes, 5).map(|message| message.as_bytes().to_vec());
        assert_eq!(message, Ok(text.to_vec()), "{section}, byte by byte");
    }
    // The level at which zlib gives the bytes of the RFC.
    let mut compressor = Compressor::new(6, 15).unwrap();
    let mut messages = [Vec::new(), Vec::new()];
    for message in &mut messages {
        assert!(compressor.run(b"Hello", message, usize::MAX));
    }
    assert_eq!(messages[0], HELLO[0].1);
    // 7.2.3.2: the second message refers to the first.
    assert_eq!(messages[1], b"\xf2\x00\x11\x00\x00");
    let mut inflater = Inflater::new();
    for message in &messages {
        assert_eq!(inflate_with(&mut inflater, [&message[..]], 5).unwrap().as_bytes(), b"Hello");
    }
    assert_eq!(deflate(b""), HELLO[4].1);
}

#[test]
fn a_stream_that_ends_inside_a_message_is_followed_by_another() {
    let twice = b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00";
    assert_eq!(inflate(twice, 10), Ok(b"HelloHello".to_vec()));
    // Without the empty block that RFC 7692 7.2.3.4 appends, as some implementations send it.
    let mut inflater = Inflater::new();
    for message in [&twice[..7], &[], &twice[..7], HELLO[0].1] {
        let text: &[u8] = if message.is_empty() { b"" } else { b"Hello" };
        assert_eq!(inflate_with(&mut inflater, [message], 5).unwrap().as_bytes(), text);
    }
}

#[test]
fn a_16_a_message_is_delivered_whole_or_not_at_all() {
    let sizes = [1_usize, 2, 255, 256, 257, 4095, 4096, 32_767, 32_768, 65_536, 100_000];
    for limit in sizes.into_iter().chain(300..310) {
        for over in -2_isize..=2 {
            let Some(size) = limit.checked_add_signed(over) else { continue };
            let text: Vec<u8> = (0..size).map(|n| (n % 251 * (n / 700 + 1)) as u8).collect();
            for plain in [text, vec![b'x'; size]] {
                let payload = deflate(&plain);
                for chunk in [payload.len(), 1, 7] {
                    let pieces = payload.chunks(chunk.max(1));
                    let message = inflate_with(&mut Inflater::new(), pieces, limit as u64);
                    match message {
                        Ok(message) => assert!(over <= 0 && message.as_bytes() == plain, "{limit} {over}"),
                        Err(error) => {
                            assert!(over > 0, "{limit} {over}");
                            let limit = limit as u64;
                            assert_eq!(error, ProtocolError::MessageTooBig { size: limit + 1, limit });
                        }
                    }
                }
            }
        }
    }
    assert_eq!(inflate(HELLO[0].1, 0), Err(ProtocolError::MessageTooBig { size: 1, limit: 0 }));
    assert_eq!(inflate(HELLO[0].1, u64::MAX), Ok(b"Hello".to_vec()));
}

/// Returns a gigabyte of zeros, compressed to a megabyte.
pub(in crate::protocol) fn bomb() -> Vec<u8> {
    // A compressed megabyte of zeros refers to zeros only, so it can be repeated.
    let mut megabyte = Vec::with_capacity(1 << 20);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(&vec![0; 1 << 20], &mut megabyte, FlushCompress::Sync).unwrap();
    assert!(megabyte.len() < 1200, "{}", megabyte.len());
    megabyte.repeat(1024)
}

#[test]
fn a_15_a_bomb_is_refused_in_bounded_memory() {
    let bomb = bomb();
    for limit in [0, 1000, 1 << 20, (16 << 20) + 7] {
        for chunk in [bomb.len(), 65_536, 1024, 1] {
            let mut message = Assembled::default();
            let mut inflater = Inflater::new();
            let mut feed = |piece| inflater.inflate(piece, &mut Sink::whole(&mut message, None, limit));
            let error = bomb.chunks(chunk).find_map(|piece| feed(piece).err());
            assert_eq!(error, Some(ProtocolError::MessageTooBig { size: limit + 1, limit }));
            assert_eq!(message.filled as u64, limit + 1, "not a byte more is inflated");
            assert!(message.buffer.capacity() as u64 <= 2 * limit + (64 << 10), "{}", message.buffer.capacity());
        }
    }
}

#[test]
fn p_12_invalid_compressed_data_is_refused() {
    let mut bad: Vec<&[u8]> = vec![b"\x06", b"\x07", b"\x00\x05\x00\xfa\xfe", b"\xfc\x00\x00"];
    // A distance before the beginning of the window: the second message of 7.2.3.2 without the first.
    bad.push(b"\xf2\x00\x11\x00\x00");
    for payload in bad {
        let once = inflate(payload, 1000);
        assert_eq!(once, Err(ProtocolError::InvalidDeflate), "{payload:02x?}");
        let bytes = inflate_with(&mut Inflater::new(), payload.chunks(1), 1000);
        assert_eq!(bytes.unwrap_err(), ProtocolError::InvalidDeflate, "{payload:02x?}");
    }
}

/// Generates payloads that compress well or badly.
pub(in crate::protocol) fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => ".{0,40}".prop_map(String::into_bytes),
        3 => proptest::collection::vec(any::<u8>(), 0..200),
        3 => ("[a-f]{1,9}", 0..400_usize).prop_map(|(word, times)| word.repeat(times).into_bytes()),
        1 => (any::<u64>(), 0..70_000_usize).prop_map(|(seed, size)| mixed(seed, size)),
    ]
}

/// Returns random bytes, each repeated a few times, and repetitions at a large distance.
fn mixed(mut seed: u64, size: usize) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    while out.len() < size {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (kind, length, back) = (seed >> 61, (seed >> 32) as usize % 300, (seed >> 33) as usize % 40_000);
        match out.len().checked_sub(back) {
            Some(start) if kind < 4 => out.extend_from_within(start..(start + length).min(out.len())),
            _ => out.extend(std::iter::repeat_n((seed >> 40) as u8, length % 3 + 1)),
        }
    }
    out.truncate(size);
    out
}

#[test]
fn a_19_no_distance_exceeds_the_window() {
    for window_bits in 9..=15 {
        for level in [1, 2, 3, 6, 9] {
            let mut compressor = Compressor::new(level, window_bits).unwrap();
            let (mut history, mut all) = (Vec::new(), Vec::new());
            let mut farthest = 0;
            for seed in 0..3 {
                let plain = mixed(seed, 40_000);
                let mut payload = Vec::new();
                assert!(compressor.run(&plain, &mut payload, usize::MAX));
                payload.extend_from_slice(&TAIL);
                farthest = farthest.max(naive::inflate(&payload, &mut history).expect("a deflate stream"));
                all.extend_from_slice(&plain);
                assert!(history == all, "window {window_bits}, level {level}");
            }
            let window = 1 << window_bits;
            assert!(farthest <= window && farthest > window / 4, "{farthest} with {window_bits} bits, level {level}");
        }
    }
    assert!(Compressor::new(1, 8).is_none() && Compressor::new(1, 16).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_40_messages_of_the_compressor_are_decompressed_by_zlib(
        messages in proptest::collection::vec((payload(), any::<bool>()), 1..6), takeover: bool, window_bits in 9_u8..=15,
        level in 1_u8..=9,
    ) {
        let params = params(takeover, window_bits, level);
        let mut extension = Extension::new(params);
        let mut codec = Codec::new();
        let mut zlib = Decompress::new(false);
        let mut naive = Vec::new();
        for (message, idle) in &messages {
            if *idle {
                while extension.trim() {}
            }
            let Some(compressed) = extension.compress(message, &mut codec) else {
                prop_assert!(!takeover, "only without a common past may a message be left as it is");
                continue;
            };
            prop_assert!(takeover || compressed.len() < message.len());
            if !takeover {
                zlib.reset(false);
                naive.clear();
            }
            prop_assert_eq!(&zlib_inflate(&mut zlib, compressed, message.len()), message);
            let start = naive.len();
            let farthest = naive::inflate(&[compressed, &TAIL].concat(), &mut naive);
            prop_assert!(farthest.is_some_and(|farthest| farthest <= 1 << window_bits));
            prop_assert_eq!(&naive[start..], &message[..]);
        }
    }

    #[test]
    fn a_40_messages_of_zlib_are_decompressed(
        messages in proptest::collection::vec(payload(), 1..6), takeover: bool, window_bits in 9_u8..=15,
        level in 0_u32..=9, chunk in prop_oneof![1_usize..20, Just(usize::MAX)],
    ) {
        let mut extension = Extension::new(params(takeover, window_bits, 1));
        let mut codec = Codec::new();
        let mut zlib = Compress::new_with_window_bits(Compression::new(level), false, window_bits);
        for plain in &messages {
            if !takeover {
                zlib.reset();
            }
            let compressed = if plain.is_empty() { vec![0] } else { zlib_deflate(&mut zlib, plain) };
            let mut message = Assembled::default();
            let limit = plain.len() as u64;
            extension.begin();
            for piece in compressed.chunks(chunk) {
                extension.inflate(piece, &mut codec, Sink::whole(&mut message, None, limit)).unwrap();
            }
            extension.finish(&mut codec, Sink::whole(&mut message, None, limit)).unwrap();
            prop_assert_eq!(message.as_bytes(), &plain[..]);
        }
    }

    /// The result, including an error, does not depend on the pieces.
    #[test]
    fn arbitrary_streams_give_the_same_result_in_any_pieces(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            (payload(), any::<prop::sample::Index>(), 1_u8..=255).prop_map(|(plain, place, change)| {
                let mut bytes = deflate(&plain);
                let place = place.index(bytes.len());
                bytes[place] ^= change;
                bytes
            }),
        ],
        limit in prop_oneof![0_u64..100, Just(100_000)], chunk in 1_usize..20,
    ) {
        let outcome = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            inflate_with(&mut Inflater::new(), pieces, limit).map(|message| message.as_bytes().to_vec())
        };
        let whole = outcome(&mut [&bytes[..]].into_iter());
        prop_assert_eq!(outcome(&mut bytes.chunks(chunk)), whole);
    }
}

pub(in crate::protocol) fn params(takeover: bool, window_bits: u8, level: u8) -> DeflateParams {
    let direction = Direction { takeover, window_bits };
    DeflateParams { compress: direction, decompress: direction, level, threshold: 0 }
}

#[test]
fn a_36_trim_frees_memory_that_was_not_used() {
    let mut codec = Codec::new();
    assert!(codec.is_empty());
    assert!(codec.compress(&[7; 1 << 20], 1, 15).is_some());
    codec.trim();
    assert!(!codec.is_empty(), "it was used since");
    codec.trim();
    assert!(codec.is_empty());
    assert!(codec.compress(b"Hello", 1, 15).is_none(), "it would not get smaller");
}

#[test]
fn codec_and_extension_are_send() {
    fn is_send<T: Send>() {}
    is_send::<Codec>();
    is_send::<Extension>();
}

#[test]
fn incompressible_messages_are_not_compressed_and_do_not_affect_the_next_message() {
    let mut codec = Codec::new();
    let noise: Vec<u8> = mixed(3, 300).iter().enumerate().map(|(n, byte)| byte ^ (n * n * 31) as u8).collect();
    for _ in 0..3 {
        assert_eq!(codec.compress(&noise[..100], 1, 15), None);
        let compressed = codec.compress(&[b'x'; 200], 1, 15).map(<[u8]>::to_vec).expect("smaller");
        assert_eq!(inflate(&compressed, 200), Ok(vec![b'x'; 200]));
    }
}

/// What stops at its budget leaves nothing behind that the next message could suffer from.
#[test]
fn a_message_that_does_not_get_smaller_leaves_room_for_the_next() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(1 << 20)
    .collect();
    // Smaller by a little, so that much is made of it.
    let mut next = noise[..300_000].to_vec();
    next.chunks_mut(50).for_each(|chunk| chunk[..20].fill(0));
    for level in [1, 2, 6, 9] {
        let mut codec = Codec::new();
        for size in [1 << 18, 500_000, 1_000_000] {
            assert_eq!(codec.compress(&noise[..size], level, 15), None);
            let compressed = codec.compress(&next, level, 15).expect("smaller").to_vec();
            assert_eq!(inflate(&compressed, u64::MAX).unwrap(), next);
        }
    }
}

/// Returns random bytes. The first tenth is zeros if `packs`: the compressed form is then a little smaller, and else a
/// little larger, than the message.
fn noise(mut seed: u64, size: usize, packs: bool) -> Vec<u8> {
    let mut out: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    })
    .take(size)
    .collect();
    if packs {
        out[..size / 10].fill(0);
    }
    out
}

/// A message of one of several connections.
#[derive(Clone, Debug)]
struct Sent {
    connection: usize,
    kind: Kind,
    seed: u64,
    size: usize,
    /// Memory is freed before it: 0 is that of the codec, whose output buffer keeps its size otherwise, and 1 that of the
    /// connection.
    trims: u8,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// It gets longer, so that the compressor stops at its budget.
    Noise,
    /// It gets smaller by a little, so that much is made of it.
    Packs,
    Repeats,
    Mixed,
}

impl Sent {
    fn message(&self) -> Vec<u8> {
        match self.kind {
            Kind::Noise => noise(self.seed, self.size, false),
            Kind::Packs => noise(self.seed, self.size, true),
            Kind::Repeats => b"the same for everyone, ".iter().copied().cycle().take(self.size).collect(),
            Kind::Mixed => mixed(self.seed, self.size.min(20_000)),
        }
    }
}

/// Sizes at which the budget of a message that does not get smaller is a little below the size of the output buffer, which
/// doubles. The compressor is stopped there in the middle of the message.
fn sizes_that_stop() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 240_000..=1_usize << 18,
        1 => 500_000..=1_usize << 19,
        1 => 1_000_000..=1_usize << 20,
        2 => (prop_oneof![Just(64_usize), Just(128), Just(1 << 16), Just(1 << 17)], 0..40_usize)
            .prop_map(|(size, more)| size - 20 + more),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let shape = prop_oneof![
        4 => sizes_that_stop().prop_map(|size| (Kind::Noise, size)),
        4 => (60_000..160_000_usize).prop_map(|size| (Kind::Packs, size)),
        2 => (0..2_000_usize, prop_oneof![Just(Kind::Noise), Just(Kind::Packs), Just(Kind::Repeats)])
            .prop_map(|(size, kind)| (kind, size)),
        1 => (0..60_000_usize).prop_map(|size| (Kind::Mixed, size)),
    ];
    let connection = prop_oneof![3 => Just(0_usize), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
    (connection, shape, any::<u64>(), 0..8_u8).prop_map(|(connection, (kind, size), seed, trims)| Sent {
        connection,
        kind,
        seed,
        size,
        trims,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Each connection has a decompressor of zlib's own, which shares nothing with the others. A compressor that was stopped
    /// at its budget and used again makes garbage of a later message, or panics.
    #[test]
    fn connections_that_share_a_codec_do_not_affect_each_other(
        messages in proptest::collection::vec(sent(), 8..14), levels in proptest::array::uniform2(prop_oneof![2 => 0_u8..=1, 1 => 0_u8..=9]),
        window_bits in 9_u8..=15,
    ) {
        let kinds = [(false, levels[0]), (false, levels[1]), (true, levels[0]), (true, levels[1])];
        let mut connections = kinds.map(|(takeover, level)| {
            (Extension::new(params(takeover, window_bits, level)), Decompress::new(false))
        });
        let mut codec = Codec::new();
        for sent in &messages {
            let (extension, zlib) = &mut connections[sent.connection];
            let takeover = kinds[sent.connection].0;
            match sent.trims {
                0 => while !codec.is_empty() { codec.trim() },
                1 => while extension.trim() {},
                _ => {}
            }
            let message = sent.message();
            let Some(compressed) = extension.compress(&message, &mut codec) else {
                prop_assert!(!takeover, "only without a common past may a message be left as it is");
                continue;
            };
            prop_assert!(takeover || compressed.len() < message.len());
            if !takeover {
                zlib.reset(false);
            }
            prop_assert!(zlib_inflate(zlib, compressed, message.len()) == message, "{sent:?} is another message");
        }
    }
}

#[test]
fn a_large_buffer_of_a_compressed_message_is_freed_and_a_small_one_is_kept() {
    for (size, is_kept) in [(1000, true), (1 << 20, false)] {
        let mut codec = Codec::new();
        // Hexadecimal digits in no order take half of their size.
        let mut state = 1_u32;
        let digits = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"0123456789abcdef"[(state >> 28) as usize]
        });
        let payload: Vec<u8> = digits.take(size).collect();
        let compressed = codec.compress(&payload, 1, 15).expect("it gets smaller").len();
        let before = codec.memory();
        codec.shed();
        let freed = before - codec.memory();
        assert_eq!((freed >= compressed, freed == 0), (!is_kept, is_kept), "{freed} of {compressed} bytes");
    }
}
