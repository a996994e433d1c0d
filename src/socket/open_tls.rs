//! How a [`WebSocket`] is opened over TLS.

use std::io::{self, Read, Write};

use crate::config::Config;
use crate::protocol::handshake::client::{ClientRequest, Url};
use crate::socket::{SocketError, WebSocket};
use crate::transport::tls::client_config::ClientTls;
use crate::transport::tls::stream::TlsStream;

impl<S: Read + Write + 'static> WebSocket<TlsStream<S>> {
    /// Does the handshake of TLS and the client's side of the opening handshake over a stream that is connected to the
    /// server, with default limits. The server's certificate must be for the URL's host. For a server see
    /// [`Tls::accept`](crate::Tls::accept).
    ///
    /// ```no_run
    /// use std::net::TcpStream;
    /// use threadbare::{ClientTls, WebSocket};
    ///
    /// let stream = TcpStream::connect("example.com:443")?;
    /// let mut socket = WebSocket::connect_tls("wss://example.com/feed", stream, &ClientTls::with_default_roots()?)?;
    /// socket.send("hello")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`connect`](WebSocket::connect). An error of TLS is an [`Io`](SocketError::Io), which has a
    /// [`TlsError`](crate::TlsError).
    pub fn connect_tls(url: &str, stream: S, tls: &ClientTls) -> Result<WebSocket<TlsStream<S>>, SocketError> {
        WebSocket::connect_tls_with(ClientRequest::new(Url::parse(url)?), stream, &Config::default(), tls)
    }

    /// As [`connect_tls`](WebSocket::connect_tls), with a request, which may have headers and subprotocols, and with
    /// limits.
    ///
    /// ```no_run
    /// use std::net::TcpStream;
    /// use threadbare::{ClientRequest, ClientTls, Config, Url, WebSocket};
    ///
    /// let request = ClientRequest::new(Url::parse("wss://example.com/feed")?).header("Authorization", "Bearer 1234");
    /// let config = Config::default().max_message_size(64 << 10);
    /// let (stream, tls) = (TcpStream::connect("example.com:443")?, ClientTls::with_default_roots()?);
    /// let socket = WebSocket::connect_tls_with(request, stream, &config, &tls)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`connect_tls`](WebSocket::connect_tls).
    pub fn connect_tls_with(
        request: ClientRequest,
        stream: S,
        config: &Config,
        tls: &ClientTls,
    ) -> Result<WebSocket<TlsStream<S>>, SocketError> {
        let stream = tls
            .connect(request.url().host(), stream)
            .map_err(|error| SocketError::Io(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        WebSocket::connect_with(request, stream, config)
    }
}
