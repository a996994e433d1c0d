//! Topics without their sockets: numbered messages in a ring, and who still needs them.

pub(crate) mod position;
pub(crate) mod registry;
pub(crate) mod ring;
pub(crate) mod stats;
pub(crate) mod topic;
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(crate) mod travel;
