//! The state that the worker keeps for one connection.

pub(crate) mod active;
pub(crate) mod callback_watch;
pub(crate) mod conn;
pub(crate) mod context;
pub(crate) mod deadline;
pub(crate) mod flags;
pub(crate) mod gaps;
pub(crate) mod latest;
pub(crate) mod parts;
pub(crate) mod phase;
pub(crate) mod send_with;
pub(crate) mod subscriptions;
pub(crate) mod topics;
