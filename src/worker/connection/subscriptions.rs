//! Subscribing a connection on its worker's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::SubscribeError;
use crate::worker::connection::active::ActiveConn;
use crate::worker::connection::phase::Phase;
use crate::worker::handle::topic_events::TopicEvent;
use crate::worker::topics::position::{Since, Subscription};
use crate::worker::topics::topic::{Publication, Reservation, TopicState};

impl ActiveConn<'_> {
    /// Subscribes the connection to a topic.
    pub(crate) fn subscribe(&mut self, name: &str, since: Since) -> Result<Subscription, SubscribeError> {
        if self.conn.phase != Phase::Open || self.handle_is_closed() {
            return Err(SubscribeError::Disconnected);
        }
        let topics = self.context.topics.shared().ok_or(SubscribeError::NoServer)?;
        let key = self.state.key;
        if self.context.topics.count(key.index) >= topics.max_subscriptions {
            let found = topics.registry.find(name);
            if found.is_none_or(|topic| self.context.topics.find(key, &topic).is_none()) {
                return Err(SubscribeError::TooManySubscriptions);
            }
        }
        let (reservation, subscription) = topics.subscribe(name, since, self.context.handle.index)?;
        self.join(reservation);
        Ok(subscription)
    }

    /// Takes over a subscription that was reserved, unless the connection has one already.
    pub(crate) fn join(&mut self, mut reservation: Reservation) {
        let key = self.state.key;
        if self.conn.phase != Phase::Open {
            return;
        }
        let comes_back = reservation.comes_back();
        let Some((topic, cursor, last)) = reservation.take() else { return };
        if self.context.topics.find(key, &topic).is_some() {
            topic.give_up(self.context.handle.index);
            return self.context.topics.acknowledge_owed(&topic);
        }
        let present = topic.config.presence.then(|| self.peer());
        self.context.topics.join(key, topic.clone(), (cursor, last), |observer, topic| {
            if let Some(peer) = present {
                observer.joined(topic, peer);
            }
        });
        self.context.topics.acknowledge_owed(&topic);
        // The bridge has asked for nothing meanwhile, so nobody knows how much others have published.
        let has_bridge = self.context.topics.shared().is_some_and(|topics| topics.bridge().is_some());
        if comes_back
            && has_bridge
            && let Some(upto) = topic.interrupted_at(cursor)
        {
            self.tell_gap_behind(&topic, cursor, upto, 0);
        }
        if let Some(peer) = &self.conn.peer {
            peer.shared.change_topics(|topics| topics.push(topic));
        }
    }

    /// Ends the subscription to the topic with this name. What was published before is sent.
    pub(crate) fn unsubscribe_from(&mut self, name: &str) {
        let topic = self.context.topics.shared().and_then(|topics| topics.registry.find(name));
        if let Some(topic) = topic {
            self.unsubscribe(&topic, u64::MAX);
        }
    }

    /// Ends a subscription behind the message with the number `upto`. What was published before is sent, as far as there is room.
    pub(crate) fn unsubscribe(&mut self, topic: &Arc<TopicState>, upto: u64) {
        if let Some(number) = self.context.topics.find(self.state.key, topic) {
            self.push_lacking(topic, number, upto);
            self.leave(number);
        }
    }

    /// Queues what was published to a topic, up to the message with the number `upto`, and not sent to this connection.
    fn push_lacking(&mut self, topic: &Arc<TopicState>, number: usize, upto: u64) {
        let key = self.state.key;
        let subscription = self.context.topics.subscription(key.index, number);
        let Some((place, index)) = subscription else { return };
        let Some(member) = self.context.topics.member(place, index) else { return };
        let mut publications = Vec::new();
        let range = topic.read(member.cursor, upto, usize::MAX, &mut publications);
        let mut cursor = member.cursor;
        let dropped = (range.first - 1).min(upto);
        if dropped > cursor {
            self.note_missed(topic, dropped - cursor);
            cursor = dropped;
            self.tell_gaps_up_to(topic, cursor);
        }
        for publication in &publications {
            if !self.is_left_out_of(publication) && !self.hold_behind_gap(topic, publication) {
                if self.is_above_high_water() || !self.send_shared(&publication.frame) {
                    break;
                }
                topic.delivered.fetch_add(1, Ordering::Relaxed);
            }
            cursor += 1;
            self.tell_gaps_up_to(topic, cursor);
        }
        self.tell_gaps_up_to(topic, u64::MAX);
    }

    /// Whether a message of a topic is for all but this connection.
    #[inline]
    pub(crate) fn is_left_out_of(&self, publication: &Publication) -> bool {
        publication.except == Some((self.context.handle.index, self.state.key))
    }

    /// Counts messages of a topic that the connection was not sent, and has the application be told.
    #[cold]
    pub(crate) fn note_missed(&mut self, topic: &TopicState, missed: u64) {
        topic.skipped.fetch_add(missed, Ordering::Relaxed);
        self.info().counters.add_dropped(u32::try_from(missed).unwrap_or(u32::MAX));
        self.context.inbox.metrics.add_skipped(missed);
        self.tell_gap(topic, missed);
    }

    /// Has the application be told that the connection has missed messages. What is sent of topics from now on waits for that.
    #[cold]
    fn tell_gap(&mut self, topic: &TopicState, missed: u64) {
        if let Some(observer) = self.context.topics.observer.clone()
            && observer.has_hook()
        {
            let peer = self.peer();
            self.context.topics.gaps.begin(self.state.key.index);
            observer.push(|| TopicEvent::Gap(peer, topic.name.clone(), missed));
        }
    }

    /// As [`tell_gap`](ActiveConn::tell_gap), once the connection, which was sent the messages of the topic up to `cursor`, was sent
    /// those up to `after`.
    #[cold]
    pub(crate) fn tell_gap_behind(&mut self, topic: &Arc<TopicState>, cursor: u64, after: u64, missed: u64) {
        if cursor < after {
            self.context.topics.gaps.add_ahead(self.state.key.index, topic, after, missed);
        } else {
            self.tell_gap(topic, missed);
        }
    }

    /// Tells the gaps of a topic that are not behind the message with this number.
    #[inline]
    pub(crate) fn tell_gaps_up_to(&mut self, topic: &TopicState, number: u64) {
        let index = self.state.key.index;
        while self.context.topics.gaps.has_any(index)
            && let Some(missed) = self.context.topics.gaps.take_ahead(index, topic, number)
        {
            self.tell_gap(topic, missed);
        }
    }

    /// Has a message of a topic wait until the application was told of the gap before it; `false` if there is none.
    #[inline]
    pub(crate) fn hold_behind_gap(&mut self, topic: &Arc<TopicState>, publication: &Publication) -> bool {
        self.context.topics.gaps.hold(self.state.key.index, topic, &publication.frame)
    }

    /// Removes the connection's subscription with this number.
    fn leave(&mut self, number: usize) {
        let peer = self.conn.peer.as_ref();
        self.context.topics.leave(self.state.key.index, number, |observer, topic| {
            if let Some(peer) = peer {
                observer.left(topic, peer.clone());
            }
        });
        if let Some(peer) = peer {
            peer.shared.change_topics(|topics| drop((number < topics.len()).then(|| topics.swap_remove(number))));
        }
    }

    /// Ends all subscriptions.
    #[cold]
    pub(crate) fn leave_topics(&mut self) {
        self.context.topics.take_behind(self.state.key.index);
        self.context.topics.gaps.remove(self.state.key.index);
        for number in (0..self.context.topics.count(self.state.key.index)).rev() {
            self.leave(number);
        }
    }

    /// The names of the topics that the connection is subscribed to.
    pub(crate) fn topic_names(&self) -> Vec<Arc<str>> {
        self.context.topics.topics_of(self.state.key.index).map(|topic| topic.name.clone()).collect()
    }

    /// The names of the topics that the connection is subscribed to, each with the number of the last message that it was sent.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn topic_cursors(&self) -> Vec<(Arc<str>, u64)> {
        self.context.topics.cursors_of(self.state.key.index)
    }
}
