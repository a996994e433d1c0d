//! The PROXY header of a connection from a listed proxy. It comes before everything else, TLS included.

use crate::protocol::proxy_header::{MAX_SIZE, ProxyHeader, ProxyHeaderError};

/// A header that has not arrived whole.
#[derive(Debug, Default)]
pub(in crate::server) struct AwaitedHeader {
    received: Vec<u8>,
}

impl AwaitedHeader {
    /// Takes bytes that have arrived on the socket. Returns the header once it is whole, and the bytes behind it. `None` if
    /// it is incomplete so far.
    ///
    /// A header that arrives in one read, alone or with the request, is parsed without a copy.
    pub(in crate::server) fn receive<'b>(
        &mut self,
        bytes: &'b [u8],
    ) -> Result<Option<(ProxyHeader, &'b [u8])>, ProxyHeaderError> {
        let before = self.received.len();
        let parsed = if before == 0 {
            ProxyHeader::parse(bytes)?
        } else {
            // Beyond this, nothing is of the header.
            let size = bytes.len().min(MAX_SIZE.saturating_sub(before));
            self.received.extend_from_slice(&bytes[..size]);
            ProxyHeader::parse(&self.received)?
        };
        let Some((header, size)) = parsed else {
            if before == 0 {
                self.received = bytes.to_vec();
            }
            return Ok(None);
        };
        // It was incomplete before, so that it ends in these bytes.
        let behind = bytes.get(size.saturating_sub(before)..).unwrap_or_default();
        Ok(Some((header, behind)))
    }

    /// The bytes of memory that it takes.
    pub(in crate::server) fn memory(&self) -> usize {
        self.received.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    const HEADERS: [&[u8]; 3] = [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x9c\x40\x01\xbb",
    ];

    /// Passes in the pieces, and returns what comes out, and the bytes behind the header.
    fn receive<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> (Option<SocketAddr>, Vec<u8>) {
        let mut awaited = AwaitedHeader::default();
        let (mut client, mut behind) = (None, Vec::new());
        for piece in pieces {
            if client.is_some() {
                behind.extend_from_slice(piece);
            } else if let Some((header, rest)) = awaited.receive(piece).expect("a header") {
                client = Some(header.client());
                behind.extend_from_slice(rest);
            }
        }
        (client.expect("the header is whole"), behind)
    }

    #[test]
    fn the_bytes_behind_a_header_are_those_of_the_request_wherever_they_are_cut() {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        for (header, wanted) in HEADERS.iter().zip([Some("192.0.2.1:40000"), None, Some("192.0.2.1:40000")]) {
            let wanted = wanted.map(|addr| addr.parse().expect("an address"));
            let bytes = [header, &request[..]].concat();
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
                    assert_eq!(receive(pieces), (wanted, request.to_vec()), "{first} {second}");
                }
            }
            assert_eq!(receive(bytes.chunks(1)), (wanted, request.to_vec()), "byte by byte");
        }
    }

    #[test]
    fn t_27_a_header_takes_no_more_memory_than_its_limit() {
        let start = [&HEADERS[2][..14], &[0x10, 0]].concat(); // 4,096 bytes follow
        let mut awaited = AwaitedHeader::default();
        assert_eq!(awaited.receive(&start), Ok(None));
        for _ in 0..4095 {
            assert_eq!(awaited.receive(&[1]), Ok(None));
        }
        assert!(awaited.memory() <= 2 * MAX_SIZE, "{}", awaited.memory());
        let (_, behind) = awaited.receive(&[2; 100_000]).expect("a header").expect("whole");
        assert_eq!(behind.len(), 99_999);
        assert!(awaited.memory() <= 2 * MAX_SIZE, "{}", awaited.memory());
    }

    proptest! {
        #[test]
        fn many_cuts_change_nothing(header in 0_usize..3, sizes in proptest::collection::vec(1_usize..20, 1..20)) {
            let bytes = [HEADERS[header], &b"GET / HTTP/1.1\r\n\r\n"[..]].concat();
            let (mut rest, mut pieces) = (&bytes[..], Vec::new());
            for size in sizes.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at(size.min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            prop_assert_eq!(receive(pieces.into_iter()).1, b"GET / HTTP/1.1\r\n\r\n".to_vec());
        }
    }
}
