//! A listening socket, ready to be registered with a poll.

use std::io;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use mio::net::{UnixListener, UnixStream};

use crate::protocol::PeerAddr;
use crate::protocol::peer_addr::canonical;
use crate::server::listener::Settings;
use crate::server::listener::layer::Layer;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::server::listener::socket_file::FileIdentity;
#[cfg(unix)]
use crate::server::listener::socket_file::SocketFile;
use crate::transport::stream::Stream;
use crate::transport::stream::hooks::SocketHooks;
use crate::transport::stream::system::prevent_sigpipe;

/// A socket that listens.
pub(in crate::server) struct OpenListener {
    /// Dropped before the socket is closed: until then no other file has the same number.
    #[cfg(unix)]
    #[cfg_attr(
        not(all(target_os = "linux", feature = "handover")),
        expect(dead_code, reason = "its drop removes the file")
    )]
    pub(super) file: Option<SocketFile>,
    /// The file of a socket of another process, until that has left it.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) shared_file: Option<FileIdentity>,
    pub(in crate::server) socket: ListeningSocket,
    pub(in crate::server) addr: PeerAddr,
    /// What each connection gets.
    pub(in crate::server) hooks: SocketHooks,
    pub(in crate::server) layer: Layer,
    /// Whether the socket was made elsewhere, so that another process may accept what this one leaves.
    pub(in crate::server) given: bool,
}

impl OpenListener {
    /// Leaves the file of a Unix socket to another process that has the socket.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::server) fn leave_file(&mut self) {
        if let Some(file) = self.file.take() {
            file.leave();
        }
    }

    /// Which file a Unix socket has, for another process.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::server) fn file_identity(&self) -> Option<FileIdentity> {
        self.file.as_ref().map(SocketFile::identity)
    }

    /// Notes that no other process has the socket any more.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(in crate::server) fn own(&mut self) {
        self.given = false;
        self.file = self.shared_file.take().map(SocketFile::take);
    }

    pub(super) fn new(socket: ListeningSocket, addr: PeerAddr, settings: Settings, origin: Origin) -> OpenListener {
        OpenListener {
            #[cfg(unix)]
            file: None,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            shared_file: None,
            socket,
            addr,
            hooks: settings.hooks,
            layer: settings.layer,
            given: origin == Origin::Given,
        }
    }
}

/// Where a socket comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Bound,
    /// It was made elsewhere.
    Given,
}

/// The socket itself.
pub(in crate::server) enum ListeningSocket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// A socket that was accepted, before the application's hook has seen it.
pub(in crate::server) enum AcceptedSocket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl AcceptedSocket {
    /// Calls the hook for this kind of socket. An error is the hook's.
    pub(in crate::server) fn into_stream(self, hooks: &SocketHooks) -> io::Result<Stream> {
        match self {
            AcceptedSocket::Tcp(socket) => hooks.call_tcp(socket),
            #[cfg(unix)]
            AcceptedSocket::Unix(socket) => hooks.call_unix(socket),
        }
    }
}

/// Returns an error for a socket that does not listen, or is no stream, as far as the system says.
#[cfg(target_os = "linux")]
pub(super) fn check_listening(socket: impl std::os::fd::AsFd) -> io::Result<()> {
    use rustix::net::SocketType;
    use rustix::net::sockopt::{socket_acceptconn, socket_type};
    if socket_type(&socket)? == SocketType::STREAM && socket_acceptconn(&socket)? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no stream socket that listens"))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn check_listening<S>(_: S) -> io::Result<()> {
    Ok(())
}

impl ListeningSocket {
    /// Accepts a connection that waits.
    pub(in crate::server) fn accept(&self) -> io::Result<(AcceptedSocket, PeerAddr)> {
        match self {
            ListeningSocket::Tcp(listener) => {
                let (stream, addr) = listener.accept()?;
                prevent_sigpipe(&stream);
                // On Linux the socket inherits this from its listener. If the socket is broken, the first write fails.
                if cfg!(not(target_os = "linux")) {
                    let _ = stream.set_nodelay(true);
                }
                // One address, whichever way it came: it is counted, and told to the application.
                Ok((AcceptedSocket::Tcp(stream), PeerAddr::Ip(canonical(addr))))
            }
            #[cfg(unix)]
            ListeningSocket::Unix(listener) => {
                let (stream, addr) = listener.accept()?;
                prevent_sigpipe(&stream);
                Ok((AcceptedSocket::Unix(stream), crate::transport::unix::peer_addr(&addr)))
            }
        }
    }

    pub(in crate::server) fn source(&mut self) -> &mut dyn Source {
        match self {
            ListeningSocket::Tcp(listener) => listener,
            #[cfg(unix)]
            ListeningSocket::Unix(listener) => listener,
        }
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for ListeningSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            ListeningSocket::Tcp(listener) => listener.as_fd(),
            ListeningSocket::Unix(listener) => listener.as_fd(),
        }
    }
}
