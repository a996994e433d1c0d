//! What an operator wants to know of one connection.

use std::time::Duration;

use crate::protocol::PeerAddr;
use crate::worker::handle::peer_id::PeerId;
use crate::worker::handle::stats::Stats;

/// What an operator wants to know of one connection; from [`ServerHandle::peers`](crate::ServerHandle::peers).
///
/// ```
/// use threadbare::PeerSummary;
///
/// /// The connection that has most to be written.
/// fn slowest(peers: &[PeerSummary]) -> Option<&PeerSummary> {
///     peers.iter().max_by_key(|peer| peer.stats.queued_bytes)
/// }
/// # assert!(slowest(&[]).is_none());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerSummary {
    /// The identity that the connection's [`Peer`](crate::Peer) has too.
    pub id: PeerId,
    /// The address of the client.
    pub addr: PeerAddr,
    /// The subprotocol that was agreed on.
    pub subprotocol: Option<String>,
    /// How long the connection has been open, to some hundredths of a second.
    pub age: Duration,
    /// Whether it is open, and not about to close.
    pub is_open: bool,
    /// Its counts, and the bytes that wait to be written.
    pub stats: Stats,
}
