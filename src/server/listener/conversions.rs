//! What converts into listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};

use crate::server::listener::{Listener, Listeners, Place};

/// `host:port`, `unix:PATH`, or `unix:@NAME`. A host may have several addresses; the first that can be bound is used.
impl From<&str> for Listener {
    fn from(addr: &str) -> Listener {
        match addr.strip_prefix("unix:") {
            Some(path) => Listener::unix(path),
            None => Listener::tcp(addr),
        }
    }
}

/// As of `&str`.
macro_rules! from_text {
    ($($text:ty),*) => {
        $(impl From<$text> for Listener {
            fn from(addr: $text) -> Listener {
                let addr: &str = addr.as_ref();
                addr.into()
            }
        })*
    };
}

from_text!(String, &String, &&str);

/// What the standard library can make addresses of.
macro_rules! from_addr {
    ($($addr:ty),*) => {
        $(impl From<$addr> for Listener {
            fn from(addr: $addr) -> Listener {
                Listener::tcp(addr)
            }
        })*
    };
}

from_addr!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16),
    (&str, u16),
    (String, u16),
    &SocketAddr,
    &SocketAddrV4,
    &SocketAddrV6,
    &(IpAddr, u16),
    &(Ipv4Addr, u16),
    &(Ipv6Addr, u16),
    &(&str, u16),
    &(String, u16),
    &[SocketAddr]
);

/// A listener that was made elsewhere: by a service manager, or by the process before this one.
impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::new(Place::GivenTcp(listener))
    }
}

/// A listener that was made elsewhere. Its file is never removed.
#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for Listener {
    fn from(listener: std::os::unix::net::UnixListener) -> Listener {
        Listener::new(Place::GivenUnix(listener))
    }
}

impl<L: Into<Listener>> From<L> for Listeners {
    fn from(listener: L) -> Listeners {
        Listeners(vec![listener.into()])
    }
}

impl From<Vec<Listener>> for Listeners {
    fn from(listeners: Vec<Listener>) -> Listeners {
        Listeners(listeners)
    }
}

impl<const N: usize> From<[Listener; N]> for Listeners {
    fn from(listeners: [Listener; N]) -> Listeners {
        Listeners(listeners.into())
    }
}

impl FromIterator<Listener> for Listeners {
    fn from_iter<I: IntoIterator<Item = Listener>>(listeners: I) -> Listeners {
        Listeners(listeners.into_iter().collect())
    }
}
