//! What a server does with the machine's means: descriptors, threads, CPU time.
#![cfg(target_os = "linux")] // reads /proc

mod common;

use std::time::{Duration, Instant};

use common::child::Child;
use common::crowd::{Crowd, Member, up_to};
use common::{Client, DEADLINE, eventually, request};
use threadbare::Server;

fn is_accepted(member: &Member) -> bool {
    member.status() == Some(101)
}

/// The server hung up without a word.
fn is_dropped(member: &Member) -> bool {
    member.end.is_some() && member.received.is_empty()
}

#[test]
fn t_12_without_descriptors_clients_wait_and_are_served_when_there_are_some() {
    let name = "t_12_without_descriptors_clients_wait_and_are_served_when_there_are_some";
    let Some(child) = Child::start(name, "ulimit -n 64", Server::builder()) else { return };
    let start = Instant::now();
    let mut crowd = Crowd::new();
    crowd.connect(child.addr, 200);
    crowd.send(request("/", "").as_bytes());
    crowd.until("as many as fit are accepted", 40, is_accepted);
    // That one is dropped says that there are no more descriptors; that another is, that a second is over.
    crowd.until("one is dropped", 1, is_dropped);
    let (cpu, since) = (child.cpu_time(), Instant::now());
    let dropped = crowd.count(is_dropped);
    crowd.until("two more are dropped", dropped + 2, is_dropped);
    let (cpu, took) = (child.cpu_time() - cpu, since.elapsed());
    assert!(cpu < took.mul_f64(0.3), "{cpu:?} of CPU time in {took:?} of waiting");

    // No event tells the server that there is room, and nobody new connects.
    let since = Instant::now();
    let left = crowd.leave(is_accepted);
    assert!(left < 64, "{left} with 64 descriptors");
    crowd.until("those that waited are accepted", left + 40, is_accepted);
    assert!(since.elapsed() < Duration::from_secs(15), "they waited for {:?} more", since.elapsed());

    // All have their turn, but for one at most in each second.
    let deadline = Instant::now() + DEADLINE;
    while crowd.count(|member| is_accepted(member) || is_dropped(member)) < 200 {
        assert!(Instant::now() < deadline, "{} are accepted", crowd.count(is_accepted));
        crowd.leave(is_accepted);
        crowd.turn(Duration::from_millis(100));
    }
    let dropped = crowd.count(is_dropped);
    assert!(dropped as u64 <= start.elapsed().as_secs() + 1, "{dropped} dropped in {:?}", start.elapsed());
    crowd.leave(|_| true);
    let mut client = Client::open(child.addr);
    client.send(&common::text("there?"));
    assert_eq!(client.expect_frame(), common::Frame::text("there?"));
}

#[test]
fn a_38_r_20_connections_have_no_threads_of_their_own() {
    let name = "a_38_r_20_connections_have_no_threads_of_their_own";
    let Some(child) = Child::start(name, "", Server::builder()) else { return };
    drop(Client::open(child.addr));
    let (threads, descriptors) = (child.threads(), child.descriptors());
    let many = up_to(1_000);
    let mut crowd = Crowd::new();
    crowd.connect(child.addr, many);
    assert_eq!(child.threads(), threads, "during the handshakes");
    crowd.send(request("/", "").as_bytes());
    crowd.until("all are accepted", many, is_accepted);
    assert_eq!(child.threads(), threads, "while they are there");
    crowd.members.iter_mut().for_each(|member| member.received.clear());
    crowd.send(&common::text("there?"));
    crowd.until("all are served", many, |member| member.received == b"\x81\x06there?");
    assert_eq!(child.threads(), threads, "while they talk");
    crowd.leave(|_| true);
    eventually("their descriptors are closed", || child.descriptors() <= descriptors);
    assert_eq!(child.threads(), threads, "when they have left");
}

#[test]
fn an_idle_server_uses_no_cpu_time() {
    let Some(child) = Child::start("an_idle_server_uses_no_cpu_time", "", Server::builder()) else { return };
    let mut crowd = Crowd::new();
    crowd.connect(child.addr, 100);
    crowd.send(request("/", "").as_bytes());
    crowd.until("all are accepted", 100, is_accepted);
    crowd.connect(child.addr, 100); // silent ones, which have their deadlines
    let (cpu, since) = (child.cpu_time(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        crowd.turn(Duration::from_secs(1) - since.elapsed().min(Duration::from_secs(1)));
    }
    let (cpu, took) = (child.cpu_time() - cpu, since.elapsed());
    assert!(cpu < took.mul_f64(0.3), "{cpu:?} of CPU time in {took:?} of waiting");
}
