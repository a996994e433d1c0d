//! Receiving with a deadline, over the standard library's streams, which have timeouts.

use std::io;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::protocol::message::Message;
use crate::socket::write_deadline::WriteDeadline;
use crate::socket::{SocketError, WebSocket};
#[cfg(feature = "rustls-tls")]
use crate::transport::stream::byte_stream::ByteStream;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::stream::TlsStream;

/// A stream whose reads and writes can be bounded.
trait Timeouts {
    fn timeout_of_reads(&self) -> io::Result<Option<Duration>>;
    fn bound_reads(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn timeout_of_writes(&self) -> io::Result<Option<Duration>>;
    fn bound_writes(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// Whether a flush has to write what the stream holds back.
    fn holds_back(&self) -> bool {
        false
    }
}

macro_rules! timeouts_of_std {
    ($($(#[$attribute:meta])* $stream:ty),*) => {
        $(
            $(#[$attribute])*
            impl Timeouts for $stream {
                fn timeout_of_reads(&self) -> io::Result<Option<Duration>> {
                    self.read_timeout()
                }

                fn bound_reads(&self, timeout: Option<Duration>) -> io::Result<()> {
                    self.set_read_timeout(timeout)
                }

                fn timeout_of_writes(&self) -> io::Result<Option<Duration>> {
                    self.write_timeout()
                }

                fn bound_writes(&self, timeout: Option<Duration>) -> io::Result<()> {
                    self.set_write_timeout(timeout)
                }
            }
        )*
    };
}

timeouts_of_std!(
    TcpStream,
    #[cfg(unix)]
    UnixStream
);

#[cfg(feature = "rustls-tls")]
impl<S: Timeouts + io::Read + io::Write> Timeouts for TlsStream<S> {
    fn timeout_of_reads(&self) -> io::Result<Option<Duration>> {
        self.get_ref().timeout_of_reads()
    }

    fn bound_reads(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.get_ref().bound_reads(timeout)
    }

    fn timeout_of_writes(&self) -> io::Result<Option<Duration>> {
        self.get_ref().timeout_of_writes()
    }

    fn bound_writes(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.get_ref().bound_writes(timeout)
    }

    fn holds_back(&self) -> bool {
        self.pending_bytes() > 0
    }
}

macro_rules! with_timeouts {
    ($($(#[$attribute:meta])* $stream:ty),*) => {
        $(
            $(#[$attribute])*
            impl WebSocket<$stream> {
                /// Waits for the next message, up to `timeout`; `None` as [`recv`](WebSocket::recv). What is queued is
                /// written meanwhile; a write that the stream does not take leaves half of the time for reading. The
                /// stream's own read timeout does not apply, and its write timeout does where it is shorter.
                ///
                /// ```
                /// use std::time::Duration;
                /// use threadbare::SocketError;
                ///
                /// # use threadbare::{Config, Role, WebSocket};
                /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
                /// # let config = Config::default();
                /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
                /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
                /// match client.recv_timeout(Duration::from_millis(1)) {
                ///     Ok(Some(message)) => println!("{message}"),
                ///     Ok(None) => println!("closed"),
                ///     Err(SocketError::Timeout) => println!("nothing yet"),
                ///     Err(error) => return Err(error.into()),
                /// }
                /// # Ok::<(), Box<dyn std::error::Error>>(())
                /// ```
                ///
                /// # Errors
                /// As [`recv`](WebSocket::recv); [`Timeout`](SocketError::Timeout) if no whole message arrived in time.
                /// Part of a message is kept for the next call.
                pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>, SocketError> {
                    match Instant::now().checked_add(timeout) {
                        Some(deadline) => self.recv_deadline(deadline),
                        None => self.recv(),
                    }
                }

                /// Waits for the next message, until `deadline`; see [`recv_timeout`](WebSocket::recv_timeout).
                ///
                /// ```
                /// use std::time::{Duration, Instant};
                ///
                /// # use threadbare::{Config, Role, WebSocket};
                /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
                /// # let config = Config::default();
                /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
                /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
                /// server.send("one")?;
                /// server.send("two")?;
                /// let deadline = Instant::now() + Duration::from_secs(5); // for both together
                /// let messages = (client.recv_deadline(deadline)?, client.recv_deadline(deadline)?);
                /// # Ok::<(), Box<dyn std::error::Error>>(())
                /// ```
                ///
                /// # Errors
                /// As [`recv_timeout`](WebSocket::recv_timeout).
                pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Option<Message>, SocketError> {
                    let before = self.get_ref().timeout_of_reads()?;
                    self.write_deadline = Some(WriteDeadline::new(
                        deadline,
                        Timeouts::timeout_of_writes,
                        Timeouts::bound_writes,
                        Timeouts::holds_back,
                    ));
                    let received = self.recv_with(|stream| set_deadline(stream, deadline));
                    if let Some(writes) = self.write_deadline.take() {
                        writes.restore(self.get_ref())?;
                    }
                    self.get_ref().bound_reads(before)?;
                    received
                }
            }
        )*
    };
}

with_timeouts!(
    TcpStream,
    #[cfg(unix)]
    UnixStream,
    #[cfg(feature = "rustls-tls")]
    TlsStream<TcpStream>,
    #[cfg(all(unix, feature = "rustls-tls"))]
    TlsStream<UnixStream>
);

/// Sets the read timeout so that the next read ends at the deadline.
fn set_deadline(stream: &impl Timeouts, deadline: Instant) -> Result<(), SocketError> {
    // The standard library refuses a timeout of zero.
    match deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        Some(left) => Ok(stream.bound_reads(Some(left))?),
        None => Err(SocketError::Timeout),
    }
}
