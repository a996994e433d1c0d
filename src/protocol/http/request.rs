//! The head of a received request.

use core::any::Any;
use core::fmt;

use super::authority::Authority;
use super::head::{Head, Span, scan_whole};
use super::list::{ExtensionOffer, extension_offers, tokens};
use super::request_line::{as_http_1_1, is_target, names_other_version};
use super::response::{Response, refuse};
use super::scanner::{HeadError, HeadLimits, HeadScanner};
use crate::protocol::handshake::Data;
use crate::protocol::peer_addr::PeerAddr;
use crate::protocol::tls_info::TlsInfo;

/// The HTTP request with which a client opens a connection, or that it makes beside it.
///
/// Nothing is percent-decoded. Header names are case-insensitive.
///
/// ```
/// use threadbare::Request;
///
/// let head = b"GET /chat?room=7 HTTP/1.1\r\nHost: example.com\r\nCookie: id=42; theme=dark\r\n\r\n";
/// let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
/// assert_eq!(request.path(), "/chat");
/// assert_eq!(request.query(), Some("room=7"));
/// assert_eq!(request.cookie("id"), Some("42"));
/// ```
#[derive(Clone)]
pub struct Request {
    /// In a box, so that events that can contain a request are small.
    parts: Box<Parts>,
}

#[derive(Clone)]
struct Parts {
    head: Head,
    method: Span,
    target: Span,
    version: HttpVersion,
    addr: PeerAddr,
    /// The other end of the socket, where that is a proxy.
    socket_addr: Option<Box<PeerAddr>>,
    /// The value that the application kept with `Accept::data`.
    data: Option<Data>,
    tls: Option<Box<TlsInfo>>,
    body: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http10,
    Http11,
}

impl Request {
    /// Parses a complete head, including the empty line at its end, within the default [`HeadLimits`]. `addr` is the
    /// client's address.
    ///
    /// The error is the response to send. Only the syntax of the head is checked here, not whether it is an opening
    /// handshake.
    ///
    /// ```
    /// use threadbare::Request;
    ///
    /// let head = b"GET /chat HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// assert!(Request::parse(head, ([127, 0, 0, 1], 50_000).into()).is_ok());
    /// let refusal = Request::parse(b"hello\r\n\r\n", ([127, 0, 0, 1], 50_000).into()).expect_err("it is malformed");
    /// assert_eq!(refusal.status(), 400);
    /// ```
    pub fn parse(head: &[u8], addr: PeerAddr) -> Result<Request, Box<Response>> {
        Request::parse_within(head, addr, &HeadLimits::default())
    }

    pub(crate) fn parse_within(head: &[u8], addr: PeerAddr, limits: &HeadLimits) -> Result<Request, Box<Response>> {
        Request::parse_scanned(head, &scan_whole(head, HeadScanner::new(*limits))?, addr)
    }

    /// Parses a head whose end `scanner` has found, within the limits of `scanner`.
    pub(crate) fn parse_scanned(head: &[u8], scanner: &HeadScanner, addr: PeerAddr) -> Result<Request, Box<Response>> {
        let request = match Request::read(head, scanner, addr.clone()) {
            Err(Unread::Version) => match as_http_1_1(head) {
                Some(head) => Request::read(&head, scanner, addr)?,
                None => return Err(Unread::Version.into()),
            },
            request => request?,
        };
        if request.target().len() > scanner.limits().max_target_size {
            return Err(HeadError::TargetTooLong.into());
        }
        if !is_target(request.target().as_bytes()) {
            return Err(refuse(400, "The request target is malformed."));
        }
        Ok(request)
    }

    /// Parses a request that this client sends. It has no limits, because the application made it, and a target that a
    /// server may refuse.
    pub(crate) fn of_client(head: &[u8], addr: PeerAddr) -> Result<Request, Box<Response>> {
        let limits = HeadLimits { max_head_size: usize::MAX, max_headers: usize::MAX, max_target_size: usize::MAX };
        Ok(Request::read(head, &scan_whole(head, HeadScanner::new(limits))?, addr)?)
    }

    /// Parses a head, and checks its syntax but not its target.
    fn read(head: &[u8], scanner: &HeadScanner, addr: PeerAddr) -> Result<Request, Unread> {
        let (mut usual, mut many) = ([httparse::EMPTY_HEADER; USUAL_HEADERS], Vec::new());
        let lines = scanner.header_lines()?;
        let headers = match usual.get_mut(..lines) {
            Some(headers) => headers,
            None => {
                many.resize(lines, httparse::EMPTY_HEADER);
                &mut many
            }
        };
        let mut parsed = httparse::Request::new(headers);
        // RFC 9112 2.2, 3, 5: httparse also refuses obs-fold (5.2) and whitespace before the colon (5.1).
        parsed.parse(head).map_err(|error| match error {
            httparse::Error::Version if names_other_version(head) => Unread::Version,
            _ => Unread::Head(HeadError::Malformed),
        })?;

        let method = parsed.method.unwrap_or_default();
        let target = parsed.path.unwrap_or_default();
        let parts = Parts {
            method: Span::of(method.as_bytes(), head)?,
            target: Span::of(target.as_bytes(), head)?,
            version: if parsed.version == Some(1) { HttpVersion::Http11 } else { HttpVersion::Http10 },
            head: Head::new(head, parsed.headers)?,
            addr,
            socket_addr: None,
            data: None,
            tls: None,
            body: Box::default(),
        };
        Ok(Request { parts: Box::new(parts) })
    }

    /// Returns the method, which is `GET` in every opening handshake. The hook of
    /// [`ServerBuilder::http`](crate::ServerBuilder::http) is given requests of every method but `CONNECT`; it is a token, of
    /// whatever case.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET /chat HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // GET /chat HTTP/1.1
    /// assert_eq!(request.method(), "GET");
    /// ```
    pub fn method(&self) -> &str {
        self.parts.head.str(self.parts.method)
    }

    /// Returns the request target as it was received, such as `/chat?room=7`.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET /chat?room=7 HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // GET /chat?room=7 HTTP/1.1
    /// assert_eq!(request.target(), "/chat?room=7");
    /// ```
    pub fn target(&self) -> &str {
        self.parts.head.str(self.parts.target)
    }

    /// Returns the path of the target, without the query.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET /chat?room=7 HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // GET /chat?room=7 HTTP/1.1
    /// assert_eq!(request.path(), "/chat");
    /// ```
    pub fn path(&self) -> &str {
        match self.path_and_query().split('?').next() {
            // RFC 9110 4.2.3: "an empty path component is equivalent to an absolute path of '/'"
            None | Some("") => "/",
            Some(path) => path,
        }
    }

    /// Returns the query, which is the part of the target after its first `?`.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET /chat?room=7 HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // GET /chat?room=7 HTTP/1.1
    /// assert_eq!(request.query(), Some("room=7"));
    /// ```
    pub fn query(&self) -> Option<&str> {
        self.path_and_query().split_once('?').map(|(_, query)| query)
    }

    /// Returns the value of the first header line with this name. Values that are not UTF-8 are skipped;
    /// [`headers`](Request::headers) returns them.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nAuthorization: Bearer secret\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // Authorization: Bearer secret
    /// assert_eq!(request.header("authorization"), Some("Bearer secret"));
    /// assert_eq!(request.header("X-User"), None);
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.head.header(name)
    }

    /// Returns the values of all header lines with this name, except values that are not UTF-8.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nVia: 1.1 a\r\nVia: 1.1 b\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // Via: 1.1 a
    /// // Via: 1.1 b
    /// assert!(request.header_values("Via").eq(["1.1 a", "1.1 b"]));
    /// ```
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.parts.head.header_values(name)
    }

    /// Returns all header lines in their order.
    ///
    /// ```
    /// use threadbare::Request;
    ///
    /// fn print(request: &Request) {
    ///     for (name, value) in request.headers() {
    ///         println!("{name}: {}", value.escape_ascii());
    ///     }
    /// }
    /// ```
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.parts.head.headers()
    }

    /// Returns the value of the first cookie with this name, as it was received.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nCookie: id=42; theme=dark\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // Cookie: id=42; theme=dark
    /// assert_eq!(request.cookie("theme"), Some("dark"));
    /// ```
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Returns the names and values of the cookies (RFC 6265 4.2).
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nCookie: id=42; theme=dark\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // Cookie: id=42; theme=dark
    /// assert!(request.cookies().eq([("id", "42"), ("theme", "dark")]));
    /// ```
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.header_values("Cookie")
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.trim_ascii(), value.trim_ascii()))
    }

    /// Returns `Origin`, the site of the page that opens the connection. Browsers send it, other clients usually do
    /// not.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nOrigin: https://example.com\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // Origin: https://example.com
    /// assert_eq!(request.origin(), Some("https://example.com"));
    /// ```
    pub fn origin(&self) -> Option<&str> {
        self.header("Origin")
    }

    /// Returns the name and port of the server that the client connects to: `Host`, or what stands in a target in
    /// absolute-form, which decides (RFC 9112 3.2.2).
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // Host: example.com:8080
    /// assert_eq!(request.host(), Some("example.com:8080"));
    /// ```
    pub fn host(&self) -> Option<&str> {
        match self.absolute_form() {
            Some((_, authority)) => Some(authority),
            None => self.header("Host"),
        }
    }

    /// Returns the subprotocols that the client offers, in the client's order of preference.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nSec-WebSocket-Protocol: chat.v2, chat.v1\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // Sec-WebSocket-Protocol: chat.v2, chat.v1
    /// assert!(request.subprotocols().eq(["chat.v2", "chat.v1"]));
    /// ```
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.field_values("Sec-WebSocket-Protocol").flat_map(|line| tokens(line).map_while(Result::ok))
    }

    /// Returns the extensions that the client offers, in the client's order of preference.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// // Sec-WebSocket-Extensions: permessage-deflate
    /// assert!(request.extensions().any(|offer| offer.name() == "permessage-deflate"));
    /// ```
    pub fn extensions(&self) -> impl Iterator<Item = ExtensionOffer<'_>> {
        self.field_values("Sec-WebSocket-Extensions").flat_map(|line| extension_offers(line).map_while(Result::ok))
    }

    /// Returns the value that the request hook kept with [`Accept::data`](crate::Accept::data), if it is a `T`.
    ///
    /// ```
    /// use threadbare::Request;
    ///
    /// struct User(String);
    ///
    /// fn name(request: &Request) -> &str {
    ///     request.data().map_or("nobody", |User(name)| name)
    /// }
    /// ```
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.parts.data.as_ref()?.get()
    }

    /// Returns the content of the request, decoded if it was sent in chunks. It is empty in an opening handshake, and has at most
    /// [`Config::max_body_size`](crate::Config::max_body_size) bytes.
    ///
    /// ```
    /// use threadbare::{Request, Response};
    ///
    /// fn log_in(request: &Request) -> Response {
    ///     match (request.method(), request.body()) {
    ///         ("POST", b"secret") => Response::new(204),
    ///         ("POST", _) => Response::new(403),
    ///         _ => Response::new(405).header("Allow", "POST"),
    ///     }
    /// }
    /// ```
    pub fn body(&self) -> &[u8] {
        &self.parts.body
    }

    pub(crate) fn set_body(&mut self, body: Vec<u8>) {
        self.parts.body = body.into();
    }

    /// Returns the bytes of memory that the request takes, without the application's data.
    pub(crate) fn size(&self) -> usize {
        let tls = self.parts.tls.as_ref().map_or(0, |tls| tls.size());
        size_of::<Parts>() + self.parts.head.size() + self.parts.body.len() + tls
    }

    pub(crate) fn set_tls(&mut self, tls: TlsInfo) {
        self.parts.tls = Some(Box::new(tls));
    }

    /// Returns what was agreed on in the TLS handshake; `None` without TLS.
    ///
    /// ```
    /// use threadbare::Request;
    ///
    /// fn is_encrypted(request: &Request) -> bool {
    ///     request.tls().is_some()
    /// }
    /// ```
    #[must_use]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.parts.tls.as_deref()
    }

    pub(crate) fn set_data(&mut self, data: Option<Data>) {
        self.parts.data = data;
    }

    /// Returns the address of the client, as [`client_addr`](Request::client_addr) does. It has the name of
    /// [`Peer::addr`](crate::Peer::addr), which is the same.
    ///
    /// ```
    /// # use threadbare::Request;
    /// # let head = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// # let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// assert_eq!(request.addr().ip(), Some([127, 0, 0, 1].into()));
    /// ```
    pub fn addr(&self) -> &PeerAddr {
        &self.parts.addr
    }

    /// Returns the address of the client: what [`trusted_proxies`](crate::ServerBuilder::trusted_proxies) or the PROXY
    /// protocol of [`proxy_protocol`](crate::ServerBuilder::proxy_protocol) say, else the other end of the socket. The port
    /// is 0 if a proxy does not tell it. [`PeerAddr::Unknown`] if a trusted proxy hides the address.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    /// use threadbare::{ForwardedHeader, Response, Server};
    ///
    /// let server = Server::builder()
    ///     .trusted_proxies(ForwardedHeader::XForwardedFor, ["127.0.0.1"])
    ///     .http(|request| Response::new(200).text(&request.client_addr().to_string()))
    ///     .bind("127.0.0.1:0")?;
    /// let mut stream = TcpStream::connect(server.local_addr())?; // this is the proxy
    /// stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n\r\n")?;
    /// let mut answer = String::new();
    /// stream.read_to_string(&mut answer)?;
    /// assert!(answer.ends_with("\r\n\r\n192.0.2.1:0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client_addr(&self) -> &PeerAddr {
        &self.parts.addr
    }

    /// Returns the address of the other end of the socket, which is a proxy if there is one in front of the server.
    ///
    /// ```
    /// use threadbare::Request;
    ///
    /// fn came_through_a_proxy(request: &Request) -> bool {
    ///     request.socket_addr() != request.client_addr()
    /// }
    /// ```
    pub fn socket_addr(&self) -> &PeerAddr {
        self.parts.socket_addr.as_deref().unwrap_or(&self.parts.addr)
    }

    pub(crate) fn set_client_addr(&mut self, addr: PeerAddr) {
        self.parts.addr = addr;
    }

    pub(crate) fn set_socket_addr(&mut self, addr: PeerAddr) {
        self.parts.socket_addr = Some(Box::new(addr));
    }

    pub(crate) fn version(&self) -> HttpVersion {
        self.parts.version
    }

    /// Returns the names and values of all header lines in their order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parts.head.fields()
    }

    /// Returns the values of all header lines with this name.
    pub(crate) fn field_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.parts.head.field_values(name)
    }

    /// Returns [`host`](Request::host), parsed; `None` if it is missing or malformed.
    pub(crate) fn authority(&self) -> Option<Authority<'_>> {
        match self.absolute_form() {
            Some((_, authority)) => Authority::parse(authority.as_bytes()),
            None => self.field_values("Host").next().and_then(Authority::parse),
        }
    }

    /// Returns the scheme and authority of a target in absolute-form (RFC 9112 3.2.2).
    pub(crate) fn absolute_form(&self) -> Option<(&str, &str)> {
        let target = self.target();
        if target.starts_with('/') {
            return None;
        }
        let (scheme, rest) = target.split_once("://")?;
        Some((scheme, rest.split(['/', '?']).next().unwrap_or_default()))
    }

    fn path_and_query(&self) -> &str {
        let Some((scheme, authority)) = self.absolute_form() else { return self.target() };
        self.target()
            .get(scheme.len().saturating_add("://".len()).saturating_add(authority.len())..)
            .unwrap_or_default()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("headers", &self.parts.head)
            .field("addr", &self.parts.addr)
            .field("body", &self.parts.body.len())
            .finish()
    }
}

/// Why a request head can not be read.
enum Unread {
    /// It has another version than HTTP/1.0 and HTTP/1.1.
    Version,
    Head(HeadError),
}

impl From<HeadError> for Unread {
    fn from(error: HeadError) -> Unread {
        Unread::Head(error)
    }
}

impl From<Unread> for Box<Response> {
    fn from(unread: Unread) -> Box<Response> {
        match unread {
            Unread::Version => refuse(505, "HTTP/1.1 is spoken here."), // RFC 9110 15.6.6
            Unread::Head(error) => error.into(),
        }
    }
}

/// Up to 16 header lines are parsed without an allocation, which is enough for the request of a browser. Larger uses
/// more stack; smaller adds allocations.
const USUAL_HEADERS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr() -> PeerAddr {
        ([127, 0, 0, 1], 9).into()
    }

    fn request(head: &str) -> Request {
        Request::parse(head.as_bytes(), addr()).unwrap()
    }

    #[test]
    fn the_size_grows_with_the_bytes_and_with_the_header_lines() {
        let size = |headers: &str| request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).size();
        let (none, one, long, two) = (size(""), size("A: b\r\n"), size("A: bcd\r\n"), size("A: b\r\nC: d\r\n"));
        assert!(none > size_of::<Parts>() && long == one + 2 && one > none + 6 && two - one == one - none);
    }

    fn status(head: &[u8]) -> u16 {
        Request::parse(head, addr()).unwrap_err().status()
    }

    #[test]
    fn the_parts_of_a_request_are_returned() {
        let r = request(
            "GET /chat/a%20b?x=1?y HTTP/1.1\r\nHost: h:1\r\nX-A:  one \r\norigin: http://h\r\nx-a:\r\nX-A: \ttwo\t\r\n\
             Cookie: a=1; b=\"2\";c=d=e ; junk\r\nCookie: a=3\r\n\
             Sec-WebSocket-Protocol: chat, superchat\r\nsec-websocket-protocol: third\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; x=1\r\n\r\n",
        );
        assert_eq!(
            (r.method(), r.target(), r.path(), r.query()),
            ("GET", "/chat/a%20b?x=1?y", "/chat/a%20b", Some("x=1?y"))
        );
        assert_eq!((r.host(), r.origin(), r.addr()), (Some("h:1"), Some("http://h"), &addr()));
        assert_eq!((r.header("X-a"), r.header("X-B")), (Some("one"), None));
        assert_eq!(r.header_values("x-A").collect::<Vec<_>>(), ["one", "", "two"]);
        assert_eq!(r.headers().nth(1), Some(("X-A", b"one".as_slice())));
        assert_eq!(r.cookies().collect::<Vec<_>>(), [("a", "1"), ("b", "\"2\""), ("c", "d=e"), ("a", "3")]);
        assert_eq!((r.cookie("a"), r.cookie("A")), (Some("1"), None));
        assert_eq!(r.subprotocols().collect::<Vec<_>>(), ["chat", "superchat", "third"]);
        assert_eq!(r.extensions().map(|offer| offer.name().to_owned()).collect::<Vec<_>>(), ["permessage-deflate"]);
        assert_eq!(r.version(), HttpVersion::Http11);
    }

    #[test]
    fn targets_in_absolute_form_are_split_into_path_and_query() {
        for (target, path, query) in [
            ("http://h/a?b", "/a", Some("b")),
            ("http://h", "/", None),
            ("http://h?b", "/", Some("b")),
            ("/a?u=http://h/x", "/a", Some("u=http://h/x")),
            ("*", "*", None),
        ] {
            let r = request(&format!("GET {target} HTTP/1.0\r\n\r\n"));
            assert_eq!((r.path(), r.query()), (path, query), "{target}");
        }
    }

    #[test]
    fn values_that_are_not_utf_8_are_returned_as_bytes() {
        let r =
            Request::parse(b"GET / HTTP/1.1\r\nX: caf\xe9\r\nX: b\r\nSec-WebSocket-Protocol: caf\xe9\r\n\r\n", addr())
                .unwrap();
        assert_eq!(r.headers().next(), Some(("X", b"caf\xe9".as_slice())));
        assert_eq!(r.header("X"), Some("b"));
        assert_eq!(r.subprotocols().count(), 0);
    }

    #[test]
    fn debug_omits_secrets() {
        let text =
            format!("{:?}", request("GET /p HTTP/1.1\r\nHost: shown\r\nauthorization: hid1\r\nCOOKIE: hid2\r\n\r\n"));
        assert!(text.contains("shown") && text.contains("/p") && !text.contains("hid"), "{text}");
    }

    #[test]
    fn malformed_heads_are_refused() {
        for (expected, head) in [
            (400, "GET / HTTP/1.1\r\nA : b\r\n\r\n"),      // space before the colon
            (400, "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"), // obs-fold
            (400, "GET / HTTP/1.1\r\n A: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nno colon\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nA: b\n\r\n"),
            (400, "GET / HTTP/1.1\r\nA: \0\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nA: b\r\n"),
            (400, "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), // two
            (400, "GET /\r\n\r\n"),
            (400, "GET  / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1 \r\n\r\n"),
            (400, "GET / http/1.1\r\n\r\n"),
            (400, "GET / HTTP/11\r\n\r\n"),
            (400, "G@T / HTTP/1.1\r\n\r\n"),
            (400, "GET /a#b HTTP/1.1\r\n\r\n"),
            (400, "GET /caf\u{e9} HTTP/1.1\r\n\r\n"),
            (400, "GET /a b HTTP/1.1\r\n\r\n"),
            (400, ""),
            (400, "GET /a b HTTP/2.0\r\n\r\n"),
            (505, "GET / HTTP/2.0\r\n\r\n"),
            (505, "GET / HTTP/0.9\r\n\r\n"),
            (505, "\r\nPRI * HTTP/2.0\r\n\r\n"),
            (400, "GET / HTTP/1.22\r\n\r\n"),
        ] {
            assert_eq!(status(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn t_11_limits_on_the_head_are_exact() {
        let limits = HeadLimits::default();
        let with_headers = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(Request::parse(with_headers(limits.max_headers).as_bytes(), addr()).is_ok());
        assert_eq!(status(with_headers(limits.max_headers + 1).as_bytes()), 431);
        assert_eq!(status(with_headers(2_000).as_bytes()), 431);

        let with_target = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(length - 1));
        assert!(Request::parse(with_target(limits.max_target_size).as_bytes(), addr()).is_ok());
        assert_eq!(status(with_target(limits.max_target_size + 1).as_bytes()), 414);
        assert_eq!(status(with_target(limits.max_head_size * 2).as_bytes()), 414);
    }

    #[test]
    fn targets_are_uris_or_what_browsers_send() {
        for good in ["/", "/a-b.c_~!$&'()*+,;=:@/%7f%Ff", "/|^[]", "/?a=|^`{}[]/?:@%20", "http://[::1]:80/x?y"] {
            assert!(is_target(good.as_bytes()), "{good}");
        }
        for bad in [
            "/\"", "/<", "/>", "/\\", "/%", "/%4", "/%zz", "/%4g", "/?%zz", "/?\"", "/?<", "/?>", "/?\\", "/{", "/`",
            "/#a", "/?a#b",
        ] {
            assert!(!is_target(bad.as_bytes()), "{bad}");
            assert_eq!(status(format!("GET {bad} HTTP/1.1\r\n\r\n").as_bytes()), 400, "{bad}");
        }
    }

    #[test]
    fn a_later_minor_version_is_taken_as_http_1_1() {
        for (line, version) in [
            ("GET / HTTP/1.2", HttpVersion::Http11),
            ("\r\nGET / HTTP/1.9", HttpVersion::Http11),
            ("GET / HTTP/1.0", HttpVersion::Http10),
        ] {
            let r = request(&format!("{line}\r\nX: HTTP/1.2\r\n\r\n"));
            assert_eq!((r.version(), r.target(), r.header("X")), (version, "/", Some("HTTP/1.2")), "{line:?}");
        }
    }

    #[test]
    fn the_clients_own_request_has_no_limits() {
        let head = format!("GET /{} HTTP/1.1\r\n{}\r\n", "\"<".repeat(9_000), "a: b\r\n".repeat(200));
        let own = Request::of_client(head.as_bytes(), addr()).unwrap();
        assert_eq!((own.target().len(), own.headers().count()), (18_001, 200));
        assert_eq!(status(head.as_bytes()), 414);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::parse(&bytes, addr());
        }

        #[test]
        fn headers_are_parsed_as_they_were_written(
            headers in proptest::collection::vec(("[a-zA-Z-]{1,9}", "([!-~]([ -~]{0,20}[!-~])?)?"), 0..20),
        ) {
            let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let r = request(&format!("GET / HTTP/1.1\r\n{lines}\r\n"));
            let given: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            prop_assert_eq!(r.headers().collect::<Vec<_>>(), given);
        }
    }
}
