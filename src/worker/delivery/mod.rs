//! How received messages reach the application: the trait, and handlers on the worker's thread.

pub(crate) mod delivery;
pub(crate) mod handler;
pub(crate) mod socket;
#[cfg(feature = "serde_json")]
pub(crate) mod socket_json;
mod socket_stream;
pub(crate) mod socket_topics;
