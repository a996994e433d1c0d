//! One socket: its stream, what waits to be decoded, what waits to be written.

pub(crate) mod budget;
pub(crate) mod buffer;
pub(crate) mod cancel;
pub(crate) mod chunk;
pub(crate) mod clock;
pub(crate) mod dial;
pub(crate) mod endpoint;
pub(crate) mod held;
mod lent;
pub(crate) mod loan;
pub(crate) mod masking_keys;
pub(crate) mod message_writer;
pub(crate) mod output;
pub(crate) mod part_buffers;
pub(crate) mod part_payload;
pub(crate) mod parts_state;
pub(crate) mod pending;
pub(crate) mod random;
pub(crate) mod read_ahead;
pub(crate) mod resolve;
pub(crate) mod shared_bytes;
pub(crate) mod shared_frame;
pub(crate) mod spare_inputs;
pub(crate) mod stream;
pub(crate) mod tls;
#[cfg(unix)]
pub(crate) mod unix;
