//! Delivery to application threads: what a turn received becomes one batch for each channel.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::protocol::message::MessageRef;
use crate::worker::batch::{Batch, Block, Record, What, is_long};
use crate::worker::delivery::{Delivery, Farewell, Incoming, Socket};
use crate::worker::shard::Shard;
use crate::worker::slots::Key;

/// What an event counts against the limit of waiting events, beside its payload.
const EVENT_COST: usize = 64;

/// A message of this size is copied to a buffer of its own, in which it goes on to the application and perhaps back;
/// from the block it would have to be copied once more.
const MIN_OWNED_SIZE: usize = 16 << 10;

/// A block of this size is handed over though the turn goes on.
const MAX_BLOCK_SIZE: usize = 64 << 10;

/// A worker's end of one channel of events.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// `None` once the worker ends.
    sender: Option<Sender<Batch>>,
    shard: Arc<Shard>,
    block: Box<Block>,
    /// Counts blocks, so that a connection knows whether it has its place in this one.
    serial: u32,
    /// Connections that wait for room, and how often they were let go.
    waiting: Vec<Key>,
    round: u32,
    /// It woke a thread of the application's in this turn.
    woke: bool,
}

/// What a connection knows of its place in an [`Outlet`].
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// In which block its handle lies, and where.
    serial: u32,
    peer: u32,
    /// The round in which it was noted as waiting.
    waits: u32,
}

impl Outlet {
    pub(crate) fn new(sender: Sender<Batch>, shard: Arc<Shard>) -> Outlet {
        let sender = Some(sender);
        Outlet { sender, shard, block: Box::default(), serial: 1, waiting: Vec::new(), round: 1, woke: false }
    }

    #[inline(always)]
    fn push(&mut self, place: &mut Place, socket: &mut Socket<'_>, cost: usize, what: What) {
        if place.serial != self.serial {
            place.serial = self.serial;
            place.peer = self.block.peers.len() as u32;
            self.block.origin = socket.context.inbox.identity();
            self.block.peers.push(socket.peer());
        }
        self.block.cost += EVENT_COST + cost;
        self.block.records.push(Record { peer: place.peer, what });
        if self.block.texts.len() + self.block.bytes.len() >= MAX_BLOCK_SIZE {
            self.hand_over();
        }
    }

    #[inline(always)]
    fn message(&mut self, place: &mut Place, socket: &mut Socket<'_>, message: Incoming<'_>) {
        match message {
            Incoming::Borrowed(MessageRef::Text(text)) if text.len() < MIN_OWNED_SIZE => {
                let start = self.block.texts.len() as u32;
                self.block.texts.push_str(text);
                self.push(place, socket, text.len(), What::Text { start, end: self.block.texts.len() as u32 });
            }
            other => self.other_message(place, socket, other),
        }
    }

    /// Any but a short text, and out of its way.
    fn other_message(&mut self, place: &mut Place, socket: &mut Socket<'_>, message: Incoming<'_>) {
        let assembled = match message {
            Incoming::Borrowed(MessageRef::Binary(bytes)) if bytes.len() < MIN_OWNED_SIZE => {
                let start = self.block.bytes.len() as u32;
                self.block.bytes.extend_from_slice(bytes);
                let end = self.block.bytes.len() as u32;
                return self.push(place, socket, bytes.len(), What::Binary { start, end });
            }
            Incoming::Borrowed(message) => socket.context.output.pool.copy(message),
            Incoming::Assembled(message) => message,
        };
        // It moves rather than be copied, with all the memory of its buffer.
        self.push(place, socket, assembled.buffer.capacity(), What::Assembled(Box::new(assembled)));
    }

    fn close(&mut self, place: &mut Place, socket: &mut Socket<'_>, reason: CloseReason) -> Farewell {
        if self.is_orphaned() {
            return Farewell::Now;
        }
        self.push(place, socket, 0, What::Close(Box::new(reason)));
        Farewell::WhenAnswered
    }

    fn hand_over(&mut self) {
        if self.block.records.is_empty() {
            return;
        }
        let next = self.shard.spare.1.try_recv().unwrap_or_default();
        let block = std::mem::replace(&mut self.block, next);
        self.serial = self.serial.wrapping_add(1).max(1);
        self.shard.outstanding.fetch_add(block.cost, Ordering::SeqCst);
        if is_long(&block) {
            self.shard.long_batches.fetch_add(1, Ordering::SeqCst);
        }
        let batch = Batch { block: Some(block), next: 0, shard: self.shard.clone() };
        if let Some(sender) = &self.sender {
            // Without a receiver the events are nobody's.
            let _ = sender.send(batch);
            self.woke |= self.shard.parked.wake();
        }
    }

    fn is_full(&self) -> bool {
        self.shard.outstanding.load(Ordering::SeqCst) + self.block.cost >= self.shard.limit
    }

    /// Whether there is room; if not, the application was asked to tell when there is.
    fn finds_room(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        // The application looks at the flag after it made room, so one of the two sees the other.
        self.shard.stalled.store(true, Ordering::SeqCst);
        !self.is_full()
    }

    fn has_room(&mut self, place: &mut Place, key: Key) -> bool {
        if self.finds_room() {
            return true;
        }
        if place.waits != self.round {
            place.waits = self.round;
            self.waiting.push(key);
        }
        false
    }

    fn resume(&mut self, ready: &mut Vec<Key>) {
        // It may have been told of room that was filled at once, by this worker's own block or by another worker, and is
        // told once only: it asks again.
        if !self.waiting.is_empty() && self.finds_room() {
            self.round = self.round.wrapping_add(1).max(1);
            ready.append(&mut self.waiting);
        }
    }

    /// Whether answers may wait in the inbox for the end of a batch.
    fn holds_answers(&self) -> bool {
        self.shard.long_batches.load(Ordering::SeqCst) > 0
    }

    fn is_orphaned(&self) -> bool {
        self.shard.orphaned.load(Ordering::SeqCst)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.hand_over();
        // Whoever waits sees the channel end.
        self.sender = None;
        self.shard.parked.wake();
    }
}

/// Sends a server's events to one channel of several, a connection's always to the same.
pub(crate) struct ToChannels {
    outlets: Vec<Outlet>,
    /// A thread was woken at the end of this turn.
    woke: bool,
}

/// A connection's place among the channels.
#[derive(Debug)]
pub(crate) struct Channelled {
    /// Counted from 1, so that an `Option` of this takes no more room.
    shard: NonZero<u16>,
    place: Place,
}

impl Channelled {
    pub(crate) fn new(shard: u16) -> Channelled {
        Channelled { shard: NonZero::<u16>::MIN.saturating_add(shard), place: Place::default() }
    }

    fn shard(&self) -> usize {
        usize::from(self.shard.get()) - 1
    }
}

impl ToChannels {
    /// Of the outlets, of which there is at least one, each connection names one that there is.
    pub(crate) fn new(outlets: Vec<Outlet>) -> ToChannels {
        ToChannels { outlets, woke: false }
    }

    fn of(&mut self, connection: &Channelled) -> &mut Outlet {
        &mut self.outlets[connection.shard()]
    }
}

impl Delivery for ToChannels {
    type Connection = Channelled;
    type Opening = Request;

    const HANDLES: bool = true;

    const ANSWERS: bool = false;

    fn open(&mut self, connection: &mut Channelled, socket: &mut Socket<'_>, request: Request) {
        if self.is_orphaned(connection) {
            socket.core.start_close(socket.context, Some(&crate::worker::going_away()));
        } else {
            self.of(connection).push(&mut connection.place, socket, 0, What::Open(request));
        }
    }

    #[inline(always)]
    fn message(&mut self, connection: &mut Channelled, socket: &mut Socket<'_>, message: Incoming<'_>) {
        self.of(connection).message(&mut connection.place, socket, message);
    }

    fn ping(&mut self, _: &mut Channelled, _: &mut Socket<'_>, _: &[u8]) {}

    fn pong(&mut self, _: &mut Channelled, _: &mut Socket<'_>, _: &[u8]) {}

    fn close(&mut self, connection: &mut Channelled, socket: &mut Socket<'_>, reason: CloseReason) -> Farewell {
        self.of(connection).close(&mut connection.place, socket, reason)
    }

    fn has_room(&mut self, connection: &mut Channelled, key: Key) -> bool {
        self.of(connection).has_room(&mut connection.place, key)
    }

    fn resume(&mut self, ready: &mut Vec<Key>) {
        for outlet in &mut self.outlets {
            outlet.resume(ready);
        }
    }

    fn end_turn(&mut self) {
        self.woke = false;
        for outlet in &mut self.outlets {
            outlet.hand_over();
            self.woke |= std::mem::take(&mut outlet.woke);
        }
    }

    fn has_woken(&self) -> bool {
        self.woke
    }

    fn holds_answers(&self) -> bool {
        self.outlets.iter().any(Outlet::holds_answers)
    }

    fn is_orphaned(&self, connection: &Channelled) -> bool {
        self.outlets.get(connection.shard()).is_none_or(Outlet::is_orphaned)
    }
}

/// Sends each connection's events to a channel of its own.
#[derive(Debug, Default)]
pub(crate) struct ToOwners {
    /// Connections whose owner is behind.
    waiting: Vec<Key>,
}

/// A connection's own channel.
#[derive(Debug)]
pub(crate) struct Owned {
    outlet: Outlet,
    place: Place,
}

impl Owned {
    pub(crate) fn new(outlet: Outlet) -> Owned {
        Owned { outlet, place: Place::default() }
    }
}

impl Delivery for ToOwners {
    type Connection = Owned;
    type Opening = Request;

    const HANDLES: bool = true;

    const ANSWERS: bool = false;

    fn open(&mut self, connection: &mut Owned, socket: &mut Socket<'_>, request: Request) {
        connection.outlet.push(&mut connection.place, socket, 0, What::Open(request));
    }

    fn message(&mut self, connection: &mut Owned, socket: &mut Socket<'_>, message: Incoming<'_>) {
        connection.outlet.message(&mut connection.place, socket, message);
    }

    fn ping(&mut self, _: &mut Owned, _: &mut Socket<'_>, _: &[u8]) {}

    fn pong(&mut self, _: &mut Owned, _: &mut Socket<'_>, _: &[u8]) {}

    fn close(&mut self, connection: &mut Owned, socket: &mut Socket<'_>, reason: CloseReason) -> Farewell {
        connection.outlet.close(&mut connection.place, socket, reason)
    }

    fn has_room(&mut self, connection: &mut Owned, key: Key) -> bool {
        let room = connection.outlet.has_room(&mut connection.place, key);
        if !room && !self.waiting.contains(&key) {
            self.waiting.push(key);
        }
        room
    }

    fn resume(&mut self, ready: &mut Vec<Key>) {
        // Each looks again whether it has room; there are few.
        ready.append(&mut self.waiting);
    }

    fn served(&mut self, connection: &mut Owned) {
        connection.outlet.hand_over();
    }

    fn end_turn(&mut self) {}

    fn is_orphaned(&self, connection: &Owned) -> bool {
        connection.outlet.is_orphaned()
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token, Waker};

    use super::*;
    use crate::worker::inbox::Inbox;

    fn block(cost: usize) -> Box<Block> {
        let records = vec![Record { peer: 0, what: What::Taken }];
        Box::new(Block { records, cost, ..Block::default() })
    }

    /// room that is gone again before the worker looks is asked for anew.
    #[test]
    fn whoever_was_told_of_room_too_early_is_told_again() {
        let poll = Poll::new().expect("a poll");
        let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), Token(0)).expect("a waker")));
        let shard = Arc::new(Shard::new(100));
        shard.workers.set([inbox.clone()].into()).expect("set once");
        let (sender, events) = crossbeam_channel::unbounded();
        let mut outlet = Outlet::new(sender.clone(), shard.clone());
        let mut other = Outlet::new(sender, shard);
        let key = Key { index: 7, generation: 1 };
        let mut ready = Vec::new();

        other.block = block(100);
        other.hand_over();
        outlet.block = block(100);
        assert!(!outlet.has_room(&mut Place::default(), key));
        // The application takes what the other worker gave before this one hands over what filled it up again.
        drop(events.try_recv().expect("a batch"));
        assert!(inbox.has_mail());
        outlet.hand_over();
        inbox.take(&mut Default::default());
        outlet.resume(&mut ready);
        assert_eq!(ready, []);

        drop(events.try_recv().expect("a batch"));
        assert!(inbox.has_mail(), "nobody would wake the worker");
        outlet.resume(&mut ready);
        assert_eq!(ready, [key]);
    }
}
