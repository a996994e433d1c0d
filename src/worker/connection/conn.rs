//! The state of one connection, apart from the application's part.

use crate::config::Config;
use crate::transport::endpoint::Endpoint;
use crate::transport::stream::Stream;
use crate::worker::connection::context::WorkerContext;
use crate::worker::connection::deadline::{Deadline, Timers};
use crate::worker::connection::flags::Flags;
use crate::worker::connection::phase::Phase;
use crate::worker::handle::info::PeerInfo;
use crate::worker::handle::latest::LatestMessages;
use crate::worker::handle::peer::Peer;
use crate::worker::slab::Key;
use crate::worker::timer_wheel::Tick;

/// One connection, apart from the application's part.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) endpoint: Endpoint<Stream>,
    pub(crate) phase: Phase,
    /// The stream may have more to read than was read.
    pub(crate) readable: bool,
    /// Reading waits for the output to drain or for the application to take events.
    pub(crate) waiting: bool,
    pub(crate) flags: Flags,
    /// The handle, once there is one. The connection's [`PeerInfo`] is then in it.
    pub(crate) peer: Option<Peer>,
    /// When the connection was established.
    pub(crate) opened: Tick,
    /// When something was last received from the peer, or the socket last took some of a long output.
    pub(crate) heard: Tick,
    /// When the phase began, or the output was first above the high-water mark. Later, when the socket had taken
    /// [`min_write_progress`](Config::min_write_progress) more of the output.
    pub(crate) since: Tick,
}

impl Conn {
    /// The record of the connection, whose key is `key`.
    #[inline]
    pub(crate) fn info<'a>(&'a self, context: &'a WorkerContext, key: Key) -> &'a PeerInfo {
        match &self.peer {
            Some(peer) => &peer.shared.info,
            None => &context.infos[key.index as usize],
        }
    }

    /// Whether the application can still send messages.
    pub(crate) fn can_send(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::AwaitingAnswers) && self.endpoint.connection.can_send()
    }

    /// Whether control frames can still be sent. They may come between the fragments of a message.
    pub(crate) fn can_send_control(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::AwaitingAnswers) && self.endpoint.connection.can_send_control()
    }

    /// Whether something is under way: output that waits, a message of either end that has begun, or what was received and
    /// waits to be delivered.
    pub(crate) fn is_busy(&self) -> bool {
        let Endpoint { connection, .. } = &self.endpoint;
        self.endpoint.backlog() > 0
            || self.endpoint.undecoded() > 0
            || connection.is_in_message()
            || connection.has_begun_to_receive()
            || self.waiting
            || self.peer.as_ref().is_some_and(|peer| peer.queued_bytes() > 0)
    }

    /// The keyed messages that wait, if there ever were any.
    pub(crate) fn latest(&self) -> Option<&LatestMessages> {
        self.peer.as_ref()?.shared.latest()
    }

    /// Whether keyed messages wait.
    pub(crate) fn has_latest(&self) -> bool {
        self.latest().is_some_and(|latest| latest.bytes() > 0)
    }

    /// The memory that it takes, with that of the keyed messages that wait.
    #[cold]
    pub(crate) fn memory_with_latest(&self) -> usize {
        self.endpoint.memory() + self.latest().map_or(0, LatestMessages::memory)
    }

    /// Has the handle refuse messages from now on, if there is one.
    pub(crate) fn closed_to_sends(&self) {
        self.endpoint.end_messages();
        self.closed_to_others();
    }

    /// As [`closed_to_sends`](Conn::closed_to_sends), but the message that is sent in parts goes on.
    pub(crate) fn closed_to_others(&self) {
        if let Some(peer) = &self.peer {
            peer.shared.set_closed();
            peer.shared.end_latest();
        }
    }

    /// The connection's earliest deadline, and when it passes.
    pub(crate) fn next_deadline(&self, config: &Config) -> Option<(Tick, Deadline)> {
        let Conn { phase, flags, opened, heard, since, .. } = *self;
        let is_writing = self.endpoint.backlog() > 0;
        Timers { phase, flags, opened, heard, since, is_writing }.next_deadline(config)
    }
}
