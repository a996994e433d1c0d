//! Values as JSON in text messages (feature `serde_json`).

use std::fmt;

use serde_core::de::DeserializeOwned;
use serde_core::{Deserialize, Serialize};

use crate::protocol::codec::Codec;
use crate::protocol::escaped::Escaped;
use crate::protocol::message::{Message, MessageRef};

/// JSON as a [`Codec`], for applications that are generic over the format. Its messages are text; it reads binary ones too.
///
/// ```
/// use threadbare::{Codec, Json, Message};
///
/// let price = ("price".to_owned(), 100);
/// let message = Json.encode(&price)?;
/// assert_eq!(message, Message::from(r#"["price",100]"#));
/// let read: (String, u32) = Json.decode((&message).into())?;
/// assert_eq!(read, price);
/// # Ok::<(), threadbare::JsonError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    type Error = JsonError;

    fn encode(&self, value: &T) -> Result<Message, JsonError> {
        to_message(value)
    }

    fn decode(&self, message: MessageRef<'_>) -> Result<T, JsonError> {
        message.json()
    }
}

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
    /// The payload is no JSON, or no `T`. The error names the field or element, the line and the column.
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
        read.map_err(|error| JsonError { path: path_of_fault::<T>(self.as_bytes()), error })
    }
}

/// Appends the JSON of a value, which is UTF-8.
pub(crate) fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), JsonError> {
    serde_json::to_writer(out, value).map_err(|error| JsonError { path: String::new(), error })
}

/// Writes a value as the text of a message.
pub(crate) fn to_message<T: Serialize + ?Sized>(value: &T) -> Result<Message, JsonError> {
    let written = serde_json::to_string(value);
    written.map(Message::Text).map_err(|error| JsonError { path: String::new(), error })
}

/// Where in the JSON the fault is for which no `T` could be read. The payload is read once more, because to keep track of that
/// costs much.
#[cold]
fn path_of_fault<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> String {
    let mut json = serde_json::Deserializer::from_slice(payload);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) if error.path().iter().len() > 0 => error.path().to_string(),
        // It is the whole value, or what follows it.
        _ => String::new(),
    }
}

/// A value can not be read from JSON, or not be written as JSON.
///
/// ```
/// use threadbare::Message;
///
/// let error = Message::from(r#"["price", "high"]"#).json::<(&str, u32)>().unwrap_err();
/// assert_eq!(error.to_string(), r#"[1]: invalid type: string "high", expected u32 at line 1 column 16"#);
/// ```
#[derive(Debug)]
pub struct JsonError {
    /// Where in the value, such as `orders[2].price`; empty if that is not known.
    path: String,
    error: serde_json::Error,
}

/// The names of fields and the values in the text are the peer's, with control characters escaped.
impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", Escaped(&self.path))?;
        }
        Escaped(&self.error.to_string()).fmt(f)
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
