//! The topics of a server: its settings, and publishing from any thread.

use std::ptr;

use crate::config::topic_config::TopicConfig;
use crate::error::InvalidTopicName;
use crate::protocol::message::CowMessage;
use crate::server::builder::ServerBuilder;
use crate::server::control::ServerHandle;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::topic::Topic;
use crate::worker::handle::topic_events::TopicEvent;
use crate::worker::handle::topics::Origin;
use crate::worker::topics::position::Published;

impl ServerBuilder {
    /// Sets the settings of topics: `configure` is called with the name of each that begins, and when something is published to a name
    /// that nobody is subscribed to. It runs on the thread that does that, and must not block. Default: `TopicConfig::default()`
    /// for all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{Server, Slow, TopicConfig};
    ///
    /// let server = Server::builder()
    ///     .topics(|name| match name.split('/').next() {
    ///         Some("room") => TopicConfig::default().keep(64, 64 << 10, Duration::from_secs(60)),
    ///         Some("price") => TopicConfig::default().slow(Slow::Latest),
    ///         _ => TopicConfig::default(),
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn topics(mut self, configure: impl Fn(&str) -> TopicConfig + Send + Sync + 'static) -> ServerBuilder {
        self.topics = Some(Box::new(configure));
        self
    }

    /// Sets the hook that is told what happens to topics. It runs on the threads of the workers, at the end of an iteration of the
    /// event loop, one event after the other, whatever thread subscribes, and also where events go through a channel. It must
    /// not block: connections wait meanwhile. It may publish, subscribe and send. A panic is logged.
    ///
    /// ```
    /// use threadbare::{Server, TopicConfig, TopicEvent};
    ///
    /// let server = Server::builder()
    ///     .topics(|_| TopicConfig::default().presence(true))
    ///     .on_topic(|event| match event {
    ///         TopicEvent::Joined(peer, topic) => println!("{} is in {topic}", peer.id()),
    ///         TopicEvent::Left(peer, topic) => println!("{} is not in {topic} any more", peer.id()),
    ///         _ => {}
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn on_topic(mut self, hook: impl Fn(TopicEvent) + Send + Sync + 'static) -> ServerBuilder {
        self.on_topic = Some(Box::new(hook));
        self
    }
}

impl ServerHandle {
    /// Publishes a text or binary message to the subscribers of a topic. It is encoded once, and each worker with subscribers is
    /// sent one command. The call never waits: [`TopicConfig::slow`] says what happens to a subscriber that does not keep up. A ping,
    /// pong or close is not published, nor is anything to a name that is empty or has more than 255 bytes.
    ///
    /// What one thread publishes to a topic arrives in this order. It also arrives in order with what that thread sends through a
    /// [`Peer`], as far as the connection keeps up.
    ///
    /// ```
    /// use threadbare::{Client, Event, Message, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// let Event::Open(peer, _) = server.recv()? else { panic!("the first event") };
    /// peer.subscribe("room/1")?;
    /// let published = server.handle().publish("room/1", "hello");
    /// assert_eq!(published.subscribers, 1);
    /// assert_eq!(client.recv()?, Some(Message::from("hello")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish<'m>(&self, topic: &str, message: impl Into<CowMessage<'m>>) -> Published {
        self.publish_from(topic, message.into(), Origin::default())
    }

    /// Publishes a message, as [`publish`](ServerHandle::publish) does, to all subscribers but one: usually whom the message is
    /// from. If that is a connection of another server, or a client's, all get it.
    ///
    /// ```
    /// use threadbare::{Event, Server};
    ///
    /// fn serve(server: &Server) {
    ///     let handle = server.handle();
    ///     for event in server {
    ///         if let Event::Message(peer, message) = event {
    ///             handle.publish_except(&peer, "chat", message);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn publish_except<'m>(&self, peer: &Peer, topic: &str, message: impl Into<CowMessage<'m>>) -> Published {
        // A connection of another server, or a client's, may have the same key.
        let is_here = peer.shared.worker.topics().is_some_and(|topics| ptr::eq(topics, &*self.control.topics.topics));
        let except = is_here.then_some((peer.shared.worker.index, peer.shared.key));
        self.publish_from(topic, message.into(), Origin { except, ..Origin::default() })
    }

    fn publish_from(&self, topic: &str, message: CowMessage<'_>, origin: Origin) -> Published {
        let published = self.control.topics.topics.publish(topic, message.as_message(), origin);
        published.map_or_else(Published::default, |(topic, pushed)| pushed.published(&topic))
    }

    /// Returns a handle to a topic, which begins if there is none with this name.
    ///
    /// ```
    /// use threadbare::Server;
    ///
    /// let server = Server::bind("127.0.0.1:0")?;
    /// let prices = server.handle().topic("prices")?;
    /// for price in 0..10 {
    ///     prices.publish(format!("pears are {price}"));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The name is empty, or has more than 255 bytes.
    pub fn topic(&self, name: &str) -> Result<Topic, InvalidTopicName> {
        Topic::open(&self.control.topics, name)
    }
}
