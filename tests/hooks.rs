//! What the application sees of requests, and says to them: by hooks, at once or later, and by plain HTTP.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::http::{Upgrade, ask};
use common::servers::{Echo, Mode, echo, gated};
use common::{Client, DEADLINE, Frame, eventually};
use threadbare::{Accept, Config, Event, Peer, Pending, Reject, Request, Response, Server, ServerBuilder};

/// RFC 6455 1.3, for the key that [`Upgrade`] sends.
const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn opens(addr: SocketAddr) {
    let mut client = Client::open(addr);
    client.send(&common::text("still there"));
    assert_eq!(client.expect_frame(), Frame::text("still there"));
}

/// The head of a 101.
fn accepted(addr: SocketAddr, upgrade: &Upgrade) -> String {
    let mut client = Client::tcp(addr);
    client.send(upgrade.head().as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    head
}

// Requests and decisions

#[test]
fn the_application_sees_all_of_the_request() {
    let (sender, requests) = crossbeam_channel::unbounded::<Request>();
    let server = echo(Server::builder().on_request(move |request| {
        sender.send(request.clone()).expect("somebody listens");
        Ok(Accept::new())
    }));
    let mut client = Client::tcp(server.addr);
    let upgrade = Upgrade::new()
        .line("GET /rooms/a%20b?x=1?y&z HTTP/1.1")
        .and("Origin", "http://localhost")
        .and("Cookie", "session=abc; theme=\"dark\"")
        .and("cookie", "session=other;x=a=b")
        .and("Sec-WebSocket-Protocol", "chat, superchat")
        .and("sec-websocket-protocol", "third")
        .and("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
        .and("X-Empty", "")
        .and("X-Twice", " one ")
        .and("x-twice", "\ttwo");
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
    assert_eq!(request.addr(), client.stream.local_addr().expect("a socket"));
}

/// The handle of the one connection and the request that opened it.
fn opened(server: &Server) -> (Peer, Request) {
    match server.recv_timeout(DEADLINE) {
        Ok(Event::Open(peer, request)) => (peer, request),
        other => panic!("{other:?} instead of an opened connection"),
    }
}

#[test]
fn the_key_is_answered_and_nothing_is_added() {
    let server = echo(Server::builder());
    let expected =
        format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{ACCEPT}\r\n\r\n");
    assert_eq!(accepted(server.addr, &Upgrade::new()), expected);
    let head = accepted(server.addr, &Upgrade::new().with("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="));
    assert!(head.contains("\r\nSec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n"), "{head}");
    // Not asked for, not agreed on.
    let head = accepted(server.addr, &Upgrade::new().and("Sec-WebSocket-Protocol", "chat"));
    assert!(!head.contains("Sec-WebSocket-Protocol"), "{head}");
    let head = accepted(server.addr, &Upgrade::new().and("Sec-WebSocket-Extensions", "permessage-deflate, x-unknown"));
    assert!(!head.contains("Sec-WebSocket-Extensions"), "{head}");
}

#[test]
fn the_first_of_the_clients_subprotocols_that_is_spoken_is_chosen() {
    let chosen = |builder: ServerBuilder, offers: &str| {
        let server = builder.workers(1).bind("127.0.0.1:0").expect("a server");
        let upgrade = Upgrade::new().and("Sec-WebSocket-Protocol", offers);
        let mut client = Client::tcp(server.local_addr());
        client.send(upgrade.head().as_bytes());
        let head = client.head();
        let (peer, request) = opened(&server);
        assert_eq!(request.header("Sec-WebSocket-Protocol"), Some(offers));
        let told = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: ")).map(str::to_owned);
        assert_eq!(peer.subprotocol(), told.as_deref());
        told
    };
    let speaks = |names: &[&str]| Server::builder().subprotocols(names.iter().copied());
    let both = ["chat", "superchat"];
    assert_eq!(chosen(speaks(&both), "chat, superchat").as_deref(), Some("chat"));
    assert_eq!(chosen(speaks(&both), "superchat, chat").as_deref(), Some("superchat"));
    assert_eq!(chosen(speaks(&both), "other, superchat").as_deref(), Some("superchat"));
    assert_eq!(chosen(speaks(&both), "Chat"), None);
    assert_eq!(chosen(speaks(&[]), "chat"), None);
    // The application's choice goes before the list.
    let choosing = speaks(&both).on_request(|_| Ok(Accept::new().subprotocol("superchat")));
    assert_eq!(chosen(choosing, "chat, superchat").as_deref(), Some("superchat"));
    let unlisted = Server::builder().on_request(|_| Ok(Accept::new().subprotocol("third")));
    assert_eq!(chosen(unlisted, "chat, third").as_deref(), Some("third"));
}

#[test]
fn a_subprotocol_that_was_not_offered_is_answered_500() {
    let server = echo(Server::builder().on_request(|_| Ok(Accept::new().subprotocol("chat"))));
    assert_eq!(ask(server.addr, Upgrade::new().head()).status, 500);
    assert_eq!(ask(server.addr, Upgrade::new().and("Sec-WebSocket-Protocol", "superchat").head()).status, 500);
    let head = accepted(server.addr, &Upgrade::new().and("Sec-WebSocket-Protocol", "chat"));
    assert!(head.contains("\r\nSec-WebSocket-Protocol: chat\r\n"), "{head}");
}

#[test]
fn the_application_adds_headers_to_its_acceptance() {
    let server = echo(Server::builder().on_request(|_| {
        let accept =
            Accept::new().header("Set-Cookie", "a=1; HttpOnly").and_then(|accept| accept.header("Set-Cookie", "b=2"));
        accept.map_err(|_| Reject::new(500))
    }));
    let head = accepted(server.addr, &Upgrade::new());
    assert!(head.contains("\r\nSet-Cookie: a=1; HttpOnly\r\nSet-Cookie: b=2\r\n"), "{head}");
}

#[test]
fn the_application_rejects_with_status_headers_and_body() {
    let server = echo(Server::builder().on_request(|request| {
        Err(match request.path() {
            "/secret" => {
                Reject::new(401).header("WWW-Authenticate", "Bearer").unwrap_or_else(|_| Reject::new(500)).text("no\n")
            }
            "/switch" => Reject::new(101),
            "/binary" => Reject::new(418).body(vec![0, 255, 13, 10]),
            _ => Reject::new(404),
        })
    }));
    let asked = |path: &str| ask(server.addr, Upgrade::new().line(format!("GET {path} HTTP/1.1")).head());
    let answer = asked("/secret");
    assert_eq!((answer.status, answer.text()), (401, "no\n"));
    assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"));
    assert_eq!(answer.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(asked("/switch").status, 500, "a refusal is never a 101");
    let answer = asked("/binary");
    assert_eq!((answer.status, answer.body.as_slice()), (418, &[0, 255, 13, 10][..]));
    let answer = asked("/nowhere");
    assert_eq!((answer.status, answer.body.len()), (404, 0));
    eventually("all are gone", || server.handle.connections() == 0);
}

// Decisions from other threads

/// A server whose handshakes are decided here.
fn deferring(config: Config) -> (common::servers::Running, crossbeam_channel::Receiver<(Request, Pending)>) {
    let (sender, pendings) = crossbeam_channel::unbounded();
    let hook = move |request: Request, pending| match request.path() {
        "/panic" => panic!("as the test wants"),
        _ => sender.send((request, pending)).expect("somebody decides"),
    };
    (echo(Server::builder().config(config).on_request_deferred(hook)), pendings)
}

#[test]
fn a_deferred_handshake_is_decided_from_another_thread() {
    let (server, pendings) = deferring(Config::default());
    let mut accepted = Client::tcp(server.addr);
    accepted.send(Upgrade::new().and("Sec-WebSocket-Protocol", "chat").head().as_bytes());
    let (request, pending) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    assert_eq!(request.addr(), accepted.stream.local_addr().expect("a socket"));
    // Others are served meanwhile.
    let mut rejected = Client::tcp(server.addr);
    rejected.send(Upgrade::new().head().as_bytes());
    let (_, other) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    other.reject(Reject::new(401).text("no\n"));
    let answer = rejected.answer();
    assert_eq!((answer.status, answer.text()), (401, "no\n"));

    pending.accept(Accept::new().subprotocol("chat").header("X-By", "a thread").expect("a header"));
    let head = accepted.head();
    assert!(head.contains(ACCEPT) && head.contains("\r\nSec-WebSocket-Protocol: chat\r\nX-By: a thread\r\n"), "{head}");
    accepted.send(&common::text("one"));
    assert_eq!(accepted.expect_frame(), Frame::text("one"));
}

#[test]
fn a_deferred_handshake_that_nobody_decides_is_answered_500() {
    let (server, pendings) = deferring(Config::default());
    let mut client = Client::tcp(server.addr);
    client.send(Upgrade::new().head().as_bytes());
    drop(pendings.recv_timeout(DEADLINE).expect("the hook is called"));
    assert_eq!(client.answer().status, 500);
}

#[test]
fn a_decision_after_the_deadline_has_no_effect() {
    let timeout = Duration::from_millis(300);
    let (server, pendings) = deferring(Config::default().handshake_timeout(timeout));
    let start = Instant::now();
    let mut late = Client::tcp(server.addr);
    late.send(Upgrade::new().head().as_bytes());
    let (_, pending) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    let answer = late.answer();
    assert_eq!(answer.status, 503);
    assert!(answer.header("Retry-After").is_some() && start.elapsed() >= timeout, "{:?}", start.elapsed());
    pending.accept(Accept::new());
    drop(late);
    eventually("it is gone", || server.handle.connections() == 0);
}

#[test]
fn a_late_decision_is_not_taken_for_another_handshakes() {
    let (server, pendings) = deferring(Config::default());
    let mut gone = Client::tcp(server.addr);
    gone.send(Upgrade::new().head().as_bytes());
    let (_, first) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    drop(gone);
    first.reject(Reject::new(403));
    eventually("the first is gone", || server.handle.connections() == 0);

    // One that ends by its deadline leaves its place to the next.
    let (server, pendings) = deferring(Config::default().handshake_timeout(Duration::from_millis(300)));
    let mut late = Client::tcp(server.addr);
    late.send(Upgrade::new().head().as_bytes());
    let (_, stale) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    assert_eq!(late.answer().status, 503);
    drop(late);
    eventually("the late one is gone", || server.handle.connections() == 0);
    let mut next = Client::tcp(server.addr);
    next.send(Upgrade::new().head().as_bytes());
    let (_, pending) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
    stale.accept(Accept::new());
    pending.reject(Reject::new(403));
    let status = next.answer().status;
    assert!(status == 403 || status == 503, "never 101: {status}"); // 503 on a machine that is very busy
}

#[test]
fn clients_that_leave_while_the_application_decides_do_no_harm() {
    let (server, pendings) = deferring(Config::default());
    for accept in [true, false] {
        for reset in [true, false] {
            let mut client = Client::tcp(server.addr);
            client.send(Upgrade::new().head().as_bytes());
            let (_, pending) = pendings.recv_timeout(DEADLINE).expect("the hook is called");
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            if accept { pending.accept(Accept::new()) } else { pending.reject(Reject::new(403)) }
        }
    }
    eventually("all are gone", || server.handle.connections() == 0);
}

// Plain HTTP on the same port

#[test]
fn plain_requests_are_answered_426_by_default() {
    let server = echo(Server::builder());
    let answer = ask(server.addr, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("Upgrade"), Some("websocket"));
    assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
    assert_eq!(answer.all("Connection").collect::<Vec<_>>(), ["close", "Upgrade"]);
    assert!(answer.text().contains("WebSocket server"));
}

#[test]
fn plain_requests_are_answered_by_the_application() {
    let server = echo(Server::builder().http(|request| match request.path() {
        "/" => Response::new(200).html("<p>hello"),
        "/large" => Response::new(200).body(vec![b'x'; 8 << 20]),
        path => Response::new(404).text(&format!("{} {path} {:?}\n", request.method(), request.query())),
    }));
    let plain = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = ask(server.addr, plain("GET /"));
    assert_eq!((answer.status, answer.text()), (200, "<p>hello"));
    assert_eq!(answer.header("Content-Type"), Some("text/html; charset=utf-8"));

    let mut client = Client::tcp(server.addr);
    client.send(plain("HEAD /").as_bytes());
    let to_head = client.answer_to_head();
    assert_eq!(to_head.head, answer.head);
    drop(client);

    let answer = ask(server.addr, plain("GET /no?where"));
    assert_eq!((answer.status, answer.text()), (404, "GET /no Some(\"where\")\n"));
    assert_eq!(ask(server.addr, "GET / HTTP/1.0\r\n\r\n").status, 200);
    assert_eq!(ask(server.addr, plain("GET /large")).body.len(), 8 << 20);
    accepted(server.addr, &Upgrade::new());
    eventually("all are gone", || server.handle.connections() == 0);
}

#[test]
fn a_plain_client_that_has_sent_its_fin_is_answered() {
    let server = echo(Server::builder().http(|_| Response::new(200).text("a page\n")));
    let mut client = Client::tcp(server.addr);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.half_close();
    assert_eq!(client.answer().status, 200);
}

// panics, the handshake's part

#[test]
fn r_04_a_panic_in_a_handshake_hook_is_answered_500_and_the_server_goes_on() {
    let builder = || {
        Server::builder().http(|request| match request.path() {
            "/panic" => panic!("as the test wants"),
            _ => Response::new(200),
        })
    };
    let hooked = builder().on_request(|request| match request.path() {
        "/panic" => panic!("as the test wants"),
        _ => Ok(Accept::new()),
    });
    let deferred = builder().on_request_deferred(|request, pending| match request.path() {
        "/panic" => panic!("as the test wants"),
        _ => pending.accept(Accept::new()),
    });
    for builder in [hooked, deferred] {
        let server = echo(builder);
        for _ in 0..20 {
            assert_eq!(ask(server.addr, Upgrade::new().line("GET /panic HTTP/1.1").head()).status, 500);
            assert_eq!(ask(server.addr, "GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 500);
            opens(server.addr);
        }
        eventually("all are gone", || server.handle.connections() == 0);
    }
}

#[test]
fn r_04_a_panic_in_the_handlers_making_is_answered_500_and_the_server_goes_on() {
    let make = |request: &Request| match request.path() {
        "/panic" => panic!("as the test wants"),
        _ => Echo,
    };
    let server = Server::builder().workers(2).serve("127.0.0.1:0", make).expect("a server");
    for _ in 0..20 {
        assert_eq!(ask(server.local_addr(), Upgrade::new().line("GET /panic HTTP/1.1").head()).status, 500);
        opens(server.local_addr());
    }
    eventually("all are gone", || server.handle().connections() == 0);
}

// clients that hang up, the handshake's part

#[test]
fn r_02_a_client_that_hangs_up_during_its_handshake_is_forgotten_at_once() {
    let long = Config::default().handshake_timeout(DEADLINE * 10).close_timeout(DEADLINE * 10);
    let (server, gate) = gated(Mode::Handler, Server::builder().config(long), |_| Ok(Accept::new()));
    let plain = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for sent in ["", "GET / HTTP/1.1\r\nHost: loc", &plain[..plain.len() - 1], plain, "junk\0"] {
        for reset in [false, true] {
            // Bytes and FIN are there together when the server looks.
            let holder = gate.hold(server.addr);
            let mut client = Client::tcp(server.addr);
            client.send(sent.as_bytes());
            if reset {
                client.reset()
            } else {
                drop(client)
            }
            gate.open();
            drop(holder);
            eventually(&format!("{sent:?} is gone"), || server.handle.connections() == 0);
        }
    }
}

#[test]
fn r_02_a_refused_client_that_has_sent_its_fin_is_forgotten_at_once() {
    let long = Config::default().handshake_timeout(DEADLINE * 10).close_timeout(DEADLINE * 10);
    let (server, gate) = gated(Mode::Handler, Server::builder().config(long), |_| Err(Reject::new(404)));
    for (status, head) in [
        (404, Upgrade::new().head()),
        (403, Upgrade::new().and("Origin", "null").head()),
        (426, Upgrade::new().without("Upgrade").head()),
        (400, "junk\0".into()),
    ] {
        let holder = gate.hold(server.addr);
        let mut client = Client::tcp(server.addr);
        client.send(head.as_bytes());
        client.half_close();
        gate.open();
        drop(holder);
        assert_eq!(client.answer().status, status);
        // Neither end has anything left to say, though the client keeps its socket.
        eventually(&format!("{status} is gone"), || server.handle.connections() == 0);
    }
}
