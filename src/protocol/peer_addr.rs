//! The address of a peer, on any kind of socket.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::protocol::escaped::Escaped;

/// The address of a peer, on any kind of socket. [`Display`](fmt::Display) escapes control characters in the path of a Unix
/// socket, which the peer has chosen.
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
    /// A Unix socket, with its path if it has one. The socket of a client usually has none. A path that begins with `@` is
    /// a name in Linux's abstract namespace.
    Unix(Option<PathBuf>),
    /// The address is not known to this library, for example if a [`WebSocket`](crate::WebSocket) uses a pipe in
    /// memory, or if a proxy that is believed hides its client.
    Unknown,
}

impl PeerAddr {
    /// Returns the IP address; `None` if this is not a [`PeerAddr::Ip`].
    ///
    /// ```
    /// use threadbare::PeerAddr;
    ///
    /// assert_eq!(PeerAddr::from(([127, 0, 0, 1], 8080)).ip(), Some([127, 0, 0, 1].into()));
    /// assert_eq!(PeerAddr::Unknown.ip(), None);
    /// ```
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_socket_addr().map(|addr| addr.ip())
    }

    /// Returns the port; `None` if this is not a [`PeerAddr::Ip`].
    ///
    /// ```
    /// use threadbare::PeerAddr;
    ///
    /// assert_eq!(PeerAddr::from(([127, 0, 0, 1], 8080)).port(), Some(8080));
    /// assert_eq!(PeerAddr::Unix(None).port(), None);
    /// ```
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.as_socket_addr().map(|addr| addr.port())
    }

    /// Returns the IP address and port; `None` if this is not a [`PeerAddr::Ip`].
    ///
    /// ```
    /// use threadbare::PeerAddr;
    ///
    /// let addr = PeerAddr::from(([127, 0, 0, 1], 8080));
    /// assert_eq!(addr.as_socket_addr(), Some(([127, 0, 0, 1], 8080).into()));
    /// ```
    #[must_use]
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            PeerAddr::Ip(addr) => Some(*addr),
            PeerAddr::Unix(_) | PeerAddr::Unknown => None,
        }
    }

    /// Returns the path of the Unix socket; `None` if it has none or this is not a [`PeerAddr::Unix`].
    ///
    /// ```
    /// use std::path::Path;
    /// use threadbare::PeerAddr;
    ///
    /// let addr = PeerAddr::Unix(Some("/run/chat.sock".into()));
    /// assert_eq!(addr.as_path(), Some(Path::new("/run/chat.sock")));
    /// ```
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            PeerAddr::Unix(path) => path.as_deref(),
            PeerAddr::Ip(_) | PeerAddr::Unknown => None,
        }
    }
}

/// Returns an IPv4 address for one that is mapped into IPv6 (RFC 4291 2.5.5.2), as a socket for both reports it.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        // It may have a scope.
        IpAddr::V6(_) => addr,
    }
}

/// An IPv4 address that is mapped into IPv6 becomes that IPv4 address.
impl<A: Into<SocketAddr>> From<A> for PeerAddr {
    fn from(addr: A) -> PeerAddr {
        PeerAddr::Ip(canonical(addr.into()))
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
            // A peer chooses the name of its own socket.
            PeerAddr::Unix(path) => {
                let path = path.as_deref().unwrap_or(Path::new("")).to_string_lossy();
                write!(f, "unix:{}", Escaped(&path))
            }
            PeerAddr::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
impl PeerAddr {
    /// An address of each kind, for tests.
    pub(crate) fn one_of_each_kind() -> [PeerAddr; 5] {
        [
            PeerAddr::from(([127, 0, 0, 1], 80)),
            PeerAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80)),
            PeerAddr::Unix(None),
            PeerAddr::Unix(Some("/run/app.sock".into())),
            PeerAddr::Unknown,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_and_unix_addresses_return_their_parts() {
        let ip = PeerAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9));
        assert_eq!((ip.port(), ip.as_path(), ip.to_string().as_str()), (Some(9), None, "[::1]:9"));
        assert_eq!(ip, SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9)));
        let unix = PeerAddr::Unix(Some("/run/app.sock".into()));
        assert_eq!((unix.ip(), unix.as_path()), (None, Some(Path::new("/run/app.sock"))));
        assert_eq!(unix.to_string(), "unix:/run/app.sock");
        let steering = PeerAddr::Unix(Some("@a\r\nb\x1b[2J\u{202e}".into()));
        assert_eq!(steering.to_string(), "unix:@a\\r\\nb\\u{1b}[2J\\u{202e}");
        assert_eq!((PeerAddr::Unknown.port(), PeerAddr::Unknown.to_string().as_str()), (None, "unknown"));
    }
}
