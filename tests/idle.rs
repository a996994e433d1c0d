//! What the library's threads do while nothing happens. One test alone, because it counts what all of them do.
#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{Client, DEADLINE, eventually, text};
use threadbare::{Event, Server};

/// How often the library's threads of this process have slept so far.
fn sleeps() -> u64 {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("the threads") {
        let Ok(status) = std::fs::read_to_string(task.expect("a thread").path().join("status")) else { continue };
        let value = |name| status.lines().find_map(|line| line.strip_prefix(name)).expect("a line").trim();
        if value("Name:").starts_with("ws-") {
            sum += value("voluntary_ctxt_switches:").parse::<u64>().expect("a number");
        }
    }
    sum
}

/// Without events, with one that waits for the application, and with two in one batch.
#[test]
fn a_worker_sleeps_while_events_wait_for_the_application() {
    let (_keep, never) = crossbeam_channel::bounded::<()>(0);
    for (workers, count) in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
        let server = Server::builder().workers(workers).bind("127.0.0.1:0").expect("a server");
        let mut client = Client::open(server.local_addr());
        let Ok(Event::Open(peer, _)) = server.recv_timeout(DEADLINE) else { panic!("no connection") };
        client.send(&text("waits").repeat(count));
        eventually("the messages are received", || peer.stats().messages_received == count as u64);
        let before = sleeps();
        assert!(never.recv_timeout(Duration::from_millis(500)).is_err());
        let count_of_sleeps = sleeps() - before;
        assert!(count_of_sleeps < 50, "{workers} workers, {count} events: {count_of_sleeps} sleeps");
        drop((client, server));
    }
}
