//! Where a bridge is in a hand-over from one process to the next: what waits, and what the other bridge has delivered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bridge::tracker::Tracker;

/// What arrives before the other bridge has left waits, up to 16 MiB. More takes more memory; less loses more, which is told.
const MAX_HELD: usize = 16 << 20;

/// Where a bridge is in a hand-over.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// What has arrived before the other bridge has left.
    pub(super) held: Option<Held>,
    /// What the other bridge has delivered, of topics that were not asked for yet.
    pub(super) taken: HashMap<Arc<str>, Delivered>,
    /// Another bridge goes on.
    pub(super) has_left: bool,
}

/// What has arrived too early.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) messages: Vec<HeldMessage>,
    bytes: usize,
    pub(super) has_lost: bool,
}

#[derive(Debug)]
pub(super) struct HeldMessage {
    pub(super) topic: Arc<str>,
    pub(super) bytes: Vec<u8>,
    pub(super) position: Option<String>,
}

/// A thread waits until the subscriber's has delivered what Redis has sent before it was asked. Each flag is set by one thread and taken
/// by the other.
#[derive(Debug, Default)]
pub(super) struct CatchesUp {
    is_asked: AtomicBool,
    is_done: AtomicBool,
}

/// What Redis is asked to say behind all that it has sent before.
pub(super) const CAUGHT_UP: &[u8] = b"caught up";

/// Redis has a second for it. Longer delays a deployment for one that does not answer; shorter tells of gaps where it is slow.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the waiting thread looks.
const CATCH_UP_CHECK: Duration = Duration::from_millis(1);

impl CatchesUp {
    /// Asks, and waits until it is done.
    pub(super) fn run(&self, wake: impl FnOnce()) {
        self.is_done.store(false, Ordering::SeqCst);
        self.is_asked.store(true, Ordering::SeqCst);
        wake();
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        while !self.is_done.load(Ordering::SeqCst) && Instant::now() < deadline {
            thread::sleep(CATCH_UP_CHECK);
        }
    }

    pub(super) fn take_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed) && self.is_asked.swap(false, Ordering::SeqCst)
    }

    pub(super) fn done(&self) {
        self.is_done.store(true, Ordering::SeqCst);
    }
}

/// What was delivered of a topic.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) tracker: Tracker,
    /// The id of the last entry of its stream.
    pub(super) position: Option<String>,
}

impl Relay {
    /// Whether what arrives is delivered now. If it is to be later, it waits here.
    pub(super) fn delivers(&mut self, topic: &str, bytes: &[u8], position: Option<&str>) -> bool {
        let Some(held) = &mut self.held else { return !self.has_left };
        let size = topic.len() + bytes.len() + size_of::<HeldMessage>();
        if held.bytes.saturating_add(size) > MAX_HELD {
            held.has_lost = true;
        } else {
            held.bytes += size;
            let position = position.map(str::to_owned);
            held.messages.push(HeldMessage { topic: topic.into(), bytes: bytes.to_vec(), position });
        }
        false
    }

    /// What the other bridge has delivered of a topic that is asked for now.
    pub(super) fn take(&mut self, topic: &str) -> Delivered {
        self.taken.remove(topic).unwrap_or_default()
    }
}
