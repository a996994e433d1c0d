//! The messages of a connection that wait for the end of the one that is sent in parts (RFC 6455 5.4: "The fragments of one
//! message MUST NOT be interleaved between the fragments of another message").

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::Last;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{self, FrameHeader, Opcode};
use crate::transport::chunk::Chunk;
use crate::transport::parts_state::PartsState;
use crate::transport::shared_frame::SharedFrame;

/// Payloads of less than 16 KiB are copied together. Larger copies more; smaller takes more memory for each message.
const MAX_JOINED_SIZE: usize = 16 << 10;

/// A piece of a message that is sent in parts.
#[derive(Debug)]
pub(crate) struct Part<P = Chunk> {
    /// The message that it belongs to.
    pub(crate) message: Arc<PartsState>,
    /// Text or binary, of every part.
    pub(crate) opcode: Opcode,
    pub(crate) payload: P,
    pub(crate) last: Last,
    pub(crate) compression: Compression,
}

impl<P> Part<P> {
    /// The part with another payload.
    pub(crate) fn with<Q>(self, change: impl FnOnce(P) -> Q) -> Part<Q> {
        let Part { message, opcode, payload, last, compression } = self;
        Part { message, opcode, payload: change(payload), last, compression }
    }
}

/// What waits, in order.
#[derive(Debug)]
pub(crate) enum HeldItem {
    /// Whole frames, not masked and not compressed.
    Frames { bytes: Vec<u8>, compression: Compression },
    /// A message with a large payload.
    Message { opcode: Opcode, payload: Chunk, compression: Compression },
    /// A message that other connections send as well.
    Shared(SharedFrame),
    /// The first part of another message that is sent in parts, whose writer waits for its turn.
    Part(Part),
}

impl HeldItem {
    /// The bytes that count as queued.
    fn size(&self) -> usize {
        match self {
            HeldItem::Frames { bytes, .. } => bytes.len(),
            HeldItem::Message { payload, .. } | HeldItem::Part(Part { payload, .. }) => framed_size(payload),
            HeldItem::Shared(frame) => frame.plain().len(),
        }
    }

    /// The bytes of memory that it takes, beside those in the queue itself, and that it shares with no other.
    fn memory(&self) -> usize {
        match self {
            HeldItem::Frames { bytes, .. } => bytes.capacity(),
            HeldItem::Message { payload, .. } | HeldItem::Part(Part { payload, .. }) => payload.memory(),
            HeldItem::Shared(_) => 0,
        }
    }
}

fn framed_size(payload: &Chunk) -> usize {
    let size = payload.as_slice().len();
    FrameHeader::new(Opcode::Binary, size as u64, None).size() + size
}

/// What became of the messages that waited for the end of one in parts.
#[derive(Debug)]
pub(crate) enum Released {
    /// They are queued, or wait for the end of another message in parts.
    All,
    /// They are queued, and this close frame is next.
    UpToClose(Option<CloseFrame>),
    /// One of them can not be compressed, so that the connection must be failed.
    Failed,
}

/// The message that is sent in parts, and what waits for its end.
#[derive(Debug)]
pub(crate) struct Held {
    /// The message under way.
    pub(crate) message: Arc<PartsState>,
    items: VecDeque<HeldItem>,
    bytes: usize,
    item_memory: usize,
    /// The bytes of parts that were sent since these last were enough to count as progress.
    pub(crate) sent: usize,
    /// The close frame that follows.
    pub(crate) close: Option<Option<CloseFrame>>,
}

impl Held {
    pub(crate) fn new(message: Arc<PartsState>) -> Held {
        Held { message, items: VecDeque::new(), bytes: 0, item_memory: 0, sent: 0, close: None }
    }

    /// The bytes that count as queued. A close frame counts, so that what waits for the end of the message is never
    /// nothing: the time that it may take is limited.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + usize::from(self.close.is_some())
    }

    pub(crate) fn memory(&self) -> usize {
        size_of::<Held>() + self.items.capacity() * size_of::<HeldItem>() + self.item_memory
    }

    /// The message that the handler has begun and not ended: the one under way, or the last that waits.
    pub(crate) fn of_handler(&self) -> Option<&Arc<PartsState>> {
        let waiting = self.items.iter().rev().find_map(|item| match item {
            HeldItem::Part(part) if part.message.is_of_handler => Some(part),
            _ => None,
        });
        match waiting {
            Some(part) => (part.last == Last::No).then_some(&part.message),
            None => Some(&self.message).filter(|message| message.is_of_handler),
        }
    }

    pub(crate) fn push(&mut self, item: HeldItem) {
        self.bytes += item.size();
        self.item_memory += item.memory();
        self.items.push_back(item);
        self.message.set_held(self.bytes);
    }

    /// Appends a copy of a message, to the last item if that is like it.
    pub(crate) fn push_copy(&mut self, opcode: Opcode, payload: &[u8], compression: Compression) {
        if payload.len() >= MAX_JOINED_SIZE {
            let payload = Chunk::owned(payload.to_vec(), 0, payload.len());
            return self.push(HeldItem::Message { opcode, payload, compression });
        }
        if let Some(HeldItem::Frames { bytes, compression: last }) = self.items.back_mut()
            && *last == compression
        {
            let (size, memory) = (bytes.len(), bytes.capacity());
            frame::encode(bytes, opcode, payload, None);
            self.bytes += bytes.len() - size;
            self.item_memory += bytes.capacity() - memory;
            return self.message.set_held(self.bytes);
        }
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, opcode, payload, None);
        self.push(HeldItem::Frames { bytes, compression });
    }

    pub(crate) fn pop(&mut self) -> Option<HeldItem> {
        let item = self.items.pop_front()?;
        self.uncount(&item);
        Some(item)
    }

    fn uncount(&mut self, item: &HeldItem) {
        self.bytes -= item.size();
        self.item_memory -= item.memory();
    }

    /// Has another message be the one under way.
    pub(crate) fn begin(&mut self, message: Arc<PartsState>) {
        message.set_held(self.bytes);
        self.message = message;
    }

    /// Has the writers of all messages see that nothing more of these is sent.
    pub(crate) fn end(&self) {
        self.messages().for_each(|message| message.end());
    }

    /// As [`end`](Held::end), because the peer takes too little.
    pub(crate) fn end_too_slow(&self) {
        self.messages().for_each(|message| message.end_too_slow());
    }

    fn messages(&self) -> impl Iterator<Item = &Arc<PartsState>> {
        let waiting = self.items.iter().filter_map(|item| match item {
            HeldItem::Part(part) => Some(&part.message),
            _ => None,
        });
        std::iter::once(&self.message).chain(waiting)
    }

    /// Forgets the first part of a message whose turn has not come.
    pub(crate) fn forget(&mut self, message: &Arc<PartsState>) {
        let found = self
            .items
            .iter()
            .position(|item| matches!(item, HeldItem::Part(part) if Arc::ptr_eq(&part.message, message)));
        if let Some(item) = found.and_then(|index| self.items.remove(index)) {
            self.uncount(&item);
            self.message.set_held(self.bytes);
        }
    }
}

impl Drop for Held {
    /// The messages end with what holds them: their writers wait for nothing.
    fn drop(&mut self) {
        self.end();
    }
}
