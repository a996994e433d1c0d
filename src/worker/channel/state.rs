//! The state that both ends of a channel of events share: the waiting threads, the outstanding cost, and spare blocks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use crate::transport::budget::{MemoryBudget, Tally};
use crate::worker::channel::block::{Block, has_several};
use crate::worker::channel::waiters::Waiters;
use crate::worker::channel::window::Progress;
use crate::worker::handle::inbox::{Command, Inbox};
use crate::worker::slab::Key;

/// At most 16 blocks are kept for their next use. More keep more memory; fewer allocate more often.
const SPARE_BLOCKS: usize = 16;

/// A block of more than 256 KiB is freed rather than kept: few batches are as large.
const MAX_SPARE_SIZE: usize = 256 << 10;

/// The state of one channel of events that the workers and the application's threads share.
#[derive(Debug)]
pub(crate) struct ChannelState {
    /// The cost of the batches that were sent and handled. Workers add to it before they look for room. The application adds
    /// to it before it loads `stalled`.
    pub(super) progress: Progress,
    /// The memory of those batches.
    pub(crate) memory: Tally,
    pub(crate) limit: usize,
    /// The number of those batches that have several events: while there are any, answers may wait for their end.
    pub(crate) long_batches: AtomicUsize,
    /// Whether a worker stopped reading because of the limit. Synchronizes with `EventSender::finds_room` in
    /// `sender.rs`.
    pub(crate) stalled: AtomicBool,
    /// Whether the last receiver was dropped. Synchronizes with `EventSender::receiver_dropped` in `sender.rs`.
    pub(crate) receiver_dropped: AtomicBool,
    pub(crate) workers: OnceLock<Arc<[Arc<Inbox>]>>,
    /// The connection that the channel belongs to, if it belongs to one.
    owner: Option<Mutex<Option<Owner>>>,
    pub(crate) waiters: Waiters,
    /// Empty blocks for the workers.
    pub(crate) spare: (Sender<Box<Block>>, Receiver<Box<Block>>),
}

/// A connection, and the inbox of its worker.
type Owner = (Arc<Inbox>, Key);

impl ChannelState {
    /// Makes the state of a channel that several connections share.
    pub(crate) fn new(limit: usize, budget: Arc<MemoryBudget>) -> ChannelState {
        ChannelState {
            progress: Progress::default(),
            memory: Tally::new(budget),
            limit,
            long_batches: AtomicUsize::new(0),
            stalled: AtomicBool::new(false),
            receiver_dropped: AtomicBool::new(false),
            workers: OnceLock::new(),
            owner: None,
            waiters: Waiters::default(),
            spare: crossbeam_channel::bounded(SPARE_BLOCKS),
        }
    }

    /// Makes the state of a channel that belongs to one connection at a time.
    pub(crate) fn for_one_connection(limit: usize, budget: Arc<MemoryBudget>) -> ChannelState {
        ChannelState { owner: Some(Mutex::default()), ..ChannelState::new(limit, budget) }
    }

    /// Gives the channel to a connection. The receiver sends it commands from now on. Returns whether the last receiver
    /// was dropped: the receiver stores that before it looks for the owner, so at least one of the two sees the other.
    pub(super) fn set_owner(&self, inbox: &Arc<Inbox>, key: Key) -> bool {
        if let Some(owner) = &self.owner {
            *owner.lock().unwrap_or_else(PoisonError::into_inner) = Some((inbox.clone(), key));
        }
        self.receiver_dropped.load(Ordering::SeqCst)
    }

    /// Takes back a block that the application has finished.
    pub(crate) fn release(&self, mut block: Box<Block>) {
        if has_several(&block) {
            // The answers in the inbox are sent now.
            block.number.fetch_add(1, Ordering::SeqCst);
            self.long_batches.fetch_sub(1, Ordering::SeqCst);
            self.inboxes().for_each(|inbox| inbox.deliver());
        }
        let cost = block.cost;
        self.memory.subtract(block.memory);
        block.clear();
        if block.texts.capacity() + block.bytes.capacity() <= MAX_SPARE_SIZE {
            // If the channel of spare blocks is full, this one is freed.
            let _ = self.spare.0.try_send(block);
        }
        let opens_window = self.progress.add_handled(cost);
        let left = self.progress.outstanding();
        if (left < self.limit.div_ceil(2) && self.stalled.swap(false, Ordering::SeqCst)) || opens_window {
            self.tell(|to| Command::Resume { to });
        }
    }

    /// A thread has [entered](Waiters::enter) and found no events: what other threads handle need not keep a connection
    /// waiting for its window.
    pub(crate) fn found_empty(&self) {
        if self.progress.take_awaited() {
            self.tell(|to| Command::Resume { to });
        }
    }

    /// The number of connections of all workers.
    pub(super) fn connections(&self) -> usize {
        self.inboxes().map(|inbox| inbox.load.load(Ordering::Relaxed)).fold(0, usize::saturating_add)
    }

    fn inboxes(&self) -> impl Iterator<Item = &Arc<Inbox>> {
        self.workers.get().into_iter().flat_map(|workers| workers.iter())
    }

    /// Sends a command to the connection that the channel belongs to, or to all workers.
    pub(crate) fn tell(&self, command: impl Fn(Option<Key>) -> Command) {
        match &self.owner {
            Some(owner) => {
                let owner = owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // A connection that opens later checks the state itself.
                if let Some((inbox, key)) = owner {
                    inbox.send(command(Some(key)));
                }
            }
            None => {
                for inbox in self.inboxes() {
                    inbox.send(command(None));
                }
            }
        }
    }
}
