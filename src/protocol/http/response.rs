//! HTTP responses without an upgrade, including refusals of the opening handshake.

use super::date::HttpDate;
use super::fields::{HeaderError, HeaderFields, push_field};
use super::scanner::HeadError;

/// A complete HTTP response. It answers a plain request, or refuses an opening handshake, after which the connection is closed.
///
/// The library adds `Connection: close` where it closes, `Content-Length`, and `Date` unless the application has set it, and
/// to a 426 also `Upgrade` and `Sec-WebSocket-Version`.
///
/// ```
/// use threadbare::Response;
///
/// let page = Response::new(200).html("<h1>Hello</h1>");
/// let teapot = Response::new(418).header("X-Pot", "short and stout").text("I am a teapot");
/// assert_eq!((page.status(), teapot.status()), (200, 418));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Response {
    status: u16,
    fields: HeaderFields,
    body: Vec<u8>,
}

impl Response {
    /// Creates a response with this status code and no body.
    ///
    /// A status code that is not final (100 to 199) or not valid (below 100, above 599) becomes 500, so that a refusal
    /// is never a 101.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// assert_eq!(Response::new(404).status(), 404);
    /// assert_eq!(Response::new(101).status(), 500); // not final
    /// ```
    pub fn new(status: u16) -> Response {
        let status = if (200..=599).contains(&status) { status } else { 500 };
        Response { status, fields: HeaderFields::default(), body: Vec::new() }
    }

    /// Adds a header. If the name or the value is invalid, or the library sets this header itself,
    /// [`check`](Response::check) returns an error and the response is sent as a 500 without a body.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// let response = Response::new(401).header("WWW-Authenticate", "Bearer");
    /// assert!(response.check().is_ok());
    /// ```
    pub fn header(mut self, name: &str, value: &str) -> Response {
        self.fields.push(name, value);
        self
    }

    /// Checks the headers that were added. Call this if their names or values are not constants.
    ///
    /// # Errors
    /// Returns the error of the first header that cannot be sent.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// let location = "/next\r\nX-Injected: 1";
    /// assert!(Response::new(302).header("Location", location).check().is_err());
    /// ```
    pub fn check(&self) -> Result<(), HeaderError> {
        self.fields.check()
    }

    /// Sets the body without a `Content-Type`.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// let response = Response::new(200).header("Content-Type", "application/json").body(r#"{"up":true}"#);
    /// ```
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.body = body.into();
        self
    }

    /// Sets the body and `Content-Type: text/plain; charset=utf-8`.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// let response = Response::new(403).text("this room is full\n");
    /// ```
    pub fn text(mut self, text: &str) -> Response {
        self.fields.set_trusted("Content-Type", "text/plain; charset=utf-8");
        self.body(text)
    }

    /// Sets the body and `Content-Type: text/html; charset=utf-8`.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// let page = Response::new(200).html("<!doctype html><title>Chat</title><h1>Chat</h1>");
    /// ```
    pub fn html(mut self, page: &str) -> Response {
        self.fields.set_trusted("Content-Type", "text/html; charset=utf-8");
        self.body(page)
    }

    /// Sets the body, which is JSON, and `Content-Type: application/json`. The text is sent as it is.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// let response = Response::new(200).json(r#"{"connections":42}"#);
    /// ```
    pub fn json(mut self, text: impl Into<Vec<u8>>) -> Response {
        self.fields.set_trusted("Content-Type", "application/json"); // RFC 8259 11: without a charset
        self.body(text)
    }

    /// Returns the status code.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// assert_eq!(Response::new(429).status(), 429);
    /// ```
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the body.
    pub(crate) fn content(&self) -> &[u8] {
        &self.body
    }

    /// Encodes head and body, without a `Date`: only a server without a clock omits it.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// let sent = Response::new(200).text("up\n").encode();
    /// assert!(sent.starts_with(b"HTTP/1.1 200 OK\r\n") && sent.ends_with(b"\r\n\r\nup\n"));
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(None, Content::Whole, Persistence::Close)
    }

    /// Encodes the response to a `HEAD` request: the head of [`encode`](Response::encode), with the same
    /// `Content-Length`, and no body.
    ///
    /// ```
    /// use threadbare::Response;
    ///
    /// let sent = Response::new(200).text("up\n").encode_head();
    /// assert!(sent.starts_with(b"HTTP/1.1 200 OK\r\n") && sent.ends_with(b"\r\n\r\n"));
    /// ```
    pub fn encode_head(&self) -> Vec<u8> {
        self.encode_with(None, Content::Omitted, Persistence::Close)
    }

    /// Like [`encode`](Response::encode), with `Date`. `now` is the time at which the response is made.
    ///
    /// ```
    /// use threadbare::Response;
    /// use threadbare::protocol::http::HttpDate;
    ///
    /// let head = Response::new(204).encode_at(HttpDate::from_unix(784_111_777));
    /// let expected = "HTTP/1.1 204 No Content\r\nConnection: close\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
    /// assert_eq!(head, expected.as_bytes());
    /// ```
    pub fn encode_at(&self, now: HttpDate) -> Vec<u8> {
        self.encode_with(Some(now), Content::Whole, Persistence::Close)
    }

    /// Like [`encode_head`](Response::encode_head), with `Date`.
    ///
    /// ```
    /// use threadbare::Response;
    /// use threadbare::protocol::http::HttpDate;
    ///
    /// let (page, now) = (Response::new(200).html("<h1>Hello</h1>"), HttpDate::from_unix(784_111_777));
    /// assert!(page.encode_at(now).starts_with(&page.encode_head_at(now)));
    /// ```
    pub fn encode_head_at(&self, now: HttpDate) -> Vec<u8> {
        self.encode_with(Some(now), Content::Omitted, Persistence::Close)
    }

    /// Like [`encode_at`](Response::encode_at), with or without the body, and for a connection that may stay open.
    pub(crate) fn encode_with(&self, date: Option<HttpDate>, content: Content, persistence: Persistence) -> Vec<u8> {
        if self.check().is_err() {
            return Response::new(500).encode_with(date, content, persistence);
        }
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status)).into_bytes();
        // RFC 9110 15.5.22: "MUST send an Upgrade header field in a 426 response"; 7.8: and the connection option
        // "upgrade". One line, for some clients read only the first. RFC 9112 9.3: without `close`, a connection of HTTP/1.1
        // persists.
        match (persistence, self.status) {
            (Persistence::Close, 426) => push_field(&mut head, "Connection", "close, Upgrade"),
            (Persistence::Close, _) => push_field(&mut head, "Connection", "close"),
            (Persistence::KeepAlive, 426) => push_field(&mut head, "Connection", "Upgrade"),
            (Persistence::KeepAlive, _) => {}
        }
        match date {
            // RFC 9110 6.6.1: "An origin server with a clock [...] MUST generate a Date header field".
            Some(date) if !self.fields.contains("Date") => push_field(&mut head, "Date", &date.to_string()),
            _ => {}
        }
        if self.status == 426 {
            push_field(&mut head, "Upgrade", "websocket");
            push_field(&mut head, "Sec-WebSocket-Version", "13"); // RFC 6455 4.4
        }
        if !matches!(self.status, 204 | 304) {
            // RFC 9110 8.6: a 204 has no Content-Length; in a 304 it would be the length of the response with status
            // 200.
            let length = if self.may_have_content() { self.body.len() } else { 0 };
            push_field(&mut head, "Content-Length", &length.to_string());
        }
        self.fields.encode_into(&mut head);
        head.extend_from_slice(b"\r\n");
        if matches!(content, Content::Whole) && self.may_have_content() {
            head.extend_from_slice(&self.body);
        }
        head
    }

    /// Returns whether a response with this status has content (RFC 9110 6.4.1 and 15.3.6).
    fn may_have_content(&self) -> bool {
        !matches!(self.status, 204 | 205 | 304)
    }

    /// Sets a header of the library, whose name and value are not checked.
    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Response {
        self.fields.set_trusted(name, value);
        self
    }
}

/// What of the body is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    Whole,
    /// Nothing: it answers `HEAD`.
    Omitted,
}

/// Whether the connection stays open after a response.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Persistence {
    Close,
    KeepAlive,
}

/// Creates a refusal whose body tells the developer of the client what is wrong.
pub(crate) fn refuse(status: u16, why: &str) -> Box<Response> {
    Box::new(Response::new(status).text(&format!("{why}\n")))
}

/// Returns the reason phrase of a status code, from the IANA registry of HTTP status codes.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        // RFC 9112 4: the reason phrase may be empty, but the space before it is required.
        _ => "",
    }
}

/// Converts the error of a request head into the response to send.
impl From<HeadError> for Box<Response> {
    fn from(error: HeadError) -> Box<Response> {
        let status = match error {
            // RFC 6585 5: "unwilling to process the request because its header fields are too large".
            HeadError::TooLarge | HeadError::TooManyHeaders => 431,
            HeadError::TargetTooLong => 414, // RFC 9112 3
            // RFC 9112 3: 501 for "a method longer than any that it implements".
            HeadError::MethodTooLong => 501,
            HeadError::BareCr
            | HeadError::BareLf
            | HeadError::ControlCharacter
            | HeadError::EmptyLines
            | HeadError::NotOneHead
            | HeadError::Malformed => 400,
        };
        refuse(status, &format!("The request is refused: {error}."))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(response: &Response) -> String {
        String::from_utf8(response.encode()).unwrap()
    }

    #[test]
    fn a_response_has_status_line_headers_and_body() {
        let response = Response::new(404).header("X-A", "b c").text("no such room\n");
        assert_eq!(
            encoded(&response),
            "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 13\r\nX-A: b c\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\nno such room\n"
        );
        assert_eq!(encoded(&Response::new(599)), "HTTP/1.1 599 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn every_registered_status_has_its_reason_phrase() {
        let phrases = [
            (200..207, "OK Created Accepted Non-Authoritative-Information No-Content Reset-Content Partial-Content"),
            (300..305, "Multiple-Choices Moved-Permanently Found See-Other Not-Modified"),
            (307..309, "Temporary-Redirect Permanent-Redirect"),
            (400..405, "Bad-Request Unauthorized Payment-Required Forbidden Not-Found"),
            (405..409, "Method-Not-Allowed Not-Acceptable Proxy-Authentication-Required Request-Timeout"),
            (409..413, "Conflict Gone Length-Required Precondition-Failed"),
            (413..416, "Content-Too-Large URI-Too-Long Unsupported-Media-Type"),
            (416..418, "Range-Not-Satisfiable Expectation-Failed"),
            (421..423, "Misdirected-Request Unprocessable-Content"),
            (425..427, "Too-Early Upgrade-Required"),
            (428..430, "Precondition-Required Too-Many-Requests"),
            (431..432, "Request-Header-Fields-Too-Large"),
            (451..452, "Unavailable-For-Legal-Reasons"),
            (500..504, "Internal-Server-Error Not-Implemented Bad-Gateway Service-Unavailable"),
            (504..506, "Gateway-Timeout HTTP-Version-Not-Supported"),
            (511..512, "Network-Authentication-Required"),
        ];
        for (statuses, words) in phrases {
            let found: Vec<String> = statuses.map(|status| reason_phrase(status).replace(' ', "-")).collect();
            assert_eq!(found.join(" "), words);
        }
    }

    #[test]
    fn encode_head_is_the_head_of_encode() {
        let response = Response::new(200).html("<p>hi");
        let head = response.encode_head();
        assert!(response.encode().starts_with(&head) && response.encode().ends_with(b"\r\n\r\n<p>hi"));
        assert!(head.ends_with(b"\r\n\r\n"));
        assert!(String::from_utf8(head).unwrap().contains("Content-Length: 5\r\n"));
    }

    #[test]
    fn responses_with_status_204_205_or_304_have_no_body() {
        for status in [204, 304] {
            let text = encoded(&Response::new(status).body("x"));
            assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length"), "{text}");
        }
        assert!(encoded(&Response::new(205).body("x")).ends_with("Content-Length: 0\r\n\r\n"));
    }

    #[test]
    fn h_02_a_refusal_is_never_a_101() {
        for status in [0, 99, 100, 101, 199, 600, u16::MAX] {
            assert_eq!(Response::new(status).status(), 500);
        }
        assert_eq!(Response::new(200).status(), 200);
    }

    #[test]
    fn a_426_has_upgrade_and_sec_websocket_version() {
        let text = encoded(&Response::new(426));
        assert!(text.contains("\r\nUpgrade: websocket\r\n") && text.contains("\r\nSec-WebSocket-Version: 13\r\n"));
        assert!(text.contains("\r\nConnection: close, Upgrade\r\n"));
        assert_eq!(text.matches("Connection:").count(), 1);
    }

    #[test]
    fn a_response_on_a_connection_that_stays_has_no_connection_header() {
        let kept = |response: Response, content| {
            String::from_utf8(response.encode_with(None, content, Persistence::KeepAlive)).unwrap()
        };
        let page = Response::new(200).json(r#"{"a":1}"#);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Type: application/json\r\n\r\n";
        assert_eq!(kept(page.clone(), Content::Whole), format!("{head}{{\"a\":1}}"));
        assert_eq!(kept(page, Content::Omitted), head);
        assert!(kept(Response::new(426), Content::Whole).contains("\r\nConnection: Upgrade\r\n"));
        assert_eq!(kept(Response::new(204), Content::Whole), "HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn date_is_that_of_the_application_or_of_the_caller() {
        let (now, date) = (HttpDate::from_unix(784_111_777), "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        let shown = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        for status in [200, 302, 404, 426, 500] {
            let response = Response::new(status).text("x");
            assert!(shown(response.encode_at(now)).contains(date));
            assert!(response.encode_at(now).starts_with(&response.encode_head_at(now)));
            assert!(!encoded(&response).contains("Date"));
        }
        let own = shown(Response::new(200).header("date", "Thu, 01 Jan 1970 00:00:00 GMT").encode_at(now));
        assert!(own.contains("\r\ndate: Thu, 01 Jan") && !own.contains("Date:"), "{own}");
        assert!(shown(Response::new(200).header("X", "\n").encode_at(now)).contains(date));
    }

    #[test]
    fn a_response_with_an_invalid_header_is_sent_as_a_500() {
        let response = Response::new(302).header("Location", "/a\r\nX-Injected: 1").header("X", "y").text("moved");
        assert_eq!(response.check(), Err(HeaderError::InvalidValue("Location".into())));
        assert_eq!(response.encode(), Response::new(500).encode());
        assert_eq!(response.encode_head(), Response::new(500).encode_head());
    }

    #[test]
    fn text_replaces_the_content_type() {
        let text = encoded(&Response::new(200).header("content-type", "a/b").text("x"));
        assert!(!text.contains("a/b"));
        let text = encoded(&Response::new(200).header("Content-Type", "a/b").body("x"));
        assert!(text.contains("Content-Type: a/b\r\n"));
    }

    proptest! {
        #[test]
        fn a_28_the_emitted_head_holds_exactly_the_given_headers(
            given in proptest::collection::vec(("[!-~]{1,8}|X-[a-z]{1,5}", "\\PC{0,20}|[ -~\r\n\t\0]{0,9}"), 0..6),
            body in "\\PC{0,20}",
        ) {
            let mut response = Response::new(403).body(body.clone());
            let mut expected = vec![
                ("Connection".to_owned(), "close".to_owned()),
                ("Content-Length".to_owned(), body.len().to_string()),
            ];
            for (name, value) in given {
                let with = response.clone().header(&name, &value);
                if with.check().is_ok() {
                    response = with;
                    expected.push((name, value));
                }
            }
            let bytes = response.encode();
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut parsed = httparse::Response::new(&mut headers);
            let length = parsed.parse(&bytes).unwrap().unwrap();
            let found: Vec<_> = parsed.headers.iter().map(|header| (header.name, header.value)).collect();
            let expected: Vec<_> = expected.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(&bytes[length..], body.as_bytes());
        }
    }
}
