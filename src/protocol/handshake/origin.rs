//! Policies for the headers `Origin` and `Host` (RFC 6455 10.2, CWE-1385).

use crate::protocol::http::{Authority, Request, Response, refuse};

/// The origins whose pages may open connections. A browser lets the pages of every site connect to every server, and
/// sends the origin of the page in `Origin`.
///
/// Every policy passes requests without `Origin`: they come from clients that are not browsers.
///
/// ```
/// use threadbare::OriginPolicy;
///
/// let policy = OriginPolicy::List(vec!["https://example.com".into(), "http://localhost:3000".into()]);
/// # assert_eq!(policy.invalid_entry(), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Only pages of this server: `Origin` and `Host` have the same host and port. This is the default.
    #[default]
    SameHost,
    /// Pages of all origins.
    Any,
    /// Only pages of these origins. Scheme, host and port must match; the port may be omitted if it is the default port
    /// of the scheme. Sandboxed pages and local files have the origin `null`, which must be listed as `null`.
    List(Vec<String>),
}

impl OriginPolicy {
    /// Checks a request. The error is a refusal with 403 (RFC 6455 4.2.2, item 4).
    ///
    /// ```
    /// use threadbare::{OriginPolicy, Request};
    ///
    /// let head = b"GET / HTTP/1.1\r\nHost: example.com\r\nOrigin: https://example.org\r\n\r\n";
    /// let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// assert_eq!(OriginPolicy::SameHost.check(&request).expect_err("another site").status(), 403);
    /// assert!(OriginPolicy::List(vec!["https://example.org".into()]).check(&request).is_ok());
    /// ```
    pub fn check(&self, request: &Request) -> Result<(), Box<Response>> {
        if *self == OriginPolicy::Any {
            return Ok(());
        }
        let mut origins = request.field_values("Origin");
        let allowed = match (origins.next(), origins.next()) {
            (None, _) => true,
            (Some(origin), None) => self.allows(origin, request),
            (Some(_), Some(_)) => false, // RFC 6454 7.3: "MUST NOT include more than one Origin header field"
        };
        if allowed { Ok(()) } else { Err(refuse(403, "Connections from pages of this origin are not allowed.")) }
    }

    /// Returns the first entry of a list that is not an origin and can never match, for example because it has a path
    /// or ends with a slash.
    ///
    /// ```
    /// use threadbare::OriginPolicy;
    ///
    /// let policy = OriginPolicy::List(vec!["https://example.com/".into()]);
    /// assert_eq!(policy.invalid_entry(), Some("https://example.com/")); // for the slash
    /// ```
    pub fn invalid_entry(&self) -> Option<&str> {
        match self {
            OriginPolicy::List(entries) => entries
                .iter()
                .map(String::as_str)
                .find(|entry| *entry != NULL && Origin::parse(entry.as_bytes()).is_none()),
            OriginPolicy::SameHost | OriginPolicy::Any => None,
        }
    }

    fn allows(&self, origin: &[u8], request: &Request) -> bool {
        match self {
            OriginPolicy::SameHost => Origin::parse(origin).is_some_and(|origin| origin.is_of(request)),
            OriginPolicy::Any => true,
            OriginPolicy::List(entries) if origin == NULL.as_bytes() => entries.iter().any(|entry| entry == NULL),
            OriginPolicy::List(entries) => Origin::parse(origin).is_some_and(|origin| {
                entries.iter().any(|entry| Origin::parse(entry.as_bytes()).is_some_and(|entry| origin.same_as(&entry)))
            }),
        }
    }
}

/// The host names by which clients may connect to the server. A list refuses pages that reach a local server through a
/// name of their own site (DNS rebinding), which the origin does not reveal.
///
/// ```
/// use threadbare::HostPolicy;
///
/// let policy = HostPolicy::List(vec!["example.com".into(), "localhost:8080".into()]);
/// assert_eq!(policy.invalid_entry(), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostPolicy {
    /// All host names. This is the default.
    #[default]
    Any,
    /// Only these hosts: `example.com` matches every port, `example.com:8080` only port 8080.
    List(Vec<String>),
}

impl HostPolicy {
    /// Checks a request. The error is a refusal with 421 (RFC 9110 15.5.20).
    ///
    /// ```
    /// use threadbare::{HostPolicy, Request};
    ///
    /// let head = b"GET / HTTP/1.1\r\nHost: rebound.example.org\r\n\r\n";
    /// let request = Request::parse(head, ([127, 0, 0, 1], 50_000).into()).expect("a well-formed head");
    /// let policy = HostPolicy::List(vec!["localhost".into()]);
    /// assert_eq!(policy.check(&request).expect_err("another host").status(), 421);
    /// ```
    pub fn check(&self, request: &Request) -> Result<(), Box<Response>> {
        let HostPolicy::List(entries) = self else { return Ok(()) };
        let host = request.field_values("Host").next().and_then(Authority::parse);
        let allowed = host.is_some_and(|host| entries.iter().any(|entry| matches_entry(&host, entry)));
        if allowed { Ok(()) } else { Err(refuse(421, "This host is not served here.")) }
    }

    /// Returns the first entry of a list that is not a host and can never match.
    ///
    /// ```
    /// use threadbare::HostPolicy;
    ///
    /// let policy = HostPolicy::List(vec!["http://example.com".into()]);
    /// assert_eq!(policy.invalid_entry(), Some("http://example.com")); // not a host but a URL
    /// ```
    pub fn invalid_entry(&self) -> Option<&str> {
        match self {
            HostPolicy::List(entries) => {
                entries.iter().map(String::as_str).find(|entry| Authority::parse(entry.as_bytes()).is_none())
            }
            HostPolicy::Any => None,
        }
    }
}

fn matches_entry(host: &Authority<'_>, entry: &str) -> bool {
    let Some(entry) = Authority::parse(entry.as_bytes()) else { return false };
    if entry.has_port() { entry.same_as(host, None) } else { entry.same_host(host) }
}

/// An origin `scheme "://" host [ ":" port ]` (RFC 6454 6.2).
struct Origin<'a> {
    scheme: &'a str,
    /// `None` for `file://`.
    authority: Option<Authority<'a>>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a [u8]) -> Option<Origin<'a>> {
        let (scheme, authority) = core::str::from_utf8(text).ok()?.split_once("://")?;
        let authority = match authority {
            "" if scheme.eq_ignore_ascii_case("file") => None,
            _ => Some(Authority::parse(authority.as_bytes())?),
        };
        is_scheme(scheme).then_some(Origin { scheme, authority })
    }

    /// Returns whether the page came from the host of the request. The scheme of the origin is the source of the
    /// default port for both, because a server behind a proxy that terminates TLS does not know the scheme of the
    /// request.
    fn is_of(&self, request: &Request) -> bool {
        let host = request.field_values("Host").next().and_then(Authority::parse);
        match (self.web_port(), &self.authority, host) {
            (Some(port), Some(authority), Some(host)) => authority.same_as(&host, Some(port)),
            _ => false,
        }
    }

    fn same_as(&self, other: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && match (&self.authority, &other.authority) {
                (Some(one), Some(two)) => one.same_as(two, self.web_port()),
                (None, None) => true,
                _ => false,
            }
    }

    fn web_port(&self) -> Option<u16> {
        match self.scheme {
            scheme if scheme.eq_ignore_ascii_case("http") => Some(80),
            scheme if scheme.eq_ignore_ascii_case("https") => Some(443),
            _ => None,
        }
    }
}

/// Returns whether this is a scheme (RFC 3986 3.1).
pub(super) fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The opaque origin (RFC 6454 6.2).
const NULL: &str = "null";

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, origins: &[&str]) -> Request {
        let lines: String = origins.iter().map(|origin| format!("Origin: {origin}\r\n")).collect();
        Request::parse(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n").as_bytes(), ([127, 0, 0, 1], 9).into())
            .unwrap()
    }

    fn passes(policy: &OriginPolicy, host: &str, origins: &[&str]) -> bool {
        let outcome = policy.check(&request(host, origins));
        assert!(outcome.as_ref().err().is_none_or(|refusal| refusal.status() == 403));
        outcome.is_ok()
    }

    #[test]
    fn h_04_pages_of_the_same_host_pass_by_default() {
        let policy = OriginPolicy::default();
        assert!(passes(&policy, "example.com", &[]));
        for (host, origin) in [
            ("example.com", "http://example.com"),
            ("example.com", "https://example.com:443"),
            ("example.com", "HTTP://EXAMPLE.com:80"),
            ("Example.com:80", "http://example.com"),
            ("example.com:443", "https://example.com"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            assert!(passes(&policy, host, &[origin]), "{host} {origin}");
        }
    }

    #[test]
    fn h_04_a_29_pages_of_other_hosts_are_refused_by_default() {
        for (host, origin) in [
            ("example.com", "null"),
            ("example.com", ""),
            ("example.com", "http://example.com:8080"),
            ("example.com:8080", "http://example.com"),
            ("example.com:80", "https://example.com"),
            ("example.com", "https://example.com.evil.com"),
            ("example.com", "https://evilexample.com"),
            ("example.com", "https://evil.com/?example.com"),
            ("example.com", "https://evil.com#example.com"),
            ("example.com", "https://example.com@evil.com"),
            ("example.com", "https://evil.com@example.com"),
            ("example.com", "https://example.com/"),
            ("example.com", "http://example.com http://evil.com"),
            ("example.com", "http://evil.com, http://example.com"),
            ("example.com", "ftp://example.com"),
            ("example.com", "ws://example.com"),
            ("example.com", "example.com"),
            ("example.com", "//example.com"),
            ("example.com", "caf\u{e9}"),
            ("localhost", "http://127.0.0.1"),
        ] {
            assert!(!passes(&OriginPolicy::SameHost, host, &[origin]), "{host} {origin}");
        }
    }

    #[test]
    fn h_04_two_origins_are_refused() {
        let good = "https://good.example";
        assert!(!passes(&OriginPolicy::SameHost, "good.example", &[good, good]));
        assert!(!passes(&OriginPolicy::List(vec![good.into()]), "good.example", &[good, "https://evil.com"]));
    }

    #[test]
    fn h_04_a_29_a_list_matches_exactly() {
        let policy = OriginPolicy::List(vec![
            "https://good.example".into(),
            "http://localhost:3000".into(),
            "app://one".into(),
            "file://".into(),
        ]);
        for good in
            ["https://good.example", "https://GOOD.example:443", "http://localhost:3000", "app://one", "file://"]
        {
            assert!(passes(&policy, "server", &[good]), "{good}");
        }
        assert!(passes(&policy, "server", &[]));
        for bad in [
            "null",
            "http://good.example",
            "https://good.example:8443",
            "https://good.example.evil.com",
            "https://evil.com/?https://good.example",
            "https://sub.good.example",
            "https://good.exampl",
            "http://localhost",
            "http://localhost:30000",
            "app://two",
            "http://server",
            "https://good.example/",
        ] {
            assert!(!passes(&policy, "server", &[bad]), "{bad}");
        }
        assert!(!passes(&OriginPolicy::List(vec![]), "server", &["http://server"]));
    }

    #[test]
    fn h_04_null_passes_only_if_it_is_listed() {
        assert!(passes(&OriginPolicy::List(vec!["null".into()]), "h", &["null"]));
        assert!(!passes(&OriginPolicy::List(vec!["null".into()]), "h", &["http://null"]));
        assert!(passes(&OriginPolicy::Any, "h", &["null"]));
    }

    #[test]
    fn entries_that_can_never_match_are_returned() {
        let list = |entry: &str| OriginPolicy::List(vec!["null".into(), "https://a:1".into(), entry.into()]);
        for bad in ["https://a/", "a", "*", "https://*/x", "https://", ""] {
            assert_eq!(list(bad).invalid_entry(), Some(bad));
        }
        assert_eq!(list("file://").invalid_entry(), None);
        assert_eq!(OriginPolicy::SameHost.invalid_entry(), None);
        assert_eq!(HostPolicy::List(vec!["a".into(), "http://a".into()]).invalid_entry(), Some("http://a"));
    }

    #[test]
    fn h_04_hosts_that_are_not_listed_are_refused_with_421() {
        let policy = HostPolicy::List(vec!["example.com".into(), "[::1]:8080".into()]);
        let status = |host: &str| policy.check(&request(host, &[])).err().map(|refusal| refusal.status());
        for good in ["example.com", "EXAMPLE.COM:99", "[::1]:8080"] {
            assert_eq!(status(good), None, "{good}");
        }
        for bad in ["evil.com", "example.com.evil.com", "[::1]", "[::1]:80", "localhost"] {
            assert_eq!(status(bad), Some(421), "{bad}");
        }
        assert!(HostPolicy::Any.check(&request("evil.com", &[])).is_ok());
    }
}
