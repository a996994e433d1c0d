//! A fragment of a message that is sent.

use crate::protocol::deflate::Compression;
use crate::protocol::opcode::Opcode;
use crate::protocol::outgoing::Last;

/// A fragment of a message, to be sent with [`Connection::send_fragment`](crate::protocol::Connection::send_fragment).
///
/// ```
/// use threadbare::protocol::frame::Opcode;
/// use threadbare::protocol::{OutgoingFragment, Last};
/// use threadbare::Compression;
///
/// let first = OutgoingFragment { opcode: Opcode::Text, payload: b"Hel", last: Last::No, compression: Compression::Auto };
/// let second = OutgoingFragment { payload: b"lo", last: Last::Yes, ..first };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OutgoingFragment<'a> {
    /// The opcode of the message, text or binary. Every fragment of a message has the same here: that those behind the
    /// first are sent as continuations is seen to.
    pub opcode: Opcode,
    /// The payload, before compression. It may be empty.
    pub payload: &'a [u8],
    /// Whether the message ends with this fragment.
    pub last: Last,
    /// Whether the message may be compressed. That of its first fragment decides.
    pub compression: Compression,
}
