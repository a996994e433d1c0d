//! Connecting, and the few blocking steps before a socket goes to a worker, all with a deadline.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::transport::interrupt::{Interrupt, interrupted};
use crate::transport::stream::{Io, attempt};

/// RFC 8305 5: the "Connection Attempt Delay", recommended to be 250 milliseconds.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The addresses of a host, the two families in turns (RFC 8305 4). The system's resolver can not be interrupted, so it
/// runs on a thread of its own, which is abandoned at the deadline or the interrupt.
pub(crate) fn resolve(host: &str, port: u16, deadline: Instant, interrupt: &Interrupt) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = host.to_owned();
    let look_up = move || Ok((name.as_str(), port).to_socket_addrs()?.collect());
    let addrs = on_thread(look_up, deadline, interrupt)?;
    if addrs.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    Ok(in_turns(addrs))
}

/// Has a thread look up the addresses, and leaves it alone at the deadline or the interrupt.
fn on_thread(
    look_up: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    deadline: Instant,
    interrupt: &Interrupt,
) -> io::Result<Vec<SocketAddr>> {
    let (sender, resolved) = crossbeam_channel::bounded(1);
    let interrupting = sender.clone();
    interrupt.watch(move || drop(interrupting.try_send(Err(interrupted()))))?;
    std::thread::Builder::new().name("ws-resolver".into()).spawn(move || {
        // Nobody listens after the deadline, and after the interrupt there may be no room.
        let _ = sender.try_send(look_up());
    })?;
    resolved.recv_deadline(deadline).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The families in turns, beginning with the one that the resolver puts first.
fn in_turns(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        addrs.into_iter().partition(|addr| addr.is_ipv6() == first_is_v6);
    let mut order = Vec::new();
    while !first.is_empty() || !second.is_empty() {
        order.extend(first.pop_front());
        order.extend(second.pop_front());
    }
    order
}

/// Connects to whichever of `addrs` answers first; a new attempt is begun when one fails, or a little later (RFC 8305
/// 5). The error is the last attempt's.
pub(crate) fn connect(addrs: &[SocketAddr], deadline: Instant, interrupt: &Interrupt) -> io::Result<TcpStream> {
    let mut poll = Poll::new()?;
    interrupt.watch_poll(&poll)?;
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
        interrupt.check()?;
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

/// A stream whose every call ends by the deadline, with [`io::ErrorKind::TimedOut`], or at the interrupt.
#[derive(Debug)]
pub(crate) struct Timed<'a> {
    stream: &'a mut TcpStream,
    poll: Poll,
    events: Events,
    deadline: Instant,
    interrupt: &'a Interrupt,
}

impl<'a> Timed<'a> {
    pub(crate) fn new(stream: &'a mut TcpStream, deadline: Instant, interrupt: &'a Interrupt) -> io::Result<Timed<'a>> {
        let poll = Poll::new()?;
        interrupt.watch_poll(&poll)?;
        poll.registry().register(stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Timed { stream, poll, events: Events::with_capacity(4), deadline, interrupt })
    }

    /// Runs an operation until it goes through.
    fn complete(&mut self, mut operation: impl FnMut(&mut TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match attempt(|| operation(self.stream)) {
                Io::Done(size) => return Ok(size),
                Io::End => return Ok(0),
                Io::Failed(error) => return Err(error),
                Io::NotNow => {
                    if Instant::now() >= self.deadline {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    wait(&mut self.poll, &mut self.events, self.deadline)?;
                    self.interrupt.check()?;
                }
            }
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.complete(|stream| stream.read(buffer))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.complete(|stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        // The poll goes as well, so a failure changes nothing.
        let _ = self.poll.registry().deregister(self.stream);
    }
}

fn wait(poll: &mut Poll, events: &mut Events, until: Instant) -> io::Result<()> {
    match poll.poll(events, Some(until.saturating_duration_since(Instant::now()))) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn never() -> Interrupt {
        Interrupt::default()
    }

    #[test]
    fn what_waits_ends_at_the_interrupt_and_so_does_what_comes_later() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let interrupt = Interrupt::default();
        let mut stream = connect(&[addr], soon(), &interrupt).expect("connected");
        let mut timed = Timed::new(&mut stream, soon(), &interrupt).expect("a poll");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| timed.read(&mut [0; 8]).expect_err("silence").kind());
            interrupt.raise();
            assert_eq!(reader.join().expect("no panic"), io::ErrorKind::ConnectionAborted);
        });
        assert!(connect(&[addr], soon(), &interrupt).is_err() && resolve("localhost", 80, soon(), &interrupt).is_err());
    }

    #[test]
    fn a_resolver_that_hangs_is_abandoned() {
        let (answer, hang) = crossbeam_channel::bounded::<()>(0);
        let hanging = || {
            let hang = hang.clone();
            move || hang.recv().map(|()| Vec::new()).map_err(io::Error::other)
        };
        let deadline = Instant::now() + Duration::from_millis(20);
        let error = on_thread(hanging(), deadline, &never()).expect_err("no answer");
        assert!(error.kind() == io::ErrorKind::TimedOut && Instant::now() >= deadline);
        let interrupt = Interrupt::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| on_thread(hanging(), soon(), &interrupt).expect_err("no answer").kind());
            interrupt.raise();
            assert_eq!(waiting.join().expect("no panic"), io::ErrorKind::ConnectionAborted);
        });
        drop(answer);
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

    #[test]
    fn reading_ends_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let mut stream = connect(&[addr], soon(), &never()).expect("connected");
        let deadline = Instant::now() + Duration::from_millis(30);
        let error =
            Timed::new(&mut stream, deadline, &never()).expect("a poll").read(&mut [0; 8]).expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline);
    }

    #[test]
    fn the_families_take_turns() {
        let v4 = |n| SocketAddr::from((Ipv4Addr::from(n), 1));
        let v6 = |n| SocketAddr::from((Ipv6Addr::from(n), 1));
        let order = in_turns(vec![v6(1_u128), v6(2), v4(1_u32), v4(2), v4(3)]);
        assert_eq!(order, [v6(1), v4(1), v6(2), v4(2), v4(3)]);
    }

    #[test]
    fn a_name_is_resolved_and_a_literal_needs_no_resolver() {
        assert_eq!(
            resolve("127.0.0.1", 80, Instant::now(), &never()).expect("a literal"),
            [SocketAddr::from(([127, 0, 0, 1], 80))]
        );
        assert!(resolve("localhost", 80, soon(), &never()).expect("a name").iter().all(|addr| addr.ip().is_loopback()));
    }
}
