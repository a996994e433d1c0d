//! The thread that keeps a client connected. It waits for the network, for notices about its connection, for the time
//! of the next attempt, and for room in the connection's output. Closing the client ends each of these waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::client::builder::ClientBuilder;
use crate::client::delivery::Notice;
use crate::client::error::ConnectError;
use crate::client::pool::{EventRoute, Pool};
use crate::client::reconnect::config::{Reconnect, Session};
use crate::client::reconnect::outage::{Ended, Outage};
use crate::client::reconnect::outbox::Queued;
use crate::client::reconnect::schedule::{NextStep, OutageFacts, RetrySchedule};
use crate::client::reconnect::shared::Shared;
use crate::client::reconnect::state::ConnectionState;
use crate::protocol::close::{CloseCause, CloseCode, CloseReason};
use crate::protocol::contain::contained;
use crate::protocol::handshake::client::Agreed;
use crate::transport::clock::deadline_after;
use crate::transport::random::random;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::send::Wait;

pub(super) struct Supervisor {
    pub(super) shared: Arc<Shared>,
    pub(super) builder: ClientBuilder,
    pub(super) url: String,
    /// The host and port of the URL, or its Unix socket, for the log. The rest may be confidential.
    pub(super) site: String,
    pub(super) settings: Reconnect,
    pub(super) pool: Arc<Pool>,
    /// Where the events of every connection go.
    pub(super) route: EventRoute,
    /// Receives a notice when the client is closed.
    pub(super) stop: Receiver<()>,
}

/// A connection, and the notices about it.
struct Watched {
    agreed: Agreed,
    notices: Receiver<Notice>,
}

impl Supervisor {
    /// Runs until the client has ended.
    pub(super) fn run(mut self) {
        self.shared.supervise();
        let ended = contained(|| self.supervise());
        let ended = ended.unwrap_or_else(|panic| {
            log::error!("a hook of a reconnecting client panicked: {panic}");
            if let Some(peer) = self.shared.peer() {
                // An error means that it is closed already.
                let _ = peer.close(CloseCode::INTERNAL_ERROR, "internal error");
            }
            Ended::Panicked
        });
        // The last state is set before the channel of events ends, which it does when `self.route` is dropped.
        self.shared.end(ended);
    }

    fn supervise(&mut self) -> Ended {
        let mut schedule = RetrySchedule::new(Instant::now());
        let mut connections = 0;
        loop {
            let attempt = schedule.attempt();
            self.shared.enter(ConnectionState::Connecting { attempt });
            let (outage, held) = match self.connect(attempt) {
                Ok(watched) => {
                    let since = Instant::now();
                    connections += 1;
                    let (reason, sent) = self.watch(&watched, attempt, connections);
                    if self.shared.is_closing() {
                        return Ended::ByApplication(Some(reason));
                    }
                    let outage = match sent {
                        Some(sent) => Outage::ClosedHere { sent, reason },
                        None => Outage::Closed(reason),
                    };
                    (outage, Some(since.elapsed()))
                }
                Err(error) => (Outage::Connect(error), None),
            };
            if self.shared.is_closing() {
                return Ended::ByApplication(None);
            }
            let transient = match &self.settings.retry_if {
                Some(hook) => hook(&outage),
                None => outage.is_transient(),
            };
            let facts = OutageFacts { transient, retry_after: outage.retry_after(), held };
            let now = Instant::now();
            let outage = Arc::new(outage);
            match schedule.after(&facts, &self.settings.policy, now, random()) {
                NextStep::End => return Ended::Final(outage),
                NextStep::GiveUp { attempts } => return Ended::GaveUp { attempts, last: outage },
                NextStep::Wait(delay) => {
                    let until = deadline_after(now, delay);
                    let attempt = schedule.next_attempt();
                    log::info!("{}: {outage}; attempt {attempt} in {delay:?}", self.site);
                    self.shared.enter(ConnectionState::Waiting { attempt, until, why: outage });
                    if self.stop.recv_deadline(until) != Err(RecvTimeoutError::Timeout) {
                        return Ended::ByApplication(None);
                    }
                }
            }
        }
    }

    fn connect(&mut self, attempt: u32) -> Result<Watched, ConnectError> {
        let mut builder = self.builder.clone();
        if let Some(hook) = &mut self.settings.before_attempt {
            builder = hook(builder, attempt);
        }
        let request = builder.request(&self.url)?;
        let (watcher, notices) = crossbeam_channel::unbounded();
        let agreed = builder.open(request, &self.pool, &self.route, Some(watcher), &self.shared.cancel)?;
        Ok(Watched { agreed, notices })
    }

    /// Calls the hook for a new connection, sends the outbox, and waits until the connection has ended. Returns why, and
    /// the code of the close frame that was sent before.
    fn watch(&mut self, watched: &Watched, attempt: u32, number: u64) -> (CloseReason, Option<CloseCode>) {
        let Watched { agreed, notices } = watched;
        let Ok(Notice::Open(peer)) = notices.recv() else { return (worker_ended(), None) };
        if self.shared.opened(&peer) {
            if let Some(hook) = &mut self.settings.on_connect {
                hook(&Session { peer: &peer, agreed, attempt, number });
            }
            self.shared.enter(ConnectionState::Connected);
            self.drain(&peer, notices);
        }
        let ended = match notices.recv() {
            Ok(Notice::Ended(reason, sent)) => (reason, sent),
            Ok(Notice::Open(_)) | Err(_) => (worker_ended(), None),
        };
        self.shared.lost();
        ended
    }

    /// Sends the messages of the outbox on the connection. Once it is empty, senders use the connection directly.
    fn drain(&self, peer: &Peer, notices: &Receiver<Notice>) {
        // A notice means that the connection has ended.
        while notices.is_empty()
            && let Some(Queued { message, options }) = self.shared.next_queued(peer)
        {
            // No deadline is needed: the end of the connection ends the wait.
            if let Err((message, _)) = peer.offer_with(message.into(), Wait::For(Duration::MAX), options) {
                return self.shared.put_back(Queued { message: message.into_message(), options });
            }
        }
    }
}

/// The reason for a connection whose worker ended before it sent one.
fn worker_ended() -> CloseReason {
    CloseReason::abnormal("the worker has ended", CloseCause::Lost)
}
