//! What wakes a worker: the state that says whether it has to be woken, and wake-ups that wait for the end of a batch.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use mio::Waker;

/// The worker runs, and looks at its inbox before it sleeps.
const RUNNING: u8 = 0;

/// The worker sleeps, or is about to and will look at its inbox once more.
const PARKED: u8 = 1;

/// Wakes one worker, and only where it would not look at its inbox by itself.
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

    /// Wakes the worker if it is parked.
    pub(super) fn wake(&self) {
        // The worker looks at its inbox whenever it wakes, so a failure costs time and loses nothing.
        if self.state.swap(RUNNING, Ordering::SeqCst) == PARKED {
            self.interrupt();
        }
    }

    /// Has the worker's poll return, or its next one, whatever the state.
    pub(super) fn interrupt(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("a worker could not be woken: {error}");
        }
    }

    /// Says that the worker is about to sleep. Synchronizes with [`is_parked`](Wakeup::is_parked).
    pub(super) fn park(&self) {
        self.state.store(PARKED, Ordering::SeqCst);
    }

    /// Says that the worker runs.
    pub(super) fn set_running(&self) {
        // A sender that sees this late wakes a worker that runs, which costs time and nothing else.
        self.state.store(RUNNING, Ordering::Relaxed);
    }
}

thread_local! {
    /// The batch that this thread works through: its counter, its number, and the inbox of the worker that it is from.
    static HELD: RefCell<Option<(BatchNumber, u32, usize)>> = const { RefCell::new(None) };
}

/// Counts the batches that a block of events has carried. A batch is done once the count has passed its number.
pub(crate) type BatchNumber = Arc<AtomicU32>;

/// Lets this thread's commands to the worker that a batch is from wait for the end of that batch. Otherwise the first
/// answer would wake the worker, and the worker would write the answers one by one. The end of the batch wakes the worker,
/// on whatever thread it comes. Meanwhile the worker does not sleep long, for it knows of the batch.
pub(crate) fn hold_wakeups(number: &BatchNumber, origin: usize) {
    let now = number.load(Ordering::SeqCst);
    HELD.with_borrow_mut(|held| match held {
        Some((same, began, from)) if Arc::ptr_eq(same, number) => (*began, *from) = (now, origin),
        _ => *held = Some((number.clone(), now, origin)),
    });
}

/// Whether this thread works through a batch from the worker with the inbox `origin`.
pub(super) fn wakeups_are_held(origin: usize) -> bool {
    HELD.with_borrow(|held| {
        held.as_ref().is_some_and(|(number, began, from)| *from == origin && number.load(Ordering::SeqCst) == *began)
    })
}
