//! Reading a message as it arrives, through reconnects.

use std::time::{Duration, Instant};

use crate::client::error::ClientError;
use crate::client::message_reader::{ClientMessageReader, NoFragment};
use crate::client::reconnect::{Ended, ReconnectingClient};

impl ReconnectingClient {
    /// Waits for the first bytes of the next message, through reconnects, and returns a reader of the message; `None` as
    /// [`recv`](ReconnectingClient::recv).
    ///
    /// A message belongs to its connection. If that is lost inside the message, the read fails with
    /// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof), and the next reader has the next message of the next connection.
    ///
    /// The client's configuration should have [`Receive::Fragments`](crate::Receive::Fragments). Otherwise the message is
    /// received whole before it is read, up to [`max_message_size`](crate::Config::max_message_size).
    ///
    /// ```no_run
    /// use std::fs::File;
    /// use std::io;
    /// use threadbare::{Client, Config, Receive, Reconnect};
    ///
    /// let config = Config::default().receive(Receive::Fragments { max_size: None });
    /// let client = Client::builder().config(config).reconnect("ws://127.0.0.1:8080/", Reconnect::new())?;
    /// while let Some(mut reader) = client.recv_reader()? {
    ///     if let Err(error) = io::copy(&mut reader, &mut File::create("picture")?) {
    ///         println!("the picture is not whole: {error}"); // the next one may be
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](ReconnectingClient::recv).
    pub fn recv_reader(&self) -> Result<Option<ClientMessageReader<'_>>, ClientError<Ended>> {
        self.reader(None)
    }

    /// As [`recv_reader`](ReconnectingClient::recv_reader), for up to `timeout`, which is for the whole message: see
    /// [`recv_reader_deadline`](ReconnectingClient::recv_reader_deadline).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::ClientError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// assert!(matches!(client.recv_reader_timeout(Duration::from_millis(1)), Err(ClientError::Timeout)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv_timeout`](ReconnectingClient::recv_timeout).
    pub fn recv_reader_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Option<ClientMessageReader<'_>>, ClientError<Ended>> {
        self.reader(Instant::now().checked_add(timeout))
    }

    /// As [`recv_reader`](ReconnectingClient::recv_reader), until `deadline`, which is the first
    /// [deadline](ClientMessageReader::set_deadline) of the reader as well.
    ///
    /// ```
    /// use std::io::{self, Read};
    /// use std::time::{Duration, Instant};
    /// use threadbare::ReconnectingClient;
    ///
    /// /// Returns the next message, if all of it arrives within ten seconds.
    /// fn read(client: &ReconnectingClient) -> io::Result<Vec<u8>> {
    ///     let mut bytes = Vec::new();
    ///     let deadline = Instant::now() + Duration::from_secs(10);
    ///     if let Some(mut reader) = client.recv_reader_deadline(deadline).map_err(io::Error::other)? {
    ///         reader.read_to_end(&mut bytes)?;
    ///     }
    ///     Ok(bytes)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`recv_deadline`](ReconnectingClient::recv_deadline).
    pub fn recv_reader_deadline(
        &self,
        deadline: Instant,
    ) -> Result<Option<ClientMessageReader<'_>>, ClientError<Ended>> {
        self.reader(Some(deadline))
    }

    fn reader(&self, deadline: Option<Instant>) -> Result<Option<ClientMessageReader<'_>>, ClientError<Ended>> {
        loop {
            match ClientMessageReader::begin(&self.events, &self.gather, None, deadline) {
                Ok(reader) => return Ok(Some(reader)),
                // The next connection follows.
                Err(NoFragment::Ended(_)) => {}
                Err(NoFragment::Timeout) => return Err(ClientError::Timeout),
                Err(NoFragment::NoMore) => return self.end(),
            }
        }
    }
}
