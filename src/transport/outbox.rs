//! What a connection's socket did not take yet.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::ops::Range;
use std::sync::Arc;

use crate::transport::buffer::{BufferPool, Input};
use crate::transport::stream::{Io, attempt};

/// The most slices that leave in one system call; the kernel's own limit is 1,024.
pub(crate) const MAX_SLICES: usize = 64;

/// Small pieces are copied together into chunks of up to this size.
const COALESCED_SIZE: usize = 64 << 10;

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
    Shared(Arc<[u8]>),
}

impl Chunk {
    /// The bytes from `start` to `end` of `buffer`.
    pub(crate) fn owned(buffer: Vec<u8>, start: usize, end: usize) -> Chunk {
        Chunk { data: Data::Owned(buffer), start, end }
    }

    /// Bytes that other connections send as well.
    pub(crate) fn shared(bytes: Arc<[u8]>) -> Chunk {
        let end = bytes.len();
        Chunk { data: Data::Shared(bytes), start: 0, end }
    }

    /// Some of the bytes that other connections send as well.
    pub(crate) fn part(bytes: Arc<[u8]>, range: Range<usize>) -> Chunk {
        Chunk { data: Data::Shared(bytes), start: range.start, end: range.end }
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
}

/// The queue of a connection whose socket is full, and what of its input waits with it. A connection that keeps up has
/// none, and so spends one pointer on all that.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// The latest ping that was not answered because the queue was long (RFC 6455 5.5.3 lets the others go).
    pub(crate) late_ping: Option<Vec<u8>>,
    /// Received bytes that are not decoded, because the connection had its turn or its output stands too high.
    pub(crate) carry: Option<Box<Input>>,
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.len == 0 && self.late_ping.is_none() && self.carry.is_none()
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if let Some(Chunk { data: Data::Owned(last), end, .. }) = self.chunks.back_mut()
            && *end == last.len()
            && last.len() + bytes.len() <= COALESCED_SIZE
        {
            last.extend_from_slice(bytes);
            *end = last.len();
            return;
        }
        if !bytes.is_empty() {
            self.chunks.push_back(Chunk::owned(bytes.to_vec(), 0, bytes.len()));
        }
    }

    /// Appends a chunk as it is.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.len += chunk.as_slice().len();
        if !chunk.as_slice().is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// Writes until everything is out or the socket is full: how many bytes went, and how it ended.
    pub(crate) fn write_to(&mut self, stream: &mut impl Write, pool: &mut BufferPool) -> (usize, io::Result<()>) {
        let mut total = 0;
        while self.len > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut offered = 0;
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk.as_slice());
                offered += chunk.as_slice().len();
                count += 1;
            }
            match attempt(|| stream.write_vectored(&slices[..count])) {
                Io::Done(size) => {
                    self.advance(size, pool);
                    total += size;
                    // A short write means a full socket, which will report when there is room.
                    if size < offered {
                        break;
                    }
                }
                Io::NotNow => break,
                Io::End => return (total, Err(io::ErrorKind::WriteZero.into())),
                Io::Failed(error) => return (total, Err(error)),
            }
        }
        (total, Ok(()))
    }

    fn advance(&mut self, mut size: usize, pool: &mut BufferPool) {
        self.len -= size;
        while let Some(first) = self.chunks.front_mut() {
            let len = first.as_slice().len();
            if size < len {
                first.advance(size);
                return;
            }
            size -= len;
            if let Some(done) = self.chunks.pop_front() {
                done.recycle(pool);
            }
        }
    }
}
