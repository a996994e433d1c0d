//! Redirects of the opening handshake.

use core::fmt;

use super::url::{Url, UrlError};

/// Returns the URL to which a response with this status and `Location` redirects.
///
/// RFC 6455 4.1 leaves it to the client whether it follows redirects. The caller limits their number, and creates the
/// new request with [`ClientRequest::redirected`](super::ClientRequest::redirected).
///
/// ```
/// use threadbare::protocol::handshake::client::{Url, redirect};
///
/// let from = Url::parse("wss://example.com/old")?;
/// assert_eq!(redirect(&from, 307, "/new")?.to_string(), "wss://example.com/new");
/// assert!(redirect(&from, 307, "ws://example.com/new").is_err()); // not encrypted
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn redirect(from: &Url, status: u16, location: &str) -> Result<Url, RedirectError> {
    if !is_redirect(status) {
        return Err(RedirectError::Status(status));
    }
    let mut to = from.resolve(location).map_err(RedirectError::Location)?;
    // A server must not send a client to the sockets of the client's machine.
    if to.socket_path().is_some() && to.socket_path() != from.socket_path() {
        return Err(RedirectError::UnixSocket(to));
    }
    if from.is_secure() && !to.is_secure() {
        return Err(RedirectError::Downgrade(to));
    }
    match to.credentials() {
        // The credentials of the first URL, on the same origin.
        Some(given) if from.credentials() == Some(given) && credentials_allowed(from, &to) => {}
        // RFC 9110 4.2.4: "Before making use of [a] URI reference received from an untrusted source, a recipient SHOULD
        // parse for userinfo and treat its presence as an error".
        Some(_) => return Err(RedirectError::Userinfo(to)),
        None if credentials_allowed(from, &to) => to.set_credentials(from.credentials().cloned()),
        None => {}
    }
    Ok(to)
}

/// Returns whether the credentials for one URL may be sent to another: both have the same origin, which is scheme, host
/// and port (RFC 6454 5), or the same Unix socket.
///
/// ```
/// use threadbare::protocol::handshake::client::{Url, credentials_allowed};
///
/// let from = Url::parse("wss://example.com/a")?;
/// assert!(credentials_allowed(&from, &Url::parse("wss://example.com/b")?));
/// assert!(!credentials_allowed(&from, &Url::parse("wss://example.org/a")?));
/// # Ok::<(), threadbare::UrlError>(())
/// ```
pub fn credentials_allowed(from: &Url, to: &Url) -> bool {
    from.is_secure() == to.is_secure()
        && (from.host(), from.zone(), from.port()) == (to.host(), to.zone(), to.port())
        && from.socket_path() == to.socket_path()
}

/// Returns whether a client can follow a response with this status (RFC 9110 15.4). A 300 requires a choice, and a 304
/// is not a redirect.
pub(super) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Why a redirect is not followed.
///
/// ```
/// use threadbare::protocol::handshake::client::{RedirectError, Url, redirect};
///
/// let from = Url::parse("wss://example.com")?;
/// assert_eq!(redirect(&from, 300, "/new"), Err(RedirectError::Status(300)));
/// assert!(matches!(redirect(&from, 301, "ws://example.com"), Err(RedirectError::Downgrade(_))));
/// # Ok::<(), threadbare::UrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectError {
    /// The status is not 301, 302, 303, 307 or 308.
    Status(u16),
    /// `Location` is not a URL that a client can connect to.
    Location(UrlError),
    /// The redirect is from `wss` to `ws`, so the connection would not be encrypted.
    Downgrade(Url),
    /// The redirect leads to a Unix socket of the client's machine, other than the one that it came from.
    UnixSocket(Url),
    /// `Location` contains a user or a password.
    Userinfo(Url),
}

impl fmt::Display for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedirectError::Status(status) => write!(f, "{status} is no redirect"),
            RedirectError::Location(_) => f.write_str("the redirect leads to no URL that can be connected to"),
            RedirectError::Downgrade(to) => write!(f, "the redirect to {to} gives up encryption"),
            RedirectError::UnixSocket(to) => write!(f, "the redirect to {to} leads to another Unix socket"),
            RedirectError::Userinfo(to) => write!(f, "the redirect to {to} comes with a user and a password"),
        }
    }
}

impl core::error::Error for RedirectError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            RedirectError::Location(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn follow(from: &str, location: &str) -> Result<String, RedirectError> {
        redirect(&url(from), 302, location).map(|to| to.to_string())
    }

    #[test]
    fn a_redirect_resolves_location() {
        for (from, location, to) in [
            ("ws://a/b/c", "d", "ws://a/b/d"),
            ("ws://a/b/c", "/d?e", "ws://a/d?e"),
            ("ws://a/b/c", "//h/d", "ws://h/d"),
            ("wss://a/b/c", "//h/d", "wss://h/d"),
            ("ws://a", "http://h:1/d#e", "ws://h:1/d"),
            ("ws://a", "https://a/", "wss://a/"),
            ("wss://a", "https://h/d", "wss://h/d"),
        ] {
            assert_eq!(follow(from, location).as_deref(), Ok(to), "{from} {location}");
        }
    }

    #[test]
    fn h_05_a_redirect_from_wss_to_ws_is_refused() {
        for location in ["ws://a/", "http://a:443/", "HTTP://a"] {
            assert!(matches!(follow("wss://a/", location), Err(RedirectError::Downgrade(_))), "{location}");
        }
    }

    #[test]
    fn h_05_a_redirect_to_another_unix_socket_is_refused() {
        for from in ["ws://a/", "wss://a/", "ws+unix:/run/a.sock:/"] {
            let to = "ws+unix:/run/b.sock:/";
            assert!(
                matches!(follow(from, to), Err(RedirectError::UnixSocket(_) | RedirectError::Downgrade(_))),
                "{from}"
            );
        }
        let from = "ws+unix:/run/a.sock:/b/c";
        assert_eq!(follow(from, "d").as_deref(), Ok("ws+unix:/run/a.sock:/b/d"));
        assert_eq!(follow(from, "ws+unix:/run/a.sock:/d").as_deref(), Ok("ws+unix:/run/a.sock:/d"));
        assert_eq!(follow(from, "ws://localhost/d").as_deref(), Ok("ws://localhost/d"));
        assert!(!credentials_allowed(&url(from), &url("ws://localhost/d")));
    }

    #[test]
    fn other_statuses_are_not_followed() {
        for status in 0..=1000 {
            let followed = redirect(&url("ws://a/"), status, "/b");
            if [301, 302, 303, 307, 308].contains(&status) {
                assert_eq!(followed.unwrap().target(), "/b");
            } else {
                assert_eq!(followed, Err(RedirectError::Status(status)));
            }
        }
    }

    #[test]
    fn invalid_locations_are_refused() {
        for bad in ["ftp://h/", "http://", "http://caf\u{7f}/", "/a\rb", "http://h:0"] {
            assert!(matches!(follow("ws://a/", bad), Err(RedirectError::Location(_))), "{bad:?}");
        }
        assert!(matches!(follow("ws://a/", "http://u:p@a/"), Err(RedirectError::Userinfo(_))));
    }

    #[test]
    fn h_05_credentials_are_allowed_only_on_the_same_origin() {
        let from = url("ws://u:p@a/x");
        for (location, stay) in [
            ("/y", true),
            ("y", true),
            ("ws://a/y", true),
            ("http://A:80/", true),
            ("ws://a:81/", false),
            ("wss://a/", false),
            ("wss://a:80/", false),
            ("ws://sub.a/", false),
            ("ws://a.", false),
            ("//b", false),
        ] {
            let to = redirect(&from, 307, location).unwrap();
            assert_eq!(credentials_allowed(&from, &to), stay, "{location}");
            assert_eq!(to.user(), stay.then_some("u"), "{location}");
        }
    }
}
