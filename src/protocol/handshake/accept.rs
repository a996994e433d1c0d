//! The acceptance of an opening handshake by the application.

use core::any::Any;
use core::fmt;

use super::data::Data;
use crate::protocol::http::{HeaderError, HeaderFields};
use crate::protocol::receive::Receive;

/// The acceptance of an opening handshake, with the subprotocol and headers that the application adds to the 101.
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
    receive: Option<Receive>,
}

impl Accept {
    /// Accepts without a subprotocol and without additional headers.
    ///
    /// ```
    /// use threadbare::{Accept, Server};
    ///
    /// let server = Server::builder().on_request(|_request| Ok(Accept::new())).bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn new() -> Accept {
        Accept::default()
    }

    /// Chooses the subprotocol. If the client does not offer it, the handshake is answered with 500.
    ///
    /// ```
    /// use threadbare::{Accept, Request};
    ///
    /// fn choose(request: &Request) -> Accept {
    ///     match request.subprotocols().find(|name| name.starts_with("chat.")) {
    ///         Some(name) => Accept::new().subprotocol(name),
    ///         None => Accept::new(),
    ///     }
    /// }
    /// ```
    pub fn subprotocol(mut self, name: impl Into<String>) -> Accept {
        self.subprotocol = Some(name.into());
        self
    }

    /// Adds a header. If the name or the value is invalid, or the library sets this header itself,
    /// [`check`](Accept::check) returns an error and the handshake is answered with 500.
    ///
    /// ```
    /// use threadbare::Accept;
    ///
    /// let accept = Accept::new().header("Set-Cookie", "id=42; HttpOnly");
    /// assert!(accept.check().is_ok());
    /// ```
    pub fn header(mut self, name: &str, value: &str) -> Accept {
        self.fields.push(name, value);
        self
    }

    /// Checks the headers that were added. Call this if their names or values are not constants.
    ///
    /// # Errors
    /// Returns the error of the first header that cannot be sent.
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

    /// Keeps a value for the connection, such as the user to whom a token belongs.
    /// [`Request::data`](crate::Request::data) returns it in [`Event::Open`](crate::Event::Open) and where a handler is
    /// created, and so do [`Peer::data`](crate::Peer::data) and [`Socket::data`](crate::Socket::data). A connection
    /// keeps one value; use a struct for several.
    ///
    /// ```no_run
    /// use threadbare::{Accept, Event, Response, Server};
    ///
    /// struct User(String);
    ///
    /// let server = Server::builder()
    ///     .on_request(|request| match request.header("X-User") {
    ///         Some(name) => Ok(Accept::new().data(User(name.to_owned()))),
    ///         None => Err(Response::new(401).header("WWW-Authenticate", "Bearer")),
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

    /// Whether this connection's messages are delivered whole, or what arrives of them at once, in place of what
    /// [`Config::receive`](crate::Config::receive) says. It has no effect on a [`WebSocket`](crate::WebSocket), which decides by
    /// the method that is called.
    ///
    /// ```
    /// use threadbare::{Accept, Receive, Server};
    ///
    /// let server = Server::builder()
    ///     .on_request(|request| match request.path() {
    ///         "/upload" => Ok(Accept::new().receive(Receive::Fragments { max_size: Some(4 << 30) })),
    ///         _ => Ok(Accept::new()), // whole messages
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn receive(mut self, receive: Receive) -> Accept {
        self.receive = Some(receive);
        self
    }

    /// Returns what [`receive`](Accept::receive) chose.
    pub(crate) fn chosen_receive(&self) -> Option<Receive> {
        self.receive
    }

    /// Takes the value that [`data`](Accept::data) keeps.
    pub(crate) fn take_data(&mut self) -> Option<Data> {
        self.data.take()
    }

    /// Returns the chosen subprotocol.
    ///
    /// ```
    /// use threadbare::Accept;
    ///
    /// assert_eq!(Accept::new().subprotocol("chat").chosen_subprotocol(), Some("chat"));
    /// assert_eq!(Accept::new().chosen_subprotocol(), None);
    /// ```
    pub fn chosen_subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    pub(super) fn fields(&self) -> &HeaderFields {
        &self.fields
    }
}

/// Why an [`Accept`] cannot be sent. The client gets a 500 instead.
///
/// ```
/// use threadbare::protocol::handshake::{AcceptError, server};
/// use threadbare::{Accept, Request};
///
/// let head = b"GET /health HTTP/1.1\r\nHost: example.com\r\n\r\n";
/// let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
/// assert_eq!(server::respond(&request, &Accept::new()), Err(AcceptError::NotAHandshake));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptError {
    /// The client does not offer this subprotocol (RFC 6455 4.2.2).
    SubprotocolNotOffered(String),
    /// The request is not an opening handshake: it has no `Sec-WebSocket-Key`.
    NotAHandshake,
    /// A header cannot be sent.
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
