//! Sending through reconnects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::reconnect::outbox::Queued;
use crate::client::reconnect::shared::{Link, Shared, is_over, may_wait};
use crate::client::reconnect::state::{ConnectionState, StateChanges};
use crate::error::{ControlError, SendError, SendRefusal, SendTimeoutError, TrySendError};
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::deflate::Compression;
use crate::protocol::message::{CowMessage, Message, MessageRef};
use crate::worker::handle::peer::Peer;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::send::Wait;

/// A handle to a [`ReconnectingClient`](crate::ReconnectingClient) that other threads can keep and send through; cheap
/// to clone. When the client is dropped, nothing can be sent any more.
///
/// Messages sent from one thread arrive in order, whether they waited for a connection or not.
#[derive(Clone, Debug)]
pub struct ReconnectingSender {
    pub(super) shared: Arc<Shared>,
}

impl ReconnectingSender {
    /// Sends a message on the connection there is, as [`Peer::send`] does, or puts it into the outbox. Where that is full,
    /// the call waits for room; under another [`SlowConsumer`] policy than [`Block`], on a worker's
    /// thread, and in a hook of [`Reconnect`](crate::Reconnect), the message comes back.
    ///
    /// A ping or pong is not queued; a close is a [`close`](ReconnectingSender::close).
    ///
    /// [`SlowConsumer`]: crate::SlowConsumer
    /// [`Block`]: crate::SlowConsumer::Block
    ///
    /// # Errors
    /// The message comes back: the client is closed, or there is no room and the call may not wait. A ping or pong comes
    /// back if there is no connection, or if it is longer than 125 bytes.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.send_with(message, Compression::Auto)
    }

    /// Sends or queues a message as [`send`](ReconnectingSender::send) does, compressed as `compression` says: with
    /// [`Compression::Never`] it leaves as it is even where permessage-deflate was negotiated.
    ///
    /// # Errors
    /// As [`send`](ReconnectingSender::send).
    pub fn send_with<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        compression: Compression,
    ) -> Result<(), SendError<Message>> {
        Ok(self.offer(message.into(), Wait::Policy, compression)?)
    }

    /// Sends or queues a message if there is room now.
    ///
    /// # Errors
    /// The message comes back.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        Ok(self.offer(message.into(), Wait::Never, Compression::Auto)?)
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
        Ok(self.offer(message.into(), Wait::For(timeout), Compression::Auto)?)
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
        Ok(self.offer(message.into(), Wait::Until(deadline), Compression::Auto)?)
    }

    /// Sends or queues a message that was encoded before, as [`send`](ReconnectingSender::send) does. A client masks each
    /// frame with a key of its own, so nothing is saved by the encoding.
    ///
    /// # Errors
    /// As [`send`](ReconnectingSender::send); there is no message to hand back.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Policy)?)
    }

    /// Sends or queues a message that was encoded before, if there is room now.
    ///
    /// # Errors
    /// As [`try_send`](ReconnectingSender::try_send); there is no message to hand back.
    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<(), TrySendError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Never)?)
    }

    /// Sends or queues a message that was encoded before, waiting up to `timeout` for room.
    ///
    /// # Errors
    /// As [`send_timeout`](ReconnectingSender::send_timeout); there is no message to hand back.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        Ok(self.offer_prepared(prepared, Wait::For(timeout))?)
    }

    /// Sends or queues a message that was encoded before, waiting until `deadline` for room.
    ///
    /// # Errors
    /// As [`send_deadline`](ReconnectingSender::send_deadline); there is no message to hand back.
    pub fn send_prepared_deadline(&self, prepared: &Prepared, deadline: Instant) -> Result<(), SendTimeoutError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Until(deadline))?)
    }

    /// Ends the client for good: the present connection is closed behind what was sent before; there will be no other.
    /// Where there is none, what is in the outbox stays there for [`take_queued`](ReconnectingSender::take_queued).
    ///
    /// # Errors
    /// A code that may not be sent, a reason of more than 123 bytes, or a client that is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        self.shared.close(code, reason)
    }

    /// How the client stands.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.shared.state()
    }

    /// The changes of the state: the present one first, then every other.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.shared.state_changes()
    }

    /// The connection that there is now: for a ping, its [`stats`](Peer::stats), or an [`abort`](Peer::abort) that has the
    /// client reconnect. What is sent through it does not wait in the outbox, and is ahead of what does.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.shared.peer()
    }

    /// Bytes that wait for a connection, 64 for each message beside its payload.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.lock().outbox.size()
    }

    /// Takes back the messages that wait for a connection, oldest first: to keep them when the client ends, or to drop
    /// what has become stale.
    #[must_use]
    pub fn take_queued(&self) -> Vec<Message> {
        self.shared.take_queued()
    }

    fn offer_prepared(&self, prepared: &Prepared, wait: Wait) -> Result<(), ((), SendRefusal)> {
        let (message, compression) = (prepared.to_message(), prepared.frame.compression());
        self.offer(message.into(), wait, compression).map_err(|(_, refusal)| ((), refusal))
    }

    /// Sends or queues a message. It is copied only if it has to wait for a connection, or is handed back.
    fn offer(
        &self,
        mut message: CowMessage<'_>,
        wait: Wait,
        compression: Compression,
    ) -> Result<(), (Message, SendRefusal)> {
        if let MessageRef::Close(frame) = message.as_message() {
            let closed = match frame {
                Some(CloseFrame { code, reason }) => self.close(*code, reason),
                None => self.close(CloseCode::NORMAL_CLOSURE, ""),
            };
            return closed.map_err(|error| (message.into_message(), error.into()));
        }
        let is_data = !message.as_message().opcode().is_control();
        // One deadline for all connections that it waits for.
        let wait = wait.begin();
        let mut inner = self.shared.lock();
        loop {
            match &inner.link {
                Link::Closed => return Err((message.into_message(), SendRefusal::Disconnected)),
                Link::Flowing(peer) => {
                    let peer = peer.clone();
                    drop(inner);
                    match peer.offer(message, wait, compression) {
                        Ok(()) => return Ok(()),
                        // The connection ended; what it did not take goes to the next.
                        Err((back, SendRefusal::Disconnected)) => message = back,
                        Err((back, refusal)) => return Err((back.into_message(), refusal)),
                    }
                    inner = self.shared.lock();
                    inner.link.leave(&peer);
                }
                Link::Down if !is_data => return Err((message.into_message(), SendRefusal::Disconnected)),
                Link::Down if inner.outbox.has_room() => {
                    inner.outbox.push(Queued { message: message.into_message(), compression });
                    return Ok(());
                }
                Link::Down => {
                    let deadline =
                        if may_wait() { wait.deadline(self.shared.slow_consumer) } else { Some(Instant::now()) };
                    if is_over(deadline) {
                        return Err((message.into_message(), SendRefusal::Full));
                    }
                    inner = self.shared.wait_room(inner, deadline);
                }
            }
        }
    }
}
