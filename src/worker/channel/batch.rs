//! The items of a channel of events: batches, each with the events of one iteration of a worker's event loop.

use std::fmt;
use std::sync::Arc;

use crate::protocol::close::CloseReason;
use crate::protocol::message::{Message, MessageRef};
use crate::worker::channel::block::{Block, EventKind, close_seen};
use crate::worker::channel::event::{Event, EventRef};
use crate::worker::channel::received_fragment::ReceivedFragment;
use crate::worker::channel::state::ChannelState;

/// The events of one iteration of a worker's event loop. The payloads of small messages are in one block of bytes, so
/// that a message needs no allocation on one thread that another thread frees.
///
/// It is an iterator. The events that are left when it is dropped are lost. Most applications receive from
/// [`Events`](crate::Events), which joins the batches. Only a program that waits in a
/// [`Select`](crossbeam_channel::Select) needs the batches themselves.
///
/// ```no_run
/// use threadbare::{Event, Server};
///
/// let server = Server::bind("127.0.0.1:8080")?;
/// let batches = server.events().expect("not taken").as_channel();
/// while let Ok(batch) = batches.recv() {
///     println!("{} events at once", batch.len());
///     for event in batch {
///         if let Event::Message(peer, message) = event {
///             let _ = peer.send(message); // the peer may be gone
///         }
///     }
/// }
/// # Ok::<(), threadbare::BuildError>(())
/// ```
pub struct Batch {
    /// `None` only while it is dropped. In a box, so that the channel moves little memory.
    pub(crate) block: Option<Box<Block>>,
    pub(crate) next: usize,
    pub(crate) state: Arc<ChannelState>,
}

impl Batch {
    /// Returns the next event as a borrow: a short message is not copied, and the handle is not cloned.
    ///
    /// ```
    /// use threadbare::{Batch, EventRef};
    ///
    /// fn echo(mut batch: Batch) {
    ///     while let Some(event) = batch.next_ref() {
    ///         if let EventRef::Message(peer, message) = event {
    ///             let _ = peer.send(message); // the peer may be gone
    ///         }
    ///     }
    /// }
    /// ```
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

/// What a client reads next of a message, or another event.
pub(crate) enum ClientPart {
    Received(Box<ReceivedFragment>),
    Event(Event),
}

/// For a client, whose events are all of one connection.
impl Batch {
    /// Goes on to the next message; `None` if there is none. Fails if the connection has ended before it.
    #[inline(always)]
    pub(crate) fn find_message(&mut self) -> Option<Result<(), CloseReason>> {
        let block = self.block.as_deref_mut()?;
        block.begin(self.next);
        if block.records.get(self.next)?.kind.is_message() { Some(Ok(())) } else { self.skip_to_message() }
    }

    /// As [`find_message`](Batch::find_message), if the next event is none.
    #[cold]
    #[inline(never)]
    fn skip_to_message(&mut self) -> Option<Result<(), CloseReason>> {
        loop {
            if let Event::Close(_, reason) = self.next()? {
                return Some(Err(reason));
            }
            if self.block.as_deref()?.records.get(self.next)?.kind.is_message() {
                return Some(Ok(()));
            }
        }
    }

    /// Lends the message that was [found](Batch::find_message). A large one moves to `lent`.
    #[inline(always)]
    pub(crate) fn lend_message<'m>(&'m mut self, lent: &'m mut Option<Message>) -> Option<MessageRef<'m>> {
        let index = self.next;
        self.next += 1;
        self.block.as_deref_mut()?.lend_message(index, lent)
    }

    /// Copies the next message if it is short, which most are. Inlined with the functions below it, because a message that each
    /// of them returned would be copied as often.
    #[inline(always)]
    pub(crate) fn copy_message(&mut self) -> Option<Message> {
        let block = self.block.as_deref_mut()?;
        block.begin(self.next);
        let message = block.copy_message(self.next)?;
        self.next += 1;
        Some(message)
    }

    /// The next event, with a large fragment in its receive buffer.
    pub(crate) fn next_part(&mut self) -> Option<ClientPart> {
        if let Some(record) = self.block.as_deref_mut()?.records.get_mut(self.next)
            && matches!(record.kind, EventKind::Received(_))
            && let EventKind::Received(fragment) = std::mem::replace(&mut record.kind, EventKind::Taken)
        {
            self.next += 1;
            return Some(ClientPart::Received(fragment));
        }
        self.next().map(ClientPart::Event)
    }

    /// The next message. Fails if the connection has ended before it.
    pub(crate) fn next_message(&mut self) -> Option<Result<Message, CloseReason>> {
        if let Err(reason) = self.find_message()? {
            return Some(Err(reason));
        }
        let index = self.next;
        self.next += 1;
        self.block.as_deref_mut()?.take_message(index).map(Ok)
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
        // Here and not by `Block::take_message`, which would move each message once more.
        Some(match std::mem::replace(&mut record.kind, EventKind::Taken) {
            EventKind::Open(request) => Event::Open(peer, request),
            // Made here, because memory that another thread allocated is expensive to free.
            EventKind::Text { start, end } => {
                let text = block.texts.get(start as usize..end as usize)?;
                Event::Message(peer, Message::Text(text.to_owned()))
            }
            EventKind::Binary { start, end } => {
                let bytes = block.bytes.get(start as usize..end as usize)?;
                Event::Message(peer, Message::Binary(bytes.to_vec()))
            }
            EventKind::Assembled(message) => Event::Message(peer, message.into_message()),
            EventKind::Fragment(fragment) => Event::Fragment(peer, fragment),
            EventKind::Received(fragment) => Event::Fragment(peer, fragment.into_owned()),
            EventKind::Drain(draining) => Event::Drain(peer, *draining),
            EventKind::Close(reason) => {
                // All events before it were returned, and answered if this thread answers them.
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
