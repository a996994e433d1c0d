//! How long the application's callbacks take.

use std::time::{Duration, Instant};

use crate::worker::slab::Key;

/// The first callback of one read in 64 is measured. More would cost more: reading the clock twice takes as long as a third of
/// the rest of a short message; fewer would take longer to show a change.
const SAMPLE: u32 = 64;

/// A slow callback is logged at most once a second.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// As many connections are driven between two looks at the clock as one group of them has; further ones are not named.
const MAX_SUSPECTS: usize = 8;

/// Notices callbacks that take long, and measures a few of all.
///
/// The event loop looks at the clock anyway: between the connections of a group that have answered, and at the end of each
/// group and iteration. So this costs no look of its own. Where several connections were driven between two looks, it does not
/// know which of them was slow.
#[derive(Debug)]
pub(crate) struct CallbackWatch {
    limit: Duration,
    last: Instant,
    /// The connections that were driven since the last look.
    suspects: Vec<Key>,
    until_sample: u32,
    logged: Option<Instant>,
}

impl CallbackWatch {
    /// Makes one for a worker whose callbacks should not take longer than `limit`.
    pub(crate) fn new(limit: Option<Duration>, now: Instant) -> CallbackWatch {
        CallbackWatch {
            limit: limit.unwrap_or(Duration::MAX),
            last: now,
            suspects: Vec::with_capacity(MAX_SUSPECTS),
            until_sample: SAMPLE,
            logged: None,
        }
    }

    /// Notes that no callback has run until `now`.
    #[inline]
    pub(crate) fn begin(&mut self, now: Instant) {
        self.last = now;
        self.suspects.clear();
    }

    /// Notes that a connection is driven.
    #[inline]
    pub(crate) fn drives(&mut self, key: Key) {
        if self.suspects.len() < MAX_SUSPECTS {
            self.suspects.push(key);
        }
    }

    /// Looks at the time. Returns how long it has been since the last look, and the connections that were driven meanwhile, if
    /// that is too long.
    #[inline]
    pub(crate) fn look(&mut self, now: Instant) -> Option<(Duration, Vec<Key>)> {
        let time = now.saturating_duration_since(self.last);
        let slow = (time > self.limit && !self.suspects.is_empty()).then(|| (time, self.each_suspect()));
        self.begin(now);
        slow
    }

    /// Each connection once, though it was driven twice.
    #[cold]
    fn each_suspect(&self) -> Vec<Key> {
        let mut each = Vec::new();
        for key in &self.suspects {
            if !each.contains(key) {
                each.push(*key);
            }
        }
        each
    }

    /// Whether the first callback of this read is one of those that are measured.
    #[inline]
    pub(crate) fn is_sample(&mut self) -> bool {
        self.until_sample -= 1;
        if self.until_sample == 0 {
            self.until_sample = SAMPLE;
            return true;
        }
        false
    }

    /// Whether a slow callback is to be logged, because none was in the last second.
    pub(crate) fn may_log(&mut self, now: Instant) -> bool {
        let may = self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_INTERVAL);
        if may {
            self.logged = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn one_read_in_64_is_measured() {
        let mut watch = CallbackWatch::new(None, Instant::now());
        let samples: Vec<usize> = (1..=192).filter(|_| watch.is_sample()).collect();
        assert_eq!(samples, [64, 128, 192]);
    }

    #[test]
    fn a_time_above_the_limit_is_told_once_with_who_was_driven() {
        let start = Instant::now();
        let mut watch = CallbackWatch::new(Some(20 * MS), start);
        watch.drives(key(1));
        assert_eq!(watch.look(start + 20 * MS), None);
        for index in [2, 3, 2] {
            watch.drives(key(index));
        }
        assert_eq!(watch.look(start + 41 * MS), Some((21 * MS, vec![key(2), key(3)])));
        assert_eq!(watch.look(start + 100 * MS), None, "nobody was driven");
        watch.drives(key(4));
        watch.begin(start + 200 * MS);
        watch.drives(key(5));
        assert_eq!(watch.look(start + 230 * MS), Some((30 * MS, vec![key(5)])));
        (0..20).for_each(|index| watch.drives(key(index)));
        assert_eq!(watch.look(start + 260 * MS).map(|(_, keys)| keys.len()), Some(MAX_SUSPECTS));
    }

    #[test]
    fn without_a_limit_nothing_is_slow() {
        let start = Instant::now();
        let mut watch = CallbackWatch::new(None, start);
        watch.drives(key(1));
        assert_eq!(watch.look(start + Duration::from_secs(3600)), None);
    }

    #[test]
    fn slow_callbacks_are_logged_once_a_second() {
        let now = Instant::now();
        let mut watch = CallbackWatch::new(None, now);
        let millis = [0, 500, 999, 1_000, 1_500, 2_000];
        let logged = millis.map(|millis| watch.may_log(now + Duration::from_millis(millis)));
        assert_eq!(logged, [true, false, false, true, false, true]);
    }
}
