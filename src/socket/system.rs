//! The sockets of the system among the streams that a [`WebSocket`](crate::WebSocket) may run over.

use std::any::Any;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use socket2::SockRef;

/// A socket of the system, which can be shut down and has timeouts. `Read` and `Write` can say neither.
pub(super) struct SystemSocket<'s> {
    pub(super) options: SockRef<'s>,
    pub(super) is_tcp: bool,
}

impl SystemSocket<'_> {
    /// Returns the socket if the stream is one.
    pub(super) fn of<S: 'static>(stream: &S) -> Option<SystemSocket<'_>> {
        let stream: &dyn Any = stream;
        let tcp = stream.downcast_ref().map(|tcp: &TcpStream| SockRef::from(tcp));
        let tcp = tcp.or_else(|| stream.downcast_ref().map(|tcp: &mio::net::TcpStream| SockRef::from(tcp)));
        match tcp {
            Some(options) => Some(SystemSocket { options, is_tcp: true }),
            None => unix(stream).map(|options| SystemSocket { options, is_tcp: false }),
        }
    }
}

#[cfg(unix)]
fn unix(stream: &dyn Any) -> Option<SockRef<'_>> {
    let unix = stream.downcast_ref().map(|unix: &UnixStream| SockRef::from(unix));
    unix.or_else(|| stream.downcast_ref().map(|unix: &mio::net::UnixStream| SockRef::from(unix)))
}

#[cfg(not(unix))]
fn unix(_: &dyn Any) -> Option<SockRef<'_>> {
    None
}
