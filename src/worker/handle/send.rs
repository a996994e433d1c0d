//! Sending from any thread: how a message is posted to the worker, and what happens if there is no room.

use std::time::{Duration, Instant};

use crate::config::SlowConsumer;
use crate::config::send_options::SendOptions;
use crate::error::{ControlError, SendError, SendRefusal, SendTimeoutError, TrySendError};
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{self, FrameHeader, MAX_CONTROL_PAYLOAD, Opcode};
use crate::protocol::message::{CowMessage, Message, MessageRef};
use crate::protocol::{Role, mask};
use crate::transport::chunk::Chunk;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::prepared::{Content, Prepared, data_message};

/// Payloads of at most 16 KiB are copied into the worker's queue; larger ones are moved there. A copy of this size
/// costs less than an allocation that one thread makes and another frees.
const MAX_COPIED_SIZE: usize = 16 << 10;

/// How long a send waits for room in the connection's queue. A worker's thread never waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// As long as the policy of the connection says.
    Policy,
    /// As long as this policy says, which was given with the message.
    As(SlowConsumer),
    /// Not at all.
    Never,
    /// For this time; without a deadline if an `Instant` can not hold it.
    For(Duration),
    /// Until this deadline.
    Until(Instant),
}

impl Wait {
    /// Begins the wait: one for a time becomes one until a deadline.
    pub(crate) fn begin(self) -> Wait {
        match self {
            Wait::For(timeout) => Instant::now().checked_add(timeout).map_or(self, Wait::Until),
            other => other,
        }
    }

    /// Returns the policy that decides if there is no room; `None` if the caller has set a time to wait. `policy` is that
    /// of the connection.
    fn policy(self, policy: SlowConsumer) -> Option<SlowConsumer> {
        match self {
            Wait::Policy => Some(policy),
            Wait::As(policy) => Some(policy),
            Wait::Never | Wait::For(_) | Wait::Until(_) => None,
        }
    }

    /// Returns the deadline of a wait that begins now; `None` if it has none.
    pub(crate) fn deadline(self, policy: SlowConsumer) -> Option<Instant> {
        match self {
            Wait::Policy | Wait::As(_) => match self.policy(policy) {
                Some(SlowConsumer::Block) => None,
                _ => Some(Instant::now()),
            },
            Wait::Never => Some(Instant::now()),
            Wait::For(timeout) => Instant::now().checked_add(timeout),
            Wait::Until(deadline) => Some(deadline),
        }
    }
}

impl From<SendOptions> for Wait {
    fn from(options: SendOptions) -> Wait {
        options.slow_consumer.map_or(Wait::Policy, Wait::As)
    }
}

/// The error of an operation: what is returned to the application.
#[cold]
fn to_owned((message, refusal): (CowMessage<'_>, SendRefusal)) -> (Message, SendRefusal) {
    (message.into_message(), refusal)
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is sent.
    Send,
    /// The policy drops it, and it is counted.
    Drop,
}

impl Peer {
    /// Sends a message. If the connection's queue is full, the [`SlowConsumer`] policy decides what happens: by default
    /// a server's message is returned, and a client's call waits for room. To wait for a time, use
    /// [`send_timeout`](Peer::send_timeout).
    ///
    /// A short message is copied into the worker's queue, so a borrowed one is as good as an owned one. A large one is
    /// not copied if it is owned, and is shared if it is an `Arc`.
    ///
    /// # Errors
    /// Returns the message if the connection is closed or closing; if the queue is full and the policy is
    /// [`Refuse`](SlowConsumer::Refuse), or the calling thread is a worker of a server, which must never wait; or if
    /// the message is an invalid control frame.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// fn greet(peer: &threadbare::Peer, picture: &Arc<[u8]>) -> Result<(), Box<dyn std::error::Error>> {
    ///     peer.send("hello")?;
    ///     peer.send(format!("you are {}", peer.id()))?;
    ///     peer.send(picture)?; // shared, not copied
    ///     Ok(())
    /// }
    /// ```
    #[inline]
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        Ok(self.offer(message.into(), Wait::Policy, Compression::Auto).map_err(to_owned)?)
    }

    /// Sends a message as [`send`](Peer::send) does, with options for this message: whether it may be compressed, and
    /// what happens if the queue is full. A single option needs no [`SendOptions`].
    ///
    /// ```
    /// use threadbare::{Compression, SlowConsumer};
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// peer.send_with("the session token", Compression::Never)?;
    /// peer.send_with("somebody is typing", SlowConsumer::Drop)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](Peer::send).
    #[inline]
    pub fn send_with<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        options: impl Into<SendOptions>,
    ) -> Result<(), SendError<Message>> {
        let options = options.into();
        Ok(self.offer_with(message.into(), options.into(), options).map_err(to_owned)?)
    }

    /// Sends a message if the connection's queue is below the high-water mark.
    ///
    /// ```
    /// use threadbare::TrySendError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// match peer.try_send("tick") {
    ///     Ok(()) => {}
    ///     Err(TrySendError::Full(_)) => println!("left out: the peer reads too slowly"),
    ///     Err(error) => println!("not sent: {error}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the message if the queue is full, the connection is closed or closing, or the message is an invalid
    /// control frame.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        Ok(self.offer(message.into(), Wait::Never, Compression::Auto).map_err(to_owned)?)
    }

    /// Sends a message, waiting up to `timeout` for room in the connection's queue, whatever the policy. On a worker's
    /// thread it does not wait.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::SendTimeoutError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// if let Err(SendTimeoutError::Timeout(message)) = peer.send_timeout("hello", Duration::from_secs(1)) {
    ///     println!("no room for {message} within a second");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`try_send`](Peer::try_send), with `Timeout` where the queue stayed full.
    pub fn send_timeout<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        Ok(self.offer(message.into(), Wait::For(timeout), Compression::Auto).map_err(to_owned)?)
    }

    /// Sends a message, waiting until `deadline` for room in the connection's queue, whatever the policy. On a worker's
    /// thread it does not wait.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peers = [client.peer()];
    /// let deadline = Instant::now() + Duration::from_secs(1); // for all of them together
    /// for peer in &peers {
    ///     peer.send_deadline("hello", deadline)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_timeout`](Peer::send_timeout).
    pub fn send_deadline<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message>> {
        Ok(self.offer(message.into(), Wait::Until(deadline), Compression::Auto).map_err(to_owned)?)
    }

    /// Sends a message that was encoded before. A full queue is treated as by [`send_with`](Peer::send_with) with the
    /// options that the message was prepared with.
    ///
    /// ```
    /// use threadbare::{Peer, Prepared};
    ///
    /// fn tell(room: &[Peer], text: &str) {
    ///     let message = Prepared::new(text);
    ///     for peer in room {
    ///         let _ = peer.send_prepared(&message); // an error says that the peer has left or has no room
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Peer::send); there is no message to return.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        Ok(self.offer_prepared(prepared, prepared.options().into())?)
    }

    /// Sends a message that was encoded before, if the connection's queue is below the high-water mark.
    ///
    /// ```
    /// use threadbare::{Peer, Prepared};
    ///
    /// /// Returns how many peers were told.
    /// fn tell(room: &[Peer], message: &Prepared) -> usize {
    ///     room.iter().filter(|peer| peer.try_send_prepared(message).is_ok()).count()
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`try_send`](Peer::try_send); there is no message to return.
    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<(), TrySendError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Never)?)
    }

    /// Sends a message that was encoded before, waiting up to `timeout` for room in the connection's queue, whatever
    /// the policy. On a worker's thread it does not wait.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Prepared;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let peer = client.peer();
    /// peer.send_prepared_timeout(&Prepared::new("tick"), Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_timeout`](Peer::send_timeout); there is no message to return.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        Ok(self.offer_prepared(prepared, Wait::For(timeout))?)
    }

    /// Sends a message that was encoded before, waiting until `deadline` for room in the connection's queue, whatever
    /// the policy. On a worker's thread it does not wait.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::{Peer, Prepared};
    ///
    /// fn tell(room: &[Peer], message: &Prepared) {
    ///     let deadline = Instant::now() + Duration::from_secs(1); // for all of them together
    ///     for peer in room {
    ///         let _ = peer.send_prepared_deadline(message, deadline); // the peer may be gone
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send_timeout`](Peer::send_timeout); there is no message to return.
    pub fn send_prepared_deadline(&self, prepared: &Prepared, deadline: Instant) -> Result<(), SendTimeoutError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Until(deadline))?)
    }

    /// Sends a message with options, or returns it unchanged. `wait` precedes the policy of the options.
    #[inline]
    pub(crate) fn offer_with<'a>(
        &self,
        message: CowMessage<'a>,
        wait: Wait,
        options: SendOptions,
    ) -> Result<(), (CowMessage<'a>, SendRefusal)> {
        match options.latest {
            Some(key) if !message.as_message().opcode().is_control() => {
                self.offer_latest(message, key, wait, options.compression)
            }
            _ => self.offer(message, wait, options.compression),
        }
    }

    /// Sends a message, or returns it unchanged.
    #[inline]
    pub(crate) fn offer<'a>(
        &self,
        message: CowMessage<'a>,
        wait: Wait,
        compression: Compression,
    ) -> Result<(), (CowMessage<'a>, SendRefusal)> {
        if self.send_small(message.as_message(), compression) {
            return Ok(());
        }
        self.offer_any(message, wait, compression)
    }

    /// Sends a short message to a connection with room; `false` if it is another, which then was not sent.
    #[inline]
    fn send_small(&self, message: MessageRef<'_>, compression: Compression) -> bool {
        let opcode = message.opcode();
        let is_common = !opcode.is_control() && message.len() <= MAX_COPIED_SIZE;
        is_common && !self.is_full() && self.takes_messages() && self.post_copy(opcode, message.as_bytes(), compression)
    }

    fn offer_any<'a>(
        &self,
        message: CowMessage<'a>,
        wait: Wait,
        compression: Compression,
    ) -> Result<(), (CowMessage<'a>, SendRefusal)> {
        let control = match message.as_message() {
            MessageRef::Text(_) | MessageRef::Binary(_) => None,
            MessageRef::Ping(payload) => Some(self.post_control(Opcode::Ping, payload)),
            MessageRef::Pong(payload) => Some(self.post_control(Opcode::Pong, payload)),
            MessageRef::Close(None) => Some(self.post_close(None)),
            MessageRef::Close(Some(frame)) => Some(self.close(frame.code, &frame.reason)),
        };
        match control {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => return Err((message, error.into())),
        }
        match self.admit(wait) {
            Ok(Admission::Send) => self.post_data(message, compression).map_err(|message| (message, self.refusal())),
            Ok(Admission::Drop) => Ok(()),
            Err(refusal) => Err((message, refusal)),
        }
    }

    fn offer_prepared(&self, prepared: &Prepared, wait: Wait) -> Result<(), ((), SendRefusal)> {
        if let Some(key) = prepared.key() {
            return self.offer_latest_prepared(prepared, key, wait).map_err(|refusal| ((), refusal));
        }
        let frame = match &prepared.content {
            Content::Data(frame) => frame,
            Content::Control(message) => {
                let sent = self.offer_any(MessageRef::from(&**message).into(), wait, Compression::Never);
                return sent.map_err(|(_, refusal)| ((), refusal));
            }
        };
        match self.admit(wait) {
            Ok(Admission::Send) if self.post_shared(frame) => Ok(()),
            Ok(Admission::Send) => Err(((), self.refusal())),
            Ok(Admission::Drop) => Ok(()),
            Err(refusal) => Err(((), refusal)),
        }
    }

    /// Decides about one message, after a wait for room where `wait` allows one.
    fn admit(&self, wait: Wait) -> Result<Admission, SendRefusal> {
        if self.is_full() {
            return self.admit_to_full(wait);
        }
        if self.takes_messages() { Ok(Admission::Send) } else { Err(self.refusal()) }
    }

    #[cold]
    fn admit_to_full(&self, wait: Wait) -> Result<Admission, SendRefusal> {
        if self.has_answer_room(wait.policy(self.shared.policy())) && self.takes_messages() {
            return Ok(Admission::Send);
        }
        self.admit_as(wait, || !self.is_full())
    }

    /// Decides about one message for which there was no room, after a wait until `has_room` holds where `wait` allows
    /// one.
    #[cold]
    pub(super) fn admit_as(&self, wait: Wait, has_room: impl Fn() -> bool) -> Result<Admission, SendRefusal> {
        let policy = self.shared.policy();
        let decides = wait.policy(policy);
        let has_room = self.wait_until(wait.deadline(policy), has_room);
        if !self.takes_messages() {
            return Err(self.refusal());
        }
        match decides {
            _ if has_room => Ok(Admission::Send),
            Some(SlowConsumer::Drop) => {
                self.shared.info.counters.add_dropped(1);
                self.shared.worker.inbox.metrics.add_dropped(1);
                Ok(Admission::Drop)
            }
            Some(SlowConsumer::Disconnect) => {
                self.disconnect();
                Err(SendRefusal::Disconnected)
            }
            _ => {
                self.shared.worker.inbox.metrics.add_refused();
                Err(SendRefusal::Full)
            }
        }
    }

    /// Why a message was not taken. While it is not known whether another process goes on with the connection, the message can be
    /// sent again.
    #[cold]
    pub(super) fn refusal(&self) -> SendRefusal {
        // In this order: the hand-over may have failed since the message was refused.
        let may_take =
            self.shared.queued.is_suspended() || (self.takes_messages() && !self.shared.worker.inbox.has_ended());
        if may_take { SendRefusal::Full } else { SendRefusal::Disconnected }
    }

    /// Whether the queue is above the high-water mark. Keyed messages that wait beside it are not counted.
    #[inline(always)]
    fn is_full(&self) -> bool {
        let (queued, limit) = (self.queued_bytes(), self.shared.worker.config.max_write_buffer_size);
        (queued >= limit && self.is_full_without_latest(queued, limit))
            || (queued > 0 && self.shared.worker.inbox.budget.is_exceeded())
    }

    #[cold]
    fn is_full_without_latest(&self, queued: usize, limit: usize) -> bool {
        self.shared.without_latest(queued) >= limit
    }

    /// Whether a full queue takes the message all the same, because it may answer an event that was delivered. The
    /// events that wait are bounded, and none is added while the queue is full.
    fn has_answer_room(&self, policy: Option<SlowConsumer>) -> bool {
        let config = &self.shared.worker.config;
        // Above its mark the channel holds the shares as well.
        let events = config.max_event_buffer_size.saturating_mul(2);
        let limit = config.max_write_buffer_size.saturating_add(events);
        policy == Some(SlowConsumer::Refuse) && self.shared.without_latest(self.queued_bytes()) < limit
    }

    /// Whether the queue is above the high-water mark, and the policy of the connection refuses messages then. Reading
    /// waits meanwhile, so that answers have room.
    #[cold]
    pub(crate) fn is_full_of_answers(&self) -> bool {
        let (queued, limit) = (self.queued_bytes(), self.shared.worker.config.max_write_buffer_size);
        self.shared.policy() == SlowConsumer::Refuse && self.is_full_without_latest(queued, limit)
    }

    /// Waits until `has_room` holds or the connection is gone; `false` at the deadline, and at once on a worker's thread.
    #[cold]
    fn wait_until(&self, deadline: Option<Instant>, has_room: impl Fn() -> bool) -> bool {
        self.shared.worker.may_block() && self.shared.wait_until(deadline, || has_room() || !self.takes_messages())
    }

    /// Gives the worker a data message, or hands it back if the worker has ended.
    fn post_data<'a>(&self, message: CowMessage<'a>, compression: Compression) -> Result<(), CowMessage<'a>> {
        let borrowed = message.as_message();
        if borrowed.len() > MAX_COPIED_SIZE {
            return self.post_payload(message, compression);
        }
        if self.post_copy(borrowed.opcode(), borrowed.as_bytes(), compression) { Ok(()) } else { Err(message) }
    }

    /// Encodes a data message into the worker's queue; `false` if the worker has ended.
    fn post_copy(&self, opcode: Opcode, payload: &[u8], compression: Compression) -> bool {
        let (to, role) = (self.shared.key, self.shared.worker.role);
        self.shared.post(|queue| {
            let start = queue.bytes.len();
            match queue.key(role) {
                None => frame::encode_short(&mut queue.bytes, opcode, payload),
                key => frame::encode(&mut queue.bytes, opcode, payload, key),
            }
            // Under the lock, so that the worker can not subtract it before.
            self.shared.queued.add_posted(queue.bytes.len() - start);
            queue.push_frame(to, start, compression);
        })
    }

    /// Posts a data message whose payload is separate from its header. The payload is moved or shared, not copied.
    fn post_payload<'a>(&self, message: CowMessage<'a>, compression: Compression) -> Result<(), CowMessage<'a>> {
        let (to, role) = (self.shared.key, self.shared.worker.role);
        let (opcode, len) = (message.as_message().opcode(), message.as_message().len());
        // A copy that is needed is made before the lock is taken: a borrowed payload is copied, and a client needs a
        // payload of its own to mask.
        let mut message = Some(match (role, message) {
            (Role::Server, shared @ (CowMessage::SharedText(_) | CowMessage::SharedBinary(_))) => shared,
            (_, message) => CowMessage::Owned(message.into_message()),
        });
        self.shared.post(|queue| {
            let Some(message) = message.take() else { return };
            let (start, key) = (queue.bytes.len(), queue.key(role));
            FrameHeader::new(opcode, len as u64, key).encode(&mut queue.bytes);
            let end = queue.bytes.len();
            // Under the lock, so that the worker can not subtract it before.
            self.shared.queued.add_posted(end - start + len);
            let payload = match key {
                None => Chunk::from(message),
                Some(key) => {
                    let mut bytes = message.into_message().into_bytes();
                    mask::apply(&mut bytes, key);
                    Chunk::owned(bytes, 0, len)
                }
            };
            payload.charge(&self.shared.worker.inbox.budget);
            queue.payloads += payload.memory();
            let payload = Some(Box::new(payload));
            queue.commands.push(Command::Send { to, start, end, payload, compression, messages: 1 });
        });
        // It is still here if the worker has ended.
        message.map_or(Ok(()), Err)
    }

    /// Gives the worker a message that was encoded before; `false` if the worker has ended.
    fn post_shared(&self, frame: &SharedFrame) -> bool {
        if self.shared.worker.role == Role::Client {
            // RFC 6455 5.3: a client's frames are masked, each with a key of its own.
            return self.post_data(data_message(frame).into(), frame.compression()).is_ok();
        }
        let (to, frame) = (self.shared.key, frame.clone());
        frame.charge(&self.shared.worker.inbox.budget);
        self.shared.post(|queue| {
            self.shared.queued.add_posted(frame.plain().len());
            queue.commands.push(Command::SendShared { to, frame });
        })
    }

    /// Gives the worker a control frame, for which there is always room.
    pub(super) fn post_control(&self, opcode: Opcode, payload: &[u8]) -> Result<(), ControlError> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(ControlError::TooLong { size: payload.len() });
        }
        let to = self.shared.key;
        let posted = self.takes_messages()
            && self.shared.post(|queue| {
                let (start, key) = (queue.bytes.len(), queue.key(self.shared.worker.role));
                frame::encode(&mut queue.bytes, opcode, payload, key);
                queue.commands.push(Command::SendControl { to, start, end: queue.bytes.len() });
            });
        if posted { Ok(()) } else { Err(ControlError::Disconnected) }
    }
}
