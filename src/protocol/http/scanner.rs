//! Finding the end of a head in bytes that arrive piece by piece.

use core::fmt;

/// How large a head may be. A server answers a request beyond the limits with the status named here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadLimits {
    /// The whole head in bytes, its closing empty line included: 16 KiB, which has room for large cookies. Beyond: 431.
    pub max_head_size: usize,
    /// The number of header lines: 128. Beyond: 431.
    pub max_headers: usize,
    /// The request target (path and query) in bytes: 8 KiB; RFC 9110 4.1 recommends at least 8,000. Beyond: 414.
    /// Responses have none.
    pub max_target_size: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits { max_head_size: 16 * 1024, max_headers: 128, max_target_size: 8 * 1024 }
    }
}

/// What is wrong with the form of a head, a request's or a response's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// More bytes than [`HeadLimits::max_head_size`].
    TooLarge,
    /// More header lines than [`HeadLimits::max_headers`].
    TooManyHeaders,
    /// A request target of more bytes than [`HeadLimits::max_target_size`].
    TargetTooLong,
    /// A CR without LF.
    BareCr,
    /// An LF without CR.
    BareLf,
    /// NUL or another control character.
    ControlCharacter,
    /// More than one empty line before the first line.
    EmptyLines,
    /// Something is missing at its end or follows it.
    NotOneHead,
    /// Its lines break the grammar of RFC 9112.
    Malformed,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeadError::TooLarge => "the head is too large",
            HeadError::TooManyHeaders => "the head has too many header lines",
            HeadError::TargetTooLong => "the request target is too long",
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

/// Searches for the end of a head in a buffer that grows, and looks at each byte once.
///
/// What can not become a head is refused at its first wrong byte, so that the outcome does not depend on how the bytes
/// were split.
#[derive(Clone, Debug)]
pub struct HeadScanner {
    limits: HeadLimits,
    scanned: usize,
    /// Lines that have ended, the empty line before the first one not counted.
    lines: usize,
    /// Bytes of the line that has not ended yet.
    line_length: usize,
    previous: u8,
    skipped_empty_line: bool,
}

impl HeadScanner {
    /// A scanner for one head.
    pub fn new(limits: HeadLimits) -> HeadScanner {
        HeadScanner { limits, scanned: 0, lines: 0, line_length: 0, previous: 0, skipped_empty_line: false }
    }

    /// Goes on with the search. `received` is everything received so far, from the first byte of the head.
    ///
    /// Returns the length of the head once its end has been received; after that, and after a refusal, the scanner has
    /// done its work.
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
                return Err(HeadError::TooLarge);
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
                // RFC 9112 2.2 allows a bare LF as a line end; what proxies disagree on is refused.
                (_, b'\n') => return Err(HeadError::BareLf),
                (_, b'\r' | b'\t' | b' '..=b'~' | 0x80..) => self.line_length = self.line_length.saturating_add(1),
                // RFC 9110 5.5: values with "NUL characters are invalid and dangerous", with other controls invalid.
                _ => return Err(HeadError::ControlCharacter),
            }
            self.previous = byte;
        }
    }

    /// Passes over what can be neither wrong nor the end of a line, as far as the limits go.
    fn skip_plain(&mut self, received: &[u8]) {
        if self.previous == b'\r' {
            return;
        }
        let in_head = self.limits.max_head_size.saturating_sub(self.scanned);
        let in_line =
            if self.lines == 0 { self.max_request_line().saturating_sub(self.line_length) } else { usize::MAX };
        let rest = received.get(self.scanned..).unwrap_or_default();
        let plain = plain_prefix(rest).min(in_head).min(in_line);
        if let Some(&last) = plain.checked_sub(1).and_then(|last| rest.get(last)) {
            self.previous = last;
            self.scanned = self.scanned.saturating_add(plain);
            self.line_length = self.line_length.saturating_add(plain);
        }
    }

    /// Passes over CR and LF that come together, within the limits.
    fn skip_line_end(&mut self, received: &[u8]) -> bool {
        let end = self.scanned.saturating_add(2);
        let comes = self.previous != b'\r' && received.get(self.scanned..end) == Some(b"\r\n");
        let fits = end <= self.limits.max_head_size
            && (self.lines > 0 || self.line_length.saturating_add(1) < self.max_request_line());
        if comes && fits {
            (self.scanned, self.previous) = (end, b'\n');
            self.line_length = self.line_length.saturating_add(1); // the CR
        }
        comes && fits
    }

    /// How many bytes the scanner has looked at, in all calls together.
    pub fn bytes_scanned(&self) -> usize {
        self.scanned
    }

    pub(super) fn limits(&self) -> &HeadLimits {
        &self.limits
    }

    /// The number of header lines of the head whose end was found.
    pub(super) fn header_lines(&self) -> Result<usize, HeadError> {
        match self.lines.saturating_sub(1) {
            count if count > self.limits.max_headers => Err(HeadError::TooManyHeaders),
            count => Ok(count),
        }
    }

    /// Whether the line that ends here ends the head.
    fn end_line(&mut self) -> Result<bool, HeadError> {
        let empty = self.line_length == 1; // the CR
        self.line_length = 0;
        if !empty {
            self.lines = self.lines.saturating_add(1);
            return Ok(false);
        }
        if self.lines > 0 {
            return Ok(true);
        }
        // RFC 9112 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line". One it is.
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

/// How many bytes in front are no control characters.
fn plain_prefix(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut plain = 0_usize;
    for word in words {
        let found = first_control(u64::from_le_bytes(*word));
        plain = plain.saturating_add(found);
        if found < 8 {
            return plain;
        }
    }
    plain.saturating_add(rest.iter().take_while(|byte| !byte.is_ascii_control()).count())
}

/// The place of the first control character among eight bytes, of which the lowest comes first; 8 if there is none.
fn first_control(word: u64) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    // The top bit is set of each byte below `limit`, which is at most 128; by a borrow of others too, but above such a
    // byte only.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES.wrapping_mul(u64::from(limit))) & !word & TOPS;
    let del = word ^ ONES.wrapping_mul(0x7F);
    let found = below(word, b' ') | below(del, 1);
    (found.trailing_zeros() / 8) as usize
}

/// Room in the request line for the method, two spaces, the version and CRLF. A target that only fits because its
/// method is short is refused when the whole line is parsed.
const METHOD_AND_VERSION: usize = 64;

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
    fn t_11_sizes_are_bounded_to_the_byte() {
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
    fn one_empty_line_before_the_request_line_is_ignored() {
        let head = [b"\r\n", HEAD].concat();
        assert_eq!(scan_whole(&head, HeadLimits::default()), Ok(Some(head.len())));
        assert_eq!(scan_whole(b"\r\n\r\nGET", HeadLimits::default()), Err(400));
    }

    #[test]
    fn what_can_not_become_a_request_is_refused_at_once() {
        for bytes in [
            b"\n".as_slice(),
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nHost: a\n",
            b"GET / HTTP/1.1\rH",
            b"\r\r\n",
            b"GET /\0",
            b"\x16\x03\x01", // a TLS ClientHello
            b"GET / HTTP/1.1\r\nX: \x7f",
        ] {
            assert_eq!(scan_whole(bytes, HeadLimits::default()), Err(400), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn each_byte_is_told_from_a_control_character_wherever_it_is() {
        for byte in 0..=u8::MAX {
            for (length, other) in [(8, b' '), (8, b'~'), (8, 0x80), (21, 0xFF), (21, b'x')] {
                for place in 0..length {
                    let mut bytes = vec![other; length];
                    bytes[place] = byte;
                    // What comes behind it does not matter.
                    bytes[place + 1..].fill(byte);
                    let expected = if byte.is_ascii_control() { place } else { length };
                    assert_eq!(plain_prefix(&bytes), expected, "{byte:#x} at {place} among {other:#x}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_outcome_does_not_depend_on_the_split(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), b' '..=b'~'], 0..400),
            crlf in any::<bool>(),
        ) {
            let line_ends = |b: u8| if b < b' ' { vec![b'\r', b'\n'] } else { vec![b; 8] };
            let bytes = if crlf { bytes.into_iter().flat_map(line_ends).collect() } else { bytes };
            prop_assert_eq!(scan_whole(&bytes, small()), scan_bytewise(&bytes, small()));
        }
    }
}
