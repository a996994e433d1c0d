//! The client's side of the opening handshake: it sends a request and receives a 101 or a refusal (RFC 6455 4.1).
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use threadbare::protocol::handshake::client::{self, ClientRequest, Url};
//! use threadbare::protocol::http::{HeadLimits, ResponseReader};
//!
//! let request = ClientRequest::new(Url::parse("ws://server.example.com/chat")?);
//! let nonce = *b"the sample nonce"; // a random one for each connection
//! let sent = request.encode(nonce)?;
//! assert!(sent.starts_with(b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\n"));
//!
//! let received = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x02hi";
//! let mut reader = ResponseReader::new(HeadLimits::default());
//! let (response, size) = reader.read(received)?.expect("it is complete");
//! let agreed = client::verify(response, &request, nonce)?;
//! assert_eq!((agreed.subprotocol(), &received[size..]), (None, b"\x81\x02hi".as_slice()));
//! # Ok(())
//! # }
//! ```

pub mod proxy;

mod error;
mod idn;
mod redirect;
mod request;
mod site;
mod url;

pub use error::{HandshakeError, REFUSAL_BODY, Refusal};
pub use redirect::{RedirectError, credentials_allowed, redirect};
pub use request::ClientRequest;
pub use url::{Url, UrlError};

use super::accept_value;
use crate::protocol::http::{HttpVersion, MalformedList, ResponseHead, contains_token, extension_offers};

/// The result of a successful handshake: what client and server have negotiated.
///
/// ```
/// use threadbare::protocol::handshake::client::Agreed;
///
/// fn print(agreed: &Agreed) {
///     println!("{:?} {:?}", agreed.subprotocol(), agreed.extensions());
///     println!("served by {:?}", agreed.response().header("Server"));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Agreed {
    response: ResponseHead,
    subprotocol: Option<String>,
}

impl Agreed {
    /// Returns the subprotocol that the server chose from the client's offers.
    ///
    /// ```
    /// use threadbare::protocol::handshake::client::Agreed;
    ///
    /// fn speaks_second_version(agreed: &Agreed) -> bool {
    ///     agreed.subprotocol() == Some("chat.v2")
    /// }
    /// ```
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns the value of `Sec-WebSocket-Extensions`. It is well-formed and contains only extensions that were
    /// offered; their parameters were not checked.
    ///
    /// ```
    /// use threadbare::protocol::handshake::client::Agreed;
    ///
    /// fn is_compressed(agreed: &Agreed) -> bool {
    ///     agreed.extensions().is_some_and(|extensions| extensions.starts_with("permessage-deflate"))
    /// }
    /// ```
    pub fn extensions(&self) -> Option<&str> {
        self.response.header("Sec-WebSocket-Extensions")
    }

    /// Returns the server's response, with all its headers.
    ///
    /// ```
    /// use threadbare::protocol::handshake::client::Agreed;
    ///
    /// fn cookies(agreed: &Agreed) -> Vec<String> {
    ///     agreed.response().header_values("Set-Cookie").map(str::to_owned).collect()
    /// }
    /// ```
    pub fn response(&self) -> &ResponseHead {
        &self.response
    }
}

/// Checks the server's response to `request`, which was encoded with `nonce`.
///
/// ```
/// use threadbare::protocol::handshake::client::{self, ClientRequest, HandshakeError, Url};
/// use threadbare::protocol::http::ResponseHead;
///
/// let request = ClientRequest::new(Url::parse("ws://example.com")?);
/// let response = ResponseHead::parse(b"HTTP/1.1 403 Forbidden\r\n\r\n")?;
/// match client::verify(response, &request, *b"the sample nonce") {
///     Err(HandshakeError::Refused(refusal)) => assert_eq!(refusal.status(), 403),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(response: ResponseHead, request: &ClientRequest, nonce: [u8; 16]) -> Result<Agreed, HandshakeError> {
    if response.status() != 101 {
        return Err(not_switching(response));
    }
    if response.version() != HttpVersion::Http11 {
        return Err(HandshakeError::Http10);
    }
    check_upgrade(&response)?;
    check_accept(&response, nonce)?;
    check_extensions(&response, request)?;
    let subprotocol = chosen_subprotocol(&response, request)?;
    // A Transfer-Encoding or a Content-Length means nothing in it. RFC 9112 6.3, item 1: a 1xx response "is always
    // terminated by the first empty line after the header fields, regardless of the header fields present".
    Ok(Agreed { response, subprotocol })
}

/// Returns the error for a status other than 101. RFC 6455 4.1, response item 1: "If the status code received from the
/// server is not 101, the client handles the response per HTTP procedures." The caller decides whether it follows
/// redirects.
fn not_switching(response: ResponseHead) -> HandshakeError {
    let status = response.status();
    let location = {
        let mut values = response.field_values("Location");
        match (values.next().map(core::str::from_utf8), values.next()) {
            (Some(Ok(location)), None) if redirect::is_redirect(status) => Some(location.to_owned()),
            _ => None,
        }
    };
    match location {
        Some(location) => HandshakeError::Redirect { status, location },
        None => HandshakeError::Refused(Box::new(Refusal::new(response))),
    }
}

fn check_upgrade(response: &ResponseHead) -> Result<(), HandshakeError> {
    // RFC 6455 4.1, response item 2: fail if it is missing "or the |Upgrade| header field contains a value that is not
    // an ASCII case-insensitive match for the value "websocket"".
    let mut upgrades = response.field_values("Upgrade");
    match (upgrades.next(), upgrades.next()) {
        (Some(value), None) if value.eq_ignore_ascii_case(b"websocket") => {}
        _ => return Err(HandshakeError::Upgrade(joined(response, "Upgrade"))),
    }
    // RFC 6455 4.1, response item 3: fail if it is missing or "doesn't contain a token that is an ASCII
    // case-insensitive match for the value "Upgrade"".
    if !contains_token(response.field_values("Connection"), "upgrade") {
        return Err(HandshakeError::Connection(joined(response, "Connection")));
    }
    Ok(())
}

/// Checks `Sec-WebSocket-Accept`. RFC 6455 4.1, response item 4: fail if it is missing or "contains a value other than
/// the base64-encoded SHA-1 of the concatenation" of key and GUID.
fn check_accept(response: &ResponseHead, nonce: [u8; 16]) -> Result<(), HandshakeError> {
    match single(response, "Sec-WebSocket-Accept")? {
        None => Err(HandshakeError::AcceptMissing),
        Some(value) if value == accept_value(&request::key(nonce)) => Ok(()),
        Some(value) => Err(HandshakeError::Accept(lossy(value))),
    }
}

/// Checks `Sec-WebSocket-Extensions`. RFC 6455 4.1, response item 5: fail if it "indicates the use of an extension that
/// was not present in the client's handshake".
fn check_extensions(response: &ResponseHead, request: &ClientRequest) -> Result<(), HandshakeError> {
    let Some(value) = single(response, "Sec-WebSocket-Extensions")? else { return Ok(()) };
    let malformed = || HandshakeError::MalformedExtensions(lossy(value));
    let mut used = 0_usize;
    for extension in extension_offers(value) {
        let extension = extension.map_err(|MalformedList| malformed())?;
        if !request.offers_extension(extension.name()) {
            return Err(HandshakeError::Extension(extension.name().to_owned()));
        }
        used = used.saturating_add(1);
    }
    // RFC 6455 9.1: the list has at least one element.
    if used == 0 { Err(malformed()) } else { Ok(()) }
}

/// Checks `Sec-WebSocket-Protocol`. RFC 6455 4.1, response item 6: fail if it "indicates the use of a subprotocol that
/// was not present in the client's handshake". The caller decides whether it accepts a server that chooses none.
fn chosen_subprotocol(response: &ResponseHead, request: &ClientRequest) -> Result<Option<String>, HandshakeError> {
    let Some(value) = single(response, "Sec-WebSocket-Protocol")? else { return Ok(None) };
    match request.offered_subprotocols().find(|offered| offered.as_bytes() == value) {
        Some(chosen) => Ok(Some(chosen.to_owned())),
        None => Err(HandshakeError::Subprotocol(lossy(value))),
    }
}

/// Returns the value of a field that must not appear more than once in a response (RFC 6455 11.3.2 to 11.3.4).
fn single<'r>(response: &'r ResponseHead, name: &'static str) -> Result<Option<&'r [u8]>, HandshakeError> {
    let mut values = response.field_values(name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(HandshakeError::Repeated(name)),
    }
}

/// Returns all values of this field for an error message.
fn joined(response: &ResponseHead, name: &str) -> Option<String> {
    let values: Vec<_> = response.field_values(name).map(lossy).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests;
