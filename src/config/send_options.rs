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
    pub(crate) latest: Option<u64>,
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

    /// Of the messages with this key, only the latest counts: while one waits to be sent, a newer one takes its place.
    /// For what is out of date as soon as there is something newer: prices, positions, progress. `None`, the default,
    /// sends every message.
    ///
    /// If nothing else waits to be written to the connection, the message is sent like any other. Else it waits beside
    /// the queue until all of that is written. Then the messages that wait are sent, in the order in which their keys
    /// came. So a peer that reads slowly gets the newest value of each key, and never an older one after a newer one;
    /// the replaced ones are counted in [`Stats::replaced`](crate::Stats::replaced). A message with a key may arrive
    /// after messages without one that were sent later, but never before one that the same thread sent earlier. A close
    /// frame follows what waits.
    ///
    /// A message that replaces another is always taken, however full the queue is, also by `try_send` of a
    /// [`Prepared`](crate::Prepared) message. A new key is taken while fewer than 1,024 messages with keys and less than
    /// [`Config::max_write_buffer_size`](crate::Config::max_write_buffer_size) wait beside the queue; beyond that the
    /// [`SlowConsumer`] policy decides. They are part of [`Peer::queued_bytes`](crate::Peer::queued_bytes), and take no
    /// room of the queue.
    ///
    /// The keys of a connection are its own, whichever thread sends and whether to the connection or to all in a
    /// broadcast. A broadcast that is replaced before its worker comes to it is not counted. A control frame has no key.
    ///
    /// A ticker, which sends each price to every connection:
    ///
    /// ```
    /// use threadbare::{Prepared, SendOptions, ServerHandle};
    ///
    /// fn publish(server: &ServerHandle, instrument: u32, price: &str) {
    ///     let latest = SendOptions::new().latest(u64::from(instrument));
    ///     server.broadcast_prepared(&Prepared::with(price, latest));
    /// }
    /// ```
    ///
    /// A game, whose positions may be skipped and whose events may not:
    ///
    /// ```
    /// use threadbare::{Message, Peer, SendError, SendOptions};
    ///
    /// fn update(player: &Peer, who: u64, position: &[u8], events: &[String]) -> Result<(), SendError<Message>> {
    ///     for event in events {
    ///         player.send(event)?; // each of them
    ///     }
    ///     player.send_with(position, SendOptions::new().latest(who)) // the newest of each figure, behind the events
    /// }
    /// ```
    #[must_use]
    pub fn latest(mut self, key: impl Into<Option<u64>>) -> SendOptions {
        self.latest = key.into();
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
