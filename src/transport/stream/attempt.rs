//! One attempt to read or write.

use std::io;

/// The outcome of one attempt to read or write.
#[derive(Debug)]
pub(crate) enum Io {
    /// This many bytes were read or written.
    Done(usize),
    /// Nothing can be read or written before the next readiness event.
    WouldBlock,
    /// The peer sends no more.
    End,
    /// The stream is broken.
    Failed(io::Error),
}

/// Reads or writes, again whenever a signal interrupts it.
pub(crate) fn attempt(mut operation: impl FnMut() -> io::Result<usize>) -> Io {
    loop {
        match operation() {
            // The end of the stream, for a read. A write that takes nothing never will.
            Ok(0) => return Io::End,
            Ok(size) => return Io::Done(size),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Io::WouldBlock,
            Err(error) => return Io::Failed(error),
        }
    }
}
