//! The forms in which HTTP has dates (RFC 9110 5.6.7).

use super::date::{DAY, HttpDate, MONTHS, WEEKDAYS};

impl HttpDate {
    /// Parses a date in one of the three forms of RFC 9110 5.6.7, two of which are obsolete and still have to be understood.
    /// `now` decides about the century of a year with two digits. Returns `None` for what is no date; the name of the day is
    /// not compared with the date, and a leap second counts as the second after it.
    ///
    /// ```
    /// use threadbare::protocol::http::HttpDate;
    ///
    /// let (date, now) = (HttpDate::from_unix(784_111_777), HttpDate::from_unix(1_700_000_000));
    /// for form in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
    ///     assert_eq!(HttpDate::parse(form, now), Some(date));
    /// }
    /// assert_eq!(HttpDate::parse("tomorrow", now), None);
    /// ```
    pub fn parse(value: &str, now: HttpDate) -> Option<HttpDate> {
        // IMF-fixdate and rfc850-date have a comma behind the name of the day, asctime-date has none.
        let Some((weekday, rest)) = value.split_once(", ") else { return asctime(value) };
        if WEEKDAYS.contains(&weekday) {
            return imf_fixdate(rest);
        }
        LONG_WEEKDAYS.contains(&weekday).then(|| rfc850(rest, now))?
    }
}

/// Parses the rest of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(rest: &str) -> Option<HttpDate> {
    let mut parts = rest.split(' ');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, zone) = (parts.next()?, parts.next()?);
    (zone == "GMT" && parts.next().is_none()).then_some(())?;
    date(number(year, 4)?, month, number(day, 2)?, time)
}

/// Parses the rest of `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc850(rest: &str, now: HttpDate) -> Option<HttpDate> {
    let mut parts = rest.split(' ');
    let (day_month_year, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    (zone == "GMT" && parts.next().is_none()).then_some(())?;
    let mut parts = day_month_year.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(())?;
    let (day, year) = (number(day, 2)?, number(year, 2)?);
    // RFC 9110 5.6.7: "a timestamp that appears to be more than 50 years in the future" is "the most recent year in the past
    // that had the same last two digits".
    let latest = now.year().saturating_add(50);
    let same_century = latest.checked_sub(latest % 100)?.checked_add(year)?;
    let year = if same_century > latest { same_century.checked_sub(100)? } else { same_century };
    date(year, month, day, time)
}

/// Parses `Sun Nov  6 08:49:37 1994`.
fn asctime(value: &str) -> Option<HttpDate> {
    let (weekday, rest) = value.split_once(' ')?;
    let (month, rest) = rest.split_once(' ')?;
    let (day, rest) = rest.split_at_checked(2)?;
    let (time, year) = rest.strip_prefix(' ')?.split_once(' ')?;
    let day = day.strip_prefix(' ').map_or_else(|| number(day, 2), |digit| number(digit, 1))?;
    WEEKDAYS.contains(&weekday).then_some(())?;
    date(number(year, 4)?, month, day, time)
}

fn date(year: u64, month: &str, day: u64, time: &str) -> Option<HttpDate> {
    let month = MONTHS.iter().zip(0_u64..).find(|(name, _)| **name == month)?.1;
    (1970..=9999).contains(&year).then_some(())?;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        1 if is_leap => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    (1..=length).contains(&day).then_some(())?;
    let days = days_before(year, month)?.checked_add(day)?.checked_sub(1)?;
    let seconds = days.checked_mul(DAY)?.checked_add(seconds(time)?)?;
    Some(HttpDate::from_unix(seconds))
}

/// Returns the number of days from 1970-01-01 to the first of a month, which counts from 0.
fn days_before(year: u64, month: u64) -> Option<u64> {
    // Years begin in March, so that a leap day is the last of its year.
    let (year, month) = if month < 2 { (year.checked_sub(1)?, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5;
    days.checked_sub(719_468)
}

/// Returns the seconds of `hour ":" minute ":" second`. The second may be 60, a leap second.
fn seconds(time: &str) -> Option<u64> {
    let mut parts = time.split(':');
    let mut part = |limit: u64| number(parts.next()?, 2).filter(|value| *value <= limit);
    let (hour, minute, second) = (part(23)?, part(59)?, part(60)?);
    parts.next().is_none().then_some(hour * 3_600 + minute * 60 + second)
}

/// Parses a number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

const LONG_WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2023-11-14.
    const NOW: u64 = 1_700_000_000;

    fn parsed(value: &str) -> Option<u64> {
        HttpDate::parse(value, HttpDate::from_unix(NOW)).map(HttpDate::as_unix)
    }

    #[test]
    fn the_three_forms_are_parsed() {
        for (value, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777),
            ("Sun Nov 16 08:49:37 1994", 784_111_777 + 10 * DAY),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800), // a leap second
            ("Monday, 01-Jan-73 00:00:00 GMT", 3_250_454_400), // within 50 years: 2073
            ("Tuesday, 01-Jan-74 00:00:00 GMT", 126_230_400), // beyond: 1974
        ] {
            assert_eq!(parsed(value), Some(seconds), "{value}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for value in [
            "",
            "0",
            ",",
            ", ",
            "Sun, ",
            "Sun",
            "tomorrow",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Thu, 29 Feb 2100 00:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sun, 31 Dec 1969 00:00:00 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 06-Nov-94-1 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Someday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Xyz Nov  6 08:49:37 1994",
            "Sun Nov +6 08:49:37 1994",
            "Sun Nov \u{e9} 08:49:37 1994",
        ] {
            assert_eq!(parsed(value), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn a_date_is_parsed_as_it_was_written(seconds in 0..=253_402_300_799_u64) {
            prop_assert_eq!(parsed(&HttpDate::from_unix(seconds).to_string()), Some(seconds));
        }

        #[test]
        fn no_text_panics(value in "\\PC{0,40}|[A-Z][a-z]{2,8},? [0-9a-zA-Z: -]{0,30}") {
            let _ = parsed(&value);
        }
    }
}
