use ::proxy_header::{ProxiedAddress, Tlv};
use proptest::prelude::*;

use super::*;

const V2: [u8; 28] = *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x9c\x40\x01\xbb";

/// Version 2 with these bytes behind the signature.
fn v2(command: u8, family: u8, length: u16, block: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &length.to_be_bytes(), block].concat()
}

fn whole(bytes: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let (header, size) = ProxyHeader::parse(bytes)?.expect("it is complete");
    assert_eq!(size, bytes.len());
    Ok(header.client())
}

fn addr(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn both_versions_give_the_source() {
    assert_eq!(whole(b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n"), Ok(addr("192.0.2.1:40000")));
    assert_eq!(whole(b"PROXY TCP6 2001:db8::1 ::2 0 65535\r\n"), Ok(addr("[2001:db8::1]:0")));
    assert_eq!(whole(&V2), Ok(addr("192.0.2.1:40000")));
    let block = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [9; 16]].concat();
    assert_eq!(whole(&v2(PROXY, 0x21, 36, &[&block, &[0, 80, 1, 187][..]].concat())), Ok(addr("[2001:db8::1]:80")));
    // A datagram of the client's, as with HTTP/3, and TLVs behind the addresses.
    let with_tlvs = [&V2[16..], &[4, 0, 3, 0, 0, 0]].concat();
    assert_eq!(whole(&v2(PROXY, 0x12, 18, &with_tlvs)), Ok(addr("192.0.2.1:40000")));
    // IPv4 that is mapped into IPv6.
    assert_eq!(whole(b"PROXY TCP6 ::ffff:192.0.2.1 ::2 80 443\r\n"), Ok(addr("192.0.2.1:80")));
}

#[test]
fn a_header_without_an_ip_address_is_valid() {
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff whatever\tcomes\r\n", "PROXY UNKNOWN \r\n"] {
        assert_eq!(whole(line.as_bytes()), Ok(None), "{line}");
    }
    // LOCAL, whatever its family and block.
    for (family, block) in [(0, &[][..]), (0x11, &[]), (0x11, &[1; 12]), (0x41, &[7; 5])] {
        assert_eq!(whole(&v2(LOCAL, family, block.len() as u16, block)), Ok(None));
    }
    // Unspecified, and a Unix socket.
    assert_eq!(whole(&v2(PROXY, 0, 0, &[])), Ok(None));
    assert_eq!(whole(&v2(PROXY, 0, 3, &[1, 2, 3])), Ok(None));
    assert_eq!(whole(&v2(PROXY, 0x31, 216, &[0; 216])), Ok(None));
}

#[test]
fn malformed_lines_are_refused() {
    for bad in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 40000\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 40000 443 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 40000 443 1\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 40000 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 040000 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +400 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 40000 -1\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 40000 443\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 40000 443\r\n",
        "PROXY TCP4 ::1 ::2 40000 443\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 40000 443\r\n",
        "PROXY TCP6 fe80::1%1 ::2 40000 443\r\n",
        "PROXY TCP6 [::1] ::2 40000 443\r\n",
        "PROXY TCP4\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 40000 443\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 40000 443\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\n\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\r\n",
    ] {
        assert_eq!(whole(bad.as_bytes()), Err(ProxyHeaderError::MalformedLine), "{bad}");
    }
    for other in ["GET / HTTP/1.1\r\n", "PROXYTCP4 ", "PROXY\tTCP4", "proxy ", " PROXY", "\r\nPROXY ", "\r\n\r\n\r\n"] {
        assert_eq!(ProxyHeader::parse(other.as_bytes()), Err(ProxyHeaderError::Missing), "{other:?}");
    }
}

#[test]
fn t_27_a_header_has_a_limit_that_is_exact_to_the_byte() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16)).into_bytes();
    assert_eq!(whole(&line(MAX_LINE)), Ok(None));
    assert_eq!(ProxyHeader::parse(&line(MAX_LINE + 1)), Err(ProxyHeaderError::LineTooLong));
    assert_eq!(ProxyHeader::parse(&line(MAX_LINE + 1)[..MAX_LINE - 1]), Ok(None));
    assert_eq!(ProxyHeader::parse(&line(MAX_LINE + 1)[..MAX_LINE]), Err(ProxyHeaderError::LineTooLong));

    let binary = |length: u16| v2(PROXY, 0x11, length, &vec![1; length.into()]);
    assert!(whole(&binary(4096)).is_ok());
    assert_eq!(binary(4096).len(), MAX_SIZE);
    // At the length, before anything that it announces.
    assert_eq!(ProxyHeader::parse(&binary(4097)[..FIXED_SIZE]), Err(ProxyHeaderError::TooLong(4097)));
    assert_eq!(ProxyHeader::parse(&binary(u16::MAX)[..FIXED_SIZE]), Err(ProxyHeaderError::TooLong(u16::MAX)));
}

#[test]
fn malformed_headers_of_version_2_are_refused() {
    for command in [0x00, 0x01, 0x10, 0x11, 0x22, 0x2f, 0x31] {
        let error = Err(ProxyHeaderError::Command(command));
        assert_eq!(whole(&v2(command, 0x11, 12, &[1; 12])), error);
        assert_eq!(ProxyHeader::parse(&v2(command, 0x11, 12, &[])[..13]).map(|_| None), error);
    }
    for family in [0x03, 0x13, 0x23, 0x33, 0x40, 0x41, 0xf1, 0xff] {
        assert_eq!(whole(&v2(PROXY, family, 216, &[1; 216])), Err(ProxyHeaderError::Family(family)));
    }
    for (family, size) in [(0x11, 11), (0x11, 0), (0x21, 35), (0x31, 215)] {
        let error = Err(ProxyHeaderError::TooShort(size));
        assert_eq!(whole(&v2(PROXY, family, size, &vec![1; size.into()])), error);
    }
}

#[test]
fn errors_say_what_was_met_and_what_to_do() {
    let error = |bytes: &[u8]| ProxyHeader::parse(bytes).unwrap_err().to_string();
    assert!(error(b"GET /").contains("have the proxy send it"));
    assert_eq!(
        error(&v2(PROXY, 0x11, 5000, &[])),
        "5000 bytes follow, but at most 4096 are taken: have the proxy send fewer TLVs"
    );
    assert!(error(&v2(0x11, 0x11, 0, &[])).contains("are 0x11, but must be 0x20"));
}

/// The outcome of bytes that arrive in pieces, cut at `cuts`.
fn in_pieces(bytes: &[u8], cuts: impl IntoIterator<Item = usize>) -> Parsed {
    for cut in cuts {
        match ProxyHeader::parse(&bytes[..cut]) {
            Ok(None) => {}
            outcome => return outcome,
        }
    }
    ProxyHeader::parse(bytes)
}

/// Headers, and what is nearly one, with what may follow.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![
        Just(b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n".to_vec()),
        Just(b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 443\r\n".to_vec()),
        Just(b"PROXY UNKNOWN\r\n".to_vec()),
        (90_usize..110).prop_map(|length| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length)).into_bytes()),
        Just(V2.to_vec()),
        (0x1f_u8..0x23, any::<u8>(), 0_u16..300).prop_map(|(command, family, length)| v2(
            command,
            family,
            length,
            &vec![1; length.into()]
        )),
    ];
    let damage = proptest::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (header, damage, "[ -~]{0,8}").prop_map(|(mut header, damage, behind)| {
        if let Some((at, byte)) = damage {
            let at = at.index(header.len());
            header[at] = byte;
        }
        header.extend_from_slice(behind.as_bytes());
        header
    })
}

proptest! {
    #[test]
    fn no_cut_changes_the_outcome(bytes in bytes()) {
        let at_once = ProxyHeader::parse(&bytes);
        prop_assert_eq!(in_pieces(&bytes, 0..bytes.len()), at_once, "byte by byte");
        for cut in 0..bytes.len() {
            prop_assert_eq!(in_pieces(&bytes, [cut]), at_once, "cut at {}", cut);
        }
    }

    #[test]
    fn no_bytes_panic(start in 0_usize..28, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ProxyHeader::parse(&rest);
        let _ = ProxyHeader::parse(&[&V2[..start], &rest[..]].concat());
        let _ = ProxyHeader::parse(&[b"PROXY TCP4 ", &rest[..]].concat());
    }

    /// As another implementation writes them.
    #[test]
    fn headers_of_another_implementation_are_read(
        source: SocketAddr,
        port: u16,
        tlvs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..8),
    ) {
        let source = SocketAddr::new(source.ip(), source.port());
        let destination = SocketAddr::new(source.ip(), port);
        let mut header = ::proxy_header::ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
        let (mut one, mut two) = (Vec::new(), Vec::new());
        header.encode_v1(&mut one).unwrap();
        for tlv in tlvs {
            header.append_tlv(Tlv::Custom(0xe0, tlv.into()));
        }
        header.encode_v2(&mut two).unwrap();
        for bytes in [one, two] {
            prop_assert_eq!(whole(&bytes), Ok(Some(canonical(source))));
        }
    }
}
