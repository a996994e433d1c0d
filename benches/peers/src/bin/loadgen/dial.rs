//! Opening connections, many at a time.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use peers::handshake::{self, Request};
use peers::target::Target;
use peers::tls::{self, Handshake, Stream};
use rustls::ClientConfig;
use socket2::{SockRef, Socket, Type};

use crate::{Run, TIMEOUT};

/// At most this many opening handshakes are in progress at a time.
const MAX_HANDSHAKES: usize = 128;

/// At most this many connections are made from one source address. By default Linux has 28,232 ports for them.
const MAX_PER_ADDRESS: usize = 20_000;

/// Where to connect to, and what to say there.
pub(crate) struct Dialer {
    target: Target,
    request: Rc<Request>,
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    pub(crate) fn new(run: &Run, request: Request) -> io::Result<Dialer> {
        let tls = if run.scenario.tls { Some(tls::client_config()?) } else { None };
        Ok(Dialer { target: run.target.clone(), request: Rc::new(request), tls })
    }

    /// Without TLS.
    pub(crate) fn plain(target: &Target, request: Request) -> Dialer {
        Dialer { target: target.clone(), request: Rc::new(request), tls: None }
    }
}

/// A connection whose opening handshake is in progress.
pub(crate) struct Dial {
    stream: Stream,
    request: Rc<Request>,
    sent: usize,
    response: Vec<u8>,
}

impl Dial {
    /// Starts the `index`th connection. `poll` reports it with `token`.
    pub(crate) fn start(poll: &Poll, token: Token, index: usize, dialer: &Dialer) -> io::Result<Dial> {
        let Dialer { target, request, tls } = dialer;
        let socket = Socket::new(target.domain(), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if let Target::Tcp(addr) = target {
            prepare(&socket, *addr, index)?;
        }
        match socket.connect(&target.address()?) {
            // The queue of a Unix socket is full, which no event ends.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                socket.set_nonblocking(false)?;
                socket.connect(&target.address()?)?;
                socket.set_nonblocking(true)?;
            }
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        // The type is that of TCP for both: the descriptor is all that there is.
        let mut stream = TcpStream::from_std(socket.into());
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let stream = match tls {
            Some(config) => Stream::Handshaking(Box::new(Handshake::client(stream, config)?)),
            None => Stream::Plain(stream),
        };
        Ok(Dial { stream, request: Rc::clone(request), sent: 0, response: Vec::new() })
    }

    /// Continues as far as the socket allows. Returns whether the handshake is complete.
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        self.try_advance().map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => io::Error::other("the server closed the connection during the handshake"),
            _ => error,
        })
    }

    fn try_advance(&mut self) -> io::Result<bool> {
        if !self.stream.is_ready()? {
            return Ok(false);
        }
        while self.sent < self.request.as_bytes().len() {
            match self.stream.write_first(&self.request.as_bytes()[self.sent..])? {
                0 => return Ok(false),
                written => self.sent += written,
            }
        }
        // Room for the largest record.
        let mut chunk = [0; 20 << 10];
        let mut may_have_more = true;
        while may_have_more {
            let response = &mut self.response;
            may_have_more = self.stream.read(&mut chunk, |read| {
                response.extend_from_slice(read);
                Ok(())
            })?;
            if self.response.ends_with(handshake::END) {
                self.request.check(&self.response).map_err(io::Error::other)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the open connection, still registered.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }
}

/// Sets the options of a TCP socket, and its source address if one address has too few ports.
fn prepare(socket: &Socket, addr: SocketAddr, index: usize) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // Send RST when dropped: ports in TIME_WAIT would be missing in the next run.
    SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
    if let (source @ 1.., true) = (index / MAX_PER_ADDRESS, addr.ip().is_loopback() && addr.is_ipv4()) {
        let last = u8::try_from(source + 1).map_err(io::Error::other)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
    }
    Ok(())
}

/// Opens `count` connections. A connection's token is its index in the result.
pub(crate) fn open_all(poll: &mut Poll, dialer: &Dialer, count: usize) -> io::Result<Vec<Stream>> {
    let mut dials: Vec<Option<Dial>> = Vec::with_capacity(count);
    let mut streams: Vec<Option<Stream>> = (0..count).map(|_| None).collect();
    let mut open = 0;
    let mut events = Events::with_capacity(MAX_HANDSHAKES);
    let mut last_progress = Instant::now();
    while open < count {
        while dials.len() < count && dials.len() - open < MAX_HANDSHAKES {
            let index = dials.len();
            dials.push(Some(Dial::start(poll, Token(index), index, dialer)?));
        }
        poll.poll(&mut events, Some(TIMEOUT))?;
        for event in &events {
            let Token(index) = event.token();
            let Some(dial) = &mut dials[index] else { continue };
            if dial.advance().map_err(|error| io::Error::other(format!("connection {index}: {error}")))? {
                streams[index] = dials[index].take().map(Dial::into_stream);
                open += 1;
                last_progress = Instant::now();
            }
        }
        if last_progress.elapsed() > TIMEOUT {
            let text = format!("no handshake was completed for {TIMEOUT:?}; {open} of {count} are open");
            return Err(io::Error::new(ErrorKind::TimedOut, text));
        }
    }
    Ok(streams.into_iter().flatten().collect())
}
