//! How a [`WebSocket`] that is dropped ends TCP (RFC 6455 7.1.1).

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::protocol::Role;
use crate::protocol::close::{CloseCause, CloseReason};
use crate::socket::WebSocket;
use crate::socket::drain::{Drain, Wait};
use crate::socket::system::{SystemSocket, say_end};

/// What there is to do before the stream is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Nothing: to drop a socket without unread input sends FIN, and one that has no closing handshake is aborted.
    Drop,
    /// Wait for the peer's FIN.
    AwaitFin,
    /// Send FIN, and discard what the peer still sends until its own.
    HalfClose,
}

impl<S: Read + Write + 'static> WebSocket<S> {
    fn ending(&self, is_tcp: bool) -> Ending {
        let connection = &self.endpoint.connection;
        let has_unread = self.may_have_more || !self.input.is_empty();
        let is_due = self.output.len() > 0 || self.endpoint.backlog() > 0;
        match &self.ended {
            None if connection.close_sent() => Ending::HalfClose,
            None => Ending::Drop,
            Some(reason) if reason.cause == CloseCause::Lost => Ending::Drop,
            Some(reason) if !reason.is_clean() => Ending::HalfClose,
            // RFC 6455 7.1.1: the server closes first, so that it holds the connection in TIME_WAIT and not the client.
            // "The client SHOULD wait for the server to close the connection".
            Some(_) if is_tcp && connection.role() == Role::Client => Ending::AwaitFin,
            Some(_) if has_unread || is_due => Ending::HalfClose,
            Some(_) => Ending::Drop,
        }
    }

    /// Ends TCP in order: writes what is due, sends FIN, and waits for the peer's. The kernel answers data that comes to a
    /// closed socket, or that is unread when it is closed, with RST, and the peer might lose the close frame.
    pub(super) fn end_tcp(&mut self) {
        let Some(socket) = SystemSocket::of(self.get_ref()) else { return };
        let ending = self.ending(socket.is_tcp);
        if ending == Ending::Drop {
            if self.ended.as_ref().is_some_and(CloseReason::is_clean) {
                say_end(self.get_mut());
            }
            return;
        }
        let mut drain = Drain::new(self.close_timeout);
        self.write_due(&drain);
        if self.endpoint.backlog() > 0 {
            return;
        }
        say_end(self.get_mut());
        if ending == Ending::HalfClose {
            let Some(socket) = SystemSocket::of(self.get_ref()) else { return };
            if socket.options.shutdown(Shutdown::Write).is_err() {
                return;
            }
        }
        drain.run(self.get_mut(), Wait::UntilDeadline);
    }

    /// Writes what waits, as far as the peer takes it in time.
    fn write_due(&mut self, drain: &Drain) {
        let timeout = SystemSocket::of(self.get_ref()).and_then(|socket| socket.options.write_timeout().ok());
        let Some(before) = timeout.filter(|_| self.output.len() > 0 || self.endpoint.backlog() > 0) else { return };
        let set = |stream: &S, timeout| {
            SystemSocket::of(stream).map(|socket| socket.options.set_write_timeout(timeout));
        };
        set(self.get_ref(), drain.time_left());
        let _ = self.endpoint.flush(&mut self.output, &[]);
        while self.endpoint.backlog() > 0
            && let Some(left) = drain.time_left()
        {
            set(self.get_ref(), Some(left));
            match self.endpoint.drain(&mut self.output.pool) {
                Ok(drained) if drained.is_progress() => {}
                _ => break,
            }
        }
        set(self.get_ref(), before);
    }
}

/// Ends TCP as [`WebSocket`] says. A thread that panics does not wait for the peer.
impl<S> Drop for WebSocket<S> {
    fn drop(&mut self) {
        if let Some(on_drop) = self.on_drop.take().filter(|_| !std::thread::panicking()) {
            on_drop(self);
        }
    }
}
