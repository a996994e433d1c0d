//! Opens TCP listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::BuildError;
use crate::server::listener::open::{ListeningSocket, OpenListener, Origin, check_listening};
use crate::server::listener::{BACKLOG, Settings};

/// Listens on the first of the addresses that can be bound.
pub(super) fn bind(addrs: io::Result<Vec<SocketAddr>>, settings: Settings) -> Result<OpenListener, BuildError> {
    let addrs = addrs.map_err(BuildError::io("the address can not be resolved"))?;
    let mut failure = BuildError::Io {
        operation: "the address can not be resolved".into(),
        source: io::Error::new(io::ErrorKind::NotFound, "no such host"),
    };
    for addr in addrs {
        match bind_to(addr, &settings) {
            Ok(listener) => return open(listener, settings, Origin::Bound),
            Err(source) => failure = BuildError::io(cannot_bind(addr, source.kind()))(source),
        }
    }
    Err(failure)
}

/// Listens on a socket that was made elsewhere.
pub(super) fn adopt(listener: TcpListener, settings: Settings) -> Result<OpenListener, BuildError> {
    let prepare = || {
        check_listening(&listener)?;
        if let Some(hook) = &settings.hook {
            hook(&listener)?;
        }
        listener.set_nonblocking(true)
    };
    prepare().map_err(BuildError::io("the TCP listener that was given can not be used"))?;
    open(listener, settings, Origin::Given)
}

fn open(listener: TcpListener, settings: Settings, origin: Origin) -> Result<OpenListener, BuildError> {
    let addr = listener.local_addr().map_err(BuildError::io("the address can not be told"))?;
    // Otherwise a small message would wait until the one before it is acknowledged. Accepted sockets inherit this on
    // Linux.
    let no_delay = socket2::SockRef::from(&listener).set_tcp_nodelay(true);
    no_delay.map_err(BuildError::io(format!("{addr} can not be listened on")))?;
    let socket = ListeningSocket::Tcp(mio::net::TcpListener::from_std(listener));
    Ok(OpenListener::new(socket, addr.into(), settings, origin))
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

fn bind_to(addr: SocketAddr, settings: &Settings) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A server that is started again can bind although connections of the one before are in TIME_WAIT. On Windows the
    // option means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if settings.only_v6 && addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let socket = match &settings.hook {
        Some(hook) => {
            let listener = TcpListener::from(socket);
            hook(&listener)?;
            Socket::from(listener)
        }
        None => socket,
    };
    socket.bind(&addr.into())?;
    socket.listen(settings.backlog.unwrap_or(BACKLOG).cast_signed())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(addr: &str) -> Result<OpenListener, BuildError> {
        bind(std::net::ToSocketAddrs::to_socket_addrs(addr).map(Iterator::collect), Settings::default())
    }

    #[test]
    fn an_address_that_can_not_be_bound_is_named_with_what_to_do() {
        let said = |addr: &str| listen(addr).map(|_| ()).expect_err("not bound").to_string();
        let first = listen("127.0.0.1:0").expect("a listener");
        let taken = first.addr.as_socket_addr().expect("an address");
        assert!(said(&taken.to_string()).starts_with(&format!("{taken} can not be bound; another program listens")));
        // RFC 5737 keeps this one for documentation.
        let foreign = said("192.0.2.1:8080");
        assert!(foreign.starts_with("192.0.2.1:8080 can not be bound; this machine does not have"), "{foreign}");
        let denied = |port| cannot_bind(([0, 0, 0, 0], port).into(), io::ErrorKind::PermissionDenied);
        assert!(denied(80).contains("a port below 1024 needs a privilege"), "{}", denied(80));
        assert!(denied(8080).contains("the system does not allow it"), "{}", denied(8080));
        let other = cannot_bind(taken, io::ErrorKind::OutOfMemory);
        assert_eq!(other, format!("{taken} can not be bound"));
    }
}
