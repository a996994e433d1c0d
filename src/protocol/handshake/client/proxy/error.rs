//! Errors of a connection through a proxy.

use core::fmt;

use crate::protocol::handshake::client::error::StatusLine;
use crate::protocol::http::{ResponseError, ResponseHead};

/// Why the proxy did not open a tunnel.
///
/// ```
/// use threadbare::Url;
/// use threadbare::protocol::handshake::client::proxy::{Proxy, ProxyError, Tunnel};
///
/// let mut tunnel = Tunnel::new(&Proxy::parse("socks5://127.0.0.1")?, &Url::parse("ws://example.com")?)?;
/// tunnel.advance(b"")?;
/// assert!(matches!(tunnel.advance(b"HTTP/1.1 400 "), Err(ProxyError::NotSocks5(b'H'))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// The HTTP proxy did not send a complete HTTP response.
    Response(ResponseError),
    /// The HTTP proxy answered with a status other than 2xx.
    Refused(Box<ResponseHead>),
    /// User or password have more than 255 bytes, or there is a password without a user (RFC 1929 2).
    Credentials,
    /// The host name of the server has more than 255 bytes (RFC 1928 5).
    HostTooLong,
    /// The proxy does not speak SOCKS5. The value is the first byte of its answer.
    NotSocks5(u8),
    /// The proxy requires an authentication method that was not offered. The value is 255 if it accepts no offered
    /// method.
    Method(u8),
    /// The SOCKS5 proxy refused user and password.
    LoginRefused,
    /// The SOCKS5 proxy did not connect to the server. The value is the reply code (RFC 1928 6).
    Reply(u8),
    /// The SOCKS5 proxy sent its bound address with an address type that RFC 1928 5 does not define.
    AddressType(u8),
}

impl From<ResponseError> for ProxyError {
    fn from(error: ResponseError) -> ProxyError {
        ProxyError::Response(error)
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::Response(_) => f.write_str("the proxy does not answer as it should"),
            ProxyError::Refused(head) if head.status() == 407 => {
                write!(f, "the proxy wants another user and password: it answers {}", StatusLine(head))
            }
            ProxyError::Refused(head) => write!(f, "the proxy answers {}", StatusLine(head)),
            ProxyError::Credentials => f.write_str("SOCKS5 has no room for this user and password"),
            ProxyError::HostTooLong => f.write_str("SOCKS5 has no room for this host's name"),
            ProxyError::NotSocks5(byte) => {
                write!(f, "the proxy does not speak SOCKS5: it begins with byte {byte:#04x}")
            }
            ProxyError::Method(255) => f.write_str("the proxy wants another way to log in, or a user and a password"),
            ProxyError::Method(method) => write!(f, "the proxy chooses SOCKS5 method {method}, not offered"),
            ProxyError::LoginRefused => f.write_str("the proxy refuses user and password"),
            ProxyError::Reply(code) => write!(f, "the proxy does not connect: {} (SOCKS5 {code})", reply(*code)),
            ProxyError::AddressType(kind) => write!(f, "the proxy's answer has the unknown address type {kind}"),
        }
    }
}

impl core::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ProxyError::Response(error) => Some(error),
            _ => None,
        }
    }
}

/// Returns the meaning of a reply code (RFC 1928 6).
fn reply(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "connection not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unassigned code",
    }
}
