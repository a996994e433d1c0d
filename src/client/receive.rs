//! Receiving the messages of a [`Client`].

use std::time::{Duration, Instant};

use crate::client::client::Client;
use crate::client::error::ClientError;
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::protocol::close::CloseReason;
use crate::protocol::message::{Message, MessageRef};
use crate::worker::channel::batch::Batch;
use crate::worker::channel::event::Event;
use crate::worker::receiver::events::Iter;

impl Client {
    /// Waits for the next message. Returns `None` once the closing handshake is complete and every message was
    /// received. Several threads may wait; each message goes to one of them.
    ///
    /// ```no_run
    /// # let client = threadbare::Client::connect("ws://127.0.0.1:8080/")?;
    /// while let Some(message) = client.recv()? {
    ///     println!("{message}"); // long ones are cut
    /// }
    /// println!("closed: {:?}", client.close_reason());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The connection ended without a completed closing handshake, and every message was received:
    /// [`Failed`](ClientError::Failed) says why.
    #[doc(alias = "read")]
    pub fn recv(&self) -> Result<Option<Message>, ClientError> {
        self.receive_until(None)
    }

    /// Returns the next message without waiting; `None` as [`recv`](Client::recv).
    ///
    /// ```
    /// use threadbare::ClientError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// match client.try_recv() {
    ///     Ok(Some(message)) => println!("{message}"),
    ///     Ok(None) => println!("closed"),
    ///     Err(ClientError::Empty) => println!("nothing yet"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](Client::recv); [`Empty`](ClientError::Empty) if no message has arrived.
    pub fn try_recv(&self) -> Result<Option<Message>, ClientError> {
        if let Some(message) = self.events.copy_message() {
            return Ok(Some(message));
        }
        if !self.gather.gathers() {
            return match self.events.try_take(Batch::next_message) {
                Err(TryRecvError::Empty) => Err(ClientError::Empty),
                received => self.received(received.ok()),
            };
        }
        loop {
            match self.gather.try_recv(&self.events) {
                Ok(Event::Open(..)) => {}
                Err(TryRecvError::Empty) => return Err(ClientError::Empty),
                event => return self.message(event.ok()),
            }
        }
    }

    /// Waits for the next message, up to `timeout`; `None` as [`recv`](Client::recv).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::ClientError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// assert!(matches!(client.recv_timeout(Duration::from_millis(1)), Err(ClientError::Timeout)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](Client::recv); [`Timeout`](ClientError::Timeout) if no message arrived in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message>, ClientError> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.recv_deadline(deadline),
            None => self.recv(),
        }
    }

    /// Waits for the next message, until `deadline`; `None` as [`recv`](Client::recv).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::{Client, ClientError, Message};
    ///
    /// /// Waits up to five seconds for the answer, whatever else arrives.
    /// fn answer(client: &Client) -> Result<Option<Message>, ClientError> {
    ///     let deadline = Instant::now() + Duration::from_secs(5);
    ///     while let Some(message) = client.recv_deadline(deadline)? {
    ///         if message.as_bytes().starts_with(b"answer: ") {
    ///             return Ok(Some(message));
    ///         }
    ///     }
    ///     Ok(None)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`recv_timeout`](Client::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Option<Message>, ClientError> {
        self.receive_until(Some(deadline))
    }

    #[inline]
    pub(super) fn receive_until(&self, deadline: Option<Instant>) -> Result<Option<Message>, ClientError> {
        // A client that gathers messages has fragments in its place.
        match self.events.copy_message() {
            Some(message) => Ok(Some(message)),
            None => self.wait_until(deadline),
        }
    }

    #[inline(never)]
    fn wait_until(&self, deadline: Option<Instant>) -> Result<Option<Message>, ClientError> {
        if !self.gather.gathers() {
            return match self.events.take_until(deadline, Batch::next_message) {
                Err(RecvTimeoutError::Timeout) => Err(ClientError::Timeout),
                received => self.received(received.ok()),
            };
        }
        loop {
            match self.gather.wait(&self.events, deadline) {
                Ok(Event::Open(..)) => {}
                Err(RecvTimeoutError::Timeout) => return Err(ClientError::Timeout),
                event => return self.message(event.ok()),
            }
        }
    }

    /// The messages as they come: what [`recv`](Client::recv) returns, one after the other. It ends after a completed
    /// closing handshake, or after the error that says why there was none.
    ///
    /// ```no_run
    /// # let client = threadbare::Client::connect("ws://127.0.0.1:8080/")?;
    /// for message in &client {
    ///     println!("{}", message?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> ClientIter<'_> {
        ClientIter { client: Some(self), events: self.events.iter(), lent: None }
    }

    /// Converts an event into the result of [`recv`](Client::recv). `None` is the end of the channel.
    pub(super) fn message(&self, event: Option<Event>) -> Result<Option<Message>, ClientError> {
        self.received(match event {
            Some(Event::Message(_, message)) => Some(Ok(message)),
            Some(Event::Close(_, reason)) => Some(Err(reason)),
            _ => None,
        })
    }

    /// The result of [`recv`](Client::recv). `None` is the end of the channel.
    fn received(&self, received: Option<Result<Message, CloseReason>>) -> Result<Option<Message>, ClientError> {
        match received {
            Some(Ok(message)) => return Ok(Some(message)),
            // No other thread has set it: a connection has one `Close` event.
            Some(Err(reason)) => drop(self.ended.set(reason)),
            None => {}
        }
        self.end()
    }

    /// The result of a receive after the last message.
    pub(super) fn end<T>(&self) -> Result<Option<T>, ClientError> {
        let reason = self.reason();
        if reason.is_clean() { Ok(None) } else { Err(ClientError::Failed(reason)) }
    }
}

/// The messages of a [`Client`] as they come; made by [`Client::iter`].
///
/// ```
/// use threadbare::{Client, Event, Message, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
/// let Event::Open(peer, _request) = server.recv()? else { panic!("the first event") };
/// peer.send("one")?;
/// peer.send("two")?;
/// let messages = client.iter().take(2).collect::<Result<Vec<Message>, _>>()?;
/// assert_eq!(messages, [Message::from("one"), Message::from("two")]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ClientIter<'a> {
    /// `None` after the end.
    client: Option<&'a Client>,
    /// The messages that came together with the last one that was lent.
    events: Iter<'a>,
    /// The last message that was lent, if it was large.
    lent: Option<Message>,
}

impl ClientIter<'_> {
    /// Waits for the next message and lends it, until the next call: a short message is not copied. For small messages, this
    /// halves what a message costs the receiving thread.
    ///
    /// The iterator keeps the messages that arrived together with this one, and the end of the connection if that did too. When
    /// it is dropped, [`recv`](Client::recv) and other iterators continue behind this message. So drop it before you call
    /// [`finish`](Client::finish).
    ///
    /// ```
    /// # use threadbare::{Client, CloseCode, Event, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let Event::Open(peer, _request) = server.recv()? else { panic!("the first event") };
    /// # peer.send("price 100")?;
    /// # peer.send("price 101")?;
    /// # peer.close(CloseCode::NORMAL_CLOSURE, "")?;
    /// let mut last = 0;
    /// let mut messages = client.iter();
    /// while let Some(message) = messages.next_ref() {
    ///     if let Some(price) = message?.as_text().and_then(|text| text.strip_prefix("price ")) {
    ///         last = price.parse()?;
    ///     }
    /// }
    /// assert_eq!(last, 101);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](Client::recv). `None` follows.
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<MessageRef<'_>, ClientError>> {
        let client = self.client?;
        self.lent = None;
        if client.gather.gathers() {
            let message = self.next()?;
            return Some(message.map(|message| MessageRef::from(&*self.lent.insert(message))));
        }
        match self.events.find_message() {
            Some(Ok(())) => self.events.lend_message(&mut self.lent).map(Ok),
            end => {
                self.client = None;
                client.received(end.and_then(Result::err).map(Err)).err().map(Err)
            }
        }
    }
}

impl Iterator for ClientIter<'_> {
    type Item = Result<Message, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        let client = self.client?;
        if let Some(message) = self.events.copy_message() {
            return Some(Ok(message));
        }
        let received = match self.events.next_of_batch() {
            None => client.recv(),
            received => client.received(received),
        };
        if !matches!(received, Ok(Some(_))) {
            self.client = None;
        }
        received.transpose()
    }
}

impl std::iter::FusedIterator for ClientIter<'_> {}

impl<'a> IntoIterator for &'a Client {
    type Item = Result<Message, ClientError>;
    type IntoIter = ClientIter<'a>;

    fn into_iter(self) -> ClientIter<'a> {
        self.iter()
    }
}
