//! What waits at a connection: bytes that its socket did not take, and bytes that are not decoded.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use crate::transport::buffer::{BufferPool, Input};
use crate::transport::chunk::Chunk;
use crate::transport::held::Held;
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
    /// Bytes that the stream took since [`has_progressed`](Pending::has_progressed) last returned `true`.
    taken: usize,
    /// The latest ping that was not answered because the queue was long (RFC 6455 5.5.3 lets the others go).
    pub(crate) late_ping: Option<Vec<u8>>,
    /// Received bytes that are not decoded, because a drive reached its limits or reading must wait.
    pub(crate) carry: Option<Box<Input>>,
    /// What waits for the end of the message that is sent in parts. Present while one is.
    pub(crate) held: Option<Box<Held>>,
    /// Nothing is written, as if the socket were full: another process is about to go on with the connection.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) is_paused: bool,
}

impl Pending {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of messages that wait for the end of the one that is sent in parts.
    pub(crate) fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes())
    }

    /// The bytes of memory that this takes.
    pub(crate) fn memory(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| held.memory());
        size_of::<Pending>() + self.chunks.capacity() * size_of::<Chunk>() + self.chunk_memory + self.undecoded() + held
    }

    /// The bytes of memory of the input that is not decoded.
    pub(crate) fn undecoded(&self) -> usize {
        self.carry.as_ref().map_or(0, |carry| carry.as_slice().len())
    }

    /// Whether nothing waits any more.
    pub(crate) fn is_idle(&self) -> bool {
        let is_empty = self.len == 0 && self.late_ping.is_none() && self.carry.is_none() && self.held.is_none();
        is_empty && !self.is_paused()
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    #[cfg(not(all(target_os = "linux", feature = "handover")))]
    #[inline(always)]
    pub(super) fn is_paused(&self) -> bool {
        false
    }

    /// Whether output may be written past this: nothing waits.
    #[inline(always)]
    pub(super) fn may_be_passed(&self) -> bool {
        self.len == 0 && !self.is_paused()
    }

    /// The bytes that wait, in order.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(Chunk::as_slice)
    }

    /// Notes that the socket took `size` bytes that waited in the stream's own layer.
    pub(crate) fn note_taken(&mut self, size: usize) {
        self.taken = self.taken.saturating_add(size);
    }

    /// Whether the stream took at least `size` bytes since this last returned `true`, or everything. `layer_is_empty` says
    /// whether nothing waits in the stream's own layer.
    pub(crate) fn has_progressed(&mut self, size: usize, layer_is_empty: bool) -> bool {
        let progressed = (self.len == 0 && layer_is_empty) || self.taken >= size;
        if progressed {
            self.taken = 0;
        }
        progressed
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
        self.taken = self.taken.saturating_add(size);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that has room for so many bytes.
    struct Room(usize);

    impl Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let size = self.0.min(bytes.len());
            self.0 -= size;
            if size == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(size) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The poll reports room that a socket has already only once, so one call must write all that the socket takes.
    #[test]
    fn a_socket_with_room_is_given_everything_in_one_call() {
        for count in [MAX_SLICES - 1, MAX_SLICES, MAX_SLICES + 1, 3 * MAX_SLICES, 3 * MAX_SLICES + 7] {
            let (mut pending, mut pool) = (Pending::default(), BufferPool::default());
            (0..count).for_each(|_| pending.push(Chunk::owned(vec![7; 100], 0, 100)));
            let (written, result) = pending.write_to(&mut Everything, &mut pool);
            assert!(result.is_ok());
            assert_eq!((written, pending.len()), (count * 100, 0), "{count} chunks");
        }
    }

    /// A socket that has room for everything.
    struct Everything;

    impl Write for Everything {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn small_steps_count_as_progress_together() {
        let (mut pending, mut pool) = (Pending::default(), BufferPool::default());
        assert!(pending.has_progressed(4, true), "nothing waits");
        pending.push_bytes(&[7; 15]);
        let mut left = 15;
        for (room, progressed) in [(1, false), (2, false), (1, true), (3, false), (0, false), (1, true), (5, true)] {
            let (taken, result) = pending.write_to(&mut Room(room), &mut pool);
            left -= room;
            assert_eq!((taken, pending.len(), result.is_ok()), (room, left, true));
            assert_eq!(pending.has_progressed(4, true), progressed, "{room} more, {left} left");
        }
        let (taken, _) = pending.write_to(&mut Room(3), &mut pool);
        assert_eq!((taken, pending.len(), pending.has_progressed(4, true)), (2, 0, true), "all of it");
    }
}
