//! The server's side of the opening handshake: it receives a request and sends a 101 or a refusal (RFC 6455 4.2).
//!
//! ```
//! use threadbare::protocol::handshake::server::{self, Parsed};
//! use threadbare::protocol::http::{HeadLimits, HeadScanner};
//! use threadbare::{Accept, PeerAddr};
//!
//! let received = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
//! let mut scanner = HeadScanner::new(HeadLimits::default());
//! let size = scanner.scan(received)?.expect("it is complete");
//! let answer = match server::parse(&received[..size], PeerAddr::Unknown, &HeadLimits::default()) {
//!     Ok(Parsed::Upgrade(request)) => server::respond(&request, &Accept::new())?,
//!     Ok(_) => server::upgrade_required().encode(),
//!     Err(refusal) => refusal.encode(),
//! };
//! assert!(answer.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::accept::{Accept, AcceptError};
use super::accept_value;
use crate::protocol::http::{
    Authority, Framing, HeadLimits, HeadScanner, HttpVersion, MalformedList, Request, Response, contains_token,
    extension_offers, refuse, same_but_for_case, tokens,
};
use crate::protocol::peer_addr::PeerAddr;

/// The buffer of a 101 has an initial capacity of 256 bytes, which is enough with a subprotocol and an extension.
/// Larger wastes memory during a handshake; smaller adds allocations.
const USUAL_ANSWER_SIZE: usize = 256;

/// A valid request.
///
/// ```
/// use threadbare::PeerAddr;
/// use threadbare::protocol::handshake::server::{self, Parsed};
/// use threadbare::protocol::http::HeadLimits;
///
/// let head = b"GET /health HTTP/1.1\r\nHost: example.com\r\n\r\n";
/// match server::parse(head, PeerAddr::Unknown, &HeadLimits::default()) {
///     Ok(Parsed::Plain(request)) => assert_eq!(request.path(), "/health"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Clone, Debug)]
pub enum Parsed {
    /// An opening handshake that the server may accept.
    Upgrade(Request),
    /// A `GET` or `HEAD` without content that does not ask for a WebSocket connection.
    Plain(Request),
}

/// Parses and checks a complete request head. The error is the response to send before the connection is closed.
///
/// ```
/// use threadbare::PeerAddr;
/// use threadbare::protocol::handshake::server;
/// use threadbare::protocol::http::HeadLimits;
///
/// let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
/// let refusal = server::parse(head, PeerAddr::Unknown, &HeadLimits::default()).expect_err("the key is missing");
/// assert!((400..500).contains(&refusal.status()));
/// ```
pub fn parse(head: &[u8], addr: PeerAddr, limits: &HeadLimits) -> Result<Parsed, Box<Response>> {
    check(Request::parse_within(head, addr, limits)?, Serves::Upgrades)
}

/// Like [`parse`], for a head whose end `scanner` has found. The head is not scanned again.
pub(crate) fn parse_scanned(
    head: &[u8],
    scanner: &HeadScanner,
    addr: PeerAddr,
    serves: Serves,
) -> Result<Parsed, Box<Response>> {
    check(Request::parse_scanned(head, scanner, addr)?, serves)
}

/// What a server does with requests that are no opening handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// It refuses them, and receives no content.
    Upgrades,
    /// Its application answers those of every method, with their content.
    AllRequests,
}

fn check(request: Request, serves: Serves) -> Result<Parsed, Box<Response>> {
    let fields = Fields::of(&request);
    // RFC 6455 4.2.1, item 3. RFC 9110 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0
    // request."
    let is_http_1_1 = request.version() == HttpVersion::Http11;
    let is_plain = !fields.upgrades || !is_http_1_1;
    let serves = if is_plain { serves } else { Serves::Upgrades };
    check_method(&request, serves)?;
    check_host(&request, &fields.host)?;
    check_content(&request, &fields, serves)?;
    if is_plain {
        // A request with Sec-WebSocket-Key is an opening handshake that lost its Upgrade, for example in a proxy that
        // does not forward hop-by-hop fields or speaks HTTP/1.0, and not a request for a page.
        return match fields.key.first {
            None => Ok(Parsed::Plain(request)),
            Some(_) if is_http_1_1 => Err(Box::new(upgrade_required())),
            // RFC 6455 4.2.1, item 1: "An HTTP/1.1 or higher GET request".
            Some(_) => Err(refuse(505, "A WebSocket connection is opened by HTTP/1.1.")),
        };
    }
    check_upgrade(&request, &fields)?;
    check_version(&fields.version)?;
    check_key(&fields.key)?;
    if fields.has_subprotocols {
        check_subprotocols(&request)?;
    }
    if fields.has_extensions {
        check_extensions(&request)?;
    }
    Ok(Parsed::Upgrade(request))
}

/// The header fields that the handshake reads, collected in one pass.
#[derive(Default)]
struct Fields<'r> {
    host: Single<'r>,
    version: Single<'r>,
    key: Single<'r>,
    /// `Upgrade` contains the token `websocket`.
    upgrades: bool,
    /// `Connection` contains the token `Upgrade`.
    upgrade_is_meant: bool,
    has_subprotocols: bool,
    has_extensions: bool,
    /// There is a `Content-Length` or a `Transfer-Encoding`.
    is_framed: bool,
}

/// A field that must not appear more than once: RFC 6455 11.3.1 and 11.3.5 for key and version, RFC 9112 3.2 for Host.
#[derive(Default)]
struct Single<'r> {
    first: Option<&'r [u8]>,
    comes_again: bool,
}

impl<'r> Fields<'r> {
    fn of(request: &'r Request) -> Fields<'r> {
        let mut fields = Fields::default();
        for (name, value) in request.fields() {
            let is = |wanted: &str| same_but_for_case(name, wanted.as_bytes());
            if is("Host") {
                fields.host.add(value);
            } else if is("Upgrade") {
                fields.upgrades |= contains_token([value].into_iter(), "websocket");
            } else if is("Connection") {
                fields.upgrade_is_meant |= contains_token([value].into_iter(), "Upgrade");
            } else if is("Sec-WebSocket-Key") {
                fields.key.add(value);
            } else if is("Sec-WebSocket-Version") {
                fields.version.add(value);
            } else if is("Sec-WebSocket-Protocol") {
                fields.has_subprotocols = true;
            } else if is("Sec-WebSocket-Extensions") {
                fields.has_extensions = true;
            } else if is("Content-Length") || is("Transfer-Encoding") {
                fields.is_framed = true;
            }
        }
        fields
    }
}

impl<'r> Single<'r> {
    fn add(&mut self, value: &'r [u8]) {
        self.comes_again |= self.first.is_some();
        self.first.get_or_insert(value);
    }

    /// Returns the value of the field, whose name is used in the error.
    fn value(&self, name: &str) -> Result<Option<&'r [u8]>, Box<Response>> {
        if self.comes_again { Err(refuse(400, &format!("{name} comes more than once."))) } else { Ok(self.first) }
    }
}

/// Encodes the 101 that opens the connection.
///
/// `request` is the one in [`Parsed::Upgrade`].
///
/// ```
/// use threadbare::protocol::handshake::server::{self, Parsed};
/// use threadbare::protocol::http::HeadLimits;
/// use threadbare::{Accept, PeerAddr};
///
/// let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// let Ok(Parsed::Upgrade(request)) = server::parse(head, PeerAddr::Unknown, &HeadLimits::default()) else {
///     panic!("a handshake")
/// };
/// assert!(server::respond(&request, &Accept::new())?.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
/// # Ok::<(), threadbare::protocol::handshake::AcceptError>(())
/// ```
pub fn respond(request: &Request, accept: &Accept) -> Result<Vec<u8>, AcceptError> {
    respond_with(request, accept, None)
}

/// Encodes the 101 that opens the connection. `extensions` is the value of `Sec-WebSocket-Extensions` (RFC 6455 9.1).
///
/// ```
/// use threadbare::protocol::handshake::{AcceptError, server};
/// use threadbare::{Accept, Request};
///
/// fn answer(request: &Request) -> Result<Vec<u8>, AcceptError> {
///     server::respond_with(request, &Accept::new(), Some("permessage-deflate"))
/// }
/// ```
pub fn respond_with(request: &Request, accept: &Accept, extensions: Option<&str>) -> Result<Vec<u8>, AcceptError> {
    let key = request.header("Sec-WebSocket-Key").ok_or(AcceptError::NotAHandshake)?;
    accept.check().map_err(AcceptError::Header)?;
    let mut head = Vec::with_capacity(USUAL_ANSWER_SIZE);
    head.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    head.extend_from_slice(&accept_value(key));
    head.extend_from_slice(b"\r\n");
    if let Some(chosen) = accept.chosen_subprotocol() {
        // RFC 6455 4.2.2, /subprotocol/: "The value chosen MUST be derived from the client's handshake". An offer is a
        // token, so it cannot inject a header.
        let offered = request.subprotocols().find(|offer| *offer == chosen);
        let offered = offered.ok_or_else(|| AcceptError::SubprotocolNotOffered(chosen.to_owned()))?;
        for part in ["Sec-WebSocket-Protocol: ", offered, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }
    if let Some(extensions) = extensions {
        for part in ["Sec-WebSocket-Extensions: ", extensions, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }
    accept.fields().encode_into(&mut head);
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// Returns the first of the client's offers that is in `supported`.
///
/// RFC 6455 4.1: the client lists the subprotocols in its order of preference.
///
/// ```
/// use threadbare::Request;
/// use threadbare::protocol::handshake::select_subprotocol;
///
/// let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nSec-WebSocket-Protocol: chat.v2, chat.v1\r\n\r\n";
/// let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
/// assert_eq!(select_subprotocol(&request, &["chat.v1", "chat.v2"]), Some("chat.v2"));
/// ```
pub fn select_subprotocol<'r>(request: &'r Request, supported: &[impl AsRef<str>]) -> Option<&'r str> {
    request.subprotocols().find(|offer| supported.iter().any(|known| known.as_ref() == *offer))
}

/// Returns a 426, the response to a plain request at a server that only accepts WebSocket connections. Its headers name
/// the protocol to upgrade to (RFC 9110 15.5.22).
///
/// ```
/// use threadbare::protocol::handshake::server;
///
/// assert_eq!(server::upgrade_required().status(), 426);
/// ```
pub fn upgrade_required() -> Response {
    Response::new(426).text("This is a WebSocket server: `Upgrade: websocket` or `Connection: Upgrade` is missing.\n")
}

fn check_method(request: &Request, serves: Serves) -> Result<(), Box<Response>> {
    match (request.method(), serves) {
        ("GET" | "HEAD", _) => Ok(()),
        // RFC 9110 9.3.6: a 2xx to CONNECT would make a tunnel of the connection.
        ("CONNECT", Serves::AllRequests) => Err(refuse(501, "This server is no proxy.")),
        (_, Serves::AllRequests) => Ok(()),
        // RFC 9110 15.5.6: a 405 lists the allowed methods.
        ("POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH", Serves::Upgrades) => {
            Err(Box::new(refuse(405, "Only GET and HEAD are served here.").with("Allow", "GET, HEAD")))
        }
        // RFC 9110 15.6.2: "the server does not recognize the request method". 9.1: methods are case-sensitive.
        _ => Err(refuse(501, "This method is not known here.")),
    }
}

fn check_host(request: &Request, host: &Single<'_>) -> Result<(), Box<Response>> {
    match host.value("Host")? {
        Some(host) => Authority::parse(host).map(|_| ()).ok_or_else(|| refuse(400, "Host is malformed."))?, // RFC 9112 3.2
        // RFC 9112 3.2: 400 "to any HTTP/1.1 request message that lacks a Host header field".
        None if request.version() == HttpVersion::Http11 => return Err(refuse(400, "Host is missing.")),
        None => {}
    }
    let Some((scheme, authority)) = request.absolute_form() else {
        // RFC 9112 3.2.3 and 3.2.4: only CONNECT has the authority-form, and only OPTIONS the asterisk-form.
        return if request.target().starts_with('/') || (request.method(), request.target()) == ("OPTIONS", "*") {
            Ok(())
        } else {
            Err(refuse(400, "The request target is not a path."))
        };
    };
    // RFC 6455 4.1, item 3: the target is a path or an absolute http or https URI.
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(refuse(400, "The request target is neither a path nor an http URI."));
    }
    // RFC 9110 4.2.4: userinfo is an error. `Authority` does not parse it. RFC 9112 3.2.2: a server "MUST ignore the
    // received Host header field (if any) and instead use the host information of the request-target".
    match Authority::parse(authority.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(refuse(400, "The request target is malformed.")),
    }
}

/// Checks the framing, and refuses content unless it is received: the bytes would be read as frames or as a second request
/// (RFC 9112 11.2).
fn check_content(request: &Request, fields: &Fields<'_>, serves: Serves) -> Result<(), Box<Response>> {
    if fields.is_framed && Framing::of(request)?.is_some() && serves == Serves::Upgrades {
        return Err(refuse(400, "A request with content is not served here.")); // RFC 9110 9.3.1, RFC 9112 6.3
    }
    Ok(())
}

/// Checks method and `Connection` of a request with `Upgrade: websocket`.
fn check_upgrade(request: &Request, fields: &Fields<'_>) -> Result<(), Box<Response>> {
    // RFC 6455 4.2.1, item 1: "An HTTP/1.1 or higher GET request".
    if request.method() != "GET" {
        return Err(Box::new(refuse(405, "A WebSocket connection is opened by GET.").with("Allow", "GET")));
    }
    // RFC 6455 4.2.1, item 4. Without the connection option, Upgrade is not meant for this hop (RFC 9110 7.8) and is
    // ignored.
    if !fields.upgrade_is_meant {
        return Err(Box::new(upgrade_required()));
    }
    Ok(())
}

fn check_version(version: &Single<'_>) -> Result<(), Box<Response>> {
    // RFC 6455 4.2.2: "abort [...] and instead send an appropriate HTTP error code (such as 426 Upgrade Required) and a
    // |Sec-WebSocket-Version| header field". A request without a version is from a draft that did not have the field.
    match version.value("Sec-WebSocket-Version")? {
        Some(b"13") => Ok(()),
        _ => Err(Box::new(Response::new(426).text("Only Sec-WebSocket-Version 13 is spoken here.\n"))),
    }
}

fn check_key(key: &Single<'_>) -> Result<(), Box<Response>> {
    match key.value("Sec-WebSocket-Key")? {
        Some(key) if is_nonce(key) => Ok(()),
        Some(_) => Err(refuse(400, "Sec-WebSocket-Key is not 16 bytes in base64.")),
        None => Err(refuse(400, "Sec-WebSocket-Key is missing.")),
    }
}

fn check_subprotocols(request: &Request) -> Result<(), Box<Response>> {
    let lines = request.field_values("Sec-WebSocket-Protocol");
    // RFC 6455 4.1, item 10: "The elements that comprise this value MUST be non-empty strings with [...] U+0021 to
    // U+007E not including separator characters [...] and MUST all be unique strings."
    let malformed = |MalformedList| refuse(400, "Sec-WebSocket-Protocol is malformed.");
    let mut offers = lines.flat_map(tokens).collect::<Result<Vec<&str>, MalformedList>>().map_err(malformed)?;
    if offers.is_empty() {
        return Err(malformed(MalformedList));
    }
    offers.sort_unstable();
    if offers.windows(2).any(|pair| matches!(pair, [one, two] if one == two)) {
        return Err(refuse(400, "Sec-WebSocket-Protocol offers a subprotocol twice."));
    }
    Ok(())
}

fn check_extensions(request: &Request) -> Result<(), Box<Response>> {
    let lines = request.field_values("Sec-WebSocket-Extensions");
    // RFC 6455 9.1: a value that does not conform to the ABNF fails the handshake; an unknown extension does not.
    let offers =
        lines.flat_map(extension_offers).try_fold(0_usize, |count, offer| offer.map(|_| count.saturating_add(1)));
    match offers {
        Ok(0) | Err(MalformedList) => Err(refuse(400, "Sec-WebSocket-Extensions is malformed.")),
        Ok(_) => Ok(()),
    }
}

/// Returns whether `key` is a "base64-encoded [...] value that, when decoded, is 16 bytes in length" (RFC 6455 4.2.1,
/// item 5; RFC 4648 4).
///
/// The bytes are not decoded. The last four bits of the last character before the padding carry no data and may have
/// any value, because some clients choose random characters instead of random bytes.
fn is_nonce(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key.split_first_chunk::<22>(), Some((digits, b"==")) if digits.iter().all(is_digit))
}

#[cfg(test)]
mod tests;
