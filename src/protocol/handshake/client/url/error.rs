//! What is wrong with a URL.

use core::fmt;

/// What is wrong with a URL, that of a server or that of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not have the form `ws://host`. The value is all of it, but for user and password.
    NotAbsolute(String),
    /// The scheme is none of `ws`, `wss`, `http` and `https`.
    Scheme(String),
    /// The scheme of a proxy is none of `http`, `socks5` and `socks5h`.
    ProxyScheme(String),
    /// There is no host.
    NoHost,
    /// The host, with the port if it has one, is malformed.
    Host(String),
    /// The host is not in ASCII. Names in other scripts have a form in ASCII, punycode, that has to be given.
    NonAsciiHost(String),
    /// The port is no number from 1 to 65,535.
    Port(String),
    /// User and password contain what has to be percent-encoded, or a control character, or the user's name a colon.
    /// Their value is not repeated.
    Userinfo,
    /// A fragment, which a WebSocket URL can not have (RFC 6455 3). A `#` in path or query is written `%23`.
    Fragment(String),
    /// This character has to be percent-encoded.
    Character(char),
    /// The URL of a proxy has a path or a query.
    ProxyTarget(String),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlError::NotAbsolute(url) => write!(f, "{url:?} does not have the form ws://host or wss://host"),
            UrlError::Scheme(scheme) => write!(f, "the scheme {scheme:?} is none of ws, wss, http and https"),
            UrlError::ProxyScheme(scheme) => {
                write!(f, "the proxy's scheme {scheme:?} is none of http, socks5 and socks5h")
            }
            UrlError::NoHost => f.write_str("the URL has no host"),
            UrlError::Host(host) => write!(f, "{host:?} is neither a host's name nor an address"),
            UrlError::NonAsciiHost(host) => {
                write!(f, "the host {host:?} is not in ASCII: its punycode form (xn--...) is needed")
            }
            UrlError::Port(port) => write!(f, "the port {port:?} is no number from 1 to 65535"),
            UrlError::Userinfo => f.write_str("user or password in the URL are malformed or not percent-encoded"),
            UrlError::Fragment(fragment) => {
                write!(f, "the URL has the fragment {fragment:?}, which RFC 6455 does not allow (# is written %23)")
            }
            UrlError::Character(character) => {
                write!(f, "the URL contains {character:?}, which has to be percent-encoded")
            }
            UrlError::ProxyTarget(target) => write!(f, "the proxy's URL has the path or query {target:?}"),
        }
    }
}

impl core::error::Error for UrlError {}
