//! A piece of output, owned or shared with other connections.

use std::ops::Range;
use std::sync::Arc;

use crate::protocol::mask::{self, MaskingKey};
use crate::protocol::message::CowMessage;
use crate::transport::budget::MemoryBudget;
use crate::transport::buffer::BufferPool;
use crate::transport::parts_state::PartsState;
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
    /// Owned, until it is sent.
    OfWriter(WriterBytes),
}

/// The payload of a part, whose buffer goes back to the writer of the message.
#[derive(Clone, Debug)]
struct WriterBytes {
    bytes: Vec<u8>,
    message: Arc<PartsState>,
}

impl Drop for WriterBytes {
    fn drop(&mut self) {
        self.message.give_buffer(std::mem::take(&mut self.bytes));
    }
}

impl Chunk {
    /// The bytes from `start` to `end` of `buffer`.
    pub(crate) fn owned(buffer: Vec<u8>, start: usize, end: usize) -> Chunk {
        Chunk { data: Data::Owned(buffer), start, end }
    }

    /// The payload of a part of a message. Its buffer goes back to the writer.
    pub(crate) fn of_writer(bytes: Vec<u8>, message: Arc<PartsState>) -> Chunk {
        let end = bytes.len();
        Chunk { data: Data::OfWriter(WriterBytes { bytes, message }), start: 0, end }
    }

    /// Masks the bytes where they are; `false` if they are not this connection's own.
    pub(crate) fn mask(&mut self, key: MaskingKey) -> bool {
        let (start, end) = (self.start, self.end);
        match &mut self.data {
            Data::Owned(bytes) | Data::OfWriter(WriterBytes { bytes, .. }) => mask::apply(&mut bytes[start..end], key),
            Data::Shared(_) | Data::Part(_) => return false,
        }
        true
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
            Data::OfWriter(WriterBytes { bytes, .. }) => &bytes[self.start..self.end],
        }
    }

    /// The bytes of memory that this connection takes for it. Those that it shares with others are
    /// [charged](SharedBytes::charge) once.
    pub(crate) fn memory(&self) -> usize {
        match &self.data {
            Data::Owned(buffer) | Data::OfWriter(WriterBytes { bytes: buffer, .. }) => buffer.capacity(),
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
