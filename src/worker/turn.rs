//! One connection's turn: read, decode, deliver, write, and every step of its closing.

use std::io;

use mio::{Interest, Registry};

use crate::protocol::close::{CloseCause, CloseCode, CloseFrame, CloseReason};
use crate::protocol::deflate::Compression;
use crate::protocol::message::MessageRef;
use crate::protocol::{ProtocolError, Received, Role};
use crate::transport::buffer::Input;
use crate::transport::endpoint::Arrival;
use crate::worker::context::Context;
use crate::worker::core::{Core, Phase};
use crate::worker::delivery::{Delivery, Farewell, Incoming, Socket};

/// The most that a connection reads in one turn, in fillings of the worker's buffer; then the others have theirs.
const MAX_READS: usize = 2;

/// The most frames that a connection is served in one turn.
const MAX_FRAMES: usize = 256;

/// The most bytes that its messages are inflated to in one turn, a message that is begun aside.
const MAX_INFLATED: u64 = 1 << 20;

/// A connection, with the application's part of it. That is gone once it panicked.
#[derive(Debug)]
pub(crate) struct Conn<C> {
    pub(crate) core: Core,
    pub(crate) app: Option<C>,
}

/// A connection in the hands of its worker.
pub(crate) struct Turn<'a, D: Delivery> {
    pub(crate) core: &'a mut Core,
    pub(crate) app: &'a mut Option<D::Connection>,
    pub(crate) delivery: &'a mut D,
    pub(crate) context: &'a mut Context,
    /// Of the worker's poll.
    pub(crate) registry: &'a Registry,
    /// Bytes that came from the inbox in this turn.
    pub(crate) posted: usize,
    /// The connection has more to do, though no event may tell.
    pub(crate) again: bool,
}

impl<D: Delivery> Turn<'_, D> {
    /// Tells the application that the connection is established.
    pub(crate) fn open(&mut self, opening: D::Opening) {
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.open(app, &mut socket, opening);
        }
        self.flush(&mut []);
    }

    /// Reads and decodes until the socket is empty, the turn is over, or something must be waited for.
    pub(crate) fn advance(&mut self, input: &mut Input) {
        let mut reads = 0;
        loop {
            if let Some(mut carry) = self.core.endpoint.take_carry() {
                let done = self.decode(&mut carry);
                self.flush(carry.as_mut_slice());
                if !done {
                    self.core.endpoint.keep_carry(carry);
                    // The output may have stood above its mark only until it was written.
                    if self.again || self.core.phase == Phase::Gone || self.must_wait() {
                        return;
                    }
                    continue;
                }
            }
            if !self.core.readable || self.core.phase == Phase::Gone || self.must_wait() {
                return;
            }
            if reads == MAX_READS {
                self.again = true;
                return;
            }
            reads += 1;
            self.read(input);
            if self.again {
                return;
            }
        }
    }

    /// One read, and what it brought.
    fn read(&mut self, input: &mut Input) {
        match self.core.endpoint.read(input, &mut self.context.output.pool) {
            Arrival::Bytes { size, drained, received } => {
                // A socket that was emptied reports again when more comes, except for an end that it has reported.
                self.core.readable = !drained || self.core.end_reported;
                self.core.ledger(self.context).counters.bytes_received.add(size as u64);
                self.core.heard = self.context.tick;
                let whole = received.map(|received| self.dispatch(received));
                let done = match whole {
                    Ok(()) => self.decode(input),
                    Err(error) => {
                        self.fail(&error);
                        true
                    }
                };
                if std::mem::take(&mut self.core.pinged) {
                    // The next deadline is the next ping's, which is earlier than the end of this one's grace.
                    self.context.touched_deadline = true;
                }
                if !done {
                    self.core.endpoint.keep_carry(Box::new(input.take_rest()));
                }
                if !self.hold() {
                    self.flush(input.as_mut_slice());
                }
            }
            Arrival::Nothing => self.core.readable = false,
            Arrival::End => self.end_of_stream(),
            Arrival::Failed(error) => self.lost(&error),
        }
    }

    /// Decodes and delivers what `input` holds; `false` if the connection must stop before its end.
    fn decode(&mut self, input: &mut Input) -> bool {
        self.context.output.lend_input(input.as_slice(), input.start());
        let mut rest = input.filled_mut();
        let size = rest.len();
        let done = self.decode_lent(&mut rest);
        let left = rest.len();
        input.consume(size - left);
        self.context.output.end_loan();
        done
    }

    /// As [`decode`](Turn::decode); `rest` is what it leaves.
    #[inline(always)]
    fn decode_lent(&mut self, rest: &mut &mut [u8]) -> bool {
        let mut frames = 0;
        let mut inflated = 0;
        self.core.waiting = false;
        // It stays the same until the flush.
        let room = self.output_room();
        while !rest.is_empty() {
            if self.core.phase != Phase::Open {
                self.note_trailing();
            } else if self.is_held_up(room) {
                self.core.waiting = true;
                return false;
            }
            if frames == MAX_FRAMES {
                self.again = true;
                return false;
            }
            frames += 1;
            let input = std::mem::take(rest);
            match self.core.endpoint.connection.receive_with(input, &mut self.context.codec) {
                Ok((size, received)) => {
                    self.dispatch(received);
                    *rest = input.get_mut(size..).unwrap_or_default();
                    inflated += self.context.codec.take_inflated();
                    if inflated > MAX_INFLATED {
                        frames = MAX_FRAMES;
                    }
                }
                Err(error) => self.fail(&error),
            }
        }
        true
    }

    /// What follows the peer's close frame is thrown away, but must be read, lest it be answered with RST.
    #[cold]
    fn note_trailing(&mut self) {
        self.core.trailing |= self.core.endpoint.connection.close_received();
    }

    /// Whether nothing may be read for now: the output stands above its mark and would grow by answers, or the
    /// application is behind.
    #[inline(always)]
    fn must_wait(&mut self) -> bool {
        let room = self.output_room();
        self.core.waiting = self.core.phase == Phase::Open && self.is_held_up(room);
        self.core.waiting
    }

    /// How many bytes a turn may produce before the output stands above its mark.
    #[inline(always)]
    fn output_room(&self) -> usize {
        self.context.config.max_write_buffer_size.saturating_sub(self.core.endpoint.backlog())
    }

    /// Whether the output has grown by all its `room`, or the application is behind.
    #[inline(always)]
    fn is_held_up(&mut self, room: usize) -> bool {
        (D::ANSWERS && self.context.output.len() >= room)
            || self.app.as_mut().is_some_and(|app| !self.delivery.has_room(app, self.context.key))
    }

    #[inline(always)]
    fn dispatch(&mut self, received: Received<'_>) {
        match received {
            Received::Nothing => {}
            Received::Message(message) => self.deliver(Incoming::Borrowed(message)),
            Received::Assembled(message) => self.deliver(Incoming::Assembled(message)),
            Received::Ping(payload) => self.ping(&payload),
            Received::Pong(payload) => {
                self.core.note_pong(self.context, &payload);
                let (delivery, app, mut socket) = self.parts();
                if let Some(app) = app {
                    delivery.pong(app, &mut socket, &payload);
                }
            }
            Received::Close(frame) => self.peer_closed(frame),
        }
    }

    #[inline(always)]
    fn deliver(&mut self, message: Incoming<'_>) {
        // RFC 6455 5.5.1, 7.1.6: once our close frame is out, what the peer still sends may be thrown away.
        if self.core.phase != Phase::Open {
            if let Incoming::Assembled(message) = message {
                self.context.output.pool.give(message.into_buffer());
            }
            return;
        }
        self.context.tally.received += 1;
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.message(app, &mut socket, message);
        }
    }

    fn ping(&mut self, payload: &[u8]) {
        if self.core.phase != Phase::Open {
            return;
        }
        // RFC 6455 5.5.2: "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response". 5.5.3 lets the
        // latest stand for all while the others could not be answered: they must not fill the memory.
        if self.core.endpoint.backlog() > 0 && self.core.is_above_mark(self.context) {
            self.core.endpoint.keep_ping(payload);
        } else {
            self.core.send(self.context, MessageRef::Pong(payload), Compression::Never);
        }
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.ping(app, &mut socket, payload);
        }
    }

    /// The peer's close frame arrived.
    fn peer_closed(&mut self, frame: Option<CloseFrame>) {
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
        self.core.clean = clean;
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
    fn end_of_stream(&mut self) {
        self.core.readable = false;
        self.core.read_closed = true;
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

    /// Writes what the turn produced. `input` is the buffer that was decoded.
    pub(crate) fn flush(&mut self, input: &mut [u8]) {
        if self.context.output.len() > 0 {
            match self.core.endpoint.flush(&mut self.context.output, input) {
                Ok(written) => self.core.ledger(self.context).counters.bytes_sent.add(written as u64),
                Err(error) => self.lost(&error),
            }
            self.note_backlog();
        }
        self.finish();
    }

    /// Goes on where the socket did not take all of some frames, or failed.
    #[cold]
    pub(crate) fn send_rest(&mut self, rest: io::Result<&[u8]>) {
        match rest {
            Ok(rest) => {
                self.context.output.cork().extend_from_slice(rest);
                self.flush(&mut []);
            }
            Err(error) => self.lost(&error),
        }
    }

    /// The socket reported room.
    pub(crate) fn drain(&mut self) {
        if self.core.endpoint.backlog() == 0 {
            return;
        }
        match self.core.endpoint.drain(&mut self.context.output.pool) {
            Ok(written) => {
                self.core.ledger(self.context).counters.bytes_sent.add(written as u64);
                if written > 0 {
                    // Whoever takes bytes is alive.
                    self.core.heard = self.context.tick;
                    if self.core.phase == Phase::Open {
                        self.core.since = self.context.tick;
                    }
                }
            }
            Err(error) => return self.lost(&error),
        }
        self.note_backlog();
        if !self.core.is_above_mark(self.context)
            && let Some(payload) = self.core.endpoint.take_ping()
        {
            self.core.send(self.context, MessageRef::Pong(&payload), Compression::Never);
        }
        self.flush(&mut []);
    }

    /// Has the poll report room for what is queued, and keeps the time since which the output stands above its mark.
    fn note_backlog(&mut self) {
        let backlog = self.core.endpoint.backlog();
        if backlog > 0 && !self.core.room_reported {
            self.await_room();
        }
        let above = backlog >= self.context.config.max_write_buffer_size;
        if above != self.core.stalled && self.core.phase == Phase::Open {
            self.core.stalled = above;
            self.core.since = self.context.tick;
            self.context.touched_deadline = true;
        }
    }

    #[cold]
    fn await_room(&mut self) {
        self.core.room_reported = true;
        let (token, interests) = (self.context.key.token(), Interest::READABLE | Interest::WRITABLE);
        // Room that came in between is reported as well.
        if let Err(error) = self.registry.reregister(&mut self.core.endpoint.stream, token, interests) {
            self.lost(&error);
        }
    }

    /// When everything is said and out: the end of TCP (RFC 6455 7.1.1).
    fn finish(&mut self) {
        if self.core.phase != Phase::Ending || self.core.endpoint.backlog() > 0 || self.context.output.len() > 0 {
            return;
        }
        // RFC 6455 7.1.1: after a clean closing handshake the server closes TCP first, and the client waits for that.
        let client_waits = self.core.clean && self.core.endpoint.connection.role() == Role::Client;
        // Then nothing is in flight to the server, so that closing the socket sends FIN and no RST.
        let nothing_in_flight = self.core.clean && !self.core.readable && !self.core.trailing && !client_waits;
        let done = self.core.read_closed || nothing_in_flight;
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
        let passed = |since: u32, wait| now >= since.saturating_add(crate::worker::deadlines::Deadlines::ticks(wait));
        self.context.touched_deadline = true;
        match self.core.phase {
            Phase::Open => {
                if config.max_lifetime.is_some_and(|lifetime| passed(self.core.opened, lifetime)) {
                    let frame = CloseFrame { code: CloseCode::GOING_AWAY, reason: "lifetime is over".into() };
                    self.core.start_close(self.context, Some(&frame));
                } else if self.core.stalled && passed(self.core.since, config.write_timeout) {
                    // The system reports room only when there is much of it; a slow reader may have made some.
                    self.drain();
                    // What waited for the output goes on, as after an event.
                    self.again = true;
                    if self.core.stalled && passed(self.core.since, config.write_timeout) {
                        self.fail_with(CloseCode::POLICY_VIOLATION, "reads too slowly", CloseCause::Failed);
                    }
                } else if self.core.waiting {
                    // Nothing is read, so nothing can be heard: the silence is ours.
                    self.core.heard = now;
                    self.core.pinged = false;
                } else if let Some(interval) = config.ping_interval {
                    let grace = interval.saturating_add(config.pong_timeout);
                    if self.core.pinged && passed(self.core.heard, grace) {
                        self.core.endpoint.stream.reset_on_drop();
                        self.lose("no answer to a ping", CloseCause::TimedOut);
                    } else if !self.core.pinged && passed(self.core.heard, interval) {
                        self.core.probe(self.context);
                    }
                }
                self.flush(&mut []);
            }
            Phase::Answering => {
                if passed(self.core.since, crate::worker::core::ANSWER_TIMEOUT) {
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

    fn parts(&mut self) -> (&mut D, Option<&mut D::Connection>, Socket<'_>) {
        (self.delivery, self.app.as_mut(), Socket { core: self.core, context: self.context })
    }
}
