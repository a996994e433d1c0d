//! What fuzz targets reach that is not public: each takes bytes of a peer.

/// Replies of an engine, as a bridge reads them.
#[cfg(feature = "redis")]
pub fn redis(bytes: &[u8]) {
    crate::bridge::redis::fuzz::replies(bytes);
}
