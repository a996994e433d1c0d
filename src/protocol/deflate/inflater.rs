//! Inflating within a budget.

use flate2::{Decompress, FlushDecompress, Status};

use crate::protocol::deflate::Sink;
use crate::protocol::error::ProtocolError;
use crate::protocol::message::Assembled;

/// RFC 7692 7.2.2: the receiver appends this to the payload of a message.
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The least room that inflated bytes are given.
const MIN_ROOM: usize = 256;

/// The most room that is made for bytes that are only guessed at.
const MAX_GUESS: usize = 64 << 10;

/// A decompressor that knows where messages begin.
#[derive(Debug)]
pub(super) struct Inflater {
    decompress: Decompress,
    /// Nothing was read since the beginning of the message or the end of a deflate stream inside it.
    at_boundary: bool,
}

impl Inflater {
    /// An inflater for any window: zlib keeps 32 KiB whatever was agreed on, so that a smaller window would save nothing
    /// and only make the outcome for a peer that breaks the agreement depend on how its bytes arrive.
    pub(super) fn new() -> Inflater {
        Inflater { decompress: Decompress::new(false), at_boundary: true }
    }

    /// Begins a message that may refer to the ones before.
    pub(super) fn begin(&mut self) {
        self.at_boundary = true;
    }

    /// Forgets the messages before.
    pub(super) fn reset(&mut self) {
        self.decompress.reset(false);
        self.at_boundary = true;
    }

    /// Inflates a piece of the payload. What follows a failure is undefined: the inflater is to be dropped.
    pub(super) fn inflate(&mut self, mut piece: &[u8], sink: &mut Sink<'_>) -> Result<(), ProtocolError> {
        self.at_boundary &= piece.is_empty();
        while !piece.is_empty() {
            let (taken, status) = self.step(piece, sink)?;
            piece = piece.get(taken..).unwrap_or_default();
            match status {
                // RFC 7692 7.2.3.4: a block with BFINAL set ends a deflate stream, not the message. What follows is
                // another one, which begins on the next byte and, as everywhere, with an empty window.
                Status::StreamEnd => {
                    self.decompress.reset(false);
                    self.at_boundary = piece.is_empty();
                }
                Status::Ok | Status::BufError => {}
            }
        }
        Ok(())
    }

    /// Ends the message.
    pub(super) fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), ProtocolError> {
        // There is no block to be ended where nothing is, or where the last one ended its stream.
        if self.at_boundary { Ok(()) } else { self.inflate(&TAIL, sink) }
    }

    /// Inflates until the input is taken and all that it stands for is in the sink, or until its stream ends.
    fn step(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(usize, Status), ProtocolError> {
        let limit = usize::try_from(sink.limit).unwrap_or(usize::MAX);
        let mut taken = 0;
        loop {
            let rest = piece.get(taken..).unwrap_or_default();
            // One byte more than the limit, so that a message of exactly that size is told from a larger one.
            let filled = sink.message.filled;
            let room = sink.message.room(rest.len(), limit.saturating_add(1));
            let size = room.len();
            let (read, made) = (self.decompress.total_in(), self.decompress.total_out());
            let result = self.decompress.decompress(rest, room, FlushDecompress::None);
            let read = (self.decompress.total_in() - read) as usize;
            let made = (self.decompress.total_out() - made) as usize;
            taken += read;
            // What came before an error counts before it, so that the outcome does not depend on the pieces.
            let counted = made.min(limit.saturating_sub(filled));
            if let (Some(utf8), Some(text)) = (&mut sink.utf8, room.get(..counted)) {
                utf8.feed(text)?;
            }
            sink.message.filled = filled + made;
            if made > counted {
                return Err(ProtocolError::MessageTooBig { size: sink.message.filled as u64, limit: sink.limit });
            }
            match result {
                Err(_) => return Err(ProtocolError::InvalidDeflate),
                Ok(Status::StreamEnd) => return Ok((taken, Status::StreamEnd)),
                // Where there is room left, the inflater has nothing more to say.
                Ok(status) if taken == piece.len() && made < size => return Ok((taken, status)),
                Ok(_) if read == 0 && made == 0 => return Err(ProtocolError::InvalidDeflate),
                Ok(_) => {}
            }
        }
    }
}

impl Assembled {
    /// Room behind the message for what `input` bytes may inflate to, at least a byte, as long as the message is
    /// smaller than `budget`, which it will not exceed.
    fn room(&mut self, input: usize, budget: usize) -> &mut [u8] {
        if self.filled == self.buffer.len() {
            // Grows by what was inflated, so that it is at most twice the message, and a small one is not moved about.
            let guess = input.saturating_mul(4).clamp(MIN_ROOM, MAX_GUESS);
            let step = guess.max(self.filled).min(budget.saturating_sub(self.filled));
            self.buffer.reserve_exact(step);
            self.buffer.resize(self.filled + step, 0);
        }
        let end = self.buffer.len().min(budget);
        self.buffer.get_mut(self.filled..end).unwrap_or_default()
    }
}
