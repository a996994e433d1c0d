//! What permessage-deflate adds to a connection, beside inflating what it receives.

use crate::protocol::connection::Connection;
use crate::protocol::deflate::{Codec, Compression, DeflateStats};
#[cfg(feature = "deflate")]
use crate::protocol::deflate::{DeflateParams, Extension};

impl Connection {
    /// The same with permessage-deflate, as the opening handshake agreed on it. `max_message_size` then holds for what
    /// a message inflates to.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate(mut self, params: DeflateParams) -> Connection {
        self.extension = Some(Extension::new(params));
        self
    }

    /// Compresses the payload of a data message: what to send of it instead, in a frame with RSV1
    /// ([`encode_compressed`](crate::protocol::frame::encode_compressed)). `None` if it is to be sent as it is: compression was not negotiated or not
    /// wanted, or does not pay.
    ///
    /// What was compressed must be sent, and in this order: the messages after it may refer to it.
    #[inline]
    pub fn compress<'c>(&mut self, payload: &[u8], compression: Compression, codec: &'c mut Codec) -> Option<&'c [u8]> {
        if compression == Compression::Never || !self.can_send() {
            return None;
        }
        self.extension.as_mut().and_then(|extension| extension.compress(payload, codec))
    }

    /// Whether permessage-deflate was negotiated.
    #[inline]
    #[must_use]
    pub fn compresses(&self) -> bool {
        self.extension.is_some()
    }

    /// The binary logarithm of the window of a connection that takes messages which were compressed once for many, by
    /// [`Codec::compress`] with this window or a smaller one. `None` if it takes none: compression was not negotiated,
    /// or its messages refer to the ones before.
    #[must_use]
    pub fn shared_window_bits(&self) -> Option<u8> {
        self.extension.as_ref().and_then(|extension| extension.shared_window_bits())
    }

    /// Whether a message is large enough to be compressed here.
    pub(crate) fn is_worthwhile(&self, payload: &[u8]) -> bool {
        self.extension.as_ref().is_some_and(|extension| extension.is_worthwhile(payload))
    }

    /// Compresses a message for this connection and all others with the same
    /// [window](Connection::shared_window_bits); `None` if it does not get smaller.
    #[cfg(feature = "deflate")]
    pub(crate) fn compress_shared<'c>(&self, payload: &[u8], codec: &'c mut Codec) -> Option<&'c [u8]> {
        self.extension.as_ref().and_then(|extension| extension.compress_shared(payload, codec))
    }

    /// Counts a message of `size` bytes that was compressed for several and is sent here.
    pub(crate) fn count_shared(&mut self, size: usize, compressed: usize) {
        if let Some(extension) = &mut self.extension {
            extension.count_shared(size, compressed);
        }
    }

    /// What compression has saved, if it was negotiated.
    #[must_use]
    pub fn deflate_stats(&self) -> Option<DeflateStats> {
        self.extension.as_ref().map(|extension| extension.stats())
    }

    /// Whether compression has begun to keep memory that it can do without while nothing is sent: `true` once, and again
    /// after [`trim`](Connection::trim) has given all of it back.
    #[inline]
    pub fn begins_to_keep(&mut self) -> bool {
        self.extension.as_mut().is_some_and(|extension| extension.begins_to_keep())
    }

    /// Gives back memory that compression can do without while nothing is sent, if nothing was compressed since the last
    /// call; `false` tells that there is none of it left. The messages after that refer to less and shrink less.
    ///
    /// Without context takeover there is none. With it, that is the compressor; what the peer's messages may refer to
    /// must be kept.
    pub fn trim(&mut self) -> bool {
        self.extension.as_mut().is_some_and(|extension| extension.trim())
    }
}
