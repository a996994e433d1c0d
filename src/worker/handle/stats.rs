//! The counts of messages and bytes of a connection: those that its worker keeps, and those that the application reads.

#[cfg(feature = "deflate")]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::protocol::deflate::DeflateStats;
use crate::stats::count::Count;

/// The counts of messages and bytes of a connection.
///
/// ```
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
/// client.send("hello")?;
/// let stats = client.stats();
/// assert_eq!((stats.messages_received, stats.dropped), (0, 0));
/// println!("{} bytes sent, {} to be written", stats.bytes_sent, stats.queued_bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Data messages received.
    pub messages_received: u64,
    /// Data messages sent, or queued to be sent.
    pub messages_sent: u64,
    /// Bytes received, frame headers included.
    pub bytes_received: u64,
    /// Bytes written to the socket, frame headers included.
    pub bytes_sent: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
    /// Messages dropped because the queue was full.
    pub dropped: u64,
    /// Messages that a newer one with the same key replaced before they were sent; see
    /// [`SendOptions::latest`](crate::SendOptions::latest).
    pub replaced: u64,
    /// The latest round trip of a ping; `None` before the first.
    pub round_trip: Option<Duration>,
    /// What compression has saved; `None` where permessage-deflate was not negotiated, as in a build without the
    /// feature `deflate`.
    pub deflate: Option<DeflateStats>,
}

/// The counts of a connection.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages_received: Count,
    pub(crate) messages_sent: Count,
    pub(crate) bytes_received: Count,
    pub(crate) bytes_sent: Count,
    /// Messages that were dropped, counted by any thread.
    dropped: AtomicU32,
    /// The latest round trip in microseconds; 0 before the first pong.
    round_trip: AtomicU32,
}

impl Counters {
    pub(crate) fn add_dropped(&self, count: u32) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes the latest round trip.
    pub(crate) fn set_round_trip(&self, micros: u64) {
        self.round_trip.store(u32::try_from(micros.max(1)).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(crate) fn stats(&self, queued_bytes: usize, deflate: Option<DeflateStats>) -> Stats {
        let round_trip = self.round_trip.load(Ordering::Relaxed);
        Stats {
            messages_received: self.messages_received.value(),
            messages_sent: self.messages_sent.value(),
            bytes_received: self.bytes_received.value(),
            bytes_sent: self.bytes_sent.value(),
            queued_bytes,
            dropped: self.dropped.load(Ordering::Relaxed).into(),
            replaced: 0,
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip.into())),
            deflate,
        }
    }
}

/// The counts of compression, as the worker last published them.
#[cfg(feature = "deflate")]
#[derive(Debug, Default)]
pub(crate) struct SharedDeflate {
    sent: AtomicU64,
    sent_compressed: AtomicU64,
    received: AtomicU64,
    received_compressed: AtomicU64,
}

#[cfg(feature = "deflate")]
impl SharedDeflate {
    /// Called by the worker.
    pub(crate) fn publish(&self, stats: DeflateStats) {
        self.sent.store(stats.sent, Ordering::Relaxed);
        self.sent_compressed.store(stats.sent_compressed, Ordering::Relaxed);
        self.received.store(stats.received, Ordering::Relaxed);
        self.received_compressed.store(stats.received_compressed, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> DeflateStats {
        DeflateStats {
            sent: self.sent.load(Ordering::Relaxed),
            sent_compressed: self.sent_compressed.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            received_compressed: self.received_compressed.load(Ordering::Relaxed),
        }
    }
}
