//! The compressor and decompressor that the connections of a thread share.

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::protocol::deflate::inflater::{Inflater, TAIL};
use crate::protocol::deflate::negotiation::MIN_WINDOW_BITS;

/// The least room that compressed bytes are given: more than a flush needs.
const MIN_ROOM: usize = 64;

/// The most room that is made for compressed bytes at once.
const MAX_ROOM: usize = 64 << 10;

/// The largest buffer for compressed bytes that is kept where nobody trims.
const MAX_KEPT_SIZE: usize = 256 << 10;

/// What is kept of the messages that were sent, when the compressor that knew them is given back: a few dozen small ones.
const MAX_RECENT_SIZE: usize = 4 << 10;

/// The memory for compression that the connections of a thread share, 418 KiB once both directions are in use.
///
/// It is made when the first message needs it, and given back by [`trim`](Codec::trim).
#[derive(Debug, Default)]
pub struct Codec {
    shared: Option<Box<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    compressor: Option<Compressor>,
    inflater: Option<Box<Inflater>>,
    compressed: Vec<u8>,
    inflated: u64,
    used: bool,
}

impl Codec {
    /// A codec that holds nothing yet.
    #[must_use]
    pub const fn new() -> Codec {
        Codec { shared: None }
    }

    /// Compresses a message for every connection that
    /// [takes what is shared](super::super::Connection::shared_window_bits) and whose window is no smaller; `None` if
    /// it does not get smaller.
    pub fn compress(&mut self, payload: &[u8], level: u8, window_bits: u8) -> Option<&[u8]> {
        let shared = self.shared();
        let fits = |kept: &Compressor| kept.level == level && kept.window_bits == window_bits;
        let mut compressor = match shared.compressor.take().filter(fits) {
            Some(mut compressor) => {
                compressor.compress.reset();
                compressor
            }
            None => Compressor::new(level, window_bits)?,
        };
        shared.compressed.clear();
        let smaller = compressor.run(payload, &mut shared.compressed, payload.len().saturating_sub(1));
        shared.compressor = Some(compressor);
        smaller.then_some(&shared.compressed)
    }

    /// Compresses a message behind the ones before.
    pub(super) fn compress_behind(&mut self, sent: &mut Sent, payload: &[u8]) -> Option<&[u8]> {
        let compressed = &mut self.shared().compressed;
        compressed.clear();
        sent.compress(payload, compressed).then_some(compressed)
    }

    /// An inflater without a past.
    pub(super) fn take_inflater(&mut self) -> Box<Inflater> {
        match self.shared().inflater.take() {
            Some(mut inflater) => {
                inflater.reset();
                inflater
            }
            None => Box::new(Inflater::new()),
        }
    }

    /// Keeps an inflater that has served, for the next message. One that has failed must not come here.
    pub(super) fn give_inflater(&mut self, inflater: Box<Inflater>) {
        self.shared().inflater = Some(inflater);
    }

    /// Counts what was inflated.
    pub(super) fn count(&mut self, inflated: u64) {
        self.shared().inflated += inflated;
    }

    /// The bytes that were inflated since the last call: what fairness between connections has to count, for a few
    /// received bytes can stand for a thousand times as many.
    pub fn take_inflated(&mut self) -> u64 {
        self.shared.as_mut().map_or(0, |shared| std::mem::take(&mut shared.inflated))
    }

    /// Whether there is anything to [`trim`](Codec::trim).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.is_none()
    }

    /// Gives the memory back if nothing was compressed or inflated since the last call.
    pub fn trim(&mut self) {
        self.shared.take_if(|shared| !std::mem::take(&mut shared.used));
    }

    /// Gives back the buffer of a compressed message that was large, for whoever has no time to
    /// [`trim`](Codec::trim) at.
    pub(crate) fn shed(&mut self) {
        if let Some(shared) = &mut self.shared
            && shared.compressed.capacity() > MAX_KEPT_SIZE
        {
            shared.compressed = Vec::new();
        }
    }

    fn shared(&mut self) -> &mut Shared {
        let shared = self.shared.get_or_insert_default();
        shared.used = true;
        shared
    }
}

/// What a connection has sent under context takeover, as far as what it sends next may refer to it.
#[derive(Debug)]
pub(super) struct Sent {
    level: u8,
    window_bits: u8,
    /// It was used since it was last to be given back.
    used: bool,
    compressor: Option<Compressor>,
    /// The end of what was sent, for the next compressor.
    recent: Vec<u8>,
}

impl Sent {
    pub(super) fn new(compressor: Compressor) -> Sent {
        let (level, window_bits) = (compressor.level, compressor.window_bits);
        Sent { level, window_bits, used: false, compressor: Some(compressor), recent: Vec::new() }
    }

    /// Appends `payload`, compressed, to `out`. After a failure, `false`, this is to be dropped.
    fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(mut compressor) = self.compressor.take().or_else(|| self.resume()) else { return false };
        let done = compressor.run(payload, out, usize::MAX);
        self.compressor = Some(compressor);
        self.used = true;
        self.note(payload);
        done
    }

    /// A compressor that knows the end of what was sent.
    fn resume(&self) -> Option<Compressor> {
        let mut compressor = Compressor::new(self.level, self.window_bits)?;
        if !self.recent.is_empty() {
            compressor.compress.set_dictionary(&self.recent).ok()?;
        }
        Some(compressor)
    }

    fn note(&mut self, payload: &[u8]) {
        let most = MAX_RECENT_SIZE.min(1 << self.window_bits);
        let end = payload.get(payload.len().saturating_sub(most)..).unwrap_or_default();
        let surplus = (self.recent.len() + end.len()).saturating_sub(most);
        self.recent.drain(..surplus.min(self.recent.len()));
        self.recent.extend_from_slice(end);
    }

    /// Whether there is a compressor.
    pub(super) fn keeps(&self) -> bool {
        self.compressor.is_some()
    }

    /// Gives the compressor back if it was not used since the last call; `false` if there is none any more.
    pub(super) fn trim(&mut self) -> bool {
        if !std::mem::take(&mut self.used) {
            self.compressor = None;
            self.recent.shrink_to_fit();
        }
        self.keeps()
    }
}

/// A compressor, with what it was made for.
#[derive(Debug)]
pub(super) struct Compressor {
    compress: Compress,
    level: u8,
    window_bits: u8,
}

impl Compressor {
    /// A compressor, unless the window is one that zlib can not do.
    pub(super) fn new(level: u8, window_bits: u8) -> Option<Compressor> {
        if !(MIN_WINDOW_BITS..=15).contains(&window_bits) {
            return None;
        }
        let effort = Compression::new(u32::from(level).clamp(1, 9));
        Some(Compressor { compress: Compress::new_with_window_bits(effort, false, window_bits), level, window_bits })
    }

    /// Appends `payload`, compressed, to `out` (RFC 7692 7.2.1); `false` if that takes more than `budget` bytes. Then
    /// what was appended is of no use, and the compressor neither before it is reset.
    pub(super) fn run(&mut self, payload: &[u8], out: &mut Vec<u8>, budget: usize) -> bool {
        // RFC 7692 7.2.3.6: an empty message is one byte. There is nothing for a flush to flush.
        if payload.is_empty() {
            out.push(0x00);
            return budget > 0;
        }
        let start = out.len();
        let mut rest = payload;
        loop {
            out.reserve((rest.len() / 2).clamp(MIN_ROOM, MAX_ROOM));
            let (room, before) = (out.capacity() - out.len(), out.len());
            let taken = self.compress.total_in();
            let Ok(status) = self.compress.compress_vec(rest, out, FlushCompress::Sync) else { return false };
            let taken = (self.compress.total_in() - taken) as usize;
            rest = rest.get(taken..).unwrap_or_default();
            let made = out.len() - before;
            if made < room && (rest.is_empty() || taken == 0) {
                break;
            }
            if status == Status::StreamEnd || out.len() - start > budget.saturating_add(TAIL.len()) {
                return false;
            }
        }
        // RFC 7692 7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end."
        let end = out.len().saturating_sub(TAIL.len());
        if !rest.is_empty() || end < start || out.get(end..) != Some(&TAIL) {
            return false;
        }
        out.truncate(end);
        end - start <= budget
    }
}
