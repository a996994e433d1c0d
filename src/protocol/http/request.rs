//! A received request.

mod reading;

use core::any::Any;
use core::fmt;

use super::authority::Authority;
use super::head::{Head, Span};
use super::list::{ExtensionOffer, extension_offers, tokens};
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
    #[cfg(all(target_os = "linux", feature = "handover"))]
    handed_over: Option<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http10,
    Http11,
}

impl Request {
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

    /// Returns what the handler of another process has given for this one
    /// ([`Handler::hand_over`](crate::Handler::hand_over)), if another process has served the connection until now. The request
    /// has the head with which the client has opened the connection; its [`data`](Request::data) and
    /// [`socket_addr`](Request::socket_addr) are of the other process, and not here.
    ///
    /// ```
    /// use threadbare::Request;
    ///
    /// fn is_new(request: &Request) -> bool {
    ///     request.handed_over().is_none()
    /// }
    /// ```
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub fn handed_over(&self) -> Option<&[u8]> {
        self.parts.handed_over.as_deref()
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn set_handed_over(&mut self, bytes: Vec<u8>) {
        self.parts.handed_over = Some(bytes.into());
    }

    /// The bytes of the head, as they were received.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn head(&self) -> &[u8] {
        self.parts.head.as_bytes()
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

#[cfg(test)]
mod tests;
