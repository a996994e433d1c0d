//! The protocol violations of a peer, and the close code for each.

use std::fmt;

use crate::protocol::close_code::CloseCode;
use crate::protocol::opcode::Opcode;
use crate::protocol::utf8::InvalidUtf8;

/// The peer violated the protocol or exceeded a limit: the connection is failed (RFC 6455 7.1.7).
///
/// ```
/// use threadbare::protocol::{Connection, ProtocolError, Role};
///
/// let mut server = Connection::new(Role::Server, 1 << 20);
/// let error = server.receive(&mut b"\x81\x02hi".to_vec()).expect_err("a client must mask");
/// assert_eq!(error, ProtocolError::UnmaskedFrame);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A client's frame was not masked (RFC 6455 5.1).
    UnmaskedFrame,
    /// A server's frame was masked (RFC 6455 5.1).
    MaskedFrame,
    /// A frame has RSV bits that no negotiated extension defines (RFC 6455 5.2).
    ReservedBits(u8),
    /// A frame has an opcode that RFC 6455 5.2 reserves.
    ReservedOpcode(u8),
    /// A control frame was fragmented: it has no FIN (RFC 6455 5.5).
    FragmentedControl(Opcode),
    /// A control frame has a payload of more than 125 bytes (RFC 6455 5.5).
    ControlTooLong(Opcode),
    /// A payload length is not in its shortest form (RFC 6455 5.2).
    NonMinimalLength(u64),
    /// A payload length has its most significant bit set (RFC 6455 5.2).
    LengthOverflow(u64),
    /// A continuation frame arrived outside a fragmented message (RFC 6455 5.4).
    UnexpectedContinuation,
    /// A new message began inside a fragmented message (RFC 6455 5.4).
    UnfinishedMessage,
    /// A close frame has a body of one byte (RFC 6455 5.5.1).
    CloseWithoutCode,
    /// A close frame has a status code that must not be sent (RFC 6455 7.4).
    InvalidCloseCode(CloseCode),
    /// A text message or a close reason is not UTF-8 (RFC 6455 8.1).
    InvalidUtf8,
    /// A compressed message cannot be decompressed (RFC 7692 7.2.2).
    InvalidDeflate,
    /// A message is larger than the limit.
    MessageTooBig {
        /// The size in bytes that the message has at least.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A compressed message has more bytes than an encoder makes of the largest message that is permitted.
    CompressedMessageTooBig {
        /// The size in bytes that the compressed message has at least.
        size: u64,
        /// The limit in bytes on the compressed size.
        limit: u64,
    },
}

impl ProtocolError {
    /// Returns the status code of the close frame that reports the violation to the peer.
    ///
    /// ```
    /// use threadbare::{CloseCode, ProtocolError};
    ///
    /// assert_eq!(ProtocolError::UnmaskedFrame.close_code(), CloseCode::PROTOCOL_ERROR);
    /// assert_eq!(ProtocolError::InvalidUtf8.close_code().0, 1007);
    /// ```
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        // No wildcard, so that a new variant does not compile without a code.
        match self {
            ProtocolError::UnmaskedFrame
            | ProtocolError::MaskedFrame
            | ProtocolError::ReservedBits(_)
            | ProtocolError::ReservedOpcode(_)
            | ProtocolError::FragmentedControl(_)
            | ProtocolError::ControlTooLong(_)
            | ProtocolError::NonMinimalLength(_)
            | ProtocolError::LengthOverflow(_)
            | ProtocolError::UnexpectedContinuation
            | ProtocolError::UnfinishedMessage
            | ProtocolError::CloseWithoutCode
            | ProtocolError::InvalidCloseCode(_) => CloseCode::PROTOCOL_ERROR,
            // RFC 6455 7.4.1: "data within a message that was not consistent with the type of the message".
            ProtocolError::InvalidUtf8 | ProtocolError::InvalidDeflate => CloseCode::INVALID_FRAME_PAYLOAD_DATA,
            ProtocolError::MessageTooBig { .. } | ProtocolError::CompressedMessageTooBig { .. } => {
                CloseCode::MESSAGE_TOO_BIG
            }
        }
    }
}

impl From<InvalidUtf8> for ProtocolError {
    fn from(_: InvalidUtf8) -> ProtocolError {
        ProtocolError::InvalidUtf8
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::UnmaskedFrame => f.write_str("a client must mask its frames"),
            ProtocolError::MaskedFrame => f.write_str("a server must not mask its frames"),
            ProtocolError::ReservedBits(bits) => write!(f, "reserved bits {bits:03b} without an extension"),
            ProtocolError::ReservedOpcode(opcode) => write!(f, "reserved opcode {opcode:#x}"),
            ProtocolError::FragmentedControl(opcode) => write!(f, "fragmented {opcode:?} frame"),
            ProtocolError::ControlTooLong(opcode) => write!(f, "{opcode:?} frame of more than 125 bytes"),
            ProtocolError::NonMinimalLength(length) => write!(f, "length {length} is not in its shortest form"),
            ProtocolError::LengthOverflow(length) => write!(f, "length {length:#x} has its highest bit set"),
            ProtocolError::UnexpectedContinuation => f.write_str("continuation frame without a message"),
            ProtocolError::UnfinishedMessage => f.write_str("new message inside a fragmented one"),
            ProtocolError::CloseWithoutCode => f.write_str("close frame with a body of one byte"),
            ProtocolError::InvalidCloseCode(code) => write!(f, "close code {code} must not be sent"),
            ProtocolError::InvalidUtf8 => f.write_str("text is not UTF-8"),
            ProtocolError::InvalidDeflate => f.write_str("compressed message does not inflate"),
            ProtocolError::MessageTooBig { size, limit } => {
                write!(f, "message of {size} bytes or more is over the limit of {limit}")
            }
            ProtocolError::CompressedMessageTooBig { size, limit } => {
                write!(f, "compressed message of {size} bytes or more is over the limit of {limit}")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}
