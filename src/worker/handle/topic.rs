//! A topic, as the application holds it.

use std::fmt;
use std::sync::Arc;

use crate::error::InvalidTopicName;
use crate::protocol::message::CowMessage;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::topic_events::TopicObserver;
use crate::worker::handle::topics::Origin;
use crate::worker::topics::position::{Position, Published};
use crate::worker::topics::stats::TopicStats;
use crate::worker::topics::topic::TopicState;

/// A topic of a server, for use on any thread: what is published through it needs no look-up of the name. While there is a
/// handle the topic does not end, so that positions go on. See [`ServerHandle::topic`](crate::ServerHandle::topic).
///
/// ```
/// use threadbare::{Client, Event, Message, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
/// let Event::Open(peer, _) = server.recv()? else { panic!("the first event") };
/// let room = server.handle().topic("room/1")?;
/// peer.subscribe("room/1")?;
/// room.publish("hello");
/// assert_eq!(client.recv()?, Some(Message::from("hello")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Topic {
    observer: Arc<TopicObserver>,
    state: Arc<TopicState>,
}

impl Topic {
    /// Finds a topic, or begins one.
    pub(crate) fn open(observer: &Arc<TopicObserver>, name: &str) -> Result<Topic, InvalidTopicName> {
        Ok(Topic { state: observer.topics.hold(name)?, observer: observer.clone() })
    }

    /// The name.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle().topic("room/1")?.name(), "room/1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Publishes a message, as [`ServerHandle::publish`](crate::ServerHandle::publish) does.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// let prices = server.handle().topic("prices")?;
    /// prices.publish(r#"{"pears":3}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish<'m>(&self, message: impl Into<CowMessage<'m>>) -> Published {
        self.observer.topics.publish_to(&self.state, message.into().as_message(), Origin::default())
    }

    /// Publishes the message that `make` returns for its position, so that a client knows what to ask for when it comes
    /// back. `make` runs while the topic is locked: it must be short, and must not use the same topic, nor
    /// [`ServerHandle::stats`](crate::ServerHandle::stats), which looks at every topic. If it returns a ping, pong or close, an empty
    /// message takes its number.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// let news = server.handle().topic("news")?;
    /// news.publish_with(|position| format!(r#"{{"at":"{position}","text":"it rains"}}"#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish_with<'m, M: Into<CowMessage<'m>>>(&self, make: impl FnOnce(Position) -> M) -> Published {
        self.observer.topics.publish_with(&self.state, |position| {
            let message = make(position).into();
            if message.as_message().opcode().is_control() { CowMessage::from("") } else { message }
        })
    }

    /// The number of subscribers.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle().topic("room/1")?.subscribers(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.state.subscribers()
    }

    /// The subscribers, in no order, if the topic has [`presence`](crate::TopicConfig::presence); else none. One that has just
    /// subscribed on another thread may be missing.
    ///
    /// ```
    /// use threadbare::{Server, TopicConfig};
    ///
    /// let server = Server::builder().topics(|_| TopicConfig::default().presence(true)).bind("127.0.0.1:0")?;
    /// for peer in server.handle().topic("room/1")?.peers() {
    ///     println!("{} is here", peer.addr());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.observer.peers(&self.state)
    }

    /// The counts.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// let stats = server.handle().topic("room/1")?.stats();
    /// println!("{} of {} deliveries were skipped", stats.skipped, stats.skipped + stats.delivered);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> TopicStats {
        self.state.stats()
    }
}

impl Clone for Topic {
    fn clone(&self) -> Topic {
        // It has not ended, because this handle holds it.
        self.state.hold();
        Topic { observer: self.observer.clone(), state: self.state.clone() }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.state.unhold();
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name()).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
