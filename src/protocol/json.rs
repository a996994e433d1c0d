//! Values as JSON in text messages (feature `serde_json`).

use std::fmt;

use serde_core::{Deserialize, Serialize};

use crate::protocol::message::{Message, MessageRef};

impl Message {
    /// Reads the payload as JSON, whether it is text or binary. The value may borrow from the message.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// let message = Message::from(r#"["price", 100]"#);
    /// assert_eq!(message.json::<(&str, u32)>()?, ("price", 100));
    /// # Ok::<(), threadbare::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// The payload is no JSON, or no `T`. The error names line, column, and a field that is missing or unknown.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        MessageRef::from(self).json()
    }
}

impl<'a> MessageRef<'a> {
    /// Reads the payload as JSON, as [`Message::json`] does.
    ///
    /// ```
    /// use threadbare::{MessageRef, Socket};
    ///
    /// fn answer(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///     match message.json::<(u32, u32)>() {
    ///         Ok((a, b)) => socket.send(a.wrapping_add(b).to_string()),
    ///         Err(error) => socket.send(error.to_string()),
    ///     };
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Message::json`].
    pub fn json<T: Deserialize<'a>>(self) -> Result<T, JsonError> {
        let read = match self {
            // It is UTF-8, which need not be checked again.
            MessageRef::Text(text) => serde_json::from_str(text),
            other => serde_json::from_slice(other.as_bytes()),
        };
        read.map_err(JsonError)
    }
}

/// Writes a value as the text of a message.
pub(crate) fn to_message<T: Serialize + ?Sized>(value: &T) -> Result<Message, JsonError> {
    serde_json::to_string(value).map(Message::Text).map_err(JsonError)
}

/// A value can not be read from JSON, or not be written as JSON.
///
/// ```
/// use threadbare::Message;
///
/// let error = Message::from(r#"["price", "high"]"#).json::<(&str, u32)>().unwrap_err();
/// assert_eq!(error.to_string(), r#"invalid type: string "high", expected u32 at line 1 column 16"#);
/// ```
#[derive(Debug)]
pub struct JsonError(serde_json::Error);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for JsonError {}

/// The error of sending or receiving a value as JSON. `E` is the error of doing so with a message.
///
/// ```
/// use std::net::TcpStream;
/// use threadbare::{JsonTransferError, WebSocket};
///
/// fn price(socket: &mut WebSocket<TcpStream>) -> Option<u32> {
///     match socket.recv_json() {
///         Ok(price) => price,
///         Err(JsonTransferError::Json(error)) => panic!("the server sent something else: {error}"),
///         Err(JsonTransferError::Transfer(error)) => panic!("the connection failed: {error}"),
///     }
/// }
/// ```
#[derive(Debug)]
pub enum JsonTransferError<E> {
    /// The value can not be written as JSON, and nothing was sent; or a message was received that is no such value.
    Json(JsonError),
    /// The message could not be sent or received.
    Transfer(E),
}

impl<E> fmt::Display for JsonTransferError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JsonTransferError::Json(_) => "the value and its JSON do not match",
            JsonTransferError::Transfer(_) => "the message was not sent or received",
        })
    }
}

impl<E: std::error::Error + 'static> std::error::Error for JsonTransferError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JsonTransferError::Json(error) => Some(error),
            JsonTransferError::Transfer(error) => Some(error),
        }
    }
}

impl<E> From<JsonError> for JsonTransferError<E> {
    fn from(error: JsonError) -> JsonTransferError<E> {
        JsonTransferError::Json(error)
    }
}
