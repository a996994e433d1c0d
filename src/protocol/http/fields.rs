//! Header fields that the application adds to a request or response.

use core::fmt;

use super::head::is_secret;
use super::token::is_token;

/// Why a header or subprotocol cannot be added to a request or a response.
///
/// ```
/// use threadbare::{HeaderError, Response};
///
/// let response = Response::new(302).header("Location", "/next\r\nX-Injected: 1");
/// assert_eq!(response.check(), Err(HeaderError::InvalidValue("Location".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The header name is not a token (RFC 9110 5.1).
    InvalidName(String),
    /// The value of this header contains CR, LF, NUL or another control character, or begins or ends with a space or
    /// tab (RFC 9110 5.5).
    InvalidValue(String),
    /// The library sets this header itself: `Upgrade`, `Connection`, `Content-Length`, `Transfer-Encoding`,
    /// and `Sec-WebSocket-*`.
    Reserved(String),
    /// The subprotocol name is not a token (RFC 6455 4.1).
    InvalidSubprotocol(String),
    /// The subprotocol was already offered (RFC 6455 4.1).
    DuplicateSubprotocol(String),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::InvalidName(name) => write!(f, "{name:?} is not a header name"),
            HeaderError::InvalidValue(name) => write!(f, "the value for the header {name:?} is invalid"),
            HeaderError::Reserved(name) => write!(f, "the header {name:?} is set by the library only"),
            HeaderError::InvalidSubprotocol(name) => write!(f, "{name:?} is not a subprotocol's name"),
            HeaderError::DuplicateSubprotocol(name) => write!(f, "the subprotocol {name:?} is offered twice"),
        }
    }
}

impl core::error::Error for HeaderError {}

/// Valid header fields, and the first error if an invalid one was added.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct HeaderFields {
    fields: Vec<(String, String)>,
    error: Option<HeaderError>,
}

/// Formats the fields without the values that must not be logged, such as that of `Set-Cookie`.
impl fmt::Debug for HeaderFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.fields.iter().map(|(name, value)| (name, if is_secret(name) { "..." } else { value }));
        f.debug_list().entries(shown).entries(&self.error).finish()
    }
}

impl HeaderFields {
    /// Adds a header, or keeps the error if it is invalid.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        if let Err(error) = self.add(name, value) {
            self.note(error);
        }
    }

    /// Keeps the error, unless an earlier error is kept already.
    pub(crate) fn note(&mut self, error: HeaderError) {
        self.error.get_or_insert(error);
    }

    /// Returns the first error, if there was one.
    pub(crate) fn check(&self) -> Result<(), HeaderError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        if !is_token(name.as_bytes()) {
            return Err(HeaderError::InvalidName(name.to_owned()));
        }
        if !is_field_value(value.as_bytes()) {
            return Err(HeaderError::InvalidValue(name.to_owned()));
        }
        if is_reserved(name) {
            return Err(HeaderError::Reserved(name.to_owned()));
        }
        self.fields.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Sets a header and replaces its earlier values. Name and value are not checked.
    pub(super) fn set_trusted(&mut self, name: &'static str, value: &'static str) {
        self.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Removes the headers that have one of these names.
    pub(crate) fn remove(&mut self, names: &[&str]) {
        self.fields.retain(|(known, _)| !names.iter().any(|name| known.eq_ignore_ascii_case(name)));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn encode_into(&self, head: &mut Vec<u8>) {
        for (name, value) in &self.fields {
            push_field(head, name, value);
        }
    }
}

/// Appends one header line to `head`.
pub(crate) fn push_field(head: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
}

/// Returns whether this is a field value (RFC 9110 5.5): VCHAR and obs-text, with SP and HTAB only between them.
pub(crate) fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) && value.trim_ascii().len() == value.len()
}

/// Returns whether the library sets this header itself, because it determines the length of the message (RFC 9112 6) or
/// belongs to the opening handshake (RFC 6455 4.2.2).
fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 4] = ["Upgrade", "Connection", "Content-Length", "Transfer-Encoding"];
    const PREFIX: &str = "Sec-WebSocket-";
    NAMES.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_03_header_injection_is_refused() {
        let mut fields = HeaderFields::default();
        for name in ["", "a b", "a:", "a\r\nb", "caf\u{e9}", "a\0", " a"] {
            assert_eq!(fields.add(name, "v"), Err(HeaderError::InvalidName(name.into())), "{name:?}");
        }
        for value in ["a\r\nX: y", "a\nb", "a\r", "\0", "\x7f", "a\x1b[0m", " a", "a\t"] {
            assert_eq!(fields.add("X", value), Err(HeaderError::InvalidValue("X".into())), "{value:?}");
        }
        assert_eq!(fields, HeaderFields::default());
    }

    #[test]
    fn h_03_reserved_headers_are_refused() {
        let mut fields = HeaderFields::default();
        for name in [
            "upgrade",
            "CONNECTION",
            "Content-length",
            "transfer-encoding",
            "Sec-WebSocket-Accept",
            "sec-websocket-foo",
        ] {
            assert_eq!(fields.add(name, "v"), Err(HeaderError::Reserved(name.into())), "{name:?}");
        }
        for name in ["Sec-WebSocket", "X-Upgrade", "Set-Cookie"] {
            assert_eq!(fields.add(name, "a=b; c \u{e9}"), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn error_messages_name_the_header() {
        assert_eq!(HeaderError::InvalidName("a\r\n".into()).to_string(), r#""a\r\n" is not a header name"#);
        assert!(HeaderError::Reserved("Upgrade".into()).to_string().contains("\"Upgrade\""));
    }
}
