//! The sends of a [`Client`], each as that of its [`Peer`](crate::Peer).

use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::client::client::Client;
use crate::config::send_options::SendOptions;
use crate::config::stream_options::StreamOptions;
use crate::error::{SendError, SendTimeoutError, TrySendError};
use crate::protocol::message::{CowMessage, Message};
use crate::transport::message_writer::MessageWriter;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::prepared::Prepared;

impl Client {
    /// Sends a message, waiting while the connection's queue is above the high-water mark; see
    /// [`Peer::send`](crate::Peer::send).
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send("text")?;
    /// client.send(vec![1, 2, 3])?; // binary
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if the connection is closed or closing, or if it is an invalid control frame.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.peer.send(message)
    }

    /// Sends a message with options; see [`Peer::send_with`](crate::Peer::send_with).
    ///
    /// ```
    /// use threadbare::Compression;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send_with("the session token", Compression::Never)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub fn send_with<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        options: impl Into<SendOptions>,
    ) -> Result<(), SendError<Message>> {
        self.peer.send_with(message, options)
    }

    /// Sends a message if there is room; see [`Peer::try_send`](crate::Peer::try_send).
    ///
    /// ```
    /// use threadbare::TrySendError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// match client.try_send("tick") {
    ///     Err(TrySendError::Full(_)) => println!("left out: the server reads too slowly"),
    ///     sent => sent?,
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was not sent.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        self.peer.try_send(message)
    }

    /// Sends a message, waiting up to `timeout` for room; see [`Peer::send_timeout`](crate::Peer::send_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send_timeout("hello", Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was not sent.
    pub fn send_timeout<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.peer.send_timeout(message, timeout)
    }

    /// Sends a message, waiting until `deadline` for room; see [`Peer::send_deadline`](crate::Peer::send_deadline).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let deadline = Instant::now() + Duration::from_secs(1); // for both together
    /// client.send_deadline("first", deadline)?;
    /// client.send_deadline("second", deadline)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was not sent.
    pub fn send_deadline<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.peer.send_deadline(message, deadline)
    }

    /// Sends a message that was encoded before; see [`Peer::send_prepared`](crate::Peer::send_prepared).
    ///
    /// ```
    /// use threadbare::{Client, Prepared};
    ///
    /// fn tell(clients: &[Client], text: &str) {
    ///     let message = Prepared::new(text);
    ///     for client in clients {
    ///         let _ = client.send_prepared(&message); // an error says that it is closed
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send); there is no message to return.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        self.peer.send_prepared(prepared)
    }

    /// Sends a message that was encoded before, if there is room.
    ///
    /// ```
    /// use threadbare::{Client, Prepared};
    ///
    /// /// Returns how many clients have sent it.
    /// fn tell(clients: &[Client], message: &Prepared) -> usize {
    ///     clients.iter().filter(|client| client.try_send_prepared(message).is_ok()).count()
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); there is no message to return.
    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<(), TrySendError<()>> {
        self.peer.try_send_prepared(prepared)
    }

    /// Sends a message that was encoded before, waiting up to `timeout` for room.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Prepared;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send_prepared_timeout(&Prepared::new("tick"), Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout); there is no message to return.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        self.peer.send_prepared_timeout(prepared, timeout)
    }

    /// Sends a message that was encoded before, waiting until `deadline` for room.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::Prepared;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send_prepared_deadline(&Prepared::new("tick"), Instant::now() + Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_deadline`](Self::send_deadline); there is no message to return.
    pub fn send_prepared_deadline(&self, prepared: &Prepared, deadline: Instant) -> Result<(), SendTimeoutError<()>> {
        self.peer.send_prepared_deadline(prepared, deadline)
    }

    /// Begins a message that is written in parts, so that it may have any size; see
    /// [`Peer::writer`](crate::Peer::writer).
    ///
    /// ```
    /// use std::io::Write;
    /// use threadbare::StreamOptions;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let mut writer = client.writer(StreamOptions::text());
    /// for line in 1..=100_000 {
    ///     writeln!(writer, "line {line}")?;
    /// }
    /// writer.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// There is none here; those of a write are as for [`Peer::writer`](crate::Peer::writer).
    #[must_use = "a message is sent by `finish`"]
    pub fn writer(&self, options: StreamOptions) -> MessageWriter<Peer> {
        self.peer.writer(options)
    }

    /// Sends a message that consists of what `source` has, in parts, and returns its size in bytes; see
    /// [`Peer::send_stream`](crate::Peer::send_stream).
    ///
    /// ```no_run
    /// use threadbare::{Client, StreamOptions};
    ///
    /// let client = Client::connect("ws://127.0.0.1:8080/upload")?;
    /// let size = client.send_stream(std::fs::File::open("film.mp4")?, StreamOptions::binary())?;
    /// println!("{size} bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Peer::send_stream`](crate::Peer::send_stream).
    pub fn send_stream(&self, source: impl Read, options: StreamOptions) -> io::Result<u64> {
        self.peer.send_stream(source, options)
    }
}
