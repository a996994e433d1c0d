//! Where a message stands in its topic, and where a subscription begins.

use std::fmt;
use std::str::FromStr;

/// Where a message stands in its topic. A text such as `9f86d081884c7d65-17` stands for it, which a client may be told, keep,
/// and hand back.
///
/// A topic that nobody uses ends, and a later one of the same name has other positions. So do the topics of another process, unless it
/// has taken over from this one (`ServerBuilder::hand_over`).
///
/// ```
/// use threadbare::{Position, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let room = server.handle().topic("room")?;
/// let position = room.publish("hello").position.expect("the topic exists");
/// assert_eq!(position.to_string().parse(), Ok(position));
/// assert!("yesterday".parse::<Position>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which life of the topic.
    pub(crate) epoch: u64,
    /// The number of the message, from 1.
    pub(crate) offset: u64,
}

impl Position {
    /// The number of the message in its topic, from 1; 0 before the first.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// let room = server.handle().topic("room")?;
    /// let numbers = [(); 3].map(|()| room.publish("tick").position.map(|position| position.offset()));
    /// assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.offset)
    }
}

/// A text is no [`Position`].
///
/// ```
/// use threadbare::Position;
///
/// let error = "17".parse::<Position>().unwrap_err();
/// assert_eq!(error.to_string(), "not a position, such as 9f86d081884c7d65-17");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPosition;

impl fmt::Display for InvalidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a position, such as 9f86d081884c7d65-17")
    }
}

impl std::error::Error for InvalidPosition {}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Position, InvalidPosition> {
        let (epoch, offset) = text.split_once('-').ok_or(InvalidPosition)?;
        // `parse` and `from_str_radix` allow a sign.
        let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if epoch.len() != 16 || !is_plain(epoch) || !is_plain(offset) {
            return Err(InvalidPosition);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| InvalidPosition)?;
        let offset = offset.parse().map_err(|_| InvalidPosition)?;
        Ok(Position { epoch, offset })
    }
}

/// Where a subscription begins.
///
/// ```
/// use threadbare::{Since, Socket, SubscribeError};
///
/// /// `position` is what the client says that it had last.
/// fn join(socket: &mut Socket<'_>, position: &str) -> Result<(), SubscribeError> {
///     let since = position.parse().map_or(Since::Oldest, Since::Position);
///     let subscription = socket.subscribe_since("room", since)?;
///     if subscription.missed > 0 {
///         socket.send("load the page again");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Since {
    /// With the next message.
    #[default]
    Now,
    /// With the oldest message of the topic's history ([`TopicConfig::keep`](crate::TopicConfig::keep)).
    Oldest,
    /// Behind this message. Without a history it is only luck if the topic still has what followed.
    Position(Position),
}

/// How a subscription began.
///
/// ```
/// use threadbare::{Client, Event, Message, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
/// let Event::Open(peer, _) = server.recv()? else { panic!("the first event") };
/// let subscription = peer.subscribe("news")?;
/// assert_eq!((subscription.position.offset(), subscription.missed), (0, 0));
/// server.handle().publish("news", "first");
/// assert_eq!(client.recv()?, Some(Message::from("first")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The subscriber gets every message behind this position.
    pub position: Position,
    /// How many messages between the asked and this position are lost. `u64::MAX` if nobody knows, because the topic has
    /// ended since, or the position is of another process: then all that there is follows.
    pub missed: u64,
}

/// What became of a published message.
///
/// ```
/// let server = threadbare::Server::bind("127.0.0.1:0")?;
/// let published = server.handle().publish("nobody/listens", "hello");
/// assert_eq!((published.position, published.subscribers), (None, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Where it stands. `None` if there is no such topic, because nobody is subscribed and no history is kept, or if another process has
    /// taken over (`ServerBuilder::hand_over`).
    pub position: Option<Position>,
    /// The number of subscribers. It promises no delivery: [`TopicStats`](crate::TopicStats) counts that.
    pub subscribers: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_position_is_read_as_it_was_written(epoch: u64, offset: u64) {
            let position = Position { epoch, offset };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Position>();
        }
    }

    #[test]
    fn only_what_is_written_is_read() {
        for text in
            ["", "-", "1-1", "+f86d081884c7d65-1", "9f86d081884c7d65-+1", "9f86d081884c7d65-", "9f86d081884c7d65-f"]
        {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
        assert!("9f86d081884c7d65-18446744073709551615".parse::<Position>().is_ok());
        assert!("9f86d081884c7d65-18446744073709551616".parse::<Position>().is_err());
    }
}
