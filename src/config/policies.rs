//! What happens to messages for which there is no room, and to those behind a close frame.

/// What happens to a message from another thread, or from a broadcast, if the connection's queue is full.
///
/// [`Config::slow_consumer`](crate::Config::slow_consumer) sets it for all connections, [`Peer::set_slow_consumer`](crate::Peer::set_slow_consumer) for
/// one, and [`SendOptions::slow_consumer`](crate::SendOptions::slow_consumer) for one message.
///
/// An answer from inside a [`Handler`](crate::Handler) is always queued. The worker stops reading from a connection
/// whose output is above [`Config::max_write_buffer_size`](crate::Config::max_write_buffer_size), so that answers can not pile up.
///
/// ```
/// use threadbare::{Config, SlowConsumer};
///
/// // A viewer who reads too slowly misses some frames, and delays nobody.
/// let config = Config::default().slow_consumer(SlowConsumer::Drop);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// [`Peer::send`](crate::Peer::send) waits until there is room. A worker's thread never waits: there the message is
    /// refused. A broadcast skips the connection and counts it. This is the default of a client, whose sender waits for
    /// one connection only.
    Block,
    /// The message is returned to the sender. A broadcast skips the connection and counts it. This is the default of a
    /// server, because one slow client must not hold up the thread that serves them all.
    ///
    /// An answer to an event always has room: [`Peer::send`](crate::Peer::send) refuses a message only if
    /// [`Config::max_write_buffer_size`](crate::Config::max_write_buffer_size) and twice [`Config::max_event_buffer_size`](crate::Config::max_event_buffer_size) together are queued, and the worker
    /// reads no more from a connection while the first alone is.
    Refuse,
    /// The message is dropped and counted in [`Stats::dropped`](crate::Stats::dropped).
    Drop,
    /// The connection is closed with 1008.
    Disconnect,
}

/// What happens to messages that arrive after this end has sent its close frame, and before the peer's close frame. RFC
/// 6455 5.5.1 forbids to send data behind a close frame, and lets the peer finish its message before it answers. It
/// leaves open whether the end that closed first still delivers what arrives.
///
/// Whatever is chosen, nothing can be sent, pings are answered, and messages behind the peer's close frame are discarded.
/// So is everything after this end failed the connection (7.1.7), because of a violation, a limit or a slow reader.
///
/// ```
/// use std::time::Duration;
/// use threadbare::{AfterClose, Client, CloseCode, Config, Event, Server};
///
/// let config = Config::default().after_close(AfterClose::Deliver);
/// let server = Server::builder().config(config).bind("127.0.0.1:0")?;
/// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
/// let Event::Open(peer, _) = server.recv()? else { panic!("the first event") };
/// client.send("on its way")?;
/// peer.close(CloseCode::NORMAL_CLOSURE, "done")?;
/// assert!(matches!(server.recv()?, Event::Message(..))); // whether it came before the close frame or behind it
/// assert!(matches!(server.recv()?, Event::Close(..)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterClose {
    /// They are delivered as before, up to the peer's close frame. This is the default of a client: its close asks for what
    /// the server still has to say. The application must go on receiving: if it has no room for events, the peer's close
    /// frame is not found behind them, and the connection is reset after [`close_timeout`](crate::Config::close_timeout).
    Deliver,
    /// They are read and discarded. This is the default of a server: its close is the decision to stop.
    Discard,
}
