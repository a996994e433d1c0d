//! The content of a request, from the bytes after its head (RFC 9112 6 and 7.1).

use core::fmt;

use super::list::tokens;
use super::request::{HttpVersion, Request};
use super::response::{Response, refuse};
use super::token::{is_tchar, same_but_for_case};

/// The lines between chunks and the trailer section may have 16 KiB, and eight bytes for each byte of content. Larger has a
/// client send for longer what is thrown away; smaller refuses clients that send a byte in each chunk.
const MAX_FRAMING: usize = 16 << 10;

/// How the end of the content is found (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

impl Framing {
    /// Determines the framing of a request; `None` if it has no content. What two recipients could understand differently is
    /// an error, so that no request hides in the content of another (RFC 9112 11.2).
    pub(crate) fn of(request: &Request) -> Result<Option<Framing>, Box<Response>> {
        let (mut lengths, mut has_length, mut has_coding) = (None, false, false);
        for (name, value) in request.fields() {
            if same_but_for_case(name, b"Transfer-Encoding") {
                has_coding = true;
            } else if same_but_for_case(name, b"Content-Length") {
                has_length = true;
                for length in value.split(|byte| *byte == b',') {
                    let length = content_length(length.trim_ascii());
                    // RFC 9110 8.6 allows a list of the same value: some proxies join two lines.
                    if length.is_none() || lengths.is_some_and(|known| Some(known) != length) {
                        return Err(refuse(400, "Content-Length is malformed."));
                    }
                    lengths = length;
                }
            }
        }
        if !has_coding {
            return Ok(lengths.filter(|length| *length > 0).map(Framing::Length));
        }
        // RFC 9112 6.3, item 3: both "might indicate an attempt to perform request smuggling [...] and ought to be handled as
        // an error". 6.1: a transfer coding in HTTP/1.0 is "faulty framing".
        if has_length || request.version() != HttpVersion::Http11 {
            return Err(refuse(400, "Transfer-Encoding is not allowed here."));
        }
        let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
        let codings: Result<Vec<&str>, _> = request.field_values("Transfer-Encoding").flat_map(tokens).collect();
        match codings.as_deref() {
            Ok([only]) if is_chunked(only) => Ok(Some(Framing::Chunked)),
            // RFC 9112 6.1: 501 for "a transfer coding it does not understand".
            Ok([others @ .., last]) if is_chunked(last) && !others.iter().all(is_chunked) => {
                Err(refuse(501, "This Transfer-Encoding is not known here."))
            }
            // RFC 9112 6.3, item 4: 400 if chunked is not the final coding.
            _ => Err(refuse(400, "Transfer-Encoding is not allowed here.")),
        }
    }
}

/// Parses `Content-Length = 1*DIGIT`. One that overflows is longer than any limit.
fn content_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(core::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX))
}

/// Receives the content of one request, in whatever pieces it arrives. It takes memory for what has arrived, not for what was
/// announced.
#[derive(Debug)]
pub(crate) struct BodyReader {
    state: State,
    content: Vec<u8>,
    limit: usize,
    /// The bytes that are no content.
    framing: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So much content follows, and nothing behind it.
    Length(u64),
    /// The digits of a chunk's size; whether there was one.
    Size(u64, bool),
    /// Blanks behind the size.
    Blanks(u64),
    /// Extensions of a chunk, which are ignored (RFC 9112 7.1.1).
    Extension(u64),
    /// The LF of the line with a chunk's size.
    SizeEnd(u64),
    Chunk(u64),
    /// CR and LF behind a chunk.
    ChunkCr,
    ChunkLf,
    /// The beginning of a trailer line, or of the empty line at the end.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    /// The LF at the end.
    Lf,
    Done,
}

/// Why content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is larger than this limit.
    TooLarge(usize),
    Malformed,
    /// There is more between the chunks, or behind them, than is read.
    TooMuchFraming,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge(limit) => write!(f, "it has more than {limit} bytes"),
            BodyError::Malformed => f.write_str("its chunks are malformed"),
            BodyError::TooMuchFraming => f.write_str("there are too many bytes between its chunks or behind them"),
        }
    }
}

impl From<BodyError> for Box<Response> {
    fn from(error: BodyError) -> Box<Response> {
        let status = match error {
            BodyError::TooLarge(_) => 413, // RFC 9110 15.5.14
            BodyError::Malformed => 400,
            BodyError::TooMuchFraming => 431,
        };
        refuse(status, &format!("The content is refused: {error}."))
    }
}

impl BodyReader {
    /// Creates a reader for content of at most `limit` bytes.
    pub(crate) fn new(framing: Framing, limit: usize) -> Result<BodyReader, BodyError> {
        let state = match framing {
            Framing::Length(length) if !fits(length, limit) => return Err(BodyError::TooLarge(limit)),
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(0, false),
        };
        Ok(BodyReader { state, content: Vec::new(), limit, framing: 0 })
    }

    /// Takes what arrived, and returns how many bytes of it belong to the content and its framing. The others come behind it.
    pub(crate) fn read(&mut self, received: &[u8]) -> Result<usize, BodyError> {
        let mut rest = received;
        while self.state != State::Done
            && let Some((&byte, behind)) = rest.split_first()
        {
            rest = match self.state {
                State::Length(left) => {
                    let (rest, left) = self.take(rest, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    rest
                }
                State::Chunk(left) => {
                    let (rest, left) = self.take(rest, left);
                    self.state = if left == 0 { State::ChunkCr } else { State::Chunk(left) };
                    rest
                }
                _ => {
                    self.state = self.after(byte)?;
                    self.framing = self.framing.saturating_add(1);
                    if self.framing > MAX_FRAMING.saturating_add(self.content.len().saturating_mul(8)) {
                        return Err(BodyError::TooMuchFraming);
                    }
                    behind
                }
            };
        }
        Ok(received.len().saturating_sub(rest.len()))
    }

    /// Appends up to `left` bytes to the content, and returns the other bytes and what is left of the number.
    fn take<'r>(&mut self, received: &'r [u8], left: u64) -> (&'r [u8], u64) {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(received.len());
        let (content, rest) = received.split_at_checked(most).unwrap_or((received, &[]));
        self.content.extend_from_slice(content);
        (rest, left.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX)))
    }

    /// Returns the state after a byte that is no content: `chunked-body = *chunk last-chunk trailer-section CRLF`
    /// (RFC 9112 7.1). A bare LF or CR is refused everywhere, because proxies disagree on it.
    fn after(&self, byte: u8) -> Result<State, BodyError> {
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        Ok(match (self.state, byte) {
            (State::Size(size, _), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map(u64::from).ok_or(BodyError::Malformed)?;
                // RFC 9112 7.1: recipients must "prevent parsing errors due to integer conversion overflows".
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                let room = self.limit.saturating_sub(self.content.len());
                State::Size(size.filter(|size| fits(*size, room)).ok_or(BodyError::TooLarge(self.limit))?, true)
            }
            (State::Size(size, true) | State::Blanks(size), b' ' | b'\t') => State::Blanks(size),
            (State::Size(size, true) | State::Blanks(size), b';') => State::Extension(size),
            (State::Size(size, true) | State::Blanks(size) | State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Extension(size), _) if is_text => State::Extension(size),
            (State::SizeEnd(0), b'\n') => State::TrailerStart,
            (State::SizeEnd(size), b'\n') => State::Chunk(size),
            (State::ChunkCr, b'\r') => State::ChunkLf,
            (State::ChunkLf, b'\n') => State::Size(0, false),
            (State::TrailerStart, b'\r') => State::Lf,
            (State::TrailerStart, _) if is_tchar(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerName, _) if is_tchar(byte) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerEnd,
            (State::TrailerValue, _) if is_text => State::TrailerValue,
            (State::TrailerEnd, b'\n') => State::TrailerStart,
            (State::Lf, b'\n') => State::Done,
            _ => return Err(BodyError::Malformed),
        })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.content.capacity()
    }

    pub(crate) fn into_content(self) -> Vec<u8> {
        self.content
    }
}

fn fits(size: u64, room: usize) -> bool {
    usize::try_from(size).is_ok_and(|size| size <= room)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 100;

    fn framing(lines: &str) -> Result<Option<Framing>, u16> {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let request = Request::parse(head.as_bytes(), crate::PeerAddr::Unknown).unwrap();
        Framing::of(&request).map_err(|refusal| refusal.status())
    }

    /// The content, and the bytes behind it.
    type Split = (Vec<u8>, Vec<u8>);

    /// Receives what arrives in pieces that end at these places.
    fn read(framing: Framing, bytes: &[u8], ends: &[usize]) -> Result<Option<Split>, BodyError> {
        let mut reader = BodyReader::new(framing, LIMIT)?;
        let mut start = 0;
        for end in ends.iter().copied().chain([bytes.len()]) {
            let used = reader.read(&bytes[start..end])?;
            if reader.is_done() {
                return Ok(Some((reader.into_content(), bytes[start + used..].to_vec())));
            }
            assert_eq!(used, end - start);
            start = end;
        }
        Ok(None)
    }

    fn chunks(text: &str) -> Result<Option<(String, String)>, BodyError> {
        let text_of = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let found = read(Framing::Chunked, text.as_bytes(), &[])?;
        Ok(found.map(|(content, rest)| (text_of(content), text_of(rest))))
    }

    #[test]
    fn h_02_only_one_framing_is_accepted() {
        let length = |length| Ok(Some(Framing::Length(length)));
        for (lines, expected) in [
            ("", Ok(None)),
            ("Content-Length: 0\r\n", Ok(None)),
            ("Content-Length: 5\r\n", length(5)),
            ("Content-Length: 005\r\n", length(5)),
            ("Content-Length: 5, 5\r\nContent-Length: 05\r\n", length(5)),
            ("Content-Length: 99999999999999999999\r\n", length(u64::MAX)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
            ("Content-Length: 0\r\nContent-Length: 6\r\n", Err(400)),
            ("Content-Length: 5, 6\r\n", Err(400)),
            ("Content-Length: 5,\r\n", Err(400)),
            ("Content-Length:\r\n", Err(400)),
            ("Content-Length: +5\r\n", Err(400)),
            ("Content-Length: -1\r\n", Err(400)),
            ("Content-Length: 0x5\r\n", Err(400)),
            ("Content-Length: 5 5\r\n", Err(400)),
            ("Transfer-Encoding: Chunked\r\n", Ok(Some(Framing::Chunked))),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(400)),
            ("Transfer-Encoding: identity\r\n", Err(400)),
            ("Transfer-Encoding:\r\n", Err(400)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(400)),
            ("Transfer-Encoding: xchunked\r\n", Err(400)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
        ] {
            assert_eq!(framing(lines), expected, "{lines:?}");
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        let old = Request::parse(old, crate::PeerAddr::Unknown).unwrap();
        assert_eq!(Framing::of(&old).unwrap_err().status(), 400);
    }

    #[test]
    fn chunks_are_received() {
        let done = |content: &str, rest: &str| Ok(Some((content.to_owned(), rest.to_owned())));
        for (text, expected) in [
            ("0\r\n\r\n", done("", "")),
            ("5\r\nhello\r\n0\r\n\r\nGET", done("hello", "GET")),
            ("005\r\nhello\r\n00\r\n\r\n", done("hello", "")),
            ("A \t;x\r\n0123456789\r\n1;a=\"b;\";c\r\n!\r\n0;last\r\n\r\n", done("0123456789!", "")),
            ("a\r\n\r\n01234567\r\n0\r\nX-A: b \r\nY:\r\n\r\n", done("\r\n01234567", "")),
            ("64\r\n", Ok(None)),
            ("5\r\nhello\r\n0\r\n", Ok(None)),
            ("5\r\nhello\r\n0\r\nX: y\r\n", Ok(None)),
        ] {
            assert_eq!(chunks(text), expected, "{text:?}");
        }
    }

    #[test]
    fn h_02_malformed_chunks_are_refused() {
        for text in [
            "\r\n",
            "x",
            "-1\r\n",
            "+1\r\n",
            " 5\r\n",
            ";\r\n",
            "0x5\r\n",
            "5\n",
            "5\r\r",
            "5;a\nhello",
            "5;a\rb",
            "5;\0",
            "5 5\r\n",
            "5\r\nhello5",
            "5\r\nhello\n",
            "5\r\nhello\r0",
            "5\r\nhello\r\n\r\n",
            "0\r\n\n",
            "0\r\n\r\r",
            "0\r\n X: y\r\n",
            "0\r\nX y\r\n",
            "0\r\n: y\r\n",
            "0\r\nX: y\n",
            "0\r\nX: y\r\r",
            "0\r\nX: \0",
            "0\r\nX\r\n",
        ] {
            assert_eq!(chunks(text), Err(BodyError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn t_23_content_over_the_limit_is_refused_before_it_arrives() {
        let too_large = Err(BodyError::TooLarge(LIMIT));
        for size in ["65", "64x", "ffffffffffffffff", "fffffffffffffffff"] {
            let expected = if size == "64x" { Err(BodyError::Malformed) } else { too_large.clone() };
            assert_eq!(chunks(size), expected, "{size}");
        }
        assert_eq!(chunks(&format!("63\r\n{}\r\n2", "x".repeat(99))), too_large);
        for (length, fits) in [(100, true), (101, false), (u64::MAX, false)] {
            assert_eq!(BodyReader::new(Framing::Length(length), LIMIT).is_ok(), fits, "{length}");
        }
        assert!(BodyReader::new(Framing::Length(1), 0).is_err());
    }

    #[test]
    fn t_23_framing_without_content_is_bounded() {
        let endless = |start: &str, part: &str| chunks(&(start.to_owned() + &part.repeat(20_000)));
        for (start, part) in [("0\r\n", "X: y\r\n"), ("5;", "x"), ("", "0"), ("5", " "), ("0\r\nX", "y")] {
            assert_eq!(endless(start, part), Err(BodyError::TooMuchFraming), "{start:?} {part:?}");
        }
        let tiny = "1\r\nx\r\n".repeat(LIMIT) + "0\r\n\r\n";
        assert_eq!(chunks(&tiny).unwrap().unwrap().0.len(), LIMIT);
    }

    fn ends(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<usize> {
        let mut ends: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        ends
    }

    proptest! {
        #[test]
        fn content_is_the_same_wherever_it_is_cut(
            parts in proptest::collection::vec(("[ -~\r\n\0]{1,20}", "(;[a-z]{1,3}(=\"[ -~]{0,4}\")?)?[ \t]{0,2}"), 0..5),
            trailers in proptest::collection::vec("[a-zA-Z-]{1,5}:[ -~]{0,9}\r\n", 0..3),
            behind in "[ -~\r\n]{0,20}",
            places in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let sent: String = parts.iter().map(|(part, extension)| {
                let blank = if extension.starts_with([' ', '\t']) { extension.trim_start_matches(char::is_alphanumeric) } else { extension };
                format!("{:x}{blank}\r\n{part}\r\n", part.len())
            }).collect();
            let content: String = parts.iter().map(|(part, _)| part.as_str()).collect();
            let sent = format!("{sent}0\r\n{}\r\n{behind}", trailers.concat());
            let expected = Ok(Some((content.clone().into_bytes(), behind.clone().into_bytes())));
            prop_assert_eq!(&read(Framing::Chunked, sent.as_bytes(), &ends(sent.as_bytes(), &places)), &expected);
            let bytewise: Vec<usize> = (0..sent.len()).collect();
            prop_assert_eq!(&read(Framing::Chunked, sent.as_bytes(), &bytewise), &expected);
            if !content.is_empty() {
                let sent = format!("{content}{behind}");
                let framing = Framing::Length(content.len() as u64);
                prop_assert_eq!(&read(framing, sent.as_bytes(), &ends(sent.as_bytes(), &places)), &expected);
            }
        }

        #[test]
        fn the_result_for_any_bytes_does_not_depend_on_where_they_are_cut(
            bytes in "([0-9a-f]{1,2}(;x)?\r\n[a-z]{0,9}\r\n|0\r\n|X: y\r\n|\r\n|[ -~\r\n\0]){0,9}",
            places in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let whole = read(Framing::Chunked, bytes.as_bytes(), &[]);
            prop_assert_eq!(read(Framing::Chunked, bytes.as_bytes(), &ends(bytes.as_bytes(), &places)), whole);
        }
    }
}
