//! What the connections of a worker share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Codec;
use crate::transport::output::Output;
use crate::transport::shared::SharedFrame;
use crate::worker::deadlines::Tick;
use crate::worker::inbox::{Command, Inbox};
use crate::worker::slots::Key;

/// What the connections of a worker share, and what a turn leaves for its end.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) worker: u16,
    pub(crate) config: Arc<Config>,
    pub(crate) inbox: Arc<Inbox>,
    /// The inboxes of all workers, this one's at its place.
    pub(crate) siblings: Arc<[Arc<Inbox>]>,
    pub(crate) output: Output,
    /// For the compressed messages of all connections.
    pub(crate) codec: Codec,
    pub(crate) epoch: Instant,
    /// The time of this turn, in ticks of the wheel.
    pub(crate) tick: Tick,
    /// Frames for every connection, sent at the turn's end.
    pub(crate) broadcasts: Vec<SharedFrame>,
    /// The connection at hand.
    pub(crate) key: Key,
    /// Close frames that wait for the application's answers to earlier messages.
    pub(crate) farewells: HashMap<Key, Option<CloseFrame>>,
    /// The connection at hand has another deadline than before.
    pub(crate) touched_deadline: bool,
}

impl Context {
    /// Microseconds since the worker began, for round trips.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Sends a frame to every connection of every worker.
    pub(crate) fn broadcast(&mut self, frame: SharedFrame) {
        for (index, sibling) in self.siblings.iter().enumerate() {
            if index != usize::from(self.worker) {
                sibling.send(Command::Broadcast(frame.clone()));
            }
        }
        self.broadcasts.push(frame);
    }
}
