//! The permessage-deflate extension of one connection.

#[cfg(all(target_os = "linux", feature = "handover"))]
mod state;

use crate::protocol::deflate::codec::{Compressor, Sent};
use crate::protocol::deflate::inflater::Inflater;
#[cfg(all(target_os = "linux", feature = "handover"))]
use crate::protocol::deflate::replay::Replay;
use crate::protocol::deflate::{Codec, DeflateParams, DeflateStats, Direction, Sink};
use crate::protocol::error::ProtocolError;
use crate::protocol::outgoing::Last;

/// The negotiated parameters of a connection, and the windows that later messages may refer to.
#[derive(Debug)]
pub(in crate::protocol) struct Extension(Box<Kept>);

/// The state of an [`Extension`]. It has 56 bytes: allocators round larger sizes up. With the feature `handover` it has 64.
#[derive(Debug)]
struct Kept {
    /// Present with context takeover, after the first compressed message was sent; and while one is sent in parts.
    sent: Option<Box<Sent>>,
    /// Present during a compressed message, and with context takeover also after it.
    inflater: Option<Box<Inflater>>,
    stats: DeflateStats,
    threshold: u32,
    level: u8,
    compress: Packed,
    decompress: Packed,
    /// The caller of `trim` was told that there is a compressor to free.
    trimmer_knows: bool,
    /// Present if another process may go on with the connection.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    replay: Option<Box<Replay>>,
}

/// A [`Direction`] in one byte.
#[derive(Clone, Copy, Debug)]
struct Packed(u8);

impl Packed {
    const TAKEOVER: u8 = 0x80;

    fn new(direction: Direction) -> Packed {
        Packed(direction.window_bits | if direction.takeover { Packed::TAKEOVER } else { 0 })
    }

    fn takeover(self) -> bool {
        self.0 & Packed::TAKEOVER != 0
    }

    fn window_bits(self) -> u8 {
        self.0 & !Packed::TAKEOVER
    }
}

impl Extension {
    pub(in crate::protocol) fn new(params: DeflateParams) -> Extension {
        Extension(Box::new(Kept {
            sent: None,
            inflater: None,
            stats: DeflateStats::default(),
            threshold: params.threshold,
            level: params.level,
            compress: Packed::new(params.compress),
            decompress: Packed::new(params.decompress),
            trimmer_knows: false,
            #[cfg(all(target_os = "linux", feature = "handover"))]
            replay: None,
        }))
    }

    /// Returns the bytes of memory that the windows of the connection take.
    pub(in crate::protocol) fn memory(&self) -> usize {
        self.0.sent.as_ref().map_or(0, |sent| sent.memory())
            + self.0.inflater.as_ref().map_or(0, |inflater| inflater.memory())
            + self.replay_memory()
    }

    #[cfg(all(target_os = "linux", feature = "handover"))]
    fn replay_memory(&self) -> usize {
        self.0.replay.as_ref().map_or(0, |replay| replay.memory())
    }

    #[cfg(not(all(target_os = "linux", feature = "handover")))]
    fn replay_memory(&self) -> usize {
        0
    }

    /// Begins a compressed message.
    pub(in crate::protocol) fn begin(&mut self) {
        if let Some(inflater) = &mut self.0.inflater {
            inflater.begin();
        }
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if let Some(replay) = &mut self.0.replay {
            replay.begin();
        }
    }

    /// Decompresses a piece of the message's payload as it arrives, or the front of it that fills the sink. Returns how
    /// many bytes were taken. No compressed data is kept.
    pub(in crate::protocol) fn inflate(
        &mut self,
        piece: &[u8],
        codec: &mut Codec,
        sink: Sink<'_>,
    ) -> Result<usize, ProtocolError> {
        let result = self.with_inflater(codec, sink, |inflater, sink| inflater.inflate(piece, sink));
        let size = result.as_ref().map_or(piece.len(), |taken| *taken) as u64;
        self.0.stats.received_compressed += size;
        codec.count(size, 0);
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if let Some(replay) = &mut self.0.replay {
            replay.take(piece.get(..size as usize).unwrap_or_default());
        }
        result
    }

    /// Ends a compressed message.
    pub(in crate::protocol) fn finish(&mut self, codec: &mut Codec, sink: Sink<'_>) -> Result<(), ProtocolError> {
        self.with_inflater(codec, sink, |inflater, sink| inflater.finish(sink))?;
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if let Some(replay) = &mut self.0.replay {
            replay.end();
        }
        if !self.0.decompress.takeover()
            && let Some(inflater) = self.0.inflater.take()
        {
            codec.give_inflater(inflater);
        }
        Ok(())
    }

    fn with_inflater<T>(
        &mut self,
        codec: &mut Codec,
        mut sink: Sink<'_>,
        work: impl FnOnce(&mut Inflater, &mut Sink<'_>) -> Result<T, ProtocolError>,
    ) -> Result<T, ProtocolError> {
        let before = sink.message.filled;
        // On an error the inflater is dropped and not reset, because its state is undefined.
        let mut inflater = self.0.inflater.take().unwrap_or_else(|| codec.take_inflater());
        let done = work(&mut inflater, &mut sink)?;
        self.0.inflater = Some(inflater);
        let inflated = (sink.message.filled - before) as u64;
        self.0.stats.received += inflated;
        #[cfg(all(target_os = "linux", feature = "handover"))]
        if let Some(replay) = self.0.replay.as_mut().filter(|_| self.0.decompress.takeover()) {
            replay.note(sink.message.as_bytes().get(before..).unwrap_or_default());
        }
        codec.count(0, inflated);
        Ok(done)
    }

    /// Compresses a message if it is large enough and gets smaller.
    pub(in crate::protocol) fn compress<'c>(&mut self, payload: &[u8], codec: &'c mut Codec) -> Option<&'c [u8]> {
        if !self.is_worthwhile(payload) {
            return None;
        }
        let (level, window_bits) = (self.0.level, self.0.compress.window_bits());
        let compressed = if self.0.compress.takeover() {
            // The window of the compressor now contains the message, so it must be sent compressed even if it got
            // larger.
            let mut sent = match self.0.sent.take() {
                Some(sent) => sent,
                None => Box::new(Sent::new(Compressor::new(level, window_bits)?)),
            };
            // After a failure the compressor is dropped. The next message begins with an empty window, which is always
            // permitted.
            let compressed = codec.compress_behind(&mut sent, payload)?;
            self.0.sent = Some(sent);
            compressed
        } else {
            codec.compress(payload, level, window_bits)?
        };
        self.0.stats.sent += payload.len() as u64;
        self.0.stats.sent_compressed += compressed.len() as u64;
        Some(compressed)
    }

    /// Compresses the next fragment of a message that is sent in parts. The compressor is the connection's own until the
    /// message ends, with context takeover for longer.
    pub(in crate::protocol) fn compress_fragment<'c>(
        &mut self,
        payload: &[u8],
        last: Last,
        codec: &'c mut Codec,
    ) -> Option<&'c [u8]> {
        if last == Last::No && payload.is_empty() {
            return Some(&[]);
        }
        let mut sent = match self.0.sent.take() {
            Some(sent) => sent,
            None => Box::new(Sent::new(Compressor::new(self.0.level, self.0.compress.window_bits())?)),
        };
        let compressed = codec.compress_fragment(&mut sent, payload, last)?;
        if last == Last::No || self.0.compress.takeover() {
            self.0.sent = Some(sent);
        }
        self.0.stats.sent += payload.len() as u64;
        self.0.stats.sent_compressed += compressed.len() as u64;
        Some(compressed)
    }

    /// Returns whether a message is large enough to be compressed.
    pub(in crate::protocol) fn is_worthwhile(&self, payload: &[u8]) -> bool {
        payload.len() as u64 >= u64::from(self.0.threshold)
    }

    /// Returns the window if the connection can send messages that were compressed for several connections.
    pub(in crate::protocol) fn shared_window_bits(&self) -> Option<u8> {
        (!self.0.compress.takeover()).then_some(self.0.compress.window_bits())
    }

    /// Compresses a message for several connections if it gets smaller.
    pub(in crate::protocol) fn compress_shared<'c>(&self, payload: &[u8], codec: &'c mut Codec) -> Option<&'c [u8]> {
        codec.compress(payload, self.0.level, self.0.compress.window_bits())
    }

    /// Adds a message that was compressed for several connections to the statistics.
    pub(in crate::protocol) fn count_shared(&mut self, size: usize, compressed: usize) {
        self.0.stats.sent += size as u64;
        self.0.stats.sent_compressed += compressed as u64;
    }

    pub(in crate::protocol) fn stats(&self) -> DeflateStats {
        self.0.stats
    }

    /// Returns `true` once after a compressor was created, until `trim` has freed it.
    pub(in crate::protocol) fn begins_to_keep(&mut self) -> bool {
        let keeps = self.0.sent.as_ref().is_some_and(|sent| sent.keeps());
        keeps && !std::mem::replace(&mut self.0.trimmer_knows, true)
    }

    /// Frees the compressor if it was not used since the last call. Returns whether there still is one. The inflater is
    /// kept, because the messages of the peer may refer to its window.
    pub(in crate::protocol) fn trim(&mut self) -> bool {
        self.0.trimmer_knows = self.0.sent.as_mut().is_some_and(|sent| sent.trim());
        self.0.trimmer_knows
    }

    /// Frees all memory after the connection has failed.
    pub(in crate::protocol) fn abandon(&mut self) {
        self.0.sent = None;
        self.0.inflater = None;
        #[cfg(all(target_os = "linux", feature = "handover"))]
        {
            self.0.replay = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_every_connection_is_small() {
        let replay = if cfg!(all(target_os = "linux", feature = "handover")) { size_of::<usize>() } else { 0 };
        assert!(size_of::<Kept>() <= 56 + replay);
    }
}
