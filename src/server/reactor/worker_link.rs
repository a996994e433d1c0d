//! How established connections get to a worker.

use std::sync::Arc;

use crossbeam_channel::Sender;

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
}
