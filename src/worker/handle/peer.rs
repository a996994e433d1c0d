//! The handle to a connection that any thread may hold.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::config::SlowConsumer;
use crate::error::ControlError;
use crate::protocol::PeerAddr;
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::contain::Kept;
use crate::protocol::frame::Opcode;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::peer_id::PeerId;
use crate::worker::handle::shared::PeerShared;
use crate::worker::handle::stats::Stats;

/// A handle to a connection, for use on any thread. It is cheap to clone. When the connection has ended, sending
/// returns an error.
///
/// Messages that one thread sends through a peer arrive in order.
///
/// ```
/// use threadbare::{Client, Event, Message, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
/// let Event::Open(peer, _request) = server.recv()? else { panic!("the first event") };
/// let thread = std::thread::spawn(move || peer.send("from another thread"));
/// assert_eq!(client.recv()?, Some(Message::from("from another thread")));
/// # thread.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Peer {
    pub(crate) shared: Arc<PeerShared>,
}

impl Peer {
    pub(crate) fn new(shared: PeerShared) -> Peer {
        Peer { shared: Arc::new(shared) }
    }

    /// Sends a ping, even if the connection's queue is full. [`Handler::on_pong`](crate::Handler::on_pong) is called
    /// with the answer.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// peer.ping(b"still there?")?; // `Peer::stats` has the round trip once the answer has arrived
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The payload has more than 125 bytes, or the connection is closed or closing.
    pub fn ping(&self, payload: &[u8]) -> Result<(), ControlError> {
        self.post_control(Opcode::Ping, payload)
    }

    /// Starts the closing handshake (RFC 6455 7.1.2). The close frame follows the messages that were sent before, and this
    /// thread can send nothing behind it. [`Config::after_close`](crate::Config::after_close) says what happens to
    /// messages that still arrive.
    ///
    /// ```
    /// use threadbare::CloseCode;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// peer.send("goodbye")?; // it is sent before the close frame
    /// peer.close(CloseCode(4000), "the game is over")?;
    /// assert_eq!(client.recv()?, None); // the closing handshake is complete
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the connection is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        let frame = CloseFrame::new(code, reason).map_err(ControlError::InvalidClose)?;
        self.post_close(Some(frame))
    }

    pub(super) fn post_close(&self, frame: Option<CloseFrame>) -> Result<(), ControlError> {
        let (to, frame) = (self.shared.key, frame.map(Box::new));
        if self.post_last(Command::Close { to, frame }) { Ok(()) } else { Err(ControlError::Disconnected) }
    }

    /// Posts a command that closes the connection; `false` if it is closed already. From here on this thread can send
    /// nothing, even if the worker has not come to the command.
    fn post_last(&self, command: Command) -> bool {
        self.is_open() && self.shared.post_last(command)
    }

    /// Has the worker close with 1008. The application is told that, whatever the peer does afterwards.
    pub(super) fn disconnect(&self) {
        self.post_last(Command::Disconnect { to: self.shared.key });
    }

    /// Drops the TCP connection without a closing handshake. The other end sees a reset. What was sent and is not written
    /// yet may be discarded, and from here on nothing can be sent. A handler and the callback of an
    /// [`EventLoop`](crate::EventLoop) get no more messages of the connection; [`Events`](crate::Events) may hold some
    /// that were received before. The reason of the end is 1006, [`CloseCause::Aborted`](crate::CloseCause::Aborted).
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// peer.abort();
    /// assert!(client.recv().is_err()); // there was no closing handshake
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn abort(&self) {
        // In this order: once the worker sees the mark, the command is in its inbox.
        if self.shared.worker.inbox.send(Command::Abort { to: self.shared.key }) {
            self.shared.set_aborted();
        }
    }

    /// The identifier of the connection.
    ///
    /// ```
    /// use threadbare::Peer;
    ///
    /// fn is_same(one: &Peer, other: &Peer) -> bool {
    ///     one.id() == other.id() // as `one == other`
    /// }
    /// ```
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::new(self.shared.worker.index, self.shared.key)
    }

    /// The peer's address. Behind a proxy that the server believes, it is that of the client, as
    /// [`Request::client_addr`](crate::Request::client_addr).
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// assert_eq!(peer.addr(), server.local_addr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn addr(&self) -> PeerAddr {
        self.shared.info.addr()
    }

    /// The subprotocol that was agreed on.
    ///
    /// ```
    /// # let server = threadbare::Server::builder().subprotocols(["chat.v2"]).bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().subprotocols(["chat.v2"]).connect(&url)?;
    /// # let peer = client.peer();
    /// assert_eq!(peer.subprotocol(), Some("chat.v2"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.shared.subprotocol()
    }

    /// Whether messages may still be sent.
    ///
    /// ```
    /// use threadbare::Peer;
    ///
    /// fn forget_those_who_left(room: &mut Vec<Peer>) {
    ///     room.retain(Peer::is_open);
    /// }
    /// ```
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.takes_messages() || self.shared.queued.is_suspended()
    }

    /// Whether a message can be sent now.
    #[inline]
    pub(crate) fn takes_messages(&self) -> bool {
        !self.shared.queued.is_closed()
    }

    /// The counts of messages and bytes of the connection, as of the last time its worker drove it.
    ///
    /// ```
    /// use threadbare::Peer;
    ///
    /// fn print(peer: &Peer) {
    ///     let stats = peer.stats();
    ///     println!("{} sent {} messages, round trip {:?}", peer.id(), stats.messages_received, stats.round_trip);
    /// }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Bytes that wait to be written.
    ///
    /// ```
    /// use threadbare::Peer;
    ///
    /// fn slowest(peers: &[Peer]) -> Option<&Peer> {
    ///     peers.iter().max_by_key(|peer| peer.queued_bytes())
    /// }
    /// ```
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued.bytes()
    }

    /// Sets what happens to the messages of this connection while its queue is full: those of other threads, and
    /// broadcasts. `None` returns to [`Config::slow_consumer`](crate::Config::slow_consumer), which holds for a
    /// connection from the start. A policy that is given with a message precedes: see
    /// [`SendOptions::slow_consumer`](crate::SendOptions::slow_consumer).
    ///
    /// It applies to sends that begin afterwards. A call that waits for room already goes on waiting.
    ///
    /// ```
    /// use threadbare::{Event, Server, SlowConsumer};
    ///
    /// fn serve(server: &Server) {
    ///     for event in server {
    ///         match event {
    ///             // Viewers may miss pictures; players must not miss moves.
    ///             Event::Open(peer, request) if request.path() == "/watch" => {
    ///                 peer.set_slow_consumer(SlowConsumer::Drop);
    ///             }
    ///             Event::Open(peer, _) => peer.set_slow_consumer(SlowConsumer::Disconnect),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// ```
    pub fn set_slow_consumer(&self, policy: impl Into<Option<SlowConsumer>>) {
        self.shared.queued.set_policy(policy.into());
    }

    /// What happens to a message of this connection while its queue is full: the policy of
    /// [`set_slow_consumer`](Peer::set_slow_consumer), else the configured one.
    ///
    /// ```
    /// use threadbare::SlowConsumer;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// assert_eq!(peer.slow_consumer(), SlowConsumer::Block); // a client's default
    /// peer.set_slow_consumer(SlowConsumer::Refuse);
    /// assert_eq!(peer.slow_consumer(), SlowConsumer::Refuse);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn slow_consumer(&self) -> SlowConsumer {
        self.shared.policy()
    }

    /// Keeps data of the application with this connection. It can be set once.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// assert_eq!(peer.set_data("anna"), Ok(()));
    /// assert_eq!(peer.set_data("bert"), Err("bert")); // it can be set once
    /// assert_eq!(peer.data(), Some(&"anna"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the data if some was set before.
    pub fn set_data<T: Any + Send + Sync>(&self, data: T) -> Result<(), T> {
        let mut data = Some(data);
        self.shared.keep(|| Box::new(data.take().map(Kept::new)));
        match data {
            None => Ok(()),
            Some(data) => Err(data),
        }
    }

    /// The data of [`set_data`](Peer::set_data), if it is a `T`. Otherwise the data that the hook that accepted the
    /// handshake set with [`Accept::data`](crate::Accept::data), if that is a `T`.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use threadbare::Peer;
    ///
    /// /// Set by `peer.set_data(Score::default())` when the connection is established.
    /// #[derive(Default)]
    /// struct Score(AtomicU32);
    ///
    /// fn count(peer: &Peer) {
    ///     if let Some(Score(score)) = peer.data() {
    ///         score.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        let own = self.shared.data().and_then(|data| data.downcast_ref::<Option<Kept<T>>>());
        own.and_then(|kept| kept.as_ref()?.get()).or_else(|| self.shared.accepted_data()?.get())
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id()).field("addr", &self.addr()).finish_non_exhaustive()
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Peer) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Peer {}

/// Hashes the [`id`](Peer::id).
impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}
