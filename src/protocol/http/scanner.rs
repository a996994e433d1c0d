//! Finds the end of a head in bytes that arrive in pieces.

use core::fmt;

use super::token::is_tchar;

/// Limits on the size of a head. A server answers a request that exceeds a limit with 431 or 414.
///
/// ```
/// use threadbare::protocol::http::{HeadLimits, HeadScanner};
///
/// let mut limits = HeadLimits::default();
/// limits.max_head_size = 4 << 10;
/// let scanner = HeadScanner::new(limits);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadLimits {
    /// The maximum size of the head in bytes, including the empty line at its end. A larger head is answered with 431.
    /// Default: 16 KiB, which is enough for large cookies.
    pub max_head_size: usize,
    /// The maximum number of header lines. A head with more is answered with 431. Default: 128.
    pub max_headers: usize,
    /// The maximum size of the request target (path and query) in bytes. A longer target is answered with 414. Default:
    /// 8 KiB; RFC 9110 4.1 recommends at least 8,000 bytes. Does not apply to responses.
    pub max_target_size: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits { max_head_size: 16 * 1024, max_headers: 128, max_target_size: 8 * 1024 }
    }
}

/// Why the head of a request or a response is refused.
///
/// ```
/// use threadbare::protocol::http::{HeadError, HeadLimits, HeadScanner};
///
/// let mut scanner = HeadScanner::new(HeadLimits::default());
/// assert!(matches!(scanner.scan(b"GET / HTTP/1.1\n"), Err(HeadError::BareLf)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// The head has more bytes than [`HeadLimits::max_head_size`].
    TooLarge,
    /// The head has more header lines than [`HeadLimits::max_headers`].
    TooManyHeaders,
    /// The request target has more bytes than [`HeadLimits::max_target_size`], or the request line more than
    /// [`HeadLimits::max_head_size`].
    TargetTooLong,
    /// The request's method has more bytes than any that is known.
    MethodTooLong,
    /// A CR is not followed by LF.
    BareCr,
    /// A line ends in LF without CR.
    BareLf,
    /// The head contains NUL or another control character.
    ControlCharacter,
    /// More than one empty line comes before the first line.
    EmptyLines,
    /// The end of the head is missing, or bytes follow it.
    NotOneHead,
    /// A line does not conform to the grammar of RFC 9112.
    Malformed,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeadError::TooLarge => "the head is too large",
            HeadError::TooManyHeaders => "the head has too many header lines",
            HeadError::TargetTooLong => "the request target is too long",
            HeadError::MethodTooLong => "the method is too long",
            HeadError::BareCr => "a CR is not followed by LF",
            HeadError::BareLf => "a line ends in LF without CR",
            HeadError::ControlCharacter => "the head contains a control character",
            HeadError::EmptyLines => "empty lines come before the first line",
            HeadError::NotOneHead => "this is not one whole head",
            HeadError::Malformed => "the head is malformed",
        })
    }
}

impl core::error::Error for HeadError {}

/// Searches for the end of a head in a buffer that grows. Each byte is scanned once.
///
/// Bytes that are not a head are refused at the first invalid byte, so that the result does not depend on how the bytes
/// were split.
///
/// ```
/// use threadbare::protocol::http::{HeadLimits, HeadScanner};
///
/// let mut scanner = HeadScanner::new(HeadLimits::default());
/// let mut received = b"GET / HTTP/1.1\r\nHost".to_vec();
/// assert_eq!(scanner.scan(&received)?, None);
/// received.extend(b": example.com\r\n\r\nand more");
/// assert_eq!(scanner.scan(&received)?, Some(37));
/// # Ok::<(), threadbare::protocol::http::HeadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeadScanner {
    limits: HeadLimits,
    scanned: usize,
    /// The number of complete lines, without an empty line before the first one.
    lines: usize,
    /// The number of bytes of the current line.
    line_length: usize,
    previous: u8,
    skipped_empty_line: bool,
    part: Part,
}

/// The part of a head that is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The method of a request, or the empty line before it.
    Method,
    /// The rest of a request line.
    RequestLine,
    /// The status line of a response, or the header lines.
    Rest,
}

impl HeadScanner {
    /// Creates a scanner for the head of one request.
    ///
    /// ```
    /// use threadbare::protocol::http::{HeadLimits, HeadScanner};
    ///
    /// let scanner = HeadScanner::new(HeadLimits::default());
    /// assert_eq!(scanner.bytes_scanned(), 0);
    /// ```
    pub fn new(limits: HeadLimits) -> HeadScanner {
        let (previous, skipped_empty_line, part) = (0, false, Part::Method);
        HeadScanner { limits, scanned: 0, lines: 0, line_length: 0, previous, skipped_empty_line, part }
    }

    /// Creates a scanner for the head of one response, whose status line may be as long as the head.
    pub(super) fn for_response(limits: HeadLimits) -> HeadScanner {
        let limits = HeadLimits { max_target_size: usize::MAX, ..limits };
        HeadScanner { part: Part::Rest, ..HeadScanner::new(limits) }
    }

    /// Continues the search. `received` is everything received so far, from the first byte of the head.
    ///
    /// Returns the size of the head once its end was received. After a size or an error was returned, the scanner must
    /// not be used again.
    ///
    /// ```
    /// use threadbare::protocol::http::{HeadLimits, HeadScanner};
    ///
    /// let mut scanner = HeadScanner::new(HeadLimits::default());
    /// let head = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// assert_eq!(scanner.scan(head)?, Some(head.len()));
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn scan(&mut self, received: &[u8]) -> Result<Option<usize>, HeadError> {
        loop {
            self.skip_plain(received);
            if self.skip_line_end(received) {
                if self.end_line()? {
                    return Ok(Some(self.scanned));
                }
                continue;
            }
            let offset = self.scanned;
            let Some(&byte) = received.get(offset) else { return Ok(None) };
            self.scanned = self.scanned.saturating_add(1);
            if offset >= self.limits.max_head_size {
                // RFC 9112 3: 414 for "a request-target longer than any URI it wishes to parse", whatever the limit is.
                let in_target = self.part == Part::RequestLine;
                return Err(if in_target { HeadError::TargetTooLong } else { HeadError::TooLarge });
            }
            if self.lines == 0 && self.line_length >= self.max_request_line() {
                return Err(HeadError::TargetTooLong);
            }
            match (self.previous, byte) {
                (b'\r', b'\n') => {
                    if self.end_line()? {
                        return Ok(Some(self.scanned));
                    }
                }
                // RFC 9112 2.2: a recipient of a bare CR "MUST consider that element to be invalid".
                (b'\r', _) => return Err(HeadError::BareCr),
                // RFC 9112 2.2 allows a bare LF as a line end. It is refused here because proxies disagree on it.
                (_, b'\n') => return Err(HeadError::BareLf),
                (_, b'\r' | b'\t' | b' '..=b'~' | 0x80..) => {
                    self.check_part(byte)?;
                    self.line_length = self.line_length.saturating_add(1);
                }
                // RFC 9110 5.5: values with "NUL characters are invalid and dangerous", with other controls invalid.
                _ => return Err(HeadError::ControlCharacter),
            }
            self.previous = byte;
        }
    }

    /// Checks a byte of a request line, so that what is not HTTP is refused at once.
    fn check_part(&mut self, byte: u8) -> Result<(), HeadError> {
        match self.part {
            Part::Method => match byte {
                b' ' if self.line_length > 0 => self.part = Part::RequestLine,
                b'\r' if self.line_length == 0 => {}
                _ if !is_tchar(byte) => return Err(HeadError::Malformed), // RFC 9110 9.1: a method is a token
                _ if self.line_length >= MAX_METHOD => return Err(HeadError::MethodTooLong),
                _ => {}
            },
            // RFC 9112 3: target and version are visible ASCII.
            Part::RequestLine if byte == b'\t' || !byte.is_ascii() => return Err(HeadError::Malformed),
            Part::RequestLine | Part::Rest => {}
        }
        Ok(())
    }

    /// Skips bytes that are not control characters, within the limits.
    fn skip_plain(&mut self, received: &[u8]) {
        if self.previous == b'\r' || self.part == Part::Method {
            return;
        }
        let in_head = self.limits.max_head_size.saturating_sub(self.scanned);
        let in_line =
            if self.lines == 0 { self.max_request_line().saturating_sub(self.line_length) } else { usize::MAX };
        let rest = received.get(self.scanned..).unwrap_or_default();
        let refused = if self.part == Part::RequestLine { NOT_ASCII } else { 0 };
        let plain = plain_prefix(rest, refused).min(in_head).min(in_line);
        if let Some(&last) = plain.checked_sub(1).and_then(|last| rest.get(last)) {
            self.previous = last;
            self.scanned = self.scanned.saturating_add(plain);
            self.line_length = self.line_length.saturating_add(plain);
        }
    }

    /// Skips CR LF, within the limits.
    fn skip_line_end(&mut self, received: &[u8]) -> bool {
        let end = self.scanned.saturating_add(2);
        let in_method = self.part == Part::Method && self.line_length > 0;
        let comes = self.previous != b'\r' && !in_method && received.get(self.scanned..end) == Some(b"\r\n");
        let fits = end <= self.limits.max_head_size
            && (self.lines > 0 || self.line_length.saturating_add(1) < self.max_request_line());
        if comes && fits {
            (self.scanned, self.previous) = (end, b'\n');
            self.line_length = self.line_length.saturating_add(1); // the CR
        }
        comes && fits
    }

    /// Returns the number of bytes scanned in all calls together.
    ///
    /// ```
    /// use threadbare::protocol::http::{HeadLimits, HeadScanner};
    ///
    /// let mut scanner = HeadScanner::new(HeadLimits::default());
    /// scanner.scan(b"GET / ")?;
    /// scanner.scan(b"GET / HTTP/1.1\r\n")?; // only the new bytes are scanned
    /// assert_eq!(scanner.bytes_scanned(), 16);
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn bytes_scanned(&self) -> usize {
        self.scanned
    }

    pub(crate) fn limits(&self) -> &HeadLimits {
        &self.limits
    }

    /// Returns the number of header lines, after the end of the head was found.
    pub(super) fn header_lines(&self) -> Result<usize, HeadError> {
        match self.lines.saturating_sub(1) {
            count if count > self.limits.max_headers => Err(HeadError::TooManyHeaders),
            count => Ok(count),
        }
    }

    /// Ends the current line. Returns whether it ends the head.
    fn end_line(&mut self) -> Result<bool, HeadError> {
        let empty = self.line_length == 1; // the CR
        self.line_length = 0;
        if !empty {
            self.lines = self.lines.saturating_add(1);
            self.part = Part::Rest;
            return Ok(false);
        }
        if self.lines > 0 {
            return Ok(true);
        }
        // RFC 9112 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line". One is
        // ignored.
        if self.skipped_empty_line {
            return Err(HeadError::EmptyLines);
        }
        self.skipped_empty_line = true;
        Ok(false)
    }

    fn max_request_line(&self) -> usize {
        self.limits.max_target_size.saturating_add(METHOD_AND_VERSION)
    }
}

/// Returns the number of bytes before the first control character, or the first byte whose top bit is set in `refused`.
fn plain_prefix(bytes: &[u8], refused: u64) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut plain = 0_usize;
    for word in words {
        let found = first_control(u64::from_le_bytes(*word), refused);
        plain = plain.saturating_add(found);
        if found < 8 {
            return plain;
        }
    }
    let is_plain = |byte: u8| !byte.is_ascii_control() && (refused == 0 || byte.is_ascii());
    plain.saturating_add(rest.iter().take_while(|byte| is_plain(**byte)).count())
}

/// The top bit of each of eight bytes.
const NOT_ASCII: u64 = u64::from_ne_bytes([0x80; 8]);

/// Returns the index of the first control character, or of the first byte with a bit of `refused`, in eight bytes, of
/// which the lowest comes first; 8 if there is none.
fn first_control(word: u64, refused: u64) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = NOT_ASCII;
    // Sets the top bit of each byte that is below `limit`, which is at most 128. A borrow can set the top bit of other
    // bytes, but only above such a byte.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES.wrapping_mul(u64::from(limit))) & !word & TOPS;
    let del = word ^ ONES.wrapping_mul(0x7F);
    let found = below(word, b' ') | below(del, 1) | (word & refused);
    (found.trailing_zeros() / 8) as usize
}

/// The scanner allows 64 bytes of the request line for the method, two spaces, the version and CRLF. The exact limit on
/// the target is checked when the request line is parsed.
const METHOD_AND_VERSION: usize = 64;

/// A method has at most 32 bytes. The longest that is registered has 17; larger waits longer for the end of what is no
/// request.
const MAX_METHOD: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::response::Response;
    use super::*;

    const HEAD: &[u8] = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nX: y\r\n\r\n";

    fn status(error: HeadError) -> u16 {
        Box::<Response>::from(error).status()
    }

    fn scan_whole(bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, u16> {
        HeadScanner::new(limits).scan(bytes).map_err(status)
    }

    fn scan_bytewise(bytes: &[u8], limits: HeadLimits) -> Result<Option<usize>, u16> {
        let mut scanner = HeadScanner::new(limits);
        for end in 0..=bytes.len() {
            match scanner.scan(&bytes[..end]) {
                Ok(None) => {}
                Ok(done) => return Ok(done),
                Err(error) => return Err(status(error)),
            }
        }
        Ok(None)
    }

    fn small() -> HeadLimits {
        HeadLimits { max_head_size: 300, max_headers: 8, max_target_size: 100 }
    }

    #[test]
    fn a_head_is_found_at_every_split() {
        let mut stream = HEAD.to_vec();
        stream.extend_from_slice(b"\x81\x85frames\r\n\r\n");
        for split in 0..=stream.len() {
            let mut scanner = HeadScanner::new(HeadLimits::default());
            let first = scanner.scan(&stream[..split]).unwrap();
            let found = first.or_else(|| scanner.scan(&stream).unwrap());
            assert_eq!(found, Some(HEAD.len()), "split at {split}");
        }
        assert_eq!(scan_bytewise(&stream, HeadLimits::default()), Ok(Some(HEAD.len())));
    }

    #[test]
    fn a_10_each_byte_is_scanned_once() {
        let limits = HeadLimits { max_head_size: 30_000, ..HeadLimits::default() };
        let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
        let mut scanner = HeadScanner::new(limits);
        while bytes.len() < 20_000 {
            bytes.push(b'x');
            assert_eq!(scanner.scan(&bytes).unwrap(), None);
            assert!(scanner.bytes_scanned() <= bytes.len());
        }
    }

    #[test]
    fn t_11_limits_are_exact_to_the_byte() {
        let limits = small();
        let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
        head.resize(limits.max_head_size - 4, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        assert_eq!(scan_whole(&head, limits), Ok(Some(limits.max_head_size)));
        head.insert(20, b'x');
        assert_eq!(scan_whole(&head, limits), Err(431));
        assert_eq!(scan_bytewise(&head, limits), Err(431));

        let endless_target = [b"GET /".as_slice(), &[b'a'; 400]].concat();
        assert_eq!(scan_whole(&endless_target, limits), Err(414));
        assert_eq!(scan_bytewise(&endless_target, limits), Err(414));
        assert_eq!(scan_whole(&endless_target[..120], limits), Ok(None));
    }

    #[test]
    fn t_11_a_long_target_is_answered_414_whatever_the_limit_of_the_head_is() {
        for max_head_size in [60, 100, 8 << 10, 16 << 10, 1 << 20] {
            let limits = HeadLimits { max_head_size, ..HeadLimits::default() };
            let endless = [b"GET /".as_slice(), &[b'a'; 20_000]].concat();
            assert_eq!(scan_whole(&endless, limits), Err(414), "{max_head_size}");
            assert_eq!(scan_bytewise(&endless, limits), Err(414), "{max_head_size}");
            let mut long_header = b"GET / HTTP/1.1\r\nX: ".to_vec();
            long_header.resize(max_head_size + 1, b'x');
            assert_eq!(scan_whole(&long_header, limits), Err(431), "{max_head_size}");
        }
    }

    #[test]
    fn a_method_that_does_not_end_is_answered_501() {
        for (length, expected) in [(MAX_METHOD, Ok(None)), (MAX_METHOD + 1, Err(501)), (20_000, Err(501))] {
            let method = vec![b'A'; length];
            assert_eq!(scan_whole(&method, HeadLimits::default()), expected);
            assert_eq!(scan_bytewise(&method, HeadLimits::default()), expected);
        }
        let longest = [&[b'A'; MAX_METHOD], b" / HTTP/1.1\r\n\r\n".as_slice()].concat();
        assert_eq!(scan_whole(&longest, HeadLimits::default()), Ok(Some(longest.len())));
    }

    #[test]
    fn one_empty_line_before_the_request_line_is_ignored() {
        let head = [b"\r\n", HEAD].concat();
        assert_eq!(scan_whole(&head, HeadLimits::default()), Ok(Some(head.len())));
        assert_eq!(scan_whole(b"\r\n\r\nGET", HeadLimits::default()), Err(400));
    }

    #[test]
    fn invalid_requests_are_refused_at_the_first_invalid_byte() {
        for bytes in [
            b"\n".as_slice(),
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nHost: a\n",
            b"GET / HTTP/1.1\rH",
            b"\r\r\n",
            b"GET /\0",
            b"\x16\x03\x01", // a TLS ClientHello
            b"GET / HTTP/1.1\r\nX: \x7f",
            b"\xff",
            b"\r\n\xff",
            b"\x81\x85", // a frame
            b" ",
            b"\"",
            b"GET\t",
            b"GET\r",
            b"GET /\xff",
            b"GET /\t",
        ] {
            assert_eq!(scan_whole(bytes, HeadLimits::default()), Err(400), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn control_characters_are_found_at_every_offset() {
        for byte in 0..=u8::MAX {
            for (length, other) in [(8, b' '), (8, b'~'), (8, 0x80), (21, 0xFF), (21, b'x')] {
                for place in 0..length {
                    let mut bytes = vec![other; length];
                    bytes[place] = byte;
                    // The bytes after it do not matter.
                    bytes[place + 1..].fill(byte);
                    let plain = |refused| {
                        let is_plain = |byte: &&u8| !byte.is_ascii_control() && (refused == 0 || byte.is_ascii());
                        bytes.iter().take_while(is_plain).count()
                    };
                    for refused in [0, NOT_ASCII] {
                        assert_eq!(plain_prefix(&bytes, refused), plain(refused), "{}", bytes.escape_ascii());
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_the_split(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), b' '..=b'~'], 0..400),
            crlf in any::<bool>(),
        ) {
            let line_ends = |b: u8| if b < b' ' { vec![b'\r', b'\n'] } else { vec![b; 8] };
            let bytes = if crlf { bytes.into_iter().flat_map(line_ends).collect() } else { bytes };
            prop_assert_eq!(scan_whole(&bytes, small()), scan_bytewise(&bytes, small()));
        }
    }
}
