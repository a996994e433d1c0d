//! The opening handshake of single connections, plain or with TLS, at either end.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ServerConfig};
use threadbare::protocol::handshake::accept_key;

use crate::deflated;
use crate::handshake::{self, Request};
use crate::tls::{Handshake, Stream};

/// A blocking read or write waits at most this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Room for the largest record of TLS.
const CHUNK: usize = 20 << 10;

/// Whether a socket blocks after the opening handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It waits, for [`PATIENCE`] at most.
    Blocking,
    NonBlocking,
}

/// Does a client's side of the opening handshake.
///
/// # Errors
///
/// Whatever fails; the server refuses, or does not agree to exactly what `request` offers.
pub fn connect(
    stream: TcpStream,
    tls: Option<&Arc<ClientConfig>>,
    request: &Request,
    mode: Mode,
) -> io::Result<Stream> {
    let (socket, stream) = prepare(stream)?;
    let mut stream = match tls {
        Some(config) => Stream::Handshaking(Box::new(Handshake::client(stream, config)?)),
        None => Stream::Plain(stream),
    };
    finish_tls(&mut stream)?;
    send_head(&mut stream, request.as_bytes())?;
    request.check(&read_head(&mut stream)?).map_err(io::Error::other)?;
    socket.set_nonblocking(mode == Mode::NonBlocking)?;
    Ok(stream)
}

/// Does a server's side of the opening handshake. Returns whether permessage-deflate was agreed on, which it is if the client
/// offers it.
///
/// # Errors
///
/// Whatever fails; the request has no key.
pub fn accept(stream: TcpStream, tls: Option<&Arc<ServerConfig>>, mode: Mode) -> io::Result<(Stream, bool)> {
    let (socket, stream) = prepare(stream)?;
    let mut stream = match tls {
        Some(config) => Stream::Handshaking(Box::new(Handshake::server(stream, config)?)),
        None => Stream::Plain(stream),
    };
    finish_tls(&mut stream)?;
    let head = read_head(&mut stream)?;
    let head = String::from_utf8_lossy(&head);
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then(|| value.trim()))
    };
    let key = header("Sec-WebSocket-Key").ok_or_else(|| io::Error::other("the request has no Sec-WebSocket-Key"))?;
    let deflate = header("Sec-WebSocket-Extensions").is_some_and(|offer| offer.starts_with(deflated::NAME));
    send_head(&mut stream, handshake::response_to(&accept_key(key), deflate).as_bytes())?;
    socket.set_nonblocking(mode == Mode::NonBlocking)?;
    Ok((stream, deflate))
}

/// Writes all of `bytes` to a socket that blocks. `scratch` is for sealed bytes.
///
/// # Errors
///
/// Whatever fails, or the socket has no room for [`PATIENCE`].
pub fn write_all(stream: &mut Stream, mut bytes: &[u8], scratch: &mut Vec<u8>) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes, scratch)? {
            0 => return Err(ErrorKind::TimedOut.into()),
            written => bytes = &bytes[written..],
        }
    }
    // What TLS has sealed and the socket had no room for.
    if stream.flush()? { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
}

/// Reads once from a socket that blocks, and passes on what there is.
///
/// # Errors
///
/// Whatever fails, or nothing comes for [`PATIENCE`].
pub fn read(
    stream: &mut Stream,
    buffer: &mut [u8],
    mut take: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut is_idle = true;
    let begun = Instant::now();
    while is_idle && begun.elapsed() < PATIENCE {
        // A record of TLS that is not complete passes on nothing, and neither does one that holds a ticket.
        stream.read(buffer, |bytes| {
            is_idle = false;
            take(bytes)
        })?;
    }
    if is_idle { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
}

/// Returns the socket twice: to set whether it blocks, and to use.
fn prepare(socket: TcpStream) -> io::Result<(TcpStream, mio::net::TcpStream)> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let stream = mio::net::TcpStream::from_std(socket.try_clone()?);
    Ok((socket, stream))
}

fn finish_tls(stream: &mut Stream) -> io::Result<()> {
    if stream.is_ready()? { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
}

fn send_head(stream: &mut Stream, head: &[u8]) -> io::Result<()> {
    if stream.write_first(head)? == head.len() { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
}

fn read_head(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; CHUNK];
    while !head.ends_with(handshake::END) {
        read(stream, &mut chunk, |bytes| {
            head.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    Ok(head)
}
