//! How long the application's callbacks take.

use std::time::{Duration, Instant};

use crate::transport::clock::coarse_time;

/// One callback in 64 is measured. More would cost more: reading the clock twice takes as long as a third of the rest of a
/// short message; fewer would take longer to show a change.
const SAMPLE: u32 = 64;

/// A slow callback is logged at most once a second.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Notices callbacks that take long, and measures a few of all.
#[derive(Debug)]
pub(crate) struct CallbackWatch {
    limit: Option<Duration>,
    /// The coarse time of the last look.
    last: Duration,
    until_sample: u32,
    logged: Option<Instant>,
}

impl CallbackWatch {
    /// Makes one for a worker whose callbacks should not take longer than `limit`.
    pub(crate) fn new(limit: Option<Duration>) -> CallbackWatch {
        CallbackWatch { limit, last: Duration::ZERO, until_sample: SAMPLE, logged: None }
    }

    /// Notes that no callback runs.
    #[inline]
    pub(crate) fn begin(&mut self) {
        if self.limit.is_some() {
            self.last = coarse_time();
        }
    }

    /// Returns the time since the last look if a callback that ran meanwhile was too slow.
    #[inline]
    pub(crate) fn end(&mut self) -> Option<Duration> {
        let limit = self.limit?;
        let now = coarse_time();
        let time = now.saturating_sub(std::mem::replace(&mut self.last, now));
        (time > limit).then_some(time)
    }

    /// Whether the next callback is one of those that are measured.
    #[inline(always)]
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

    #[test]
    fn one_callback_in_64_is_measured() {
        let mut watch = CallbackWatch::new(None);
        let samples: Vec<usize> = (1..=192).filter(|_| watch.is_sample()).collect();
        assert_eq!(samples, [64, 128, 192]);
    }

    #[test]
    fn a_time_above_the_limit_is_told_once() {
        let mut watch = CallbackWatch::new(Some(Duration::from_millis(20)));
        watch.begin();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(watch.end().is_some_and(|time| time >= Duration::from_millis(40)));
        assert_eq!(CallbackWatch::new(None).end(), None);
    }

    #[test]
    fn slow_callbacks_are_logged_once_a_second() {
        let (mut watch, now) = (CallbackWatch::new(None), Instant::now());
        let millis = [0, 500, 999, 1_000, 1_500, 2_000];
        let logged = millis.map(|millis| watch.may_log(now + Duration::from_millis(millis)));
        assert_eq!(logged, [true, false, false, true, false, true]);
    }
}
