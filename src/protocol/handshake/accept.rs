//! What the application says when it accepts a connection.

use core::any::Any;
use core::fmt;

use super::data::Data;
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
    data: Option<Data>,
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

    /// Keeps what the decision was made by, such as the user whom a token belongs to, for the connection: its request has
    /// it in [`Event::Open`](crate::Event::Open) and where a handler is made, and so do [`Peer`](crate::Peer::data) and
    /// [`Socket`](crate::Socket::data). There is one value; several are the fields of a type.
    ///
    /// ```no_run
    /// use threadbare::{Accept, Event, Response, Server};
    ///
    /// struct User(String);
    ///
    /// let server = Server::builder()
    ///     .on_request(|request| match request.header("X-User") {
    ///         Some(name) => Ok(Accept::new().data(User(name.to_owned()))),
    ///         None => Err(Response::new(401)),
    ///     })
    ///     .bind("127.0.0.1:8080")?;
    /// for event in &server {
    ///     if let Event::Message(peer, message) = event
    ///         && let Some(User(name)) = peer.data()
    ///     {
    ///         println!("{name}: {message}");
    ///     }
    /// }
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn data<T: Any + Send + Sync>(mut self, value: T) -> Accept {
        self.data = Some(Data::new(value));
        self
    }

    /// What [`data`](Accept::data) keeps.
    pub(crate) fn take_data(&mut self) -> Option<Data> {
        self.data.take()
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
