//! What threads other than the worker hold of a connection, and the inbox through which they reach it.

pub(crate) mod inbox;
pub(crate) mod info;
pub(crate) mod latest;
pub(crate) mod metrics;
pub(crate) mod peer;
pub(crate) mod peer_id;
pub(crate) mod prepared;
pub(crate) mod publisher;
pub(crate) mod queued_bytes;
pub(crate) mod send;
pub(crate) mod send_latest;
pub(crate) mod send_wait;
pub(crate) mod shared;
pub(crate) mod stats;
pub(crate) mod subscribe;
pub(crate) mod summary;
pub(crate) mod topic;
pub(crate) mod topic_bridge;
pub(crate) mod topic_events;
pub(crate) mod topics;
pub(crate) mod traffic;
pub(crate) mod wakeup;
pub(crate) mod worker_handle;
