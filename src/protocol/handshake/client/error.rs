//! Errors of the opening handshake.

use core::fmt;

use crate::protocol::http::{Body, ResponseError, ResponseHead};

/// The opening handshake failed: the connection is closed (RFC 6455 4.1: "_Fail the WebSocket Connection_").
///
/// ```
/// use threadbare::{Client, ConnectError, HandshakeError, Response, Server};
///
/// let log_in = || Response::new(401).header("WWW-Authenticate", "Bearer"); // RFC 9110 15.5.2 requires the header
/// let server = Server::builder().on_request(move |_| Err(log_in())).bind("127.0.0.1:0")?;
/// match Client::connect(&format!("ws://{}", server.local_addr())) {
///     Err(ConnectError::Handshake { source: HandshakeError::Refused(refusal), .. }) => {
///         assert_eq!(refusal.status(), 401); // the client has to log in
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server did not send a complete HTTP response.
    Response(ResponseError),
    /// The server answered with a status other than 101.
    Refused(Box<Refusal>),
    /// The server redirects the client. [`redirect`](super::redirect()) returns the new URL.
    Redirect {
        /// The status code: 301, 302, 303, 307 or 308.
        status: u16,
        /// The value of `Location`.
        location: String,
    },
    /// The 101 has the version HTTP/1.0, which has no upgrade (RFC 9110 7.8).
    Http10,
    /// `Upgrade` is missing or is not `websocket`.
    Upgrade(Option<String>),
    /// `Connection` is missing or does not contain `Upgrade`.
    Connection(Option<String>),
    /// `Sec-WebSocket-Accept` is missing.
    AcceptMissing,
    /// `Sec-WebSocket-Accept` does not match the request's `Sec-WebSocket-Key`.
    Accept(String),
    /// This header appears more than once.
    Repeated(&'static str),
    /// The server chose a subprotocol that was not offered.
    Subprotocol(String),
    /// The server chose an extension that was not offered.
    Extension(String),
    /// The server's answer to the offer of permessage-deflate is invalid (RFC 7692 5.1, 7.1).
    Compression(String),
    /// The value of `Sec-WebSocket-Extensions` is malformed.
    MalformedExtensions(String),
}

impl HandshakeError {
    /// Adds the first [`REFUSAL_BODY`] bytes of the response body to a refusal. `received` is what the server sent after
    /// the head; a chunked body is decoded (RFC 9112 7.1).
    ///
    /// ```
    /// use threadbare::protocol::handshake::client::{self, ClientRequest, HandshakeError, Url};
    /// use threadbare::protocol::http::ResponseHead;
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?);
    /// let response = ResponseHead::parse(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 12\r\n\r\n")?;
    /// let error = client::verify(response, &request, *b"the sample nonce").expect_err("it is refused");
    /// let HandshakeError::Refused(refusal) = error.with_body(b"log in first") else { panic!("a refusal") };
    /// assert_eq!(refusal.body(), b"log in first");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_body(mut self, received: &[u8]) -> HandshakeError {
        if let HandshakeError::Refused(refusal) = &mut self {
            refusal.body = Body::read(&refusal.head, received, REFUSAL_BODY).content;
        }
        self
    }

    /// Returns whether this is a refusal of whose body more is to come, and wanted. `received` is what the server sent
    /// after the head.
    ///
    /// ```
    /// use threadbare::protocol::handshake::client::{self, ClientRequest, Url};
    /// use threadbare::protocol::http::ResponseHead;
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?);
    /// let response = ResponseHead::parse(b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    /// let error = client::verify(response, &request, *b"the sample nonce").expect_err("it is refused");
    /// assert!(error.awaits_body(b"4\r\ngone\r\n") && !error.awaits_body(b"4\r\ngone\r\n0\r\n\r\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn awaits_body(&self, received: &[u8]) -> bool {
        match self {
            HandshakeError::Refused(refusal) => !Body::read(&refusal.head, received, REFUSAL_BODY).complete,
            _ => false,
        }
    }
}

/// At most 1024 bytes of a refusal's body are kept.
///
/// ```
/// use threadbare::Refusal;
/// use threadbare::protocol::handshake::client::REFUSAL_BODY;
///
/// /// Whether the body may be longer than what was kept.
/// fn may_be_cut(refusal: &Refusal) -> bool {
///     refusal.body().len() == REFUSAL_BODY
/// }
/// ```
pub const REFUSAL_BODY: usize = 1024;

impl From<ResponseError> for HandshakeError {
    fn from(error: ResponseError) -> HandshakeError {
        HandshakeError::Response(error)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Response(_) => f.write_str("the server does not answer as it should"),
            HandshakeError::Refused(refusal) => refusal.fmt(f),
            HandshakeError::Redirect { status, location } => {
                write!(f, "the server redirects to {location:?} ({status})")
            }
            HandshakeError::Http10 => f.write_str("the server switches protocols in HTTP/1.0"),
            HandshakeError::Upgrade(None) => f.write_str("the server's 101 has no Upgrade header"),
            HandshakeError::Upgrade(Some(value)) => write!(f, "the server upgrades to {value:?}, not to websocket"),
            HandshakeError::Connection(None) => f.write_str("the server's 101 has no Connection header"),
            HandshakeError::Connection(Some(value)) => {
                write!(f, "the Connection header of the server's 101 is {value:?}, without Upgrade")
            }
            HandshakeError::AcceptMissing => f.write_str("the server's 101 has no Sec-WebSocket-Accept header"),
            HandshakeError::Accept(value) => {
                write!(f, "the server's Sec-WebSocket-Accept {value:?} does not answer the request's key")
            }
            HandshakeError::Repeated(name) => write!(f, "the server's 101 has more than one {name} header"),
            HandshakeError::Subprotocol(name) => write!(f, "the server chooses the subprotocol {name:?}, not offered"),
            HandshakeError::Extension(name) => write!(f, "the server uses the extension {name:?}, not offered"),
            HandshakeError::Compression(why) => write!(f, "the server's permessage-deflate can not be: {why}"),
            HandshakeError::MalformedExtensions(value) => {
                write!(f, "the server's Sec-WebSocket-Extensions {value:?} is malformed")
            }
        }
    }
}

impl core::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            HandshakeError::Response(error) => Some(error),
            _ => None,
        }
    }
}

/// A response with a status other than 101.
///
/// ```
/// use threadbare::Refusal;
///
/// fn print(refusal: &Refusal) {
///     println!("{} {}", refusal.status(), refusal.head().reason());
///     println!("{}", String::from_utf8_lossy(refusal.body()));
/// }
/// ```
#[derive(Clone)]
pub struct Refusal {
    head: ResponseHead,
    body: Vec<u8>,
}

/// Shows the body as text, for it is often a page that says why.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("head", &self.head).field("body", &String::from_utf8_lossy(&self.body)).finish()
    }
}

impl Refusal {
    pub(super) fn new(head: ResponseHead) -> Refusal {
        Refusal { head, body: Vec::new() }
    }

    /// Returns the status code.
    ///
    /// ```
    /// use threadbare::Refusal;
    ///
    /// fn must_log_in(refusal: &Refusal) -> bool {
    ///     refusal.status() == 401
    /// }
    /// ```
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// Returns status, reason phrase and headers.
    ///
    /// ```
    /// use threadbare::Refusal;
    ///
    /// fn scheme(refusal: &Refusal) -> Option<&str> {
    ///     refusal.head().header("WWW-Authenticate")
    /// }
    /// ```
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Returns the bytes of the body that were read, at most [`REFUSAL_BODY`].
    ///
    /// ```
    /// use threadbare::Refusal;
    ///
    /// fn explanation(refusal: &Refusal) -> String {
    ///     String::from_utf8_lossy(refusal.body()).into_owned()
    /// }
    /// ```
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answers {}", StatusLine(&self.head))?;
        let body = String::from_utf8_lossy(&self.body);
        let mut shown: String = body.trim().chars().take(SHOWN_BODY).collect();
        if shown.is_empty() {
            return Ok(());
        }
        if shown.len() < body.trim().len() {
            shown.push_str("...");
        }
        write!(f, ": {shown:?}") // escaped, because it may contain any characters
    }
}

/// Formats status code and reason phrase.
pub(super) struct StatusLine<'a>(pub(super) &'a ResponseHead);

impl fmt::Display for StatusLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.status())?;
        match self.0.reason().trim() {
            "" => Ok(()),
            reason => write!(f, " {reason}"), // visible ASCII
        }
    }
}

/// An error message contains at most 200 characters of the body.
const SHOWN_BODY: usize = 200;
