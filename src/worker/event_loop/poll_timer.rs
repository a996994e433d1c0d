//! What ends a worker's sleep when a deadline comes.
//!
//! A poll with a timeout sets a timer up and takes it down whenever it sleeps, which is a thirtieth of what a message
//! costs a server that sleeps after each. Deadlines lie far ahead, and most are put off before they come: so a timer of
//! the worker's own stands for the earliest there was, and the poll sleeps without a timeout. Where there is no timer that
//! a poll reports on, the poll has the timeout.

use std::time::{Duration, Instant};

#[cfg(not(target_os = "linux"))]
pub(crate) use timeout::PollTimer;
#[cfg(target_os = "linux")]
pub(crate) use timer::PollTimer;

/// How long it is until then.
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

    /// A shorter wait is not worth the setting of the timer.
    const MIN_WAIT: Duration = Duration::from_millis(2);

    /// A timer that a poll reports on.
    #[derive(Debug)]
    pub(crate) struct PollTimer {
        timer: OwnedFd,
        /// When it goes off.
        set: Option<Instant>,
    }

    impl PollTimer {
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<PollTimer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(PollTimer { timer, set: None })
        }

        /// Has the poll report at `due` at the latest, for a caller that waits for the poll's descriptor; `false` if it can
        /// not.
        pub(crate) fn arm(&mut self, due: Option<Instant>) -> bool {
            let Some(due) = due else { return true };
            if self.set.is_none_or(|set| set > due) {
                // A wait of nothing would disarm the timer.
                if self.set_to(until(due).max(Duration::from_nanos(1))).is_err() {
                    return false;
                }
                self.set = Some(due);
            }
            true
        }

        /// The timeout of a poll that is to return at `due` at the latest; it may return earlier.
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
            // It is not read: setting it anew clears it, and each time it goes off is one event.
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }

        /// The poll reported on it.
        pub(crate) fn rang(&mut self) {
            self.set = None;
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timeout {
    use std::io;

    use mio::{Registry, Token};

    use super::{Duration, Instant, until};

    /// Nothing: the poll keeps the time.
    #[derive(Debug)]
    pub(crate) struct PollTimer;

    impl PollTimer {
        pub(crate) fn new(_: &Registry, _: Token) -> io::Result<PollTimer> {
            Ok(PollTimer)
        }

        /// Has the poll report at `due` at the latest: it can not, and the caller asks for the deadline.
        pub(crate) fn arm(&mut self, _: Option<Instant>) -> bool {
            true
        }

        /// The timeout of a poll that is to return at `due` at the latest.
        pub(crate) fn timeout(&mut self, due: Option<Instant>) -> Option<Duration> {
            due.map(until)
        }

        /// The poll reported on it.
        pub(crate) fn rang(&mut self) {}
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;

    /// Polls until the alarm's time has come, however often the poll returns before.
    fn wait(poll: &mut Poll, poll_timer: &mut PollTimer, due: Instant) -> usize {
        let mut events = Events::with_capacity(4);
        let mut returns = 0;
        while Instant::now() < due {
            let timeout = poll_timer.timeout(Some(due));
            // Without the alarm this would be the end of it.
            poll.poll(&mut events, Some(timeout.unwrap_or(Duration::from_secs(30)))).expect("a poll");
            if !events.is_empty() {
                poll_timer.rang();
            }
            returns += 1;
        }
        assert!(due.elapsed() < Duration::from_secs(20), "slept through it");
        returns
    }

    #[test]
    fn it_goes_off_each_time_and_for_an_earlier_deadline() {
        let mut poll = Poll::new().expect("a poll");
        let mut poll_timer = PollTimer::new(poll.registry(), Token(1)).expect("an alarm");
        assert_eq!(poll_timer.timeout(None), None);
        for _ in 0..3 {
            let due = Instant::now() + Duration::from_millis(20);
            // A later deadline was there first.
            poll_timer.timeout(Some(due + Duration::from_secs(60)));
            assert!(wait(&mut poll, &mut poll_timer, due) >= 1);
        }
        let near = poll_timer.timeout(Some(Instant::now()));
        assert!(near.is_some_and(|wait| wait < Duration::from_millis(2)), "{near:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn deadlines_that_are_put_off_cost_nothing() {
        let poll = Poll::new().expect("a poll");
        let mut poll_timer = PollTimer::new(poll.registry(), Token(1)).expect("an alarm");
        let start = Instant::now();
        for seconds in 30..40 {
            assert_eq!(poll_timer.timeout(Some(start + Duration::from_secs(seconds))), None);
        }
        let mut events = Events::with_capacity(4);
        let mut poll = poll;
        poll.poll(&mut events, Some(Duration::ZERO)).expect("a poll");
        assert!(events.is_empty(), "it went off before its time");
    }
}
