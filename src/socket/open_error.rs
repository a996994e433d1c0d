//! The error of an opening handshake that can be continued.

use std::fmt;

use crate::socket::error::SocketError;

/// Why [`ClientHandshake::advance`](crate::ClientHandshake::advance) and
/// [`ServerHandshake::advance`](crate::ServerHandshake::advance) returned no connection. `H` is the handshake.
///
/// ```
/// use std::net::TcpStream;
/// use threadbare::{ClientHandshake, OpenError, SocketError, WebSocket};
///
/// enum Connection {
///     Opening(ClientHandshake<TcpStream>),
///     Open(WebSocket<TcpStream>),
/// }
///
/// fn advance(handshake: ClientHandshake<TcpStream>) -> Result<Connection, SocketError> {
///     match handshake.advance() {
///         Ok(socket) => Ok(Connection::Open(socket)),
///         Err(OpenError::WouldBlock(handshake)) => Ok(Connection::Opening(handshake)),
///         Err(OpenError::Failed(error)) => Err(error),
///     }
/// }
/// ```
#[derive(Debug)]
#[doc(alias = "Interrupted")]
#[doc(alias = "MidHandshake")]
pub enum OpenError<H> {
    /// The stream timed out, or it is non-blocking and not ready. The handshake continues where it stopped.
    WouldBlock(H),
    /// The handshake failed, and the stream is dropped.
    Failed(SocketError),
}

impl<H> fmt::Display for OpenError<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::WouldBlock(_) => f.write_str("the stream is not ready"),
            OpenError::Failed(error) => error.fmt(f),
        }
    }
}

impl<H: fmt::Debug> std::error::Error for OpenError<H> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::WouldBlock(_) => None,
            OpenError::Failed(error) => error.source(),
        }
    }
}

/// Drops the handshake if it would block, which is [`SocketError::Timeout`].
impl<H> From<OpenError<H>> for SocketError {
    fn from(error: OpenError<H>) -> SocketError {
        match error {
            OpenError::WouldBlock(_) => SocketError::Timeout,
            OpenError::Failed(error) => error,
        }
    }
}
