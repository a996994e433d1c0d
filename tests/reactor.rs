//! The thread that accepts connections: clients that are slow or silent, that disconnect, and that are too many.

mod common;

use std::io::Read;
use std::time::{Duration, Instant};

use common::client_group::{ClientGroup, End, GroupClient, within_file_limit};
use common::http::{HttpResponse, UpgradeRequest};
use common::servers::{EchoServer, Mode, echo_server, with_accept_blocker};
use common::{Client, DEADLINE, Frame, eventually, request};
use threadbare::{Accept, Config, Response, Server};

fn server_with(config: Config) -> EchoServer {
    echo_server(Server::builder().config(config))
}

/// Asserts that the server echoes a message.
fn expect_echo(client: &mut Client) {
    client.send(&common::text("hello"));
    assert_eq!(client.expect_frame(), Frame::text("hello"));
}

fn is_accepted(client: &GroupClient) -> bool {
    client.status() == Some(101)
}

fn has_fin(client: &GroupClient) -> bool {
    client.end == Some(End::Fin)
}

/// The complete response, after which the server sent FIN.
fn response(client: &GroupClient) -> HttpResponse {
    assert_eq!(client.end, Some(End::Fin), "FIN, not RST");
    let response = HttpResponse::parse(&client.received);
    response.assert_complete(true);
    response
}

// T-01, T-02: slow handshakes

#[test]
fn t_01_slow_handshakes_are_answered_408_at_the_deadline_from_accept() {
    let timeout = Duration::from_secs(1);
    let server = server_with(Config::default().handshake_timeout(timeout));
    let many = within_file_limit(500);
    let mut group = ClientGroup::new();
    group.connect(server.addr, many);
    group.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    // Further bytes do not extend the deadline, which counts from accept.
    let deadline = Instant::now() + DEADLINE;
    while group.count(has_fin) < many {
        assert!(Instant::now() < deadline, "{} of {many} were refused", group.count(has_fin));
        group.send(b"x");
        group.poll(Duration::from_millis(50));
    }
    for client in &group.clients {
        assert_eq!(response(client).status, 408);
        let took = client.answered.expect("answered").duration_since(client.started);
        assert!(took >= timeout, "refused after {took:?}");
    }
    expect_echo(&mut Client::open(server.addr));
}

#[test]
fn t_01_a_refused_client_that_keeps_sending_is_disconnected() {
    let short = Duration::from_millis(200);
    // The first is refused at its deadline, the second at its first byte.
    for (status, byte, timeout) in [(408, b"G", short), (400, b"\0", DEADLINE)] {
        let server = server_with(Config::default().handshake_timeout(timeout).close_timeout(short));
        let mut group = ClientGroup::new();
        group.connect(server.addr, 20);
        let deadline = Instant::now() + DEADLINE;
        // The clients keep their sockets, and go on sending bytes.
        while group.count(has_fin) < 20 || server.handle.connections() > 0 {
            assert!(Instant::now() < deadline, "{} are still connected", server.handle.connections());
            group.send(byte);
            group.poll(Duration::from_millis(50));
        }
        group.clients.iter().for_each(|client| assert_eq!(response(client).status, status));
    }
}

#[test]
fn t_01_slow_handshakes_do_not_delay_other_clients() {
    // No deadline passes during the test.
    let server = server_with(Config::default().handshake_timeout(DEADLINE * 10));
    let mut slow = ClientGroup::new();
    slow.connect(server.addr, within_file_limit(500));
    slow.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    for _ in 0..50 {
        slow.send(b"x");
        expect_echo(&mut Client::open(server.addr));
    }
    slow.poll(Duration::ZERO);
    assert_eq!(
        slow.count(|client| client.end.is_some() || client.answered.is_some()),
        0,
        "a slow client was refused early"
    );
    slow.disconnect(|_| true);
    eventually("all connections are removed", || server.handle.connections() == 0);
}

#[test]
fn t_02_silent_clients_are_answered_408_at_the_deadline_from_accept() {
    let timeout = Duration::from_millis(400);
    let server = server_with(Config::default().handshake_timeout(timeout));
    let many = within_file_limit(500);
    let mut group = ClientGroup::new();
    group.connect(server.addr, many);
    group.wait_for("silent clients are refused", many, has_fin);
    for client in &group.clients {
        assert_eq!(response(client).status, 408);
        let took = client.answered.expect("answered").duration_since(client.started);
        assert!(took >= timeout, "refused after {took:?}");
    }
    group.disconnect(|_| true);
    eventually("all connections are removed", || server.handle.connections() == 0);
}

#[test]
fn t_02_the_handshake_deadline_does_not_apply_to_established_connections() {
    // Long enough for the first client's handshake on a busy machine.
    let timeout = Duration::from_secs(1);
    let server = server_with(Config::default().handshake_timeout(timeout));
    let mut established = Client::open(server.addr);
    // This client connects later: its refusal shows that the deadline of the first one has passed.
    let mut silent = Client::tcp(server.addr);
    assert_eq!(silent.response().status, 408);
    expect_echo(&mut established);
}

#[test]
fn a_11_a_slow_but_valid_handshake_is_accepted() {
    let server = echo_server(Server::builder());
    let mut group = ClientGroup::new();
    group.connect(server.addr, 20);
    let head = UpgradeRequest::new().head();
    let (last, most) = head.as_bytes().split_last().expect("bytes");
    for byte in most {
        group.send(&[*byte]);
        group.poll(Duration::from_millis(3));
    }
    assert_eq!(
        group.count(|client| client.end.is_some() || client.answered.is_some()),
        0,
        "no response before the end of the head"
    );
    group.send(&[*last]);
    group.wait_for("clients that are accepted", 20, is_accepted);
}

// T-13: bursts of connections

#[test]
fn t_13_a_burst_is_served_though_half_of_it_is_reset_before_accept() {
    // The kernel queues no more connections than this until they are accepted.
    let backlog = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|max| max.trim().parse().ok());
    let burst = backlog.unwrap_or(128).min(within_file_limit(2_000)) / 2 * 2;
    for mode in [Mode::Handler, Mode::Channel] {
        let (server, blocker) = with_accept_blocker(mode, Server::builder(), |_| Ok(Accept::new()));
        let blocking = blocker.block(server.addr);
        let mut group = ClientGroup::new();
        for _ in 0..burst / 2 {
            group.connect(server.addr, 1);
            Client::tcp(server.addr).reset();
        }
        group.send(request("/", "").as_bytes());
        blocker.unblock();
        group.wait_for("clients that are accepted", burst / 2, is_accepted);
        group.clients.iter_mut().for_each(|client| client.received.clear());
        group.send(&common::text("hello"));
        group.wait_for("clients that are served", burst / 2, |client| client.received == b"\x81\x05hello");
        group.disconnect(|_| true);
        drop(blocking);
        eventually("all connections are removed", || server.handle.connections() == 0);
    }
}

#[test]
fn t_13_r_02_a_client_that_resets_during_its_handshake_is_removed_at_once() {
    // No deadline passes during the test.
    let server = server_with(Config::default().handshake_timeout(DEADLINE * 10).close_timeout(DEADLINE * 10));
    let head = UpgradeRequest::new().head();
    for end in 0..=head.len() {
        let mut client = Client::tcp(server.addr);
        client.send(&head.as_bytes()[..end]);
        client.reset();
    }
    eventually("all connections are removed", || server.handle.connections() == 0);
    expect_echo(&mut Client::open(server.addr));
}

// T-14: limits of connections

#[test]
fn t_14_clients_over_max_connections_are_answered_503() {
    let most = within_file_limit(300) / 3;
    let server = server_with(Config::default().max_connections(most));
    let mut group = ClientGroup::new();
    group.connect(server.addr, 3 * most);
    group.send(request("/", "").as_bytes());
    group.wait_for("clients that are accepted", most, is_accepted);
    group.wait_for("clients that are refused", 2 * most, has_fin);
    assert_eq!(group.count(is_accepted), most);
    for client in group.clients.iter().filter(|client| !is_accepted(client)) {
        let response = response(client);
        assert_eq!(response.status, 503);
        let pause = response.header("Retry-After").expect("a pause");
        assert!(pause.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{pause}");
    }
    assert_eq!(server.handle.connections(), most);

    // The established connections are not disturbed.
    group.clients.iter_mut().for_each(|client| client.received.clear());
    group.send(&common::text("hello"));
    group.wait_for("clients that are served", most, |client| client.received == b"\x81\x05hello");

    // Ten clients disconnect, and ten others are accepted, but no more.
    let mut ten = 0..10;
    group.disconnect(|client| client.end.is_none() && ten.next().is_some());
    eventually("ten connections are closed", || server.handle.connections() == most - 10);
    let mut accepted: Vec<Client> = (0..10).map(|_| Client::open(server.addr)).collect();
    let mut refused = Client::tcp(server.addr);
    refused.send(request("/", "").as_bytes());
    assert_eq!(refused.response().status, 503);
    accepted.iter_mut().for_each(expect_echo);
}

#[test]
fn t_14_handshakes_count_towards_max_connections() {
    let server = server_with(Config::default().max_connections(10));
    let mut silent = ClientGroup::new();
    silent.connect(server.addr, 10);
    eventually("all are accepted", || server.handle.connections() == 10);
    let mut refused = Client::tcp(server.addr);
    assert_eq!(refused.response().status, 503);
    silent.disconnect(|_| true);
    eventually("all connections are removed", || server.handle.connections() == 0);
    expect_echo(&mut Client::open(server.addr));
}

#[cfg(target_os = "linux")] // elsewhere 127.0.0.2 is not an address of this machine
#[test]
fn t_14_clients_over_max_connections_per_address_are_answered_503() {
    let server = server_with(Config::default().max_connections(8).max_connections_per_address(5));
    let from = |address: [u8; 4]| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&std::net::SocketAddr::from((address, 0)).into()).expect("an address of this machine");
        socket.connect(&server.addr.into()).expect("connects");
        let mut client = Client::from_stream(socket.into());
        client.send(request("/", "").as_bytes());
        client
    };
    let accepted = |mut client: Client| {
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    };
    let [one, two] = [[127, 0, 0, 1], [127, 0, 0, 2]];
    let mut clients: Vec<Client> = (0..5).map(|_| accepted(from(one))).collect();
    let refusal = from(one).response();
    assert_eq!(refusal.status, 503);
    assert!(refusal.header("Retry-After").is_some());
    clients.extend((0..3).map(|_| accepted(from(two))));
    // The second address has three, but both together have eight.
    assert_eq!(from(two).response().status, 503);
    assert_eq!(server.handle.connections(), 8);
    drop(clients.remove(0));
    eventually("one connection is closed", || server.handle.connections() == 7);
    clients.push(accepted(from(one)));
    drop(clients.pop());
    eventually("one connection is closed", || server.handle.connections() == 7);
    clients.push(accepted(from(two)));
    clients.iter_mut().for_each(expect_echo);
}

// T-20: slow readers of plain HTTP

const PAGE_SIZE: usize = 8 << 20;

fn page_server(config: Config) -> EchoServer {
    echo_server(Server::builder().config(config).http(|_| Response::new(200).body(vec![b'x'; PAGE_SIZE])))
}

#[test]
fn t_20_a_page_that_is_read_slowly_is_sent_whole() {
    let timeout = Duration::from_secs(1);
    let server = page_server(Config::default().handshake_timeout(timeout).write_timeout(DEADLINE));
    let start = Instant::now();
    let mut client = Client::tcp(server.addr);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let (mut page, mut part) = (Vec::new(), vec![0; 256 << 10]);
    loop {
        match client.stream.read(&mut part).expect("no reset") {
            0 => break,
            size => page.extend_from_slice(&part[..size]),
        }
        // The pace of the reader: the page takes longer than the handshake may.
        std::thread::sleep(Duration::from_millis(40 * part.len().min(page.len()) as u64 / part.len() as u64));
    }
    assert!(start.elapsed() > timeout, "the page was read too fast: {:?}", start.elapsed());
    let response = HttpResponse::parse(&page);
    assert_eq!((response.status, response.body.len()), (200, PAGE_SIZE));
}

/// A client that always takes some of its page, and less than `min_write_progress` in each `write_timeout`.
#[test]
fn t_20_a_client_that_takes_too_little_of_its_page_is_dropped() {
    let timeout = Duration::from_millis(500);
    let config = Config::default().handshake_timeout(timeout).write_timeout(timeout).min_write_progress(PAGE_SIZE);
    let server = page_server(config);
    let mut client = Client::tcp(server.addr);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let (mut received, mut part) = (0, vec![0; 64 << 10]);
    while let Ok(size @ 1..) = client.stream.read(&mut part) {
        received += size;
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(received < PAGE_SIZE, "{received}");
}

#[test]
fn t_20_a_client_that_does_not_read_its_page_is_dropped() {
    for progress in [4 << 10, 0] {
        let timeout = Duration::from_secs(1);
        let config = Config::default().handshake_timeout(timeout).write_timeout(timeout).max_connections(1);
        let server = page_server(config.min_write_progress(progress));
        let mut idle = Client::tcp(server.addr);
        idle.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut first = [0; 12];
        idle.stream.read_exact(&mut first).expect("the beginning");
        assert_eq!(&first, b"HTTP/1.1 200");
        // Its place is free for another one.
        eventually("the client is dropped", || {
            let mut next = Client::tcp(server.addr);
            next.send(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            HttpResponse::parse(&next.read_to_end()).status == 200
        });
        let mut rest = Vec::new();
        let _ = idle.stream.read_to_end(&mut rest);
        assert!(rest.len() < PAGE_SIZE, "{}", rest.len());
    }
}
