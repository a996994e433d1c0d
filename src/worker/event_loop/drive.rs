//! One drive of one connection: reads, decodes, delivers and writes.

use std::sync::atomic::Ordering;
use std::time::Instant;

use mio::Registry;

use crate::transport::buffer::Input;
use crate::transport::endpoint::ReadOutcome;
use crate::transport::loan::{HoldsOutput, InputLoan};
use crate::transport::output::Output;
use crate::worker::connection::active::{ActiveConn, DriveState, InputUse};
use crate::worker::connection::conn::Conn;
use crate::worker::connection::context::WorkerContext;
use crate::worker::connection::flags::Flag;
use crate::worker::connection::phase::Phase;
use crate::worker::delivery::delivery::{Delivery, Incoming};
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::info::PeerInfo;
use crate::worker::handle::peer::Peer;

/// A connection is read at most twice per drive. More delays the worker's other connections; fewer drives a fast sender
/// more often.
const MAX_READS: usize = 2;

/// At most 256 frames are decoded per drive. More delays the worker's other connections; fewer drives a connection with
/// small frames more often.
const MAX_FRAMES: usize = 256;

/// The only connection of a worker that gives its messages to other threads has up to 1024 frames decoded per drive, for it
/// delays no other. More delays what those threads send; fewer copies what a large read leaves undecoded.
const MAX_FRAMES_ALONE: usize = 1024;

/// A drive ends once it has inflated 1 MiB, or 16 KiB of compressed data, each byte of which counts as 64: a few received
/// bytes may inflate to a thousand times as many, or take as long to inflate to nothing. Larger delays the worker's other
/// connections, by 2 ms or less with this limit; smaller drives a connection with large messages more often.
pub(super) const MAX_INFLATED: u64 = 1 << 20;

/// A connection that receives fragments, and is not the only one of its worker, has its drive end after 64 KiB: each byte is
/// inflated once, and perhaps compressed again for an answer. Larger delays the others; smaller ends a drive within a step.
pub(super) const MAX_INFLATED_BESIDE: u64 = 64 << 10;

/// A connection, with the application's part of it, which is dropped once it panicked.
#[derive(Debug)]
pub(crate) struct Slot<C> {
    pub(crate) conn: Conn,
    pub(crate) app: Option<C>,
}

/// Drives one connection: reads, decodes, delivers, writes, and keeps its deadlines. Made by
/// [`Worker::drive`](crate::worker::event_loop::worker::Worker::drive) alone, which begins and ends the drive.
pub(crate) struct Driver<'a, D: Delivery> {
    pub(crate) conn: &'a mut Conn,
    pub(crate) app: &'a mut Option<D::Connection>,
    pub(crate) delivery: &'a mut D,
    pub(crate) context: &'a mut WorkerContext,
    pub(crate) state: DriveState,
    /// The worker's poll.
    pub(crate) registry: &'a Registry,
}

impl<D: Delivery> HoldsOutput for Driver<'_, D> {
    #[inline(always)]
    fn output(&mut self) -> &mut Output {
        &mut self.context.output
    }
}

impl<D: Delivery> Driver<'_, D> {
    /// Notifies the application that the connection is established.
    pub(crate) fn open(&mut self, opening: Option<D::Opening>) {
        let (delivery, app, mut socket) = self.parts();
        if let (Some(app), Some(opening)) = (app, opening) {
            delivery.open(app, &mut socket, opening);
        }
        self.flush(&[]);
    }

    /// Reads and decodes until the stream is empty, the limits of one drive are reached, or reading must wait.
    pub(crate) fn advance(&mut self, input: &mut Input) {
        let mut reads = 0;
        loop {
            if let Some(mut carry) = self.take_undecoded() {
                let done = self.decode(&mut carry);
                self.flush(carry.as_slice());
                if !done {
                    self.keep_undecoded(carry);
                }
                self.context.limit_reads(input);
                if !done {
                    // The output may have been above the high-water mark only until it was written.
                    if self.state.again || self.conn.phase == Phase::Closed || self.must_wait() {
                        return;
                    }
                    continue;
                }
            }
            if !self.conn.readable || self.conn.phase == Phase::Closed || self.must_wait() {
                return;
            }
            if reads == MAX_READS || self.has_had_its_turn(reads) {
                self.state.again = true;
                return;
            }
            reads += 1;
            self.read(input);
            if self.state.again {
                return self.context.limit_reads(input);
            }
        }
    }

    /// Reads once, and handles what that brought.
    fn read(&mut self, input: &mut Input) {
        let max = self.app.as_ref().map_or(usize::MAX, |app| self.delivery.read_size(app));
        match self.conn.endpoint.read(input, &mut self.context.output.pool, max) {
            ReadOutcome::Bytes { size, more, direct } => {
                // A hangup is reported once: the stream is read until its end comes.
                self.conn.readable = more || self.conn.flags.contains(Flag::HangupReported);
                self.info().counters.bytes_received.add(size as u64);
                self.context.totals.bytes_received += size as u64;
                self.conn.heard = self.context.tick;
                let failed = direct > 0 && !self.advance_message(direct);
                if !D::ANSWERS {
                    self.state.input = InputUse::Offered;
                }
                let done = failed || self.decode(input);
                if !D::ANSWERS && std::mem::replace(&mut self.state.input, InputUse::Lent) == InputUse::Wanted {
                    self.give_input(input);
                }
                if self.conn.flags.remove(Flag::PingOutstanding) {
                    // The next ping is due before the answer to this one would have been.
                    self.state.deadline_changed = true;
                }
                if !done {
                    self.keep_undecoded(Box::new(input.take_rest()));
                }
                if self.obey_abort() || !self.hold() {
                    self.flush(input.as_slice());
                }
            }
            ReadOutcome::Nothing => self.conn.readable = false,
            ReadOutcome::End => self.end_of_stream(),
            ReadOutcome::Failed(error) => self.io_failed(&error),
        }
    }

    /// Delivers the message under way if `direct` bytes completed it; `false` if they failed the connection.
    #[inline(never)]
    fn advance_message(&mut self, direct: usize) -> bool {
        match self.conn.endpoint.connection.advance(direct) {
            Ok(received) => self.dispatch(received),
            Err(error) => {
                self.fail(&error);
                return false;
            }
        }
        true
    }

    /// Decodes and delivers what `input` holds; `false` if reading must wait before all of it is decoded.
    fn decode(&mut self, input: &mut Input) -> bool {
        let mut loan = InputLoan::new(self, input);
        let filled = input.filled_mut();
        let size = filled.len();
        let (left, done) = loan.decode_lent(filled);
        input.consume(size - left);
        done
    }

    /// Decodes and delivers `rest`. Returns how many bytes of it are left, and the answer of
    /// [`decode`](Driver::decode). Not inlined there, so that the end of the loan takes no register from the loop.
    #[inline(never)]
    fn decode_lent(&mut self, mut rest: &mut [u8]) -> (usize, bool) {
        let max_frames = self.max_frames();
        let mut frames = self.frames_done(max_frames);
        self.conn.waiting = false;
        // The backlog stays the same until the flush.
        let room = self.output_room();
        if !D::HANDLES && self.context.callback_watch.is_sample() && self.receives() && !self.is_held_up(room) {
            rest = self.measure_first(rest);
        }
        while !rest.is_empty() {
            let is_open = self.receives();
            if !is_open {
                if self.note_trailing() {
                    return (0, true);
                }
            } else if self.is_held_up(room) {
                if self.obey_abort() {
                    return (0, true);
                }
                self.conn.waiting = true;
                return (rest.len(), false);
            }
            if frames == max_frames {
                self.state.again = true;
                return (rest.len(), false);
            }
            frames += 1;
            let plain = if is_open { self.conn.endpoint.connection.receive_fast(&mut rest) } else { None };
            match plain {
                Some(Ok(message)) => self.deliver_message(Incoming::Borrowed(message)),
                Some(Err(error)) => {
                    self.fail(&error);
                    rest = &mut [];
                }
                None => {
                    let input = std::mem::take(&mut rest);
                    let size = self.decode_any(input);
                    rest = input.get_mut(size..).unwrap_or_default();
                    if self.state.inflated >= MAX_INFLATED_BESIDE && self.state.inflated >= self.max_inflated() {
                        frames = max_frames;
                    }
                }
            }
        }
        (0, true)
    }

    /// How many frames this drive may decode.
    #[inline]
    fn max_frames(&self) -> usize {
        let is_alone = !D::ANSWERS && self.context.inbox.load.load(Ordering::Relaxed) == 1;
        if is_alone { MAX_FRAMES_ALONE } else { MAX_FRAMES }
    }

    /// Delivers the first message of `rest`, if it is there in one frame, and measures how long the callback takes. Returns what
    /// is left. Apart from the loop, so that this costs nothing there.
    #[cold]
    #[inline(never)]
    fn measure_first<'r>(&mut self, mut rest: &'r mut [u8]) -> &'r mut [u8] {
        match self.conn.endpoint.connection.receive_fast(&mut rest) {
            Some(Ok(message)) => {
                let begun = Instant::now();
                self.deliver_message(Incoming::Borrowed(message));
                self.context.inbox.metrics.callback_time.record(begun.elapsed());
                rest
            }
            Some(Err(error)) => {
                self.fail(&error);
                &mut []
            }
            None => rest,
        }
    }

    /// Notes that the peer sent data after its close frame. It is discarded, but must be read: the kernel answers
    /// unread data with RST. Returns whether nothing more needs to be decoded, because the connection was dropped.
    #[cold]
    fn note_trailing(&mut self) -> bool {
        if self.conn.endpoint.connection.close_received() {
            self.conn.flags.insert(Flag::DataAfterClose);
        }
        matches!(self.conn.phase, Phase::Aborting | Phase::Closed)
    }

    /// Drops the connection if that was asked for through its handle, whose command is still in the inbox. Returns
    /// whether it did.
    fn obey_abort(&mut self) -> bool {
        let aborted = self.handle_is_aborted();
        if aborted {
            self.active().abort();
        }
        aborted
    }

    /// As [`handle_is_aborted`](Driver::handle_is_aborted), before each message. Most connections with a handler have no
    /// handle, and those that have one are looked at out of the way, so that the loop has its registers.
    #[inline(always)]
    fn is_to_be_aborted(&self) -> bool {
        match &self.conn.peer {
            None => false,
            Some(peer) if D::HANDLES => peer.shared.queued.is_aborted(),
            Some(peer) => is_aborted(peer),
        }
    }

    /// Whether the application has dropped the connection through its handle: in a callback, or on another thread.
    #[inline(always)]
    pub(super) fn handle_is_aborted(&self) -> bool {
        self.conn.peer.as_ref().is_some_and(|peer| peer.shared.queued.is_aborted())
    }

    /// Whether messages of the peer are delivered.
    #[inline(always)]
    pub(crate) fn receives(&self) -> bool {
        self.conn.phase == Phase::Open || self.receives_after_close()
    }

    /// Whether messages are delivered although our close frame is queued. RFC 6455 5.5.1 forbids to send data after a
    /// close frame, not to receive it.
    #[cold]
    fn receives_after_close(&self) -> bool {
        self.conn.phase == Phase::Closing && self.context.delivers_after_close
    }

    /// Whether reading must wait, because the output is above the high-water mark and would grow by answers, because the
    /// application has not taken its events, or because it has dropped the connection.
    #[inline(always)]
    fn must_wait(&mut self) -> bool {
        let room = self.output_room();
        let is_starved = self.context.is_short_of_memory && self.is_starved();
        self.conn.waiting = self.receives() && (self.is_held_up(room) || is_starved);
        if !D::ANSWERS && self.conn.waiting && self.handle_is_full() {
            // The poll reports when the socket takes the backlog. The next iteration takes what is still in the inbox.
            self.state.again |= self.conn.endpoint.backlog() < self.context.config.max_write_buffer_size;
        }
        self.conn.waiting
    }

    /// How many bytes a drive may produce before the output is above the high-water mark.
    #[inline(always)]
    fn output_room(&self) -> usize {
        self.context.config.max_write_buffer_size.saturating_sub(self.conn.endpoint.backlog())
    }

    /// Whether the output has filled its `room`, the application has not taken its events, or it has dropped the
    /// connection.
    #[inline(always)]
    fn is_held_up(&mut self, room: usize) -> bool {
        // In this order: an event that is answered meanwhile leaves the channel after its answer has joined the queue, so
        // that one of the two counts it.
        (D::ANSWERS && self.context.output.len() >= room)
            || self.app.as_mut().is_some_and(|app| !self.delivery.has_room(app, self.state.key))
            || (!D::ANSWERS && self.handle_is_full())
            || self.is_to_be_aborted()
    }

    /// Whether the queue is full of answers from another thread, and reading is to wait for it. It is looked at before
    /// each message, because that thread answers meanwhile.
    #[inline(always)]
    fn handle_is_full(&self) -> bool {
        self.conn
            .peer
            .as_ref()
            .is_some_and(|peer| peer.queued_bytes() >= self.context.max_answers && peer.is_full_of_answers())
    }

    #[inline(always)]
    pub(super) fn deliver_message(&mut self, message: Incoming<'_>) {
        self.state.counts.received += 1;
        let (delivery, app, mut socket) = self.parts();
        if let Some(app) = app {
            delivery.message(app, &mut socket, message);
        }
    }

    /// Writes the output of this drive. `input` is the buffer that was decoded.
    pub(crate) fn flush(&mut self, input: &[u8]) {
        self.obey_abort();
        if self.context.output.len() > 0 {
            match self.conn.endpoint.flush(&mut self.context.output, input) {
                Ok(written) => self.active().count_written(written),
                Err(error) => self.io_failed(&error),
            }
            if self.conn.flags.contains(Flag::AboveHighWater) || !self.conn.endpoint.is_clear() {
                self.note_backlog();
            }
        } else if self.conn.endpoint.has_layer_backlog() {
            // A read had something to answer, such as an update of keys.
            self.note_backlog();
        }
        if self.state.message_ended {
            self.resume_after_message();
        }
        self.finish();
    }

    /// Writes what is queued, after the poll reported room.
    pub(crate) fn drain(&mut self) {
        if self.conn.endpoint.backlog() == 0 {
            return;
        }
        match self.conn.endpoint.drain(&mut self.context.output.pool) {
            Ok(drained) => {
                self.active().count_written(drained.written);
                if drained.is_progress() {
                    // A peer that takes bytes is alive.
                    self.conn.heard = self.context.tick;
                    let progressed = self.conn.endpoint.has_progressed(self.context.config.min_write_progress);
                    if progressed && matches!(self.conn.phase, Phase::Open | Phase::Closing | Phase::Flushing) {
                        self.conn.since = self.context.tick;
                        // The time for the peer's close frame begins when ours is written.
                        self.state.deadline_changed |= self.conn.phase != Phase::Open;
                    }
                }
            }
            Err(error) => return self.io_failed(&error),
        }
        self.note_backlog();
        self.active().push_latest();
        self.catch_up_if_behind();
        if !self.active().is_socket_behind()
            && let Some(payload) = self.conn.endpoint.take_ping()
        {
            self.active().answer_ping(&payload);
        }
        self.flush(&[]);
    }

    /// The connection without the application's part.
    #[inline(always)]
    pub(crate) fn active(&mut self) -> ActiveConn<'_> {
        ActiveConn { conn: self.conn, context: self.context, state: &mut self.state }
    }

    /// The record of the connection.
    pub(crate) fn info(&self) -> &PeerInfo {
        self.conn.info(self.context, self.state.key)
    }

    /// What a callback of the application needs.
    #[inline(always)]
    pub(super) fn parts(&mut self) -> (&mut D, Option<&mut D::Connection>, Socket<'_>) {
        let active = ActiveConn { conn: self.conn, context: self.context, state: &mut self.state };
        (self.delivery, self.app.as_mut(), Socket { active })
    }
}

#[cold]
#[inline(never)]
fn is_aborted(peer: &Peer) -> bool {
    peer.shared.queued.is_aborted()
}
