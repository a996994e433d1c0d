//! The stream of a blocking socket.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use crate::transport::stream::{ByteStream, ShutdownProgress};

/// A stream of the caller's choice. It reports no pending bytes: a read waits for data, and a write waits until the
/// stream has taken it.
#[derive(Debug)]
pub(crate) struct BlockingStream<S>(pub(crate) S);

impl<S: Read + Write> ByteStream for BlockingStream<S> {
    fn has_more(&self, size: usize, offered: usize) -> bool {
        size == offered
    }

    fn pending_bytes(&self) -> usize {
        0
    }

    /// Leaves that to the stream's owner.
    fn shutdown_write(&mut self) -> io::Result<ShutdownProgress> {
        Ok(ShutdownProgress::Done)
    }
}

impl<S: Read> Read for BlockingStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(buffers)
    }
}

impl<S: Write> Write for BlockingStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
