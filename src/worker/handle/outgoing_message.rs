//! A message that is sent in parts, as the thread that reads or writes them sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::stream_options::StreamOptions;
use crate::protocol::Last;
use crate::protocol::deflate::Compression;
use crate::protocol::frame::Opcode;
use crate::transport::chunk::Chunk;
use crate::transport::held::Part;
use crate::transport::parts_state::{PartsState, Stage};
use crate::worker::handle::inbox::{Command, CommandQueue};
use crate::worker::handle::peer::Peer;
use crate::worker::handle::posted_part::PostedPart;

/// A message of which parts are posted to the worker of its connection, each when there is room for it.
#[derive(Debug)]
pub(crate) struct OutgoingMessage {
    peer: Peer,
    state: Arc<PartsState>,
    opcode: Opcode,
    compression: Compression,
    progress: Progress,
}

/// How far the message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    New,
    /// It counts among the connection's messages in parts.
    Counted,
    /// Its first part was posted.
    Begun,
    Complete,
}

impl OutgoingMessage {
    pub(crate) fn new(peer: Peer, options: &StreamOptions) -> OutgoingMessage {
        let StreamOptions { opcode, compression, .. } = *options;
        let worker = &peer.shared.worker;
        let state = Arc::new(PartsState::of_writer(worker.streams.ahead.clone(), &worker.inbox.budget));
        OutgoingMessage { peer, state, opcode, compression, progress: Progress::New }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Counts the message among those of its connection that are sent in parts; `false` if there is one already and this
    /// one is not to wait for its end.
    pub(crate) fn enter(&mut self, waits: bool) -> bool {
        if self.progress != Progress::New {
            return true;
        }
        let count = self.peer.shared.messages_in_parts();
        let entered = if waits {
            count.fetch_add(1, Ordering::SeqCst);
            true
        } else {
            count.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if entered {
            self.progress = Progress::Counted;
        }
        entered
    }

    /// Whether the next part can be posted.
    pub(crate) fn is_ready(&self) -> bool {
        let is_its_turn = match self.progress {
            Progress::New | Progress::Counted => true,
            Progress::Begun => self.state.stage() == Stage::UnderWay,
            Progress::Complete => false,
        };
        let is_ready = is_its_turn && self.peer.shared.has_room_for_part(&self.state);
        if is_its_turn && !is_ready {
            self.state.note_limited();
        }
        is_ready
    }

    /// A buffer for the next part, with whatever it held before.
    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        self.state.take_buffer()
    }

    /// The message whose first part was posted, to look at it without its owner.
    pub(crate) fn look(&self) -> Look {
        Look(self.state.clone())
    }

    /// Whether nothing more of the message can be sent.
    pub(crate) fn is_over(&self) -> bool {
        match self.progress {
            Progress::New | Progress::Counted => self.peer.shared.queued.is_closed(),
            Progress::Begun | Progress::Complete => self.state.stage() == Stage::Over,
        }
    }

    /// Whether a part was posted.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self.progress, Progress::Begun | Progress::Complete)
    }

    /// Whether the message ended because the peer took too little.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.state.is_too_slow()
    }

    /// Whether the message ended before it was complete.
    pub(crate) fn is_lost(&self) -> bool {
        self.progress == Progress::Begun && self.is_over()
    }

    /// Posts a part; `false`, with the payload as it was, if the connection takes no more.
    pub(crate) fn post(&mut self, payload: &mut Vec<u8>, last: Last) -> bool {
        if self.is_over() {
            return false;
        }
        let (peer, size) = (&self.peer.shared, payload.len());
        let mut posted = false;
        let push = |queue: &mut CommandQueue| {
            let chunk = Chunk::of_writer(std::mem::take(payload), self.state.clone());
            // Under the lock, so that the worker can not subtract it before.
            peer.queued.add_posted(size);
            queue.payloads += chunk.memory();
            let (message, opcode, compression) = (self.state.clone(), self.opcode, self.compression);
            let part = Part { message, opcode, payload: chunk, last, compression };
            let part = Box::new(PostedPart::new(part, peer.key, peer.worker.clone()));
            queue.commands.push(Command::SendPart { to: peer.key, part });
            posted = true;
        };
        if self.progress == Progress::Begun {
            // Also behind a close, which waits for the end of the message.
            peer.worker.inbox.post(push);
        } else {
            peer.post(push);
        }
        if posted {
            match last {
                Last::No => self.progress = Progress::Begun,
                Last::Yes => self.leave(Progress::Complete),
            }
        }
        posted
    }

    /// The message as its worker sees it, whose first part the worker sends itself.
    pub(crate) fn begin(&mut self) -> Part {
        self.enter(true);
        self.progress = Progress::Begun;
        let payload = Chunk::owned(Vec::new(), 0, 0);
        let (message, opcode, compression) = (self.state.clone(), self.opcode, self.compression);
        Part { message, opcode, payload, last: Last::No, compression }
    }

    /// Ends a message that is not complete: the worker fails the connection, unless no part was sent.
    pub(crate) fn give_up(&mut self) {
        if self.progress == Progress::Begun && self.state.stage() != Stage::Over {
            let command = Command::GiveUpMessage { to: self.peer.shared.key, message: self.state.clone() };
            self.peer.shared.worker.inbox.send(command);
        }
        self.leave(Progress::Complete);
    }

    fn leave(&mut self, progress: Progress) {
        if matches!(self.progress, Progress::Counted | Progress::Begun) {
            self.peer.shared.messages_in_parts().fetch_sub(1, Ordering::SeqCst);
        }
        self.progress = progress;
    }
}

/// A message that waits for its connection.
pub(crate) struct Look(Arc<PartsState>);

impl Look {
    /// Whether the message need not wait any more.
    pub(crate) fn is_changed(&self, peer: &Peer) -> bool {
        match self.0.stage() {
            Stage::Waiting => false,
            Stage::UnderWay => peer.shared.has_room_for_part(&self.0),
            Stage::Over => true,
        }
    }
}

impl Drop for OutgoingMessage {
    fn drop(&mut self) {
        self.give_up();
    }
}
