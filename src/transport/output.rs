//! The output of one drive of one connection, gathered so that it leaves in one write.

use std::io::{self, IoSlice, Write};
use std::ops::Range;
use std::sync::Arc;

use crate::protocol::frame::{FrameHeader, Opcode};
#[cfg(feature = "serde_json")]
use crate::protocol::frame_in_place::FrameInPlace;
use crate::protocol::mask::MaskingKey;
use crate::protocol::message::Assembled;
use crate::protocol::{Role, frame};
use crate::transport::buffer::{BufferPool, Input};
use crate::transport::chunk::Chunk;
use crate::transport::lent::Lent;
use crate::transport::masking_keys::MaskingKeys;
use crate::transport::pending::{MAX_SLICES, Pending};
use crate::transport::shared_bytes::SharedBytes;
use crate::transport::stream::attempt::{Io, attempt};

/// A payload of at least 16 KiB is sent from where it lies, if that memory lasts until the write. A smaller one is
/// copied, which costs less than another slice of a vectored write.
pub(crate) const MIN_LENT_SIZE: usize = 16 << 10;

/// A shared frame of less than 1 KiB is copied, which costs less than to count its references, or to queue it apart.
pub(crate) const MIN_SHARED_SIZE: usize = 1 << 10;

/// A cork of more than 256 KiB is given back after the write. Larger keeps more memory on each thread; smaller
/// allocates for each large message.
const MAX_CORK_SIZE: usize = 256 << 10;

/// At most 16 KiB are held for one connection, so that the output of a group stays in a core's cache.
const MAX_HELD_SIZE: usize = 16 << 10;

/// The output of a thread: filled for one connection, flushed or held, filled for the next.
#[derive(Debug, Default)]
pub(crate) struct Output {
    cork: Cork,
    /// Everything before the cork's tail, in order. Empty when the cork is all there is.
    segments: Vec<Segment>,
    /// The bytes of the segments that are not in the cork.
    apart: usize,
    /// The input being decoded, and the message being delivered: see [`loan`](super::loan).
    input: Lent,
    assembled: Lent,
    pub(crate) pool: BufferPool,
    keys: MaskingKeys,
}

/// Headers, and payloads that are cheaper to copy than to point at.
#[derive(Debug, Default)]
struct Cork {
    bytes: Vec<u8>,
    /// Where the bytes of the current connection begin. Those before are held for other connections.
    start: usize,
    /// Where the tail begins, which is in no segment yet.
    tail: usize,
}

#[derive(Debug)]
enum Segment {
    Cork(Range<usize>),
    Input(Range<usize>),
    Assembled(Range<usize>),
    Chunk(Chunk),
}

impl Output {
    /// An output whose pool is made for messages of at most `max_message_size` bytes.
    pub(crate) fn new(max_message_size: usize) -> Output {
        Output { pool: BufferPool::for_messages(max_message_size), ..Output::default() }
    }

    /// Bytes that wait for [`flush`](Output::flush).
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.apart + self.cork.bytes.len() - self.cork.start
    }

    /// The cork, to encode into.
    #[inline]
    pub(crate) fn cork(&mut self) -> &mut Vec<u8> {
        &mut self.cork.bytes
    }

    /// The key for the next frame of an endpoint in this role.
    #[inline]
    pub(crate) fn key(&mut self, role: Role) -> Option<MaskingKey> {
        match role {
            Role::Server => None,
            Role::Client => Some(self.keys.next_key()),
        }
    }

    /// Appends a whole frame.
    #[inline(always)]
    pub(crate) fn push_frame(&mut self, role: Role, opcode: Opcode, payload: &[u8]) {
        if role == Role::Server && payload.len() < MIN_LENT_SIZE {
            return frame::encode_short(&mut self.cork.bytes, opcode, payload);
        }
        self.push_any_frame(role, opcode, payload);
    }

    /// A server's frame with a payload of at least [`MIN_LENT_SIZE`], or any of a client's.
    #[inline(never)]
    fn push_any_frame(&mut self, role: Role, opcode: Opcode, payload: &[u8]) {
        match self.key(role) {
            None => self.push_unmasked(FrameHeader::new(opcode, payload.len() as u64, None), payload),
            // A masked payload is a copy.
            key => frame::encode(&mut self.cork.bytes, opcode, payload, key),
        }
    }

    /// Appends a frame with a payload of at least [`MIN_LENT_SIZE`], without a copy if the payload is in lent memory.
    fn push_unmasked(&mut self, header: FrameHeader, payload: &[u8]) {
        header.encode(&mut self.cork.bytes);
        if !self.push_if_lent(payload) {
            self.cork.bytes.extend_from_slice(payload);
        }
    }

    /// Appends at least [`MIN_LENT_SIZE`] bytes without a copy, if they are in lent memory; `false` if they are not.
    pub(crate) fn push_if_lent(&mut self, bytes: &[u8]) -> bool {
        if let Some(range) = self.input.position(bytes) {
            self.push_segment(Segment::Input(range));
        } else if let Some(range) = self.assembled.position(bytes) {
            self.push_segment(Segment::Assembled(range));
        } else {
            return false;
        }
        true
    }

    /// The place of `bytes` in the input that is lent; `None` if they are not in it.
    pub(crate) fn position_in_input(&self, bytes: &[u8]) -> Option<Range<usize>> {
        self.input.position(bytes)
    }

    /// Appends a whole frame whose payload `write` appends to the cork; nothing if that fails.
    #[cfg(feature = "serde_json")]
    pub(crate) fn push_written<E>(
        &mut self,
        role: Role,
        opcode: Opcode,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let key = self.key(role);
        let mut frame = FrameInPlace::begin(&mut self.cork.bytes, key);
        write(frame.payload())?;
        frame.finish(opcode);
        Ok(())
    }

    /// Appends a whole frame whose payload is compressed.
    pub(crate) fn push_compressed(&mut self, role: Role, opcode: Opcode, payload: &[u8]) {
        let key = self.key(role);
        frame::encode_compressed(&mut self.cork.bytes, opcode, payload, key);
    }

    /// Appends a frame that other connections send as well.
    #[inline]
    pub(crate) fn push_shared(&mut self, frame: &SharedBytes) {
        if frame.len() < MIN_SHARED_SIZE {
            self.cork.bytes.extend_from_slice(frame);
        } else {
            self.push_segment(Segment::Chunk(Chunk::shared(frame.clone())));
        }
    }

    /// Appends bytes that are owned.
    pub(crate) fn push_chunk(&mut self, chunk: Chunk) {
        if chunk.as_slice().len() < MIN_LENT_SIZE {
            self.cork.bytes.extend_from_slice(chunk.as_slice());
            chunk.recycle(&mut self.pool);
        } else {
            self.push_segment(Segment::Chunk(chunk));
        }
    }

    fn push_segment(&mut self, segment: Segment) {
        self.push_tail();
        self.apart += match &segment {
            Segment::Cork(_) => 0,
            Segment::Input(range) | Segment::Assembled(range) => range.len(),
            Segment::Chunk(chunk) => chunk.as_slice().len(),
        };
        self.segments.push(segment);
    }

    /// Makes the cork's tail a segment.
    fn push_tail(&mut self) {
        let end = self.cork.bytes.len();
        if self.cork.tail < end {
            self.segments.push(Segment::Cork(self.cork.tail..end));
            self.cork.tail = end;
        }
    }

    /// See [`InputLoan`](super::loan::InputLoan).
    #[inline(always)]
    pub(super) fn begin_input_loan(&mut self, input: &Input) {
        self.input = Lent::new(input.as_slice());
    }

    /// See [`InputLoan`](super::loan::InputLoan).
    #[inline(always)]
    pub(super) fn end_input_loan(&mut self) {
        self.input = Lent::default();
    }

    /// See [`AssembledLoan`](super::loan::AssembledLoan).
    pub(super) fn begin_assembled_loan(&mut self, message: &Assembled) {
        self.assembled = Lent::new(message.as_bytes());
    }

    /// Takes over the buffer of a message that was lent: moves the parts that are sent into the output, or keeps the
    /// buffer for reuse. See [`AssembledLoan`](super::loan::AssembledLoan).
    pub(super) fn end_assembled_loan(&mut self, message: Assembled) {
        self.assembled = Lent::default();
        let mut uses = self.segments.iter_mut().filter(|segment| matches!(segment, Segment::Assembled(_)));
        let (Some(first), second) = (uses.next(), uses.next()) else {
            return self.pool.give(message.into_buffer());
        };
        match second {
            None => {
                if let Segment::Assembled(range) = first {
                    let (start, end) = (range.start, range.end);
                    *first = Segment::Chunk(Chunk::owned(message.into_buffer(), start, end));
                }
            }
            // Sent more than once: one copy that all of them share.
            Some(_) => {
                let bytes: Arc<[u8]> = message.as_bytes().into();
                for segment in &mut self.segments {
                    if let Segment::Assembled(range) = segment {
                        *segment = Segment::Chunk(Chunk::part(bytes.clone(), range.clone()));
                    }
                }
                self.pool.give(message.into_buffer());
            }
        }
    }

    /// Writes everything, in one call if the stream takes it. The rest is appended to `pending`. `input` is the buffer
    /// that was lent. Returns how many bytes the stream took.
    pub(crate) fn flush(
        &mut self,
        stream: &mut impl Write,
        pending: &mut Option<Box<Pending>>,
        input: &[u8],
    ) -> io::Result<usize> {
        let mut written = 0;
        let mut result = Ok(());
        // A connection with pending bytes has a full socket: the poll reports when there is room.
        if pending.as_ref().is_none_or(|pending| pending.may_be_passed()) && self.len() > 0 {
            (written, result) = self.write(stream, input);
        }
        if written < self.len() && result.is_ok() {
            self.keep_rest(written, pending.get_or_insert_default(), input);
        }
        self.clear();
        result.map(|()| written)
    }

    /// Holds the output of this connection until [`take_held`](Output::take_held), and returns its range in that.
    /// `None` if there is no output, or a lot of it, or if some of it is not in the cork.
    #[inline]
    pub(crate) fn hold(&mut self) -> Option<Range<usize>> {
        let held = self.cork.start..self.cork.bytes.len();
        if !self.segments.is_empty() || !(1..=MAX_HELD_SIZE).contains(&held.len()) {
            return None;
        }
        (self.cork.start, self.cork.tail) = (held.end, held.end);
        Some(held)
    }

    /// Takes the output that is held, between two connections. It must be [given back](Output::give_back) once it is
    /// written.
    pub(crate) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.cork).bytes
    }

    /// Takes back the memory of the output that was held.
    pub(crate) fn give_back(&mut self, held: Vec<u8>) {
        self.cork.bytes = held;
        self.clear();
    }

    fn write(&mut self, stream: &mut impl Write, input: &[u8]) -> (usize, io::Result<()>) {
        if self.segments.is_empty() {
            return outcome(attempt(|| stream.write(&self.cork.bytes[self.cork.start..])), 0);
        }
        self.write_segments(stream, input)
    }

    #[inline(never)]
    fn write_segments(&mut self, stream: &mut impl Write, input: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        self.push_tail();
        if let [segment] = &self.segments[..] {
            let bytes = bytes_of(segment, &self.cork.bytes, input);
            return outcome(attempt(|| stream.write(bytes)), 0);
        }
        for group in self.segments.chunks(MAX_SLICES) {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut offered = 0;
            for (slice, segment) in slices.iter_mut().zip(group) {
                let bytes = bytes_of(segment, &self.cork.bytes, input);
                offered += bytes.len();
                *slice = IoSlice::new(bytes);
            }
            let before = written;
            let result;
            (written, result) = outcome(attempt(|| stream.write_vectored(&slices[..group.len()])), written);
            if result.is_err() || written - before < offered {
                return (written, result);
            }
        }
        (written, Ok(()))
    }

    /// Moves everything after the first `written` bytes to `pending`.
    #[inline(never)]
    fn keep_rest(&mut self, mut written: usize, pending: &mut Pending, input: &[u8]) {
        self.push_tail();
        for segment in self.segments.drain(..) {
            let len = bytes_of(&segment, &self.cork.bytes, input).len();
            let skipped = written.min(len);
            written -= skipped;
            if skipped == len {
                if let Segment::Chunk(chunk) = segment {
                    chunk.recycle(&mut self.pool);
                }
                continue;
            }
            match segment {
                // A small chunk would cost more memory in the queue than a copy of its bytes.
                Segment::Chunk(mut chunk) if len >= MIN_SHARED_SIZE => {
                    chunk.advance(skipped);
                    pending.push(chunk);
                }
                other => pending.push_bytes(&bytes_of(&other, &self.cork.bytes, input)[skipped..]),
            }
        }
    }

    /// Discards the output if some of it is in lent memory, which is gone after a panic. Otherwise it is whole frames.
    pub(crate) fn discard_lent(&mut self) {
        if self.segments.iter().any(|segment| matches!(segment, Segment::Input(_) | Segment::Assembled(_))) {
            self.clear();
        }
    }

    /// Discards the output that was not flushed, and the references to lent memory.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.segments.is_empty() {
            self.clear_segments();
        }
        let Cork { bytes, start, tail } = &mut self.cork;
        bytes.truncate(*start);
        if *start == 0 && bytes.capacity() > MAX_CORK_SIZE {
            bytes.shrink_to(MAX_CORK_SIZE);
        }
        *tail = *start;
        self.apart = 0;
        (self.input, self.assembled) = (Lent::default(), Lent::default());
    }

    #[inline(never)]
    fn clear_segments(&mut self) {
        while let Some(segment) = self.segments.pop() {
            if let Segment::Chunk(chunk) = segment {
                chunk.recycle(&mut self.pool);
            }
        }
    }
}

fn bytes_of<'a>(segment: &'a Segment, cork: &'a [u8], input: &'a [u8]) -> &'a [u8] {
    match segment {
        Segment::Cork(range) => &cork[range.clone()],
        Segment::Input(range) => &input[range.clone()],
        // The loan of a message ends before the flush, and makes this a chunk.
        Segment::Assembled(_) => &[],
        Segment::Chunk(chunk) => chunk.as_slice(),
    }
}

pub(crate) fn outcome(io: Io, before: usize) -> (usize, io::Result<()>) {
    match io {
        Io::Done(size) => (before + size, Ok(())),
        Io::WouldBlock => (before, Ok(())),
        Io::End => (before, Err(io::ErrorKind::WriteZero.into())),
        Io::Failed(error) => (before, Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::loan::{AssembledLoan, HoldsOutput, InputLoan};

    /// A stream that takes at most `room` bytes a call and `total` in all.
    struct Narrow {
        got: Vec<u8>,
        room: usize,
        total: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let size = bytes.len().min(self.room).min(self.total - self.got.len());
            self.got.extend_from_slice(&bytes[..size]);
            if size == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(size) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl HoldsOutput for Output {
        fn output(&mut self) -> &mut Output {
            self
        }
    }

    fn send(output: &mut Output, expected: &mut Vec<u8>, payload: &[u8]) {
        output.push_frame(Role::Server, Opcode::Binary, payload);
        frame::encode(expected, Opcode::Binary, payload, None);
    }

    fn fill(output: &mut Output, input: &Input, message: Assembled) -> Vec<u8> {
        let mut expected = Vec::new();
        let mut lent = InputLoan::new(output, input);
        send(&mut lent, &mut expected, b"one");
        send(&mut lent, &mut expected, &input.as_slice()[5..20_000]);
        send(&mut lent, &mut expected, b"two");
        drop(lent);
        let mut lent = AssembledLoan::new(output, message);
        let (owner, message) = lent.parts();
        send(owner, &mut expected, message.as_bytes());
        drop(lent);
        output.push_shared(&vec![9; 30_000].into());
        output.push_shared(&vec![8; 30].into());
        expected.extend_from_slice(&[9; 30_000]);
        expected.extend_from_slice(&[8; 30]);
        assert_eq!(output.len(), expected.len());
        expected
    }

    #[test]
    fn whole_frames_reach_the_peer_wherever_the_socket_fills() {
        let input = Input::holding((0..65_536_u32).map(|n| (n / 7) as u8).collect());
        let reversed: Vec<u8> = input.as_slice().iter().rev().copied().collect();
        let message = || Assembled { buffer: reversed.clone(), filled: 40_000, is_text: false };
        let mut probe = Output::default();
        let len = fill(&mut probe, &input, message()).len();
        for total in (0..len).step_by(997).chain([len - 1, len]) {
            let mut output = Output::default();
            let expected = fill(&mut output, &input, message());
            let mut stream = Narrow { got: Vec::new(), room: 10_000, total };
            let mut pending = None;
            output.flush(&mut stream, &mut pending, input.as_slice()).expect("no error");
            assert_eq!(output.len(), 0);
            output.cork().extend_from_slice(b"later");
            stream.total = usize::MAX;
            output.flush(&mut stream, &mut pending, input.as_slice()).expect("no error");
            while let Some(waiting) = pending.as_mut().filter(|waiting| waiting.len() > 0) {
                waiting.write_to(&mut stream, &mut output.pool).1.expect("no error");
            }
            let (before, after) = stream.got.split_at(expected.len());
            assert!(before == expected && after == b"later", "filled after {total}");
        }
    }

    /// A frame whose payload has `size` bytes lies in the input, and pieces of it are sent back, of which the socket
    /// takes `total` bytes at first.
    fn check_pieces(size: usize, pieces: &[(Opcode, Range<usize>)], total: usize) {
        let payload: Vec<u8> = (0..size).map(|n| (n / 3) as u8).collect();
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, Opcode::Binary, &payload, Some([0; 4]));
        let payload_start = bytes.len() - size;
        let input = Input::holding(bytes);
        let (mut output, mut expected) = (Output::default(), Vec::new());
        let mut lent = InputLoan::new(&mut output, &input);
        for (opcode, piece) in pieces {
            lent.push_frame(Role::Server, *opcode, &input.as_slice()[payload_start..][piece.clone()]);
            frame::encode(&mut expected, *opcode, &payload[piece.clone()], None);
        }
        drop(lent);
        assert_eq!(output.len(), expected.len());
        let mut stream = Narrow { got: Vec::new(), room: usize::MAX, total };
        let mut pending = None;
        output.flush(&mut stream, &mut pending, input.as_slice()).expect("no error");
        stream.total = usize::MAX;
        while let Some(waiting) = pending.as_mut().filter(|waiting| waiting.len() > 0) {
            waiting.write_to(&mut stream, &mut output.pool).1.expect("no error");
        }
        assert!(stream.got == expected, "{pieces:?} of {size}, full after {total}");
    }

    #[test]
    fn pieces_of_the_input_are_sent_as_they_are() {
        let whole = |size| (Opcode::Binary, 0..size);
        for (size, pieces) in [
            (20_000, vec![whole(20_000), (Opcode::Text, 0..20_000)]),
            (20_000, vec![(Opcode::Text, 0..3), whole(20_000)]),
            (90_000, vec![(Opcode::Text, 6..70_000), (Opcode::Text, 6..30_000), whole(90_000), whole(90_000)]),
            (90_000, vec![(Opcode::Text, 0..70_000), (Opcode::Text, 0..30_000), (Opcode::Text, 10..90_000)]),
            (90_000, vec![(Opcode::Text, 10..90_000), (Opcode::Text, 0..30_000), (Opcode::Text, 0..70_000)]),
        ] {
            for total in [3, 5_000, 30_000, usize::MAX] {
                check_pieces(size, &pieces, total);
            }
        }
    }

    #[test]
    fn a_payload_that_is_sent_after_its_loan_is_copied() {
        // Where a handler panics, the output is cleared before the loan ends.
        let clear_or_end: [fn(InputLoan<'_, Output>); 2] = [
            |lent| drop(lent),
            |mut lent| {
                lent.clear();
                std::mem::forget(lent);
            },
        ];
        for end in clear_or_end {
            let input = Input::holding(vec![7; 40_000]);
            let mut output = Output::default();
            end(InputLoan::new(&mut output, &input));
            output.push_frame(Role::Server, Opcode::Binary, input.as_slice());
            drop(input);
            let mut stream = Narrow { got: Vec::new(), room: usize::MAX, total: usize::MAX };
            output.flush(&mut stream, &mut None, &[]).expect("no error");
            assert!(stream.got.ends_with(&[7; 40_000]));
        }
    }

    #[test]
    fn a_loan_that_a_panic_ends_is_over() {
        let (mut output, message) = (Output::default(), Assembled { buffer: vec![7; 70_000], ..Assembled::default() });
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut lent = AssembledLoan::new(&mut output, message);
            let (output, message) = lent.parts();
            output.push_frame(Role::Server, Opcode::Binary, message.as_bytes());
            std::panic::resume_unwind(Box::new("a handler's panic"));
        }));
        assert!(panicked.is_err() && output.assembled.0.is_empty());
        output.clear();
        assert!(!output.pool.is_empty(), "its buffer serves again");
    }

    #[test]
    fn a_large_cork_is_given_back_after_the_write() {
        let mut output = Output::default();
        for size in [1_000, 4 << 20, 1_000] {
            output.cork().resize(size, 7);
            let mut stream = Narrow { got: Vec::new(), room: usize::MAX, total: usize::MAX };
            output.flush(&mut stream, &mut None, &[]).expect("no error");
            assert_eq!(stream.got.len(), size);
            assert!(output.cork().capacity() <= MAX_CORK_SIZE, "{} bytes are kept", output.cork().capacity());
        }
        assert!(output.cork().capacity() >= 1_000, "a small one serves again");
    }

    #[test]
    fn a_write_of_nothing_is_an_error() {
        struct Zero;
        impl Write for Zero {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Ok(0)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut output = Output::default();
        output.cork().push(1);
        let error = output.flush(&mut Zero, &mut None, &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
