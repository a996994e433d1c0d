//! How often each length of time occurred.

use std::time::Duration;

use crate::stats::count::Count;

/// The bounds grow from 1 us by a half and then by a third, so that each second one is twice as large: up to 12.6 s, and
/// one more without a bound. More would take more memory in each worker; fewer would say less.
const BUCKETS: usize = 49;

/// The smallest bound, and the half of it that is the unit of all bounds.
const UNIT: u64 = 500;

/// How often each length of time occurred, in classes of which each reaches up to a half further than the one before: from
/// 1 us to 12.6 s.
///
/// ```
/// use std::time::Duration;
///
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// let callbacks = server.stats().traffic.callback_time;
/// if callbacks.quantile(0.99) > Duration::from_millis(10) {
///     println!("of {} callbacks one in a hundred takes longer than 10 ms", callbacks.count());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl Histogram {
    /// How many times were measured.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Histogram;
    ///
    /// fn mean(times: &Histogram) -> Option<Duration> {
    ///     let count = u32::try_from(times.count()).ok()?;
    ///     times.sum().checked_div(count)
    /// }
    /// # assert_eq!(mean(&Histogram::default()), None);
    /// ```
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// The sum of all times.
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::Histogram;
    ///
    /// assert_eq!(Histogram::default().sum(), Duration::ZERO);
    /// ```
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// The time that at least the fraction `quantile` of all were not longer than, as the upper bound of its class: at most a
    /// half more than the time itself. Zero if nothing was measured, and [`Duration::MAX`] beyond 12.6 s.
    ///
    /// ```
    /// use threadbare::Histogram;
    ///
    /// fn print(times: &Histogram) {
    ///     println!("half within {:?}, 99 % within {:?}", times.quantile(0.5), times.quantile(0.99));
    /// }
    /// # print(&Histogram::default());
    /// ```
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let count = self.count();
        if count == 0 {
            return Duration::ZERO;
        }
        // A fraction of a count fits into 64 bits, and a cast of what is not a number gives 0.
        let rank = ((count as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let reached = self.buckets().find(|(_, so_far)| *so_far >= rank);
        reached.map_or(Duration::MAX, |(bound, _)| bound)
    }

    /// The upper bound of each class, and how many times were not longer than that. What was longer than the last bound
    /// is in [`count`](Histogram::count) alone.
    ///
    /// ```
    /// use threadbare::Histogram;
    ///
    /// fn print(times: &Histogram) {
    ///     for (limit, count) in times.buckets() {
    ///         println!("{count} up to {limit:?}");
    ///     }
    /// }
    /// # print(&Histogram::default());
    /// ```
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let mut so_far = 0_u64;
        self.counts.iter().take(BUCKETS - 1).enumerate().map(move |(index, count)| {
            so_far = so_far.wrapping_add(*count);
            (bound(index), so_far)
        })
    }

    /// Adds what another thread measured.
    pub(crate) fn add(&mut self, other: &Histogram) {
        for (sum, more) in self.counts.iter_mut().zip(&other.counts) {
            *sum = sum.wrapping_add(*more);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; BUCKETS], sum: 0 }
    }
}

/// Shows the count and three quantiles.
impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("p100", &self.quantile(1.0))
            .finish()
    }
}

/// The histogram that one thread adds to and any thread reads.
#[derive(Debug)]
pub(crate) struct SharedHistogram {
    counts: [Count; BUCKETS],
    sum: Count,
}

impl Default for SharedHistogram {
    fn default() -> SharedHistogram {
        SharedHistogram { counts: std::array::from_fn(|_| Count::default()), sum: Count::default() }
    }
}

impl SharedHistogram {
    /// Adds a time. Called by one thread only.
    #[inline]
    pub(crate) fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get(class(nanos)) {
            count.add(1);
        }
        self.sum.add(nanos);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        Histogram { counts: std::array::from_fn(|index| self.counts[index].value()), sum: self.sum.value() }
    }
}

/// The class of a time: the first whose bound is not smaller.
#[inline]
fn class(nanos: u64) -> usize {
    let units = nanos.saturating_sub(1) / UNIT;
    if units < 2 {
        return 0;
    }
    let exponent = units.ilog2();
    let upper_half = units >> (exponent - 1) & 1;
    (2 * exponent as usize - 1 + upper_half as usize).min(BUCKETS - 1)
}

/// The bound of a class: 2, 3, 4, 6, 8, 12 .. units.
fn bound(class: usize) -> Duration {
    let power = 1_u64 << (class / 2);
    Duration::from_nanos(UNIT * if class.is_multiple_of(2) { 2 * power } else { 3 * power })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bounds_grow_from_a_microsecond_to_twelve_seconds() {
        let bounds: Vec<Duration> = (0..BUCKETS - 1).map(bound).collect();
        assert_eq!(bounds[..5], [1_000, 1_500, 2_000, 3_000, 4_000].map(Duration::from_nanos));
        assert!(bounds.is_sorted() && bounds[BUCKETS - 2] == Duration::from_nanos(12_582_912_000), "{bounds:?}");
    }

    proptest! {
        #[test]
        fn a_time_is_in_the_first_class_that_reaches_it(nanos in prop_oneof![0..20_000_000_000_u64, 0..5_000_u64]) {
            let time = Duration::from_nanos(nanos);
            let expected = (0..BUCKETS - 1).find(|index| bound(*index) >= time).unwrap_or(BUCKETS - 1);
            prop_assert_eq!(class(nanos), expected);
        }
    }

    #[test]
    fn quantiles_are_bounds_of_classes() {
        let shared = SharedHistogram::default();
        assert_eq!(shared.snapshot().quantile(0.5), Duration::ZERO);
        for millis in 1..=100 {
            shared.record(Duration::from_millis(millis));
        }
        let histogram = shared.snapshot();
        assert_eq!((histogram.count(), histogram.sum()), (100, Duration::from_millis(5_050)));
        let bounds = [(0.0, 1_024), (0.5, 65_536), (0.99, 131_072), (1.0, 131_072)];
        for (quantile, micros) in bounds {
            assert_eq!(histogram.quantile(quantile), Duration::from_micros(micros), "{quantile}");
        }
        assert_eq!(histogram.quantile(f64::NAN), Duration::from_micros(1_024));
        shared.record(Duration::MAX);
        assert_eq!(shared.snapshot().quantile(1.0), Duration::MAX);
        let mut both = shared.snapshot();
        both.add(&histogram);
        assert_eq!(both.count(), 201);
        assert_eq!(both.buckets().last().map(|(_, count)| count), Some(200));
    }
}
