//! The addresses of Unix sockets.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::protocol::PeerAddr;

/// Makes the address of a socket with this path. A path that begins with `@` is a name in Linux's abstract namespace.
pub(crate) fn socket_addr(path: &Path) -> io::Result<SocketAddr> {
    match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => abstract_addr(name),
        b"" => Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is empty")),
        _ => SocketAddr::from_pathname(path),
    }
}

/// Returns the address in the form that [`socket_addr`] takes.
pub(crate) fn peer_addr(addr: &SocketAddr) -> PeerAddr {
    PeerAddr::Unix(addr.as_pathname().map(Path::to_owned).or_else(|| abstract_path(addr)))
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn abstract_addr(name: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    if name.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name after the @ is empty"));
    }
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn abstract_addr(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has abstract names (@name): a path is needed"))
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn abstract_path(addr: &SocketAddr) -> Option<PathBuf> {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    let name = addr.as_abstract_name()?;
    Some(OsStr::from_bytes(&[b"@", name].concat()).into())
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn abstract_path(_: &SocketAddr) -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_an_address_and_comes_back() {
        let paths = if cfg!(target_os = "linux") { &["/run/app.sock", "app.sock", "@app"][..] } else { &["/run/a"] };
        for path in paths {
            let addr = socket_addr(Path::new(path)).expect("an address");
            assert_eq!(addr.as_pathname().is_some(), !path.starts_with('@'));
            assert_eq!(peer_addr(&addr), PeerAddr::Unix(Some(path.into())));
        }
        let (end, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        assert_eq!(peer_addr(&end.local_addr().expect("an address")), PeerAddr::Unix(None));
    }

    #[test]
    fn paths_that_no_socket_can_have_are_refused() {
        let long = "x".repeat(200);
        for path in ["", "@", "a\0b", &long, &format!("@{long}")] {
            assert!(socket_addr(Path::new(path)).is_err(), "{path:?}");
        }
    }
}
