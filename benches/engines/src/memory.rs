//! A stream in memory with two owners, for engines that do not give access to their stream.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use threadbare::bench_harness::MemoryStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream in memory with several owners.
#[derive(Clone)]
pub(crate) struct SharedStream(pub(crate) Rc<RefCell<MemoryStream>>);

impl SharedStream {
    pub(crate) fn new(arriving: &[u8]) -> SharedStream {
        SharedStream(Rc::new(RefCell::new(MemoryStream::new(arriving))))
    }

    pub(crate) fn rewind(&self) {
        self.0.borrow_mut().rewind();
    }

    pub(crate) fn written(&self) -> Vec<u8> {
        self.0.borrow().written().to_vec()
    }
}

impl Read for SharedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Write for SharedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.borrow_mut().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Like a socket: as much as fits, into memory that was not zeroed.
        let mut memory = self.0.borrow_mut();
        let waiting = memory.waiting();
        let size = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..size]);
        memory.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.borrow_mut().write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.borrow_mut().write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
