//! The protocol of Redis (RESP, version 2), as far as a bridge needs it: commands out, replies in.

use std::fmt;
use std::num::NonZeroU64;

/// A line of a reply, such as a length or an error, has at most 4 KiB. Longer would let an engine that sends garbage fill the
/// memory; shorter could cut the text of an error.
const MAX_LINE: usize = 4096;

/// Appends a command of these words.
pub(super) fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    begin_command(out, words.len());
    for word in words {
        bulk(out, word);
    }
}

/// Appends the beginning of a command; `words` bulk strings are to follow.
pub(super) fn begin_command(out: &mut Vec<u8>, words: usize) {
    head(out, b'*', words);
}

/// Appends a bulk string.
pub(super) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    begin_bulk(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends the beginning of a bulk string; `size` bytes are to follow, and CRLF.
pub(super) fn begin_bulk(out: &mut Vec<u8>, size: usize) {
    head(out, b'$', size);
}

fn head(out: &mut Vec<u8>, kind: u8, number: usize) {
    let mut text = [0; 23];
    let mut at = text.len();
    let mut rest = number;
    at -= 2;
    text[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    at -= 1;
    text[at] = kind;
    out.extend_from_slice(&text[at..]);
}

/// A reply, or an element of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Bulk(&'a [u8]),
    /// The elements follow.
    Array(u64),
    Nil,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// More bytes are needed. If that is known, so many in all from where the reader began.
    Incomplete(Option<NonZeroU64>),
    /// This is not what Redis sends.
    Garbage(Garbage),
}

/// What is wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Garbage {
    Type(u8),
    Number,
    LongLine,
    LongBulk { size: u64, limit: u64 },
    LongReply,
    NoCrlf,
    Unexpected,
}

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Garbage::Type(byte) => write!(f, "a reply begins with byte 0x{byte:02x}"),
            Garbage::Number => f.write_str("a length or an integer is none"),
            Garbage::LongLine => write!(f, "a line has more than {MAX_LINE} bytes"),
            Garbage::LongBulk { size, limit } => write!(f, "a string has {size} bytes, more than {limit}"),
            Garbage::LongReply => f.write_str("a reply is longer than any that a bridge asks for"),
            Garbage::NoCrlf => f.write_str("a string does not end with CRLF"),
            Garbage::Unexpected => f.write_str("a reply does not belong to any command"),
        }
    }
}

pub(super) type Parsed<T> = Result<T, NoReply>;

/// Reads replies from bytes that may end anywhere. Nothing is consumed but by the caller, who drops `position()` bytes once it
/// has all that belongs together.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    max_bulk: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], max_bulk: u64) -> Reader<'a> {
        Reader { bytes, at: 0, max_bulk }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Reads a reply that is no array, or the head of an array.
    pub(super) fn reply(&mut self) -> Parsed<Reply<'a>> {
        let line = self.line()?;
        let Some((kind, text)) = line.split_first() else { return garbage(Garbage::Type(b'\r')) };
        match kind {
            b'+' => Ok(Reply::Simple(text)),
            b'-' => Ok(Reply::Error(text)),
            b':' => Ok(Reply::Integer(number(text)?)),
            b'*' => Ok(u64::try_from(number(text)?).map_or(Reply::Nil, Reply::Array)),
            b'$' => match u64::try_from(number(text)?) {
                Ok(size) => Ok(Reply::Bulk(self.string(size)?)),
                Err(_) => Ok(Reply::Nil),
            },
            other => garbage(Garbage::Type(*other)),
        }
    }

    /// Reads a bulk string; all else is garbage.
    pub(super) fn bulk(&mut self) -> Parsed<&'a [u8]> {
        match self.reply()? {
            Reply::Bulk(bytes) => Ok(bytes),
            _ => garbage(Garbage::Unexpected),
        }
    }

    /// Reads the head of an array of `size` elements; all else is garbage.
    pub(super) fn array_of(&mut self, size: u64) -> Parsed<()> {
        match self.reply()? {
            Reply::Array(found) if found == size => Ok(()),
            _ => garbage(Garbage::Unexpected),
        }
    }

    fn line(&mut self) -> Parsed<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let window = &rest[..rest.len().min(MAX_LINE)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let Some(line) = window[..end].strip_suffix(b"\r") else { return garbage(Garbage::NoCrlf) };
                self.at += end + 1;
                Ok(line)
            }
            None if rest.len() >= MAX_LINE => garbage(Garbage::LongLine),
            None => Err(NoReply::Incomplete(None)),
        }
    }

    fn string(&mut self, size: u64) -> Parsed<&'a [u8]> {
        if size > self.max_bulk {
            return garbage(Garbage::LongBulk { size, limit: self.max_bulk });
        }
        // No larger than the limit, which is a size of this machine.
        let size = size as usize;
        let rest = &self.bytes[self.at..];
        match rest.get(size..size + 2) {
            Some(b"\r\n") => {
                self.at += size + 2;
                Ok(&rest[..size])
            }
            Some(_) => garbage(Garbage::NoCrlf),
            None => Err(NoReply::Incomplete(NonZeroU64::new((self.at + size + 2) as u64))),
        }
    }
}

fn garbage<T>(what: Garbage) -> Parsed<T> {
    Err(NoReply::Garbage(what))
}

/// Reads a decimal number of at most 19 digits.
fn number(text: &[u8]) -> Parsed<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return garbage(Garbage::Number);
    }
    let mut value: i64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        let next = value.checked_mul(10).and_then(|value| value.checked_add(digit.into()));
        match next {
            Some(next) if digit < 10 => value = next,
            _ => return garbage(Garbage::Number),
        }
    }
    Ok(sign * value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Parsed<Reply<'_>> {
        Reader::new(bytes, 100).reply()
    }

    #[test]
    fn replies_of_each_kind_are_read_and_incomplete_at_every_split() {
        let replies: [(&[u8], Reply<'_>); 9] = [
            (b"+OK\r\n", Reply::Simple(b"OK")),
            (b"-ERR no\r\n", Reply::Error(b"ERR no")),
            (b":-42\r\n", Reply::Integer(-42)),
            (b":9223372036854775807\r\n", Reply::Integer(i64::MAX)),
            (b"$5\r\na\r\nbc\r\n", Reply::Bulk(b"a\r\nbc")),
            (b"$0\r\n\r\n", Reply::Bulk(b"")),
            (b"$-1\r\n", Reply::Nil),
            (b"*-1\r\n", Reply::Nil),
            (b"*3\r\n", Reply::Array(3)),
        ];
        for (bytes, reply) in replies {
            assert_eq!(read(bytes), Ok(reply));
            for split in 0..bytes.len() {
                assert!(matches!(read(&bytes[..split]), Err(NoReply::Incomplete(_))), "{bytes:?} at {split}");
            }
        }
    }

    #[test]
    fn what_redis_never_sends_is_garbage() {
        let cases: [(&[u8], Garbage); 9] = [
            (b"HTTP/1.1 400 Bad Request\r\n", Garbage::Type(b'H')),
            (b"\r\n", Garbage::Type(b'\r')),
            (b"+OK\n", Garbage::NoCrlf),
            (b":12x\r\n", Garbage::Number),
            (b":\r\n", Garbage::Number),
            (b"*9223372036854775808\r\n", Garbage::Number),
            (b"$99999999999\r\n", Garbage::LongBulk { size: 99_999_999_999, limit: 100 }),
            (b"$2\r\nabcd", Garbage::NoCrlf),
            (&[b'+'; MAX_LINE], Garbage::LongLine),
        ];
        for (bytes, what) in cases {
            assert_eq!(read(bytes), Err(NoReply::Garbage(what)));
        }
    }

    proptest! {
        #[test]
        fn commands_are_read_back(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..99), 1..9)) {
            let mut bytes = Vec::new();
            let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            command(&mut bytes, &slices);
            let mut reader = Reader::new(&bytes, 100);
            prop_assert_eq!(reader.array_of(words.len() as u64), Ok(()));
            for word in &words {
                prop_assert_eq!(reader.bulk(), Ok(word.as_slice()));
            }
            prop_assert_eq!(reader.position(), bytes.len());
        }

        #[test]
        fn no_bytes_panic_and_none_are_read_twice(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'$'), Just(b'1'), Just(b'*')], 0..99)) {
            let mut reader = Reader::new(&bytes, 100);
            let mut before = 0;
            while reader.reply().is_ok() {
                prop_assert!(reader.position() > before && reader.position() <= bytes.len());
                before = reader.position();
            }
        }
    }
}
