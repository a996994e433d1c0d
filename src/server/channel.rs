//! Delivery to application threads: what a turn received becomes one batch for each channel.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::protocol::message::{Assembled, MessageRef};
use crate::server::events::{Batch, Block, Record, Shard, What};
use crate::worker::delivery::{Delivery, Farewell, Incoming, Socket};
use crate::worker::slots::Key;

/// What an event counts against the limit of waiting events, beside its payload.
const EVENT_COST: usize = 64;

/// A block of this size is handed over though the turn goes on.
const MAX_BLOCK_SIZE: usize = 64 << 10;

/// Sends events to one channel of several, a connection's always to the same.
pub(super) struct ToChannels {
    shards: Vec<ToShard>,
}

struct ToShard {
    /// `None` once the worker ends.
    sender: Option<Sender<Batch>>,
    shard: Arc<Shard>,
    block: Block,
    /// Counts blocks, so that a connection knows whether it has its place in this one.
    serial: u32,
    /// Connections that wait for room, and how often they were let go.
    waiting: Vec<Key>,
    round: u32,
}

/// A connection's place among the channels.
#[derive(Debug)]
pub(crate) struct Channelled {
    pub(super) shard: u16,
    pub(super) request: Option<Box<Request>>,
    /// Where its handle lies, in which block.
    place: (u32, u32),
    /// The round in which it was noted as waiting.
    waits: u32,
}

impl Channelled {
    pub(super) fn new(shard: u16, request: Request) -> Channelled {
        Channelled { shard, request: Some(Box::new(request)), place: (0, 0), waits: 0 }
    }
}

impl ToChannels {
    pub(super) fn new(shards: impl Iterator<Item = (Sender<Batch>, Arc<Shard>)>) -> ToChannels {
        let shards = shards.map(|(sender, shard)| ToShard {
            sender: Some(sender),
            shard,
            block: Block::default(),
            serial: 1,
            waiting: Vec::new(),
            round: 1,
        });
        ToChannels { shards: shards.collect() }
    }

    fn push(&mut self, connection: &mut Channelled, socket: &mut Socket<'_>, cost: usize, what: What) {
        let Some(to) = self.shards.get_mut(usize::from(connection.shard)) else { return };
        if connection.place.0 != to.serial {
            connection.place = (to.serial, to.block.peers.len() as u32);
            to.block.peers.push(socket.peer());
        }
        to.block.cost += EVENT_COST + cost;
        to.block.records.push(Record { peer: connection.place.1, what });
        if to.block.bytes.len() >= MAX_BLOCK_SIZE {
            to.hand_over();
        }
    }
}

impl ToShard {
    fn hand_over(&mut self) {
        if self.block.records.is_empty() {
            return;
        }
        let next = self.shard.spare.1.try_recv().unwrap_or_default();
        let block = std::mem::replace(&mut self.block, next);
        self.serial = self.serial.wrapping_add(1).max(1);
        self.shard.outstanding.fetch_add(block.cost, Ordering::SeqCst);
        let batch = Batch { block, next: 0, shard: self.shard.clone() };
        if let Some(sender) = &self.sender {
            // Without a receiver the events are nobody's.
            let _ = sender.send(batch);
            self.shard.parked.wake();
        }
    }

    fn is_full(&self) -> bool {
        self.shard.outstanding.load(Ordering::SeqCst) + self.block.cost >= self.shard.limit
    }
}

impl Delivery for ToChannels {
    type Connection = Channelled;

    fn open(&mut self, connection: &mut Channelled, socket: &mut Socket<'_>) {
        if self.is_orphaned(connection) {
            socket.core.start_close(socket.context, Some(&crate::worker::going_away()));
        } else if let Some(request) = connection.request.take() {
            self.push(connection, socket, 0, What::Open(request));
        }
    }

    fn message(&mut self, connection: &mut Channelled, socket: &mut Socket<'_>, message: Incoming<'_>) {
        let Some(to) = self.shards.get_mut(usize::from(connection.shard)) else { return };
        let start = to.block.bytes.len() as u32;
        let (cost, what) = match message {
            Incoming::Borrowed(message) => {
                to.block.bytes.extend_from_slice(message.as_bytes());
                let end = to.block.bytes.len() as u32;
                let text = matches!(message, MessageRef::Text(_));
                (message.len(), if text { What::Text { start, end } } else { What::Binary { start, end } })
            }
            // It moves rather than be copied.
            Incoming::Assembled(message) => (capacity(&message), What::Assembled(Box::new(message))),
        };
        self.push(connection, socket, cost, what);
    }

    fn ping(&mut self, _: &mut Channelled, _: &mut Socket<'_>, _: &[u8]) {}

    fn pong(&mut self, _: &mut Channelled, _: &mut Socket<'_>, _: &[u8]) {}

    fn close(&mut self, connection: &mut Channelled, socket: &mut Socket<'_>, reason: CloseReason) -> Farewell {
        if self.is_orphaned(connection) {
            return Farewell::Now;
        }
        self.push(connection, socket, 0, What::Close(Box::new(reason)));
        Farewell::WhenAnswered
    }

    fn has_room(&mut self, connection: &mut Channelled, key: Key) -> bool {
        let Some(to) = self.shards.get_mut(usize::from(connection.shard)) else { return true };
        if !to.is_full() {
            return true;
        }
        // The application looks at the flag after it made room, so one of the two sees the other.
        to.shard.stalled.store(true, Ordering::SeqCst);
        if !to.is_full() {
            return true;
        }
        if connection.waits != to.round {
            connection.waits = to.round;
            to.waiting.push(key);
        }
        false
    }

    fn resume(&mut self, ready: &mut Vec<Key>) {
        for to in &mut self.shards {
            if !to.waiting.is_empty() && !to.is_full() {
                to.round = to.round.wrapping_add(1).max(1);
                ready.append(&mut to.waiting);
            }
        }
    }

    fn end_turn(&mut self) {
        for to in &mut self.shards {
            to.hand_over();
        }
    }

    fn is_orphaned(&self, connection: &Channelled) -> bool {
        self.shards.get(usize::from(connection.shard)).is_some_and(|to| to.shard.orphaned.load(Ordering::SeqCst))
    }
}

impl Drop for ToChannels {
    fn drop(&mut self) {
        for to in &mut self.shards {
            to.hand_over();
            // Whoever waits sees the channel end.
            to.sender = None;
            to.shard.parked.wake();
        }
    }
}

/// The memory that a message keeps from others.
fn capacity(message: &Assembled) -> usize {
    message.buffer.capacity()
}
