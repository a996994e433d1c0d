//! What the reactor counts, for any thread to read.

use crate::stats::count::Count;

/// The statuses of HTTP that are counted, each by itself.
const STATUSES: std::ops::Range<u16> = 200..600;

/// What the reactor counts. Its thread alone writes.
#[derive(Debug)]
pub(in crate::server) struct HandshakeMetrics {
    /// Connections that were accepted.
    pub(super) accepted: Count,
    /// Opening handshakes that were completed.
    pub(super) upgraded: Count,
    /// Connections that ended before they were answered.
    pub(super) unanswered: Count,
    pub(super) tls_failed: Count,
    responses: Box<[Count]>,
}

impl Default for HandshakeMetrics {
    fn default() -> HandshakeMetrics {
        let (accepted, upgraded, unanswered, tls_failed) = Default::default();
        HandshakeMetrics {
            accepted,
            upgraded,
            unanswered,
            tls_failed,
            responses: STATUSES.map(|_| Count::default()).collect(),
        }
    }
}

impl HandshakeMetrics {
    /// Counts a response other than a 101.
    pub(super) fn count_response(&self, status: u16) {
        let index = status.checked_sub(STATUSES.start);
        if let Some(count) = index.and_then(|index| self.responses.get(usize::from(index))) {
            count.add(1);
        }
    }

    pub(in crate::server) fn snapshot(&self) -> HandshakeStats {
        let responses = STATUSES.zip(&self.responses).map(|(status, count)| (status, count.value()));
        HandshakeStats {
            accepted: self.accepted.value(),
            upgraded: self.upgraded.value(),
            unanswered: self.unanswered.value(),
            tls_failed: self.tls_failed.value(),
            responses: responses.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// How opening handshakes, and plain requests of HTTP, ended.
///
/// ```
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// let handshakes = server.stats().handshakes;
/// println!("{} of {} became connections, {} were forbidden", handshakes.upgraded, handshakes.accepted, handshakes.responses(403));
/// for (status, count) in handshakes.statuses() {
///     println!("{count} responses with {status}");
/// }
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeStats {
    /// Connections that were accepted, those included that were turned away for want of room.
    pub accepted: u64,
    /// Opening handshakes that were completed.
    pub upgraded: u64,
    /// Connections that ended before a response: the client left, or its time was over.
    pub unanswered: u64,
    /// Connections whose handshake of TLS failed.
    pub tls_failed: u64,
    responses: Vec<(u16, u64)>,
}

impl HandshakeStats {
    /// How many responses had this status: refusals, and those of the hook for plain requests.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.stats().handshakes.responses(403), 0);
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn responses(&self, status: u16) -> u64 {
        self.responses.iter().find(|(of, _)| *of == status).map_or(0, |(_, count)| *count)
    }

    /// The statuses that occurred, and how often.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// let refused: u64 = server.stats().handshakes.statuses().filter(|(status, _)| *status >= 400).map(|(_, count)| count).sum();
    /// # assert_eq!(refused, 0);
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    pub fn statuses(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.responses.iter().copied()
    }
}
