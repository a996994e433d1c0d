//! Policies for the headers `Origin` and `Host` (RFC 6455 10.2, CWE-1385).

use crate::protocol::http::{Authority, AuthorityPattern, Request, Response, refuse};

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
    /// of the scheme. `https://*.example.com` matches all hosts below `example.com`, with one label or more in place of
    /// `*`, and not `example.com` itself. Sandboxed pages and local files have the origin `null`, which must be listed
    /// as `null`.
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
        if allowed { Ok(()) } else { Err(self.refusal(request)) }
    }

    fn refusal(&self, request: &Request) -> Box<Response> {
        let (origin, host) = (shown(request, "Origin"), shown_host(request));
        let hint = match self {
            OriginPolicy::SameHost => " They must be the same host and port; does a proxy change Host?",
            OriginPolicy::List(_) | OriginPolicy::Any => " The origin is not in the server's list.",
        };
        refuse(403, &format!("Pages of {origin} may not connect to {host}.{hint}"))
    }

    /// Returns the first entry of a list that is not an origin and can never match, for example because it has a path,
    /// ends with a slash, or has a `*` that does not stand for the first labels.
    ///
    /// ```
    /// use threadbare::OriginPolicy;
    ///
    /// let policy = OriginPolicy::List(vec!["https://example.com/".into()]);
    /// assert_eq!(policy.invalid_entry(), Some("https://example.com/")); // for the slash
    /// ```
    pub fn invalid_entry(&self) -> Option<&str> {
        match self {
            OriginPolicy::List(entries) => {
                entries.iter().map(String::as_str).find(|entry| *entry != NULL && OriginPattern::parse(entry).is_none())
            }
            OriginPolicy::SameHost | OriginPolicy::Any => None,
        }
    }

    fn allows(&self, origin: &[u8], request: &Request) -> bool {
        match self {
            OriginPolicy::SameHost => Origin::parse(origin).is_some_and(|origin| origin.is_of(request)),
            OriginPolicy::Any => true,
            OriginPolicy::List(entries) if origin == NULL.as_bytes() => entries.iter().any(|entry| entry == NULL),
            OriginPolicy::List(entries) => Origin::parse(origin).is_some_and(|origin| {
                entries.iter().any(|entry| OriginPattern::parse(entry).is_some_and(|entry| entry.matches(&origin)))
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
    /// Only these hosts: `example.com` matches every port, `example.com:8080` only port 8080. `*.example.com` matches all
    /// hosts below `example.com`, with one label or more in place of `*`, and not `example.com` itself.
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
        let host = request.authority();
        let allowed = host.is_some_and(|host| entries.iter().any(|entry| matches_entry(&host, entry)));
        if allowed {
            Ok(())
        } else {
            let why = format!("The host {} is not served here; does a proxy change Host?", shown_host(request));
            Err(refuse(421, &why))
        }
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
                entries.iter().map(String::as_str).find(|entry| AuthorityPattern::parse(entry.as_bytes()).is_none())
            }
            HostPolicy::Any => None,
        }
    }
}

fn matches_entry(host: &Authority<'_>, entry: &str) -> bool {
    let Some(entry) = AuthorityPattern::parse(entry.as_bytes()) else { return false };
    if entry.has_port() { entry.matches(host, None) } else { entry.matches_host(host) }
}

/// An error message contains at most 100 bytes of a name that a client sent. A host name has at most 253; larger makes
/// the log larger under attack.
const SHOWN_NAME: usize = 100;

/// Returns the first value of a header, escaped, in quotes and cut, for an error message.
fn shown(request: &Request, header: &str) -> String {
    quoted(request.field_values(header).next().unwrap_or_default())
}

fn shown_host(request: &Request) -> String {
    match request.absolute_form() {
        Some((_, authority)) => quoted(authority.as_bytes()),
        None => shown(request, "Host"),
    }
}

fn quoted(name: &[u8]) -> String {
    let cut = if name.len() > SHOWN_NAME { "..." } else { "" };
    format!("\"{}\"{cut}", name.get(..SHOWN_NAME).unwrap_or(name).escape_ascii())
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
        match (self.web_port(), &self.authority, request.authority()) {
            (Some(port), Some(authority), Some(host)) => authority.same_as(&host, Some(port)),
            _ => false,
        }
    }

    fn web_port(&self) -> Option<u16> {
        web_port(self.scheme)
    }
}

/// An entry of a list of origins.
struct OriginPattern<'a> {
    scheme: &'a str,
    /// `None` for `file://`.
    authority: Option<AuthorityPattern<'a>>,
}

impl<'a> OriginPattern<'a> {
    fn parse(entry: &'a str) -> Option<OriginPattern<'a>> {
        let Origin { scheme, authority } = Origin::parse(entry.as_bytes())?;
        let (_, text) = entry.split_once("://")?;
        let authority = match authority {
            Some(_) => Some(AuthorityPattern::parse(text.as_bytes())?),
            None => None,
        };
        Some(OriginPattern { scheme, authority })
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(origin.scheme)
            && match (&self.authority, &origin.authority) {
                (Some(pattern), Some(authority)) => pattern.matches(authority, web_port(self.scheme)),
                (None, None) => true,
                _ => false,
            }
    }
}

fn web_port(scheme: &str) -> Option<u16> {
    match scheme {
        scheme if scheme.eq_ignore_ascii_case("http") => Some(80),
        scheme if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
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
    fn h_04_an_entry_with_a_star_matches_hosts_below_its_domain() {
        let policy = OriginPolicy::List(vec!["https://*.good.example".into(), "app://*.x".into()]);
        for good in ["https://a.good.example", "HTTPS://b.A.GOOD.example:443", "app://one.x"] {
            assert!(passes(&policy, "server", &[good]), "{good}");
        }
        for bad in [
            "https://good.example",
            "http://a.good.example",
            "https://a.good.example:8443",
            "https://evilgood.example",
            "https://.good.example",
            "https://a.good.example.evil.com",
            "https://evil.com/.good.example",
            "https://evil.com#.good.example",
            "https://evil.com@a.good.example",
            "https://*.good.example",
        ] {
            assert!(!passes(&policy, "server", &[bad]), "{bad}");
        }
        let hosts = HostPolicy::List(vec!["*.good.example".into(), "*.other.example:81".into()]);
        let status = |host: &str| hosts.check(&request(host, &[])).err().map(|refusal| refusal.status());
        for good in ["a.good.example", "a.b.GOOD.example:99", "a.other.example:81"] {
            assert_eq!(status(good), None, "{good}");
        }
        for bad in ["good.example", "a.good.example.evil.com", "a.other.example", "agood.example"] {
            assert_eq!(status(bad), Some(421), "{bad}");
        }
    }

    #[test]
    fn h_04_a_refusal_names_origin_and_host() {
        let text = |refusal: Box<Response>| String::from_utf8(refusal.encode()).unwrap();
        let refused = OriginPolicy::SameHost.check(&request("inner:8080", &["https://example.com"])).unwrap_err();
        let body = text(refused);
        assert!(body.contains("\"https://example.com\"") && body.contains("\"inner:8080\""), "{body}");
        assert!(body.contains("proxy"), "{body}");
        let refused = HostPolicy::List(vec!["a".into()]).check(&request("b", &[])).unwrap_err();
        assert!(text(refused).contains("The host \"b\" is not served"));
        let hostile = format!("\u{e9}\"<b>{}", "x".repeat(5_000));
        let body = text(OriginPolicy::SameHost.check(&request("h", &[&hostile])).unwrap_err());
        assert!(body.is_ascii() && body.len() < 600 && body.contains("\\xc3\\xa9\\\"<b>"), "{body}");
    }

    #[test]
    fn an_absolute_target_decides_over_host() {
        // RFC 9112 3.2.2: "the origin server MUST ignore the received Host header field".
        let head = "GET http://good.example/x HTTP/1.1\r\nHost: other\r\nOrigin: http://good.example\r\n\r\n";
        let request = Request::parse(head.as_bytes(), ([127, 0, 0, 1], 9).into()).unwrap();
        assert_eq!(request.host(), Some("good.example"));
        assert!(OriginPolicy::SameHost.check(&request).is_ok());
        assert!(HostPolicy::List(vec!["good.example".into()]).check(&request).is_ok());
        assert!(HostPolicy::List(vec!["other".into()]).check(&request).is_err());
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
        for bad in
            ["https://a/", "a", "*", "https://*/x", "https://", "", "https://*", "https://a.*", "http://localhost:*"]
        {
            assert_eq!(list(bad).invalid_entry(), Some(bad));
        }
        assert_eq!(list("file://").invalid_entry(), None);
        assert_eq!(list("https://*.example.com:8443").invalid_entry(), None);
        assert_eq!(HostPolicy::List(vec!["*.a.example".into(), "a.*.b".into()]).invalid_entry(), Some("a.*.b"));
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
