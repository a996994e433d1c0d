//! The stream of a blocking socket.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use crate::transport::stream::byte_stream::{ByteStream, ShutdownProgress};

/// A stream of the caller's choice. It reports no pending bytes: a read waits for data, and a write waits until the
/// stream has taken it.
#[derive(Debug)]
pub(crate) struct BlockingStream<S> {
    /// `None` once it is returned to the caller, with which the socket's life ends.
    stream: Option<S>,
}

impl<S> BlockingStream<S> {
    pub(crate) fn new(stream: S) -> BlockingStream<S> {
        BlockingStream { stream: Some(stream) }
    }

    pub(crate) fn as_ref(&self) -> &S {
        self.stream.as_ref().expect(TAKEN)
    }

    pub(crate) fn as_mut(&mut self) -> &mut S {
        self.stream.as_mut().expect(TAKEN)
    }

    /// Takes the stream, after which nothing else may be called.
    pub(crate) fn take_stream(&mut self) -> S {
        self.stream.take().expect(TAKEN)
    }
}

/// Nobody can: the one who takes the stream owns the socket, and drops it.
const TAKEN: &str = "the stream is used after it was returned";

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
        self.as_mut().read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.as_mut().read_vectored(buffers)
    }
}

impl<S: Write> Write for BlockingStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.as_mut().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.as_mut().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.as_mut().flush()
    }
}
