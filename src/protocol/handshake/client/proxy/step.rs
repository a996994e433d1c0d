//! The next step of a tunnel.

/// What the caller of [`Tunnel::advance`](super::Tunnel::advance) must do next.
///
/// ```
/// use threadbare::Url;
/// use threadbare::protocol::handshake::client::proxy::{Proxy, Step, Tunnel};
///
/// let mut tunnel = Tunnel::new(&Proxy::parse("socks5://127.0.0.1")?, &Url::parse("ws://example.com")?)?;
/// let Step::Send { bytes, .. } = tunnel.advance(b"")? else { panic!("the client speaks first") };
/// assert_eq!(bytes[0], 5); // the version of SOCKS
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Receive more bytes from the proxy.
    Receive,
    /// Send these bytes.
    Send {
        /// The number of received bytes that were used. The caller must discard them.
        consumed: usize,
        /// The bytes to send.
        bytes: Vec<u8>,
    },
    /// The tunnel is open: the proxy forwards bytes. Received bytes that were not used are from the server.
    Open {
        /// The number of received bytes that were used. The caller must discard them.
        consumed: usize,
    },
}
