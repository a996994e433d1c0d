//! `[user[:password]@]host[:port]`, the authority of a URL (RFC 3986 3.2).

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::UrlError;
use super::idn::to_ascii;
use crate::protocol::http::split_zone;

/// The parsed authority: credentials, host and port.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) credentials: Option<Credentials>,
    /// The host in lower case, an IPv6 address without brackets, and behind a `%` its zone.
    host: String,
    pub(super) port: Option<u16>,
}

impl Site {
    pub(super) fn parse(authority: &str) -> Result<Site, UrlError> {
        // The userinfo ends at the last `@`, so that no part of it is mistaken for the host.
        let (userinfo, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let credentials = Credentials::parse(userinfo)?;
        let malformed = || UrlError::Host(place.to_owned());
        let (host, port) = match place.strip_prefix('[') {
            Some(literal) => {
                let (address, port) = literal.split_once(']').ok_or_else(malformed)?;
                let (address, zone) = split_zone(address).ok_or_else(malformed)?;
                if zone.is_some_and(|zone| !zone.bytes().all(is_host_character)) {
                    return Err(malformed());
                }
                let port = port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(malformed)?;
                (zone.map_or(address.to_string(), |zone| format!("{address}%{zone}")), port)
            }
            None => {
                let (name, port) = place.split_once(':').unwrap_or((place, ""));
                if name.is_empty() {
                    return Err(UrlError::NoHost);
                }
                let Some(name) = to_ascii(name) else {
                    return Err(if cfg!(feature = "idn") {
                        malformed()
                    } else {
                        UrlError::NonAsciiHost(name.to_owned())
                    });
                };
                if port.contains(':') || !name.bytes().all(is_host_character) {
                    return Err(malformed());
                }
                (name.to_ascii_lowercase(), port) // RFC 3986 3.2.2: "case-insensitive"
            }
        };
        Ok(Site { credentials, host, port: parse_port(port)? })
    }

    /// The site of a Unix socket, which is its path.
    pub(super) fn of_socket(path: &str) -> Site {
        Site { credentials: None, host: path.to_owned(), port: None }
    }

    /// Returns the path that [`of_socket`](Site::of_socket) was given.
    pub(super) fn socket(&self) -> &str {
        &self.host
    }

    /// Returns the host in lower case, an IPv6 address without brackets and without its zone.
    pub(super) fn host(&self) -> &str {
        self.host.split_once('%').map_or(&self.host, |(address, _)| address)
    }

    /// Returns the zone of an IPv6 address (RFC 4007 11): the name or the number of a network interface of this system.
    pub(super) fn zone(&self) -> Option<&str> {
        self.host.split_once('%').map(|(_, zone)| zone)
    }

    /// Returns the host as other systems are told it: an IPv6 address in brackets and without its zone, which RFC 6874 4
    /// has clients leave out because it "has no meaning outside the sending host".
    pub(super) fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host()) } else { self.host.clone() }
    }

    /// Returns the host as in a URL, an IPv6 address in brackets and with its zone.
    pub(super) fn bracketed_with_zone(&self) -> String {
        match self.zone() {
            Some(zone) => format!("[{}%25{zone}]", self.host()),
            None => self.bracketed(),
        }
    }
}

/// User and password of a URL, percent-decoded.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl Credentials {
    fn parse(userinfo: &str) -> Result<Option<Credentials>, UrlError> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let (user, password) = (decode(user)?, decode(password)?);
        // RFC 7617 2: "a user-id containing a colon character is invalid".
        if user.contains(':') {
            return Err(UrlError::Userinfo);
        }
        Ok((!user.is_empty() || !password.is_empty()).then_some(Credentials { user, password }))
    }

    /// Returns the value of `Authorization` or `Proxy-Authorization` (RFC 7617 2).
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

/// Omits user and password, which must not be logged.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Decodes a part of `userinfo = *( unreserved / pct-encoded / sub-delims / ":" )` (RFC 3986 3.2.1).
fn decode(text: &str) -> Result<String, UrlError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit().ok_or(UrlError::Userinfo)?, digit().ok_or(UrlError::Userinfo)?);
                u8::try_from(high * 16 + low).map_err(|_| UrlError::Userinfo)?
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte) => byte,
            _ => return Err(UrlError::Userinfo),
        });
    }
    // RFC 7617 2: "The user-id and password MUST NOT contain any control characters".
    if decoded.iter().any(u8::is_ascii_control) {
        return Err(UrlError::Userinfo);
    }
    String::from_utf8(decoded).map_err(|_| UrlError::Userinfo)
}

/// Returns whether the character may be in a host name. RFC 3986 3.2.2 also allows sub-delims and percent-encoding,
/// which resolvers do not support.
fn is_host_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Parses a port. An empty port means the default port of the scheme (RFC 3986 3.2.3).
fn parse_port(port: &str) -> Result<Option<u16>, UrlError> {
    match port {
        "" => Ok(None),
        _ if !port.bytes().all(|byte| byte.is_ascii_digit()) => Err(UrlError::Port(port.to_owned())),
        _ => match port.parse() {
            Ok(0) | Err(_) => Err(UrlError::Port(port.to_owned())),
            Ok(port) => Ok(Some(port)),
        },
    }
}
