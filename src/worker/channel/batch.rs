//! What a channel of events carries: the events of one turn of a worker.

use std::fmt;
use std::sync::Arc;

use crate::protocol::message::Message;
use crate::worker::channel::block::{Block, EventKind, close_seen};
use crate::worker::channel::event::{Event, EventRef};
use crate::worker::channel::state::ChannelState;

/// Events of one turn of a worker: the payloads of small messages lie in one block of bytes, so that a message costs no
/// allocation on the one thread that is freed on the other.
///
/// An iterator; what is left when it is dropped is lost. [`Events`](crate::Events) puts batches together again, and is
/// what to use unless the batches themselves are waited for in a [`Select`](crossbeam_channel::Select).
pub struct Batch {
    /// There until it is dropped. Apart, so that little moves through the channel.
    pub(crate) block: Option<Box<Block>>,
    pub(crate) next: usize,
    pub(crate) state: Arc<ChannelState>,
}

impl Batch {
    /// Lends the next event rather than give it: a short message is not copied, and the handle not counted.
    #[inline]
    #[must_use]
    pub fn next_ref(&mut self) -> Option<EventRef<'_>> {
        let block = self.block.as_deref_mut()?;
        block.begin(self.next);
        let index = self.next;
        if index < block.records.len() {
            self.next += 1;
        }
        block.lend(index)
    }
}

impl Iterator for Batch {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        let block = self.block.as_deref_mut()?;
        block.begin(self.next);
        let record = block.records.get_mut(self.next)?;
        self.next += 1;
        let peer = block.peers.get(record.peer as usize)?.clone();
        Some(match std::mem::replace(&mut record.kind, EventKind::Taken) {
            EventKind::Open(request) => Event::Open(peer, request),
            // Made here, because what one thread allocates another frees dearly.
            EventKind::Text { start, end } => {
                let text = block.texts.get(start as usize..end as usize)?;
                Event::Message(peer, Message::Text(text.to_owned()))
            }
            EventKind::Binary { start, end } => {
                let bytes = block.bytes.get(start as usize..end as usize)?;
                Event::Message(peer, Message::Binary(bytes.to_vec()))
            }
            EventKind::Assembled(message) => Event::Message(peer, message.into_message()),
            EventKind::Close(reason) => {
                // Everything before it was given out, and answered if it is answered from this thread.
                close_seen(&peer);
                Event::Close(peer, *reason)
            }
            EventKind::Taken => return None,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.block.as_ref().map_or(0, |block| block.records.len() - self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batch {}

impl Drop for Batch {
    fn drop(&mut self) {
        let Some(block) = self.block.take() else { return };
        for record in &block.records[self.next..] {
            if let (EventKind::Close(_), Some(peer)) = (&record.kind, block.peers.get(record.peer as usize)) {
                close_seen(peer);
            }
        }
        self.state.release(block);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("events", &self.len()).finish_non_exhaustive()
    }
}
