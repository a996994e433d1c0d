//! Messages for permessage-deflate (RFC 7692): JSON as an application might send it, compressed beforehand.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// What the generator offers. Without context takeover a message is compressed by itself, so that it is always the same.
pub const OFFER: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

/// RFC 7692 7.2.1: what the sender removes from the end of a flushed block, and the receiver appends.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Whether an answer to [`OFFER`] agrees to all of it, and to nothing else.
#[must_use]
pub fn is_agreed(answer: &str) -> bool {
    let mut given: Vec<_> = answer.split(';').map(str::trim).collect();
    let mut wanted: Vec<_> = OFFER.split(';').map(str::trim).collect();
    given.sort_unstable();
    wanted.sort_unstable();
    given == wanted
}

const WORDS: [&str; 16] = [
    "pending",
    "shipped",
    "invoice",
    "customer",
    "warehouse",
    "quantity",
    "discount",
    "currency",
    "reference",
    "priority",
    "returned",
    "supplier",
    "location",
    "delivery",
    "category",
    "approved",
];

/// Exactly `size` bytes of JSON, of which 200 is the least; the same text for the same `number`.
#[must_use]
pub fn json(number: u32, size: usize) -> String {
    let mut random = Random::new(number);
    let mut text = format!("{{\"id\":{},\"kind\":\"{}\",\"items\":[", random.below(1 << 30), random.word());
    while text.len() + 160 < size {
        let (key, sku, cents, count) = (random.word(), random.word(), random.below(1_000_000), random.below(500));
        let _ = write!(
            text,
            "{{\"{key}\":\"{sku}-{:06x}\",\"price\":{}.{:02},\"{}\":{count},\"in_stock\":{}}},",
            random.below(1 << 24),
            cents / 100,
            cents % 100,
            random.word(),
            random.below(2) == 0
        );
    }
    text += "{}],\"note\":\"";
    while text.len() + 2 < size {
        text += random.word();
        text.push(' ');
    }
    text.truncate(size - 2);
    text + "\"}"
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn new(seed: u32) -> Random {
        Random(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }
}

/// The payload of a compressed message.
///
/// # Errors
///
/// None that a buffer in memory could have.
pub fn compress(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text)?;
    encoder.flush()?;
    let mut payload = encoder.get_ref().clone();
    match payload.strip_suffix(&TAIL).map(<[u8]>::len) {
        Some(len) => payload.truncate(len),
        None => return Err(io::Error::other("a flushed block without its tail")),
    }
    Ok(payload)
}

/// The message of a compressed payload; at most `size` bytes and one of it, however long it is.
///
/// # Errors
///
/// It is not compressed data.
pub fn inflate(payload: &[u8], size: usize) -> io::Result<Vec<u8>> {
    // An empty final block behind the tail, without which the decoder waits for more.
    let stream = payload.chain(&TAIL[..]).chain(&[3, 0][..]);
    let mut message = Vec::with_capacity(size);
    DeflateDecoder::new(stream).take(size as u64 + 1).read_to_end(&mut message)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_size_and_differ() {
        let texts: Vec<_> = (0..64).map(|number| json(number, 1024)).collect();
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(text.len(), 1024);
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
            assert!(!texts[..number].contains(text), "{text}");
            let payload = compress(text.as_bytes()).expect("it can be compressed");
            assert!((300..700).contains(&payload.len()), "{} bytes of {text}", payload.len());
            assert_eq!(inflate(&payload, 1024).expect("it can be inflated"), text.as_bytes());
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_not_taken_for_the_right_one() {
        let payload = compress(&[b'a'; 1000]).expect("it can be compressed");
        assert_eq!(inflate(&payload, 10).expect("it can be inflated").len(), 11);
    }

    #[test]
    fn only_the_whole_offer_is_an_agreement() {
        assert!(is_agreed(OFFER));
        assert!(is_agreed("permessage-deflate; server_no_context_takeover;client_no_context_takeover"));
        assert!(!is_agreed("permessage-deflate; server_no_context_takeover"));
        assert!(!is_agreed(&format!("{OFFER}; server_max_window_bits=10")));
        assert!(!is_agreed(""));
    }
}
