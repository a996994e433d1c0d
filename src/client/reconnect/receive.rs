//! Receiving the messages of a [`ReconnectingClient`], of one connection after the other.

use std::time::{Duration, Instant};

use crate::client::error::ClientError;
use crate::client::reconnect::{Ended, ReconnectingClient};
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::protocol::message::{Message, MessageRef};
use crate::worker::channel::event::Event;
use crate::worker::receiver::events::Iter;

impl ReconnectingClient {
    /// Waits for the next message, through reconnects. Returns `None` once the client was closed cleanly and every
    /// message was received. Several threads may wait; each message goes to one of them.
    ///
    /// A client is closed cleanly by [`close`](ReconnectingClient::close), or by a closing handshake of the server
    /// after which there is no reconnect; see [`Ended::is_clean`]. [`state`](ReconnectingClient::state) has the reason.
    /// The end is reported when the TCP connection is closed, within [`close_timeout`](crate::Config::close_timeout).
    ///
    /// ```no_run
    /// # let url = "ws://127.0.0.1:8080/feed";
    /// # let client = threadbare::Client::builder().reconnect(url, threadbare::Reconnect::new())?;
    /// while let Some(message) = client.recv()? {
    ///     println!("{message}"); // from one connection after the other
    /// }
    /// println!("{}", client.state());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The client ended in another way, and every message was received: [`Failed`](ClientError::Failed) says why.
    #[doc(alias = "read")]
    pub fn recv(&self) -> Result<Option<Message>, ClientError<Ended>> {
        self.receive_until(None)
    }

    /// Returns the next message without waiting; `None` as [`recv`](ReconnectingClient::recv).
    ///
    /// ```
    /// use threadbare::ClientError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// match client.try_recv() {
    ///     Ok(Some(message)) => println!("{message}"),
    ///     Err(ClientError::Empty) => println!("nothing yet"),
    ///     ended => println!("{ended:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](ReconnectingClient::recv); [`Empty`](ClientError::Empty) if no message has arrived.
    pub fn try_recv(&self) -> Result<Option<Message>, ClientError<Ended>> {
        if let Some(message) = self.events.copy_message() {
            return Ok(Some(message));
        }
        loop {
            match self.gather.try_recv(&self.events) {
                Ok(Event::Message(_, message)) => return Ok(Some(message)),
                Ok(_) => {}
                Err(TryRecvError::Empty) => return Err(ClientError::Empty),
                Err(TryRecvError::Disconnected) => return self.end(),
            }
        }
    }

    /// Waits for the next message, up to `timeout`; `None` as [`recv`](ReconnectingClient::recv).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::ClientError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// assert!(matches!(client.recv_timeout(Duration::from_millis(1)), Err(ClientError::Timeout)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](ReconnectingClient::recv); [`Timeout`](ClientError::Timeout) if no message arrived in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message>, ClientError<Ended>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.recv_deadline(deadline),
            None => self.recv(),
        }
    }

    /// Waits for the next message, until `deadline`; `None` as [`recv`](ReconnectingClient::recv).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::ReconnectingClient;
    ///
    /// /// Returns the number of messages within a second.
    /// fn count(client: &ReconnectingClient) -> usize {
    ///     let deadline = Instant::now() + Duration::from_secs(1);
    ///     std::iter::from_fn(|| client.recv_deadline(deadline).ok().flatten()).count()
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`recv_timeout`](ReconnectingClient::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Option<Message>, ClientError<Ended>> {
        self.receive_until(Some(deadline))
    }

    pub(super) fn receive_until(&self, deadline: Option<Instant>) -> Result<Option<Message>, ClientError<Ended>> {
        // A client that gathers messages has fragments in its place.
        if let Some(message) = self.events.copy_message() {
            return Ok(Some(message));
        }
        loop {
            match self.gather.wait(&self.events, deadline) {
                Ok(Event::Message(_, message)) => return Ok(Some(message)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(ClientError::Timeout),
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
        }
    }

    /// The messages as they come, through reconnects: what [`recv`](ReconnectingClient::recv) returns, one after the
    /// other. It ends when the client was closed cleanly, or after the error that says how it ended.
    ///
    /// ```no_run
    /// # let url = "ws://127.0.0.1:8080/feed";
    /// # let client = threadbare::Client::builder().reconnect(url, threadbare::Reconnect::new())?;
    /// for message in client.iter().take(100) {
    ///     println!("{}", message?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> ReconnectingClientIter<'_> {
        ReconnectingClientIter { client: Some(self), events: self.events.iter(), lent: None }
    }

    /// The result of a receive after the last message.
    pub(super) fn end<T>(&self) -> Result<Option<T>, ClientError<Ended>> {
        let ended = self.ended();
        if ended.is_clean() { Ok(None) } else { Err(ClientError::Failed(ended)) }
    }
}

/// The messages of a [`ReconnectingClient`] as they come; made by [`ReconnectingClient::iter`].
///
/// ```
/// use threadbare::{Client, Event, Message, Reconnect, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let client = Client::builder().reconnect(&format!("ws://{}", server.local_addr()), Reconnect::new())?;
/// let Event::Open(peer, _request) = server.recv()? else { panic!("the first event") };
/// peer.send("one")?;
/// peer.send("two")?;
/// let messages = client.iter().take(2).collect::<Result<Vec<Message>, _>>()?;
/// assert_eq!(messages, [Message::from("one"), Message::from("two")]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReconnectingClientIter<'a> {
    /// `None` after the end.
    client: Option<&'a ReconnectingClient>,
    /// The messages that came together with the last one that was lent.
    events: Iter<'a>,
    /// The last message that was lent, if it was large.
    lent: Option<Message>,
}

impl ReconnectingClientIter<'_> {
    /// Waits for the next message, through reconnects, and lends it, until the next call: a short message is not copied. For
    /// small messages, this halves what a message costs the receiving thread.
    ///
    /// The iterator keeps the messages that arrived together with this one. When it is dropped,
    /// [`recv`](ReconnectingClient::recv) and other iterators continue behind this message. So drop it before you call
    /// [`finish`](ReconnectingClient::finish).
    ///
    /// ```
    /// # use threadbare::{Client, Event, Reconnect, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::builder().reconnect(&format!("ws://{}", server.local_addr()), Reconnect::new())?;
    /// # let Event::Open(peer, _request) = server.recv()? else { panic!("the first event") };
    /// # peer.send("price 100")?;
    /// # peer.send("price 101")?;
    /// let mut messages = client.iter();
    /// while let Some(message) = messages.next_ref() {
    ///     let price = message?.as_text().and_then(|text| text.strip_prefix("price ")).map(str::to_owned);
    ///     println!("{price:?}"); // of one connection after the other
    ///     # if price.as_deref() == Some("101") { break }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](ReconnectingClient::recv). `None` follows.
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<MessageRef<'_>, ClientError<Ended>>> {
        let client = self.client?;
        self.lent = None;
        if client.gather.gathers() {
            let message = self.next()?;
            return Some(message.map(|message| MessageRef::from(&*self.lent.insert(message))));
        }
        loop {
            match self.events.find_message() {
                Some(Ok(())) => return self.events.lend_message(&mut self.lent).map(Ok),
                // The next connection follows.
                Some(Err(_)) => {}
                None => {
                    self.client = None;
                    return client.end::<Message>().err().map(Err);
                }
            }
        }
    }
}

impl Iterator for ReconnectingClientIter<'_> {
    type Item = Result<Message, ClientError<Ended>>;

    fn next(&mut self) -> Option<Self::Item> {
        let client = self.client?;
        if let Some(message) = self.events.copy_message() {
            return Some(Ok(message));
        }
        loop {
            match self.events.next_of_batch() {
                Some(Ok(message)) => return Some(Ok(message)),
                // The next connection follows.
                Some(Err(_)) => {}
                None => break,
            }
        }
        let received = client.recv();
        if !matches!(received, Ok(Some(_))) {
            self.client = None;
        }
        received.transpose()
    }
}

impl std::iter::FusedIterator for ReconnectingClientIter<'_> {}

impl<'a> IntoIterator for &'a ReconnectingClient {
    type Item = Result<Message, ClientError<Ended>>;
    type IntoIter = ReconnectingClientIter<'a>;

    fn into_iter(self) -> ReconnectingClientIter<'a> {
        self.iter()
    }
}
