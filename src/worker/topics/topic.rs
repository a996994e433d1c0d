//! One topic: its ring, and how many need it. Threads share it.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use crate::config::topic_config::TopicConfig;
use crate::transport::shared_frame::SharedFrame;
use crate::worker::slab::Key;
use crate::worker::topics::position::{Position, Since, Subscription};
use crate::worker::topics::ring::Ring;

/// At most 1,024 commands for one topic wait at a worker. Each keeps what is published behind it in order with what else was sent
/// to that worker. Larger keeps more of that order while a worker is behind; smaller takes less memory for its inbox.
const MAX_ANNOUNCED: u32 = 1024;

/// More was published than [`MAX_ANNOUNCED`] commands tell of.
const OVERFLOWED: u32 = 1 << 31;

/// The [`WorkerSide::place`] of a topic that has no member on the worker.
const NO_PLACE: u32 = u32::MAX;

/// What has the topics by name.
pub(super) trait TopicOwner: fmt::Debug + Send + Sync {
    /// Ends a topic that nobody needs.
    fn end_if_idle(&self, topic: &TopicState);
}

/// A message of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) frame: SharedFrame,
    /// The connection that does not get it, and its worker.
    pub(crate) except: Option<(u16, Key)>,
}

/// A topic. It ends when nobody holds it and its ring is empty; then it is out of the registry, and nothing is added to it.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) name: Arc<str>,
    pub(crate) config: TopicConfig,
    /// No other topic has it.
    pub(crate) epoch: u64,
    owner: Weak<dyn TopicOwner>,
    shared: Mutex<Shared>,
    workers: Box<[WorkerSide]>,
    /// A topic that came from another process does not end before this time; 0 if it may. Only a time, so `Relaxed` is enough.
    pub(super) stays_until: AtomicU64,
    /// Messages that subscribers were sent, have missed, and how many of them were closed for that. Only counts, so `Relaxed`
    /// is enough.
    pub(crate) delivered: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) disconnected: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ring: Ring<Publication>,
    /// Subscriptions, from the call that made them on. Those that a worker has not come to are among them.
    pub(super) subscribers: usize,
    /// Subscriptions that a worker has.
    pub(super) members: usize,
    /// Whether there ever was one.
    pub(super) had_members: bool,
    /// The newest message when the first member came after there was none: a bridge did not ask for what others have published up to
    /// then.
    pub(super) interrupted: Option<u64>,
    /// Handles of the application.
    handles: usize,
    pub(super) has_ended: bool,
    /// Connections that come from another process are not subscribed yet: nothing is seen.
    pub(super) awaits: bool,
    /// Another process has the topic: nothing is published to it here.
    pub(super) has_left: bool,
}

/// What concerns one worker. It changes under the topic's lock, unless it says otherwise.
#[derive(Debug)]
struct WorkerSide {
    /// Subscriptions of this worker's connections. Read without the lock by a publisher that has released it.
    subscribers: AtomicU32,
    /// Its subscribers have the messages up to this number.
    seen: AtomicU64,
    /// The number of commands for this topic in the worker's inbox, and [`OVERFLOWED`]. Without the lock.
    announced: AtomicU32,
    /// Where the worker keeps the topic. Without the lock: only the worker uses it.
    place: AtomicU32,
    /// The worker was told of messages up to this number when it last had no member. As `place`.
    reached: AtomicU64,
}

/// What publishing a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) offset: u64,
    pub(crate) subscribers: usize,
}

/// What there is of a range of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// The number of the first message that was read.
    pub(crate) first: u64,
    /// The oldest message that the topic has.
    pub(crate) oldest: u64,
}

/// How much a topic has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) subscribers: usize,
    pub(crate) last: u64,
    pub(crate) published_bytes: u64,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl TopicState {
    pub(super) fn new(
        name: Arc<str>,
        config: TopicConfig,
        epoch: u64,
        workers: usize,
        owner: Weak<dyn TopicOwner>,
    ) -> TopicState {
        let side = || WorkerSide {
            subscribers: AtomicU32::new(0),
            seen: AtomicU64::new(0),
            announced: AtomicU32::new(0),
            place: AtomicU32::new(NO_PLACE),
            reached: AtomicU64::new(0),
        };
        TopicState {
            name,
            config,
            epoch,
            owner,
            shared: Mutex::new(Shared {
                ring: Ring::new(&config),
                subscribers: 0,
                members: 0,
                had_members: false,
                interrupted: None,
                handles: 0,
                has_ended: false,
                awaits: false,
                has_left: false,
            }),
            workers: std::iter::repeat_with(side).take(workers).collect(),
            stays_until: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            disconnected: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        // The only code of the application that runs under the lock makes a message, before anything is changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position of the message with this number.
    pub(crate) fn position(&self, offset: u64) -> Position {
        Position { epoch: self.epoch, offset }
    }

    /// Adds the message that `make` returns for its position; `None` if the topic has ended, or is another process's.
    pub(crate) fn push(&self, now: u64, make: impl FnOnce(Position) -> Publication) -> Option<Pushed> {
        let mut shared = self.lock();
        if shared.has_ended || shared.has_left {
            return None;
        }
        let publication = make(self.position(shared.ring.last() + 1));
        let size = publication.frame.plain().len();
        let offset = shared.ring.push(publication, size, now);
        Some(Pushed { offset, subscribers: shared.subscribers })
    }

    /// Reserves a subscription of a connection of this worker, so that nothing that is published from here on is lost.
    /// `None` if the topic has ended.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        worker: u16,
        since: Since,
        now: u64,
    ) -> Option<(Reservation, Subscription)> {
        let mut shared = self.lock();
        if shared.has_ended {
            return None;
        }
        shared.ring.trim(now);
        let (last, oldest) = (shared.ring.last(), shared.ring.oldest());
        let (cursor, missed) = match since {
            // Not what others lack: a new subscriber would get more the slower they are.
            Since::Oldest => (shared.ring.oldest_kept(now) - 1, 0),
            Since::Now => (last, 0),
            Since::Position(Position { epoch, .. }) if epoch != self.epoch => (oldest - 1, u64::MAX),
            // A client may claim to have what is not published yet.
            Since::Position(Position { offset, .. }) => {
                let cursor = offset.clamp(oldest - 1, last);
                (cursor, cursor.saturating_sub(offset))
            }
        };
        let comes_back = matches!(since, Since::Position(Position { epoch, .. }) if epoch == self.epoch);
        let mut reservation = self.reserve(&mut shared, worker, cursor, now);
        reservation.comes_back = comes_back;
        Some((reservation, Subscription { position: self.position(cursor), missed }))
    }

    /// Reserves a subscription that begins behind this message.
    pub(super) fn reserve(self: &Arc<Self>, shared: &mut Shared, worker: u16, cursor: u64, now: u64) -> Reservation {
        let side = &self.workers[usize::from(worker)];
        let before = side.subscribers.load(Ordering::Relaxed);
        let seen = if before == 0 { cursor } else { cursor.min(side.seen.load(Ordering::Relaxed)) };
        side.seen.store(seen, Ordering::Relaxed);
        side.subscribers.store(before + 1, Ordering::Relaxed);
        shared.subscribers += 1;
        self.update_seen(shared, now);
        Reservation { topic: Some(self.clone()), worker, cursor, last: shared.ring.last(), comes_back: false }
    }

    /// Notes that a worker has a subscription that was reserved, and calls `first` if no worker had any.
    pub(crate) fn join(&self, first: impl FnOnce(), joined: impl FnOnce()) {
        let mut shared = self.lock();
        shared.members += 1;
        if shared.members == 1 {
            if shared.had_members {
                shared.interrupted = Some(shared.ring.last());
            }
            shared.had_members = true;
            first();
        }
        joined();
    }

    /// The message behind which the topic last had no member for a time, unless that is before the message with this number.
    pub(crate) fn interrupted_at(&self, number: u64) -> Option<u64> {
        self.lock().interrupted.filter(|upto| number <= *upto)
    }

    /// Ends a subscription of this worker, and calls `last` if no worker has another.
    pub(crate) fn leave(&self, worker: u16, left: impl FnOnce(), last: impl FnOnce()) {
        let mut shared = self.lock();
        shared.members -= 1;
        left();
        if shared.members == 0 {
            last();
        }
        self.release(shared, worker);
    }

    /// Ends a reservation or a subscription, and the topic if nobody needs it.
    fn release(&self, mut shared: MutexGuard<'_, Shared>, worker: u16) {
        let side = &self.workers[usize::from(worker)];
        side.subscribers.store(side.subscribers.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        shared.subscribers -= 1;
        // Without a time: what is too old for the history is found later.
        self.update_seen(&mut shared, 0);
        self.end_if_idle(shared);
    }

    /// Frees what all have. Called after subscribers, or what they have, have changed.
    pub(super) fn update_seen(&self, shared: &mut Shared, now: u64) {
        let with_subscribers = self.workers.iter().filter(|side| side.subscribers.load(Ordering::Relaxed) > 0);
        let seen =
            with_subscribers.map(|side| side.seen.load(Ordering::Relaxed)).chain(shared.awaits.then_some(0)).min();
        shared.ring.set_seen(seen.unwrap_or(u64::MAX), now);
    }

    /// Notes that `members` subscribers of a worker have the messages up to this number; `false` if there is another, which the worker
    /// has not come to.
    pub(crate) fn acknowledge(&self, worker: u16, members: usize, seen: u64, now: u64) -> bool {
        let mut shared = self.lock();
        let side = &self.workers[usize::from(worker)];
        // The other may lack more.
        let are_all = side.subscribers.load(Ordering::Relaxed) as usize == members;
        if are_all {
            side.seen.store(seen, Ordering::Relaxed);
            self.update_seen(&mut shared, now);
        }
        are_all
    }

    /// Appends the messages behind `after`, up to and with `upto`, as far as there are any; no more than it takes for their frames to
    /// have `enough` bytes.
    pub(crate) fn read(&self, after: u64, upto: u64, enough: usize, out: &mut Vec<Publication>) -> Range {
        let shared = self.lock();
        let mut size = 0;
        out.extend(shared.ring.between(after, upto).cloned().take_while(|publication| {
            let is_wanted = size < enough;
            size += publication.frame.plain().len();
            is_wanted
        }));
        let oldest = shared.ring.oldest();
        Range { first: oldest.max(after + 1), oldest }
    }

    /// The number of the newest message.
    pub(crate) fn last(&self) -> u64 {
        self.lock().ring.last()
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.lock().subscribers
    }

    pub(crate) fn usage(&self) -> Usage {
        let shared = self.lock();
        let Shared { ref ring, subscribers, .. } = *shared;
        let (messages, bytes) = (ring.len(), ring.bytes());
        Usage { subscribers, last: ring.last(), published_bytes: ring.pushed_bytes(), messages, bytes }
    }

    /// Notes that the application has one more handle; `false` if the topic has ended.
    pub(crate) fn hold(&self) -> bool {
        let mut shared = self.lock();
        shared.handles += usize::from(!shared.has_ended);
        !shared.has_ended
    }

    /// Notes that the application has one handle fewer.
    pub(crate) fn unhold(&self) {
        let mut shared = self.lock();
        shared.handles -= 1;
        self.end_if_idle(shared);
    }

    /// Frees what is too old for the history. Returns whether there is any left.
    pub(super) fn expire(&self, now: u64) -> bool {
        let mut shared = self.lock();
        shared.ring.trim(now);
        if self.stays_until.load(Ordering::Relaxed) <= now {
            self.stays_until.store(0, Ordering::Relaxed);
        }
        let is_left = shared.ring.len() > 0 || self.stays();
        self.end_if_idle(shared);
        is_left
    }

    /// Whether the topic came from another process, and does not end for now.
    pub(super) fn stays(&self) -> bool {
        self.stays_until.load(Ordering::Relaxed) > 0
    }

    pub(super) fn end_if_idle(&self, shared: MutexGuard<'_, Shared>) {
        if self.is_idle(&shared) {
            // The owner is locked first.
            drop(shared);
            if let Some(owner) = self.owner.upgrade() {
                owner.end_if_idle(self);
            }
        }
    }

    /// Ends the topic if it is still idle; `false` if it is not, and `None` if another thread has it. Called under its owner's lock,
    /// so it does not wait.
    pub(super) fn try_end(&self) -> Option<bool> {
        let mut shared = match self.shared.try_lock() {
            Ok(shared) => shared,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        shared.has_ended |= self.is_idle(&shared);
        Some(shared.has_ended)
    }

    /// Waits until the thread that has the topic is done with it.
    pub(super) fn await_lock(&self) {
        drop(self.lock());
    }

    fn is_idle(&self, shared: &Shared) -> bool {
        let is_wanted = shared.subscribers > 0 || shared.handles > 0 || shared.awaits || self.stays();
        !is_wanted && shared.ring.len() == 0
    }

    /// The workers that have subscribers. A subscriber from before a message is seen by its publisher, who had the lock since.
    pub(crate) fn workers(&self) -> impl Iterator<Item = u16> {
        let sides = self.workers.iter().enumerate();
        sides.filter(|(_, side)| side.subscribers.load(Ordering::Relaxed) > 0).map(|(index, _)| index as u16)
    }

    /// Whether one more command may tell the worker of new messages. If not, the last of those that wait stands for it.
    /// Synchronizes with [`announcement_taken`](TopicState::announcement_taken).
    pub(crate) fn may_announce(&self, worker: u16) -> bool {
        let announced = &self.workers[usize::from(worker)].announced;
        let count_or_note =
            |word: u32| Some(if word & !OVERFLOWED < MAX_ANNOUNCED { word + 1 } else { word | OVERFLOWED });
        let before = announced.fetch_update(Ordering::AcqRel, Ordering::Acquire, count_or_note);
        before.is_ok_and(|word| word & !OVERFLOWED < MAX_ANNOUNCED)
    }

    /// Notes that the worker has taken a command. Returns whether it stands for later messages as well.
    pub(crate) fn announcement_taken(&self, worker: u16) -> bool {
        let announced = &self.workers[usize::from(worker)].announced;
        let count = |word: u32| Some(if word == OVERFLOWED | 1 { 0 } else { word - 1 });
        announced.fetch_update(Ordering::AcqRel, Ordering::Acquire, count) == Ok(OVERFLOWED | 1)
    }

    /// Where this worker keeps the topic.
    pub(crate) fn place(&self, worker: u16) -> Option<u32> {
        let place = self.workers[usize::from(worker)].place.load(Ordering::Relaxed);
        (place != NO_PLACE).then_some(place)
    }

    /// Notes that the worker was told of messages while it had no member. A subscription that it has not come to may need them.
    pub(crate) fn set_reached(&self, worker: u16, upto: u64) {
        self.workers[usize::from(worker)].reached.fetch_max(upto, Ordering::Relaxed);
    }

    /// The number of the last message that the worker was told of while it had no member.
    pub(crate) fn reached(&self, worker: u16) -> u64 {
        self.workers[usize::from(worker)].reached.load(Ordering::Relaxed)
    }

    pub(crate) fn set_place(&self, worker: u16, place: Option<u32>) {
        self.workers[usize::from(worker)].place.store(place.unwrap_or(NO_PLACE), Ordering::Relaxed);
    }
}

/// A subscription that its worker has not come to. It ends as this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    topic: Option<Arc<TopicState>>,
    worker: u16,
    cursor: u64,
    last: u64,
    /// Whether it continues an earlier one, by its position.
    comes_back: bool,
}

impl Reservation {
    pub(crate) fn comes_back(&self) -> bool {
        self.comes_back
    }

    /// Takes the subscription over: the topic, and the numbers of the last message that is not to be sent, and of the last that
    /// is to be sent at once.
    pub(crate) fn take(&mut self) -> Option<(Arc<TopicState>, u64, u64)> {
        Some((self.topic.take()?, self.cursor, self.last))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(topic) = &self.topic {
            topic.give_up(self.worker);
        }
    }
}

impl TopicState {
    /// Ends a subscription that was reserved and that no worker has joined.
    pub(crate) fn give_up(&self, worker: u16) {
        self.release(self.lock(), worker);
    }
}
