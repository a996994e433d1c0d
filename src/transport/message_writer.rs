//! A message that the application writes in parts, whatever connection sends it.

use std::fmt;
use std::io::{self, Read, Write};

use crate::config::stream_options::StreamOptions;
use crate::protocol::Last;
use crate::protocol::frame::Opcode;
use crate::protocol::utf8::Validator;

/// Why a connection ends whose message was not finished.
pub(crate) const UNFINISHED: &str = "a message was not finished";

/// A connection that a [`MessageWriter`] sends through: a [`Peer`](crate::Peer), a
/// [`ReconnectingSender`](crate::ReconnectingSender), or a [`WebSocket`](crate::WebSocket) that is borrowed. It can not be
/// implemented outside of this library.
///
/// ```
/// use std::io::{self, Write};
/// use threadbare::{Carrier, MessageWriter};
///
/// /// Sends a table as one message, whatever carries it.
/// fn send_table<C: Carrier>(mut message: MessageWriter<C>, rows: &[(u32, u32)]) -> io::Result<()> {
///     for (number, square) in rows {
///         writeln!(message, "{number},{square}")?;
///     }
///     message.finish()
/// }
/// ```
pub trait Carrier {
    /// What the connection keeps of the message.
    #[doc(hidden)]
    type Message;

    /// Sends a part, and takes `payload`, in place of which it leaves a buffer with whatever is in that. On an error `payload`
    /// is left as it is, and the call can be repeated.
    #[doc(hidden)]
    fn send_part(
        &mut self,
        message: &mut Self::Message,
        payload: &mut Vec<u8>,
        last: Last,
        options: &StreamOptions,
    ) -> io::Result<()>;

    /// Has the connection pass on what it gathered itself.
    #[doc(hidden)]
    fn flush_parts(&mut self, message: &mut Self::Message) -> io::Result<()>;

    /// Ends a message that was not finished.
    #[doc(hidden)]
    fn fail_message(&mut self, message: &mut Self::Message);
}

/// Writes one message in parts, so that a message of any size needs little memory. Made by
/// [`Peer::writer`](crate::Peer::writer), [`Client::writer`](crate::Client::writer),
/// [`ReconnectingSender::writer`](crate::ReconnectingSender::writer) and [`WebSocket::writer`](crate::WebSocket::writer).
///
/// ```
/// use std::io::Write;
/// use threadbare::StreamOptions;
///
/// # let server = threadbare::Server::bind("127.0.0.1:0")?;
/// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
/// let mut table = client.writer(StreamOptions::text());
/// for row in 0..1_000_000_u64 {
///     writeln!(table, "{row},{}", row * row)?;
///     # if row > 100_000 { break }
/// }
/// table.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What is written is gathered until it has the size of a fragment
/// ([`Config::fragment_size`](crate::Config::fragment_size)), and is then sent as one (RFC 6455 5.4). [`flush`](Write::flush)
/// sends what is gathered at once. A message that is [finished](MessageWriter::finish) before the first fragment is full
/// is sent as an ordinary one.
///
/// From its first fragment to its last the message has the connection for itself: data that others send waits behind it, and
/// pings, pongs and close frames of the peer do not wait. A writer that is dropped after its first fragment and before
/// [`finish`](MessageWriter::finish) leaves a message that can be neither completed nor taken back, so the
/// connection is failed with 1011.
pub struct MessageWriter<C: Carrier> {
    carrier: C,
    message: C::Message,
    options: StreamOptions,
    fragment_size: usize,
    /// What is gathered: at most a fragment.
    gathered: Vec<u8>,
    /// The check of a text.
    validator: Option<Validator>,
    progress: Progress,
}

/// How far the message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No fragment was sent.
    Gathering,
    /// A fragment was sent, and the last was not.
    Begun,
    /// Invalid text was written.
    Invalid {
        has_begun: bool,
    },
    Finished,
}

impl<C: Carrier> MessageWriter<C> {
    pub(crate) fn new(
        carrier: C,
        message: C::Message,
        options: StreamOptions,
        default_size: usize,
    ) -> MessageWriter<C> {
        MessageWriter {
            carrier,
            message,
            options,
            fragment_size: options.fragment_size.unwrap_or(default_size).max(1),
            gathered: Vec::new(),
            validator: (options.opcode == Opcode::Text).then(Validator::default),
            progress: Progress::Gathering,
        }
    }

    pub(crate) fn message_mut(&mut self) -> &mut C::Message {
        &mut self.message
    }

    /// Sends what is gathered as the last fragment, which completes the message.
    ///
    /// ```
    /// use std::io::Write;
    /// use threadbare::{Message, StreamOptions};
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// # let threadbare::Event::Open(peer, _) = server.recv()? else { panic!("the first event") };
    /// let mut writer = peer.writer(StreamOptions::text());
    /// writer.write_all(b"one ")?;
    /// writer.write_all(b"message")?;
    /// writer.finish()?;
    /// assert_eq!(client.recv()?, Some(Message::from("one message")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for a write. If a fragment was sent before, the connection is then failed with 1011.
    /// [`InvalidData`](io::ErrorKind::InvalidData) also if the text ends inside a character.
    pub fn finish(mut self) -> io::Result<()> {
        self.check()?;
        if self.validator.is_some_and(|validator| validator.finish().is_err()) {
            return Err(self.invalid());
        }
        self.send(Last::Yes)?;
        self.progress = Progress::Finished;
        self.carrier.flush_parts(&mut self.message)
    }

    /// Sends what `source` has, until it ends, and finishes the message. Returns its size in bytes.
    pub(crate) fn copy_from(mut self, mut source: impl Read) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let mut part = std::mem::take(&mut self.gathered);
            read_part(&mut source, &mut part, self.fragment_size)?;
            if part.is_empty() {
                break;
            }
            total += part.len() as u64;
            self.validate(&part)?;
            self.gathered = part;
            self.send(Last::No)?;
        }
        self.finish()?;
        Ok(total)
    }

    fn check(&self) -> io::Result<()> {
        match self.progress {
            Progress::Invalid { .. } => Err(invalid_text()),
            _ => Ok(()),
        }
    }

    /// Checks the next bytes of a text.
    fn validate(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.validator.as_mut().map(|validator| validator.feed(bytes)) {
            Some(Err(_)) => Err(self.invalid()),
            _ => Ok(()),
        }
    }

    fn invalid(&mut self) -> io::Error {
        self.progress = Progress::Invalid { has_begun: self.progress == Progress::Begun };
        invalid_text()
    }

    /// Sends what is gathered. What is in its place then has no meaning.
    fn send(&mut self, last: Last) -> io::Result<()> {
        self.carrier.send_part(&mut self.message, &mut self.gathered, last, &self.options)?;
        self.progress = Progress::Begun;
        Ok(())
    }
}

impl<C: Carrier> Write for MessageWriter<C> {
    /// Gathers what is written, and sends it once it has the size of a fragment.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) if a text is not UTF-8: nothing of what was passed is sent.
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the connection is closed or lost. The method that made the writer names
    /// further ones, after which the write can be repeated.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.gathered.len() >= self.fragment_size {
            self.send(Last::No)?;
            self.gathered.clear();
        }
        let room = self.fragment_size.saturating_sub(self.gathered.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.validate(taken)?;
        self.gathered.extend_from_slice(taken);
        Ok(taken.len())
    }

    /// Sends what is gathered, as a fragment.
    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        if !self.gathered.is_empty() {
            self.send(Last::No)?;
            self.gathered.clear();
        }
        self.carrier.flush_parts(&mut self.message)
    }
}

impl<C: Carrier> Drop for MessageWriter<C> {
    fn drop(&mut self) {
        if matches!(self.progress, Progress::Begun | Progress::Invalid { has_begun: true }) {
            self.carrier.fail_message(&mut self.message);
        }
    }
}

/// Says how far the message has come, and nothing of it.
impl<C: Carrier> fmt::Debug for MessageWriter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter")
            .field("options", &self.options)
            .field("gathered", &self.gathered.len())
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

/// Reads once into `part`, at most `size` bytes; none at the end of the source. What it held before is lost.
pub(crate) fn read_part(source: &mut impl Read, part: &mut Vec<u8>, size: usize) -> io::Result<()> {
    part.resize(size, 0);
    loop {
        match source.read(part) {
            Ok(read) if read <= size => {
                part.truncate(read);
                return Ok(());
            }
            // Some of the buffer may be of an earlier part.
            Ok(_) => return Err(io::Error::other("the source says that it read more than it was asked for")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The error for text that is not UTF-8.
pub(crate) fn invalid_text() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the text is not UTF-8 (RFC 6455 8.1)")
}

/// The error for a part that is not waited for.
pub(crate) fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, why)
}
