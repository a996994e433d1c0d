//! WebSocket URLs (RFC 6455 3).
//!
//! The parser implements the subset of RFC 3986 that RFC 6455 3 requires, and encodes what users write beside it as browsers
//! do. The `url` crate is not used because it depends on ICU for host names that are not ASCII, which are a feature here.

mod encode;
mod error;
mod reference;
mod unix;

use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;
use std::path::Path;

use encode::encode;
pub use error::UrlError;

use super::site::{Credentials, Site};
use crate::protocol::handshake::origin::is_scheme;

/// A WebSocket URL: `ws://example.com/chat`, `wss://user:password@[2001:db8::1]:8443/chat?room=7`.
///
/// `http` and `https` mean `ws` and `wss`. `ws+unix:/run/app.sock:/chat` is the target `/chat` of a server on the Unix socket
/// `/run/app.sock`, and `ws+unix:@name:/chat` one in Linux's abstract namespace. User and password are sent in
/// `Authorization`; `Display` and `Debug` omit them.
///
/// In path and query, characters that a URL can not have are percent-encoded, as browsers do (URL standard of the WHATWG):
/// blanks, quotes, angle brackets, and all that is not ASCII, in UTF-8. What is encoded already is sent as it is, and nothing
/// is decoded. A host that is not in ASCII needs the feature `idn`, or its punycode form (`xn--...`).
///
/// An IPv6 address may have the zone that addresses of the local link need: `ws://[fe80::1%25eth0]/`, or `[fe80::1%eth0]`. It
/// decides from which network interface the client connects, and is not sent.
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
    /// A Unix socket's path, or `@` and its name, is in place of the host.
    site: Site,
    /// Path and query.
    target: String,
}

/// What `Host` says if the server is at a Unix socket.
const UNIX_HOST: &str = "localhost";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Ws,
    Wss,
    Unix,
}

impl Url {
    /// Parses an absolute URL.
    ///
    /// ```
    /// use threadbare::{Url, UrlError};
    ///
    /// assert_eq!(Url::parse("https://example.com")?.to_string(), "wss://example.com/");
    /// assert!(matches!(Url::parse("ftp://example.com"), Err(UrlError::Scheme(_))));
    /// # Ok::<(), UrlError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if let Some(url) = Url::parse_unix(text) {
            return url;
        }
        let (scheme, authority, target) = split(text)?;
        let scheme = match scheme {
            _ if ["ws", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => Scheme::Ws,
            _ if ["wss", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => Scheme::Wss,
            _ => return Err(UrlError::Scheme(scheme.to_owned())),
        };
        let site = Site::parse(authority)?;
        // RFC 6455 3: "/" is the path if the URL has none.
        let target = if target.starts_with('/') { encode(target) } else { encode(&format!("/{target}")) };
        Ok(Url { scheme, site, target })
    }

    /// Returns whether the connection is encrypted: the scheme is `wss`.
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// assert!(Url::parse("wss://example.com")?.is_secure());
    /// assert!(!Url::parse("ws://example.com")?.is_secure());
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Wss
    }

    /// Returns the path of the Unix socket, or `@` and its name in Linux's abstract namespace; `None` if the scheme is not
    /// `ws+unix`. Nothing is decoded. The host is `localhost` then, for `Host`.
    ///
    /// ```
    /// use std::path::Path;
    /// use threadbare::Url;
    ///
    /// let url = Url::parse("ws+unix:/run/app.sock:/chat?room=7")?;
    /// assert_eq!(url.socket_path(), Some(Path::new("/run/app.sock")));
    /// assert_eq!((url.host(), url.target()), ("localhost", "/chat?room=7"));
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn socket_path(&self) -> Option<&Path> {
        (self.scheme == Scheme::Unix).then(|| Path::new(self.site.socket()))
    }

    /// Returns the host name or address in lower case, an IPv6 address without brackets. Name resolution and
    /// certificates use this form.
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// assert_eq!(Url::parse("ws://Example.com:8080")?.host(), "example.com");
    /// assert_eq!(Url::parse("ws://[2001:db8::1]:8080")?.host(), "2001:db8::1");
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn host(&self) -> &str {
        if self.scheme == Scheme::Unix { UNIX_HOST } else { self.site.host() }
    }

    /// Returns the host if it is an IP address.
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// assert_eq!(Url::parse("ws://127.0.0.1:8080")?.ip(), Some([127, 0, 0, 1].into()));
    /// assert_eq!(Url::parse("ws://example.com")?.ip(), None);
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// Returns the zone of an IPv6 address, which is the name or the number of a network interface of this system.
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// let url = Url::parse("ws://[fe80::1%25eth0]:8080/")?;
    /// assert_eq!((url.zone(), url.host()), (Some("eth0"), "fe80::1"));
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn zone(&self) -> Option<&str> {
        if self.scheme == Scheme::Unix { None } else { self.site.zone() }
    }

    /// Returns the port. The default is 80 for `ws` and 443 for `wss` (RFC 6455 3).
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// assert_eq!(Url::parse("ws://example.com:8080")?.port(), 8080);
    /// assert_eq!(Url::parse("wss://example.com")?.port(), 443);
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn port(&self) -> u16 {
        self.site.port.unwrap_or(self.default_port())
    }

    /// Returns the request target: path and query, at least `/`.
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// assert_eq!(Url::parse("ws://example.com/chat?room=7")?.target(), "/chat?room=7");
    /// assert_eq!(Url::parse("ws://example.com")?.target(), "/");
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the user in the URL, percent-decoded.
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// let url = Url::parse("ws://anna:top%20secret@example.com")?;
    /// assert_eq!((url.user(), url.password()), (Some("anna"), Some("top secret")));
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn user(&self) -> Option<&str> {
        self.site.credentials.as_ref().map(|credentials| credentials.user.as_str())
    }

    /// Returns the password in the URL, percent-decoded.
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// assert_eq!(Url::parse("ws://anna:secret@example.com")?.password(), Some("secret"));
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn password(&self) -> Option<&str> {
        self.site.credentials.as_ref().map(|credentials| credentials.password.as_str())
    }

    /// Returns host and port as in `Host`, without a zone, and without the port if it is the default (RFC 6455 4.1,
    /// item 4).
    ///
    /// ```
    /// use threadbare::Url;
    ///
    /// assert_eq!(Url::parse("ws://example.com:80")?.authority(), "example.com");
    /// assert_eq!(Url::parse("ws://[2001:db8::1]:8080")?.authority(), "[2001:db8::1]:8080");
    /// # Ok::<(), threadbare::UrlError>(())
    /// ```
    pub fn authority(&self) -> String {
        match self.scheme {
            Scheme::Unix => UNIX_HOST.to_owned(),
            _ if self.port() == self.default_port() => self.site.bracketed(),
            _ => self.authority_with_port(),
        }
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
            Scheme::Ws | Scheme::Unix => "ws",
            Scheme::Wss => "wss",
        }
    }

    /// Returns the default port (RFC 6455 3).
    fn default_port(&self) -> u16 {
        match self.scheme {
            Scheme::Ws | Scheme::Unix => 80,
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

/// Formats the URL without user and password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Unix => return write!(f, "ws+unix:{}:{}", self.site.socket(), self.target),
            _ => write!(f, "{}://{}", self.scheme(), self.site.bracketed_with_zone())?,
        }
        match self.port() {
            port if port == self.default_port() => {}
            port => write!(f, ":{port}")?,
        }
        f.write_str(&self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url(\"{self}\")")
    }
}

/// Splits a URL into scheme, authority, and path with query. Blanks around it are ignored, as browsers do.
pub(super) fn split(text: &str) -> Result<(&str, &str, &str), UrlError> {
    let text = text.trim_matches(' ');
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

/// Refuses control characters. Browsers leave out line ends and tabs; a URL that has any was put together from something that
/// is no part of a URL, and may want to end the request line.
fn check_characters(text: &str) -> Result<(), UrlError> {
    match text.chars().find(char::is_ascii_control) {
        Some(character) => Err(UrlError::Character(character)),
        None => Ok(()),
    }
}

/// Replaces the userinfo by `...`, because an error must not contain a password.
fn without_userinfo(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, place)| format!("...@{place}"))
}

#[cfg(test)]
mod tests;
