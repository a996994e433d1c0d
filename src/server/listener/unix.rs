//! Opens listeners on Unix sockets.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::BuildError;
use crate::protocol::PeerAddr;
use crate::server::listener::open::{ListeningSocket, OpenListener, Origin, check_listening};
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(in crate::server) use crate::server::listener::socket_file::check_place;
use crate::server::listener::socket_file::{SocketFile, TemporaryName};
use crate::server::listener::{BACKLOG, Settings};
use crate::transport::unix::{peer_addr, socket_addr};

/// Listens on a path, or on a name that begins with `@`.
pub(super) fn bind(path: &Path, settings: Settings) -> Result<OpenListener, BuildError> {
    let bound = match path.as_os_str().as_encoded_bytes() {
        [b'@', ..] => bind_name(path, &settings).map(|listener| (listener, None)),
        _ => bind_path(path, &settings).map(|(listener, file)| (listener, Some(file))),
    };
    let (listener, file) = bound.map_err(|source| BuildError::io(cannot_bind(path, source.kind()))(source))?;
    let addr = PeerAddr::Unix(Some(path.to_owned()));
    Ok(OpenListener { file, ..open(listener, addr, settings, Origin::Bound) })
}

/// Listens on a socket that was made elsewhere.
pub(super) fn adopt(listener: UnixListener, settings: Settings) -> Result<OpenListener, BuildError> {
    let prepare = || {
        check_listening(&listener)?;
        listener.set_nonblocking(true)?;
        listener.local_addr()
    };
    let addr = prepare().map_err(BuildError::io("the Unix listener that was given can not be used"))?;
    Ok(open(listener, peer_addr(&addr), settings, Origin::Given))
}

fn open(listener: UnixListener, addr: PeerAddr, settings: Settings, origin: Origin) -> OpenListener {
    OpenListener::new(ListeningSocket::Unix(mio::net::UnixListener::from_std(listener)), addr, settings, origin)
}

/// Says which path can not be bound, and what to do about it.
fn cannot_bind(path: &Path, why: io::ErrorKind) -> String {
    let advice = match why {
        io::ErrorKind::AddrInUse => "; another program has the name: stop it, or choose another name",
        io::ErrorKind::AlreadyExists => "; what is there is no socket: remove it, or choose another path",
        io::ErrorKind::NotFound => "; its directory does not exist: create it, or choose another path",
        io::ErrorKind::PermissionDenied => "; the program may not write to its directory: choose another path",
        _ => "",
    };
    format!("unix:{} can not be bound{advice}", path.display())
}

fn bind_name(path: &Path, settings: &Settings) -> io::Result<UnixListener> {
    // Checks the name.
    socket_addr(path)?;
    let mut name = path.as_os_str().as_bytes().to_vec();
    name[0] = 0;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(OsStr::from_bytes(&name))?)?;
    listen(socket, settings)
}

/// Makes a socket beside the path, and moves it there when it listens. Who connects finds the socket of before or this
/// one.
fn bind_path(path: &Path, settings: &Settings) -> io::Result<(UnixListener, SocketFile)> {
    let (listener, temporary) = listen_beside(path, TemporaryName::beside(path)?, settings)?;
    Ok((listener, temporary.rename_to(path)?))
}

/// Makes a socket beside the path, which listens.
fn listen_beside(
    path: &Path,
    mut temporary: TemporaryName,
    settings: &Settings,
) -> io::Result<(UnixListener, TemporaryName)> {
    // The path itself must fit too, because clients connect to it.
    socket_addr(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(temporary.path())?)?;
    temporary.is_made(settings.mode)?;
    Ok((listen(socket, settings)?, temporary))
}

/// A socket that only this user may connect to, and that nobody finds yet.
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(in crate::server) struct PrivateSocket {
    listener: UnixListener,
    temporary: TemporaryName,
    path: std::path::PathBuf,
}

#[cfg(all(target_os = "linux", feature = "handover"))]
impl PrivateSocket {
    /// Makes a socket for `path`, beside it.
    pub(in crate::server) fn bind(path: &Path) -> io::Result<PrivateSocket> {
        PrivateSocket::under(path, TemporaryName::beside(path)?)
    }

    /// As [`bind`](PrivateSocket::bind), for the one process that takes over from another. What one that was killed has left is
    /// replaced.
    pub(in crate::server) fn bind_of_successor(path: &Path) -> io::Result<PrivateSocket> {
        let temporary = TemporaryName::of_successor(path)?;
        // Usually there is nothing.
        let _ = std::fs::remove_file(temporary.path());
        PrivateSocket::under(path, temporary)
    }

    fn under(path: &Path, temporary: TemporaryName) -> io::Result<PrivateSocket> {
        check_place(path)?;
        let settings = Settings { mode: Some(0o600), ..Settings::default() };
        let (listener, temporary) = listen_beside(path, temporary, &settings)?;
        Ok(PrivateSocket { listener, temporary, path: path.to_owned() })
    }

    /// The name that it gets.
    pub(in crate::server) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, in place of another socket.
    pub(in crate::server) fn publish(self) -> io::Result<PublishedSocket> {
        let file = self.temporary.rename_to(&self.path)?;
        Ok(PublishedSocket { listener: self.listener, file })
    }
}

/// A socket that only this user may connect to. Dropped, it removes its file.
#[cfg(all(target_os = "linux", feature = "handover"))]
pub(in crate::server) struct PublishedSocket {
    listener: UnixListener,
    file: SocketFile,
}

#[cfg(all(target_os = "linux", feature = "handover"))]
impl PublishedSocket {
    /// The socket, and its file.
    pub(in crate::server) fn into_parts(self) -> (mio::net::UnixListener, SocketFile) {
        (mio::net::UnixListener::from_std(self.listener), self.file)
    }
}

fn listen(socket: Socket, settings: &Settings) -> io::Result<UnixListener> {
    socket.listen(settings.backlog.unwrap_or(BACKLOG).cast_signed())?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_can_not_be_bound_is_named_with_what_to_do() {
        let said =
            |path: &str| bind(Path::new(path), Settings::default()).map(|_| ()).expect_err("not bound").to_string();
        let missing = said("/nowhere/app.sock");
        assert!(missing.starts_with("unix:/nowhere/app.sock can not be bound; its directory does not"), "{missing}");
        let other = said("/dev/null");
        assert!(other.starts_with("unix:/dev/null can not be bound; what is there is no socket"), "{other}");
        assert_eq!(said(""), "unix: can not be bound");
        let taken = cannot_bind(Path::new("@app"), io::ErrorKind::AddrInUse);
        assert!(taken.starts_with("unix:@app can not be bound; another program has the name"), "{taken}");
        let denied = cannot_bind(Path::new("/app.sock"), io::ErrorKind::PermissionDenied);
        assert!(denied.starts_with("unix:/app.sock can not be bound; the program may not write"), "{denied}");
    }
}
