//! What the connections of a worker share.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Config;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Codec;
use crate::transport::output::Output;
use crate::transport::shared::SharedFrame;
use crate::worker::deadlines::Tick;
use crate::worker::home::Home;
use crate::worker::inbox::{Command, Inbox};
use crate::worker::ledger::Ledger;
use crate::worker::slots::{Key, NameMap};

/// What the connections of a worker share, and what a turn leaves for its end.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Arc<Config>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) home: Arc<Home>,
    /// The inboxes of all workers, this one's at its place.
    pub(crate) siblings: Arc<[Arc<Inbox>]>,
    pub(crate) output: Output,
    /// Whether answers wait in the output for those of the connections that are ready as well.
    pub(crate) gathers: bool,
    /// Those that do.
    pub(crate) held: Vec<(Key, Range<usize>)>,
    /// For the compressed messages of all connections.
    pub(crate) codec: Codec,
    pub(crate) epoch: Instant,
    /// The time of this turn, in ticks of the wheel.
    pub(crate) tick: Tick,
    /// Frames for every connection, sent at the turn's end.
    pub(crate) broadcasts: Vec<SharedFrame>,
    /// The ledgers of connections without a handle, each at its connection's index.
    pub(crate) ledgers: Vec<Ledger>,
    /// The subprotocols of connections without a handle that agreed on one, by index.
    pub(crate) subprotocols: NameMap<u32, Arc<String>>,
    /// The connection at hand.
    pub(crate) key: Key,
    /// What its handle shows of the bytes that wait for its socket.
    pub(crate) shown_backlog: usize,
    /// Its messages in this turn, which go to the ledger with the turn's end: other threads read that, and each write takes
    /// it from their caches.
    pub(crate) tally: Tally,
    /// Close frames that wait for the application's answers to earlier messages.
    pub(crate) farewells: NameMap<Key, Option<CloseFrame>>,
    /// The connection at hand has another deadline than before.
    pub(crate) touched_deadline: bool,
}

/// Messages of a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Context {
    /// Microseconds since the worker began, for round trips.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Keeps what is on record about the connection at `index`, which has no handle.
    pub(crate) fn keep_record(&mut self, index: u32, ledger: Ledger, subprotocol: Option<Arc<String>>) {
        if let Some(subprotocol) = subprotocol {
            self.subprotocols.insert(index, subprotocol);
        }
        let index = index as usize;
        if self.ledgers.len() <= index {
            self.ledgers.resize_with(index + 1, Ledger::default);
        }
        self.ledgers[index] = ledger;
    }

    /// Takes what is on record about the connection at `index`, if it is kept here.
    pub(crate) fn take_record(&mut self, index: u32) -> (Ledger, Option<Arc<String>>) {
        let ledger = self.ledgers.get_mut(index as usize).map(std::mem::take).unwrap_or_default();
        (ledger, self.subprotocols.remove(&index))
    }

    /// Sends a frame to every connection of every worker.
    pub(crate) fn broadcast(&mut self, frame: SharedFrame) {
        for (index, sibling) in self.siblings.iter().enumerate() {
            if index != usize::from(self.home.worker) {
                sibling.send(Command::Broadcast(frame.clone()));
            }
        }
        self.broadcasts.push(frame);
    }
}
