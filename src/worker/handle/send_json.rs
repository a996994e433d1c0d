//! Sending a value as JSON from another thread (feature `serde_json`).

use serde_core::Serialize;

use crate::error::SendError;
use crate::protocol::json::{JsonTransferError, to_message};
use crate::protocol::message::Message;
use crate::worker::handle::peer::Peer;

impl Peer {
    /// Sends a value as the JSON of a text message, as [`send`](Peer::send) does.
    ///
    /// ```
    /// use threadbare::Peer;
    ///
    /// fn tell(peer: &Peer, price: u32) {
    ///     let _ = peer.send_json(&("price", price)); // the peer may be gone
    /// }
    /// ```
    ///
    /// # Errors
    /// The value can not be written as JSON, or the errors of [`send`](Peer::send).
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), JsonTransferError<SendError<Message>>> {
        self.send(to_message(value)?).map_err(JsonTransferError::Transfer)
    }
}
