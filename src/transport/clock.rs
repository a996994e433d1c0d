//! The wall clock, which only `Date` in an HTTP response shows, and deadlines on the monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::protocol::http::HttpDate;

/// Returns the date of now, or the first one that there is if the clock is set to a time before 1970.
pub(crate) fn today() -> HttpDate {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    HttpDate::from_unix(since.map_or(0, |since| since.as_secs()))
}

/// Returns the monotonic time to some milliseconds, for a quarter of what the exact one costs.
#[cfg(target_os = "linux")]
pub(crate) fn coarse_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // It is not negative.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Returns the monotonic time. There is none that costs less.
#[cfg(not(target_os = "linux"))]
pub(crate) fn coarse_time() -> Duration {
    static BEGUN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    BEGUN.elapsed()
}

/// Returns when `wait` is over that begins `now`. One that does not fit an `Instant` ends in 34 years.
pub(crate) fn deadline_after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(1 << 30))
}
