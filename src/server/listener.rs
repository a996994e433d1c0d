//! The listening socket.

use std::io;
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
        source: io::Error::new(io::ErrorKind::NotFound, "no such host"),
    };
    for addr in addrs {
        match listen_on(addr) {
            Ok(listener) => return Ok(mio::net::TcpListener::from_std(listener)),
            Err(source) => failure = BuildError::io(cannot_bind(addr, source.kind()))(source),
        }
    }
    Err(failure)
}

/// Says which address can not be bound, and what to do about it.
fn cannot_bind(addr: SocketAddr, why: io::ErrorKind) -> String {
    let port = addr.port();
    let advice = match why {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another port, or port 0 for any that is free"
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            "a port below 1024 needs a privilege: choose a larger one, or give the program that privilege"
        }
        io::ErrorKind::PermissionDenied => "the system does not allow it: choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address: choose one of its own, or 0.0.0.0 or [::] for all of them"
        }
        _ => return format!("{addr} can not be bound"),
    };
    format!("{addr} can not be bound; {advice}")
}

fn listen_on(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_can_not_be_bound_is_named_with_what_to_do() {
        let said = |addr: &str| listen(addr).expect_err("not bound").to_string();
        let first = listen("127.0.0.1:0").expect("a listener");
        let taken = first.local_addr().expect("an address");
        assert!(said(&taken.to_string()).starts_with(&format!("{taken} can not be bound; another program listens")));
        // RFC 5737 keeps this one for documentation.
        let foreign = said("192.0.2.1:8080");
        assert!(foreign.starts_with("192.0.2.1:8080 can not be bound; this machine does not have"), "{foreign}");
        let denied = |port| cannot_bind(([0, 0, 0, 0], port).into(), io::ErrorKind::PermissionDenied);
        assert!(denied(80).contains("below 1024") && !denied(8080).contains("1024"));
        let other = cannot_bind(taken, io::ErrorKind::OutOfMemory);
        assert_eq!(other, format!("{taken} can not be bound"));
    }
}
