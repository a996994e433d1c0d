//! What is on record about a connection: who its peer is, and what has gone through.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::worker::handle::stats::Counters;

/// What is on record about a connection: in its handle if there is one, otherwise beside the worker's slots. Only the worker
/// writes, so it needs no lock.
#[derive(Debug, Default)]
pub(crate) struct PeerInfo {
    pub(crate) counters: Counters,
    addr: CompactAddr,
}

impl PeerInfo {
    pub(crate) fn new(addr: SocketAddr) -> PeerInfo {
        PeerInfo { counters: Counters::default(), addr: addr.into() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        (&self.addr).into()
    }
}

/// A [`SocketAddr`] of 16 bytes rather than 32 wherever it is an IPv4 address, for there are many of them.
#[derive(Debug)]
pub(crate) enum CompactAddr {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl Default for CompactAddr {
    fn default() -> CompactAddr {
        CompactAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
    }
}

impl From<SocketAddr> for CompactAddr {
    fn from(addr: SocketAddr) -> CompactAddr {
        match addr {
            SocketAddr::V4(addr) => CompactAddr::V4(addr),
            SocketAddr::V6(addr) => CompactAddr::V6(Box::new(addr)),
        }
    }
}

impl From<&CompactAddr> for SocketAddr {
    fn from(addr: &CompactAddr) -> SocketAddr {
        match addr {
            CompactAddr::V4(addr) => SocketAddr::V4(*addr),
            CompactAddr::V6(addr) => SocketAddr::V6(**addr),
        }
    }
}
