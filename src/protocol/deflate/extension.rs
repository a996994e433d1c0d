//! The compression of one connection.

use crate::protocol::deflate::codec::Compressor;
use crate::protocol::deflate::inflater::Inflater;
use crate::protocol::deflate::{Codec, DeflateParams, DeflateStats, Sink};
use crate::protocol::error::ProtocolError;

/// What a connection keeps of permessage-deflate: what was agreed on, and what later messages may refer to.
#[derive(Debug)]
pub(in crate::protocol) struct Extension(Box<Kept>);

#[derive(Debug)]
struct Kept {
    params: DeflateParams,
    /// Under context takeover, from the first compressed message on.
    compressor: Option<Box<Compressor>>,
    /// During a compressed message, and after it under context takeover.
    inflater: Option<Box<Inflater>>,
    stats: DeflateStats,
}

impl Extension {
    pub(in crate::protocol) fn new(params: DeflateParams) -> Extension {
        Extension(Box::new(Kept { params, compressor: None, inflater: None, stats: DeflateStats::default() }))
    }

    /// Begins a compressed message.
    pub(in crate::protocol) fn begin(&mut self) {
        if let Some(inflater) = &mut self.0.inflater {
            inflater.begin();
        }
    }

    /// Inflates a piece of the message's payload, at once, so that what is kept of it is what it stands for.
    pub(in crate::protocol) fn inflate(
        &mut self,
        piece: &[u8],
        codec: &mut Codec,
        sink: Sink<'_>,
    ) -> Result<(), ProtocolError> {
        self.0.stats.received_compressed += piece.len() as u64;
        self.with_inflater(codec, sink, |inflater, sink| inflater.inflate(piece, sink))
    }

    /// Ends a compressed message.
    pub(in crate::protocol) fn finish(&mut self, codec: &mut Codec, sink: Sink<'_>) -> Result<(), ProtocolError> {
        self.with_inflater(codec, sink, |inflater, sink| inflater.finish(sink))?;
        if !self.0.params.decompress.takeover
            && let Some(inflater) = self.0.inflater.take()
        {
            codec.give_inflater(inflater);
        }
        Ok(())
    }

    fn with_inflater(
        &mut self,
        codec: &mut Codec,
        mut sink: Sink<'_>,
        work: impl FnOnce(&mut Inflater, &mut Sink<'_>) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let before = sink.message.filled;
        // On an error the inflater is dropped, not reset: its state may be anything.
        let mut inflater = self.0.inflater.take().unwrap_or_else(|| codec.take_inflater());
        work(&mut inflater, &mut sink)?;
        self.0.inflater = Some(inflater);
        let inflated = (sink.message.filled - before) as u64;
        self.0.stats.received += inflated;
        codec.count(inflated);
        Ok(())
    }

    /// Compresses a message, if it is large enough and gets smaller.
    pub(in crate::protocol) fn compress<'c>(&mut self, payload: &[u8], codec: &'c mut Codec) -> Option<&'c [u8]> {
        let DeflateParams { compress, level, threshold, .. } = self.0.params;
        if payload.len() < usize::try_from(threshold).unwrap_or(usize::MAX) {
            return None;
        }
        let compressed = if compress.takeover {
            // Once the compressor has seen the message the peer must see it too, even if it got larger.
            let mut compressor = match self.0.compressor.take() {
                Some(compressor) => compressor,
                None => Box::new(Compressor::new(level, compress.window_bits)?),
            };
            // One that failed is dropped: the next message begins anew, which a compressor may do at any time.
            let compressed = codec.compress_with(&mut compressor, payload)?;
            self.0.compressor = Some(compressor);
            compressed
        } else {
            codec.compress(payload, level, compress.window_bits)?
        };
        self.0.stats.sent += payload.len() as u64;
        self.0.stats.sent_compressed += compressed.len() as u64;
        Some(compressed)
    }

    /// The window of a connection that takes messages compressed for several.
    pub(in crate::protocol) fn shared_window_bits(&self) -> Option<u8> {
        let compress = self.0.params.compress;
        (!compress.takeover).then_some(compress.window_bits)
    }

    pub(in crate::protocol) fn stats(&self) -> DeflateStats {
        self.0.stats
    }

    /// Gives back what can be made anew: the compressor. The next message does not refer to the ones before, which the
    /// peer need not know; what the peer's messages may refer to must be kept.
    pub(in crate::protocol) fn trim(&mut self) {
        self.0.compressor = None;
    }

    /// Gives back everything: the connection has failed.
    pub(in crate::protocol) fn abandon(&mut self) {
        self.0.compressor = None;
        self.0.inflater = None;
    }
}
