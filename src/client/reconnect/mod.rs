//! A client that connects again when its connection is lost.

pub(super) mod config;
mod message_reader;
mod outage;
mod outbox;
mod receive;
mod schedule;
mod send;
mod sender;
mod shared;
mod state;
mod supervisor;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use config::{Reconnect, Session};
pub use outage::{Ended, Outage};
pub use receive::ReconnectingClientIter;
pub use sender::ReconnectingSender;
use shared::Shared;
pub use state::{ConnectionState, StateChanges};
use supervisor::Supervisor;

use crate::client::builder::ClientBuilder;
use crate::client::ending::Ending;
use crate::client::error::{ClientError, ConnectError};
use crate::client::gather::Gather;
use crate::client::pool::Pool;
use crate::error::ControlError;
use crate::protocol::close::CloseCode;
use crate::protocol::handshake::client::Url;
use crate::protocol::message::Message;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::traffic::TrafficStats;
use crate::worker::receiver::events::Events;

/// A client that connects, and connects again whenever its connection is lost; made by [`ClientBuilder::reconnect`].
///
/// It sends and receives as a [`Client`](crate::Client) does, from any number of threads, and continues to do so after
/// a reconnect. Messages that are sent while there is no connection wait in a bounded queue, the outbox.
///
/// [`Outage::is_transient`] says which outages end the client and which are followed by another attempt. [`Reconnect`] says
/// how long the client waits before it.
///
/// As with every client, the application must receive messages, even if it discards them. Above
/// [`max_event_buffer_size`](crate::Config::max_event_buffer_size) the client stops reading, and does not notice that a
/// connection has ended.
///
/// # The end
///
/// Dropping the client closes it with 1000, once the messages in the outbox are sent. It waits for that and for the
/// closing handshake, for up to [`drop_timeout`](crate::Config::drop_timeout), 5 s by default. While there is no
/// connection and messages wait for one, it goes on connecting. [`finish`](ReconnectingClient::finish) does the same and
/// reports how it ended. [`std::process::exit`] drops nothing: call `finish` before it. A client that is dropped in one
/// of its own hooks does not wait.
///
/// # What may be lost
///
/// A message is delivered at most once. A message that was sent on a connection that then breaks may be lost: WebSocket
/// does not confirm messages, and the client does not send it again. Messages in the outbox are neither lost nor
/// reordered. They are sent on the next connection, after those that [`on_connect`](Reconnect::on_connect) sends. An
/// application that must know that a message arrived needs an acknowledgement from the server.
///
/// A message in parts, which [`writer`](ReconnectingClient::writer), [`send_stream`](ReconnectingClient::send_stream) and
/// [`recv_reader`](ReconnectingClient::recv_reader) send and receive, belongs to one connection. If that is lost inside the message,
/// the call fails, and nothing of the message comes again on the next connection.
///
/// # Threads
///
/// The client has one thread of its own, which connects, waits, and watches the connection until the client ends. A
/// worker serves the connection, as it does for every client. Each look-up of a name runs on a short-lived thread.
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
///     println!("{:?}", message?); // from one connection after the other
/// }
/// println!("{}", client.state());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReconnectingClient {
    sender: ReconnectingSender,
    events: Events,
    gather: Gather,
    /// The last field: dropped when the receiver is, so that messages that still arrive do not hold up the end.
    _end: AwaitedEnd,
}

/// Waits for the end of the client when it is dropped. Keeps the worker threads running until then.
#[derive(Debug)]
struct AwaitedEnd {
    ending: Ending,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

impl Drop for AwaitedEnd {
    fn drop(&mut self) {
        if !self.shared.supervised_here() && !self.pool.wait_for(&self.ending) {
            // The time is over for what is in the outbox. An error means that the client is closing already.
            let _ = self.shared.close(CloseCode::NORMAL_CLOSURE, "");
            let unsent = self.shared.lock().outbox.size();
            if unsent > 0 {
                log::warn!("a reconnecting client was dropped, and {unsent} bytes of messages were not sent");
            }
        }
    }
}

impl ReconnectingClient {
    pub(super) fn start(
        builder: ClientBuilder,
        pool: Arc<Pool>,
        url: &str,
        settings: Reconnect,
    ) -> Result<ReconnectingClient, ConnectError> {
        let parsed = Url::parse(url)?;
        let site = parsed.socket_path().map_or_else(|| parsed.authority(), |path| format!("unix:{}", path.display()));
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let shared = Arc::new(Shared::new(settings.max_outbox_size, &pool.config, stop));
        let (route, events, ending) = pool.channel();
        let supervisor = Supervisor {
            shared: shared.clone(),
            builder,
            url: url.to_owned(),
            site,
            settings,
            pool: pool.clone(),
            route,
            stop: stopped,
        };
        pool.config
            .thread("ws-reconnect".into())
            .spawn(move || supervisor.run())
            .map_err(ConnectError::io("no thread"))?;
        let gather = Gather::new(&pool.config);
        let end = AwaitedEnd { ending, shared: shared.clone(), pool };
        Ok(ReconnectingClient { sender: ReconnectingSender { shared }, events, gather, _end: end })
    }

    /// A handle that other threads can keep and send through.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// let sender = client.sender();
    /// let thread = std::thread::spawn(move || sender.send("from another thread"));
    /// # thread.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sender(&self) -> ReconnectingSender {
        self.sender.clone()
    }

    /// The events behind [`recv`](ReconnectingClient::recv), of one connection after the other: each begins with
    /// [`Event::Open`](crate::Event::Open) and ends with [`Event::Close`](crate::Event::Close). Their [`as_channel`](Events::as_channel) can be waited for in a
    /// crossbeam `Select`.
    ///
    /// ```
    /// use threadbare::{Client, Event, Reconnect, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::builder().reconnect(&format!("ws://{}", server.local_addr()), Reconnect::new())?;
    /// assert!(matches!(client.events().recv()?, Event::Open(..)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The state of the client.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// if !client.state().is_connected() {
    ///     println!("not yet: {}", client.state());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.sender.state()
    }

    /// Waits up to `timeout` for a state that `wanted` accepts. It is called at once, and whenever the state has changed, and
    /// may ask the client.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{Client, ConnectionState, Reconnect, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::builder().reconnect(&format!("ws://{}", server.local_addr()), Reconnect::new())?;
    /// match client.wait_state(Duration::from_secs(5), ConnectionState::is_connected) {
    ///     Ok(_) => client.send("hello")?,
    ///     Err(state) => println!("not yet: {state}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the state if the time is over, or if the client has ended and that state is not wanted.
    pub fn wait_state(
        &self,
        timeout: Duration,
        wanted: impl Fn(&ConnectionState) -> bool,
    ) -> Result<ConnectionState, ConnectionState> {
        self.sender.shared.wait_state(Instant::now().checked_add(timeout), wanted)
    }

    /// Waits until `deadline` for a state that `wanted` accepts.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::{ConnectionState, ReconnectingClient};
    ///
    /// /// Whether all clients are connected after five seconds at most.
    /// fn are_connected(clients: &[ReconnectingClient]) -> bool {
    ///     let deadline = Instant::now() + Duration::from_secs(5);
    ///     clients.iter().all(|client| client.wait_state_deadline(deadline, ConnectionState::is_connected).is_ok())
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns the state if the deadline has passed, or if the client has ended and that state is not wanted.
    pub fn wait_state_deadline(
        &self,
        deadline: Instant,
        wanted: impl Fn(&ConnectionState) -> bool,
    ) -> Result<ConnectionState, ConnectionState> {
        self.sender.shared.wait_state(Some(deadline), wanted)
    }

    /// A receiver of the states of the client: the current one first, then every new one. Each call makes another
    /// receiver.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// let changes = client.state_changes();
    /// std::thread::spawn(move || {
    ///     for state in changes.as_channel() {
    ///         println!("{state}");
    ///     }
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.sender.state_changes()
    }

    /// A handle to the current connection, if there is one; see [`ReconnectingSender::peer`].
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// if let Some(peer) = client.peer() {
    ///     println!("round trip {:?}", peer.stats().round_trip);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.sender.peer()
    }

    /// What the thread that serves this client did, over all connections that it has made; see
    /// [`Client::traffic`](crate::Client::traffic).
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// let traffic = client.traffic();
    /// println!("{} connections, {} of them lost", traffic.opened, traffic.closed(threadbare::CloseCode::ABNORMAL_CLOSURE));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn traffic(&self) -> TrafficStats {
        self._end.pool.traffic()
    }

    /// The size of the messages that wait for a connection, in bytes. Each counts 64 bytes and its payload.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// if client.queued_bytes() < 64 << 10 {
    ///     client.send("a measurement")?; // others are left out
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.sender.queued_bytes()
    }

    /// Takes back the messages that wait for a connection, oldest first; see [`ReconnectingSender::take_queued`].
    ///
    /// ```
    /// use threadbare::{Client, CloseCode, Reconnect};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?; // it answers no handshake
    /// let client = Client::builder().reconnect(&format!("ws://{}", listener.local_addr()?), Reconnect::new())?;
    /// client.send("hello")?;
    /// client.close(CloseCode::NORMAL_CLOSURE, "")?;
    /// assert_eq!(client.take_queued().len(), 1); // to be sent another time
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn take_queued(&self) -> Vec<Message> {
        self.sender.take_queued()
    }

    /// Ends the client. If there is a connection, it is closed after the messages that were sent before. An attempt to
    /// connect is canceled, and so is a wait for the next one. If there is no connection, the messages in the outbox
    /// stay there for [`take_queued`](ReconnectingClient::take_queued).
    ///
    /// ```
    /// use threadbare::CloseCode;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// client.close(CloseCode::NORMAL_CLOSURE, "done")?;
    /// while let Some(message) = client.recv()? {
    ///     println!("{message}"); // what the server sent before
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the client is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        self.sender.close(code, reason)
    }

    /// Waits until the outbox is empty, closes with 1000, and waits until the client has ended and its last TCP
    /// connection is closed, up to `timeout` in all. Discards messages that still arrive.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// client.send("goodbye")?;
    /// let ended = client.finish(Duration::from_secs(5))?; // the server has it
    /// assert!(ended.is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Timeout`](ClientError::Timeout) if the time is over. The client continues to close, within
    /// [`close_timeout`](crate::Config::close_timeout). [`take_queued`](ReconnectingClient::take_queued) returns the
    /// messages that could not be sent.
    pub fn finish(&self, timeout: Duration) -> Result<Ended, ClientError<Ended>> {
        let deadline = Instant::now().checked_add(timeout);
        self.sender.shared.close_when_sent();
        loop {
            match self.receive_until(deadline) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(self.ended()),
                Err(ClientError::Failed(ended)) => return Ok(ended),
                Err(error) => {
                    // The time is over for what is in the outbox. An error means that the client is closing already.
                    let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
                    return Err(error);
                }
            }
        }
    }

    /// Why the client ended. Called once its channel of events has ended.
    fn ended(&self) -> Ended {
        match self.state() {
            ConnectionState::Closed(ended) => ended,
            // Not reached: the last state is set before the channel ends.
            _ => Ended::ByApplication(None),
        }
    }
}

impl Drop for ReconnectingClient {
    fn drop(&mut self) {
        let shared = &self.sender.shared;
        if shared.supervised_here() {
            // Nobody waits for the outbox, so that the end has no bound: a connection is closed after it, and without
            // one the client ends. An error means that it is closed already.
            let _ = shared.close(CloseCode::NORMAL_CLOSURE, "");
        } else {
            shared.close_when_sent();
            shared.refuse_messages();
        }
    }
}

impl ClientBuilder {
    /// Makes a client that connects, and connects again whenever the connection is lost, with the settings of
    /// `reconnect`. Returns at once; [`wait_state`](ReconnectingClient::wait_state) waits for the connection.
    ///
    /// ```
    /// use threadbare::{Client, Reconnect, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let builder = Client::builder().header("X-Room", "7");
    /// let client = builder.reconnect(&format!("ws://{}", server.local_addr()), Reconnect::new())?;
    /// client.send("hello")?; // it waits in the outbox until there is a connection
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The URL or a setting is invalid, or no thread could be started. A server that can not be reached is no error:
    /// the client tries again.
    pub fn reconnect(&self, url: &str, reconnect: Reconnect) -> Result<ReconnectingClient, ConnectError> {
        reconnect.check()?;
        // An invalid URL or header is an error here, not at the first attempt.
        let _ = self.request(url)?;
        ReconnectingClient::start(self.clone(), self.worker()?, url, reconnect)
    }
}
