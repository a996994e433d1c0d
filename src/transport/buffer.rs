//! Buffers to receive into, shared by the connections of a thread.

use std::fmt;
use std::ops::Range;

use crate::protocol::frame::MAX_HEADER_SIZE;
use crate::protocol::message::{Assembled, MessageRef};

/// A large payload begins at this offset in a page. It is a multiple of a cache line, which makes unmasking and sending
/// faster. And it is far from the page's start, where the kernel's pieces of a stream mostly begin: some processors,
/// such as AMD's Zen 3, copy many times slower to an address whose offset in its page is 1 to 31 bytes behind that of
/// the source.
const PAYLOAD_OFFSET: usize = PAGE / 4 * 3 + 64;

/// Processors compare addresses modulo 4 KiB before they compare them in full.
const PAGE: usize = 4096;

/// Received bytes between two indices of a buffer that is initialised once and not zeroed before each use.
pub(crate) struct Input {
    bytes: Vec<u8>,
    /// Where received bytes begin.
    front: usize,
    start: usize,
    end: usize,
}

/// Omits the bytes, which may be those of several connections.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("size", &self.size()).field("start", &self.start).field("end", &self.end).finish()
    }
}

impl Input {
    /// An empty buffer of `size` bytes. The payload of a frame of more than 64 KiB begins at [`PAYLOAD_OFFSET`].
    pub(crate) fn with_size(size: usize) -> Input {
        let mut bytes = vec![0; PAGE + size];
        let front = (PAYLOAD_OFFSET - MAX_HEADER_SIZE).wrapping_sub(bytes.as_ptr().addr()) % PAGE;
        bytes.truncate(front + size);
        Input { bytes, front, start: front, end: front }
    }

    /// A buffer that holds `bytes`.
    pub(crate) fn holding(bytes: Vec<u8>) -> Input {
        let end = bytes.len();
        Input { bytes, front: 0, start: 0, end }
    }

    /// How many bytes it has room for.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() - self.front
    }

    /// The bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Has room for `size` bytes from now on. What it holds is lost. Its memory stays what it was, for it is one of few.
    pub(crate) fn resize(&mut self, size: usize) {
        self.bytes.resize(self.front + size, 0);
        (self.start, self.end) = (self.front, self.front);
    }

    /// Room to receive up to `max` bytes into. To be called only when everything that was received is decoded.
    pub(crate) fn spare_mut(&mut self, max: usize) -> &mut [u8] {
        let end = self.front.saturating_add(max).min(self.bytes.len());
        &mut self.bytes[self.front..end]
    }

    /// Notes that `size` bytes were received.
    pub(crate) fn fill(&mut self, size: usize) {
        self.start = self.front;
        self.end = (self.front + size).min(self.bytes.len());
    }

    /// The bytes that are not decoded.
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Notes that `size` bytes more are decoded. They stay where they are until the next [`fill`](Input::fill).
    pub(crate) fn consume(&mut self, size: usize) {
        self.start = (self.start + size).min(self.end);
    }

    /// Takes the next `size` bytes, which are decoded with that.
    #[inline]
    pub(crate) fn take_front(&mut self, size: usize) -> &mut [u8] {
        let start = self.start;
        self.consume(size);
        &mut self.bytes[start..self.start]
    }

    /// Where the last `size` bytes are of those that are decoded.
    pub(crate) fn last_decoded(&self, size: usize) -> Range<usize> {
        self.start.saturating_sub(size)..self.start
    }

    /// The bytes that are not decoded.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether everything is decoded.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The whole buffer, decoded bytes included.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Moves the bytes that are not decoded to a buffer of their own.
    pub(crate) fn take_rest(&mut self) -> Input {
        let rest = Input::holding(self.bytes[self.start..self.end].to_vec());
        self.start = self.end;
        rest
    }
}

/// Large buffers to be used again. A fresh one costs a page fault for every 4 KiB, more than to receive into it.
#[derive(Debug)]
pub(crate) struct BufferPool {
    idle: Vec<Vec<u8>>,
    bytes: usize,
    /// The pool keeps at most this many bytes.
    limit: usize,
    /// The least that was idle since the last [`trim`](BufferPool::trim): these bytes were not needed.
    unneeded: usize,
}

/// The pool keeps at most eight of the largest messages: one on its way in and one on its way out for each of four
/// connections. More keeps more memory on each thread after a burst of large messages; fewer allocates more often.
const MAX_POOLED_MESSAGES: usize = 8;

/// The pool keeps at most 128 MiB, however large messages may be.
const MAX_POOLED_BYTES: usize = 128 << 20;

/// A buffer of less than 64 KiB is freed, which costs less than to search for it.
const MIN_POOLED_SIZE: usize = 64 << 10;

impl Default for BufferPool {
    fn default() -> BufferPool {
        BufferPool { idle: Vec::new(), bytes: 0, limit: MAX_POOLED_BYTES, unneeded: 0 }
    }
}

impl BufferPool {
    /// A pool for messages of at most `max_message_size` bytes.
    pub(crate) fn for_messages(max_message_size: usize) -> BufferPool {
        let limit = max_message_size.saturating_mul(MAX_POOLED_MESSAGES).min(MAX_POOLED_BYTES);
        BufferPool { limit, ..BufferPool::default() }
    }

    /// The bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The best buffer for a message of `size` bytes of which `filled` have arrived: the smallest that fits, else the
    /// largest that is worth moving to.
    pub(crate) fn take(&mut self, filled: usize, size: u64) -> Option<Vec<u8>> {
        let best = |(_, buffer): &(usize, &Vec<u8>)| {
            let len = buffer.len() as u64;
            if len >= size { (0, len) } else { (1, u64::MAX - len) }
        };
        let (index, _) = self.idle.iter().enumerate().filter(|(_, b)| b.len() > filled).min_by_key(best)?;
        let buffer = self.remove(index);
        self.unneeded = self.unneeded.min(self.bytes);
        Some(buffer)
    }

    /// A copy of a message in a buffer of its own.
    pub(crate) fn copy(&mut self, message: MessageRef<'_>) -> Assembled {
        let payload = message.as_bytes();
        let size = payload.len();
        // The application may keep the copy, with all the memory of its buffer.
        let similar = size..=size.saturating_mul(2);
        let index = self.idle.iter().position(|buffer| similar.contains(&buffer.len()));
        let mut buffer = index.map(|index| self.remove(index)).unwrap_or_default();
        self.unneeded = self.unneeded.min(self.bytes);
        let reused = size.min(buffer.len());
        let (front, back) = payload.split_at(reused);
        buffer[..reused].copy_from_slice(front);
        buffer.extend_from_slice(back);
        Assembled { buffer, filled: size, is_text: matches!(message, MessageRef::Text(_)) }
    }

    /// Keeps a buffer for its next use, or frees it. It replaces smaller ones if the pool is full.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        let size = buffer.capacity();
        if !(MIN_POOLED_SIZE..=self.limit).contains(&size) {
            return;
        }
        while self.bytes + size > self.limit {
            match self.smallest() {
                Some(index) if self.idle[index].capacity() < size => drop(self.remove(index)),
                _ => return,
            }
        }
        self.bytes += size;
        self.idle.push(buffer);
    }

    /// Whether there is anything to [`trim`](BufferPool::trim).
    pub(crate) fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }

    /// Frees all buffers.
    pub(crate) fn clear(&mut self) {
        self.idle.clear();
        (self.bytes, self.unneeded) = (0, 0);
    }

    /// Frees the buffers that were not needed since the last call.
    pub(crate) fn trim(&mut self) {
        while let Some(index) = self.smallest()
            && self.idle[index].capacity() <= self.unneeded
        {
            self.unneeded -= self.remove(index).capacity();
        }
        self.unneeded = self.bytes;
    }

    fn smallest(&self) -> Option<usize> {
        let sizes = self.idle.iter().map(Vec::capacity).enumerate();
        sizes.min_by_key(|(_, size)| *size).map(|(index, _)| index)
    }

    fn remove(&mut self, index: usize) -> Vec<u8> {
        let buffer = self.idle.swap_remove(index);
        self.bytes -= buffer.capacity();
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{FrameHeader, Opcode};

    #[test]
    fn a_large_payload_begins_with_a_cache_line_far_into_a_page() {
        let mut input = Input::with_size(1_000);
        assert_eq!(input.spare_mut(usize::MAX).len(), 1_000);
        assert_eq!(input.spare_mut(30).len(), 30);
        assert!(input.is_empty());
        let mut header = Vec::new();
        FrameHeader::new(Opcode::Binary, 1 << 20, Some([0; 4])).encode(&mut header);
        input.spare_mut(usize::MAX)[..header.len()].copy_from_slice(&header);
        input.fill(1_000);
        assert_eq!(input.filled_mut().len(), 1_000);
        assert!(input.filled_mut().starts_with(&header));
        input.consume(header.len());
        let begin = input.filled_mut().as_ptr().addr();
        assert_eq!(begin % 64, 0);
        assert!((PAGE / 2..PAGE - 512).contains(&(begin % PAGE)), "{begin:#x}");
    }

    #[test]
    fn the_pool_gives_the_smallest_that_fits() {
        let mut pool = BufferPool::default();
        for size in [100_000, 300_000, 200_000, 10] {
            pool.give(vec![0; size]);
        }
        assert_eq!(pool.take(0, 150_000).map(|b| b.len()), Some(200_000));
        assert_eq!(pool.take(0, 1 << 40).map(|b| b.len()), Some(300_000));
        assert_eq!(pool.take(100_000, 1 << 40), None);
    }

    #[test]
    fn the_pool_forgets_what_is_not_needed() {
        let mut pool = BufferPool::default();
        for _ in 0..4 {
            pool.give(vec![0; 100_000]);
        }
        // All of them may have been needed before the first look.
        pool.trim();
        let buffer = pool.take(0, 100_000).expect("four");
        pool.give(buffer);
        pool.trim();
        assert_eq!(pool.bytes, 100_000, "three were idle throughout");
        pool.trim();
        assert!(pool.is_empty());
    }

    /// Senders give buffers of any size, however small the messages that are received.
    #[test]
    fn the_pool_keeps_no_more_than_the_largest_messages_need() {
        for (max_message_size, kept) in [(4096, 0), (60_000, 6), (1 << 20, 104), (usize::MAX, 1677)] {
            let mut pool = BufferPool::for_messages(max_message_size);
            for _ in 0..2000 {
                pool.give(Vec::with_capacity(80_000));
            }
            assert_eq!((pool.idle.len(), pool.bytes()), (kept, kept * 80_000), "{max_message_size}");
        }
    }

    #[test]
    fn a_larger_buffer_takes_the_place_of_smaller_ones() {
        let mut pool = BufferPool::default();
        for size in [MAX_POOLED_BYTES - 200_000, 100_000, 100_000, 200_000, 70_000] {
            pool.give(Vec::with_capacity(size));
        }
        assert_eq!((pool.idle.len(), pool.bytes), (2, MAX_POOLED_BYTES));
    }
}
