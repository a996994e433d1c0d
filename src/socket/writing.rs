//! What a [`WebSocket`] writes with, apart from its input, of which a message may be lent.

use std::io::{self, Read, Write};

use crate::protocol::ProtocolError;
use crate::protocol::close::{CloseCause, CloseFrame, CloseReason};
use crate::protocol::deflate::{Codec, Compression};
use crate::protocol::frame::Opcode;
use crate::socket::attempt::flush;
use crate::socket::write_deadline::WriteDeadline;
use crate::socket::{SocketError, WebSocket};
use crate::transport::endpoint::Endpoint;
use crate::transport::output::Output;
use crate::transport::stream::blocking::BlockingStream;
use crate::worker::handle::stats::Stats;

/// The fields of a [`WebSocket`] that sending needs.
pub(super) struct Writing<'a, S> {
    pub(super) endpoint: &'a mut Endpoint<BlockingStream<S>>,
    pub(super) output: &'a mut Output,
    pub(super) stats: &'a mut Stats,
    pub(super) ended: &'a mut Option<CloseReason>,
    pub(super) write_deadline: &'a mut Option<WriteDeadline<S>>,
}

impl<S> WebSocket<S> {
    #[inline]
    pub(super) fn writing(&mut self) -> Writing<'_, S> {
        let WebSocket { endpoint, output, stats, ended, write_deadline, .. } = self;
        Writing { endpoint, output, stats, ended, write_deadline }
    }
}

impl<S: Read + Write> Writing<'_, S> {
    /// Writes what is queued, and the answer to a ping that waited for that.
    pub(super) fn flush(&mut self) -> Result<(), SocketError> {
        self.write_queued()?;
        if let Some(payload) = self.endpoint.take_ping() {
            self.push_control(Opcode::Pong, &payload);
            self.write_queued()?;
        }
        match flush(self.endpoint.stream.as_mut()) {
            Err(SocketError::Io(error)) => Err(self.broken(error)),
            flushed => flushed,
        }
    }

    /// Writes what is queued to the stream, which may keep it in a buffer of its own.
    fn write_queued(&mut self) -> Result<(), SocketError> {
        self.bound_write()?;
        if self.output.len() > 0 {
            let written = self.endpoint.flush(self.output, &[]).map_err(|error| self.broken(error))?;
            self.stats.bytes_sent += written as u64;
        }
        while self.endpoint.backlog() > 0 {
            let drained = self.endpoint.drain(&mut self.output.pool).map_err(|error| self.broken(error))?;
            self.stats.bytes_sent += drained.written as u64;
            let is_late = self.write_deadline.as_ref().is_some_and(WriteDeadline::has_passed);
            if !drained.is_progress() || (is_late && self.endpoint.backlog() > 0) {
                return Err(SocketError::Timeout);
            }
            self.bound_write()?;
        }
        Ok(())
    }

    /// In a call with a deadline, has the next write end there, if anything waits to be written.
    fn bound_write(&mut self) -> Result<(), SocketError> {
        let is_due = self.output.len() > 0 || self.endpoint.backlog() > 0;
        let stream = self.endpoint.stream.as_ref();
        match self.write_deadline.as_mut().filter(|deadline| is_due || deadline.is_due_in(stream)) {
            Some(deadline) => Ok(deadline.bound_next(stream)?),
            None => Ok(()),
        }
    }

    pub(super) fn push_control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.endpoint.push(self.output, &mut Codec::new(), opcode, payload, Compression::Never);
    }

    /// _Fail the WebSocket Connection_ (RFC 6455 7.1.7).
    #[cold]
    pub(super) fn fail(&mut self, error: ProtocolError) -> SocketError {
        let frame = CloseFrame::describing(error.close_code(), &error.to_string());
        self.endpoint.close(self.output, Some(&frame));
        // RFC 6455 5.5.2 asks for no answer to a ping any more.
        self.endpoint.take_ping();
        // The violation is returned, even if the close frame can not be written.
        let _ = self.flush();
        *self.ended = Some(CloseReason::new(error.close_code(), error.to_string(), CloseCause::Failed));
        SocketError::Protocol(error)
    }

    pub(super) fn broken(&mut self, error: io::Error) -> SocketError {
        *self.ended = Some(CloseReason::abnormal(error.to_string(), CloseCause::Lost));
        SocketError::Io(error)
    }
}
