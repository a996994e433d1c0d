//! Values as JSON over a [`WebSocket`] (feature `serde_json`).

use std::io::{Read, Write};

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::protocol::deflate::Compression;
use crate::protocol::frame::Opcode;
use crate::protocol::json::{JsonTransferError, write_json};
use crate::socket::codecs::with_codec;
use crate::socket::{SocketError, WebSocket};

impl<S: Read + Write> WebSocket<S> {
    /// Sends a value as the JSON of a text message, as [`send`](WebSocket::send) does. The JSON is written straight into the
    /// output, unless it is compressed.
    ///
    /// ```
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.send_json(&("price", 100))?;
    /// assert_eq!(server.recv_json::<(String, u32)>()?, Some(("price".to_owned(), 100)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The value can not be written as JSON, or the errors of [`send`](WebSocket::send).
    pub fn send_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonTransferError<SocketError>> {
        self.admit().map_err(JsonTransferError::Transfer)?;
        let output = &mut self.output;
        with_codec(&mut self.endpoint, |endpoint, codec| {
            let write = |out: &mut Vec<u8>| write_json(out, value);
            endpoint.push_written(output, codec, Opcode::Text, Compression::Auto, write)
        })?;
        self.after_push().map_err(JsonTransferError::Transfer)
    }

    /// Waits for the next message, as [`recv_ref`](WebSocket::recv_ref) does, and reads it as JSON. For an example, see
    /// [`send_json`](WebSocket::send_json).
    ///
    /// ```no_run
    /// # let stream = std::net::TcpStream::connect("127.0.0.1:8080")?;
    /// let mut socket = threadbare::WebSocket::connect("ws://127.0.0.1:8080/feed", stream)?;
    /// while let Some((name, price)) = socket.recv_json::<(String, u32)>()? {
    ///     println!("{name}: {price}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The message is no such value, after which the next one can be received; or the errors of
    /// [`recv`](WebSocket::recv).
    pub fn recv_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, JsonTransferError<SocketError>> {
        let message = self.recv_ref().map_err(JsonTransferError::Transfer)?;
        Ok(message.map(|message| message.json()).transpose()?)
    }
}
