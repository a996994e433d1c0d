//! The PROXY protocol, versions 1 and 2: a header with which a proxy begins a connection, and which says whose
//! connection it passes on (`proxy-protocol.txt` of HAProxy).
//!
//! A server reads it by itself: see [`ServerBuilder::proxy_protocol`](crate::ServerBuilder::proxy_protocol). This is for
//! programs with a transport of their own, which must believe it only from their own proxy:
//!
//! ```no_run
//! use std::io::{self, Read};
//! use std::net::{SocketAddr, TcpStream};
//! use threadbare::protocol::proxy_header::{MAX_SIZE, ProxyHeader};
//!
//! /// Reads the header, and nothing behind it. Returns the client's address.
//! fn read_header(stream: &mut TcpStream) -> io::Result<SocketAddr> {
//!     let mut received = Vec::new();
//!     loop {
//!         let (header, size) = match ProxyHeader::parse(&received) {
//!             Ok(Some(parsed)) => parsed,
//!             Ok(None) => {
//!                 // One byte at a time, for the bytes behind the header are not ours.
//!                 let mut byte = [0];
//!                 stream.read_exact(&mut byte)?;
//!                 received.push(byte[0]);
//!                 continue;
//!             }
//!             Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
//!         };
//!         assert!(size == received.len() && size <= MAX_SIZE);
//!         return header.client().map_or_else(|| stream.peer_addr(), Ok);
//!     }
//! }
//! ```

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use super::peer_addr::canonical;

/// A header of version 2 may say that 4 KiB follow its first 16 bytes. Larger holds more for a proxy that has nothing more
/// to say; smaller refuses headers with a client's certificate in them.
const MAX_LENGTH: usize = 4 << 10;

/// The maximum size of a header in bytes. With as many, [`ProxyHeader::parse`] never says that it is incomplete.
pub const MAX_SIZE: usize = FIXED_SIZE + MAX_LENGTH;

/// A line of version 1 has 107 bytes at most, with its CRLF (`proxy-protocol.txt` 2.1).
const MAX_LINE: usize = 107;

const LINE_START: &[u8] = b"PROXY ";

/// With which version 2 begins (`proxy-protocol.txt` 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and transport, and the length of what follows.
const FIXED_SIZE: usize = 16;

/// The header of a connection that a proxy passes on.
///
/// ```
/// use threadbare::protocol::proxy_header::ProxyHeader;
///
/// let received = b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 443\r\nGET / HTTP/1.1\r\n";
/// let (header, size) = ProxyHeader::parse(received)?.expect("it is complete");
/// assert_eq!(header.client(), Some(([192, 0, 2, 1], 40_000).into()));
/// assert_eq!(&received[size..], b"GET / HTTP/1.1\r\n");
/// # Ok::<(), threadbare::protocol::proxy_header::ProxyHeaderError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    client: Option<SocketAddr>,
}

impl ProxyHeader {
    /// Parses the header at the start of `received`. Returns it and its size; `None` if it is incomplete so far. The
    /// outcome does not depend on how the bytes were cut.
    ///
    /// # Errors
    /// The bytes are not a header, whatever follows them.
    ///
    /// ```
    /// use threadbare::protocol::proxy_header::ProxyHeader;
    ///
    /// assert_eq!(ProxyHeader::parse(b"PROXY TCP6 2001:db8::1"), Ok(None));
    /// assert!(ProxyHeader::parse(b"GET / HTTP/1.1\r\n").is_err());
    /// ```
    pub fn parse(received: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
        if begins(received, SIGNATURE) {
            parse_binary(received)
        } else if begins(received, LINE_START) {
            parse_line(received)
        } else {
            Err(ProxyHeaderError::Missing)
        }
    }

    /// Returns the address of the client; `None` if the proxy passes on no connection of a client, as for a health check
    /// of its own (`LOCAL`), or does not know an IP address (`UNKNOWN`, a Unix socket). Then the address of the
    /// connection itself is meant.
    ///
    /// ```
    /// use threadbare::protocol::proxy_header::ProxyHeader;
    ///
    /// let (header, _) = ProxyHeader::parse(b"PROXY UNKNOWN\r\n")?.expect("it is complete");
    /// assert_eq!(header.client(), None);
    /// # Ok::<(), threadbare::protocol::proxy_header::ProxyHeaderError>(())
    /// ```
    #[must_use]
    pub fn client(&self) -> Option<SocketAddr> {
        self.client
    }
}

/// Why bytes are not a header of the PROXY protocol.
///
/// ```
/// use threadbare::protocol::proxy_header::{ProxyHeader, ProxyHeaderError};
///
/// assert_eq!(ProxyHeader::parse(b"GET / HTTP/1.1\r\n"), Err(ProxyHeaderError::Missing));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// The bytes begin with neither version of the header.
    Missing,
    /// The line of version 1 has no end within its 107 bytes.
    LineTooLong,
    /// The line of version 1 does not conform to its grammar.
    MalformedLine,
    /// Version and command, which are one byte, are not 2 and `LOCAL` or `PROXY`.
    Command(u8),
    /// The byte of family and transport has no meaning in version 2.
    Family(u8),
    /// Version 2 says that this many bytes follow, which are more than 4 KiB.
    TooLong(u16),
    /// Version 2 says that this many bytes follow, which are too few for its addresses.
    TooShort(u16),
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyHeaderError::Missing => {
                f.write_str("there is none: have the proxy send it, or do not list the address for the PROXY protocol")
            }
            ProxyHeaderError::LineTooLong => write!(f, "the line has no end within {MAX_LINE} bytes"),
            ProxyHeaderError::MalformedLine => {
                f.write_str("the line is neither `PROXY TCP4` or `PROXY TCP6` with two addresses and two ports, nor `PROXY UNKNOWN`")
            }
            ProxyHeaderError::Command(byte) => {
                write!(f, "version and command are {byte:#04x}, but must be 0x20 (LOCAL) or 0x21 (PROXY)")
            }
            ProxyHeaderError::Family(byte) => write!(f, "family and transport are {byte:#04x}, which means nothing"),
            ProxyHeaderError::TooLong(length) => {
                write!(f, "{length} bytes follow, but at most {MAX_LENGTH} are taken: have the proxy send fewer TLVs")
            }
            ProxyHeaderError::TooShort(length) => write!(f, "the {length} bytes that follow are too few for the addresses"),
        }
    }
}

impl core::error::Error for ProxyHeaderError {}

type Parsed = Result<Option<(ProxyHeader, usize)>, ProxyHeaderError>;

/// Whether `received` begins with `start`, as far as it has arrived.
fn begins(received: &[u8], start: &[u8]) -> bool {
    received.iter().zip(start).all(|(one, other)| one == other)
}

/// Parses version 1 (`proxy-protocol.txt` 2.1).
fn parse_line(received: &[u8]) -> Parsed {
    let within = received.get(..MAX_LINE).unwrap_or(received);
    let Some(length) = within.windows(2).position(|two| two == b"\r\n") else {
        return if received.len() < MAX_LINE { Ok(None) } else { Err(ProxyHeaderError::LineTooLong) };
    };
    let line = within.get(LINE_START.len()..length).and_then(|line| core::str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().split(' ');
    let client = match words.next() {
        Some("TCP4") => Some(addresses::<Ipv4Addr>(words).ok_or(ProxyHeaderError::MalformedLine)?),
        Some("TCP6") => Some(addresses::<Ipv6Addr>(words).ok_or(ProxyHeaderError::MalformedLine)?),
        // "the receiver must ignore anything presented before the CRLF is found"
        Some("UNKNOWN") => None,
        _ => return Err(ProxyHeaderError::MalformedLine),
    };
    Ok(Some((ProxyHeader { client }, length.saturating_add(2))))
}

/// Parses `source destination source-port destination-port`, and returns the source.
fn addresses<'a, A: FromStr + Into<IpAddr>>(mut words: impl Iterator<Item = &'a str>) -> Option<SocketAddr> {
    let mut address = || words.next()?.parse::<A>().ok();
    let (source, _) = (address()?, address()?);
    let mut port = || words.next().and_then(parse_port);
    let (source_port, _) = (port()?, port()?);
    words.next().is_none().then(|| canonical(SocketAddr::new(source.into(), source_port)))
}

/// "Heading zeroes are not permitted in front of numbers", and no sign is.
fn parse_port(text: &str) -> Option<u16> {
    let valid = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse().ok().filter(|_| valid)
}

/// Parses version 2 (`proxy-protocol.txt` 2.2). What follows the addresses, the TLVs, is skipped.
fn parse_binary(received: &[u8]) -> Parsed {
    let fixed = received.get(SIGNATURE.len()..).unwrap_or_default();
    let Some([command, family, high, low]) = fixed.first_chunk() else {
        return match fixed.first() {
            Some(command) if !matches!(*command, LOCAL | PROXY) => Err(ProxyHeaderError::Command(*command)),
            _ => Ok(None),
        };
    };
    let length = u16::from_be_bytes([*high, *low]);
    if !matches!(*command, LOCAL | PROXY) {
        return Err(ProxyHeaderError::Command(*command));
    }
    if usize::from(length) > MAX_LENGTH {
        return Err(ProxyHeaderError::TooLong(length));
    }
    let size = FIXED_SIZE.saturating_add(length.into());
    let Some(block) = received.get(FIXED_SIZE..size) else { return Ok(None) };
    // "discard the protocol block including the family which is ignored"
    let client = if *command == LOCAL { None } else { client_in(block, *family, length)? };
    Ok(Some((ProxyHeader { client }, size)))
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Returns the source of the addresses in `block`; `None` if the family has no IP addresses.
fn client_in(block: &[u8], family: u8, length: u16) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let too_short = ProxyHeaderError::TooShort(length);
    let source = match (family >> 4, family & 0xf) {
        (0, 0..=2) => return Ok(None), // unspecified
        (1, 0..=2) => source::<4, 12>(block).map(|(ip, port)| (IpAddr::from(ip), port)),
        (2, 0..=2) => source::<16, 36>(block).map(|(ip, port)| (IpAddr::from(ip), port)),
        (3, 0..=2) => return if block.len() < UNIX_SIZE { Err(too_short) } else { Ok(None) },
        // "must be rejected as invalid by receivers"
        _ => return Err(ProxyHeaderError::Family(family)),
    };
    let (ip, port) = source.ok_or(too_short)?;
    Ok(Some(canonical(SocketAddr::new(ip, port))))
}

/// The size of two paths of Unix sockets.
const UNIX_SIZE: usize = 216;

/// Returns address and port of the source, in `ALL` bytes of two addresses of `IP` bytes and two ports.
fn source<const IP: usize, const ALL: usize>(block: &[u8]) -> Option<([u8; IP], u16)> {
    let all: &[u8; ALL] = block.first_chunk()?;
    let ports: &[u8; 4] = all.last_chunk()?;
    let [high, low, ..] = *ports;
    Some((*all.first_chunk()?, u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests;
