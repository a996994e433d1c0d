//! One socket: its stream, what waits to be decoded, what waits to be written.

pub(crate) mod buffer;
pub(crate) mod dial;
pub(crate) mod endpoint;
pub(crate) mod interrupt;
pub(crate) mod keys;
#[cfg(feature = "internals")]
pub(crate) mod memory;
pub(crate) mod outbox;
pub(crate) mod output;
pub(crate) mod shared;
pub(crate) mod stream;
