//! What the supervising thread and the application's threads share of a reconnecting client.

use std::cell::Cell;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::client::reconnect::outage::Ended;
use crate::client::reconnect::outbox::{Outbox, Queued};
use crate::client::reconnect::state::{ConnectionState, StateChanges, Watchers};
use crate::config::SlowConsumer;
use crate::error::ControlError;
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::message::Message;
use crate::transport::cancel::CancelToken;
use crate::worker::handle::peer::Peer;
use crate::worker::thread::may_block;

thread_local! {
    /// Whether this thread makes the room that a sender would wait for.
    static SUPERVISES: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread is a supervising one.
pub(super) fn supervise() {
    SUPERVISES.set(true);
}

pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// The state has changed.
    changed: Condvar,
    /// The outbox may have room, or be empty, or need none.
    room: Condvar,
    pub(super) cancel: CancelToken,
    /// Ends the supervising thread's wait.
    stop: Sender<()>,
    pub(super) slow_consumer: SlowConsumer,
}

pub(super) struct Inner {
    state: ConnectionState,
    watchers: Watchers,
    pub(super) link: Link,
    pub(super) outbox: Outbox,
    /// The connection that there is, though messages may not go to it yet.
    peer: Option<Peer>,
    /// The application has closed the client, with this.
    closing: Option<CloseFrame>,
}

/// Where messages go.
pub(super) enum Link {
    /// Into the outbox.
    Down,
    /// To the connection; the outbox is empty.
    Flowing(Peer),
    /// Nowhere, any more.
    Closed,
}

impl Link {
    /// Messages go to this connection no more.
    pub(super) fn leave(&mut self, left: &Peer) {
        if matches!(self, Link::Flowing(peer) if peer == left) {
            *self = Link::Down;
        }
    }
}

impl Shared {
    pub(super) fn new(max_outbox_size: usize, slow_consumer: SlowConsumer, stop: Sender<()>) -> Shared {
        let inner = Inner {
            state: ConnectionState::Connecting { attempt: 1 },
            watchers: Watchers::default(),
            link: Link::Down,
            outbox: Outbox::new(max_outbox_size),
            peer: None,
            closing: None,
        };
        Shared {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            room: Condvar::new(),
            cancel: CancelToken::default(),
            stop,
            slow_consumer,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that runs under the lock can leave it half changed.
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

    /// Waits for a state that `wanted` accepts; the error is the state at the deadline, or the last one.
    pub(super) fn wait_state(
        &self,
        deadline: Option<Instant>,
        wanted: impl Fn(&ConnectionState) -> bool,
    ) -> Result<ConnectionState, ConnectionState> {
        let mut inner = self.lock();
        loop {
            if wanted(&inner.state) {
                return Ok(inner.state.clone());
            }
            if inner.state.is_closed() || is_over(deadline) {
                return Err(inner.state.clone());
            }
            inner = wait(&self.changed, inner, deadline);
        }
    }

    /// Waits for a change of what a sender goes by.
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

    /// Takes what waits for a connection.
    pub(super) fn take_queued(&self) -> Vec<Message> {
        let taken = self.lock().outbox.take_all();
        self.room.notify_all();
        taken
    }

    /// Ends it for good.
    pub(super) fn close(&self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        let frame = CloseFrame::new(code, reason).map_err(ControlError::InvalidClose)?;
        let mut inner = self.lock();
        if matches!(inner.link, Link::Closed) {
            return Err(ControlError::Disconnected);
        }
        if let Link::Flowing(peer) = std::mem::replace(&mut inner.link, Link::Closed) {
            // Behind what it was given before; if it is closed already, it needs no more.
            let _ = peer.close(code, reason);
        }
        inner.closing = Some(frame);
        drop(inner);
        self.room.notify_all();
        self.cancel.raise();
        // There is room for one, and one is enough.
        let _ = self.stop.try_send(());
        Ok(())
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// There is a connection. `false` if the client was closed meanwhile, and so is that.
    pub(super) fn opened(&self, peer: &Peer) -> bool {
        let mut inner = self.lock();
        inner.peer = Some(peer.clone());
        !inner.close_peer()
    }

    /// The next message for this connection. If there is none, messages go to it directly from now on; or it is closed,
    /// where the client was.
    pub(super) fn next_queued(&self, peer: &Peer) -> Option<Queued> {
        let mut inner = self.lock();
        let queued = inner.outbox.pop();
        if queued.is_none() && !inner.close_peer() {
            inner.link = Link::Flowing(peer.clone());
        }
        drop(inner);
        self.room.notify_all();
        queued
    }

    /// Takes back a message that the connection did not take.
    pub(super) fn put_back(&self, queued: Queued) {
        self.lock().outbox.put_back(queued);
    }

    /// Waits until nothing is queued, or nothing will be sent any more.
    pub(super) fn wait_empty(&self, deadline: Option<Instant>) {
        let mut inner = self.lock();
        while inner.outbox.size() > 0 && !matches!(inner.link, Link::Closed) && !is_over(deadline) {
            inner = wait(&self.room, inner, deadline);
        }
    }

    /// The connection has ended: messages go into the outbox.
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
    /// Closes the connection if the client was closed.
    fn close_peer(&mut self) -> bool {
        if let (Some(frame), Some(peer)) = (&self.closing, &self.peer) {
            // If it is closed already, it needs no more.
            let _ = peer.close(frame.code, &frame.reason);
        }
        self.closing.is_some()
    }

    fn enter(&mut self, state: ConnectionState) {
        use ConnectionState::Connecting;
        if matches!((&self.state, &state), (Connecting { attempt: now }, Connecting { attempt: next }) if now == next) {
            // The first attempt is the state that it begins with.
            return;
        }
        self.watchers.tell(&state);
        self.state = state;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        // The messages are the application's own.
        let (state, queued) = (&inner.state, inner.outbox.size());
        f.debug_struct("Shared").field("state", state).field("queued_bytes", &queued).finish_non_exhaustive()
    }
}

/// Whether this thread may wait for room: neither a worker nor the thread that makes the room may.
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
