//! The client's side of the opening handshake, over a stream that may not be ready.

use std::fmt;
use std::io::{self, Read, Write};

use crate::config::Config;
use crate::protocol::Role;
use crate::protocol::handshake::client::{self, ClientRequest, HandshakeError};
use crate::protocol::http::{ResponseHead, ResponseReader};
use crate::socket::attempt::{Arrived, read_more, write_rest};
use crate::socket::open_error::OpenError;
use crate::socket::{SocketError, WebSocket};

/// The client's side of an opening handshake over a stream that may not be ready: a non-blocking one, or one with
/// timeouts. It goes as far as the stream lets it, and owns the stream until it is complete.
/// [`WebSocket::connect_with`] does the same over a stream that blocks.
///
/// ```
/// use std::net::TcpStream;
/// use threadbare::{ClientHandshake, ClientRequest, Config, OpenError, Server, Url};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(server.local_addr())?;
/// stream.set_nonblocking(true)?;
/// let request = ClientRequest::new(Url::parse(&format!("ws://{}", server.local_addr()))?);
/// let mut handshake = ClientHandshake::new(request, stream, &Config::default())?;
/// let mut socket = loop {
///     match handshake.advance() {
///         Ok(socket) => break socket,
///         Err(OpenError::WouldBlock(unfinished)) => handshake = unfinished,
///         Err(OpenError::Failed(error)) => return Err(error.into()),
///     }
///     // Do something else, or poll until the stream is readable, or writable if `handshake.wants_write()`.
/// #   std::thread::yield_now();
/// };
/// socket.send("hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "MidHandshake")]
pub struct ClientHandshake<S> {
    stream: S,
    /// In a box, because the handshake is moved with each step.
    progress: Box<Progress>,
}

/// How far a handshake has come.
struct Progress {
    config: Config,
    request: ClientRequest,
    nonce: [u8; 16],
    /// The request's head, and how much of it the stream took.
    head: Vec<u8>,
    written: usize,
    reader: ResponseReader,
    received: Vec<u8>,
}

impl<S: Read + Write + 'static> ClientHandshake<S> {
    /// Makes a handshake with this request over a stream that is connected to the server. For `wss://`, the stream must
    /// be a TLS stream. Nothing is written yet. Of `config` the handshake uses what [`WebSocket::connect_with`] does.
    ///
    /// ```
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// use std::net::TcpStream;
    /// use threadbare::{ClientHandshake, ClientRequest, Config, Url};
    ///
    /// let addr = "127.0.0.1:8080";
    /// # let addr = listener.local_addr()?;
    /// let request = ClientRequest::new(Url::parse(&format!("ws://{addr}/chat"))?).header("Authorization", "Bearer secret");
    /// let handshake = ClientHandshake::new(request, TcpStream::connect(addr)?, &Config::default())?;
    /// assert!(handshake.wants_write());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A header of the request is invalid, or the system has no random numbers.
    pub fn new(mut request: ClientRequest, stream: S, config: &Config) -> Result<ClientHandshake<S>, SocketError> {
        if let Some(offer) = config.deflate.offer() {
            request = request.extensions(&offer);
        }
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        let head = request.encode(nonce)?;
        let (config, reader) = (config.clone(), ResponseReader::new(config.head_limits()));
        let progress = Progress { config, request, nonce, head, written: 0, reader, received: Vec::new() };
        Ok(ClientHandshake { stream, progress: Box::new(progress) })
    }

    /// Writes the request and reads the response, as far as the stream is ready.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::{ClientHandshake, OpenError, SocketError, WebSocket};
    ///
    /// /// Waits for a stream that has a read timeout, and says so.
    /// fn wait(mut handshake: ClientHandshake<TcpStream>) -> Result<WebSocket<TcpStream>, SocketError> {
    ///     loop {
    ///         match handshake.advance() {
    ///             Ok(socket) => return Ok(socket),
    ///             Err(OpenError::WouldBlock(unfinished)) => handshake = unfinished,
    ///             Err(OpenError::Failed(error)) => return Err(error),
    ///         }
    ///         println!("still waiting for {:?}", handshake.get_ref().peer_addr());
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`WouldBlock`](OpenError::WouldBlock) returns the handshake, to be continued once the stream is ready.
    /// [`Failed`](OpenError::Failed): the stream fails, or the server's response does not complete the handshake.
    pub fn advance(mut self) -> Result<WebSocket<S>, OpenError<ClientHandshake<S>>> {
        let (response, size) = match self.response() {
            Ok(found) => found,
            Err(SocketError::Timeout) => return Err(OpenError::WouldBlock(self)),
            Err(error) => return Err(OpenError::Failed(error)),
        };
        self.verify(response, size).map_err(OpenError::Failed)
    }

    /// Writes the rest of the request, and reads until the head of the response is complete.
    fn response(&mut self) -> Result<(ResponseHead, usize), SocketError> {
        write_rest(&mut self.stream, &self.progress.head, &mut self.progress.written)?;
        loop {
            if let Some(found) = self.progress.reader.read(&self.progress.received).map_err(HandshakeError::from)? {
                return Ok(found);
            }
            if read_more(&mut self.stream, &mut self.progress.received)? == Arrived::End {
                return Err(HandshakeError::from(self.progress.reader.end(&self.progress.received)).into());
            }
        }
    }

    fn verify(mut self, response: ResponseHead, size: usize) -> Result<WebSocket<S>, SocketError> {
        let leftover = self.progress.received.split_off(size);
        let agreed = client::verify(response, &self.progress.request, self.progress.nonce)
            .map_err(|error| error.with_body(&leftover))?;
        let agreement = self.progress.config.deflate.confirm(&agreed)?;
        let mut socket = WebSocket::agreed(self.stream, Role::Client, leftover, &self.progress.config, agreement);
        socket.subprotocol = agreed.subprotocol().map(str::to_owned);
        Ok(socket)
    }
}

impl<S> ClientHandshake<S> {
    /// Whether the handshake waits to write, and not to read: what to poll the stream for.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::ClientHandshake;
    ///
    /// fn interest(handshake: &ClientHandshake<TcpStream>) -> mio::Interest {
    ///     if handshake.wants_write() { mio::Interest::WRITABLE } else { mio::Interest::READABLE }
    /// }
    /// ```
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.progress.written < self.progress.head.len()
    }

    /// The stream, to poll it for example. Reading from it or writing to it breaks the handshake.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::ClientHandshake;
    ///
    /// fn begin_to_block(handshake: &ClientHandshake<TcpStream>) -> std::io::Result<()> {
    ///     handshake.get_ref().set_nonblocking(false)
    /// }
    /// ```
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream, as [`get_ref`](ClientHandshake::get_ref).
    ///
    /// ```
    /// use mio::net::TcpStream;
    /// use threadbare::ClientHandshake;
    ///
    /// fn poll(handshake: &mut ClientHandshake<TcpStream>, poll: &mio::Poll) -> std::io::Result<()> {
    ///     poll.registry().register(handshake.get_mut(), mio::Token(0), mio::Interest::READABLE)
    /// }
    /// ```
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: fmt::Debug> fmt::Debug for ClientHandshake<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake").field("stream", &self.stream).finish_non_exhaustive()
    }
}
