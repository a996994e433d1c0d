//! Hooks of the application that see each new socket before it is used, to set its options.

use std::fmt;
use std::io;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::transport::stream::Stream;

type Hook<S> = Arc<dyn Fn(&S) -> io::Result<()> + Send + Sync>;

/// A hook for each kind of socket.
#[derive(Clone, Default)]
pub(crate) struct SocketHooks {
    pub(crate) tcp: Option<Hook<TcpStream>>,
    #[cfg(unix)]
    pub(crate) unix: Option<Hook<UnixStream>>,
}

impl SocketHooks {
    /// Calls the hook for TCP, if there is one, and makes a stream of the socket. An error is the hook's.
    pub(crate) fn call_tcp(&self, socket: mio::net::TcpStream) -> io::Result<Stream> {
        let Some(hook) = &self.tcp else { return Ok(Stream::Tcp(socket)) };
        let socket = TcpStream::from(socket);
        hook(&socket)?;
        Ok(Stream::Tcp(mio::net::TcpStream::from_std(socket)))
    }

    /// Calls the hook for Unix sockets, if there is one, and makes a stream of the socket. An error is the hook's.
    #[cfg(unix)]
    pub(crate) fn call_unix(&self, socket: mio::net::UnixStream) -> io::Result<Stream> {
        let socket = UnixStream::from(socket);
        if let Some(hook) = &self.unix {
            hook(&socket)?;
        }
        Ok(Stream::of_unix(socket))
    }
}

impl fmt::Debug for SocketHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketHooks").finish_non_exhaustive()
    }
}
