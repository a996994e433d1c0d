//! The thread that accepts: clients that are slow, silent, too many, or gone.

mod common;

use std::time::{Duration, Instant};

use common::crowd::{Crowd, End, Member, up_to};
use common::http::{Answer, Upgrade};
use common::servers::{Mode, Running, echo, gated};
use common::{Client, DEADLINE, Frame, eventually, request};
use threadbare::{Accept, Config, Server};

fn with(config: Config) -> Running {
    echo(Server::builder().config(config))
}

/// Sends a message and gets it back.
fn echoes(client: &mut Client) {
    client.send(&common::text("there?"));
    assert_eq!(client.expect_frame(), Frame::text("there?"));
}

fn is_accepted(member: &Member) -> bool {
    member.status() == Some(101)
}

fn has_fin(member: &Member) -> bool {
    member.end == Some(End::Fin)
}

/// The whole response that ended this client's connection.
fn answer(member: &Member) -> Answer {
    assert_eq!(member.end, Some(End::Fin), "FIN, not RST");
    let answer = Answer::parse(&member.received);
    answer.assert_complete(true);
    answer
}

// T-01, T-02: slow handshakes

#[test]
fn t_01_slow_handshakes_are_answered_408_at_the_deadline_from_accept() {
    let timeout = Duration::from_millis(400);
    let server = with(Config::default().handshake_timeout(timeout));
    let many = up_to(500);
    let mut crowd = Crowd::new();
    crowd.connect(server.addr, many);
    crowd.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    // Another byte again and again: what counts is the time since accept.
    let deadline = Instant::now() + DEADLINE;
    while crowd.count(has_fin) < many {
        assert!(Instant::now() < deadline, "{} of {many} were refused", crowd.count(has_fin));
        crowd.send(b"x");
        crowd.turn(Duration::from_millis(50));
    }
    for member in &crowd.members {
        assert_eq!(answer(member).status, 408);
        let took = member.answered.expect("answered").duration_since(member.started);
        assert!(took >= timeout, "refused after {took:?}");
    }
    echoes(&mut Client::open(server.addr));
}

#[test]
fn t_01_a_refused_client_that_sends_on_does_not_stay() {
    let timeout = Duration::from_millis(200);
    let server = with(Config::default().handshake_timeout(timeout).close_timeout(timeout));
    // Refused by its deadline, or at its first byte.
    for (status, byte) in [(408, b"G"), (400, b"\0")] {
        let mut crowd = Crowd::new();
        crowd.connect(server.addr, 20);
        let deadline = Instant::now() + DEADLINE;
        // They keep their sockets, and send a byte now and then.
        while crowd.count(has_fin) < 20 || server.handle.connections() > 0 {
            assert!(Instant::now() < deadline, "{} stay", server.handle.connections());
            crowd.send(byte);
            crowd.turn(Duration::from_millis(50));
        }
        crowd.members.iter().for_each(|member| assert_eq!(answer(member).status, status));
    }
}

#[test]
fn t_01_others_connect_at_once_beside_slow_handshakes() {
    let server = echo(Server::builder());
    let mut slow = Crowd::new();
    slow.connect(server.addr, up_to(500));
    slow.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    for _ in 0..50 {
        slow.send(b"x");
        let start = Instant::now();
        echoes(&mut Client::open(server.addr));
        // Far below the deadline of the slow ones, 10 s; on an idle machine it takes a millisecond.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    slow.turn(Duration::ZERO);
    assert_eq!(slow.count(|member| member.end.is_some() || member.answered.is_some()), 0, "they have their time");
    slow.leave(|_| true);
    eventually("all are forgotten", || server.handle.connections() == 0);
}

#[test]
fn t_02_silent_clients_are_answered_408_at_the_deadline_from_accept() {
    let timeout = Duration::from_millis(400);
    let server = with(Config::default().handshake_timeout(timeout));
    let many = up_to(500);
    let mut crowd = Crowd::new();
    crowd.connect(server.addr, many);
    crowd.until("silent clients are refused", many, has_fin);
    for member in &crowd.members {
        assert_eq!(answer(member).status, 408);
        let took = member.answered.expect("answered").duration_since(member.started);
        assert!(took >= timeout, "refused after {took:?}");
    }
    crowd.leave(|_| true);
    eventually("all are forgotten", || server.handle.connections() == 0);
}

#[test]
fn t_02_the_deadline_ends_with_the_handshake() {
    let timeout = Duration::from_millis(200);
    let server = with(Config::default().handshake_timeout(timeout));
    let mut established = Client::open(server.addr);
    // The refusal of one that came later says that the time is over.
    let mut silent = Client::tcp(server.addr);
    assert_eq!(silent.answer().status, 408);
    echoes(&mut established);
}

#[test]
fn a_11_a_slow_but_valid_handshake_is_accepted() {
    let server = echo(Server::builder());
    let mut crowd = Crowd::new();
    crowd.connect(server.addr, 20);
    let head = Upgrade::new().head();
    let (last, most) = head.as_bytes().split_last().expect("bytes");
    for byte in most {
        crowd.send(&[*byte]);
        crowd.turn(Duration::from_millis(3));
    }
    assert_eq!(crowd.count(|member| member.end.is_some() || member.answered.is_some()), 0, "nothing before the end");
    crowd.send(&[*last]);
    crowd.until("they are accepted", 20, is_accepted);
}

// T-13: bursts

#[test]
fn t_13_a_burst_of_which_half_is_reset_before_accept_is_served() {
    // What the kernel keeps until it is accepted.
    let kept = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|max| max.trim().parse().ok());
    let burst = kept.unwrap_or(128).min(up_to(2_000)) / 2 * 2;
    for mode in [Mode::Handler, Mode::Channel] {
        let (server, gate) = gated(mode, Server::builder(), |_| Ok(Accept::new()));
        let holder = gate.hold(server.addr);
        let mut crowd = Crowd::new();
        for _ in 0..burst / 2 {
            crowd.connect(server.addr, 1);
            Client::tcp(server.addr).reset();
        }
        crowd.send(request("/", "").as_bytes());
        gate.open();
        crowd.until("those that stayed are accepted", burst / 2, is_accepted);
        crowd.members.iter_mut().for_each(|member| member.received.clear());
        crowd.send(&common::text("there?"));
        crowd.until("they are served", burst / 2, |member| member.received == b"\x81\x06there?");
        crowd.leave(|_| true);
        drop(holder);
        eventually("all are gone", || server.handle.connections() == 0);
    }
}

#[test]
fn t_13_r_02_resets_during_the_handshake_do_no_harm() {
    // They are forgotten when they are gone, not when their time is over.
    let server = with(Config::default().handshake_timeout(DEADLINE * 10).close_timeout(DEADLINE * 10));
    let head = Upgrade::new().head();
    for end in 0..=head.len() {
        let mut client = Client::tcp(server.addr);
        client.send(&head.as_bytes()[..end]);
        client.reset();
    }
    eventually("all are gone", || server.handle.connections() == 0);
    echoes(&mut Client::open(server.addr));
}

// T-14: caps

#[test]
fn t_14_clients_over_the_cap_are_told_503_and_the_others_are_served() {
    let most = up_to(300) / 3;
    let server = with(Config::default().max_connections(most));
    let mut crowd = Crowd::new();
    crowd.connect(server.addr, 3 * most);
    crowd.send(request("/", "").as_bytes());
    crowd.until("as many as may be are accepted", most, is_accepted);
    crowd.until("the others are turned away", 2 * most, has_fin);
    assert_eq!(crowd.count(is_accepted), most);
    for member in crowd.members.iter().filter(|member| !is_accepted(member)) {
        let answer = answer(member);
        assert_eq!(answer.status, 503);
        let pause = answer.header("Retry-After").expect("a word on when to come back");
        assert!(pause.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{pause}");
    }
    assert_eq!(server.handle.connections(), most);

    // Those that are established do not notice.
    crowd.members.iter_mut().for_each(|member| member.received.clear());
    crowd.send(&common::text("there?"));
    crowd.until("they are served", most, |member| member.received == b"\x81\x06there?");

    // Who leaves makes room, for as many and no more.
    let mut leaving = 0..10;
    crowd.leave(|member| member.end.is_none() && leaving.next().is_some());
    eventually("ten have left", || server.handle.connections() == most - 10);
    let mut come: Vec<Client> = (0..10).map(|_| Client::open(server.addr)).collect();
    let mut one_more = Client::tcp(server.addr);
    one_more.send(request("/", "").as_bytes());
    assert_eq!(one_more.answer().status, 503);
    come.iter_mut().for_each(echoes);
}

#[test]
fn t_14_handshakes_count_towards_the_cap() {
    let server = with(Config::default().max_connections(10));
    let mut silent = Crowd::new();
    silent.connect(server.addr, 10);
    eventually("all are accepted", || server.handle.connections() == 10);
    let mut refused = Client::tcp(server.addr);
    assert_eq!(refused.answer().status, 503);
    silent.leave(|_| true);
    eventually("all are forgotten", || server.handle.connections() == 0);
    echoes(&mut Client::open(server.addr));
}

#[cfg(target_os = "linux")] // elsewhere 127.0.0.2 is not an address of this machine
#[test]
fn t_14_no_address_has_more_connections_than_its_share() {
    let server = with(Config::default().max_connections(8).max_connections_per_address(5));
    let from = |address: [u8; 4]| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&std::net::SocketAddr::from((address, 0)).into()).expect("an address of this machine");
        socket.connect(&server.addr.into()).expect("connects");
        let mut client = Client::over(socket.into());
        client.send(request("/", "").as_bytes());
        client
    };
    let served = |mut client: Client| {
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    };
    let [one, two] = [[127, 0, 0, 1], [127, 0, 0, 2]];
    let mut clients: Vec<Client> = (0..5).map(|_| served(from(one))).collect();
    let refusal = from(one).answer();
    assert_eq!(refusal.status, 503);
    assert!(refusal.header("Retry-After").is_some());
    clients.extend((0..3).map(|_| served(from(two))));
    // Now it is the cap of all together.
    assert_eq!(from(two).answer().status, 503);
    assert_eq!(server.handle.connections(), 8);
    drop(clients.remove(0));
    eventually("one has left", || server.handle.connections() == 7);
    clients.push(served(from(one)));
    drop(clients.pop());
    eventually("one has left", || server.handle.connections() == 7);
    clients.push(served(from(two)));
    clients.iter_mut().for_each(echoes);
}
