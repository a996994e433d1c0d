//! What follows an outage: a wait, or the end. Decided from what is given alone; time and chance are arguments.

use std::time::{Duration, Instant};

use crate::client::reconnect::backoff::Backoff;
use crate::config::ConfigError;

/// When to try again, and when no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) backoff: Backoff,
    pub(super) stable_after: Duration,
    pub(super) max_retry_after: Duration,
    pub(super) max_attempts: Option<u32>,
    pub(super) give_up_after: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            backoff: Backoff::default(),
            stable_after: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(300),
            max_attempts: None,
            give_up_after: None,
        }
    }
}

impl Policy {
    /// Refuses what could not work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.backoff.check()?;
        if self.max_attempts == Some(0) {
            return Err(ConfigError::new("max_attempts", 0, "at least 1"));
        }
        if self.give_up_after.is_some_and(|limit| limit.is_zero()) {
            return Err(ConfigError::new("give_up_after", 0, "more than zero"));
        }
        Ok(())
    }
}

/// What an outage is judged by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OutageFacts {
    /// Trying again may mend it.
    pub(super) transient: bool,
    /// The server asks to be left alone for so long.
    pub(super) retry_after: Option<Duration>,
    /// How long the connection had held, if there was one.
    pub(super) held: Option<Duration>,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Another attempt after this time.
    Wait(Duration),
    /// The end, since trying again would not help.
    End,
    /// The end, after so many attempts.
    GiveUp { attempts: u32 },
}

/// How it went since the start, or since the last connection that held.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetrySchedule {
    attempts: u32,
    waits: u32,
    since: Instant,
}

impl RetrySchedule {
    pub(super) fn new(now: Instant) -> RetrySchedule {
        RetrySchedule { attempts: 0, waits: 0, since: now }
    }

    /// The number of the next attempt.
    pub(super) fn next_attempt(&self) -> u32 {
        self.attempts.saturating_add(1)
    }

    /// Begins an attempt; its number.
    pub(super) fn attempt(&mut self) -> u32 {
        self.attempts = self.next_attempt();
        self.attempts
    }

    /// What follows an outage. `random` is any number, all being as likely.
    pub(super) fn after(&mut self, facts: &OutageFacts, policy: &Policy, now: Instant, random: u64) -> NextStep {
        // A connection that breaks at once is no success, lest a server that drops everybody be hammered.
        if facts.held.is_some_and(|held| held >= policy.stable_after) {
            *self = RetrySchedule::new(now);
        }
        if !facts.transient {
            return NextStep::End;
        }
        let give_up = NextStep::GiveUp { attempts: self.attempts };
        if policy.max_attempts.is_some_and(|most| self.attempts >= most) {
            return give_up;
        }
        let asked = facts.retry_after.unwrap_or_default().min(policy.max_retry_after);
        let mut delay = asked.saturating_add(policy.backoff.delay(self.waits, random));
        if let Some(limit) = policy.give_up_after {
            let left = limit.saturating_sub(now.saturating_duration_since(self.since));
            if left.is_zero() || asked > left {
                return give_up;
            }
            // The last attempt is made when the time is over, not before.
            delay = delay.min(left);
        }
        self.waits = self.waits.saturating_add(1);
        NextStep::Wait(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::reconnect::backoff::Jitter;

    const SECOND: Duration = Duration::from_secs(1);

    /// Without chance: the longest delays.
    const RANDOM: u64 = u64::MAX;

    fn transient() -> OutageFacts {
        OutageFacts { transient: true, ..OutageFacts::default() }
    }

    fn policy() -> Policy {
        let backoff = Backoff { initial: SECOND, max: 8 * SECOND, multiplier: 2.0, jitter: Jitter::Full };
        Policy { backoff, ..Policy::default() }
    }

    #[test]
    fn waits_grow_and_begin_anew_after_a_connection_that_held() {
        let (policy, now) = (policy(), Instant::now());
        let mut schedule = RetrySchedule::new(now);
        let fail = |schedule: &mut RetrySchedule, held| {
            schedule.attempt();
            let facts = OutageFacts { held, ..transient() };
            match schedule.after(&facts, &policy, now, RANDOM) {
                NextStep::Wait(delay) => (delay.as_secs(), schedule.next_attempt()),
                other => panic!("{other:?}"),
            }
        };
        let waits: Vec<_> = (0..5).map(|_| fail(&mut schedule, None)).collect();
        assert_eq!(waits, [(1, 2), (2, 3), (4, 4), (8, 5), (8, 6)]);
        assert_eq!(fail(&mut schedule, Some(9 * SECOND)), (8, 7), "it did not hold");
        assert_eq!(fail(&mut schedule, Some(10 * SECOND)), (1, 1), "it held");
        assert_eq!(fail(&mut schedule, None), (2, 2));
    }

    #[test]
    fn the_end_comes_after_so_many_attempts_or_at_once() {
        let now = Instant::now();
        let policy = Policy { max_attempts: Some(2), ..policy() };
        let mut schedule = RetrySchedule::new(now);
        schedule.attempt();
        assert_eq!(schedule.after(&transient(), &policy, now, RANDOM), NextStep::Wait(SECOND));
        schedule.attempt();
        assert_eq!(schedule.after(&transient(), &policy, now, RANDOM), NextStep::GiveUp { attempts: 2 });
        assert_eq!(schedule.after(&OutageFacts::default(), &policy, now, RANDOM), NextStep::End);
        let mut endless = RetrySchedule { attempts: u32::MAX, waits: u32::MAX, since: now };
        assert_eq!(endless.attempt(), u32::MAX);
        assert_eq!(endless.after(&transient(), &self::policy(), now, RANDOM), NextStep::Wait(8 * SECOND));
    }

    #[test]
    fn the_last_attempt_is_made_when_the_time_is_over() {
        let start = Instant::now();
        let policy = Policy { give_up_after: Some(10 * SECOND), ..policy() };
        let mut schedule = RetrySchedule::new(start);
        let at = |seconds| start + seconds * SECOND;
        for (now, delay) in [(0, 1), (1, 2), (3, 4), (7, 3)] {
            assert_eq!(schedule.after(&transient(), &policy, at(now), RANDOM), NextStep::Wait(delay * SECOND), "{now}");
        }
        assert_eq!(schedule.after(&transient(), &policy, at(10), RANDOM), NextStep::GiveUp { attempts: 0 });
        let held = OutageFacts { held: Some(60 * SECOND), ..transient() };
        assert_eq!(
            schedule.after(&held, &policy, at(100), RANDOM),
            NextStep::Wait(SECOND),
            "a new outage has its own time"
        );
        let asked = OutageFacts { retry_after: Some(11 * SECOND), ..transient() };
        assert_eq!(schedule.after(&asked, &policy, at(100), RANDOM), NextStep::GiveUp { attempts: 0 });
    }

    #[test]
    fn the_server_is_left_alone_as_long_as_it_asks_within_bounds() {
        let now = Instant::now();
        let asked = |seconds| OutageFacts { retry_after: Some(Duration::from_secs(seconds)), ..transient() };
        let after = |seconds, random| RetrySchedule::new(now).after(&asked(seconds), &policy(), now, random);
        assert_eq!((after(7, 0), after(7, RANDOM)), (NextStep::Wait(7 * SECOND), NextStep::Wait(8 * SECOND)));
        assert_eq!(after(u64::MAX, 0), NextStep::Wait(300 * SECOND));
    }
}
