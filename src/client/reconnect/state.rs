//! How a reconnecting client stands, and who is told when that changes.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use crate::client::reconnect::outage::{Ended, Outage};
use crate::error::Chain;

/// How a reconnecting client stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// An attempt is being made.
    Connecting {
        /// Its number, from 1, counted since the start or the last connection that held.
        attempt: u32,
    },
    /// There is a connection, and [`on_connect`](crate::Reconnect::on_connect) is through with it.
    Connected,
    /// The next attempt is waited for.
    Waiting {
        /// The number of that attempt.
        attempt: u32,
        /// When it will be made.
        until: Instant,
        /// Why there is no connection.
        why: Arc<Outage>,
    },
    /// There will be no connection any more.
    Closed(Ended),
}

impl ConnectionState {
    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, ConnectionState::Connected)
    }

    /// Whether it is the last.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, ConnectionState::Closed(_))
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionState::Connecting { attempt } => write!(f, "connecting (attempt {attempt})"),
            ConnectionState::Connected => f.write_str("connected"),
            ConnectionState::Waiting { attempt, why, .. } => {
                write!(f, "waiting for attempt {attempt}: {}", Chain(&**why))
            }
            ConnectionState::Closed(ended) => write!(f, "closed: {}", Chain(ended)),
        }
    }
}

/// The changes of a client's state; made by [`state_changes`](crate::ReconnectingClient::state_changes).
///
/// It holds the latest 64; a watcher that is further behind misses the oldest, never the newest.
#[derive(Debug)]
pub struct StateChanges {
    receiver: Arc<Receiver<ConnectionState>>,
}

impl StateChanges {
    /// The channel of states, which waits with or without a deadline, alone or in a crossbeam `Select`. It ends behind
    /// [`ConnectionState::Closed`].
    #[must_use]
    pub fn as_channel(&self) -> &Receiver<ConnectionState> {
        &self.receiver
    }
}

/// How many changes a watcher may be behind.
const KEPT_CHANGES: usize = 64;

/// Those who are told.
#[derive(Default)]
pub(super) struct Watchers {
    list: Vec<(Sender<ConnectionState>, Weak<Receiver<ConnectionState>>)>,
}

impl Watchers {
    /// Adds one, who is told the present state first.
    pub(super) fn add(&mut self, now: &ConnectionState) -> StateChanges {
        let (sender, receiver) = crossbeam_channel::bounded(KEPT_CHANGES);
        let receiver = Arc::new(receiver);
        // The first has room.
        let _ = sender.send(now.clone());
        if !now.is_closed() {
            self.list.push((sender, Arc::downgrade(&receiver)));
        }
        StateChanges { receiver }
    }

    /// Tells them a new state; nothing follows the last one.
    pub(super) fn tell(&mut self, state: &ConnectionState) {
        self.list.retain(|(sender, receiver)| {
            while sender.try_send(state.clone()).is_err() {
                // Full, or nobody's.
                match receiver.upgrade() {
                    Some(receiver) => drop(receiver.try_recv()),
                    None => return false,
                }
            }
            !state.is_closed()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_sees_the_present_and_then_every_change_up_to_the_last() {
        let mut watchers = Watchers::default();
        let changes = watchers.add(&ConnectionState::Connected);
        watchers.tell(&ConnectionState::Connecting { attempt: 7 });
        watchers.tell(&ConnectionState::Closed(Ended::Panicked));
        let seen: Vec<String> = changes.as_channel().iter().map(|state| state.to_string()).collect();
        let panicked = "closed: a hook of the reconnecting client panicked";
        assert_eq!(seen, ["connected", "connecting (attempt 7)", panicked]);
        let late = watchers.add(&ConnectionState::Closed(Ended::Panicked));
        assert_eq!(late.as_channel().iter().count(), 1);
    }

    #[test]
    fn a_watcher_that_is_behind_misses_the_oldest() {
        let mut watchers = Watchers::default();
        let changes = watchers.add(&ConnectionState::Connected);
        for attempt in 1..=1000 {
            watchers.tell(&ConnectionState::Connecting { attempt });
        }
        let attempts: Vec<u32> = std::iter::from_fn(|| match changes.as_channel().try_recv() {
            Ok(ConnectionState::Connecting { attempt }) => Some(attempt),
            _ => None,
        })
        .collect();
        assert_eq!(attempts, (937..=1000).collect::<Vec<_>>());
        drop(changes);
        watchers.tell(&ConnectionState::Connected);
        assert!(watchers.list.is_empty(), "nobody is left");
    }
}
