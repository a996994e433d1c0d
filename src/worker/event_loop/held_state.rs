//! Connections that come from another process, which may still go on with them.

use std::sync::{Arc, Mutex};

use mio::Token;

use crate::protocol::http::Request;
use crate::worker::event_loop::new_connection::NewConnection;
use crate::worker::slab::KeyMap;

/// Makes the application's part of a connection, for all workers; `None` if nobody receives its events.
pub(crate) type SharedMaker<C> = Arc<Mutex<Box<dyn Fn(Request) -> Option<C> + Send>>>;

/// The connections of another process, until it has let go of them.
pub(super) struct Held<C> {
    /// `None` if there is no other process.
    pub(super) make: Option<SharedMaker<C>>,
    pub(super) connections: Vec<NewConnection<C>>,
    /// What the poll has reported of them, and of others whose tokens the worker does not know.
    pub(super) reported: KeyMap<Token, Reported>,
}

/// What the poll has reported of a connection, which it does once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reported {
    pub(super) readable: bool,
    pub(super) end: bool,
}

impl<C> Default for Held<C> {
    fn default() -> Held<C> {
        Held { make: None, connections: Vec::new(), reported: KeyMap::default() }
    }
}
