//! A connection as its handler sees it.

use std::any::Any;

use crate::error::ControlError;
use crate::protocol::PeerAddr;
use crate::protocol::close::{CloseCode, CloseFrame, InvalidClose};
use crate::protocol::deflate::Compression;
use crate::protocol::frame::MAX_CONTROL_PAYLOAD;
use crate::protocol::message::{CowMessage, MessageRef};
use crate::transport::loan::HoldsOutput;
use crate::transport::output::Output;
use crate::worker::connection::active::ActiveConn;
use crate::worker::handle::peer::{Peer, PeerId};
use crate::worker::handle::prepared::Prepared;
use crate::worker::handle::stats::Stats;

/// A connection as its [`Handler`](crate::Handler) sees it, on the worker's thread.
///
/// Everything that is sent in response to one event of the poll is written together. Up to a few connections that are
/// ready at the same time are read first, for 0.1 ms at most.
#[derive(Debug)]
pub struct Socket<'a> {
    pub(crate) active: ActiveConn<'a>,
}

impl HoldsOutput for Socket<'_> {
    fn output(&mut self) -> &mut Output {
        &mut self.active.context.output
    }
}

impl Socket<'_> {
    /// Sends a message. It is queued whatever the size of the output. While the output is above
    /// [`max_write_buffer_size`](crate::Config::max_write_buffer_size), the worker reads no more messages from this
    /// connection, so that answers can not pile up.
    ///
    /// Returns `false` if nothing was sent, because the connection is closing or the message is an invalid control
    /// frame: a ping of more than 125 bytes, or a close code that must not be sent.
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<CowMessage<'m>>) -> bool {
        self.active.send_message(message.into(), Compression::Auto)
    }

    /// Sends a message as [`send`](Socket::send) does, compressed as `compression` says. With [`Compression::Never`] it
    /// is not compressed even if permessage-deflate was negotiated.
    ///
    /// ```
    /// # use threadbare::{Compression, Socket};
    /// fn answer(socket: &mut Socket<'_>, session_token: &str) {
    ///     socket.send_with(session_token, Compression::Never);
    /// }
    /// ```
    #[inline]
    pub fn send_with<'m>(&mut self, message: impl Into<CowMessage<'m>>, compression: Compression) -> bool {
        self.active.send_message(message.into(), compression)
    }

    /// Sends a message that was encoded before; `false` if the connection is closing.
    pub fn send_prepared(&mut self, prepared: &Prepared) -> bool {
        self.active.send_shared(&prepared.frame)
    }

    /// Sends a message to every connection of the server, this one included, at the end of this iteration of the event
    /// loop. It is encoded once, and compressed once for all connections that negotiated the same parameters. If a
    /// connection's queue is full, the server's [`SlowConsumer`](crate::SlowConsumer) policy decides.
    pub fn broadcast<'m>(&mut self, message: impl Into<CowMessage<'m>>) {
        self.active.context.broadcast(Prepared::new(message).frame);
    }

    /// Sends a ping. [`Handler::on_pong`](crate::Handler::on_pong) is called with the answer.
    ///
    /// # Errors
    /// The payload has more than 125 bytes, or the connection is closing.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), ControlError> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(ControlError::TooLong { size: payload.len() });
        }
        if self.send(MessageRef::Ping(payload)) { Ok(()) } else { Err(ControlError::Disconnected) }
    }

    /// Starts the closing handshake (RFC 6455 7.1.2). The close frame follows the messages that were sent before.
    ///
    /// # Errors
    /// The code must not be sent, the reason has more than 123 bytes, or the connection is closing already.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), ControlError> {
        let frame = CloseFrame::new(code, reason).map_err(|error: InvalidClose| ControlError::InvalidClose(error))?;
        if self.active.start_close(Some(&frame)) { Ok(()) } else { Err(ControlError::Disconnected) }
    }

    /// Drops the TCP connection without a closing handshake, at the end of the callback.
    pub fn abort(&mut self) {
        self.active.context.inbox.send(crate::worker::handle::inbox::Command::Abort { to: self.active.state.key });
    }

    /// Returns a handle that other threads can send through. The first call allocates memory for it.
    pub fn peer(&mut self) -> Peer {
        self.active.peer()
    }

    /// The identifier of the connection.
    #[must_use]
    pub fn id(&self) -> PeerId {
        PeerId::new(self.active.context.handle.index, self.active.state.key)
    }

    /// The peer's address.
    #[must_use]
    pub fn addr(&self) -> PeerAddr {
        self.active.info().addr()
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.active.subprotocol()
    }

    /// The data that the hook that accepted the handshake set with [`Accept::data`](crate::Accept::data), if it is a
    /// `T`.
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.active.accepted_data()?.get()
    }

    /// The counts of messages and bytes of the connection.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.active.stats()
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.active.queued()
    }
}
