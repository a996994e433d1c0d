//! The state of a reconnecting client, and the receivers of its changes.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use crate::client::reconnect::outage::{Ended, Outage};
use crate::error::Chain;

/// The state of a reconnecting client.
///
/// ```
/// use std::time::Instant;
/// use threadbare::ConnectionState;
///
/// fn describe(state: &ConnectionState) -> String {
///     match state {
///         ConnectionState::Connected => "online".into(),
///         ConnectionState::Waiting { until, .. } => {
///             format!("offline, next attempt in {:?}", until.saturating_duration_since(Instant::now()))
///         }
///         state => state.to_string(),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// An attempt is being made.
    Connecting {
        /// The number of the attempt, from 1, since the start or since the last connection that lasted for
        /// [`stable_after`](crate::Reconnect::stable_after).
        attempt: u32,
    },
    /// There is a connection, and [`on_connect`](crate::Reconnect::on_connect) has returned.
    Connected,
    /// The client waits for the time of the next attempt.
    Waiting {
        /// The number of that attempt.
        attempt: u32,
        /// When it will be made.
        until: Instant,
        /// Why there is no connection.
        why: Arc<Outage>,
    },
    /// The client has ended, and connects no more.
    Closed(Ended),
}

impl ConnectionState {
    /// Whether there is a connection.
    ///
    /// ```
    /// use threadbare::ConnectionState;
    ///
    /// assert!(ConnectionState::Connected.is_connected());
    /// ```
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, ConnectionState::Connected)
    }

    /// Whether the client has ended. No other state follows.
    ///
    /// ```
    /// use threadbare::{ConnectionState, Ended};
    ///
    /// assert!(ConnectionState::Closed(Ended::ByApplication(None)).is_closed());
    /// assert!(!ConnectionState::Connected.is_closed());
    /// ```
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

/// Receives the states of a client; made by [`state_changes`](crate::ReconnectingClient::state_changes).
///
/// It holds up to 64 states. If the application is further behind, the oldest are dropped, never the newest.
///
/// ```
/// use threadbare::{Client, CloseCode, ConnectionState, Reconnect, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let client = Client::builder().reconnect(&format!("ws://{}", server.local_addr()), Reconnect::new())?;
/// let changes = client.state_changes();
/// client.close(CloseCode::NORMAL_CLOSURE, "")?;
/// let states: Vec<ConnectionState> = changes.as_channel().iter().collect();
/// assert!(states.last().is_some_and(ConnectionState::is_closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StateChanges {
    receiver: Arc<Receiver<ConnectionState>>,
}

impl StateChanges {
    /// The channel of states, to receive from with or without a deadline, or in a crossbeam `Select`. It ends after
    /// [`ConnectionState::Closed`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::StateChanges;
    ///
    /// fn print_next(changes: &StateChanges) {
    ///     match changes.as_channel().recv_timeout(Duration::from_secs(60)) {
    ///         Ok(state) => println!("{state}"),
    ///         Err(error) => println!("{error}"),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn as_channel(&self) -> &Receiver<ConnectionState> {
        &self.receiver
    }
}

/// At most 64 states wait for a watcher. Larger keeps more memory for one that does not receive; smaller drops states
/// earlier.
const KEPT_CHANGES: usize = 64;

/// The senders to all [`StateChanges`] of a client.
#[derive(Default)]
pub(super) struct Watchers {
    list: Vec<(Sender<ConnectionState>, Weak<Receiver<ConnectionState>>)>,
}

impl Watchers {
    /// Adds a watcher, and sends it the current state.
    pub(super) fn add(&mut self, now: &ConnectionState) -> StateChanges {
        let (sender, receiver) = crossbeam_channel::bounded(KEPT_CHANGES);
        let receiver = Arc::new(receiver);
        // A new channel has room.
        let _ = sender.send(now.clone());
        if !now.is_closed() {
            self.list.push((sender, Arc::downgrade(&receiver)));
        }
        StateChanges { receiver }
    }

    /// Sends a new state to all watchers. After [`ConnectionState::Closed`] there are none.
    pub(super) fn send(&mut self, state: &ConnectionState) {
        self.list.retain(|(sender, receiver)| {
            while sender.try_send(state.clone()).is_err() {
                // The channel is full, or its receiver was dropped.
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
    fn a_watcher_receives_the_current_state_and_then_every_change() {
        let mut watchers = Watchers::default();
        let changes = watchers.add(&ConnectionState::Connected);
        watchers.send(&ConnectionState::Connecting { attempt: 7 });
        watchers.send(&ConnectionState::Closed(Ended::Panicked));
        let seen: Vec<String> = changes.as_channel().iter().map(|state| state.to_string()).collect();
        let panicked = "closed: a hook of the reconnecting client panicked";
        assert_eq!(seen, ["connected", "connecting (attempt 7)", panicked]);
        let late = watchers.add(&ConnectionState::Closed(Ended::Panicked));
        assert_eq!(late.as_channel().iter().count(), 1);
    }

    #[test]
    fn a_slow_watcher_misses_the_oldest_states() {
        let mut watchers = Watchers::default();
        let changes = watchers.add(&ConnectionState::Connected);
        for attempt in 1..=1000 {
            watchers.send(&ConnectionState::Connecting { attempt });
        }
        let attempts: Vec<u32> = std::iter::from_fn(|| match changes.as_channel().try_recv() {
            Ok(ConnectionState::Connecting { attempt }) => Some(attempt),
            _ => None,
        })
        .collect();
        assert_eq!(attempts, (937..=1000).collect::<Vec<_>>());
        drop(changes);
        watchers.send(&ConnectionState::Connected);
        assert!(watchers.list.is_empty(), "nobody is left");
    }
}
