//! What the application says when it accepts a connection.

use core::fmt;

use crate::protocol::http::{HeaderError, HeaderFields};

/// The acceptance of an opening handshake, with what the application adds to the answer.
///
/// ```
/// # fn main() -> Result<(), threadbare::HeaderError> {
/// use threadbare::Accept;
///
/// let accept = Accept::new().subprotocol("chat").header("Set-Cookie", "id=42; HttpOnly")?;
/// # assert_eq!(accept.chosen_subprotocol(), Some("chat"));
/// # Ok(())
/// # }
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

    /// Adds a header. Names that the library sets itself and whatever would break the head are refused.
    pub fn header(mut self, name: &str, value: &str) -> Result<Accept, HeaderError> {
        self.fields.add(name, value)?;
        Ok(self)
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
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptError::SubprotocolNotOffered(name) => {
                write!(f, "the subprotocol {name:?} is not among those that the client offers")
            }
            AcceptError::NotAHandshake => f.write_str("the request is no opening handshake"),
        }
    }
}

impl core::error::Error for AcceptError {}
