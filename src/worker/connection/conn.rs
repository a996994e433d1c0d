//! The state of one connection, whatever its application.

use crate::config::Config;
use crate::transport::endpoint::Endpoint;
use crate::transport::stream::Stream;
use crate::worker::connection::context::WorkerContext;
use crate::worker::connection::deadline::{Deadline, Timers};
use crate::worker::connection::flags::Flags;
use crate::worker::connection::phase::Phase;
use crate::worker::handle::info::PeerInfo;
use crate::worker::handle::peer::Peer;
use crate::worker::slab::Key;
use crate::worker::timer_wheel::Tick;

/// One connection, without the application's part.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) endpoint: Endpoint<Stream>,
    pub(crate) phase: Phase,
    /// The stream may have more to read than was read.
    pub(crate) readable: bool,
    /// Reading waits for the output to drain or for the application to take events.
    pub(crate) waiting: bool,
    pub(crate) flags: Flags,
    /// The handle, once there is one; the connection's [`PeerInfo`] is in it then.
    pub(crate) peer: Option<Peer>,
    pub(crate) opened: Tick,
    /// When the peer was last heard, or took some of a long output.
    pub(crate) heard: Tick,
    /// When the phase began; in phase [`Open`](Phase::Open), when an output above the high-water mark last moved.
    pub(crate) since: Tick,
}

impl Conn {
    /// What is on record about the connection, which `key` names.
    #[inline]
    pub(crate) fn info<'a>(&'a self, context: &'a WorkerContext, key: Key) -> &'a PeerInfo {
        match &self.peer {
            Some(peer) => &peer.shared.info,
            None => &context.infos[key.index as usize],
        }
    }

    /// Whether the application's messages still go out.
    pub(crate) fn can_send(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::AwaitingAnswers) && self.endpoint.connection.can_send()
    }

    /// Whether control frames still go out. They may come between the fragments of a message.
    pub(crate) fn can_send_control(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::AwaitingAnswers) && self.endpoint.connection.can_send_control()
    }

    /// Tells every holder of the handle that nothing more is sent.
    pub(crate) fn closed_to_sends(&self) {
        if let Some(peer) = &self.peer {
            peer.shared.set_closed();
        }
    }

    /// The connection's earliest deadline, and when it passes.
    pub(crate) fn next_deadline(&self, config: &Config) -> Option<(Tick, Deadline)> {
        let Conn { phase, flags, opened, heard, since, .. } = *self;
        Timers { phase, flags, opened, heard, since }.next_deadline(config)
    }
}
