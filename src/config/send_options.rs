//! How one message is sent.

use crate::config::SlowConsumer;
use crate::protocol::deflate::Compression;

/// How one message is sent, for [`Peer::send_with`](crate::Peer::send_with) and its like, and for
/// [`Prepared::with`](crate::Prepared::with). The default is what `send` does.
///
/// A [`Compression`] or a [`SlowConsumer`] converts into it, where it is the only option.
///
/// ```
/// use threadbare::{Compression, SendOptions, SlowConsumer};
///
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
/// # let peer = client.peer();
/// peer.send_with("somebody is typing", SlowConsumer::Drop)?; // nobody misses it
/// let picture = SendOptions::new().compression(Compression::Never).slow_consumer(SlowConsumer::Drop);
/// peer.send_with(vec![0xFF, 0xD8], picture)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SendOptions {
    pub(crate) compression: Compression,
    pub(crate) slow_consumer: Option<SlowConsumer>,
}

impl SendOptions {
    /// The options of a plain `send`.
    ///
    /// ```
    /// use threadbare::SendOptions;
    ///
    /// assert_eq!(SendOptions::new(), SendOptions::default());
    /// ```
    #[must_use]
    pub fn new() -> SendOptions {
        SendOptions::default()
    }

    /// Whether the message may be compressed. Default: [`Compression::Auto`].
    ///
    /// ```
    /// use threadbare::{Compression, SendOptions};
    ///
    /// let options = SendOptions::new().compression(Compression::Never);
    /// assert_eq!(options, SendOptions::from(Compression::Never));
    /// ```
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> SendOptions {
        self.compression = compression;
        self
    }

    /// What happens to the message if the connection's queue is full, whatever the policy of the connection. `None`, the
    /// default, leaves that to the connection: to [`Peer::set_slow_consumer`](crate::Peer::set_slow_consumer) and
    /// [`Config::slow_consumer`](crate::Config::slow_consumer).
    ///
    /// ```
    /// use threadbare::{SendOptions, SlowConsumer};
    ///
    /// let options = SendOptions::new().slow_consumer(SlowConsumer::Drop);
    /// assert_eq!(options, SendOptions::from(SlowConsumer::Drop));
    /// ```
    #[must_use]
    pub fn slow_consumer(mut self, policy: impl Into<Option<SlowConsumer>>) -> SendOptions {
        self.slow_consumer = policy.into();
        self
    }
}

impl From<Compression> for SendOptions {
    fn from(compression: Compression) -> SendOptions {
        SendOptions::new().compression(compression)
    }
}

impl From<SlowConsumer> for SendOptions {
    fn from(policy: SlowConsumer) -> SendOptions {
        SendOptions::new().slow_consumer(policy)
    }
}
