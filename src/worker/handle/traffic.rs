//! What the workers of a server, or of a set of clients, counted.

use crate::protocol::close::CloseCode;
use crate::stats::histogram::Histogram;
use crate::stats::openmetrics::{Exposition, Unit};

/// The close codes that have a count of their own, from 1000: those of RFC 6455 7.4.1 and its registry.
const FIRST_CODE: u16 = 1000;
const CODES: usize = 16;

/// The ranges of other codes (RFC 6455 7.4.2), which are counted under the first of each.
const RANGES: [u16; 2] = [3000, 4000];

pub(super) const COUNTED_CODES: usize = CODES + RANGES.len();

/// What all connections of a server, or of a pool of clients, did since it began: those that are open, and those that have
/// ended. Each worker shows what it did at the end of each iteration of its event loop, so that the last messages may be
/// missing.
///
/// ```
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// let traffic = server.stats().traffic;
/// println!("{} messages in, {} out, {} bytes to be written", traffic.messages_received, traffic.messages_sent,
///     traffic.queued_bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficStats {
    /// Connections that were established.
    pub opened: u64,
    /// Data messages received.
    pub messages_received: u64,
    /// Data messages sent, or queued to be sent.
    pub messages_sent: u64,
    /// Bytes received, frame headers included; without those of the opening handshakes and of TLS.
    pub bytes_received: u64,
    /// Bytes written to the sockets, frame headers included; without those of the opening handshakes and of TLS.
    pub bytes_sent: u64,
    /// Bytes that wait to be written now.
    pub queued_bytes: u64,
    /// Messages dropped because the queue of their connection was full: by [`SlowConsumer::Drop`](crate::SlowConsumer::Drop),
    /// and each connection that a broadcast skipped.
    pub dropped: u64,
    /// Messages of topics that subscribers have missed because they read too slowly, each as often as it was missed.
    pub skipped: u64,
    /// Messages handed back to the sender because the queue of their connection was full.
    pub refused: u64,
    /// How often the event loops of the workers ran: each time after they had waited, or looked, for something to do.
    pub iterations: u64,
    /// Callbacks of handlers that took longer than [`Config::slow_callback`](crate::Config::slow_callback).
    pub slow_callbacks: u64,
    /// How long callbacks of handlers for messages take. Of one read in 64 the first is measured, if its message is there in
    /// one frame. Nothing where no handlers are.
    pub callback_time: Histogram,
    /// How long the iterations of the event loops take, without the wait. It is what a connection may wait for others.
    pub iteration_time: Histogram,
    /// The round trips of keepalive pings; see [`Config::ping_interval`](crate::Config::ping_interval).
    pub round_trip_time: Histogram,
    /// How long output waits that a socket did not take at once: from then until all of it is written.
    pub queue_time: Histogram,
    pub(super) closed: [u64; COUNTED_CODES],
}

impl TrafficStats {
    /// How many connections have ended with this code, as the application was told: 1006 for those that ended without a
    /// closing handshake. Of the codes from 3000 to 3999, and from 4000 on, only all together are counted.
    ///
    /// ```
    /// use threadbare::CloseCode;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// println!("{} clients read too slowly", server.stats().traffic.closed(CloseCode::POLICY_VIOLATION));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn closed(&self, code: CloseCode) -> u64 {
        self.closed.get(index_of(code)).copied().unwrap_or_default()
    }

    /// How many connections have ended.
    ///
    /// ```
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// assert_eq!(server.stats().traffic.closed_in_all(), 0);
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn closed_in_all(&self) -> u64 {
        self.closed.iter().sum()
    }

    /// The text in which monitors such as Prometheus read it: OpenMetrics 1.0. `prefix` is what all names begin with, such as
    /// `feed`; characters that a name can not have become `_`.
    ///
    /// ```
    /// use threadbare::{ClientPool, Config};
    ///
    /// let pool = ClientPool::new(2, Config::default())?;
    /// assert!(pool.stats().openmetrics("feed").contains("\nfeed_messages_received_total 0\n"));
    /// # Ok::<(), threadbare::BuildError>(())
    /// ```
    #[must_use]
    pub fn openmetrics(&self, prefix: &str) -> String {
        let legal = |char: char| if char.is_ascii_alphanumeric() { char } else { '_' };
        let first = if prefix.starts_with(|char: char| char.is_ascii_alphabetic()) { "" } else { "_" };
        let prefix: String = first.chars().chain(prefix.chars().map(legal)).collect();
        let mut text = Exposition::default();
        self.expose(&prefix, &mut text);
        text.into_text()
    }

    /// Writes all of it, under names that begin with `prefix`.
    pub(crate) fn expose(&self, prefix: &str, text: &mut Exposition) {
        let name = |name: &str| format!("{prefix}_{name}");
        let counters = [
            ("connections_opened", Unit::None, "Connections that were established.", self.opened),
            ("messages_received", Unit::None, "Data messages received.", self.messages_received),
            ("messages_sent", Unit::None, "Data messages sent, or queued to be sent.", self.messages_sent),
            ("received_bytes", Unit::Bytes, "Bytes received, frame headers included.", self.bytes_received),
            ("sent_bytes", Unit::Bytes, "Bytes written to sockets, frame headers included.", self.bytes_sent),
            ("messages_dropped", Unit::None, "Messages dropped because a queue was full.", self.dropped),
            ("messages_skipped", Unit::None, "Messages of topics that slow subscribers missed.", self.skipped),
            ("messages_refused", Unit::None, "Messages handed back because a queue was full.", self.refused),
            ("iterations", Unit::None, "Iterations of the event loops.", self.iterations),
            ("slow_callbacks", Unit::None, "Callbacks that took longer than they should.", self.slow_callbacks),
        ];
        for (counter, unit, help, value) in counters {
            text.counter(&name(counter), unit, help, value);
        }
        text.counters(
            &name("connections_closed"),
            Unit::None,
            "code",
            "Connections that have ended, by close code; 3000 and 4000 stand for all codes from there on.",
            codes().zip(self.closed),
        );
        text.gauge(&name("queued_bytes"), Unit::Bytes, "Bytes that wait to be written.", self.queued_bytes);
        let histograms = [
            (
                "callback_seconds",
                "How long callbacks for messages take; the first of one read in 64 is measured.",
                &self.callback_time,
            ),
            ("iteration_seconds", "How long iterations of the event loops take.", &self.iteration_time),
            ("round_trip_seconds", "The round trips of keepalive pings.", &self.round_trip_time),
            ("queue_seconds", "How long output waits that a socket did not take at once.", &self.queue_time),
        ];
        for (histogram, help, times) in histograms {
            text.histogram(&name(histogram), help, times);
        }
    }
}

/// Where a code is counted.
pub(super) fn index_of(code: CloseCode) -> usize {
    match code.0.checked_sub(FIRST_CODE) {
        Some(index) if usize::from(index) < CODES => usize::from(index),
        _ => CODES + usize::from(code.0 >= RANGES[1]),
    }
}

/// The codes in the order of their counts.
fn codes() -> impl Iterator<Item = u16> {
    (FIRST_CODE..).take(CODES).chain(RANGES)
}
