//! How established connections get to a worker.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use crate::worker::connection_limit::ConnectionLimit;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::handle::inbox::Inbox;

/// A worker, to which established connections are assigned.
pub(in crate::server) struct WorkerLink<C> {
    pub(in crate::server) inbox: Arc<Inbox>,
    pub(in crate::server) new_connections: Sender<NewConnection<C>>,
    /// Connections were assigned to it in this iteration of the event loop, and it is not notified yet.
    pub(super) notify_due: bool,
}

impl<C> WorkerLink<C> {
    pub(in crate::server) fn new(inbox: Arc<Inbox>, new_connections: Sender<NewConnection<C>>) -> WorkerLink<C> {
        WorkerLink { inbox, new_connections, notify_due: false }
    }

    /// Assigns a connection to the worker. If the worker has ended, the connection does not count any more.
    pub(super) fn assign(&mut self, connection: NewConnection<C>, limit: &ConnectionLimit) {
        self.inbox.load.fetch_add(1, Ordering::Relaxed);
        match self.new_connections.send(connection) {
            Ok(()) => self.notify_due = true,
            Err(returned) => limit.release(returned.0.addr.ip()),
        }
    }
}

/// The worker with the fewest connections.
pub(super) fn least_loaded<C>(workers: &mut [WorkerLink<C>]) -> Option<&mut WorkerLink<C>> {
    workers.iter_mut().min_by_key(|worker| worker.inbox.load.load(Ordering::Relaxed))
}
