//! Sending a value as JSON from a handler (feature `serde_json`).

use serde_core::Serialize;

use crate::protocol::json::{JsonError, to_message};
use crate::worker::delivery::socket::Socket;

impl Socket<'_> {
    /// Sends a value as the JSON of a text message, as [`send`](Socket::send) does. Returns `false` if the connection is
    /// closing.
    ///
    /// ```
    /// use threadbare::{MessageRef, Socket};
    ///
    /// fn answer(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    ///     if let Err(error) = socket.send_json(&("length", message.len())) {
    ///         println!("not sent: {error}");
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The value can not be written as JSON.
    pub fn send_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<bool, JsonError> {
        Ok(self.send(to_message(value)?))
    }
}
