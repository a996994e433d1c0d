//! Opcodes (RFC 6455 5.2).

/// RFC 6455 5.5: "All control frames MUST have a payload length of 125 bytes or less".
///
/// ```
/// use threadbare::Message;
/// use threadbare::protocol::frame::MAX_CONTROL_PAYLOAD;
///
/// let ping = Message::Ping(vec![0; MAX_CONTROL_PAYLOAD]); // the longest
/// ```
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The opcode of a frame (RFC 6455 5.2): how its payload is interpreted.
///
/// ```
/// use threadbare::protocol::frame::{FrameHeader, Opcode};
///
/// let (header, _) = FrameHeader::parse(&[0x89, 0x00])?.expect("it is complete");
/// assert_eq!(header.opcode, Opcode::Ping);
/// # Ok::<(), threadbare::ProtocolError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of a fragmented message.
    Continuation = 0x0,
    /// A text message in UTF-8, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// Starts or answers the closing handshake.
    Close = 0x8,
    /// Asks the peer for a pong.
    Ping = 0x9,
    /// Answers a ping, or is sent unsolicited to show that the sender is alive.
    Pong = 0xA,
}

impl Opcode {
    /// Returns whether this is a control frame: Close, Ping or Pong. Control frames are never fragmented and have a
    /// payload of at most 125 bytes.
    ///
    /// ```
    /// use threadbare::protocol::frame::Opcode;
    ///
    /// assert!(Opcode::Ping.is_control());
    /// assert!(!Opcode::Continuation.is_control());
    /// ```
    #[must_use]
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    /// Decodes the four bits of an opcode; `None` if RFC 6455 5.2 reserves it.
    pub(crate) fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }
}
