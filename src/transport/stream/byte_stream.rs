//! What an endpoint asks of the stream under it.

use std::io::{self, Read, Write};

/// A stream under an endpoint. It may have a layer of its own between the endpoint and the socket, such as encryption,
/// which holds bytes that were received and not yet read, or written and not yet sent.
pub(crate) trait ByteStream: Read + Write {
    /// Whether more can be read without another event, after a read took `size` of the `offered` bytes.
    fn has_more(&self, size: usize, offered: usize) -> bool;

    /// Bytes that were written and that the socket has not taken. [`flush`](Write::flush) offers them again.
    fn pending_bytes(&self) -> usize;

    /// Shuts the write side down: nothing more will be written.
    fn shutdown_write(&mut self) -> io::Result<ShutdownProgress>;

    /// Has the layer say that nothing more will be sent, as a shutdown does before it shuts the socket down.
    fn end_layer(&mut self) -> io::Result<ShutdownProgress> {
        Ok(ShutdownProgress::Done)
    }

    /// The bytes of memory that wait in the layer, beyond those that it always takes.
    fn memory(&self) -> usize {
        0
    }
}

/// How far the write side of a stream is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownProgress {
    /// It is.
    Done,
    /// The socket must take [`pending_bytes`](ByteStream::pending_bytes) first: to be called again once it has.
    #[cfg_attr(
        not(any(test, feature = "rustls-tls")),
        expect(dead_code, reason = "TCP has nothing to say before its FIN")
    )]
    Pending,
}
