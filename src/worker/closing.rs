//! How a connection ends: by a close frame, a failure, a loss, or the time.

use std::io;

use crate::protocol::close::{CloseCause, CloseCode, CloseFrame, CloseReason};
use crate::protocol::{ProtocolError, Role};
use crate::worker::core::{ANSWER_TIMEOUT, Phase};
use crate::worker::deadlines::Deadlines;
use crate::worker::delivery::{Delivery, Farewell};
use crate::worker::marks::Mark;
use crate::worker::turn::Turn;

impl<D: Delivery> Turn<'_, D> {
    /// The peer's close frame arrived.
    pub(super) fn peer_closed(&mut self, frame: Option<CloseFrame>) {
        if self.core.endpoint.connection.close_sent() {
            let reason = CloseReason::from_frame(frame, CloseCause::Local);
            self.end(reason, None);
        } else {
            let answer = CloseFrame::answer_to(frame.as_ref());
            self.end(CloseReason::from_frame(frame, CloseCause::Peer), answer);
        }
    }

    /// _Fail the WebSocket Connection_ (RFC 6455 7.1.7) for what the peer did.
    pub(crate) fn fail(&mut self, error: &ProtocolError) {
        self.fail_with(error.close_code(), &error.to_string(), CloseCause::Failed);
    }

    /// _Fail the WebSocket Connection_ with a code of our choice.
    pub(crate) fn fail_with(&mut self, code: CloseCode, why: &str, cause: CloseCause) {
        self.end(CloseReason::new(code, why, cause), Some(CloseFrame::describing(code, why)));
    }

    /// Tells the application the end, once, and sends the close frame when its answers are out.
    fn end(&mut self, reason: CloseReason, answer: Option<CloseFrame>) {
        if !matches!(self.core.phase, Phase::Open | Phase::Closing) {
            return;
        }
        let clean = reason.is_clean();
        let farewell = self.tell(reason);
        self.core.marks.set(Mark::Clean, clean);
        if farewell == Farewell::WhenAnswered && self.core.endpoint.connection.can_send() {
            self.context.farewells.insert(self.context.key, answer);
            self.core.enter(Phase::Answering, self.context);
        } else {
            self.say_farewell(answer);
        }
    }

    /// Sends the close frame that is due, if none was sent before, and nothing after it.
    fn say_farewell(&mut self, answer: Option<CloseFrame>) {
        self.core.close(self.context, answer.as_ref());
        self.core.closed_to_sends();
        self.core.enter(Phase::Ending, self.context);
    }

    /// The application has seen the end, and its answers to what came before are out or queued.
    pub(crate) fn answered(&mut self) {
        if self.core.phase == Phase::Answering {
            let answer = self.context.farewells.remove(&self.context.key).flatten();
            self.say_farewell(answer);
        }
    }

    /// Tells the application why the connection ends.
    fn tell(&mut self, reason: CloseReason) -> Farewell {
        self.core.enter(Phase::Ending, self.context);
        let (delivery, app, mut socket) = self.parts();
        match app {
            Some(app) => delivery.close(app, &mut socket, reason),
            None => Farewell::Now,
        }
    }

    /// The peer sends no more.
    pub(super) fn end_of_stream(&mut self) {
        self.core.readable = false;
        self.core.marks.insert(Mark::ReadClosed);
        match self.core.phase {
            Phase::Open | Phase::Closing => self.lose("the peer closed TCP without a close frame", CloseCause::Lost),
            Phase::Lingering => self.core.enter(Phase::Gone, self.context),
            // What is queued can still go out.
            Phase::Answering | Phase::Ending | Phase::Gone => self.finish(),
        }
    }

    /// The stream is broken.
    pub(crate) fn lost(&mut self, error: &io::Error) {
        match error.kind() {
            // The most frequent one: the system's own words for it take longer than all else about its end.
            io::ErrorKind::ConnectionReset => self.lose("the peer reset the connection", CloseCause::Lost),
            _ => self.lose(&error.to_string(), CloseCause::Lost),
        }
    }

    /// The connection ends without a closing handshake: 1006, told once, and the socket is dropped.
    pub(crate) fn lose(&mut self, why: &str, cause: CloseCause) {
        if matches!(self.core.phase, Phase::Open | Phase::Closing) {
            self.tell(CloseReason::abnormal(why, cause));
        }
        self.context.output.clear();
        self.core.enter(Phase::Gone, self.context);
    }

    /// When everything is said and out: the end of TCP (RFC 6455 7.1.1).
    pub(super) fn finish(&mut self) {
        if self.core.phase != Phase::Ending || self.core.endpoint.backlog() > 0 || self.context.output.len() > 0 {
            return;
        }
        // RFC 6455 7.1.1: after a clean closing handshake the server closes TCP first, and the client waits for that.
        let (clean, trailing) = (self.core.marks.contains(Mark::Clean), self.core.marks.contains(Mark::Trailing));
        let client_waits = clean && self.core.endpoint.connection.role() == Role::Client;
        // Then nothing is in flight to the server, so that closing the socket sends FIN and no RST.
        let nothing_in_flight = clean && !self.core.readable && !trailing && !client_waits;
        let done = self.core.marks.contains(Mark::ReadClosed) || nothing_in_flight;
        if done || (!client_waits && self.core.endpoint.stream.shutdown_write().is_err()) {
            self.core.enter(Phase::Gone, self.context);
        } else {
            // Otherwise what is in flight is read out first: the kernel answers data to a closed socket with RST, which
            // would take the close frame from the peer.
            self.core.readable = true;
            self.again = true;
            self.core.enter(Phase::Lingering, self.context);
        }
    }

    /// Something is to be done because of the time.
    pub(crate) fn deadline(&mut self) {
        let now = self.context.tick;
        let config = self.context.config.clone();
        let passed = |since: u32, wait| now >= since.saturating_add(Deadlines::ticks(wait));
        self.context.touched_deadline = true;
        match self.core.phase {
            Phase::Open => {
                if config.max_lifetime.is_some_and(|lifetime| passed(self.core.opened, lifetime)) {
                    let frame = CloseFrame { code: CloseCode::GOING_AWAY, reason: "lifetime is over".into() };
                    self.core.start_close(self.context, Some(&frame));
                } else if self.core.marks.contains(Mark::Stalled) && passed(self.core.since, config.write_timeout) {
                    // The system reports room only when there is much of it; a slow reader may have made some.
                    self.drain();
                    // What waited for the output goes on, as after an event.
                    self.again = true;
                    if self.core.marks.contains(Mark::Stalled) && passed(self.core.since, config.write_timeout) {
                        self.fail_with(CloseCode::POLICY_VIOLATION, "reads too slowly", CloseCause::Failed);
                    }
                } else if self.core.waiting {
                    // Nothing is read, so nothing can be heard: the silence is ours.
                    self.core.heard = now;
                    self.core.marks.remove(Mark::Pinged);
                } else if let Some(interval) = config.ping_interval {
                    let grace = interval.saturating_add(config.pong_timeout);
                    let pinged = self.core.marks.contains(Mark::Pinged);
                    if pinged && passed(self.core.heard, grace) {
                        self.core.endpoint.stream.reset_on_drop();
                        self.lose("no answer to a ping", CloseCause::TimedOut);
                    } else if !pinged && passed(self.core.heard, interval) {
                        self.core.probe(self.context);
                    }
                }
                self.flush(&mut []);
            }
            Phase::Answering => {
                if passed(self.core.since, ANSWER_TIMEOUT) {
                    self.answered();
                    self.flush(&mut []);
                }
            }
            Phase::Closing | Phase::Ending | Phase::Lingering => {
                if passed(self.core.since, config.close_timeout) {
                    self.core.endpoint.stream.reset_on_drop();
                    self.lose("no answer to our close frame", CloseCause::TimedOut);
                }
            }
            Phase::Gone => {}
        }
    }

    /// The handler panicked: 1011, and it is not called again.
    pub(crate) fn panicked(&mut self) {
        // What it sent in this turn may lack its end.
        self.context.output.clear();
        if self.core.phase == Phase::Ending && self.core.endpoint.connection.can_send() {
            // It panicked as it was told the end.
            let code = CloseCode::INTERNAL_ERROR;
            self.say_farewell(Some(CloseFrame { code, reason: "internal error".into() }));
        } else {
            self.fail_with(CloseCode::INTERNAL_ERROR, "internal error", CloseCause::Panicked);
        }
        self.flush(&mut []);
    }
}
