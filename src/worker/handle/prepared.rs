//! A message that is encoded once for many connections.

use std::sync::Arc;

use crate::config::send_options::SendOptions;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::Opcode;
use crate::protocol::message::{CowMessage, Message};
use crate::transport::budget::MemoryBudget;
use crate::transport::shared_frame::SharedFrame;

/// A message encoded once, to be sent to many peers without encoding or copying it again.
///
/// Where permessage-deflate was negotiated, it is also compressed once for all peers, when the first one needs it, and
/// once more for each other window size. For a peer with context takeover it is compressed each time, because the
/// compressed bytes depend on the messages that this peer was sent before. A client masks what it sends, each frame with
/// a key of its own (RFC 6455 5.3), and so encodes it each time.
///
/// A ping, pong or close is sent as by [`Peer::send`](crate::Peer::send): a close starts the closing handshake, and a
/// control frame that may not be sent is an error of each send.
///
/// ```
/// use threadbare::Prepared;
///
/// let tick = Prepared::new("tick");
/// # let peers: Vec<threadbare::Peer> = Vec::new();
/// for peer in &peers {
///     let _ = peer.send_prepared(&tick);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) content: Content,
    /// How it is sent, apart from [`compression`](Prepared::compression). Most messages have no options.
    options: Option<Arc<SendOptions>>,
}

/// What is sent of a [`Prepared`] message.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A text or binary message, encoded.
    Data(SharedFrame),
    /// A ping, pong or close. It is as short as what it is encoded to, and is checked as it is sent.
    Control(Arc<Message>),
}

impl Prepared {
    /// Encodes a message.
    ///
    /// ```
    /// use threadbare::{CloseCode, CloseFrame, Message, Prepared};
    ///
    /// let text = Prepared::new("tick");
    /// let bytes = Prepared::new(vec![1, 2, 3]);
    /// let close = Prepared::new(Message::Close(Some(CloseFrame::new(CloseCode::GOING_AWAY, "maintenance")?)));
    /// # Ok::<(), threadbare::InvalidClose>(())
    /// ```
    #[must_use]
    pub fn new<'a>(message: impl Into<CowMessage<'a>>) -> Prepared {
        Prepared::with(message, SendOptions::new())
    }

    /// Encodes a message that is sent with these options: whether it may be compressed, and what happens where a queue
    /// is full. A single option needs no [`SendOptions`].
    ///
    /// ```
    /// use threadbare::{Compression, Prepared, SlowConsumer};
    ///
    /// let picture = Prepared::with(&[0xFF, 0xD8][..], Compression::Never);
    /// let typing = Prepared::with("somebody is typing", SlowConsumer::Drop);
    /// ```
    #[must_use]
    pub fn with<'a>(message: impl Into<CowMessage<'a>>, options: impl Into<SendOptions>) -> Prepared {
        let options = options.into();
        let message = message.into();
        let borrowed = message.as_message();
        let opcode = borrowed.opcode();
        let content = if opcode.is_control() {
            Content::Control(Arc::new(message.into_message()))
        } else {
            Content::Data(SharedFrame::new(opcode, borrowed.as_bytes(), options.compression))
        };
        let has_options = options != SendOptions::new().compression(options.compression);
        Prepared { content, options: has_options.then(|| Arc::new(options)) }
    }

    /// The options that it is sent with.
    pub(crate) fn options(&self) -> SendOptions {
        self.options.as_deref().copied().unwrap_or_default().compression(self.compression())
    }

    /// The key under which it waits, if it is a data message with one.
    pub(crate) fn key(&self) -> Option<u64> {
        self.options.as_ref()?.latest.filter(|_| self.is_data())
    }

    /// The message that was prepared.
    pub(crate) fn to_message(&self) -> Message {
        match &self.content {
            Content::Data(frame) => data_message(frame),
            Content::Control(message) => Message::clone(message),
        }
    }

    /// The bytes of the frame; 0 for a control frame, which is short.
    pub(crate) fn size(&self) -> usize {
        match &self.content {
            Content::Data(frame) => frame.plain().len(),
            Content::Control(_) => 0,
        }
    }

    /// Charges the memory of the frame to `budget`.
    pub(crate) fn charge(&self, budget: &Arc<MemoryBudget>) {
        if let Content::Data(frame) = &self.content {
            frame.charge(budget);
        }
    }

    /// Whether it is a text or binary message.
    pub(crate) fn is_data(&self) -> bool {
        matches!(&self.content, Content::Data(_))
    }

    /// Whether it starts the closing handshake.
    pub(crate) fn is_close(&self) -> bool {
        matches!(&self.content, Content::Control(message) if matches!(**message, Message::Close(_)))
    }

    /// Whether connections may compress it.
    pub(crate) fn compression(&self) -> Compression {
        match &self.content {
            Content::Data(frame) => frame.compression(),
            Content::Control(_) => Compression::Never,
        }
    }
}

/// The message that a frame was made of.
pub(crate) fn data_message(frame: &SharedFrame) -> Message {
    match frame.message() {
        // Text was a `str` before it was encoded.
        Some((Opcode::Text, payload)) => Message::Text(String::from_utf8_lossy(payload).into_owned()),
        Some((_, payload)) => Message::Binary(payload.to_vec()),
        None => Message::Binary(Vec::new()),
    }
}
