//! What the application is told of topics, in order, and who is in them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::contain::contained;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::peer_id::PeerId;
use crate::worker::handle::topics::Topics;
use crate::worker::topics::topic::TopicState;

/// What [`ServerBuilder::on_topic`](crate::ServerBuilder::on_topic) is told.
///
/// ```
/// use threadbare::{Server, TopicEvent};
///
/// let server = Server::builder()
///     .on_topic(|event| match event {
///         TopicEvent::First(topic) => println!("{topic} is wanted"),
///         TopicEvent::Last(topic) => println!("{topic} is wanted no more"),
///         TopicEvent::Gap(peer, topic, missed) => {
///             let _ = peer.send(format!("{missed} messages of {topic} were left out")); // it may be gone
///         }
///         _ => {}
///     })
///     .bind("127.0.0.1:0")?;
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TopicEvent {
    /// A topic has its first subscriber.
    First(Arc<str>),
    /// A topic has lost its last subscriber.
    Last(Arc<str>),
    /// A connection is subscribed. Only for topics with [`TopicConfig::presence`](crate::TopicConfig::presence).
    Joined(Peer, Arc<str>),
    /// A connection is not subscribed any more, because it said so or because it ends. As [`Joined`](TopicEvent::Joined).
    Left(Peer, Arc<str>),
    /// A connection has missed so many messages of a topic: it read too slowly, or they did not come here from another server. 0
    /// where nobody knows whether there were any, as after a bridge has lost its connection, or for a connection that comes back by its
    /// position after a bridged topic had no subscribers here. What the hook sends to the connection arrives behind the messages before
    /// the gap, and ahead of those that follow it.
    Gap(Peer, Arc<str>, u64),
}

/// The application's hook.
pub(crate) type TopicHook = dyn Fn(TopicEvent) + Send + Sync;

/// Tells the application and the bridge what happens to topics.
pub(crate) struct TopicObserver {
    pub(crate) topics: Arc<Topics>,
    hook: Option<Box<TopicHook>>,
    /// Events that are to be told. What concerns one topic is pushed under that topic's lock.
    events: Mutex<VecDeque<TopicEvent>>,
    /// Whether there may be some. Synchronizes with [`dispatch`](TopicObserver::dispatch).
    has_events: AtomicBool,
    /// Whether a thread tells them.
    is_telling: AtomicBool,
    /// The subscribers of the topics with presence, by epoch.
    present: Mutex<HashMap<u64, HashMap<PeerId, Peer>>>,
}

impl fmt::Debug for TopicObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicObserver").field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl TopicObserver {
    pub(crate) fn new(topics: Arc<Topics>, hook: Option<Box<TopicHook>>) -> TopicObserver {
        TopicObserver {
            topics,
            hook,
            events: Mutex::default(),
            has_events: AtomicBool::new(false),
            is_telling: AtomicBool::new(false),
            present: Mutex::default(),
        }
    }

    /// Whether anybody is told of single connections.
    pub(crate) fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<TopicEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> MutexGuard<'_, HashMap<u64, HashMap<PeerId, Peer>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an event be told at the end of this iteration of the event loop.
    pub(crate) fn push(&self, event: impl FnOnce() -> TopicEvent) {
        if self.hook.is_some() || self.topics.bridge().is_some() {
            self.events().push_back(event());
            self.has_events.store(true, Ordering::SeqCst);
        }
    }

    /// Notes that a connection is subscribed to a topic with presence.
    pub(crate) fn joined(&self, topic: &TopicState, peer: Peer) {
        self.push(|| TopicEvent::Joined(peer.clone(), topic.name.clone()));
        self.present().entry(topic.epoch).or_default().insert(peer.id(), peer);
    }

    /// Notes that a connection is not subscribed any more.
    pub(crate) fn left(&self, topic: &TopicState, peer: Peer) {
        let mut present = self.present();
        if let Some(peers) = present.get_mut(&topic.epoch) {
            peers.remove(&peer.id());
            if peers.is_empty() {
                present.remove(&topic.epoch);
            }
        }
        drop(present);
        self.push(|| TopicEvent::Left(peer, topic.name.clone()));
    }

    /// The subscribers of a topic with presence.
    pub(crate) fn peers(&self, topic: &TopicState) -> Vec<Peer> {
        self.present().get(&topic.epoch).map_or_else(Vec::new, |peers| peers.values().cloned().collect())
    }

    /// Tells what there is to tell, unless another thread does: it tells this too. So one event follows the other, whichever
    /// workers they are from, and no lock is held while the application runs.
    pub(crate) fn dispatch(&self) {
        while self.has_events.load(Ordering::SeqCst) && !self.is_telling.swap(true, Ordering::SeqCst) {
            self.has_events.store(false, Ordering::SeqCst);
            loop {
                let Some(event) = self.events().pop_front() else { break };
                self.tell(event);
            }
            // A thread that pushes from here on finds that nobody tells, or is seen by the next look.
            self.is_telling.store(false, Ordering::SeqCst);
        }
    }

    fn tell(&self, event: TopicEvent) {
        match (&event, self.topics.bridge()) {
            (TopicEvent::First(topic), Some(bridge)) => bridge.first(topic),
            (TopicEvent::Last(topic), Some(bridge)) => bridge.last(topic),
            _ => {}
        }
        let Some(hook) = &self.hook else { return };
        let in_gap = match &event {
            TopicEvent::Gap(peer, ..) => Some(peer.clone()),
            _ => None,
        };
        if let Err(panic) = contained(|| hook(event)) {
            log::error!("the hook for topics panicked: {panic}");
        }
        if let Some(peer) = in_gap {
            // Behind what the hook has sent.
            peer.shared.worker.inbox.send(Command::GapTold { to: peer.shared.key });
        }
    }
}
