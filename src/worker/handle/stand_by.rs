//! What is published to the topics of a server that takes over from another process, and has not got that one's topics yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::message::{Message, MessageRef};

/// What is published before a server has taken over waits, up to 4 MiB. More takes more memory; less loses more, which is told.
const MAX_WAITING: usize = 4 << 20;

/// What is published while the server takes over waits until the topics of the process before are complete.
#[derive(Debug, Default)]
pub(super) struct StandBy {
    /// Changes under the lock of what waits.
    is_on: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: Vec<(String, Message)>,
    bytes: usize,
    has_lost: bool,
}

impl StandBy {
    pub(super) fn begin(&self) {
        self.is_on.store(true, Ordering::SeqCst);
    }

    /// Gives out what has waited, in order, and has nothing more wait. Returns whether something was lost.
    pub(super) fn end(&self, mut publish: impl FnMut(&str, Message)) -> bool {
        // What comes meanwhile is behind it, because of the lock.
        let mut waiting = self.lock();
        let Waiting { messages, has_lost, .. } = std::mem::take(&mut *waiting);
        messages.into_iter().for_each(|(name, message)| publish(&name, message));
        self.is_on.store(false, Ordering::SeqCst);
        has_lost
    }

    /// Notes that messages were lost on the way here; `false` if the server does not take over, or has done so.
    pub(super) fn lose(&self) -> bool {
        let waiting = self.lock_if_on();
        waiting.map(|mut waiting| waiting.has_lost = true).is_some()
    }

    /// What waits; `None` if nothing is to wait.
    fn lock_if_on(&self) -> Option<MutexGuard<'_, Waiting>> {
        let is_on = || self.is_on.load(Ordering::SeqCst);
        // It may have ended meanwhile.
        is_on().then(|| self.lock()).filter(|_| is_on())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a message wait; `false` if the server does not take over, or has done so.
    pub(super) fn hold(&self, name: &str, message: MessageRef<'_>) -> bool {
        let Some(mut waiting) = self.lock_if_on() else { return false };
        let size = name.len() + message.as_bytes().len() + size_of::<(String, Message)>();
        if waiting.bytes.saturating_add(size) > MAX_WAITING {
            waiting.has_lost = true;
        } else {
            waiting.bytes += size;
            waiting.messages.push((name.to_owned(), message.into_owned()));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_given_out_in_order_and_is_bounded() {
        let stand_by = StandBy::default();
        assert!(!stand_by.hold("topic", MessageRef::Text("before")));
        stand_by.begin();
        assert!(stand_by.hold("topic", MessageRef::Text("one")) && stand_by.hold("other", MessageRef::Text("two")));
        let mut given = Vec::new();
        assert!(!stand_by.end(|name, message| given.push(format!("{name}: {message}"))));
        assert_eq!(given, ["topic: one", "other: two"]);
        assert!(!stand_by.hold("topic", MessageRef::Text("after")));
        stand_by.begin();
        let large = vec![0; MAX_WAITING / 2];
        (0..3).for_each(|_| {
            assert!(stand_by.hold("topic", MessageRef::Binary(&large)), "it is not published before its time")
        });
        let mut given = 0;
        assert!(stand_by.end(|_, _| given += 1), "something was lost");
        assert_eq!(given, 1);
        assert!(!stand_by.lose());
        stand_by.begin();
        assert!(stand_by.lose() && stand_by.end(|_, _| panic!("nothing has waited")) && !stand_by.end(|_, _| {}));
    }
}
