//! The opening handshake over sockets: bytes after the head, smuggled requests, injected headers, origins and hosts.

mod common;

use std::net::SocketAddr;

use common::http::{UpgradeRequest, send_request, send_request_bytewise};
use common::logged::expect_error;
use common::servers::{Mode, echo_server, echo_server_in};
use common::{Client, DEADLINE, Frame};
use threadbare::{Accept, HeaderError, OriginPolicy, Pending, Response, Server};

/// The answer to the key of [`UpgradeRequest`] (RFC 6455 1.3).
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Asserts that the server accepts the handshake, and returns the head of its response.
fn expect_accepted(addr: SocketAddr, upgrade: &UpgradeRequest) -> String {
    let mut client = Client::tcp(addr);
    client.send(upgrade.head().as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    head
}

// H-01: bytes after the head

/// A handshake followed by two messages, and the length of its head.
fn head_and_frames() -> (usize, Vec<u8>) {
    let mut stream = UpgradeRequest::new().head().into_bytes();
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
fn h_01_bytes_after_the_head_are_decoded_as_frames_at_every_split() {
    let (_, stream) = head_and_frames();
    for mode in Mode::ALL {
        let server = echo_server_in(mode, Server::builder());
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
fn h_01_a_partial_frame_after_the_head_is_kept_until_it_is_complete() {
    let (head, stream) = head_and_frames();
    for mode in Mode::ALL {
        let server = echo_server_in(mode, Server::builder());
        for split in head..=stream.len() {
            let mut client = Client::tcp(server.addr);
            client.send(&stream[..split]);
            // The rest is sent after the 101, when the connection is established.
            assert!(client.head().contains(ACCEPT));
            client.send(&stream[split..]);
            expect_echo(&mut client, &format!("{mode:?}, split at {split}"));
        }
    }
}

#[test]
fn h_01_bytes_after_the_head_are_kept_if_every_write_is_one_byte() {
    let (_, stream) = head_and_frames();
    for mode in Mode::ALL {
        let server = echo_server_in(mode, Server::builder());
        let mut client = Client::tcp(server.addr);
        for byte in &stream {
            client.send(&[*byte]);
        }
        assert!(client.head().contains(ACCEPT));
        expect_echo(&mut client, &format!("{mode:?}"));
    }
}

#[test]
fn h_01_frames_after_the_head_are_kept_until_the_application_decides() {
    let (sender, pendings) = crossbeam_channel::unbounded();
    let server = echo_server(
        Server::builder().on_request_deferred(move |_, pending| sender.send(pending).expect("the test decides")),
    );
    let mut client = Client::tcp(server.addr);
    let frames: Vec<u8> = (0..2_000).flat_map(|n: u32| common::text(&n.to_string())).collect();
    client.send(UpgradeRequest::new().head().as_bytes());
    client.send(&frames);
    let pending: Pending = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    pending.accept(Accept::new());
    client.head();
    for n in 0..2_000 {
        assert_eq!(client.expect_frame(), Frame::text(&n.to_string()));
    }
}

// H-02: request smuggling

#[test]
fn h_02_a_request_with_content_is_refused_and_closed() {
    let server = echo_server(Server::builder());
    let upgrade = UpgradeRequest::new();
    for request in [
        upgrade.clone().add("Content-Length", "5"),
        upgrade.clone().add("Content-Length", "-0"),
        upgrade.clone().add("Content-Length", "+0"),
        upgrade.clone().add("Content-Length", "0x0"),
        upgrade.clone().add("Content-Length", "0, 5"),
        upgrade.clone().add("Content-Length", ""),
        upgrade.clone().add("Content-Length", "0").add("Content-Length", "5"),
        upgrade.clone().add("Content-Length", "18446744073709551616"),
        upgrade.clone().add("Transfer-Encoding", "chunked"),
        upgrade.clone().add("Transfer-Encoding", "identity"),
        upgrade.clone().add("Transfer-Encoding", ""),
        upgrade.clone().add("transfer-encoding", "\tchunked"),
        upgrade.clone().add("Content-Length", "5").add("Transfer-Encoding", "chunked"),
        upgrade.clone().add("Transfer-Encoding", "chunked").add("Content-Length", "0"),
        upgrade.clone().remove("Upgrade").remove("Sec-WebSocket-Key").add("Content-Length", "5"),
        upgrade.clone().remove("Upgrade").remove("Sec-WebSocket-Key").add("Transfer-Encoding", "chunked"),
    ] {
        for body in ["hello", "0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", ""] {
            let response = send_request(server.addr, request.head() + body);
            assert_eq!(response.status, 400, "{}", request.head());
        }
    }
    expect_accepted(server.addr, &upgrade.add("Content-Length", "0"));
}

#[test]
fn h_02_a_second_request_after_a_refused_one_is_not_answered() {
    let server = echo_server(Server::builder().http(|_| Response::new(200).text("a page\n")));
    let second = UpgradeRequest::new().head();
    for (status, first) in [
        (426, UpgradeRequest::new().replace("Sec-WebSocket-Version", "12").head()),
        (426, UpgradeRequest::new().remove("Upgrade").head()),
        (403, UpgradeRequest::new().add("Origin", "http://evil.example").head()),
        (400, UpgradeRequest::new().remove("Host").head()),
        (400, UpgradeRequest::new().add("Content-Length", second.len().to_string()).head()),
        (405, UpgradeRequest::new().request_line("POST / HTTP/1.1").head()),
        (505, UpgradeRequest::new().request_line("GET / HTTP/1.0").head()),
        (200, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into()),
        (200, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Close\r\n\r\n".into()),
        (417, "GET / HTTP/1.1\r\nHost: localhost\r\nExpect: a-cookie\r\n\r\n".into()),
    ] {
        let responses = [
            send_request(server.addr, format!("{first}{second}")),
            send_request_bytewise(server.addr, format!("{first}{second}")),
        ];
        for response in responses {
            assert_eq!(response.status, status, "{first}");
        }
    }
}

#[test]
fn h_02_a_second_request_after_an_accepted_one_is_a_protocol_error() {
    let server = echo_server(Server::builder());
    let mut client = Client::tcp(server.addr);
    client.send((UpgradeRequest::new().head() + "GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    assert!(client.head().contains(ACCEPT));
    client.expect_close(1002); // 'G' has reserved bits set
}

// H-03: header injection

#[test]
fn h_03_builders_refuse_invalid_and_reserved_headers() {
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
        assert!(Accept::new().header(name, value).check().is_err(), "{name:?}: {value:?}");
        assert!(Response::new(403).header(name, value).check().is_err(), "{name:?}: {value:?}");
    }
    assert_eq!(Accept::new().header("X", "a\r\nb").check(), Err(HeaderError::InvalidValue("X".into())));
    assert_eq!(Response::new(403).header("a b", "c").check(), Err(HeaderError::InvalidName("a b".into())));
    assert_eq!(Response::new(200).header("upgrade", "c").check(), Err(HeaderError::Reserved("upgrade".into())));
}

#[test]
fn h_03_a_28_bytes_of_the_client_cannot_inject_response_headers() {
    let _expected = expect_error("the handshake could not be accepted");
    // This application copies bytes of its clients into the subprotocol and into headers.
    let server = echo_server(Server::builder().on_request(|request| match request.path() {
        "/subprotocol" => Ok(Accept::new().subprotocol("chat\r\nX-Injected: 1")),
        "/header" => {
            let value = request.query().unwrap_or_default().replace("%0d", "\r").replace("%0a", "\n");
            let accept = Accept::new().header("X-Query", &value);
            accept.check().map_err(|error| Response::new(400).text(&error.to_string()))?;
            Ok(accept)
        }
        _ => Err(Response::new(302).header("Location", request.target())),
    }));
    let response = send_request(
        server.addr,
        UpgradeRequest::new().request_line("GET /subprotocol HTTP/1.1").add("Sec-WebSocket-Protocol", "chat").head(),
    );
    assert_eq!(response.status, 500);
    assert!(!response.head.contains("Injected"), "{}", response.head);

    let response = send_request(
        server.addr,
        UpgradeRequest::new().request_line("GET /header?a%0d%0aX-Injected:1 HTTP/1.1").head(),
    );
    assert_eq!((response.status, response.text()), (400, "the value for the header \"X-Query\" is invalid"));
    let head = expect_accepted(server.addr, &UpgradeRequest::new().request_line("GET /header?a=b HTTP/1.1"));
    assert!(head.contains("\r\nX-Query: a=b\r\n"), "{head}");

    let response =
        send_request(server.addr, UpgradeRequest::new().request_line("GET /a%0d%0aX-Injected:1 HTTP/1.1").head());
    assert_eq!((response.status, response.header("Location")), (302, Some("/a%0d%0aX-Injected:1")));
    assert_eq!(response.header("X-Injected"), None);
}

// H-04: origins and hosts

/// The status of the response to a handshake with this host and these origins.
fn status_for(addr: SocketAddr, host: &str, origins: &[&str]) -> u16 {
    let upgrade = origins
        .iter()
        .fold(UpgradeRequest::new().replace("Host", host), |upgrade, origin| upgrade.add("Origin", *origin));
    let mut client = Client::tcp(addr);
    client.send(upgrade.head().as_bytes());
    let head = client.head();
    if head.starts_with("HTTP/1.1 101 ") {
        return 101;
    }
    drop(client);
    send_request(addr, upgrade.head()).status
}

#[test]
fn h_04_a_29_other_origins_are_refused_by_default() {
    let server = echo_server(Server::builder());
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
    let server = echo_server(Server::builder().origins(OriginPolicy::List(list)));
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
fn h_04_null_is_accepted_if_listed_and_any_accepts_every_origin() {
    let listed = echo_server(Server::builder().origins(OriginPolicy::List(vec!["null".into()])));
    assert_eq!(status_for(listed.addr, "localhost", &["null"]), 101);
    assert_eq!(status_for(listed.addr, "localhost", &["http://localhost"]), 403);
    let any = echo_server(Server::builder().origins(OriginPolicy::Any));
    for origins in [&[][..], &["null"], &["https://evil.com"], &["https://a", "https://b"]] {
        assert_eq!(status_for(any.addr, "localhost", origins), 101, "{origins:?}");
    }
}

#[test]
fn h_04_hosts_that_are_not_listed_are_answered_421() {
    let builder = Server::builder().hosts(["good.example", "[::1]:8080"]).origins(OriginPolicy::Any);
    let server = echo_server(builder.http(|_| Response::new(200)));
    for host in ["good.example", "GOOD.example:99", "[::1]:8080"] {
        assert_eq!(status_for(server.addr, host, &[]), 101, "{host}");
    }
    for host in ["evil.com", "good.example.evil.com", "sub.good.example", "127.0.0.1", "localhost", "[::1]", "[::1]:80"]
    {
        assert_eq!(status_for(server.addr, host, &[]), 421, "{host}");
        assert_eq!(send_request(server.addr, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 421, "{host}");
    }
    // RFC 9112 3.2.2: a target in absolute-form names the host, whatever the Host header says.
    for (host, status) in [("good.example", 421), ("evil.com", 421)] {
        let absolute = UpgradeRequest::new().request_line("GET http://evil.com/ HTTP/1.1").replace("Host", host);
        assert_eq!(send_request(server.addr, absolute.head()).status, status);
    }
    for host in ["good.example", "evil.com"] {
        let absolute = UpgradeRequest::new().request_line("GET http://good.example/ HTTP/1.1").replace("Host", host);
        expect_accepted(server.addr, &absolute);
    }
}

#[test]
fn h_04_the_request_hook_is_not_called_if_a_policy_refuses() {
    let (sender, paths) = crossbeam_channel::unbounded();
    let server = echo_server(Server::builder().hosts(["localhost"]).on_request(move |request| {
        sender.send(request.path().to_owned()).expect("the test receives");
        Ok(Accept::new())
    }));
    assert_eq!(
        send_request(
            server.addr,
            UpgradeRequest::new().request_line("GET /1 HTTP/1.1").replace("Host", "evil.com").head()
        )
        .status,
        421
    );
    assert_eq!(
        send_request(server.addr, UpgradeRequest::new().request_line("GET /2 HTTP/1.1").add("Origin", "null").head())
            .status,
        403
    );
    expect_accepted(server.addr, &UpgradeRequest::new().request_line("GET /3 HTTP/1.1"));
    assert_eq!(paths.try_iter().collect::<Vec<_>>(), ["/3"]);
}
