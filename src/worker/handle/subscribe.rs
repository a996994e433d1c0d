//! Subscribing to topics from any thread.

use std::sync::Arc;

use crate::error::SubscribeError;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::peer::Peer;
use crate::worker::topics::position::{Since, Subscription};

impl Peer {
    /// Subscribes the connection to a topic: it gets every message that is published from now on. Nothing happens if it is
    /// subscribed already. The name is any text of 1 to 255 bytes, and a topic needs not be made.
    ///
    /// ```
    /// use threadbare::{Event, Server};
    ///
    /// fn serve(server: &Server) {
    ///     for event in server {
    ///         if let Event::Open(peer, request) = event {
    ///             let _ = peer.subscribe(request.path()); // an error says that the peer has left
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The name is empty or too long, the connection is closed or closing, or it is a client's. The connection has
    /// [`max_subscriptions`](crate::Config::max_subscriptions), or the server has [`max_topics`](crate::Config::max_topics).
    pub fn subscribe(&self, topic: &str) -> Result<Subscription, SubscribeError> {
        self.subscribe_since(topic, Since::Now)
    }

    /// Subscribes the connection to a topic, from a place in its history. If it is subscribed already, it is sent nothing twice,
    /// and what is returned says how a new subscription would have begun.
    ///
    /// ```
    /// use threadbare::{Peer, Since, SubscribeError};
    ///
    /// fn come_back(peer: &Peer, position: &str) -> Result<bool, SubscribeError> {
    ///     let since = position.parse().map_or(Since::Now, Since::Position);
    ///     Ok(peer.subscribe_since("news", since)?.missed == 0)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Peer::subscribe).
    pub fn subscribe_since(&self, topic: &str, since: Since) -> Result<Subscription, SubscribeError> {
        let topics = self.shared.worker.topics().ok_or(SubscribeError::NoServer)?;
        if !self.takes_messages() {
            return Err(SubscribeError::Disconnected);
        }
        if !self.shared.begin_subscribing(topic, topics.max_subscriptions) {
            return Err(SubscribeError::TooManySubscriptions);
        }
        let reserved = topics.subscribe(topic, since, self.shared.worker.index);
        let (reservation, subscription) = reserved.inspect_err(|_| self.shared.end_subscribing())?;
        let (to, reservation) = (self.shared.key, Box::new(reservation));
        let posted = self.shared.post(|queue| queue.commands.push(Command::Subscribe { to, reservation }));
        if posted { Ok(subscription) } else { Err(SubscribeError::Disconnected) }
    }

    /// Subscribes the connection to several topics.
    ///
    /// ```
    /// fn join(peer: &threadbare::Peer) {
    ///     let _ = peer.subscribe_all(["news", "weather"]); // an error says that the peer has left
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Peer::subscribe), at the first topic that fails.
    pub fn subscribe_all<S: AsRef<str>>(&self, topics: impl IntoIterator<Item = S>) -> Result<(), SubscribeError> {
        topics.into_iter().try_for_each(|topic| self.subscribe(topic.as_ref()).map(drop))
    }

    /// Ends the subscription to a topic. What was published before is sent, and what is published later is not. Nothing happens if there is no such
    /// subscription. When a connection closes, its subscriptions end by themselves.
    ///
    /// ```
    /// fn leave(peer: &threadbare::Peer) {
    ///     peer.unsubscribe("room/1");
    /// }
    /// ```
    pub fn unsubscribe(&self, topic: &str) {
        let topic = self.shared.worker.topics().and_then(|topics| topics.registry.find(topic));
        if let Some(topic) = topic {
            let upto = topic.last();
            self.shared.worker.inbox.send(Command::Unsubscribe { to: self.shared.key, topic, upto });
        }
    }

    /// Ends the subscriptions to several topics.
    ///
    /// ```
    /// fn leave(peer: &threadbare::Peer) {
    ///     peer.unsubscribe_all(peer.topics()); // all that it has
    /// }
    /// ```
    pub fn unsubscribe_all<S: AsRef<str>>(&self, topics: impl IntoIterator<Item = S>) {
        topics.into_iter().for_each(|topic| self.unsubscribe(topic.as_ref()));
    }

    /// The topics that the connection is subscribed to, in no order, as its worker knows them: one of which it was just
    /// subscribed to may be missing. They are there until the application was told that the connection ends.
    ///
    /// ```
    /// fn log(peer: &threadbare::Peer) {
    ///     for topic in peer.topics() {
    ///         println!("{}: {topic}", peer.id());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<str>> {
        self.shared.topics().into_iter().map(|topic| topic.name.clone()).collect()
    }
}
