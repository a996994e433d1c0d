//! Servers behind proxies: the PROXY protocol, `X-Forwarded-For` and `Forwarded`.

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::app::panic_quietly;
use common::logged::expect_error;
use common::{Client, DEADLINE, Frame, close, eventually, request, text};
use crossbeam_channel::{Receiver, Sender};
use threadbare::{
    Accept, Config, Event, EventRef, ForwardedHeader, Handler, MessageRef, PeerAddr, Request, Response, Server,
    ServerBuilder, ServerHandle, Socket, Trusted,
};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n";

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x9c\x40\x01\xbb";

/// The client of both.
const CLIENT: &str = "192.0.2.1:40000";

/// What a proxy sends for its own health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Where the server calls the application, and on how many threads.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Serve(usize),
    Bind(usize),
    Inline,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Serve(1), Kind::Serve(2), Kind::Bind(1), Kind::Bind(2), Kind::Inline];
}

/// An echo server that tells which connections were opened.
struct Echo {
    addr: SocketAddr,
    handle: ServerHandle,
    opened: Receiver<(PeerAddr, Request)>,
}

impl Echo {
    fn start(kind: Kind, builder: ServerBuilder) -> Echo {
        Echo::start_on(kind, builder, "127.0.0.1:0")
    }

    fn start_on(kind: Kind, builder: ServerBuilder, addr: &'static str) -> Echo {
        common::logged::install();
        let (to_test, opened) = crossbeam_channel::unbounded();
        let handle = match kind {
            Kind::Serve(workers) => {
                let make = move |request: &Request| EchoHandler(request.clone(), to_test.clone());
                let server = builder.workers(workers).serve(addr, make).expect("a server");
                let handle = server.handle();
                thread::spawn(move || server.join());
                handle
            }
            Kind::Bind(workers) => {
                let server = builder.workers(workers).bind(addr).expect("a server");
                let handle = server.handle();
                thread::spawn(move || {
                    for event in &server {
                        match event {
                            Event::Open(peer, request) => drop(to_test.send((peer.addr(), request))),
                            Event::Message(peer, message) => drop(peer.send(message)),
                            _ => {}
                        }
                    }
                });
                handle
            }
            Kind::Inline => {
                let mut event_loop = builder.bind_inline(addr).expect("a server");
                let handle = event_loop.handle();
                thread::spawn(move || {
                    let run = event_loop.run(|event| match event {
                        EventRef::Open(peer, request) => drop(to_test.send((peer.addr(), request.clone()))),
                        EventRef::Message(peer, message) => drop(peer.send(message)),
                        _ => {}
                    });
                    run.expect("it runs");
                });
                handle
            }
        };
        Echo { addr: handle.local_addr(), handle, opened }
    }

    /// Connects, sends these bytes before the request, and completes the opening handshake.
    fn open(&self, before: &[u8], headers: &str) -> Client {
        let mut client = self.send(before, headers);
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// Connects, and sends these bytes and the request.
    fn send(&self, before: &[u8], headers: &str) -> Client {
        let mut client = Client::tcp(self.addr);
        client.send(&[before, request("/", headers).as_bytes()].concat());
        client
    }

    /// The status of the response to such a request.
    fn status(&self, before: &[u8], headers: &str) -> u16 {
        self.send(before, headers).status()
    }

    /// Waits until a connection is accepted again, where a client may have one, and closes it.
    fn expect_room(&self, after: &str, before: &[u8], headers: &str) {
        // A client that reset its connection may be accepted only now.
        let start = Instant::now();
        let mut next = loop {
            assert!(start.elapsed() < DEADLINE, "timed out: {after}");
            let mut client = self.send(before, headers);
            if client.head().starts_with("HTTP/1.1 101 ") {
                break client;
            }
        };
        expect_echo(&mut next);
        next.send(&close(1000));
        next.expect_close(1000);
        eventually(after, || self.handle.connections() == 0);
    }

    /// The addresses of the connection that was opened last: of the peer, of the request's client, of the socket.
    fn addrs(&self) -> [PeerAddr; 3] {
        let (peer, request) = self.opened.recv_timeout(DEADLINE).expect("a connection is opened");
        assert_eq!(request.addr(), request.client_addr());
        [peer, request.client_addr().clone(), request.socket_addr().clone()]
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.handle.shutdown(Duration::from_secs(1));
    }
}

struct EchoHandler(Request, Sender<(PeerAddr, Request)>);

impl Handler for EchoHandler {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = self.1.send((socket.addr(), self.0.clone())); // the test may be over
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        if message.as_text() == Some("panic") {
            panic_quietly();
        }
        socket.send(message);
    }
}

fn expect_echo(client: &mut Client) {
    client.send(&text("echo"));
    assert_eq!(client.frame(), Some(Frame::text("echo")));
}

fn local_addr(client: &Client) -> PeerAddr {
    client.stream.local_addr().expect("a socket").into()
}

fn parsed(addr: &str) -> PeerAddr {
    addr.parse::<SocketAddr>().expect("an address").into()
}

/// A server behind a proxy on this machine, which sends PROXY headers.
fn behind_load_balancer() -> ServerBuilder {
    Server::builder().proxy_protocol(["127.0.0.1"])
}

/// A server behind a proxy on this machine, which writes this header.
fn behind(header: ForwardedHeader) -> ServerBuilder {
    Server::builder().trusted_proxies(header, ["127.0.0.1", "10.0.0.0/8"])
}

/// Asserts that the server ends the connection, and that it has sent nothing.
fn expect_no_answer(client: &mut Client) {
    match client.try_read() {
        Ok(size) => assert_eq!(size, 0, "it answers: {:?}", client.read_to_end()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_proxy_header_tells_the_client_of_every_kind_of_server() {
    for kind in Kind::ALL {
        let server = Echo::start(kind, behind_load_balancer());
        for header in [V1, V2, b"PROXY TCP6 ::ffff:192.0.2.1 ::2 40000 443\r\n"] {
            let mut client = server.open(header, "");
            expect_echo(&mut client);
            assert_eq!(server.addrs(), [parsed(CLIENT), parsed(CLIENT), local_addr(&client)], "{kind:?}");
        }
        let client = server.open(b"PROXY TCP6 2001:db8::1 ::2 7 443\r\n", "");
        assert_eq!(server.addrs()[0], parsed("[2001:db8::1]:7"), "{kind:?}");
        drop(client);
    }
}

#[test]
fn a_forwarded_header_tells_the_client_of_every_kind_of_server() {
    for kind in Kind::ALL {
        let server = Echo::start(kind, behind(ForwardedHeader::XForwardedFor));
        // The other header is the client's own.
        let headers = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.1\r\nForwarded: for=6.6.6.6\r\n";
        let mut client = server.open(b"", headers);
        expect_echo(&mut client);
        assert_eq!(server.addrs(), [parsed("192.0.2.1:0"), parsed("192.0.2.1:0"), local_addr(&client)], "{kind:?}");

        let server = Echo::start(kind, behind(ForwardedHeader::Forwarded));
        let headers = "Forwarded: for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https\r\nX-Forwarded-For: 6.6.6.6\r\n";
        let client = server.open(b"", headers);
        let wanted = parsed("[2001:db8::1]:4711");
        assert_eq!(server.addrs(), [wanted.clone(), wanted, local_addr(&client)], "{kind:?}");
    }
}

#[test]
fn without_a_header_from_the_proxy_the_proxy_is_the_client() {
    let server = Echo::start(Kind::Bind(2), behind(ForwardedHeader::XForwardedFor));
    let client = server.open(b"", "");
    assert_eq!(server.addrs(), [local_addr(&client), local_addr(&client), local_addr(&client)]);
    // It hides the client.
    let client = server.open(b"", "X-Forwarded-For: 192.0.2.1, _hidden\r\n");
    assert_eq!(server.addrs(), [PeerAddr::Unknown, PeerAddr::Unknown, local_addr(&client)]);
}

#[test]
fn a_proxy_header_without_an_address_keeps_the_sockets() {
    for kind in Kind::ALL {
        let server = Echo::start(kind, behind_load_balancer());
        for header in [LOCAL, b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0"] {
            let mut client = server.open(header, "");
            expect_echo(&mut client);
            assert_eq!(server.addrs(), [local_addr(&client), local_addr(&client), local_addr(&client)]);
        }
    }
}

#[test]
fn a_proxy_header_in_front_of_a_proxy_that_forwards_names_that_proxy() {
    let builder = behind(ForwardedHeader::XForwardedFor).proxy_protocol(["127.0.0.1"]);
    let server = Echo::start(Kind::Serve(2), builder);
    // The balancer passes on the connection of 10.0.0.7, which has the request from 198.51.100.1.
    let _client = server.open(b"PROXY TCP4 10.0.0.7 192.0.2.2 1 443\r\n", "X-Forwarded-For: 198.51.100.1\r\n");
    assert_eq!(server.addrs()[0], parsed("198.51.100.1:0"));
    // Whom the balancer names is no proxy, and can say what it likes.
    let _client = server.open(V1, "X-Forwarded-For: 198.51.100.1\r\n");
    assert_eq!(server.addrs()[0], parsed(CLIENT));
}

#[test]
fn a_proxy_is_known_by_its_ipv4_address_on_a_socket_for_both() {
    let builder = Server::builder().proxy_protocol(["127.0.0.1"]);
    let server = Echo::start_on(Kind::Serve(2), builder, "[::]:0");
    let addr = (Ipv4Addr::LOCALHOST, server.addr.port()).into();
    let mut client = Client::tcp(addr);
    client.send(&[V2, request("/", "").as_bytes()].concat());
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(server.addrs()[0], parsed(CLIENT));
    // The other family is not in the list.
    let mut client = Client::tcp((Ipv6Addr::LOCALHOST, server.addr.port()).into());
    client.send(request("/", "").as_bytes());
    assert!(client.head().starts_with("HTTP/1.1 101 "));
}

/// H-01: wherever the bytes are cut, in two pieces that the server reads one by one where it is quick enough.
#[test]
fn h_01_a_proxy_header_a_request_and_a_frame_are_cut_anywhere() {
    for kind in [Kind::Serve(1), Kind::Bind(2)] {
        let server = Echo::start(kind, behind_load_balancer());
        for header in [V1, V2] {
            let bytes = [header, request("/", "").as_bytes(), &text("first")].concat();
            for cut in 1..bytes.len() {
                let mut client = Client::tcp(server.addr);
                client.send(&bytes[..cut]);
                client.send(&bytes[cut..]);
                assert!(client.head().starts_with("HTTP/1.1 101 "), "cut at {cut}");
                assert_eq!(client.frame(), Some(Frame::text("first")), "cut at {cut}");
                assert_eq!(server.addrs()[0], parsed(CLIENT));
            }
            let mut client = Client::tcp(server.addr);
            for byte in &bytes {
                client.send(&[*byte]);
            }
            assert!(client.head().starts_with("HTTP/1.1 101 "), "byte by byte");
            assert_eq!(client.frame(), Some(Frame::text("first")));
            assert_eq!(server.addrs()[0], parsed(CLIENT));
        }
    }
}

#[test]
fn t_26_a_proxy_header_of_a_peer_that_is_not_listed_is_no_request() {
    for kind in Kind::ALL {
        for builder in [Server::builder(), Server::builder().proxy_protocol(["192.0.2.0/24", "::1", "unix:"])] {
            let server = Echo::start(kind, builder);
            for header in [V1, V2, LOCAL] {
                assert_eq!(server.status(header, ""), 400, "{kind:?}");
            }
            expect_echo(&mut server.open(b"", ""));
        }
    }
}

#[test]
fn t_26_a_forwarded_header_of_a_peer_that_is_not_listed_is_not_believed() {
    for kind in Kind::ALL {
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            let server = Echo::start(kind, Server::builder().trusted_proxies(header, ["192.0.2.0/24"]));
            // A malformed one is not even read.
            let client = server.open(b"", "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6, for=\"\r\n");
            assert_eq!(server.addrs(), [local_addr(&client), local_addr(&client), local_addr(&client)], "{kind:?}");
        }
    }
}

#[test]
fn t_26_a_client_can_not_swallow_what_its_proxy_appends_to_forwarded() {
    let server = Echo::start(Kind::Serve(2), behind(ForwardedHeader::Forwarded));
    assert_eq!(server.status(b"", "Forwarded: for=\"6.6.6.6, for=192.0.2.1\r\n"), 400);
    eventually("the connection is removed", || server.handle.connections() == 0);
}

#[test]
fn t_27_a_wrong_proxy_header_closes_without_an_answer() {
    let _expected = expect_error("closed, because of its PROXY header");
    for kind in Kind::ALL {
        let server = Echo::start(kind, behind_load_balancer());
        let cut = &V2[..14];
        for wrong in [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            request("/", "").into_bytes(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 65536\r\n".to_vec(),
            [b"PROXY UNKNOWN ", &[b'x'; 200][..], b"\r\n"].concat(),
            [cut, &[0x10, 1]].concat(),
            [cut, &[0xff, 0xff]].concat(),
            [&V2[..12], &[0x31, 0x11, 0, 12]].concat(),
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), // a ClientHello of TLS
        ] {
            let mut client = Client::tcp(server.addr);
            client.send(&wrong);
            expect_no_answer(&mut client);
        }
        eventually("the connections are removed", || server.handle.connections() == 0);
        expect_echo(&mut server.open(V2, ""));
    }
}

#[test]
fn t_27_a_proxy_header_as_large_as_allowed_is_taken() {
    let server = Echo::start(Kind::Serve(2), behind_load_balancer());
    let large = [&V2[..14], &[0x10, 0], &V2[16..], &[0; 4096 - 12]].concat();
    expect_echo(&mut server.open(&large, ""));
    assert_eq!(server.addrs()[0], parsed(CLIENT));
}

#[test]
fn t_28_a_proxy_header_that_is_late_closes_at_the_handshake_timeout_without_an_answer() {
    for kind in Kind::ALL {
        let timeout = Duration::from_millis(300);
        let config = Config::default().handshake_timeout(timeout);
        let server = Echo::start(kind, behind_load_balancer().config(config));
        let start = Instant::now();
        let mut silent = Client::tcp(server.addr);
        let mut slow: Vec<Client> = [&V1[..1], &V1[..V1.len() - 1], &V2[..V2.len() - 1]]
            .map(|part| {
                let mut client = Client::tcp(server.addr);
                client.send(part);
                client
            })
            .into();
        for client in slow.iter_mut().chain([&mut silent]) {
            expect_no_answer(client);
            let took = start.elapsed();
            // The wheel's ticks.
            assert!(took + Duration::from_millis(32) >= timeout, "closed after {took:?}");
        }
        eventually("the connections are removed", || server.handle.connections() == 0);
    }
}

#[test]
fn t_28_the_deadline_of_the_handshake_is_that_of_header_and_request_together() {
    let config = Config::default().handshake_timeout(Duration::from_millis(300));
    let server = Echo::start(Kind::Serve(2), behind_load_balancer().config(config));
    let mut client = Client::tcp(server.addr);
    client.send(V2);
    assert_eq!(client.status(), 408, "the request is late, and its proxy can be told so");
}

#[test]
fn proxies_that_are_no_addresses_are_refused_when_the_server_is_built() {
    for (builder, name) in [
        (Server::builder().proxy_protocol(["10.0.0.1/8"]), "proxy_protocol"),
        (Server::builder().trusted_proxies(ForwardedHeader::Forwarded, ["10.0.0.1/8"]), "trusted_proxies"),
    ] {
        let error = common::chain(&builder.bind("127.0.0.1:0").expect_err("a host with a prefix"));
        let wanted = format!(
            "{name} is 10.0.0.1/8, but must be an IP address, a network such as 10.0.0.0/8 or fd00::/8 without bits \
             beyond its prefix, or unix:"
        );
        assert!(error.contains(&wanted), "{error}");
    }
    assert!(Server::builder().proxy_protocol(Trusted::default()).bind_inline("127.0.0.1:0").is_ok());
}

/// T-14: a proxy may have as many connections as its clients have, and each of these as many as it is allowed.
#[test]
fn t_14_connections_through_a_proxy_count_for_the_client() {
    for kind in Kind::ALL {
        let config = Config::default().max_connections_per_address(1);
        let server = Echo::start(kind, behind_load_balancer().config(config.clone()));
        // These have not said whose they are.
        let pending: Vec<_> = (0..3).map(|_| Client::tcp(server.addr)).collect();
        eventually("they are accepted", || server.handle.connections() == 3);
        let mut first = server.open(V1, "");
        // At once, before the request.
        let mut second = Client::tcp(server.addr);
        second.send(V2);
        assert_eq!(second.status(), 503, "{kind:?}");
        let mut other = server.open(b"PROXY TCP4 192.0.2.7 192.0.2.2 40000 443\r\n", "");
        expect_echo(&mut first);
        expect_echo(&mut other);
        drop((first, pending));
        eventually("it left", || server.send(V1, "").head().starts_with("HTTP/1.1 101 "));

        let server = Echo::start(kind, behind(ForwardedHeader::XForwardedFor).config(config));
        let pending: Vec<_> = (0..3).map(|_| Client::tcp(server.addr)).collect();
        eventually("they are accepted", || server.handle.connections() == 3);
        let mut first = server.open(b"", "X-Forwarded-For: 192.0.2.1\r\n");
        assert_eq!(server.status(b"", "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n"), 503, "{kind:?}");
        let mut other = server.open(b"", "X-Forwarded-For: 192.0.2.7\r\n");
        expect_echo(&mut first);
        expect_echo(&mut other);
        drop((first, pending));
        eventually("it left", || {
            server.send(b"", "X-Forwarded-For: 192.0.2.1\r\n").head().starts_with("HTTP/1.1 101 ")
        });
    }
}

/// What a client does to end its connection, after the bytes that its proxy sends first.
type End = fn(&Echo, &[u8], &str);

fn fin_at(server: &Echo, bytes: &[u8]) {
    let mut client = Client::tcp(server.addr);
    client.send(bytes);
    client.stream.shutdown(Shutdown::Write).expect("a socket");
    client.wait_for_end();
}

fn reset_at(server: &Echo, bytes: &[u8]) {
    let mut client = Client::tcp(server.addr);
    client.send(bytes);
    client.reset();
}

fn expect_status(server: &Echo, bytes: &[u8], status: u16) {
    let mut client = Client::tcp(server.addr);
    client.send(bytes);
    assert_eq!(client.status(), status);
}

const ENDS: &[(&str, End)] = &[
    ("FIN inside the PROXY header", |server, before, _| fin_at(server, &before[..before.len() / 2])),
    ("RST inside the PROXY header", |server, before, _| reset_at(server, &before[..before.len() / 2])),
    ("FIN behind the PROXY header", |server, before, _| fin_at(server, before)),
    ("RST behind the PROXY header", |server, before, _| reset_at(server, before)),
    ("FIN inside the request", |server, before, headers| {
        let request = request("/", headers);
        fin_at(server, &[before, &request.as_bytes()[..20]].concat());
    }),
    ("a malformed request", |server, before, _| expect_status(server, &[before, b"GET /\r\n\r\n"].concat(), 400)),
    ("a plain request", |server, before, headers| {
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        expect_status(server, &[before, request.as_bytes()].concat(), 426);
    }),
    ("a page of another site", |server, before, headers| {
        assert_eq!(server.status(before, &format!("Origin: https://example.com\r\n{headers}")), 403);
    }),
    ("a rejection", |server, before, headers| {
        expect_status(server, &[before, request("/reject", headers).as_bytes()].concat(), 401);
    }),
    ("a hook that panics", |server, before, headers| {
        let _expected = expect_error("a handshake hook panicked");
        expect_status(server, &[before, request("/panic", headers).as_bytes()].concat(), 500);
    }),
    ("too many connections", |server, before, headers| {
        let _first = server.open(before, headers);
        assert_eq!(server.status(before, headers), 503);
    }),
    ("a closing handshake", |server, before, headers| {
        let mut client = server.open(before, headers);
        client.send(&close(1000));
        client.expect_close(1000);
    }),
    ("a violation", |server, before, headers| {
        let mut client = server.open(before, headers);
        client.send(b"\xff\xff");
        client.expect_close(1002);
    }),
    ("RST", |server, before, headers| server.open(before, headers).reset()),
    ("FIN", |server, before, headers| {
        let mut client = server.open(before, headers);
        client.stream.shutdown(Shutdown::Write).expect("a socket");
        client.wait_for_end();
    }),
    ("a handler that panics", |server, before, headers| {
        let _expected = expect_error("a callback panicked");
        let mut client = server.open(before, headers);
        client.send(&text("panic"));
        client.expect_close(1011);
    }),
];

/// With a limit of one, a connection is accepted only if no other is counted, under its address or another.
#[test]
fn t_14_no_kind_of_end_leaves_a_connection_counted() {
    let on_request = |request: &Request| match request.path() {
        "/reject" => Err(Response::new(401)),
        "/panic" => panic_quietly(),
        _ => Ok(Accept::new()),
    };
    // No end may wait for the deadline.
    let config = Config::default().max_connections_per_address(1).handshake_timeout(10 * DEADLINE);
    for workers in [1, 2] {
        let forwarded = "X-Forwarded-For: 192.0.2.1\r\n";
        for (builder, before, headers) in [
            (behind_load_balancer(), V1, ""),
            (behind_load_balancer(), V2, ""),
            (behind_load_balancer(), LOCAL, ""),
            (behind(ForwardedHeader::XForwardedFor), b"", forwarded),
            (behind(ForwardedHeader::XForwardedFor), b"", ""),
            (behind(ForwardedHeader::XForwardedFor), b"", "X-Forwarded-For: unknown\r\n"),
            (behind(ForwardedHeader::XForwardedFor).proxy_protocol(["127.0.0.1"]), V2, forwarded),
            (
                behind(ForwardedHeader::XForwardedFor).proxy_protocol(["127.0.0.1"]),
                b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\r\n",
                forwarded,
            ),
        ] {
            let builder = builder.config(config.clone()).on_request(on_request);
            let server = Echo::start(Kind::Serve(workers), builder);
            for (name, end) in ENDS {
                if before.is_empty() && name.contains("PROXY") {
                    continue;
                }
                // A client that is hidden is not limited.
                if headers.contains("unknown") && *name == "too many connections" {
                    continue;
                }
                end(&server, before, headers);
                server.expect_room(name, before, headers);
            }
        }
    }
}

#[test]
fn t_14_a_wrong_header_and_a_late_request_leave_no_connection_counted() {
    let _expected = expect_error("closed, because of its PROXY header").or_nothing();
    // Long enough for the handshakes that succeed, on a busy machine.
    let config = Config::default().max_connections_per_address(1).handshake_timeout(Duration::from_secs(1));
    let server = Echo::start(Kind::Serve(2), behind_load_balancer().config(config));
    let late = [LOCAL, b"GET / "].concat();
    for wrong in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 \r\n", &V1[..9], &late] {
        let mut client = Client::tcp(server.addr);
        client.send(wrong);
        client.wait_for_end();
        server.expect_room("it is removed", LOCAL, "");
    }
}

#[test]
fn a_deferred_handshake_and_a_plain_request_know_the_client() {
    let (to_test, handshakes) = crossbeam_channel::unbounded();
    let builder = behind_load_balancer()
        .on_request_deferred(move |request, pending| drop(to_test.send((request, pending))))
        .http(|request| Response::new(200).text(&format!("{} {}", request.client_addr(), request.socket_addr())));
    let server = Echo::start(Kind::Bind(2), builder);
    let mut client = server.send(V2, "");
    let (request, pending) = handshakes.recv_timeout(DEADLINE).expect("a handshake");
    assert_eq!((request.client_addr(), request.socket_addr()), (&parsed(CLIENT), &local_addr(&client)));
    pending.accept(Accept::new());
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(server.addrs(), [parsed(CLIENT), parsed(CLIENT), local_addr(&client)]);

    let stream = TcpStream::connect(server.addr).expect("connects");
    let local = stream.local_addr().expect("a socket");
    let mut client = Client::from_stream(stream);
    client.send(&[V1, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat());
    let answer = String::from_utf8(client.read_to_end()).expect("text");
    assert!(answer.ends_with(&format!("\r\n\r\n{CLIENT} {local}")), "{answer}");
}

/// A proxy on the same machine may use a Unix socket, whose peers have no address.
#[cfg(unix)]
#[test]
fn a_proxy_on_a_unix_socket_is_listed_as_such() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    let path = std::env::temp_dir().join(format!("threadbare-proxies-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let config = Config::default().max_connections_per_address(1);
    for (listed, before, headers, wanted) in [
        (Server::builder().proxy_protocol(["unix:"]), V2, "", CLIENT),
        (
            Server::builder().trusted_proxies(ForwardedHeader::XForwardedFor, ["unix:"]),
            b"",
            "X-Forwarded-For: 192.0.2.1\r\n",
            "192.0.2.1:0",
        ),
        (
            Server::builder().trusted_proxies(ForwardedHeader::XForwardedFor, ["127.0.0.1"]),
            b"",
            "X-Forwarded-For: 192.0.2.1\r\n",
            "unix:",
        ),
    ] {
        common::logged::install();
        let server = listed.workers(2).config(config.clone()).bind(address.as_str()).expect("a server");
        let open = || {
            let mut stream = UnixStream::connect(&path).expect("connects");
            stream.write_all(&[before, request("/", headers).as_bytes()].concat()).expect("written");
            stream
        };
        let first = open();
        match server.recv_timeout(DEADLINE) {
            Ok(Event::Open(peer, request)) => {
                assert_eq!((peer.addr().to_string().as_str(), request.client_addr()), (wanted, &peer.addr()));
                assert_eq!(*request.socket_addr(), PeerAddr::Unix(None));
            }
            other => panic!("{other:?}"),
        }
        drop(first);
        assert!(matches!(server.recv_timeout(DEADLINE), Ok(Event::Close(..))));
        eventually("it is removed", || server.handle().connections() == 0);
        let _next = open();
        assert!(matches!(server.recv_timeout(DEADLINE), Ok(Event::Open(..))), "there is room for it");
    }
}
