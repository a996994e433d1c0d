//! Sending over a [`WebSocket`]: what is queued, when it is written, and how the closing handshake begins.

use std::io::{Read, Write};

use crate::error::ControlError;
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{MAX_CONTROL_PAYLOAD, Opcode};
use crate::protocol::message::{CowMessage, MessageRef};
use crate::socket::codecs::with_codec;
use crate::socket::{SocketError, WebSocket};
use crate::transport::chunk::Chunk;

/// At most 64 KiB of answers are gathered while received messages wait in the buffer. Larger uses more memory; smaller
/// writes more often.
const MAX_GATHERED: usize = 64 << 10;

impl<S: Read + Write> WebSocket<S> {
    /// Sends a message. It is written at once, unless more received messages wait in the buffer for
    /// [`recv`](WebSocket::recv). Then it is gathered with their answers, and is written before `recv` waits for the
    /// stream, or by [`flush`](WebSocket::flush).
    ///
    /// ```
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.send("text")?;
    /// client.send(vec![1, 2, 3])?; // binary
    /// assert!(server.recv()?.is_some_and(|message| message.is_text()));
    /// assert!(server.recv()?.is_some_and(|message| message.is_binary()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The stream fails, the connection is closed, or the message is an invalid control frame. Over a stream that times
    /// out or does not block, [`Queued`](SocketError::Queued) says that the message was taken and waits to be written,
    /// and [`Timeout`](SocketError::Timeout) that it was not taken, since
    /// [`Config::max_write_buffer_size`](crate::Config::max_write_buffer_size) bytes wait already.
    pub fn send<'m>(&mut self, message: impl Into<CowMessage<'m>>) -> Result<(), SocketError> {
        self.send_with(message, Compression::Auto)
    }

    /// Sends a message as [`send`](WebSocket::send) does, compressed as `compression` says. With [`Compression::Never`]
    /// it is not compressed even if permessage-deflate was negotiated.
    ///
    /// ```
    /// use threadbare::Compression;
    ///
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.send_with("the session token", Compression::Never)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](WebSocket::send).
    pub fn send_with<'m>(
        &mut self,
        message: impl Into<CowMessage<'m>>,
        compression: Compression,
    ) -> Result<(), SocketError> {
        let message = message.into();
        let CowMessage::Borrowed(borrowed) = message else {
            return self.send_owned(message, compression);
        };
        // There is nothing to drop, but the compiler would call the drop of all variants.
        std::mem::forget(message);
        self.send_message(borrowed, compression)
    }

    /// Sends a message without a copy of its payload if that is large.
    fn send_owned(&mut self, message: CowMessage<'_>, compression: Compression) -> Result<(), SocketError> {
        let opcode = message.as_message().opcode();
        if opcode.is_control() {
            return self.send_message(message.as_message(), compression);
        }
        self.admit()?;
        let (output, payload) = (&mut self.output, Chunk::from(message));
        with_codec(&mut self.endpoint, |endpoint, codec| {
            endpoint.push_chunk(output, codec, opcode, payload, compression)
        });
        self.after_push()
    }

    fn send_message(&mut self, message: MessageRef<'_>, compression: Compression) -> Result<(), SocketError> {
        let (opcode, payload) = match message {
            MessageRef::Text(text) => (Opcode::Text, text.as_bytes()),
            MessageRef::Binary(bytes) => (Opcode::Binary, bytes),
            control => return self.send_control(control),
        };
        self.admit()?;
        let output = &mut self.output;
        with_codec(&mut self.endpoint, |endpoint, codec| endpoint.push(output, codec, opcode, payload, compression));
        self.after_push()
    }

    /// Not inlined, because most messages are data messages.
    #[inline(never)]
    fn send_control(&mut self, message: MessageRef<'_>) -> Result<(), SocketError> {
        let (opcode, payload) = match message {
            MessageRef::Close(None) => return self.start_close(None),
            MessageRef::Close(Some(frame)) => return self.close(frame.code, &frame.reason),
            other => (other.opcode(), other.as_bytes()),
        };
        // RFC 6455 5.5: control frames carry at most 125 bytes.
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(SocketError::Invalid(ControlError::TooLong { size: payload.len() }));
        }
        self.drain_to_limit()?;
        if self.ended.is_some() || !self.endpoint.connection.can_send_control() {
            return Err(SocketError::Closed);
        }
        self.push_control(opcode, payload);
        self.write_unless_busy().map_err(queued)
    }

    /// Counts a message that was queued, and writes it unless more received messages wait in the buffer.
    pub(super) fn after_push(&mut self) -> Result<(), SocketError> {
        self.stats.messages_sent += 1;
        self.write_unless_busy().map_err(queued)
    }

    pub(super) fn write_unless_busy(&mut self) -> Result<(), SocketError> {
        if self.input.is_empty() || self.output.len() >= MAX_GATHERED { self.flush() } else { Ok(()) }
    }

    /// Writes what [`send`](WebSocket::send) gathered.
    ///
    /// ```
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.send("one")?;
    /// client.send("two")?;
    /// server.recv()?;
    /// server.send("an answer")?; // it waits for the next answer, if both messages were read at once
    /// server.flush()?; // now it is written
    /// assert!(client.recv()?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The stream fails or times out. What it did not take is kept for the next call.
    pub fn flush(&mut self) -> Result<(), SocketError> {
        self.writing().flush()
    }

    /// Starts the closing handshake (RFC 6455 7.1.2). [`recv`](WebSocket::recv) completes it, and returns `None`
    /// once the peer has answered. As a client, it returns the messages that arrive before the answer. As a server, it
    /// discards them, for a server that closes has decided to stop. Pings are answered meanwhile.
    ///
    /// ```
    /// use threadbare::CloseCode;
    ///
    /// # use threadbare::{Config, Role, WebSocket};
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// # let config = Config::default();
    /// # let mut client = WebSocket::from_established(stream, Role::Client, vec![], &config);
    /// # let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &config);
    /// client.close(CloseCode::NORMAL_CLOSURE, "done")?;
    /// assert_eq!(server.recv()?, None);
    /// assert_eq!(client.recv()?, None); // the closing handshake is complete
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the stream fails.
    /// [`Queued`](SocketError::Queued): the stream timed out; [`recv`](WebSocket::recv) continues.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), SocketError> {
        let invalid = |error| SocketError::Invalid(ControlError::InvalidClose(error));
        let frame = CloseFrame::new(code, reason).map_err(invalid)?;
        self.start_close(Some(frame))
    }

    fn start_close(&mut self, frame: Option<CloseFrame>) -> Result<(), SocketError> {
        if self.endpoint.close(&mut self.output, frame.as_ref()) {
            self.flush().map_err(queued)
        } else {
            Err(SocketError::Closed)
        }
    }

    /// Fails unless a data message can be sent and there is room to queue it.
    pub(super) fn admit(&mut self) -> Result<(), SocketError> {
        self.check_open()?;
        self.drain_to_limit()
    }

    /// Writes queued output if that has reached the limit, and fails if it stays there.
    pub(super) fn drain_to_limit(&mut self) -> Result<(), SocketError> {
        if self.endpoint.backlog() < self.max_queued {
            return Ok(());
        }
        match self.flush() {
            Err(SocketError::Timeout) if self.endpoint.backlog() < self.max_queued => Ok(()),
            flushed => flushed,
        }
    }

    /// Fails unless data messages can be sent.
    fn check_open(&self) -> Result<(), SocketError> {
        if self.ended.is_none() && self.endpoint.connection.can_send() { Ok(()) } else { Err(SocketError::Closed) }
    }

    /// Queues the answer to a ping. RFC 6455 5.5.3 allows to answer only the most recent one: the others must not fill the
    /// memory of a peer that does not read. That one is answered once the stream has taken what is queued.
    pub(super) fn answer_ping(&mut self, payload: &[u8]) {
        let backlog = self.endpoint.backlog();
        if backlog > 0 && backlog + self.output.len() >= self.max_queued {
            self.endpoint.keep_ping(payload);
        } else {
            // This is a later one.
            self.forget_ping();
            self.push_control(Opcode::Pong, payload);
        }
    }

    /// Forgets the ping that waits for its answer: RFC 6455 5.5.2 excuses from one behind the peer's close frame.
    pub(super) fn forget_ping(&mut self) {
        self.endpoint.take_ping();
    }

    pub(super) fn push_control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.writing().push_control(opcode, payload);
    }
}

/// What a timeout means to the caller once its message is queued.
fn queued(error: SocketError) -> SocketError {
    if matches!(error, SocketError::Timeout) { SocketError::Queued } else { error }
}
