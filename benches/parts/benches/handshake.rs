//! The server's side of the opening handshake: from the head of a request to the 101 response.

use std::net::{Ipv4Addr, SocketAddr};

use divan::counter::BytesCount;
use divan::{Bencher, bench, black_box};
use threadbare::protocol::handshake::Accept;
use threadbare::protocol::handshake::server::{self, Parsed};
use threadbare::protocol::http::{HeadLimits, HeadScanner, Request};

/// The required headers of the example in RFC 6455 1.2.
const SHORT: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The request of Chrome, with two cookies.
const BROWSER: &[u8] = b"GET /chat?room=lobby HTTP/1.1\r\nHost: server.example.com\r\nConnection: Upgrade\r\n\
    Pragma: no-cache\r\nCache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\nOrigin: http://server.example.com\r\nSec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);

fn main() {
    for head in [SHORT, BROWSER] {
        let mut scanner = HeadScanner::new(HeadLimits::default());
        assert_eq!(scanner.scan(head), Ok(Some(head.len())));
        let response = String::from_utf8(response(&parse(head))).expect("ASCII");
        // RFC 6455 1.3 has the accept value for this key.
        assert!(
            response.starts_with("HTTP/1.1 101 ") && response.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{response}"
        );
    }
    divan::main();
}

fn parse(head: &[u8]) -> Request {
    match server::parse(head, ADDR.into(), &HeadLimits::default()) {
        Ok(Parsed::Upgrade(request)) => request,
        other => panic!("not a handshake: {other:?}"),
    }
}

fn response(request: &Request) -> Vec<u8> {
    server::respond(request, &Accept::new()).expect("a handshake")
}

fn named(name: &str) -> &'static [u8] {
    if name == "short" { SHORT } else { BROWSER }
}

#[bench(args = ["short", "browser"])]
fn find_end_of_head(bencher: Bencher<'_, '_>, name: &str) {
    let head = named(name);
    bencher.counter(BytesCount::new(head.len())).bench_local(|| {
        let mut scanner = HeadScanner::new(HeadLimits::default());
        scanner.scan(black_box(head))
    });
}

#[bench(args = ["short", "browser"])]
fn parse_and_check(bencher: Bencher<'_, '_>, name: &str) {
    let head = named(name);
    bencher.counter(BytesCount::new(head.len())).bench_local(|| parse(black_box(head)));
}

#[bench(args = ["short", "browser"])]
fn respond(bencher: Bencher<'_, '_>, name: &str) {
    let request = parse(named(name));
    bencher.bench_local(|| response(black_box(&request)));
}
