//! What a worker keeps of one connection, whatever its application.

use std::io;
use std::time::Duration;

use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{MAX_CONTROL_PAYLOAD, Opcode};
use crate::protocol::message::MessageRef;
use crate::transport::endpoint::Endpoint;
use crate::transport::shared_frame::SharedFrame;
use crate::transport::stream::Stream;
use crate::worker::connection::context::{MessageCounts, WorkerContext};
use crate::worker::connection::flags::{Flag, Flags};
use crate::worker::handle::info::PeerInfo;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::shared::PeerShared;
use crate::worker::handle::stats::Stats;
use crate::worker::timer_wheel::{Tick, TimerWheel};

/// How far the closing of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages flow.
    Open,
    /// Our close frame is out or queued; the peer's is awaited.
    Closing,
    /// The connection's end was told to the application; our close frame waits for its answers to earlier messages.
    AwaitingAnswers,
    /// Everything is said: what is queued goes out, then FIN, then the peer's end is awaited.
    Flushing,
    /// FIN is sent; what still arrives is thrown away until the peer closes.
    Lingering,
    /// To be removed at the end of the turn.
    Closed,
}

/// One connection, without the application's part.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) endpoint: Endpoint<Stream>,
    pub(crate) phase: Phase,
    /// The socket may have more to read than was read.
    pub(crate) readable: bool,
    /// Reading waits for the output to drain or the application to catch up.
    pub(crate) waiting: bool,
    pub(crate) flags: Flags,
    /// The handle, once there is one; it has the ledger then.
    pub(crate) peer: Option<Peer>,
    pub(crate) opened: Tick,
    /// When the peer was last heard, or took some of a long output.
    pub(crate) heard: Tick,
    /// When the phase began, or the stall.
    pub(crate) since: Tick,
}

impl Conn {
    /// What is on record about the connection, which is the one at hand.
    #[inline]
    pub(crate) fn info<'a>(&'a self, context: &'a WorkerContext) -> &'a PeerInfo {
        match &self.peer {
            Some(peer) => &peer.shared.info,
            None => &context.infos[context.key.index as usize],
        }
    }

    /// The subprotocol that the connection, which is the one at hand, agreed on.
    pub(crate) fn subprotocol<'a>(&'a self, context: &'a WorkerContext) -> Option<&'a str> {
        match &self.peer {
            Some(peer) => peer.subprotocol(),
            None => context.subprotocols.get(&context.key.index).map(|name| name.as_str()),
        }
    }

    /// Bytes that wait to be written, those of this turn included.
    pub(crate) fn queued(&self, context: &WorkerContext) -> usize {
        self.endpoint.backlog() + context.output.len()
    }

    /// Whether the output stands above its mark, so that reading waits.
    pub(crate) fn is_above_mark(&self, context: &WorkerContext) -> bool {
        self.queued(context) >= context.config.max_write_buffer_size
    }

    /// Whether the application's messages still go out.
    pub(crate) fn can_send(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::AwaitingAnswers) && self.endpoint.connection.can_send()
    }

    /// Queues a data message or control frame of this turn; `false` if it can not be sent.
    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        context: &mut WorkerContext,
        message: MessageRef<'_>,
        compression: Compression,
    ) -> bool {
        let (opcode, payload) = match message {
            MessageRef::Text(text) => (Opcode::Text, text.as_bytes()),
            MessageRef::Binary(bytes) => (Opcode::Binary, bytes),
            control => return self.send_control(context, control),
        };
        if !self.can_send() {
            return false;
        }
        context.counts.sent += 1;
        self.endpoint.push(&mut context.output, &mut context.codec, opcode, payload, compression);
        true
    }

    /// Apart, so that what most messages do without is in nobody's way.
    #[inline(never)]
    fn send_control(&mut self, context: &mut WorkerContext, message: MessageRef<'_>) -> bool {
        let payload = match message {
            // RFC 6455 5.5: control frames carry at most 125 bytes.
            MessageRef::Ping(bytes) | MessageRef::Pong(bytes) if bytes.len() <= MAX_CONTROL_PAYLOAD => bytes,
            MessageRef::Close(frame) => {
                let valid = frame.is_none_or(|frame| CloseFrame::new(frame.code, frame.reason.as_str()).is_ok());
                return valid && self.start_close(context, frame);
            }
            _ => return false,
        };
        if !self.can_send() {
            return false;
        }
        self.endpoint.push(&mut context.output, &mut context.codec, message.opcode(), payload, Compression::Never);
        true
    }

    /// Queues a message that others send as well; `false` if it can not be sent.
    #[inline]
    pub(crate) fn send_shared(&mut self, context: &mut WorkerContext, frame: &SharedFrame) -> bool {
        if !self.can_send() {
            return false;
        }
        context.counts.sent += 1;
        self.endpoint.push_shared(&mut context.output, &mut context.codec, frame);
        true
    }

    /// Writes frames at once, if nothing else is to go to the connection, which is the one at hand: what the socket did not
    /// take. `None` if something is.
    #[inline]
    pub(crate) fn try_write_direct<'a>(
        &mut self,
        context: &WorkerContext,
        frames: &'a [u8],
    ) -> Option<io::Result<&'a [u8]>> {
        if !self.can_send() {
            return None;
        }
        let written = self.endpoint.try_write_direct(frames)?;
        Some(written.map(|size| {
            self.info(context).counters.bytes_sent.add(size as u64);
            &frames[size..]
        }))
    }

    /// Starts the closing handshake; `false` if it has begun.
    pub(crate) fn start_close(&mut self, context: &mut WorkerContext, frame: Option<&CloseFrame>) -> bool {
        if self.phase != Phase::Open || !self.close(context, frame) {
            return false;
        }
        self.closed_to_sends();
        self.enter(Phase::Closing, context);
        true
    }

    /// Queues a close frame; `false` if one was sent before.
    pub(crate) fn close(&mut self, context: &mut WorkerContext, frame: Option<&CloseFrame>) -> bool {
        self.endpoint.close(&mut context.output, frame)
    }

    /// Says to every holder of the handle that nothing more is sent.
    pub(crate) fn closed_to_sends(&self) {
        if let Some(peer) = &self.peer {
            peer.shared.set_closed();
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, context: &mut WorkerContext) {
        self.phase = phase;
        self.since = context.tick;
        context.touched_deadline = true;
    }

    /// Sends a ping of our own; its payload is the time, which the pong brings back.
    pub(crate) fn send_keepalive_ping(&mut self, context: &mut WorkerContext) {
        let sent = context.micros().to_be_bytes();
        context.output.push_frame(self.endpoint.connection.role(), Opcode::Ping, &sent);
        self.flags.insert(Flag::PingOutstanding);
    }

    /// Takes the time out of a pong that answers [`send_keepalive_ping`](Core::probe).
    pub(crate) fn record_round_trip(&mut self, context: &WorkerContext, payload: &[u8]) {
        if let Ok(sent) = <[u8; 8]>::try_from(payload)
            && let Some(round_trip) = context.micros().checked_sub(u64::from_be_bytes(sent))
            && self.flags.contains(Flag::PingOutstanding)
        {
            self.info(context).counters.set_round_trip(round_trip);
        }
    }

    /// The handle, made when it is first asked for.
    pub(crate) fn peer(&mut self, context: &mut WorkerContext) -> Peer {
        let peer = self.peer.get_or_insert_with(|| {
            let record = context.take_info(context.key.index);
            let (handle, connection) = (context.handle.clone(), &self.endpoint.connection);
            Peer::new(PeerShared::new(handle, context.key, connection, record, context.shown_backlog))
        });
        peer.clone()
    }

    pub(crate) fn stats(&self, context: &WorkerContext) -> Stats {
        let deflate = self.endpoint.connection.deflate_stats();
        let mut stats = self.info(context).counters.stats(self.queued(context), deflate);
        stats.messages_received += context.counts.received;
        stats.messages_sent += context.counts.sent;
        stats
    }

    /// Ends a turn: puts it on record and lets the handle show it. `posted` bytes came from the inbox.
    pub(crate) fn end_iteration(&self, context: &mut WorkerContext, posted: usize) {
        let MessageCounts { received, sent } = std::mem::take(&mut context.counts);
        if received > 0 || sent > 0 {
            let counters = &self.info(context).counters;
            counters.messages_received.add(received);
            counters.messages_sent.add(sent);
        }
        let Some(peer) = &self.peer else { return };
        peer.shared.publish_deflate(&self.endpoint.connection);
        peer.shared.publish(posted, context.shown_backlog, self.endpoint.backlog());
    }

    /// When something is to be done about the connection though nothing happens on it.
    pub(crate) fn deadline(&self, context: &WorkerContext) -> Option<Tick> {
        let config = &context.config;
        let after = |tick: Tick, wait: Duration| tick.saturating_add(TimerWheel::ticks(wait));
        let mut earliest: Option<Tick> = None;
        let mut at = |tick: Tick| earliest = Some(earliest.map_or(tick, |before| before.min(tick)));
        match self.phase {
            Phase::Open => {
                if let Some(interval) = config.ping_interval {
                    let grace =
                        if self.flags.contains(Flag::PingOutstanding) { config.pong_timeout } else { Duration::ZERO };
                    at(after(self.heard, interval.saturating_add(grace)));
                }
                if let Some(lifetime) = config.max_lifetime {
                    at(after(self.opened, lifetime));
                }
                if self.flags.contains(Flag::AboveHighWater) {
                    at(after(self.since, config.write_timeout));
                }
            }
            Phase::AwaitingAnswers => at(after(self.since, ANSWER_TIMEOUT)),
            Phase::Closing | Phase::Flushing | Phase::Lingering => at(after(self.since, config.close_timeout)),
            Phase::Closed => {}
        }
        earliest
    }
}

/// How long a close frame waits for the application's answers to the messages before it.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
