//! How a message ended whose source a thread of the library read.

use std::io;

/// How a message ended that [`Socket::send_stream_then`](crate::Socket::send_stream_then) or
/// [`Peer::start_stream_then`](crate::Peer::start_stream_then) began.
///
/// ```
/// use threadbare::StreamOutcome;
///
/// fn describe(outcome: &StreamOutcome) -> String {
///     match outcome {
///         StreamOutcome::Sent(size) => format!("{size} bytes"),
///         StreamOutcome::SourceFailed(error) => format!("the file can not be read: {error}"),
///         StreamOutcome::TooSlow => "the client takes too little".to_owned(),
///         _ => "the client has left".to_owned(),
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamOutcome {
    /// All of it was queued for the socket: so many bytes, before compression. Whether the peer has received them is known as
    /// for every message: by an answer, or by a closing handshake that the peer completed.
    Sent(u64),
    /// The source returned this error or panicked, or is no UTF-8 and was to be text
    /// ([`InvalidData`](io::ErrorKind::InvalidData)). The connection is failed with 1011.
    SourceFailed(io::Error),
    /// The peer took less than [`min_write_progress`](crate::Config::min_write_progress) bytes in
    /// [`write_timeout`](crate::Config::write_timeout), or its policy is to disconnect slow readers: the connection is closed
    /// with 1008.
    TooSlow,
    /// The connection ended before the message was complete: it was closed, lost or aborted, or the server has shut down.
    Disconnected,
}

/// What is called at the end.
pub(crate) type OnEnd = Box<dyn FnOnce(StreamOutcome) + Send>;
