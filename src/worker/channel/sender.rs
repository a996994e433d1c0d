//! Delivery to application threads: what one iteration received becomes one batch for each channel.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::protocol::message::MessageRef;
use crate::transport::spare_inputs::KeptInput;
use crate::worker::channel::batch::Batch;
use crate::worker::channel::block::{Block, EVENT_COST, EventKind, MIN_OWNED_SIZE, Record, has_several};
use crate::worker::channel::state::ChannelState;
use crate::worker::channel::window::{Filled, Windows};
use crate::worker::delivery::delivery::{CloseTiming, Incoming, IncomingFragment};
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::draining::Draining;
use crate::worker::slab::{Key, KeyMap};

/// While a channel is above its mark, a connection has a share of 1 KiB at least. More lets many connections exceed the
/// mark by more; less keeps a small message waiting behind the others' large ones.
const MIN_SHARE: usize = 1 << 10;

/// While a channel is above its mark, a connection has a share of 64 KiB at most. More lets one fast sender exceed the
/// mark by more.
const MAX_SHARE: usize = 64 << 10;

/// A block of 64 KiB is sent before the end of the iteration. Larger blocks compete for the cache; smaller ones wake
/// the application's threads more often.
const MAX_BLOCK_SIZE: usize = 64 << 10;

/// A read takes 4 KiB at least, however little room the channel has: each of its events needs no more than that.
const MIN_READ: usize = 4 << 10;

/// A batch's place in a channel: the batch, and the channel's own word.
const PLACE_SIZE: usize = size_of::<Batch>() + size_of::<usize>();

/// A worker's sender into one channel of events.
#[derive(Debug)]
pub(crate) struct EventSender {
    /// `None` once the worker ends.
    sender: Option<Sender<Batch>>,
    state: Arc<ChannelState>,
    block: Box<Block>,
    /// The number of the block, so that a connection knows whether its handle is in it.
    serial: u32,
    /// Connections that wait for room.
    waiting: Vec<Key>,
    /// How often the waiting connections were resumed.
    round: u32,
    /// Whether the channel was above the mark when that was last looked at.
    is_congested: bool,
    /// The cost of the events of each connection since then.
    spent: KeyMap<Key, usize>,
    windows: Windows,
    /// Whether a batch of this iteration woke a thread.
    pub(super) woke: bool,
}

/// Where a connection's events go in an [`EventSender`].
#[derive(Debug, Default)]
pub(crate) struct BlockCursor {
    /// The number of the block that its handle is in.
    serial: u32,
    /// The index of its handle in that block.
    peer: u32,
    /// The round in which it began to wait for room.
    waits: u32,
    filled: Filled,
}

impl EventSender {
    pub(crate) fn new(sender: Sender<Batch>, state: Arc<ChannelState>) -> EventSender {
        let sender = Some(sender);
        EventSender {
            sender,
            state,
            block: Box::default(),
            serial: 1,
            waiting: Vec::new(),
            round: 1,
            is_congested: false,
            spent: KeyMap::default(),
            windows: Windows::default(),
            woke: false,
        }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, cursor: &mut BlockCursor, socket: &mut Socket<'_>, cost: usize, kind: EventKind) {
        if cursor.serial != self.serial {
            cursor.serial = self.serial;
            cursor.peer = self.block.peers.len() as u32;
            self.block.origin = socket.active.context.inbox.identity();
            self.block.peers.push(socket.peer());
        }
        let cost = EVENT_COST + cost;
        self.block.cost += cost;
        cursor.filled.add(cost);
        if self.is_congested {
            *self.spent.entry(socket.active.state.key).or_default() += cost;
        }
        self.block.records.push(Record { peer: cursor.peer, kind });
        if self.block.texts.len() + self.block.bytes.len() >= MAX_BLOCK_SIZE {
            self.send_batch();
        }
    }

    #[inline(always)]
    pub(super) fn message(&mut self, cursor: &mut BlockCursor, socket: &mut Socket<'_>, message: Incoming<'_>) {
        match message {
            Incoming::Borrowed(MessageRef::Text(text)) if text.len() < MIN_OWNED_SIZE => {
                let kind = self.block.keep_text(text);
                self.push(cursor, socket, text.len(), kind);
            }
            other => self.other_message(cursor, socket, other),
        }
    }

    /// Adds any message but a short text. Not inlined, so that the code for short texts stays small.
    #[inline(never)]
    fn other_message(&mut self, cursor: &mut BlockCursor, socket: &mut Socket<'_>, message: Incoming<'_>) {
        let (kind, cost) = self.block.keep_other(message, &mut socket.active.context.output.pool);
        self.push(cursor, socket, cost, kind);
    }

    pub(super) fn fragment(
        &mut self,
        cursor: &mut BlockCursor,
        socket: &mut Socket<'_>,
        fragment: IncomingFragment<'_>,
    ) {
        let (kind, cost) = self.block.keep_fragment(fragment, &mut socket.active);
        if let EventKind::Received(_) = kind {
            cursor.filled.add_buffer();
        }
        self.push(cursor, socket, cost, kind);
    }

    /// Takes the receive buffer that the last fragment is in.
    pub(super) fn keep_input(&mut self, input: KeptInput) {
        self.block.keep_input(input);
    }

    pub(super) fn open(&mut self, cursor: &mut BlockCursor, socket: &mut Socket<'_>, request: Request) {
        let size = request.size();
        self.block.apart += size;
        self.push(cursor, socket, size, EventKind::Open(request));
    }

    pub(super) fn drain(&mut self, cursor: &mut BlockCursor, socket: &mut Socket<'_>, draining: Draining) {
        if !self.receiver_dropped() {
            self.push(cursor, socket, 0, EventKind::Drain(Box::new(draining)));
        }
    }

    /// What the application must have handled of the channel to have come to all events so far; `None` if it has.
    pub(super) fn unseen(&self) -> Option<u64> {
        (!self.is_handled() && !self.receiver_dropped()).then(|| self.state.progress.sent() + self.block.cost as u64)
    }

    /// Whether the application has handled the events up to this mark.
    pub(super) fn has_seen(&self, mark: u64) -> bool {
        self.state.progress.has_handled(mark) || self.receiver_dropped()
    }

    pub(super) fn close(
        &mut self,
        cursor: &mut BlockCursor,
        socket: &mut Socket<'_>,
        reason: CloseReason,
    ) -> CloseTiming {
        self.windows.remove(socket.active.state.key);
        if self.receiver_dropped() {
            return CloseTiming::Now;
        }
        self.push(cursor, socket, 0, EventKind::Close(Box::new(reason)));
        CloseTiming::AfterAnswers
    }

    #[inline]
    pub(super) fn send_batch(&mut self) {
        if self.block.records.is_empty() {
            return;
        }
        let next = self.state.spare.1.try_recv().unwrap_or_else(|_| Box::new(Block::as_large_as(&self.block)));
        let mut block = std::mem::replace(&mut self.block, next);
        self.serial = self.serial.wrapping_add(1).max(1);
        self.state.progress.add_sent(block.cost);
        if has_several(&block) {
            self.state.long_batches.fetch_add(1, Ordering::SeqCst);
        }
        block.memory = block.footprint() + PLACE_SIZE;
        self.state.memory.add(block.memory);
        let batch = Batch { block: Some(block), next: 0, state: self.state.clone() };
        if let Some(sender) = &self.sender {
            // An error means that the last receiver was dropped.
            let _ = sender.send(batch);
            self.woke |= self.state.waiters.wake();
        }
    }

    fn is_full(&self) -> bool {
        self.state.progress.outstanding() + self.block.cost >= self.state.limit
    }

    /// Whether the application has handled everything.
    pub(super) fn is_handled(&self) -> bool {
        self.block.records.is_empty() && self.state.progress.outstanding() == 0
    }

    /// Whether there is room. If not, the application sends `Command::Resume` once there is.
    pub(super) fn finds_room(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        // Synchronizes with `ChannelState::release` in `state.rs`, which loads the flag after it made room: at least
        // one of the two sees the other's store.
        self.state.stalled.store(true, Ordering::SeqCst);
        !self.is_full()
    }

    /// Whether a connection may deliver more. Above the mark it may as long as its events cost less than its share of the
    /// mark, so that those that send much do not keep the others waiting.
    #[inline]
    pub(super) fn has_room(&mut self, cursor: &mut BlockCursor, key: Key) -> bool {
        if self.finds_room() {
            self.is_congested = false;
            return !cursor.filled.is_half() || self.has_window(cursor, key);
        }
        self.has_share(cursor, key)
    }

    /// As [`has_room`](EventSender::has_room), for the channel of one connection, which waits only for receive buffers.
    #[inline]
    pub(super) fn has_window_for_buffers(&mut self, cursor: &mut BlockCursor, key: Key) -> bool {
        !cursor.filled.has_buffer() || !cursor.filled.is_half() || self.has_window(cursor, key)
    }

    /// Whether a connection may go on that has filled half of its window. One that nobody shares the channel with may, unless
    /// it has filled it with receive buffers, and each while a thread of the application has nothing to do, for then nobody
    /// waits behind its events.
    #[cold]
    fn has_window(&mut self, cursor: &mut BlockCursor, key: Key) -> bool {
        let (progress, unsent) = (&self.state.progress, self.block.cost);
        if self.state.connections() <= 1 && !cursor.filled.has_buffer() {
            self.windows.begin_anyway(key, &mut cursor.filled, progress, unsent);
            return true;
        }
        if self.windows.begin_half(key, &mut cursor.filled, progress, unsent) {
            return true;
        }
        // Looked at after it is noted that a connection waits, so that a thread that becomes idle meanwhile tells.
        if self.is_idle() {
            self.windows.begin_anyway(key, &mut cursor.filled, &self.state.progress, unsent);
            return true;
        }
        self.wait(cursor, key)
    }

    /// Whether a thread of the application waits for events.
    fn is_idle(&self) -> bool {
        let is_empty = self.block.records.is_empty() && self.sender.as_ref().is_none_or(Sender::is_empty);
        is_empty && self.state.waiters.has_any()
    }

    /// Has a connection wait for [`resume`](EventSender::resume). Returns `false`.
    fn wait(&mut self, cursor: &mut BlockCursor, key: Key) -> bool {
        if cursor.waits != self.round {
            cursor.waits = self.round;
            self.waiting.push(key);
        }
        false
    }

    #[cold]
    fn has_share(&mut self, cursor: &mut BlockCursor, key: Key) -> bool {
        if !self.is_congested {
            self.is_congested = true;
            self.spent.clear();
        }
        let spent = self.spent.get(&key).copied().unwrap_or_default();
        spent < share(self.state.limit, self.state.connections()) || self.wait(cursor, key)
    }

    pub(super) fn resume(&mut self, ready: &mut Vec<Key>) {
        // The application reports room once. This worker's own block, or another worker, may have filled it since, so
        // it is checked again.
        if !self.waiting.is_empty() && self.finds_room() {
            self.round = self.round.wrapping_add(1).max(1);
            ready.append(&mut self.waiting);
        }
    }

    /// How many bytes a connection should read, so that what it can not deliver stays with the kernel.
    #[inline]
    pub(super) fn read_size(&self) -> usize {
        let used = self.state.progress.outstanding() + self.block.cost;
        self.state.limit.saturating_sub(used).max(MIN_READ)
    }

    /// Gives the channel to the connection of `socket`. Returns whether the last receiver was dropped.
    pub(super) fn set_owner(&self, socket: &Socket<'_>) -> bool {
        self.state.set_owner(&socket.active.context.inbox, socket.active.state.key)
    }

    /// Whether answers may wait in the inbox for the end of a batch.
    pub(super) fn holds_answers(&self) -> bool {
        self.state.long_batches.load(Ordering::SeqCst) > 0
    }

    pub(super) fn receiver_dropped(&self) -> bool {
        self.state.receiver_dropped.load(Ordering::SeqCst)
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.send_batch();
        // The waiting threads see that the channel has ended.
        self.sender = None;
        self.state.waiters.wake();
    }
}

/// The share of one of so many connections in a channel with this mark, while the channel is above it. The shares of up
/// to 4,096 connections are no more than the mark by default, so that the channel holds twice its mark at most.
fn share(limit: usize, connections: usize) -> usize {
    (limit / connections.max(1)).clamp(MIN_SHARE, MAX_SHARE)
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token, Waker};

    use super::*;
    use crate::worker::handle::inbox::Inbox;

    fn block(cost: usize) -> Box<Block> {
        let records = vec![Record { peer: 0, kind: EventKind::Taken }];
        Box::new(Block { records, cost, ..Block::default() })
    }

    /// a share is for one time above the mark. What was delivered before does not count.
    #[test]
    fn a_connection_has_its_share_each_time_that_the_channel_rises_above_the_mark() {
        let (sender, events) = crossbeam_channel::unbounded();
        let mut own = EventSender::new(sender, Arc::new(ChannelState::new(100, Arc::default())));
        let key = Key { index: 7, generation: 1 };
        let mut cursor = BlockCursor::default();
        for _ in 0..3 {
            assert!(own.has_room(&mut cursor, key), "below the mark");
            own.block = block(100);
            own.send_batch();
            assert!(own.has_room(&mut cursor, key));
            own.spent.insert(key, MIN_SHARE - 1);
            assert!(own.has_room(&mut cursor, key));
            own.spent.insert(key, MIN_SHARE);
            assert!(!own.has_room(&mut cursor, key));
            let other = Key { index: 8, ..key };
            assert!(own.has_room(&mut BlockCursor::default(), other), "another connection");
            drop(events.try_recv().expect("a batch"));
        }
        assert_eq!(own.waiting, [key], "it is resumed once");
    }

    #[test]
    fn shares_add_up_to_the_mark() {
        assert_eq!(
            [0, 1, 64, 100, 4096, 100_000].map(|connections| share(4 << 20, connections)),
            [MAX_SHARE, MAX_SHARE, 64 << 10, 41_943, 1024, 1024]
        );
    }

    /// a worker that finds the room filled again waits for room once more.
    #[test]
    fn a_connection_that_was_resumed_too_early_is_resumed_again() {
        let poll = Poll::new().expect("a poll");
        let inbox = Arc::new(Inbox::new(Waker::new(poll.registry(), Token(0)).expect("a waker"), Arc::default()));
        let state = Arc::new(ChannelState::new(100, Arc::default()));
        state.workers.set([inbox.clone()].into()).expect("set once");
        let (sender, events) = crossbeam_channel::unbounded();
        let mut own = EventSender::new(sender.clone(), state.clone());
        let mut other = EventSender::new(sender, state);
        let key = Key { index: 7, generation: 1 };
        let mut ready = Vec::new();

        other.block = block(100);
        other.send_batch();
        own.block = block(100);
        let mut cursor = BlockCursor::default();
        assert!(own.has_room(&mut cursor, key), "it has its share");
        own.spent.insert(key, MAX_SHARE);
        assert!(!own.has_room(&mut cursor, key));
        // The application takes the other worker's batch before this worker sends the block that filled the channel
        // again.
        drop(events.try_recv().expect("a batch"));
        assert!(inbox.has_commands());
        own.send_batch();
        inbox.take(&mut Default::default());
        own.resume(&mut ready);
        assert_eq!(ready, []);

        drop(events.try_recv().expect("a batch"));
        assert!(inbox.has_commands(), "the worker would not be woken");
        own.resume(&mut ready);
        assert_eq!(ready, [key]);
    }
}
