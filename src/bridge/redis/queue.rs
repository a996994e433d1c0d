//! Messages that wait for the publisher's thread, as the commands that it will send: bounded in bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bridge::envelope::{Envelope, NodeId, OVERHEAD};
use crate::bridge::message::{Accepted, BridgeMessage};
use crate::bridge::redis::resp;

/// A pipeline has at most 256 messages: from there on more bring little (16 cost 3.5 times as much each, 64 cost 1.5 times).
/// More may be lost at once with a connection.
const MAX_MESSAGES: usize = 256;

/// A pipeline is complete from 64 KiB on. More delays the first reply; fewer makes more round trips.
const FULL_CHUNK: usize = 64 << 10;

/// At most 65,536 topics have a sequence, about 8 MiB. Then all begin anew under another id of this node: receivers do not notice
/// a message that is lost just then. More takes more memory; fewer does this more often.
const MAX_SEQUENCES: usize = 1 << 16;

/// At most this many empty chunks are kept for their memory.
const MAX_SPARE: usize = 4;

/// How a message becomes a command.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Publish,
    /// The stream of each topic keeps about this many messages.
    Append {
        keep: u64,
    },
}

/// Commands that leave together.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// Where each command ends.
    pub(super) ends: Vec<usize>,
    /// When the first was queued.
    since: Instant,
}

/// Filled by any thread, emptied by the publisher's.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// How many messages were queued since the beginning. Only the publisher looks, to see whether more are coming, so `Relaxed` is
    /// enough.
    pushed: AtomicU64,
    form: Form,
    prefix: String,
    /// In bytes of commands.
    limit: usize,
    max_message: usize,
}

#[derive(Debug)]
struct Inner {
    node: NodeId,
    sequences: HashMap<Box<str>, u64>,
    chunks: VecDeque<Chunk>,
    spare: Vec<Chunk>,
    /// Those of the chunks, and of those that were taken and not given back.
    bytes: usize,
    /// When the oldest messages of the chunks that were taken were queued.
    taken: VecDeque<Instant>,
    sleeping: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn new(node: NodeId, form: Form, prefix: String, limit: usize, max_message: usize) -> Queue {
        let inner = Inner {
            node,
            sequences: HashMap::new(),
            chunks: VecDeque::new(),
            spare: Vec::new(),
            bytes: 0,
            taken: VecDeque::new(),
            sleeping: false,
            closed: false,
        };
        Queue { inner: Mutex::new(inner), pushed: AtomicU64::new(0), form, prefix, limit, max_message }
    }

    /// Queues a message. Also returns whether the publisher sleeps, and is to be woken.
    ///
    /// A refused message takes a number of its topic's sequence, so that receivers learn of the gap.
    pub(super) fn push(&self, topic: &str, message: &BridgeMessage<'_>) -> (Accepted, bool) {
        let mut inner = self.lock();
        if inner.closed {
            return (Accepted::Stopped, false);
        }
        let sequence = inner.next_sequence(topic);
        if message.payload().len() > self.max_message {
            return (Accepted::TooLarge, false);
        }
        let most = self.prefix.len() + topic.len() + message.payload().len() + OVERHEAD + COMMAND;
        if inner.bytes.saturating_add(most) > self.limit {
            return (Accepted::Full, false);
        }
        let envelope = Envelope { node: inner.node, sequence, message: *message };
        let chunk = inner.open_chunk();
        let before = chunk.bytes.len();
        self.encode(&mut chunk.bytes, topic, &envelope);
        let size = chunk.bytes.len() - before;
        chunk.ends.push(chunk.bytes.len());
        inner.bytes += size;
        let is_asleep = std::mem::take(&mut inner.sleeping);
        drop(inner);
        self.pushed.fetch_add(1, Ordering::Relaxed);
        (Accepted::Queued, is_asleep)
    }

    fn encode(&self, out: &mut Vec<u8>, topic: &str, envelope: &Envelope<'_>) {
        let size = OVERHEAD + envelope.message.payload().len();
        match &self.form {
            Form::Publish => {
                out.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n");
                self.encode_name(out, topic);
            }
            Form::Append { keep } => {
                out.extend_from_slice(b"*8\r\n$4\r\nXADD\r\n");
                self.encode_name(out, topic);
                out.extend_from_slice(b"$6\r\nMAXLEN\r\n$1\r\n~\r\n");
                resp::bulk(out, keep.to_string().as_bytes());
                out.extend_from_slice(b"$1\r\n*\r\n$1\r\nm\r\n");
            }
        }
        resp::begin_bulk(out, size);
        envelope.encode(out);
        out.extend_from_slice(b"\r\n");
    }

    fn encode_name(&self, out: &mut Vec<u8>, topic: &str) {
        resp::begin_bulk(out, self.prefix.len() + topic.len());
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// How many messages were queued since the beginning.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    /// Takes the oldest messages, if there are any.
    pub(super) fn take(&self) -> Option<Chunk> {
        self.lock().take()
    }

    /// Takes the oldest messages. If there are none, the next one that is pushed says to wake the publisher.
    pub(super) fn take_or_sleep(&self) -> Option<Chunk> {
        let mut inner = self.lock();
        let chunk = inner.take();
        inner.sleeping = chunk.is_none();
        chunk
    }

    /// Gives back the chunk that was taken first: its messages wait no more.
    pub(super) fn give_back(&self, mut chunk: Chunk) {
        let mut inner = self.lock();
        inner.bytes -= chunk.bytes.len();
        inner.taken.pop_front();
        if inner.spare.len() < MAX_SPARE && chunk.bytes.capacity() <= 2 * FULL_CHUNK {
            chunk.bytes.clear();
            chunk.ends.clear();
            inner.spare.push(chunk);
        }
    }

    /// Calls `read` with the id of this node, and the last number of each topic's sequence.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn with_sequences<T>(&self, read: impl FnOnce((NodeId, &HashMap<Box<str>, u64>)) -> T) -> T {
        let inner = self.lock();
        read((inner.node, &inner.sequences))
    }

    /// Takes no more messages.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Drops what waits, and returns how many messages that were.
    pub(super) fn drain(&self) -> u64 {
        let mut inner = self.lock();
        let count = inner.chunks.iter().map(|chunk| chunk.ends.len() as u64).sum();
        inner.bytes -= inner.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>();
        inner.chunks.clear();
        count
    }

    /// How many bytes wait, and how long the oldest message has waited.
    pub(super) fn backlog(&self) -> (usize, Duration) {
        let inner = self.lock();
        let since = inner.taken.front().copied().or_else(|| inner.chunks.front().map(|chunk| chunk.since));
        (inner.bytes, since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More than what a command has beside name and envelope.
const COMMAND: usize = 96;

impl Inner {
    fn take(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.taken.push_back(chunk.since);
        Some(chunk)
    }

    fn next_sequence(&mut self, topic: &str) -> u64 {
        if let Some(sequence) = self.sequences.get_mut(topic) {
            *sequence += 1;
            return *sequence;
        }
        if self.sequences.len() >= MAX_SEQUENCES {
            self.sequences.clear();
            self.node = self.node.next_run();
        }
        self.sequences.insert(topic.into(), 1);
        1
    }

    /// The chunk that takes the next command.
    fn open_chunk(&mut self) -> &mut Chunk {
        let is_open = |chunk: &Chunk| chunk.ends.len() < MAX_MESSAGES && chunk.bytes.len() < FULL_CHUNK;
        if !self.chunks.back().is_some_and(is_open) {
            let since = Instant::now();
            self.chunks.push_back(match self.spare.pop() {
                Some(chunk) => Chunk { since, ..chunk },
                None => Chunk { bytes: Vec::new(), ends: Vec::new(), since },
            });
        }
        self.chunks.back_mut().expect("one was pushed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::redis::resp::Reader;

    fn queue(limit: usize) -> Queue {
        Queue::new(NodeId::new(1 << 20), Form::Publish, "app:".to_owned(), limit, 1000)
    }

    /// The words of the commands of a chunk.
    fn words(bytes: &[u8], each: u64) -> Vec<Vec<u8>> {
        let mut reader = Reader::new(bytes, 1 << 20);
        let mut words = Vec::new();
        while reader.position() < bytes.len() {
            reader.array_of(each).expect("a command");
            words.extend((0..each).map(|_| reader.bulk().expect("a word").to_vec()));
        }
        words
    }

    #[test]
    fn messages_become_commands_with_a_sequence_for_each_topic() {
        let queue = queue(1 << 20);
        assert!(queue.take().is_none());
        assert!(queue.take_or_sleep().is_none());
        assert_eq!(queue.push("a", &BridgeMessage::text("x")), (Accepted::Queued, true));
        assert_eq!(queue.push("b", &BridgeMessage::text("y")), (Accepted::Queued, false), "it is awake");
        assert_eq!(queue.push("a", &BridgeMessage::binary(b"z")), (Accepted::Queued, false));
        let chunk = queue.take().expect("three messages");
        let words = words(&chunk.bytes, 3);
        let told: Vec<(&[u8], u64)> = words
            .chunks_exact(3)
            .map(|command| (command[1].as_slice(), Envelope::decode(&command[2]).expect("an envelope").sequence))
            .collect();
        assert_eq!(told, [(&b"app:a"[..], 1), (b"app:b", 1), (b"app:a", 2)]);
        assert_eq!(chunk.ends.last(), Some(&chunk.bytes.len()));
        assert!(queue.backlog().0 > 0, "what was taken counts until it is given back");
        queue.give_back(chunk);
        assert_eq!(queue.backlog().0, 0);
    }

    #[test]
    fn streams_are_appended_to() {
        let queue = Queue::new(NodeId::new(0), Form::Append { keep: 500 }, String::new(), 1 << 20, 1000);
        assert!(queue.push("t", &BridgeMessage::text("x")).0.is_queued());
        let words = words(&queue.take().expect("a message").bytes, 8);
        let text: Vec<&[u8]> = words.iter().take(6).map(Vec::as_slice).collect();
        assert_eq!(text, [&b"XADD"[..], b"t", b"MAXLEN", b"~", b"500", b"*"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_a_gap() {
        let queue = queue(1000);
        let message = BridgeMessage::text("0123456789");
        let mut accepted = 0;
        while queue.push("t", &message).0 == Accepted::Queued {
            accepted += 1;
        }
        assert!((4..20).contains(&accepted), "{accepted}");
        assert_eq!(queue.push("t", &message), (Accepted::Full, false));
        assert_eq!(queue.push("t", &BridgeMessage::binary(&[0; 1001])), (Accepted::TooLarge, false));
        let chunk = queue.take().expect("messages");
        assert_eq!(chunk.ends.len(), accepted);
        queue.give_back(chunk);
        assert_eq!(queue.push("t", &message).0, Accepted::Queued);
        let chunk = queue.take().expect("a message");
        let next = Envelope::decode(&words(&chunk.bytes, 3)[2]).expect("an envelope").sequence;
        assert_eq!(next, accepted as u64 + 4, "three were refused");
        queue.close();
        assert_eq!(queue.push("t", &message), (Accepted::Stopped, false));
    }

    #[test]
    fn pipelines_are_bounded_and_keep_the_order() {
        let queue = queue(1 << 20);
        for number in 0..600_u32 {
            assert!(queue.push("t", &BridgeMessage::binary(&number.to_be_bytes())).0.is_queued());
        }
        assert!(queue.push("t", &BridgeMessage::binary(&[0; 1000])).0.is_queued());
        let sizes: Vec<usize> = std::iter::from_fn(|| queue.take()).map(|chunk| chunk.ends.len()).collect();
        assert_eq!(sizes, [256, 256, 89]);
    }

    #[test]
    fn sequences_of_very_many_topics_begin_anew_under_another_id() {
        let queue = queue(1 << 30);
        let first = queue.lock().node;
        for number in 0..MAX_SEQUENCES {
            assert!(queue.push(&number.to_string(), &BridgeMessage::text("")).0.is_queued());
        }
        assert_eq!(queue.lock().node, first);
        assert!(queue.push("one more", &BridgeMessage::text("")).0.is_queued());
        assert_ne!(queue.lock().node, first);
        assert!(queue.lock().node.is_same_bridge(first));
        assert_eq!(queue.lock().sequences.len(), 1);
    }
}
