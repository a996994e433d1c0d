//! Keyed messages on the worker's own thread: they wait while other output does, and are sent when it is written.

use crate::worker::connection::active::ActiveConn;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::latest::{Due, KeptMessage, KeyedMessage, LatestMessages, NotKept};

/// Up to 64 KiB of keyed messages are put into the output at a time. Larger sends more values that are out of date when
/// they arrive; smaller needs more writes.
const MAX_BATCH: usize = 64 << 10;

impl ActiveConn<'_> {
    /// Whether a keyed message is to wait, because other output does, or an older message with its key may.
    pub(crate) fn must_keep(&self) -> bool {
        let is_behind = self.conn.endpoint.backlog() > 0 || self.conn.holds_messages();
        is_behind || self.is_above_high_water() || self.conn.has_latest()
    }

    /// Has a keyed message wait, in place of the one with its key.
    pub(crate) fn keep_latest(&mut self, key: u64, message: KeyedMessage) -> Result<(), NotKept> {
        self.peer().shared.keep_latest(key, message).map_err(|(_, why)| why)
    }

    /// Queues a keyed message that does not wait any more.
    pub(crate) fn push_keyed(&mut self, message: KeptMessage) {
        self.state.counts.sent += 1;
        let (endpoint, context) = (&mut self.conn.endpoint, &mut *self.context);
        if endpoint.connection.is_in_message() {
            return endpoint.hold(message.into());
        }
        match message {
            KeptMessage::Own { opcode, payload, compression } => {
                endpoint.push_chunk(&mut context.output, &mut context.codec, opcode, payload, compression);
            }
            KeptMessage::Shared(frame) => endpoint.push_shared(&mut context.output, &mut context.codec, &frame),
        }
    }

    /// Handles an announcement of keyed messages.
    pub(crate) fn latest_announced(&mut self, announcement: u64) {
        if let Some(latest) = self.conn.latest() {
            latest.reach(announcement);
        }
        self.push_latest();
    }

    /// Queues keyed messages that wait, if no other output does.
    pub(crate) fn push_latest(&mut self) {
        if self.conn.has_latest() && self.conn.endpoint.backlog() == 0 && self.conn.can_send() {
            self.pop_latest(Due::Announced, MAX_BATCH.min(self.context.config.max_write_buffer_size));
        }
    }

    /// Queues all keyed messages that wait, because the close frame follows.
    pub(crate) fn push_all_latest(&mut self) {
        if self.conn.has_latest() && self.conn.endpoint.connection.can_send_control() {
            self.pop_latest(Due::All, usize::MAX);
        }
    }

    #[cold]
    fn pop_latest(&mut self, due: Due, limit: usize) {
        // What comes meanwhile is left for later, or a fast sender would not let this end.
        let end = self.conn.latest().map_or(0, LatestMessages::end_position);
        while self.context.output.len() < limit
            && let Some((message, size)) = self.conn.latest().and_then(|latest| latest.pop(due, end))
        {
            // They are subtracted as those are that leave the inbox.
            self.state.posted += size;
            self.push_keyed(message);
        }
        if due == Due::Announced && self.conn.latest().is_some_and(|latest| latest.has_due(due)) {
            // The others follow when this output is written: in the next iteration, or when the socket has room.
            self.context.inbox.send(Command::SendLatest { to: self.state.key, announcement: 0 });
        }
        if let Some(peer) = &self.conn.peer {
            peer.shared.wake_if_awaited();
        }
    }
}
