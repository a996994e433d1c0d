//! The wall clock, which only `Date` in an HTTP response shows. All timeouts use the monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::protocol::http::HttpDate;

/// Returns the date of now, or the first one that there is if the clock is set to a time before 1970.
pub(crate) fn today() -> HttpDate {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    HttpDate::from_unix(since.map_or(0, |since| since.as_secs()))
}
