//! Messages in parts on the worker's own thread: whose turn it is, and what waits meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::protocol::Last;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::{FrameHeader, Opcode};
use crate::protocol::message::CowMessage;
use crate::transport::chunk::Chunk;
use crate::transport::held::{HeldItem, Part, Released};
use crate::transport::part_payload::PartPayload;
use crate::transport::parts_state::PartsState;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::connection::active::ActiveConn;
use crate::worker::connection::conn::Conn;
use crate::worker::connection::context::WorkerContext;
use crate::worker::connection::phase::Phase;

/// The writer of a message posts up to 64 KiB that the socket has not taken, if that takes all of it at once. Larger delays the
/// worker's other connections; smaller has the worker and the writer wake each other more often.
const MAX_ROOM: usize = 64 << 10;

/// It is 256 KiB for the only connection of a worker, which delays no other. Larger takes more memory.
const MAX_ROOM_ALONE: usize = 256 << 10;

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartOutcome {
    /// It is sent, or waits for its turn, or the connection has ended.
    Taken,
    /// It was the last, and what waited for it is sent.
    Ended,
    /// It, or a message that waited for it, can not be compressed. The connection fails at the end of the drive.
    Failed,
}

impl Conn {
    /// Whether messages wait for the end of one that is sent in parts.
    #[cold]
    pub(crate) fn holds_messages(&self) -> bool {
        self.phase == Phase::Open && self.endpoint.connection.is_in_message()
    }

    /// Whether messages are sent, at once or behind the one that is sent in parts.
    pub(crate) fn takes_messages(&self) -> bool {
        self.can_send() || self.holds_messages()
    }
}

impl ActiveConn<'_> {
    /// Has a message wait for the end of the one that is sent in parts; `false` if none is, so that it can not be sent.
    #[cold]
    #[inline(never)]
    pub(crate) fn hold(&mut self, opcode: Opcode, payload: &[u8], compression: Compression) -> bool {
        self.hold_with(|active| active.conn.endpoint.hold_copy(opcode, payload, compression))
    }

    /// As [`hold`](ActiveConn::hold), for a payload that is not borrowed.
    #[cold]
    pub(crate) fn hold_owned(&mut self, message: CowMessage<'_>, compression: Compression) -> bool {
        self.hold_with(|active| {
            let opcode = message.as_message().opcode();
            let payload = Chunk::from(message);
            payload.charge(&active.context.inbox.budget);
            active.conn.endpoint.hold(HeldItem::Message { opcode, payload, compression });
        })
    }

    /// As [`hold`](ActiveConn::hold), for a message that other connections send as well.
    #[cold]
    pub(crate) fn hold_shared(&mut self, frame: &SharedFrame) -> bool {
        self.hold_with(|active| active.conn.endpoint.hold_shared(frame))
    }

    /// As [`hold`](ActiveConn::hold), for messages that another thread encoded: frames, or the header of one and its payload.
    #[cold]
    pub(crate) fn hold_posted(
        &mut self,
        frames: &[u8],
        payload: Option<Chunk>,
        compression: Compression,
        messages: u32,
    ) -> bool {
        self.hold_with(|active| {
            // One is counted for all.
            active.state.counts.sent += u64::from(messages.saturating_sub(1));
            let endpoint = &mut active.conn.endpoint;
            match (payload, FrameHeader::parse(frames)) {
                (None, _) => endpoint.hold_frames(frames, compression),
                (Some(payload), Ok(Some((FrameHeader { mask: None, opcode, .. }, _)))) => {
                    endpoint.hold(HeldItem::Message { opcode, payload, compression });
                }
                (Some(payload), Ok(Some((header, _)))) => {
                    endpoint.hold_masked(&header, payload.as_slice(), compression);
                }
                (Some(_), _) => {}
            }
        })
    }

    fn hold_with(&mut self, hold: impl FnOnce(&mut Self)) -> bool {
        if !self.conn.holds_messages() {
            return false;
        }
        self.state.counts.sent += 1;
        hold(self);
        // What waits does not count for the writer of the message under way.
        self.wake_writers();
        true
    }

    /// Starts the closing handshake behind the message that is sent in parts, and behind what waits for its end.
    #[cold]
    pub(crate) fn close_behind_message(&mut self, frame: Option<&CloseFrame>) {
        self.push_all_latest();
        self.conn.endpoint.hold_close(frame);
        self.conn.closed_to_others();
        self.enter(Phase::Closing);
    }

    /// Sends a part, or has it wait for its turn.
    pub(crate) fn send_part(&mut self, part: Part<impl PartPayload>) -> PartOutcome {
        let (message, last) = (part.message.clone(), part.last);
        // Behind the peer's close frame there is no time for more than a whole message.
        let may_begin = self.conn.can_send() && (last == Last::Yes || self.conn.phase == Phase::Open);
        let is_under_way = self.conn.endpoint.is_under_way(&message);
        if is_under_way {
            self.adapt_room(&message, part.compression);
        }
        let outcome = if is_under_way || may_begin {
            self.note_part_progress(part.payload.as_slice().len());
            let WorkerContext { output, codec, .. } = &mut *self.context;
            let pushed = self.conn.endpoint.push_part(output, codec, part);
            // What a part took to compress is a part of this drive, and of no other.
            self.state.inflated += codec.take_work();
            match (pushed, last) {
                (false, _) => self.fail_message(),
                (true, Last::No) => PartOutcome::Taken,
                (true, Last::Yes) => {
                    self.state.counts.sent += 1;
                    self.end_message()
                }
            }
        } else if self.conn.holds_messages() {
            // As each message that waits, it is counted now.
            self.state.counts.sent += u64::from(last == Last::Yes);
            let part = part.with(|payload| payload.into_chunk(&mut self.context.output.pool));
            self.conn.endpoint.hold(HeldItem::Part(part));
            PartOutcome::Taken
        } else {
            message.end();
            PartOutcome::Taken
        };
        // Room for the next part is told at the end of the drive.
        if !is_under_way || last == Last::Yes || outcome != PartOutcome::Taken {
            self.wake_writers();
        }
        outcome
    }

    /// Decides how far the writer of this message may be ahead of the socket: not at all if each part takes long to compress.
    fn adapt_room(&mut self, message: &PartsState, compression: Compression) {
        if self.context.output.len() == 0 && !self.conn.endpoint.connection.deflates_fragment(compression) {
            let usual = self.context.config.part_room();
            let is_alone = self.context.inbox.load.load(Ordering::Relaxed) <= 1;
            let most = if is_alone { MAX_ROOM_ALONE } else { MAX_ROOM };
            // What others send is not refused, nor is the connection closed for it, because of parts that the socket takes.
            message.adapt_room(usual, most.min(self.context.config.max_write_buffer_size / 2));
        }
    }

    /// Forgets a message that its writer does not finish. Returns whether a part of it was sent, so that the connection
    /// must be failed.
    pub(crate) fn give_up_message(&mut self, message: &Arc<PartsState>) -> bool {
        self.conn.endpoint.forget_part(message);
        self.conn.endpoint.is_under_way(message)
    }

    /// Sends what waited for the end of a message, and the close frame if that is next.
    fn end_message(&mut self) -> PartOutcome {
        self.state.message_ended = true;
        let WorkerContext { output, codec, .. } = &mut *self.context;
        match self.conn.endpoint.release_held(output, codec) {
            Released::All => {}
            Released::UpToClose(frame) => {
                self.conn.endpoint.close(output, frame.as_ref());
                self.enter(Phase::Closing);
            }
            Released::Failed => return self.fail_message(),
        }
        PartOutcome::Ended
    }

    /// Has the connection fail at the end of the drive, which may be in the middle of a handler now. Nothing more of its messages
    /// in parts is sent.
    #[cold]
    fn fail_message(&mut self) -> PartOutcome {
        self.conn.endpoint.drop_held();
        (self.state.message_ended, self.state.message_failed) = (true, true);
        PartOutcome::Failed
    }

    /// Begins anew the time that a close frame has waited, if the socket takes what comes before it.
    fn note_part_progress(&mut self, size: usize) {
        if self.conn.endpoint.holds_close()
            && self.conn.endpoint.has_part_progress(size, self.context.config.min_write_progress)
        {
            self.conn.since = self.context.tick;
            self.state.deadline_changed = true;
        }
    }

    fn wake_writers(&self) {
        if let Some(peer) = &self.conn.peer {
            peer.shared.wake_if_awaited();
        }
    }
}
