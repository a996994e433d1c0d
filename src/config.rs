//! The limits and timeouts of a connection, each with its default and the reason for it.

use std::time::Duration;

use crate::protocol::Role;
use crate::protocol::deflate::DeflateOption;
use crate::protocol::http::HeadLimits;
use crate::protocol::receive::Receive;

pub(crate) mod backoff;
pub(crate) mod check;
mod policies;
pub(crate) mod send_options;
mod small;
pub(crate) mod stream_options;
pub(crate) mod topic_config;

pub use check::ConfigError;
pub use policies::{AfterClose, SlowConsumer};

/// By default the memory is limited to what 256 connections may hold. More lets attackers take more; less closes
/// connections of honest peers that send or receive large messages at the same time.
const FULL_CONNECTIONS: usize = 256;

/// Limits and timeouts of a server and its connections.
///
/// The setters chain. An invalid setting is an error when the server or client is built.
///
/// ```
/// use std::time::Duration;
/// use threadbare::Config;
///
/// let config = Config::default().max_message_size(64 << 10).ping_interval(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    pub(crate) max_message_size: usize,
    pub(crate) max_write_buffer_size: usize,
    pub(crate) fragment_size: usize,
    pub(crate) max_event_buffer_size: usize,
    pub(crate) max_memory: Option<usize>,
    pub(crate) max_head_size: usize,
    pub(crate) max_headers: usize,
    pub(crate) max_body_size: usize,
    pub(crate) max_connections: usize,
    pub(crate) read_buffer_size: usize,
    pub(crate) thread_stack_size: Option<usize>,
    pub(crate) max_connections_per_address: Option<usize>,
    pub(crate) max_topics: usize,
    pub(crate) max_subscriptions: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) drop_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) min_write_progress: usize,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) slow_callback: Option<Duration>,
    pub(crate) slow_consumer: Option<SlowConsumer>,
    pub(crate) after_close: Option<AfterClose>,
    pub(crate) receive: Receive,
    pub(crate) deflate: DeflateOption,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_message_size: 1 << 20,
            max_write_buffer_size: 1 << 20,
            fragment_size: 32 << 10,
            max_event_buffer_size: 4 << 20,
            max_memory: None,
            max_head_size: 16 << 10,
            max_headers: 128,
            max_body_size: 64 << 10,
            max_connections: 65_536,
            read_buffer_size: 256 << 10,
            thread_stack_size: None,
            max_connections_per_address: None,
            max_topics: 1 << 20,
            max_subscriptions: 16_384,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            drop_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            min_write_progress: 4 << 10,
            max_lifetime: None,
            slow_callback: Some(Duration::from_millis(100)),
            slow_consumer: None,
            after_close: None,
            receive: Receive::Messages,
            deflate: DeflateOption::default(),
        }
    }
}

impl Config {
    /// The largest message that is received, in bytes, summed over its fragments. A larger one closes the connection
    /// with 1009 as soon as a frame header announces it. Default: 1 MiB, which few applications exceed. Memory is used
    /// only for what a peer has sent.
    ///
    /// Of a compressed message, this is the limit on the decompressed size. The compressed size has a limit as well: a
    /// seventh and 64 KiB more, and 16 bytes for each fragment, which is what data that do not get smaller may take.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_message_size(64 << 10); // a chat needs no more
    /// ```
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Config {
        self.max_message_size = bytes;
        self
    }

    /// The high-water mark of a connection's queued output, in bytes. A message is queued while less than this is
    /// queued, whatever its own size. Default: 1 MiB.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_write_buffer_size(256 << 10); // for each connection
    /// ```
    #[must_use]
    pub fn max_write_buffer_size(mut self, bytes: usize) -> Config {
        self.max_write_buffer_size = bytes;
        self
    }

    /// The size of the parts of a message that is sent in parts, by a [`MessageWriter`](crate::MessageWriter) or
    /// `send_stream`, in bytes. A connection has at most two parts of it queued: the next is read or taken once less than one
    /// waits for its socket. While the socket takes all at once, up to 256 KiB are read ahead, or 64 KiB if the worker has other
    /// connections, half of `max_write_buffer_size` at most, and 2 MiB for all messages of a server or of a set of clients. Default:
    /// 32 KiB. Larger takes more memory for each slow reader; smaller costs more for each byte.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().fragment_size(16 << 10); // for thousands of downloads at a time
    /// ```
    #[must_use]
    pub fn fragment_size(mut self, bytes: usize) -> Config {
        self.fragment_size = bytes;
        self
    }

    /// The high-water mark of the events that wait for one application thread, in bytes. An event counts 64 bytes and
    /// its payload, or the head of its request. Default: 4 MiB.
    ///
    /// Above the mark, a connection is read only until its events cost more than its share: the mark divided by the
    /// number of connections, 1 KiB at least and 64 KiB at most. So one that floods does not keep the others waiting,
    /// and up to 4,096 connections have twice the mark waiting at most. New connections wait until there is room.
    ///
    /// Whatever the mark, at most 256 KiB of a connection wait as long as others share the channel, where an event counts
    /// 1 KiB more than its payload. So the application comes to the others' events soon, though one floods.
    ///
    /// Of a flood of small messages, only some of what one read brings is decoded at once. While the rest, of all
    /// connections together, takes more than the mark or 4 MiB, whichever is less, a read takes at most 4 KiB. That
    /// holds with a handler as well.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_event_buffer_size(16 << 20); // 16 MiB for each channel
    /// ```
    #[must_use]
    pub fn max_event_buffer_size(mut self, bytes: usize) -> Config {
        self.max_event_buffer_size = bytes;
        self
    }

    /// The memory that a server, or the clients of a pool, may take for all connections together, in bytes: incomplete
    /// messages, queued output, input that is not decoded, events, commands to the workers, opening handshakes, the
    /// windows of compression, and buffers that are kept. Not counted are what an idle connection takes, the buffers that
    /// each worker always has, and what the application has as well, such as a [`Prepared`](crate::Prepared) message
    /// before it is sent.
    ///
    /// Above it, the server frees the buffers that it keeps, and stops accepting. Workers stop reading from the
    /// connections that hold more than their share, which is this limit divided by the number of connections and 16 KiB
    /// at least, and no message is queued behind another. After a second, or at once if it is exceeded by an eighth, the
    /// connection that holds most is closed with 1013, or reset if it does not read, and so on until the memory is below
    /// the limit. [`ServerHandle::memory`](crate::ServerHandle::memory) tells what is taken.
    ///
    /// Default: room for 256 connections that hold all they may, which is `256 * (max_message_size +
    /// max_write_buffer_size) + 2 * max_event_buffer_size`: 520 MiB with the other defaults.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_memory(64 << 20); // a small machine
    /// ```
    #[must_use]
    pub fn max_memory(mut self, bytes: usize) -> Config {
        self.max_memory = Some(bytes);
        self
    }

    /// The largest request head, in bytes. A larger one is refused with 431. Default: 16 KiB, twice what browsers send
    /// with many cookies.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_head_size(4 << 10).max_headers(32); // no client of this server sends cookies
    /// ```
    #[must_use]
    pub fn max_head_size(mut self, bytes: usize) -> Config {
        self.max_head_size = bytes;
        self
    }

    /// The largest number of header lines of a request. A request with more is refused with 431. Default: 128.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_headers(32);
    /// ```
    #[must_use]
    pub fn max_headers(mut self, count: usize) -> Config {
        self.max_headers = count;
        self
    }

    /// The largest content of a plain HTTP request, in bytes, for servers whose application answers such requests
    /// ([`ServerBuilder::http`](crate::ServerBuilder::http)). A larger one is refused with 413, before it is received if the
    /// client announces its length. Default: 64 KiB, more than a form or a call of an interface has; uploads do not belong
    /// beside WebSocket connections. Memory is used only for what a client has sent.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_body_size(0); // only requests without content
    /// ```
    #[must_use]
    pub fn max_body_size(mut self, bytes: usize) -> Config {
        self.max_body_size = bytes;
        self
    }

    /// The largest number of connections at one time, handshakes included. Further ones are answered 503. Default:
    /// 65,536, which is 14 MB of idle connections.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_connections(1_000);
    /// ```
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Config {
        self.max_connections = count;
        self
    }

    /// The largest number of connections at one time from one IP address. Further ones are answered 503. Default: no
    /// limit but [`max_connections`](Config::max_connections), because behind a proxy all clients have one address, unless
    /// [`trusted_proxies`](crate::ServerBuilder::trusted_proxies) or
    /// [`proxy_protocol`](crate::ServerBuilder::proxy_protocol) says which proxies tell the client's. Peers of
    /// Unix sockets have no IP address, and are not limited by this.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_connections_per_address(20); // of each client
    /// ```
    #[must_use]
    pub fn max_connections_per_address(mut self, count: usize) -> Config {
        self.max_connections_per_address = Some(count);
        self
    }

    /// The largest number of topics at one time. If there are as many, a subscription to another one is refused with
    /// [`SubscribeError::TooManyTopics`](crate::SubscribeError::TooManyTopics), and what is published to it is not kept. The
    /// application may hold more ([`ServerHandle::topic`](crate::ServerHandle::topic)). Default: 1,048,576, some hundred MB, so that
    /// peers who choose names can not take all memory.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_topics(10_000);
    /// ```
    #[must_use]
    pub fn max_topics(mut self, count: usize) -> Config {
        self.max_topics = count;
        self
    }

    /// The largest number of topics that one connection is subscribed to. Others are refused with
    /// [`SubscribeError::TooManySubscriptions`](crate::SubscribeError::TooManySubscriptions). Default: 16,384, some 500 kB, so that
    /// no single peer takes the topics of all.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_subscriptions(100); // rooms that one person may be in
    /// ```
    #[must_use]
    pub fn max_subscriptions(mut self, count: usize) -> Config {
        self.max_subscriptions = count;
        self
    }

    /// How long an opening handshake may take, from accept to the response. After that the client is answered 408. A plain
    /// HTTP response may take longer, as long as the client takes [`min_write_progress`](Config::min_write_progress) bytes
    /// in each [`write_timeout`](Config::write_timeout). Default: 10 s.
    ///
    /// A connection that stays open behind a plain response may be idle for this time. Then each of these may take it: the
    /// head of the next request from its first byte, the content, and the application's deferred answer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Config;
    ///
    /// let config = Config::default().handshake_timeout(Duration::from_secs(3));
    /// ```
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Config {
        self.handshake_timeout = timeout;
        self
    }

    /// How long a peer may be silent before it is sent a ping. `None` sends none. Default: 30 s, below the idle timeout
    /// of common proxies (60 s).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Config;
    ///
    /// // A peer that is gone is noticed after 20 s.
    /// let config = Config::default().ping_interval(Duration::from_secs(15)).pong_timeout(Duration::from_secs(5));
    /// let without_pings = Config::default().ping_interval(None);
    /// ```
    #[must_use]
    pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Config {
        self.ping_interval = interval.into();
        self
    }

    /// How long a peer may stay silent after a ping. After that the connection is dropped (1006). Default: 10 s.
    ///
    /// A ping waits behind the output that was queued before it. The time begins anew whenever the system takes some of that
    /// output. On Linux it also begins anew while the peer's system has yet to acknowledge more than a few small frames: a
    /// peer that reads a large message slowly is not silent. Its connection is dropped once it acknowledges nothing for
    /// [`ping_interval`](Config::ping_interval) and this timeout together. Linux looks at that whenever it transmits again,
    /// which it does less and less often: that a peer is gone in the middle of a message is noticed after about twice that
    /// time at the latest.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Config;
    ///
    /// let config = Config::default().pong_timeout(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn pong_timeout(mut self, timeout: Duration) -> Config {
        self.pong_timeout = timeout;
        self
    }

    /// How long a peer may take to answer a close frame, and to close its end of the TCP connection. After that the
    /// connection is dropped (1006). Default: 5 s.
    ///
    /// The time begins when the close frame is written. On Linux it begins anew while the peer's system has yet to
    /// acknowledge what was sent before a close frame of the application, as long as it acknowledges some of it in each
    /// [`write_timeout`](Config::write_timeout): a peer that reads slowly gets all of it.
    /// [`abort`](crate::Peer::abort) waits for nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Config;
    ///
    /// let config = Config::default().close_timeout(Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Config {
        self.close_timeout = timeout;
        self
    }

    /// How long dropping a server, a client, a [`ClientPool`](crate::ClientPool) or an event loop may wait until what
    /// was sent is written and the closing handshakes are complete. Zero does not wait: a program that ends then loses
    /// what it sent last. Default: 5 s, as long as a peer may take to answer a close frame by default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Config;
    ///
    /// let config = Config::default().drop_timeout(Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn drop_timeout(mut self, timeout: Duration) -> Config {
        self.drop_timeout = timeout;
        self
    }

    /// How long a peer may take for [`min_write_progress`](Config::min_write_progress) bytes while the connection's output
    /// is above the high-water mark. After that the connection is closed with 1008. The output before a close frame must
    /// be taken at the same rate, or the connection is dropped (1006). Default: 10 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Config;
    ///
    /// let config = Config::default().write_timeout(Duration::from_secs(60)); // clients on slow networks
    /// ```
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> Config {
        self.write_timeout = timeout;
        self
    }

    /// How many bytes a peer must take in each [`write_timeout`](Config::write_timeout) while the connection's output is
    /// above the high-water mark, while output waits before a close frame, and while a plain HTTP response is written.
    /// With 0 one byte is enough, so that a peer can keep its queue full for as long as it likes. Default: 4 KiB. With the
    /// default timeout that is 410 bytes a second, which the slowest of networks has, and a queue of 1 MiB is gone within
    /// an hour.
    ///
    /// ```
    /// use threadbare::Config;
    ///
    /// let config = Config::default().min_write_progress(64 << 10); // every client has a fast network
    /// ```
    #[must_use]
    pub fn min_write_progress(mut self, bytes: usize) -> Config {
        self.min_write_progress = bytes;
        self
    }

    /// How long a connection may last before it is closed with 1001. `None`, the default, sets no limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Config;
    ///
    /// let config = Config::default().max_lifetime(Duration::from_secs(24 * 60 * 60)); // one day
    /// ```
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Config {
        self.max_lifetime = lifetime.into();
        self
    }

    /// A callback of a handler that takes longer is counted in
    /// [`TrafficStats::slow_callbacks`](crate::TrafficStats::slow_callbacks) and logged at `warn` with the address of its
    /// connection, at most once a second: the other connections of its worker wait meanwhile. The time is that of one turn of
    /// the connection. If others had their turn before the worker looked at the clock again, the log names up to eight of
    /// them: it was one of these. Default: 100 ms, which people notice. `None` logs and counts nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Config;
    ///
    /// let config = Config::default().slow_callback(Duration::from_millis(20)); // a game, with 60 frames a second
    /// ```
    #[must_use]
    pub fn slow_callback(mut self, time: impl Into<Option<Duration>>) -> Config {
        self.slow_callback = time.into();
        self
    }

    /// What happens to a message if the connection's queue is full. Default: [`SlowConsumer::Refuse`] for a server, and
    /// [`SlowConsumer::Block`] for a client.
    ///
    /// ```
    /// use threadbare::{Config, SlowConsumer};
    ///
    /// let config = Config::default().slow_consumer(SlowConsumer::Disconnect);
    /// ```
    #[must_use]
    pub fn slow_consumer(mut self, policy: SlowConsumer) -> Config {
        self.slow_consumer = Some(policy);
        self
    }

    /// What happens to messages that arrive between our close frame and the peer's. Default: [`AfterClose::Discard`] for a
    /// server, and [`AfterClose::Deliver`] for a client.
    ///
    /// ```
    /// use threadbare::{AfterClose, Config};
    ///
    /// // This server closes only when its clients have been served, and loses nothing that they still send.
    /// let config = Config::default().after_close(AfterClose::Deliver);
    /// ```
    #[must_use]
    pub fn after_close(mut self, choice: AfterClose) -> Config {
        self.after_close = Some(choice);
        self
    }

    /// Whether messages are delivered whole, or what arrives of them at once. Default: [`Receive::Messages`], which are
    /// easier to handle, and take memory for the whole message.
    ///
    /// ```
    /// use threadbare::{Config, Receive};
    ///
    /// // Uploads of up to 4 GiB, each of which takes the memory of a short message.
    /// let config = Config::default().receive(Receive::Fragments { max_size: Some(4 << 30) });
    /// ```
    #[must_use]
    pub fn receive(mut self, receive: Receive) -> Config {
        self.receive = receive;
        self
    }

    /// Negotiates permessage-deflate (RFC 7692) with peers that support it. Default: it is not negotiated, because it
    /// costs time, and memory where a peer insists on context takeover.
    ///
    /// ```
    /// use threadbare::{Config, DeflateConfig};
    ///
    /// let config = Config::default().deflate(DeflateConfig::default());
    /// ```
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(mut self, config: impl Into<Option<crate::DeflateConfig>>) -> Config {
        self.deflate.config = config.into();
        self
    }

    /// The limits on the head of a request or response.
    pub(crate) fn head_limits(&self) -> HeadLimits {
        HeadLimits { max_head_size: self.max_head_size, max_headers: self.max_headers, ..HeadLimits::default() }
    }

    /// The limit on the memory for all connections, in bytes.
    pub(crate) fn memory_limit(&self) -> usize {
        let one = self.max_message_size.saturating_add(self.max_write_buffer_size);
        let default = one.saturating_mul(FULL_CONNECTIONS).saturating_add(self.max_event_buffer_size.saturating_mul(2));
        self.max_memory.unwrap_or(default)
    }

    /// What happens to a message if the queue of a connection is full whose end this is.
    pub(crate) fn policy(&self, role: Role) -> SlowConsumer {
        self.slow_consumer.unwrap_or(match role {
            Role::Server => SlowConsumer::Refuse,
            Role::Client => SlowConsumer::Block,
        })
    }

    /// Whether messages that arrive behind the close frame of this end are delivered.
    pub(crate) fn delivers_after_close(&self, role: Role) -> bool {
        let choice = self.after_close.unwrap_or(match role {
            Role::Server => AfterClose::Discard,
            Role::Client => AfterClose::Deliver,
        });
        choice == AfterClose::Deliver
    }

    /// An output that was above the mark `high` is so until it is below this. If that were the high-water mark itself, a
    /// peer could take a few bytes, have as many more queued for it, and be given `write_timeout` anew.
    pub(crate) fn low_water_mark(&self, high: usize) -> usize {
        high.saturating_sub(self.min_write_progress).saturating_add(1).min(high)
    }

    /// The next part of a message is taken while fewer bytes than these wait for the socket.
    pub(crate) fn part_room(&self) -> usize {
        self.fragment_size.min(self.max_write_buffer_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between two times that an output is above the high-water mark, the peer takes `min_write_progress` at least.
    #[test]
    fn an_output_is_above_the_mark_until_enough_was_taken() {
        let mark = Config::default().max_write_buffer_size;
        for (progress, low) in [(0, mark), (1, mark), (2, mark - 1), (4096, mark - 4095), (mark, 1), (usize::MAX, 1)] {
            assert_eq!(Config::default().min_write_progress(progress).low_water_mark(mark), low, "{progress}");
        }
    }
}
