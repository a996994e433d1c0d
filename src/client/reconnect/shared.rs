//! The state of a reconnecting client, shared by its supervisor thread and the application's threads.

use std::cell::Cell;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::client::reconnect::outage::Ended;
use crate::client::reconnect::outbox::{Outbox, Queued};
use crate::client::reconnect::state::{ConnectionState, StateChanges, Watchers};
use crate::config::{Config, SlowConsumer};
use crate::error::ControlError;
use crate::protocol::Role;
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::message::Message;
use crate::transport::cancel::CancelToken;
use crate::worker::handle::peer::Peer;
use crate::worker::thread::may_block;

thread_local! {
    /// Whether this thread is a supervisor. It must not wait for room in the outbox, because it makes that room.
    static SUPERVISES: Cell<bool> = const { Cell::new(false) };
}

pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Notified when the state has changed.
    changed: Condvar,
    /// Notified when messages have left the outbox, or nothing more is sent.
    room: Condvar,
    pub(super) cancel: CancelToken,
    /// Ends the supervisor's wait for the next attempt.
    stop: Sender<()>,
    pub(super) slow_consumer: SlowConsumer,
    /// The size of the fragments of a message in parts.
    pub(super) fragment_size: usize,
    /// The supervisor's thread.
    supervisor: OnceLock<ThreadId>,
}

pub(super) struct Inner {
    state: ConnectionState,
    /// How often the state has changed.
    changes: u64,
    watchers: Watchers,
    pub(super) link: Link,
    pub(super) outbox: Outbox,
    /// The current connection, even while messages still go into the outbox.
    pub(super) peer: Option<Peer>,
    /// The close frame with which the application has closed the client.
    closing: Option<CloseFrame>,
    /// Close with 1000 once the outbox is empty.
    finishing: bool,
}

/// Where messages go.
pub(super) enum Link {
    /// Into the outbox.
    Down,
    /// To the connection. The outbox is empty.
    Flowing(Peer),
    /// Nowhere: the client is closed.
    Closed,
}

impl Link {
    /// Sends no more messages to this connection.
    pub(super) fn leave(&mut self, left: &Peer) {
        if matches!(self, Link::Flowing(peer) if peer == left) {
            *self = Link::Down;
        }
    }
}

impl Shared {
    pub(super) fn new(max_outbox_size: usize, config: &Config, stop: Sender<()>) -> Shared {
        let inner = Inner {
            state: ConnectionState::Connecting { attempt: 1 },
            changes: 0,
            watchers: Watchers::default(),
            link: Link::Down,
            outbox: Outbox::new(max_outbox_size),
            peer: None,
            closing: None,
            finishing: false,
        };
        Shared {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            room: Condvar::new(),
            cancel: CancelToken::default(),
            stop,
            slow_consumer: config.policy(Role::Client),
            fragment_size: config.fragment_size,
            supervisor: OnceLock::new(),
        }
    }

    /// Declares this thread the client's supervisor.
    pub(super) fn supervise(&self) {
        SUPERVISES.set(true);
        // Set once, here.
        let _ = self.supervisor.set(std::thread::current().id());
    }

    /// Whether this thread is the client's supervisor, which must not wait for itself.
    pub(super) fn supervised_here(&self) -> bool {
        self.supervisor.get() == Some(&std::thread::current().id())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Code that runs under the lock can not panic halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> ConnectionState {
        self.lock().state.clone()
    }

    pub(super) fn state_changes(&self) -> StateChanges {
        let mut inner = self.lock();
        let Inner { state, watchers, .. } = &mut *inner;
        watchers.add(state)
    }

    /// Waits for a state that `wanted` accepts. The error is the state at the deadline, or the last one.
    pub(super) fn wait_state(
        &self,
        deadline: Option<Instant>,
        wanted: impl Fn(&ConnectionState) -> bool,
    ) -> Result<ConnectionState, ConnectionState> {
        let mut inner = self.lock();
        loop {
            let (state, changes) = (inner.state.clone(), inner.changes);
            // Not under the lock, for which the application's closure may wait: it may ask the client.
            drop(inner);
            if wanted(&state) {
                return Ok(state);
            }
            if state.is_closed() || is_over(deadline) {
                return Err(state);
            }
            inner = self.lock();
            while inner.changes == changes && !is_over(deadline) {
                inner = wait(&self.changed, inner, deadline);
            }
        }
    }

    /// Waits until there may be room for a message, or the client is closed.
    pub(super) fn wait_room<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, Inner> {
        wait(&self.room, inner, deadline)
    }

    pub(super) fn peer(&self) -> Option<Peer> {
        self.lock().peer.clone()
    }

    /// Removes and returns the messages that wait for a connection.
    pub(super) fn take_queued(&self) -> Vec<Message> {
        let mut inner = self.lock();
        let taken = inner.outbox.take_all();
        let finishing = inner.finishing;
        drop(inner);
        self.room.notify_all();
        if finishing {
            // An error means that it is closed already.
            let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
        }
        taken
    }

    /// Closes the client.
    pub(super) fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        let frame = CloseFrame::new(code, reason).map_err(ControlError::InvalidClose)?;
        let mut inner = self.lock();
        if inner.closing.is_some() || inner.state.is_closed() {
            return Err(ControlError::Disconnected);
        }
        if let Link::Flowing(peer) = std::mem::replace(&mut inner.link, Link::Closed) {
            // The close frame follows the messages that were sent before. An error means that it is closed already.
            let _ = peer.close(code, reason);
        }
        inner.closing = Some(frame);
        drop(inner);
        self.room.notify_all();
        self.cancel.raise();
        // The channel holds one notice. If it is full, that one is enough.
        let _ = self.stop.try_send(());
        Ok(())
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// Notes a new connection. Returns `false`, and closes the connection, if the client was closed meanwhile.
    pub(super) fn opened(&self, peer: &Peer) -> bool {
        let mut inner = self.lock();
        inner.peer = Some(peer.clone());
        !inner.close_peer()
    }

    /// Returns the next message for this connection. If there is none, later messages go to the connection directly, or
    /// the connection is closed if the client was closed.
    pub(super) fn next_queued(&self, peer: &Peer) -> Option<Queued> {
        let mut inner = self.lock();
        let queued = inner.outbox.pop();
        if queued.is_none() {
            if inner.finishing && inner.closing.is_none() {
                inner.closing = Some(CloseFrame { code: CloseCode::NORMAL_CLOSURE, reason: String::new() });
                inner.link = Link::Closed;
            }
            if !inner.close_peer() {
                inner.link = Link::Flowing(peer.clone());
            }
        }
        drop(inner);
        self.room.notify_all();
        queued
    }

    /// Puts back a message that could not be sent.
    pub(super) fn put_back(&self, queued: Queued) {
        self.lock().outbox.put_back(queued);
    }

    /// Closes the client with 1000 once the outbox is empty: at once, or after the last message was sent.
    pub(super) fn close_when_sent(&self) {
        let mut inner = self.lock();
        inner.finishing = true;
        let sent = inner.outbox.size() == 0;
        drop(inner);
        if sent {
            // An error means that it is closed already.
            let _ = self.close(CloseCode::NORMAL_CLOSURE, "");
        }
    }

    /// Accepts no more messages. Those in the outbox are still sent.
    pub(super) fn refuse_messages(&self) {
        let mut inner = self.lock();
        // A connection that messages flow to has an empty outbox, so that it is closed by `close_when_sent`.
        inner.link = Link::Closed;
        drop(inner);
        self.room.notify_all();
    }

    /// Notes that the connection has ended. Messages go into the outbox from now on.
    pub(super) fn lost(&self) {
        let mut inner = self.lock();
        if let Some(peer) = inner.peer.take() {
            inner.link.leave(&peer);
        }
    }

    /// Enters a state, unless the client was closed.
    pub(super) fn enter(&self, state: ConnectionState) {
        let mut inner = self.lock();
        if inner.closing.is_none() {
            inner.enter(state);
            self.changed.notify_all();
        }
    }

    /// Enters the last state.
    pub(super) fn end(&self, ended: Ended) {
        let mut inner = self.lock();
        inner.link = Link::Closed;
        inner.peer = None;
        inner.enter(ConnectionState::Closed(ended));
        drop(inner);
        self.changed.notify_all();
        self.room.notify_all();
    }
}

impl Inner {
    /// Closes the connection if the client was closed, and returns whether it was.
    fn close_peer(&mut self) -> bool {
        if let (Some(frame), Some(peer)) = (&self.closing, &self.peer) {
            // An error means that it is closed already.
            let _ = peer.close(frame.code, &frame.reason);
        }
        self.closing.is_some()
    }

    fn enter(&mut self, state: ConnectionState) {
        use ConnectionState::Connecting;
        if matches!((&self.state, &state), (Connecting { attempt: now }, Connecting { attempt: next }) if now == next) {
            // A client begins in the state of its first attempt, which is no change.
            return;
        }
        self.watchers.send(&state);
        self.state = state;
        self.changes += 1;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        // The messages are not printed: they may be confidential.
        let (state, queued) = (&inner.state, inner.outbox.size());
        f.debug_struct("Shared").field("state", state).field("queued_bytes", &queued).finish_non_exhaustive()
    }
}

/// Whether this thread may wait for room in the outbox. Neither a worker nor a supervisor may.
pub(super) fn may_wait() -> bool {
    may_block() && !SUPERVISES.get()
}

pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

fn wait<'a>(condition: &Condvar, inner: MutexGuard<'a, Inner>, deadline: Option<Instant>) -> MutexGuard<'a, Inner> {
    match deadline {
        None => condition.wait(inner).unwrap_or_else(PoisonError::into_inner),
        Some(deadline) => {
            let left: Duration = deadline.saturating_duration_since(Instant::now());
            condition.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}
