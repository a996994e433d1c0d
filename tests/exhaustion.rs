//! The resources that a server uses: file descriptors, threads, CPU time.
#![cfg(target_os = "linux")] // reads /proc

mod common;

use std::time::{Duration, Instant};

use common::client_group::{ClientGroup, GroupClient, within_file_limit};
use common::logged::expect_error;
use common::server_process::ServerProcess;
use common::{Client, DEADLINE, Frame, eventually, request, text};
use threadbare::Server;

fn is_accepted(client: &GroupClient) -> bool {
    client.status() == Some(101)
}

/// The server closed the connection without a response.
fn is_dropped(client: &GroupClient) -> bool {
    client.end.is_some() && client.received.is_empty()
}

#[test]
fn t_12_clients_wait_without_file_descriptors_and_are_accepted_later() {
    let _expected = expect_error("waiting connections can not be accepted").or_nothing();
    let name = "t_12_clients_wait_without_file_descriptors_and_are_accepted_later";
    let Some(server) = ServerProcess::start(name, "ulimit -n 64", Server::builder()) else { return };
    let start = Instant::now();
    let mut group = ClientGroup::new();
    group.connect(server.addr, 200);
    group.send(request("/", "").as_bytes());
    group.wait_for("clients that are accepted", 40, is_accepted);
    // The server has no descriptor left once it drops a connection. It then waits a second before it drops the next one.
    group.wait_for("connections that are dropped", 1, is_dropped);
    let (cpu, since) = (server.cpu_time(), Instant::now());
    let dropped = group.count(is_dropped);
    group.wait_for("connections that are dropped", dropped + 2, is_dropped);
    let (cpu, took) = (server.cpu_time() - cpu, since.elapsed());
    assert!(cpu < took.mul_f64(0.3), "{cpu:?} of CPU time in {took:?} of waiting");

    // No event reports that a descriptor is free, and no new client connects.
    let disconnected = group.disconnect(is_accepted);
    assert!(disconnected < 64, "{disconnected} connections with 64 descriptors");
    group.wait_for("clients that are accepted", disconnected + 40, is_accepted);

    // Every client is accepted in the end, except those that were dropped: at most one each second.
    let deadline = Instant::now() + DEADLINE;
    while group.count(|client| is_accepted(client) || is_dropped(client)) < 200 {
        assert!(Instant::now() < deadline, "{} are accepted", group.count(is_accepted));
        group.disconnect(is_accepted);
        group.poll(Duration::from_millis(100));
    }
    let dropped = group.count(is_dropped);
    assert!(dropped as u64 <= start.elapsed().as_secs() + 1, "{dropped} dropped in {:?}", start.elapsed());
    group.disconnect(|_| true);
    let mut client = Client::open(server.addr);
    client.send(&common::text("hello"));
    assert_eq!(client.expect_frame(), common::Frame::text("hello"));
}

#[test]
fn a_38_r_20_connections_add_no_threads() {
    let name = "a_38_r_20_connections_add_no_threads";
    let Some(server) = ServerProcess::start(name, "", Server::builder()) else { return };
    drop(Client::open(server.addr));
    let (threads, descriptors) = (server.threads(), server.descriptors());
    let many = within_file_limit(1_000);
    let mut group = ClientGroup::new();
    group.connect(server.addr, many);
    assert_eq!(server.threads(), threads, "during the opening handshakes");
    group.send(request("/", "").as_bytes());
    group.wait_for("clients that are accepted", many, is_accepted);
    assert_eq!(server.threads(), threads, "while the connections are open");
    group.clients.iter_mut().for_each(|client| client.received.clear());
    group.send(&common::text("hello"));
    group.wait_for("clients that are served", many, |client| client.received == b"\x81\x05hello");
    assert_eq!(server.threads(), threads, "while the connections are used");
    group.disconnect(|_| true);
    eventually("the descriptors are closed", || server.descriptors() <= descriptors);
    assert_eq!(server.threads(), threads, "when the connections are closed");
}

#[test]
fn an_idle_server_uses_no_cpu_time() {
    let Some(server) = ServerProcess::start("an_idle_server_uses_no_cpu_time", "", Server::builder()) else { return };
    let mut group = ClientGroup::new();
    group.connect(server.addr, 100);
    group.send(request("/", "").as_bytes());
    group.wait_for("clients that are accepted", 100, is_accepted);
    group.connect(server.addr, 100); // these send no request, and wait for their deadline
    let (cpu, since) = (server.cpu_time(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        group.poll(Duration::from_secs(1) - since.elapsed().min(Duration::from_secs(1)));
    }
    let (cpu, took) = (server.cpu_time() - cpu, since.elapsed());
    assert!(cpu < took.mul_f64(0.3), "{cpu:?} of CPU time in {took:?} of waiting");
}

/// The server would log an error otherwise, which ends its process.
#[test]
fn a_poll_that_a_signal_interrupts_is_no_error() {
    let name = "a_poll_that_a_signal_interrupts_is_no_error";
    let Some(server) = ServerProcess::start(name, "", Server::builder()) else { return };
    let mut client = Client::open(server.addr);
    for _ in 0..5 {
        server.interrupt();
        client.send(&text("hello"));
        assert_eq!(client.expect_frame(), Frame::text("hello"));
    }
}
