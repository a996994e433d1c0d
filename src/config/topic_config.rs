//! The settings of a topic.

use std::time::Duration;

/// What happens to a subscriber that reads so slowly that the topic no longer has what it lacks.
///
/// ```
/// use threadbare::{Server, Slow, TopicConfig};
///
/// let server = Server::builder()
///     .topics(|name| match name {
///         "prices" => TopicConfig::default().slow(Slow::Latest), // an old price is worth nothing
///         "moves" => TopicConfig::default().slow(Slow::Disconnect), // a game with a move missing is wrong
///         _ => TopicConfig::default(),
///     })
///     .bind("127.0.0.1:0")?;
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slow {
    /// It goes on with the oldest message that the topic still has. The others are counted, and told by
    /// [`TopicEvent::Gap`](crate::TopicEvent::Gap).
    #[default]
    Skip,
    /// It goes on with the newest message alone, even if the topic still has others. Those are counted and told as with
    /// [`Skip`](Slow::Skip).
    Latest,
    /// It is closed with 1008, after which a [`ReconnectingClient`](crate::ReconnectingClient) comes back only if its
    /// [`retry_if`](crate::Reconnect::retry_if) says so.
    Disconnect,
}

/// A number of messages, and of the bytes of their frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicLimit {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// The settings of a topic, which [`ServerBuilder::topics`](crate::ServerBuilder::topics) returns for its name. No value
/// is invalid.
///
/// ```
/// use std::time::Duration;
/// use threadbare::TopicConfig;
///
/// // A client that comes back within a minute gets what it has missed, if that is no more than 1,000 messages or 1 MiB.
/// let recoverable = TopicConfig::default().keep(1_000, 1 << 20, Duration::from_secs(60));
/// // A new subscriber is told the last value.
/// let last_value = TopicConfig::default().keep(1, 64 << 10, Duration::MAX);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub(crate) slow: Slow,
    pub(crate) buffer: TopicLimit,
    pub(crate) keep: TopicLimit,
    pub(crate) age: Duration,
    pub(crate) presence: bool,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig {
            slow: Slow::Skip,
            buffer: TopicLimit { messages: 4096, bytes: 1 << 20 },
            keep: TopicLimit { messages: 0, bytes: 0 },
            age: Duration::ZERO,
            presence: false,
        }
    }
}

impl TopicConfig {
    /// What happens to a subscriber that reads too slowly. Default: [`Slow::Skip`], because it disturbs nobody, and each
    /// loss is counted.
    ///
    /// ```
    /// use threadbare::{Slow, TopicConfig};
    ///
    /// let prices = TopicConfig::default().slow(Slow::Latest);
    /// ```
    #[must_use]
    pub fn slow(mut self, slow: Slow) -> TopicConfig {
        self.slow = slow;
        self
    }

    /// How much of what some subscriber lacks the topic has at most: this many messages, and frames of this many bytes,
    /// whichever is reached first; at least one message. It is all that slow subscribers take, however many they are. What every
    /// subscriber has is freed at once.
    ///
    /// Default: 4,096 messages or 1 MiB, as much as may wait of broadcasts. Larger bridges longer pauses of a reader, and longer
    /// bursts; smaller takes less memory where readers are slow.
    ///
    /// ```
    /// use threadbare::TopicConfig;
    ///
    /// let pictures = TopicConfig::default().buffer(4, 4 << 20);
    /// ```
    #[must_use]
    pub fn buffer(mut self, messages: usize, bytes: usize) -> TopicConfig {
        self.buffer = TopicLimit { messages: messages.max(1), bytes };
        self
    }

    /// Keeps a history, also while nobody is subscribed: at most this many messages, frames of this many bytes, and nothing
    /// older than `age`, whichever is reached first. [`Since`](crate::Since) says how a subscriber gets it. Default: none,
    /// which 0 of any of the three says as well.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::TopicConfig;
    ///
    /// let chat = TopicConfig::default().keep(100, 256 << 10, Duration::from_secs(3600));
    /// ```
    #[must_use]
    pub fn keep(mut self, messages: usize, bytes: usize, age: Duration) -> TopicConfig {
        self.keep = TopicLimit { messages, bytes };
        self.age = age;
        self
    }

    /// Whether [`Topic::peers`](crate::Topic::peers) knows the subscribers, and
    /// [`TopicEvent::Joined`](crate::TopicEvent::Joined) and [`Left`](crate::TopicEvent::Left) are told. Default: `false`,
    /// because that takes about 100 bytes for each subscription, and in a large topic an event for each of many.
    ///
    /// ```
    /// use threadbare::TopicConfig;
    ///
    /// let room = TopicConfig::default().presence(true);
    /// ```
    #[must_use]
    pub fn presence(mut self, presence: bool) -> TopicConfig {
        self.presence = presence;
        self
    }

    /// Whether there is a history.
    pub(crate) fn keeps(&self) -> bool {
        self.keep.messages > 0 && self.keep.bytes > 0 && !self.age.is_zero()
    }
}
