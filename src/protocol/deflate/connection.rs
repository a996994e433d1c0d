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
    #[must_use]
    pub fn compresses(&self) -> bool {
        self.deflate_stats().is_some()
    }

    /// The binary logarithm of the window of a connection that takes messages which were compressed once for many, by
    /// [`Codec::compress`] with this window or a smaller one. `None` if it takes none: compression was not negotiated,
    /// or its messages refer to the ones before.
    #[must_use]
    pub fn shared_window_bits(&self) -> Option<u8> {
        self.extension.as_ref().and_then(|extension| extension.shared_window_bits())
    }

    /// What compression has saved, if it was negotiated.
    #[must_use]
    pub fn deflate_stats(&self) -> Option<DeflateStats> {
        self.extension.as_ref().map(|extension| extension.stats())
    }

    /// Gives back memory that compression can do without while nothing is sent, at the price of the next messages
    /// shrinking less.
    pub fn trim(&mut self) {
        if let Some(extension) = &mut self.extension {
            extension.trim();
        }
    }
}
