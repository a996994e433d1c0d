//! A message of a topic on its way between nodes.

use crate::protocol::message::MessageRef;

/// A message of a topic on its way to or from another node.
///
/// ```
/// use threadbare::BridgeMessage;
///
/// let message = BridgeMessage::text("sold");
/// assert_eq!((message.as_text(), message.payload()), (Some("sold"), &b"sold"[..]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeMessage<'a> {
    content: Content<'a>,
    position: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl<'a> BridgeMessage<'a> {
    /// Makes a text message.
    ///
    /// ```
    /// use threadbare::BridgeMessage;
    ///
    /// assert_eq!(BridgeMessage::text("sold").as_text(), Some("sold"));
    /// ```
    pub fn text(text: &'a str) -> BridgeMessage<'a> {
        BridgeMessage { content: Content::Text(text), position: None }
    }

    /// Makes a binary message.
    ///
    /// ```
    /// use threadbare::BridgeMessage;
    ///
    /// assert_eq!(BridgeMessage::binary(&[1, 2]).as_text(), None);
    /// ```
    pub fn binary(payload: &'a [u8]) -> BridgeMessage<'a> {
        BridgeMessage { content: Content::Binary(payload), position: None }
    }

    /// Notes where the engine keeps the message; see [`position`](BridgeMessage::position).
    ///
    /// ```
    /// use threadbare::BridgeMessage;
    ///
    /// assert_eq!(BridgeMessage::text("sold").at("1700-0").position(), Some("1700-0"));
    /// ```
    #[must_use]
    pub fn at(mut self, position: &'a str) -> BridgeMessage<'a> {
        self.position = Some(position);
        self
    }

    /// Returns the payload's bytes. Those of a text message are UTF-8.
    ///
    /// ```
    /// use threadbare::BridgeMessage;
    ///
    /// assert_eq!(BridgeMessage::binary(&[1, 2]).payload(), [1, 2]);
    /// ```
    pub fn payload(&self) -> &'a [u8] {
        match self.content {
            Content::Text(text) => text.as_bytes(),
            Content::Binary(payload) => payload,
        }
    }

    /// Returns the text, unless the message is binary.
    ///
    /// ```
    /// use threadbare::BridgeMessage;
    ///
    /// assert_eq!(BridgeMessage::text("sold").as_text(), Some("sold"));
    /// assert_eq!(BridgeMessage::binary(b"sold").as_text(), None);
    /// ```
    pub fn as_text(&self) -> Option<&'a str> {
        match self.content {
            Content::Text(text) => Some(text),
            Content::Binary(_) => None,
        }
    }

    /// Returns the message as one that can be sent to a peer.
    ///
    /// ```
    /// use threadbare::{BridgeMessage, MessageRef};
    ///
    /// assert_eq!(BridgeMessage::text("sold").as_message(), MessageRef::Text("sold"));
    /// ```
    pub fn as_message(&self) -> MessageRef<'a> {
        match self.content {
            Content::Text(text) => MessageRef::Text(text),
            Content::Binary(payload) => MessageRef::Binary(payload),
        }
    }

    /// Returns where the engine keeps the message, if it keeps messages: the same on every node, and growing. A client that
    /// is told this position can be given what came after it by any node. Over a stream of Redis it is the entry's id.
    ///
    /// ```
    /// use threadbare::BridgeMessage;
    ///
    /// assert_eq!(BridgeMessage::text("sold").position(), None);
    /// ```
    pub fn position(&self) -> Option<&'a str> {
        self.position
    }
}

/// What came of a message that was given to a bridge.
///
/// Other nodes are told of a message that was not queued as of one that was lost on its way, so that their subscribers learn
/// of the gap.
///
/// ```
/// use threadbare::{Accepted, Bridge, BridgeMessage};
///
/// /// Publishes a message, and says why the other nodes will miss it.
/// fn publish(bridge: &impl Bridge, topic: &str, message: &BridgeMessage<'_>) {
///     match bridge.publish(topic, message) {
///         Accepted::Queued => {}
///         Accepted::TooLarge => eprintln!("{topic}: {} bytes are too many", message.payload().len()),
///         refused => eprintln!("{topic}: {refused:?}"),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accepted {
    /// It waits to be sent.
    Queued,
    /// The queue is full: the engine is slower than the application, or gone.
    Full,
    /// The message is larger than the bridge carries.
    TooLarge,
    /// The bridge is not started, or has ended.
    Stopped,
}

impl Accepted {
    /// Whether the message waits to be sent.
    ///
    /// ```
    /// use threadbare::Accepted;
    ///
    /// assert!(Accepted::Queued.is_queued() && !Accepted::Full.is_queued());
    /// ```
    pub fn is_queued(self) -> bool {
        self == Accepted::Queued
    }
}
