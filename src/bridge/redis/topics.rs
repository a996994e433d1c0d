//! The topics that this node asks for, and which of them changed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Written by any thread, read by the subscriber's.
#[derive(Debug, Default)]
pub(super) struct Topics {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    wanted: HashSet<Arc<str>>,
    /// In their order, each as often as it changed. None without a connection.
    changed: Vec<Arc<str>>,
    is_connected: bool,
}

/// A topic whose last change is this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) topic: Arc<str>,
    pub(super) wanted: bool,
}

impl Topics {
    /// Asks for a topic. Returns whether the subscriber is to be woken.
    #[must_use]
    pub(super) fn want(&self, topic: &str) -> bool {
        let mut inner = self.lock();
        let name: Arc<str> = topic.into();
        inner.wanted.insert(name.clone()) && inner.note(name)
    }

    /// Asks for a topic no more. Returns whether the subscriber is to be woken.
    #[must_use]
    pub(super) fn forget(&self, topic: &str) -> bool {
        let mut inner = self.lock();
        match inner.wanted.take(topic) {
            Some(name) => inner.note(name),
            None => false,
        }
    }

    /// Takes all topics, for a new connection, which takes changes until [`lose`](Topics::lose). Earlier changes are part of them.
    pub(super) fn all(&self) -> Vec<Arc<str>> {
        let mut inner = self.lock();
        inner.changed = Vec::new();
        inner.is_connected = true;
        inner.wanted.iter().cloned().collect()
    }

    /// Notes that nobody takes changes before the next connection takes all: in a long outage they would be many.
    pub(super) fn lose(&self) {
        let mut inner = self.lock();
        inner.changed = Vec::new();
        inner.is_connected = false;
    }

    /// Takes what changed since the last call.
    pub(super) fn take_changes(&self) -> Vec<Change> {
        let mut inner = self.lock();
        let mut seen = HashSet::new();
        let changed = std::mem::take(&mut inner.changed);
        let unique = changed.into_iter().filter(|topic| seen.insert(topic.clone()));
        unique.map(|topic| Change { wanted: inner.wanted.contains(&topic), topic }).collect()
    }

    /// Whether anything changed since the last call of [`take_changes`](Topics::take_changes).
    pub(super) fn has_changes(&self) -> bool {
        !self.lock().changed.is_empty()
    }

    /// Whether a topic is asked for.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn is_wanted(&self, topic: &str) -> bool {
        self.lock().wanted.contains(topic)
    }

    pub(super) fn count(&self) -> usize {
        self.lock().wanted.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The first change wakes the subscriber, which takes all.
    fn note(&mut self, topic: Arc<str>) -> bool {
        if !self.is_connected {
            return false;
        }
        self.changed.push(topic);
        self.changed.len() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_once_with_what_holds_at_the_end() {
        let topics = Topics::default();
        assert!(topics.all().is_empty());
        assert!(topics.want("a"));
        assert!(!topics.want("a"), "it is wanted already");
        assert!(!topics.want("b"), "the subscriber was woken");
        assert!(!topics.forget("a"));
        assert!(!topics.forget("never"));
        let change = |topic: &str, wanted| Change { topic: topic.into(), wanted };
        assert_eq!(topics.take_changes(), [change("a", false), change("b", true)]);
        assert_eq!(topics.take_changes(), []);
        assert!(topics.want("c"));
        let mut all = topics.all();
        all.sort();
        assert_eq!(all, ["b".into(), "c".into()] as [Arc<str>; 2]);
        assert_eq!(topics.take_changes(), [], "all of them were taken");
        assert_eq!(topics.count(), 2);
    }

    #[test]
    fn what_changes_without_a_connection_is_not_kept() {
        let topics = Topics::default();
        let change = |number: u32| topics.want(&number.to_string()) || topics.forget(&number.to_string());
        assert!(!(0..100).any(change) && !topics.has_changes(), "before the first one");
        assert!(!topics.want("a"), "there is nobody to wake");
        assert_eq!((topics.all().len(), topics.has_changes()), (1, false));
        assert!(topics.want("b") && topics.has_changes());
        topics.lose();
        assert!(!(0..100).any(change) && !topics.has_changes(), "behind the last one");
        assert_eq!(topics.all().len(), 2);
    }
}
