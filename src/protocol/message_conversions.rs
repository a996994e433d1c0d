//! What converts into a message: text, bytes and other messages, borrowed, owned or shared.

use std::borrow::Cow;
use std::sync::Arc;

use crate::protocol::message::{CowMessage, Message, MessageRef};

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

/// Implements the conversion from `$from` into a [`CowMessage`] by `$convert`.
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
