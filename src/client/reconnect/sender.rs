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

/// A handle to a [`ReconnectingClient`](crate::ReconnectingClient) that other threads can keep and send through. Cheap
/// to clone. When the client is dropped, nothing can be sent any more.
///
/// Messages sent from one thread arrive in order, whether they waited for a connection or not.
#[derive(Clone, Debug)]
pub struct ReconnectingSender {
    pub(super) shared: Arc<Shared>,
}

impl ReconnectingSender {
    /// Sends a message on the connection, as [`Peer::send`] does, or queues it in the outbox if there is none. If the
    /// outbox is full, the call waits for room. It does not wait but returns the message if the [`SlowConsumer`] policy
    /// is not [`Block`], on a worker's thread, and in a hook of [`Reconnect`](crate::Reconnect).
    ///
    /// A ping or pong is not queued. A close message is the same as [`close`](ReconnectingSender::close).
    ///
    /// [`SlowConsumer`]: crate::SlowConsumer
    /// [`Block`]: crate::SlowConsumer::Block
    ///
    /// # Errors
    /// Returns the message if the client is closed, or if there is no room and the call may not wait. Returns a ping or
    /// pong if there is no connection, or if it is longer than 125 bytes.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.send_with(message, Compression::Auto)
    }

    /// Sends or queues a message as [`send`](ReconnectingSender::send) does, compressed as `compression` says. With
    /// [`Compression::Never`] it is not compressed even if permessage-deflate was negotiated.
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
    /// Returns the message if it was neither sent nor queued.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        Ok(self.offer(message.into(), Wait::Never, Compression::Auto)?)
    }

    /// Sends or queues a message, waiting up to `timeout` for room.
    ///
    /// # Errors
    /// Returns the message if it was neither sent nor queued.
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
    /// Returns the message if it was neither sent nor queued.
    pub fn send_deadline<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message>> {
        Ok(self.offer(message.into(), Wait::Until(deadline), Compression::Auto)?)
    }

    /// Sends or queues a message that was encoded before, as [`send`](ReconnectingSender::send) does. It is not faster,
    /// because a client masks each frame with a new key.
    ///
    /// # Errors
    /// As [`send`](ReconnectingSender::send); there is no message to return.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Policy)?)
    }

    /// Sends or queues a message that was encoded before, if there is room now.
    ///
    /// # Errors
    /// As [`try_send`](ReconnectingSender::try_send); there is no message to return.
    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<(), TrySendError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Never)?)
    }

    /// Sends or queues a message that was encoded before, waiting up to `timeout` for room.
    ///
    /// # Errors
    /// As [`send_timeout`](ReconnectingSender::send_timeout); there is no message to return.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        Ok(self.offer_prepared(prepared, Wait::For(timeout))?)
    }

    /// Sends or queues a message that was encoded before, waiting until `deadline` for room.
    ///
    /// # Errors
    /// As [`send_deadline`](ReconnectingSender::send_deadline); there is no message to return.
    pub fn send_prepared_deadline(&self, prepared: &Prepared, deadline: Instant) -> Result<(), SendTimeoutError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Until(deadline))?)
    }

    /// Ends the client. The current connection is closed after the messages that were sent before, and the client does
    /// not reconnect. If there is no connection, the messages in the outbox stay there for
    /// [`take_queued`](ReconnectingSender::take_queued).
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the client is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        self.shared.close(code, reason)
    }

    /// The state of the client.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.shared.state()
    }

    /// A receiver of the states of the client: the current one first, then every new one.
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.shared.state_changes()
    }

    /// A handle to the current connection, if there is one: for a ping, for its [`stats`](Peer::stats), or for an
    /// [`abort`](Peer::abort), after which the client reconnects. Messages that are sent through it do not wait in the
    /// outbox, and are sent before those that do.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.shared.peer()
    }

    /// The size of the messages that wait for a connection, in bytes. Each counts 64 bytes and its payload.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.lock().outbox.size()
    }

    /// Removes and returns the messages that wait for a connection, oldest first: to keep them when the client ends, or
    /// to discard those that are out of date.
    #[must_use]
    pub fn take_queued(&self) -> Vec<Message> {
        self.shared.take_queued()
    }

    fn offer_prepared(&self, prepared: &Prepared, wait: Wait) -> Result<(), ((), SendRefusal)> {
        let (message, compression) = (prepared.to_message(), prepared.frame.compression());
        self.offer(message.into(), wait, compression).map_err(|(_, refusal)| ((), refusal))
    }

    /// Sends or queues a message. A borrowed message is copied only if it is queued or returned.
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
        // One deadline, however many connections the message waits for.
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
                        // The connection has ended, and the message waits for the next one.
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
