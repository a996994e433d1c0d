//! A message that is encoded once for many connections.

use crate::protocol::deflate::Compression;
use crate::protocol::frame::{MAX_CONTROL_PAYLOAD, Opcode};
use crate::protocol::message::{CowMessage, Message, MessageRef};
use crate::transport::shared_frame::SharedFrame;

/// A message encoded once, to be sent to many peers without encoding or copying it again.
///
/// Where permessage-deflate was negotiated, it is also compressed once for all peers, when the first one needs it, and
/// once more for each other window size. For a peer with context takeover it is compressed each time, because the
/// compressed bytes depend on the messages that this peer was sent before.
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
    pub(crate) frame: SharedFrame,
}

impl Prepared {
    /// Encodes a message. A ping or pong is truncated to 125 bytes. A close can not be prepared, and becomes an empty
    /// pong.
    ///
    /// ```
    /// use threadbare::Prepared;
    ///
    /// let text = Prepared::new("tick");
    /// let bytes = Prepared::new(vec![1, 2, 3]);
    /// ```
    #[must_use]
    pub fn new<'a>(message: impl Into<CowMessage<'a>>) -> Prepared {
        Prepared::with(message, Compression::Auto)
    }

    /// Encodes a message that is compressed as `compression` says. With [`Compression::Never`] it is not compressed.
    ///
    /// ```
    /// use threadbare::{Compression, Prepared};
    ///
    /// let picture = Prepared::with(&[0xFF, 0xD8][..], Compression::Never);
    /// ```
    #[must_use]
    pub fn with<'a>(message: impl Into<CowMessage<'a>>, compression: Compression) -> Prepared {
        let message = message.into();
        let message = message.as_message();
        let (opcode, payload) = match message {
            MessageRef::Text(_) | MessageRef::Binary(_) => (message.opcode(), message.as_bytes()),
            MessageRef::Ping(payload) | MessageRef::Pong(payload) => {
                (message.opcode(), &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)])
            }
            MessageRef::Close(_) => (Opcode::Pong, &[][..]),
        };
        Prepared { frame: SharedFrame::new(opcode, payload, compression) }
    }

    /// The message that was prepared.
    pub(crate) fn to_message(&self) -> Message {
        let (opcode, payload) = self.frame.message().unwrap_or((Opcode::Binary, &[]));
        match opcode {
            // Text was a `str` before it was encoded.
            Opcode::Text => Message::Text(String::from_utf8_lossy(payload).into_owned()),
            Opcode::Ping => Message::Ping(payload.to_vec()),
            Opcode::Pong => Message::Pong(payload.to_vec()),
            Opcode::Binary | Opcode::Continuation | Opcode::Close => Message::Binary(payload.to_vec()),
        }
    }
}
