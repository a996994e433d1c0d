//! Where a client connects to.
//!
//! A parser of its own for the subset of RFC 3986 that RFC 6455 3 asks for: the `url` crate brings ICU, 30 crates, for
//! host names in scripts that can as well be given in punycode.

mod error;
mod reference;

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

pub use error::UrlError;

use super::site::{Credentials, Site};
use crate::protocol::handshake::origin::is_scheme;

/// A WebSocket URL: `ws://example.com/chat`, `wss://user:password@[2001:db8::1]:8443/chat?room=7`.
///
/// `http` and `https` are taken for `ws` and `wss`. Path and query are sent as they are, nothing is decoded or encoded.
/// User and password are for `Authorization`; what is printed of a URL does not contain them.
///
/// ```
/// use threadbare::protocol::handshake::client::Url;
///
/// let url: Url = "wss://example.com/chat?room=7".parse()?;
/// assert_eq!((url.host(), url.port(), url.target()), ("example.com", 443, "/chat?room=7"));
/// # Ok::<(), threadbare::protocol::handshake::client::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    site: Site,
    /// Path and query.
    target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Ws,
    Wss,
}

impl Url {
    /// Parses an absolute URL.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let (scheme, authority, target) = split(text)?;
        let scheme = match scheme {
            _ if ["ws", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => Scheme::Ws,
            _ if ["wss", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => Scheme::Wss,
            _ => return Err(UrlError::Scheme(scheme.to_owned())),
        };
        let site = Site::parse(authority)?;
        if let Some(character) = target.chars().find(|character| !character.is_ascii()) {
            return Err(UrlError::Character(character));
        }
        // RFC 6455 3: "/" is the path if the URL has none.
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Url { scheme, site, target })
    }

    /// Whether the connection is to be encrypted: `wss`.
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Wss
    }

    /// The host's name or address in lower case, an IPv6 address without brackets: what a resolver and a certificate
    /// know.
    pub fn host(&self) -> &str {
        &self.site.host
    }

    /// The host if it is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.site.host.parse().ok()
    }

    /// The port, 80 or 443 if the URL does not name one (RFC 6455 3).
    pub fn port(&self) -> u16 {
        self.site.port.unwrap_or(self.default_port())
    }

    /// Path and query, at least `/`: the request target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The user that the URL names, percent-decoded.
    pub fn user(&self) -> Option<&str> {
        self.site.credentials.as_ref().map(|credentials| credentials.user.as_str())
    }

    /// The password that the URL names, percent-decoded.
    pub fn password(&self) -> Option<&str> {
        self.site.credentials.as_ref().map(|credentials| credentials.password.as_str())
    }

    /// Host and port as in `Host`, the port only if it is not the default one (RFC 6455 4.1, item 4).
    pub fn authority(&self) -> String {
        if self.port() == self.default_port() { self.site.bracketed() } else { self.authority_with_port() }
    }

    pub(super) fn authority_with_port(&self) -> String {
        format!("{}:{}", self.site.bracketed(), self.port())
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.site.credentials.as_ref()
    }

    pub(super) fn set_credentials(&mut self, credentials: Option<Credentials>) {
        self.site.credentials = credentials;
    }

    pub(super) fn scheme(&self) -> &'static str {
        match self.scheme {
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }

    /// RFC 6455 3.
    fn default_port(&self) -> u16 {
        match self.scheme {
            Scheme::Ws => 80,
            Scheme::Wss => 443,
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        Url::parse(text)
    }
}

/// The URL without user and password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url(\"{self}\")")
    }
}

/// Scheme, authority, and path with query.
pub(super) fn split(text: &str) -> Result<(&str, &str, &str), UrlError> {
    check_characters(text)?;
    let (scheme, rest) = text
        .split_once("://")
        .filter(|(scheme, _)| is_scheme(scheme))
        .ok_or_else(|| UrlError::NotAbsolute(without_userinfo(text)))?;
    if let Some((_, fragment)) = rest.split_once('#') {
        return Err(UrlError::Fragment(without_userinfo(fragment))); // RFC 6455 3
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    Ok((scheme, authority, target))
}

/// What would end the line or the word that the URL is written in.
fn check_characters(text: &str) -> Result<(), UrlError> {
    match text.chars().find(|character| character.is_control() || character.is_whitespace()) {
        Some(character) => Err(UrlError::Character(character)),
        None => Ok(()),
    }
}

/// An error must not carry a password into a log.
fn without_userinfo(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, place)| format!("...@{place}"))
}

#[cfg(test)]
mod tests;
