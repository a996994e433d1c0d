//! Values as JSON over a client's connection (feature `serde_json`).

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::client::client::Client;
use crate::client::error::ClientError;
use crate::client::reconnect::{Ended, ReconnectingClient};
use crate::error::SendError;
use crate::protocol::json::{JsonTransferError, to_message};
use crate::protocol::message::Message;

impl Client {
    /// Sends a value as the JSON of a text message, as [`send`](Client::send) does.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// client.send_json(&("subscribe", ["EURUSD", "EURCHF"]))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The value can not be written as JSON, or the errors of [`send`](Client::send).
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), JsonTransferError<SendError<Message>>> {
        self.peer.send_json(value)
    }

    /// Waits for the next message, as [`recv`](Client::recv) does, and reads it as JSON.
    ///
    /// ```
    /// # use threadbare::{Client, Event, Server};
    /// # let server = Server::bind("127.0.0.1:0")?;
    /// # let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let Event::Open(peer, _request) = server.recv()? else { panic!("the first event") };
    /// # peer.send(r#"["price", 100]"#)?;
    /// assert_eq!(client.recv_json::<(String, u32)>()?, Some(("price".to_owned(), 100)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The message is no such value, after which the next one can be received; or the errors of [`recv`](Client::recv).
    pub fn recv_json<T: DeserializeOwned>(&self) -> Result<Option<T>, JsonTransferError<ClientError>> {
        let message = self.recv().map_err(JsonTransferError::Transfer)?;
        Ok(message.map(|message| message.json()).transpose()?)
    }
}

impl ReconnectingClient {
    /// Sends a value as the JSON of a text message, as [`send`](ReconnectingClient::send) does.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let url = format!("ws://{}", server.local_addr());
    /// # let client = threadbare::Client::builder().reconnect(&url, threadbare::Reconnect::new())?;
    /// client.send_json(&("subscribe", ["EURUSD", "EURCHF"]))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The value can not be written as JSON, or the errors of [`send`](ReconnectingClient::send).
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), JsonTransferError<SendError<Message>>> {
        self.send(to_message(value)?).map_err(JsonTransferError::Transfer)
    }

    /// Waits for the next message, as [`recv`](ReconnectingClient::recv) does, and reads it as JSON.
    ///
    /// ```no_run
    /// # let url = "ws://127.0.0.1:8080/feed";
    /// # let client = threadbare::Client::builder().reconnect(url, threadbare::Reconnect::new())?;
    /// while let Some((name, price)) = client.recv_json::<(String, u32)>()? {
    ///     println!("{name}: {price}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The message is no such value, after which the next one can be received; or the errors of
    /// [`recv`](ReconnectingClient::recv).
    pub fn recv_json<T: DeserializeOwned>(&self) -> Result<Option<T>, JsonTransferError<ClientError<Ended>>> {
        let message = self.recv().map_err(JsonTransferError::Transfer)?;
        Ok(message.map(|message| message.json()).transpose()?)
    }
}
