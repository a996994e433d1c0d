//! Where a server listens.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;

use socket2::{Domain, SockAddr};

/// An address, or the path of a Unix socket: `127.0.0.1:8080`, `unix:/tmp/echo.sock`.
#[derive(Clone, Debug)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    pub fn domain(&self) -> Domain {
        match self {
            Target::Tcp(addr) => Domain::for_address(*addr),
            Target::Unix(_) => Domain::UNIX,
        }
    }

    /// # Errors
    ///
    /// A path that no socket can have.
    pub fn address(&self) -> io::Result<SockAddr> {
        match self {
            Target::Tcp(addr) => Ok((*addr).into()),
            Target::Unix(path) => SockAddr::unix(path),
        }
    }

    /// The value of `Host`.
    pub fn host(&self) -> String {
        match self {
            Target::Tcp(addr) => addr.to_string(),
            Target::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Whether a server accepts connections.
    pub fn is_open(&self) -> bool {
        match self {
            Target::Tcp(addr) => TcpStream::connect(addr).is_ok(),
            Target::Unix(path) => UnixStream::connect(path).is_ok(),
        }
    }
}

impl FromStr for Target {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Target, std::net::AddrParseError> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Target::Unix(path.into())),
            None => Ok(Target::Tcp(text.parse()?)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(addr) => addr.fmt(f),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
