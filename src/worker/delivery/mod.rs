//! How received messages reach the application: the trait, and handlers on the worker's thread.

pub(crate) mod delivery;
pub(crate) mod handler;
pub(crate) mod socket;
mod socket_stream;
pub(crate) mod socket_topics;
