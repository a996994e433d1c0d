//! Logs what the policies for origins and hosts refuse, and PROXY headers that are wrong.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::protocol::PeerAddr;
use crate::protocol::http::Response;
use crate::protocol::proxy_header::ProxyHeaderError;

/// At most one refusal is logged each second. Larger hides which names are refused; smaller fills the log, for browsers
/// try again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Logs refusals at `warn`, because most of them are a mistake of the operator: a proxy that changes `Host`, or a list
/// that misses an origin.
#[derive(Debug, Default)]
pub(in crate::server) struct RefusalLog {
    last: Cell<Option<Instant>>,
    /// The number of refusals since the last that was logged.
    omitted: Cell<u64>,
}

impl RefusalLog {
    pub(in crate::server) fn log(&self, addr: &PeerAddr, refusal: &Response, now: Instant) {
        if let Some(omitted) = self.admit(now) {
            // The body names origin and host, escaped.
            let why = String::from_utf8_lossy(refusal.content());
            let more = more(omitted);
            log::warn!("{addr}: handshake refused with {}: {}{more}", refusal.status(), why.trim_ascii_end());
        }
    }

    /// Logs that a listed proxy did not begin its connection with a PROXY header.
    pub(in crate::server) fn log_proxy_header(&self, addr: &PeerAddr, error: ProxyHeaderError, now: Instant) {
        if let Some(omitted) = self.admit(now) {
            log::warn!("{addr}: closed, because of its PROXY header: {error}{}", more(omitted));
        }
    }

    /// Returns the number of refusals that were not logged since the last one, if one may be logged now.
    fn admit(&self, now: Instant) -> Option<u64> {
        if self.last.get().is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            self.omitted.set(self.omitted.get().saturating_add(1));
            return None;
        }
        self.last.set(Some(now));
        Some(self.omitted.take())
    }
}

fn more(omitted: u64) -> String {
    if omitted > 0 { format!(" ({omitted} more were refused before)") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_a_second_is_logged_and_the_others_are_counted() {
        let (log, start) = (RefusalLog::default(), Instant::now());
        let admit = |millis| log.admit(start + Duration::from_millis(millis));
        assert_eq!((admit(0), admit(0), admit(999), admit(1_000)), (Some(0), None, None, Some(2)));
        assert_eq!((admit(1_999), admit(5_000), admit(6_000)), (None, Some(1), Some(0)));
    }
}
