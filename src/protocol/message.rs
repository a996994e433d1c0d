//! Owned, borrowed and shared messages.

use std::fmt;
use std::sync::Arc;

use crate::protocol::close::CloseFrame;
use crate::protocol::escaped::Escaped;
use crate::protocol::opcode::Opcode;
use crate::protocol::utf8;

/// An owned message.
///
/// Received messages are [`Text`](Message::Text) or [`Binary`](Message::Binary), because the library answers control
/// frames itself. The other variants are for sending.
///
/// ```
/// use threadbare::Message;
///
/// fn describe(message: &Message) -> String {
///     match message {
///         Message::Text(text) => format!("the text {text}"),
///         Message::Binary(bytes) => format!("{} bytes", bytes.len()),
///         _ => "for sending only".into(),
///     }
/// }
/// assert_eq!(describe(&"hello".into()), "the text hello");
/// assert_eq!(describe(&vec![1, 2, 3].into()), "3 bytes");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping with a payload of at most 125 bytes.
    Ping(Vec<u8>),
    /// An unsolicited pong with a payload of at most 125 bytes (RFC 6455 5.5.3).
    Pong(Vec<u8>),
    /// A close frame, which starts the closing handshake.
    Close(Option<CloseFrame>),
}

/// A borrowed message, in the buffer it was received into or in the application's memory.
///
/// ```
/// use threadbare::{Message, MessageRef};
///
/// let message = MessageRef::from("hello"); // not copied
/// assert_eq!(message.as_text(), Some("hello"));
/// assert_eq!(message.into_owned(), Message::from("hello"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageRef<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping with a payload of at most 125 bytes.
    Ping(&'a [u8]),
    /// An unsolicited pong with a payload of at most 125 bytes (RFC 6455 5.5.3).
    Pong(&'a [u8]),
    /// A close frame, which starts the closing handshake.
    Close(Option<&'a CloseFrame>),
}

impl Message {
    /// Returns the payload of a data message, ping or pong; empty for a close.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert_eq!(Message::from("hello").as_bytes(), b"hello");
    /// assert_eq!(Message::Close(None).as_bytes(), b"");
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        MessageRef::from(self).as_bytes()
    }

    /// Returns the payload of a data message, ping or pong without copying it; empty for a close.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert_eq!(Message::from("hello").into_bytes(), b"hello".to_vec());
    /// ```
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes,
            Message::Close(_) => Vec::new(),
        }
    }

    /// Returns the text if this is a text message.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert_eq!(Message::from("hello").as_text(), Some("hello"));
    /// assert_eq!(Message::from(b"hello".to_vec()).as_text(), None);
    /// ```
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        MessageRef::from(self).as_text()
    }

    /// Returns the text of a text message without copying it.
    ///
    /// # Errors
    /// Returns the message itself if it is not text.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert_eq!(Message::from("hello").into_text(), Ok("hello".to_owned()));
    /// let binary = Message::from(b"hello".to_vec());
    /// assert_eq!(binary.clone().into_text(), Err(binary));
    /// ```
    pub fn into_text(self) -> Result<String, Message> {
        match self {
            Message::Text(text) => Ok(text),
            other => Err(other),
        }
    }

    /// Returns the payload of a binary message without copying it.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert_eq!(Message::from(vec![1, 2]).into_binary(), Ok(vec![1, 2]));
    /// assert_eq!(Message::from("text").into_binary(), Err(Message::from("text")));
    /// ```
    ///
    /// # Errors
    /// Returns the message itself if it is not binary.
    pub fn into_binary(self) -> Result<Vec<u8>, Message> {
        match self {
            Message::Binary(bytes) => Ok(bytes),
            other => Err(other),
        }
    }

    /// Returns whether this is a text message.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert!(Message::from("hello").is_text());
    /// assert!(!Message::from(vec![1, 2]).is_text());
    /// ```
    #[must_use]
    pub fn is_text(&self) -> bool {
        MessageRef::from(self).is_text()
    }

    /// Returns whether this is a binary message.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert!(Message::from(vec![1, 2]).is_binary());
    /// assert!(!Message::Ping(vec![1, 2]).is_binary());
    /// ```
    #[must_use]
    pub fn is_binary(&self) -> bool {
        MessageRef::from(self).is_binary()
    }

    /// Returns the size of the payload in bytes.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert_eq!(Message::from("größer").len(), 8); // bytes, not characters
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the payload is empty.
    ///
    /// ```
    /// use threadbare::Message;
    ///
    /// assert!(Message::from("").is_empty());
    /// assert!(!Message::from("hello").is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> MessageRef<'a> {
    /// Returns the payload of a data message, ping or pong; empty for a close.
    ///
    /// ```
    /// use threadbare::MessageRef;
    ///
    /// assert_eq!(MessageRef::Text("hello").as_bytes(), b"hello");
    /// ```
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            MessageRef::Text(text) => text.as_bytes(),
            MessageRef::Binary(bytes) | MessageRef::Ping(bytes) | MessageRef::Pong(bytes) => bytes,
            MessageRef::Close(_) => &[],
        }
    }

    /// Returns the text if this is a text message.
    ///
    /// ```
    /// use threadbare::MessageRef;
    ///
    /// assert_eq!(MessageRef::Text("hello").as_text(), Some("hello"));
    /// assert_eq!(MessageRef::Binary(b"hello").as_text(), None);
    /// ```
    #[must_use]
    pub fn as_text(self) -> Option<&'a str> {
        match self {
            MessageRef::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns whether this is a text message.
    ///
    /// ```
    /// use threadbare::MessageRef;
    ///
    /// assert!(MessageRef::Text("hello").is_text());
    /// assert!(!MessageRef::Binary(b"hello").is_text());
    /// ```
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, MessageRef::Text(_))
    }

    /// Returns whether this is a binary message.
    ///
    /// ```
    /// use threadbare::MessageRef;
    ///
    /// assert!(MessageRef::Binary(b"hello").is_binary());
    /// assert!(!MessageRef::Text("hello").is_binary());
    /// ```
    #[must_use]
    pub fn is_binary(self) -> bool {
        matches!(self, MessageRef::Binary(_))
    }

    /// Returns the size of the payload in bytes.
    ///
    /// ```
    /// use threadbare::MessageRef;
    ///
    /// assert_eq!(MessageRef::Binary(&[1, 2, 3]).len(), 3);
    /// ```
    #[must_use]
    pub fn len(self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the payload is empty.
    ///
    /// ```
    /// use threadbare::MessageRef;
    ///
    /// assert!(MessageRef::Text("").is_empty());
    /// assert!(!MessageRef::Text("hello").is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Copies the payload into an owned message.
    ///
    /// ```
    /// use threadbare::{Message, MessageRef};
    ///
    /// assert_eq!(MessageRef::Text("hello").into_owned(), Message::Text("hello".to_owned()));
    /// ```
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

    /// Returns the opcode of the message's first frame.
    ///
    /// ```
    /// use threadbare::MessageRef;
    /// use threadbare::protocol::frame::Opcode;
    ///
    /// assert_eq!(MessageRef::Text("hello").opcode(), Opcode::Text);
    /// assert_eq!(MessageRef::Close(None).opcode(), Opcode::Close);
    /// ```
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

/// A message to send, which is borrowed, owned or shared. It is copied only where a copy is needed.
///
/// Every `send` of this library takes any type that converts into `CowMessage`: `&str`, `String`, `&[u8]`, `Vec<u8>`,
/// `[u8; N]`, `Cow`, `Arc<str>`, `Arc<[u8]>`, [`Message`], [`MessageRef`], and references to them. A large payload that
/// is owned or shared is sent without a copy.
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
// An explicit tag instead of a niche in the borrowed variant: the compiler can then drop the branches of the other
// variants where it inlines `send` with a borrowed message.
#[repr(u8)]
pub enum CowMessage<'a> {
    /// A message borrowed from the application or from a received batch.
    Borrowed(MessageRef<'a>),
    /// An owned message.
    Owned(Message),
    /// Text that is shared.
    SharedText(Arc<str>),
    /// Bytes that are shared, sent as a binary message.
    SharedBinary(Arc<[u8]>),
}

impl CowMessage<'_> {
    /// Borrows the message.
    ///
    /// ```
    /// use threadbare::{CowMessage, MessageRef};
    ///
    /// let message = CowMessage::from(vec![1, 2, 3]);
    /// assert_eq!(message.as_message(), MessageRef::Binary(&[1, 2, 3]));
    /// ```
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

    /// Converts into an owned message, with a copy only if it is borrowed or shared.
    ///
    /// ```
    /// use threadbare::{CowMessage, Message};
    ///
    /// assert_eq!(CowMessage::from("hello").into_message(), Message::from("hello")); // copied
    /// assert_eq!(CowMessage::from(vec![1, 2]).into_message(), Message::from(vec![1, 2])); // moved
    /// ```
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

/// At most 256 bytes of a text are displayed, so that a long message does not flood a log.
const SHOWN_TEXT: usize = 256;

/// At most 16 bytes of any other payload are displayed.
const SHOWN_BYTES: usize = 16;

/// Formats the message for a log. A text of up to 256 bytes is written whole; a longer text is cut between two
/// characters and followed by its length. Control characters are escaped. Any other message is written as its type, length and first 16 bytes.
///
/// ```
/// use threadbare::MessageRef;
///
/// assert_eq!(MessageRef::Text("hello").to_string(), "hello");
/// assert!(MessageRef::Text(&"x".repeat(300)).to_string().ends_with("xxx... (300 bytes)"));
/// assert_eq!(MessageRef::Binary(&[0, 255]).to_string(), "binary, 2 bytes: 00 ff");
/// ```
impl fmt::Display for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes) = match self {
            MessageRef::Text(text) if text.len() <= SHOWN_TEXT => return Escaped(text).fmt(f),
            MessageRef::Text(text) => {
                let end = (0..=SHOWN_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
                let shown = Escaped(text.get(..end).unwrap_or_default());
                return write!(f, "{shown}... ({} bytes)", text.len());
            }
            MessageRef::Close(None) => return f.write_str("close"),
            MessageRef::Close(Some(CloseFrame { code, reason })) if reason.is_empty() => {
                return write!(f, "close {code}");
            }
            MessageRef::Close(Some(CloseFrame { code, reason })) => {
                return write!(f, "close {code} ({})", Escaped(reason));
            }
            MessageRef::Binary(bytes) => ("binary", *bytes),
            MessageRef::Ping(bytes) => ("ping", *bytes),
            MessageRef::Pong(bytes) => ("pong", *bytes),
        };
        write!(f, "{kind}, {} bytes", bytes.len())?;
        let shown = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
        for (index, byte) in shown.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { ": " } else { " " })?;
        }
        if shown.len() < bytes.len() { f.write_str(" ...") } else { Ok(()) }
    }
}

/// Formats the message as [`MessageRef`] does.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MessageRef::from(self).fmt(f)
    }
}

/// Formats the message as [`MessageRef`] does.
impl fmt::Display for CowMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_message().fmt(f)
    }
}

/// A message that was assembled from several reads or fragments, in its own buffer.
///
/// The buffer may be longer than the message. The bytes after the message are initialized and are overwritten when the
/// buffer is used again.
///
/// ```
/// use threadbare::protocol::{Connection, Received, Role};
///
/// let mut client = Connection::new(Role::Client, 1 << 20);
/// client.receive(&mut b"\x01\x03hel".to_vec())?; // a fragment
/// let mut last_fragment = *b"\x80\x02lo";
/// let (_, received) = client.receive(&mut last_fragment)?;
/// let Received::Assembled(message) = received else { panic!("a message") };
/// assert_eq!(message.as_message().as_text(), Some("hello"));
/// # Ok::<(), threadbare::ProtocolError>(())
/// ```
#[derive(Default)]
pub struct Assembled {
    pub(crate) buffer: Vec<u8>,
    pub(crate) filled: usize,
    pub(crate) is_text: bool,
}

/// Omits the bytes after the message, which may be those of another connection.
impl fmt::Debug for Assembled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Assembled").field(&self.as_message()).finish()
    }
}

impl Assembled {
    /// Borrows the message.
    ///
    /// ```
    /// use threadbare::MessageRef;
    /// use threadbare::protocol::message::Assembled;
    ///
    /// fn is_stop(message: &Assembled) -> bool {
    ///     message.as_message() == MessageRef::Text("stop")
    /// }
    /// ```
    #[must_use]
    pub fn as_message(&self) -> MessageRef<'_> {
        let payload = self.as_bytes();
        if !self.is_text {
            return MessageRef::Binary(payload);
        }
        // `None` cannot occur: text is validated as it arrives.
        utf8::from_utf8(payload).map_or(MessageRef::Binary(payload), MessageRef::Text)
    }

    /// Returns the payload.
    ///
    /// ```
    /// use threadbare::protocol::message::Assembled;
    ///
    /// fn count(message: &Assembled, total: &mut usize) {
    ///     *total += message.as_bytes().len();
    /// }
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// Converts into an owned message that keeps the buffer.
    ///
    /// ```
    /// use threadbare::Message;
    /// use threadbare::protocol::message::Assembled;
    ///
    /// fn keep(message: Assembled, kept: &mut Vec<Message>) {
    ///     kept.push(message.into_message());
    /// }
    /// ```
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

    /// Returns the buffer, so that it can be used again.
    ///
    /// ```
    /// use threadbare::protocol::message::Assembled;
    ///
    /// fn read(message: Assembled, used_before: &mut Vec<Vec<u8>>) {
    ///     println!("{}", message.as_message());
    ///     used_before.push(message.into_buffer()); // for `Connection::move_to`
    /// }
    /// ```
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::close::CloseCode;

    #[test]
    fn long_text_is_displayed_cut_between_characters() {
        let fits = "é".repeat(128);
        assert_eq!(Message::from(fits.as_str()).to_string(), fits);
        let long = format!("x{fits}");
        assert_eq!(Message::from(long.as_str()).to_string(), format!("x{}... (257 bytes)", "é".repeat(127)));
    }

    #[test]
    fn other_payloads_are_displayed_as_length_and_first_bytes() {
        assert_eq!(Message::Binary(vec![]).to_string(), "binary, 0 bytes");
        let shown = "binary, 17 bytes: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ...";
        assert_eq!(Message::Binary(vec![0; 17]).to_string(), shown);
        assert_eq!(Message::Ping(vec![1]).to_string(), "ping, 1 bytes: 01");
        assert_eq!(Message::Pong(vec![]).to_string(), "pong, 0 bytes");
        let close = |reason| Message::Close(Some(CloseFrame::new(CloseCode(4000), reason).unwrap())).to_string();
        assert_eq!((close("").as_str(), close("why").as_str()), ("close 4000", "close 4000 (why)"));
        assert_eq!(Message::Close(None).to_string(), "close");
    }

    #[test]
    fn a_conversion_to_the_wrong_type_returns_the_message() {
        let (text, binary) = (Message::from("a"), Message::from(b"a".as_slice()));
        assert!(text.is_text() && !text.is_binary() && binary.is_binary() && !binary.is_text());
        assert_eq!(text.clone().into_binary(), Err(text.clone()));
        assert_eq!(binary.clone().into_binary(), Ok(b"a".to_vec()));
        assert_eq!(binary.clone().into_text(), Err(binary));
        assert_eq!(text.into_text(), Ok("a".to_owned()));
        assert!(Message::Ping(vec![1]).into_text().is_err() && !Message::Close(None).is_binary());
    }
}
