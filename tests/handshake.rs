//! The opening handshake over real sockets: where it ends, and what must not get past it.

mod common;

use std::net::SocketAddr;

use common::http::{Upgrade, ask, ask_bytewise};
use common::servers::{Mode, echo, echo_in};
use common::{Client, DEADLINE, Frame};
use threadbare::{Accept, HeaderError, OriginPolicy, Pending, Reject, Response, Server};

const MODES: [Mode; 2] = [Mode::Handler, Mode::Channel];

/// RFC 6455 1.3, for the key that [`Upgrade`] sends.
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The head of a 101.
fn accepted(addr: SocketAddr, upgrade: &Upgrade) -> String {
    let mut client = Client::tcp(addr);
    client.send(upgrade.head().as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    head
}

// H-01: bytes behind the head

/// The handshake and two messages, as one stream of bytes.
fn head_and_frames() -> (usize, Vec<u8>) {
    let mut stream = Upgrade::new().head().into_bytes();
    let head = stream.len();
    stream.extend_from_slice(&common::text("caf\u{e9}"));
    stream.extend_from_slice(&common::binary(&[0, 255, 13, 10, 13, 10]));
    (head, stream)
}

fn expect_echo(client: &mut Client, context: &str) {
    assert_eq!(client.expect_frame(), Frame::text("caf\u{e9}"), "{context}");
    assert_eq!(client.expect_frame(), Frame::binary(&[0, 255, 13, 10, 13, 10]), "{context}");
    client.send(&common::close(1000));
    client.expect_close(1000);
}

#[test]
fn h_01_bytes_behind_the_head_are_the_first_frames_at_every_split() {
    let (_, stream) = head_and_frames();
    for mode in MODES {
        let server = echo_in(mode, Server::builder());
        for split in 0..=stream.len() {
            let mut client = Client::tcp(server.addr);
            client.send(&stream[..split]);
            client.send(&stream[split..]);
            assert!(client.head().contains(ACCEPT));
            expect_echo(&mut client, &format!("{mode:?}, split at {split}"));
        }
    }
}

#[test]
fn h_01_part_of_a_frame_behind_the_head_is_kept_until_the_rest_comes() {
    let (head, stream) = head_and_frames();
    for mode in MODES {
        let server = echo_in(mode, Server::builder());
        for split in head..=stream.len() {
            let mut client = Client::tcp(server.addr);
            client.send(&stream[..split]);
            // Whoever has the 101 is no longer in the handshake.
            assert!(client.head().contains(ACCEPT));
            client.send(&stream[split..]);
            expect_echo(&mut client, &format!("{mode:?}, split at {split}"));
        }
    }
}

#[test]
fn h_01_bytes_behind_the_head_are_kept_where_every_byte_is_a_write() {
    let (_, stream) = head_and_frames();
    for mode in MODES {
        let server = echo_in(mode, Server::builder());
        let mut client = Client::tcp(server.addr);
        for byte in &stream {
            client.send(&[*byte]);
        }
        assert!(client.head().contains(ACCEPT));
        expect_echo(&mut client, &format!("{mode:?}"));
    }
}

#[test]
fn h_01_many_frames_behind_the_head_are_kept_while_the_application_decides() {
    let (sender, pendings) = crossbeam_channel::unbounded();
    let server = echo(Server::builder().on_request_deferred(move |_, pending| sender.send(pending).expect("waits")));
    let mut client = Client::tcp(server.addr);
    let frames: Vec<u8> = (0..2_000).flat_map(|n: u32| common::text(&n.to_string())).collect();
    client.send(Upgrade::new().head().as_bytes());
    client.send(&frames);
    let pending: Pending = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    pending.accept(Accept::new());
    client.head();
    for n in 0..2_000 {
        assert_eq!(client.expect_frame(), Frame::text(&n.to_string()));
    }
}

// H-02: smuggling

#[test]
fn h_02_a_request_with_content_is_refused_and_closed() {
    let server = echo(Server::builder());
    let upgrade = Upgrade::new();
    for request in [
        upgrade.clone().and("Content-Length", "5"),
        upgrade.clone().and("Content-Length", "-0"),
        upgrade.clone().and("Content-Length", "+0"),
        upgrade.clone().and("Content-Length", "0x0"),
        upgrade.clone().and("Content-Length", "0, 5"),
        upgrade.clone().and("Content-Length", ""),
        upgrade.clone().and("Content-Length", "0").and("Content-Length", "5"),
        upgrade.clone().and("Content-Length", "18446744073709551616"),
        upgrade.clone().and("Transfer-Encoding", "chunked"),
        upgrade.clone().and("Transfer-Encoding", "identity"),
        upgrade.clone().and("Transfer-Encoding", ""),
        upgrade.clone().and("transfer-encoding", "\tchunked"),
        upgrade.clone().and("Content-Length", "5").and("Transfer-Encoding", "chunked"),
        upgrade.clone().and("Transfer-Encoding", "chunked").and("Content-Length", "0"),
        upgrade.clone().without("Upgrade").without("Sec-WebSocket-Key").and("Content-Length", "5"),
        upgrade.clone().without("Upgrade").without("Sec-WebSocket-Key").and("Transfer-Encoding", "chunked"),
    ] {
        for body in ["hello", "0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", ""] {
            let answer = ask(server.addr, request.head() + body);
            assert_eq!(answer.status, 400, "{}", request.head());
        }
    }
    accepted(server.addr, &upgrade.and("Content-Length", "0"));
}

#[test]
fn h_02_a_second_request_behind_a_refused_one_is_never_answered() {
    let server = echo(Server::builder().http(|_| Response::new(200).text("a page\n")));
    let second = Upgrade::new().head();
    for (status, first) in [
        (426, Upgrade::new().with("Sec-WebSocket-Version", "12").head()),
        (426, Upgrade::new().without("Upgrade").head()),
        (403, Upgrade::new().and("Origin", "http://evil.example").head()),
        (400, Upgrade::new().without("Host").head()),
        (400, Upgrade::new().and("Content-Length", second.len().to_string()).head()),
        (405, Upgrade::new().line("POST / HTTP/1.1").head()),
        (505, Upgrade::new().line("GET / HTTP/1.0").head()),
        (200, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".into()),
        (200, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n".into()),
    ] {
        let answers =
            [ask(server.addr, format!("{first}{second}")), ask_bytewise(server.addr, format!("{first}{second}"))];
        for answer in answers {
            assert_eq!(answer.status, status, "{first}");
        }
    }
}

#[test]
fn h_02_a_second_request_behind_an_accepted_one_is_no_request() {
    let server = echo(Server::builder());
    let mut client = Client::tcp(server.addr);
    client.send((Upgrade::new().head() + "GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert!(client.head().contains(ACCEPT));
    client.expect_close(1002); // 'G' has reserved bits set
}

// H-03: header injection

#[test]
fn h_03_what_would_break_a_head_is_refused_by_the_builders() {
    for (name, value) in [
        ("X", "a\r\nSet-Cookie: admin=1"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "a\0b"),
        ("X", "a\r\n\r\n<script>"),
        ("X", " a"),
        ("X", "a\t"),
        ("X\r\nY", "a"),
        ("X: y", "a"),
        ("X y", "a"),
        ("X\0", "a"),
        ("", "a"),
        ("caf\u{e9}", "a"),
        ("Upgrade", "h2c"),
        ("connection", "keep-alive"),
        ("CONTENT-LENGTH", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("Sec-WebSocket-Protocol", "chat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("Sec-WebSocket-Version", "13"),
    ] {
        assert!(Accept::new().header(name, value).is_err(), "{name:?}: {value:?}");
        assert!(Reject::new(403).header(name, value).is_err(), "{name:?}: {value:?}");
    }
    assert_eq!(Accept::new().header("X", "a\r\nb"), Err(HeaderError::InvalidValue("X".into())));
    assert_eq!(Reject::new(403).header("a b", "c"), Err(HeaderError::InvalidName("a b".into())));
    assert_eq!(Response::new(200).header("upgrade", "c"), Err(HeaderError::Reserved("upgrade".into())));
}

#[test]
fn h_03_a_28_nothing_that_the_client_sends_gets_into_the_head() {
    // An application that trusts its clients: what they send becomes the subprotocol or a header.
    let server = echo(Server::builder().on_request(|request| match request.path() {
        "/subprotocol" => Ok(Accept::new().subprotocol("chat\r\nX-Injected: 1")),
        "/header" => {
            let value = request.query().unwrap_or_default().replace("%0d", "\r").replace("%0a", "\n");
            Accept::new().header("X-Query", &value).map_err(|error| Reject::new(400).text(&error.to_string()))
        }
        _ => Reject::new(302).header("Location", request.target()).map_or_else(|_| Err(Reject::new(400)), Err),
    }));
    let answer =
        ask(server.addr, Upgrade::new().line("GET /subprotocol HTTP/1.1").and("Sec-WebSocket-Protocol", "chat").head());
    assert_eq!(answer.status, 500);
    assert!(!answer.head.contains("Injected"), "{}", answer.head);

    let answer = ask(server.addr, Upgrade::new().line("GET /header?a%0d%0aX-Injected:1 HTTP/1.1").head());
    assert_eq!((answer.status, answer.text()), (400, "the value for the header \"X-Query\" is invalid"));
    let head = accepted(server.addr, &Upgrade::new().line("GET /header?a=b HTTP/1.1"));
    assert!(head.contains("\r\nX-Query: a=b\r\n"), "{head}");

    let answer = ask(server.addr, Upgrade::new().line("GET /a%0d%0aX-Injected:1 HTTP/1.1").head());
    assert_eq!((answer.status, answer.header("Location")), (302, Some("/a%0d%0aX-Injected:1")));
    assert_eq!(answer.header("X-Injected"), None);
}

// H-04: origins and hosts

/// The status of a handshake with these origins, for this host.
fn status_for(addr: SocketAddr, host: &str, origins: &[&str]) -> u16 {
    let upgrade =
        origins.iter().fold(Upgrade::new().with("Host", host), |upgrade, origin| upgrade.and("Origin", *origin));
    let mut client = Client::tcp(addr);
    client.send(upgrade.head().as_bytes());
    let head = client.head();
    if head.starts_with("HTTP/1.1 101 ") {
        return 101;
    }
    drop(client);
    ask(addr, upgrade.head()).status
}

#[test]
fn h_04_a_29_pages_of_other_sites_may_not_connect_by_default() {
    let server = echo(Server::builder());
    for (host, origins) in [
        ("good.example", &[][..]),
        ("good.example", &["https://good.example"]),
        ("good.example", &["http://good.example"]),
        ("good.example", &["HTTPS://GOOD.EXAMPLE"]),
        ("good.example:8080", &["http://good.example:8080"]),
        ("good.example:443", &["https://good.example"]),
        ("good.example", &["https://good.example:443"]),
        ("[::1]:9", &["http://[::1]:9"]),
    ] {
        assert_eq!(status_for(server.addr, host, origins), 101, "{host} {origins:?}");
    }
    for (host, origins) in [
        ("good.example", &["null"][..]),
        ("good.example", &[""]),
        ("good.example", &["https://sub.good.example"]),
        ("sub.good.example", &["https://good.example"]),
        ("good.example", &["https://good.example.evil.com"]),
        ("good.example", &["https://evilgood.example"]),
        ("good.example", &["https://evil.com/?good.example"]),
        ("good.example", &["https://evil.com#good.example"]),
        ("good.example", &["https://good.example@evil.com"]),
        ("good.example", &["https://good.example:8080"]),
        ("good.example:8080", &["https://good.example"]),
        ("good.example", &["https://good.example/"]),
        ("good.example", &["https://good.example."]),
        ("good.example", &["good.example"]),
        ("good.example", &["https://good.example, https://evil.com"]),
        ("good.example", &["https://good.example", "https://good.example"]),
        ("good.example", &["https://good.example", "https://evil.com"]),
        ("good.example", &["https://evil.com", "https://good.example"]),
    ] {
        assert_eq!(status_for(server.addr, host, origins), 403, "{host} {origins:?}");
    }
}

#[test]
fn h_04_a_29_a_list_of_origins_is_matched_exactly() {
    let list = vec!["https://good.example".into(), "http://localhost:3000".into()];
    let server = echo(Server::builder().origins(OriginPolicy::List(list)));
    for origins in [&[][..], &["https://good.example"], &["https://good.example:443"], &["http://localhost:3000"]] {
        assert_eq!(status_for(server.addr, "server.example", origins), 101, "{origins:?}");
    }
    for origins in [
        &["null"][..],
        &["http://good.example"],
        &["https://good.example:8443"],
        &["https://good.example.evil.com"],
        &["https://sub.good.example"],
        &["https://evil.com/?https://good.example"],
        &["http://localhost"],
        &["http://localhost:30000"],
        &["https://server.example"],
        &["https://good.example", "https://good.example"],
    ] {
        assert_eq!(status_for(server.addr, "server.example", origins), 403, "{origins:?}");
    }
}

#[test]
fn h_04_null_passes_where_it_is_listed_and_everything_where_any_may() {
    let listed = echo(Server::builder().origins(OriginPolicy::List(vec!["null".into()])));
    assert_eq!(status_for(listed.addr, "localhost", &["null"]), 101);
    assert_eq!(status_for(listed.addr, "localhost", &["http://localhost"]), 403);
    let any = echo(Server::builder().origins(OriginPolicy::Any));
    for origins in [&[][..], &["null"], &["https://evil.com"], &["https://a", "https://b"]] {
        assert_eq!(status_for(any.addr, "localhost", origins), 101, "{origins:?}");
    }
}

#[test]
fn h_04_hosts_that_are_not_listed_are_misdirected() {
    let builder = Server::builder().hosts(["good.example", "[::1]:8080"]).origins(OriginPolicy::Any);
    let server = echo(builder.http(|_| Response::new(200)));
    for host in ["good.example", "GOOD.example:99", "[::1]:8080"] {
        assert_eq!(status_for(server.addr, host, &[]), 101, "{host}");
    }
    for host in ["evil.com", "good.example.evil.com", "sub.good.example", "127.0.0.1", "localhost", "[::1]", "[::1]:80"]
    {
        assert_eq!(status_for(server.addr, host, &[]), 421, "{host}");
        assert_eq!(ask(server.addr, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 421, "{host}");
    }
    // RFC 9112 3.2.2: a target in absolute-form names the host, and Host must agree.
    let absolute = Upgrade::new().line("GET http://evil.com/ HTTP/1.1").with("Host", "good.example");
    assert_eq!(ask(server.addr, absolute.head()).status, 400);
    accepted(server.addr, &Upgrade::new().line("GET http://good.example/ HTTP/1.1").with("Host", "good.example"));
}

#[test]
fn h_04_the_application_is_not_asked_about_what_a_policy_refuses() {
    let (sender, asked) = crossbeam_channel::unbounded();
    let server = echo(Server::builder().hosts(["localhost"]).on_request(move |request| {
        sender.send(request.path().to_owned()).expect("somebody listens");
        Ok(Accept::new())
    }));
    assert_eq!(ask(server.addr, Upgrade::new().line("GET /1 HTTP/1.1").with("Host", "evil.com").head()).status, 421);
    assert_eq!(ask(server.addr, Upgrade::new().line("GET /2 HTTP/1.1").and("Origin", "null").head()).status, 403);
    accepted(server.addr, &Upgrade::new().line("GET /3 HTTP/1.1"));
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["/3"]);
}
