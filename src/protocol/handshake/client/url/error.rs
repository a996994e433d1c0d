//! Errors of URLs.

use core::fmt;

use crate::protocol::handshake::client::idn::suggestion;

/// Why the URL of a server or a proxy is invalid.
///
/// ```
/// use threadbare::{Url, UrlError};
///
/// assert_eq!(Url::parse("ws://example.com:port"), Err(UrlError::Port("port".into())));
/// assert_eq!(Url::parse("ws://example.com/two\r\nlines"), Err(UrlError::Character('\r')));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// The URL does not have the form `ws://host`. The value is the URL without user and password.
    NotAbsolute(String),
    /// The scheme is not `ws`, `wss`, `ws+unix`, `http` or `https`.
    Scheme(String),
    /// The scheme of a proxy is not `http`, `socks5` or `socks5h`.
    ProxyScheme(String),
    /// The URL has no host.
    NoHost,
    /// The host is malformed. The value includes the port, if there is one.
    Host(String),
    /// The host is not ASCII, which the feature `idn` allows. Without it, names in other scripts must be given in punycode;
    /// the message shows that form, where it can be told without the tables of Unicode.
    NonAsciiHost(String),
    /// The URL of a Unix socket does not have the form `ws+unix:/path/of.sock:/target`.
    UnixSocket(String),
    /// The port is not a number from 1 to 65,535.
    Port(String),
    /// User or password contain a control character or a character that must be percent-encoded, or the user contains a
    /// colon. The error does not contain their values.
    Userinfo,
    /// The URL has a fragment, which RFC 6455 3 does not allow. A `#` in path or query must be written `%23`.
    Fragment(String),
    /// The URL contains this control character. In a path or a query it would have to be percent-encoded.
    Character(char),
    /// The URL of a proxy has a path or a query.
    ProxyTarget(String),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlError::NotAbsolute(url) if url.starts_with("unix:") => {
                write!(
                    f,
                    "{url:?} is how a server names a Unix socket: a client connects to ws+unix:/path/of.sock:/target"
                )
            }
            UrlError::NotAbsolute(url) => write!(f, "{url:?} does not have the form ws://host or wss://host"),
            UrlError::Scheme(scheme) => write!(f, "the scheme {scheme:?} is none of ws, wss, ws+unix, http and https"),
            UrlError::ProxyScheme(scheme) => {
                write!(f, "the proxy's scheme {scheme:?} is none of http, socks5 and socks5h")
            }
            UrlError::NoHost => f.write_str("the URL has no host"),
            UrlError::Host(host) => write!(f, "{host:?} is neither a host's name nor an address"),
            UrlError::NonAsciiHost(host) => {
                write!(f, "the host {host:?} is not in ASCII: write ")?;
                match suggestion(host) {
                    Some(ascii) => write!(f, "{ascii}")?,
                    None => f.write_str("its punycode form (xn--...)")?,
                }
                f.write_str(", or enable the feature \"idn\" of this library")
            }
            UrlError::UnixSocket(url) => {
                write!(f, "{url:?} does not have the form ws+unix:/path/of.sock:/target or ws+unix:@name:/target")
            }
            UrlError::Port(port) => write!(f, "the port {port:?} is no number from 1 to 65535"),
            UrlError::Userinfo => f.write_str("user or password in the URL are malformed or not percent-encoded"),
            UrlError::Fragment(fragment) => {
                write!(f, "the URL has the fragment {fragment:?}, which RFC 6455 does not allow (# is written %23)")
            }
            UrlError::Character(character) => {
                write!(f, "the URL contains the control character {character:?}, which has to be percent-encoded")
            }
            UrlError::ProxyTarget(target) => write!(f, "the proxy's URL has the path or query {target:?}"),
        }
    }
}

impl core::error::Error for UrlError {}
