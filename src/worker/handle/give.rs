//! What the application gives to another process that goes on with a connection, where it has no handler.

use std::sync::Arc;

use crate::protocol::contain::Kept;
use crate::worker::handle::peer::Peer;

impl Peer {
    /// Sets what is called when another process is about to go on with the connection
    /// ([`ServerBuilder::hand_over`](crate::ServerBuilder::hand_over)), in place of what was set before. It returns what the other
    /// process needs for it, which finds it in the request of its [`Event::Open`](crate::Event::Open)
    /// ([`Request::handed_over`](crate::Request::handed_over)); it may be empty. `None` leaves the connection here, to be closed with
    /// 1012 once the other process serves, and so does a connection for which nothing is set.
    ///
    /// It is called on the worker's thread, after the application has handled all events, and must not block. From then on messages are
    /// handed back with [`SendError::Full`](crate::SendError::Full), until it is known how the hand-over ends; what was sent before
    /// arrives. If the other process fails, the connection goes on here. No event says that it has gone. With a handler,
    /// [`Handler::hand_over`](crate::Handler::hand_over) is called instead.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use threadbare::{Event, Server};
    ///
    /// /// Answers each message with its number.
    /// fn serve(server: &Server) {
    ///     let mut counts = HashMap::new();
    ///     for event in server {
    ///         match event {
    ///             Event::Open(peer, request) => {
    ///                 let before = request.handed_over().and_then(|bytes| bytes.try_into().ok());
    ///                 let count = Arc::new(AtomicU64::new(before.map_or(0, u64::from_be_bytes)));
    ///                 counts.insert(peer.id(), count.clone());
    ///                 peer.on_hand_over(move || Some(count.load(Ordering::SeqCst).to_be_bytes().to_vec()));
    ///             }
    ///             Event::Message(peer, _) => {
    ///                 let count = counts[&peer.id()].fetch_add(1, Ordering::SeqCst) + 1;
    ///                 let _ = peer.send(count.to_string()); // the peer may be gone
    ///             }
    ///             Event::Close(peer, _) => drop(counts.remove(&peer.id())),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// # let _ = serve;
    /// ```
    pub fn on_hand_over(&self, give: impl Fn() -> Option<Vec<u8>> + Send + Sync + 'static) {
        self.shared.set_give(Arc::new(Kept::new(Box::new(give))));
    }

    /// What the application gives.
    pub(crate) fn given(&self) -> Option<Vec<u8>> {
        let give = self.shared.give()?;
        give.get()?()
    }
}
