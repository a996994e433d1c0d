//! How a [`WebSocket`] is opened: by the opening handshake, as server or client, or after it.

use std::io::{Read, Write};

use crate::config::Config;
use crate::protocol::deflate::NegotiatedExtension;
use crate::protocol::handshake::Accept;
use crate::protocol::handshake::client::{ClientRequest, Url};
use crate::protocol::http::{Request, Response};
use crate::protocol::receive::Receive;
use crate::protocol::{Connection, Role};
use crate::socket::client_handshake::ClientHandshake;
use crate::socket::input::SocketInput;
use crate::socket::open_error::OpenError;
use crate::socket::server_handshake::ServerHandshake;
use crate::socket::{SocketError, WebSocket};
use crate::transport::endpoint::Endpoint;
use crate::transport::output::Output;
use crate::transport::stream::blocking::BlockingStream;
use crate::worker::handle::stats::Stats;

impl<S: Read + Write + 'static> WebSocket<S> {
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
    /// error status, and a client that sends none in the stream's read timeout with 408. A client that still sends as it
    /// is refused has up to [`Config::close_timeout`] to read the answer; see [`WebSocket`] on how TCP ends.
    ///
    /// The stream is dropped with the error. Over a stream that does not block, use a [`ServerHandshake`].
    pub fn accept(stream: S) -> Result<WebSocket<S>, SocketError> {
        WebSocket::accept_with(stream, &Config::default(), |_| Ok(Accept::new()))
    }

    /// Does the server's side of the opening handshake, and lets `decide` accept or reject it. Of `config` it uses the
    /// limits on heads and messages, the compression and [`close_timeout`](Config::close_timeout); the other timeouts are
    /// those of the stream.
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

    /// Makes a connection whose opening handshake is complete. `leftover` are the bytes that arrived after it.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use threadbare::{Config, Message, Role, WebSocket};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// let mut client = WebSocket::from_established(stream, Role::Client, vec![], &Config::default());
    /// let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &Config::default());
    /// client.send("hello")?;
    /// assert_eq!(server.recv()?, Some(Message::from("hello")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn from_established(stream: S, role: Role, leftover: Vec<u8>, config: &Config) -> WebSocket<S> {
        WebSocket::agreed(stream, role, leftover, config, NegotiatedExtension::default())
    }

    /// Makes a connection with what the opening handshake agreed on.
    pub(super) fn agreed(
        stream: S,
        role: Role,
        leftover: Vec<u8>,
        config: &Config,
        agreement: NegotiatedExtension,
    ) -> WebSocket<S> {
        let connection = Connection::new(role, config.max_message_size as u64).agreed(agreement);
        WebSocket {
            endpoint: Endpoint::new(BlockingStream::new(stream), connection, Vec::new()),
            input: SocketInput::holding(leftover),
            lent: None,
            output: Output::new(config.max_message_size),
            stats: Stats::default(),
            max_queued: config.max_write_buffer_size,
            fragment_size: config.fragment_size,
            max_message_size: config.max_message_size,
            max_size_of_fragments: match config.receive {
                Receive::Fragments { max_size } => max_size,
                Receive::Messages => None,
            },
            partial: None,
            delivers_after_close: config.delivers_after_close(role),
            may_have_more: false,
            ended: None,
            subprotocol: None,
            data: None,
            close_timeout: config.close_timeout,
            write_deadline: None,
            on_drop: Some(WebSocket::end_tcp),
        }
    }
}
