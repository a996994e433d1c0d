//! Which sites, and under which names of the server, may open connections (RFC 6455 10.2, CWE-1385).

use crate::protocol::http::{Authority, Request, Response, refuse};

/// Whose pages may open connections. Browsers name the page's origin in `Origin`, and do not keep other sites' pages
/// from connecting.
///
/// Requests without `Origin` come from programs, not from browsers, and pass every policy.
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
    /// Pages that came from this very server: `Origin` and `Host` name the same host and port. This is the default.
    #[default]
    SameHost,
    /// Any page, on any site.
    Any,
    /// Pages of these origins and no others. Scheme, host and port must all match, where the port can be left out if it
    /// is the scheme's. Sandboxed pages and local files have the origin `null`, which has to be listed as such.
    List(Vec<String>),
}

impl OriginPolicy {
    /// Passes the request or refuses it with 403 (RFC 6455 4.2.2, item 4).
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

    /// The first entry of a list that is no origin (as one with a path or a slash at the end) and can never match.
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

/// Under which names the server may be addressed. A list keeps out pages that reach a local server by a name of their
/// own site (DNS rebinding), which the origin does not show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostPolicy {
    /// Any name. This is the default.
    #[default]
    Any,
    /// These hosts and no others: `example.com` on any port, `example.com:8080` on this one.
    List(Vec<String>),
}

impl HostPolicy {
    /// Passes the request or refuses it with 421 (RFC 9110 15.5.20).
    pub fn check(&self, request: &Request) -> Result<(), Box<Response>> {
        let HostPolicy::List(entries) = self else { return Ok(()) };
        let host = request.field_values("Host").next().and_then(Authority::parse);
        let allowed = host.is_some_and(|host| entries.iter().any(|entry| matches_entry(&host, entry)));
        if allowed { Ok(()) } else { Err(refuse(421, "This host is not served here.")) }
    }

    /// The first entry of a list that is no host and can never match.
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

/// RFC 6454 6.2: `scheme "://" host [ ":" port ]`, nothing behind it.
struct Origin<'a> {
    scheme: &'a str,
    /// `file://` has none.
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

    /// Whether the page came from the host that the request goes to. Its scheme gives the port that both may leave out:
    /// behind a proxy that ends TLS the server can not know it otherwise.
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

/// RFC 3986 3.1.
pub(super) fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The origin that tells nothing (RFC 6454 6.2).
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
    fn h_04_null_passes_only_where_it_is_listed() {
        assert!(passes(&OriginPolicy::List(vec!["null".into()]), "h", &["null"]));
        assert!(!passes(&OriginPolicy::List(vec!["null".into()]), "h", &["http://null"]));
        assert!(passes(&OriginPolicy::Any, "h", &["null"]));
    }

    #[test]
    fn entries_that_can_not_match_are_found() {
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
