//! What has gone through a connection: as its worker counts it, and as others see it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::protocol::deflate::DeflateStats;

/// What has gone through a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Data messages received.
    pub messages_received: u64,
    /// Data messages sent, or queued to be sent.
    pub messages_sent: u64,
    /// Bytes received, frame headers included.
    pub bytes_received: u64,
    /// Bytes that the socket took, frame headers included.
    pub bytes_sent: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
    /// Messages dropped because the queue was full.
    pub dropped: u64,
    /// The latest round trip of a ping; `None` before the first.
    pub round_trip: Option<Duration>,
    /// What compression has saved; `None` where permessage-deflate was not negotiated, as in a build without the feature
    /// `deflate`.
    pub deflate: Option<DeflateStats>,
}

/// A worker's counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) dropped: u32,
    /// In microseconds; 0 before the first pong.
    pub(crate) round_trip: u32,
}

/// The worker's counts as it last published them.
#[derive(Debug, Default)]
pub(crate) struct SharedCounters {
    messages_received: AtomicU64,
    messages_sent: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    /// Not only the worker counts these.
    pub(crate) dropped: AtomicU32,
    round_trip: AtomicU32,
    #[cfg(feature = "deflate")]
    deflate: Option<Box<SharedDeflate>>,
}

#[cfg(feature = "deflate")]
#[derive(Debug, Default)]
struct SharedDeflate {
    sent: AtomicU64,
    sent_compressed: AtomicU64,
    received: AtomicU64,
    received_compressed: AtomicU64,
}

impl SharedCounters {
    /// For a connection with permessage-deflate, or without.
    #[cfg(feature = "deflate")]
    pub(crate) fn new(deflate: Option<DeflateStats>) -> SharedCounters {
        SharedCounters { deflate: deflate.map(|_| Box::default()), ..SharedCounters::default() }
    }

    /// For a connection, which has no compression.
    #[cfg(not(feature = "deflate"))]
    pub(crate) fn new(_: Option<DeflateStats>) -> SharedCounters {
        SharedCounters::default()
    }

    /// The worker's side.
    pub(crate) fn publish(&self, counters: &Counters, deflate: Option<DeflateStats>) {
        self.messages_received.store(counters.messages_received, Ordering::Relaxed);
        self.messages_sent.store(counters.messages_sent, Ordering::Relaxed);
        self.bytes_received.store(counters.bytes_received, Ordering::Relaxed);
        self.bytes_sent.store(counters.bytes_sent, Ordering::Relaxed);
        self.round_trip.store(counters.round_trip, Ordering::Relaxed);
        if let Some(stats) = deflate {
            self.publish_deflate(stats);
        }
    }

    #[cfg(feature = "deflate")]
    fn publish_deflate(&self, stats: DeflateStats) {
        if let Some(shown) = &self.deflate {
            shown.sent.store(stats.sent, Ordering::Relaxed);
            shown.sent_compressed.store(stats.sent_compressed, Ordering::Relaxed);
            shown.received.store(stats.received, Ordering::Relaxed);
            shown.received_compressed.store(stats.received_compressed, Ordering::Relaxed);
        }
    }

    #[cfg(not(feature = "deflate"))]
    fn publish_deflate(&self, _: DeflateStats) {}

    /// What was published last.
    pub(crate) fn load(&self, queued_bytes: usize) -> Stats {
        let round_trip = self.round_trip.load(Ordering::Relaxed);
        Stats {
            messages_received: self.messages_received.load(Ordering::Relaxed),
            messages_sent: self.messages_sent.load(Ordering::Relaxed),
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            queued_bytes,
            dropped: self.dropped.load(Ordering::Relaxed).into(),
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip.into())),
            deflate: self.load_deflate(),
        }
    }

    #[cfg(feature = "deflate")]
    fn load_deflate(&self) -> Option<DeflateStats> {
        let shown = self.deflate.as_ref()?;
        Some(DeflateStats {
            sent: shown.sent.load(Ordering::Relaxed),
            sent_compressed: shown.sent_compressed.load(Ordering::Relaxed),
            received: shown.received.load(Ordering::Relaxed),
            received_compressed: shown.received_compressed.load(Ordering::Relaxed),
        })
    }

    #[cfg(not(feature = "deflate"))]
    fn load_deflate(&self) -> Option<DeflateStats> {
        None
    }
}
