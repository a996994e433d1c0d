//! Reading a message as it arrives, from a [`Client`] or a [`ReconnectingClient`](crate::ReconnectingClient).

use std::fmt;
use std::io::{self, BufRead, Cursor, Read};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::client::client::{Client, end_went_elsewhere};
use crate::client::error::ClientError;
use crate::client::gather::{Gather, Turn};
use crate::error::RecvTimeoutError;
use crate::protocol::close::CloseReason;
use crate::protocol::fragment::{Fragment, FragmentRef};
use crate::worker::channel::batch::{Batch, ClientPart};
use crate::worker::channel::event::Event;
use crate::worker::channel::received_fragment::ReceivedFragment;
use crate::worker::receiver::events::Events;

/// One message of a client, which is read as it arrives; made by [`Client::recv_reader`] and
/// [`ReconnectingClient::recv_reader`](crate::ReconnectingClient::recv_reader).
///
/// It ends as a file does: a read returns 0 after the last byte. While nobody reads, at most
/// [`max_event_buffer_size`](crate::Config::max_event_buffer_size) is received, and then the connection is not read. The other
/// connections of a pool are. [`Peer::abort`](crate::Peer::abort) of the client's [`peer`](Client::peer) ends a read that waits.
///
/// Other threads that receive from the client wait until this is dropped, and the thread that has it would wait for itself in
/// [`recv`](Client::recv) or [`finish`](Client::finish). If it is dropped before the end, the rest of the message is discarded.
///
/// ```
/// use std::io::Read;
/// use threadbare::{Client, Config, Event, Receive, Server};
///
/// let server = Server::bind("127.0.0.1:0")?;
/// let config = Config::default().receive(Receive::Fragments { max_size: None });
/// let client = Client::builder().config(config).connect(&format!("ws://{}", server.local_addr()))?;
/// let Event::Open(peer, _) = server.recv()? else { panic!("the first event") };
/// peer.send("one message")?;
/// let mut text = String::new();
/// client.recv_reader()?.expect("it is not closed").read_to_string(&mut text)?;
/// assert_eq!(text, "one message");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Every error of a read has the [`ClientError`] as its source. After the [deadline](ClientMessageReader::set_deadline) it is
/// [`TimedOut`](io::ErrorKind::TimedOut), and the reader can be used on. If the connection ends inside the message, it is
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), from every later read as well: the source says how it ended, and a client
/// that reconnects begins with the next message of the next connection.
#[derive(Debug)]
pub struct ClientMessageReader<'a> {
    events: &'a Events,
    turn: Option<Turn<'a>>,
    deadline: Option<Instant>,
    unread: Unread,
    is_text: bool,
    has_last: bool,
    /// How the connection ended inside the message.
    ended: Option<CloseReason>,
    /// Where a client of one connection keeps how that ended.
    end_of_client: Option<&'a OnceLock<CloseReason>>,
}

/// The fragment that is read.
enum Unread {
    /// In memory of its own.
    Owned { bytes: Cursor<Vec<u8>>, is_text: bool, is_last: bool },
    /// In the receive buffer of the client's worker, where so many bytes of it were taken.
    Received { fragment: Box<ReceivedFragment>, taken: usize },
}

impl Default for Unread {
    fn default() -> Unread {
        Unread::Owned { bytes: Cursor::default(), is_text: false, is_last: false }
    }
}

/// Says how much is left, and nothing of it.
impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").field("bytes", &self.bytes().len()).finish_non_exhaustive()
    }
}

impl From<Fragment> for Unread {
    fn from(fragment: Fragment) -> Unread {
        let (is_text, is_last) = (fragment.is_text(), fragment.is_last());
        Unread::Owned { bytes: Cursor::new(fragment.into_bytes()), is_text, is_last }
    }
}

impl Unread {
    fn is_text(&self) -> bool {
        matches!(self, Unread::Owned { is_text: true, .. })
    }

    fn is_last(&self) -> bool {
        match self {
            Unread::Owned { is_last, .. } => *is_last,
            Unread::Received { fragment, .. } => fragment.lend().is_last(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Unread::Owned { bytes, .. } => bytes.get_ref().get(bytes.position() as usize..).unwrap_or_default(),
            Unread::Received { fragment, taken } => fragment.as_bytes().get(*taken..).unwrap_or_default(),
        }
    }

    fn consume(&mut self, size: usize) {
        match self {
            Unread::Owned { bytes, .. } => bytes.consume(size),
            Unread::Received { taken, .. } => *taken = taken.saturating_add(size),
        }
    }
}

/// Why there is no further fragment.
#[derive(Debug)]
pub(super) enum NoFragment {
    /// The deadline has passed.
    Timeout,
    /// The connection has ended. Another one may follow.
    Ended(CloseReason),
    /// The channel has ended, and no connection follows.
    NoMore,
}

impl Client {
    /// Waits for the first bytes of the next message, and returns a reader of the message; `None` as
    /// [`recv`](Client::recv).
    ///
    /// The client's configuration should have [`Receive::Fragments`](crate::Receive::Fragments). Otherwise the message is
    /// received whole before it is read, up to [`max_message_size`](crate::Config::max_message_size).
    ///
    /// ```no_run
    /// use std::fs::File;
    /// use std::io;
    /// use threadbare::{Client, Config, Receive};
    ///
    /// let config = Config::default().receive(Receive::Fragments { max_size: None });
    /// let client = Client::builder().config(config).connect("ws://127.0.0.1:8080/")?;
    /// while let Some(mut reader) = client.recv_reader()? {
    ///     io::copy(&mut reader, &mut File::create("download")?)?; // however large it is
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv`](Client::recv).
    pub fn recv_reader(&self) -> Result<Option<ClientMessageReader<'_>>, ClientError> {
        self.reader(None)
    }

    /// As [`recv_reader`](Client::recv_reader), for up to `timeout`, which is for the whole message: see
    /// [`recv_reader_deadline`](Client::recv_reader_deadline).
    ///
    /// ```
    /// use std::time::Duration;
    /// use threadbare::ClientError;
    ///
    /// # let server = threadbare::Server::bind("127.0.0.1:0")?;
    /// # let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// assert!(matches!(client.recv_reader_timeout(Duration::from_millis(1)), Err(ClientError::Timeout)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv_timeout`](Client::recv_timeout).
    pub fn recv_reader_timeout(&self, timeout: Duration) -> Result<Option<ClientMessageReader<'_>>, ClientError> {
        self.reader(Instant::now().checked_add(timeout))
    }

    /// As [`recv_reader`](Client::recv_reader), until `deadline`, which is the first
    /// [deadline](ClientMessageReader::set_deadline) of the reader as well.
    ///
    /// ```
    /// use std::io::{self, Read};
    /// use std::time::{Duration, Instant};
    /// use threadbare::Client;
    ///
    /// /// Returns the next message, if all of it arrives within ten seconds.
    /// fn read(client: &Client) -> io::Result<Vec<u8>> {
    ///     let mut bytes = Vec::new();
    ///     let deadline = Instant::now() + Duration::from_secs(10);
    ///     if let Some(mut reader) = client.recv_reader_deadline(deadline).map_err(io::Error::other)? {
    ///         reader.read_to_end(&mut bytes)?;
    ///     }
    ///     Ok(bytes)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`recv_deadline`](Client::recv_deadline).
    pub fn recv_reader_deadline(&self, deadline: Instant) -> Result<Option<ClientMessageReader<'_>>, ClientError> {
        self.reader(Some(deadline))
    }

    fn reader(&self, deadline: Option<Instant>) -> Result<Option<ClientMessageReader<'_>>, ClientError> {
        match ClientMessageReader::begin(&self.events, &self.gather, Some(&self.ended), deadline) {
            Ok(reader) => Ok(Some(reader)),
            Err(NoFragment::Timeout) => Err(ClientError::Timeout),
            Err(NoFragment::Ended(_) | NoFragment::NoMore) => self.end(),
        }
    }
}

impl<'a> ClientMessageReader<'a> {
    /// Waits for the first fragment of a message.
    pub(super) fn begin(
        events: &'a Events,
        gather: &'a Gather,
        end_of_client: Option<&'a OnceLock<CloseReason>>,
        deadline: Option<Instant>,
    ) -> Result<ClientMessageReader<'a>, NoFragment> {
        let turn = gather.turn(deadline).map_err(|_| NoFragment::Timeout)?;
        let mut reader = ClientMessageReader {
            events,
            turn,
            deadline,
            unread: Unread::default(),
            is_text: false,
            // No message is begun whose rest would have to be discarded.
            has_last: true,
            ended: None,
            end_of_client,
        };
        let gathered = reader.turn.as_mut().and_then(|turn| turn.gathered.take());
        let first = gathered.map_or_else(|| reader.next_fragment(), |fragment| Ok(fragment.into()))?;
        reader.is_text = first.is_text();
        reader.keep(first);
        Ok(reader)
    }
}

impl ClientMessageReader<'_> {
    /// Returns whether the message is text.
    ///
    /// ```
    /// use threadbare::ClientMessageReader;
    ///
    /// fn extension(reader: &ClientMessageReader<'_>) -> &'static str {
    ///     if reader.is_text() { "txt" } else { "bin" }
    /// }
    /// ```
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// Sets until when reads wait. `None`, which [`Client::recv_reader`] sets, has them wait without a limit.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::time::{Duration, Instant};
    /// use threadbare::ClientMessageReader;
    ///
    /// /// Reads on as long as something comes every five seconds.
    /// fn read(reader: &mut ClientMessageReader<'_>, buffer: &mut [u8]) -> std::io::Result<usize> {
    ///     reader.set_deadline(Instant::now() + Duration::from_secs(5));
    ///     reader.read(buffer)
    /// }
    /// ```
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Instant>>) {
        self.deadline = deadline.into();
    }

    fn next_fragment(&mut self) -> Result<Unread, NoFragment> {
        loop {
            let event = match self.events.take_until(self.deadline, Batch::next_part) {
                Ok(ClientPart::Event(event)) => event,
                Ok(ClientPart::Received(fragment)) if self.discards(fragment.lend()) => continue,
                Ok(ClientPart::Received(fragment)) => return Ok(Unread::Received { fragment, taken: 0 }),
                Err(RecvTimeoutError::Timeout) => return Err(NoFragment::Timeout),
                Err(RecvTimeoutError::Disconnected) => return Err(NoFragment::NoMore),
            };
            match event {
                // Between two messages this is the next connection; inside one its end went to another receiver.
                Event::Open(..) if self.has_last => {}
                // Only a server drains.
                Event::Drain(..) => {}
                Event::Open(..) => return Err(NoFragment::Ended(end_went_elsewhere())),
                Event::Message(_, message) => return Ok(Unread::from(Fragment::new(message, 0, true))),
                Event::Fragment(_, fragment) => {
                    if !self.discards(fragment.as_ref()) {
                        return Ok(Unread::from(fragment));
                    }
                }
                Event::Close(_, reason) => {
                    if let Some(end) = self.end_of_client {
                        // No other thread has set it: a connection has one `Close` event.
                        let _ = end.set(reason.clone());
                    }
                    return Err(NoFragment::Ended(reason));
                }
            }
        }
    }

    /// Whether this fragment belongs to a message that was abandoned.
    fn discards(&mut self, fragment: FragmentRef<'_>) -> bool {
        self.turn.as_mut().is_some_and(|turn| turn.gathered.discards(fragment))
    }

    /// Why the connection has ended, where the channel did not say it.
    fn known_end(&self) -> CloseReason {
        self.end_of_client.and_then(OnceLock::get).cloned().unwrap_or_else(end_went_elsewhere)
    }

    fn keep(&mut self, unread: Unread) {
        self.has_last = unread.is_last();
        self.unread = unread;
    }
}

impl Read for ClientMessageReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let size = self.fill_buf()?.read(buffer)?;
        self.consume(size);
        Ok(size)
    }
}

impl BufRead for ClientMessageReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.has_last && self.unread.bytes().is_empty() {
            // Before the wait, so that the worker can receive into it again.
            self.unread = Unread::default();
            if let Some(reason) = &self.ended {
                let error = ClientError::Failed(reason.clone());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
            match self.next_fragment() {
                Ok(fragment) => self.keep(fragment),
                Err(NoFragment::Timeout) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, ClientError::<CloseReason>::Timeout));
                }
                Err(NoFragment::Ended(reason)) => self.ended = Some(reason),
                Err(NoFragment::NoMore) => self.ended = Some(self.known_end()),
            }
        }
        Ok(self.unread.bytes())
    }

    fn consume(&mut self, size: usize) {
        self.unread.consume(size);
    }
}

impl Drop for ClientMessageReader<'_> {
    fn drop(&mut self) {
        let has_rest = !self.has_last && self.ended.is_none();
        if let Some(turn) = self.turn.as_mut().filter(|_| has_rest) {
            turn.gathered.abandon();
        }
    }
}
