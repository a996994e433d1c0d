//! Topics that go on in another process: how all of them are told, and how a server goes on with them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::SubscribeError;
use crate::protocol::message::MessageRef;
use crate::worker::handle::topics::{Origin, Topics};
use crate::worker::topics::position::Since;
use crate::worker::topics::topic::{Reservation, TopicState};
use crate::worker::topics::travel::{self, Standing, ToldTopic};

/// What another process was told of each topic, by its epoch.
pub(crate) type Known = HashMap<u64, Standing>;

impl Topics {
    /// Takes part in a hand-over: what is published waits until [`go_on`](Topics::go_on).
    pub(crate) fn stand_by(&self) {
        self.stand_by.begin();
    }

    /// Tells what there is of all topics beyond what was told before.
    pub(crate) fn tell<E>(&self, known: &mut Known, mut tell: impl FnMut(ToldTopic) -> Result<(), E>) -> Result<(), E> {
        for topic in self.registry.all() {
            if let Some(told) = topic.tell(known.get(&topic.epoch).copied(), self.millis()) {
                known.insert(told.epoch, told.standing);
                tell(told)?;
            }
        }
        Ok(())
    }

    /// Has nothing be published here from then on: the topics are those of another process. `leave` has the bridge leave: what it was
    /// given before is in the topics, and what it is given later is not.
    pub(crate) fn leave<T>(&self, leave: impl FnOnce() -> T) -> T {
        self.publishing.between(|| {
            let left = leave();
            self.registry.leave();
            left
        })
    }

    /// Goes on with a topic of another process, as far as it was told.
    pub(crate) fn take(&self, told: ToldTopic) -> Arc<TopicState> {
        told.messages.iter().for_each(|message| message.frame.charge(&self.budget));
        self.registry.go_on(told, self.millis())
    }

    /// Goes on with the topics that were taken, as they stood in the process before. They keep everything for subscribers that come, until
    /// what this returns is dropped; then `then` is called. Publishes what has waited.
    pub(crate) fn go_on(
        self: &Arc<Self>,
        taken: Vec<(Arc<TopicState>, Standing)>,
        then: impl FnOnce() + Send + Sync + 'static,
    ) -> Awaited {
        for (topic, standing) in &taken {
            if standing.has_subscribers {
                topic.await_subscribers();
            }
        }
        self.sweep();
        let has_lost = self.stand_by.end(|name, message| {
            self.publish_here(name, MessageRef::from(&message), Origin::default());
        });
        Awaited { topics: self.clone(), taken, has_lost, then: Some(Box::new(then)) }
    }

    /// Reserves the subscription of a connection that comes from another process, where it was `was` and had the messages up to `cursor`.
    pub(crate) fn resume(
        &self,
        name: &str,
        cursor: u64,
        was: travel::Origin,
        is: travel::Origin,
    ) -> Result<Reservation, SubscribeError> {
        let topic = self.registry.find(name);
        let resumed = topic.and_then(|topic| topic.resume(cursor, was, is, self.now(&topic)));
        // It was told, and does not end before.
        resumed.map_or_else(|| self.subscribe(name, Since::Now, is.0).map(|(reservation, _)| reservation), Ok)
    }
}

/// Topics that keep everything for connections that are still to come.
pub(crate) struct Awaited {
    topics: Arc<Topics>,
    taken: Vec<(Arc<TopicState>, Standing)>,
    /// Something that was published meanwhile is lost.
    has_lost: bool,
    then: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaited").field("taken", &self.taken.len()).finish_non_exhaustive()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        for (topic, standing) in &self.taken {
            topic.end_awaiting(*standing, self.topics.now(topic), || {
                // It was asked for no others.
                if let Some(bridge) = self.topics.bridge().filter(|_| standing.has_subscribers) {
                    bridge.last(&topic.name);
                }
            });
        }
        if self.has_lost {
            self.topics.gap(None, 0);
        }
        if let Some(then) = self.then.take() {
            then();
        }
    }
}
