//! Decides what follows an outage: a wait, or the end of the client. The time and the random number are arguments.

use std::time::{Duration, Instant};

use crate::config::ConfigError;
use crate::config::backoff::Backoff;

/// When to try again, and when to give up.
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
    /// Returns an error for the first invalid setting.
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

/// The facts about an outage that decide what follows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OutageFacts {
    /// Another attempt may succeed.
    pub(super) transient: bool,
    /// How long the server asks the client to wait.
    pub(super) retry_after: Option<Duration>,
    /// How long the connection lasted, if there was one.
    pub(super) held: Option<Duration>,
}

/// What follows an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Another attempt after this time.
    Wait(Duration),
    /// The end, because another attempt would not help.
    End,
    /// The end, because of a limit on attempts.
    GiveUp { attempts: u32 },
}

/// The attempts and waits since the start, or since the last connection that lasted for
/// [`stable_after`](crate::Reconnect::stable_after).
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

    /// Begins an attempt, and returns its number.
    pub(super) fn attempt(&mut self) -> u32 {
        self.attempts = self.next_attempt();
        self.attempts
    }

    /// Decides what follows an outage. `random` is uniformly distributed over all `u64`.
    pub(super) fn after(&mut self, facts: &OutageFacts, policy: &Policy, now: Instant, random: u64) -> NextStep {
        // A connection that broke soon does not reset the delay. Otherwise a server that drops every connection would
        // be connected to all the time.
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
            // The last attempt is made exactly when the time is over.
            delay = delay.min(left);
        }
        self.waits = self.waits.saturating_add(1);
        NextStep::Wait(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::backoff::Jitter;

    const SECOND: Duration = Duration::from_secs(1);

    /// Gives the longest delays.
    const RANDOM: u64 = u64::MAX;

    fn transient() -> OutageFacts {
        OutageFacts { transient: true, ..OutageFacts::default() }
    }

    fn policy() -> Policy {
        let backoff = Backoff { initial: SECOND, max: 8 * SECOND, multiplier: 2.0, jitter: Jitter::Full };
        Policy { backoff, ..Policy::default() }
    }

    #[test]
    fn waits_grow_and_start_again_after_a_stable_connection() {
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
        assert_eq!(fail(&mut schedule, Some(9 * SECOND)), (8, 7), "not stable");
        assert_eq!(fail(&mut schedule, Some(10 * SECOND)), (1, 1), "stable");
        assert_eq!(fail(&mut schedule, None), (2, 2));
    }

    #[test]
    fn the_client_gives_up_after_the_last_attempt_and_ends_at_once_if_none_would_help() {
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
    fn the_last_attempt_is_made_when_give_up_after_is_over() {
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
    fn retry_after_is_observed_up_to_its_limit() {
        let now = Instant::now();
        let asked = |seconds| OutageFacts { retry_after: Some(Duration::from_secs(seconds)), ..transient() };
        let after = |seconds, random| RetrySchedule::new(now).after(&asked(seconds), &policy(), now, random);
        assert_eq!((after(7, 0), after(7, RANDOM)), (NextStep::Wait(7 * SECOND), NextStep::Wait(8 * SECOND)));
        assert_eq!(after(u64::MAX, 0), NextStep::Wait(300 * SECOND));
    }
}
