//! Who runs a worker: a thread of its own, or while messages come one by one the application's, as it waits for them.
//!
//! Between two threads a message that comes alone costs two switches and a call to wake the other, a third of what it
//! costs at all. A thread that waits for events has nothing better to do than to poll for them itself. So a worker that
//! keeps waking it for little lends itself to it; the worker's own thread looks every other millisecond whether the other
//! is still coming back between its events, and takes the worker back if not.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::worker::channel::ToChannels;
use crate::worker::parked::Parked;
use crate::worker::peer::ON_WORKER;
use crate::worker::{Ended, Worker};

/// How often the worker's own thread looks after a worker that is lent. It takes it back from an application that has not
/// come for it in between, which so holds up the worker's connections by twice that at most.
const WATCH: Duration = Duration::from_millis(2);

/// After so long without an event whoever has the worker gives it back, so that nobody must look after it.
const IDLE: Duration = Duration::from_millis(4);

/// So many turns in a row that found much are enough to share the work between two threads again.
const CROWDED: u32 = 16;

/// A worker that the application took so often before it was missed was well lent.
const WORTH: u32 = 64;

/// When it is worth it to lend a worker.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// The wake-ups of a stretch.
    wakes: u32,
    /// How long it may last.
    within: Duration,
    /// How many stretches are waited for at most where lending was of no use before.
    max_patience: u32,
}

/// Eight wake-ups saved for each look of the worker's own thread; and where that proves wrong each time, as where other
/// threads send all the time, no more than one in 4,096 of what is lost by it.
const USUAL: Terms = Terms { wakes: 16, within: IDLE, max_patience: 256 };

/// Where a worker is while nobody runs it, and which thread is to run it.
pub(crate) struct Helm {
    seat: Mutex<Seat>,
    terms: Terms,
}

#[derive(Default)]
struct Seat {
    /// Here while nobody runs it.
    worker: Option<Box<Worker<ToChannels>>>,
    /// The application's thread may take it.
    lent: bool,
    /// How often that did, since it was lent.
    taken: u32,
    /// When there were events last.
    found: Option<Instant>,
    /// Turns in a row that found more than a few events.
    crowded: u32,
    /// It was given back for good reason rather than taken.
    returned: bool,
    /// Two threads wait for events: whichever polled, the other would have to be woken.
    disputed: bool,
}

/// What came of asking for the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// Somebody else runs it.
    Elsewhere,
    /// This thread ran it, and there may be events.
    Led,
    /// It went back to its own thread.
    Returned,
}

impl Default for Helm {
    fn default() -> Helm {
        Helm { seat: Mutex::default(), terms: USUAL }
    }
}

impl Helm {
    fn lock(&self) -> MutexGuard<'_, Seat> {
        // Nothing that runs under the lock can leave the seat half changed.
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the worker on its own thread, and lends it while that is worth it, until it is told to shut down.
    pub(crate) fn run(&self, worker: Worker<ToChannels>, parked: &Parked) -> Ended {
        ON_WORKER.set(true);
        worker.inbox().set_home(thread::current());
        let mut worker = Box::new(worker);
        let mut pace = Pace::new(self.terms, worker.now);
        loop {
            worker.cycle(None);
            if let Some(ended) = worker.ended() {
                return ended;
            }
            if worker.delivery.woke_for_few() && worker.shutdown.is_none() && pace.wakes_often(worker.now) {
                worker = self.lend(worker, parked, &mut pace);
            }
        }
    }

    /// Has the application's thread run the worker while it comes back to it.
    fn lend(&self, worker: Box<Worker<ToChannels>>, parked: &Parked, pace: &mut Pace) -> Box<Worker<ToChannels>> {
        let inbox = worker.inbox();
        let mut seat = self.lock();
        if seat.disputed {
            return worker;
        }
        // From before.
        inbox.was_called_home();
        *seat = Seat { found: Some(worker.now), worker: Some(worker), lent: true, ..Seat::default() };
        drop(seat);
        // Who fell asleep before it could be seen takes it now.
        parked.wake();
        let mut taken = 0;
        loop {
            thread::park_timeout(WATCH);
            let called = inbox.was_called_home();
            let mut seat = self.lock();
            let is_missed = seat.taken == taken;
            taken = seat.taken;
            if (called || is_missed)
                && let Some(worker) = seat.worker.take()
            {
                seat.lent = false;
                pace.learn(seat.returned || seat.taken >= WORTH);
                inbox.awake();
                return worker;
            }
        }
    }

    /// Runs the worker on this thread until something `arrived` or it is `deadline`, if it is to be had.
    pub(crate) fn lead(&self, deadline: Option<Instant>, arrived: impl Fn() -> bool) -> Lead {
        let mut seat = self.lock();
        if !seat.lent {
            return Lead::Elsewhere;
        }
        let Some(worker) = seat.worker.take() else {
            seat.disputed = true;
            return Lead::Elsewhere;
        };
        seat.taken = seat.taken.saturating_add(1);
        let found = seat.found.unwrap_or(worker.now);
        drop(seat);
        worker.context.inbox.lead();
        Leader::new(self, worker).run(found, deadline, arrived)
    }

    /// Whether the worker can be had by who waits for events.
    pub(crate) fn is_free(&self) -> bool {
        let seat = self.lock();
        seat.lent && seat.worker.is_some()
    }
}

/// How running a worker for the application ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Something arrived.
    Events,
    /// Much arrived.
    Crowd,
    /// The application waits no longer.
    Deadline,
    /// The worker is to go back to its own thread.
    Over,
}

impl Worker<ToChannels> {
    /// Works until something `arrived`, it is `deadline`, or there was nothing for long since `found`.
    fn lead(&mut self, found: Instant, deadline: Option<Instant>, arrived: impl Fn() -> bool) -> Outcome {
        let idle = found + IDLE;
        let limit = deadline.map_or(idle, |deadline| deadline.min(idle));
        self.catch_up();
        let mut is_over = false;
        loop {
            // The thread that is joined ends it.
            if self.shutdown.is_some() {
                return Outcome::Over;
            }
            if arrived() {
                return if self.delivery.handed_many() { Outcome::Crowd } else { Outcome::Events };
            }
            if is_over {
                return if self.now >= idle { Outcome::Over } else { Outcome::Deadline };
            }
            self.cycle(Some(limit));
            is_over = self.now >= limit;
        }
    }
}

/// The application's thread while it runs the worker, which it puts back even if it panics.
struct Leader<'a> {
    helm: &'a Helm,
    worker: Option<Box<Worker<ToChannels>>>,
    /// Whether this is a worker's thread anyway.
    on_worker: bool,
}

impl<'a> Leader<'a> {
    fn new(helm: &'a Helm, worker: Box<Worker<ToChannels>>) -> Leader<'a> {
        Leader { helm, worker: Some(worker), on_worker: ON_WORKER.replace(true) }
    }

    fn run(mut self, found: Instant, deadline: Option<Instant>, arrived: impl Fn() -> bool) -> Lead {
        let outcome = self.worker.as_mut().map_or(Outcome::Over, |worker| worker.lead(found, deadline, arrived));
        self.put_back(outcome)
    }

    fn put_back(&mut self, outcome: Outcome) -> Lead {
        let Some(worker) = self.worker.take() else { return Lead::Elsewhere };
        ON_WORKER.set(self.on_worker);
        let mut seat = self.helm.lock();
        // While it is in no other hands yet: whoever takes it says so in turn.
        worker.context.inbox.leave();
        if matches!(outcome, Outcome::Events | Outcome::Crowd) {
            seat.found = Some(worker.now);
        }
        seat.crowded = if outcome == Outcome::Crowd { seat.crowded + 1 } else { 0 };
        seat.returned = outcome == Outcome::Over || seat.crowded >= CROWDED;
        let goes_home = seat.returned || seat.disputed;
        seat.lent = !goes_home;
        let inbox = goes_home.then(|| worker.inbox());
        seat.worker = Some(worker);
        drop(seat);
        match inbox {
            None => Lead::Led,
            Some(inbox) => {
                inbox.call_home();
                Lead::Returned
            }
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.put_back(Outcome::Over);
    }
}

impl fmt::Debug for Helm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helm").finish_non_exhaustive()
    }
}

/// How often the worker wakes the application of late.
#[derive(Debug)]
struct Pace {
    terms: Terms,
    wakes: u32,
    since: Instant,
    /// Stretches in a row that were quick, and how many there have to be.
    quick: u32,
    patience: u32,
}

impl Pace {
    fn new(terms: Terms, now: Instant) -> Pace {
        Pace { terms, wakes: 0, since: now, quick: 0, patience: 1 }
    }

    /// Notes a wake-up: whether there were so many of late that they are worth saving.
    fn wakes_often(&mut self, now: Instant) -> bool {
        self.wakes += 1;
        if self.wakes < self.terms.wakes {
            return false;
        }
        let is_quick = now.saturating_duration_since(self.since) <= self.terms.within;
        (self.wakes, self.since) = (0, now);
        self.quick = if is_quick { self.quick + 1 } else { 0 };
        let is_enough = self.quick >= self.patience;
        if is_enough {
            self.quick = 0;
        }
        is_enough
    }

    /// The worker is back: whether it was well lent.
    fn learn(&mut self, was_worth_it: bool) {
        self.patience = if was_worth_it { 1 } else { (self.patience * 2).min(self.terms.max_patience) };
    }
}

#[cfg(test)]
impl Helm {
    /// Lends the worker whenever it wakes somebody.
    pub(crate) fn eager() -> Helm {
        Helm { seat: Mutex::default(), terms: Terms { wakes: 1, within: Duration::MAX, max_patience: 1 } }
    }

    /// Whether the worker is lent, and was taken.
    pub(crate) fn is_led(&self) -> bool {
        let seat = self.lock();
        seat.lent && seat.taken > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a worker would be lent that wakes somebody so often, at such intervals.
    fn lends(pace: &mut Pace, wakes: u32, interval: Duration) -> usize {
        let mut now = pace.since;
        let wake = |_: &u32| {
            now += interval;
            pace.wakes_often(now)
        };
        (0..wakes).filter(wake).count()
    }

    #[test]
    fn many_wake_ups_in_a_short_time_are_worth_saving() {
        let Terms { wakes, within, max_patience } = USUAL;
        let mut pace = Pace::new(USUAL, Instant::now());
        assert_eq!(lends(&mut pace, 1_000, within), 0, "too far apart");
        assert_eq!(lends(&mut pace, wakes, within / wakes), 1);
        pace.learn(true);
        assert_eq!(lends(&mut pace, wakes, within / wakes), 1);
        pace.learn(false);
        assert_eq!(lends(&mut pace, 4 * wakes, within / wakes), 2, "it was missed, so half as often");
        for _ in 0..100 {
            pace.learn(false);
        }
        assert_eq!(lends(&mut pace, 2 * max_patience * wakes, within / wakes), 2);
        pace.learn(true);
        assert_eq!(lends(&mut pace, wakes, within / wakes), 1);
    }
}
