//! The memory of a batch: the records of its events, and the concatenated payloads of small messages.

use crate::protocol::close::CloseReason;
use crate::protocol::fragment::Fragment;
use crate::protocol::http::Request;
use crate::protocol::message::{Assembled, Message, MessageRef};
use crate::transport::buffer::BufferPool;
use crate::transport::spare_inputs::KeptInput;
use crate::worker::channel::event::EventRef;
use crate::worker::channel::received_fragment::ReceivedFragment;
use crate::worker::connection::active::ActiveConn;
use crate::worker::delivery::delivery::{Incoming, IncomingFragment};
use crate::worker::handle::draining::Draining;
use crate::worker::handle::inbox::Command;
use crate::worker::handle::peer::Peer;
use crate::worker::handle::wakeup::{BatchNumber, hold_wakeups};

/// An event counts 64 bytes and its payload towards the limit of waiting events.
pub(crate) const EVENT_COST: usize = 64;

/// A message of at least this size is copied to a buffer of its own, which the application can send back. From the
/// block it would have to be copied once more.
pub(crate) const MIN_OWNED_SIZE: usize = 16 << 10;

/// The memory of a [`BatchNumber`]: two counts of references, and the number.
const NUMBER_SIZE: usize = 3 * size_of::<usize>();

/// The memory of a batch, which is reused.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) peers: Vec<Peer>,
    pub(crate) records: Vec<Record>,
    /// The concatenated texts. They were validated on the worker's thread, and stay a `str`.
    pub(crate) texts: String,
    pub(crate) bytes: Vec<u8>,
    /// The bytes that it counts towards the limit of waiting events.
    pub(crate) cost: usize,
    /// The bytes of the requests, of the messages with buffers of their own, and of the fragments.
    pub(crate) apart: usize,
    /// The bytes of memory that it counted when it was sent.
    pub(crate) memory: usize,
    /// The number of batches that it was used for.
    pub(crate) number: BatchNumber,
    /// The inbox of the worker that it belongs to.
    pub(crate) origin: usize,
}

impl Block {
    /// An empty block with room for as much as `block` holds, so that it does not grow step by step.
    pub(super) fn as_large_as(block: &Block) -> Block {
        Block {
            records: Vec::with_capacity(block.records.len()),
            texts: String::with_capacity(block.texts.len()),
            bytes: Vec::with_capacity(block.bytes.len()),
            ..Block::default()
        }
    }

    /// Returns the bytes of memory that the block takes.
    pub(crate) fn footprint(&self) -> usize {
        let records = self.records.capacity() * size_of::<Record>() + self.peers.capacity() * size_of::<Peer>();
        size_of::<Block>() + NUMBER_SIZE + records + self.texts.capacity() + self.bytes.capacity() + self.apart
    }

    /// Called before the first event: holds the wake-ups for answers until the end of the batch.
    #[inline]
    pub(super) fn begin(&self, next: usize) {
        if next == 0 && has_several(self) {
            hold_wakeups(&self.number, self.origin);
        }
    }

    /// Keeps a text, which is shorter than [`MIN_OWNED_SIZE`].
    #[inline(always)]
    pub(crate) fn keep_text(&mut self, text: &str) -> EventKind {
        let start = self.texts.len() as u32;
        self.texts.push_str(text);
        EventKind::Text { start, end: self.texts.len() as u32 }
    }

    /// Keeps any message but a short text, and returns the kind of its record and its cost. If it needs a buffer of its own,
    /// that comes from `pool`.
    pub(crate) fn keep_other(&mut self, message: Incoming<'_>, pool: &mut BufferPool) -> (EventKind, usize) {
        let assembled = match message {
            Incoming::Borrowed(MessageRef::Binary(bytes)) if bytes.len() < MIN_OWNED_SIZE => {
                let start = self.bytes.len() as u32;
                self.bytes.extend_from_slice(bytes);
                return (EventKind::Binary { start, end: self.bytes.len() as u32 }, bytes.len());
            }
            Incoming::Borrowed(message) => pool.copy(message),
            Incoming::Assembled(message) => message,
        };
        // The message moves with its whole buffer, and is not copied.
        let cost = assembled.buffer.capacity();
        self.apart += cost;
        (EventKind::Assembled(Box::new(assembled)), cost)
    }

    /// Keeps a fragment, and returns the kind of its record and its cost. A small one is copied, so that the memory it was
    /// decompressed into serves again. A large one waits for the receive buffer that it is in.
    pub(crate) fn keep_fragment(
        &mut self,
        fragment: IncomingFragment<'_>,
        active: &mut ActiveConn<'_>,
    ) -> (EventKind, usize) {
        let codec = &mut active.context.codec;
        let kept = match fragment {
            IncomingFragment::Offered(fragment) => {
                if let Some(received) = ReceivedFragment::of(fragment, active) {
                    // It moves with its whole buffer.
                    let cost = active.context.config.read_buffer_size;
                    self.apart += size_of::<ReceivedFragment>() + cost;
                    return (EventKind::Received(Box::new(received)), cost);
                }
                fragment.into_owned()
            }
            IncomingFragment::Borrowed(fragment) => fragment.into_owned(),
            IncomingFragment::Owned(fragment) if fragment.len() < MIN_OWNED_SIZE => {
                let copy = fragment.as_ref().into_owned();
                codec.reuse(fragment);
                copy
            }
            IncomingFragment::Owned(fragment) => fragment,
        };
        let cost = kept.capacity();
        self.apart += Fragment::OVERHEAD + cost;
        (EventKind::Fragment(kept), cost)
    }

    /// Keeps the receive buffer that the last fragment waits for.
    pub(crate) fn keep_input(&mut self, input: KeptInput) {
        if let Some(Record { kind: EventKind::Received(fragment), .. }) = self.records.last_mut() {
            fragment.keep(input);
        }
    }

    /// Returns the event at `index` as a borrow; `None` after the last. A large message moves to the caller, and so is
    /// returned once.
    #[inline(always)]
    pub(crate) fn lend(&mut self, index: usize) -> Option<EventRef<'_>> {
        // Apart from the others: what several branches return goes through memory, and is copied there.
        if self.lend_text(index).is_none() {
            return self.lend_other(index);
        }
        self.lend_text(index).map(|(peer, text)| EventRef::Message(peer, MessageRef::Text(text).into()))
    }

    /// Returns the event at `index` if it is a short text, which most are.
    #[inline(always)]
    pub(crate) fn lend_text(&self, index: usize) -> Option<(&Peer, &str)> {
        let record = self.records.get(index)?;
        let EventKind::Text { start, end } = record.kind else { return None };
        Some((self.peers.get(record.peer as usize)?, self.texts.get(start as usize..end as usize)?))
    }

    /// As [`lend`](Block::lend), for all that [`lend_text`](Block::lend_text) does not return.
    #[inline(never)]
    pub(crate) fn lend_other(&mut self, index: usize) -> Option<EventRef<'_>> {
        let record = self.records.get_mut(index)?;
        let peer = self.peers.get(record.peer as usize)?;
        Some(match &mut record.kind {
            EventKind::Open(request) => EventRef::Open(peer, request),
            EventKind::Binary { start, end } => {
                let bytes = self.bytes.get(*start as usize..*end as usize)?;
                EventRef::Message(peer, MessageRef::Binary(bytes).into())
            }
            EventKind::Assembled(message) => {
                EventRef::Message(peer, std::mem::take(&mut **message).into_message().into())
            }
            EventKind::Fragment(fragment) => EventRef::Fragment(peer, fragment.as_ref()),
            EventKind::Received(fragment) => EventRef::Fragment(peer, fragment.lend()),
            EventKind::Drain(draining) => EventRef::Drain(peer, **draining),
            EventKind::Close(reason) => {
                // All events before it were returned, and answered if this thread answers them.
                close_seen(peer);
                EventRef::Close(peer, reason)
            }
            EventKind::Text { .. } | EventKind::Taken => return None,
        })
    }

    /// Returns the message at `index` as a borrow. A large one moves to `lent`. `None` if there is no message.
    #[inline(always)]
    pub(super) fn lend_message<'m>(
        &'m mut self,
        index: usize,
        lent: &'m mut Option<Message>,
    ) -> Option<MessageRef<'m>> {
        let record = self.records.get_mut(index)?;
        match &mut record.kind {
            EventKind::Text { start, end } => Some(MessageRef::Text(self.texts.get(*start as usize..*end as usize)?)),
            EventKind::Binary { start, end } => {
                Some(MessageRef::Binary(self.bytes.get(*start as usize..*end as usize)?))
            }
            EventKind::Assembled(message) => {
                Some(MessageRef::from(&*lent.insert(std::mem::take(&mut **message).into_message())))
            }
            _ => None,
        }
    }

    /// Copies the message at `index` if it is short, which is done here because memory that another thread allocated is
    /// expensive to free. `None` if there is no such message.
    #[inline(always)]
    pub(super) fn copy_message(&self, index: usize) -> Option<Message> {
        match self.records.get(index)?.kind {
            EventKind::Text { start, end } => {
                Some(Message::Text(self.texts.get(start as usize..end as usize)?.to_owned()))
            }
            EventKind::Binary { start, end } => {
                Some(Message::Binary(self.bytes.get(start as usize..end as usize)?.to_owned()))
            }
            _ => None,
        }
    }

    /// Takes the message at `index`, copied if it is short. `None` if there is no message.
    pub(super) fn take_message(&mut self, index: usize) -> Option<Message> {
        match &mut self.records.get_mut(index)?.kind {
            EventKind::Assembled(message) => Some(std::mem::take(&mut **message).into_message()),
            _ => self.copy_message(index),
        }
    }

    /// Empties the block.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.peers.clear();
        self.records.clear();
        self.texts.clear();
        self.bytes.clear();
        (self.cost, self.apart) = (0, 0);
    }
}

/// Notifies the worker that the application has seen the close event.
pub(super) fn close_seen(peer: &Peer) {
    peer.shared.worker.inbox.send(Command::CloseSeen { to: peer.shared.key });
}

#[derive(Debug)]
pub(crate) struct Record {
    /// Index of the connection's handle.
    pub(crate) peer: u32,
    pub(crate) kind: EventKind,
}

#[derive(Debug)]
pub(crate) enum EventKind {
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
    Fragment(Fragment),
    Received(Box<ReceivedFragment>),
    Drain(Box<Draining>),
    Close(Box<CloseReason>),
    /// The event was returned.
    Taken,
}

impl EventKind {
    /// Whether it is a message that was not returned.
    #[inline]
    pub(super) fn is_message(&self) -> bool {
        matches!(self, EventKind::Text { .. } | EventKind::Binary { .. } | EventKind::Assembled(_))
    }
}

/// Whether a batch has several events, whose answers are better written together.
pub(crate) fn has_several(block: &Block) -> bool {
    block.records.len() > 1
}
