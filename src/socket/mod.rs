//! One connection on the caller's own thread, over any stream that implements `Read` and `Write`.

mod attempt;
pub(crate) mod client_handshake;
mod codecs;
mod drain;
mod ending;
mod error;
mod input;
#[cfg(feature = "serde_json")]
mod json;
mod lending;
pub(crate) mod message_reader;
mod open;
pub(crate) mod open_error;
#[cfg(feature = "rustls-tls")]
mod open_tls;
mod receiving;
mod send;
pub(crate) mod server_handshake;
mod system;
mod timeout;
mod write_deadline;
mod writer;
mod writing;

use std::any::Any;
use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

pub use error::SocketError;
use input::SocketInput;
use write_deadline::WriteDeadline;

use crate::protocol::ProtocolError;
use crate::protocol::close::CloseReason;
use crate::protocol::gathered::Gathered;
use crate::protocol::handshake;
use crate::protocol::message::Message;
use crate::transport::endpoint::Endpoint;
use crate::transport::output::Output;
use crate::transport::stream::blocking::BlockingStream;
use crate::worker::handle::stats::Stats;

/// One WebSocket connection that the caller's thread drives, over a stream of its choice: TCP, a Unix socket, TLS, or a
/// pipe in memory. No worker serves it: [`recv`](WebSocket::recv) answers pings and completes closing handshakes.
///
/// ```no_run
/// use std::net::TcpListener;
/// use threadbare::WebSocket;
///
/// for stream in TcpListener::bind("127.0.0.1:8080")?.incoming() {
///     let stream = stream?;
///     std::thread::spawn(move || -> Result<(), threadbare::SocketError> {
///         let mut socket = WebSocket::accept(stream)?;
///         while let Some(message) = socket.recv()? {
///             socket.send(&message)?;
///         }
///         Ok(())
///     });
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # How TCP ends
///
/// A closing handshake is followed by the end of TCP (RFC 6455 7.1.1), for which the socket is dropped. The kernel answers
/// bytes that are unread when a stream is closed, or come later, with RST, and the peer may lose the close frame. So the
/// drop ends TCP in order where the stream is a `TcpStream` or `UnixStream` of the standard library or of mio, or this
/// library's TLS over one of the standard library:
///
/// * After [`close`](WebSocket::close) or a violation by the peer, or if the peer sends something behind its close frame,
///   the drop writes what waits, sends FIN, and discards what the peer still sends until the peer's FIN.
/// * As a client over TCP, after a clean close, the drop waits for the server's FIN. The server closes first, so that no
///   client is left with a port in TIME_WAIT.
///
/// This takes up to [`close_timeout`](crate::Config::close_timeout) and 16 MiB of input. Meanwhile the stream has timeouts
/// of the library; its own are put back. A stream that does not block is not waited for: the drop discards what is there.
/// Nor does a thread that panics wait. A refusal by [`accept`](WebSocket::accept) ends in the same way if the client may
/// send more than was read.
///
/// Another stream, such as TLS of another library, is just dropped, because the library can neither shut it down nor bound
/// its reads. The drop of a type around it can do so, or the caller after [`into_inner`](WebSocket::into_inner). A socket
/// that is neither closed nor closing is dropped at once, and what was not [flushed](WebSocket::flush) is lost.
///
/// # SIGPIPE
///
/// The library raises no SIGPIPE on its own sockets. This stream is the caller's, and a vectored write to a `TcpStream`
/// of the standard library raises it if the peer is gone. Rust programs ignore the signal. In a program whose `main` is
/// not Rust's, the stream should write without it, or the program should ignore it.
///
/// # Tests of an application
///
/// A pair of Unix sockets needs no port and no server; elsewhere a `TcpListener` on port 0 does the same. With
/// [`accept`](WebSocket::accept) and [`connect`](WebSocket::connect) the opening handshake is tested too.
/// If one thread has both ends of a TCP connection, it should drop the server's first, for which the client's waits.
///
/// ```
/// # #[cfg(unix)] {
/// use std::os::unix::net::UnixStream;
/// use threadbare::{Config, Message, Role, WebSocket};
///
/// let (server, client) = UnixStream::pair()?;
/// let mut server = WebSocket::from_established(server, Role::Server, Vec::new(), &Config::default());
/// let mut client = WebSocket::from_established(client, Role::Client, Vec::new(), &Config::default());
/// client.send("hello")?;
/// assert_eq!(server.recv()?, Some(Message::from("hello")));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WebSocket<S> {
    endpoint: Endpoint<BlockingStream<S>>,
    input: SocketInput,
    /// The message that was lent last, if it has a buffer of its own.
    lent: Option<Message>,
    output: Output,
    stats: Stats,
    /// A message is queued while fewer bytes than these wait for the stream.
    max_queued: usize,
    /// The size of the parts of a message that is sent in parts.
    fragment_size: usize,
    /// [`Config::max_message_size`], and the limit on messages that are read as they arrive.
    max_message_size: usize,
    max_size_of_fragments: Option<u64>,
    /// What there is of a message, while the connection delivers fragments and no reader has the socket.
    partial: Option<Box<Gathered>>,
    /// Whether the last read filled its buffer, so that the stream may have more.
    may_have_more: bool,
    /// [`Config::after_close`] of this end.
    delivers_after_close: bool,
    /// Why the connection ended.
    ended: Option<CloseReason>,
    subprotocol: Option<String>,
    /// The data that the application set in the opening handshake.
    data: Option<handshake::Data>,
    /// How long the end of TCP may take.
    close_timeout: Duration,
    /// During a call with a deadline.
    write_deadline: Option<WriteDeadline<S>>,
    /// What ends TCP as the socket is dropped, unless its stream was returned.
    on_drop: Option<fn(&mut WebSocket<S>)>,
}

impl<S: Read + Write> WebSocket<S> {
    /// Waits for the next message. Returns `None` once the closing handshake is complete. Answers pings meanwhile, and
    /// writes what [`send`](WebSocket::send) gathered before it waits for the stream.
    ///
    /// ```
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.send("hello")?;
    /// client.close(threadbare::CloseCode::NORMAL_CLOSURE, "")?;
    /// while let Some(message) = server.recv()? {
    ///     println!("{message}");
    /// }
    /// println!("closed: {:?}", server.close_reason());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The stream fails or ends without a closing handshake, or the peer breaks the protocol or a limit. After such a
    /// failure every call returns [`Closed`](SocketError::Closed). If the stream times out, call again to continue to
    /// wait.
    #[doc(alias = "read")]
    pub fn recv(&mut self) -> Result<Option<Message>, SocketError> {
        self.recv_with(|_| Ok(()))
    }

    /// The messages as they come: what [`recv`](WebSocket::recv) returns, one after the other. It ends after a
    /// completed closing handshake, or after an error. After a [`Timeout`](SocketError::Timeout), another iterator
    /// continues.
    ///
    /// ```no_run
    /// # let stream = std::net::TcpStream::connect("127.0.0.1:8080")?;
    /// let mut socket = threadbare::WebSocket::connect("ws://127.0.0.1:8080/feed", stream)?;
    /// for message in &mut socket {
    ///     println!("{}", message?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn iter(&mut self) -> WebSocketIter<'_, S> {
        WebSocketIter { socket: Some(self) }
    }

    /// Why the connection ended, once it has.
    ///
    /// ```
    /// use threadbare::{CloseCause, CloseCode};
    ///
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.close(CloseCode(4000), "the game is over")?;
    /// assert_eq!(server.recv()?, None);
    /// let reason = server.close_reason().expect("it is closed");
    /// assert_eq!((reason.code, reason.cause), (CloseCode(4000), CloseCause::Peer));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.ended.as_ref()
    }

    /// The counts of messages and bytes of the connection. No message is ever dropped, and no round trip is measured.
    ///
    /// ```
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.send("hello")?;
    /// assert_eq!(client.stats().messages_sent, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            queued_bytes: self.endpoint.backlog() + self.output.len(),
            deflate: self.endpoint.connection.deflate_stats(),
            ..self.stats
        }
    }

    /// The subprotocol that was agreed on.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use threadbare::{Accept, ClientRequest, Config, Url, WebSocket};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let addr = listener.local_addr()?;
    /// let server = std::thread::spawn(move || {
    ///     let stream = listener.accept()?.0;
    ///     WebSocket::accept_with(stream, &Config::default(), |_request| Ok(Accept::new().subprotocol("chat")))
    /// });
    /// let request = ClientRequest::new(Url::parse(&format!("ws://{addr}"))?).subprotocol("chat");
    /// let client = WebSocket::connect_with(request, TcpStream::connect(addr)?, &Config::default())?;
    /// assert_eq!(client.subprotocol(), Some("chat"));
    /// # server.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The data that `decide` of [`accept_with`](WebSocket::accept_with) set with
    /// [`Accept::data`](crate::Accept::data), if it is a `T`.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::{Accept, Config, Response, SocketError, WebSocket};
    ///
    /// struct User(String);
    ///
    /// fn serve(stream: TcpStream) -> Result<(), SocketError> {
    ///     let mut socket = WebSocket::accept_with(stream, &Config::default(), |request| match request.cookie("user") {
    ///         Some(name) => Ok(Accept::new().data(User(name.to_owned()))),
    ///         None => Err(Response::new(401).header("WWW-Authenticate", "Bearer")),
    ///     })?;
    ///     let greeting = socket.data().map_or("hello".into(), |User(name)| format!("hello {name}"));
    ///     socket.send(greeting)
    /// }
    /// ```
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.data.as_ref()?.get()
    }

    /// The stream, to set its timeouts, for example. Reading from it or writing to it breaks the connection.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.get_ref().set_read_timeout(Some(Duration::from_millis(1)))?;
    /// assert!(matches!(client.recv(), Err(threadbare::SocketError::Timeout)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get_ref(&self) -> &S {
        self.endpoint.stream.as_ref()
    }

    /// The stream, as [`get_ref`](WebSocket::get_ref).
    ///
    /// ```
    /// use threadbare::WebSocket;
    ///
    /// /// Changes what a stream of the application's own does.
    /// fn limit(socket: &mut WebSocket<Throttled>, bytes_per_second: u64) {
    ///     socket.get_mut().bytes_per_second = bytes_per_second;
    /// }
    /// # struct Throttled { bytes_per_second: u64 }
    /// # impl std::io::Read for Throttled {
    /// #     fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> { Ok(0) }
    /// # }
    /// # impl std::io::Write for Throttled {
    /// #     fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> { Ok(bytes.len()) }
    /// #     fn flush(&mut self) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// ```
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        self.endpoint.stream.as_mut()
    }

    /// Returns the stream, which stays open. Messages that were received and not yet returned by [`recv`](WebSocket::recv) are lost, and
    /// so are those that were sent and not yet [flushed](WebSocket::flush). After the closing handshake there are none.
    ///
    /// ```
    /// use threadbare::CloseCode;
    ///
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.close(CloseCode::NORMAL_CLOSURE, "")?;
    /// assert_eq!((server.recv()?, client.recv()?), (None, None));
    /// let stream = client.into_inner(); // for what the two programs do next
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_inner(mut self) -> S {
        self.on_drop = None;
        self.endpoint.stream.take_stream()
    }

    fn fail(&mut self, error: ProtocolError) -> SocketError {
        self.writing().fail(error)
    }

    fn broken(&mut self, error: io::Error) -> SocketError {
        self.writing().broken(error)
    }
}

impl<S: fmt::Debug> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("stream", self.endpoint.stream.as_ref())
            .field("state", &self.endpoint.connection.state())
            .finish_non_exhaustive()
    }
}

/// The messages of a [`WebSocket`] as they come; made by [`WebSocket::iter`].
///
/// ```
/// use threadbare::CloseCode;
///
/// # use threadbare::{Config, Role, WebSocket};
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
/// # let config = Config::default();
/// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
/// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
/// client.send("one")?;
/// client.send("two")?;
/// client.close(CloseCode::NORMAL_CLOSURE, "")?;
/// let messages = server.iter().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(messages.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WebSocketIter<'a, S> {
    /// `None` after the end.
    socket: Option<&'a mut WebSocket<S>>,
}

impl<S: Read + Write> Iterator for WebSocketIter<'_, S> {
    type Item = Result<Message, SocketError>;

    fn next(&mut self) -> Option<Self::Item> {
        let received = self.socket.as_mut()?.recv();
        if !matches!(received, Ok(Some(_))) {
            self.socket = None;
        }
        received.transpose()
    }
}

impl<S: Read + Write> std::iter::FusedIterator for WebSocketIter<'_, S> {}

impl<'a, S: Read + Write> IntoIterator for &'a mut WebSocket<S> {
    type Item = Result<Message, SocketError>;
    type IntoIter = WebSocketIter<'a, S>;

    fn into_iter(self) -> WebSocketIter<'a, S> {
        self.iter()
    }
}
