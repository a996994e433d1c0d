//! The memory of a batch: the records of its events, and the payloads of small messages one behind the other.

use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::protocol::message::Assembled;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::wakeup::{BatchNumber, hold_wakeups};

/// What a batch is made of; recycled.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) peers: Vec<Peer>,
    pub(crate) records: Vec<Record>,
    /// The texts, one behind the other: what was validated on the worker's thread stays a `str`.
    pub(crate) texts: String,
    pub(crate) bytes: Vec<u8>,
    /// What it counts against the limit of waiting events.
    pub(crate) cost: usize,
    /// How many batches it has carried.
    pub(crate) number: BatchNumber,
    /// The inbox of the worker that it is from.
    pub(crate) origin: usize,
}

impl Block {
    /// Lets the answers wait for the batch's end, before its first event.
    #[inline]
    pub(super) fn begin(&self, next: usize) {
        if next == 0 && has_several(self) {
            hold_wakeups(&self.number, self.origin);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Record {
    /// Index of the connection's handle.
    pub(crate) peer: u32,
    pub(crate) kind: EventKind,
}

#[derive(Debug)]
pub(crate) enum EventKind {
    Open(Request),
    Text {
        start: u32,
        end: u32,
    },
    Binary {
        start: u32,
        end: u32,
    },
    Assembled(Box<Assembled>),
    Close(Box<CloseReason>),
    /// Was given out.
    Taken,
}

/// Whether a batch has several events, whose answers are better written together.
pub(crate) fn has_several(block: &Block) -> bool {
    block.records.len() > 1
}
