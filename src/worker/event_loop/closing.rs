//! How a connection ends: by the closing handshake, a failure, a lost stream, or a deadline.

use std::io;

use crate::config::Config;
use crate::protocol::close::{CloseCause, CloseCode, CloseFrame, CloseReason};
use crate::protocol::{ProtocolError, Role};
use crate::transport::message_writer::UNFINISHED;
use crate::transport::stream::byte_stream::ShutdownProgress;
use crate::worker::connection::deadline::Deadline;
use crate::worker::connection::flags::Flag;
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::{CloseTiming, Delivery};
use crate::worker::event_loop::drive::Driver;
use crate::worker::handle::inbox::Command;

/// Why a connection ends whose peer does not read what it is sent.
const READS_TOO_SLOWLY: &str = "reads too slowly";

impl<D: Delivery> Driver<'_, D> {
    /// The peer's close frame arrived.
    pub(super) fn peer_closed(&mut self, frame: Option<CloseFrame>) {
        if self.conn.endpoint.connection.close_sent() {
            let reason = CloseReason::from_frame(frame, CloseCause::Local);
            self.end_connection(reason, None);
        } else {
            let answer = CloseFrame::answer_to(frame.as_ref());
            self.end_connection(CloseReason::from_frame(frame, CloseCause::Peer), answer);
        }
    }

    /// _Fail the WebSocket Connection_ (RFC 6455 7.1.7), because the peer broke the protocol or a limit.
    pub(crate) fn fail(&mut self, error: &ProtocolError) {
        self.fail_with(error.close_code(), &error.to_string(), CloseCause::Failed);
    }

    /// _Fail the WebSocket Connection_ with a code of our choice.
    pub(crate) fn fail_with(&mut self, code: CloseCode, why: &str, cause: CloseCause) {
        self.end_connection(CloseReason::new(code, why, cause), Some(CloseFrame::describing(code, why)));
    }

    /// Notifies the application that the connection ends, once, and sends the close frame after the application's
    /// answers.
    fn end_connection(&mut self, reason: CloseReason, answer: Option<CloseFrame>) {
        if !matches!(self.conn.phase, Phase::Open | Phase::Closing) {
            return;
        }
        let clean = reason.is_clean();
        self.active().enter(Phase::Flushing);
        if !D::HANDLES {
            // A handler may have a handle, and has given its answers.
            self.conn.closed_to_sends();
        }
        let timing = self.notify_application(reason);
        if self.conn.phase == Phase::Closed {
            // It was aborted in the callback.
            return;
        }
        self.conn.flags.set(Flag::Clean, clean);
        if timing == CloseTiming::AfterAnswers && self.conn.endpoint.connection.can_send() {
            self.context.pending_close_frames.insert(self.state.key, answer);
            self.active().enter(Phase::AwaitingAnswers);
        } else {
            self.send_close_frame(answer);
        }
    }

    /// Sends the close frame, if none was sent before, and nothing after it.
    fn send_close_frame(&mut self, answer: Option<CloseFrame>) {
        self.active().push_close(answer.as_ref());
        self.conn.closed_to_sends();
        self.active().enter(Phase::Flushing);
    }

    /// Handles that the application has seen the close event. Its answers to earlier messages are written or queued.
    pub(crate) fn close_seen(&mut self) {
        if self.conn.phase == Phase::AwaitingAnswers {
            let answer = self.context.pending_close_frames.remove(&self.state.key).flatten();
            self.send_close_frame(answer);
        }
    }

    /// Stops to wait for the application's answers. Those that it has given already, and that are in the inbox, are sent
    /// before the close frame.
    fn close_behind_answers(&mut self) {
        let Some(peer) = &self.conn.peer else { return self.close_seen() };
        let command = Command::CloseSeen { to: self.state.key };
        if peer.shared.queued.is_closed() {
            // The application has closed the connection as well, and has not come to the event. Nothing can be sent
            // any more; what was sent before is ahead of the command.
            self.context.inbox.send(command);
        } else {
            peer.shared.post_last(command);
        }
    }

    /// Calls the application with the reason of the connection's end.
    fn notify_application(&mut self, reason: CloseReason) -> CloseTiming {
        self.context.inbox.metrics.count_close(reason.code);
        let (delivery, app, mut socket) = self.parts();
        match app {
            Some(app) => delivery.close(app, &mut socket, reason),
            None => CloseTiming::Now,
        }
    }

    /// Handles the end of the stream: the peer sends no more.
    pub(super) fn end_of_stream(&mut self) {
        self.conn.readable = false;
        self.conn.flags.insert(Flag::ReadClosed);
        match self.conn.phase {
            Phase::Open | Phase::Closing => {
                self.end_abnormally("the peer closed TCP without a close frame", CloseCause::Lost)
            }
            Phase::Lingering => self.active().enter(Phase::Closed),
            // Queued output can still be written.
            Phase::AwaitingAnswers | Phase::Flushing | Phase::Aborting | Phase::Closed => self.finish(),
        }
    }

    /// Handles an error of the stream.
    pub(crate) fn io_failed(&mut self, error: &io::Error) {
        match error.kind() {
            // The most frequent error. To format the system's message takes longer than everything else here.
            io::ErrorKind::ConnectionReset => self.end_abnormally("the peer reset the connection", CloseCause::Lost),
            // `expire_pong` and `expire_close` ask the kernel for it.
            io::ErrorKind::TimedOut => self.end_abnormally("the peer acknowledges nothing", CloseCause::TimedOut),
            _ => self.end_abnormally(&error.to_string(), CloseCause::Lost),
        }
    }

    /// Ends the connection without a closing handshake: notifies the application of 1006, once, and has the socket
    /// dropped.
    pub(crate) fn end_abnormally(&mut self, why: &str, cause: CloseCause) {
        self.end_with(CloseReason::abnormal(why, cause));
    }

    /// As [`end_abnormally`](Driver::end_abnormally), with a reason of the caller's.
    pub(super) fn end_with(&mut self, reason: CloseReason) {
        let is_news = matches!(self.conn.phase, Phase::Open | Phase::Closing | Phase::Aborting);
        self.context.output.clear();
        self.conn.closed_to_sends();
        self.active().enter(Phase::Closed);
        if is_news {
            self.notify_application(reason);
        }
    }

    /// Ends TCP (RFC 6455 7.1.1) once the close frame is sent, or at once if the application dropped the connection.
    pub(crate) fn finish(&mut self) {
        match self.conn.phase {
            Phase::Flushing if self.conn.endpoint.backlog() == 0 && self.context.output.len() == 0 => self.end_tcp(),
            Phase::Aborting => self.end_abnormally("aborted", CloseCause::Aborted),
            _ => {}
        }
    }

    fn end_tcp(&mut self) {
        // RFC 6455 7.1.1: after a clean closing handshake the server closes TCP first, and the client waits for that.
        let (clean, trailing) = (self.conn.flags.contains(Flag::Clean), self.conn.flags.contains(Flag::DataAfterClose));
        let client_waits = clean && self.conn.endpoint.connection.role() == Role::Client;
        // Then nothing is in flight to the server, so that closing the socket sends FIN and no RST.
        let nothing_in_flight = clean && !self.conn.readable && !trailing && !client_waits;
        let done = self.conn.flags.contains(Flag::ReadClosed) || nothing_in_flight;
        match self.shutdown_write(done || client_waits) {
            // Tried again when the socket reports room.
            Ok(ShutdownProgress::Pending) => self.note_backlog(),
            Ok(ShutdownProgress::Done) if !done => {
                // Data in flight is read first: the kernel answers data to a closed socket with RST, and the peer might
                // lose the close frame.
                self.conn.readable = true;
                self.state.again = true;
                self.active().enter(Phase::Lingering);
            }
            _ => self.active().enter(Phase::Closed),
        }
    }

    /// Shuts the write side down. If the socket is about to be dropped, or the peer is to be first, only the stream's own
    /// layer says its end.
    fn shutdown_write(&mut self, is_needless: bool) -> io::Result<ShutdownProgress> {
        if is_needless { self.conn.endpoint.end_layer() } else { self.conn.endpoint.shutdown_write() }
    }

    /// Acts on the connection's earliest deadline, if it has passed. It may not have: activity postpones a deadline
    /// without a change to the timer wheel.
    pub(crate) fn expire_deadline(&mut self) {
        self.state.deadline_changed = true;
        let next = self.conn.next_deadline(&self.context.config);
        if let Some((_, deadline)) = next.filter(|(at, _)| *at <= self.context.tick) {
            self.expire(deadline);
        }
    }

    fn expire(&mut self, deadline: Deadline) {
        match deadline {
            Deadline::Lifetime => {
                let frame = CloseFrame { code: CloseCode::GOING_AWAY, reason: "lifetime is over".into() };
                self.active().close_behind_senders(&frame);
            }
            Deadline::Write => self.expire_write(),
            Deadline::Ping | Deadline::Pong if self.conn.waiting => {
                // Reading has stopped, so the peer may not be silent.
                self.conn.heard = self.context.tick;
                self.conn.flags.remove(Flag::PingOutstanding);
            }
            Deadline::Ping => self.active().send_keepalive_ping(),
            Deadline::Pong => return self.expire_pong(),
            Deadline::Answers => self.close_behind_answers(),
            Deadline::Close => return self.expire_close(),
        }
        self.flush(&[]);
    }

    /// Resets a connection whose peer has not answered a ping, unless the ping may still be on its way to the peer, behind
    /// other output: here, or in the kernel.
    fn expire_pong(&mut self) {
        if !self.is_due_after_drain(Deadline::Pong) {
            return;
        }
        let Config { ping_interval, pong_timeout, .. } = *self.context.config;
        // The kernel ends the connection of a peer that takes nothing for as long as another peer may be silent.
        let patience = ping_interval.unwrap_or_default().saturating_add(pong_timeout);
        if self.conn.endpoint.stream.awaits_acknowledgement(patience) {
            self.active().restart_pong_timeout();
        } else {
            self.time_out("no answer to a ping");
        }
    }

    /// Closes a connection whose output has been above the high-water mark for too long, unless the socket takes some
    /// of it now.
    fn expire_write(&mut self) {
        let is_due = self.is_due_after_drain(Deadline::Write);
        // Resumes reading that waited for the output, as after an event.
        self.state.again = true;
        if is_due {
            self.fail_slow_reader();
        }
    }

    /// Closes with 1008: the peer does not read what it is sent.
    pub(super) fn fail_slow_reader(&mut self) {
        self.conn.endpoint.end_messages_too_slow();
        self.fail_with(CloseCode::POLICY_VIOLATION, READS_TOO_SLOWLY, CloseCause::Failed);
    }

    /// Whether this deadline has passed although the socket is offered the output once more. The system reports room
    /// only when there is much of it, and a slow reader may have made some.
    fn is_due_after_drain(&mut self, deadline: Deadline) -> bool {
        self.drain();
        let next = self.conn.next_deadline(&self.context.config);
        next.is_some_and(|(at, next)| next == deadline && at <= self.context.tick)
    }

    /// Resets a connection that does not close, unless the socket takes some of its output now, or our close frame is on
    /// its way to the peer, behind other output in the kernel. The output before the close frame of a violation is not
    /// waited for.
    fn expire_close(&mut self) {
        let was_writing = self.conn.endpoint.backlog() > 0;
        if !self.is_due_after_drain(Deadline::Close) {
            return;
        }
        let patience = self.context.config.write_timeout;
        if was_writing && self.conn.endpoint.unheld() == 0 {
            self.time_out(UNFINISHED);
        } else if was_writing {
            self.conn.endpoint.end_messages_too_slow();
            self.time_out(READS_TOO_SLOWLY);
        } else if self.conn.phase == Phase::Closing && self.conn.endpoint.stream.awaits_acknowledgement(patience) {
            self.conn.since = self.context.tick;
        } else {
            self.time_out("no answer to our close frame");
        }
    }

    /// Resets the connection of a silent peer.
    fn time_out(&mut self, why: &str) {
        self.conn.endpoint.stream.reset_on_drop();
        self.end_abnormally(why, CloseCause::TimedOut);
    }

    /// Fails the connection with 1011, after its handler panicked. The handler is not called again.
    pub(crate) fn panicked(&mut self) {
        // The answers to earlier messages of the same read are sent, as before the close frame of a violation.
        self.context.output.discard_lent();
        if self.conn.phase == Phase::Flushing && self.conn.endpoint.connection.can_send_control() {
            // It panicked in the callback for the end.
            let code = CloseCode::INTERNAL_ERROR;
            self.send_close_frame(Some(CloseFrame { code, reason: "internal error".into() }));
        } else {
            self.fail_with(CloseCode::INTERNAL_ERROR, "internal error", CloseCause::Panicked);
        }
        self.flush(&[]);
    }
}
