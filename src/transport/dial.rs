//! Connecting, and the few blocking steps before a socket goes to a worker, all with a deadline.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::transport::cancel::CancelToken;
use crate::transport::stream::Stream;
use crate::transport::stream::attempt::{Io, attempt};

/// RFC 8305 5: the "Connection Attempt Delay", recommended to be 250 milliseconds.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to whichever of `addrs` answers first; a new attempt is begun when one fails, or a little later (RFC 8305
/// 5). The error is the last attempt's.
pub(crate) fn connect(addrs: &[SocketAddr], deadline: Instant, cancel: &CancelToken) -> io::Result<TcpStream> {
    let mut poll = Poll::new()?;
    cancel.watch_poll(&poll)?;
    let mut events = Events::with_capacity(16);
    let mut attempts: Vec<Option<TcpStream>> = Vec::new();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    let mut next_at = Instant::now();
    loop {
        let now = Instant::now();
        if now >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut idle = attempts.iter().all(Option::is_none);
        if let Some(addr) = addrs.get(attempts.len())
            && (idle || now >= next_at)
        {
            next_at = now + ATTEMPT_DELAY;
            let token = Token(attempts.len());
            let begun = TcpStream::connect(*addr).and_then(|mut stream| {
                poll.registry().register(&mut stream, token, Interest::WRITABLE)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => {
                    attempts.push(Some(stream));
                    idle = false;
                }
                Err(error) => {
                    failure = error;
                    attempts.push(None);
                    continue;
                }
            }
        }
        let more = attempts.len() < addrs.len();
        if idle && !more {
            return Err(failure);
        }
        let until = if more { deadline.min(next_at) } else { deadline };
        wait(&mut poll, &mut events, until)?;
        cancel.check()?;
        for event in &events {
            let Some(slot) = attempts.get_mut(event.token().0) else { continue };
            let Some(stream) = slot else { continue };
            match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {
                    poll.registry().deregister(stream)?;
                    return slot.take().ok_or(failure);
                }
                // Not connected yet: a spurious event.
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => {
                    failure = error;
                    *slot = None;
                    next_at = Instant::now();
                }
            }
        }
    }
}

/// A listener whose queue is full is asked again after 5 ms, because no event says when there is room. Larger connects
/// later than it could; smaller asks more often while the server is behind.
#[cfg(unix)]
const FULL_RETRY: Duration = Duration::from_millis(5);

/// Connects to a Unix socket. Linux refuses a connection at once while the listener's queue is full, and TCP does not:
/// here it is tried again until the deadline.
#[cfg(unix)]
pub(crate) fn connect_unix(
    addr: &std::os::unix::net::SocketAddr,
    deadline: Instant,
    cancel: &CancelToken,
) -> io::Result<mio::net::UnixStream> {
    let mut poll = Poll::new()?;
    cancel.watch_poll(&poll)?;
    let mut events = Events::with_capacity(1);
    loop {
        match mio::net::UnixStream::connect_addr(addr) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        wait(&mut poll, &mut events, deadline.min(now + FULL_RETRY))?;
        cancel.check()?;
    }
}

/// A stream whose every call ends by the deadline, with [`io::ErrorKind::TimedOut`], or at the interrupt.
#[derive(Debug)]
pub(crate) struct DeadlineStream<'a> {
    stream: &'a mut Stream,
    poll: Poll,
    events: Events,
    deadline: Instant,
    cancel: &'a CancelToken,
}

impl<'a> DeadlineStream<'a> {
    pub(crate) fn new(
        stream: &'a mut Stream,
        deadline: Instant,
        cancel: &'a CancelToken,
    ) -> io::Result<DeadlineStream<'a>> {
        let poll = Poll::new()?;
        cancel.watch_poll(&poll)?;
        poll.registry().register(stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
        Ok(DeadlineStream { stream, poll, events: Events::with_capacity(4), deadline, cancel })
    }

    /// Does the handshake of TLS, if the stream has one.
    #[cfg(feature = "rustls-tls")]
    pub(crate) fn handshake(&mut self) -> io::Result<()> {
        let Stream::Tls(_) = self.stream else { return Ok(()) };
        self.complete(|stream| match stream {
            Stream::Tls(stream) => stream.handshake().map(|()| 1),
            _ => Ok(1),
        })
        .map(|_| ())
    }

    /// Runs an operation until it goes through.
    fn complete(&mut self, mut operation: impl FnMut(&mut Stream) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match attempt(|| operation(self.stream)) {
                Io::Done(size) => return Ok(size),
                Io::End => return Ok(0),
                Io::Failed(error) => return Err(error),
                Io::WouldBlock => {
                    if Instant::now() >= self.deadline {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    wait(&mut self.poll, &mut self.events, self.deadline)?;
                    self.cancel.check()?;
                }
            }
        }
    }
}

impl Read for DeadlineStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.complete(|stream| stream.read(buffer))
    }
}

impl Write for DeadlineStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.complete(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for DeadlineStream<'_> {
    fn drop(&mut self) {
        // The poll goes as well, so a failure changes nothing.
        let _ = self.poll.registry().deregister(self.stream);
    }
}

/// Polls until `until`. A signal ends the wait early.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, until: Instant) -> io::Result<()> {
    match poll.poll(events, Some(until.saturating_duration_since(Instant::now()))) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn never() -> CancelToken {
        CancelToken::default()
    }

    #[test]
    fn what_waits_ends_at_the_interrupt_and_so_does_what_comes_later() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let cancel = CancelToken::default();
        let stream = connect(&[addr], soon(), &cancel).expect("connected");
        let mut stream = Stream::Tcp(stream);
        let mut timed = DeadlineStream::new(&mut stream, soon(), &cancel).expect("a poll");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| timed.read(&mut [0; 8]).expect_err("silence").kind());
            cancel.raise();
            assert_eq!(reader.join().expect("no panic"), io::ErrorKind::ConnectionAborted);
        });
        assert!(connect(&[addr], soon(), &cancel).is_err());
    }

    #[test]
    fn an_address_that_refuses_gives_way_to_the_next() {
        let refusing = TcpListener::bind("127.0.0.1:0").and_then(|closed| closed.local_addr()).expect("a port");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let stream = connect(&[refusing, addr], soon(), &never()).expect("connected");
        assert_eq!(stream.peer_addr().expect("an address"), addr);
        let error = connect(&[refusing], soon(), &never()).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// A listener of std has a queue of the system's largest size, so this one's is made small.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_unix_socket_whose_queue_is_full_is_tried_again() {
        use std::os::unix::net::UnixListener;
        let name = std::path::PathBuf::from(format!("@threadbare-dial-{}", std::process::id()));
        let addr = crate::transport::unix::socket_addr(&name).expect("an address");
        let listener = UnixListener::bind_addr(&addr).expect("a listener");
        socket2::SockRef::from(&listener).listen(0).expect("a smaller queue");
        let waiting = connect_unix(&addr, soon(), &never()).expect("connected");
        let deadline = Instant::now() + Duration::from_millis(30);
        let error = connect_unix(&addr, deadline, &never()).expect_err("the queue is full");
        assert_eq!((error.kind(), Instant::now() >= deadline), (io::ErrorKind::TimedOut, true));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| connect_unix(&addr, soon(), &never()).expect("connected"));
            listener.accept().expect("the first");
            listener.accept().expect("the second");
            drop(second.join().expect("no panic"));
        });
        let cancel = CancelToken::default();
        let _filled = connect_unix(&addr, soon(), &cancel).expect("connected");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| connect_unix(&addr, soon(), &cancel).expect_err("cancelled").kind());
            cancel.raise();
            assert_eq!(second.join().expect("no panic"), io::ErrorKind::ConnectionAborted);
        });
        drop((waiting, listener));
        let error = connect_unix(&addr, soon(), &never()).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn reading_ends_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let mut stream = Stream::Tcp(connect(&[addr], soon(), &never()).expect("connected"));
        let deadline = Instant::now() + Duration::from_millis(30);
        let error = DeadlineStream::new(&mut stream, deadline, &never())
            .expect("a poll")
            .read(&mut [0; 8])
            .expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline);
    }
}
