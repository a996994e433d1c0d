//! Receiving without a copy: a message is lent out of the receive buffer.

use std::io::{Read, Write};

use crate::protocol::message::MessageRef;
use crate::socket::receiving::{Data, Found};
use crate::socket::writing::Writing;
use crate::socket::{SocketError, WebSocket};

impl<S: Read + Write> WebSocket<S> {
    /// Waits for the next message, as [`recv`](WebSocket::recv) does, and lends it: a message that arrived whole is not
    /// copied. It is valid until the next call. For small messages, this takes half of the time of `recv`.
    ///
    /// ```
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// server.send("price 100")?;
    /// server.send("price 101")?;
    /// server.close(threadbare::CloseCode::NORMAL_CLOSURE, "")?;
    /// let mut last = 0;
    /// while let Some(message) = client.recv_ref()? {
    ///     if let Some(price) = message.as_text().and_then(|text| text.strip_prefix("price ")) {
    ///         last = price.parse()?;
    ///     }
    /// }
    /// assert_eq!(last, 101);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](WebSocket::recv).
    #[inline]
    pub fn recv_ref(&mut self) -> Result<Option<MessageRef<'_>>, SocketError> {
        // Its buffer serves again if it is large.
        if let Some(message) = self.lent.take() {
            self.output.pool.give(message.into_bytes());
        }
        let frame = loop {
            let message = match self.find(|_| Ok(()))? {
                None => return Ok(None),
                Some(Found::Whole(frame)) => break frame,
                Some(Found::Kept(Data::Message(message))) => Some(message),
                Some(Found::Kept(data)) => {
                    let fragment = self.own(data);
                    self.gather(fragment)?
                }
            };
            if let Some(message) = message {
                return Ok(Some(MessageRef::from(&*self.lent.insert(message))));
            }
        };
        let WebSocket { endpoint, output, stats, ended, write_deadline, input, .. } = self;
        match endpoint.connection.take_whole(&frame, input.current.take_front(frame.size())) {
            Ok(message) => {
                stats.messages_received += 1;
                Ok(Some(message))
            }
            // Apart from the input, in which a message would be lent.
            Err(error) => Err(Writing { endpoint, output, stats, ended, write_deadline }.fail(error)),
        }
    }
}
