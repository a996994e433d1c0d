//! Why a proxy does not pass on bytes.

use core::fmt;

use crate::protocol::handshake::client::error::StatusLine;
use crate::protocol::http::{ResponseError, ResponseHead};

/// There is no tunnel through the proxy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// What came from the HTTP proxy is no HTTP response.
    Response(ResponseError),
    /// The HTTP proxy answers with another status than 2xx.
    Refused(Box<ResponseHead>),
    /// User or password have more than 255 bytes, or there is a password and no user (RFC 1929 2).
    Credentials,
    /// The server's name has more than 255 bytes (RFC 1928 5).
    HostTooLong,
    /// The proxy does not speak SOCKS5. This is its first byte.
    NotSocks5(u8),
    /// The proxy demands a way to log in that was not offered; 255 says that none of the offered ones will do.
    Method(u8),
    /// The SOCKS5 proxy refuses user and password.
    LoginRefused,
    /// The SOCKS5 proxy can not or will not connect to the server. The code is one of RFC 1928 6.
    Reply(u8),
    /// The SOCKS5 proxy names its own address in a form that RFC 1928 5 does not know.
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

/// RFC 1928 6.
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
