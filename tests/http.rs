//! Plain HTTP beside WebSocket connections: requests that follow each other on a connection, their content, and answers from
//! another thread.

mod common;

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::app::panic_quietly;
use common::http::{HttpResponse, UpgradeRequest};
use common::logged::expect_error;
use common::servers::Echo;
use common::{Client, DEADLINE, Frame, eventually};
use threadbare::{Config, EventRef, PendingResponse, Request, Response, Server, ServerBuilder, ServerHandle};

/// An echo server in one of its forms, until it is dropped.
struct Running {
    addr: SocketAddr,
    handle: ServerHandle,
    server: Option<Server>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn on_threads(builder: ServerBuilder, workers: usize) -> Running {
        let server = builder.workers(workers).serve("127.0.0.1:0", |_| Echo).expect("a server");
        Running { addr: server.local_addr(), handle: server.handle(), server: Some(server), thread: None }
    }

    fn inline(builder: ServerBuilder) -> Running {
        let (sender, started) = crossbeam_channel::bounded(1);
        let run = move || {
            let mut event_loop = builder.bind_inline("127.0.0.1:0").expect("a server");
            sender.send((event_loop.local_addr(), event_loop.handle())).expect("the test waits");
            let echo = |event: EventRef<'_>| {
                if let EventRef::Message(peer, message) = event {
                    let _ = peer.send(message); // the peer may be gone
                }
            };
            event_loop.run(echo).expect("a poll");
        };
        let thread = thread::spawn(run);
        let (addr, handle) = started.recv_timeout(DEADLINE).expect("it starts");
        Running { addr, handle, server: None, thread: Some(thread) }
    }

    /// Two workers and a reactor, one worker, and a thread of the application.
    fn in_each_form(make: impl Fn() -> ServerBuilder) -> Vec<Running> {
        common::logged::install();
        vec![Running::on_threads(make(), 2), Running::on_threads(make(), 1), Running::inline(make())]
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.server.take());
        self.handle.shutdown(DEADLINE);
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().expect("the event loop does not panic");
        }
    }
}

/// Answers with what the request was.
fn mirror(request: &Request) -> Response {
    let (method, target, body) = (request.method(), request.target(), String::from_utf8_lossy(request.body()));
    Response::new(200).text(&format!("{method} {target} {body}"))
}

fn mirrors() -> Vec<Running> {
    Running::in_each_form(|| Server::builder().http(mirror))
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A request with this content and these header lines.
fn post(lines: &str, content: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{content}")
}

fn expect_text(client: &mut Client, text: &str) {
    let response = client.next_response();
    assert_eq!((response.status, response.text()), (200, text));
    assert_eq!(response.header("Connection"), None, "it stays open");
}

fn expect_echo(client: &mut Client, text: &str) {
    client.send(&common::text(text));
    assert_eq!(client.expect_frame(), Frame::text(text));
}

/// Asserts a complete response with `Connection: close`, and that FIN follows.
fn expect_last(client: &mut Client, status: u16) -> HttpResponse {
    let response = client.response();
    assert_eq!(response.status, status, "{}", response.text());
    response
}

// Connections that stay open

#[test]
fn requests_follow_each_other_on_a_connection_until_the_client_asks_for_its_end() {
    for server in mirrors() {
        let mut client = Client::tcp(server.addr);
        for number in 0..5 {
            client.send(get(&format!("/{number}")).as_bytes());
            expect_text(&mut client, &format!("GET /{number} "));
            assert_eq!(server.handle.connections(), 1, "it counts");
        }
        client.send(b"\r\nGET /last HTTP/1.1\r\nHost: localhost\r\nConnection: Close\r\n\r\n");
        assert_eq!(expect_last(&mut client, 200).text(), "GET /last ");
        let mut old = Client::tcp(server.addr);
        old.send(b"GET /old HTTP/1.0\r\n\r\n");
        assert_eq!(expect_last(&mut old, 200).text(), "GET /old ");
        drop((client, old));
        eventually("all connections are removed", || server.handle.connections() == 0);
    }
}

#[test]
fn requests_that_come_together_are_answered_in_their_order() {
    for server in mirrors() {
        // More than are answered in one iteration of the event loop, and more than one read takes.
        for count in [2, 100, 900] {
            let all: String = (0..count).map(|number| get(&format!("/{number}"))).collect();
            let mut client = Client::tcp(server.addr);
            client.send(all.as_bytes());
            for number in 0..count {
                expect_text(&mut client, &format!("GET /{number} "));
            }
            // The connection sleeps, and wakes again.
            client.send(get("/again").as_bytes());
            expect_text(&mut client, "GET /again ");
        }
    }
}

#[test]
fn requests_are_found_wherever_the_stream_is_cut() {
    let stream = [
        get("/1"),
        post("Content-Length: 3\r\n", "abc"),
        post("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n"),
    ]
    .concat()
    .into_bytes();
    for server in mirrors() {
        for step in [1, 7, 40] {
            let mut client = Client::tcp(server.addr);
            for part in stream.chunks(step) {
                client.send(part);
            }
            for text in ["GET /1 ", "POST /p abc", "POST /p x"] {
                expect_text(&mut client, text);
            }
        }
        for cut in 0..stream.len() {
            let mut client = Client::tcp(server.addr);
            client.send(&stream[..cut]);
            client.send(&stream[cut..]);
            for text in ["GET /1 ", "POST /p abc", "POST /p x"] {
                expect_text(&mut client, text);
            }
        }
    }
}

#[test]
fn an_opening_handshake_may_follow_plain_requests() {
    for server in mirrors() {
        let upgrade = UpgradeRequest::new().head();
        let mut client = Client::tcp(server.addr);
        client.send(get("/1").as_bytes());
        expect_text(&mut client, "GET /1 ");
        client.send(upgrade.as_bytes());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        expect_echo(&mut client, "hello");
        // All in one write, with the first frame.
        let mut client = Client::tcp(server.addr);
        let together = [get("/1"), get("/2"), upgrade].concat();
        client.send(&[together.as_bytes(), &common::text("first")].concat());
        expect_text(&mut client, "GET /1 ");
        expect_text(&mut client, "GET /2 ");
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(client.expect_frame(), Frame::text("first"));
        expect_echo(&mut client, "second");
    }
}

#[test]
fn t_24_a_connection_ends_behind_its_thousandth_request() {
    for server in mirrors() {
        let mut client = Client::tcp(server.addr);
        for round in 0..10 {
            client.send(get("/").repeat(100).as_bytes());
            for _ in 0..if round == 9 { 99 } else { 100 } {
                expect_text(&mut client, "GET / ");
            }
        }
        expect_last(&mut client, 200);
    }
}

#[test]
fn t_24_an_idle_connection_is_closed_without_an_answer_and_one_in_use_stays() {
    let timeout = Duration::from_secs(2);
    let config = || Config::default().handshake_timeout(timeout).max_connections(2);
    let servers = Running::in_each_form(|| Server::builder().config(config()).http(mirror));
    let each = |server: &Running| {
        let start = Instant::now();
        let (mut used, mut idle) = (Client::tcp(server.addr), Client::tcp(server.addr));
        for client in [&mut used, &mut idle] {
            client.send(get("/first").as_bytes());
            expect_text(client, "GET /first ");
        }
        let mut turned_away = Client::tcp(server.addr);
        turned_away.send(get("/").as_bytes());
        expect_last(&mut turned_away, 503);
        while start.elapsed() < timeout * 3 / 2 {
            used.send(get("/used").as_bytes());
            expect_text(&mut used, "GET /used ");
            thread::park_timeout(timeout / 50); // the pace of the client
        }
        assert!(idle.read_to_end().is_empty(), "nobody waits for an answer");
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        used.send(get("/used").as_bytes());
        expect_text(&mut used, "GET /used ");
        // One whose request has begun has the whole time for it, and is answered.
        used.send(b"GET / HTTP/1.1\r\nHost: lo");
        expect_last(&mut used, 408);
    };
    thread::scope(|scope| {
        for server in &servers {
            scope.spawn(|| each(server));
        }
    });
}

#[test]
fn a_server_that_accepts_no_more_ends_its_connections_behind_the_next_response() {
    for server in mirrors() {
        let (mut idle, mut busy) = (Client::tcp(server.addr), Client::tcp(server.addr));
        for client in [&mut idle, &mut busy] {
            client.send(get("/").as_bytes());
            expect_text(client, "GET / ");
        }
        busy.send(post("Content-Length: 2\r\n", "h").as_bytes());
        eventually("the content has begun", || server.handle.memory() > 0);
        let mut socket = Client::open(server.addr);
        server.handle.stop_accepting();
        assert!(idle.read_to_end().is_empty());
        busy.send(b"i");
        assert_eq!(busy.next_response().text(), "POST /p hi");
        assert!(busy.read_to_end().is_empty(), "it ends behind the response");
        expect_echo(&mut socket, "it goes on");
    }
}

#[test]
fn a_server_that_stops_ends_its_idle_connections() {
    for server in mirrors() {
        let mut idle = Client::tcp(server.addr);
        idle.send(get("/").as_bytes());
        expect_text(&mut idle, "GET / ");
        let mut partial = Client::tcp(server.addr);
        partial.send(get("/").as_bytes());
        expect_text(&mut partial, "GET / ");
        partial.send(post("Content-Length: 5\r\n", "hel").as_bytes());
        eventually("the content is there", || server.handle.memory() > 0);
        drop(server);
        assert!(idle.read_to_end().is_empty());
        expect_last(&mut partial, 503);
    }
}

// Content

#[test]
fn every_method_and_its_content_reach_the_hook() {
    for server in mirrors() {
        let mut client = Client::tcp(server.addr);
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "BREW"] {
            let head = format!("{method} /m HTTP/1.1\r\nHost: localhost\r\n");
            client.send(format!("{head}\r\n").as_bytes());
            expect_text(&mut client, &format!("{method} /m "));
            client.send(format!("{head}Content-Length: 2, 2\r\n\r\nhi").as_bytes());
            expect_text(&mut client, &format!("{method} /m hi"));
            let chunks = "2;a=b\r\nhi\r\n003\r\n yo\r\n0\r\nX-Trailer: t\r\n\r\n";
            client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes());
            expect_text(&mut client, &format!("{method} /m hi yo"));
        }
        client.send(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
        expect_text(&mut client, "OPTIONS * ");
        client.send(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        expect_last(&mut client, 501);
    }
}

#[test]
fn no_answer_to_head_has_a_body() {
    let hook = |request: &Request| match request.path() {
        "/panic" => panic_quietly(),
        "/invalid" => Response::new(200).header("a b", "c").text("never"),
        _ => mirror(request),
    };
    let _panics = expect_error("a handshake hook panicked");
    let _invalid = expect_error("a response is answered with 500");
    let config = || Config::default().handshake_timeout(Duration::from_secs(1));
    for server in Running::in_each_form(|| Server::builder().config(config()).http(hook)) {
        let head = |target: &str, lines: &str| format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        let mut client = Client::tcp(server.addr);
        for (target, status) in [("/", 200), ("/invalid", 500), ("/x", 200)] {
            client.send(head(target, "").as_bytes());
            assert_eq!(client.next_response_to_head().status, status);
        }
        client.send(get("/").as_bytes());
        expect_text(&mut client, "GET / ");
        for (status, request) in [
            (500, head("/panic", "")),
            (413, head("/", "Content-Length: 99999999\r\n")),
            (417, head("/", "Expect: more\r\n")),
            (408, head("/", "Content-Length: 9\r\n")),
        ] {
            let mut client = Client::tcp(server.addr);
            client.send(request.as_bytes());
            assert_eq!(client.response_to_head().status, status, "{request}");
        }
    }
}

#[test]
fn t_23_content_over_the_limit_is_answered_413() {
    let config = || Config::default().max_body_size(10);
    for server in Running::in_each_form(|| Server::builder().config(config()).http(mirror)) {
        let mut client = Client::tcp(server.addr);
        client.send(post("Content-Length: 10\r\n", "0123456789").as_bytes());
        expect_text(&mut client, "POST /p 0123456789");
        for request in [
            post("Content-Length: 11\r\n", ""),
            post("Content-Length: 11\r\n", "0123456789a"),
            post("Content-Length: 18446744073709551616\r\n", ""),
            post("Expect: 100-continue\r\nContent-Length: 11\r\n", ""),
            post("Transfer-Encoding: chunked\r\n", "b\r\n"),
            post("Transfer-Encoding: chunked\r\n", "a\r\n0123456789\r\n1\r\n"),
            post("Transfer-Encoding: chunked\r\n", "ffffffffffffffffffff"),
        ] {
            let mut client = Client::tcp(server.addr);
            client.send(request.as_bytes());
            let refusal = expect_last(&mut client, 413);
            assert!(refusal.text().contains("more than 10 bytes"), "{}", refusal.text());
        }
        let mut framing = Client::tcp(server.addr);
        framing.send(post("Transfer-Encoding: chunked\r\n", &format!("1;{}", "x".repeat(20_000))).as_bytes());
        expect_last(&mut framing, 431);
    }
}

#[test]
fn content_is_asked_for_where_the_client_waits_for_that() {
    for server in mirrors() {
        let mut client = Client::tcp(server.addr);
        for lines in ["Expect: 100-continue\r\nContent-Length: 2\r\n", "expect: 100-Continue\r\nContent-Length: 2\r\n"]
        {
            client.send(post(lines, "").as_bytes());
            assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
            client.send(b"hi");
            expect_text(&mut client, "POST /p hi");
        }
        // It did not wait, or has no content.
        client.send(post("Expect: 100-continue\r\nContent-Length: 2\r\n", "hi").as_bytes());
        expect_text(&mut client, "POST /p hi");
        client.send(post("Expect: 100-continue\r\n", "").as_bytes());
        expect_text(&mut client, "POST /p ");
        client.send(post("Expect: 100-continue, x\r\nContent-Length: 2\r\n", "hi").as_bytes());
        expect_last(&mut client, 417);
        let mut old = Client::tcp(server.addr);
        old.send(b"POST /o HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
        old.send(b"hi");
        assert_eq!(expect_last(&mut old, 200).text(), "POST /o hi");
    }
}

#[test]
fn h_02_a_request_that_two_recipients_could_read_differently_is_refused_and_closed() {
    let second = get("/second");
    for server in mirrors() {
        for (status, lines, content) in [
            (400, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            (400, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
            (400, "Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
            (400, "Content-Length: 5, 6\r\n", "hello"),
            (400, "Content-Length: +5\r\n", "hello"),
            (400, "Transfer-Encoding: chunked, identity\r\n", ""),
            (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            (501, "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            (400, "Transfer-Encoding: chunked\r\n", "5\nhello"),
            (400, "Transfer-Encoding: chunked\r\n", "5;a\nb\r\nhello"),
            (400, "Transfer-Encoding: chunked\r\n", "5\r\nhello0\r\n\r\n"),
            (400, "Transfer-Encoding: chunked\r\n", "0\r\nX: y\n\r\n"),
            (400, "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ] {
            let mut client = Client::tcp(server.addr);
            client.send((post(lines, content) + &second).as_bytes());
            expect_last(&mut client, status);
        }
        // A request in the content of another is content.
        let mut client = Client::tcp(server.addr);
        client.send((post(&format!("Content-Length: {}\r\n", second.len()), &second) + &get("/third")).as_bytes());
        expect_text(&mut client, &format!("POST /p {second}"));
        expect_text(&mut client, "GET /third ");
    }
}

#[test]
fn t_23_content_that_comes_too_slowly_is_answered_408() {
    let timeout = Duration::from_secs(1);
    let config = || Config::default().handshake_timeout(timeout).close_timeout(timeout);
    for server in Running::in_each_form(|| Server::builder().config(config()).http(mirror)) {
        for (lines, content) in [
            ("Content-Length: 1000\r\n", "x"),
            ("Transfer-Encoding: chunked\r\n", "400\r\n"),
            ("Expect: 100-continue\r\nContent-Length: 1000\r\n", ""),
        ] {
            let start = Instant::now();
            let mut client = Client::tcp(server.addr);
            client.send(post(lines, content).as_bytes());
            // A client that does not wait for the interim response need not be sent one.
            if lines.starts_with("Expect") {
                assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
            }
            let mut dripping = client.stream.try_clone().expect("a socket");
            let drip = thread::spawn(move || {
                // A byte now and then does not help.
                while start.elapsed() < DEADLINE && std::io::Write::write_all(&mut dripping, b"0").is_ok() {
                    thread::park_timeout(timeout / 10);
                }
            });
            assert_eq!(client.next_response().status, 408);
            assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
            client.wait_for_end();
            drop(client);
            drip.join().expect("no panic");
        }
        eventually("all connections are removed", || server.handle.connections() == 0);
    }
}

#[test]
fn t_23_content_is_counted_and_refused_with_503_where_there_is_no_memory_for_it() {
    let config = || Config::default().max_message_size(1).max_write_buffer_size(1).max_memory(200 << 10);
    for server in Running::in_each_form(|| Server::builder().config(config()).http(mirror)) {
        let content = "x".repeat(60 << 10);
        let begin = || {
            let mut client = Client::tcp(server.addr);
            client.send(post("Content-Length: 61441\r\n", &content).as_bytes());
            client
        };
        let first = begin();
        eventually("the content is counted", || server.handle.memory() > content.len());
        let all = [first].into_iter().chain((0..4).map(|_| begin())).collect::<Vec<_>>();
        all.iter().for_each(|client| client.stream.set_nonblocking(true).expect("a socket"));
        eventually("one of them is refused", || all.iter().any(|client| client.stream.peek(&mut [0]).is_ok()));
        drop(all);
        eventually("nothing is counted", || server.handle.memory() == 0);
        let mut client = Client::tcp(server.addr);
        client.send(get("/").as_bytes());
        expect_text(&mut client, "GET / ");
        // An idle connection takes no memory of its own.
        assert_eq!(server.handle.memory(), 0);
    }
}

// Answers from another thread, and the server's handle

#[test]
fn requests_are_answered_from_another_thread_in_their_order() {
    for form in 0..3 {
        common::logged::install();
        let (sender, requests) = crossbeam_channel::unbounded::<(Request, PendingResponse)>();
        let builder = Server::builder().http_deferred(move |request, pending| {
            let _ = sender.send((request, pending)); // the test has ended
        });
        let server = match form {
            0 => Running::on_threads(builder, 2),
            1 => Running::on_threads(builder, 1),
            _ => Running::inline(builder),
        };
        let mut client = Client::tcp(server.addr);
        let all: String = (0..50).map(|number| get(&format!("/{number}"))).collect();
        client.send((all + &post("Content-Length: 2\r\n", "hi") + &UpgradeRequest::new().head()).as_bytes());
        for number in 0..50 {
            let (request, pending) = requests.recv_timeout(DEADLINE).expect("the hook is called");
            assert_eq!(request.target(), format!("/{number}"));
            assert!(requests.try_recv().is_err(), "the next waits for the response");
            assert_eq!(pending.server().local_addr(), server.addr);
            pending.respond(mirror(&request));
            expect_text(&mut client, &format!("GET /{number} "));
        }
        let (request, pending) = requests.recv_timeout(DEADLINE).expect("the hook is called");
        thread::spawn(move || pending.respond(mirror(&request)));
        expect_text(&mut client, "POST /p hi");
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        expect_echo(&mut client, "hello");
        // A client that has sent FIN still gets its answer.
        let mut client = Client::tcp(server.addr);
        client.send(get("/fin").as_bytes());
        client.shutdown_write();
        let (request, pending) = requests.recv_timeout(DEADLINE).expect("the hook is called");
        pending.respond(mirror(&request));
        expect_text(&mut client, "GET /fin ");
        assert!(client.read_to_end().is_empty());
        // One that has gone is removed, and the answer that comes later goes nowhere.
        let mut gone = Client::tcp(server.addr);
        gone.send(get("/gone").as_bytes());
        let (_, pending) = requests.recv_timeout(DEADLINE).expect("the hook is called");
        gone.reset();
        eventually("it is removed", || server.handle.connections() == 1);
        pending.respond(Response::new(200));
        // Dropped, the answer is 500, and the connection goes on.
        let mut client = Client::tcp(server.addr);
        client.send(get("/dropped").as_bytes());
        drop(requests.recv_timeout(DEADLINE).expect("the hook is called"));
        assert_eq!(client.next_response().status, 500);
        client.send(get("/next").as_bytes());
        let (request, pending) = requests.recv_timeout(DEADLINE).expect("the hook is called");
        pending.respond(mirror(&request));
        expect_text(&mut client, "GET /next ");
    }
}

#[test]
fn a_deferred_answer_that_does_not_come_is_a_503() {
    let _expected = expect_error("a handshake hook panicked");
    let config = || Config::default().handshake_timeout(Duration::from_secs(1));
    let make = || {
        let kept = std::sync::Mutex::new(Vec::new());
        Server::builder().config(config()).http_deferred(move |request, pending| match request.path() {
            "/panic" => panic_quietly(),
            _ => kept.lock().expect("no panic").push(pending),
        })
    };
    for server in Running::in_each_form(make) {
        let mut client = Client::tcp(server.addr);
        client.send(get("/").as_bytes());
        assert!(expect_last(&mut client, 503).header("Retry-After").is_some());
        let mut client = Client::tcp(server.addr);
        client.send(get("/panic").as_bytes());
        expect_last(&mut client, 500);
    }
}

#[test]
fn the_hook_reaches_the_server() {
    let hook = |request: &Request, server: &ServerHandle| match request.method() {
        "POST" => {
            server.broadcast(String::from_utf8_lossy(request.body()).into_owned());
            Response::new(204)
        }
        _ => Response::new(200).json(format!("{{\"connections\":{}}}", server.connections())),
    };
    for server in Running::in_each_form(|| Server::builder().http_with_server(hook)) {
        let mut socket = Client::open(server.addr);
        expect_echo(&mut socket, "open");
        let mut client = Client::tcp(server.addr);
        client.send(get("/").as_bytes());
        let response = client.next_response();
        assert_eq!(response.text(), r#"{"connections":2}"#);
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        client.send(post("Content-Length: 4\r\n", "news").as_bytes());
        assert_eq!(client.next_response().status, 204);
        assert_eq!(socket.expect_frame(), Frame::text("news"));
        client.send(get("/").as_bytes());
        assert_eq!(client.next_response().status, 200);
    }
}
