//! The record of a connection: its peer's address and its counts.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use crate::protocol::PeerAddr;
use crate::protocol::handshake::Data;
use crate::worker::handle::stats::Counters;

/// The record of a connection. It is in the handle if there is one, otherwise in a table of the worker. Only the worker
/// writes it, so it needs no lock.
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

/// The outcome of an opening handshake, apart from compression. Few connections have any.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The subprotocol that was agreed on.
    pub(crate) subprotocol: Option<Arc<String>>,
    /// The data of `Accept::data`.
    pub(crate) data: Option<Data>,
    /// The head of the request, if another process may go on with the connection.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) head: Option<Box<[u8]>>,
}

impl Outcome {
    pub(crate) fn new(subprotocol: Option<Arc<String>>, data: Option<Data>) -> Outcome {
        Outcome {
            subprotocol,
            data,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            head: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.subprotocol.is_none() && self.data.is_none() && !self.has_head()
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn has_head(&self) -> bool {
        self.head.is_some()
    }

    #[cfg(not(all(target_os = "linux", feature = "handover")))]
    fn has_head(&self) -> bool {
        false
    }
}

/// A [`PeerAddr`] in 16 bytes rather than 32, because there is one for each connection. An address that is neither IPv4
/// nor a Unix socket without a path is in a box.
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
        for addr in PeerAddr::one_of_each_kind() {
            assert_eq!(PeerAddr::from(&CompactAddr::from(addr.clone())), addr);
        }
    }
}
