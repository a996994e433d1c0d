//! One connection: its stream, its protocol state, and what waits to be written or decoded. Workers and blocking
//! sockets both build on it.

mod parts;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod travel;

use std::io::{self, IoSliceMut};

use crate::protocol::close::CloseFrame;
use crate::protocol::deflate::{Codec, Compression};
use crate::protocol::frame::{FrameHeader, Opcode};
use crate::protocol::{Connection, Role};
use crate::transport::buffer::{BufferPool, Input};
use crate::transport::chunk::Chunk;
use crate::transport::output::{Output, outcome};
use crate::transport::pending::Pending;
use crate::transport::shared_frame::SharedFrame;
use crate::transport::stream::attempt::{Io, attempt};
use crate::transport::stream::byte_stream::{ByteStream, ShutdownProgress};

/// A frame that lacks at least 16 KiB is received into its message's buffer. A shorter rest is received into the shared
/// input and copied, which costs less than a vectored read.
const MIN_DIRECT_SIZE: u64 = 16 << 10;

/// A stream, the state of its connection, and what waits at it.
#[derive(Debug)]
pub(crate) struct Endpoint<S> {
    pub(crate) stream: S,
    pub(crate) connection: Connection,
    pending: Option<Box<Pending>>,
}

/// What one read brought.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// `size` bytes.
    Bytes {
        size: usize,
        /// More can be read now; otherwise the poll reports when more arrives.
        more: bool,
        /// How many of the bytes went into the partial message. If any did, [`Connection::advance`] must be called.
        direct: usize,
    },
    /// Nothing now.
    Nothing,
    /// The peer sends no more.
    End,
    /// The stream is broken.
    Failed(io::Error),
}

/// What the stream took of the queued output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Bytes of the queue.
    pub(crate) written: usize,
    /// Bytes that were written before, and waited in the stream's own layer.
    pub(crate) from_layer: usize,
}

impl Drained {
    /// Whether the socket took anything.
    pub(crate) fn is_progress(self) -> bool {
        self.written + self.from_layer > 0
    }
}

impl<S: ByteStream> Endpoint<S> {
    /// An endpoint with `leftover` bytes that arrived after the opening handshake.
    pub(crate) fn new(stream: S, connection: Connection, leftover: Vec<u8>) -> Endpoint<S> {
        let mut endpoint = Endpoint { stream, connection, pending: None };
        if !leftover.is_empty() {
            endpoint.keep_carry(Box::new(Input::holding(leftover)));
        }
        endpoint
    }

    /// Keeps received bytes that are not decoded, because a drive reached its limits or reading must wait.
    pub(crate) fn keep_carry(&mut self, carry: Box<Input>) {
        self.pending.get_or_insert_default().carry = Some(carry);
    }

    /// Takes the received bytes that were kept.
    pub(crate) fn take_carry(&mut self) -> Option<Box<Input>> {
        let carry = self.pending.as_mut()?.carry.take();
        self.drop_empty_pending();
        carry
    }

    /// The memory of the received bytes that are kept.
    #[inline]
    pub(crate) fn undecoded(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.undecoded())
    }

    fn drop_empty_pending(&mut self) {
        self.pending.take_if(|pending| pending.is_idle());
    }

    /// Reads once: into `input`, at most `max` bytes, or first into the message under way if that lacks much.
    pub(crate) fn read(&mut self, input: &mut Input, pool: &mut BufferPool, max: usize) -> ReadOutcome {
        if self.connection.lacks() >= MIN_DIRECT_SIZE {
            return self.read_direct(input, pool, max);
        }
        let room = input.spare_mut(max);
        let offered = room.len();
        let io = attempt(|| self.stream.read(room));
        self.read_outcome(io, input, 0, offered)
    }

    #[inline(never)]
    fn read_direct(&mut self, input: &mut Input, pool: &mut BufferPool, max: usize) -> ReadOutcome {
        self.find_buffer(pool);
        let (spare, room) = (self.connection.spare_mut(), input.spare_mut(max));
        let (direct, offered) = (spare.len(), spare.len() + room.len());
        let io = attempt(|| self.stream.read_vectored(&mut [IoSliceMut::new(spare), IoSliceMut::new(room)]));
        self.read_outcome(io, input, direct, offered)
    }

    /// What a read brought that was offered so much room, `direct` of it in the message under way and the rest in
    /// `input`.
    #[inline(always)]
    fn read_outcome(&self, io: Io, input: &mut Input, direct: usize, offered: usize) -> ReadOutcome {
        match io {
            Io::Done(size) => {
                let direct = direct.min(size);
                input.fill(size - direct);
                ReadOutcome::Bytes { size, more: self.stream.has_more(size, offered), direct }
            }
            Io::WouldBlock => ReadOutcome::Nothing,
            Io::End => ReadOutcome::End,
            Io::Failed(error) => ReadOutcome::Failed(error),
        }
    }

    /// Moves a large message to a buffer of the pool, so that its own does not grow step by step.
    fn find_buffer(&mut self, pool: &mut BufferPool) {
        if let Some(size) = self.connection.wants_buffer() {
            let filled = size.saturating_sub(self.connection.lacks());
            if let Some(buffer) = pool.take(usize::try_from(filled).unwrap_or(usize::MAX), size) {
                pool.give(self.connection.move_to(buffer));
            }
        }
    }

    /// Writes what `output` gathered, and queues what the stream does not take. Returns how many bytes it took.
    pub(crate) fn flush(&mut self, output: &mut Output, input: &[u8]) -> io::Result<usize> {
        output.flush(&mut self.stream, &mut self.pending, input)
    }

    /// Writes frames without an [`Output`], and returns how many bytes the stream took. `None` if something waits,
    /// which the frames must not overtake.
    #[inline]
    pub(crate) fn try_write_direct(&mut self, frames: &[u8]) -> Option<io::Result<usize>> {
        if !self.is_clear() {
            return None;
        }
        let (written, result) = outcome(attempt(|| self.stream.write(frames)), 0);
        Some(result.map(|()| written))
    }

    /// Whether nothing waits, neither to be written nor to be decoded.
    #[inline]
    pub(crate) fn is_clear(&self) -> bool {
        self.pending.is_none() && self.stream.pending_bytes() == 0
    }

    /// Writes the queued output, after the socket reported room.
    pub(crate) fn drain(&mut self, pool: &mut BufferPool) -> io::Result<Drained> {
        let from_layer = match self.stream.pending_bytes() {
            0 => 0,
            waiting => self.flush_layer(waiting)?,
        };
        let mut drained = Drained { written: 0, from_layer };
        if self.stream.pending_bytes() > 0 {
            return Ok(drained);
        }
        if let Some(pending) = self.pending.as_mut().filter(|pending| !pending.is_paused()) {
            let result;
            (drained.written, result) = pending.write_to(&mut self.stream, pool);
            result?;
            self.drop_empty_pending();
        }
        Ok(drained)
    }

    /// Has the stream's own layer send the bytes that wait there. Returns how many the socket took.
    #[cold]
    fn flush_layer(&mut self, waiting: usize) -> io::Result<usize> {
        match self.stream.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let left = self.stream.pending_bytes();
        let taken = waiting.saturating_sub(left);
        if left > 0 {
            self.pending.get_or_insert_default().note_taken(taken);
        }
        Ok(taken)
    }

    /// Whether something waits in the stream's own layer, which a read may have left there.
    #[inline]
    pub(crate) fn has_layer_backlog(&self) -> bool {
        self.stream.pending_bytes() > 0
    }

    /// Whether the stream took at least `size` bytes of the queue since this last returned `true`, or all of it.
    pub(crate) fn has_progressed(&mut self, size: usize) -> bool {
        let layer_is_empty = self.stream.pending_bytes() == 0;
        match &mut self.pending {
            None => layer_is_empty,
            Some(pending) => pending.has_progressed(size, layer_is_empty),
        }
    }

    /// Bytes that the socket did not take, whether they wait here or in the stream's own layer, and those that wait for the
    /// end of the message that is sent in parts.
    #[inline]
    pub(crate) fn backlog(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.len() + pending.held()) + self.stream.pending_bytes()
    }

    /// The bytes of memory that the connection takes now, beyond those that it always takes.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.memory()) + self.connection.memory() + self.stream.memory()
    }

    /// Gives up what was received and not delivered, and decodes nothing more.
    pub(crate) fn give_up_input(&mut self) {
        self.take_carry();
        self.connection.give_up();
    }

    /// Shuts the write side of the stream down. To be called again, once the backlog is gone, until it is done.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<ShutdownProgress> {
        self.stream.shutdown_write()
    }

    /// Has the stream's own layer say that it sends nothing more, and leaves the socket as it is. To be called again, once
    /// the backlog is gone, until it is done.
    pub(crate) fn end_layer(&mut self) -> io::Result<ShutdownProgress> {
        self.stream.end_layer()
    }

    /// Keeps the latest ping that can not be answered now (RFC 6455 5.5.3).
    pub(crate) fn keep_ping(&mut self, payload: &[u8]) {
        if let Some(pending) = &mut self.pending {
            pending.late_ping = Some(payload.to_vec());
        }
    }

    /// Takes the ping that waits for its answer.
    pub(crate) fn take_ping(&mut self) -> Option<Vec<u8>> {
        let ping = self.pending.as_mut()?.late_ping.take();
        self.drop_empty_pending();
        ping
    }

    /// Queues a frame, compressed where that was negotiated and is wanted.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        output: &mut Output,
        codec: &mut Codec,
        opcode: Opcode,
        payload: &[u8],
        compression: Compression,
    ) {
        let role = self.connection.role();
        if !opcode.is_control()
            && let Some(deflated) = self.connection.compress(payload, compression, codec)
        {
            return output.push_compressed(role, opcode, deflated);
        }
        output.push_frame(role, opcode, payload);
    }

    /// Queues a frame whose payload `write` appends to a buffer, as [`push`](Endpoint::push) does; nothing if that fails.
    #[cfg(feature = "serde_json")]
    pub(crate) fn push_written<E>(
        &mut self,
        output: &mut Output,
        codec: &mut Codec,
        opcode: Opcode,
        compression: Compression,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.connection.compresses() {
            return output.push_written(self.connection.role(), opcode, write);
        }
        let mut payload = Vec::new();
        write(&mut payload)?;
        self.push(output, codec, opcode, &payload, compression);
        Ok(())
    }

    /// Queues a frame whose payload need not be copied, as [`push`](Endpoint::push) does.
    pub(crate) fn push_chunk(
        &mut self,
        output: &mut Output,
        codec: &mut Codec,
        opcode: Opcode,
        payload: Chunk,
        compression: Compression,
    ) {
        // A compressed or masked payload is a copy anyway.
        if self.connection.role() == Role::Client || self.connection.compresses() {
            self.push(output, codec, opcode, payload.as_slice(), compression);
            return payload.recycle(&mut output.pool);
        }
        FrameHeader::new(opcode, payload.as_slice().len() as u64, None).encode(output.cork());
        output.push_chunk(payload);
    }

    /// Queues a server's frame that other connections send as well.
    #[inline]
    pub(crate) fn push_shared(&mut self, output: &mut Output, codec: &mut Codec, frame: &SharedFrame) {
        if self.connection.compresses() {
            return self.push_deflated(output, codec, frame);
        }
        output.push_shared(frame.plain());
    }

    #[cold]
    fn push_deflated(&mut self, output: &mut Output, codec: &mut Codec, frame: &SharedFrame) {
        let (Compression::Auto, Some((opcode, payload))) = (frame.compression(), frame.message()) else {
            return output.push_shared(frame.plain());
        };
        if !self.connection.is_worthwhile(payload) {
            return output.push_shared(frame.plain());
        }
        if self.connection.shared_window_bits().is_none() {
            // Under context takeover each message refers to the connection's own.
            return self.push(output, codec, opcode, payload, Compression::Auto);
        }
        match frame.deflated(&self.connection, codec) {
            Some((deflated, size)) => {
                output.push_shared(deflated);
                self.connection.count_shared(payload.len(), *size);
            }
            None => output.push_shared(frame.plain()),
        }
    }

    /// Queues a close frame; `false` if one was sent before.
    pub(crate) fn close(&mut self, output: &mut Output, frame: Option<&CloseFrame>) -> bool {
        // What waits for the end of a message can not be sent any more.
        self.drop_held();
        let key = output.key(self.connection.role());
        self.connection.close(frame, key, output.cork())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::protocol::Role;

    /// A stream with a layer of its own, as encryption is: it reads records whole, hands them out in part, and holds
    /// back what its socket does not take.
    #[derive(Debug, Default)]
    struct Layered {
        received: Vec<u8>,
        held: Vec<u8>,
        /// The bytes that the socket still takes, and those that it took.
        room: usize,
        sent: Vec<u8>,
    }

    impl Layered {
        /// Writes the end of the stream, once.
        fn say_goodbye(&mut self) {
            if !self.held.ends_with(b"bye") && !self.sent.ends_with(b"bye") {
                self.held.extend_from_slice(b"bye");
            }
        }
    }

    impl ByteStream for Layered {
        fn has_more(&self, _: usize, _: usize) -> bool {
            !self.received.is_empty()
        }

        fn pending_bytes(&self) -> usize {
            self.held.len()
        }

        fn shutdown_write(&mut self) -> io::Result<ShutdownProgress> {
            self.say_goodbye();
            match self.flush() {
                Ok(()) => Ok(ShutdownProgress::Done),
                Err(_) => Ok(ShutdownProgress::Pending),
            }
        }
    }

    impl Read for Layered {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // At most two bytes, however many are offered.
            let size = buffer.len().min(2).min(self.received.len());
            self.received.drain(..size).zip(buffer).for_each(|(byte, place)| *place = byte);
            if size == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(size) }
        }
    }

    impl Write for Layered {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.held.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.held.extend_from_slice(bytes);
            let _ = self.flush();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            let size = self.room.min(self.held.len());
            self.room -= size;
            self.sent.extend(self.held.drain(..size));
            if self.held.is_empty() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        }
    }

    fn endpoint(stream: Layered) -> Endpoint<Layered> {
        Endpoint::new(stream, Connection::new(Role::Server, 1 << 20), Vec::new())
    }

    #[test]
    fn the_stream_decides_whether_more_can_be_read() {
        let mut endpoint = endpoint(Layered { received: vec![0; 3], ..Layered::default() });
        let mut input = Input::with_size(100);
        let mut reads = Vec::new();
        while let ReadOutcome::Bytes { size, more, .. } =
            endpoint.read(&mut input, &mut BufferPool::default(), usize::MAX)
        {
            reads.push((size, more));
        }
        assert_eq!(reads, [(2, true), (1, false)]);
    }

    #[test]
    fn bytes_that_the_stream_holds_back_count_as_backlog() {
        let mut endpoint = endpoint(Layered { room: 1, ..Layered::default() });
        let (mut output, mut pool) = (Output::default(), BufferPool::default());
        for text in [b"abc", b"def"] {
            output.cork().extend_from_slice(text);
            endpoint.flush(&mut output, &[]).expect("written");
        }
        // Two in the stream's layer, three after them in the queue.
        assert_eq!((endpoint.backlog(), endpoint.is_clear()), (5, false));
        let drained = |written, from_layer| Drained { written, from_layer };
        assert_eq!(endpoint.drain(&mut pool).expect("no error"), drained(0, 0), "its socket has no room");
        assert!(!endpoint.has_progressed(1), "nothing was taken");
        endpoint.stream.room = 1;
        assert_eq!(endpoint.drain(&mut pool).expect("no error"), drained(0, 1));
        assert!(!endpoint.has_progressed(2) && endpoint.has_progressed(1), "one byte of the layer's");
        endpoint.stream.room = 3;
        assert_eq!(endpoint.drain(&mut pool).expect("no error"), drained(3, 1));
        assert_eq!((endpoint.backlog(), endpoint.is_clear()), (1, false));
        endpoint.stream.room = 4;
        assert_eq!(endpoint.drain(&mut pool).expect("no error"), drained(0, 1));
        assert_eq!((endpoint.backlog(), endpoint.is_clear()), (0, true));
        assert!(endpoint.has_progressed(1), "nothing waits");
        assert_eq!(endpoint.stream.sent, b"abcdef");
    }

    #[test]
    fn a_shutdown_that_waits_for_the_socket_is_tried_again() {
        let mut endpoint = endpoint(Layered { room: 1, ..Layered::default() });
        assert_eq!(endpoint.shutdown_write().expect("no error"), ShutdownProgress::Pending);
        assert_eq!(endpoint.backlog(), 2, "what the socket reports room for");
        endpoint.stream.room = 2;
        endpoint.drain(&mut BufferPool::default()).expect("no error");
        assert_eq!((endpoint.backlog(), endpoint.pending.is_none()), (0, true));
        assert_eq!(endpoint.shutdown_write().expect("no error"), ShutdownProgress::Done);
        assert_eq!(endpoint.stream.sent, b"bye");
    }
}
