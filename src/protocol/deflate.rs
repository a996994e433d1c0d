//! permessage-deflate (RFC 7692): messages are compressed one by one, each as a raw deflate stream of its own or as
//! the continuation of the one before.
//!
//! A connection that negotiated it is made by `Connection::with_deflate`, from what `DeflateConfig` agrees on with the
//! peer. The memory for it is a [`Codec`]'s, which all connections of a thread share; only where _context takeover_ was
//! agreed on has a connection memory of its own.
//!
//! Without the feature `deflate` a [`Codec`] is nothing, and no message is compressed.

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

use crate::protocol::message::Assembled;
use crate::protocol::utf8::Validator;

/// Whether a message may be compressed, where permessage-deflate was negotiated. In a build without the feature `deflate`
/// nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// It is, from the threshold on.
    #[default]
    Auto,
    /// It is not: it is compressed already; or it holds a secret beside what an attacker chose, who could guess the one by
    /// watching how the other makes the message shrink (as in CRIME and BREACH).
    Never,
}

/// What the compression of a connection has saved, in bytes of payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeflateStats {
    /// Sent in compressed messages, before compression.
    pub sent: u64,
    /// Sent in compressed messages, on the wire.
    pub sent_compressed: u64,
    /// Received in compressed messages, after inflation.
    pub received: u64,
    /// Received in compressed messages, on the wire.
    pub received_compressed: u64,
}

/// Where inflated bytes go.
#[derive(Debug)]
#[cfg_attr(not(feature = "deflate"), expect(dead_code, reason = "nothing is inflated"))]
pub(super) struct Sink<'a> {
    pub(super) message: &'a mut Assembled,
    /// For text, which is checked as it comes.
    pub(super) utf8: Option<&'a mut Validator>,
    pub(super) limit: u64,
}

#[cfg(all(test, feature = "deflate"))]
pub(in crate::protocol) mod tests;
