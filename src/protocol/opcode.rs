//! Opcodes (RFC 6455 5.2).

/// RFC 6455 5.5: "All control frames MUST have a payload length of 125 bytes or less".
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// What a frame carries (RFC 6455 5.2, "Opcode").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of the message under way.
    Continuation = 0x0,
    /// A message in UTF-8, or its first fragment.
    Text = 0x1,
    /// A message of bytes, or its first fragment.
    Binary = 0x2,
    /// Starts or answers the closing handshake.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping, or tells unasked that its sender is alive.
    Pong = 0xA,
}

impl Opcode {
    /// Close, Ping and Pong: never fragmented, at most 125 bytes.
    #[must_use]
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    /// The opcode that these four bits stand for; `None` for one that RFC 6455 5.2 reserves.
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
