//! One attempt to read or write.

use std::io;

/// What became of an attempt to read or write, without the errors that only mean "not now".
#[derive(Debug)]
pub(crate) enum Io {
    /// So many bytes went through.
    Done(usize),
    /// Nothing can go through before the next readiness event.
    WouldBlock,
    /// The peer sends no more.
    End,
    /// The stream is broken.
    Failed(io::Error),
}

/// Runs a read or write again while a signal interrupts it.
pub(crate) fn attempt(mut operation: impl FnMut() -> io::Result<usize>) -> Io {
    loop {
        match operation() {
            // For a read the end of the stream; a write that takes nothing will never take anything.
            Ok(0) => return Io::End,
            Ok(size) => return Io::Done(size),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Io::WouldBlock,
            Err(error) => return Io::Failed(error),
        }
    }
}
