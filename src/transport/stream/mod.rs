//! The streams that a connection may run over.

pub(crate) mod attempt;
pub(crate) mod blocking;
pub(crate) mod byte_stream;
pub(crate) mod hooks;
#[cfg(threadbare_bench)]
pub(crate) mod memory;
pub(crate) mod system;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

#[cfg(feature = "rustls-tls")]
use crate::protocol::tls_info::TlsInfo;
use crate::transport::stream::byte_stream::{ByteStream, ShutdownProgress};
use crate::transport::stream::system::{awaits_acknowledgement, receive, send, send_vectored};
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::stream::TlsStream;

/// A non-blocking stream that a reactor or a worker owns.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Plain TCP, or a Unix socket: the descriptor is all that there is in either type, and the system's calls are the
    /// same. A variant of its own would take 8 bytes more of each connection.
    Tcp(TcpStream),
    /// TLS over another.
    #[cfg(feature = "rustls-tls")]
    Tls(Box<TlsStream<Stream>>),
    /// Bytes in memory, for benchmarks.
    #[cfg(threadbare_bench)]
    Memory(crate::transport::stream::memory::MemoryStream),
}

impl Stream {
    /// A stream over a Unix socket that does not block.
    #[cfg(unix)]
    pub(crate) fn of_unix(socket: std::os::unix::net::UnixStream) -> Stream {
        let socket = std::net::TcpStream::from(std::os::fd::OwnedFd::from(socket));
        Stream::Tcp(TcpStream::from_std(socket))
    }

    /// Whether the socket is all that there is.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn is_plain(&self) -> bool {
        match self {
            Stream::Tcp(_) => true,
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(_) => false,
            #[cfg(threadbare_bench)]
            Stream::Memory(_) => false,
        }
    }

    /// The descriptor of the socket; `None` if the socket is not all that there is.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self {
            Stream::Tcp(stream) => Some(std::os::fd::AsFd::as_fd(stream)),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(_) => None,
            #[cfg(threadbare_bench)]
            Stream::Memory(_) => None,
        }
    }

    /// Makes the coming drop a reset rather than an orderly close. Unix sockets have no resets: the peer finds the end.
    pub(crate) fn reset_on_drop(&self) {
        match self {
            // An error leaves an orderly close, which is no worse. A Unix socket ignores this.
            Stream::Tcp(stream) => drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.get_ref().reset_on_drop(),
            #[cfg(threadbare_bench)]
            Stream::Memory(_) => {}
        }
    }

    /// Limits how many bytes the kernel holds for the peer. The system may double or cap it.
    pub(crate) fn limit_send_buffer(&self, size: usize) {
        match self {
            // An error leaves the system's own limit, which hides the progress of a slow peer for longer.
            Stream::Tcp(stream) => drop(socket2::SockRef::from(stream).set_send_buffer_size(size)),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.get_ref().limit_send_buffer(size),
            #[cfg(threadbare_bench)]
            Stream::Memory(_) => {}
        }
    }

    /// Whether the peer's system has yet to acknowledge some of what was written, or had at the call before. After a call
    /// that says so, the kernel ends the connection once nothing was acknowledged for `patience`. `false` where the system
    /// does not say; Linux does, for TCP. To be asked only before a connection would be given up.
    pub(crate) fn awaits_acknowledgement(&self, patience: Duration) -> bool {
        match self {
            Stream::Tcp(stream) => awaits_acknowledgement(stream, patience).unwrap_or(false),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.get_ref().awaits_acknowledgement(patience),
            #[cfg(threadbare_bench)]
            Stream::Memory(_) => false,
        }
    }

    /// Whether a handshake below this one, such as that of TLS, is not complete.
    #[inline]
    pub(crate) fn is_handshaking(&self) -> bool {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.is_handshaking(),
            _ => false,
        }
    }

    /// Reads from the socket itself, below TLS, before that has begun.
    pub(crate) fn read_socket(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.below_mut().read(buffer),
            _ => self.read(buffer),
        }
    }

    /// Begins TLS with bytes that were read from the socket. `false` if there is no TLS, and the bytes are the caller's.
    pub(crate) fn begin_with(&mut self, bytes: &[u8]) -> bool {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => {
                stream.begin_with(bytes);
                true
            }
            _ => {
                let _ = bytes;
                false
            }
        }
    }

    /// What was agreed on in the handshake of TLS.
    #[cfg(feature = "rustls-tls")]
    pub(crate) fn tls_info(&self) -> Option<TlsInfo> {
        match self {
            Stream::Tls(stream) => stream.info(),
            _ => None,
        }
    }

    /// What was agreed on in the handshake of TLS, once.
    #[cfg(feature = "rustls-tls")]
    pub(crate) fn take_tls_info(&mut self) -> Option<TlsInfo> {
        match self {
            Stream::Tls(stream) => Some(stream.take_info()),
            _ => None,
        }
    }

    /// After a read that failed: whether the peer speaks HTTP where TLS is expected. Then it can be answered in the clear.
    pub(crate) fn bypass_if_text(&mut self) -> bool {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) if stream.has_met_text() => {
                stream.bypass();
                true
            }
            _ => false,
        }
    }

    /// After a read that failed: whether the peer was sent an alert of TLS. Then what it still sends can be read, to be
    /// discarded.
    pub(crate) fn bypass_if_alerted(&mut self) -> bool {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) if stream.has_sent_alert() => {
                stream.bypass();
                true
            }
            _ => false,
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.below_mut().source(),
            #[cfg(threadbare_bench)]
            Stream::Memory(stream) => stream,
        }
    }
}

impl ByteStream for Stream {
    /// A read that filled its buffers may have left something; one that did not has emptied the socket.
    #[inline(always)]
    fn has_more(&self, size: usize, offered: usize) -> bool {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.has_more(size, offered),
            _ => size == offered,
        }
    }

    #[inline(always)]
    fn pending_bytes(&self) -> usize {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.pending_bytes(),
            _ => 0,
        }
    }

    #[inline(always)]
    fn memory(&self) -> usize {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.memory(),
            _ => 0,
        }
    }

    /// With TLS, sends `close_notify`.
    fn end_layer(&mut self) -> io::Result<ShutdownProgress> {
        match self {
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.end_layer(),
            _ => Ok(ShutdownProgress::Done),
        }
    }

    /// Sends FIN; with TLS, `close_notify` before it.
    fn shutdown_write(&mut self) -> io::Result<ShutdownProgress> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write)?,
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => {
                return match stream.shutdown_write()? {
                    ShutdownProgress::Pending => Ok(ShutdownProgress::Pending),
                    ShutdownProgress::Done => stream.below_mut().shutdown_write(),
                };
            }
            #[cfg(threadbare_bench)]
            Stream::Memory(_) => {}
        }
        Ok(ShutdownProgress::Done)
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => receive(stream, buffer),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.read(buffer),
            #[cfg(threadbare_bench)]
            Stream::Memory(stream) => stream.read(buffer),
        }
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read_vectored(buffers),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.read_vectored(buffers),
            #[cfg(threadbare_bench)]
            Stream::Memory(stream) => stream.read_vectored(buffers),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => send(stream, bytes),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.write(bytes),
            #[cfg(threadbare_bench)]
            Stream::Memory(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => send_vectored(stream, slices),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.write_vectored(slices),
            #[cfg(threadbare_bench)]
            Stream::Memory(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.flush(),
            #[cfg(feature = "rustls-tls")]
            Stream::Tls(stream) => stream.flush(),
            #[cfg(threadbare_bench)]
            Stream::Memory(stream) => stream.flush(),
        }
    }
}
