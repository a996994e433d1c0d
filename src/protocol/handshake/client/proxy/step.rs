//! What a tunnel asks its driver to do.

/// What a [`Tunnel`](super::Tunnel) needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// More bytes from the proxy.
    Receive,
    /// To have these bytes sent.
    Send {
        /// How many of the received bytes are used and have to be discarded.
        consumed: usize,
        /// What to send.
        bytes: Vec<u8>,
    },
    /// Nothing: the proxy passes on bytes. Those that were received and are not consumed are the server's.
    Open {
        /// How many of the received bytes are used and have to be discarded.
        consumed: usize,
    },
}
