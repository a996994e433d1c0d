//! Ends a worker's sleep at its next deadline.
//!
//! A poll with a timeout has the kernel set and cancel a timer each time it sleeps. Deadlines are far ahead, and most
//! are postponed before they come. So on Linux the worker has a timer descriptor, which is set for the earliest
//! deadline, and the poll sleeps without a timeout. On other systems the poll has a timeout.

use std::time::{Duration, Instant};

#[cfg(not(target_os = "linux"))]
pub(crate) use timeout::PollTimer;
#[cfg(target_os = "linux")]
pub(crate) use timer::PollTimer;

/// Returns the time until `due`.
fn until(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now())
}

#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

    use super::{Duration, Instant, until};

    /// A wait of less than 2 ms is a timeout of the poll. Larger sets more timeouts; smaller sets the timer for waits
    /// that are soon over.
    const MIN_WAIT: Duration = Duration::from_millis(2);

    /// A timer whose descriptor is registered with the poll.
    #[derive(Debug)]
    pub(crate) struct PollTimer {
        timer: OwnedFd,
        /// When the timer expires.
        set: Option<Instant>,
    }

    impl PollTimer {
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<PollTimer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(PollTimer { timer, set: None })
        }

        /// Sets the timer to expire at `due` or before, for a caller that waits for the poll's descriptor; `false` if
        /// it can not be set.
        pub(crate) fn arm(&mut self, due: Option<Instant>) -> bool {
            let Some(due) = due else { return true };
            if self.set.is_none_or(|set| set > due) {
                // A wait of zero would disarm the timer.
                if self.set_to(until(due).max(Duration::from_nanos(1))).is_err() {
                    return false;
                }
                self.set = Some(due);
            }
            true
        }

        /// Returns the timeout for a poll that must return at `due` or before. Without one, the timer ends the poll.
        #[inline]
        pub(crate) fn timeout(&mut self, due: Option<Instant>) -> Option<Duration> {
            let due = due?;
            if self.set.is_some_and(|set| set <= due) {
                return None;
            }
            self.set_for(due)
        }

        #[cold]
        fn set_for(&mut self, due: Instant) -> Option<Duration> {
            let wait = until(due);
            if wait < MIN_WAIT || self.set_to(wait).is_err() {
                return Some(wait);
            }
            self.set = Some(due);
            None
        }

        fn set_to(&self, wait: Duration) -> io::Result<()> {
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let it_value = Timespec::try_from(wait).map_err(io::Error::other)?;
            let once = Itimerspec { it_interval, it_value };
            // The timer is never read: setting it again clears it, and each expiry is one event.
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }

        /// Notes that the poll reported the timer.
        pub(crate) fn expired(&mut self) {
            self.set = None;
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timeout {
    use std::io;

    use mio::{Registry, Token};

    use super::{Duration, Instant, until};

    /// Has no timer: the poll has a timeout.
    #[derive(Debug)]
    pub(crate) struct PollTimer;

    impl PollTimer {
        pub(crate) fn new(_: &Registry, _: Token) -> io::Result<PollTimer> {
            Ok(PollTimer)
        }

        /// Does nothing: the caller asks for the next deadline.
        pub(crate) fn arm(&mut self, _: Option<Instant>) -> bool {
            true
        }

        /// Returns the timeout for a poll that must return at `due` or before.
        pub(crate) fn timeout(&mut self, due: Option<Instant>) -> Option<Duration> {
            due.map(until)
        }

        /// Not called: no event has the token of the timer.
        pub(crate) fn expired(&mut self) {}
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;

    /// Polls until `due`, however often the poll returns before.
    fn wait(poll: &mut Poll, poll_timer: &mut PollTimer, due: Instant) -> usize {
        let mut events = Events::with_capacity(4);
        let mut returns = 0;
        while Instant::now() < due {
            let timeout = poll_timer.timeout(Some(due));
            // If the timer does not expire, the test fails after this time.
            poll.poll(&mut events, Some(timeout.unwrap_or(Duration::from_secs(30)))).expect("a poll");
            if !events.is_empty() {
                poll_timer.expired();
            }
            returns += 1;
        }
        assert!(due.elapsed() < Duration::from_secs(20), "slept through it");
        returns
    }

    #[test]
    fn the_timer_expires_each_time_and_for_an_earlier_deadline() {
        let mut poll = Poll::new().expect("a poll");
        let mut poll_timer = PollTimer::new(poll.registry(), Token(1)).expect("a timer");
        assert_eq!(poll_timer.timeout(None), None);
        for _ in 0..3 {
            let due = Instant::now() + Duration::from_millis(20);
            // A later deadline is set first.
            poll_timer.timeout(Some(due + Duration::from_secs(60)));
            assert!(wait(&mut poll, &mut poll_timer, due) >= 1);
        }
        let near = poll_timer.timeout(Some(Instant::now()));
        assert!(near.is_some_and(|wait| wait < Duration::from_millis(2)), "{near:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn arming_sets_the_timer_for_an_earlier_deadline_alone() {
        let mut poll = Poll::new().expect("a poll");
        let mut poll_timer = PollTimer::new(poll.registry(), Token(1)).expect("a timer");
        let (start, wait) = (Instant::now(), Duration::from_millis(5));
        for due in [start + Duration::from_secs(60), start + wait, start + Duration::from_secs(60)] {
            assert!(poll_timer.arm(Some(due)));
        }
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(30))).expect("a poll");
        assert!(!events.is_empty() && start.elapsed() >= wait);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_postponed_deadline_does_not_set_the_timer_again() {
        let poll = Poll::new().expect("a poll");
        let mut poll_timer = PollTimer::new(poll.registry(), Token(1)).expect("a timer");
        let start = Instant::now();
        for seconds in 30..40 {
            assert_eq!(poll_timer.timeout(Some(start + Duration::from_secs(seconds))), None);
        }
        let mut events = Events::with_capacity(4);
        let mut poll = poll;
        poll.poll(&mut events, Some(Duration::ZERO)).expect("a poll");
        assert!(events.is_empty(), "the timer expired early");
    }
}
