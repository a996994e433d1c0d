//! Values as messages, in a format of the application's choice.

use std::error::Error;

use crate::protocol::message::{Message, MessageRef};

/// A format in which values of type `T` are sent and received: how a value becomes a message, and a message a value.
///
/// With the feature `serde_json`, `Json` is one, and the handles have `send_json` and `recv_json`. An application that speaks
/// another format implements this once, and can be generic over it:
///
/// ```
/// use std::str::Utf8Error;
/// use threadbare::{Codec, Config, Message, MessageRef, Role, SocketError, WebSocket};
///
/// /// Lines of text, separated by line feeds.
/// struct Lines;
///
/// impl Codec<Vec<String>> for Lines {
///     type Error = Utf8Error;
///
///     fn encode(&self, lines: &Vec<String>) -> Result<Message, Utf8Error> {
///         Ok(lines.join("\n").into())
///     }
///
///     fn decode(&self, message: MessageRef<'_>) -> Result<Vec<String>, Utf8Error> {
///         Ok(std::str::from_utf8(message.as_bytes())?.lines().map(str::to_owned).collect())
///     }
/// }
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
/// # let config = Config::default();
/// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
/// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
/// client.send(Lines.encode(&vec!["one".into(), "two".into()])?)?;
/// let message = server.recv_ref()?.ok_or(SocketError::Closed)?;
/// assert_eq!(Lines.decode(message)?, ["one", "two"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The example `cbor` has one for CBOR.
pub trait Codec<T> {
    /// Why a value has no message, or a message no value.
    type Error: Error + Send + Sync + 'static;

    /// Makes the message of a value, text or binary as the format has it.
    ///
    /// # Errors
    /// The format has nothing for this value.
    fn encode(&self, value: &T) -> Result<Message, Self::Error>;

    /// Reads the value of a message.
    ///
    /// # Errors
    /// The message has another format, or another value.
    fn decode(&self, message: MessageRef<'_>) -> Result<T, Self::Error>;
}
