//! Decompression with a limit on the size of the message.

use flate2::{Decompress, FlushDecompress, Status};

use crate::protocol::deflate::Sink;
use crate::protocol::error::ProtocolError;
use crate::protocol::message::Assembled;

/// The bytes that the receiver appends to the payload of a message (RFC 7692 7.2.2).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The buffer has room for at least 256 bytes when it is grown, unless the limit on the message is closer.
const MIN_ROOM: usize = 256;

/// At most 64 KiB are reserved for the estimated size of a message. Larger reserves more memory than a message may
/// need; smaller grows the buffer of a large message more often.
const MAX_GUESS: usize = 64 << 10;

/// The memory of a decompressor of zlib-rs.
const DECOMPRESS_SIZE: usize = 47_552;

/// A decompressor for a sequence of messages.
#[derive(Debug)]
pub(super) struct Inflater {
    decompress: Decompress,
    /// Nothing was read since the message began or since a deflate stream inside it ended.
    at_boundary: bool,
}

impl Inflater {
    /// Creates an inflater with the largest window. zlib allocates 32 KiB for any window, so that a smaller one would
    /// save nothing, and the result for a peer that exceeds its window would depend on how its bytes arrive.
    pub(super) fn new() -> Inflater {
        Inflater { decompress: Decompress::new(false), at_boundary: true }
    }

    /// Creates an inflater for messages that may refer to `window`; `None` if zlib refuses it.
    #[cfg(all(target_os = "linux", feature = "handover"))]
    pub(super) fn with_window(window: &[u8]) -> Option<Inflater> {
        let mut inflater = Inflater::new();
        inflater.decompress.set_dictionary(window).ok()?;
        Some(inflater)
    }

    /// Returns the bytes of memory that this takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Inflater>() + DECOMPRESS_SIZE
    }

    /// Begins a message that may refer to the messages before it.
    pub(super) fn begin(&mut self) {
        self.at_boundary = true;
    }

    /// Clears the window.
    pub(super) fn reset(&mut self) {
        self.decompress.reset(false);
        self.at_boundary = true;
    }

    /// Decompresses a piece of the payload, or the front of it that fills the sink. Returns how many bytes were taken.
    /// After an error the inflater must be dropped.
    pub(super) fn inflate(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<usize, ProtocolError> {
        self.at_boundary &= piece.is_empty();
        let mut rest = piece;
        while !rest.is_empty() {
            let (taken, status) = self.step(rest, sink)?;
            rest = rest.get(taken..).unwrap_or_default();
            match status {
                // RFC 7692 7.2.3.4: a block with BFINAL ends a deflate stream, not the message. The next stream begins
                // on the next byte, with an empty window.
                Status::StreamEnd => {
                    self.decompress.reset(false);
                    self.at_boundary = rest.is_empty();
                }
                Status::Ok | Status::BufError => {}
            }
            if sink.is_full() {
                break;
            }
        }
        Ok(piece.len() - rest.len())
    }

    /// Ends the message.
    pub(super) fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), ProtocolError> {
        // No block is open if nothing was read or if the last block ended its stream.
        if !self.at_boundary {
            self.inflate(&TAIL, sink)?;
        }
        Ok(())
    }

    /// Decompresses until all input is taken and all output is in the sink, until the sink is full, or until the deflate
    /// stream ends.
    fn step(&mut self, piece: &[u8], sink: &mut Sink<'_>) -> Result<(usize, Status), ProtocolError> {
        let limit = sink.room_in_limit();
        let mut taken = 0;
        loop {
            let rest = piece.get(taken..).unwrap_or_default();
            let filled = sink.message.filled;
            let max_size = sink.max_size();
            let room = sink.message.room(rest.len(), max_size);
            let size = room.len();
            let (read, made) = (self.decompress.total_in(), self.decompress.total_out());
            let result = self.decompress.decompress(rest, room, FlushDecompress::None);
            let read = (self.decompress.total_in() - read) as usize;
            let made = (self.decompress.total_out() - made) as usize;
            taken += read;
            // Output before an error is checked before the error, so that the result does not depend on the pieces.
            let counted = made.min(limit.saturating_sub(filled));
            if let (Some(utf8), Some(text)) = (&mut sink.utf8, room.get(..counted)) {
                utf8.feed(text)?;
            }
            sink.message.filled = filled + made;
            if made > counted {
                return Err(ProtocolError::MessageTooBig { size: sink.message_size(), limit: sink.limit });
            }
            match result {
                Err(_) => return Err(ProtocolError::InvalidDeflate),
                Ok(Status::StreamEnd) => return Ok((taken, Status::StreamEnd)),
                // If there is room left, the inflater has no more output.
                Ok(status) if taken == piece.len() && made < size => return Ok((taken, status)),
                Ok(_) if read == 0 && made == 0 => return Err(ProtocolError::InvalidDeflate),
                Ok(status) if taken < piece.len() && sink.is_full() => return Ok((taken, status)),
                Ok(_) => {}
            }
        }
    }
}

impl Assembled {
    /// Returns room after the message for the decompressed form of `input` bytes. The message does not exceed `budget`,
    /// and the room has at least one byte unless `budget` is reached.
    fn room(&mut self, input: usize, budget: usize) -> &mut [u8] {
        if self.filled == self.buffer.len() {
            // Grows by at least the size of the message, so that a message is moved rarely and fills at least half of
            // its buffer once it is larger than the estimate.
            let guess = input.saturating_mul(4).clamp(MIN_ROOM, MAX_GUESS);
            let step = guess.max(self.filled).min(budget.saturating_sub(self.filled));
            self.buffer.reserve_exact(step);
            self.buffer.resize(self.filled + step, 0);
        }
        let end = self.buffer.len().min(budget);
        self.buffer.get_mut(self.filled..end).unwrap_or_default()
    }
}
