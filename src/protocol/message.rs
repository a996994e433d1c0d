//! Messages, owned and borrowed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::protocol::close::CloseFrame;
use crate::protocol::opcode::Opcode;
use crate::protocol::utf8;

/// A message, owned.
///
/// What is received is [`Text`](Message::Text) or [`Binary`](Message::Binary); the library answers control frames by
/// itself. The other variants are there to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// A ping, of at most 125 bytes.
    Ping(Vec<u8>),
    /// A pong nobody asked for, of at most 125 bytes.
    Pong(Vec<u8>),
    /// Starts the closing handshake.
    Close(Option<CloseFrame>),
}

/// A message, borrowed from the buffer it was received into or from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageRef<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// A ping, of at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong nobody asked for, of at most 125 bytes.
    Pong(&'a [u8]),
    /// Starts the closing handshake.
    Close(Option<&'a CloseFrame>),
}

impl Message {
    /// The payload of a data message, ping or pong; empty for a close.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        MessageRef::from(self).as_bytes()
    }

    /// The payload of a data message, ping or pong, moved out; empty for a close.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes,
            Message::Close(_) => Vec::new(),
        }
    }

    /// The text, if this is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        MessageRef::from(self).as_text()
    }

    /// The size of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> MessageRef<'a> {
    /// The payload of a data message, ping or pong; empty for a close.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            MessageRef::Text(text) => text.as_bytes(),
            MessageRef::Binary(bytes) | MessageRef::Ping(bytes) | MessageRef::Pong(bytes) => bytes,
            MessageRef::Close(_) => &[],
        }
    }

    /// The text, if this is one.
    #[must_use]
    pub fn as_text(self) -> Option<&'a str> {
        match self {
            MessageRef::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The size of the payload in bytes.
    #[must_use]
    pub fn len(self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A copy that owns its payload.
    #[must_use]
    pub fn into_owned(self) -> Message {
        match self {
            MessageRef::Text(text) => Message::Text(text.to_owned()),
            MessageRef::Binary(bytes) => Message::Binary(bytes.to_owned()),
            MessageRef::Ping(bytes) => Message::Ping(bytes.to_owned()),
            MessageRef::Pong(bytes) => Message::Pong(bytes.to_owned()),
            MessageRef::Close(frame) => Message::Close(frame.cloned()),
        }
    }

    /// The opcode of its frame.
    #[must_use]
    pub fn opcode(self) -> Opcode {
        match self {
            MessageRef::Text(_) => Opcode::Text,
            MessageRef::Binary(_) => Opcode::Binary,
            MessageRef::Ping(_) => Opcode::Ping,
            MessageRef::Pong(_) => Opcode::Pong,
            MessageRef::Close(_) => Opcode::Close,
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::Binary(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Message {
        Message::Binary(bytes.to_owned())
    }
}

impl From<MessageRef<'_>> for Message {
    fn from(message: MessageRef<'_>) -> Message {
        message.into_owned()
    }
}

impl<'a> From<&'a Message> for MessageRef<'a> {
    fn from(message: &'a Message) -> MessageRef<'a> {
        match message {
            Message::Text(text) => MessageRef::Text(text),
            Message::Binary(bytes) => MessageRef::Binary(bytes),
            Message::Ping(bytes) => MessageRef::Ping(bytes),
            Message::Pong(bytes) => MessageRef::Pong(bytes),
            Message::Close(frame) => MessageRef::Close(frame.as_ref()),
        }
    }
}

impl<'a> From<&'a str> for MessageRef<'a> {
    fn from(text: &'a str) -> MessageRef<'a> {
        MessageRef::Text(text)
    }
}

impl<'a> From<&'a String> for MessageRef<'a> {
    fn from(text: &'a String) -> MessageRef<'a> {
        MessageRef::Text(text)
    }
}

impl<'a> From<&'a [u8]> for MessageRef<'a> {
    fn from(bytes: &'a [u8]) -> MessageRef<'a> {
        MessageRef::Binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for MessageRef<'a> {
    fn from(bytes: &'a Vec<u8>) -> MessageRef<'a> {
        MessageRef::Binary(bytes)
    }
}

/// What can be sent: a message that is borrowed, owned, or shared with others. Nothing is copied before it is known whether
/// a copy is needed.
///
/// Every `send` of this library takes whatever converts into it: `&str`, `String`, `&[u8]`, `Vec<u8>`, `[u8; N]`, `Cow`,
/// `Arc<str>`, `Arc<[u8]>`, [`Message`] and [`MessageRef`], and references to them. A large payload that is owned or shared
/// is not copied on its way out.
///
/// ```
/// use std::sync::Arc;
/// use threadbare::{CowMessage, Message};
///
/// let borrowed = CowMessage::from("good morning");
/// assert_eq!(borrowed.as_message().as_text(), Some("good morning"));
/// assert_eq!(borrowed.into_message(), Message::from("good morning"));
///
/// let picture: Arc<[u8]> = Arc::from([0xFF, 0xD8]);
/// assert_eq!(CowMessage::from(&picture).as_message().as_bytes(), [0xFF, 0xD8]);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CowMessage<'a> {
    /// A message that lies in the application's memory, or in the batch that it came with.
    Borrowed(MessageRef<'a>),
    /// A message in memory of its own.
    Owned(Message),
    /// Text in memory that others share.
    SharedText(Arc<str>),
    /// Bytes in memory that others share.
    SharedBinary(Arc<[u8]>),
}

impl CowMessage<'_> {
    /// The message, borrowed.
    #[inline]
    #[must_use]
    pub fn as_message(&self) -> MessageRef<'_> {
        match self {
            CowMessage::Borrowed(message) => *message,
            CowMessage::Owned(message) => message.into(),
            CowMessage::SharedText(text) => MessageRef::Text(text),
            CowMessage::SharedBinary(bytes) => MessageRef::Binary(bytes),
        }
    }

    /// The message, owned: a copy only if it was borrowed or shared.
    #[must_use]
    pub fn into_message(self) -> Message {
        match self {
            CowMessage::Borrowed(message) => message.into_owned(),
            CowMessage::Owned(message) => message,
            CowMessage::SharedText(text) => Message::Text(text.as_ref().to_owned()),
            CowMessage::SharedBinary(bytes) => Message::Binary(bytes.to_vec()),
        }
    }
}

/// Conversions into a [`CowMessage`]: from `$from`, by `$convert`.
macro_rules! into_cow_message {
    ($($from:ty, $value:ident => $convert:expr;)*) => {
        $(impl<'a> From<$from> for CowMessage<'a> {
            #[inline]
            fn from($value: $from) -> CowMessage<'a> {
                $convert
            }
        })*
    };
}

into_cow_message! {
    MessageRef<'a>, message => CowMessage::Borrowed(message);
    Message, message => CowMessage::Owned(message);
    &'a Message, message => CowMessage::Borrowed(message.into());
    &'a str, text => CowMessage::Borrowed(MessageRef::Text(text));
    String, text => CowMessage::Owned(Message::Text(text));
    &'a String, text => CowMessage::Borrowed(MessageRef::Text(text));
    &'a [u8], bytes => CowMessage::Borrowed(MessageRef::Binary(bytes));
    Vec<u8>, bytes => CowMessage::Owned(Message::Binary(bytes));
    &'a Vec<u8>, bytes => CowMessage::Borrowed(MessageRef::Binary(bytes));
    Arc<str>, text => CowMessage::SharedText(text);
    &Arc<str>, text => CowMessage::SharedText(text.clone());
    Arc<[u8]>, bytes => CowMessage::SharedBinary(bytes);
    &Arc<[u8]>, bytes => CowMessage::SharedBinary(bytes.clone());
    Cow<'a, str>, text => match text {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    };
    &'a Cow<'_, str>, text => CowMessage::Borrowed(MessageRef::Text(text));
    Cow<'a, [u8]>, bytes => match bytes {
        Cow::Borrowed(bytes) => bytes.into(),
        Cow::Owned(bytes) => bytes.into(),
    };
    &'a Cow<'_, [u8]>, bytes => CowMessage::Borrowed(MessageRef::Binary(bytes));
    &'a CowMessage<'_>, message => CowMessage::Borrowed(message.as_message());
}

impl<'a, const N: usize> From<&'a [u8; N]> for CowMessage<'a> {
    fn from(bytes: &'a [u8; N]) -> CowMessage<'a> {
        CowMessage::Borrowed(MessageRef::Binary(bytes))
    }
}

impl<const N: usize> From<[u8; N]> for CowMessage<'_> {
    fn from(bytes: [u8; N]) -> Self {
        CowMessage::Owned(Message::Binary(bytes.to_vec()))
    }
}

impl fmt::Display for Message {
    /// The text, or the bytes as far as they are UTF-8.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// A message that was gathered from several reads or fragments, in a buffer of its own.
///
/// The buffer may be longer than the message; what lies behind it is initialised and waits for its next use.
#[derive(Debug, Default)]
pub struct Assembled {
    pub(crate) buffer: Vec<u8>,
    pub(crate) filled: usize,
    pub(crate) is_text: bool,
}

impl Assembled {
    /// The message.
    #[must_use]
    pub fn as_message(&self) -> MessageRef<'_> {
        let payload = self.as_bytes();
        if !self.is_text {
            return MessageRef::Binary(payload);
        }
        // `None` is not reached: text was validated as it arrived.
        utf8::from_utf8(payload).map_or(MessageRef::Binary(payload), MessageRef::Text)
    }

    /// The payload.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// The message, with its buffer.
    #[must_use]
    pub fn into_message(mut self) -> Message {
        self.buffer.truncate(self.filled);
        if !self.is_text {
            return Message::Binary(self.buffer);
        }
        match String::from_utf8(self.buffer) {
            Ok(text) => Message::Text(text),
            Err(error) => Message::Binary(error.into_bytes()),
        }
    }

    /// The buffer alone, for its next use.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}
