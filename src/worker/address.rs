//! A peer's address in half the room.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A [`SocketAddr`] of 16 bytes rather than 32 wherever it is an IPv4 address, for there are many of them.
#[derive(Debug)]
pub(crate) enum Address {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl Default for Address {
    fn default() -> Address {
        Address::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Address {
        match addr {
            SocketAddr::V4(addr) => Address::V4(addr),
            SocketAddr::V6(addr) => Address::V6(Box::new(addr)),
        }
    }
}

impl From<&Address> for SocketAddr {
    fn from(addr: &Address) -> SocketAddr {
        match addr {
            Address::V4(addr) => SocketAddr::V4(*addr),
            Address::V6(addr) => SocketAddr::V6(**addr),
        }
    }
}
