//! Events on the application's side: what a channel carries, and how a thread waits for it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::protocol::close::CloseReason;
use crate::protocol::http::Request;
use crate::protocol::message::{Assembled, CowMessage, Message, MessageRef};
use crate::worker::helm::{Helm, Lead};
use crate::worker::inbox::{BatchNumber, Command, Inbox, hold_wakes};
use crate::worker::parked::Parked;
use crate::worker::peer::Peer;

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
/// [`Iter::next_ref`] and [`Batch::next_ref`].
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
/// An iterator; what is left when it is dropped is lost. [`Events`] puts batches together again, and is what to use
/// unless the batches themselves are waited for in a [`Select`](crossbeam_channel::Select).
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

/// What the workers and the application's threads share of one channel of events.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The cost of the batches that are in the channel or in the application's hands.
    pub(crate) outstanding: AtomicUsize,
    pub(crate) limit: usize,
    /// Batches of several events among them: while there are any, answers may wait for their end.
    pub(crate) long_batches: AtomicUsize,
    /// A worker stopped reading because of the limit.
    pub(crate) stalled: AtomicBool,
    /// Nobody receives any more.
    pub(crate) orphaned: AtomicBool,
    pub(crate) workers: OnceLock<Arc<[Arc<Inbox>]>>,
    pub(crate) parked: Parked,
    /// Of the only worker, where the thread that waits for events may run it.
    pub(crate) helm: Option<Helm>,
    /// Blocks on their way back.
    pub(crate) spare: (Sender<Box<Block>>, Receiver<Box<Block>>),
}

impl Shard {
    pub(crate) fn new(limit: usize) -> Shard {
        Shard::with_helm(limit, None)
    }

    /// For a worker that may be lent to the thread that waits for events.
    pub(crate) fn with_helm(limit: usize, helm: Option<Helm>) -> Shard {
        Shard {
            outstanding: AtomicUsize::new(0),
            limit,
            long_batches: AtomicUsize::new(0),
            stalled: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
            workers: OnceLock::new(),
            parked: Parked::default(),
            helm,
            spare: crossbeam_channel::bounded(SPARE_BLOCKS),
        }
    }

    /// The application is done with a block.
    fn release(&self, mut block: Box<Block>) {
        if is_long(&block) {
            // What was answered meanwhile goes out now.
            block.number.fetch_add(1, Ordering::SeqCst);
            self.long_batches.fetch_sub(1, Ordering::SeqCst);
            for inbox in self.workers.get().into_iter().flat_map(|workers| workers.iter()) {
                inbox.deliver();
            }
        }
        let cost = block.cost;
        block.peers.clear();
        block.records.clear();
        block.texts.clear();
        block.bytes.clear();
        block.cost = 0;
        if block.texts.capacity() + block.bytes.capacity() <= MAX_SPARE_SIZE {
            // A full channel of spares means that this one is not needed.
            let _ = self.spare.0.try_send(block);
        }
        let left = self.outstanding.fetch_sub(cost, Ordering::SeqCst).saturating_sub(cost);
        if left < self.limit.div_ceil(2) && self.stalled.swap(false, Ordering::SeqCst) {
            self.tell_workers(|| Command::Resume);
        }
    }

    fn tell_workers(&self, command: impl Fn() -> Command) {
        for inbox in self.workers.get().into_iter().flat_map(|workers| workers.iter()) {
            inbox.send(command());
        }
    }
}

/// Whether a batch has several events, whose answers are better written together.
pub(crate) fn is_long(block: &Block) -> bool {
    block.records.len() > 1
}

const SPARE_BLOCKS: usize = 16;
const MAX_SPARE_SIZE: usize = 512 << 10;

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

/// The receiving end of a server's events: all of them, or with
/// [`channels(n)`](crate::ServerBuilder::channels) the n-th part of the connections.
///
/// A connection's events always come through the same receiver, in order. Clones share it; where two threads take
/// events from one receiver, the order between them is theirs to keep. When every clone is dropped, the connections
/// behind it are closed with 1001.
#[derive(Clone, Debug)]
pub struct Events {
    end: Arc<End>,
}

#[derive(Debug)]
struct End {
    receiver: Receiver<Batch>,
    shard: Arc<Shard>,
    /// Batches that were begun.
    begun: Mutex<VecDeque<Batch>>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shard.orphaned.store(true, Ordering::SeqCst);
        self.shard.tell_workers(|| Command::Orphaned);
    }
}

impl Events {
    pub(crate) fn new(receiver: Receiver<Batch>, shard: Arc<Shard>) -> Events {
        Events { end: Arc::new(End { receiver, shard, begun: Mutex::default() }) }
    }

    /// Waits for the next event, and where events come one by one may run the worker that they are from meanwhile; see the
    /// [guide](crate::guide#a-handler-or-events).
    ///
    /// # Errors
    /// The server has shut down and every event was received.
    #[doc(alias = "read")]
    pub fn recv(&self) -> Result<Event, RecvError> {
        self.wait(None).map_err(|_| RecvError)
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    /// There is none now, or there will be none any more.
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        let mut begun = self.end.begun.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(batch) = begun.front_mut() {
                if let Some(event) = batch.next() {
                    return Ok(event);
                }
                begun.pop_front();
            }
            begun.push_back(self.end.receiver.try_recv()?);
        }
    }

    /// Waits for the next event, up to `timeout`.
    ///
    /// # Errors
    /// The time is over, or there will be no event any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.wait(Instant::now().checked_add(timeout))
    }

    /// Waits for the next event, until `deadline`.
    ///
    /// # Errors
    /// The time is over, or there will be no event any more.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Event, RecvTimeoutError> {
        self.wait(Some(deadline))
    }

    /// The events as they come, until the server has shut down.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { events: Some(self), batch: None }
    }

    /// The channel behind it, for use in [`crossbeam_channel::select!`] beside the application's own channels. Each
    /// [`Batch`] that it gives is to be iterated to its end.
    ///
    /// Waiting in a `Select` costs more than [`recv`](Events::recv), because crossbeam spins before it sleeps.
    ///
    /// ```no_run
    /// # let server = threadbare::Server::bind("127.0.0.1:0").unwrap();
    /// # let (_keep, ticks) = crossbeam_channel::unbounded::<()>();
    /// let events = server.events();
    /// crossbeam_channel::select! {
    ///     recv(events.as_channel()) -> batch => for event in batch.unwrap() {
    ///         println!("{event:?}");
    ///     },
    ///     recv(ticks) -> _ => println!("tick"),
    /// }
    /// ```
    #[must_use]
    pub fn as_channel(&self) -> &Receiver<Batch> {
        &self.end.receiver
    }

    /// Whether a thread that waits here runs the worker.
    #[cfg(test)]
    pub(crate) fn lead(&self) -> bool {
        self.end.shard.helm.as_ref().is_some_and(Helm::is_led)
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        self.sleep_until(deadline, || self.try_recv())
    }

    /// The rest of a batch that was begun, or the next one.
    fn next_batch(&self) -> Result<Batch, TryRecvError> {
        if let Some(batch) = self.end.begun.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return Ok(batch);
        }
        self.end.receiver.try_recv()
    }

    /// Tries, and sleeps in between. crossbeam's own `recv` spins and yields first, which on a busy core is most of what
    /// a message costs; here the worker looks once a turn whether anybody sleeps.
    fn sleep_until<T>(
        &self,
        deadline: Option<Instant>,
        attempt: impl Fn() -> Result<T, TryRecvError>,
    ) -> Result<T, RecvTimeoutError> {
        let Shard { parked, helm, .. } = &*self.end.shard;
        let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        loop {
            match attempt() {
                Ok(found) => return Ok(found),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            if let Some(helm) = helm
                && helm.lead(deadline, || !self.end.receiver.is_empty()) == Lead::Led
            {
                if is_over() {
                    return attempt().map_err(|_| RecvTimeoutError::Timeout);
                }
                continue;
            }
            parked.enter();
            let found = attempt();
            // A worker that was lent in between is not to be slept beside.
            let is_lent = helm.as_ref().is_some_and(Helm::is_free);
            if let Err(TryRecvError::Empty) = found
                && !is_lent
            {
                match deadline {
                    None => std::thread::park(),
                    Some(deadline) => std::thread::park_timeout(deadline.saturating_duration_since(Instant::now())),
                }
            }
            parked.leave();
            match found {
                Ok(found) => return Ok(found),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) if is_over() => {
                    return attempt().map_err(|_| RecvTimeoutError::Timeout);
                }
                Err(TryRecvError::Empty) => {}
            }
        }
    }
}

/// The events as they come; made by [`Events::iter`] and [`Server::iter`](crate::Server::iter).
#[derive(Debug)]
pub struct Iter<'a> {
    pub(crate) events: Option<&'a Events>,
    pub(crate) batch: Option<Batch>,
}

impl Iter<'_> {
    /// Lends the next event rather than give it: a short message is not copied, and the handle not counted. For an
    /// application that answers or reads on the spot, that is half of what an event costs its thread.
    ///
    /// ```no_run
    /// # let server = threadbare::Server::bind("127.0.0.1:0").unwrap();
    /// use threadbare::EventRef;
    ///
    /// let mut events = server.iter();
    /// while let Some(event) = events.next_ref() {
    ///     if let EventRef::Message(peer, message) = event {
    ///         peer.send(message)?;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn next_ref(&mut self) -> Option<EventRef<'_>> {
        while self.batch.as_ref().is_none_or(|batch| batch.len() == 0) {
            self.fetch_batch()?;
        }
        self.batch.as_mut()?.next_ref()
    }

    /// Waits for a batch, which may have been begun elsewhere and be empty.
    fn fetch_batch(&mut self) -> Option<()> {
        // Given back before the wait, so that its block is there for the next.
        self.batch = None;
        let events = self.events?;
        self.batch = Some(events.sleep_until(None, || events.next_batch()).ok()?);
        Some(())
    }
}

impl Iterator for Iter<'_> {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(batch) = &mut self.batch
                && let Some(event) = batch.next()
            {
                return Some(event);
            }
            self.fetch_batch()?;
        }
    }
}

impl Drop for Iter<'_> {
    fn drop(&mut self) {
        if let (Some(events), Some(batch)) = (self.events, self.batch.take())
            && batch.len() > 0
        {
            events.end.begun.lock().unwrap_or_else(PoisonError::into_inner).push_front(batch);
            // Whoever sleeps went to sleep when these events were nobody else's.
            events.end.shard.parked.wake();
        }
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = Event;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
