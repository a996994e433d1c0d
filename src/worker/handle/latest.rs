//! Messages of which only the latest of each key counts, while they wait for the output of their connection.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::Role;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{FrameHeader, Opcode};
use crate::protocol::message::CowMessage;
use crate::transport::budget::{Charge, MemoryBudget};
use crate::transport::chunk::Chunk;
use crate::transport::held::HeldItem;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::handle::prepared::{Content, Prepared};
use crate::worker::handle::queued_bytes::QueuedBytes;

/// Messages of at most 1,024 keys wait at a connection. Larger takes more memory for each connection that does not read;
/// smaller leaves more keys to the policy.
pub(crate) const MAX_KEYS: usize = 1024;

/// The tables keep room for at most 8 messages once they are empty. Larger keeps more memory at idle connections;
/// smaller allocates for each burst.
const KEPT_CAPACITY: usize = 8;

/// The bytes of memory that a message with a key takes besides its payload: in the table of messages, and in that of keys.
const ENTRY_MEMORY: usize = size_of::<Entry>() + 2 * size_of::<(u64, u64)>();

/// A message that is to wait under its key.
#[derive(Debug)]
pub(crate) enum KeyedMessage {
    Own { message: CowMessage<'static>, compression: Compression },
    Shared(SharedFrame),
}

impl KeyedMessage {
    /// A message of the application. A borrowed one is copied.
    pub(crate) fn new(message: CowMessage<'_>, compression: Compression) -> KeyedMessage {
        let message = match message {
            CowMessage::SharedText(text) => CowMessage::SharedText(text),
            CowMessage::SharedBinary(bytes) => CowMessage::SharedBinary(bytes),
            other => CowMessage::Owned(other.into_message()),
        };
        KeyedMessage::Own { message, compression }
    }

    /// A message that was encoded before, for an endpoint in this role.
    pub(crate) fn prepared(prepared: &Prepared, role: Role) -> KeyedMessage {
        match (role, &prepared.content) {
            (Role::Server, Content::Data(frame)) => KeyedMessage::Shared(frame.clone()),
            // RFC 6455 5.3: a client's frames are masked, each with a key of its own.
            _ => KeyedMessage::new(prepared.to_message().into(), prepared.compression()),
        }
    }

    /// The message as it waits, its shared memory charged to `budget`.
    fn into_kept(self, budget: &Arc<MemoryBudget>) -> KeptMessage {
        match self {
            KeyedMessage::Own { message, compression } => {
                let (opcode, payload) = (message.as_message().opcode(), Chunk::from(message));
                payload.charge(budget);
                KeptMessage::Own { opcode, payload, compression }
            }
            KeyedMessage::Shared(frame) => {
                frame.charge(budget);
                KeptMessage::Shared(frame)
            }
        }
    }

    /// The size of its frame without compression, as an endpoint in this role sends it.
    fn size(&self, role: Role) -> usize {
        match self {
            KeyedMessage::Own { message, .. } => {
                let (opcode, len) = (message.as_message().opcode(), message.as_message().len());
                let mask = (role == Role::Client).then_some([0; 4]);
                FrameHeader::new(opcode, len as u64, mask).size() + len
            }
            KeyedMessage::Shared(frame) => frame.plain().len(),
        }
    }
}

/// A message that waits under its key. It is compressed and masked when it is sent.
#[derive(Debug)]
pub(crate) enum KeptMessage {
    Own { opcode: Opcode, payload: Chunk, compression: Compression },
    Shared(SharedFrame),
}

/// For one that is to be sent while another message is sent in parts.
impl From<KeptMessage> for HeldItem {
    fn from(message: KeptMessage) -> HeldItem {
        match message {
            KeptMessage::Own { opcode, payload, compression } => HeldItem::Message { opcode, payload, compression },
            KeptMessage::Shared(frame) => HeldItem::Shared(frame),
        }
    }
}

impl KeptMessage {
    /// The bytes of memory that this connection takes for it, and that it shares with no other.
    fn memory(&self) -> usize {
        match self {
            KeptMessage::Own { payload, .. } => payload.memory(),
            KeptMessage::Shared(_) => 0,
        }
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// Its key is a new one, and there is no room for another.
    Full,
    /// Nothing more is sent on the connection.
    Ended,
}

/// Which messages are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Those that the worker has come to in its inbox, so that no message overtakes one that was sent before it.
    Announced,
    /// All, because the close frame follows.
    All,
}

/// The keyed messages of one connection that wait, in the order in which their keys came. Senders put them here, and
/// announce them to the worker in its inbox. The worker takes them out once nothing else waits to be written. Until then
/// a newer message replaces the one of the same key.
#[derive(Debug, Default)]
pub(crate) struct LatestMessages {
    waiting: Mutex<Waiting>,
    /// The sizes of those that wait. Changed under the lock.
    bytes: AtomicUsize,
    /// How many were replaced. Changed under the lock.
    replaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Sorted by their positions.
    entries: VecDeque<Entry>,
    /// The position of each key. The keys may be a peer's, so that the map is hashed with a random seed.
    positions: HashMap<u64, u64>,
    next_position: u64,
    /// The number of the latest announcement that was made, and of the latest that the worker has come to.
    announced: u64,
    reached: u64,
    /// The bytes that had been posted to the connection at the latest announcement.
    posted: u64,
    ended: bool,
    /// The memory of the messages, and the budget that is told of it.
    memory: usize,
    charge: Option<Charge>,
}

#[derive(Debug)]
struct Entry {
    position: u64,
    key: u64,
    message: KeptMessage,
    size: usize,
    /// The announcement that the message waits for.
    announcement: u64,
}

impl LatestMessages {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that runs under the lock can leave the tables half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message, in place of the one of the same key. A message with a new key is taken while less than `limit`
    /// bytes and fewer than [`MAX_KEYS`] messages wait. Returns the number to announce to the worker, if it does not
    /// know of this message otherwise.
    pub(crate) fn keep(
        &self,
        key: u64,
        message: KeyedMessage,
        (role, limit): (Role, usize),
        queued: &QueuedBytes,
        budget: &Arc<MemoryBudget>,
    ) -> Result<Option<u64>, (KeyedMessage, NotKept)> {
        let size = message.size(role);
        let mut waiting = self.lock();
        // Under the lock: a worker that takes no more messages closes the count first, and then takes what waits.
        if waiting.ended || queued.is_closed() {
            return Err((message, NotKept::Ended));
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        let known = waiting.positions.get(&key).copied();
        if known.is_none() && (waiting.entries.len() >= MAX_KEYS || bytes >= limit) {
            return Err((message, NotKept::Full));
        }
        let message = message.into_kept(budget);
        let added = message.memory() + ENTRY_MEMORY;
        let announce = waiting.announce(queued.posted());
        let announcement = waiting.announced;
        let replaced = match known.and_then(|position| waiting.index_of(position)) {
            Some(index) => {
                let entry = &mut waiting.entries[index];
                let old = (std::mem::replace(&mut entry.message, message), entry.size);
                (entry.size, entry.announcement) = (size, announcement);
                self.replaced.store(self.replaced.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                Some(old)
            }
            None => {
                let position = waiting.next_position;
                waiting.next_position += 1;
                waiting.positions.insert(key, position);
                waiting.entries.push_back(Entry { position, key, message, size, announcement });
                None
            }
        };
        let old_size = replaced.as_ref().map_or(0, |(_, size)| *size);
        let old_memory = replaced.as_ref().map_or(0, |(message, _)| message.memory() + ENTRY_MEMORY);
        let memory = waiting.memory + added - old_memory;
        waiting.set_memory(memory, budget);
        // Under the lock, so that the worker can not subtract them before.
        self.bytes.store(bytes - old_size + size, Ordering::Relaxed);
        queued.add_kept(size, old_size);
        drop(waiting);
        // The old message is freed without the lock.
        drop(replaced);
        Ok(announce)
    }

    /// Whether a message with a new key would be taken, or none ever again.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        let waiting = self.lock();
        waiting.ended || (waiting.entries.len() < MAX_KEYS && self.bytes() < limit)
    }

    /// Notes that the worker has come to an announcement in its inbox.
    pub(crate) fn reach(&self, announcement: u64) {
        let mut waiting = self.lock();
        waiting.reached = waiting.reached.max(announcement);
    }

    /// The position behind the messages that wait now.
    pub(crate) fn end_position(&self) -> u64 {
        self.lock().next_position
    }

    /// Whether [`pop`](LatestMessages::pop) would return a message.
    pub(crate) fn has_due(&self, due: Due) -> bool {
        self.lock().index_of_due(due, u64::MAX).is_some()
    }

    /// Takes out the next message in front of a position, and its size.
    pub(crate) fn pop(&self, due: Due, end: u64) -> Option<(KeptMessage, usize)> {
        let mut waiting = self.lock();
        let index = waiting.index_of_due(due, end)?;
        let Entry { key, message, size, .. } = waiting.entries.remove(index)?;
        waiting.positions.remove(&key);
        waiting.free(message.memory() + ENTRY_MEMORY);
        if waiting.entries.is_empty() && waiting.entries.capacity() > KEPT_CAPACITY {
            (waiting.entries, waiting.positions) = Default::default();
        }
        self.bytes.store(self.bytes.load(Ordering::Relaxed) - size, Ordering::Relaxed);
        Some((message, size))
    }

    /// Discards the messages, and takes none from now on, because nothing more is sent on the connection.
    pub(crate) fn end(&self, queued: &QueuedBytes) {
        let mut waiting = self.lock();
        waiting.ended = true;
        (waiting.memory, waiting.charge) = (0, None);
        queued.add_kept(0, self.bytes.swap(0, Ordering::Relaxed));
        let discarded = (std::mem::take(&mut waiting.entries), std::mem::take(&mut waiting.positions));
        drop(waiting);
        drop(discarded);
    }

    /// The sizes of the messages that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The bytes of memory that they take. What they share with other connections is not counted.
    pub(crate) fn memory(&self) -> usize {
        self.lock().memory
    }

    /// How many messages were replaced.
    pub(crate) fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }
}

impl Waiting {
    /// Notes that the messages take `memory` bytes, and tells the budget.
    fn set_memory(&mut self, memory: usize, budget: &Arc<MemoryBudget>) {
        self.memory = memory;
        self.charge.get_or_insert_with(|| Charge::new(budget, 0)).set(memory);
    }

    /// Notes that a message was taken out that took `memory` bytes.
    fn free(&mut self, memory: usize) {
        self.memory -= memory;
        match &mut self.charge {
            Some(charge) if self.memory > 0 => charge.set(self.memory),
            charge => *charge = None,
        }
    }

    /// Makes an announcement unless one was made after everything that was posted so far, and messages wait for it, or
    /// for the output: the worker then knows of them.
    fn announce(&mut self, posted: u64) -> Option<u64> {
        if !self.entries.is_empty() && posted == self.posted {
            return None;
        }
        self.posted = posted;
        self.announced += 1;
        Some(self.announced)
    }

    fn index_of_due(&self, due: Due, end: u64) -> Option<usize> {
        let is_due = |entry: &Entry| due == Due::All || entry.announcement <= self.reached;
        self.entries.iter().take_while(|entry| entry.position < end).position(is_due)
    }

    fn index_of(&self, position: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&position, |entry| entry.position).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: (Role, usize) = (Role::Server, 1000);

    fn keyed(text: &str) -> KeyedMessage {
        KeyedMessage::new(text.into(), Compression::Auto)
    }

    fn pop(latest: &LatestMessages, due: Due) -> Option<String> {
        match latest.pop(due, u64::MAX)?.0 {
            KeptMessage::Own { payload, .. } => String::from_utf8(payload.as_slice().to_vec()).ok(),
            KeptMessage::Shared(_) => None,
        }
    }

    fn keep(latest: &LatestMessages, queued: &QueuedBytes, key: u64, text: &str) -> Option<u64> {
        latest.keep(key, keyed(text), LIMIT, queued, &Arc::default()).map_err(|(_, why)| why).expect("room")
    }

    #[test]
    fn a_newer_message_takes_the_place_of_the_one_with_its_key() {
        let (latest, queued) = (LatestMessages::default(), QueuedBytes::new(0));
        assert_eq!(keep(&latest, &queued, 7, "seven"), Some(1));
        assert_eq!(keep(&latest, &queued, 1, "one"), None, "announced by the first");
        assert_eq!(keep(&latest, &queued, 7, "seven again"), None);
        assert_eq!((latest.replaced(), latest.bytes(), queued.bytes()), (1, 2 + 11 + 2 + 3, 18));
        assert_eq!(pop(&latest, Due::Announced), None, "the worker has not come to it");
        latest.reach(1);
        let end = latest.end_position();
        assert_eq!(pop(&latest, Due::Announced).as_deref(), Some("seven again"));
        assert_eq!(keep(&latest, &queued, 7, "seven anew"), None, "it waits with the others");
        assert!(latest.pop(Due::Announced, end - 1).is_none() && latest.has_due(Due::Announced));
        assert_eq!(pop(&latest, Due::Announced).as_deref(), Some("one"));
        assert_eq!(pop(&latest, Due::Announced).as_deref(), Some("seven anew"));
        assert_eq!((pop(&latest, Due::All), latest.bytes(), latest.replaced()), (None, 0, 1));
        assert_eq!(keep(&latest, &queued, 7, "seven"), Some(2), "nothing waits, so the worker must be told");
    }

    /// A message waits for everything that was posted to the connection before it.
    #[test]
    fn a_message_is_announced_behind_what_was_posted_before_it() {
        let (latest, queued) = (LatestMessages::default(), QueuedBytes::new(0));
        assert_eq!(keep(&latest, &queued, 1, "old"), Some(1));
        assert_eq!(keep(&latest, &queued, 2, "two"), None);
        queued.add_posted(10);
        assert_eq!(keep(&latest, &queued, 1, "new"), Some(2));
        latest.reach(1);
        assert_eq!(pop(&latest, Due::Announced).as_deref(), Some("two"));
        assert_eq!(pop(&latest, Due::Announced), None);
        latest.reach(2);
        assert_eq!(pop(&latest, Due::Announced).as_deref(), Some("new"));
    }

    #[test]
    fn only_a_new_key_needs_room() {
        let (latest, queued) = (LatestMessages::default(), QueuedBytes::new(0));
        for key in 0..MAX_KEYS as u64 {
            latest.keep(key, keyed(""), (Role::Client, usize::MAX), &queued, &Arc::default()).expect("room");
        }
        assert!(!latest.has_room(usize::MAX));
        let full = latest.keep(u64::MAX, keyed("no"), (Role::Client, usize::MAX), &queued, &Arc::default());
        assert_eq!(full.map_err(|(_, why)| why), Err(NotKept::Full));
        assert_eq!(latest.bytes(), MAX_KEYS * 6, "each with a key for masking");
        latest.keep(5, keyed("yes"), (Role::Client, 0), &queued, &Arc::default()).expect("its key is known");
        pop(&latest, Due::All).expect("the first");
        assert!(latest.has_room(usize::MAX) && !latest.has_room(latest.bytes()));
        latest.end(&queued);
        let ended = latest.keep(5, keyed("no"), (Role::Client, usize::MAX), &queued, &Arc::default());
        assert_eq!(ended.map_err(|(_, why)| why), Err(NotKept::Ended));
        // What was popped is still to be subtracted by the worker.
        assert_eq!((latest.bytes(), queued.bytes()), (0, 6));
    }

    #[test]
    fn a_connection_that_takes_no_more_messages_keeps_none() {
        let (latest, queued) = (LatestMessages::default(), QueuedBytes::new(0));
        keep(&latest, &queued, 1, "before");
        queued.close();
        let refused = latest.keep(1, keyed("behind"), LIMIT, &queued, &Arc::default());
        assert_eq!(refused.map_err(|(_, why)| why), Err(NotKept::Ended));
        assert_eq!(pop(&latest, Due::All).as_deref(), Some("before"));
    }

    #[test]
    fn the_room_of_a_burst_is_given_back_and_that_of_a_few_is_kept() {
        for count in [1, 3, KEPT_CAPACITY as u64, 9, 200] {
            let (latest, queued) = (LatestMessages::default(), QueuedBytes::new(0));
            for key in 0..count {
                keep(&latest, &queued, key, "x");
            }
            let room = latest.lock().entries.capacity();
            for left in (0..count).rev() {
                assert_eq!(latest.lock().entries.capacity(), room, "it is kept while messages wait");
                pop(&latest, Due::All).expect("a message");
                assert_eq!(latest.lock().entries.len() as u64, left);
            }
            let kept = latest.lock().entries.capacity();
            assert_eq!(kept, if room <= KEPT_CAPACITY { room } else { 0 }, "{count} messages");
        }
    }

    #[test]
    fn the_budget_is_told_of_what_waits() {
        let (latest, queued) = (LatestMessages::default(), QueuedBytes::new(0));
        let budget = Arc::new(MemoryBudget::default());
        let keep = |key, size| {
            let message = KeyedMessage::new(vec![0; size].into(), Compression::Auto);
            latest.keep(key, message, (Role::Server, usize::MAX), &queued, &budget).expect("room");
        };
        keep(1, 1000);
        keep(2, 500);
        assert_eq!((budget.used(), latest.memory()), (1500 + 2 * ENTRY_MEMORY, 1500 + 2 * ENTRY_MEMORY));
        keep(1, 3000);
        assert_eq!(budget.used(), 3500 + 2 * ENTRY_MEMORY);
        let popped = latest.pop(Due::All, u64::MAX).expect("the first");
        assert_eq!(budget.used(), 500 + ENTRY_MEMORY, "what was taken out belongs to the output");
        drop(popped);
        latest.end(&queued);
        assert_eq!((budget.used(), latest.memory()), (0, 0));
        let frame = Prepared::new(vec![0; 700]);
        let other = LatestMessages::default();
        for key in 0..2 {
            let message = KeyedMessage::prepared(&frame, Role::Server);
            other.keep(key, message, (Role::Server, usize::MAX), &queued, &budget).expect("room");
        }
        let shared = frame.size();
        assert_eq!(budget.used(), shared + 2 * ENTRY_MEMORY, "shared bytes count once");
        drop((other, frame));
        assert_eq!(budget.used(), 0);
    }
}
