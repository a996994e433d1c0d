//! Going on with compression in another process.
//!
//! A compressor begins anew: the peer's window then has more than is referred to. An inflater gets the window of the one
//! before it, and is fed again what has arrived of a message.

use super::{Extension, Kept, Packed};
use crate::protocol::deflate::inflater::Inflater;
use crate::protocol::deflate::replay::{Replay, WINDOW};
use crate::protocol::deflate::{Codec, DeflateStats, Sink};
use crate::protocol::state::{StateError, StateReader, StateWriter};

impl Extension {
    /// Keeps from now on what [`export`](Extension::export) needs.
    pub(in crate::protocol) fn keep_exportable(&mut self) {
        self.0.replay.get_or_insert_default();
    }

    /// Appends the state; `false` if it was not kept. `is_inflating` says whether a compressed message is under way.
    pub(in crate::protocol) fn export(&self, out: &mut StateWriter, is_inflating: bool) -> bool {
        let kept = &self.0;
        let (window, arrived) = match &kept.replay {
            Some(replay) => replay.parts(is_inflating),
            None if kept.inflater.is_none() => (&[][..], &[][..]),
            None => return false,
        };
        out.u32(kept.threshold);
        out.u8(kept.level);
        out.u8(kept.compress.0);
        out.u8(kept.decompress.0);
        let DeflateStats { sent, sent_compressed, received, received_compressed } = kept.stats;
        [sent, sent_compressed, received, received_compressed].into_iter().for_each(|count| out.u64(count));
        out.bytes(window);
        out.bytes(arrived);
        true
    }

    /// Reads the state. Returns also what has arrived of the message under way, for
    /// [`inflate_again`](Extension::inflate_again).
    pub(in crate::protocol) fn import<'s>(state: &mut StateReader<'s>) -> Result<(Extension, &'s [u8]), StateError> {
        let (threshold, level) = (state.u32()?, state.u8()?);
        let [compress, decompress] = [Packed::import(state)?, Packed::import(state)?];
        let stats = DeflateStats {
            sent: state.u64()?,
            sent_compressed: state.u64()?,
            received: state.u64()?,
            received_compressed: state.u64()?,
        };
        let window = state.bytes_within(WINDOW, "a window")?;
        let arrived = state.bytes()?;
        if !(1..=9).contains(&level) {
            return Err(StateError::Invalid("a level of compression"));
        }
        if !window.is_empty() && !decompress.takeover() {
            return Err(StateError::Invalid("a window without context takeover"));
        }
        let inflater = match window {
            [] => None,
            window => Some(Inflater::with_window(window).ok_or(StateError::Invalid("a window"))?),
        };
        let mut replay = Box::<Replay>::default();
        replay.note(window);
        let kept = Kept {
            sent: None,
            inflater: inflater.map(Box::new),
            stats,
            threshold,
            level,
            compress,
            decompress,
            trimmer_knows: false,
            replay: Some(replay),
        };
        Ok((Extension(Box::new(kept)), arrived))
    }

    /// Inflates again what has arrived of the message under way.
    pub(in crate::protocol) fn inflate_again(
        &mut self,
        arrived: &[u8],
        codec: &mut Codec,
        sink: Sink<'_>,
    ) -> Result<(), StateError> {
        let stats = self.0.stats;
        self.begin();
        let taken = self.inflate(arrived, codec, sink);
        // It was counted before.
        self.0.stats = stats;
        codec.take_work();
        if taken == Ok(arrived.len()) { Ok(()) } else { Err(StateError::Invalid("a compressed message")) }
    }
}

impl Packed {
    fn import(state: &mut StateReader<'_>) -> Result<Packed, StateError> {
        let packed = Packed(state.u8()?);
        let is_known = (8..=15).contains(&packed.window_bits());
        if is_known { Ok(packed) } else { Err(StateError::Invalid("a window's size")) }
    }
}
