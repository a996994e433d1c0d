//! The client's request of the opening handshake (RFC 6455 4.1).

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::redirect::credentials_allowed;
use super::url::Url;
use crate::protocol::http::{
    Authority, HeaderError, HeaderFields, MalformedList, extension_offers, is_field_value, is_secret, is_token,
    push_field,
};

/// The request with which a client opens a connection.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use threadbare::protocol::handshake::client::{ClientRequest, Url};
///
/// let request = ClientRequest::new(Url::parse("wss://example.com/chat")?)
///     .subprotocol("chat.v2")
///     .header("Cookie", "id=42");
/// assert!(request.check().is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ClientRequest {
    url: Url,
    /// The application's `Host`, in place of the URL's.
    host: Option<String>,
    origin: Option<String>,
    subprotocols: Vec<String>,
    extensions: Option<String>,
    fields: HeaderFields,
}

impl ClientRequest {
    /// Creates a request for this URL with the required headers only. The URL's user and password are sent in
    /// `Authorization`.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com/chat")?);
    /// assert_eq!(request.url().target(), "/chat");
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn new(url: Url) -> ClientRequest {
        ClientRequest {
            url,
            host: None,
            origin: None,
            subprotocols: Vec::new(),
            extensions: None,
            fields: HeaderFields::default(),
        }
    }

    /// Sets `Origin`, the site for which the client acts. Browsers send it, other clients usually do not have to.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?).origin("https://example.com");
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn origin(mut self, origin: &str) -> ClientRequest {
        if is_field_value(origin.as_bytes()) {
            self.origin = Some(origin.to_owned());
        } else {
            self.fields.note(HeaderError::InvalidValue("Origin".to_owned()));
        }
        self
    }

    /// Offers a subprotocol. Call this in the client's order of preference.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?).subprotocol("chat.v2").subprotocol("chat.v1");
    /// assert!(request.offered_subprotocols().eq(["chat.v2", "chat.v1"]));
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn subprotocol(mut self, name: &str) -> ClientRequest {
        // RFC 6455 4.1, item 10: "MUST be non-empty strings with [...] U+0021 to U+007E not including separator
        // characters [...] and MUST all be unique strings."
        if !is_token(name.as_bytes()) {
            self.fields.note(HeaderError::InvalidSubprotocol(name.to_owned()));
        } else if self.subprotocols.iter().any(|known| known == name) {
            self.fields.note(HeaderError::DuplicateSubprotocol(name.to_owned()));
        } else {
            self.subprotocols.push(name.to_owned());
        }
        self
    }

    /// Sets the value of `Sec-WebSocket-Extensions`, such as `permessage-deflate; client_max_window_bits`.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?).extensions("permessage-deflate");
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn extensions(mut self, offers: &str) -> ClientRequest {
        let count = extension_offers(offers.as_bytes())
            .try_fold(0_usize, |count, offer| offer.map(|_| count.saturating_add(1)));
        match count {
            // RFC 6455 9.1: the list has at least one element.
            Ok(0) | Err(MalformedList) => {
                self.fields.note(HeaderError::InvalidValue("Sec-WebSocket-Extensions".to_owned()));
            }
            Ok(_) => self.extensions = Some(offers.trim_ascii().to_owned()),
        }
        self
    }

    /// Adds a header. If the name or the value is invalid, or the library sets this header itself,
    /// [`check`](ClientRequest::check) and connecting return an error.
    ///
    /// `Host` replaces the URL's host and port, for a server behind a gateway or one that was found by its address; the
    /// connection still goes to the URL's. `User-Agent` replaces the library's name and version. `Authorization` replaces the
    /// URL's user and password. `Authorization`, `Proxy-Authorization`, `Cookie` and a `Host` of one's own are not sent after a
    /// redirect to another origin.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?).header("Authorization", "Bearer secret");
    /// assert!(request.check().is_ok());
    /// let sent = request.clone().header("Host", "api.example.com").encode(*b"the sample nonce")?;
    /// assert!(String::from_utf8(sent)?.contains("\r\nHost: api.example.com\r\n"));
    /// assert!(request.header("Upgrade", "h2c").check().is_err()); // the library sets it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn header(mut self, name: &str, value: &str) -> ClientRequest {
        if name.eq_ignore_ascii_case("Origin") {
            return self.origin(value); // RFC 6454 7.3: at most one
        }
        if !name.eq_ignore_ascii_case("Host") {
            self.fields.push(name, value);
        } else if Authority::parse(value.as_bytes()).is_some() {
            self.host = Some(value.to_owned()); // RFC 9112 3.2: at most one
        } else {
            self.fields.note(HeaderError::InvalidValue(name.to_owned()));
        }
        self
    }

    /// Checks the headers, subprotocols, extensions and the origin that were added.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?);
    /// assert!(request.clone().subprotocol("chat").check().is_ok());
    /// assert!(request.subprotocol("not a token").check().is_err());
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    ///
    /// # Errors
    /// Returns the error of the first one that cannot be sent.
    pub fn check(&self) -> Result<(), HeaderError> {
        self.fields.check()
    }

    /// Returns the URL of the request.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?);
    /// assert_eq!((request.url().host(), request.url().port()), ("example.com", 80)); // where to connect
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the subprotocols that the request offers.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?).subprotocol("chat");
    /// assert_eq!(request.offered_subprotocols().next(), Some("chat"));
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn offered_subprotocols(&self) -> impl Iterator<Item = &str> {
        self.subprotocols.iter().map(String::as_str)
    }

    /// Returns the same request for the URL of a redirect (see [`redirect`](super::redirect())), without credentials if
    /// that URL has another origin.
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com")?).header("Cookie", "id=42");
    /// let redirected = request.redirected(Url::parse("ws://example.org")?).encode(*b"the sample nonce")?;
    /// assert!(!String::from_utf8_lossy(&redirected).contains("Cookie")); // it is another origin
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn redirected(&self, to: Url) -> ClientRequest {
        let mut request = self.clone();
        if !credentials_allowed(&self.url, &to) {
            request.fields.remove(&CREDENTIALS);
            request.host = None; // it names a server at the first origin
        }
        request.url = to;
        request
    }

    /// Encodes the request.
    ///
    /// `nonce` must be random and must be new for each connection, including redirects (RFC 6455 4.1, item 7).
    ///
    /// ```
    /// use threadbare::{ClientRequest, Url};
    ///
    /// let request = ClientRequest::new(Url::parse("ws://example.com/chat")?);
    /// let nonce = *b"the sample nonce"; // a random one for each connection
    /// assert!(request.encode(nonce)?.starts_with(b"GET /chat HTTP/1.1\r\nHost: example.com\r\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`check`](ClientRequest::check).
    pub fn encode(&self, nonce: [u8; 16]) -> Result<Vec<u8>, HeaderError> {
        self.check()?;
        // A URL's target is visible ASCII, so it cannot end the request target or the request line.
        let mut head = format!("GET {} HTTP/1.1\r\n", self.url.target()).into_bytes();
        push_field(&mut head, "Host", self.host.as_deref().unwrap_or(&self.url.authority()));
        push_field(&mut head, "Upgrade", "websocket");
        push_field(&mut head, "Connection", "Upgrade");
        push_field(&mut head, "Sec-WebSocket-Key", &key(nonce));
        push_field(&mut head, "Sec-WebSocket-Version", "13");
        // RFC 9110 10.1.5: "A user agent SHOULD send a User-Agent header field in each request".
        if !self.fields.contains("User-Agent") {
            push_field(&mut head, "User-Agent", USER_AGENT);
        }
        if !self.subprotocols.is_empty() {
            push_field(&mut head, "Sec-WebSocket-Protocol", &self.subprotocols.join(", "));
        }
        if let Some(offers) = &self.extensions {
            push_field(&mut head, "Sec-WebSocket-Extensions", offers);
        }
        if let Some(origin) = &self.origin {
            push_field(&mut head, "Origin", origin);
        }
        match self.url.credentials() {
            Some(credentials) if !self.fields.contains("Authorization") => {
                push_field(&mut head, "Authorization", &credentials.basic());
            }
            _ => {}
        }
        self.fields.encode_into(&mut head);
        head.extend_from_slice(b"\r\n");
        Ok(head)
    }

    /// Returns whether the request offers an extension with this name.
    pub(super) fn offers_extension(&self, name: &str) -> bool {
        let offers = self.extensions.as_deref().unwrap_or_default();
        // RFC 6455 does not say how names of extensions compare. Servers differ in how they write them.
        extension_offers(offers.as_bytes()).map_while(Result::ok).any(|offer| offer.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if is_secret(name) { "..." } else { value });
        f.debug_struct("ClientRequest")
            .field("url", &self.url)
            .field("host", &self.host)
            .field("origin", &self.origin)
            .field("subprotocols", &self.subprotocols)
            .field("extensions", &self.extensions)
            .field("headers", &self.fields.iter().map(shown).collect::<Vec<_>>())
            .finish()
    }
}

/// The library and its version, in the form of RFC 9110 10.1.5.
const USER_AGENT: &str = concat!("threadbare/", env!("CARGO_PKG_VERSION"));

/// Returns the value of `Sec-WebSocket-Key` (RFC 6455 4.1, item 7).
pub(super) fn key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// The headers that must not be sent to another origin.
const CREDENTIALS: [&str; 3] = ["Authorization", "Proxy-Authorization", "Cookie"];
