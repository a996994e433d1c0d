//! A stream of bytes in memory, to measure what a connection costs beside the kernel.

use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::event::Source;
use mio::{Interest, Registry, Token};

/// Gives the same bytes after every [`rewind`](MemoryStream::rewind), and keeps what was written since.
#[derive(Debug, Default)]
pub struct MemoryStream {
    arriving: Arc<[u8]>,
    taken: usize,
    written: Vec<u8>,
}

impl MemoryStream {
    /// Makes a stream that `arriving` is read from.
    #[must_use]
    pub fn new(arriving: &[u8]) -> MemoryStream {
        MemoryStream { arriving: arriving.into(), taken: 0, written: Vec::new() }
    }

    /// Makes the same bytes readable once more, and discards what was written.
    pub fn rewind(&mut self) {
        self.taken = 0;
        self.written.clear();
    }

    /// The bytes that were not read yet.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        &self.arriving[self.taken..]
    }

    /// Notes that `size` more bytes were read.
    pub fn advance(&mut self, size: usize) {
        self.taken = self.arriving.len().min(self.taken + size);
    }

    /// The bytes that were written.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.written
    }
}

impl Read for MemoryStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = self.waiting();
        if waiting.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let size = waiting.len().min(buffer.len());
        buffer[..size].copy_from_slice(&waiting[..size]);
        self.advance(size);
        Ok(size)
    }
}

impl Write for MemoryStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        for slice in slices {
            self.written.extend_from_slice(slice);
        }
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for MemoryStream {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}
