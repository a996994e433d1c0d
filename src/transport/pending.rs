//! What waits at a connection: bytes that its socket did not take, and bytes that are not decoded.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use crate::transport::buffer::{BufferPool, Input};
use crate::transport::chunk::Chunk;
use crate::transport::stream::attempt::{Io, attempt};

/// At most 64 slices are written in one system call. More fill the stack; fewer need more calls. The kernel allows
/// 1,024.
pub(crate) const MAX_SLICES: usize = 64;

/// Small pieces are copied together into chunks of up to 64 KiB. Larger chunks move more bytes as they grow; smaller
/// ones need more slices.
const COALESCED_SIZE: usize = 64 << 10;

/// The output of a connection whose socket is full, and the input that is not decoded meanwhile. Most connections have
/// neither, and spend one pointer on it.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// The bytes of memory of the chunks.
    chunk_memory: usize,
    /// The latest ping that was not answered because the queue was long (RFC 6455 5.5.3 lets the others go).
    pub(crate) late_ping: Option<Vec<u8>>,
    /// Received bytes that are not decoded, because a drive reached its limits or reading must wait.
    pub(crate) carry: Option<Box<Input>>,
}

impl Pending {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes of memory that this takes.
    pub(crate) fn memory(&self) -> usize {
        let carry = self.carry.as_ref().map_or(0, |carry| carry.as_slice().len());
        size_of::<Pending>() + self.chunks.capacity() * size_of::<Chunk>() + self.chunk_memory + carry
    }

    /// Whether nothing waits any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.len == 0 && self.late_ping.is_none() && self.carry.is_none()
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if let Some(last) = self.chunks.back_mut() {
            let before = last.memory();
            if last.try_extend(bytes, COALESCED_SIZE) {
                self.chunk_memory += last.memory() - before;
                return;
            }
        }
        if !bytes.is_empty() {
            self.push_chunk(Chunk::owned(bytes.to_vec(), 0, bytes.len()));
        }
    }

    /// Appends a chunk as it is.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.len += chunk.as_slice().len();
        if !chunk.as_slice().is_empty() {
            self.push_chunk(chunk);
        }
    }

    fn push_chunk(&mut self, chunk: Chunk) {
        self.chunk_memory += chunk.memory();
        self.chunks.push_back(chunk);
    }

    /// Writes until everything is written or the stream is full. Returns how many bytes it took, and how that ended.
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
                    // A short write means a full socket: the poll reports when there is room.
                    if size < offered {
                        break;
                    }
                }
                Io::WouldBlock => break,
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
                self.chunk_memory -= done.memory();
                done.recycle(pool);
            }
        }
    }
}
