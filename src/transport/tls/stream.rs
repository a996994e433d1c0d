//! A stream that is encrypted.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use crate::protocol::tls_info::TlsInfo;
use crate::transport::stream::attempt::{Io, attempt};
use crate::transport::stream::byte_stream::{ByteStream, ShutdownProgress};
use crate::transport::tls::error::TlsError;
use crate::transport::tls::plain::{Plain, Slices};
use crate::transport::tls::server_name;
use crate::transport::tls::session::{Sealed, Session};

/// At most 128 KiB are read in one call: a message of 64 KiB is read whole, and not moved. Larger keeps more memory on each
/// thread; smaller needs more calls for large messages.
const MAX_READ: usize = 128 << 10;

/// At most 64 KiB are sealed for one call. Larger keeps more memory in each connection whose peer is slow; smaller needs more
/// calls for large messages.
const WINDOW: usize = 64 << 10;

/// Up to 1 KiB more is sealed with them if that is all: the header of a frame needs no call of its own.
const WINDOW_SLACK: usize = 1 << 10;

/// A read takes at least 4 KiB, however little room the caller has; what does not fit is kept. Larger keeps more; smaller
/// needs more calls for callers with small buffers.
const MIN_READ: usize = 4 << 10;

/// At most 64 KiB of a record or of a message of the handshake are kept until the rest has come. A record has at most
/// 16 KiB (RFC 8446 5.2), and so have nearly all handshakes; a client's chain of certificates may be longer.
const MAX_KEPT: usize = 64 << 10;

/// A peer that has sent 256 KiB of records without any data since the last data is refused. Larger lets it occupy the
/// thread for longer; smaller refuses peers that change their keys often.
const MAX_WITHOUT_DATA: usize = 256 << 10;

/// The first byte of a record of the handshake, and of one with an alert (RFC 8446 5.1).
const RECORD_TYPES: [u8; 2] = [22, 21];

/// Buffers of a thread, for whichever connection it works on.
#[derive(Default)]
struct Scratch {
    /// Sealed bytes as they are received.
    received: Vec<u8>,
    /// Plain bytes from several places, together.
    gathered: Vec<u8>,
    /// Sealed bytes to be sent.
    sealed: Sealed,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs `work` with the thread's buffers. A stream below that is encrypted itself has new ones.
fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => work(&mut scratch),
        Err(_) => work(&mut Scratch::default()),
    })
}

/// A stream with TLS between it and its user, for a [`WebSocket`](crate::WebSocket) or any other use. Made by
/// [`ClientTls::connect`](crate::ClientTls::connect) and [`Tls::accept`](crate::Tls::accept).
///
/// The first read or write does the handshake. A read waits as long as the stream below does, and brings at most what that
/// has sent; at the peer's `close_notify`, or the end of the stream below, it returns 0. A write seals what it is given and
/// passes it on. If the stream below takes only part of that, because it does not block or has a timeout, the rest is
/// kept, and the write has succeeded all the same: [`flush`](Write::flush) passes it on, and so does the next write.
///
/// An error of TLS is an [`io::Error`] of the kind [`InvalidData`](io::ErrorKind::InvalidData), which has a [`TlsError`].
///
/// One thread at a time can use it, for reading and writing share the keys. For full duplex from two threads see
/// [`Client`](crate::Client).
///
/// ```no_run
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use threadbare::ClientTls;
///
/// let stream = TcpStream::connect("example.com:443")?;
/// let mut stream = ClientTls::with_default_roots()?.connect("example.com", stream)?;
/// stream.write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")?;
/// let mut page = Vec::new();
/// stream.read_to_end(&mut page)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TlsStream<S> {
    below: S,
    session: Session,
    /// The beginning of a record that is incomplete.
    partial: Vec<u8>,
    /// Plain bytes that the reader had no room for, and how many of them it has taken since.
    unread: Vec<u8>,
    taken: usize,
    /// Sealed bytes that the socket has not taken.
    unsent: Vec<u8>,
    sent: usize,
    /// Sealed bytes that were received since the last data.
    without_data: usize,
    /// The name of the server that the client asked for, until [`take_info`](TlsStream::take_info).
    server_name: Option<Box<str>>,
    flags: Flags,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// Something was received.
    has_begun: bool,
    /// What is kept was not looked at.
    is_new: bool,
    /// The stream below may have more to read.
    has_more: bool,
    /// The peer sends no more.
    is_end: bool,
    /// `close_notify` was sealed, or can not be.
    has_said_end: bool,
    /// The session has failed.
    has_failed: bool,
    /// There is no TLS.
    is_bypassed: bool,
}

impl<S: Read + Write> TlsStream<S> {
    /// A stream before the handshake.
    pub(crate) fn new(below: S, session: Session) -> TlsStream<S> {
        TlsStream {
            below,
            session,
            partial: Vec::new(),
            unread: Vec::new(),
            taken: 0,
            unsent: Vec::new(),
            sent: 0,
            without_data: 0,
            server_name: None,
            flags: Flags::default(),
        }
    }

    /// Returns the stream below, such as to set its timeouts.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::TlsStream;
    ///
    /// fn addr(stream: &TlsStream<TcpStream>) -> std::io::Result<std::net::SocketAddr> {
    ///     stream.get_ref().peer_addr()
    /// }
    /// # let _ = addr;
    /// ```
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.below
    }

    /// Returns what was agreed on in the handshake; `None` before it is complete. A server has the name that the client
    /// asked for.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::TlsStream;
    ///
    /// fn print(stream: &TlsStream<TcpStream>) {
    ///     match stream.info() {
    ///         Some(info) => println!("{} with {}", info.version(), info.cipher_suite()),
    ///         None => println!("the handshake is not complete"),
    ///     }
    /// }
    /// # let _ = print;
    /// ```
    #[must_use]
    pub fn info(&self) -> Option<TlsInfo> {
        let is_complete = !self.session.is_handshaking();
        is_complete.then(|| TlsInfo { server_name: self.server_name.clone(), ..self.session.info() })
    }

    /// Tells the peer that nothing more will be sent (`close_notify`), and passes on what waits.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use threadbare::TlsStream;
    ///
    /// fn end(mut stream: TlsStream<TcpStream>) -> std::io::Result<()> {
    ///     stream.close() // the peer knows that nothing is missing
    /// }
    /// # let _ = end;
    /// ```
    ///
    /// # Errors
    /// As those of a write; [`WouldBlock`](io::ErrorKind::WouldBlock) if the stream below has no room: to be called again.
    pub fn close(&mut self) -> io::Result<()> {
        match self.say_end()? {
            ShutdownProgress::Done => self.below.flush(),
            ShutdownProgress::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// The stream below, to register it with a poll.
    pub(crate) fn below_mut(&mut self) -> &mut S {
        &mut self.below
    }

    /// Takes bytes that were read from the stream below before TLS began, to be opened by the next read.
    pub(crate) fn begin_with(&mut self, bytes: &[u8]) {
        self.partial = bytes.to_vec();
        self.flags.is_new = !bytes.is_empty();
    }

    /// Whether the handshake is not complete.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// What was agreed on in the handshake. Gives up the server name.
    pub(crate) fn take_info(&mut self) -> TlsInfo {
        TlsInfo { server_name: self.server_name.take(), ..self.session.info() }
    }

    /// Does the handshake, as far as the stream below allows.
    ///
    /// # Errors
    /// `WouldBlock` if that has nothing to read, or no room; `UnexpectedEof` if it ends.
    pub(crate) fn handshake(&mut self) -> io::Result<()> {
        while self.session.is_handshaking() {
            // A client has the first word.
            let mut plain = Plain { rooms: &mut [], filled: 0, rest: std::mem::take(&mut self.unread) };
            let outcome = self.receive(&mut plain, 0);
            // Data may have come right behind the handshake.
            (self.unread, self.taken) = (plain.rest, 0);
            outcome?;
            if self.flags.is_end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.flush()
    }

    /// Reads until there is data, or the stream below has no more. Returns how much of it is in the rooms.
    fn read_into(&mut self, rooms: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.flags.is_bypassed {
            return self.below.read_vectored(rooms);
        }
        if self.taken < self.unread.len() {
            return Ok(self.read_rest(rooms));
        }
        let room: usize = rooms.iter().map(|room| room.len()).sum();
        if room == 0 || self.flags.is_end {
            return Ok(0);
        }
        loop {
            let mut plain = Plain { rooms: &mut *rooms, filled: 0, rest: std::mem::take(&mut self.unread) };
            let outcome = self.receive(&mut plain, room);
            let Plain { filled, rest, .. } = plain;
            (self.unread, self.taken) = (rest, 0);
            // What came before an error is delivered first; the next read has the error.
            if filled > 0 {
                return Ok(filled);
            }
            outcome?;
            if self.flags.is_end {
                return Ok(0);
            }
        }
    }

    /// Gives out data for which there was no room.
    fn read_rest(&mut self, rooms: &mut [IoSliceMut<'_>]) -> usize {
        let rest = self.unread.get(self.taken..).unwrap_or_default();
        let mut plain = Plain { rooms, filled: 0, rest: Vec::new() };
        let size = plain.fill(rest);
        self.taken += size;
        if self.taken >= self.unread.len() {
            (self.unread, self.taken) = (Vec::new(), 0);
        }
        size
    }

    /// Reads once from the stream below, opens the records, and sends what the session has to answer.
    fn receive(&mut self, plain: &mut Plain<'_, '_>, room: usize) -> io::Result<()> {
        if self.flags.has_failed {
            return Err(io::ErrorKind::InvalidData.into());
        }
        with_scratch(|scratch| {
            let Scratch { received, sealed, .. } = scratch;
            let kept = self.partial.len();
            let offered = room.clamp(MIN_READ, MAX_READ);
            if received.len() < kept + offered {
                received.resize(kept + offered, 0);
            }
            let room = &mut received[..kept + offered];
            room[..kept].copy_from_slice(&self.partial);
            if std::mem::take(&mut self.flags.is_new) {
                self.partial = Vec::new();
                return self.open(&mut room[..kept], kept, plain, sealed);
            }
            let mut size = 0;
            // A client sends the first record.
            if self.flags.has_begun || matches!(self.session, Session::Server(_)) {
                match attempt(|| self.below.read(&mut room[kept..])) {
                    Io::Done(done) => size = done,
                    Io::WouldBlock => {
                        self.flags.has_more = false;
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    Io::End => {
                        self.flags.is_end = true;
                        return Ok(());
                    }
                    Io::Failed(error) => return Err(error),
                }
                self.flags.has_more = size == offered;
            }
            self.open(&mut room[..kept + size], size, plain, sealed)
        })
    }

    /// Opens the records of `sealed`, of which the last `size` bytes are new.
    fn open(
        &mut self,
        sealed: &mut [u8],
        size: usize,
        plain: &mut Plain<'_, '_>,
        answer: &mut Sealed,
    ) -> io::Result<()> {
        if size > 0 && self.is_first() && sealed.first().is_some_and(|first| !RECORD_TYPES.contains(first)) {
            self.flags.has_failed = true;
            self.partial = sealed.to_vec();
            return Err(io::Error::new(io::ErrorKind::InvalidData, TlsError::NotTls));
        }
        self.flags.has_begun = true;
        answer.clear();
        let had = plain.total();
        let was_handshaking = self.session.is_handshaking();
        let opened = self.session.open(sealed, plain, answer);
        if was_handshaking && let Some(name) = server_name::take_asked_for() {
            self.server_name = Some(name);
        }
        let sent = self.send_sealed(answer.as_slice());
        self.without_data = if plain.total() > had { 0 } else { self.without_data + size };
        let opened = opened.map_err(|error| self.fail(error))?;
        let rest = &sealed[opened.consumed..];
        if rest.len() > MAX_KEPT || self.without_data > MAX_WITHOUT_DATA {
            let error = TlsError::Protocol("too much was received without any data".to_owned());
            return Err(self.fail(error));
        }
        if rest.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
        self.flags.is_end |= opened.is_end;
        sent
    }

    /// Whether nothing was received before from the peer.
    fn is_first(&self) -> bool {
        self.partial.is_empty() && self.without_data == 0 && self.session.is_handshaking()
    }

    fn fail(&mut self, error: TlsError) -> io::Error {
        self.flags.has_failed = true;
        self.partial = Vec::new();
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Seals what the rooms have and sends it, window by window, until the socket is full. Returns how much was sealed.
    fn write_from(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.flags.is_bypassed {
            return self.below.write_vectored(slices);
        }
        if self.flags.has_failed {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.session.is_handshaking() {
            self.handshake()?;
        }
        self.flush_sealed()?;
        let mut total = 0;
        let mut from = Slices { slices, index: 0, offset: 0, left: slices.iter().map(|slice| slice.len()).sum() };
        with_scratch(|scratch| {
            let Scratch { gathered, sealed, .. } = scratch;
            while self.unsent.is_empty() && from.left > 0 {
                sealed.clear();
                let mut room = if from.left <= WINDOW + WINDOW_SLACK { from.left } else { WINDOW };
                while let Some(plain) = from.next(gathered, room) {
                    self.session.seal(plain, sealed, &mut self.partial).map_err(|error| self.fail(error))?;
                    (total, room) = (total + plain.len(), room - plain.len());
                }
                // What the socket does not take is this stream's to send.
                self.send_sealed(sealed.as_slice())?;
            }
            Ok(total)
        })
    }

    /// Sends sealed bytes behind those that wait, and keeps what the socket does not take.
    fn send_sealed(&mut self, sealed: &[u8]) -> io::Result<()> {
        let written = if self.unsent.is_empty() { write_most(&mut self.below, sealed)? } else { 0 };
        self.unsent.extend_from_slice(&sealed[written..]);
        Ok(())
    }

    /// Sends the sealed bytes that wait.
    fn flush_sealed(&mut self) -> io::Result<()> {
        self.sent += write_most(&mut self.below, &self.unsent[self.sent..])?;
        if self.sent < self.unsent.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        (self.unsent, self.sent) = (Vec::new(), 0);
        Ok(())
    }

    /// Says that nothing more will be sent. `Pending` if the socket must take that, or what precedes it, first.
    pub(crate) fn say_end(&mut self) -> io::Result<ShutdownProgress> {
        if !self.flags.has_said_end && !self.flags.has_failed && !self.flags.is_bypassed {
            self.flags.has_said_end = true;
            let mut sealed = Sealed::default();
            // A session that can not say it has ended already.
            if self.session.seal_end(&mut sealed, &mut self.partial).is_ok() {
                self.send_sealed(sealed.as_slice())?;
            }
        }
        match self.flush_sealed() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ShutdownProgress::Pending),
            flushed => flushed.map(|()| ShutdownProgress::Done),
        }
    }

    /// Whether the peer has begun with a line of text, as HTTP does, instead of TLS.
    pub(crate) fn has_met_text(&self) -> bool {
        self.flags.has_failed && self.partial.first().is_some_and(u8::is_ascii_uppercase)
    }

    /// Whether the session has failed, and the peer was told by an alert. One that does not speak TLS is not.
    pub(crate) fn has_sent_alert(&self) -> bool {
        self.flags.has_failed && self.partial.is_empty()
    }

    /// From now on, passes on everything as it is, so that a peer that does not speak TLS can be told, or what one still
    /// sends behind an alert can be discarded. An alert that waits is sent first.
    pub(crate) fn bypass(&mut self) {
        self.flags.is_bypassed = true;
        self.partial = Vec::new();
    }
}

/// Writes as much as the stream takes, and returns how much that was.
fn write_most(stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match attempt(|| stream.write(&bytes[written..])) {
            Io::Done(size) => written += size,
            Io::WouldBlock => break,
            Io::End => return Err(io::ErrorKind::WriteZero.into()),
            Io::Failed(error) => return Err(error),
        }
    }
    Ok(written)
}

impl<S: Read + Write> ByteStream for TlsStream<S> {
    /// As the stream itself knows: a read brings what the records hold.
    fn has_more(&self, size: usize, offered: usize) -> bool {
        let Flags { has_more, is_end, has_failed, is_bypassed, .. } = self.flags;
        if is_bypassed { size == offered } else { has_more || is_end || has_failed || self.taken < self.unread.len() }
    }

    fn pending_bytes(&self) -> usize {
        self.unsent.len() - self.sent
    }

    fn memory(&self) -> usize {
        self.partial.capacity() + self.unread.capacity() + self.unsent.capacity()
    }

    fn end_layer(&mut self) -> io::Result<ShutdownProgress> {
        self.say_end()
    }

    /// Says `close_notify`. The stream below is the caller's to shut down.
    fn shutdown_write(&mut self) -> io::Result<ShutdownProgress> {
        self.say_end()
    }
}

impl<S: Read + Write> Read for TlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_into(&mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_into(buffers)
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_from(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_from(slices)
    }

    /// Sends the sealed bytes that wait.
    fn flush(&mut self) -> io::Result<()> {
        self.flush_sealed()?;
        self.below.flush()
    }
}

impl<S> std::fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The session has keys, and the buffers have data.
        f.debug_struct("TlsStream").field("flags", &self.flags).finish_non_exhaustive()
    }
}
