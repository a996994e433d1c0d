//! What is on record about a connection: who its peer is, and what has gone through.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use crate::protocol::PeerAddr;
use crate::protocol::handshake::Data;
use crate::worker::handle::stats::Counters;

/// What is on record about a connection: in its handle if there is one, otherwise beside the worker's slots. Only the worker
/// writes, so it needs no lock.
#[derive(Debug, Default)]
pub(crate) struct PeerInfo {
    pub(crate) counters: Counters,
    addr: CompactAddr,
}

impl PeerInfo {
    pub(crate) fn new(addr: impl Into<PeerAddr>) -> PeerInfo {
        PeerInfo { counters: Counters::default(), addr: addr.into().into() }
    }

    pub(crate) fn addr(&self) -> PeerAddr {
        (&self.addr).into()
    }
}

/// What the opening handshake leaves for a connection: seldom anything.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The subprotocol that was agreed on.
    pub(crate) subprotocol: Option<Arc<String>>,
    /// What the application keeps by `Accept::data`.
    pub(crate) data: Option<Data>,
}

impl Outcome {
    pub(crate) fn is_empty(&self) -> bool {
        self.subprotocol.is_none() && self.data.is_none()
    }
}

/// A [`PeerAddr`] of 16 bytes rather than 32 wherever it is an IPv4 address or a Unix socket without a path, for there
/// are many of them.
#[derive(Debug)]
pub(crate) enum CompactAddr {
    V4(SocketAddrV4),
    Unnamed,
    Other(Box<PeerAddr>),
}

impl Default for CompactAddr {
    fn default() -> CompactAddr {
        CompactAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
    }
}

impl From<PeerAddr> for CompactAddr {
    fn from(addr: PeerAddr) -> CompactAddr {
        match addr {
            PeerAddr::Ip(SocketAddr::V4(addr)) => CompactAddr::V4(addr),
            PeerAddr::Unix(None) => CompactAddr::Unnamed,
            other => CompactAddr::Other(Box::new(other)),
        }
    }
}

impl From<&CompactAddr> for PeerAddr {
    fn from(addr: &CompactAddr) -> PeerAddr {
        match addr {
            CompactAddr::V4(addr) => PeerAddr::Ip(SocketAddr::V4(*addr)),
            CompactAddr::Unnamed => PeerAddr::Unix(None),
            CompactAddr::Other(addr) => (**addr).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_from_16_bytes() {
        assert!(size_of::<CompactAddr>() <= 16, "{}", size_of::<CompactAddr>());
        for addr in [
            PeerAddr::from(([127, 0, 0, 1], 80)),
            PeerAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80)),
            PeerAddr::Unix(None),
            PeerAddr::Unix(Some("/run/app.sock".into())),
            PeerAddr::Unknown,
        ] {
            assert_eq!(PeerAddr::from(&CompactAddr::from(addr.clone())), addr);
        }
    }
}
