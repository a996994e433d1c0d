//! Connections through a proxy: HTTP `CONNECT` (RFC 9110 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).
//!
//! The client sends the server's name to the proxy, which resolves it and then forwards bytes. With `wss` the proxy
//! sees only encrypted bytes.

mod environment;
mod error;
mod no_proxy;
mod socks;
mod step;

use core::fmt;

pub use environment::from_environment;
pub use error::ProxyError;
use socks::Socks;
pub use step::Step;

use super::site::Site;
use super::url::{Url, UrlError, split};
use crate::protocol::http::{HeadLimits, ResponseError, ResponseReader, push_field};

/// A proxy: `http://proxy.example.com:3128`, `socks5://user:password@127.0.0.1`.
///
/// `socks5` and `socks5h` have the same meaning. `Display` and `Debug` omit user and password.
///
/// ```
/// use threadbare::protocol::handshake::client::proxy::Proxy;
///
/// let proxy = Proxy::parse("socks5://anna:secret@127.0.0.1")?;
/// assert_eq!((proxy.host(), proxy.port()), ("127.0.0.1", 1080));
/// assert!(!proxy.to_string().contains("secret"));
/// # Ok::<(), threadbare::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    scheme: Scheme,
    site: Site,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Socks5,
}

impl Proxy {
    /// Parses the URL of a proxy. The default scheme is `http`, as in curl. The default port is 80 for `http` and 1080
    /// for SOCKS5.
    ///
    /// ```
    /// use threadbare::UrlError;
    /// use threadbare::protocol::handshake::client::proxy::Proxy;
    ///
    /// assert_eq!(Proxy::parse("proxy.example.com:3128")?.port(), 3128); // by HTTP
    /// assert!(matches!(Proxy::parse("ftp://proxy.example.com"), Err(UrlError::ProxyScheme(_))));
    /// # Ok::<(), UrlError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Proxy, UrlError> {
        let absolute = if text.contains("://") { text } else { &format!("http://{text}") };
        let (scheme, authority, target) = split(absolute)?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
            _ if ["socks5", "socks5h"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => Scheme::Socks5,
            _ => return Err(UrlError::ProxyScheme(scheme.to_owned())),
        };
        if !matches!(target, "" | "/") {
            return Err(UrlError::ProxyTarget(target.to_owned()));
        }
        Ok(Proxy { scheme, site: Site::parse(authority)? })
    }

    /// Returns the host name or address of the proxy, an IPv6 address without brackets.
    ///
    /// ```
    /// use threadbare::protocol::handshake::client::proxy::Proxy;
    ///
    /// assert_eq!(Proxy::parse("http://[2001:db8::1]:3128")?.host(), "2001:db8::1");
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn host(&self) -> &str {
        self.site.host()
    }

    /// Returns the zone of an IPv6 address, which is the name or the number of a network interface of this system.
    ///
    /// ```
    /// use threadbare::protocol::handshake::client::proxy::Proxy;
    ///
    /// assert_eq!(Proxy::parse("http://[fe80::1%25eth0]:3128")?.zone(), Some("eth0"));
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn zone(&self) -> Option<&str> {
        self.site.zone()
    }

    /// Returns the port of the proxy.
    ///
    /// ```
    /// use threadbare::protocol::handshake::client::proxy::Proxy;
    ///
    /// assert_eq!(Proxy::parse("http://proxy.example.com")?.port(), 80);
    /// assert_eq!(Proxy::parse("socks5://proxy.example.com")?.port(), 1080);
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn port(&self) -> u16 {
        self.site.port.unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Socks5 => 1080, // RFC 1928 3
        })
    }
}

/// Formats the URL without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Socks5 => "socks5h",
        };
        write!(f, "{scheme}://{}:{}", self.site.bracketed_with_zone(), self.port())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy(\"{self}\")")
    }
}

/// The negotiation with a proxy until it forwards bytes.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use threadbare::protocol::handshake::client::Url;
/// use threadbare::protocol::handshake::client::proxy::{Proxy, Step, Tunnel};
///
/// let url = Url::parse("wss://example.com")?;
/// let mut tunnel = Tunnel::new(&Proxy::parse("proxy.example.com:3128")?, &url)?;
/// let Step::Send { bytes, .. } = tunnel.advance(b"")? else { panic!("the client speaks first") };
/// assert!(bytes.starts_with(b"CONNECT example.com:443 HTTP/1.1\r\n"));
/// assert_eq!(tunnel.advance(b"HTTP/1.1 200 OK\r\n")?, Step::Receive);
/// assert_eq!(tunnel.advance(b"HTTP/1.1 200 OK\r\n\r\n")?, Step::Open { consumed: 19 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tunnel(State);

#[derive(Clone)]
enum State {
    /// The `CONNECT` request was not sent yet.
    Connect(Vec<u8>),
    Answer(Box<ResponseReader>),
    Socks(Socks),
}

impl Tunnel {
    /// Creates a tunnel through this proxy to the URL's host and port.
    ///
    /// ```
    /// use threadbare::Url;
    /// use threadbare::protocol::handshake::client::proxy::{Proxy, Tunnel};
    ///
    /// let tunnel = Tunnel::new(&Proxy::parse("socks5://127.0.0.1")?, &Url::parse("wss://example.com")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(proxy: &Proxy, url: &Url) -> Result<Tunnel, ProxyError> {
        match proxy.scheme {
            Scheme::Http => Ok(Tunnel(State::Connect(connect(proxy, url)))),
            Scheme::Socks5 => Ok(Tunnel(State::Socks(Socks::new(proxy.site.credentials.as_ref(), url)?))),
        }
    }

    /// Continues with the bytes that were received and not used before. The first call passes an empty slice.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use threadbare::protocol::handshake::client::proxy::{Step, Tunnel};
    ///
    /// /// Returns the bytes that came from the server.
    /// fn open(mut tunnel: Tunnel, mut proxy: impl Read + Write) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    ///     let (mut received, mut chunk) = (Vec::new(), [0; 512]);
    ///     loop {
    ///         match tunnel.advance(&received)? {
    ///             Step::Receive => match proxy.read(&mut chunk)? {
    ///                 0 => return Err(tunnel.end(&received).into()),
    ///                 size => received.extend(&chunk[..size]),
    ///             },
    ///             Step::Send { consumed, bytes } => {
    ///                 received.drain(..consumed);
    ///                 proxy.write_all(&bytes)?;
    ///             }
    ///             Step::Open { consumed } => return Ok(received.split_off(consumed)),
    ///             _ => return Err("a step that this program does not know".into()),
    ///         }
    ///     }
    /// }
    /// ```
    pub fn advance(&mut self, received: &[u8]) -> Result<Step, ProxyError> {
        match &mut self.0 {
            State::Connect(request) => {
                let bytes = core::mem::take(request);
                self.0 = State::Answer(Box::new(ResponseReader::new(HeadLimits::default())));
                Ok(Step::Send { consumed: 0, bytes })
            }
            State::Answer(reader) => match reader.read(received)? {
                None => Ok(Step::Receive),
                // RFC 9110 9.3.6: "Any 2xx (Successful) response indicates that the sender [...] will switch to tunnel
                // mode immediately after the response header section", whatever its Content-Length says.
                Some((head, consumed)) if (200..=299).contains(&head.status()) => Ok(Step::Open { consumed }),
                Some((head, _)) => Err(ProxyError::Refused(Box::new(head))),
            },
            State::Socks(socks) => socks.advance(received),
        }
    }

    /// Returns the error for a proxy that closed the connection after `received`.
    ///
    /// ```
    /// use threadbare::Url;
    /// use threadbare::protocol::handshake::client::proxy::{Proxy, Tunnel};
    ///
    /// let mut tunnel = Tunnel::new(&Proxy::parse("127.0.0.1:3128")?, &Url::parse("ws://example.com")?)?;
    /// tunnel.advance(b"")?;
    /// println!("{}", tunnel.end(b"HTTP/1.1 200")); // the proxy closed the connection too early
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn end(&self, received: &[u8]) -> ProxyError {
        ProxyError::Response(ResponseError::Truncated { received: received.len() })
    }
}

/// Omits the bytes to send, which may contain a password.
impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Connect(_) => "Tunnel(Connect)",
            State::Answer(_) => "Tunnel(Answer)",
            State::Socks(_) => "Tunnel(Socks)",
        })
    }
}

/// Encodes the `CONNECT` request. RFC 9110 9.3.6: its target and `Host` are host and port.
fn connect(proxy: &Proxy, url: &Url) -> Vec<u8> {
    let place = url.authority_with_port();
    let mut head = format!("CONNECT {place} HTTP/1.1\r\n").into_bytes();
    push_field(&mut head, "Host", &place);
    if let Some(credentials) = &proxy.site.credentials {
        push_field(&mut head, "Proxy-Authorization", &credentials.basic());
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests;
