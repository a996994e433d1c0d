//! The application's end of a channel of events, and how a thread waits for events.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::protocol::close::CloseReason;
use crate::protocol::message::{Message, MessageRef};
use crate::worker::channel::batch::Batch;
use crate::worker::channel::event::{Event, EventRef};
use crate::worker::channel::state::ChannelState;
use crate::worker::handle::inbox::Command;

/// Receives a server's events: those of all connections, or of a share of them with
/// [`channels(n)`](crate::ServerBuilder::channels).
///
/// The events of a connection always come through the same receiver, in order. Clones receive from the same channel,
/// and each event goes to one of them. When the last clone is dropped, its connections are closed with 1001.
///
/// ```no_run
/// use threadbare::{Event, Server};
///
/// let mut server = Server::builder().channels(4).bind("127.0.0.1:8080")?;
/// for events in server.take_events() {
///     std::thread::spawn(move || {
///         for event in &events {
///             if let Event::Message(peer, message) = event {
///                 let _ = peer.send(message); // the peer may be gone
///             }
///         }
///     });
/// }
/// server.join();
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Events {
    end: Arc<End>,
}

#[derive(Debug)]
struct End {
    receiver: Receiver<Batch>,
    state: Arc<ChannelState>,
    /// Batches of which some events were taken, to be continued before any other. The last is next.
    begun: Mutex<Vec<Batch>>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.state.receiver_dropped.store(true, Ordering::SeqCst);
        self.state.tell(|to| Command::ReceiverDropped { to });
    }
}

impl Events {
    pub(crate) fn new(receiver: Receiver<Batch>, state: Arc<ChannelState>) -> Events {
        Events { end: Arc::new(End { receiver, state, begun: Mutex::default() }) }
    }

    /// Waits for the next event.
    ///
    /// ```
    /// use threadbare::{Client, Event, Server};
    ///
    /// let mut server = Server::bind("127.0.0.1:0")?;
    /// let events = server.take_events().remove(0);
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// assert!(matches!(events.recv()?, Event::Open(..)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The server has shut down and every event was received.
    #[doc(alias = "read")]
    pub fn recv(&self) -> Result<Event, RecvError> {
        self.wait(None).map_err(|_| RecvError)
    }

    /// Returns the next event if there is one, without waiting.
    ///
    /// ```
    /// use threadbare::{Server, TryRecvError};
    ///
    /// let mut server = Server::bind("127.0.0.1:0")?;
    /// let events = server.take_events().remove(0);
    /// assert_eq!(events.try_recv().err(), Some(TryRecvError::Empty));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// There is no event now, or the server has shut down and every event was received.
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.try_take(Batch::next)
    }

    /// Waits for the next event, up to `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::{RecvTimeoutError, Server};
    ///
    /// let mut server = Server::bind("127.0.0.1:0")?;
    /// let events = server.take_events().remove(0);
    /// assert_eq!(events.recv_timeout(Duration::from_millis(1)).err(), Some(RecvTimeoutError::Timeout));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// No event came in time, or the server has shut down and every event was received.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.wait(Instant::now().checked_add(timeout))
    }

    /// Waits for the next event, until `deadline`.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use threadbare::Events;
    ///
    /// /// Returns the number of events within a second.
    /// fn count(events: &Events) -> usize {
    ///     let deadline = Instant::now() + Duration::from_secs(1);
    ///     std::iter::from_fn(|| events.recv_deadline(deadline).ok()).count()
    /// }
    /// ```
    ///
    /// # Errors
    /// No event came in time, or the server has shut down and every event was received.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Event, RecvTimeoutError> {
        self.wait(Some(deadline))
    }

    /// Returns an iterator over the events, which waits for each and ends when the server has shut down.
    ///
    /// ```no_run
    /// use threadbare::Server;
    ///
    /// let mut server = Server::bind("127.0.0.1:8080")?;
    /// let events = server.take_events().remove(0);
    /// for event in events.iter().take(100) {
    ///     println!("{event:?}");
    /// }
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { events: Some(self), batch: None }
    }

    /// Returns the channel of batches, for use in [`crossbeam_channel::select!`] beside the application's own channels.
    /// Iterate over each [`Batch`] to its end, because the events that are left when it is dropped are lost.
    ///
    /// Waiting in a `Select` costs more than [`recv`](Events::recv), because crossbeam spins before it sleeps. A batch counts
    /// as waiting until it is dropped, and a connection with 256 KiB behind it is not read before, even if another thread is idle
    /// in a `Select`: so do not keep a batch for longer than its events take.
    ///
    /// ```no_run
    /// # let server = threadbare::Server::bind("127.0.0.1:0").unwrap();
    /// # let (_keep, ticks) = crossbeam_channel::unbounded::<()>();
    /// let events = server.events().expect("not taken");
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

    /// Waits for the next event, until `deadline` if there is one.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        self.take_until(deadline, Batch::next)
    }

    /// Waits until `take` finds what it wants in a batch.
    pub(crate) fn take_until<T>(
        &self,
        deadline: Option<Instant>,
        take: impl Fn(&mut Batch) -> Option<T>,
    ) -> Result<T, RecvTimeoutError> {
        self.sleep_until(deadline, || self.try_take(&take))
    }

    /// Copies a client's next message if that is short and came with the one before it.
    #[inline(always)]
    pub(crate) fn copy_message(&self) -> Option<Message> {
        self.begun().last_mut()?.copy_message()
    }

    /// Returns what `take` finds in the next batch that has it, without waiting.
    pub(crate) fn try_take<T>(&self, take: impl Fn(&mut Batch) -> Option<T>) -> Result<T, TryRecvError> {
        let mut begun = self.begun();
        loop {
            while let Some(batch) = begun.last_mut() {
                if let Some(taken) = take(batch) {
                    return Ok(taken);
                }
                begun.pop();
            }
            begun.push(self.end.receiver.try_recv()?);
        }
    }

    #[inline(always)]
    fn begun(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.end.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the rest of a batch of which some events were taken, or the next batch.
    fn next_batch(&self) -> Result<Batch, TryRecvError> {
        if let Some(batch) = self.begun().pop() {
            return Ok(batch);
        }
        self.end.receiver.try_recv()
    }

    /// Calls `attempt` until it succeeds, and parks the thread in between. crossbeam's own `recv` spins and yields
    /// first, which costs more than everything else about a message. Here the worker wakes parked threads once an
    /// iteration.
    fn sleep_until<T>(
        &self,
        deadline: Option<Instant>,
        attempt: impl Fn() -> Result<T, TryRecvError>,
    ) -> Result<T, RecvTimeoutError> {
        let waiters = &self.end.state.waiters;
        let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        loop {
            match attempt() {
                Ok(found) => return Ok(found),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            waiters.enter();
            let found = attempt();
            if let Err(TryRecvError::Empty) = found {
                self.end.state.found_empty();
                match deadline {
                    None => std::thread::park(),
                    Some(deadline) => std::thread::park_timeout(deadline.saturating_duration_since(Instant::now())),
                }
            }
            waiters.leave();
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

/// An iterator over events, which waits for each; made by [`Events::iter`] and [`Server::iter`](crate::Server::iter).
///
/// ```
/// use threadbare::{Client, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let client = Client::connect(&format!("ws://{}/chat", server.local_addr()))?;
/// let mut events = server.iter();
/// println!("{:?}", events.next());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Iter<'a> {
    pub(crate) events: Option<&'a Events>,
    pub(crate) batch: Option<Batch>,
}

impl Iter<'_> {
    /// Waits for the next event and lends it: a short message is not copied, and the [`Peer`](crate::Peer) is not
    /// cloned. For an application that answers at once, this halves what an event costs its thread.
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

    /// Waits until a client's next event is a message; `None` after the last. Fails if the connection has ended before it.
    #[inline(always)]
    pub(crate) fn find_message(&mut self) -> Option<Result<(), CloseReason>> {
        loop {
            if let Some(batch) = &mut self.batch
                && let Some(found) = batch.find_message()
            {
                return Some(found);
            }
            self.fetch_batch()?;
        }
    }

    /// Lends the message that was found. If it is large it moves to `lent`.
    #[inline(always)]
    pub(crate) fn lend_message<'m>(&'m mut self, lent: &'m mut Option<Message>) -> Option<MessageRef<'m>> {
        self.batch.as_mut()?.lend_message(lent)
    }

    /// Copies the next message of a batch that was begun, if it is short.
    #[inline(always)]
    pub(crate) fn copy_message(&mut self) -> Option<Message> {
        self.batch.as_mut()?.copy_message()
    }

    /// The next message of a batch that was begun. Fails if the connection has ended before it.
    pub(crate) fn next_of_batch(&mut self) -> Option<Result<Message, CloseReason>> {
        self.batch.as_mut()?.next_message()
    }

    /// Waits for a batch. Another receiver may have taken all of its events.
    fn fetch_batch(&mut self) -> Option<()> {
        // Dropped before the wait, so that the worker can use its block again.
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
            events.begun().push(batch);
            // A thread that is parked looked for events while these belonged to this iterator.
            events.end.state.waiters.wake();
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
