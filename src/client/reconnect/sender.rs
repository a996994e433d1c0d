//! Sending through reconnects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::reconnect::outbox::Queued;
use crate::client::reconnect::shared::{Link, Shared, is_over, may_wait};
use crate::client::reconnect::state::{ConnectionState, StateChanges};
use crate::config::send_options::SendOptions;
use crate::error::{ControlError, SendError, SendRefusal, SendTimeoutError, TrySendError};
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::message::{CowMessage, Message, MessageRef};
use crate::worker::handle::peer::Peer;
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::send::Wait;

/// A handle to a [`ReconnectingClient`](crate::ReconnectingClient) that other threads can keep and send through. Cheap
/// to clone. When the client is dropped, nothing can be sent any more.
///
/// Messages sent from one thread arrive in order, whether they waited for a connection or not.
///
/// ```
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// # let url = format!("ws://{}", server.local_addr());
/// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
/// let sender = client.sender();
/// std::thread::spawn(move || {
///     for number in 1..=10 {
///         if sender.send(format!("measurement {number}")).is_err() {
///             return; // the client is closed, or its outbox is full
///         }
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// ```
    /// use threadbare::{ReconnectingSender, SendError};
    ///
    /// fn report(sender: &ReconnectingSender, measurement: f64) {
    ///     if let Err(SendError::Full(message)) = sender.send(measurement.to_string()) {
    ///         println!("no room for {message}");
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns the message if the client is closed, or if there is no room and the call may not wait. Returns a ping or
    /// pong if there is no connection, or if it is longer than 125 bytes.
    pub fn send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), SendError<Message>> {
        self.send_with(message, SendOptions::new())
    }

    /// Sends or queues a message as [`send`](ReconnectingSender::send) does, with options for this message; see
    /// [`Peer::send_with`]. A policy also decides whether the call waits for room in the outbox. Of the messages with a
    /// key, the outbox holds the newest.
    ///
    /// ```
    /// use threadbare::{Compression, Message, ReconnectingSender, SendError};
    ///
    /// fn log_in(sender: &ReconnectingSender, token: &str) -> Result<(), SendError<Message>> {
    ///     sender.send_with(token, Compression::Never)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send`](ReconnectingSender::send).
    pub fn send_with<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        options: impl Into<SendOptions>,
    ) -> Result<(), SendError<Message>> {
        let options = options.into();
        Ok(self.offer(message.into(), options.into(), options)?)
    }

    /// Sends or queues a message if there is room now.
    ///
    /// ```
    /// use threadbare::{ReconnectingSender, TrySendError};
    ///
    /// fn report(sender: &ReconnectingSender, measurement: f64) {
    ///     match sender.try_send(measurement.to_string()) {
    ///         Ok(()) => {}
    ///         Err(TrySendError::Full(_)) => println!("left out: the outbox is full"),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was neither sent nor queued.
    pub fn try_send<'a>(&self, message: impl Into<CowMessage<'a>>) -> Result<(), TrySendError<Message>> {
        Ok(self.offer(message.into(), Wait::Never, SendOptions::new())?)
    }

    /// Sends or queues a message, waiting up to `timeout` for room.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{Message, ReconnectingSender, SendTimeoutError};
    ///
    /// fn order(sender: &ReconnectingSender, item: &str) -> Result<(), SendTimeoutError<Message>> {
    ///     sender.send_timeout(item, Duration::from_secs(1))
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was neither sent nor queued.
    pub fn send_timeout<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Message>> {
        Ok(self.offer(message.into(), Wait::For(timeout), SendOptions::new())?)
    }

    /// Sends or queues a message, waiting until `deadline` for room.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::{Message, ReconnectingSender, SendTimeoutError};
    ///
    /// fn order(sender: &ReconnectingSender, items: &[&str]) -> Result<(), SendTimeoutError<Message>> {
    ///     let deadline = Instant::now() + Duration::from_secs(1); // for all of them together
    ///     items.iter().try_for_each(|item| sender.send_deadline(*item, deadline))
    /// }
    /// ```
    ///
    /// # Errors
    /// Returns the message if it was neither sent nor queued.
    pub fn send_deadline<'a>(
        &self,
        message: impl Into<CowMessage<'a>>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<Message>> {
        Ok(self.offer(message.into(), Wait::Until(deadline), SendOptions::new())?)
    }

    /// Sends or queues a message that was encoded before, as [`send`](ReconnectingSender::send) does. It is not faster,
    /// because a client masks each frame with a new key.
    ///
    /// ```
    /// use threadbare::{Prepared, ReconnectingSender};
    ///
    /// fn tell(senders: &[ReconnectingSender], text: &str) {
    ///     let message = Prepared::new(text);
    ///     for sender in senders {
    ///         let _ = sender.send_prepared(&message); // an error says that the client is closed
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send`](ReconnectingSender::send); there is no message to return.
    pub fn send_prepared(&self, prepared: &Prepared) -> Result<(), SendError<()>> {
        Ok(self.offer_prepared(prepared, prepared.options().into())?)
    }

    /// Sends or queues a message that was encoded before, if there is room now.
    ///
    /// ```
    /// use threadbare::{Prepared, ReconnectingSender};
    ///
    /// /// Returns how many clients have sent or queued it.
    /// fn tell(senders: &[ReconnectingSender], message: &Prepared) -> usize {
    ///     senders.iter().filter(|sender| sender.try_send_prepared(message).is_ok()).count()
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`try_send`](ReconnectingSender::try_send); there is no message to return.
    pub fn try_send_prepared(&self, prepared: &Prepared) -> Result<(), TrySendError<()>> {
        Ok(self.offer_prepared(prepared, Wait::Never)?)
    }

    /// Sends or queues a message that was encoded before, waiting up to `timeout` for room.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{Prepared, ReconnectingSender, SendTimeoutError};
    ///
    /// fn tick(sender: &ReconnectingSender, message: &Prepared) -> Result<(), SendTimeoutError<()>> {
    ///     sender.send_prepared_timeout(message, Duration::from_secs(1))
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`send_timeout`](ReconnectingSender::send_timeout); there is no message to return.
    pub fn send_prepared_timeout(&self, prepared: &Prepared, timeout: Duration) -> Result<(), SendTimeoutError<()>> {
        Ok(self.offer_prepared(prepared, Wait::For(timeout))?)
    }

    /// Sends or queues a message that was encoded before, waiting until `deadline` for room.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::{Prepared, ReconnectingSender, SendTimeoutError};
    ///
    /// fn tick(senders: &[ReconnectingSender], message: &Prepared) -> Result<(), SendTimeoutError<()>> {
    ///     let deadline = Instant::now() + Duration::from_secs(1); // for all of them together
    ///     senders.iter().try_for_each(|sender| sender.send_prepared_deadline(message, deadline))
    /// }
    /// ```
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
    /// ```
    /// use threadbare::{CloseCode, ReconnectingSender};
    ///
    /// fn stop(sender: &ReconnectingSender) {
    ///     let _ = sender.close(CloseCode::NORMAL_CLOSURE, "done"); // it may be closed already
    /// }
    /// ```
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the client is closed already.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        self.shared.close(code, reason)
    }

    /// The state of the client.
    ///
    /// ```
    /// use threadbare::ReconnectingSender;
    ///
    /// fn print(sender: &ReconnectingSender) {
    ///     println!("{}", sender.state());
    /// }
    /// ```
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.shared.state()
    }

    /// A receiver of the states of the client: the current one first, then every new one.
    ///
    /// ```
    /// use threadbare::ReconnectingSender;
    ///
    /// fn log(sender: &ReconnectingSender) {
    ///     for state in sender.state_changes().as_channel() {
    ///         println!("{state}");
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn state_changes(&self) -> StateChanges {
        self.shared.state_changes()
    }

    /// A handle to the current connection, if there is one: for a ping, for its [`stats`](Peer::stats), or for an
    /// [`abort`](Peer::abort), after which the client reconnects. Messages that are sent through it do not wait in the
    /// outbox, and are sent before those that do.
    ///
    /// ```
    /// use threadbare::ReconnectingSender;
    ///
    /// fn reconnect_now(sender: &ReconnectingSender) {
    ///     if let Some(peer) = sender.peer() {
    ///         peer.abort();
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.shared.peer()
    }

    /// The size of the messages that wait for a connection, in bytes. Each counts 64 bytes and its payload.
    ///
    /// ```
    /// use threadbare::ReconnectingSender;
    ///
    /// fn is_behind(sender: &ReconnectingSender) -> bool {
    ///     sender.queued_bytes() > 64 << 10
    /// }
    /// ```
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.lock().outbox.size()
    }

    /// Removes and returns the messages that wait for a connection, oldest first: to keep them when the client ends, or
    /// to discard those that are out of date.
    ///
    /// ```
    /// use threadbare::ReconnectingSender;
    ///
    /// /// Replaces what waits for a connection by the latest state.
    /// fn report(sender: &ReconnectingSender, state: &str) {
    ///     drop(sender.take_queued()); // out of date
    ///     let _ = sender.send(state); // an error says that the client is closed
    /// }
    /// ```
    #[must_use]
    pub fn take_queued(&self) -> Vec<Message> {
        self.shared.take_queued()
    }

    fn offer_prepared(&self, prepared: &Prepared, wait: Wait) -> Result<(), ((), SendRefusal)> {
        self.offer(prepared.to_message().into(), wait, prepared.options()).map_err(|(_, refusal)| ((), refusal))
    }

    /// Sends or queues a message. A borrowed message is copied only if it is queued or returned.
    fn offer(
        &self,
        mut message: CowMessage<'_>,
        wait: Wait,
        options: SendOptions,
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
                    match peer.offer_with(message, wait, options) {
                        Ok(()) => return Ok(()),
                        // The connection has ended, and the message waits for the next one.
                        Err((back, SendRefusal::Disconnected)) => message = back,
                        Err((back, refusal)) => return Err((back.into_message(), refusal)),
                    }
                    inner = self.shared.lock();
                    inner.link.leave(&peer);
                }
                Link::Down if !is_data => {
                    // There may be a connection that the outbox is being sent on. A control frame may overtake that.
                    let Some(peer) = inner.peer.clone() else {
                        return Err((message.into_message(), SendRefusal::Disconnected));
                    };
                    drop(inner);
                    let sent = peer.offer(message, wait, options.compression);
                    return sent.map_err(|(back, refusal)| (back.into_message(), refusal));
                }
                Link::Down if inner.outbox.has_room() || inner.outbox.has_key(options.latest) => {
                    inner.outbox.push(Queued { message: message.into_message(), options });
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
