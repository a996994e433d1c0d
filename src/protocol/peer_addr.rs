//! The address of a peer, whatever kind of socket it comes through.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The address of a peer, whatever kind of socket it comes through.
///
/// ```
/// use threadbare::PeerAddr;
///
/// let addr = PeerAddr::from(([127, 0, 0, 1], 8080));
/// assert_eq!(addr.ip(), Some([127, 0, 0, 1].into()));
/// assert_eq!(addr.port(), Some(8080));
/// assert_eq!(addr.to_string(), "127.0.0.1:8080");
/// assert_eq!(PeerAddr::Unix(None).to_string(), "unix:");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerAddr {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix socket, with its path if it has one: that of a client seldom has.
    Unix(Option<PathBuf>),
    /// The stream has no address that this library knows: a pipe in memory, or any other stream of a
    /// [`WebSocket`](crate::WebSocket).
    Unknown,
}

impl PeerAddr {
    /// The IP address, if this is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_socket_addr().map(|addr| addr.ip())
    }

    /// The port, if this is an IP address.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.as_socket_addr().map(|addr| addr.port())
    }

    /// The IP address and port, if this is one.
    #[must_use]
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            PeerAddr::Ip(addr) => Some(*addr),
            PeerAddr::Unix(_) | PeerAddr::Unknown => None,
        }
    }

    /// The path of the Unix socket, if this is one and has a path.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            PeerAddr::Unix(path) => path.as_deref(),
            PeerAddr::Ip(_) | PeerAddr::Unknown => None,
        }
    }
}

impl<A: Into<SocketAddr>> From<A> for PeerAddr {
    fn from(addr: A) -> PeerAddr {
        PeerAddr::Ip(addr.into())
    }
}

impl PartialEq<SocketAddr> for PeerAddr {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.as_socket_addr() == Some(*other)
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddr::Ip(addr) => addr.fmt(f),
            PeerAddr::Unix(path) => write!(f, "unix:{}", path.as_deref().unwrap_or(Path::new("")).display()),
            PeerAddr::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_parts() {
        let ip = PeerAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9));
        assert_eq!((ip.port(), ip.as_path(), ip.to_string().as_str()), (Some(9), None, "[::1]:9"));
        assert_eq!(ip, SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9)));
        let unix = PeerAddr::Unix(Some("/run/app.sock".into()));
        assert_eq!((unix.ip(), unix.as_path()), (None, Some(Path::new("/run/app.sock"))));
        assert_eq!(unix.to_string(), "unix:/run/app.sock");
        assert_eq!((PeerAddr::Unknown.port(), PeerAddr::Unknown.to_string().as_str()), (None, "unknown"));
    }
}
