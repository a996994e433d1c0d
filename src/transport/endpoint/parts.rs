//! A message that is sent in parts: its fragments, and what is held until its end.

use std::sync::Arc;

use super::Endpoint;
use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::{Codec, Compression};
use crate::protocol::frame::{self, FrameHeader, Opcode};
use crate::protocol::{Last, OutgoingFragment};
use crate::transport::held::{Held, HeldItem, Part, Released};
use crate::transport::output::Output;
use crate::transport::part_payload::PartPayload;
use crate::transport::parts_state::PartsState;
use crate::transport::shared_frame::SharedFrame;
use crate::transport::stream::byte_stream::ByteStream;

impl<S: ByteStream> Endpoint<S> {
    /// Queues a fragment of a message; `false` if it is not permitted, or can not be compressed.
    pub(crate) fn push_fragment(
        &mut self,
        output: &mut Output,
        codec: &mut Codec,
        (opcode, last): (Opcode, Last),
        mut payload: impl PartPayload,
        compression: Compression,
    ) -> bool {
        let role = self.connection.role();
        let key = output.key(role);
        if !self.connection.deflates_fragment(compression) {
            if !self.connection.permits_fragment(opcode) {
                return false;
            }
            if key.is_none_or(|key| payload.mask(key)) {
                let size = payload.as_slice().len() as u64;
                let header: FrameHeader = self.connection.fragment_header(opcode, last, size, key);
                header.encode(output.cork());
                payload.queue(output);
                return true;
            }
        }
        // A compressed payload is a copy anyway.
        let fragment = OutgoingFragment { opcode, payload: payload.as_slice(), last, compression };
        let sent = self.connection.send_fragment(fragment, codec, key, output.cork());
        payload.recycle(&mut output.pool);
        sent
    }

    /// Bytes of messages that wait for the end of the one under way.
    pub(crate) fn held(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.held())
    }

    /// Bytes that the socket did not take, without those that wait for the end of a message.
    pub(crate) fn unheld(&self) -> usize {
        self.backlog() - self.held()
    }

    /// The socket did not take all: the writer of the message under way is not to be ahead of it.
    pub(crate) fn note_full(&self) {
        if let Some(held) = self.held_ref() {
            held.message.note_full();
        }
    }

    /// Whether this message is under way.
    pub(crate) fn is_under_way(&self, message: &Arc<PartsState>) -> bool {
        self.held_ref().is_some_and(|held| Arc::ptr_eq(&held.message, message))
    }

    /// The message that the handler has begun and not ended.
    pub(crate) fn message_of_handler(&self) -> Option<&Arc<PartsState>> {
        self.held_ref()?.of_handler()
    }

    /// Sends the next part of the message under way, or the first of one, which is under way from here on.
    pub(crate) fn push_part(&mut self, output: &mut Output, codec: &mut Codec, part: Part<impl PartPayload>) -> bool {
        let Part { message, opcode, payload, last, compression } = part;
        if last == Last::No && self.held_ref().is_none() {
            message.begin();
            self.pending.get_or_insert_default().held = Some(Box::new(Held::new(message)));
        }
        self.push_fragment(output, codec, (opcode, last), payload, compression)
    }

    /// Has a message wait for the end of the one under way.
    pub(crate) fn hold(&mut self, item: HeldItem) {
        if let Some(held) = self.held_mut() {
            held.push(item);
        }
    }

    /// As [`hold`](Endpoint::hold), with a copy of its payload.
    pub(crate) fn hold_copy(&mut self, opcode: Opcode, payload: &[u8], compression: Compression) {
        if let Some(held) = self.held_mut() {
            held.push_copy(opcode, payload, compression);
        }
    }

    /// As [`hold`](Endpoint::hold), for whole frames that were encoded before, masked or not.
    pub(crate) fn hold_frames(&mut self, frames: &[u8], compression: Compression) {
        for (header, _, payload) in frame::whole_frames(frames) {
            self.hold_masked(&header, payload, compression);
        }
    }

    /// As [`hold`](Endpoint::hold), for the payload of a frame with this header.
    pub(crate) fn hold_masked(&mut self, header: &FrameHeader, payload: &[u8], compression: Compression) {
        match header.mask {
            None => self.hold_copy(header.opcode, payload, compression),
            Some(key) => {
                let mut plain = payload.to_vec();
                crate::protocol::mask::apply(&mut plain, key);
                self.hold_copy(header.opcode, &plain, compression);
            }
        }
    }

    /// As [`hold`](Endpoint::hold), for a server's frame that other connections send as well.
    pub(crate) fn hold_shared(&mut self, frame: &SharedFrame) {
        self.hold(HeldItem::Shared(frame.clone()));
    }

    /// Has a close frame wait for the end of the message under way.
    pub(crate) fn hold_close(&mut self, frame: Option<&CloseFrame>) {
        if let Some(held) = self.held_mut() {
            held.close = Some(frame.cloned());
        }
    }

    /// Whether a close frame waits for the end of the message under way.
    pub(crate) fn holds_close(&self) -> bool {
        self.held_ref().is_some_and(|held| held.close.is_some())
    }

    /// Forgets a message whose turn has not come.
    pub(crate) fn forget_part(&mut self, message: &Arc<PartsState>) {
        if let Some(held) = self.held_mut() {
            held.forget(message);
        }
    }

    /// Queues what waited for the end of the message that has ended, up to the next one that is sent in parts.
    pub(crate) fn release_held(&mut self, output: &mut Output, codec: &mut Codec) -> Released {
        let Some(mut held) = self.pending.as_mut().and_then(|pending| pending.held.take()) else {
            return Released::All;
        };
        held.message.end();
        while let Some(item) = held.pop() {
            match item {
                HeldItem::Frames { bytes, compression } => {
                    for (header, _, payload) in frame::whole_frames(&bytes) {
                        self.push(output, codec, header.opcode, payload, compression);
                    }
                }
                HeldItem::Message { opcode, payload, compression } => {
                    self.push_chunk(output, codec, opcode, payload, compression);
                }
                HeldItem::Shared(frame) => self.push_shared(output, codec, &frame),
                HeldItem::Part(part) if part.last == Last::Yes => {
                    part.message.end();
                    if !self.push_part(output, codec, part) {
                        return Released::Failed;
                    }
                }
                HeldItem::Part(part) => {
                    part.message.begin();
                    held.begin(part.message.clone());
                    self.pending.get_or_insert_default().held = Some(held);
                    return if self.push_part(output, codec, part) { Released::All } else { Released::Failed };
                }
            }
        }
        let close = held.close.take();
        self.drop_empty_pending();
        close.map_or(Released::All, Released::UpToClose)
    }

    /// Whether at least `enough` bytes of parts were sent since this last returned `true`. `size` more are about to be sent;
    /// they count if the socket has taken those before.
    pub(crate) fn has_part_progress(&mut self, size: usize, enough: usize) -> bool {
        let is_writing = self.unheld() > 0;
        let Some(held) = self.held_mut().filter(|_| !is_writing) else { return false };
        held.sent = held.sent.saturating_add(size);
        let progressed = held.sent >= enough;
        if progressed {
            held.sent = 0;
        }
        progressed
    }

    /// Has the writers of messages see that nothing more of these is sent.
    pub(crate) fn end_messages(&self) {
        if let Some(held) = self.held_ref() {
            held.end();
        }
    }

    /// As [`end_messages`](Endpoint::end_messages), because the peer takes too little.
    pub(crate) fn end_messages_too_slow(&self) {
        if let Some(held) = self.held_ref() {
            held.end_too_slow();
        }
    }

    /// Forgets what waits for the end of a message, which can not be sent any more.
    pub(crate) fn drop_held(&mut self) {
        if let Some(pending) = &mut self.pending
            && pending.held.take().is_some()
        {
            self.drop_empty_pending();
        }
    }

    fn held_ref(&self) -> Option<&Held> {
        self.pending.as_ref()?.held.as_deref()
    }

    fn held_mut(&mut self) -> Option<&mut Held> {
        self.pending.as_mut()?.held.as_deref_mut()
    }
}
