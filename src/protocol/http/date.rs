//! Points in time as HTTP writes them (RFC 9110 5.6.7).

use core::fmt;

/// The value of `Date`, such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 6.6.1).
///
/// ```
/// use threadbare::protocol::http::HttpDate;
///
/// assert_eq!(HttpDate::from_unix(784_111_777).to_string(), "Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpDate {
    /// Seconds since 1970-01-01 00:00:00 UTC, without leap seconds.
    seconds: u64,
}

impl HttpDate {
    /// Creates a date from the number of seconds since 1970-01-01 00:00:00 UTC. A date after the year 9999, which the
    /// format cannot express, becomes the last second of that year.
    ///
    /// ```
    /// use threadbare::protocol::http::HttpDate;
    ///
    /// assert_eq!(HttpDate::from_unix(0).to_string(), "Thu, 01 Jan 1970 00:00:00 GMT");
    /// ```
    pub fn from_unix(seconds: u64) -> HttpDate {
        HttpDate { seconds: seconds.min(LAST) }
    }
}

impl HttpDate {
    /// Returns the number of seconds since 1970-01-01 00:00:00 UTC.
    ///
    /// ```
    /// use threadbare::protocol::http::HttpDate;
    ///
    /// assert_eq!(HttpDate::from_unix(784_111_777).as_unix(), 784_111_777);
    /// ```
    pub fn as_unix(self) -> u64 {
        self.seconds
    }

    /// Returns the year.
    pub(super) fn year(self) -> u64 {
        civil(self.seconds / DAY).0
    }
}

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds / DAY, self.seconds % DAY);
        let (year, month, day) = civil(days);
        let weekday = named(&WEEKDAYS, days % 7);
        let month = named(&MONTHS, month);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
    }
}

/// Returns year, month from 0, and day of the month from 1, of a number of days since 1970-01-01 in the Gregorian
/// calendar.
///
/// The computation counts days from March 1 of the year 0, so that a leap day is the last day of its year, in cycles of
/// 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    const CYCLE: u64 = 146_097;
    let from_march = days + 719_468;
    let (cycle, day) = (from_march / CYCLE, from_march % CYCLE);
    let year = (day - day / 1_460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153; // from March
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let is_next_year = u64::from(month >= 10);
    (cycle * 400 + year + is_next_year, (month + 2) % 12, day_of_month)
}

fn named(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
}

pub(super) const DAY: u64 = 24 * 60 * 60;

/// 9999-12-31 23:59:59.
const LAST: u64 = 253_402_300_799;

/// 1970-01-01 was a Thursday.
pub(super) const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

pub(super) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_rfc_writes_them() {
        for (seconds, shown) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), // RFC 9110 5.6.7
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"), // 2100 is no leap year
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (LAST, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(HttpDate::from_unix(seconds).to_string(), shown);
        }
    }

    #[test]
    fn each_day_follows_the_day_before() {
        let length = |year: u64, month: u64| match month {
            1 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            1 => 28,
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        let mut expected = (1970, 0, 1);
        for days in 0..=LAST / DAY {
            assert_eq!(civil(days), expected);
            let (year, month, day) = expected;
            expected = match (month, day) {
                _ if day < length(year, month) => (year, month, day + 1),
                (11, _) => (year + 1, 0, 1),
                _ => (year, month + 1, 1),
            };
        }
        assert_eq!(expected, (10_000, 0, 1));
    }
}
