//! `no_proxy`, the list of hosts that are reached without a proxy.

use core::net::IpAddr;

use crate::protocol::handshake::client::url::Url;

/// Returns whether the list matches the URL's host.
pub(super) fn bypasses(list: &str, url: &Url) -> bool {
    list.split(|character: char| character == ',' || character.is_whitespace())
        .filter(|entry| !entry.is_empty())
        .any(|entry| matches(entry, url))
}

fn matches(entry: &str, url: &Url) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, length)) = entry.split_once('/') {
        return url.ip().is_some_and(|address| in_network(address, network, length));
    }
    let (host, port) = split_port(entry);
    if port.is_some_and(|port| port.parse() != Ok(url.port())) {
        return false;
    }
    match (url.ip(), host.parse::<IpAddr>()) {
        (Some(address), Ok(listed)) => address.to_canonical() == listed.to_canonical(),
        (None, Err(_)) => is_below(url.host(), host),
        _ => false,
    }
}

/// Splits an entry into host and port. An IPv6 address with a port must have brackets; without a port it may have them.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = entry.strip_prefix('[').and_then(|literal| literal.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (entry, None),
    }
}

/// Returns whether the name is this domain or one of its subdomains. A dot at the end of a name is ignored.
fn is_below(name: &str, domain: &str) -> bool {
    let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let (name, domain) = (bare(name), bare(domain));
    let domain = domain.strip_prefix('*').unwrap_or(&domain);
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    let before = name.strip_suffix(domain);
    !domain.is_empty() && before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// Returns whether the first `length` bits are those of `network`.
fn in_network(address: IpAddr, network: &str, length: &str) -> bool {
    let Ok(length) = length.parse::<u32>() else { return false };
    let shift = |bits: u32| bits.checked_sub(length); // the number of bits that may differ
    match (address.to_canonical(), network.trim_matches(['[', ']']).parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) => shift(32).is_some_and(|shift| {
            let differing = address.to_bits() ^ network.to_bits();
            differing.checked_shr(shift).unwrap_or(0) == 0
        }),
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) => shift(128).is_some_and(|shift| {
            let differing = address.to_bits() ^ network.to_bits();
            differing.checked_shr(shift).unwrap_or(0) == 0
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_match_names_addresses_ports_and_prefixes() {
        for (list, url, expected) in [
            ("example.com", "ws://example.com", true),
            ("example.com", "ws://EXAMPLE.com.", true),
            ("EXAMPLE.com.", "ws://example.com", true),
            ("example.com", "ws://a.b.example.com", true),
            ("example.com", "ws://notexample.com", false),
            ("example.com", "ws://example.com.evil.org", false),
            ("example.com", "ws://example.org", false),
            (".example.com", "ws://example.com", true),
            (".example.com", "ws://a.example.com", true),
            ("*.example.com", "ws://a.example.com", true),
            ("*.example.com", "ws://notexample.com", false),
            ("a.example.com", "ws://example.com", false),
            ("x, example.com ,y", "ws://example.com", true),
            ("x example.com", "ws://example.com", true),
            ("*", "ws://any", true),
            ("x,*", "wss://[::1]", true),
            ("", "ws://any", false),
            (" , ,", "ws://any", false),
            (".", "ws://any", false),
            ("*.", "ws://any", false),
            ("example.com:80", "ws://example.com", true),
            ("example.com:443", "wss://example.com", true),
            ("example.com:80", "wss://example.com", false),
            ("example.com:8080", "ws://a.example.com:8080", true),
            ("example.com:x", "ws://example.com", false),
            ("127.0.0.1", "ws://127.0.0.1:9", true),
            ("127.0.0.1:9", "ws://127.0.0.1:9", true),
            ("127.0.0.1:9", "ws://127.0.0.1:8", false),
            ("0.0.1", "ws://127.0.0.1", false),
            ("27.0.0.1", "ws://127.0.0.1", false),
            ("::1", "ws://[::1]:9", true),
            ("[::1]", "ws://[0:0::1]", true),
            ("[::1]:9", "ws://[::1]:9", true),
            ("[::1]:9", "ws://[::1]:8", false),
            ("127.0.0.1", "ws://[::ffff:127.0.0.1]", true),
            ("127.0.0.1", "ws://localhost", false),
            ("localhost", "ws://127.0.0.1", false),
            ("10.0.0.0/8", "ws://10.1.2.3", true),
            ("10.0.0.0/8", "ws://11.1.2.3", false),
            ("10.1.2.128/25", "ws://10.1.2.129", true),
            ("10.1.2.128/25", "ws://10.1.2.127", false),
            ("10.1.2.3/32", "ws://10.1.2.3", true),
            ("10.1.2.3/32", "ws://10.1.2.2", false),
            ("0.0.0.0/0", "ws://1.2.3.4", true),
            ("0.0.0.0/0", "ws://[::1]", false),
            ("10.0.0.0/33", "ws://10.0.0.0", false),
            ("10.0.0.0/-1", "ws://10.0.0.0", false),
            ("10.0.0.0/8", "ws://ten.example", false),
            ("fd00::/8", "ws://[fdff::1]", true),
            ("fd00::/8", "ws://[fe00::1]", false),
            ("[fd00::]/8", "ws://[fd00::1]", true),
            ("::/0", "ws://[::1]", true),
            ("::1/128", "ws://[::1]", true),
            ("::1/129", "ws://[::1]", false),
        ] {
            assert_eq!(bypasses(list, &Url::parse(url).unwrap()), expected, "{list:?} {url}");
        }
    }
}
