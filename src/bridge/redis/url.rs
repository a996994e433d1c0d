//! Where Redis is: `redis://user:password@host:port/database`, `rediss://` over TLS, `unix:///path` for a Unix socket.

use std::fmt;
use std::path::PathBuf;

use crate::bridge::error::BridgeError;

/// The port of Redis.
const DEFAULT_PORT: u16 = 6379;

/// An engine, and who the bridge is to it.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Target, BridgeError> {
        let wrong = |problem: &str| BridgeError::Url { url: without_password(url), problem: problem.to_owned() };
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(wrong("it has no scheme: redis://, rediss:// or unix:// begins it"));
        };
        if rest.contains(['?', '#']) {
            return Err(wrong("it has a query or a fragment, which are not understood: use methods of Redis"));
        }
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            "unix" => return Target::unix(rest).ok_or_else(|| wrong("a path beginning with / follows unix://")),
            other => return Err(wrong(&format!("{other} is none of the schemes redis, rediss and unix"))),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, host_port) = match authority.rsplit_once('@') {
            Some((credentials, host_port)) => (Some(credentials), host_port),
            None => (None, authority),
        };
        let (host, port) = split_port(host_port).ok_or_else(|| wrong("the port is no number of 1 to 65535"))?;
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        let database = match path {
            "" => None,
            path => Some(path.parse().map_err(|_| wrong("the database behind the host is no number"))?),
        };
        let (user, password) = match credentials {
            None => (None, None),
            Some(credentials) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                let decode =
                    |text| decode_percent(text).ok_or_else(|| wrong("user or password is not percent-encoded UTF-8"));
                (Some(decode(user)?).filter(|user| !user.is_empty()), Some(decode(password)?))
            }
        };
        Ok(Target { place: Place::Tcp { host: host.to_owned(), port }, tls, user, password, database })
    }

    fn unix(path: &str) -> Option<Target> {
        let place = Place::Unix(path.starts_with('/').then(|| PathBuf::from(path))?);
        Some(Target { place, tls: false, user: None, password: None, database: None })
    }
}

/// `host:port`, `host`, `[::1]:port` or `[::1]`.
fn split_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => DEFAULT_PORT,
    };
    Some((host, port))
}

/// RFC 3986 2.1.
fn decode_percent(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?), char::from(bytes.next()?));
                u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The URL, with `***` for what may be a password.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match rest.rsplit_once('@') {
        Some((credentials, place)) => {
            let user = credentials.split_once(':').map_or("", |(user, _)| user);
            format!("{scheme}://{user}:***@{place}")
        }
        None => url.to_owned(),
    }
}

/// Without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}"),
            Place::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
            Place::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(url: &str) -> (String, u16, Option<String>, Option<String>, Option<u32>) {
        let target = Target::parse(url).expect(url);
        let Place::Tcp { host, port } = target.place else { panic!("{url} is no Unix socket") };
        (host, port, target.user, target.password, target.database)
    }

    #[test]
    fn urls_say_place_user_password_and_database() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(tcp("redis://localhost"), ("localhost".into(), 6379, None, None, None));
        assert_eq!(tcp("redis://10.0.0.1:7000/3"), ("10.0.0.1".into(), 7000, None, None, Some(3)));
        assert_eq!(tcp("redis://[::1]:7000"), ("::1".into(), 7000, None, None, None));
        assert_eq!(tcp("redis://[::1]/"), ("::1".into(), 6379, None, None, None));
        assert_eq!(tcp("redis://:p%40ss@h"), ("h".into(), 6379, None, some("p@ss"), None));
        assert_eq!(tcp("redis://me:a:b@h:1"), ("h".into(), 1, some("me"), some("a:b"), None));
        assert!(Target::parse("rediss://h").expect("a URL").tls);
        assert_eq!(
            Target::parse("unix:///run/redis.sock").expect("a URL").place,
            Place::Unix("/run/redis.sock".into())
        );
        assert_eq!(Target::parse("redis://u:secret@[::1]").expect("a URL").to_string(), "redis://[::1]:6379");
    }

    #[test]
    fn wrong_urls_are_refused_and_never_show_the_password() {
        for url in [
            "localhost",
            "http://h",
            "redis://",
            "redis://:1",
            "redis://h:0",
            "redis://h:65536",
            "redis://h:x",
            "redis://h/x",
            "redis://h?db=1",
            "redis://u:%zz@h",
            "redis://u:%ff@h",
            "redis://u:%4",
            "unix://relative",
            "redis://[::1",
            "redis://u:secret@h:x",
            "redis://u:secret@",
            "secret://u:secret@h",
        ] {
            let error = Target::parse(url).expect_err(url).to_string();
            assert!(error.starts_with("the URL "), "{error}");
            assert!(!error.contains(":secret"), "{error}");
        }
        let target = Target::parse("redis://u:secret@h").expect("a URL");
        assert!(!format!("{target:?} {target}").contains("secret"));
    }
}
