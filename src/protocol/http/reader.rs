//! Reads a response from bytes that arrive in pieces.

use core::fmt;

use super::response_head::ResponseHead;
use super::scanner::{HeadError, HeadLimits, HeadScanner};

/// Finds the final response in a buffer that grows and skips the interim responses before it (RFC 9110 15.2). Each byte
/// is scanned once.
///
/// A 101 is final, because it ends HTTP on the connection. The limit on the size of a head applies to all heads
/// together, so that a server cannot send interim responses without end.
///
/// Bytes that are not a response are refused at the first invalid byte, so that the result does not depend on how the
/// bytes were split.
///
/// ```
/// use threadbare::protocol::http::{HeadLimits, ResponseReader};
///
/// let mut reader = ResponseReader::new(HeadLimits::default());
/// let mut received = b"HTTP/1.1 200 OK\r\n".to_vec();
/// assert!(reader.read(&received)?.is_none()); // not the whole head
/// received.extend(b"Content-Length: 2\r\n\r\nhi");
/// let (head, size) = reader.read(&received)?.expect("the head is complete");
/// assert_eq!((head.status(), &received[size..]), (200, &b"hi"[..]));
/// # Ok::<(), threadbare::protocol::http::ResponseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ResponseReader {
    limits: HeadLimits,
    scanner: HeadScanner,
    /// The offset of the current head.
    start: usize,
}

impl ResponseReader {
    /// Creates a reader for one response.
    ///
    /// ```
    /// use threadbare::protocol::http::{HeadLimits, ResponseReader};
    ///
    /// let mut limits = HeadLimits::default();
    /// limits.max_head_size = 4 << 10;
    /// let reader = ResponseReader::new(limits);
    /// ```
    pub fn new(limits: HeadLimits) -> ResponseReader {
        ResponseReader { limits, scanner: HeadScanner::for_response(limits), start: 0 }
    }

    /// Continues to read. `received` is everything received so far, from the first byte of the response.
    ///
    /// Returns the head once its end was received, and the number of bytes that it and the interim responses have. The
    /// caller keeps the bytes after them. After a head or an error was returned, the reader must not be used again.
    ///
    /// ```
    /// use threadbare::protocol::http::{HeadLimits, ResponseReader};
    ///
    /// let mut reader = ResponseReader::new(HeadLimits::default());
    /// let received = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"; // the first one is skipped
    /// let (head, size) = reader.read(received)?.expect("the head is complete");
    /// assert_eq!((head.status(), size), (200, received.len()));
    /// # Ok::<(), threadbare::protocol::http::ResponseError>(())
    /// ```
    pub fn read(&mut self, received: &[u8]) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
        loop {
            let rest = received.get(self.start..).unwrap_or_default();
            check_protocol(rest)?;
            let Some(size) = self.scanner.scan(rest)? else { return Ok(None) };
            let head = ResponseHead::parse_scanned(rest.get(..size).unwrap_or_default(), &self.scanner)?;
            self.start = self.start.saturating_add(size);
            if head.status() == 101 || !(100..=199).contains(&head.status()) {
                return Ok(Some((head, self.start)));
            }
            self.limits.max_head_size = self.limits.max_head_size.saturating_sub(size);
            self.scanner = HeadScanner::for_response(self.limits);
        }
    }

    /// Returns the error for a connection that was closed after `received`.
    ///
    /// ```
    /// use threadbare::protocol::http::{HeadLimits, ResponseError, ResponseReader};
    ///
    /// let mut reader = ResponseReader::new(HeadLimits::default());
    /// let received = b"HTTP/1.1 200 OK\r\n";
    /// assert!(reader.read(received)?.is_none());
    /// assert!(matches!(reader.end(received), ResponseError::Truncated { .. })); // the server closed the connection
    /// # Ok::<(), ResponseError>(())
    /// ```
    pub fn end(&self, received: &[u8]) -> ResponseError {
        ResponseError::Truncated { received: received.len() }
    }
}

/// Why no response could be read.
///
/// ```
/// use threadbare::protocol::http::{HeadLimits, ResponseError, ResponseReader};
///
/// let mut reader = ResponseReader::new(HeadLimits::default());
/// assert!(matches!(reader.read(b"SSH-2.0-OpenSSH_9.6\r\n"), Err(ResponseError::NotHttp(_))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// The server sent something other than an HTTP/1 response. The value is its first bytes, up to the first invalid
    /// byte.
    NotHttp(Vec<u8>),
    /// The response head is malformed or too large.
    Head(HeadError),
    /// The connection was closed before the end of the head.
    Truncated {
        /// The number of bytes received.
        received: usize,
    },
}

impl From<HeadError> for ResponseError {
    fn from(error: HeadError) -> ResponseError {
        ResponseError::Head(error)
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // RFC 8446 5.1 and 6: 21 is the content type of an alert.
            ResponseError::NotHttp(start) if start.first() == Some(&21) => {
                f.write_str("the answer is TLS, not HTTP: an unencrypted request went to a port that wants TLS")
            }
            ResponseError::NotHttp(start) => {
                write!(f, "the answer is not HTTP/1: it begins with \"{}\"", start.escape_ascii())
            }
            ResponseError::Head(_) => f.write_str("the answer can not be read"),
            ResponseError::Truncated { received: 0 } => f.write_str("the connection was closed without an answer"),
            ResponseError::Truncated { received } => {
                write!(f, "the connection was closed within the answer, after {received} bytes")
            }
        }
    }
}

impl core::error::Error for ResponseError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ResponseError::Head(error) => Some(error),
            ResponseError::NotHttp(_) | ResponseError::Truncated { .. } => None,
        }
    }
}

/// Checks that the status line begins with the version (RFC 9112 4).
fn check_protocol(received: &[u8]) -> Result<(), ResponseError> {
    match received.iter().zip(b"HTTP/1.").position(|(byte, wanted)| byte != wanted) {
        Some(wrong) => Err(ResponseError::NotHttp(received.iter().copied().take(wrong.saturating_add(1)).collect())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Outcome = Result<Option<(u16, usize)>, ResponseError>;

    fn read_in(stream: &[u8], ends: impl IntoIterator<Item = usize>) -> Outcome {
        let mut reader = ResponseReader::new(HeadLimits::default());
        for end in ends {
            if let Some((head, size)) = reader.read(&stream[..end])? {
                return Ok(Some((head.status(), size)));
            }
        }
        Ok(None)
    }

    fn read(stream: &[u8]) -> Outcome {
        read_in(stream, [stream.len()])
    }

    const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    #[test]
    fn h_01_a_response_is_found_at_every_split_and_the_rest_is_kept() {
        for (before, head, status) in [("", SWITCH, 101), (INTERIM, SWITCH, 101), ("", "HTTP/1.1 200\r\n\r\n", 200)] {
            let stream = [before, head, "\u{81}\u{2}hi\r\n\r\nHTTP/1.1 400 B\r\n\r\n"].concat().into_bytes();
            let expected = Ok(Some((status, before.len() + head.len())));
            for split in 0..=stream.len() {
                assert_eq!(read_in(&stream, [split, stream.len()]), expected, "split at {split}");
            }
            assert_eq!(read_in(&stream, 0..=stream.len()), expected);
        }
    }

    #[test]
    fn h_05_interim_responses_are_bounded() {
        let endless = "HTTP/1.1 100 C\r\n\r\n".repeat(2_000);
        assert_eq!(read(endless.as_bytes()), Err(ResponseError::Head(HeadError::TooLarge)));
        assert_eq!(read_in(endless.as_bytes(), 0..=endless.len()), Err(ResponseError::Head(HeadError::TooLarge)));
    }

    #[test]
    fn h_05_a_head_over_16_kib_is_refused() {
        let endless = [b"HTTP/1.1 101 S\r\nX: ".as_slice(), &[b'x'; 17_000]].concat();
        assert_eq!(read(&endless[..16 * 1024]), Ok(None));
        assert_eq!(read(&endless), Err(ResponseError::Head(HeadError::TooLarge)));
    }

    #[test]
    fn h_05_a_truncated_head_is_an_error() {
        let head = SWITCH.as_bytes();
        for end in 0..head.len() {
            assert_eq!(read(&head[..end]), Ok(None));
            let error = ResponseReader::new(HeadLimits::default()).end(&head[..end]);
            assert_eq!(error, ResponseError::Truncated { received: end });
        }
        let none = ResponseError::Truncated { received: 0 };
        assert_eq!(none.to_string(), "the connection was closed without an answer");
    }

    #[test]
    fn bytes_that_are_not_http_are_refused_at_the_first_invalid_byte() {
        for (stream, shown) in [
            (b"SSH-2.0-OpenSSH\r\n".as_slice(), "it begins with \"S\""),
            (b"HTTP/2.0 200 OK\r\n\r\n", "it begins with \"HTTP/2\""),
            (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "it begins with \"\\r\""),
            (b"\x15\x03\x01\x00\x02\x02\x46", "a port that wants TLS"),
        ] {
            let error = read(stream).unwrap_err();
            assert!(error.to_string().contains(shown), "{error}");
            assert_eq!(read_in(stream, 0..=stream.len()), Err(error));
        }
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_the_split(
            parts in proptest::collection::vec(prop::sample::select(vec![
                "HTTP/1.1 100 C\r\n", "HTTP/1.1 101 S\r\n", "HTTP/1.0 302\r\n", "\r\n", "A: b\r\n",
                "x", "\n", "\0", "\r",
            ]), 0..8),
        ) {
            let stream = parts.concat().into_bytes();
            prop_assert_eq!(read(&stream), read_in(&stream, 0..=stream.len()));
        }
    }
}
