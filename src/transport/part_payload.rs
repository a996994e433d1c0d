//! The payload of a part of a message: owned, or borrowed and perhaps lent to the output.

use crate::protocol::mask::MaskingKey;
use crate::protocol::message::MessageRef;
use crate::transport::buffer::BufferPool;
use crate::transport::chunk::Chunk;
use crate::transport::output::{MIN_LENT_SIZE, Output};

/// What a part has as its payload.
pub(crate) trait PartPayload {
    fn as_slice(&self) -> &[u8];

    /// Masks it where it is; `false` if it must not be changed.
    fn mask(&mut self, key: MaskingKey) -> bool;

    /// Appends it to an output, behind its header.
    fn queue(self, output: &mut Output);

    /// Gives back the buffer of a payload that was copied.
    fn recycle(self, pool: &mut BufferPool);

    /// The payload, to be kept.
    fn into_chunk(self, pool: &mut BufferPool) -> Chunk;
}

impl PartPayload for Chunk {
    fn as_slice(&self) -> &[u8] {
        Chunk::as_slice(self)
    }

    fn mask(&mut self, key: MaskingKey) -> bool {
        Chunk::mask(self, key)
    }

    fn queue(self, output: &mut Output) {
        output.push_chunk(self);
    }

    fn recycle(self, pool: &mut BufferPool) {
        Chunk::recycle(self, pool);
    }

    fn into_chunk(self, _: &mut BufferPool) -> Chunk {
        self
    }
}

/// It is copied, unless it is large and in memory that is lent to the output.
impl PartPayload for MessageRef<'_> {
    fn as_slice(&self) -> &[u8] {
        self.as_bytes()
    }

    fn mask(&mut self, _: MaskingKey) -> bool {
        false
    }

    fn queue(self, output: &mut Output) {
        if self.len() < MIN_LENT_SIZE {
            output.cork().extend_from_slice(self.as_bytes());
        } else if !output.push_if_lent(self.as_bytes()) {
            let copy = self.into_chunk(&mut output.pool);
            output.push_chunk(copy);
        }
    }

    fn recycle(self, _: &mut BufferPool) {}

    fn into_chunk(self, pool: &mut BufferPool) -> Chunk {
        // A large buffer goes back to the pool once it is written, so it comes from there.
        let copy = pool.copy(self);
        Chunk::owned(copy.buffer, 0, copy.filled)
    }
}
