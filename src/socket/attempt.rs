//! Reading and writing a head, as far as the stream is ready.

use std::io::{self, Read, Write};

use crate::socket::error::SocketError;
use crate::transport::stream::attempt::{Io, attempt};

/// One read takes at most 4 KiB, more than most heads have. Larger uses more of the stack; smaller needs more reads.
const READ_SIZE: usize = 4 << 10;

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// Bytes. There may be more where these filled the buffer.
    Bytes { more: bool },
    /// The peer sends no more.
    End,
}

/// Reads once, and appends to `received`.
pub(super) fn read_more(stream: &mut impl Read, received: &mut Vec<u8>) -> Result<Arrived, SocketError> {
    let mut chunk = [0; READ_SIZE];
    match attempt(|| stream.read(&mut chunk)) {
        Io::Done(size) => {
            received.extend_from_slice(&chunk[..size]);
            Ok(Arrived::Bytes { more: size == READ_SIZE })
        }
        Io::WouldBlock => Err(SocketError::Timeout),
        Io::End => Ok(Arrived::End),
        Io::Failed(error) => Err(SocketError::Io(error)),
    }
}

/// Writes `bytes` from the first that is not `written`, and counts them there.
pub(super) fn write_rest(stream: &mut impl Write, bytes: &[u8], written: &mut usize) -> Result<(), SocketError> {
    while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
        match attempt(|| stream.write(rest)) {
            Io::Done(size) => *written += size,
            Io::WouldBlock => return Err(SocketError::Timeout),
            Io::End => return Err(SocketError::Io(io::ErrorKind::WriteZero.into())),
            Io::Failed(error) => return Err(SocketError::Io(error)),
        }
    }
    flush(stream)
}

/// Has a stream pass on what it holds back, as one with encryption or a buffer does.
pub(super) fn flush(stream: &mut impl Write) -> Result<(), SocketError> {
    match attempt(|| stream.flush().map(|()| 1)) {
        Io::Failed(error) => Err(SocketError::Io(error)),
        Io::WouldBlock => Err(SocketError::Timeout),
        Io::Done(_) | Io::End => Ok(()),
    }
}
