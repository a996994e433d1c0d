//! The error of a [`WebSocket`](super::WebSocket).

use std::{fmt, io};

use crate::error::ControlError;
use crate::protocol::ProtocolError;
use crate::protocol::handshake::client::{HandshakeError, UrlError};
use crate::protocol::http::{HeaderError, Response};

/// The error of a [`WebSocket`](crate::WebSocket).
///
/// ```
/// use std::io::{Read, Write};
/// use threadbare::{Message, SocketError, WebSocket};
///
/// fn next<S: Read + Write>(socket: &mut WebSocket<S>) -> Result<Option<Message>, SocketError> {
///     loop {
///         match socket.recv() {
///             Err(SocketError::Timeout) => println!("nothing yet"), // the stream has a read timeout
///             received => return received,
///         }
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SocketError {
    /// The stream failed, or ended without a closing handshake.
    Io(io::Error),
    /// The stream timed out, or it is non-blocking and not ready. Nothing was received, and a message that was to be
    /// sent was not queued. The call can be repeated. An opening handshake can not, because its stream is dropped: for
    /// that there are [`ClientHandshake`](crate::ClientHandshake) and [`ServerHandshake`](crate::ServerHandshake).
    Timeout,
    /// The message or the close frame was queued, but the stream timed out, or is not ready, before it took all of it.
    /// To repeat the call would send it twice. [`flush`](crate::WebSocket::flush) writes the rest, as do
    /// [`recv`](crate::WebSocket::recv) and the next send.
    Queued,
    /// The peer broke the protocol or a limit. It was sent a close frame that says so.
    Protocol(ProtocolError),
    /// The client's opening handshake was refused, with this response.
    Refused(Box<Response>),
    /// The URL is invalid.
    Url(UrlError),
    /// A header, subprotocol or origin of the request is invalid.
    Header(HeaderError),
    /// The server's response does not complete the opening handshake.
    Handshake(HandshakeError),
    /// The connection is closed or closing.
    Closed,
    /// A control frame was invalid, and was not sent.
    Invalid(ControlError),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketError::Io(_) => f.write_str("the stream failed"),
            SocketError::Timeout => f.write_str("nothing within the stream's timeout"),
            SocketError::Queued => f.write_str("queued, but not written within the stream's timeout"),
            SocketError::Protocol(_) => f.write_str("the peer broke the protocol"),
            SocketError::Refused(response) => write!(f, "the handshake was refused with {}", response.status()),
            SocketError::Url(_) => f.write_str("the URL is wrong"),
            SocketError::Header(_) => f.write_str("the request can not be sent"),
            SocketError::Handshake(_) => f.write_str("the opening handshake failed"),
            SocketError::Closed => f.write_str("the connection is closed or closing"),
            SocketError::Invalid(_) => f.write_str("the control frame was not sent"),
        }
    }
}

impl std::error::Error for SocketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SocketError::Io(error) => Some(error),
            SocketError::Protocol(error) => Some(error),
            SocketError::Invalid(error) => Some(error),
            SocketError::Url(error) => Some(error),
            SocketError::Header(error) => Some(error),
            SocketError::Handshake(error) => Some(error),
            SocketError::Timeout | SocketError::Queued | SocketError::Refused(_) | SocketError::Closed => None,
        }
    }
}

impl SocketError {
    /// The error of a read or write of a message in parts, with this one as its source. `closed` is the kind for a connection
    /// that is closed.
    pub(super) fn into_io(self, closed: io::ErrorKind) -> io::Error {
        let kind = match &self {
            SocketError::Io(error) => error.kind(),
            SocketError::Timeout | SocketError::Queued => io::ErrorKind::TimedOut,
            SocketError::Protocol(_) => io::ErrorKind::InvalidData,
            SocketError::Closed => closed,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

/// The error of a [`MessageReader`](crate::MessageReader), with the error of the socket as its source.
impl From<SocketError> for io::Error {
    fn from(error: SocketError) -> io::Error {
        error.into_io(io::ErrorKind::UnexpectedEof)
    }
}

/// For errors of the stream, as its options are set for example.
impl From<io::Error> for SocketError {
    fn from(error: io::Error) -> SocketError {
        SocketError::Io(error)
    }
}

impl From<UrlError> for SocketError {
    fn from(error: UrlError) -> SocketError {
        SocketError::Url(error)
    }
}

impl From<HeaderError> for SocketError {
    fn from(error: HeaderError) -> SocketError {
        SocketError::Header(error)
    }
}

impl From<HandshakeError> for SocketError {
    fn from(error: HandshakeError) -> SocketError {
        SocketError::Handshake(error)
    }
}
