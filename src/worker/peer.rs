//! The handle to a connection that any thread may hold.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Config, SlowConsumer};
use crate::error::{ControlError, SendError, SendTimeoutError, TrySendError};
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{self, FrameHeader, MAX_CONTROL_PAYLOAD, Opcode};
use crate::protocol::mask;
use crate::protocol::message::{Message, MessageRef};
use crate::protocol::{Connection, Role};
use crate::transport::outbox::Chunk;
use crate::worker::address::Address;
use crate::worker::inbox::{Command, Inbox};
use crate::worker::prepared::Prepared;
use crate::worker::slots::Key;
use crate::worker::stats::{SharedCounters, Stats};

/// Payloads up to this size are copied into the worker's queue; larger ones are moved there.
const MAX_COPIED_SIZE: usize = 16 << 10;

thread_local! {
    /// Whether this thread is a worker, which must never wait for one.
    pub(crate) static ON_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// A connection as other threads see it: cheap to clone, usable from anywhere, harmless when the connection is gone.
///
/// Messages sent through one peer from one thread arrive in order.
#[derive(Clone)]
pub struct Peer {
    pub(crate) shared: Arc<Shared>,
}

/// What the handle and the worker share of a connection.
pub(crate) struct Shared {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) config: Arc<Config>,
    pub(crate) key: Key,
    pub(crate) role: Role,
    pub(crate) worker: u16,
    pub(crate) addr: Address,
    pub(crate) subprotocol: Option<Arc<String>>,
    pub(crate) closed: AtomicBool,
    /// Bytes given to the worker and not yet flushed by it, and bytes that the socket did not take.
    pub(crate) posted: AtomicUsize,
    pub(crate) backlog: AtomicUsize,
    pub(crate) counters: SharedCounters,
    /// Senders that wait for room.
    waiting: AtomicU32,
    gate: Mutex<()>,
    room: Condvar,
    data: OnceLock<Box<dyn Any + Send + Sync>>,
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

/// Why a message was not taken.
enum Refusal {
    Full,
    Disconnected,
    Invalid,
}

impl Peer {
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        config: Arc<Config>,
        id: (u16, Key),
        connection: &Connection,
        addr: Address,
        subprotocol: Option<Arc<String>>,
    ) -> Peer {
        let shared = Shared {
            inbox,
            config,
            worker: id.0,
            key: id.1,
            role: connection.role(),
            addr,
            subprotocol,
            closed: AtomicBool::new(false),
            posted: AtomicUsize::new(0),
            backlog: AtomicUsize::new(0),
            counters: SharedCounters::new(connection.deflate_stats()),
            waiting: AtomicU32::new(0),
            gate: Mutex::new(()),
            room: Condvar::new(),
            data: OnceLock::new(),
        };
        Peer { shared: Arc::new(shared) }
    }

    /// Sends a message. Where the connection's queue stands above its mark, the server's [`SlowConsumer`] policy says
    /// what happens: by default the call waits for room. For a bound on that, see [`send_timeout`](Peer::send_timeout).
    ///
    /// # Errors
    /// The message comes back if the connection is closed or closing; if the queue is full and the policy is
    /// [`Refuse`](SlowConsumer::Refuse), or the calling thread is a worker of a server, which must never wait; or if it
    /// is a control frame that may not be sent.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError<Message>> {
        self.send_with(message, Compression::Auto)
    }

    /// Sends a message as [`send`](Peer::send) does, compressed as `compression` says: with [`Compression::Never`] it
    /// leaves as it is even where permessage-deflate was negotiated.
    ///
    /// # Errors
    /// As [`send`](Peer::send).
    pub fn send_with(&self, message: impl Into<Message>, compression: Compression) -> Result<(), SendError<Message>> {
        let message = message.into();
        let deadline = match self.shared.config.slow_consumer {
            SlowConsumer::Block if !ON_WORKER.get() => None,
            _ => Some(Instant::now()),
        };
        match self.push(message, deadline, compression) {
            Ok(()) => Ok(()),
            Err((message, Refusal::Disconnected)) => Err(SendError::Disconnected(message)),
            Err((message, Refusal::Invalid)) => Err(SendError::Invalid(message)),
            Err((message, Refusal::Full)) => match self.shared.config.slow_consumer {
                SlowConsumer::Block | SlowConsumer::Refuse => Err(SendError::Full(message)),
                SlowConsumer::Drop => {
                    self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                SlowConsumer::Disconnect => {
                    let _ = self.close(CloseCode::POLICY_VIOLATION, "reads too slowly");
                    Err(SendError::Disconnected(message))
                }
            },
        }
    }

    /// Sends a message if the connection's queue stands below its mark.
    ///
    /// # Errors
    /// The message comes back if the queue is full, the connection is closed or closing, or the message is a control
    /// frame that may not be sent.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), TrySendError<Message>> {
        self.push(message.into(), Some(Instant::now()), Compression::Auto).map_err(|(message, refusal)| match refusal {
            Refusal::Full => TrySendError::Full(message),
            Refusal::Disconnected => TrySendError::Disconnected(message),
            Refusal::Invalid => TrySendError::Invalid(message),
        })
    }

    /// Sends a message, waiting up to `timeout` for room in the connection's queue. On a worker's thread it does not
    /// wait.
    ///
    /// # Errors
    /// As [`try_send`](Peer::try_send), with `Timeout` where the queue stayed full.
    pub fn send_timeout(
        &self,
        message: impl Into<Message>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        let now = Instant::now();
        // A timeout beyond what an `Instant` can hold waits as long as it takes.
        let deadline = if ON_WORKER.get() { Some(now) } else { now.checked_add(timeout) };
        self.push(message.into(), deadline, Compression::Auto).map_err(|(message, refusal)| match refusal {
            Refusal::Full => SendTimeoutError::Timeout(message),
            Refusal::Disconnected => SendTimeoutError::Disconnected(message),
            Refusal::Invalid => SendTimeoutError::Invalid(message),
        })
    }

    /// Sends a message that was encoded before. A full queue is treated as by [`send`](Peer::send).
    ///
    /// # Errors
    /// As [`send`](Peer::send); there is no message to hand back.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        let policy = self.shared.config.slow_consumer;
        let wait = policy == SlowConsumer::Block && !ON_WORKER.get();
        if self.is_full() && !(wait && self.wait_for_room(None)) {
            match policy {
                SlowConsumer::Drop => {
                    self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                SlowConsumer::Disconnect => {
                    let _ = self.close(CloseCode::POLICY_VIOLATION, "reads too slowly");
                }
                SlowConsumer::Block | SlowConsumer::Refuse if self.is_open() => return Err(SendError::Full(())),
                SlowConsumer::Block | SlowConsumer::Refuse => {}
            }
        }
        if !self.is_open() {
            return Err(SendError::Disconnected(()));
        }
        if self.shared.role == Role::Client {
            // A client's frames are masked, each with a key of its own.
            let compression = prepared.frame.compression();
            return prepared.to_message().map_or(Ok(()), |message| {
                self.post_data(message, compression).map_err(|_| SendError::Disconnected(()))
            });
        }
        let frame = prepared.frame.clone();
        let to = self.shared.key;
        let posted = self.shared.inbox.post(|queue| {
            self.shared.posted.fetch_add(frame.plain().len(), Ordering::Relaxed);
            queue.commands.push(Command::Shared { to, frame });
        });
        if posted { Ok(()) } else { Err(SendError::Disconnected(())) }
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
        let to = self.shared.key;
        if self.is_open() && self.shared.inbox.send(Command::Close { to, frame }) {
            Ok(())
        } else {
            Err(ControlError::Disconnected)
        }
    }

    /// Drops the TCP connection without a closing handshake.
    pub fn abort(&self) {
        self.shared.inbox.send(Command::Abort { to: self.shared.key });
    }

    /// Names the connection.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::new(self.shared.worker, self.shared.key)
    }

    /// The peer's address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (&self.shared.addr).into()
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.shared.subprotocol.as_ref().map(|name| name.as_str())
    }

    /// Whether messages may still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.shared.closed.load(Ordering::Acquire)
    }

    /// What has gone through the connection, as of the worker's last turn with it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.load(self.queued_bytes())
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.posted.load(Ordering::SeqCst) + self.shared.backlog.load(Ordering::SeqCst)
    }

    /// Keeps the application's data about this connection, once.
    ///
    /// # Errors
    /// The data comes back if there is some already.
    pub fn set_data<T: Any + Send + Sync>(&self, data: T) -> Result<(), T> {
        let mut data = Some(data);
        self.shared.data.get_or_init(|| Box::new(data.take()));
        match data {
            None => Ok(()),
            Some(data) => Err(data),
        }
    }

    /// The data that [`set_data`](Peer::set_data) keeps, if it is a `T`.
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.shared.data.get()?.downcast_ref::<Option<T>>()?.as_ref()
    }

    fn is_full(&self) -> bool {
        self.queued_bytes() >= self.shared.config.max_write_buffer_size
    }

    /// Waits until the queue stands below its mark or the connection is gone; `false` at the deadline.
    #[cold]
    fn wait_for_room(&self, deadline: Option<Instant>) -> bool {
        let mut gate = self.shared.gate.lock().unwrap_or_else(PoisonError::into_inner);
        // Counted before the queue is looked at; the worker changes the queue before it looks at the count.
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        let mut in_time = true;
        while in_time && self.is_full() && self.is_open() {
            gate = match deadline {
                None => self.shared.room.wait(gate).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    in_time = !left.is_zero();
                    let waited = self.shared.room.wait_timeout(gate, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        self.shared.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(gate);
        // Room that was seen counts, though another sender may have taken it: who has no deadline is not refused.
        in_time || !self.is_full() || !self.is_open()
    }

    fn push(
        &self,
        message: Message,
        deadline: Option<Instant>,
        compression: Compression,
    ) -> Result<(), (Message, Refusal)> {
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
            Some(Err(ControlError::Disconnected)) => return Err((message, Refusal::Disconnected)),
            Some(Err(_)) => return Err((message, Refusal::Invalid)),
        }
        if self.is_full() && !self.wait_for_room(deadline) {
            return Err((message, Refusal::Full));
        }
        if !self.is_open() {
            return Err((message, Refusal::Disconnected));
        }
        self.post_data(message, compression).map_err(|message| (message, Refusal::Disconnected))
    }

    /// Encodes a data message into the worker's queue.
    fn post_data(&self, message: Message, compression: Compression) -> Result<(), Message> {
        let (to, role) = (self.shared.key, self.shared.role);
        let opcode = MessageRef::from(&message).opcode();
        let mut header = FrameHeader::new(opcode, message.len() as u64, None);
        let mut message = Some(message);
        let posted = self.shared.inbox.post(|queue| {
            let start = queue.bytes.len();
            header.mask = queue.key(role);
            header.encode(&mut queue.bytes);
            // Under the lock, so that the worker can not subtract it before.
            self.shared.posted.fetch_add(header.size() + header.payload_len as usize, Ordering::Relaxed);
            let mut apart = None;
            match message.take() {
                Some(large @ (Message::Text(_) | Message::Binary(_))) if large.len() > MAX_COPIED_SIZE => {
                    let mut payload = large.into_bytes();
                    if let Some(key) = header.mask {
                        mask::apply(&mut payload, key);
                    }
                    let len = payload.len();
                    apart = Some(Chunk::owned(payload, 0, len));
                }
                small => {
                    let copy = queue.bytes.len();
                    queue.bytes.extend_from_slice(small.as_ref().map_or(&[], |message| message.as_bytes()));
                    if let Some(key) = header.mask {
                        mask::apply(&mut queue.bytes[copy..], key);
                    }
                }
            }
            let end = queue.bytes.len();
            queue.commands.push(match (compression, apart) {
                (Compression::Never, payload) => {
                    Command::Uncompressed { to, start, end, payload: payload.map(Box::new) }
                }
                (Compression::Auto, Some(payload)) => Command::Large { to, start, end, payload },
                (Compression::Auto, None) => Command::Frame { to, start, end },
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
            && self.shared.inbox.post(|queue| {
                let (start, key) = (queue.bytes.len(), queue.key(self.shared.role));
                frame::encode(&mut queue.bytes, opcode, payload, key);
                queue.commands.push(Command::Control { to, start, end: queue.bytes.len() });
            });
        if posted { Ok(()) } else { Err(ControlError::Disconnected) }
    }
}

impl Shared {
    /// The worker's side: what was posted is flushed, and so much is left.
    pub(crate) fn flushed(&self, posted: usize, backlog: usize) {
        self.backlog.store(backlog, Ordering::SeqCst);
        if posted > 0 {
            self.posted.fetch_sub(posted, Ordering::SeqCst);
        }
        self.notify();
    }

    /// The worker's side: the connection takes nothing more.
    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.notify();
    }

    fn notify(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // Whoever waits holds the gate until it does.
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            self.room.notify_all();
        }
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
