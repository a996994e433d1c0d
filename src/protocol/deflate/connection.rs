//! The methods of a connection for permessage-deflate, except decompression.

use crate::protocol::connection::Connection;
use crate::protocol::deflate::{Codec, Compression, DeflateStats};
#[cfg(feature = "deflate")]
use crate::protocol::deflate::{DeflateParams, Extension};
use crate::protocol::outgoing::Last;

impl Connection {
    /// Adds permessage-deflate with the parameters negotiated in the opening handshake. `max_message_size` then limits
    /// the decompressed size of a message.
    ///
    /// ```
    /// use threadbare::DeflateConfig;
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let params = DeflateConfig::default().confirm([&b"permessage-deflate"[..]])?.expect("it was accepted");
    /// let client = Connection::new(Role::Client, 1 << 20).with_deflate(params);
    /// assert!(client.compresses());
    /// # Ok::<(), threadbare::protocol::deflate::NegotiationError>(())
    /// ```
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate(mut self, params: DeflateParams) -> Connection {
        self.extension = Some(Extension::new(params));
        self
    }

    /// Compresses the payload of a data message, which is then sent in a frame with RSV1
    /// ([`encode_compressed`](crate::protocol::frame::encode_compressed)). Returns `None` if the message must be sent
    /// uncompressed, because compression was not negotiated, is not permitted by `compression`, or would not make the
    /// message smaller.
    ///
    /// Compressed messages must be sent in the order of these calls, because a later message may refer to an earlier
    /// one.
    ///
    /// ```
    /// use threadbare::Compression;
    /// use threadbare::protocol::deflate::Codec;
    /// use threadbare::protocol::frame::{self, Opcode};
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// fn send(connection: &mut Connection, text: &str, codec: &mut Codec, out: &mut Vec<u8>) {
    ///     match connection.compress(text.as_bytes(), Compression::Auto, codec) {
    ///         Some(payload) => frame::encode_compressed(out, Opcode::Text, payload, None),
    ///         None => drop(connection.send(Opcode::Text, text.as_bytes(), None, out)), // `false` after a close frame
    ///     }
    /// }
    /// # send(&mut Connection::new(Role::Server, 1 << 20), "hello", &mut Codec::new(), &mut Vec::new());
    /// ```
    #[inline]
    pub fn compress<'c>(&mut self, payload: &[u8], compression: Compression, codec: &'c mut Codec) -> Option<&'c [u8]> {
        if compression == Compression::Never || !self.can_send() {
            return None;
        }
        self.extension.as_mut().and_then(|extension| extension.compress(payload, codec))
    }

    /// Compresses the next fragment of a message that is sent in parts; `None` if the compressor failed, after which the
    /// message can not be continued.
    pub(crate) fn compress_fragment<'c>(
        &mut self,
        payload: &[u8],
        last: Last,
        codec: &'c mut Codec,
    ) -> Option<&'c [u8]> {
        self.extension.as_mut().and_then(|extension| extension.compress_fragment(payload, last, codec))
    }

    /// Returns whether permessage-deflate was negotiated.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// assert!(!Connection::new(Role::Server, 1 << 20).compresses()); // it was not negotiated
    /// ```
    #[inline]
    #[must_use]
    pub fn compresses(&self) -> bool {
        self.extension.is_some()
    }

    /// Returns the base-2 logarithm of the window if the connection can send messages that [`Codec::compress`] has
    /// compressed for several connections, with this window or a smaller one. `None` if compression was not negotiated,
    /// or was negotiated with context takeover.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// /// Whether one compressed message can be sent to all these connections.
    /// fn can_share(connections: &[Connection]) -> bool {
    ///     connections.iter().all(|connection| connection.shared_window_bits() == Some(15))
    /// }
    /// assert!(!can_share(&[Connection::new(Role::Server, 1 << 20)])); // it was not negotiated
    /// ```
    #[must_use]
    pub fn shared_window_bits(&self) -> Option<u8> {
        self.extension.as_ref().and_then(|extension| extension.shared_window_bits())
    }

    /// Returns whether a message is large enough to be compressed on this connection.
    pub(crate) fn is_worthwhile(&self, payload: &[u8]) -> bool {
        self.extension.as_ref().is_some_and(|extension| extension.is_worthwhile(payload))
    }

    /// Compresses a message for this connection and all others with the same
    /// [window](Connection::shared_window_bits). Returns `None` if the message does not get smaller.
    #[cfg(feature = "deflate")]
    pub(crate) fn compress_shared<'c>(&self, payload: &[u8], codec: &'c mut Codec) -> Option<&'c [u8]> {
        self.extension.as_ref().and_then(|extension| extension.compress_shared(payload, codec))
    }

    /// Adds a message of `size` bytes, which was compressed for several connections, to the statistics.
    pub(crate) fn count_shared(&mut self, size: usize, compressed: usize) {
        if let Some(extension) = &mut self.extension {
            extension.count_shared(size, compressed);
        }
    }

    /// Returns the sizes before and after compression, if compression was negotiated.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let server = Connection::new(Role::Server, 1 << 20);
    /// assert_eq!(server.deflate_stats(), None); // it was not negotiated
    /// ```
    #[must_use]
    pub fn deflate_stats(&self) -> Option<DeflateStats> {
        self.extension.as_ref().map(|extension| extension.stats())
    }

    /// Returns `true` once after compression has allocated memory that [`trim`](Connection::trim) can free, and again
    /// after `trim` has freed all of it.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// // A server asks after each message, and calls `trim` on these connections from time to time.
    /// let mut server = Connection::new(Role::Server, 1 << 20);
    /// let to_trim = server.begins_to_keep();
    /// assert!(!to_trim && !server.trim());
    /// ```
    #[inline]
    pub fn begins_to_keep(&mut self) -> bool {
        self.extension.as_mut().is_some_and(|extension| extension.begins_to_keep())
    }

    /// Frees the compressor of a connection with context takeover, if nothing was compressed since the last call.
    /// Returns whether there still is a compressor. The next messages can refer to less and compress worse.
    ///
    /// The decompressor is kept, because the messages of the peer may refer to its window.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut to_trim = vec![Connection::new(Role::Server, 1 << 20)];
    /// to_trim.retain_mut(Connection::trim); // those that were used since the last call stay
    /// assert!(to_trim.is_empty());
    /// ```
    pub fn trim(&mut self) -> bool {
        self.extension.as_mut().is_some_and(|extension| extension.trim())
    }
}
