//! The handle to a connection that any thread may hold.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::ControlError;
use crate::protocol::PeerAddr;
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::frame::Opcode;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::shared::PeerShared;
use crate::worker::handle::stats::Stats;
use crate::worker::slab::Key;

/// A handle to a connection, for use on any thread. It is cheap to clone. When the connection has ended, sending
/// returns an error.
///
/// Messages that one thread sends through a peer arrive in order.
#[derive(Clone)]
pub struct Peer {
    pub(crate) shared: Arc<PeerShared>,
}

/// The identifier of a connection. It is not used for another connection while the server runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    worker: u16,
    index: u32,
    generation: u32,
}

impl PeerId {
    pub(crate) fn new(worker: u16, key: Key) -> PeerId {
        PeerId { worker, index: key.index, generation: key.generation }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.worker, self.index, self.generation)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl Peer {
    pub(crate) fn new(shared: PeerShared) -> Peer {
        Peer { shared: Arc::new(shared) }
    }

    /// Sends a ping, even if the connection's queue is full. [`Handler::on_pong`](crate::Handler::on_pong) is called
    /// with the answer.
    ///
    /// # Errors
    /// The payload has more than 125 bytes, or the connection is closed or closing.
    pub fn ping(&self, payload: &[u8]) -> Result<(), ControlError> {
        self.post_control(Opcode::Ping, payload)
    }

    /// Starts the closing handshake (RFC 6455 7.1.2). The close frame follows the messages that were sent before.
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the connection is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        let frame = CloseFrame::new(code, reason).map_err(ControlError::InvalidClose)?;
        self.post_close(Some(frame))
    }

    pub(super) fn post_close(&self, frame: Option<CloseFrame>) -> Result<(), ControlError> {
        let (to, frame) = (self.shared.key, frame.map(Box::new));
        if self.is_open() && self.shared.worker.inbox.send(Command::Close { to, frame }) {
            Ok(())
        } else {
            Err(ControlError::Disconnected)
        }
    }

    /// Drops the TCP connection without a closing handshake.
    pub fn abort(&self) {
        self.shared.worker.inbox.send(Command::Abort { to: self.shared.key });
    }

    /// The identifier of the connection.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::new(self.shared.worker.index, self.shared.key)
    }

    /// The peer's address.
    #[must_use]
    pub fn addr(&self) -> PeerAddr {
        self.shared.info.addr()
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.shared.subprotocol()
    }

    /// Whether messages may still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.shared.queued.is_closed()
    }

    /// The counts of messages and bytes of the connection, as of the last time its worker drove it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued.bytes()
    }

    /// Keeps data of the application with this connection. It can be set once.
    ///
    /// # Errors
    /// Returns the data if some was set before.
    pub fn set_data<T: Any + Send + Sync>(&self, data: T) -> Result<(), T> {
        let mut data = Some(data);
        self.shared.keep(|| Box::new(data.take()));
        match data {
            None => Ok(()),
            Some(data) => Err(data),
        }
    }

    /// The data of [`set_data`](Peer::set_data), if it is a `T`. Otherwise the data that the hook that accepted the
    /// handshake set with [`Accept::data`](crate::Accept::data), if that is a `T`.
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        let own = self.shared.data().and_then(|data| data.downcast_ref::<Option<T>>());
        own.and_then(Option::as_ref).or_else(|| self.shared.accepted_data()?.get())
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
