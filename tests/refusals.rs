//! Every way to refuse an opening handshake: the client sees the status, in a whole response, and then FIN.

mod common;

use std::net::SocketAddr;
use std::time::Instant;

use common::http::{Answer, Upgrade, ask, ask_bytewise};
use common::servers::{Running, echo};
use common::{Client, Frame, eventually};
use threadbare::{Accept, Config, Reject, Server};

/// More than any head may have, and less than what is drained behind a refusal.
const LARGE: usize = 70 << 10;

/// The head, whole and in one-byte writes, is refused with this status.
fn refused(server: &Running, status: u16, head: impl AsRef<[u8]>) -> Answer {
    let head = head.as_ref();
    let shown = head[..head.len().min(300)].escape_ascii();
    assert_eq!(ask_bytewise(server.addr, head).status, status, "bytewise: {shown}");
    let answer = ask(server.addr, head);
    assert_eq!(answer.status, status, "{shown}");
    answer
}

fn accepted(addr: SocketAddr, head: impl AsRef<[u8]>) {
    let mut client = Client::tcp(addr);
    client.send(head.as_ref());
    let answer = client.head();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client.send(&common::text("one"));
    assert_eq!(client.expect_frame(), Frame::text("one"));
}

/// All are refused, and the server is as it was.
fn all_refused(status: u16, heads: impl IntoIterator<Item = Upgrade>) {
    let server = echo(Server::builder());
    for upgrade in heads {
        refused(&server, status, upgrade.head());
    }
    eventually("all are gone", || server.handle.connections() == 0);
    accepted(server.addr, Upgrade::new().head());
}

#[test]
fn other_methods_are_answered_405() {
    let server = echo(Server::builder());
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "BREW"] {
        let answer = refused(&server, 405, Upgrade::new().line(format!("{method} / HTTP/1.1")).head());
        assert_eq!(answer.header("Allow"), Some("GET, HEAD"), "{method}");
        let answer = refused(&server, 405, format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(answer.header("Allow"), Some("GET, HEAD"), "{method}");
    }
}

#[test]
fn an_upgrade_by_head_is_answered_405() {
    let server = echo(Server::builder());
    let mut client = Client::tcp(server.addr);
    client.send(Upgrade::new().line("HEAD / HTTP/1.1").head().as_bytes());
    let answer = client.answer_to_head();
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET")));
}

#[test]
fn a_refusal_of_a_head_request_has_no_body() {
    // RFC 9110 9.3.2: "the server MUST NOT send content in the response".
    let server = echo(Server::builder().hosts(["localhost"]));
    for (status, head) in [
        (400, "HEAD / HTTP/1.1\r\n\r\n"),
        (400, "HEAD / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"),
        (421, "HEAD / HTTP/1.1\r\nHost: evil.com\r\n\r\n"),
        (426, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let mut client = Client::tcp(server.addr);
        client.send(head.as_bytes());
        assert_eq!(client.answer_to_head().status, status, "{head}");
    }
}

#[test]
fn other_versions_of_http_are_answered_505() {
    let server = echo(Server::builder());
    refused(&server, 505, Upgrade::new().line("GET / HTTP/1.0").head());
    refused(&server, 505, Upgrade::new().line("GET / HTTP/0.9").head());
    refused(&server, 505, Upgrade::new().line("GET / HTTP/1.2").head());
    refused(&server, 505, Upgrade::new().line("GET / HTTP/2.0").head());
    refused(&server, 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); // RFC 9113 3.4: a client that speaks nothing but HTTP/2
}

#[test]
fn what_does_not_ask_for_websocket_is_answered_426_with_upgrade() {
    let server = echo(Server::builder());
    for upgrade in [
        Upgrade::new().without("Upgrade"),
        Upgrade::new().with("Upgrade", "h2c"),
        Upgrade::new().with("Upgrade", "websocket2"),
        Upgrade::new().with("Upgrade", ""),
        Upgrade::new().without("Connection"),
        Upgrade::new().with("Connection", "keep-alive"),
        Upgrade::new().with("Connection", "close"),
        Upgrade::new().without("Upgrade").without("Connection").without("Sec-WebSocket-Key"),
    ] {
        let answer = refused(&server, 426, upgrade.head());
        assert_eq!(answer.header("Upgrade"), Some("websocket"), "{}", upgrade.head());
        assert!(answer.all("Connection").any(|option| option == "Upgrade"), "{}", upgrade.head());
    }
    // These do (RFC 9110 7.6.1, 7.8: lists, without regard to case).
    for upgrade in [
        Upgrade::new().with("Upgrade", "WebSocket"),
        Upgrade::new().with("Upgrade", "h2c, websocket"),
        Upgrade::new().with("Connection", "keep-alive, upgrade"),
        Upgrade::new().with("Connection", "keep-alive").and("connection", "UPGRADE"),
    ] {
        accepted(server.addr, upgrade.head());
    }
}

#[test]
fn other_versions_of_websocket_are_answered_426_with_the_version() {
    let server = echo(Server::builder());
    let other = ["0", "7", "8", "12", "14", "013", "13.0", "13, 8", "", "x", "4294967309"];
    let others = other.map(|version| Upgrade::new().with("Sec-WebSocket-Version", version));
    for upgrade in others.into_iter().chain([Upgrade::new().without("Sec-WebSocket-Version")]) {
        let answer = refused(&server, 426, upgrade.head());
        assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"), "{}", upgrade.head());
    }
}

#[test]
fn a_bad_key_is_answered_400() {
    let keys = [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",    // no padding
        "dGhlIHNhbXBsZSBub25jZQ=",   // half of it
        "dGhlIHNhbXBsZSBub25jZQ===", // too much
        "dGhlIHNhbXBsZSBub25j",      // 15 bytes
        "dGhlIHNhbXBsZSBub25jZQEC",  // 18 bytes
        "dGhlIHNhbXBsZSBub25jZQEB=", // 17 bytes and no such padding
        "dGhlIHNhbXBsZSBub25jZ!==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "-GhlIHNhbXBsZSBub25jZ_==",
    ];
    let keys = keys.map(|key| Upgrade::new().with("Sec-WebSocket-Key", key));
    all_refused(400, keys.into_iter().chain([Upgrade::new().without("Sec-WebSocket-Key")]));
}

#[test]
fn a_field_that_may_come_once_and_comes_twice_is_answered_400() {
    all_refused(
        400,
        [
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-key", "x3JJHMbDL1EzLkh9GBhXDw=="),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Version", "8"),
            ("Host", "localhost"),
            ("host", "evil.com"),
        ]
        .map(|(name, value)| Upgrade::new().and(name, value)),
    );
}

#[test]
fn a_bad_host_is_answered_400() {
    let hosts = ["", " ", ":80", "a b", "a/b", "user@localhost", "localhost:x", "localhost:65536", "[::1", "::1"];
    let hosts = hosts.into_iter().map(|host| Upgrade::new().with("Host", host));
    all_refused(400, hosts.chain([Upgrade::new().without("Host")]));
}

#[test]
fn a_malformed_head_is_answered_400() {
    let server = echo(Server::builder());
    let head = Upgrade::new().head();
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
        head.replace("GET /", "GET http://evil.com/"),
        head.replace("GET /", "GET http://user@localhost/"),
        head.replace("HTTP/1.1", "HTTP/1.1 "),
        head.replace("HTTP/1.1", "http/1.1"),
        head.replace("HTTP/1.1", "HTTP/1"),
        head.replace("HTTP/1.1", "HTTQ/1.1"),
        head.replace(" HTTP/1.1", ""),
        format!("\r\n\r\n{head}"),
    ] {
        refused(&server, 400, malformed);
    }
    refused(&server, 400, "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03"); // a TLS ClientHello
    refused(&server, 400, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"); // a frame without a handshake
    accepted(server.addr, format!("\r\n{head}")); // RFC 9112 2.2
    accepted(server.addr, head.replace("GET /", "GET http://localhost/"));
}

#[test]
fn a_03_a_14_malformed_lists_are_answered_400() {
    let list = |name: &'static str, values: &[&str]| -> Vec<Upgrade> {
        values.iter().map(|value| Upgrade::new().and(name, *value)).collect()
    };
    all_refused(
        400,
        list(
            "Sec-WebSocket-Protocol",
            &["", ",", "a b", "a;b", "a, a", "caf\u{e9}", "\"chat\"", "a/b", "(", "chat,,@"],
        ),
    );
    all_refused(
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
    let server = echo(Server::builder());
    let latin1 = [Upgrade::new().head().trim_end().as_bytes(), b"\r\nSec-WebSocket-Protocol: caf\xe9\r\n\r\n"].concat();
    refused(&server, 400, latin1);
    let once_each = Upgrade::new().and("Sec-WebSocket-Protocol", "chat").and("Sec-WebSocket-Protocol", "other, chat");
    refused(&server, 400, once_each.head());
    for (name, value) in [
        ("Sec-WebSocket-Extensions", "constructor"),
        ("Sec-WebSocket-Extensions", "__proto__; hasOwnProperty=1, x; y=\"z\""),
        ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=7"),
        ("Sec-WebSocket-Protocol", ", chat ,\tsuperchat,"),
    ] {
        accepted(server.addr, Upgrade::new().and(name, value).head());
    }
}

#[test]
fn a_04_a_list_is_read_in_linear_time() {
    let config = Config::default().max_head_size(1 << 20);
    let server = echo(Server::builder().config(config));
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
            client.send(Upgrade::new().and(name, value.as_str()).head().as_bytes());
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 400 ") || head.starts_with("HTTP/1.1 101 "), "{head}");
            // What is quadratic takes minutes.
            assert!(start.elapsed().as_secs() < 20, "{name}: {:?}", start.elapsed());
        }
    }
}

#[test]
fn what_the_application_refuses_is_answered_as_it_says() {
    let server = echo(Server::builder().on_request(|request| match request.path() {
        "/chat" => Ok(Accept::new()),
        _ => Err(Reject::new(404).text("no such route\n")),
    }));
    let answer = refused(&server, 404, Upgrade::new().head());
    assert_eq!(answer.text(), "no such route\n");
    refused(&server, 403, Upgrade::new().and("Origin", "https://evil.com").head());
    accepted(server.addr, Upgrade::new().line("GET /chat HTTP/1.1").head());
}

// T-11: sizes

/// A handshake whose head has exactly this many bytes.
fn of_size(size: usize) -> String {
    let filled = |length: usize| Upgrade::new().and("X-Fill", "x".repeat(length)).head();
    let head = filled(size - filled(0).len());
    assert_eq!(head.len(), size);
    head
}

/// A handshake with exactly this many header lines, the upgrade's own at the end.
fn of_lines(count: usize) -> String {
    let (line, rest) =
        Upgrade::new().head().split_once("\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("lines");
    format!("{line}\r\n{}{rest}", "a: b\r\n".repeat(count - 5))
}

fn of_target(length: usize) -> String {
    Upgrade::new().line(format!("GET /{} HTTP/1.1", "a".repeat(length - 1))).head()
}

#[test]
fn t_11_a_large_head_is_answered_431() {
    let server = echo(Server::builder());
    accepted(server.addr, of_size(16 << 10));
    refused(&server, 431, of_size((16 << 10) + 1));
    refused(&server, 431, of_size(LARGE));
    // It never ends.
    let endless = of_size(LARGE);
    refused(&server, 431, &endless[..LARGE - 4]);
    let small = echo(Server::builder().config(Config::default().max_head_size(512)));
    accepted(small.addr, of_size(512));
    refused(&small, 431, of_size(513));
}

#[test]
fn t_11_a_10_a_large_head_is_refused_however_it_is_cut() {
    let server = echo(Server::builder());
    let head = of_size(LARGE);
    for size in [100, 999, 1_460, 16 << 10, 40_000] {
        let mut client = Client::tcp(server.addr);
        for chunk in head.as_bytes().chunks(size) {
            client.send(chunk);
        }
        assert_eq!(client.answer().status, 431, "in pieces of {size}");
    }
    eventually("all are gone", || server.handle.connections() == 0);
}

#[test]
fn t_11_a_05_many_headers_are_answered_431() {
    let server = echo(Server::builder());
    accepted(server.addr, of_lines(128));
    refused(&server, 431, of_lines(129));
    refused(&server, 431, of_lines(2_000));
    refused(&server, 431, of_lines(10_000));
    let upgrade_first = Upgrade::new().head().trim_end().to_owned() + "\r\n" + &"a: b\r\n".repeat(2_000) + "\r\n";
    refused(&server, 431, upgrade_first);
    let small = echo(Server::builder().config(Config::default().max_headers(10)));
    accepted(small.addr, of_lines(10));
    refused(&small, 431, of_lines(11));
}

#[test]
fn t_11_a_long_target_is_answered_414() {
    let server = echo(Server::builder());
    accepted(server.addr, of_target(8 << 10));
    refused(&server, 414, of_target((8 << 10) + 1));
    refused(&server, 414, of_target(LARGE));
    let endless = of_target(LARGE);
    refused(&server, 414, &endless[..LARGE / 2]);
}

#[test]
fn a_client_sees_its_refusal_though_it_sends_on() {
    let server = echo(Server::builder());
    let mut client = Client::tcp(server.addr);
    client.send(Upgrade::new().without("Host").head().as_bytes());
    // The answer is there before the rest is sent, and FIN behind it.
    let frames: Vec<u8> = (0..30).flat_map(|_| common::binary(&[0; 1 << 10])).collect();
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    client.send(&frames);
    client.rest();
    // Frames behind a refused handshake are nobody's.
    client.send(&frames);
    client.half_close();
    eventually("it is gone", || server.handle.connections() == 0);
}

#[test]
fn a_refusal_is_not_followed_by_input_without_end() {
    let server = echo(Server::builder());
    let mut client = Client::tcp(server.addr);
    client.send(Upgrade::new().without("Host").head().as_bytes());
    assert_eq!(client.answer().status, 400);
    // No more than 64 KiB are read from it: then the kernel answers with RST.
    let chunk = vec![b'x'; 16 << 10];
    let mut sent = 0_usize;
    while std::io::Write::write(&mut client.stream, &chunk).is_ok_and(|size| size > 0) {
        sent += chunk.len();
        assert!(sent < 1 << 30, "it reads without end");
    }
    eventually("it is gone", || server.handle.connections() == 0);
}
