//! What lies between the accepted sockets of a listener and HTTP.

use crate::transport::stream::Stream;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::server_config::Tls;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::stream::TlsStream;

/// TLS, or nothing.
#[derive(Clone, Default)]
pub(in crate::server) struct Layer {
    #[cfg(feature = "rustls-tls")]
    tls: Option<Tls>,
}

impl Layer {
    /// TLS with these settings.
    #[cfg(feature = "rustls-tls")]
    pub(in crate::server) fn tls(tls: Tls) -> Layer {
        Layer { tls: Some(tls) }
    }

    /// The stream of an accepted connection, with this layer or, if it is none, with that of the server. `None` if it can
    /// not begin.
    #[cfg(feature = "rustls-tls")]
    pub(in crate::server) fn over(&self, stream: Stream, server: &Layer) -> Option<Stream> {
        let Some(tls) = self.tls.as_ref().or(server.tls.as_ref()) else { return Some(stream) };
        match tls.session() {
            Ok(session) => Some(Stream::Tls(Box::new(TlsStream::new(stream, session)))),
            Err(error) => {
                log::error!("a connection is dropped, for TLS can not begin: {error}");
                None
            }
        }
    }

    #[cfg(not(feature = "rustls-tls"))]
    pub(in crate::server) fn over(&self, stream: Stream, _: &Layer) -> Option<Stream> {
        Some(stream)
    }
}
