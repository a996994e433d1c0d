//! The server's side of the opening handshake, over a stream that may not be ready.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;

use crate::config::Config;
use crate::protocol::deflate::NegotiatedExtension;
use crate::protocol::handshake::server::{self, Parsed, Serves};
use crate::protocol::handshake::{Accept, Data};
use crate::protocol::http::{HeadScanner, Request, Response, asks_for_head};
use crate::protocol::{PeerAddr, Role};
use crate::socket::attempt::{Arrived, read_more, write_rest};
use crate::socket::drain::{Drain, Drained, Wait};
use crate::socket::open_error::OpenError;
use crate::socket::system::SystemSocket;
use crate::socket::system::tls_info;
use crate::socket::{SocketError, WebSocket};
use crate::transport::clock;

/// The server's side of an opening handshake over a stream that may not be ready: a non-blocking one, or one with
/// timeouts. It goes as far as the stream lets it, and owns the stream until it is complete.
/// [`WebSocket::accept_with`] does the same over a stream that blocks.
///
/// `D` is the type of the function that decides about the request. A handshake that is kept can have a
/// `fn(&Request) -> Result<Accept, Response>`, or a `Box<dyn FnOnce(&Request) -> Result<Accept, Response>>`.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use std::time::{Duration, Instant};
/// use threadbare::{Accept, Config, OpenError, Response, ServerHandshake, WebSocket};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let addr = listener.local_addr()?;
/// let client = std::thread::spawn(move || WebSocket::connect(&format!("ws://{addr}"), TcpStream::connect(addr)?));
///
/// let (stream, _) = listener.accept()?;
/// stream.set_nonblocking(true)?;
/// let deadline = Instant::now() + Duration::from_secs(10);
/// let mut handshake = ServerHandshake::new(stream, &Config::default(), |_request| Ok(Accept::new()));
/// let mut socket = loop {
///     match handshake.advance() {
///         Ok(socket) => break socket,
///         Err(OpenError::WouldBlock(unfinished)) => handshake = unfinished,
///         Err(OpenError::Failed(error)) => return Err(error.into()),
///     }
///     if Instant::now() > deadline {
///         handshake.refuse(Response::new(408)); // Request Timeout
///     }
///     // Do something else, or poll until the stream is readable, or writable if `handshake.wants_write()`.
/// #   std::thread::yield_now();
/// };
/// socket.send("hello")?;
/// # client.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "MidHandshake")]
pub struct ServerHandshake<S, D> {
    stream: S,
    /// In a box, because the handshake is moved with each step.
    progress: Box<Progress<D>>,
}

/// How far a handshake has come.
struct Progress<D> {
    config: Config,
    /// `None` once it was called.
    decide: Option<D>,
    scanner: HeadScanner,
    /// The head as far as it has arrived.
    received: Vec<u8>,
    state: State,
}

enum State {
    /// The head is incomplete.
    Reading,
    /// The response is written.
    Writing { response: Vec<u8>, written: usize, outcome: Outcome },
    /// The refusal was written. What the client still sends is discarded.
    Draining { drain: Drain, refusal: Box<Response> },
    /// The handshake is complete or has failed.
    Over,
}

/// What follows the response.
enum Outcome {
    Established(Box<Established>),
    /// The client may still send something.
    RefusedWithin(Box<Response>),
    /// The client has sent its whole request.
    Refused(Box<Response>),
}

/// What was agreed on, and the bytes that arrived after the head.
struct Established {
    agreement: NegotiatedExtension,
    subprotocol: Option<String>,
    data: Option<Data>,
    leftover: Vec<u8>,
}

impl<S, D> ServerHandshake<S, D>
where
    S: Read + Write + 'static,
    D: FnOnce(&Request) -> Result<Accept, Response>,
{
    /// Makes a handshake over the stream of a client. `decide` accepts or rejects the request, once it has arrived. Of
    /// `config` the handshake uses what [`WebSocket::accept_with`] does.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::{Accept, Config, Request, Response, ServerHandshake};
    ///
    /// fn decide(request: &Request) -> Result<Accept, Response> {
    ///     if request.path() == "/chat" { Ok(Accept::new()) } else { Err(Response::new(404)) }
    /// }
    ///
    /// struct Joining {
    ///     handshake: ServerHandshake<TcpStream, fn(&Request) -> Result<Accept, Response>>,
    /// }
    ///
    /// fn join(stream: TcpStream) -> Joining {
    ///     Joining { handshake: ServerHandshake::new(stream, &Config::default(), decide) }
    /// }
    /// ```
    #[must_use]
    pub fn new(stream: S, config: &Config, decide: D) -> ServerHandshake<S, D> {
        let progress = Progress {
            config: config.clone(),
            decide: Some(decide),
            scanner: HeadScanner::new(config.head_limits()),
            received: Vec::new(),
            state: State::Reading,
        };
        ServerHandshake { stream, progress: Box::new(progress) }
    }

    /// Reads the request, has it decided about and writes the response, as far as the stream is ready.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::{Accept, OpenError, Request, Response, ServerHandshake, SocketError, WebSocket};
    ///
    /// type Handshake = ServerHandshake<TcpStream, fn(&Request) -> Result<Accept, Response>>;
    ///
    /// /// Advances all handshakes, and returns the sockets that are open now.
    /// fn advance(handshakes: &mut Vec<Handshake>) -> Vec<WebSocket<TcpStream>> {
    ///     let mut open = Vec::new();
    ///     for handshake in std::mem::take(handshakes) {
    ///         match handshake.advance() {
    ///             Ok(socket) => open.push(socket),
    ///             Err(OpenError::WouldBlock(handshake)) => handshakes.push(handshake),
    ///             Err(OpenError::Failed(error)) => eprintln!("{error}"),
    ///         }
    ///     }
    ///     open
    /// }
    /// ```
    ///
    /// # Errors
    /// [`WouldBlock`](OpenError::WouldBlock) returns the handshake, to be continued once the stream is ready.
    /// [`Failed`](OpenError::Failed): the stream fails, or the client was refused. After a refusal what the client still
    /// sends is read and discarded until it closes, for up to [`Config::close_timeout`], so that TCP does not lose the
    /// response; see [`WebSocket`].
    pub fn advance(mut self) -> Result<WebSocket<S>, OpenError<ServerHandshake<S, D>>> {
        let established = match self.run() {
            Ok(established) => established,
            Err(SocketError::Timeout) => return Err(OpenError::WouldBlock(self)),
            Err(error) => return Err(OpenError::Failed(error)),
        };
        let Established { agreement, subprotocol, data, leftover } = *established;
        let mut socket = WebSocket::agreed(self.stream, Role::Server, leftover, &self.progress.config, agreement);
        socket.subprotocol = subprotocol;
        socket.data = data;
        Ok(socket)
    }

    /// Ends a handshake whose stream has timed out. A client that is late with its request is told 408.
    pub(super) fn time_out(mut self) -> SocketError {
        if let State::Reading = self.progress.state {
            self.refuse(Response::new(408)); // RFC 9110 15.5.9
            if let Err(error @ (SocketError::Io(_) | SocketError::Refused(_))) = self.run() {
                return error;
            }
        }
        match std::mem::replace(&mut self.progress.state, State::Over) {
            State::Draining { mut drain, refusal } => {
                drain.run(&mut self.stream, Wait::UntilDeadline);
                SocketError::Refused(refusal)
            }
            _ => SocketError::Timeout,
        }
    }

    /// Continues until the connection is established.
    fn run(&mut self) -> Result<Box<Established>, SocketError> {
        loop {
            match &mut self.progress.state {
                State::Reading => match read_more(&mut self.stream, &mut self.progress.received)? {
                    Arrived::Bytes { more } => self.scan(more),
                    Arrived::End => return Err(SocketError::Io(io::ErrorKind::UnexpectedEof.into())),
                },
                State::Writing { response, written, .. } => {
                    write_rest(&mut self.stream, response, written)?;
                    if let Some(established) = self.written()? {
                        return Ok(established);
                    }
                }
                State::Draining { drain, .. } => {
                    if drain.run(&mut self.stream, Wait::AsTheStream) == Drained::NotYet {
                        return Err(SocketError::Timeout);
                    }
                    return Err(self.end());
                }
                State::Over => return Err(SocketError::Closed),
            }
        }
    }

    /// Looks for the end of the head. `more`: the stream may have more than was received.
    fn scan(&mut self, more: bool) {
        match self.progress.scanner.scan(&self.progress.received) {
            Ok(None) => {}
            Ok(Some(size)) => {
                let leftover = self.progress.received.split_off(size);
                self.judge(leftover, more);
            }
            Err(error) => self.answer_refusal(error.into(), Outcome::RefusedWithin),
        }
    }

    /// Parses a complete head, and has the application decide.
    fn judge(&mut self, leftover: Vec<u8>, more: bool) {
        let outcome = if more || !leftover.is_empty() { Outcome::RefusedWithin } else { Outcome::Refused };
        // The stream's type is not known to have an address.
        match server::parse_scanned(
            &self.progress.received,
            &self.progress.scanner,
            PeerAddr::Unknown,
            Serves::Upgrades,
        ) {
            Ok(Parsed::Upgrade(mut request)) => match self.decide(&mut request, leftover) {
                Ok((response, established)) => {
                    let outcome = Outcome::Established(Box::new(established));
                    self.progress.state = State::Writing { response, written: 0, outcome };
                }
                Err(refusal) => self.answer_refusal(Box::new(refusal), outcome),
            },
            Ok(Parsed::Plain(_)) => self.answer_refusal(Box::new(server::upgrade_required()), outcome),
            Err(refusal) if self.has_content() => self.answer_refusal(refusal, Outcome::RefusedWithin),
            Err(refusal) => self.answer_refusal(refusal, outcome),
        }
    }

    fn decide(&mut self, request: &mut Request, leftover: Vec<u8>) -> Result<(Vec<u8>, Established), Response> {
        if let Some(info) = tls_info(&self.stream) {
            request.set_tls(info);
        }
        let decide = self.progress.decide.take().ok_or_else(|| Response::new(500))?;
        let mut accept = decide(request)?;
        let (agreement, extensions) = self.progress.config.deflate.accept(request);
        let response = server::respond_with(request, &accept, extensions.as_deref());
        let response = response.map_err(|_| Response::new(500))?;
        let subprotocol = accept.chosen_subprotocol().map(str::to_owned);
        Ok((response, Established { agreement, subprotocol, data: accept.take_data(), leftover }))
    }

    /// Returns whether content follows the head, or may.
    fn has_content(&self) -> bool {
        let Ok(request) = Request::parse_scanned(&self.progress.received, &self.progress.scanner, PeerAddr::Unknown)
        else {
            return true;
        };
        request.field_values("Transfer-Encoding").next().is_some()
            || request.field_values("Content-Length").any(|length| length != b"0")
    }

    /// Handles that the response is written whole.
    fn written(&mut self) -> Result<Option<Box<Established>>, SocketError> {
        let State::Writing { outcome, .. } = std::mem::replace(&mut self.progress.state, State::Over) else {
            return Ok(None);
        };
        match outcome {
            Outcome::Established(established) => Ok(Some(established)),
            Outcome::Refused(refusal) => Err(SocketError::Refused(refusal)),
            Outcome::RefusedWithin(refusal) => {
                // FIN: the response has ended. The kernel answers input that is unread when the socket is closed, or
                // comes later, with RST, and the client might lose the response.
                let socket = SystemSocket::of(&self.stream);
                if socket.is_none_or(|socket| socket.options.shutdown(Shutdown::Write).is_err()) {
                    return Err(SocketError::Refused(refusal));
                }
                self.progress.state =
                    State::Draining { drain: Drain::new(self.progress.config.close_timeout), refusal };
                Ok(None)
            }
        }
    }

    /// The error of a refused handshake.
    fn end(&mut self) -> SocketError {
        match std::mem::replace(&mut self.progress.state, State::Over) {
            State::Draining { refusal, .. } => SocketError::Refused(refusal),
            _ => SocketError::Closed,
        }
    }
}

impl<S, D> ServerHandshake<S, D> {
    /// Refuses the handshake with this response, if its request has not arrived yet: when it takes too long, for example.
    /// [`advance`](ServerHandshake::advance) writes the response. Does nothing once the request has arrived.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::{Accept, Request, Response, ServerHandshake};
    ///
    /// fn shut_down(handshakes: &mut [ServerHandshake<TcpStream, fn(&Request) -> Result<Accept, Response>>]) {
    ///     for handshake in handshakes {
    ///         handshake.refuse(Response::new(503));
    ///     }
    /// }
    /// ```
    pub fn refuse(&mut self, refusal: Response) {
        if let State::Reading = self.progress.state {
            self.answer_refusal(Box::new(refusal), Outcome::RefusedWithin);
        }
    }

    fn answer_refusal(&mut self, refusal: Box<Response>, outcome: fn(Box<Response>) -> Outcome) {
        // RFC 9110 9.3.2: no content in the response to HEAD.
        let now = clock::today();
        let to_head = asks_for_head(&self.progress.received);
        let response = if to_head { refusal.encode_head_at(now) } else { refusal.encode_at(now) };
        self.progress.state = State::Writing { response, written: 0, outcome: outcome(refusal) };
    }

    /// Whether the handshake waits to write, and not to read: what to poll the stream for.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::ServerHandshake;
    ///
    /// fn interest<D>(handshake: &ServerHandshake<TcpStream, D>) -> mio::Interest {
    ///     if handshake.wants_write() { mio::Interest::WRITABLE } else { mio::Interest::READABLE }
    /// }
    /// ```
    #[must_use]
    pub fn wants_write(&self) -> bool {
        matches!(self.progress.state, State::Writing { .. })
    }

    /// The stream, to poll it for example. Reading from it or writing to it breaks the handshake.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::ServerHandshake;
    ///
    /// fn begin_to_block<D>(handshake: &ServerHandshake<TcpStream, D>) -> std::io::Result<()> {
    ///     handshake.get_ref().set_nonblocking(false)
    /// }
    /// ```
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream, as [`get_ref`](ServerHandshake::get_ref).
    ///
    /// ```
    /// use mio::net::TcpStream;
    /// use threadbare::ServerHandshake;
    ///
    /// fn poll<D>(handshake: &mut ServerHandshake<TcpStream, D>, poll: &mio::Poll) -> std::io::Result<()> {
    ///     poll.registry().register(handshake.get_mut(), mio::Token(0), mio::Interest::READABLE)
    /// }
    /// ```
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: fmt::Debug, D> fmt::Debug for ServerHandshake<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake").field("stream", &self.stream).finish_non_exhaustive()
    }
}
