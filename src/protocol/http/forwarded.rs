//! The address of the client behind proxies: `X-Forwarded-For`, and `Forwarded` (RFC 7239).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::borrow::Cow;

use super::list::MalformedList;
use super::request::Request;
use super::token::{is_tchar, same_but_for_case};
use crate::protocol::peer_addr::{PeerAddr, canonical};
use crate::protocol::trusted::Trusted;

/// The header in which a proxy passes on the address of its client. A client can send the one that its proxy does not
/// write, so that only one is read.
///
/// ```
/// use threadbare::{ForwardedHeader, Server};
///
/// let server = Server::builder()
///     .trusted_proxies(ForwardedHeader::XForwardedFor, ["127.0.0.1"])
///     .bind("127.0.0.1:0")?;
/// # Ok::<(), threadbare::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: 192.0.2.1, 198.51.100.2`, which nearly all proxies write.
    XForwardedFor,
    /// `Forwarded: for=192.0.2.1;proto=https, for="[2001:db8::1]:4711"` (RFC 7239).
    Forwarded,
}

impl ForwardedHeader {
    /// Returns the address of the client of a request that `peer` has sent: from the right, the first address that is not
    /// one of `proxies`. Each proxy appends whom it has the request from, so that a proxy which is trusted vouches for the
    /// address to its left, and what a client sends itself is left of that.
    ///
    /// If all are proxies it is the first, which has made the request. `Unknown` if the proxy does not tell
    /// (`unknown`, `_hidden`), or writes what is no address.
    pub(crate) fn client(
        self,
        request: &Request,
        peer: &PeerAddr,
        proxies: &Trusted,
    ) -> Result<PeerAddr, MalformedList> {
        if !proxies.contains(peer) {
            return Ok(peer.clone());
        }
        match self {
            ForwardedHeader::XForwardedFor => {
                let lines: Vec<&[u8]> = request.field_values("X-Forwarded-For").collect();
                let entries = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
                let hops = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).map(parse_node);
                Ok(first_client(hops, peer, proxies))
            }
            ForwardedHeader::Forwarded => {
                let mut hops = Vec::new();
                for line in request.field_values("Forwarded") {
                    Elements { rest: line }.read(&mut hops)?;
                }
                Ok(first_client(hops.into_iter().rev(), peer, proxies))
            }
        }
    }
}

/// Returns the first of the addresses that is not one of `proxies`. They are in their order from the server to the client.
fn first_client(hops: impl Iterator<Item = PeerAddr>, peer: &PeerAddr, proxies: &Trusted) -> PeerAddr {
    let mut last = None;
    for hop in hops {
        if !proxies.contains(&hop) {
            return hop;
        }
        last = Some(hop);
    }
    last.unwrap_or_else(|| peer.clone())
}

/// Parses `node = nodename [ ":" node-port ]` (RFC 7239 6), and an IPv6 address without brackets, as many proxies write it
/// in `X-Forwarded-For`. Without a port that is a number, the port is 0.
fn parse_node(text: &[u8]) -> PeerAddr {
    core::str::from_utf8(text).ok().and_then(parse_address).map_or(PeerAddr::Unknown, PeerAddr::from)
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port): (IpAddr, _) = if let Some(literal) = text.strip_prefix('[') {
        let (ip, port) = literal.split_once(']')?;
        (ip.parse::<Ipv6Addr>().ok()?.into(), if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else if let Ok(ip) = text.parse() {
        (ip, None)
    } else {
        let (ip, port) = text.split_once(':')?;
        (ip.parse::<Ipv4Addr>().ok()?.into(), Some(port))
    };
    Some(canonical(SocketAddr::new(ip, parse_port(port)?)))
}

/// Parses `node-port = port / obfport`. A port that is hidden is 0.
fn parse_port(port: Option<&str>) -> Option<u16> {
    match port {
        None => Some(0),
        Some(port) if port.starts_with('_') => Some(0),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok(),
        Some(_) => None,
    }
}

/// The elements of one line of `Forwarded`, read in one pass from left to right, because a quoted string may have commas.
struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Reads `1#forwarded-element` (RFC 7239 4), and adds what `for` says in each.
    ///
    /// A client chooses what is left of its proxy's element. So that it can not swallow that, with a quote that it opens,
    /// a line that does not conform is an error.
    fn read(&mut self, hops: &mut Vec<PeerAddr>) -> Result<(), MalformedList> {
        loop {
            // RFC 9110 5.6.1.2: empty elements are ignored.
            while let Some(b',' | b' ' | b'\t') = self.rest.first() {
                self.skip(1);
            }
            if self.rest.is_empty() {
                return Ok(());
            }
            // An element without `for` is that of a proxy that does not tell.
            hops.push(self.element()?.unwrap_or(PeerAddr::Unknown));
        }
    }

    /// Reads `[ forwarded-pair ] *( ";" [ forwarded-pair ] )`, up to a comma or the end, and returns what `for` says.
    fn element(&mut self) -> Result<Option<PeerAddr>, MalformedList> {
        let mut node = None;
        loop {
            self.skip_whitespace();
            let name = self.take_while(is_tchar);
            if !name.is_empty() {
                if self.rest.first() != Some(&b'=') {
                    return Err(MalformedList);
                }
                self.skip(1);
                let value = self.value()?;
                // "Each parameter MUST NOT occur more than once".
                if same_but_for_case(name, b"for") && node.replace(parse_node(&value)).is_some() {
                    return Err(MalformedList);
                }
                self.skip_whitespace();
            }
            match self.rest.first() {
                Some(b';') => self.skip(1),
                Some(b',') | None => return Ok(node),
                Some(_) => return Err(MalformedList),
            }
        }
    }

    /// Reads `value = token / quoted-string`. An address and its port are taken without quotes, too.
    fn value(&mut self) -> Result<Cow<'a, [u8]>, MalformedList> {
        if self.rest.first() != Some(&b'"') {
            let value = self.take_while(|byte| is_tchar(byte) || matches!(byte, b'[' | b']' | b':'));
            return if value.is_empty() { Err(MalformedList) } else { Ok(Cow::Borrowed(value)) };
        }
        self.skip(1);
        let mut value = Cow::Borrowed(self.take_while(is_plain));
        while self.rest.first() == Some(&b'\\') {
            self.skip(1);
            let escaped = self.rest.first().ok_or(MalformedList)?;
            value.to_mut().push(*escaped);
            self.skip(1);
            let more = self.take_while(is_plain);
            value.to_mut().extend_from_slice(more);
        }
        if self.rest.first() != Some(&b'"') {
            return Err(MalformedList);
        }
        self.skip(1);
        Ok(value)
    }

    fn skip_whitespace(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn skip(&mut self, size: usize) {
        self.rest = self.rest.get(size..).unwrap_or_default();
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|byte| !wanted(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Whether this stands for itself in a quoted string (RFC 9110 5.6.4).
fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(lines: &[(&str, &str)]) -> Request {
        let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        Request::parse(head.as_bytes(), PeerAddr::Unknown).unwrap()
    }

    fn proxies() -> Trusted {
        Trusted::from(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])
    }

    fn client(header: ForwardedHeader, values: &[&str]) -> Result<String, MalformedList> {
        let name = match header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        let lines: Vec<_> = values.iter().map(|value| (name, *value)).collect();
        let peer = ([127, 0, 0, 1], 9).into();
        header.client(&request(&lines), &peer, &proxies()).map(|addr| addr.to_string())
    }

    fn x_forwarded_for(values: &[&str]) -> String {
        client(ForwardedHeader::XForwardedFor, values).unwrap()
    }

    fn forwarded(value: &str) -> Result<String, MalformedList> {
        client(ForwardedHeader::Forwarded, &[value])
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        for (value, wanted) in [
            ("192.0.2.1", "192.0.2.1:0"),
            // What the client sent is left of what the proxies append.
            ("6.6.6.6, 192.0.2.1", "192.0.2.1:0"),
            ("10.0.0.1, 192.0.2.1, 10.1.1.1, 127.0.0.1", "192.0.2.1:0"),
            ("nonsense, \"6.6.6.6, 192.0.2.1", "192.0.2.1:0"),
            ("192.0.2.1:4711", "192.0.2.1:4711"),
            ("2001:db8::1", "[2001:db8::1]:0"),
            ("[2001:db8::1]", "[2001:db8::1]:0"),
            ("[2001:db8::1]:4711, fd00::2", "[2001:db8::1]:4711"),
            ("::ffff:192.0.2.1, ::ffff:10.0.0.1", "192.0.2.1:0"),
            (" ,192.0.2.1,\t, ,", "192.0.2.1:0"),
            // All are proxies, or there is nothing.
            ("10.0.0.1, 10.0.0.2", "10.0.0.1:0"),
            (",", "127.0.0.1:9"),
            ("", "127.0.0.1:9"),
        ] {
            assert_eq!(x_forwarded_for(&[value]), wanted, "{value}");
        }
        assert_eq!(x_forwarded_for(&["6.6.6.6", "192.0.2.1, 10.0.0.1", "10.0.0.2"]), "192.0.2.1:0", "several lines");
        assert_eq!(x_forwarded_for(&[]), "127.0.0.1:9");
    }

    #[test]
    fn a_proxy_that_does_not_tell_hides_the_client() {
        for value in ["unknown", "_hidden", "192.0.2.1, unknown", "192.0.2.1, bad, 10.0.0.1", "localhost", "1.2.3"] {
            assert_eq!(x_forwarded_for(&[value]), "unknown", "{value}");
        }
        for bad in ["192.0.2.1:99999", "192.0.2.1:+1", "192.0.2.1:", "[::1", "[::1]9", "[192.0.2.1]", "fe80::1%eth0"] {
            assert_eq!(x_forwarded_for(&[bad]), "unknown", "{bad}");
        }
    }

    #[test]
    fn the_elements_of_forwarded_are_read() {
        for (value, wanted) in [
            ("for=192.0.2.1", "192.0.2.1:0"),
            ("For=\"192.0.2.1:47011\"", "192.0.2.1:47011"),
            ("for=192.0.2.1:47011", "192.0.2.1:47011"),
            ("for=\"[2001:db8:cafe::17]:4711\"", "[2001:db8:cafe::17]:4711"),
            ("for=\"[2001:db8:cafe::17]\"", "[2001:db8:cafe::17]:0"),
            ("for=[2001:db8:cafe::17]", "[2001:db8:cafe::17]:0"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60:0"),
            ("proto=http ; for=192.0.2.60 ; by=203.0.113.43", "192.0.2.60:0"),
            ("for=6.6.6.6, for=192.0.2.1, for=10.0.0.1", "192.0.2.1:0"),
            ("for=\"6.6.6.6, for=1.1.1.1\", for=192.0.2.1", "192.0.2.1:0"),
            ("for=\"192.0.\\2.1:\\1\"", "192.0.2.1:1"),
            ("for=\"192.0.2.1:_port\"", "192.0.2.1:0"),
            ("for=_gazonk", "unknown"),
            ("for=\"_gazonk:80\"", "unknown"),
            ("for=unknown", "unknown"),
            ("for=192.0.2.1, proto=http", "unknown"),
            ("for=192.0.2.1, for=\"\"", "unknown"),
            (",for=192.0.2.1;;, ", "192.0.2.1:0"),
            ("", "127.0.0.1:9"),
        ] {
            assert_eq!(forwarded(value).as_deref(), Ok(wanted), "{value}");
        }
        let lines = client(ForwardedHeader::Forwarded, &["for=6.6.6.6", "for=192.0.2.1", "for=10.0.0.1"]);
        assert_eq!(lines.as_deref(), Ok("192.0.2.1:0"));
    }

    #[test]
    fn t_26_what_a_client_sends_can_not_swallow_what_its_proxy_appends() {
        for appended in ["for=192.0.2.1", "for=\"192.0.2.1:80\"", "for=\"[2001:db8::1]\";proto=https"] {
            for sent in
                ["for=\"", "for=\"\\", "for=6.6.6.6, for=\"", "for=6.6.6.6;x=\"", "for=\"a\\\"", "\"", "for", "="]
            {
                let line = format!("{sent}, {appended}");
                assert_eq!(forwarded(&line), Err(MalformedList), "{line}");
            }
        }
        for bad in ["for=1.1.1.1;for=2.2.2.2", "for= 1.1.1.1", "for =1.1.1.1", "for=\"a\"b", "for=a b", "for=(a)"] {
            assert_eq!(forwarded(bad), Err(MalformedList), "{bad}");
        }
    }

    #[test]
    fn a_header_of_another_peer_and_the_other_header_are_not_read() {
        let request = request(&[("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=7.7.7.7")]);
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            for peer in [([192, 0, 2, 9], 9).into(), PeerAddr::Unix(None), PeerAddr::Unknown] {
                assert_eq!(header.client(&request, &peer, &proxies()), Ok(peer));
            }
        }
        let proxy = ([10, 0, 0, 1], 9).into();
        let client = |header: ForwardedHeader| header.client(&request, &proxy, &proxies()).unwrap().to_string();
        assert_eq!(client(ForwardedHeader::XForwardedFor), "6.6.6.6:0");
        assert_eq!(client(ForwardedHeader::Forwarded), "7.7.7.7:0");
    }

    proptest! {
        #[test]
        fn no_forwarded_header_panics(
            line in proptest::collection::vec(
                prop_oneof![prop::sample::select(b"for=,;\"\\[]:._ 1".to_vec()), b' '..=b'~'],
                0..200,
            ),
        ) {
            let line = String::from_utf8(line).unwrap();
            let _ = forwarded(&line);
            let _ = x_forwarded_for(&[&line]);
        }

        /// Whatever the client sends, the proxy's element is what counts, or the whole line is refused.
        #[test]
        fn a_client_can_not_choose_its_address(
            sent in "[a-f0-9for=,;\"\\\\\\[\\]:. ]{0,60}",
            quoted: bool,
        ) {
            let appended = if quoted { "for=\"192.0.2.1:80\"" } else { "for=192.0.2.1:80" };
            let client = forwarded(&format!("{sent}, {appended}"));
            prop_assert!(client.is_err() || client.as_deref() == Ok("192.0.2.1:80"), "{client:?}");
            prop_assert_eq!(x_forwarded_for(&[&format!("{sent}, 192.0.2.1:80")]), "192.0.2.1:80");
        }
    }
}
