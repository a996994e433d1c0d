//! The addresses and networks whose word about a client's address is believed.

use core::net::{IpAddr, Ipv6Addr};

use super::peer_addr::PeerAddr;

/// A list of addresses and networks: the proxies whose word about a client's address a server believes.
///
/// An entry is an IP address, a network as in `10.0.0.0/8` or `fd00::/8`, or `unix:` for every peer on a Unix socket. An
/// IPv4 address that is mapped into IPv6 (`::ffff:10.0.0.1`) is the same as that IPv4 address.
///
/// ```
/// use threadbare::{PeerAddr, Trusted};
///
/// let proxies = Trusted::from(["127.0.0.1", "10.0.0.0/8", "fd00::/8"]);
/// assert!(proxies.contains(&([10, 1, 2, 3], 40_000).into()));
/// assert!(!proxies.contains(&([192, 0, 2, 1], 40_000).into()));
/// assert!(!proxies.contains(&PeerAddr::Unknown));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    networks: Vec<Network>,
    /// Peers on Unix sockets are trusted.
    unix: bool,
    /// The first entry that is neither an address nor a network.
    invalid: Option<String>,
}

impl Trusted {
    /// Returns whether the list has no entry, so that nobody is trusted.
    ///
    /// ```
    /// use threadbare::Trusted;
    ///
    /// assert!(Trusted::default().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix && self.invalid.is_none()
    }

    /// Returns whether `peer` is one of the addresses, or in one of the networks. An address that is not known is in none.
    ///
    /// ```
    /// use threadbare::{PeerAddr, Trusted};
    ///
    /// assert!(Trusted::from(["::1"]).contains(&"[::1]:8080".parse::<std::net::SocketAddr>()?.into()));
    /// assert!(Trusted::from(["unix:"]).contains(&PeerAddr::Unix(None)));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn contains(&self, peer: &PeerAddr) -> bool {
        match peer {
            PeerAddr::Ip(addr) => {
                let ip = addr.ip().to_canonical();
                self.networks.iter().any(|network| network.contains(ip))
            }
            PeerAddr::Unix(_) => self.unix,
            PeerAddr::Unknown => false,
        }
    }

    /// Returns the first entry that is neither an address nor a network, such as `10.0.0.1/8`, whose address has bits
    /// beyond its prefix.
    ///
    /// ```
    /// use threadbare::Trusted;
    ///
    /// assert_eq!(Trusted::from(["10.0.0.0/8", "10.0.0.1/8"]).invalid_entry(), Some("10.0.0.1/8"));
    /// ```
    #[must_use]
    pub fn invalid_entry(&self) -> Option<&str> {
        self.invalid.as_deref()
    }
}

/// An entry that is invalid is refused when the server is built; see [`invalid_entry`](Trusted::invalid_entry).
impl<I> From<I> for Trusted
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    fn from(entries: I) -> Trusted {
        let mut trusted = Trusted::default();
        for entry in entries {
            let entry = entry.as_ref();
            match Network::parse(entry) {
                _ if entry == "unix:" => trusted.unix = true,
                Some(network) => trusted.networks.push(network),
                None if trusted.invalid.is_none() => trusted.invalid = Some(entry.to_owned()),
                None => {}
            }
        }
        trusted
    }
}

/// A network, or one address, whose prefix is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    base: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().ok()?;
        let width = width(written);
        let prefix = match prefix {
            None => width,
            // No sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        // The bits beyond the prefix are most often a mistake: one address was meant, or another network.
        if prefix > width || bits(written).checked_shl(prefix).unwrap_or(0) != 0 {
            return None;
        }
        // Peers are known by their IPv4 addresses, too.
        match written.to_canonical() {
            base @ IpAddr::V4(_) if written.is_ipv6() => {
                prefix.checked_sub(MAPPED_PREFIX).map(|prefix| Network { base, prefix })
            }
            base => Some(Network { base, prefix }),
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let difference = bits(self.base) ^ bits(ip);
        let beyond = u128::BITS.saturating_sub(self.prefix);
        self.base.is_ipv4() == ip.is_ipv4() && difference.checked_shr(beyond).unwrap_or(0) == 0
    }
}

/// The length of `::ffff:0:0/96` (RFC 4291 2.5.5.2).
const MAPPED_PREFIX: u32 = 96;

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { Ipv6Addr::BITS }
}

/// Returns the bits of an address, from the highest on.
fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << MAPPED_PREFIX,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_trusted(list: &[&str], ip: &str) -> bool {
        let ip: IpAddr = ip.parse().unwrap();
        let trusted = Trusted::from(list);
        assert_eq!(trusted.invalid_entry(), None);
        trusted.contains(&PeerAddr::Ip((ip, 9).into()))
    }

    #[test]
    fn a_network_has_the_addresses_with_its_prefix() {
        for (entry, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.0"),
            ("10.0.0.1/32", "10.0.0.1", "10.0.0.3"),
            ("128.0.0.0/1", "255.0.0.1", "127.255.255.255"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::1", "::1", "::2"),
            ("2001:db8::/127", "2001:db8::1", "2001:db8::2"),
            // Mapped into IPv6, in the list or as the peer's.
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
            ("::ffff:0:0/96", "10.1.2.3", "::1"),
        ] {
            assert!(is_trusted(&[entry], inside), "{entry} has {inside}");
            assert!(!is_trusted(&[entry], outside), "{entry} has not {outside}");
        }
        assert!(is_trusted(&["10.0.0.1", "192.0.2.0/24"], "192.0.2.7"), "one of several");
        assert!(!is_trusted(&[], "127.0.0.1"), "the empty list");
    }

    #[test]
    fn what_is_no_address_is_in_no_network() {
        let everything = Trusted::from(["0.0.0.0/0", "::/0"]);
        assert!(!everything.contains(&PeerAddr::Unix(None)) && !everything.contains(&PeerAddr::Unknown));
        let unix = Trusted::from(["unix:"]);
        assert!(unix.contains(&PeerAddr::Unix(None)) && unix.contains(&PeerAddr::Unix(Some("/run/a".into()))));
        assert!(!unix.contains(&([127, 0, 0, 1], 9).into()) && !unix.is_empty());
    }

    #[test]
    fn entries_that_are_no_network_are_found() {
        for bad in [
            "",
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.1/8",
            "fd00::1/8",
            "10.0.0.0 /8",
            " 10.0.0.1",
            "10.0.0.1:80",
            "[::1]",
            "fe80::1%eth0",
            "010.0.0.1",
            "10.1",
            "10.0.0.0/255.0.0.0",
            "unix",
            "::ffff:0.0.0.0/95",
        ] {
            let trusted = Trusted::from(["10.0.0.0/8", bad, "worse"]);
            assert_eq!(trusted.invalid_entry(), Some(bad));
        }
        assert_eq!(Trusted::from(["10.0.0.0/8", "::1", "unix:"]).invalid_entry(), None);
        assert!(!Trusted::from(["nonsense"]).is_empty());
    }

    proptest! {
        /// Bit by bit, as the definition of a prefix is.
        #[test]
        fn a_prefix_is_compared_bit_by_bit(base: u32, ip: u32, near in 0_u32..=32, prefix in 0_u32..=32) {
            // Mostly an address that shares a good part of the prefix.
            let ip = base ^ ip.checked_shr(near).unwrap_or(0);
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            let entry = format!("{}/{prefix}", core::net::Ipv4Addr::from(base & mask));
            let same = (0..prefix).all(|bit| (base >> (31 - bit)) & 1 == (ip >> (31 - bit)) & 1);
            prop_assert_eq!(is_trusted(&[&entry], &core::net::Ipv4Addr::from(ip).to_string()), same);
        }

        #[test]
        fn no_entry_panics(entry in "[0-9a-f.:/]{0,24}") {
            let trusted = Trusted::from([entry]);
            let _ = trusted.contains(&([127, 0, 0, 1], 9).into());
        }
    }
}
