//! Numbered messages, and the check of what is received.

use std::sync::LazyLock;

use threadbare::{Message, MessageRef};

use crate::random::Random;

/// Who numbers the messages: the first byte of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stream {
    /// The client. Each connection of a server receives these without a gap.
    Client = b'c',
    /// The server's callbacks or the thread that receives its events, for each connection.
    Answer = b'a',
    /// Another thread, through a `Peer`, for each connection.
    Pushed = b'p',
    /// A broadcast of one thread of the application, for the whole round.
    Broadcast = b'b',
    /// Broadcasts of handlers, which come in any order.
    Shouted = b's',
}

/// The stream and the number as 16 hexadecimal digits.
const HEADER: usize = 17;

const MAX_SIZE: usize = 1 << 20;

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut random = Random::new(1);
    (0..2 * MAX_SIZE).map(|_| char::from(b'0' + random.below(64) as u8)).collect()
});

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(2);
    (0..2 * MAX_SIZE / 8).flat_map(|_| random.next().to_le_bytes()).collect()
});

/// Makes a message. One of no bytes has no number: it counts as the next of its stream.
pub(crate) fn message(stream: Stream, number: u64, size: usize, is_text: bool) -> Message {
    let header = if size == 0 { String::new() } else { format!("{}{number:016x}", stream as u8 as char) };
    let filler = filler(number)..filler(number) + size.saturating_sub(HEADER);
    if is_text {
        Message::Text(header + &TEXT[filler])
    } else {
        Message::Binary([header.as_bytes(), &BYTES[filler]].concat())
    }
}

/// Where the filler of a message begins.
fn filler(number: u64) -> usize {
    (number.wrapping_mul(65_537) % MAX_SIZE as u64) as usize
}

/// The stream and number of a message whose every byte is right; `None` of an empty one.
pub(crate) fn parse(message: MessageRef<'_>) -> Result<Option<(Stream, u64)>, String> {
    let bytes = message.as_bytes();
    if bytes.is_empty() {
        return Ok(None);
    }
    let wrong = |what: &str| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
        Err(format!("{what} in a message of {} bytes that begins {start:?}", bytes.len()))
    };
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else { return wrong("no header") };
    let stream = match header[0] {
        b'c' => Stream::Client,
        b'a' => Stream::Answer,
        b'p' => Stream::Pushed,
        b'b' => Stream::Broadcast,
        b's' => Stream::Shouted,
        _ => return wrong("no stream"),
    };
    let number = std::str::from_utf8(&header[1..]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let Some(number) = number else { return wrong("no number") };
    let filler = filler(number)..filler(number) + rest.len();
    let expected = if message.is_text() { &TEXT.as_bytes()[filler] } else { &BYTES[filler] };
    if rest != expected {
        let at = rest.iter().zip(expected).position(|(one, other)| one != other);
        return wrong(&format!("another filler at {at:?}"));
    }
    Ok(Some((stream, number)))
}

/// A size of 0 to 1 MiB: most are small, and some are at the limits of frames and buffers.
pub(crate) fn size(random: &mut Random, may_be_empty: bool) -> usize {
    let size = match random.below(100) {
        0..60 => 17 + random.below(200),
        60..75 => random.pick(&[125, 126, 127, 4_096, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537]),
        75..88 => random.below(16 << 10),
        88..96 => random.below(128 << 10),
        96..99 => random.below(1 << 20),
        _ => random.pick(&[(1 << 20) - 1, 1 << 20]),
    };
    let size = if size > 4_096 { size / u64::from(crate::slowness()) } else { size };
    if may_be_empty && random.percent(3) { 0 } else { (size as usize).max(HEADER) }
}

/// The numbers of one stream that were received. The upper half of a number is that of the connection, of a client that
/// reconnects, and the lower half begins with 0 on each.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: Option<u64>,
    pub(crate) count: u64,
}

impl Sequence {
    /// Notes a number; `None` is that of a message without one, which is the next. Without `gaps` no number is missing.
    pub(crate) fn note(&mut self, number: Option<u64>, gaps: bool) -> Result<(), String> {
        let next = self.last.map_or(0, |last| last + 1);
        let number = number.unwrap_or(next);
        let is_next = number == next || (number as u32 == 0 && number > next);
        let may_follow = gaps && self.last.is_none_or(|last| number > last);
        if !(is_next || may_follow) {
            return Err(format!("{number:#x} is received after {:x?}", self.last));
        }
        self.last = Some(number);
        self.count += 1;
        Ok(())
    }

    /// Begins with another number than 0.
    pub(crate) fn begin(&mut self, number: u64) {
        self.last = number.checked_sub(1);
    }
}
