//! Refused opening handshakes: the client receives the status in a complete response, and then FIN.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::http::{HttpResponse, UpgradeRequest, send_request, send_request_bytewise};
use common::servers::{EchoServer, echo_server};
use common::{Client, DEADLINE, Frame, eventually};
use threadbare::{Accept, Config, Response, Server};

/// Larger than any head may be, and less than what the server reads and discards after a refusal.
const LARGE: usize = 70 << 10;

/// Asserts that the server refuses the head with this status, in one write and in writes of one byte.
fn expect_refused(server: &EchoServer, status: u16, head: impl AsRef<[u8]>) -> HttpResponse {
    let head = head.as_ref();
    let shown = head[..head.len().min(300)].escape_ascii();
    assert_eq!(send_request_bytewise(server.addr, head).status, status, "bytewise: {shown}");
    let response = send_request(server.addr, head);
    assert_eq!(response.status, status, "{shown}");
    response
}

/// Asserts that the server accepts the head and echoes.
fn expect_accepted(addr: SocketAddr, head: impl AsRef<[u8]>) {
    let mut client = Client::tcp(addr);
    client.send(head.as_ref());
    let response = client.head();
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    client.send(&common::text("one"));
    assert_eq!(client.expect_frame(), Frame::text("one"));
}

/// Asserts that every head is refused with this status, and that the server then accepts a valid one.
fn expect_all_refused(status: u16, heads: impl IntoIterator<Item = UpgradeRequest>) {
    let server = echo_server(Server::builder());
    for upgrade in heads {
        expect_refused(&server, status, upgrade.head());
    }
    eventually("all connections are removed", || server.handle.connections() == 0);
    expect_accepted(server.addr, UpgradeRequest::new().head());
}

#[test]
fn other_methods_are_answered_405() {
    let server = echo_server(Server::builder());
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"] {
        let response =
            expect_refused(&server, 405, UpgradeRequest::new().request_line(format!("{method} / HTTP/1.1")).head());
        assert_eq!(response.header("Allow"), Some("GET, HEAD"), "{method}");
        let response = expect_refused(&server, 405, format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(response.header("Allow"), Some("GET, HEAD"), "{method}");
    }
}

#[test]
fn unknown_methods_and_transfer_codings_are_answered_501() {
    let server = echo_server(Server::builder());
    for method in ["get", "BREW", "GETT", "M-SEARCH"] {
        expect_refused(&server, 501, UpgradeRequest::new().request_line(format!("{method} / HTTP/1.1")).head());
    }
    expect_refused(&server, 501, "A".repeat(1_000));
    expect_refused(&server, 501, UpgradeRequest::new().add("Transfer-Encoding", "gzip, chunked").head());
}

#[test]
fn bytes_that_are_no_request_are_answered_400_at_once() {
    // Fewer than any limit, and without the end of a line: the deadline of the handshake is not waited for.
    let config = Config::default().handshake_timeout(2 * DEADLINE);
    let server = echo_server(Server::builder().config(config));
    for junk in [[0xFF; 128], [b' '; 128], [b'"'; 128], [0x81; 128]] {
        expect_refused(&server, 400, junk);
    }
}

#[test]
fn a_target_that_is_no_uri_is_answered_400() {
    let server = echo_server(Server::builder());
    for target in ["/\"", "/<", "/%zz", "/\\", "/?a=\"", "/?a=<b>", "/?%", "/?a\\b"] {
        expect_refused(&server, 400, UpgradeRequest::new().request_line(format!("GET {target} HTTP/1.1")).head());
    }
    for target in ["/?a=b|c^d", "/?f[x]=`{1}", "/%7C", "/?a?b/c:@!$&'()*+,;="] {
        expect_accepted(server.addr, UpgradeRequest::new().request_line(format!("GET {target} HTTP/1.1")).head());
    }
}

#[test]
fn an_upgrade_by_head_is_answered_405() {
    let server = echo_server(Server::builder());
    let mut client = Client::tcp(server.addr);
    client.send(UpgradeRequest::new().request_line("HEAD / HTTP/1.1").head().as_bytes());
    let response = client.response_to_head();
    assert_eq!((response.status, response.header("Allow")), (405, Some("GET")));
}

#[test]
fn a_refusal_of_a_head_request_has_no_body() {
    // RFC 9110 9.3.2: "the server MUST NOT send content in the response".
    let server = echo_server(Server::builder().hosts(["localhost"]));
    for (status, head) in [
        (400, "HEAD / HTTP/1.1\r\n\r\n"),
        (400, "HEAD / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"),
        (421, "HEAD / HTTP/1.1\r\nHost: evil.com\r\n\r\n"),
        (426, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        // What the scanner refuses before the end of the head.
        (400, "\r\nHEAD / HTTP/1.1\r\nHost: a\nb"),
        (400, "HEAD / HTTP/1.1\r\n\0"),
        (414, &format!("HEAD /{}", "a".repeat(9_000))),
        (431, &format!("HEAD / HTTP/1.1\r\nX: {}", "a".repeat(17_000))),
        (505, "HEAD / HTTP/2.0\r\n\r\n"),
    ] {
        let mut client = Client::tcp(server.addr);
        client.send(head.as_bytes());
        assert_eq!(client.response_to_head().status, status, "{head}");
    }
}

#[test]
fn a_head_request_that_is_late_or_too_many_is_answered_without_a_body() {
    let hasty = echo_server(Server::builder().config(Config::default().handshake_timeout(Duration::from_millis(100))));
    let mut late = Client::tcp(hasty.addr);
    late.send(b"HEAD / HTTP/1.1\r\n");
    assert_eq!(late.response_to_head().status, 408);
    let server = echo_server(Server::builder().config(Config::default().max_connections(1)));
    let _one = Client::open(server.addr);
    let mut second = Client::tcp(server.addr);
    second.send(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(second.response_to_head().status, 503);
}

#[test]
fn other_versions_of_http_are_answered_505() {
    let server = echo_server(Server::builder());
    expect_refused(&server, 505, UpgradeRequest::new().request_line("GET / HTTP/1.0").head());
    expect_refused(&server, 505, UpgradeRequest::new().request_line("GET / HTTP/0.9").head());
    expect_refused(&server, 505, UpgradeRequest::new().request_line("GET / HTTP/2.0").head());
    expect_refused(&server, 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); // RFC 9113 3.4: the preface of an HTTP/2 client
    // RFC 9110 2.5: a later minor version is processed as the highest that is known.
    expect_accepted(server.addr, UpgradeRequest::new().request_line("GET / HTTP/1.2").head());
}

#[test]
fn a_request_of_http_1_0_with_a_stray_upgrade_is_plain() {
    // RFC 9110 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request."
    let server = echo_server(Server::builder().http(|_| Response::new(200).text("a page\n")));
    let head = "GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(send_request(server.addr, head).text(), "a page\n");
}

#[test]
fn requests_without_an_upgrade_to_websocket_are_answered_426() {
    let server = echo_server(Server::builder());
    for upgrade in [
        UpgradeRequest::new().remove("Upgrade"),
        UpgradeRequest::new().replace("Upgrade", "h2c"),
        UpgradeRequest::new().replace("Upgrade", "websocket2"),
        UpgradeRequest::new().replace("Upgrade", ""),
        UpgradeRequest::new().remove("Connection"),
        UpgradeRequest::new().replace("Connection", "keep-alive"),
        UpgradeRequest::new().replace("Connection", "close"),
        UpgradeRequest::new().remove("Upgrade").remove("Connection").remove("Sec-WebSocket-Key"),
    ] {
        let response = expect_refused(&server, 426, upgrade.head());
        assert_eq!(response.header("Upgrade"), Some("websocket"), "{}", upgrade.head());
        assert_eq!(response.header("Connection"), Some("close, Upgrade"), "{}", upgrade.head());
    }
    // RFC 9110 7.6.1, 7.8: the headers are lists, and their case does not matter.
    for upgrade in [
        UpgradeRequest::new().replace("Upgrade", "WebSocket"),
        UpgradeRequest::new().replace("Upgrade", "h2c, websocket"),
        UpgradeRequest::new().replace("Connection", "keep-alive, upgrade"),
        UpgradeRequest::new().replace("Connection", "keep-alive").add("connection", "UPGRADE"),
    ] {
        expect_accepted(server.addr, upgrade.head());
    }
}

#[test]
fn other_versions_of_websocket_are_answered_426_with_the_version() {
    let server = echo_server(Server::builder());
    let other = ["0", "7", "8", "12", "14", "013", "13.0", "13, 8", "", "x", "4294967309"];
    let others = other.map(|version| UpgradeRequest::new().replace("Sec-WebSocket-Version", version));
    for upgrade in others.into_iter().chain([UpgradeRequest::new().remove("Sec-WebSocket-Version")]) {
        let response = expect_refused(&server, 426, upgrade.head());
        assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"), "{}", upgrade.head());
    }
}

#[test]
fn an_invalid_key_is_answered_400() {
    let keys = [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",    // no padding
        "dGhlIHNhbXBsZSBub25jZQ=",   // half the padding
        "dGhlIHNhbXBsZSBub25jZQ===", // too much padding
        "dGhlIHNhbXBsZSBub25j",      // 15 bytes
        "dGhlIHNhbXBsZSBub25jZQEC",  // 18 bytes
        "dGhlIHNhbXBsZSBub25jZQEB=", // 17 bytes with the wrong padding
        "dGhlIHNhbXBsZSBub25jZ!==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "-GhlIHNhbXBsZSBub25jZ_==",
    ];
    let keys = keys.map(|key| UpgradeRequest::new().replace("Sec-WebSocket-Key", key));
    expect_all_refused(400, keys.into_iter().chain([UpgradeRequest::new().remove("Sec-WebSocket-Key")]));
}

#[test]
fn a_repeated_header_that_may_occur_once_is_answered_400() {
    expect_all_refused(
        400,
        [
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-key", "x3JJHMbDL1EzLkh9GBhXDw=="),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Version", "8"),
            ("Host", "localhost"),
            ("host", "evil.com"),
        ]
        .map(|(name, value)| UpgradeRequest::new().add(name, value)),
    );
}

#[test]
fn an_invalid_host_is_answered_400() {
    let hosts = ["", " ", ":80", "a b", "a/b", "user@localhost", "localhost:x", "localhost:65536", "[::1", "::1"];
    let hosts = hosts.into_iter().map(|host| UpgradeRequest::new().replace("Host", host));
    expect_all_refused(400, hosts.chain([UpgradeRequest::new().remove("Host")]));
}

#[test]
fn a_malformed_head_is_answered_400() {
    let server = echo_server(Server::builder());
    let head = UpgradeRequest::new().head();
    for malformed in [
        head.replacen("\r\n", "\n", 1), // RFC 9112 2.2
        head.replace("\r\n\r\n", "\n\n"),
        head.replace("\r\n\r\n", "\r\n\n"),
        head.replacen("\r\n", "\r\r\n", 1),
        head.replacen("\r\n", "\r", 1),
        head.replace("websocket", "web\0socket"),
        head.replace("websocket", "websocket\u{7f}"),
        head.replace("localhost", "local\x08host"),
        head.replace("Upgrade: ", "Upgrade : "), // RFC 9112 5.1
        head.replace("Host: ", "Host\t: "),
        head.replace("Host:", " Host:"),
        head.replace("Upgrade: websocket", "Upgrade:\r\n websocket"), // RFC 9112 5.2
        head.replace("Upgrade: websocket", "Upgrade: websocket\r\n\tx"),
        head.replace("Host: ", "Host "),
        head.replace("Host", "Ho st"),
        head.replace("Host", "Ho(st"),
        head.replace("Host", ""),
        head.replace("Host", "Hos\u{e9}t"),
        head.replace("GET /", "GET  /"),
        head.replace("GET /", " GET /"),
        head.replace("GET /", "GET\t/"),
        head.replace("GET / ", "GET "),
        head.replace("GET /", "G@T /"),
        head.replace("GET /", "GET /a b"),
        head.replace("GET /", "GET /#a"),
        head.replace("GET /", "GET /caf\u{e9}"),
        head.replace("GET /", "GET *"),
        head.replace("GET /", "GET localhost:80"),
        head.replace("GET /", "GET ws://localhost/"),
        head.replace("GET /", "GET http://user@localhost/"),
        head.replace("HTTP/1.1", "HTTP/1.1 "),
        head.replace("HTTP/1.1", "http/1.1"),
        head.replace("HTTP/1.1", "HTTP/1"),
        head.replace("HTTP/1.1", "HTTQ/1.1"),
        head.replace(" HTTP/1.1", ""),
        format!("\r\n\r\n{head}"),
    ] {
        expect_refused(&server, 400, malformed);
    }
    expect_refused(&server, 400, "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03"); // a TLS ClientHello
    expect_refused(&server, 400, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"); // a frame without a handshake
    expect_accepted(server.addr, format!("\r\n{head}")); // RFC 9112 2.2
    expect_accepted(server.addr, head.replace("GET /", "GET http://localhost/"));
}

#[test]
fn a_03_a_14_malformed_lists_are_answered_400() {
    let list = |name: &'static str, values: &[&str]| -> Vec<UpgradeRequest> {
        values.iter().map(|value| UpgradeRequest::new().add(name, *value)).collect()
    };
    expect_all_refused(
        400,
        list(
            "Sec-WebSocket-Protocol",
            &["", ",", "a b", "a;b", "a, a", "caf\u{e9}", "\"chat\"", "a/b", "(", "chat,,@"],
        ),
    );
    expect_all_refused(
        400,
        list(
            "Sec-WebSocket-Extensions",
            &[
                "",
                ",;constructor",
                ";",
                "a;",
                "a; b=",
                "a; =b",
                "a b",
                "a; b=\"",
                "a; b=\"c d\"",
                "a; b=\"\\\"",
                "caf\u{e9}",
                "a=b",
            ],
        ),
    );
    let server = echo_server(Server::builder());
    let latin1 =
        [UpgradeRequest::new().head().trim_end().as_bytes(), b"\r\nSec-WebSocket-Protocol: caf\xe9\r\n\r\n"].concat();
    expect_refused(&server, 400, latin1);
    let once_each =
        UpgradeRequest::new().add("Sec-WebSocket-Protocol", "chat").add("Sec-WebSocket-Protocol", "other, chat");
    expect_refused(&server, 400, once_each.head());
    for (name, value) in [
        ("Sec-WebSocket-Extensions", "constructor"),
        ("Sec-WebSocket-Extensions", "__proto__; hasOwnProperty=1, x; y=\"z\""),
        ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=7"),
        ("Sec-WebSocket-Protocol", ", chat ,\tsuperchat,"),
    ] {
        expect_accepted(server.addr, UpgradeRequest::new().add(name, value).head());
    }
}

#[test]
fn a_04_lists_are_parsed_in_linear_time() {
    let config = Config::default().max_head_size(1 << 20);
    let server = echo_server(Server::builder().config(config));
    for value in [
        format!("b{}x", " ".repeat(900_000)),
        ",".repeat(900_000),
        format!("a; b=\"{}", "\\c".repeat(450_000)),
        format!("a{}", ";b".repeat(450_000)),
        format!("a{}", ",b".repeat(450_000)),
    ] {
        for name in ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"] {
            let start = Instant::now();
            let mut client = Client::tcp(server.addr);
            client.send(UpgradeRequest::new().add(name, value.as_str()).head().as_bytes());
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 400 ") || head.starts_with("HTTP/1.1 101 "), "{head}");
            // A quadratic parser takes minutes.
            assert!(start.elapsed().as_secs() < 20, "{name}: {:?}", start.elapsed());
        }
    }
}

#[test]
fn a_rejection_by_the_application_is_sent_as_given() {
    let server = echo_server(Server::builder().on_request(|request| match request.path() {
        "/chat" => Ok(Accept::new()),
        _ => Err(Response::new(404).text("no such route\n")),
    }));
    let response = expect_refused(&server, 404, UpgradeRequest::new().head());
    assert_eq!(response.text(), "no such route\n");
    expect_refused(&server, 403, UpgradeRequest::new().add("Origin", "https://evil.com").head());
    expect_accepted(server.addr, UpgradeRequest::new().request_line("GET /chat HTTP/1.1").head());
}

// T-11: limits of the head

/// A request head of exactly this many bytes.
fn head_of_size(size: usize) -> String {
    let padded = |length: usize| UpgradeRequest::new().add("X-Fill", "x".repeat(length)).head();
    let head = padded(size - padded(0).len());
    assert_eq!(head.len(), size);
    head
}

/// A request head with exactly this many header lines, of which the handshake's own come last.
fn head_of_lines(count: usize) -> String {
    let (line, rest) =
        UpgradeRequest::new().head().split_once("\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("lines");
    format!("{line}\r\n{}{rest}", "a: b\r\n".repeat(count - 5))
}

/// A request head whose target has this many bytes.
fn head_of_target(length: usize) -> String {
    UpgradeRequest::new().request_line(format!("GET /{} HTTP/1.1", "a".repeat(length - 1))).head()
}

#[test]
fn t_11_a_large_head_is_answered_431() {
    let server = echo_server(Server::builder());
    expect_accepted(server.addr, head_of_size(16 << 10));
    expect_refused(&server, 431, head_of_size((16 << 10) + 1));
    expect_refused(&server, 431, head_of_size(LARGE));
    // The end of the head is never sent.
    let endless = head_of_size(LARGE);
    expect_refused(&server, 431, &endless[..LARGE - 4]);
    let small = echo_server(Server::builder().config(Config::default().max_head_size(512)));
    expect_accepted(small.addr, head_of_size(512));
    expect_refused(&small, 431, head_of_size(513));
}

#[test]
fn t_11_a_10_a_large_head_is_answered_431_at_every_chunk_size() {
    let server = echo_server(Server::builder());
    let head = head_of_size(LARGE);
    for size in [100, 999, 1_460, 16 << 10, 40_000] {
        let mut client = Client::tcp(server.addr);
        for chunk in head.as_bytes().chunks(size) {
            client.send(chunk);
        }
        assert_eq!(client.response().status, 431, "in chunks of {size}");
    }
    eventually("all connections are removed", || server.handle.connections() == 0);
}

#[test]
fn t_11_a_05_many_headers_are_answered_431() {
    let server = echo_server(Server::builder());
    expect_accepted(server.addr, head_of_lines(128));
    expect_refused(&server, 431, head_of_lines(129));
    expect_refused(&server, 431, head_of_lines(2_000));
    expect_refused(&server, 431, head_of_lines(10_000));
    let upgrade_first =
        UpgradeRequest::new().head().trim_end().to_owned() + "\r\n" + &"a: b\r\n".repeat(2_000) + "\r\n";
    expect_refused(&server, 431, upgrade_first);
    let small = echo_server(Server::builder().config(Config::default().max_headers(10)));
    expect_accepted(small.addr, head_of_lines(10));
    expect_refused(&small, 431, head_of_lines(11));
}

#[test]
fn t_11_a_long_target_is_answered_414() {
    let server = echo_server(Server::builder());
    expect_accepted(server.addr, head_of_target(8 << 10));
    expect_refused(&server, 414, head_of_target((8 << 10) + 1));
    expect_refused(&server, 414, head_of_target(LARGE));
    let endless = head_of_target(LARGE);
    expect_refused(&server, 414, &endless[..LARGE / 2]);
}

#[test]
fn a_refused_client_that_keeps_sending_receives_the_refusal() {
    let server = echo_server(Server::builder());
    let mut client = Client::tcp(server.addr);
    client.send(UpgradeRequest::new().remove("Host").head().as_bytes());
    // The response arrives before the frames are sent, and FIN follows it.
    let frames: Vec<u8> = (0..30).flat_map(|_| common::binary(&[0; 1 << 10])).collect();
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    client.send(&frames);
    client.read_to_end();
    // The server discards frames after a refused handshake.
    client.send(&frames);
    client.shutdown_write();
    eventually("the connection is removed", || server.handle.connections() == 0);
}

#[test]
fn input_after_a_refusal_is_bounded() {
    let server = echo_server(Server::builder());
    let mut client = Client::tcp(server.addr);
    client.send(UpgradeRequest::new().remove("Host").head().as_bytes());
    assert_eq!(client.response().status, 400);
    // The server reads and discards at most 64 KiB, and closes the socket: the kernel then answers with RST.
    let chunk = vec![b'x'; 16 << 10];
    let mut sent = 0_usize;
    while std::io::Write::write(&mut client.stream, &chunk).is_ok_and(|size| size > 0) {
        sent += chunk.len();
        assert!(sent < 1 << 30, "the server reads without end");
    }
    eventually("the connection is removed", || server.handle.connections() == 0);
}
