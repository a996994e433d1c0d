//! One connection while its worker drives it. The driver and the handler's [`Socket`] both work on it.
//!
//! [`Socket`]: crate::worker::delivery::socket::Socket

use std::time::Duration;

use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{MAX_CONTROL_PAYLOAD, Opcode};
use crate::protocol::handshake::Data;
use crate::protocol::message::{CowMessage, MessageRef};
use crate::transport::chunk::Chunk;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::connection::conn::Conn;
use crate::worker::connection::context::WorkerContext;
use crate::worker::connection::flags::Flag;
use crate::worker::connection::phase::Phase;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::info::PeerInfo;
use crate::worker::handle::latest::LatestMessages;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::prepared::{Content, Prepared};
use crate::worker::handle::shared::PeerShared;
use crate::worker::handle::stats::Stats;
use crate::worker::slab::Key;
use crate::worker::timer_wheel::TimerWheel;

/// What one drive of a connection collects for [`end_drive`](ActiveConn::end_drive).
#[derive(Debug)]
pub(crate) struct DriveState {
    /// The connection's key.
    pub(crate) key: Key,
    /// The backlog that the connection's handle shows until the end of the drive.
    pub(crate) shown_backlog: usize,
    /// The messages of this drive. They are added to the shared counters once, because each write to these invalidates
    /// the cache line for the threads that read them.
    pub(crate) counts: MessageCounts,
    /// The bytes of this drive that came from the inbox.
    pub(crate) posted: usize,
    /// The work of decompression in this drive, as [`Codec::take_work`](crate::protocol::deflate::Codec::take_work) counts
    /// it.
    pub(crate) inflated: u64,
    /// What may become of the receive buffer.
    pub(crate) input: InputUse,
    /// The connection has more to do, and the poll may not report it again.
    pub(crate) again: bool,
    /// The connection's next deadline may have changed.
    pub(crate) deadline_changed: bool,
    /// A message that was sent in parts has ended: what has paused for it goes on once that is written.
    pub(crate) message_ended: bool,
    /// It ended, because it or what waited for it can not be sent, so that the connection fails.
    pub(crate) message_failed: bool,
}

/// What becomes of the receive buffer when it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputUse {
    /// The worker keeps it.
    Lent,
    /// The worker gives it to a delivery that wants what is at its end.
    Offered,
    /// A delivery is to have it.
    Wanted,
}

/// The number of messages that one drive received and sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MessageCounts {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl DriveState {
    /// Begins a drive of the connection with this key.
    #[inline]
    pub(crate) fn new(key: Key, conn: &Conn) -> DriveState {
        DriveState {
            key,
            shown_backlog: conn.endpoint.backlog(),
            counts: MessageCounts::default(),
            posted: 0,
            inflated: 0,
            input: InputUse::Lent,
            again: false,
            deadline_changed: false,
            message_ended: false,
            message_failed: false,
        }
    }
}

/// A connection, the worker's context, and the drive that is under way.
#[derive(Debug)]
pub(crate) struct ActiveConn<'a> {
    pub(crate) conn: &'a mut Conn,
    pub(crate) context: &'a mut WorkerContext,
    pub(crate) state: &'a mut DriveState,
}

impl ActiveConn<'_> {
    /// The record of the connection.
    #[inline]
    pub(crate) fn info(&self) -> &PeerInfo {
        self.conn.info(self.context, self.state.key)
    }

    /// The subprotocol that was agreed on.
    pub(crate) fn subprotocol(&self) -> Option<&str> {
        match &self.conn.peer {
            Some(peer) => peer.subprotocol(),
            None => self.context.outcomes.get(&self.state.key.index)?.subprotocol.as_ref().map(|name| name.as_str()),
        }
    }

    /// The data that the application set in the opening handshake.
    pub(crate) fn accepted_data(&self) -> Option<&Data> {
        match &self.conn.peer {
            Some(peer) => peer.shared.accepted_data(),
            None => self.context.outcomes.get(&self.state.key.index)?.data.as_ref(),
        }
    }

    /// The head of the request that opened the connection, if it was kept.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(crate) fn request_head(&self) -> Option<&[u8]> {
        match &self.conn.peer {
            Some(peer) => peer.shared.request_head(),
            None => self.context.outcomes.get(&self.state.key.index)?.head.as_deref(),
        }
    }

    /// Bytes that wait to be written, those of this drive included.
    pub(crate) fn queued(&self) -> usize {
        self.conn.endpoint.backlog() + self.context.output.len()
    }

    /// Bytes of keyed messages that wait until the output is written.
    pub(crate) fn kept(&self) -> usize {
        self.conn.latest().map_or(0, LatestMessages::bytes)
    }

    /// Bytes that wait to be written, those of this drive and those in the inbox included. The handle shows the first
    /// only once the drive has ended.
    pub(crate) fn queued_and_posted(&self) -> usize {
        let shown = self.conn.peer.as_ref().map_or(0, Peer::queued_bytes);
        shown.saturating_sub(self.state.shown_backlog + self.kept()) + self.queued()
    }

    /// Whether the output is above the high-water mark, so that reading waits.
    pub(crate) fn is_above_high_water(&self) -> bool {
        self.queued() >= self.context.config.max_write_buffer_size
    }

    /// Whether what waits for the socket is above the high-water mark, so that not even pings are answered.
    pub(crate) fn is_socket_behind(&self) -> bool {
        self.queued() - self.conn.endpoint.held() >= self.context.config.max_write_buffer_size
    }

    /// Whether the handle takes no more messages. The application may have closed through it, and the command is still in
    /// the inbox.
    #[inline(always)]
    pub(crate) fn handle_is_closed(&self) -> bool {
        match &self.conn.peer {
            None => false,
            Some(peer) => is_closed(peer),
        }
    }

    /// Queues a message of the application; `false` if it can not be sent. A large payload that is not borrowed is not
    /// copied.
    #[inline(always)]
    pub(crate) fn send_message(&mut self, message: CowMessage<'_>, compression: Compression) -> bool {
        let CowMessage::Borrowed(borrowed) = message else { return self.send_owned(message, compression) };
        // There is nothing to drop, but the compiler would call the drop of all variants.
        std::mem::forget(message);
        self.send(borrowed, compression)
    }

    #[inline(never)]
    fn send_owned(&mut self, message: CowMessage<'_>, compression: Compression) -> bool {
        let opcode = message.as_message().opcode();
        if opcode.is_control() {
            return self.send(message.as_message(), compression);
        }
        if !self.conn.can_send() {
            return self.hold_owned(message, compression);
        }
        self.state.counts.sent += 1;
        let payload = Chunk::from(message);
        payload.charge(&self.context.inbox.budget);
        let WorkerContext { output, codec, .. } = &mut *self.context;
        self.conn.endpoint.push_chunk(output, codec, opcode, payload, compression);
        true
    }

    /// Queues a data message or control frame; `false` if it can not be sent.
    #[inline(always)]
    pub(crate) fn send(&mut self, message: MessageRef<'_>, compression: Compression) -> bool {
        let (opcode, payload) = match message {
            MessageRef::Text(text) => (Opcode::Text, text.as_bytes()),
            MessageRef::Binary(bytes) => (Opcode::Binary, bytes),
            control => return self.send_control(control),
        };
        if !self.conn.can_send() {
            return self.hold(opcode, payload, compression);
        }
        self.state.counts.sent += 1;
        self.push(opcode, payload, compression);
        true
    }

    /// Not inlined, because most messages are data messages.
    #[inline(never)]
    fn send_control(&mut self, message: MessageRef<'_>) -> bool {
        let payload = match message {
            // RFC 6455 5.5: control frames carry at most 125 bytes.
            MessageRef::Ping(bytes) | MessageRef::Pong(bytes) if bytes.len() <= MAX_CONTROL_PAYLOAD => bytes,
            MessageRef::Close(frame) => {
                let valid = frame.is_none_or(|frame| CloseFrame::new(frame.code, frame.reason.as_str()).is_ok());
                return valid && self.start_close(frame);
            }
            _ => return false,
        };
        if !self.conn.can_send_control() {
            return false;
        }
        self.push(message.opcode(), payload, Compression::Never);
        true
    }

    #[inline(always)]
    fn push(&mut self, opcode: Opcode, payload: &[u8], compression: Compression) {
        let WorkerContext { output, codec, .. } = &mut *self.context;
        self.conn.endpoint.push(output, codec, opcode, payload, compression);
    }

    /// Queues the answer to a ping, behind our close frame too, until the peer's close frame has come.
    pub(crate) fn answer_ping(&mut self, payload: &[u8]) {
        if self.conn.phase == Phase::Closing || self.conn.can_send_control() {
            self.push(Opcode::Pong, payload, Compression::Never);
        }
    }

    /// Queues a message that other connections send as well; `false` if it can not be sent.
    #[inline]
    pub(crate) fn send_shared(&mut self, frame: &SharedFrame) -> bool {
        if !self.conn.can_send() {
            return self.hold_shared(frame);
        }
        self.state.counts.sent += 1;
        let WorkerContext { output, codec, .. } = &mut *self.context;
        self.conn.endpoint.push_shared(output, codec, frame);
        true
    }

    /// Queues a message that was encoded before, whatever its options; `false` if it can not be sent.
    #[inline]
    pub(crate) fn push_prepared(&mut self, prepared: &Prepared) -> bool {
        match &prepared.content {
            Content::Data(frame) => self.send_shared(frame),
            Content::Control(message) => self.send_control(MessageRef::from(&**message)),
        }
    }

    /// Starts the closing handshake; `false` if it has begun already.
    pub(crate) fn start_close(&mut self, frame: Option<&CloseFrame>) -> bool {
        if self.conn.phase != Phase::Open {
            return false;
        }
        if self.conn.endpoint.connection.is_in_message() {
            self.close_behind_message(frame);
            return true;
        }
        if !self.push_close(frame) {
            return false;
        }
        self.conn.closed_to_sends();
        self.enter(Phase::Closing);
        true
    }

    /// Starts the closing handshake behind what other threads have sent: they are told that the connection is closed from
    /// here on, and the worker executes what they have posted before.
    pub(crate) fn close_behind_senders(&mut self, frame: &CloseFrame) {
        let Some(peer) = &self.conn.peer else {
            // No other thread can send.
            self.start_close(Some(frame));
            return;
        };
        // Otherwise the closing handshake has begun, or the command for it is in the inbox.
        if self.conn.phase == Phase::Open && !peer.shared.queued.is_closed() {
            let frame = Some(Box::new(frame.clone()));
            peer.shared.post_last(Command::Close { to: self.state.key, frame });
        }
    }

    /// Queues a close frame behind everything that waits; `false` if one was sent before.
    pub(crate) fn push_close(&mut self, frame: Option<&CloseFrame>) -> bool {
        self.push_all_latest();
        self.conn.endpoint.close(&mut self.context.output, frame)
    }

    /// Drops the connection without a closing handshake: nothing more is delivered or sent. The application is told of the
    /// end by [`finish`], outside its callbacks.
    ///
    /// [`finish`]: crate::worker::event_loop::drive::Driver::finish
    #[cold]
    pub(crate) fn abort(&mut self) {
        self.conn.endpoint.stream.reset_on_drop();
        self.conn.closed_to_sends();
        self.context.output.clear();
        match self.conn.phase {
            Phase::Open | Phase::Closing => self.enter(Phase::Aborting),
            Phase::Aborting => {}
            // The application knows already that the connection ends.
            Phase::AwaitingAnswers | Phase::Flushing | Phase::Lingering | Phase::Closed => self.enter(Phase::Closed),
        }
    }

    /// Enters the next phase.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.conn.phase = phase;
        self.conn.since = self.context.tick;
        self.state.deadline_changed = true;
    }

    /// Queues a keepalive ping. Its payload is the time, which the pong returns.
    pub(crate) fn send_keepalive_ping(&mut self) {
        let sent = self.context.micros().to_be_bytes();
        if self.conn.can_send_control() {
            self.push(Opcode::Ping, &sent, Compression::Never);
        }
        self.conn.flags.insert(Flag::PingOutstanding);
        // The answer is due `pong_timeout` after this ping, even if the worker was held up and sends it late.
        self.restart_pong_timeout();
    }

    /// Has the answer to the keepalive ping be due [`pong_timeout`](crate::Config::pong_timeout) from now.
    pub(crate) fn restart_pong_timeout(&mut self) {
        let interval = self.context.config.ping_interval.map_or(0, TimerWheel::ticks);
        self.conn.heard = self.conn.heard.max(self.context.tick.saturating_sub(interval));
        self.state.deadline_changed = true;
    }

    /// Records the round trip of a pong that answers [`send_keepalive_ping`](ActiveConn::send_keepalive_ping).
    pub(crate) fn record_round_trip(&mut self, payload: &[u8]) {
        if let Ok(sent) = <[u8; 8]>::try_from(payload)
            && let Some(round_trip) = self.context.micros().checked_sub(u64::from_be_bytes(sent))
            && self.conn.flags.contains(Flag::PingOutstanding)
        {
            self.info().counters.set_round_trip(round_trip);
            self.context.inbox.metrics.round_trip_time.record(Duration::from_micros(round_trip));
        }
    }

    /// Counts bytes that the socket has taken.
    #[inline]
    pub(crate) fn count_written(&mut self, size: usize) {
        self.info().counters.bytes_sent.add(size as u64);
        self.context.totals.bytes_sent += size as u64;
    }

    /// Returns the handle. It is made on the first call.
    pub(crate) fn peer(&mut self) -> Peer {
        let (context, state) = (&mut *self.context, &*self.state);
        let has_topics = self.conn.peer.is_none() && context.topics.count(state.key.index) > 0;
        let peer = self.conn.peer.get_or_insert_with(|| {
            let record = context.take_info(state.key.index);
            let (handle, connection) = (context.handle.clone(), &self.conn.endpoint.connection);
            let shared = PeerShared::new(handle, state.key, connection, record, state.shown_backlog);
            if self.conn.phase != Phase::Open {
                shared.set_closed();
            }
            Peer::new(shared)
        });
        if has_topics {
            peer.shared.change_topics(|topics| topics.extend(context.topics.topics_of(state.key.index).cloned()));
        }
        peer.clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        let deflate = self.conn.endpoint.connection.deflate_stats();
        let mut stats = self.info().counters.stats(self.queued() + self.kept(), deflate);
        stats.messages_received += self.state.counts.received;
        stats.messages_sent += self.state.counts.sent;
        stats.replaced = self.conn.latest().map_or(0, LatestMessages::replaced);
        stats
    }

    /// Ends the drive: adds its messages to the counters, and publishes the queued bytes in the handle.
    #[inline]
    pub(crate) fn end_drive(&mut self) {
        let MessageCounts { received, sent } = self.state.counts;
        if received > 0 || sent > 0 {
            let counters = &self.info().counters;
            counters.messages_received.add(received);
            counters.messages_sent.add(sent);
            self.context.totals.messages_received += received;
            self.context.totals.messages_sent += sent;
        }
        let backlog = self.conn.endpoint.backlog();
        if backlog != self.state.shown_backlog {
            let queued = &mut self.context.totals.queued_bytes;
            *queued = queued.wrapping_add(backlog as u64).wrapping_sub(self.state.shown_backlog as u64);
        }
        let held = self.conn.endpoint.memory();
        if held > 0 || !self.context.charges.is_empty() {
            self.context.charge(self.state.key.index, held);
        }
        let Some(peer) = &self.conn.peer else { return };
        peer.shared.publish_deflate(&self.conn.endpoint.connection);
        peer.shared.publish(self.state.posted, self.state.shown_backlog, backlog);
    }
}

/// Most connections with a handler have no handle. Not inlined, so that their answers have the registers.
#[cold]
#[inline(never)]
fn is_closed(peer: &Peer) -> bool {
    !peer.takes_messages()
}
