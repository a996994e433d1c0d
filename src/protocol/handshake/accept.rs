//! What the application says when it accepts a connection.

use core::fmt;

use crate::protocol::http::{HeaderError, HeaderFields};

/// The acceptance of an opening handshake, with what the application adds to the answer.
///
/// ```
/// use threadbare::Accept;
///
/// let accept = Accept::new().subprotocol("chat").header("Set-Cookie", "id=42; HttpOnly");
/// assert_eq!(accept.chosen_subprotocol(), Some("chat"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Accept {
    subprotocol: Option<String>,
    fields: HeaderFields,
}

impl Accept {
    /// Accepts without a subprotocol and without headers of its own.
    pub fn new() -> Accept {
        Accept::default()
    }

    /// Chooses the subprotocol. It must be one that the client offers, else the handshake is answered with 500.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Accept {
        self.subprotocol = Some(name.into());
        self
    }

    /// Adds a header. A name that the library sets itself, and whatever would break the head, is an error, which
    /// [`check`](Accept::check) returns; the handshake is then answered with 500.
    pub fn header(mut self, name: &str, value: &str) -> Accept {
        self.fields.push(name, value);
        self
    }

    /// Checks the headers that were added, for names and values that come from elsewhere.
    ///
    /// # Errors
    /// The first header that can not be sent.
    ///
    /// ```
    /// use threadbare::Accept;
    ///
    /// assert!(Accept::new().header("X-User", "anna").check().is_ok());
    /// assert!(Accept::new().header("X-User", "anna\r\nX-Admin: yes").check().is_err());
    /// ```
    pub fn check(&self) -> Result<(), HeaderError> {
        self.fields.check()
    }

    /// The subprotocol that was chosen.
    pub fn chosen_subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    pub(super) fn fields(&self) -> &HeaderFields {
        &self.fields
    }
}

/// Why an [`Accept`] can not be sent. The client gets a 500 instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptError {
    /// The client does not offer this subprotocol (RFC 6455 4.2.2).
    SubprotocolNotOffered(String),
    /// The request is no opening handshake: it has no `Sec-WebSocket-Key`.
    NotAHandshake,
    /// A header can not be sent.
    Header(HeaderError),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptError::SubprotocolNotOffered(name) => {
                write!(f, "the subprotocol {name:?} is not among those that the client offers")
            }
            AcceptError::NotAHandshake => f.write_str("the request is no opening handshake"),
            AcceptError::Header(_) => f.write_str("a header of the answer can not be sent"),
        }
    }
}

impl core::error::Error for AcceptError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            AcceptError::Header(error) => Some(error),
            AcceptError::SubprotocolNotOffered(_) | AcceptError::NotAHandshake => None,
        }
    }
}
