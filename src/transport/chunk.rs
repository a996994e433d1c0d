//! A piece of output, owned or shared with other connections.

use std::ops::Range;
use std::sync::Arc;

use crate::protocol::message::CowMessage;
use crate::transport::budget::MemoryBudget;
use crate::transport::buffer::BufferPool;
use crate::transport::shared_bytes::SharedBytes;

/// Bytes on their way out, owned or shared with other connections.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    data: Data,
    start: usize,
    end: usize,
}

#[derive(Clone, Debug)]
enum Data {
    Owned(Vec<u8>),
    Shared(SharedBytes),
    /// A part of a message that the connection sends several times.
    Part(Arc<[u8]>),
}

impl Chunk {
    /// The bytes from `start` to `end` of `buffer`.
    pub(crate) fn owned(buffer: Vec<u8>, start: usize, end: usize) -> Chunk {
        Chunk { data: Data::Owned(buffer), start, end }
    }

    /// Bytes that other connections send as well.
    pub(crate) fn shared(bytes: SharedBytes) -> Chunk {
        let end = bytes.len();
        Chunk { data: Data::Shared(bytes), start: 0, end }
    }

    /// Some of the bytes of a message that the connection sends several times.
    pub(crate) fn part(bytes: Arc<[u8]>, range: Range<usize>) -> Chunk {
        Chunk { data: Data::Part(bytes), start: range.start, end: range.end }
    }

    /// The chunk, leaving an empty one.
    pub(crate) fn take(&mut self) -> Chunk {
        std::mem::replace(self, Chunk::owned(Vec::new(), 0, 0))
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.data {
            Data::Owned(bytes) => &bytes[self.start..self.end],
            Data::Shared(bytes) => &bytes[self.start..self.end],
            Data::Part(bytes) => &bytes[self.start..self.end],
        }
    }

    /// The bytes of memory that this connection takes for it. Those that it shares with others are
    /// [charged](SharedBytes::charge) once.
    pub(crate) fn memory(&self) -> usize {
        match &self.data {
            Data::Owned(buffer) => buffer.capacity(),
            Data::Shared(_) => 0,
            Data::Part(bytes) => bytes.len(),
        }
    }

    /// Charges the memory that it shares with others to `budget`.
    pub(crate) fn charge(&self, budget: &Arc<MemoryBudget>) {
        if let Data::Shared(bytes) = &self.data {
            bytes.charge(budget);
        }
    }

    /// Forgets the first `size` bytes.
    pub(crate) fn advance(&mut self, size: usize) {
        self.start = (self.start + size).min(self.end);
    }

    /// The buffer, if it was the chunk's own.
    pub(crate) fn recycle(self, pool: &mut BufferPool) {
        if let Data::Owned(buffer) = self.data {
            pool.give(buffer);
        }
    }

    /// Appends a copy of `bytes`, if the chunk owns its buffer and stays below `limit`; `false` if it does not.
    pub(crate) fn try_extend(&mut self, bytes: &[u8], limit: usize) -> bool {
        match &mut self.data {
            Data::Owned(buffer) if self.end == buffer.len() && buffer.len() + bytes.len() <= limit => {
                buffer.extend_from_slice(bytes);
                self.end = buffer.len();
                true
            }
            _ => false,
        }
    }
}

impl From<CowMessage<'_>> for Chunk {
    /// The payload: moved if it is owned, shared if it is shared, else copied.
    fn from(message: CowMessage<'_>) -> Chunk {
        match message {
            CowMessage::SharedText(text) => Chunk::shared(SharedBytes::from(Arc::<[u8]>::from(text))),
            CowMessage::SharedBinary(bytes) => Chunk::shared(bytes.into()),
            other => {
                let bytes = other.into_message().into_bytes();
                let end = bytes.len();
                Chunk::owned(bytes, 0, end)
            }
        }
    }
}
