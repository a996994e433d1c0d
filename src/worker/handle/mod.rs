//! What threads other than the worker hold of a connection, and the inbox through which they reach it.

pub(crate) mod draining;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) mod give;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) mod hand_over;
pub(crate) mod inbox;
pub(crate) mod info;
pub(crate) mod latest;
pub(crate) mod metrics;
pub(crate) mod outgoing_message;
pub(crate) mod peer;
pub(crate) mod peer_id;
pub(crate) mod posted_part;
pub(crate) mod prepared;
pub(crate) mod publisher;
mod publishing;
pub(crate) mod queued_bytes;
pub(crate) mod send;
#[cfg(feature = "serde_json")]
pub(crate) mod send_json;
pub(crate) mod send_latest;
pub(crate) mod send_wait;
pub(crate) mod shared;
pub(crate) mod source_task;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) mod stand_by;
pub(crate) mod stats;
pub(crate) mod stream_outcome;
pub(crate) mod stream_pool;
pub(crate) mod subscribe;
pub(crate) mod summary;
pub(crate) mod topic;
pub(crate) mod topic_bridge;
pub(crate) mod topic_events;
pub(crate) mod topics;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) mod topics_hand_over;
pub(crate) mod traffic;
pub(crate) mod wakeup;
pub(crate) mod worker_handle;
pub(crate) mod writer;
