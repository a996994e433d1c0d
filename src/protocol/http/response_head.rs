//! The head of a received response.

use core::fmt;
use std::borrow::Cow;

use super::head::{Head, Span, scan_whole};
use super::request::HttpVersion;
use super::scanner::{HeadError, HeadLimits, HeadScanner};

/// The head of the HTTP response with which a server answers the client's opening handshake.
///
/// Header names are case-insensitive.
///
/// ```
/// use threadbare::protocol::http::ResponseHead;
///
/// let head = ResponseHead::parse(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\nServer: example\r\n\r\n")?;
/// assert_eq!((head.status(), head.reason()), (403, "Forbidden"));
/// assert_eq!(head.header("server"), Some("example"));
/// # Ok::<(), threadbare::protocol::http::HeadError>(())
/// ```
#[derive(Clone)]
pub struct ResponseHead {
    head: Head,
    status: u16,
    reason: Span,
    version: HttpVersion,
}

impl ResponseHead {
    /// Parses a complete head, including the empty line at its end, within the default [`HeadLimits`].
    ///
    /// ```
    /// use threadbare::ResponseHead;
    ///
    /// let head = ResponseHead::parse(b"HTTP/1.1 404 Not Found\r\n\r\n")?;
    /// assert_eq!(head.status(), 404);
    /// assert!(ResponseHead::parse(b"HTTP/1.1 404 Not Found\r\n").is_err()); // its end is missing
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn parse(head: &[u8]) -> Result<ResponseHead, HeadError> {
        ResponseHead::parse_within(head, HeadLimits::default())
    }

    /// Like [`parse`](ResponseHead::parse), within the limits `limits`.
    ///
    /// ```
    /// use threadbare::ResponseHead;
    /// use threadbare::protocol::http::{HeadError, HeadLimits};
    ///
    /// let mut limits = HeadLimits::default();
    /// limits.max_headers = 1;
    /// let head = b"HTTP/1.1 200 OK\r\nServer: a\r\nVia: b\r\n\r\n";
    /// assert!(matches!(ResponseHead::parse_within(head, limits), Err(HeadError::TooManyHeaders)));
    /// ```
    pub fn parse_within(head: &[u8], limits: HeadLimits) -> Result<ResponseHead, HeadError> {
        ResponseHead::parse_scanned(head, &scan_whole(head, HeadScanner::for_response(limits))?)
    }

    /// Parses a head whose end `scanner` has found, within the limits of `scanner`.
    pub(super) fn parse_scanned(head: &[u8], scanner: &HeadScanner) -> Result<ResponseHead, HeadError> {
        let head = &*normalized(head);
        let mut headers = vec![httparse::EMPTY_HEADER; scanner.header_lines()?];
        let mut parsed = httparse::Response::new(&mut headers);
        // RFC 9112 4, 5: httparse also refuses whitespace before the colon (5.1), and before the first header line (2.2).
        parsed.parse(head).map_err(|_| HeadError::Malformed)?;
        Ok(ResponseHead {
            status: parsed.code.unwrap_or_default(),
            // httparse returns a static empty string instead of a reason phrase that is not ASCII.
            reason: Span::of(parsed.reason.unwrap_or_default().as_bytes(), head).unwrap_or_default(),
            version: if parsed.version == Some(1) { HttpVersion::Http11 } else { HttpVersion::Http10 },
            head: Head::new(head, parsed.headers)?,
        })
    }

    /// Returns the status code, which is 101 if the server accepts.
    ///
    /// ```
    /// use threadbare::ResponseHead;
    ///
    /// assert_eq!(ResponseHead::parse(b"HTTP/1.1 404 Not Found\r\n\r\n")?.status(), 404);
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the reason phrase after the status code. It may be empty.
    ///
    /// ```
    /// use threadbare::ResponseHead;
    ///
    /// assert_eq!(ResponseHead::parse(b"HTTP/1.1 404 Not Found\r\n\r\n")?.reason(), "Not Found");
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn reason(&self) -> &str {
        self.head.str(self.reason)
    }

    /// Returns the value of the first header line with this name. Values that are not UTF-8 are skipped;
    /// [`headers`](ResponseHead::headers) returns them.
    ///
    /// ```
    /// use threadbare::ResponseHead;
    ///
    /// let head = ResponseHead::parse(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\n\r\n")?;
    /// assert_eq!(head.header("retry-after"), Some("30"));
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Returns the values of all header lines with this name, except values that are not UTF-8.
    ///
    /// ```
    /// use threadbare::ResponseHead;
    ///
    /// let head = ResponseHead::parse(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")?;
    /// assert!(head.header_values("Set-Cookie").eq(["a=1", "b=2"]));
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.head.header_values(name)
    }

    /// Returns all header lines in their order.
    ///
    /// ```
    /// use threadbare::ResponseHead;
    ///
    /// let head = ResponseHead::parse(b"HTTP/1.1 200 OK\r\nServer: example\r\n\r\n")?;
    /// for (name, value) in head.headers() {
    ///     println!("{name}: {}", value.escape_ascii());
    /// }
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.headers()
    }

    /// Returns the size of the body in bytes, if there is a valid `Content-Length`. A list of the same value counts as
    /// that value (RFC 9110 8.6).
    ///
    /// ```
    /// use threadbare::ResponseHead;
    ///
    /// let head = ResponseHead::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")?;
    /// assert_eq!(head.content_length(), Some(12));
    /// # Ok::<(), threadbare::protocol::http::HeadError>(())
    /// ```
    pub fn content_length(&self) -> Option<u64> {
        let mut lengths =
            self.field_values("Content-Length").flat_map(|value| value.split(|byte| *byte == b',')).map(length);
        let first = lengths.next()??;
        lengths.all(|length| length == Some(first)).then_some(first)
    }

    pub(crate) fn version(&self) -> HttpVersion {
        self.version
    }

    /// Returns the values of all header lines with this name.
    pub(crate) fn field_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.head.field_values(name)
    }
}

impl fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("status", &self.status())
            .field("reason", &self.reason())
            .field("headers", &self.head)
            .finish()
    }
}

/// Replaces what HTTP/1.1 requires a client to read otherwise than it stands there.
fn normalized(head: &[u8]) -> Cow<'_, [u8]> {
    let mut head = Cow::Borrowed(head);
    // RFC 9110 2.5: a later minor version is processed as "the highest minor version within that major version to which
    // the recipient is conformant".
    if matches!(head.get(..8), Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'])) {
        head.to_mut().splice(7..8, *b"1");
    }
    // RFC 9112 5.2: "A user agent that receives an obs-fold in a response message [...] MUST replace each received
    // obs-fold with one or more SP octets". The first line is the status line, which has no continuation.
    let first = head.windows(2).position(|pair| pair == b"\r\n").unwrap_or_default();
    let is_fold = |triple: &[u8]| matches!(triple, [b'\r', b'\n', b' ' | b'\t']);
    let starts = head.windows(3).enumerate().skip(first.saturating_add(1));
    let folds: Vec<usize> = starts.filter(|(_, triple)| is_fold(triple)).map(|(start, _)| start).collect();
    for start in folds {
        head.to_mut().splice(start..start.saturating_add(2), *b"  ");
    }
    head
}

/// Parses `Content-Length = 1*DIGIT` (RFC 9110 8.6).
fn length(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> ResponseHead {
        ResponseHead::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_parts_of_a_response_are_returned() {
        let r = head("HTTP/1.1 404 Not  Found \r\nX-A: one\r\nx-a: \ttwo \r\nContent-Length: 12\r\n\r\n");
        assert_eq!((r.status(), r.reason(), r.version()), (404, "Not  Found ", HttpVersion::Http11));
        assert_eq!((r.header("X-a"), r.header("X")), (Some("one"), None));
        assert_eq!(r.header_values("X-A").collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(r.headers().nth(1), Some(("x-a", b"two".as_slice())));
        assert_eq!(r.content_length(), Some(12));
        let bare = head("HTTP/1.0 200\r\n\r\n");
        assert_eq!((bare.status(), bare.reason(), bare.version()), (200, "", HttpVersion::Http10));
        assert_eq!((head("HTTP/1.1 500 caf\u{e9}\r\n\r\n").reason(), bare.content_length()), ("", None));
        let content_length =
            |value: &str| head(&format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\n")).content_length();
        for same in ["1", "1, 1", "1 ,\t01", "1\r\nContent-Length: 1"] {
            assert_eq!(content_length(same), Some(1), "{same:?}");
        }
        for invalid in ["-1", "+1", "1, 2", "1,", "1 1", "1\r\nContent-Length: 2", "99999999999999999999", ""] {
            assert_eq!(content_length(invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn debug_omits_secrets() {
        let text = format!("{:?}", head("HTTP/1.1 200 OK\r\nServer: shown\r\nset-cookie: hidden\r\n\r\n"));
        assert!(text.contains("shown") && text.contains("OK") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn malformed_heads_are_refused() {
        for bad in [
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 abc OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n A: b\r\n\r\n", // RFC 9112 2.2
            "HTTP/1.a 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        ] {
            assert_eq!(ResponseHead::parse(bad.as_bytes()).unwrap_err(), HeadError::Malformed, "{bad:?}");
        }
        for (bad, error) in [
            ("HTTP/1.1 200 OK\nA: b\r\n\r\n", HeadError::BareLf),
            ("HTTP/1.1 200 OK\rA: b\r\n\r\n", HeadError::BareCr),
            ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", HeadError::ControlCharacter),
            ("HTTP/1.1 200 OK\r\nA: b\r\n", HeadError::NotOneHead),
            ("HTTP/1.1 200 OK\r\n\r\nbody", HeadError::NotOneHead),
            ("", HeadError::NotOneHead),
        ] {
            assert_eq!(ResponseHead::parse(bad.as_bytes()).unwrap_err(), error, "{bad:?}");
        }
    }

    #[test]
    fn folded_lines_are_unfolded() {
        // RFC 9112 5.2.
        let r = head("HTTP/1.1 200 OK\r\nA: one\r\n two\r\n\tthree\r\nB:\r\n b\r\nC: c\r\n \r\nD: d\r\n\r\n");
        assert_eq!(
            r.header("A").map(|value| value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")),
            Some("one two three".into())
        );
        assert!(!r.header("A").unwrap().contains(['\r', '\n']));
        assert_eq!((r.header("B"), r.header("C"), r.header("D")), (Some("b"), Some("c"), Some("d")));
        assert_eq!(r.headers().count(), 4);
    }

    #[test]
    fn a_later_minor_version_is_taken_as_http_1_1() {
        for minor in 1..=9 {
            assert_eq!(head(&format!("HTTP/1.{minor} 101 S\r\n\r\n")).version(), HttpVersion::Http11);
        }
    }

    #[test]
    fn limits_on_the_head_are_exact() {
        let with_headers = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(ResponseHead::parse(with_headers(128).as_bytes()).is_ok());
        assert_eq!(ResponseHead::parse(with_headers(129).as_bytes()).unwrap_err(), HeadError::TooManyHeaders);
        let of_size = |size: usize| format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(size - 17));
        assert!(ResponseHead::parse(of_size(16 * 1024).as_bytes()).is_ok());
        assert_eq!(ResponseHead::parse(of_size(16 * 1024 + 1).as_bytes()).unwrap_err(), HeadError::TooLarge);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ResponseHead::parse(&bytes);
            let _ = ResponseHead::parse(&[b"HTTP/1.1 101 ".as_slice(), &bytes, b"\r\n\r\n"].concat());
        }
    }
}
