//! A client that connects again by itself.

mod backoff;
pub(super) mod config;
mod outage;
mod outbox;
mod schedule;
mod sender;
mod shared;
mod state;
mod supervisor;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use backoff::Jitter;
pub use config::{Reconnect, Session};
pub use outage::{Ended, Outage};
pub use sender::ReconnectingSender;
use shared::Shared;
pub use state::{ConnectionState, StateChanges};
use supervisor::Supervisor;

use crate::client::builder::ClientBuilder;
use crate::client::error::{ClientError, ConnectError};
use crate::client::pool::Pool;
use crate::error::{ControlError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use crate::protocol::close::CloseCode;
use crate::protocol::deflate::Compression;
use crate::protocol::handshake::client::Url;
use crate::protocol::message::{CowMessage, Message};
use crate::worker::channel::event::Event;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::prepared::Prepared;
use crate::worker::receiver::events::Events;

/// A client that connects by itself, and again whenever its connection is lost; made by [`ClientBuilder::reconnect`].
///
/// It sends and receives as a [`Client`](crate::Client) does, from as many threads as there are, and goes on through
/// reconnects. What is sent while there is no connection waits in a bounded outbox.
///
/// What ends it, and after what it tries again, is told by [`Outage::is_transient`]; how long it waits, by [`Reconnect`].
/// As with every client, messages are to be received, even if only to be thrown away: above
/// [`max_event_buffer_size`](crate::Config::max_event_buffer_size) nothing more is read, and so no end is noticed.
///
/// # What may be lost
///
/// A message is delivered at most once. One that was handed to a connection which then breaks may be lost: no answer
/// tells how far it came, and it is not sent again. What waits in the outbox is neither lost nor reordered; it goes out
/// on the next connection, behind what [`on_connect`](Reconnect::on_connect) sends. Who must know that a message arrived
/// has the other end say so.
///
/// # Threads
///
/// One thread of its own, which connects, waits and watches, for as long as the client is there; its socket lives on a
/// worker as that of every client does. Name look-ups run on a thread that lasts as long as they do.
///
/// ```no_run
/// use std::time::Duration;
/// use threadbare::{Client, ConnectionState, Reconnect};
///
/// let reconnect = Reconnect::new().on_connect(|session| drop(session.send("subscribe: prices")));
/// let client = Client::builder().reconnect("ws://127.0.0.1:8080/feed", reconnect)?;
/// client.send("hello")?; // now, or when there is a connection
/// if client.wait_state(Duration::from_secs(5), ConnectionState::is_connected).is_err() {
///     println!("not yet: {}", client.state());
/// }
/// for message in &client {
///     println!("{:?}", message?); // through however many connections
/// }
/// println!("{}", client.state());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReconnectingClient {
    sender: ReconnectingSender,
    events: Events,
    /// The worker goes on until the last connection is closed.
    _pool: Arc<Pool>,
}

impl ReconnectingClient {
    pub(super) fn start(
        builder: ClientBuilder,
        pool: Arc<Pool>,
        url: &str,
        settings: Reconnect,
    ) -> Result<ReconnectingClient, ConnectError> {
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let shared = Arc::new(Shared::new(settings.max_outbox_size, pool.config.slow_consumer, stop));
        let (route, events) = pool.channel();
        let supervisor = Supervisor {
            shared: shared.clone(),
            builder,
            url: url.to_owned(),
            site: Url::parse(url)?.authority(),
            settings,
            pool: pool.clone(),
            route,
            _events: events.clone(),
            stop: stopped,
        };
        std::thread::Builder::new()
            .name("ws-reconnect".into())
            .spawn(move || supervisor.run())
            .map_err(ConnectError::io("no thread"))?;
        Ok(ReconnectingClient { sender: ReconnectingSender { shared }, events, _pool: pool })
    }

    /// Sends a message, or queues it until there is a connection; see [`ReconnectingSender::send`].
    ///
    /// # Errors
    /// The message comes back: the client is closed, or there is no room and the call may not wait.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.sender.send(message)
    }

    /// Sends or queues a message, compressed as `compression` says; see [`ReconnectingSender::send_with`].
    ///
    /// # Errors
    /// As [`send`](ReconnectingClient::send).
    pub fn send_with<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        compression: Compression,
    ) -> Result<(), SendError<Message>> {
        self.sender.send_with(message, compression)
    }

    /// Sends or queues a message if there is room now.
    ///
    /// # Errors
    /// The message comes back.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        self.sender.try_send(message)
    }

    /// Sends or queues a message, waiting up to `timeout` for room.
    ///
    /// # Errors
    /// The message comes back.
    pub fn send_timeout<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.sender.send_timeout(message, timeout)
    }

    /// Sends or queues a message, waiting until `deadline` for room.
    ///
    /// # Errors
    /// The message comes back.
    pub fn send_deadline<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message>> {
        self.sender.send_deadline(message, deadline)
    }

    /// Sends a message that was encoded before; see [`ReconnectingSender::send_prepared`](ReconnectingSender::send_prepared).
    ///
    /// # Errors
    /// As [`send`](Self::send); there is no message to hand back.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        self.sender.send_prepared(prepared)
    }

    /// Sends a message that was encoded before, if there is room.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); there is no message to hand back.
    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<(), TrySendError<()>> {
        self.sender.try_send_prepared(prepared)
    }

    /// Sends a message that was encoded before, waiting up to `timeout` for room.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout); there is no message to hand back.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        self.sender.send_prepared_timeout(prepared, timeout)
    }

    /// Sends a message that was encoded before, waiting until `deadline` for room.
    ///
    /// # Errors
    /// As [`send_deadline`](Self::send_deadline); there is no message to hand back.
    pub fn send_prepared_deadline(&self, prepared: &Prepared, deadline: Instant) -> Result<(), SendTimeoutError<()>> {
        self.sender.send_prepared_deadline(prepared, deadline)
    }

    /// A handle that other threads can keep and send through.
    #[must_use]
    pub fn sender(&self) -> ReconnectingSender {
        self.sender.clone()
    }

    /// Waits for the next message, through reconnects; `None` once the client was closed in order and every message was
    /// received. Several threads may wait; each message goes to one of them.
    ///
    /// In order means that [`close`](ReconnectingClient::close) was called, or that the server completed a closing
    /// handshake after which there is no reconnect; [`Ended::is_clean`] has the details and
    /// [`state`](ReconnectingClient::state) the reason. The end is reported when the TCP connection is closed, within
    /// [`close_timeout`](crate::Config::close_timeout).
    ///
    /// # Errors
    /// The client ended in another way, and every message was received: [`Failed`](ClientError::Failed) says why.
    #[doc(alias = "read")]
    pub fn recv(&self) -> Result<Option<Message>, ClientError<Ended>> {
        loop {
            match self.events.recv() {
                Ok(Event::Message(_, message)) => return Ok(Some(message)),
                Ok(_) => {}
                Err(_) => return self.end(),
            }
        }
    }

    /// Returns the next message without waiting; `None` as [`recv`](ReconnectingClient::recv).
    ///
    /// # Errors
    /// As [`recv`](ReconnectingClient::recv); [`Empty`](ClientError::Empty) if no message has arrived.
    pub fn try_recv(&self) -> Result<Option<Message>, ClientError<Ended>> {
        loop {
            match self.events.try_recv() {
                Ok(Event::Message(_, message)) => return Ok(Some(message)),
                Ok(_) => {}
                Err(TryRecvError::Empty) => return Err(ClientError::Empty),
                Err(TryRecvError::Disconnected) => return self.end(),
            }
        }
    }

    /// Waits for the next message, up to `timeout`; `None` as [`recv`](ReconnectingClient::recv).
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
    /// # Errors
    /// As [`recv_timeout`](ReconnectingClient::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Option<Message>, ClientError<Ended>> {
        loop {
            match self.events.recv_deadline(deadline) {
                Ok(Event::Message(_, message)) => return Ok(Some(message)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(ClientError::Timeout),
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
        }
    }

    /// The messages as they come, through reconnects: what [`recv`](ReconnectingClient::recv) returns, one after the
    /// other. It ends when the client was closed in order, or after the error that says how it ended.
    #[must_use]
    pub fn iter(&self) -> ReconnectingClientIter<'_> {
        ReconnectingClientIter { client: Some(self) }
    }

    /// The events behind [`recv`](ReconnectingClient::recv), of one connection after the other: each begins with
    /// [`Event::Open`] and ends with [`Event::Close`]. Their [`as_channel`](Events::as_channel) can be waited for in a
    /// crossbeam `Select`.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// How the client stands.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.sender.state()
    }

    /// Waits up to `timeout` for a state that `wanted` accepts.
    ///
    /// # Errors
    /// The state when the time is over; or the last one, if that is not wanted.
    pub fn wait_state(
        &self,
        timeout: Duration,
        wanted: impl Fn(&ConnectionState) -> bool,
    ) -> Result<ConnectionState, ConnectionState> {
        self.sender.shared.wait_state(Instant::now().checked_add(timeout), wanted)
    }

    /// Waits until `deadline` for a state that `wanted` accepts.
    ///
    /// # Errors
    /// The state at the deadline; or the last one, if that is not wanted.
    pub fn wait_state_deadline(
        &self,
        deadline: Instant,
        wanted: impl Fn(&ConnectionState) -> bool,
    ) -> Result<ConnectionState, ConnectionState> {
        self.sender.shared.wait_state(Some(deadline), wanted)
    }

    /// The changes of the state: the present one first, then every other. Each call makes another watcher.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.sender.state_changes()
    }

    /// The connection that there is now; see [`ReconnectingSender::peer`].
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.sender.peer()
    }

    /// Bytes that wait for a connection, 64 for each message beside its payload.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.sender.queued_bytes()
    }

    /// Takes back the messages that wait for a connection, oldest first; see [`ReconnectingSender::take_queued`].
    #[must_use]
    pub fn take_queued(&self) -> Vec<Message> {
        self.sender.take_queued()
    }

    /// Ends the client for good, whatever it is at: a connection is closed behind what was sent before, an attempt or a
    /// wait is broken off. Without a connection, what is in the outbox stays there for
    /// [`take_queued`](ReconnectingClient::take_queued).
    ///
    /// # Errors
    /// A code that may not be sent, a reason of more than 123 bytes, or a client that is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        self.sender.close(code, reason)
    }

    /// Waits, up to `timeout`, until the outbox is empty, closes with 1000, and waits until the client has ended and its
    /// last connection's TCP is closed. Messages that still arrive are thrown away.
    ///
    /// # Errors
    /// The time is over: it goes on closing, within [`close_timeout`](crate::Config::close_timeout).
    /// [`take_queued`](ReconnectingClient::take_queued) has what could not be sent.
    pub fn finish(&self, timeout: Duration) -> Result<Ended, ClientError<Ended>> {
        let deadline = Instant::now().checked_add(timeout);
        self.sender.shared.wait_empty(deadline);
        // Whoever has closed it already waits for the same end.
        let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
        loop {
            let received = match deadline {
                Some(deadline) => self.recv_deadline(deadline),
                None => self.recv(),
            };
            match received {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(self.ended()),
                Err(ClientError::Failed(ended)) => return Ok(ended),
                Err(error) => return Err(error),
            }
        }
    }

    /// What a receiver is told behind the last message.
    fn end(&self) -> Result<Option<Message>, ClientError<Ended>> {
        let ended = self.ended();
        if ended.is_clean() { Ok(None) } else { Err(ClientError::Failed(ended)) }
    }

    /// Why it ended; asked when its channel of events has.
    fn ended(&self) -> Ended {
        match self.state() {
            ConnectionState::Closed(ended) => ended,
            // Not reached: the state is set first.
            _ => Ended::ByApplication(None),
        }
    }
}

/// The messages of a [`ReconnectingClient`] as they come; made by [`ReconnectingClient::iter`].
#[derive(Clone, Debug)]
pub struct ReconnectingClientIter<'a> {
    /// `None` behind the end.
    client: Option<&'a ReconnectingClient>,
}

impl Iterator for ReconnectingClientIter<'_> {
    type Item = Result<Message, ClientError<Ended>>;

    fn next(&mut self) -> Option<Self::Item> {
        let received = self.client?.recv();
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

impl Drop for ReconnectingClient {
    fn drop(&mut self) {
        // Closed already, it needs no more.
        let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
    }
}

impl ClientBuilder {
    /// Makes a client that connects by itself, and again whenever the connection is lost, as `reconnect` says. It
    /// returns at once; [`wait_state`](ReconnectingClient::wait_state) waits for the connection.
    ///
    /// # Errors
    /// The URL or a setting is wrong, or there is no thread to be had. That the server can not be reached is no error:
    /// it is tried again.
    pub fn reconnect(&self, url: &str, reconnect: Reconnect) -> Result<ReconnectingClient, ConnectError> {
        reconnect.check()?;
        // What is wrong with it is said now.
        let _ = self.request(url)?;
        ReconnectingClient::start(self.clone(), self.worker()?, url, reconnect)
    }
}
