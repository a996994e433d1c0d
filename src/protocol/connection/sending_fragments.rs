//! Sending a message in fragments (RFC 6455 5.4), compressed as it flows where that was negotiated (RFC 7692 6.1).

use super::Connection;
use crate::protocol::deflate::{Codec, Compression};
use crate::protocol::frame::{self, FrameHeader, Opcode, RSV1};
use crate::protocol::mask::MaskingKey;
use crate::protocol::outgoing::{Last, Outgoing};
use crate::protocol::outgoing_fragment::OutgoingFragment;

impl Connection {
    /// Returns whether a fragment of a message was sent, and its last fragment was not. Then only control frames and
    /// further fragments can be sent.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    /// use threadbare::protocol::frame::Opcode;
    /// use threadbare::protocol::{Connection, OutgoingFragment, Last, Role};
    /// use threadbare::Compression;
    ///
    /// let (mut server, mut out) = (Connection::new(Role::Server, 1 << 20), Vec::new());
    /// let first = OutgoingFragment { opcode: Opcode::Text, payload: b"Hel", last: Last::No, compression: Compression::Auto };
    /// assert!(server.send_fragment(first, &mut Codec::new(), None, &mut out));
    /// assert!(server.is_in_message() && !server.can_send() && server.can_send_control());
    /// ```
    #[inline]
    #[must_use]
    pub fn is_in_message(&self) -> bool {
        matches!(self.outgoing, Outgoing::InMessage | Outgoing::InCompressedMessage)
    }

    /// Appends the next fragment of a message to `out`, masked with `key` if there is one, and returns whether it was
    /// permitted. The fragments of a message follow each other; only control frames may be sent between them (RFC 6455
    /// 5.4).
    ///
    /// Where permessage-deflate was negotiated, the message is compressed as it flows, unless `compression` of its first
    /// fragment forbids that. The compressor is the connection's own until the message ends, and
    /// counts as its memory.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    /// use threadbare::protocol::frame::Opcode;
    /// use threadbare::protocol::{Connection, OutgoingFragment, Last, Role};
    /// use threadbare::Compression;
    ///
    /// let (mut server, mut out) = (Connection::new(Role::Server, 1 << 20), Vec::new());
    /// let mut codec = Codec::new();
    /// let first = OutgoingFragment { opcode: Opcode::Text, payload: b"Hel", last: Last::No, compression: Compression::Auto };
    /// assert!(server.send_fragment(first, &mut codec, None, &mut out));
    /// assert!(server.send(Opcode::Ping, b"Hello", None, &mut out)); // a control frame may come between
    /// assert!(server.send_fragment(OutgoingFragment { payload: b"lo", last: Last::Yes, ..first }, &mut codec, None, &mut out));
    /// assert_eq!(out, b"\x01\x03Hel\x89\x05Hello\x80\x02lo"); // RFC 6455 5.7
    /// ```
    pub fn send_fragment(
        &mut self,
        fragment: OutgoingFragment<'_>,
        codec: &mut Codec,
        key: Option<MaskingKey>,
        out: &mut Vec<u8>,
    ) -> bool {
        let OutgoingFragment { opcode, payload, last, .. } = fragment;
        if !self.permits_fragment(opcode) {
            return false;
        }
        let (header, payload) = if self.deflates_fragment(fragment.compression) {
            let Some(deflated) = self.compress_fragment(payload, last, codec) else { return false };
            let size = deflated.len() as u64;
            (self.deflated_header(opcode, last, size, key), deflated)
        } else {
            (self.fragment_header(opcode, last, payload.len() as u64, key), payload)
        };
        frame::encode_behind(out, header, payload);
        true
    }

    /// Returns whether a fragment of a message with this opcode may be sent now.
    pub(crate) fn permits_fragment(&self, opcode: Opcode) -> bool {
        let is_data = matches!(opcode, Opcode::Text | Opcode::Binary);
        is_data && (self.outgoing.permits_message() || self.is_in_message())
    }

    /// Returns whether the next fragment is to be compressed.
    pub(crate) fn deflates_fragment(&self, compression: Compression) -> bool {
        match self.outgoing {
            Outgoing::BetweenMessages => compression == Compression::Auto && self.compresses(),
            other => other == Outgoing::InCompressedMessage,
        }
    }

    /// Returns the header of the next fragment, which was [permitted](Self::permits_fragment) and is not compressed, and
    /// notes that it is sent.
    pub(crate) fn fragment_header(
        &mut self,
        opcode: Opcode,
        last: Last,
        size: u64,
        key: Option<MaskingKey>,
    ) -> FrameHeader {
        let opcode = if self.is_in_message() { Opcode::Continuation } else { opcode };
        self.outgoing = self.outgoing.after(opcode, last);
        FrameHeader { fin: last == Last::Yes, ..FrameHeader::new(opcode, size, key) }
    }

    /// As [`fragment_header`](Self::fragment_header), for a fragment of a compressed message. RFC 7692 6.1: RSV1 is set on
    /// the first frame of a message alone.
    fn deflated_header(&mut self, opcode: Opcode, last: Last, size: u64, key: Option<MaskingKey>) -> FrameHeader {
        let rsv = if self.is_in_message() { 0 } else { RSV1 };
        let header = self.fragment_header(opcode, last, size, key);
        if last == Last::No {
            self.outgoing = Outgoing::InCompressedMessage;
        }
        FrameHeader { rsv, ..header }
    }
}

#[cfg(test)]
#[path = "sending_fragments_tests.rs"]
mod tests;
