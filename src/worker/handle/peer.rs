//! The handle to a connection that any thread may hold.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::SlowConsumer;
use crate::error::{ControlError, SendError, SendRefusal, SendTimeoutError, TrySendError};
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{FrameHeader, MAX_CONTROL_PAYLOAD, Opcode};
use crate::protocol::message::{CowMessage, Message, MessageRef};
use crate::protocol::{Role, frame, mask};
use crate::transport::chunk::Chunk;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::shared::PeerShared;
use crate::worker::handle::stats::Stats;
use crate::worker::slab::Key;
use crate::worker::thread::may_block;

/// Payloads up to this size are copied into the worker's queue; larger ones are moved there.
const MAX_COPIED_SIZE: usize = 16 << 10;

/// A connection as other threads see it: cheap to clone, usable from anywhere, harmless when the connection is gone.
///
/// Messages sent through one peer from one thread arrive in order.
#[derive(Clone)]
pub struct Peer {
    pub(crate) shared: Arc<PeerShared>,
}

/// Names a connection of a server; never used again for another one while the server runs.
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

/// When a send of this thread that begins now has to end. A timeout beyond what an `Instant` can hold waits as long as it
/// takes; a worker never waits.
fn deadline_of(timeout: Duration) -> Option<Instant> {
    let now = Instant::now();
    if !may_block() { Some(now) } else { now.checked_add(timeout) }
}

impl Peer {
    pub(crate) fn new(shared: PeerShared) -> Peer {
        Peer { shared: Arc::new(shared) }
    }

    /// Sends a message. Where the connection's queue stands above its mark, the server's [`SlowConsumer`] policy says
    /// what happens: by default the call waits for room. For a bound on that, see [`send_timeout`](Peer::send_timeout).
    ///
    /// A short message is copied to the worker, and so is best lent; a large one moves, if it is given.
    ///
    /// # Errors
    /// The message comes back if the connection is closed or closing; if the queue is full and the policy is
    /// [`Refuse`](SlowConsumer::Refuse), or the calling thread is a worker of a server, which must never wait; or if it
    /// is a control frame that may not be sent.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.send_with(message, Compression::Auto)
    }

    /// Sends a message as [`send`](Peer::send) does, compressed as `compression` says: with [`Compression::Never`] it
    /// leaves as it is even where permessage-deflate was negotiated.
    ///
    /// # Errors
    /// As [`send`](Peer::send).
    #[inline]
    pub fn send_with<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        compression: Compression,
    ) -> Result<(), SendError<Message>> {
        let deadline = || match self.shared.worker.config.slow_consumer {
            SlowConsumer::Block if may_block() => None,
            _ => Some(Instant::now()),
        };
        self.offer(message.into(), deadline, compression).or_else(|(message, refusal)| self.refused(message, refusal))
    }

    /// What the policy for slow readers makes of a message that was not taken.
    #[cold]
    fn refused(&self, message: Message, refusal: SendRefusal) -> Result<(), SendError<Message>> {
        match (refusal, self.shared.worker.config.slow_consumer) {
            (SendRefusal::Full, SlowConsumer::Drop) => {
                self.shared.info.counters.add_dropped(1);
                Ok(())
            }
            (SendRefusal::Full, SlowConsumer::Disconnect) => {
                let _ = self.close(CloseCode::POLICY_VIOLATION, "reads too slowly");
                Err(SendError::Disconnected(message))
            }
            _ => Err((message, refusal).into()),
        }
    }

    /// Sends a message if the connection's queue stands below its mark.
    ///
    /// # Errors
    /// The message comes back if the queue is full, the connection is closed or closing, or the message is a control
    /// frame that may not be sent.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        Ok(self.offer(message.into(), || Some(Instant::now()), Compression::Auto)?)
    }

    /// Sends a message, waiting up to `timeout` for room in the connection's queue. On a worker's thread it does not
    /// wait.
    ///
    /// # Errors
    /// As [`try_send`](Peer::try_send), with `Timeout` where the queue stayed full.
    pub fn send_timeout<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        Ok(self.offer(message.into(), || deadline_of(timeout), Compression::Auto)?)
    }

    /// Sends a message that was encoded before. A full queue is treated as by [`send`](Peer::send).
    ///
    /// # Errors
    /// As [`send`](Peer::send); there is no message to hand back.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        let policy = self.shared.worker.config.slow_consumer;
        let wait = policy == SlowConsumer::Block && may_block();
        if self.is_full() && !(wait && self.wait_for_room(None)) {
            match policy {
                SlowConsumer::Drop => {
                    self.shared.info.counters.add_dropped(1);
                    return Ok(());
                }
                SlowConsumer::Disconnect => {
                    let _ = self.close(CloseCode::POLICY_VIOLATION, "reads too slowly");
                }
                SlowConsumer::Block | SlowConsumer::Refuse if self.is_open() => return Err(SendError::Full(())),
                SlowConsumer::Block | SlowConsumer::Refuse => {}
            }
        }
        self.post_prepared(prepared).map_err(|()| SendError::Disconnected(()))
    }

    /// Sends a message that was encoded before, waiting up to `timeout` for room in the connection's queue, whatever the
    /// server's policy. On a worker's thread it does not wait.
    ///
    /// # Errors
    /// As [`send_timeout`](Peer::send_timeout); there is no message to hand back.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        if self.is_full() && !self.wait_for_room(deadline_of(timeout)) {
            return Err(SendTimeoutError::Timeout(()));
        }
        self.post_prepared(prepared).map_err(|()| SendTimeoutError::Disconnected(()))
    }

    fn post_prepared(&self, prepared: &Prepared) -> Result<(), ()> {
        if !self.is_open() {
            return Err(());
        }
        if self.shared.worker.role == Role::Client {
            // A client's frames are masked, each with a key of its own.
            let compression = prepared.frame.compression();
            return prepared
                .to_message()
                .map_or(Ok(()), |message| self.post_data(message, compression).map_err(|_| ()));
        }
        let frame = prepared.frame.clone();
        let to = self.shared.key;
        let posted = self.shared.worker.inbox.post(|queue| {
            self.shared.queued.add_posted(frame.plain().len());
            queue.commands.push(Command::SendShared { to, frame });
        });
        if posted { Ok(()) } else { Err(()) }
    }

    /// Sends a ping, whatever is queued. The payload is at most 125 bytes; the answer reaches
    /// [`Handler::on_pong`](crate::Handler::on_pong).
    ///
    /// # Errors
    /// A payload over 125 bytes, or a connection that is closed or closing.
    pub fn ping(&self, payload: &[u8]) -> Result<(), ControlError> {
        self.control(Opcode::Ping, payload)
    }

    /// Starts the closing handshake (RFC 6455 7.1.2): what was sent before goes out first, then the close frame.
    ///
    /// # Errors
    /// A code that may not be sent, a reason of more than 123 bytes, or a connection that is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        let frame = CloseFrame::new(code, reason).map_err(ControlError::InvalidClose)?;
        self.post_close(Some(frame))
    }

    fn post_close(&self, frame: Option<CloseFrame>) -> Result<(), ControlError> {
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

    /// Names the connection.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::new(self.shared.worker.index, self.shared.key)
    }

    /// The peer's address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
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

    /// What has gone through the connection, as of the worker's last turn with it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued.bytes()
    }

    /// Keeps the application's data about this connection, once.
    ///
    /// # Errors
    /// The data comes back if there is some already.
    pub fn set_data<T: Any + Send + Sync>(&self, data: T) -> Result<(), T> {
        let mut data = Some(data);
        self.shared.keep(|| Box::new(data.take()));
        match data {
            None => Ok(()),
            Some(data) => Err(data),
        }
    }

    /// The data that [`set_data`](Peer::set_data) keeps, if it is a `T`.
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.shared.data()?.downcast_ref::<Option<T>>()?.as_ref()
    }

    fn is_full(&self) -> bool {
        self.queued_bytes() >= self.shared.worker.config.max_write_buffer_size
    }

    /// Waits until the queue stands below its mark or the connection is gone; `false` at the deadline.
    #[cold]
    fn wait_for_room(&self, deadline: Option<Instant>) -> bool {
        let wait_queue = self.shared.wait_queue();
        let mut held = wait_queue.lock();
        while self.is_full() && self.is_open() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            // Said before the queue is looked at again, in the same word: whoever makes room behind that sees it.
            self.shared.queued.set_awaited();
            if self.is_full() && self.is_open() {
                held = wait_queue.wait(held, left);
            }
        }
        true
    }

    /// Sends a message: in the common case as it is, else from memory of its own and waiting until `deadline`.
    #[inline]
    fn offer(
        &self,
        message: CowMessage<'_>,
        deadline: impl FnOnce() -> Option<Instant>,
        compression: Compression,
    ) -> Result<(), (Message, SendRefusal)> {
        if self.send_small(message.as_message(), compression) {
            return Ok(());
        }
        self.push(message.into_message(), deadline(), compression)
    }

    fn push(
        &self,
        message: Message,
        deadline: Option<Instant>,
        compression: Compression,
    ) -> Result<(), (Message, SendRefusal)> {
        let control = match &message {
            Message::Text(_) | Message::Binary(_) => None,
            Message::Ping(payload) => Some(self.control(Opcode::Ping, payload)),
            Message::Pong(payload) => Some(self.control(Opcode::Pong, payload)),
            Message::Close(None) => Some(self.post_close(None)),
            Message::Close(Some(frame)) => Some(self.close(frame.code, &frame.reason)),
        };
        match control {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(ControlError::Disconnected)) => return Err((message, SendRefusal::Disconnected)),
            Some(Err(_)) => return Err((message, SendRefusal::Invalid)),
        }
        if self.is_full() && !self.wait_for_room(deadline) {
            return Err((message, SendRefusal::Full));
        }
        if !self.is_open() {
            return Err((message, SendRefusal::Disconnected));
        }
        self.post_data(message, compression).map_err(|message| (message, SendRefusal::Disconnected))
    }

    /// Sends a message in the common case, which needs to be looked at only: `false` if this is another.
    #[inline]
    fn send_small(&self, message: MessageRef<'_>, compression: Compression) -> bool {
        let opcode = message.opcode();
        let is_common = !opcode.is_control() && message.len() <= MAX_COPIED_SIZE && compression == Compression::Auto;
        is_common && !self.is_full() && self.is_open() && self.post_copy(opcode, message.as_bytes())
    }

    /// Encodes a data message into the worker's queue; `false` if the worker has ended.
    fn post_copy(&self, opcode: Opcode, payload: &[u8]) -> bool {
        let (to, role) = (self.shared.key, self.shared.worker.role);
        self.shared.worker.inbox.post(|queue| {
            let start = queue.bytes.len();
            match queue.key(role) {
                None => frame::encode_short(&mut queue.bytes, opcode, payload),
                key => frame::encode(&mut queue.bytes, opcode, payload, key),
            }
            // Under the lock, so that the worker can not subtract it before.
            self.shared.queued.add_posted(queue.bytes.len() - start);
            queue.note_frame(to, start);
        })
    }

    /// Gives the worker a data message.
    fn post_data(&self, message: Message, compression: Compression) -> Result<(), Message> {
        if message.len() > MAX_COPIED_SIZE || compression == Compression::Never {
            return self.post_apart(message, compression);
        }
        if self.post_copy(MessageRef::from(&message).opcode(), message.as_bytes()) { Ok(()) } else { Err(message) }
    }

    /// Gives the worker a data message whose payload moves.
    fn post_apart(&self, message: Message, compression: Compression) -> Result<(), Message> {
        let (to, role) = (self.shared.key, self.shared.worker.role);
        let (opcode, len) = (MessageRef::from(&message).opcode(), message.len());
        let mut message = Some(message);
        let posted = self.shared.worker.inbox.post(|queue| {
            let (start, key) = (queue.bytes.len(), queue.key(role));
            FrameHeader::new(opcode, len as u64, key).encode(&mut queue.bytes);
            let end = queue.bytes.len();
            // As above.
            self.shared.queued.add_posted(end - start + len);
            let mut payload = message.take().map(Message::into_bytes).unwrap_or_default();
            if let Some(key) = key {
                mask::apply(&mut payload, key);
            }
            let payload = Box::new(Chunk::owned(payload, 0, len));
            queue.commands.push(match compression {
                Compression::Never => Command::Uncompressed { to, start, end, payload },
                Compression::Auto => Command::Large { to, start, end, payload },
            });
        });
        match (posted, message) {
            (false, Some(message)) => Err(message),
            _ => Ok(()),
        }
    }

    fn control(&self, opcode: Opcode, payload: &[u8]) -> Result<(), ControlError> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(ControlError::TooLong { size: payload.len() });
        }
        let to = self.shared.key;
        let posted = self.is_open()
            && self.shared.worker.inbox.post(|queue| {
                let (start, key) = (queue.bytes.len(), queue.key(self.shared.worker.role));
                frame::encode(&mut queue.bytes, opcode, payload, key);
                queue.commands.push(Command::Control { to, start, end: queue.bytes.len() });
            });
        if posted { Ok(()) } else { Err(ControlError::Disconnected) }
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
