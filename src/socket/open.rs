//! The opening handshake over a blocking stream, as server or client.

use std::io::{self, Read, Write};

use crate::config::Config;
use crate::protocol::handshake::client::{ClientRequest, HandshakeError, Url};
use crate::protocol::handshake::server::Parsed;
use crate::protocol::handshake::{Accept, client, server};
use crate::protocol::http::{HeadLimits, HeadScanner, Request, Response, ResponseReader, asks_for_head};
use crate::protocol::{PeerAddr, Role};
use crate::socket::{SocketError, WebSocket};
use crate::transport::clock;
use crate::transport::stream::attempt::{Io, attempt};

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
    /// error status.
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
        mut stream: S,
        config: &Config,
        decide: impl FnOnce(&Request) -> Result<Accept, Response>,
    ) -> Result<WebSocket<S>, SocketError> {
        let limits = HeadLimits {
            max_head_size: config.max_head_size,
            max_headers: config.max_headers,
            ..HeadLimits::default()
        };
        let mut received = Vec::new();
        match read_request(&mut stream, &limits, &mut received).and_then(|(request, leftover)| {
            let mut accept = decide(&request)?;
            let (agreement, extensions) = config.deflate.accept(&request);
            let answer = server::respond_with(&request, &accept, extensions.as_deref());
            let answer = answer.map_err(|_| Response::new(500))?;
            Ok((answer, agreement, (accept.chosen_subprotocol().map(str::to_owned), accept.take_data()), leftover))
        }) {
            Ok((answer, agreement, (subprotocol, data), leftover)) => {
                write_all(&mut stream, &answer)?;
                let mut socket = WebSocket::agreed(stream, Role::Server, leftover, config, agreement);
                socket.subprotocol = subprotocol;
                socket.data = data;
                Ok(socket)
            }
            Err(Unanswered::Refused(refusal)) => {
                // RFC 9110 9.3.2: no content in the response to HEAD.
                let now = clock::today();
                let to_head = asks_for_head(&received);
                let answer = if to_head { refusal.encode_head_at(now) } else { refusal.encode_at(now) };
                write_all(&mut stream, &answer)?;
                Err(SocketError::Refused(refusal))
            }
            Err(Unanswered::Failed(error)) => Err(error),
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
    pub fn connect_with(
        mut request: ClientRequest,
        mut stream: S,
        config: &Config,
    ) -> Result<WebSocket<S>, SocketError> {
        if let Some(offer) = config.deflate.offer() {
            request = request.extensions(&offer);
        }
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        write_all(&mut stream, &request.encode(nonce)?)?;
        let limits = HeadLimits {
            max_head_size: config.max_head_size,
            max_headers: config.max_headers,
            ..HeadLimits::default()
        };
        let mut reader = ResponseReader::new(limits);
        let mut received = Vec::new();
        let (response, size) = loop {
            if let Some(found) = reader.read(&received).map_err(HandshakeError::from)? {
                break found;
            }
            if read_more(&mut stream, &mut received)? == 0 {
                return Err(HandshakeError::from(reader.end(&received)).into());
            }
        };
        let leftover = received.split_off(size);
        let agreed = client::verify(response, &request, nonce).map_err(|error| error.with_body(&leftover))?;
        let agreement = config.deflate.confirm(&agreed)?;
        let mut socket = WebSocket::agreed(stream, Role::Client, leftover, config, agreement);
        socket.subprotocol = agreed.subprotocol().map(str::to_owned);
        Ok(socket)
    }
}

/// Why a handshake is not accepted.
enum Unanswered {
    Refused(Box<Response>),
    Failed(SocketError),
}

impl From<Response> for Unanswered {
    fn from(refusal: Response) -> Unanswered {
        Unanswered::Refused(Box::new(refusal))
    }
}

/// Reads a request head into `received`, and returns the request and the bytes that arrived after it.
fn read_request(
    stream: &mut impl Read,
    limits: &HeadLimits,
    received: &mut Vec<u8>,
) -> Result<(Request, Vec<u8>), Unanswered> {
    let mut scanner = HeadScanner::new(*limits);
    let size = loop {
        match read_more(stream, received) {
            Ok(0) => return Err(Unanswered::Failed(SocketError::Io(io::ErrorKind::UnexpectedEof.into()))),
            Ok(_) => {}
            // RFC 9110 15.5.9.
            Err(SocketError::Timeout) => return Err(Response::new(408).into()),
            Err(error) => return Err(Unanswered::Failed(error)),
        }
        if let Some(size) = scanner.scan(received).map_err(|error| Unanswered::Refused(error.into()))? {
            break size;
        }
    };
    let leftover = received.split_off(size);
    // The stream's type is not known to have an address.
    match server::parse_scanned(received, &scanner, PeerAddr::Unknown).map_err(Unanswered::Refused)? {
        Parsed::Upgrade(request) => Ok((request, leftover)),
        Parsed::Plain(_) => Err(server::upgrade_required().into()),
    }
}

fn write_all(stream: &mut impl Write, mut bytes: &[u8]) -> Result<(), SocketError> {
    while !bytes.is_empty() {
        match attempt(|| stream.write(bytes)) {
            Io::Done(size) => bytes = &bytes[size..],
            Io::WouldBlock => return Err(SocketError::Timeout),
            Io::End => return Err(SocketError::Io(io::ErrorKind::WriteZero.into())),
            Io::Failed(error) => return Err(SocketError::Io(error)),
        }
    }
    Ok(())
}

/// Reads once. Returns 0 at the end of the stream.
fn read_more(stream: &mut impl Read, received: &mut Vec<u8>) -> Result<usize, SocketError> {
    let mut chunk = [0; 4096];
    match attempt(|| stream.read(&mut chunk)) {
        Io::Done(size) => {
            received.extend_from_slice(&chunk[..size]);
            Ok(size)
        }
        Io::WouldBlock => Err(SocketError::Timeout),
        Io::End => Ok(0),
        Io::Failed(error) => Err(SocketError::Io(error)),
    }
}
