//! What fuzz targets reach that is not public: each takes bytes of a peer.

/// Replies of an engine, as a bridge reads them.
#[cfg(feature = "redis")]
pub fn redis(bytes: &[u8]) {
    crate::bridge::redis::fuzz::replies(bytes);
}

/// A message between two processes that hand a server over.
#[cfg(all(target_os = "linux", feature = "handover"))]
pub fn hand_over(bytes: &[u8]) {
    let _ = crate::server::parse_hand_over(bytes, 1000);
}
