//! The compressor and decompressor that the connections of a thread share.

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::protocol::deflate::inflater::{Inflater, TAIL};
use crate::protocol::deflate::negotiation::MIN_WINDOW_BITS;
use crate::protocol::fragment::Fragment;
use crate::protocol::outgoing::Last;

/// The buffer has room for at least 64 bytes in each step of the compressor, which is more than a flush needs.
const MIN_ROOM: usize = 64;

/// The buffer grows by at most 64 KiB for each step of the compressor. Larger may reserve memory that a message which
/// compresses well does not use; smaller adds steps.
const MAX_ROOM: usize = 64 << 10;

/// [`Codec::shed`] keeps a buffer of at most 256 KiB. Larger keeps more memory; smaller allocates more often.
const MAX_KEPT_SIZE: usize = 256 << 10;

/// A compressed byte is counted as 64 inflated ones, so that the work for a number of counted bytes is bounded whatever
/// the data are. Smaller lets data that inflate to nothing take longer: a block header with codes of its own takes 90 ns
/// for each of its bytes, and a stream of two bytes, after which the inflater is reset, 60 ns; an inflated byte of text
/// takes 2 ns. Larger serves connections with common data in shorter turns.
const WORK_PER_COMPRESSED_BYTE: u64 = 64;

/// The last 4 KiB that were sent are kept when the compressor is freed, so that the next message can refer to them.
/// Larger keeps more memory per connection; smaller makes messages after a pause compress worse.
const MAX_RECENT_SIZE: usize = 4 << 10;

/// The memory of a compressor of zlib-rs beside its window, which takes four bytes for each byte that it spans.
const FIXED_SIZE: usize = 248_960;

/// The memory for compression that the connections of a thread share: 418 KiB if both directions are in use.
///
/// It is allocated when the first message needs it, and freed by [`trim`](Codec::trim).
///
/// ```
/// use std::cell::RefCell;
/// use threadbare::protocol::deflate::Codec;
///
/// thread_local! {
///     static CODEC: RefCell<Codec> = const { RefCell::new(Codec::new()) }; // for all connections of the thread
/// }
/// assert!(CODEC.with_borrow(Codec::is_empty)); // no memory is allocated yet
/// ```
#[derive(Debug, Default)]
pub struct Codec {
    shared: Option<Box<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    compressor: Option<Compressor>,
    inflater: Option<Box<Inflater>>,
    compressed: Vec<u8>,
    /// For the next fragment of a compressed message.
    inflated: Vec<u8>,
    work: u64,
    used: bool,
}

impl Codec {
    /// Creates a codec without allocating memory.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// assert!(Codec::new().is_empty());
    /// ```
    #[must_use]
    pub const fn new() -> Codec {
        Codec { shared: None }
    }

    /// Compresses a message once for several connections: those with
    /// [`shared_window_bits`](super::super::Connection::shared_window_bits) of at least `window_bits`. Returns `None`
    /// if the message does not get smaller.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// let mut codec = Codec::new();
    /// let page = "the same line\n".repeat(100);
    /// let compressed = codec.compress(page.as_bytes(), 1, 15).expect("it gets smaller");
    /// assert!(compressed.len() < 100);
    /// assert_eq!(codec.compress(b"?", 1, 15), None); // it would get longer
    /// ```
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
        // zlib-rs 0.6.8: `reset` of a compressor that was left in the middle does not make it as new. The next message,
        // of any connection, would be garbage, or the compressor would panic. So it is dropped, here and in `Sent`.
        shared.compressor = compressor.is_clean.then_some(compressor);
        smaller.then_some(&shared.compressed)
    }

    /// Compresses a message that may refer to the messages sent before it.
    pub(super) fn compress_behind(&mut self, sent: &mut Sent, payload: &[u8]) -> Option<&[u8]> {
        let compressed = &mut self.shared().compressed;
        compressed.clear();
        sent.compress(payload, compressed).then_some(compressed)
    }

    /// Compresses a fragment of a message that is sent in parts with the compressor of its connection. Each ends at a whole
    /// byte, and RFC 7692 7.2.1 has the last alone lose its tail.
    pub(super) fn compress_fragment(&mut self, sent: &mut Sent, payload: &[u8], last: Last) -> Option<&[u8]> {
        let shared = self.shared();
        let compressed = &mut shared.compressed;
        compressed.clear();
        if !sent.compress(payload, compressed) {
            return None;
        }
        shared.work = shared.work.saturating_add(payload.len() as u64);
        if last == Last::No {
            compressed.extend_from_slice(&TAIL);
        }
        Some(compressed)
    }

    /// Returns an inflater without a window.
    pub(super) fn take_inflater(&mut self) -> Box<Inflater> {
        match self.shared().inflater.take() {
            Some(mut inflater) => {
                inflater.reset();
                inflater
            }
            None => Box::new(Inflater::new()),
        }
    }

    /// Takes back an inflater for the next message. An inflater that has failed must be dropped instead.
    pub(super) fn give_inflater(&mut self, inflater: Box<Inflater>) {
        self.shared().inflater = Some(inflater);
    }

    /// Returns a buffer to decompress a fragment into.
    pub(in crate::protocol) fn take_fragment_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.shared().inflated)
    }

    /// Takes back the buffer of a fragment. A larger one is kept.
    pub(in crate::protocol) fn give_fragment_buffer(&mut self, buffer: Vec<u8>) {
        let kept = &mut self.shared().inflated;
        if (kept.capacity() + 1..=MAX_KEPT_SIZE).contains(&buffer.capacity()) {
            *kept = buffer;
        }
    }

    /// Takes the memory of a fragment for the next one that is decompressed, after the application has seen it. A caller
    /// that keeps the fragment, or drops it, has the next one take new memory.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    /// use threadbare::protocol::{Connection, Received, Role};
    ///
    /// let mut codec = Codec::new();
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// client.deliver_fragments(None);
    /// let mut input = *b"\x81\x02hi";
    /// let (_size, received) = client.receive_with(&mut input, &mut codec)?;
    /// if let Received::OwnFragment(fragment) = received {
    ///     println!("{} bytes were decompressed", fragment.len());
    ///     codec.reuse(fragment);
    /// }
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    pub fn reuse(&mut self, fragment: Fragment) {
        self.give_fragment_buffer(fragment.into_bytes());
    }

    /// Adds the work for compressed bytes, and for what they were decompressed to.
    pub(super) fn count(&mut self, compressed: u64, inflated: u64) {
        let work = compressed.saturating_mul(WORK_PER_COMPRESSED_BYTE).saturating_add(inflated);
        let shared = self.shared();
        shared.work = shared.work.saturating_add(work);
    }

    /// Returns the work of decompression since the last call, in decompressed bytes, and that of compressing fragments. A
    /// compressed byte counts as 64 more, because it may take as long even if it decompresses to nothing.
    ///
    /// A server that limits the work for one connection at a time has to count this: a received byte can decompress to a
    /// thousand bytes.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// let mut codec = Codec::new();
    /// // A server calls `Connection::receive_with` here, and serves another connection if this is large:
    /// assert_eq!(codec.take_work(), 0);
    /// ```
    pub fn take_work(&mut self) -> u64 {
        self.shared.as_mut().map_or(0, |shared| std::mem::take(&mut shared.work))
    }

    /// Returns whether there is no memory to [`trim`](Codec::trim).
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// let mut codec = Codec::new();
    /// assert!(codec.is_empty());
    /// codec.compress(&[0; 1000], 1, 15);
    /// assert!(!codec.is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.is_none()
    }

    /// Returns the bytes of memory that are allocated, as far as they are known.
    pub(crate) fn memory(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| {
            let compressor = shared.compressor.as_ref().map_or(0, Compressor::memory);
            let inflater = shared.inflater.as_ref().map_or(0, |inflater| inflater.memory());
            size_of::<Shared>() + compressor + inflater + shared.compressed.capacity() + shared.inflated.capacity()
        })
    }

    /// Frees the memory if nothing was compressed or decompressed since the last call.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    ///
    /// let mut codec = Codec::new();
    /// codec.compress(&[0; 1000], 1, 15);
    /// codec.trim(); // it was used since the last call
    /// assert!(!codec.is_empty());
    /// codec.trim();
    /// assert!(codec.is_empty());
    /// ```
    pub fn trim(&mut self) {
        self.shared.take_if(|shared| !std::mem::take(&mut shared.used));
    }

    /// Frees a large buffer of a compressed message, for callers that do not call [`trim`](Codec::trim) periodically.
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

/// The compressor of a connection with context takeover, or the last bytes that it sent.
#[derive(Debug)]
pub(super) struct Sent {
    level: u8,
    window_bits: u8,
    /// A message was compressed since the last call of `trim`.
    used: bool,
    compressor: Option<Compressor>,
    /// The last bytes that were sent, uncompressed: the dictionary of the next compressor.
    recent: Vec<u8>,
}

impl Sent {
    pub(super) fn new(compressor: Compressor) -> Sent {
        let (level, window_bits) = (compressor.level, compressor.window_bits);
        Sent { level, window_bits, used: false, compressor: Some(compressor), recent: Vec::new() }
    }

    /// Appends the compressed `payload` to `out`. Returns `false` on failure, after which this must be dropped.
    fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(mut compressor) = self.compressor.take().or_else(|| self.resume()) else { return false };
        let done = compressor.run(payload, out, usize::MAX);
        self.compressor = compressor.is_clean.then_some(compressor);
        self.used = true;
        self.note(payload);
        done
    }

    /// Creates a compressor whose dictionary is the last bytes that were sent.
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

    /// Returns the bytes of memory that this takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Sent>() + self.compressor.as_ref().map_or(0, Compressor::memory) + self.recent.capacity()
    }

    /// Returns whether there is a compressor.
    pub(super) fn keeps(&self) -> bool {
        self.compressor.is_some()
    }

    /// Frees the compressor if it was not used since the last call. Returns whether there still is one.
    pub(super) fn trim(&mut self) -> bool {
        if !std::mem::take(&mut self.used) {
            self.compressor = None;
            self.recent.shrink_to_fit();
        }
        self.keeps()
    }
}

/// A compressor with its level and window.
#[derive(Debug)]
pub(super) struct Compressor {
    compress: Compress,
    level: u8,
    window_bits: u8,
    /// Its last run took all input and gave out all output, also if that was more than the budget. It may be used or
    /// reset only then.
    is_clean: bool,
}

impl Compressor {
    /// Creates a compressor; `None` if zlib does not support the window.
    pub(super) fn new(level: u8, window_bits: u8) -> Option<Compressor> {
        if !(MIN_WINDOW_BITS..=15).contains(&window_bits) {
            return None;
        }
        let effort = Compression::new(u32::from(level).clamp(1, 9));
        let compress = Compress::new_with_window_bits(effort, false, window_bits);
        Some(Compressor { compress, level, window_bits, is_clean: true })
    }

    /// Returns the bytes of memory that zlib takes.
    fn memory(&self) -> usize {
        FIXED_SIZE + (4 << self.window_bits)
    }

    /// Appends the compressed `payload` to `out` (RFC 7692 7.2.1). Returns `false` if that takes more than `budget`
    /// bytes; the appended bytes must then be discarded, and the compressor must be reset before it is used again, or
    /// dropped if it is not clean.
    pub(super) fn run(&mut self, payload: &[u8], out: &mut Vec<u8>, budget: usize) -> bool {
        // RFC 7692 7.2.3.6: an empty message is compressed to one byte. The compressor has nothing to flush.
        if payload.is_empty() {
            out.push(0x00);
            return budget > 0;
        }
        let start = out.len();
        let mut rest = payload;
        self.is_clean = false;
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
        self.is_clean = true;
        out.truncate(end);
        end - start <= budget
    }
}
