//! permessage-deflate (RFC 7692): the compression of messages with DEFLATE.
//!
//! `DeflateConfig` negotiates the extension with the peer, and `Connection::with_deflate` adds it to a connection. All
//! connections of a thread share the memory of one [`Codec`]. A connection has memory of its own only with _context
//! takeover_ (RFC 7692 7.1.1), where a message may refer to the messages before it.
//!
//! Without the feature `deflate`, [`Codec`] is empty and no message is compressed.

#[cfg(feature = "deflate")]
mod codec;
#[cfg(feature = "deflate")]
mod config;
mod connection;
#[cfg(not(feature = "deflate"))]
mod disabled;
#[cfg(feature = "deflate")]
mod extension;
#[cfg(feature = "deflate")]
mod inflater;
#[cfg(feature = "deflate")]
mod negotiation;
mod option;
#[cfg(all(target_os = "linux", feature = "deflate", feature = "handover"))]
mod replay;
mod wire_size;

#[cfg(feature = "deflate")]
pub use codec::Codec;
#[cfg(feature = "deflate")]
pub use config::DeflateConfig;
#[cfg(not(feature = "deflate"))]
pub use disabled::Codec;
#[cfg(not(feature = "deflate"))]
pub(super) use disabled::Extension;
#[cfg(feature = "deflate")]
pub(super) use extension::Extension;
#[cfg(feature = "deflate")]
pub use negotiation::{DeflateParams, Direction, NegotiationError};
pub(crate) use option::{DeflateOption, NegotiatedExtension};
pub(super) use wire_size::WireSize;

use crate::protocol::message::Assembled;
use crate::protocol::utf8::Validator;

/// Whether a message may be compressed if permessage-deflate was negotiated. Without the feature `deflate` no message
/// is compressed.
///
/// ```
/// use threadbare::{Compression, Peer};
///
/// fn answer(peer: &Peer, page: &str, session_token: &str) -> Result<(), threadbare::SendError<threadbare::Message>> {
///     peer.send_with(page, Compression::Auto)?; // as `send` does
///     peer.send_with(session_token, Compression::Never) // its size must not depend on its content
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The message is compressed if it is not smaller than the threshold.
    #[default]
    Auto,
    /// The message is not compressed. Use this for data that is already compressed, and for a message that contains a
    /// secret together with data chosen by an attacker: the size of the compressed message can reveal the secret (the
    /// attacks CRIME and BREACH).
    Never,
}

/// The payload bytes of a connection's compressed messages, before and after compression.
///
/// ```
/// use threadbare::DeflateStats;
///
/// fn print(stats: &DeflateStats) {
///     println!("sent {} instead of {} bytes", stats.sent_compressed, stats.sent);
///     println!("received {} instead of {} bytes", stats.received_compressed, stats.received);
/// }
/// # print(&DeflateStats::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeflateStats {
    /// The bytes sent in compressed messages, before compression.
    pub sent: u64,
    /// The bytes sent in compressed messages, after compression.
    pub sent_compressed: u64,
    /// The bytes received in compressed messages, after decompression.
    pub received: u64,
    /// The bytes received in compressed messages, before decompression.
    pub received_compressed: u64,
}

/// The destination of decompressed bytes.
#[derive(Debug)]
#[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "nothing is inflated"))]
pub(super) struct Sink<'a> {
    pub(super) message: &'a mut Assembled,
    /// Validates text while it is decompressed; `None` for a binary message.
    pub(super) utf8: Option<&'a mut Validator>,
    /// The bytes of the message before those in the buffer.
    pub(super) before: u64,
    /// The largest size of the message.
    pub(super) limit: u64,
    /// Once the buffer has this size, no more of the input is taken.
    pub(super) step: usize,
}

impl<'a> Sink<'a> {
    /// For a message that is assembled.
    pub(super) fn whole(message: &'a mut Assembled, utf8: Option<&'a mut Validator>, limit: u64) -> Sink<'a> {
        Sink { message, utf8, before: 0, limit, step: usize::MAX }
    }
}

#[cfg(feature = "deflate")]
impl Sink<'_> {
    /// The size in bytes that the buffer may reach, with one byte more than the limit on the message, to distinguish a
    /// message of exactly that size from a larger one.
    fn max_size(&self) -> usize {
        let most = self.room_in_limit().saturating_add(1);
        if self.is_full() {
            // The decompressor holds output for input that it has taken.
            return most.min(self.message.filled.saturating_add(MAX_HELD_STEP));
        }
        most.min(self.step)
    }

    /// The size in bytes that the buffer may have at the limit on the message.
    fn room_in_limit(&self) -> usize {
        usize::try_from(self.limit.saturating_sub(self.before)).unwrap_or(usize::MAX)
    }

    /// The size in bytes that the message has so far.
    fn message_size(&self) -> u64 {
        self.before.saturating_add(self.message.filled as u64)
    }

    fn is_full(&self) -> bool {
        self.message.filled >= self.step
    }
}

/// A full buffer grows by 4 KiB at a time for what the decompressor still holds, which is seldom more.
#[cfg(feature = "deflate")]
const MAX_HELD_STEP: usize = 4 << 10;

#[cfg(all(test, feature = "deflate"))]
pub(in crate::protocol) mod tests;
