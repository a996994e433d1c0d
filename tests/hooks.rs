//! The hooks of the opening handshake: immediate and deferred decisions, plain HTTP on the same port, and panics.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::app::panic_quietly;
use common::http::{UpgradeRequest, send_request};
use common::logged::expect_error;
use common::servers::{Echo, Mode, echo_server, with_accept_blocker};
use common::{Client, DEADLINE, Frame, eventually};
use threadbare::{Accept, Config, Event, Peer, Pending, Request, Response, Server, ServerBuilder};

/// The answer to the key of [`UpgradeRequest`] (RFC 6455 1.3).
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Asserts that the server accepts a connection and echoes.
fn expect_served(addr: SocketAddr) {
    let mut client = Client::open(addr);
    client.send(&common::text("hello"));
    assert_eq!(client.expect_frame(), Frame::text("hello"));
}

/// Asserts that the server accepts the handshake, and returns the head of its response.
fn expect_accepted(addr: SocketAddr, upgrade: &UpgradeRequest) -> String {
    let mut client = Client::tcp(addr);
    client.send(upgrade.head().as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    head
}

// Requests and decisions

#[test]
fn the_request_hook_receives_the_whole_request() {
    let (sender, requests) = crossbeam_channel::unbounded::<Request>();
    let server = echo_server(Server::builder().on_request(move |request| {
        sender.send(request.clone()).expect("the test receives");
        Ok(Accept::new())
    }));
    let mut client = Client::tcp(server.addr);
    let upgrade = UpgradeRequest::new()
        .request_line("GET /rooms/a%20b?x=1?y&z HTTP/1.1")
        .add("Origin", "http://localhost")
        .add("Cookie", "session=abc; theme=\"dark\"")
        .add("cookie", "session=other;x=a=b")
        .add("Sec-WebSocket-Protocol", "chat, superchat")
        .add("sec-websocket-protocol", "third")
        .add("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
        .add("X-Empty", "")
        .add("X-Twice", " one ")
        .add("x-twice", "\ttwo");
    client.send(upgrade.head().as_bytes());
    client.head();
    let request = requests.recv_timeout(DEADLINE).expect("the hook was called");
    assert_eq!(request.method(), "GET");
    assert_eq!(request.target(), "/rooms/a%20b?x=1?y&z");
    assert_eq!((request.path(), request.query()), ("/rooms/a%20b", Some("x=1?y&z")));
    assert_eq!((request.host(), request.origin()), (Some("localhost"), Some("http://localhost")));
    assert_eq!((request.cookie("session"), request.cookie("theme")), (Some("abc"), Some("\"dark\"")));
    let cookies = [("session", "abc"), ("theme", "\"dark\""), ("session", "other"), ("x", "a=b")];
    assert_eq!(request.cookies().collect::<Vec<_>>(), cookies);
    assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["chat", "superchat", "third"]);
    assert_eq!(request.extensions().map(|offer| offer.name().to_owned()).collect::<Vec<_>>(), ["permessage-deflate"]);
    assert_eq!(
        (request.header("x-EMPTY"), request.header("X-Twice"), request.header("X-No")),
        (Some(""), Some("one"), None)
    );
    assert_eq!(request.header_values("X-Twice").collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(request.headers().count(), 5 + 9);
    assert_eq!(request.headers().next(), Some(("Host", b"localhost".as_slice())));
    assert_eq!(*request.addr(), client.stream.local_addr().expect("a socket"));
}

/// Receives the event of an opened connection.
fn opened(server: &Server) -> (Peer, Request) {
    match server.recv_timeout(DEADLINE) {
        Ok(Event::Open(peer, request)) => (peer, request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_101_answers_the_key_and_adds_nothing() {
    let server = echo_server(Server::builder());
    let expected =
        format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{ACCEPT}\r\n\r\n");
    assert_eq!(expect_accepted(server.addr, &UpgradeRequest::new()), expected);
    let head =
        expect_accepted(server.addr, &UpgradeRequest::new().replace("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="));
    assert!(head.contains("\r\nSec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n"), "{head}");
    // The server is not configured with the subprotocol or the extensions that the client offers.
    let head = expect_accepted(server.addr, &UpgradeRequest::new().add("Sec-WebSocket-Protocol", "chat"));
    assert!(!head.contains("Sec-WebSocket-Protocol"), "{head}");
    let head = expect_accepted(
        server.addr,
        &UpgradeRequest::new().add("Sec-WebSocket-Extensions", "permessage-deflate, x-unknown"),
    );
    assert!(!head.contains("Sec-WebSocket-Extensions"), "{head}");
}

#[test]
fn the_first_offered_subprotocol_that_the_server_supports_is_selected() {
    let selected = |builder: ServerBuilder, offers: &str| {
        let server = builder.workers(1).bind("127.0.0.1:0").expect("a server");
        let upgrade = UpgradeRequest::new().add("Sec-WebSocket-Protocol", offers);
        let mut client = Client::tcp(server.local_addr());
        client.send(upgrade.head().as_bytes());
        let head = client.head();
        let (peer, request) = opened(&server);
        assert_eq!(request.header("Sec-WebSocket-Protocol"), Some(offers));
        let header = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: ")).map(str::to_owned);
        assert_eq!(peer.subprotocol(), header.as_deref());
        header
    };
    let supports = |names: &[&str]| Server::builder().subprotocols(names.iter().copied());
    let both = ["chat", "superchat"];
    assert_eq!(selected(supports(&both), "chat, superchat").as_deref(), Some("chat"));
    assert_eq!(selected(supports(&both), "superchat, chat").as_deref(), Some("superchat"));
    assert_eq!(selected(supports(&both), "other, superchat").as_deref(), Some("superchat"));
    assert_eq!(selected(supports(&both), "Chat"), None);
    assert_eq!(selected(supports(&[]), "chat"), None);
    // The selection of the request hook takes precedence over the list.
    let hooked = supports(&both).on_request(|_| Ok(Accept::new().subprotocol("superchat")));
    assert_eq!(selected(hooked, "chat, superchat").as_deref(), Some("superchat"));
    let unlisted = Server::builder().on_request(|_| Ok(Accept::new().subprotocol("third")));
    assert_eq!(selected(unlisted, "chat, third").as_deref(), Some("third"));
}

#[test]
fn selecting_a_subprotocol_that_was_not_offered_is_answered_500() {
    let _expected = expect_error("the handshake could not be accepted");
    let server = echo_server(Server::builder().on_request(|_| Ok(Accept::new().subprotocol("chat"))));
    assert_eq!(send_request(server.addr, UpgradeRequest::new().head()).status, 500);
    assert_eq!(
        send_request(server.addr, UpgradeRequest::new().add("Sec-WebSocket-Protocol", "superchat").head()).status,
        500
    );
    let head = expect_accepted(server.addr, &UpgradeRequest::new().add("Sec-WebSocket-Protocol", "chat"));
    assert!(head.contains("\r\nSec-WebSocket-Protocol: chat\r\n"), "{head}");
}

#[test]
fn the_request_hook_adds_headers_to_the_101() {
    let server = echo_server(
        Server::builder()
            .on_request(|_| Ok(Accept::new().header("Set-Cookie", "a=1; HttpOnly").header("Set-Cookie", "b=2"))),
    );
    let head = expect_accepted(server.addr, &UpgradeRequest::new());
    assert!(head.contains("\r\nSet-Cookie: a=1; HttpOnly\r\nSet-Cookie: b=2\r\n"), "{head}");
}

#[test]
fn the_request_hook_rejects_with_status_headers_and_body() {
    let server = echo_server(Server::builder().on_request(|request| {
        Err(match request.path() {
            "/secret" => Response::new(401).header("WWW-Authenticate", "Bearer").text("no\n"),
            "/switch" => Response::new(101),
            "/binary" => Response::new(418).body(vec![0, 255, 13, 10]),
            _ => Response::new(404),
        })
    }));
    let asked = |path: &str| {
        send_request(server.addr, UpgradeRequest::new().request_line(format!("GET {path} HTTP/1.1")).head())
    };
    let response = asked("/secret");
    assert_eq!((response.status, response.text()), (401, "no\n"));
    assert_eq!(response.header("WWW-Authenticate"), Some("Bearer"));
    assert_eq!(response.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(asked("/switch").status, 500, "a refusal is never a 101");
    let response = asked("/binary");
    assert_eq!((response.status, response.body.as_slice()), (418, &[0, 255, 13, 10][..]));
    let response = asked("/nowhere");
    assert_eq!((response.status, response.body.len()), (404, 0));
    eventually("all connections are removed", || server.handle.connections() == 0);
}

// Decisions from other threads

/// A server whose handshakes the test decides.
fn deferred_server(config: Config) -> (common::servers::EchoServer, crossbeam_channel::Receiver<(Request, Pending)>) {
    let (sender, pendings) = crossbeam_channel::unbounded();
    let hook = move |request: Request, pending| match request.path() {
        "/panic" => panic_quietly(),
        _ => sender.send((request, pending)).expect("the test decides"),
    };
    (echo_server(Server::builder().config(config).on_request_deferred(hook)), pendings)
}

#[test]
fn a_deferred_handshake_is_decided_from_another_thread() {
    let (server, pendings) = deferred_server(Config::default());
    let mut accepted = Client::tcp(server.addr);
    accepted.send(UpgradeRequest::new().add("Sec-WebSocket-Protocol", "chat").head().as_bytes());
    let (request, pending) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    assert_eq!(*request.addr(), accepted.stream.local_addr().expect("a socket"));
    // Another client is served in the meantime.
    let mut rejected = Client::tcp(server.addr);
    rejected.send(UpgradeRequest::new().head().as_bytes());
    let (_, other) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    other.reject(Response::new(401).text("no\n"));
    let response = rejected.response();
    assert_eq!((response.status, response.text()), (401, "no\n"));

    pending.accept(Accept::new().subprotocol("chat").header("X-By", "a thread"));
    let head = accepted.head();
    assert!(head.contains(ACCEPT) && head.contains("\r\nSec-WebSocket-Protocol: chat\r\nX-By: a thread\r\n"), "{head}");
    accepted.send(&common::text("one"));
    assert_eq!(accepted.expect_frame(), Frame::text("one"));
}

#[test]
fn a_deferred_handshake_whose_pending_is_dropped_is_answered_500() {
    let (server, pendings) = deferred_server(Config::default());
    let mut client = Client::tcp(server.addr);
    client.send(UpgradeRequest::new().head().as_bytes());
    drop(pendings.recv_timeout(DEADLINE).expect("the hook is called"));
    assert_eq!(client.response().status, 500);
}

#[test]
fn a_decision_after_the_deadline_has_no_effect() {
    let timeout = Duration::from_millis(300);
    let (server, pendings) = deferred_server(Config::default().handshake_timeout(timeout));
    let start = Instant::now();
    let mut late = Client::tcp(server.addr);
    late.send(UpgradeRequest::new().head().as_bytes());
    let (_, pending) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    let response = late.response();
    assert_eq!(response.status, 503);
    assert!(response.header("Retry-After").is_some() && start.elapsed() >= timeout, "{:?}", start.elapsed());
    pending.accept(Accept::new());
    drop(late);
    eventually("the connection is removed", || server.handle.connections() == 0);
}

#[test]
fn a_late_decision_does_not_apply_to_another_handshake() {
    let (server, pendings) = deferred_server(Config::default());
    let mut gone = Client::tcp(server.addr);
    gone.send(UpgradeRequest::new().head().as_bytes());
    let (_, first) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    drop(gone);
    first.reject(Response::new(403));
    eventually("the first connection is removed", || server.handle.connections() == 0);

    // The next handshake uses the slot of the one that ended at its deadline.
    let (server, pendings) = deferred_server(Config::default().handshake_timeout(Duration::from_millis(300)));
    let mut late = Client::tcp(server.addr);
    late.send(UpgradeRequest::new().head().as_bytes());
    let (_, stale) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    assert_eq!(late.response().status, 503);
    drop(late);
    eventually("the late connection is removed", || server.handle.connections() == 0);
    let mut next = Client::tcp(server.addr);
    next.send(UpgradeRequest::new().head().as_bytes());
    let (_, pending) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    stale.accept(Accept::new());
    pending.reject(Response::new(403));
    let status = next.response().status;
    assert!(status == 403 || status == 503, "never 101: {status}"); // 503 on a machine that is very busy
}

#[test]
fn clients_that_disconnect_before_the_decision_are_removed() {
    let (server, pendings) = deferred_server(Config::default());
    for accept in [true, false] {
        for reset in [true, false] {
            let mut client = Client::tcp(server.addr);
            client.send(UpgradeRequest::new().head().as_bytes());
            let (_, pending) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            if accept { pending.accept(Accept::new()) } else { pending.reject(Response::new(403)) }
        }
    }
    eventually("all connections are removed", || server.handle.connections() == 0);
}

// Plain HTTP on the same port

#[test]
fn an_expectation_of_100_continue_is_answered_with_the_final_status() {
    // RFC 9110 10.1.1: a server "MAY omit sending a 100 (Continue) response if [...] the framing indicates that there is
    // no content", and sends the final status to a request whose content it does not want.
    let server = echo_server(Server::builder());
    let plain = "GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
    assert_eq!(send_request(server.addr, format!("{plain}\r\n")).status, 426);
    // Whether the client waits for a 100, or has sent its content already.
    for content in ["Content-Length: 5\r\n\r\n", "Content-Length: 5\r\n\r\nhello"] {
        assert_eq!(send_request(server.addr, format!("{plain}{content}")).status, 400);
    }
    for content in ["Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        assert_eq!(send_request(server.addr, format!("{plain}{content}")).status, 400);
    }
    expect_accepted(server.addr, &UpgradeRequest::new().add("Expect", "100-continue"));
}

#[test]
fn plain_requests_are_answered_426_by_default() {
    let server = echo_server(Server::builder());
    let response = send_request(server.addr, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 426);
    assert_eq!(response.header("Upgrade"), Some("websocket"));
    assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"));
    assert_eq!(response.header_values("Connection").collect::<Vec<_>>(), ["close, Upgrade"]);
    assert!(response.text().contains("WebSocket server"));
}

#[test]
fn plain_requests_are_answered_by_the_http_hook() {
    let server = echo_server(Server::builder().http(|request| match request.path() {
        "/" => Response::new(200).html("<p>hello"),
        "/large" => Response::new(200).body(vec![b'x'; 8 << 20]),
        path => Response::new(404).text(&format!("{} {path} {:?}\n", request.method(), request.query())),
    }));
    let plain = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let response = send_request(server.addr, plain("GET /"));
    assert_eq!((response.status, response.text()), (200, "<p>hello"));
    assert_eq!(response.header("Content-Type"), Some("text/html; charset=utf-8"));

    let mut client = Client::tcp(server.addr);
    client.send(plain("HEAD /").as_bytes());
    let to_head = client.response_to_head();
    assert_eq!(to_head.head, response.head);
    drop(client);

    let response = send_request(server.addr, plain("GET /no?where"));
    assert_eq!((response.status, response.text()), (404, "GET /no Some(\"where\")\n"));
    assert_eq!(send_request(server.addr, "GET / HTTP/1.0\r\n\r\n").status, 200);
    assert_eq!(send_request(server.addr, plain("GET /large")).body.len(), 8 << 20);
    expect_accepted(server.addr, &UpgradeRequest::new());
    eventually("all connections are removed", || server.handle.connections() == 0);
}

#[test]
fn a_plain_request_followed_by_fin_is_answered() {
    let server = echo_server(Server::builder().http(|_| Response::new(200).text("a page\n")));
    let mut client = Client::tcp(server.addr);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.shutdown_write();
    assert_eq!(client.next_response().text(), "a page\n");
    assert!(client.read_to_end().is_empty());
}

// panics during the opening handshake

#[test]
fn r_04_a_panic_in_a_hook_is_answered_500_and_the_server_continues() {
    let _expected = expect_error("a handshake hook panicked");
    let builder = || {
        Server::builder().http(|request| match request.path() {
            "/panic" => panic_quietly(),
            _ => Response::new(200),
        })
    };
    let hooked = builder().on_request(|request| match request.path() {
        "/panic" => panic_quietly(),
        _ => Ok(Accept::new()),
    });
    let deferred = builder().on_request_deferred(|request, pending| match request.path() {
        "/panic" => panic_quietly(),
        _ => pending.accept(Accept::new()),
    });
    for builder in [hooked, deferred] {
        let server = echo_server(builder);
        for _ in 0..20 {
            assert_eq!(
                send_request(server.addr, UpgradeRequest::new().request_line("GET /panic HTTP/1.1").head()).status,
                500
            );
            assert_eq!(send_request(server.addr, "GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 500);
            expect_served(server.addr);
        }
        eventually("all connections are removed", || server.handle.connections() == 0);
    }
}

#[test]
fn r_04_a_panic_in_the_handler_factory_is_answered_500_and_the_server_continues() {
    let _expected = expect_error("a handshake hook panicked");
    let make = |request: &Request| match request.path() {
        "/panic" => panic_quietly(),
        _ => Echo,
    };
    let server = Server::builder().workers(2).serve("127.0.0.1:0", make).expect("a server");
    for _ in 0..20 {
        assert_eq!(
            send_request(server.local_addr(), UpgradeRequest::new().request_line("GET /panic HTTP/1.1").head()).status,
            500
        );
        expect_served(server.local_addr());
    }
    eventually("all connections are removed", || server.handle().connections() == 0);
}

// clients that disconnect during the opening handshake

#[test]
fn r_02_a_client_that_disconnects_during_its_handshake_is_removed_at_once() {
    let long = Config::default().handshake_timeout(DEADLINE * 10).close_timeout(DEADLINE * 10);
    let (server, blocker) = with_accept_blocker(Mode::Handler, Server::builder().config(long), |_| Ok(Accept::new()));
    let plain = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for sent in ["", "GET / HTTP/1.1\r\nHost: loc", &plain[..plain.len() - 1], plain, "junk\0"] {
        for reset in [false, true] {
            // The server finds the bytes and the FIN at the same time.
            let blocking = blocker.block(server.addr);
            let mut client = Client::tcp(server.addr);
            client.send(sent.as_bytes());
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            blocker.unblock();
            drop(blocking);
            eventually(&format!("the connection that sent {sent:?} is removed"), || server.handle.connections() == 0);
        }
    }
}

#[test]
fn r_02_a_refused_client_that_has_sent_fin_is_removed_at_once() {
    let long = Config::default().handshake_timeout(DEADLINE * 10).close_timeout(DEADLINE * 10);
    let (server, blocker) =
        with_accept_blocker(Mode::Handler, Server::builder().config(long), |_| Err(Response::new(404)));
    for (status, head) in [
        (404, UpgradeRequest::new().head()),
        (403, UpgradeRequest::new().add("Origin", "null").head()),
        (426, UpgradeRequest::new().remove("Upgrade").head()),
        (400, "junk\0".into()),
    ] {
        let blocking = blocker.block(server.addr);
        let mut client = Client::tcp(server.addr);
        client.send(head.as_bytes());
        client.shutdown_write();
        blocker.unblock();
        drop(blocking);
        assert_eq!(client.response().status, status);
        // Both ends have sent FIN, though the client's socket is still open.
        eventually(&format!("the connection with status {status} is removed"), || server.handle.connections() == 0);
    }
}
