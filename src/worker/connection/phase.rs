//! How far the closing of a connection has come.

/// How far the closing of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages flow.
    Open,
    /// Our close frame is out or queued; the peer's is awaited.
    Closing,
    /// The application was sent the close event. Our close frame waits for its answers to earlier messages.
    AwaitingAnswers,
    /// Our close frame is out or queued, and nothing follows it: once it is out, the write side is shut down.
    Flushing,
    /// FIN is sent; what still arrives is discarded until the peer closes.
    Lingering,
    /// The application dropped the connection. It is told of the end once its callback has returned.
    Aborting,
    /// To be removed at the end of the drive.
    Closed,
}
