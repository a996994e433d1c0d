//! One connection to Redis: connecting, signing in, bytes both ways without blocking, and how its silence ends it.

use std::time::{Duration, Instant};
use std::{fmt, io};

use mio::{Events, Interest, Poll, Token, Waker};

use crate::bridge::redis::resp::{self, Garbage, NoReply, Parsed, Reader, Reply};
use crate::bridge::redis::url::{Place, Target};
use crate::protocol::escaped::Escaped;
use crate::transport::cancel::CancelToken;
use crate::transport::dial;
use crate::transport::resolve::resolve;
use crate::transport::stream::Stream;
use crate::transport::stream::attempt::{Io, attempt};
use crate::transport::stream::byte_stream::ByteStream;
#[cfg(feature = "rustls-tls")]
use crate::transport::tls::client_config::ClientTls;

/// Connecting and signing in take at most 5 s. Longer delays the next attempt, which may reach a host that is up again;
/// shorter fails over slow networks.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is silent for 5 s is asked for a PONG.
const PING_AFTER: Duration = Duration::from_secs(5);

/// A connection on which nothing comes for 10 s after a command is lost. Shorter would give up a Redis that works on a long
/// command; longer would notice a dead host later.
const SILENCE: Duration = Duration::from_secs(10);

/// At least so much is read at once, if it is there.
const READ: usize = 64 << 10;

const STREAM: Token = Token(0);
const WAKE: Token = Token(1);

/// Where a thread of the bridge waits: for its connection, or for another thread that wakes it.
#[derive(Debug)]
pub(super) struct Waits {
    poll: Poll,
    events: Events,
    /// How often it waited.
    count: u64,
}

impl Waits {
    pub(super) fn new() -> io::Result<(Waits, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        Ok((Waits { poll, events: Events::with_capacity(4), count: 0 }, waker))
    }

    /// Waits until something happens, or the time has come.
    pub(super) fn wait(&mut self, until: Instant) -> io::Result<()> {
        self.count += 1;
        dial::wait(&mut self.poll, &mut self.events, until)
    }
}

/// How a connection is made.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) target: Target,
    #[cfg(feature = "rustls-tls")]
    pub(super) tls: Option<ClientTls>,
    /// The longest string that a reply may have.
    pub(super) max_bulk: u64,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Dialler {
    /// Connects and signs in.
    pub(super) fn connect(&self, waits: &mut Waits, cancel: &CancelToken) -> Result<Link, LinkError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut stream = self.dial(deadline, cancel)?;
        waits.poll.registry().register(&mut stream, STREAM, Interest::READABLE | Interest::WRITABLE)?;
        let mut link = Link {
            stream,
            received: Received::default(),
            out: Vec::new(),
            written: 0,
            heard_at: Instant::now(),
            asked_at: None,
            drained_at: None,
            max_bulk: self.max_bulk,
        };
        let replies = self.sign_in(&mut link.out);
        for _ in 0..replies {
            link.expect_simple(waits, deadline, cancel)?;
        }
        Ok(link)
    }

    fn dial(&self, deadline: Instant, cancel: &CancelToken) -> Result<Stream, LinkError> {
        match &self.target.place {
            Place::Tcp { host, port } => {
                let addrs = resolve(host, None, *port, deadline, cancel)?;
                let stream = dial::connect(&addrs, deadline, cancel)?;
                stream.set_nodelay(true)?;
                self.encrypt(Stream::Tcp(stream), host, deadline, cancel)
            }
            #[cfg(unix)]
            Place::Unix(path) => {
                let addr = crate::transport::unix::socket_addr(path)?;
                let socket = dial::connect_unix(&addr, deadline, cancel)?;
                let socket = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(socket));
                Ok(Stream::of_unix(socket))
            }
            #[cfg(not(unix))]
            Place::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets").into()),
        }
    }

    #[cfg(feature = "rustls-tls")]
    fn encrypt(
        &self,
        stream: Stream,
        host: &str,
        deadline: Instant,
        cancel: &CancelToken,
    ) -> Result<Stream, LinkError> {
        use crate::transport::tls::stream::TlsStream;

        let Some(tls) = &self.tls else { return Ok(stream) };
        let session = tls.session(host).map_err(|error| LinkError::Io(io::Error::other(error)))?;
        let mut stream = Stream::Tls(Box::new(TlsStream::new(stream, session)));
        dial::DeadlineStream::new(&mut stream, deadline, cancel)?.handshake()?;
        Ok(stream)
    }

    #[cfg(not(feature = "rustls-tls"))]
    #[expect(clippy::unused_self, reason = "the other form needs it")]
    fn encrypt(&self, stream: Stream, _: &str, _: Instant, _: &CancelToken) -> Result<Stream, LinkError> {
        Ok(stream)
    }

    /// Writes the first commands, and returns how many replies of one line follow.
    fn sign_in(&self, out: &mut Vec<u8>) -> usize {
        let mut replies = 1;
        if let Some(password) = &self.target.password {
            match &self.target.user {
                Some(user) => resp::command(out, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
                None => resp::command(out, &[b"AUTH", password.as_bytes()]),
            }
            replies += 1;
        }
        if let Some(database) = self.target.database {
            resp::command(out, &[b"SELECT", database.to_string().as_bytes()]);
            replies += 1;
        }
        resp::command(out, &[b"PING"]);
        replies
    }
}

/// A connection that has signed in.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    received: Received,
    /// What the socket has not taken.
    out: Vec<u8>,
    written: usize,
    heard_at: Instant,
    /// When the first command was sent since anything came.
    asked_at: Option<Instant>,
    /// After which wait nothing was left in the socket: there is no use in asking it before the next one.
    drained_at: Option<u64>,
    max_bulk: u64,
}

impl Link {
    /// Has bytes sent, as far as the socket takes them now.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.asked_at.get_or_insert_with(Instant::now);
        if self.written < self.out.len() {
            self.out.extend_from_slice(bytes);
            return self.flush();
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match attempt(|| io::Write::write(&mut self.stream, rest)) {
                Io::Done(size) => rest = &rest[size..],
                Io::WouldBlock => break,
                Io::End => return Err(LinkError::Closed),
                Io::Failed(error) => return Err(error.into()),
            }
        }
        self.out.extend_from_slice(rest);
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it now.
    pub(super) fn flush(&mut self) -> Result<(), LinkError> {
        while self.written < self.out.len() {
            match attempt(|| io::Write::write(&mut self.stream, &self.out[self.written..])) {
                Io::Done(size) => self.written += size,
                Io::WouldBlock => return Ok(()),
                Io::End => return Err(LinkError::Closed),
                Io::Failed(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once. `false` if nothing has arrived.
    pub(super) fn read(&mut self, waits: &Waits) -> Result<bool, LinkError> {
        if self.drained_at == Some(waits.count) {
            return Ok(false);
        }
        let most = usize::try_from(self.max_bulk).unwrap_or(usize::MAX).saturating_add(READ);
        let spare = self.received.spare(most);
        let offered = spare.len();
        match attempt(|| io::Read::read(&mut self.stream, spare)) {
            Io::Done(size) => {
                self.received.end += size;
                self.heard_at = Instant::now();
                self.asked_at = None;
                if !self.stream.has_more(size, offered) {
                    self.drained_at = Some(waits.count);
                }
                Ok(true)
            }
            Io::WouldBlock => {
                self.drained_at = Some(waits.count);
                Ok(false)
            }
            Io::End => Err(LinkError::Closed),
            Io::Failed(error) => Err(error.into()),
        }
    }

    /// Reads what arrived with a function that takes all that belongs together. `None` if that has not arrived whole.
    pub(super) fn take<'a, T>(
        &'a mut self,
        parse: impl FnOnce(&mut Reader<'a>) -> Parsed<T>,
    ) -> Result<Option<T>, LinkError> {
        let Received { bytes, start, end, wanted } = &mut self.received;
        let mut reader = Reader::new(&bytes[*start..*end], self.max_bulk);
        match parse(&mut reader) {
            Ok(parsed) => {
                *start += reader.position();
                Ok(Some(parsed))
            }
            // Two strings, and what is around them, belong together at most.
            Err(NoReply::Incomplete(_)) if (*end - *start) as u64 / 2 > self.max_bulk + READ as u64 => {
                Err(LinkError::Garbage(Garbage::LongReply))
            }
            Err(NoReply::Incomplete(size)) => {
                *wanted = size.map_or(0, |size| usize::try_from(size.get()).unwrap_or(usize::MAX));
                Ok(None)
            }
            Err(NoReply::Garbage(what)) => Err(LinkError::Garbage(what)),
        }
    }

    /// Waits until the connection or another thread has something, or `until`, if there is one, but no longer than until a PING is due. A
    /// connection that leaves a command without an answer is lost.
    pub(super) fn wait(&mut self, waits: &mut Waits, until: Option<Instant>) -> Result<(), LinkError> {
        let lost_at = self.asked_at.map(|at| at + SILENCE);
        let own = lost_at.unwrap_or(self.heard_at + PING_AFTER);
        waits.wait(until.map_or(own, |until| until.min(own)))?;
        // Something may have arrived while this thread had no processor.
        if lost_at.is_some_and(|at| Instant::now() >= at) && !self.read(waits)? {
            return Err(LinkError::Silent);
        }
        Ok(())
    }

    /// Asks for a PONG if the connection is silent. To be called only where a PONG may come.
    pub(super) fn ping_if_silent(&mut self) -> Result<(), LinkError> {
        if self.asked_at.is_none() && self.heard_at.elapsed() >= PING_AFTER {
            return self.send(b"*1\r\n$4\r\nPING\r\n");
        }
        Ok(())
    }

    fn expect_simple(&mut self, waits: &mut Waits, deadline: Instant, cancel: &CancelToken) -> Result<(), LinkError> {
        loop {
            cancel.check()?;
            self.flush()?;
            match self.take(|reader| reader.reply().map(Greeting::of))? {
                Some(Greeting::Good) => return Ok(()),
                Some(Greeting::Refused(text)) => return Err(LinkError::Refused(text)),
                Some(Greeting::Garbage) => return Err(LinkError::Garbage(Garbage::Unexpected)),
                None => {}
            }
            if !self.read(waits)? {
                if Instant::now() >= deadline {
                    return Err(LinkError::Silent);
                }
                waits.wait(deadline)?;
            }
        }
    }
}

/// The reply to a command of signing in.
enum Greeting {
    Good,
    Refused(String),
    Garbage,
}

impl Greeting {
    fn of(reply: Reply<'_>) -> Greeting {
        match reply {
            Reply::Simple(b"OK" | b"PONG") => Greeting::Good,
            Reply::Error(text) => Greeting::Refused(text_of(text)),
            _ => Greeting::Garbage,
        }
    }
}

/// The text of an error, for people.
pub(super) fn text_of(error: &[u8]) -> String {
    Escaped(&String::from_utf8_lossy(error)).to_string()
}

/// What was received and not parsed. It grows with what arrives, never with what is announced.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// How much the parser waits for, if it knows.
    wanted: usize,
}

impl Received {
    /// Room to read into: [`READ`] bytes, and for a large string as much again as has arrived.
    fn spare(&mut self, most: usize) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > 4 * READ {
                self.bytes = Vec::new();
            }
        }
        let filled = self.end - self.start;
        if self.bytes.len() - self.end < READ / 4 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, filled);
            let size = (filled + READ).max(self.wanted.min(2 * filled)).min(most.max(filled + READ));
            if self.bytes.len() < size {
                self.bytes.resize(size, 0);
            }
        }
        &mut self.bytes[self.end..]
    }
}

/// Why a connection ended, or was not made.
#[derive(Debug)]
pub(super) enum LinkError {
    Io(io::Error),
    Closed,
    Silent,
    Garbage(Garbage),
    Refused(String),
    /// The bridge ends.
    Stopped,
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        LinkError::Io(error)
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Io(error) => write!(f, "{error}"),
            LinkError::Closed => f.write_str("Redis has closed the connection"),
            LinkError::Silent => f.write_str("Redis does not answer"),
            LinkError::Garbage(what) => write!(f, "this is no Redis: {what}"),
            LinkError::Refused(text) => write!(f, "Redis answers: {text}"),
            LinkError::Stopped => f.write_str("the bridge was stopped"),
        }
    }
}
