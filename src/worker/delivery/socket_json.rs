//! Sending a value as JSON from a handler (feature `serde_json`).

use serde_core::Serialize;

use crate::protocol::deflate::Compression;
use crate::protocol::frame::Opcode;
use crate::protocol::json::{JsonError, to_message, write_json};
use crate::worker::connection::context::WorkerContext;
use crate::worker::delivery::socket::Socket;

impl Socket<'_> {
    /// Sends a value as the JSON of a text message, as [`send`](Socket::send) does. Returns `false` if the connection is
    /// closing. The JSON is written straight into the output, unless it is compressed.
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
        if !self.active.conn.can_send() || self.active.handle_is_closed() {
            // It may wait for the end of a message in parts.
            return Ok(self.send(to_message(value)?));
        }
        let WorkerContext { output, codec, .. } = &mut *self.active.context;
        let write = |out: &mut Vec<u8>| write_json(out, value);
        self.active.conn.endpoint.push_written(output, codec, Opcode::Text, Compression::Auto, write)?;
        self.active.state.counts.sent += 1;
        Ok(true)
    }
}
