//! Topics, from a handler.

use std::sync::Arc;

use crate::error::SubscribeError;
use crate::protocol::message::CowMessage;
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::topic::Topic;
use crate::worker::handle::topics::Origin;
use crate::worker::slab::Key;
use crate::worker::topics::position::{Published, Since, Subscription};

impl Socket<'_> {
    /// Subscribes this connection to a topic, as [`Peer::subscribe`](crate::Peer::subscribe) does.
    ///
    /// ```
    /// use threadbare::{Client, Handler, Message, MessageRef, Server, Socket};
    ///
    /// struct Chat;
    ///
    /// impl Handler for Chat {
    ///     fn on_open(&mut self, socket: &mut Socket<'_>) {
    ///         let _ = socket.subscribe("chat"); // the name is valid, and the connection is open
    ///     }
    ///
    ///     fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///         socket.publish("chat", message);
    ///     }
    /// }
    ///
    /// let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| Chat)?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?, Some(Message::from("hello")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The name is empty or too long, the connection is closing, or it is a client's. The connection has
    /// [`max_subscriptions`](crate::Config::max_subscriptions), or the server has [`max_topics`](crate::Config::max_topics).
    pub fn subscribe(&mut self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.active.subscribe(topic, Since::Now)
    }

    /// Subscribes this connection to a topic, from a place in its history, as
    /// [`Peer::subscribe_since`](crate::Peer::subscribe_since) does.
    ///
    /// ```
    /// use threadbare::{MessageRef, Since, Socket};
    ///
    /// fn on_message(socket: &mut Socket<'_>, position: MessageRef<'_>) {
    ///     let since = position.as_text().and_then(|text| text.parse().ok()).map_or(Since::Oldest, Since::Position);
    ///     if let Ok(subscription) = socket.subscribe_since("news", since) {
    ///         socket.send(format!("{} messages are lost", subscription.missed));
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Socket::subscribe).
    pub fn subscribe_since(&mut self, topic: &str, since: Since) -> Result<Subscription, SubscribeError> {
        self.active.subscribe(topic, since)
    }

    /// Subscribes this connection to several topics.
    ///
    /// ```
    /// use threadbare::{Socket, SubscribeError};
    ///
    /// fn join(socket: &mut Socket<'_>) -> Result<(), SubscribeError> {
    ///     socket.subscribe_all(["news", "weather"])
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Socket::subscribe), at the first topic that fails.
    pub fn subscribe_all<S: AsRef<str>>(&mut self, topics: impl IntoIterator<Item = S>) -> Result<(), SubscribeError> {
        topics.into_iter().try_for_each(|topic| self.subscribe(topic.as_ref()).map(drop))
    }

    /// Ends the subscription of this connection to a topic. What was published before is sent, unless the connection's queue is full.
    ///
    /// ```
    /// fn leave(socket: &mut threadbare::Socket<'_>) {
    ///     socket.publish("room/1", "goodbye"); // this connection gets it too
    ///     socket.unsubscribe("room/1");
    /// }
    /// ```
    pub fn unsubscribe(&mut self, topic: &str) {
        self.active.unsubscribe_from(topic);
    }

    /// Ends the subscriptions of this connection to several topics.
    ///
    /// ```
    /// fn leave(socket: &mut threadbare::Socket<'_>) {
    ///     let all = socket.topics();
    ///     socket.unsubscribe_all(all);
    /// }
    /// ```
    pub fn unsubscribe_all<S: AsRef<str>>(&mut self, topics: impl IntoIterator<Item = S>) {
        topics.into_iter().for_each(|topic| self.unsubscribe(topic.as_ref()));
    }

    /// The topics that this connection is subscribed to, in no order, in [`on_close`](crate::Handler::on_close) too.
    ///
    /// ```
    /// fn log(socket: &threadbare::Socket<'_>) {
    ///     for topic in socket.topics() {
    ///         println!("{}: {topic}", socket.id());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<str>> {
        self.active.topic_names()
    }

    /// Returns a handle to a topic, as [`ServerHandle::topic`](crate::ServerHandle::topic) does. A handler keeps it, to put the
    /// position of each message into it, or to ask what there is. What it publishes comes back to this worker as a command, so
    /// that [`publish`](Socket::publish) costs less.
    ///
    /// ```
    /// use threadbare::{Handler, MessageRef, Socket, Topic};
    ///
    /// #[derive(Default)]
    /// struct Chat {
    ///     topic: Option<Topic>,
    /// }
    ///
    /// impl Handler for Chat {
    ///     fn on_open(&mut self, socket: &mut Socket<'_>) {
    ///         self.topic = socket.topic("chat").ok(); // the name is valid
    ///     }
    ///
    ///     fn on_message(&mut self, _socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///         if let (Some(topic), Some(text)) = (&self.topic, message.as_text()) {
    ///             topic.publish_with(|position| format!("{position} {text}"));
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The name is empty or too long.
    pub fn topic(&self, name: &str) -> Result<Topic, SubscribeError> {
        let observer = self.active.context.topics.observer.as_ref().ok_or(SubscribeError::NoServer)?;
        Topic::open(observer, name).map_err(SubscribeError::InvalidName)
    }

    /// Publishes a message to the subscribers of a topic, as [`ServerHandle::publish`](crate::ServerHandle::publish) does: to those
    /// of this worker at the end of this iteration of the event loop. This connection gets it too if it is subscribed, behind what
    /// this callback sends it.
    ///
    /// ```
    /// use threadbare::{MessageRef, Socket};
    ///
    /// fn on_message(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///     socket.publish("chat", message);
    /// }
    /// ```
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<CowMessage<'m>>) -> Published {
        self.publish_from(topic, message.into(), None)
    }

    /// Publishes a message to the subscribers of a topic but this connection.
    ///
    /// ```
    /// use threadbare::{MessageRef, Socket};
    ///
    /// fn on_message(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///     socket.publish_to_others("chat", message);
    /// }
    /// ```
    pub fn publish_to_others<'m>(&mut self, topic: &str, message: impl Into<CowMessage<'m>>) -> Published {
        let me = (self.active.context.handle.index, self.active.state.key);
        self.publish_from(topic, message.into(), Some(me))
    }

    fn publish_from(&mut self, topic: &str, message: CowMessage<'_>, except: Option<(u16, Key)>) -> Published {
        let context = &mut *self.active.context;
        let worker = context.handle.index;
        let Some(topics) = context.topics.shared() else { return Published::default() };
        let published = topics.publish(topic, message.as_message(), Origin { worker: Some(worker), except });
        let Some((topic, pushed)) = published else { return Published::default() };
        context.topics.set_due(&topic, pushed.offset);
        pushed.published(&topic)
    }
}
