//! Wakes a worker: whether it has to be woken, and wake-ups that are held until the end of a batch.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use mio::Waker;

/// The worker runs, and checks its inbox before it sleeps.
const RUNNING: u8 = 0;

/// The worker sleeps, or is about to sleep and will check its inbox once more.
const PARKED: u8 = 1;

/// As [`PARKED`], for so short a time that a thread which holds its wake-ups need not wake it.
const PARKED_BRIEFLY: u8 = 2;

/// How long a worker is about to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Until it is woken.
    Long,
    /// Until it is woken, or a moment is over: a thread that holds wake-ups does not wake it.
    Brief,
}

/// Wakes one worker, unless it runs and will check its inbox anyway.
#[derive(Debug)]
pub(crate) struct Wakeup {
    state: AtomicU8,
    waker: Waker,
}

impl Wakeup {
    /// The worker runs.
    pub(super) fn new(waker: Waker) -> Wakeup {
        Wakeup { state: AtomicU8::new(RUNNING), waker }
    }

    /// Whether the worker has to be woken. Synchronizes with [`park`](Wakeup::park).
    #[inline]
    pub(super) fn is_parked(&self) -> bool {
        self.state.load(Ordering::SeqCst) != RUNNING
    }

    /// Whether the worker has to be woken by this thread, which may hold its wake-ups. Synchronizes with
    /// [`park`](Wakeup::park).
    #[inline]
    pub(super) fn is_parked_for(&self, holds_wakeups: impl FnOnce() -> bool) -> bool {
        match self.state.load(Ordering::SeqCst) {
            RUNNING => false,
            PARKED_BRIEFLY => !holds_wakeups(),
            _ => true,
        }
    }

    /// Wakes the worker if it is parked.
    pub(super) fn wake(&self) {
        // The worker checks its inbox whenever it wakes, so a failure only delays the commands.
        if self.state.swap(RUNNING, Ordering::SeqCst) != RUNNING {
            self.interrupt();
        }
    }

    /// Has the worker's current or next poll return, whatever the state.
    pub(super) fn interrupt(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("a worker could not be woken: {error}");
        }
    }

    /// Notes that the worker is about to sleep. Synchronizes with [`is_parked`](Wakeup::is_parked) and
    /// [`is_parked_for`](Wakeup::is_parked_for).
    pub(super) fn park(&self, sleep: Sleep) {
        let parked = match sleep {
            Sleep::Long => PARKED,
            Sleep::Brief => PARKED_BRIEFLY,
        };
        self.state.store(parked, Ordering::SeqCst);
    }

    /// Notes that the worker runs.
    pub(super) fn set_running(&self) {
        // A sender that sees this late wakes a running worker, which only costs time.
        self.state.store(RUNNING, Ordering::Relaxed);
    }
}

thread_local! {
    /// The batch that this thread handles: its counter, its number, and the inbox of the worker that sent it.
    static HELD: RefCell<Option<(BatchNumber, u32, usize)>> = const { RefCell::new(None) };
}

/// Counts the batches that a block of events has carried. A batch is done once the count has passed its number.
pub(crate) type BatchNumber = Arc<AtomicU32>;

/// Holds this thread's wake-ups of the worker that sent a batch until the end of that batch. Otherwise the first answer
/// would wake the worker, and the worker would write the answers one by one. The thread that ends the batch wakes the
/// worker. A worker that sleeps long does not wait for that: it is woken by the first answer.
pub(crate) fn hold_wakeups(number: &BatchNumber, origin: usize) {
    let now = number.load(Ordering::SeqCst);
    HELD.with_borrow_mut(|held| match held {
        Some((same, began, from)) if Arc::ptr_eq(same, number) => (*began, *from) = (now, origin),
        _ => *held = Some((number.clone(), now, origin)),
    });
}

/// Whether this thread handles a batch from the worker with the inbox `origin`.
pub(super) fn wakeups_are_held(origin: usize) -> bool {
    HELD.with_borrow(|held| {
        held.as_ref().is_some_and(|(number, began, from)| *from == origin && number.load(Ordering::SeqCst) == *began)
    })
}
