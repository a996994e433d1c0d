//! Receiving with a deadline, over the standard library's streams, which have read timeouts.

use std::io;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::protocol::message::Message;
use crate::socket::{SocketError, WebSocket};
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::stream::TlsStream;

/// A stream whose reads can be bounded.
trait ReadTimeout {
    fn timeout(&self) -> io::Result<Option<Duration>>;
    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
}

impl ReadTimeout for TcpStream {
    fn timeout(&self) -> io::Result<Option<Duration>> {
        self.read_timeout()
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)
    }
}

#[cfg(unix)]
impl ReadTimeout for UnixStream {
    fn timeout(&self) -> io::Result<Option<Duration>> {
        self.read_timeout()
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(timeout)
    }
}

#[cfg(feature = "rustls-tls")]
impl<S: ReadTimeout + io::Read + io::Write> ReadTimeout for TlsStream<S> {
    fn timeout(&self) -> io::Result<Option<Duration>> {
        self.get_ref().timeout()
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.get_ref().set_timeout(timeout)
    }
}

macro_rules! with_timeouts {
    ($($(#[$attribute:meta])* $stream:ty),*) => {
        $(
            $(#[$attribute])*
            impl WebSocket<$stream> {
                /// Waits for the next message, up to `timeout`; `None` as [`recv`](WebSocket::recv). The stream's own
                /// read timeout does not apply meanwhile.
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
                    let before = self.get_ref().timeout()?;
                    let received = self.recv_with(|stream| set_deadline(stream, deadline));
                    self.get_ref().set_timeout(before)?;
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
fn set_deadline(stream: &impl ReadTimeout, deadline: Instant) -> Result<(), SocketError> {
    // The standard library refuses a timeout of zero.
    match deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        Some(left) => Ok(stream.set_timeout(Some(left))?),
        None => Err(SocketError::Timeout),
    }
}
