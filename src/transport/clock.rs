//! The wall clock, which only `Date` in an HTTP response shows, and deadlines on the monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::protocol::http::HttpDate;

/// Returns the date of now, or the first one that there is if the clock is set to a time before 1970.
pub(crate) fn today() -> HttpDate {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    HttpDate::from_unix(since.map_or(0, |since| since.as_secs()))
}

/// Returns when `wait` is over that begins `now`. One that does not fit an `Instant` ends in 34 years.
pub(crate) fn deadline_after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(1 << 30))
}
