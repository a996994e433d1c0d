//! What one readiness of one connection produces, gathered so that it leaves in one write.

use std::io::{self, IoSlice, Write};
use std::ops::Range;
use std::sync::Arc;

use crate::protocol::frame::{FrameHeader, Opcode};
use crate::protocol::mask::MaskingKey;
use crate::protocol::message::Assembled;
use crate::protocol::{Role, frame};
use crate::transport::buffer::BufferPool;
use crate::transport::chunk::Chunk;
use crate::transport::masking_keys::MaskingKeys;
use crate::transport::pending::{MAX_SLICES, Pending};
use crate::transport::stream::attempt::{Io, attempt};

/// Payloads of at least this size are written from where they lie, if that place lasts until the write.
const MIN_LENT_SIZE: usize = 16 << 10;

/// Smaller chunks are cheaper to copy than to share or to queue.
pub(crate) const MIN_SHARED_SIZE: usize = 1 << 10;

/// A cork that grew beyond this is given back after the write.
const MAX_CORK_SIZE: usize = 256 << 10;

/// What is held for a connection is at most this, so that what a few of them have to say stays in a core's cache.
const MAX_HELD_SIZE: usize = 16 << 10;

/// The output of a thread: filled for one connection, flushed or held, filled for the next.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Headers, and payloads that are cheaper to copy than to point at.
    cork: Vec<u8>,
    /// Where those of the connection at hand begin; before them lies what is held for others.
    start: usize,
    /// Where the bytes lie, in order; the cork behind `corked` comes last. Empty when the cork is all there is.
    segments: Vec<Segment>,
    corked: usize,
    /// Bytes that lie outside of the cork.
    apart: usize,
    /// The addresses of the buffer being decoded, and of the message being delivered.
    input: Range<usize>,
    assembled: Range<usize>,
    /// Where in the buffer being decoded the first frame begins.
    first_frame: usize,
    /// A header that is to be written into that buffer, in front of its payload, which is one of the segments, and where.
    header: Option<(FrameHeader, usize)>,
    pub(crate) pool: BufferPool,
    keys: MaskingKeys,
}

#[derive(Debug)]
enum Segment {
    Cork(Range<usize>),
    Input(Range<usize>),
    Assembled(Range<usize>),
    Chunk(Chunk),
}

impl Output {
    /// Bytes that wait for [`flush`](Output::flush).
    pub(crate) fn len(&self) -> usize {
        self.apart + self.cork.len() - self.start
    }

    /// The cork, for whoever encodes into it.
    pub(crate) fn cork(&mut self) -> &mut Vec<u8> {
        &mut self.cork
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
            return frame::encode_short(&mut self.cork, opcode, payload);
        }
        self.push_any_frame(role, opcode, payload);
    }

    /// A server's frame with a payload of at least [`MIN_LENT_SIZE`], or any of a client's.
    #[inline(never)]
    fn push_any_frame(&mut self, role: Role, opcode: Opcode, payload: &[u8]) {
        match self.key(role) {
            None => {
                let header = FrameHeader::new(opcode, payload.len() as u64, None);
                if !self.push_behind_own_header(header, payload) {
                    header.encode(&mut self.cork);
                    self.push_payload(payload);
                }
            }
            // What is masked is a copy.
            key => frame::encode(&mut self.cork, opcode, payload, key),
        }
    }

    /// Appends a whole frame whose payload is compressed.
    pub(crate) fn push_compressed(&mut self, role: Role, opcode: Opcode, payload: &[u8]) {
        let key = self.key(role);
        frame::encode_compressed(&mut self.cork, opcode, payload, key);
    }

    /// Says that `input` stays as it is until the flush, so that large payloads in it need no copy, until
    /// [`end_loan`](Output::end_loan). Its first frame begins at `first_frame`.
    pub(crate) fn lend_input(&mut self, input: &[u8], first_frame: usize) {
        self.input = addresses(input);
        self.first_frame = first_frame;
    }

    /// Says that nothing more is pushed from what was lent: others may soon have that memory.
    pub(crate) fn end_loan(&mut self) {
        self.input = 0..0;
    }

    /// Says that `message` comes to [`take_back`](Output::settle), so that it can be moved rather than copied.
    pub(crate) fn lend_assembled(&mut self, message: &Assembled) {
        self.assembled = addresses(message.as_bytes());
    }

    /// Appends a server's frame whose payload is that of the first frame in the input. Its header takes the place of the
    /// received one's, which is decoded and longer, so that one piece leaves; `false` if it is another payload.
    fn push_behind_own_header(&mut self, header: FrameHeader, payload: &[u8]) -> bool {
        if self.header.is_some() {
            return false;
        }
        // What a client sends is masked (RFC 6455 5.1) and its length has the shortest form (5.2): at this distance no
        // other payload of this length can lie.
        let received = FrameHeader { mask: Some([0; 4]), ..header };
        let start = self.first_frame + received.size();
        match within(&addresses(payload), &self.input) {
            Some(range) if range.start == start => {
                let front = start - header.size();
                self.header = Some((header, front));
                self.push_segment(Segment::Input(front..range.end));
                true
            }
            _ => false,
        }
    }

    /// Appends payload of at least [`MIN_LENT_SIZE`] behind its header, which is in the cork.
    fn push_payload(&mut self, payload: &[u8]) {
        let place = addresses(payload);
        if let Some(range) = within(&place, &self.input) {
            self.push_segment(Segment::Input(range));
        } else if let Some(range) = within(&place, &self.assembled) {
            self.push_segment(Segment::Assembled(range));
        } else {
            self.cork.extend_from_slice(payload);
        }
    }

    /// Appends a frame that other connections send as well.
    #[inline]
    pub(crate) fn push_shared(&mut self, frame: &Arc<[u8]>) {
        if frame.len() < MIN_SHARED_SIZE {
            self.cork.extend_from_slice(frame);
        } else {
            self.push_segment(Segment::Chunk(Chunk::shared(frame.clone())));
        }
    }

    /// Appends bytes that are owned.
    pub(crate) fn push_chunk(&mut self, chunk: Chunk) {
        if chunk.as_slice().len() < MIN_LENT_SIZE {
            self.cork.extend_from_slice(chunk.as_slice());
            chunk.recycle(&mut self.pool);
        } else {
            self.push_segment(Segment::Chunk(chunk));
        }
    }

    fn push_segment(&mut self, segment: Segment) {
        self.cork_tail();
        self.apart += match &segment {
            Segment::Cork(_) => 0,
            Segment::Input(range) | Segment::Assembled(range) => range.len(),
            Segment::Chunk(chunk) => chunk.as_slice().len(),
        };
        self.segments.push(segment);
    }

    /// Takes over a message that was lent: what is sent of it is moved into the output, or its buffer is kept.
    pub(crate) fn take_back(&mut self, message: Assembled) {
        self.assembled = 0..0;
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

    /// Writes everything, in one call if the socket takes it; what it does not take goes to `pending`, behind what is
    /// there. `input` is what was lent. Tells how many bytes went to the socket.
    pub(crate) fn flush(
        &mut self,
        stream: &mut impl Write,
        pending: &mut Option<Box<Pending>>,
        input: &mut [u8],
    ) -> io::Result<usize> {
        if !self.segments.is_empty() {
            self.place_header(input);
        }
        let mut written = 0;
        let mut result = Ok(());
        // A connection with bytes in its outbox has a full socket: it reports when there is room.
        if pending.as_ref().is_none_or(|pending| pending.len() == 0) && self.len() > 0 {
            (written, result) = self.write(stream, input);
        }
        if written < self.len() && result.is_ok() {
            self.keep_rest(written, pending.get_or_insert_default(), input);
        }
        self.clear();
        result.map(|()| written)
    }

    /// Writes the header that has its place in the input.
    #[inline(never)]
    fn place_header(&mut self, input: &mut [u8]) {
        if let Some((header, start)) = self.header.take() {
            let end = self.cork.len();
            header.encode(&mut self.cork);
            input[start..][..header.size()].copy_from_slice(&self.cork[end..]);
            self.cork.truncate(end);
        }
    }

    /// Holds what was gathered until [`take_held`](Output::take_held): where it lies then. `None` if there is nothing or
    /// much, or some of it lies elsewhere.
    #[inline]
    pub(crate) fn hold(&mut self) -> Option<Range<usize>> {
        let held = self.start..self.cork.len();
        if !self.segments.is_empty() || !(1..=MAX_HELD_SIZE).contains(&held.len()) {
            return None;
        }
        (self.start, self.corked) = (held.end, held.end);
        Some(held)
    }

    /// Takes what is held, between two connections, to be [given back](Output::give_back) when it is written.
    pub(crate) fn take_held(&mut self) -> Vec<u8> {
        (self.start, self.corked) = (0, 0);
        std::mem::take(&mut self.cork)
    }

    /// Takes the memory of what was held.
    pub(crate) fn give_back(&mut self, held: Vec<u8>) {
        self.cork = held;
        self.clear();
    }

    fn write(&mut self, stream: &mut impl Write, input: &[u8]) -> (usize, io::Result<()>) {
        if self.segments.is_empty() {
            return outcome(attempt(|| stream.write(&self.cork[self.start..])), 0);
        }
        self.write_segments(stream, input)
    }

    #[inline(never)]
    fn write_segments(&mut self, stream: &mut impl Write, input: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        self.cork_tail();
        if let [segment] = &self.segments[..] {
            let bytes = bytes_of(segment, &self.cork, input);
            return outcome(attempt(|| stream.write(bytes)), 0);
        }
        for group in self.segments.chunks(MAX_SLICES) {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut offered = 0;
            for (slice, segment) in slices.iter_mut().zip(group) {
                let bytes = bytes_of(segment, &self.cork, input);
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

    /// Moves everything behind the first `written` bytes to the outbox.
    #[inline(never)]
    fn keep_rest(&mut self, mut written: usize, pending: &mut Pending, input: &[u8]) {
        self.cork_tail();
        for segment in self.segments.drain(..) {
            let len = bytes_of(&segment, &self.cork, input).len();
            let skipped = written.min(len);
            written -= skipped;
            if skipped == len {
                if let Segment::Chunk(chunk) = segment {
                    chunk.recycle(&mut self.pool);
                }
                continue;
            }
            match segment {
                // In a queue that is long already a small chunk would cost more than its bytes.
                Segment::Chunk(mut chunk) if len >= MIN_SHARED_SIZE => {
                    chunk.advance(skipped);
                    pending.push(chunk);
                }
                other => pending.push_bytes(&bytes_of(&other, &self.cork, input)[skipped..]),
            }
        }
    }

    fn cork_tail(&mut self) {
        if self.corked < self.cork.len() {
            self.segments.push(Segment::Cork(self.corked..self.cork.len()));
            self.corked = self.cork.len();
        }
    }

    /// Forgets what was not flushed, and what was lent: the connection it was for is gone.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if !self.segments.is_empty() {
            self.clear_segments();
        }
        self.cork.truncate(self.start);
        if self.start == 0 && self.cork.capacity() > MAX_CORK_SIZE {
            self.cork.shrink_to(MAX_CORK_SIZE);
        }
        (self.corked, self.apart) = (self.start, 0);
        (self.input, self.assembled) = (0..0, 0..0);
    }

    #[inline(never)]
    fn clear_segments(&mut self) {
        while let Some(segment) = self.segments.pop() {
            if let Segment::Chunk(chunk) = segment {
                chunk.recycle(&mut self.pool);
            }
        }
        self.header = None;
    }
}

fn bytes_of<'a>(segment: &'a Segment, cork: &'a [u8], input: &'a [u8]) -> &'a [u8] {
    match segment {
        Segment::Cork(range) => &cork[range.clone()],
        Segment::Input(range) => &input[range.clone()],
        // Settled before any flush.
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

fn addresses(bytes: &[u8]) -> Range<usize> {
    let start = bytes.as_ptr().addr();
    start..start + bytes.len()
}

/// `inner` as a range of `outer`, if it lies inside.
fn within(inner: &Range<usize>, outer: &Range<usize>) -> Option<Range<usize>> {
    (outer.start <= inner.start && inner.end <= outer.end).then(|| inner.start - outer.start..inner.end - outer.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that takes at most `room` bytes a call and `total` in all.
    struct Narrow {
        got: Vec<u8>,
        room: usize,
        total: usize,
        writes: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            let size = bytes.len().min(self.room).min(self.total - self.got.len());
            self.got.extend_from_slice(&bytes[..size]);
            if size == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(size) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn fill(output: &mut Output, input: &[u8], message: Assembled) -> Vec<u8> {
        let mut expected = Vec::new();
        output.lend_input(input, 0);
        output.cork().extend_from_slice(b"one");
        output.push_payload(&input[5..20_000]);
        output.cork().extend_from_slice(b"two");
        output.lend_assembled(&message);
        output.push_payload(message.as_message().as_bytes());
        expected.extend_from_slice(b"one");
        expected.extend_from_slice(&input[5..20_000]);
        expected.extend_from_slice(b"two");
        expected.extend_from_slice(message.as_message().as_bytes());
        output.take_back(message);
        output.push_shared(&vec![9; 30_000].into());
        output.push_shared(&vec![8; 30].into());
        expected.extend_from_slice(&[9; 30_000]);
        expected.extend_from_slice(&[8; 30]);
        assert_eq!(output.len(), expected.len());
        expected
    }

    #[test]
    fn whole_frames_reach_the_peer_wherever_the_socket_fills() {
        let mut input: Vec<u8> = (0..65_536_u32).map(|n| (n / 7) as u8).collect();
        let reversed: Vec<u8> = input.iter().rev().copied().collect();
        let message = || Assembled { buffer: reversed.clone(), filled: 40_000, is_text: false };
        let mut probe = Output::default();
        let len = fill(&mut probe, &input, message()).len();
        for total in (0..len).step_by(997).chain([len - 1, len]) {
            let mut output = Output::default();
            let expected = fill(&mut output, &input, message());
            let mut stream = Narrow { got: Vec::new(), room: 10_000, total, writes: 0 };
            let mut pending = None;
            output.flush(&mut stream, &mut pending, &mut input).expect("no error");
            assert_eq!(output.len(), 0);
            output.cork().extend_from_slice(b"later");
            stream.total = usize::MAX;
            output.flush(&mut stream, &mut pending, &mut input).expect("no error");
            while let Some(waiting) = pending.as_mut().filter(|waiting| waiting.len() > 0) {
                waiting.write_to(&mut stream, &mut output.pool).1.expect("no error");
            }
            let (before, after) = stream.got.split_at(expected.len());
            assert!(before == expected && after == b"later", "filled after {total}");
        }
    }

    /// A frame whose payload has `size` bytes lies `before` bytes into the input, and pieces of it are sent back, of
    /// which the socket takes `total` bytes at first: how many writes that took.
    fn writes(before: usize, size: usize, pieces: &[(Opcode, Range<usize>)], total: usize) -> usize {
        let payload: Vec<u8> = (0..size).map(|n| (n / 3) as u8).collect();
        let mut input = vec![0xEE; before];
        frame::encode(&mut input, Opcode::Binary, &payload, Some([0; 4]));
        let payload_start = input.len() - size;
        let (mut output, mut expected) = (Output::default(), Vec::new());
        output.lend_input(&input, before);
        for (opcode, piece) in pieces {
            output.push_frame(Role::Server, *opcode, &input[payload_start..][piece.clone()]);
            frame::encode(&mut expected, *opcode, &payload[piece.clone()], None);
        }
        output.end_loan();
        assert_eq!(output.len(), expected.len());
        let mut stream = Narrow { got: Vec::new(), room: usize::MAX, total, writes: 0 };
        let mut pending = None;
        output.flush(&mut stream, &mut pending, &mut input).expect("no error");
        let writes = stream.writes;
        stream.total = usize::MAX;
        while let Some(waiting) = pending.as_mut().filter(|waiting| waiting.len() > 0) {
            waiting.write_to(&mut stream, &mut output.pool).1.expect("no error");
        }
        assert!(stream.got == expected, "{pieces:?} of {size} behind {before}, full after {total}");
        writes
    }

    #[test]
    fn the_echo_of_a_large_frame_leaves_in_one_piece() {
        for size in [MIN_LENT_SIZE, 65_535, 65_536, 100_000] {
            for before in [0, 1, 14, 100] {
                for total in [3, 10, 11, 5_000, usize::MAX] {
                    assert_eq!(writes(before, size, &[(Opcode::Text, 0..size)], total), 1);
                }
            }
        }
    }

    #[test]
    fn what_is_not_the_echo_of_the_first_frame_is_sent_as_it_is() {
        let whole = |size| (Opcode::Binary, 0..size);
        for (size, pieces) in [
            (20_000, vec![whole(20_000), (Opcode::Text, 0..20_000)]),
            (20_000, vec![(Opcode::Text, 0..3), whole(20_000)]),
            (90_000, vec![(Opcode::Text, 6..70_000), (Opcode::Text, 6..30_000), whole(90_000), whole(90_000)]),
            (90_000, vec![(Opcode::Text, 0..70_000), (Opcode::Text, 0..30_000), (Opcode::Text, 10..90_000)]),
            (90_000, vec![(Opcode::Text, 10..90_000), (Opcode::Text, 0..30_000), (Opcode::Text, 0..70_000)]),
        ] {
            for total in [3, 5_000, 30_000, usize::MAX] {
                writes(0, size, &pieces, total);
            }
        }
    }

    #[test]
    fn what_lies_where_something_was_lent_before_is_copied() {
        // Where a handler panics, what it was lent ends with what it sent.
        for end in [Output::end_loan, Output::clear] {
            let mut buffer = vec![7; 40_000];
            let mut output = Output::default();
            output.lend_input(&buffer, 0);
            end(&mut output);
            output.push_frame(Role::Server, Opcode::Binary, &buffer);
            buffer.fill(0);
            let mut stream = Narrow { got: Vec::new(), room: usize::MAX, total: usize::MAX, writes: 0 };
            output.flush(&mut stream, &mut None, &mut []).expect("no error");
            assert!(stream.got.ends_with(&[7; 40_000]));
        }
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
        let error = output.flush(&mut Zero, &mut None, &mut []).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
