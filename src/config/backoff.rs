//! How long to wait before the next attempt: a function of the number of waits before it and of a random number.

use std::time::Duration;

use crate::config::ConfigError;

/// How much of a delay is random, so that the clients of a server that was down do not all connect at the same time.
///
/// ```
/// use threadbare::{Jitter, Reconnect};
///
/// let reconnect = Reconnect::new().jitter(Jitter::Equal); // never less than half the delay
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// A random time between zero and the delay. This is the default, because it spreads clients best.
    #[default]
    Full,
    /// Half the delay, and a random time of up to the other half.
    Equal,
}

/// Truncated exponential backoff (RFC 6455 7.2.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) initial: Duration,
    pub(crate) max: Duration,
    pub(crate) multiplier: f64,
    pub(crate) jitter: Jitter,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            initial: Duration::from_secs(5),
            max: Duration::from_secs(60),
            multiplier: 2.0,
            jitter: Jitter::default(),
        }
    }
}

impl Backoff {
    /// The longest delay after `waits` earlier ones.
    fn ceiling(&self, waits: u32) -> Duration {
        let growth = self.multiplier.powi(i32::try_from(waits).unwrap_or(i32::MAX));
        // A delay that a `Duration` can not hold is above any maximum.
        Duration::try_from_secs_f64(self.initial.as_secs_f64() * growth).unwrap_or(Duration::MAX).min(self.max)
    }

    /// The delay after `waits` earlier ones. `random` is uniformly distributed over all `u64`.
    pub(crate) fn delay(&self, waits: u32, random: u64) -> Duration {
        let ceiling = self.ceiling(waits);
        let fixed = match self.jitter {
            Jitter::Full => Duration::ZERO,
            Jitter::Equal => ceiling / 2,
        };
        fixed + part(ceiling - fixed, random)
    }

    /// Returns an error for the first invalid setting.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.initial.is_zero() {
            return Err(ConfigError::new("initial_delay", 0, "more than zero"));
        }
        if self.max < self.initial {
            let max = format!("{:?}", self.max);
            return Err(ConfigError::new("max_delay", max, "at least initial_delay"));
        }
        if !(self.multiplier.is_finite() && self.multiplier >= 1.0) {
            return Err(ConfigError::new("multiplier", self.multiplier, "a finite number of at least 1"));
        }
        Ok(())
    }
}

/// Scales `whole` by `(random + 1) / 2^64`.
fn part(whole: Duration, random: u64) -> Duration {
    let nanos = whole.as_nanos().saturating_mul(u128::from(random) + 1) >> 64;
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % NANOS_PER_SECOND) as u32)
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_delay_doubles_up_to_its_maximum_and_never_overflows() {
        let backoff = Backoff::default();
        let ceilings: Vec<u64> = (0..6).map(|waits| backoff.ceiling(waits).as_secs()).collect();
        assert_eq!(ceilings, [5, 10, 20, 40, 60, 60]);
        for waits in [1_000, i32::MAX as u32, u32::MAX] {
            assert_eq!(backoff.ceiling(waits), 60 * SECOND);
            let boundless = Backoff { max: Duration::MAX, ..backoff };
            assert_eq!(boundless.ceiling(waits), Duration::MAX);
            assert!(boundless.delay(waits, u64::MAX) > Duration::from_secs(1 << 30));
        }
        let steady = Backoff { multiplier: 1.0, ..backoff };
        assert_eq!(steady.ceiling(u32::MAX), 5 * SECOND);
    }

    #[test]
    fn a_random_delay_is_within_its_bounds() {
        let full = Backoff::default();
        let equal = Backoff { jitter: Jitter::Equal, ..full };
        for waits in 0..8 {
            let ceiling = full.ceiling(waits);
            assert_eq!((full.delay(waits, 0), full.delay(waits, u64::MAX)), (Duration::ZERO, ceiling));
            assert_eq!((equal.delay(waits, 0), equal.delay(waits, u64::MAX)), (ceiling / 2, ceiling));
            assert_eq!(full.delay(waits, u64::MAX / 2), ceiling / 2);
            for random in (0..64).map(|bit| 1 << bit) {
                assert!(full.delay(waits, random) <= ceiling);
                assert!((ceiling / 2..=ceiling).contains(&equal.delay(waits, random)));
            }
        }
    }

    #[test]
    fn invalid_settings_are_refused() {
        assert_eq!(Backoff::default().check(), Ok(()));
        let refused = |backoff: Backoff| backoff.check().unwrap_err().to_string();
        let backoff = Backoff::default();
        assert_eq!(
            refused(Backoff { initial: Duration::ZERO, ..backoff }),
            "initial_delay is 0, but must be more than zero"
        );
        assert_eq!(refused(Backoff { max: SECOND, ..backoff }), "max_delay is 1s, but must be at least initial_delay");
        for multiplier in [0.5, f64::NAN, f64::INFINITY] {
            assert!(refused(Backoff { multiplier, ..backoff }).starts_with("multiplier is "));
        }
    }
}
