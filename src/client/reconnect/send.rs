//! The sends of a [`ReconnectingClient`], each as that of its [`ReconnectingSender`](super::ReconnectingSender).

use std::time::{Duration, Instant};

use crate::client::reconnect::ReconnectingClient;
use crate::config::send_options::SendOptions;
use crate::error::{SendError, SendTimeoutError, TrySendError};
use crate::protocol::message::{CowMessage, Message};
use crate::worker::handle::prepared::Prepared;

impl ReconnectingClient {
    /// Sends a message, or queues it until there is a connection; see
    /// [`ReconnectingSender::send`](crate::ReconnectingSender::send).
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// client.send("hello")?; // now, or when there is a connection
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if the client is closed, or if there is no room and the call may not wait.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.sender.send(message)
    }

    /// Sends or queues a message with options; see
    /// [`ReconnectingSender::send_with`](crate::ReconnectingSender::send_with).
    ///
    /// ```
    /// use threadbare::Compression;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// client.send_with("the session token", Compression::Never)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](ReconnectingClient::send).
    pub fn send_with<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        options: impl Into<SendOptions>,
    ) -> Result<(), SendError<Message>> {
        self.sender.send_with(message, options)
    }

    /// Sends or queues a message if there is room now.
    ///
    /// ```
    /// use threadbare::TrySendError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// match client.try_send("a measurement") {
    ///     Err(TrySendError::Full(_)) => println!("left out: the outbox is full"),
    ///     sent => sent?,
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was neither sent nor queued.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        self.sender.try_send(message)
    }

    /// Sends or queues a message, waiting up to `timeout` for room.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// client.send_timeout("hello", Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was neither sent nor queued.
    pub fn send_timeout<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.sender.send_timeout(message, timeout)
    }

    /// Sends or queues a message, waiting until `deadline` for room.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// let deadline = Instant::now() + Duration::from_secs(1); // for both together
    /// client.send_deadline("first", deadline)?;
    /// client.send_deadline("second", deadline)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was neither sent nor queued.
    pub fn send_deadline<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.sender.send_deadline(message, deadline)
    }

    /// Sends a message that was encoded before; see
    /// [`ReconnectingSender::send_prepared`](crate::ReconnectingSender::send_prepared).
    ///
    /// ```
    /// use threadbare::{Prepared, ReconnectingClient};
    ///
    /// fn tell(clients: &[ReconnectingClient], text: &str) {
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
        self.sender.send_prepared(prepared)
    }

    /// Sends a message that was encoded before, if there is room.
    ///
    /// ```
    /// use threadbare::{Prepared, ReconnectingClient};
    ///
    /// /// Returns how many clients have sent or queued it.
    /// fn tell(clients: &[ReconnectingClient], message: &Prepared) -> usize {
    ///     clients.iter().filter(|client| client.try_send_prepared(message).is_ok()).count()
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); there is no message to return.
    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<(), TrySendError<()>> {
        self.sender.try_send_prepared(prepared)
    }

    /// Sends a message that was encoded before, waiting up to `timeout` for room.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Prepared;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// client.send_prepared_timeout(&Prepared::new("tick"), Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout); there is no message to return.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        self.sender.send_prepared_timeout(prepared, timeout)
    }

    /// Sends a message that was encoded before, waiting until `deadline` for room.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::Prepared;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// client.send_prepared_deadline(&Prepared::new("tick"), Instant::now() + Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_deadline`](Self::send_deadline); there is no message to return.
    pub fn send_prepared_deadline(&self, prepared: &Prepared, deadline: Instant) -> Result<(), SendTimeoutError<()>> {
        self.sender.send_prepared_deadline(prepared, deadline)
    }
}
