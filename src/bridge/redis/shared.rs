//! What the threads of a bridge share, and how other threads reach them.

use std::str;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use mio::Waker;

use crate::bridge::redis::feeds::Feeds;
use crate::bridge::redis::link::Dialler;
use crate::bridge::redis::queue::Queue;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::bridge::redis::relay::CatchesUp;
use crate::bridge::redis::topics::Topics;
use crate::bridge::stats::Counts;
use crate::transport::cancel::CancelToken;

/// What the threads of a bridge share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dialler: Dialler,
    pub(super) prefix: String,
    pub(super) queue: Queue,
    pub(super) topics: Arc<Topics>,
    pub(super) counts: Arc<Counts>,
    /// What the subscriber's thread receives. Others look only while the bridge is handed over.
    pub(super) feeds: Mutex<Feeds>,
    /// Another thread has asked the subscriber's to catch up, and it has done so.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) catches_up: CatchesUp,
    /// Whether a command without an answer is sent again: receivers drop what came twice.
    pub(super) resends: bool,
}

impl Shared {
    pub(super) fn feeds(&self) -> MutexGuard<'_, Feeds> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name that a topic has in Redis.
    pub(super) fn channel(&self, topic: &str) -> String {
        [&self.prefix, topic].concat()
    }

    /// The topic that has this name in Redis.
    pub(super) fn topic<'a>(&self, channel: &'a [u8]) -> Option<&'a str> {
        str::from_utf8(channel).ok()?.strip_prefix(&*self.prefix)
    }
}

/// How other threads reach one of the bridge's threads.
#[derive(Debug)]
pub(super) struct Lane {
    waker: Waker,
    pub(super) cancel: CancelToken,
    /// Set when the bridge is stopped: until when what is queued may leave.
    deadline: OnceLock<Instant>,
}

impl Lane {
    pub(super) fn new(waker: Waker) -> Lane {
        Lane { waker, cancel: CancelToken::default(), deadline: OnceLock::new() }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.deadline.get().is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("a thread of the bridge could not be woken: {error}");
        }
    }

    pub(super) fn stop(&self, deadline: Instant) {
        let _ = self.deadline.set(deadline);
        self.cancel.raise();
        self.wake();
    }
}
