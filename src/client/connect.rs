//! The way to an established connection: look-up, TCP, proxy, handshake, redirects, each with a deadline.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::client::builder::{ClientBuilder, ProxyChoice, far_away};
use crate::client::error::{ConnectError, Phase};
use crate::protocol::handshake::client::proxy::{self, Proxy, Step, Tunnel};
use crate::protocol::handshake::client::{Agreed, ClientRequest, HandshakeError, REFUSAL_BODY, Url, redirect, verify};
use crate::protocol::http::{HeadLimits, Request, ResponseReader};
use crate::transport::dial::{self, Timed};
use crate::transport::interrupt::Interrupt;

/// What one read takes.
const CHUNK: usize = 4096;

/// How a client is to connect, and until when.
pub(super) struct Plan<'a> {
    pub(super) builder: &'a ClientBuilder,
    pub(super) handshake_timeout: Duration,
    pub(super) deadline: Instant,
    /// Ends it before the deadline.
    pub(super) interrupt: &'a Interrupt,
}

/// A connection whose handshake is done.
pub(super) struct Opened {
    pub(super) stream: TcpStream,
    pub(super) addr: SocketAddr,
    /// The request as it was sent.
    pub(super) request: Request,
    /// What arrived behind the 101: the first frames.
    pub(super) leftover: Vec<u8>,
    pub(super) agreed: Agreed,
}

impl Plan<'_> {
    /// Connects, following as many redirects as are allowed.
    pub(super) fn open(&self, mut request: ClientRequest) -> Result<Opened, ConnectError> {
        for _ in 0..=self.builder.max_redirects {
            match self.open_once(&request) {
                Err(ConnectError::Handshake(HandshakeError::Redirect { status, location }))
                    if self.builder.max_redirects > 0 =>
                {
                    let to = redirect(request.url(), status, &location)?;
                    request = request.redirected(to);
                }
                other => return other,
            }
        }
        Err(ConnectError::TooManyRedirects)
    }

    fn open_once(&self, request: &ClientRequest) -> Result<Opened, ConnectError> {
        let url = request.url();
        if url.is_secure() {
            return Err(ConnectError::Tls);
        }
        let proxy = self.proxy(url)?;
        let (host, port) = match &proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (url.host(), url.port()),
        };
        let resolved = dial::resolve(host, port, self.until(self.builder.resolve_timeout), self.interrupt);
        let addrs = resolved.map_err(|source| {
            let host = host.to_owned();
            timed(source, Phase::Resolve, |source| ConnectError::Resolve { host, source })
        })?;
        let connected = dial::connect(&addrs, self.until(self.builder.connect_timeout), self.interrupt);
        let stream = connected.map_err(|error| {
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("no connection to {host}:{port}: {error}"));
            timed(error, Phase::Connect, |error| ConnectError::Io(named(error)))
        })?;
        let mut stream = self.prepare(stream)?;
        let addr = stream.peer_addr()?;
        if stream.local_addr()? == addr {
            // TCP's simultaneous open (RFC 9293 3.5): on the local host a port that is closed can come to be connected to
            // itself.
            let nobody = format!("no connection to {host}:{port}: nobody listens there");
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, nobody).into());
        }
        let mut received = Vec::new();
        if let Some(proxy) = &proxy {
            let mut timed_stream = Timed::new(&mut stream, self.until(self.builder.proxy_timeout), self.interrupt)?;
            pass(&mut timed_stream, Tunnel::new(proxy, url)?, &mut received)?;
        }
        let mut timed_stream = Timed::new(&mut stream, self.until(self.handshake_timeout), self.interrupt)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        let sent = request.encode(nonce);
        timed_stream.write_all(&sent).map_err(|error| timed(error, Phase::Handshake, ConnectError::Io))?;
        let agreed = shake(&mut timed_stream, request, nonce, &mut received)?;
        drop(timed_stream);
        // What this library sends it can read.
        let request = Request::parse(&sent, addr).map_err(|_| io::Error::other("the request can not be read back"))?;
        Ok(Opened { stream, addr, request, leftover: received, agreed })
    }

    fn until(&self, timeout: Duration) -> Instant {
        Instant::now().checked_add(timeout).unwrap_or_else(far_away).min(self.deadline)
    }

    fn proxy(&self, url: &Url) -> Result<Option<Proxy>, ConnectError> {
        match &self.builder.proxy {
            ProxyChoice::None => Ok(None),
            ProxyChoice::Explicit(proxy) => Ok(Some(Proxy::parse(proxy)?)),
            ProxyChoice::Environment => Ok(proxy::from_environment(url, |name| std::env::var(name).ok())?),
        }
    }

    fn prepare(&self, stream: TcpStream) -> Result<TcpStream, ConnectError> {
        stream.set_nodelay(true)?;
        let Some(hook) = &self.builder.hook else { return Ok(stream) };
        let stream = std::net::TcpStream::from(stream);
        hook(&stream)?;
        Ok(TcpStream::from_std(stream))
    }
}

/// Gets through a proxy; what it sent behind its answer is the server's and stays in `received`.
fn pass(stream: &mut Timed<'_>, mut tunnel: Tunnel, received: &mut Vec<u8>) -> Result<(), ConnectError> {
    loop {
        match tunnel.advance(received)? {
            Step::Receive => {
                if more(stream, received, Phase::Proxy)? == 0 {
                    return Err(tunnel.end(received).into());
                }
            }
            Step::Send { consumed, bytes } => {
                received.drain(..consumed);
                stream.write_all(&bytes).map_err(|error| timed(error, Phase::Proxy, ConnectError::Io))?;
            }
            Step::Open { consumed } => {
                received.drain(..consumed);
                return Ok(());
            }
        }
    }
}

/// Reads and checks the server's answer; what came behind it stays in `received`.
fn shake(
    stream: &mut Timed<'_>,
    request: &ClientRequest,
    nonce: [u8; 16],
    received: &mut Vec<u8>,
) -> Result<Agreed, ConnectError> {
    let mut reader = ResponseReader::new(HeadLimits::default());
    let (response, size) = loop {
        if let Some(found) = reader.read(received).map_err(HandshakeError::from)? {
            break found;
        }
        if more(stream, received, Phase::Handshake)? == 0 {
            return Err(HandshakeError::from(reader.end(received)).into());
        }
    };
    received.drain(..size);
    let length = response.content_length();
    match verify(response, request, nonce) {
        Ok(agreed) => Ok(agreed),
        Err(error @ HandshakeError::Refused(_)) => {
            // The beginning of the body often says why; whatever keeps it from coming, the status is known.
            let wanted = length.map_or(REFUSAL_BODY, |length| usize::try_from(length).unwrap_or(usize::MAX));
            while received.len() < wanted.min(REFUSAL_BODY)
                && more(stream, received, Phase::Handshake).is_ok_and(|size| size > 0)
            {}
            Err(error.with_body(received).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads once; 0 at the end.
fn more(stream: &mut Timed<'_>, received: &mut Vec<u8>, phase: Phase) -> Result<usize, ConnectError> {
    let mut chunk = [0; CHUNK];
    let size = stream.read(&mut chunk).map_err(|error| timed(error, phase, ConnectError::Io))?;
    received.extend_from_slice(&chunk[..size]);
    Ok(size)
}

fn timed(error: io::Error, phase: Phase, other: impl FnOnce(io::Error) -> ConnectError) -> ConnectError {
    if error.kind() == io::ErrorKind::TimedOut { ConnectError::Timeout(phase) } else { other(error) }
}
