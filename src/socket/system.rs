//! The sockets of the system among the streams that a [`WebSocket`](crate::WebSocket) may run over.

use std::any::Any;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;

use socket2::SockRef;

use crate::protocol::TlsInfo;

#[cfg(feature = "rustls-tls")]
use crate::transport::tls::stream::TlsStream;

/// A socket of the system, which can be shut down and has timeouts. `Read` and `Write` can say neither.
pub(super) struct SystemSocket<'s> {
    pub(super) options: SockRef<'s>,
    pub(super) is_tcp: bool,
}

impl SystemSocket<'_> {
    /// Returns the socket if the stream is one.
    pub(super) fn of<S: 'static>(stream: &S) -> Option<SystemSocket<'_>> {
        let stream = below(stream);
        let tcp = stream.downcast_ref().map(|tcp: &TcpStream| SockRef::from(tcp));
        let tcp = tcp.or_else(|| stream.downcast_ref().map(|tcp: &mio::net::TcpStream| SockRef::from(tcp)));
        match tcp {
            Some(options) => Some(SystemSocket { options, is_tcp: true }),
            None => unix(stream).map(|options| SystemSocket { options, is_tcp: false }),
        }
    }
}

/// The stream under TLS, or the stream itself.
#[cfg(feature = "rustls-tls")]
fn below(stream: &dyn Any) -> &dyn Any {
    if let Some(tls) = stream.downcast_ref::<TlsStream<TcpStream>>() {
        return tls.get_ref();
    }
    #[cfg(unix)]
    if let Some(tls) = stream.downcast_ref::<TlsStream<UnixStream>>() {
        return tls.get_ref();
    }
    stream
}

#[cfg(not(feature = "rustls-tls"))]
fn below(stream: &dyn Any) -> &dyn Any {
    stream
}

/// What was agreed on in the handshake of TLS, if the stream has that.
#[cfg(feature = "rustls-tls")]
pub(super) fn tls_info(stream: &dyn Any) -> Option<TlsInfo> {
    #[cfg(unix)]
    if let Some(tls) = stream.downcast_ref::<TlsStream<UnixStream>>() {
        return tls.info();
    }
    stream.downcast_ref::<TlsStream<TcpStream>>()?.info()
}

#[cfg(not(feature = "rustls-tls"))]
pub(super) fn tls_info(_: &dyn Any) -> Option<TlsInfo> {
    None
}

/// Says the end of TLS (`close_notify`), if the stream has it.
#[cfg(feature = "rustls-tls")]
pub(super) fn say_end(stream: &mut dyn Any) {
    // A socket that is broken has ended anyway.
    if let Some(tls) = stream.downcast_mut::<TlsStream<TcpStream>>() {
        let _ = tls.say_end();
    }
    #[cfg(unix)]
    if let Some(tls) = stream.downcast_mut::<TlsStream<UnixStream>>() {
        let _ = tls.say_end();
    }
}

#[cfg(not(feature = "rustls-tls"))]
pub(super) fn say_end(_: &mut dyn Any) {}

#[cfg(unix)]
fn unix(stream: &dyn Any) -> Option<SockRef<'_>> {
    let unix = stream.downcast_ref().map(|unix: &UnixStream| SockRef::from(unix));
    unix.or_else(|| stream.downcast_ref().map(|unix: &mio::net::UnixStream| SockRef::from(unix)))
}

#[cfg(not(unix))]
fn unix(_: &dyn Any) -> Option<SockRef<'_>> {
    None
}
