//! Reading a message as it arrives, over a [`WebSocket`].

use std::io::{self, BufRead, Cursor, Read, Write};
use std::ops::Range;

use crate::protocol::fragment::Fragment;
use crate::protocol::gathered::Gathered;
use crate::protocol::message::Message;
use crate::socket::receiving::Data;
use crate::socket::{SocketError, WebSocket};

/// One message of a [`WebSocket`], which is read as it arrives; made by [`WebSocket::recv_reader`].
///
/// It takes memory for what one read of the stream brings, whatever the size of the message. It ends as a file does: a
/// read returns 0 after the last byte. Pings are answered while it reads.
///
/// A text is valid UTF-8, and what the reader has buffered is not cut inside a character; [`read`](Read::read) may cut one
/// where the caller's buffer ends.
///
/// If it is dropped before the end, the next [`recv`](WebSocket::recv) or `recv_reader` reads the rest of the message and
/// discards it.
///
/// ```
/// use std::io::Read;
/// use std::net::{TcpListener, TcpStream};
/// use threadbare::{Config, Role, WebSocket};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = TcpStream::connect(listener.local_addr()?)?;
/// let mut client = WebSocket::from_established(stream, Role::Client, vec![], &Config::default());
/// let mut server = WebSocket::from_established(listener.accept()?.0, Role::Server, vec![], &Config::default());
/// client.send("one message")?;
/// let mut reader = server.recv_reader()?.expect("the client has not closed");
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "one message");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Every error of a read has the [`SocketError`] as its source. A stream that times out, or is not ready, is
/// [`TimedOut`](io::ErrorKind::TimedOut), after which the reader can be used on. If the connection ends inside the
/// message, that is [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), and a violation by the peer
/// [`InvalidData`](io::ErrorKind::InvalidData).
#[derive(Debug)]
pub struct MessageReader<'a, S: Read + Write> {
    socket: &'a mut WebSocket<S>,
    unread: Unread,
    is_text: bool,
    has_last: bool,
}

/// The fragment that is read.
#[derive(Debug)]
enum Unread {
    /// In memory of its own.
    Owned(Cursor<Vec<u8>>),
    /// Here in the receive buffer, which nothing is received into before it is read.
    Lent(Range<usize>),
}

impl From<Data> for Unread {
    fn from(data: Data) -> Unread {
        match data {
            Data::Fragment(fragment) => Unread::Owned(Cursor::new(fragment.into_bytes())),
            Data::Message(message) => Unread::Owned(Cursor::new(message.into_bytes())),
            Data::Lent(fragment) => Unread::Lent(fragment.range),
        }
    }
}

impl Unread {
    fn bytes<'a, S>(&'a self, socket: &'a WebSocket<S>) -> &'a [u8] {
        match self {
            Unread::Owned(bytes) => bytes.get_ref().get(bytes.position() as usize..).unwrap_or_default(),
            Unread::Lent(range) => socket.input.current.as_slice().get(range.clone()).unwrap_or_default(),
        }
    }

    fn consume(&mut self, size: usize) {
        match self {
            Unread::Owned(bytes) => bytes.consume(size),
            Unread::Lent(range) => range.start = range.start.saturating_add(size).min(range.end),
        }
    }
}

impl<S: Read + Write> WebSocket<S> {
    /// Waits for the first bytes of the next message, and returns a reader of the message. Returns `None` once the closing
    /// handshake is complete. Otherwise as [`recv`](WebSocket::recv).
    ///
    /// [`Config::max_message_size`](crate::Config::max_message_size) does not apply to the message, for which the library
    /// needs no memory. [`Receive::Fragments`](crate::Receive::Fragments) of [`Config::receive`](crate::Config::receive) can
    /// set a limit, and so can [`Read::take`].
    ///
    /// ```no_run
    /// use std::fs::File;
    /// use std::io;
    /// use std::net::TcpStream;
    ///
    /// use threadbare::WebSocket;
    ///
    /// let mut socket = WebSocket::connect("ws://127.0.0.1:8080/", TcpStream::connect("127.0.0.1:8080")?)?;
    /// while let Some(mut reader) = socket.recv_reader()? {
    ///     io::copy(&mut reader, &mut File::create("download")?)?; // however large it is
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](WebSocket::recv).
    pub fn recv_reader(&mut self) -> Result<Option<MessageReader<'_, S>>, SocketError> {
        let arrived = self.endpoint.connection.deliver_fragments(self.max_size_of_fragments);
        let partial = self.partial.get_or_insert_default();
        let first = match arrived.or_else(|| partial.take()) {
            Some(first) => Data::Fragment(first),
            None => match self.first_fragment()? {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let (is_text, has_last) = (matches!(&first, Data::Fragment(first) if first.is_text()), first.is_end());
        self.partial = None;
        Ok(Some(MessageReader { socket: self, unread: Unread::from(first), is_text, has_last }))
    }

    /// Waits for the first fragment of a message.
    fn first_fragment(&mut self) -> Result<Option<Data>, SocketError> {
        loop {
            let data = match self.next_data(|_| Ok(()))? {
                None => return Ok(None),
                Some(Data::Message(_)) => continue,
                Some(data) => data,
            };
            let partial = self.partial.as_mut();
            if !partial.is_some_and(|partial| partial.discards_at(data.offset(), data.is_end())) {
                return Ok(Some(data));
            }
        }
    }

    /// Adds a fragment to the message that [`recv`](WebSocket::recv) is to return, unless its reader was dropped.
    #[cold]
    pub(super) fn gather(&mut self, fragment: Fragment) -> Result<Option<Message>, SocketError> {
        let is_last = fragment.is_last();
        let gathered = self.partial.get_or_insert_default().add(fragment, self.max_message_size);
        if is_last {
            self.end_fragments();
        }
        gathered.map_err(|error| self.fail(error))
    }

    /// Has the connection deliver whole messages again, after the last fragment of one.
    fn end_fragments(&mut self) {
        self.endpoint.connection.deliver_messages();
        self.partial = None;
    }
}

impl<S: Read + Write> MessageReader<'_, S> {
    /// Returns whether the message is text.
    ///
    /// ```
    /// use std::io::{self, Read, Write};
    /// use threadbare::MessageReader;
    ///
    /// fn extension<S: Read + Write>(reader: &MessageReader<'_, S>) -> &'static str {
    ///     if reader.is_text() { "txt" } else { "bin" }
    /// }
    /// ```
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.is_text
    }
}

impl<S: Read + Write> Read for MessageReader<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let size = self.fill_buf()?.read(buffer)?;
        self.consume(size);
        Ok(size)
    }
}

impl<S: Read + Write> BufRead for MessageReader<'_, S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.has_last && self.unread.bytes(self.socket).is_empty() {
            match self.socket.next_data(|_| Ok(())) {
                Ok(Some(Data::Message(_))) => {}
                Ok(Some(data)) => {
                    self.has_last = data.is_end();
                    self.unread = Unread::from(data);
                }
                Ok(None) => return Err(SocketError::Closed.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.unread.bytes(self.socket))
    }

    fn consume(&mut self, size: usize) {
        self.unread.consume(size);
    }
}

impl<S: Read + Write> Drop for MessageReader<'_, S> {
    fn drop(&mut self) {
        if self.has_last {
            self.socket.end_fragments();
        } else {
            let mut rest = Box::<Gathered>::default();
            rest.abandon();
            self.socket.partial = Some(rest);
        }
    }
}
