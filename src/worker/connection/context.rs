//! The state that the connections of a worker share.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Codec;
use crate::transport::output::Output;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::handle::inbox::Inbox;
use crate::worker::handle::info::{Outcome, PeerInfo};
use crate::worker::handle::publisher::Publisher;
use crate::worker::handle::worker_handle::WorkerHandle;
use crate::worker::slab::{Key, KeyMap};
use crate::worker::timer_wheel::Tick;

/// The state that the connections of a worker share.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) config: Arc<Config>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) handle: Arc<WorkerHandle>,
    /// A connection is not read while this many bytes are queued by another thread, so that answers from there have
    /// room. `usize::MAX` where the policy has senders wait, drops messages or disconnects.
    pub(crate) max_answers: usize,
    /// Sends to the connections of all workers.
    pub(crate) publisher: Publisher,
    pub(crate) output: Output,
    pub(crate) group: WriteGroup,
    /// The compressors of all connections.
    pub(crate) codec: Codec,
    /// When the worker began.
    pub(crate) epoch: Instant,
    /// The time of this iteration of the event loop, in ticks of the timer wheel.
    pub(crate) tick: Tick,
    /// Frames for every connection, sent at the end of the iteration.
    pub(crate) broadcasts: Vec<SharedFrame>,
    /// The records of connections without a handle, each at its connection's index.
    pub(crate) infos: Vec<PeerInfo>,
    /// The outcomes of the opening handshakes of connections without a handle, if there are any, by index.
    pub(crate) outcomes: KeyMap<u32, Outcome>,
    /// Close frames that wait for the application's answers to earlier messages.
    pub(crate) pending_close_frames: KeyMap<Key, Option<CloseFrame>>,
}

/// Connections that are read one after the other before any of them is written to.
#[derive(Debug, Default)]
pub(crate) struct WriteGroup {
    /// Another connection is to be read before the next write.
    pub(crate) is_open: bool,
    /// The connections whose output waits for the end of the group, and its range in [`Output`].
    pub(crate) held: Vec<(Key, Range<usize>)>,
}

impl WorkerContext {
    /// Microseconds since the worker began, for round trips.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Keeps the record of the connection at `index`, which has no handle.
    pub(crate) fn keep_info(&mut self, index: u32, info: PeerInfo, outcome: Outcome) {
        if !outcome.is_empty() {
            self.outcomes.insert(index, outcome);
        }
        let index = index as usize;
        if self.infos.len() <= index {
            self.infos.resize_with(index + 1, PeerInfo::default);
        }
        self.infos[index] = info;
    }

    /// Takes the record of the connection at `index`, if it is kept here.
    pub(crate) fn take_info(&mut self, index: u32) -> (PeerInfo, Outcome) {
        let info = self.infos.get_mut(index as usize).map(std::mem::take).unwrap_or_default();
        (info, self.outcomes.remove(&index).unwrap_or_default())
    }

    /// Sends a frame to every connection of every worker.
    pub(crate) fn broadcast(&mut self, frame: SharedFrame) {
        self.publisher.broadcast_to_others(self.handle.index, &frame);
        self.broadcasts.push(frame);
    }
}
