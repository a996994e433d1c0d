//! What a channel of events carries: the events of one turn of a worker.

use std::fmt;
use std::sync::Arc;

use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::protocol::message::{Assembled, CowMessage, Message, MessageRef};
use crate::worker::inbox::{BatchNumber, Command, hold_wakes};
use crate::worker::peer::Peer;
use crate::worker::shard::Shard;

/// What happens on a server's connections.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection is established; this is the request that opened it.
    Open(Peer, Request),
    /// A text or binary message arrived.
    Message(Peer, Message),
    /// A connection has ended, or its peer has started the closing handshake; exactly one per connection, its last.
    Close(Peer, CloseReason),
}

impl Event {
    /// The connection it happened on.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match self {
            Event::Open(peer, _) | Event::Message(peer, _) | Event::Close(peer, _) => peer,
        }
    }
}

/// An event that is lent by the batch it came with, so that a short message is answered without being copied: by
/// [`Iter::next_ref`](crate::Iter::next_ref) and [`Batch::next_ref`].
#[derive(Debug)]
#[non_exhaustive]
pub enum EventRef<'a> {
    /// A connection is established; this is the request that opened it.
    Open(&'a Peer, &'a Request),
    /// A text or binary message arrived: borrowed if it was short or came with others, else owned.
    Message(&'a Peer, CowMessage<'a>),
    /// A connection has ended, or its peer has started the closing handshake; exactly one per connection, its last.
    Close(&'a Peer, &'a CloseReason),
}

impl<'a> EventRef<'a> {
    /// The connection it happened on.
    #[must_use]
    pub fn peer(&self) -> &'a Peer {
        match self {
            EventRef::Open(peer, _) | EventRef::Message(peer, _) | EventRef::Close(peer, _) => peer,
        }
    }
}

/// Events of one turn of a worker: the payloads of small messages lie in one block of bytes, so that a message costs no
/// allocation on the one thread that is freed on the other.
///
/// An iterator; what is left when it is dropped is lost. [`Events`](crate::Events) puts batches together again, and is
/// what to use unless the batches themselves are waited for in a [`Select`](crossbeam_channel::Select).
pub struct Batch {
    /// There until it is dropped. Apart, so that little moves through the channel.
    pub(crate) block: Option<Box<Block>>,
    pub(crate) next: usize,
    pub(crate) shard: Arc<Shard>,
}

/// What a batch is made of; recycled.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) peers: Vec<Peer>,
    pub(crate) records: Vec<Record>,
    /// The texts, one behind the other: what was validated on the worker's thread stays a `str`.
    pub(crate) texts: String,
    pub(crate) bytes: Vec<u8>,
    /// What it counts against the limit of waiting events.
    pub(crate) cost: usize,
    /// How many batches it has carried.
    pub(crate) number: BatchNumber,
    /// The inbox of the worker that it is from.
    pub(crate) origin: usize,
}

impl Block {
    /// Lets the answers wait for the batch's end, before its first event.
    #[inline]
    fn begin(&self, next: usize) {
        if next == 0 && is_long(self) {
            hold_wakes(&self.number, self.origin);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Record {
    /// Index of the connection's handle.
    pub(crate) peer: u32,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Open(Request),
    Text {
        start: u32,
        end: u32,
    },
    Binary {
        start: u32,
        end: u32,
    },
    Assembled(Box<Assembled>),
    Close(Box<CloseReason>),
    /// Was given out.
    Taken,
}

/// Whether a batch has several events, whose answers are better written together.
pub(crate) fn is_long(block: &Block) -> bool {
    block.records.len() > 1
}

impl Batch {
    /// Lends the next event rather than give it: a short message is not copied, and the handle not counted.
    #[inline]
    #[must_use]
    pub fn next_ref(&mut self) -> Option<EventRef<'_>> {
        let block = self.block.as_deref_mut()?;
        block.begin(self.next);
        let record = block.records.get_mut(self.next)?;
        self.next += 1;
        let peer = block.peers.get(record.peer as usize)?;
        Some(match &mut record.what {
            What::Open(request) => EventRef::Open(peer, request),
            What::Text { start, end } => {
                let text = block.texts.get(*start as usize..*end as usize)?;
                EventRef::Message(peer, MessageRef::Text(text).into())
            }
            What::Binary { start, end } => {
                let bytes = block.bytes.get(*start as usize..*end as usize)?;
                EventRef::Message(peer, MessageRef::Binary(bytes).into())
            }
            What::Assembled(message) => EventRef::Message(peer, std::mem::take(&mut **message).into_message().into()),
            What::Close(reason) => {
                // As in `next`.
                answered(peer);
                EventRef::Close(peer, reason)
            }
            What::Taken => return None,
        })
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
        Some(match std::mem::replace(&mut record.what, What::Taken) {
            What::Open(request) => Event::Open(peer, request),
            // Made here, because what one thread allocates another frees dearly.
            What::Text { start, end } => {
                let text = block.texts.get(start as usize..end as usize)?;
                Event::Message(peer, Message::Text(text.to_owned()))
            }
            What::Binary { start, end } => {
                let bytes = block.bytes.get(start as usize..end as usize)?;
                Event::Message(peer, Message::Binary(bytes.to_vec()))
            }
            What::Assembled(message) => Event::Message(peer, message.into_message()),
            What::Close(reason) => {
                // Everything before it was given out, and answered if it is answered from this thread.
                answered(&peer);
                Event::Close(peer, *reason)
            }
            What::Taken => return None,
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
            if let (What::Close(_), Some(peer)) = (&record.what, block.peers.get(record.peer as usize)) {
                answered(peer);
            }
        }
        self.shard.release(block);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("events", &self.len()).finish_non_exhaustive()
    }
}

fn answered(peer: &Peer) {
    peer.shared.home.inbox.send(Command::Answered { to: peer.shared.key });
}
