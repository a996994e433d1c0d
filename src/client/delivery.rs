//! How a client's worker hands on what it receives: events to the client's channel and, where somebody watches the
//! connection, word of its beginning and its end.

use crossbeam_channel::Sender;

use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::worker::channel::{Owned, ToOwners};
use crate::worker::delivery::{Delivery, Farewell, Incoming, Socket};
use crate::worker::peer::Peer;
use crate::worker::slots::Key;

/// What a watcher is told. The end of its channel is the connection's, too.
#[derive(Debug)]
pub(super) enum Notice {
    Open(Peer),
    Ended(CloseReason),
}

/// A connection's way to its client.
#[derive(Debug)]
pub(super) struct Line {
    owned: Owned,
    watcher: Option<Sender<Notice>>,
    /// Told when the events before it are handed over, lest those of the next connection overtake them.
    ended: Option<CloseReason>,
}

impl Line {
    pub(super) fn new(owned: Owned, watcher: Option<Sender<Notice>>) -> Line {
        Line { owned, watcher, ended: None }
    }
}

/// Sends each connection's events to its client.
#[derive(Debug, Default)]
pub(super) struct ToClients {
    owners: ToOwners,
}

impl Delivery for ToClients {
    type Connection = Line;
    type Opening = Request;

    const HANDLES: bool = true;

    const ANSWERS: bool = false;

    fn open(&mut self, line: &mut Line, socket: &mut Socket<'_>, request: Request) {
        self.owners.open(&mut line.owned, socket, request);
        if let Some(watcher) = &line.watcher {
            // Whoever no longer watches has no use for it.
            let _ = watcher.send(Notice::Open(socket.peer()));
        }
    }

    #[inline]
    fn message(&mut self, line: &mut Line, socket: &mut Socket<'_>, message: Incoming<'_>) {
        self.owners.message(&mut line.owned, socket, message);
    }

    fn ping(&mut self, line: &mut Line, socket: &mut Socket<'_>, payload: &[u8]) {
        self.owners.ping(&mut line.owned, socket, payload);
    }

    fn pong(&mut self, line: &mut Line, socket: &mut Socket<'_>, payload: &[u8]) {
        self.owners.pong(&mut line.owned, socket, payload);
    }

    fn close(&mut self, line: &mut Line, socket: &mut Socket<'_>, reason: CloseReason) -> Farewell {
        if line.watcher.is_some() {
            line.ended = Some(reason.clone());
        }
        self.owners.close(&mut line.owned, socket, reason)
    }

    fn has_room(&mut self, line: &mut Line, key: Key) -> bool {
        self.owners.has_room(&mut line.owned, key)
    }

    fn resume(&mut self, ready: &mut Vec<Key>) {
        self.owners.resume(ready);
    }

    fn served(&mut self, line: &mut Line) {
        self.owners.served(&mut line.owned);
        if let (Some(reason), Some(watcher)) = (line.ended.take(), &line.watcher) {
            // As above.
            let _ = watcher.send(Notice::Ended(reason));
        }
    }

    fn end_turn(&mut self) {
        self.owners.end_turn();
    }

    fn is_orphaned(&self, line: &Line) -> bool {
        self.owners.is_orphaned(&line.owned)
    }
}
