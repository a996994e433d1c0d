//! The request that asks for a WebSocket connection (RFC 6455 4.1).

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::redirect::credentials_allowed;
use super::url::Url;
use crate::protocol::http::{
    HeaderError, HeaderFields, MalformedList, extension_offers, is_field_value, is_secret, is_token, push_field,
};

/// What a client asks for when it connects.
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
    origin: Option<String>,
    subprotocols: Vec<String>,
    extensions: Option<String>,
    fields: HeaderFields,
}

impl ClientRequest {
    /// A request for this URL, with nothing that it does not need. The URL's user and password become `Authorization`.
    pub fn new(url: Url) -> ClientRequest {
        ClientRequest { url, origin: None, subprotocols: Vec::new(), extensions: None, fields: HeaderFields::default() }
    }

    /// Sets `Origin`, the site that the program acts for. Browsers send it, programs seldom have to.
    pub fn origin(mut self, origin: &str) -> ClientRequest {
        if is_field_value(origin.as_bytes()) {
            self.origin = Some(origin.to_owned());
        } else {
            self.fields.note(HeaderError::InvalidValue("Origin".to_owned()));
        }
        self
    }

    /// Offers a subprotocol, after those offered already: the one that the client likes best comes first.
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
    pub fn extensions(mut self, offers: &str) -> ClientRequest {
        let count = extension_offers(offers.as_bytes())
            .try_fold(0_usize, |count, offer| offer.map(|_| count.saturating_add(1)));
        match count {
            // RFC 6455 9.1: at least one extension.
            Ok(0) | Err(MalformedList) => {
                self.fields.note(HeaderError::InvalidValue("Sec-WebSocket-Extensions".to_owned()));
            }
            Ok(_) => self.extensions = Some(offers.trim_ascii().to_owned()),
        }
        self
    }

    /// Adds a header. A name that the library sets itself, and whatever would break the head, is an error, which
    /// [`check`](ClientRequest::check) and connecting return.
    ///
    /// `Authorization` takes the place of the URL's user and password. `Authorization`, `Proxy-Authorization` and
    /// `Cookie` do not follow a redirect to another origin.
    pub fn header(mut self, name: &str, value: &str) -> ClientRequest {
        if name.eq_ignore_ascii_case("Origin") {
            return self.origin(value); // RFC 6454 7.3: not more than one
        }
        if name.eq_ignore_ascii_case("Host") {
            self.fields.note(HeaderError::Reserved(name.to_owned())); // RFC 9112 3.2: the URL's
        } else {
            self.fields.push(name, value);
        }
        self
    }

    /// Checks what was added: headers, subprotocols, extensions, the origin.
    ///
    /// # Errors
    /// The first of them that can not be sent.
    pub fn check(&self) -> Result<(), HeaderError> {
        self.fields.check()
    }

    /// The URL that the request is for.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The subprotocols that are offered.
    pub fn offered_subprotocols(&self) -> impl Iterator<Item = &str> {
        self.subprotocols.iter().map(String::as_str)
    }

    /// The same request for the URL that a redirect leads to (see [`redirect`](super::redirect())). On another origin
    /// it has no credentials.
    pub fn redirected(&self, to: Url) -> ClientRequest {
        let mut request = self.clone();
        if !credentials_allowed(&self.url, &to) {
            request.fields.remove(&CREDENTIALS);
        }
        request.url = to;
        request
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// As [`check`](ClientRequest::check).
    ///
    /// `nonce` has to be from a good source of randomness and new for each connection, redirects included (RFC 6455
    /// 4.1, item 7).
    pub fn encode(&self, nonce: [u8; 16]) -> Result<Vec<u8>, HeaderError> {
        self.check()?;
        // A URL's target is visible ASCII: it can neither end the line nor the word.
        let mut head = format!("GET {} HTTP/1.1\r\n", self.url.target()).into_bytes();
        push_field(&mut head, "Host", &self.url.authority());
        push_field(&mut head, "Upgrade", "websocket");
        push_field(&mut head, "Connection", "Upgrade");
        push_field(&mut head, "Sec-WebSocket-Key", &key(nonce));
        push_field(&mut head, "Sec-WebSocket-Version", "13");
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

    /// Whether an extension of this name is offered.
    pub(super) fn offers_extension(&self, name: &str) -> bool {
        let offers = self.extensions.as_deref().unwrap_or_default();
        // RFC 6455 does not say that the names are case-insensitive.
        extension_offers(offers.as_bytes()).map_while(Result::ok).any(|offer| offer.name() == name)
    }
}

impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if is_secret(name) { "..." } else { value });
        f.debug_struct("ClientRequest")
            .field("url", &self.url)
            .field("origin", &self.origin)
            .field("subprotocols", &self.subprotocols)
            .field("extensions", &self.extensions)
            .field("headers", &self.fields.iter().map(shown).collect::<Vec<_>>())
            .finish()
    }
}

/// The value of `Sec-WebSocket-Key` (RFC 6455 4.1, item 7).
pub(super) fn key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// What another origin must not see.
const CREDENTIALS: [&str; 3] = ["Authorization", "Proxy-Authorization", "Cookie"];
