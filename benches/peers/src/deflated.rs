//! Messages for permessage-deflate (RFC 7692): JSON such as an application might send, compressed in advance.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// The extension's name.
pub const NAME: &str = "permessage-deflate";

/// The load generator's offer. Without context takeover a message is compressed independently, so it is always the same.
pub const OFFER: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

/// RFC 7692 7.2.1: what the sender removes from the end of a flushed block, and the receiver appends.
pub const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Whether a response to [`OFFER`] accepts all of it, and nothing else.
#[must_use]
pub fn is_accepted(answer: &str) -> bool {
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

/// Exactly `size` bytes of JSON, at least 200. The same `number` gives the same text.
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

/// Compresses `text` as the payload of a message.
///
/// # Errors
///
/// None, as the output is in memory.
pub fn compress(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text)?;
    encoder.flush()?;
    let mut payload = encoder.get_ref().clone();
    match payload.strip_suffix(&TAIL).map(<[u8]>::len) {
        Some(len) => payload.truncate(len),
        None => return Err(io::Error::other("a flushed block has no tail")),
    }
    Ok(payload)
}

/// Decompresses the payload of a message. Returns at most `size + 1` bytes, however long the message is.
///
/// # Errors
///
/// It is not compressed data.
pub fn inflate(payload: &[u8], size: usize) -> io::Result<Vec<u8>> {
    // The decoder waits for more unless an empty final block follows the tail.
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
    fn a_message_that_is_too_long_is_noticed() {
        let payload = compress(&[b'a'; 1000]).expect("it can be compressed");
        assert_eq!(inflate(&payload, 10).expect("it can be inflated").len(), 11);
    }

    #[test]
    fn only_a_response_with_the_whole_offer_is_accepted() {
        assert!(is_accepted(OFFER));
        assert!(is_accepted("permessage-deflate; server_no_context_takeover;client_no_context_takeover"));
        assert!(!is_accepted("permessage-deflate; server_no_context_takeover"));
        assert!(!is_accepted(&format!("{OFFER}; server_max_window_bits=10")));
        assert!(!is_accepted(""));
    }
}
