//! `host[:port]`, as in `Host` and in an origin (RFC 3986 3.2).

use core::net::Ipv6Addr;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    host: Host<'a>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
enum Host<'a> {
    /// A registered name or an IPv4 address.
    Name(&'a [u8]),
    V6(Ipv6Addr),
}

impl<'a> Authority<'a> {
    /// Parses `Host = uri-host [ ":" port ]` (RFC 9110 7.2). An empty host is refused because it names no server
    /// (RFC 9110 4.2.1). The zone of an IPv6 address is ignored: it means something on the client's system alone, but
    /// many clients send it.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let (host, port) = match text {
            [b'[', literal @ ..] => {
                let (address, port) = core::str::from_utf8(literal).ok()?.split_once(']')?;
                (Host::V6(split_zone(address)?.0), port.strip_prefix(':').or(port.is_empty().then_some(""))?.as_bytes())
            }
            _ => {
                let mut parts = text.splitn(2, |byte| *byte == b':');
                let name = parts.next().filter(|name| is_reg_name(name))?;
                (Host::Name(name), parts.next().unwrap_or_default())
            }
        };
        Some(Authority { host, port: parse_port(port)? })
    }

    pub(crate) fn same_host(&self, other: &Authority<'_>) -> bool {
        match (self.host, other.host) {
            (Host::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two), // RFC 3986 3.2.2
            (Host::V6(one), Host::V6(two)) => one == two,
            _ => false,
        }
    }

    /// Returns whether host and port are the same. A missing port is the default port of the scheme.
    pub(crate) fn same_as(&self, other: &Authority<'_>, default_port: Option<u16>) -> bool {
        self.same_host(other) && self.port.or(default_port) == other.port.or(default_port)
    }
}

/// A host, or all hosts below a domain: `*.example.com[:port]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthorityPattern<'a> {
    authority: Authority<'a>,
    /// The domain of `*.`, with its leading dot.
    domain: Option<&'a [u8]>,
}

impl<'a> AuthorityPattern<'a> {
    /// Parses `[ "*." ] host [ ":" port ]`. A `*` at another place, or before an IP address, is refused because it can
    /// never match what a browser sends.
    pub(crate) fn parse(text: &'a [u8]) -> Option<AuthorityPattern<'a>> {
        let authority = Authority::parse(text)?;
        let Host::Name(name) = authority.host else { return Some(AuthorityPattern { authority, domain: None }) };
        let domain = name.strip_prefix(b"*");
        if domain.unwrap_or(name).contains(&b'*') {
            return None;
        }
        if let Some(domain) = domain {
            let (dot, labels) = domain.split_first()?;
            let is_number = |label: &[u8]| label.iter().all(u8::is_ascii_digit);
            if *dot != b'.' || !labels.split(|byte| *byte == b'.').all(is_label) {
                return None;
            }
            if labels.rsplit(|byte| *byte == b'.').next().is_some_and(is_number) {
                return None; // an IPv4 address
            }
        }
        Some(AuthorityPattern { authority, domain })
    }

    pub(crate) fn has_port(&self) -> bool {
        self.authority.port.is_some()
    }

    /// Returns whether `host` is this host, or has one label or more before this domain.
    pub(crate) fn matches_host(&self, host: &Authority<'_>) -> bool {
        match (self.domain, host.host) {
            (None, _) => self.authority.same_host(host),
            (Some(domain), Host::Name(name)) => {
                let labels = name.len().checked_sub(domain.len()).and_then(|end| name.split_at_checked(end));
                labels.is_some_and(|(labels, end)| {
                    end.eq_ignore_ascii_case(domain) && labels.split(|byte| *byte == b'.').all(is_label)
                })
            }
            (Some(_), Host::V6(_)) => false,
        }
    }

    /// Like [`matches_host`](AuthorityPattern::matches_host), with the same port. A missing port is the default port of
    /// the scheme.
    pub(crate) fn matches(&self, host: &Authority<'_>, default_port: Option<u16>) -> bool {
        self.matches_host(host) && self.authority.port.or(default_port) == host.port.or(default_port)
    }
}

/// Parses an IPv6 address, and returns it and its zone: `fe80::1%25eth0` (RFC 6874 2), or `fe80::1%eth0` as most programs
/// write it.
pub(crate) fn split_zone(literal: &str) -> Option<(Ipv6Addr, Option<&str>)> {
    let Some((address, zone)) = literal.split_once('%') else { return Some((literal.parse().ok()?, None)) };
    let zone = zone.strip_prefix("25").filter(|name| !name.is_empty()).unwrap_or(zone);
    Some((address.parse().ok()?, Some(zone).filter(|zone| is_reg_name(zone.as_bytes()))?.into()))
}

/// Returns whether this is one label of a domain (RFC 1034 3.5, and `_`, which names below domains have).
fn is_label(label: &[u8]) -> bool {
    !label.is_empty() && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Parses a port. An empty port means the default port of the scheme (RFC 3986 3.2.3).
fn parse_port(port: &[u8]) -> Option<Option<u16>> {
    if port.is_empty() {
        return Some(None);
    }
    let number = port.iter().try_fold(0_u16, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u16::try_from(digit).ok()?)
    });
    number.map(Some)
}

/// Returns whether `name` is a `reg-name = *( unreserved / pct-encoded / sub-delims )` (RFC 3986 3.2.2) and not empty.
fn is_reg_name(name: &[u8]) -> bool {
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        let valid = match byte {
            b'%' => {
                [bytes.next(), bytes.next()].iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
            }
            b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !valid {
            return false;
        }
    }
    !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_hosts_and_ports_are_refused() {
        for good in [
            "a",
            "example.com:80",
            "example.com:",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:8080",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]:80",
            "[fe80::1%252]",
            "[fe80::1%25]",
            "a%20b",
            "my_host-1.",
            "xn--caf-dma.fr",
        ] {
            assert!(Authority::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:8x",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[example]",
            "::1",
            "a%2",
            "a%zz",
            "[v1.a]",
            "[fe80::1%]",
            "[fe80::1%eth 0]",
            "[fe80::1%25%zz]",
            "[fe80::1%25a%25]%",
            "[%25eth0]",
            "[1.2.3.4%25eth0]",
            "a\\b",
            "a?b",
            "a#b",
            "<a>",
        ] {
            assert!(Authority::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(Authority::parse(b"caf\xe9").is_none());
        assert!(Authority::parse("caf\u{e9}".as_bytes()).is_none());
    }

    #[test]
    fn a_pattern_matches_one_label_or_more_before_its_domain() {
        let matches = |pattern: &str, host: &str| {
            let pattern = AuthorityPattern::parse(pattern.as_bytes()).unwrap();
            pattern.matches(&Authority::parse(host.as_bytes()).unwrap(), Some(443))
        };
        for good in
            ["a.example.com", "a.b.example.com", "A.EXAMPLE.com:443", "xn--caf-dma.example.com", "_x.example.com"]
        {
            assert!(matches("*.example.com", good), "{good}");
        }
        for bad in [
            "example.com",
            ".example.com",
            "a..example.com",
            "aexample.com",
            "a.example.com.evil.com",
            "a.example.com.",
            "a.example.com:444",
            "a%2eb.example.com",
            "*.example.com",
            "evil.com",
            "[::1]",
        ] {
            assert!(!matches("*.example.com", bad), "{bad}");
        }
        assert!(matches("*.example.com:8443", "a.example.com:8443") && !matches("*.example.com:8443", "a.example.com"));
        assert!(matches("example.com", "example.com") && !matches("example.com", "a.example.com"));
    }

    #[test]
    fn patterns_that_can_never_match_are_refused() {
        for bad in [
            "*",
            "*.",
            "*.*",
            "*.*.com",
            "a*.com",
            "*a.com",
            "a.*",
            "a.*.com",
            "*..com",
            "*.1.2.3.4",
            "*.[::1]",
            "**.a",
        ] {
            assert!(AuthorityPattern::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        for good in ["*.com", "*.example.com:80", "localhost", "1.2.3.4", "[::1]:80", "my_host"] {
            assert!(AuthorityPattern::parse(good.as_bytes()).is_some(), "{good}");
        }
    }

    #[test]
    fn hosts_are_case_insensitive_and_missing_ports_are_the_default() {
        let same = |one: &str, two: &str, default| {
            Authority::parse(one.as_bytes()).unwrap().same_as(&Authority::parse(two.as_bytes()).unwrap(), default)
        };
        assert!(same("Example.com", "eXample.com:80", Some(80)));
        assert!(same("example.com:", "example.com", None));
        assert!(same("[::1]", "[0:0::1]:443", Some(443)));
        assert!(same("[fe80::1%25eth0]", "[fe80::1]", None));
        assert!(!same("[fe80::1%25eth0]", "[fe80::2%25eth0]", None));
        assert!(!same("example.com", "example.com:80", Some(443)));
        assert!(!same("example.com", "example.com.evil", Some(80)));
        assert!(!same("[::1]", "1", None));
    }
}
