//! A message that is published goes to the topic and to the bridge. A hand-over is before both or behind both.

use std::cell::Cell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

thread_local! {
    /// Whether this thread publishes: a message may be made by code that publishes another.
    static PUBLISHES: Cell<bool> = const { Cell::new(false) };
}

/// Held by a thread that publishes where there is a bridge, and by the one that hands the topics over.
#[derive(Debug, Default)]
pub(super) struct Publishing(RwLock<()>);

/// A thread publishes.
pub(super) struct Both<'a>(Option<RwLockReadGuard<'a, ()>>);

impl Publishing {
    /// Begins to publish. Within another message, that one is enough: the lock would wait for itself if somebody waits to hand over.
    pub(super) fn begin(&self) -> Both<'_> {
        let is_within = PUBLISHES.replace(true);
        Both((!is_within).then(|| self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Calls `act` while nobody publishes.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn between<T>(&self, act: impl FnOnce() -> T) -> T {
        let _nobody_publishes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        act()
    }
}

impl Drop for Both<'_> {
    fn drop(&mut self) {
        if self.0.is_some() {
            PUBLISHES.set(false);
        }
    }
}

#[cfg(all(test, target_os = "linux", feature = "handover"))]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn nothing_is_between_the_two_and_a_message_within_another_does_not_wait() {
        let publishing = Publishing::default();
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let outer = publishing.begin();
            let (publishing, waiting) = (&publishing, sender.clone());
            scope.spawn(move || publishing.between(|| waiting.send("handed over")));
            // A reader that comes now would wait for the writer.
            while publishing.0.try_read().is_ok() {
                thread::yield_now();
            }
            drop(publishing.begin());
            sender.send("published").expect("the test waits");
            drop(outer);
        });
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["published", "handed over"]);
    }
}
