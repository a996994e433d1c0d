//! Buffers to receive into, shared by the connections of a thread.

/// Received bytes between two indices of a buffer that is initialised once and never zeroed again.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// An empty buffer of `size` bytes.
    pub(crate) fn with_size(size: usize) -> Input {
        Input { bytes: vec![0; size], start: 0, end: 0 }
    }

    /// A buffer that holds `bytes`.
    pub(crate) fn holding(bytes: Vec<u8>) -> Input {
        let end = bytes.len();
        Input { bytes, start: 0, end }
    }

    /// Room to receive into; call only when what was received before is decoded.
    pub(crate) fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Says that `size` bytes lie at the front.
    pub(crate) fn fill(&mut self, size: usize) {
        self.start = 0;
        self.end = size.min(self.bytes.len());
    }

    /// The bytes that are not decoded.
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Says that the first `size` of them are decoded. They stay where they are until the next [`fill`](Input::fill).
    pub(crate) fn consume(&mut self, size: usize) {
        self.start = (self.start + size).min(self.end);
    }

    /// Forgets what is not decoded.
    pub(crate) fn clear(&mut self) {
        self.start = self.end;
    }

    /// Whether everything is decoded.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The whole buffer, for what was lent from it.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes what is not decoded out, into a buffer of its own.
    pub(crate) fn take_rest(&mut self) -> Input {
        let rest = Input::holding(self.bytes[self.start..self.end].to_vec());
        self.start = self.end;
        rest
    }
}

/// Large buffers that have served and wait to serve again.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    idle: Vec<Vec<u8>>,
    bytes: usize,
    used: bool,
}

/// The most that the pool keeps: two messages of 16 MiB for each of two connections.
const MAX_POOLED_BYTES: usize = 64 << 20;

/// Smaller buffers are cheaper to allocate than to keep.
const MIN_POOLED_SIZE: usize = 64 << 10;

impl BufferPool {
    /// The best buffer for a message of `size` bytes of which `filled` have arrived: the smallest that fits, else the
    /// largest that is worth moving to.
    pub(crate) fn take(&mut self, filled: usize, size: u64) -> Option<Vec<u8>> {
        self.used = true;
        let best = |(_, buffer): &(usize, &Vec<u8>)| {
            let len = buffer.len() as u64;
            if len >= size { (0, len) } else { (1, u64::MAX - len) }
        };
        let (index, _) = self.idle.iter().enumerate().filter(|(_, b)| b.len() > filled).min_by_key(best)?;
        let buffer = self.idle.swap_remove(index);
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Keeps a buffer for its next use, or frees it.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        let size = buffer.capacity();
        if size >= MIN_POOLED_SIZE && self.bytes + size <= MAX_POOLED_BYTES {
            self.bytes += size;
            self.idle.push(buffer);
        }
    }

    /// Whether there is anything to [`trim`](BufferPool::trim).
    pub(crate) fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }

    /// Gives the memory back if nothing was taken since the last call.
    pub(crate) fn trim(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.idle = Vec::new();
            self.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_gives_the_smallest_that_fits_and_forgets_what_is_not_used() {
        let mut pool = BufferPool::default();
        for size in [100_000, 300_000, 200_000, 10] {
            pool.give(vec![0; size]);
        }
        assert_eq!(pool.take(0, 150_000).map(|b| b.len()), Some(200_000));
        assert_eq!(pool.take(0, 1 << 40).map(|b| b.len()), Some(300_000));
        assert_eq!(pool.take(100_000, 1 << 40), None);
        pool.trim();
        assert!(!pool.is_empty());
        pool.trim();
        assert!(pool.is_empty());
    }
}
