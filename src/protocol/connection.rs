//! An established connection as a state machine (RFC 6455 5 to 7, RFC 7692 6).

mod fragments;
mod own_buffer;
mod sending;
mod sending_fragments;
#[cfg(all(target_os = "linux", feature = "handover"))]
mod state;
mod whole;

use std::borrow::Cow;
use std::ops::Not;

use crate::protocol::assembly::{Assembly, Completed, PartialMessage};
use crate::protocol::close::{CloseCode, CloseFrame};
use crate::protocol::deflate::{Codec, Extension, WireSize};
use crate::protocol::error::ProtocolError;
use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::protocol::frame::{FrameHeader, Opcode, RSV1};
use crate::protocol::mask::MaskingKey;
use crate::protocol::message::{Assembled, MessageRef};
use crate::protocol::outgoing::Outgoing;
use crate::protocol::{mask, utf8};

/// The role of an endpoint: a client masks the frames that it sends, a server does not (RFC 6455 5.1).
///
/// ```
/// use threadbare::Role;
///
/// assert_eq!(!Role::Server, Role::Client); // the other end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The endpoint that accepted the connection.
    Server,
    /// The endpoint that opened the connection.
    Client,
}

impl Not for Role {
    type Output = Role;

    fn not(self) -> Role {
        match self {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        }
    }
}

/// The state of an established connection.
///
/// ```
/// use threadbare::protocol::{Connection, Role, State};
///
/// let mut server = Connection::new(Role::Server, 1 << 20);
/// assert_eq!(server.state(), State::Open);
/// let mut out = Vec::new();
/// server.close(None, None, &mut out);
/// assert_eq!(server.state(), State::Closing); // the client's close frame is awaited
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Both endpoints may send messages.
    Open,
    /// A close frame was sent or received, but not both (RFC 6455 7.1.3).
    Closing,
    /// A close frame was sent and one was received, or the connection was failed. Nothing more is read or sent.
    Closed,
}

/// The result of one call of [`Connection::receive`].
///
/// ```
/// use threadbare::protocol::Received;
///
/// fn describe(received: &Received<'_>) -> &'static str {
///     match received {
///         Received::Message(_) | Received::Assembled(_) => "a message",
///         Received::Ping(_) => "a ping, to be answered with a pong",
///         Received::Close(_) => "a close frame, to be answered unless one was sent",
///         _ => "nothing to do",
///     }
/// }
/// ```
#[derive(Debug)]
pub enum Received<'a> {
    /// Bytes were taken, but no message is complete: they were a part of a frame, or a fragment.
    Nothing,
    /// A message that was complete in the input.
    Message(MessageRef<'a>),
    /// A message that was assembled from several reads or fragments, or decompressed.
    Assembled(Assembled),
    /// What arrived of a message, if the connection [delivers fragments](Connection::deliver_fragments).
    Fragment(FragmentRef<'a>),
    /// Like [`Fragment`](Received::Fragment), but decompressed, or a character that came in two reads.
    OwnFragment(Fragment),
    /// A ping. The caller must answer with a pong that has the same payload (RFC 6455 5.5.2).
    Ping(Cow<'a, [u8]>),
    /// A pong.
    Pong(Cow<'a, [u8]>),
    /// The peer's close frame. The caller must answer with a close frame unless it has sent one (RFC 6455 5.5.1).
    Close(Option<CloseFrame>),
}

/// The state machine of one established connection. It does no I/O: the caller passes received bytes to
/// [`receive`](Self::receive), and the connection appends frames to a buffer that the caller sends.
///
/// ```
/// use threadbare::protocol::{Connection, Received, Role};
///
/// let mut server = Connection::new(Role::Server, 1 << 20);
/// let mut input = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; // RFC 6455 5.7, a masked "Hello"
/// let (size, received) = server.receive(&mut input)?;
/// let Received::Message(message) = received else { panic!("a message") };
/// assert_eq!((size, message.as_text()), (11, Some("Hello")));
/// # Ok::<(), threadbare::protocol::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    role: Role,
    outgoing: Outgoing,
    close_received: bool,
    failed: bool,
    /// The status code of the close frame that was sent.
    sent_code: Option<CloseCode>,
    max_message_size: u64,
    assembly: Option<Box<Assembly>>,
    pub(super) extension: Option<Extension>,
}

/// The first byte of an unfragmented message, FIN and opcode, and the MASK bit of the second byte (RFC 6455 5.2).
const FIN_TEXT: u8 = 0x80 | Opcode::Text as u8;
const FIN_BINARY: u8 = 0x80 | Opcode::Binary as u8;
const MASKED: u8 = 0x80;

/// The position of the payload of a whole data frame, which only has to be unmasked and validated.
pub(crate) struct WholeFrame {
    start: usize,
    end: usize,
    key: MaskingKey,
    is_text: bool,
}

/// Makes a message of an unmasked payload, and validates text.
#[inline(always)]
fn whole_message(is_text: bool, payload: &[u8]) -> Result<MessageRef<'_>, ProtocolError> {
    if !is_text {
        return Ok(MessageRef::Binary(payload));
    }
    // RFC 6455 8.1: text that is not UTF-8 fails the connection.
    utf8::from_utf8(payload).map(MessageRef::Text).ok_or(ProtocolError::InvalidUtf8)
}

impl Connection {
    /// Creates a connection after its opening handshake. `max_message_size` is in bytes.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let client = Connection::new(Role::Client, 1 << 20); // messages of up to 1 MiB
    /// assert_eq!(client.role(), Role::Client);
    /// ```
    #[must_use]
    pub fn new(role: Role, max_message_size: u64) -> Connection {
        Connection {
            role,
            outgoing: Outgoing::default(),
            close_received: false,
            failed: false,
            sent_code: None,
            max_message_size,
            assembly: None,
            extension: None,
        }
    }

    /// Returns the role of this endpoint.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// assert_eq!(Connection::new(Role::Server, 1 << 20).role(), Role::Server);
    /// ```
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the state of the connection.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role, State};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// client.close(None, Some([1, 2, 3, 4]), &mut Vec::new());
    /// assert_eq!(client.state(), State::Closing);
    /// client.receive(&mut b"\x88\x00".to_vec())?; // the server's close frame
    /// assert_eq!(client.state(), State::Closed);
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> State {
        match (self.close_sent(), self.close_received) {
            _ if self.failed => State::Closed,
            (false, false) => State::Open,
            (true, true) => State::Closed,
            _ => State::Closing,
        }
    }

    /// Returns whether this endpoint has sent a close frame.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut server = Connection::new(Role::Server, 1 << 20);
    /// server.close(None, None, &mut Vec::new());
    /// assert!(server.close_sent() && !server.close_received());
    /// ```
    #[must_use]
    pub fn close_sent(&self) -> bool {
        self.outgoing == Outgoing::CloseSent
    }

    /// Returns the status code of the close frame that this endpoint has sent; 1005 if it had none.
    pub(crate) fn sent_close_code(&self) -> Option<CloseCode> {
        self.sent_code
    }

    /// Returns whether the peer's close frame was received.
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Role};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// client.receive(&mut b"\x88\x00".to_vec())?;
    /// assert!(client.close_received() && !client.close_sent());
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    #[must_use]
    pub fn close_received(&self) -> bool {
        self.close_received
    }

    /// Takes the next frame, or a part of it, from the front of `input`. Returns the number of bytes taken and the
    /// result.
    ///
    /// The payload is unmasked in place. A message that is complete in `input` is borrowed from it; a part of a message
    /// is copied and kept. Call this until all of `input` is taken. Bytes after the peer's close frame or after an
    /// error are taken and ignored (RFC 6455 5.5.1).
    ///
    /// ```
    /// use threadbare::protocol::{Connection, Received, Role};
    ///
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// let mut input = *b"\x81\x02hi\x89\x00\x81\x05unfi"; // a text, a ping, and a part of another text
    /// let (mut at, mut results) = (0, Vec::new());
    /// while at < input.len() {
    ///     let (size, received) = client.receive(&mut input[at..])?;
    ///     results.push(match received {
    ///         Received::Message(message) => message.to_string(),
    ///         Received::Ping(_) => "ping".into(),
    ///         _ => "incomplete".into(),
    ///     });
    ///     at += size;
    /// }
    /// assert_eq!(results, ["hi", "ping", "incomplete"]);
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    ///
    /// # Errors
    /// The peer violated the protocol or exceeded `max_message_size`. The connection reads nothing more: send the
    /// queued frames, then call [`fail`](Self::fail).
    #[inline]
    pub fn receive<'a>(&mut self, input: &'a mut [u8]) -> Result<(usize, Received<'a>), ProtocolError> {
        self.receive_with(input, &mut Codec::new())
    }

    /// Like [`receive`](Self::receive), for connections that may have negotiated permessage-deflate. Compressed
    /// messages are decompressed with the memory of `codec`, which all connections of a thread share.
    ///
    /// ```
    /// use threadbare::protocol::deflate::Codec;
    /// use threadbare::protocol::{Connection, Received, Role};
    ///
    /// let mut codec = Codec::new(); // one for all connections of the thread
    /// let mut client = Connection::new(Role::Client, 1 << 20);
    /// let mut input = *b"\x81\x02hi";
    /// let (size, received) = client.receive_with(&mut input, &mut codec)?;
    /// assert!(size == 4 && matches!(received, Received::Message(message) if message.as_text() == Some("hi")));
    /// # Ok::<(), threadbare::ProtocolError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    #[inline]
    pub fn receive_with<'a>(
        &mut self,
        mut input: &'a mut [u8],
        codec: &mut Codec,
    ) -> Result<(usize, Received<'a>), ProtocolError> {
        let size = input.len();
        match self.receive_fast(&mut input) {
            Some(message) => Ok((size - input.len(), Received::Message(message?))),
            None => self.receive_general(input, codec),
        }
    }

    /// Takes a message from the front of `input` if it is a frame that [`match_fast`](Self::match_fast) finds, and
    /// nothing otherwise.
    #[inline(always)] // a call would move the result through memory
    pub(crate) fn receive_fast<'a>(
        &mut self,
        input: &mut &'a mut [u8],
    ) -> Option<Result<MessageRef<'a>, ProtocolError>> {
        let WholeFrame { start, end, key, is_text } = self.match_fast(input)?;
        let (frame, rest) = std::mem::take(input).split_at_mut_checked(end)?;
        *input = rest;
        let (_, payload) = frame.split_at_mut_checked(start)?;
        mask::apply(payload, key);
        let message = whole_message(is_text, payload);
        self.failed = message.is_err();
        Some(message)
    }

    /// Finds the most common frame at the front of `input`: a complete, masked data frame of less than 64 KiB that is
    /// neither fragmented nor compressed, while no partial frame or message is kept. [`FrameHeader::parse`] handles
    /// every other frame, invalid ones included.
    #[inline(always)]
    fn match_fast(&self, input: &[u8]) -> Option<WholeFrame> {
        // Two bytes and a masking key are the shortest header of such a frame.
        let [first, second, key @ ..] = *input.first_chunk::<6>()?;
        let is_text = first == FIN_TEXT;
        if self.role != Role::Server || !(is_text || first == FIN_BINARY) || self.is_busy() {
            return None;
        }
        // RFC 6455 5.1: a client masks all its frames. Without MASK, no arm matches.
        let (start, size, key) = match second ^ MASKED {
            short @ 0..126 => (6, usize::from(short), key),
            126 => {
                let [_, _, high, low, key @ ..] = *input.first_chunk::<8>()?;
                let size = usize::from(u16::from_be_bytes([high, low]));
                // RFC 6455 5.2: the length must be in its shortest form.
                (8, (size >= 126).then_some(size)?, key)
            }
            _ => return None,
        };
        let end = start + size;
        let is_plain = end <= input.len() && size as u64 <= self.max_message_size;
        is_plain.then_some(WholeFrame { start, end, key, is_text })
    }

    /// Returns whether a partial frame or message is kept, or all input is ignored.
    #[inline(always)]
    fn is_busy(&self) -> bool {
        self.assembly.is_some() | self.close_received | self.failed
    }

    /// Like [`receive_with`](Self::receive_with), without the attempt to find the most common frame first.
    #[inline(never)]
    pub(crate) fn receive_general<'a>(
        &mut self,
        input: &'a mut [u8],
        codec: &mut Codec,
    ) -> Result<(usize, Received<'a>), ProtocolError> {
        if self.close_received || self.failed {
            return Ok((input.len(), Received::Nothing));
        }
        let received =
            if self.assembly.is_none() { self.receive_whole(input, codec) } else { self.receive_partial(input, codec) };
        self.failed = received.is_err();
        received
    }

    /// Receives a frame that may be complete in the input, while no partial frame or message is kept.
    fn receive_whole<'a>(
        &mut self,
        input: &'a mut [u8],
        codec: &mut Codec,
    ) -> Result<(usize, Received<'a>), ProtocolError> {
        let Some((header, header_size)) = FrameHeader::parse(input)? else { return self.receive_partial(input, codec) };
        self.check(&header, None)?;
        let whole = usize::try_from(header.payload_len).ok().and_then(|size| header_size.checked_add(size));
        match whole {
            Some(whole) if whole <= input.len() && header.fin && header.rsv == 0 => {
                let payload = input.get_mut(header_size..whole).unwrap_or_default();
                if let Some(key) = header.mask {
                    mask::apply(payload, key);
                }
                let payload: &'a [u8] = payload;
                let received = match header.opcode {
                    Opcode::Text => Received::Message(whole_message(true, payload)?),
                    Opcode::Binary | Opcode::Continuation => Received::Message(whole_message(false, payload)?),
                    control => self.control(control, Cow::Borrowed(payload))?,
                };
                Ok((whole, received))
            }
            _ => self.receive_partial(input, codec),
        }
    }

    /// Receives a part of a header or payload, or a frame of a fragmented or compressed message.
    #[cold]
    fn receive_partial<'a>(
        &mut self,
        input: &'a mut [u8],
        codec: &mut Codec,
    ) -> Result<(usize, Received<'a>), ProtocolError> {
        let mut assembly = self.assembly.take().unwrap_or_default();
        let mut taken = 0;
        if assembly.wants_header() {
            let (header, size) = assembly.take_header(input)?;
            taken = size;
            if let Some(header) = header {
                self.check(&header, assembly.message_under_way())?;
                assembly.begin(header, self.extension.as_mut());
            }
        }
        let mut received = Received::Nothing;
        if !assembly.wants_header() {
            let (limit, extension) = (self.max_message_size, self.extension.as_mut());
            let input = input.get_mut(taken..).unwrap_or_default();
            let (completed, size) = assembly.take_payload(input, limit, extension, codec)?;
            taken += size;
            received = self.completed(completed)?;
        }
        self.keep(assembly);
        Ok((taken, received))
    }

    /// Keeps what the next bytes are added to.
    fn keep(&mut self, assembly: Box<Assembly>) {
        if !assembly.is_idle() || assembly.delivers_fragments() {
            self.assembly = Some(assembly);
        }
    }

    fn completed<'a>(&mut self, completed: Option<Completed<'a>>) -> Result<Received<'a>, ProtocolError> {
        match completed {
            None | Some(Completed::Fragment) => Ok(Received::Nothing),
            Some(Completed::Message(message)) => Ok(Received::Assembled(message)),
            Some(Completed::Control(opcode, payload)) => self.control(opcode, payload),
            Some(Completed::Lent(fragment)) => Ok(Received::Fragment(fragment)),
            Some(Completed::Own(fragment)) => Ok(Received::OwnFragment(fragment)),
        }
    }

    fn control<'a>(&mut self, opcode: Opcode, payload: Cow<'a, [u8]>) -> Result<Received<'a>, ProtocolError> {
        match opcode {
            Opcode::Ping => Ok(Received::Ping(payload)),
            Opcode::Pong => Ok(Received::Pong(payload)),
            _ => {
                let frame = CloseFrame::parse(&payload)?;
                self.close_received = true;
                Ok(Received::Close(frame))
            }
        }
    }

    /// Checks everything that can be checked before the payload arrives.
    #[inline]
    fn check(&self, header: &FrameHeader, message: Option<PartialMessage>) -> Result<(), ProtocolError> {
        match (self.role, header.mask) {
            // RFC 6455 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
            (Role::Server, None) => return Err(ProtocolError::UnmaskedFrame),
            // RFC 6455 5.1: "A client MUST close a connection if it detects a masked frame."
            (Role::Client, Some(_)) => return Err(ProtocolError::MaskedFrame),
            _ => {}
        }
        // RFC 6455 5.2: RSV1 to RSV3 "MUST be 0 unless an extension is negotiated that defines meanings".
        if header.rsv != 0 && !self.is_compressed(header) {
            return Err(ProtocolError::ReservedBits(header.rsv));
        }
        let before = match (header.opcode, message) {
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(()),
            // `max_message_size` is the limit on the decompressed message, and compressed data may be larger than that.
            (Opcode::Continuation, Some(PartialMessage::Compressed(size, inflated))) => {
                return size.check_next(header.payload_len, inflated, self.max_message_size);
            }
            (Opcode::Text | Opcode::Binary, None) if header.rsv != 0 => {
                return WireSize::default().check_next(header.payload_len, 0, self.max_message_size);
            }
            (Opcode::Continuation, Some(PartialMessage::Plain(before))) => before,
            (Opcode::Text | Opcode::Binary, None) => 0,
            // RFC 6455 5.4: a continuation belongs to a message, and "the fragments of one message MUST NOT be
            // interleaved between the fragments of another".
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::UnfinishedMessage),
        };
        // The limit is on the message, that is on the sum of its fragments, and is checked before any payload is kept.
        let size = before.saturating_add(header.payload_len);
        if size > self.max_message_size {
            return Err(ProtocolError::MessageTooBig { size, limit: self.max_message_size });
        }
        Ok(())
    }

    /// Returns whether this is the first frame of a compressed message. RFC 7692 6: RSV1 is set on that frame only, and
    /// never on a control frame.
    #[cold]
    fn is_compressed(&self, header: &FrameHeader) -> bool {
        let starts_message = matches!(header.opcode, Opcode::Text | Opcode::Binary);
        header.rsv == RSV1 && starts_message && self.extension.is_some()
    }

    /// Returns the bytes of memory that the message under way takes, and the windows of compression.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.memory())
            + self.extension.as_ref().map_or(0, |extension| extension.memory())
    }

    /// Whether a message or a frame of the peer has begun to arrive, and has not ended.
    pub(crate) fn has_begun_to_receive(&self) -> bool {
        self.assembly.as_ref().is_some_and(|assembly| !assembly.is_idle())
    }

    /// Frees the message under way, and receives nothing more.
    pub(crate) fn give_up(&mut self) {
        self.failed = true;
        self.assembly = None;
        if let Some(extension) = &mut self.extension {
            extension.abandon();
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "connection_fragment_tests.rs"]
mod fragment_tests;

#[cfg(all(test, feature = "deflate"))]
#[path = "connection_deflate_tests.rs"]
mod deflate_tests;
