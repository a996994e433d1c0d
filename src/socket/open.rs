//! How a [`WebSocket`] is opened: by the opening handshake, as server or client.

use std::io::{Read, Write};

use crate::config::Config;
use crate::protocol::handshake::Accept;
use crate::protocol::handshake::client::{ClientRequest, Url};
use crate::protocol::http::{Request, Response};
use crate::socket::client_handshake::ClientHandshake;
use crate::socket::open_error::OpenError;
use crate::socket::server_handshake::ServerHandshake;
use crate::socket::{SocketError, WebSocket};

impl<S: Read + Write> WebSocket<S> {
    /// Does the server's side of the opening handshake, with default limits. It accepts any path and any origin; to
    /// decide about these, use [`accept_with`](WebSocket::accept_with).
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use threadbare::{Message, SocketError, WebSocket};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let addr = listener.local_addr()?;
    /// let server = std::thread::spawn(move || -> Result<Option<Message>, SocketError> {
    ///     WebSocket::accept(listener.accept()?.0)?.recv()
    /// });
    /// WebSocket::connect(&format!("ws://{addr}"), TcpStream::connect(addr)?)?.send("hello")?;
    /// assert_eq!(server.join().unwrap()?, Some(Message::from("hello")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The stream fails or times out, or the client sends no valid handshake. An invalid handshake is answered with an
    /// error status, and a client that sends none in the stream's read timeout with 408.
    ///
    /// The stream is dropped with the error. Over a stream that does not block, use a [`ServerHandshake`].
    pub fn accept(stream: S) -> Result<WebSocket<S>, SocketError> {
        WebSocket::accept_with(stream, &Config::default(), |_| Ok(Accept::new()))
    }

    /// Does the server's side of the opening handshake, and lets `decide` accept or reject it. Of `config` it uses the
    /// limits on heads and messages, and the compression; the timeouts are those of the stream.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::{Accept, Config, OriginPolicy, Response, SocketError, WebSocket};
    ///
    /// fn accept(stream: TcpStream) -> Result<WebSocket<TcpStream>, SocketError> {
    ///     let config = Config::default().max_message_size(64 << 10);
    ///     WebSocket::accept_with(stream, &config, |request| {
    ///         OriginPolicy::SameHost.check(request).map_err(|refusal| *refusal)?;
    ///         match request.path() {
    ///             "/chat" => Ok(Accept::new()),
    ///             _ => Err(Response::new(404)),
    ///         }
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`accept`](WebSocket::accept), and if `decide` rejects the handshake.
    pub fn accept_with(
        stream: S,
        config: &Config,
        decide: impl FnOnce(&Request) -> Result<Accept, Response>,
    ) -> Result<WebSocket<S>, SocketError> {
        match ServerHandshake::new(stream, config, decide).advance() {
            Err(OpenError::WouldBlock(handshake)) => Err(handshake.time_out()),
            opened => Ok(opened?),
        }
    }

    /// Does the client's side of the opening handshake over a stream that is connected to the server, with default
    /// limits. For `wss://`, the stream must be a TLS stream.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::{Server, WebSocket};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(server.local_addr())?;
    /// let mut socket = WebSocket::connect(&format!("ws://{}/chat", server.local_addr()), stream)?;
    /// socket.send("hello")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The URL is invalid, the stream fails or times out, or the server's response does not complete the handshake.
    ///
    /// The stream is dropped with the error. Over a stream that does not block, use a [`ClientHandshake`].
    pub fn connect(url: &str, stream: S) -> Result<WebSocket<S>, SocketError> {
        WebSocket::connect_with(ClientRequest::new(Url::parse(url)?), stream, &Config::default())
    }

    /// Does the client's side of the opening handshake with a request, which may have headers and subprotocols.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::{ClientRequest, Config, Server, Url, WebSocket};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let url = Url::parse(&format!("ws://{}/chat", server.local_addr()))?;
    /// let request = ClientRequest::new(url).header("Authorization", "Bearer secret");
    /// let stream = TcpStream::connect(server.local_addr())?;
    /// let mut socket = WebSocket::connect_with(request, stream, &Config::default().max_message_size(64 << 10))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`connect`](WebSocket::connect).
    pub fn connect_with(request: ClientRequest, stream: S, config: &Config) -> Result<WebSocket<S>, SocketError> {
        Ok(ClientHandshake::new(request, stream, config)?.advance()?)
    }
}
