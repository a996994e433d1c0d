//! The listening socket.

use std::net::{SocketAddr, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::BuildError;

/// The kernel keeps at most this many connections until they are accepted. It is the default limit of Linux.
const BACKLOG: i32 = 4096;

/// Listens on the first of the addresses that can be bound.
pub(super) fn listen(addr: impl ToSocketAddrs) -> Result<mio::net::TcpListener, BuildError> {
    let addrs = addr.to_socket_addrs().map_err(BuildError::io("the address can not be resolved"))?;
    let mut failure = BuildError::Io {
        operation: "the address can not be resolved".into(),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "no such host"),
    };
    for addr in addrs {
        match listen_on(addr) {
            Ok(listener) => return Ok(mio::net::TcpListener::from_std(listener)),
            Err(source) => failure = BuildError::io(format!("{addr} can not be bound"))(source),
        }
    }
    Err(failure)
}

fn listen_on(addr: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A server that is started again can bind although connections of the one before are in TIME_WAIT. On Windows the
    // option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
