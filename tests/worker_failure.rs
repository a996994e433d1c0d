//! A worker that fails. Only a fault of the library can make it fail; here a logger panics where the library has no reason
//! to expect it.

mod common;

use std::time::{Duration, Instant};

use common::app::panic_quietly;
use common::logged::{Expected, expect_error, expect_error_and};
use common::{Client, DEADLINE, Frame, serialize_test, text, wait_for_end_of_threads};
use threadbare::{Handler, MessageRef, Server, Socket};

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        if message.as_text() == Some("fail") {
            panic_quietly();
        }
        socket.send(message);
    }
}

fn server(workers: usize) -> Server {
    Server::builder().workers(workers).serve("127.0.0.1:0", |_| Echo).expect("a server")
}

/// The logger panics on a worker's thread as that reports the panic of a callback. Until these are dropped.
fn faulty_logger() -> [Expected; 2] {
    [expect_error_and("a callback panicked", || panic_quietly()), expect_error("failed, and closes its")]
}

/// Has the worker of a new connection fail.
fn fail(server: &Server) {
    let mut client = Client::open(server.local_addr());
    client.send(&text("fail"));
    client.expect_close(1011);
}

#[test]
fn r_07_the_other_workers_go_on_when_one_has_failed() {
    let _guard = serialize_test();
    let _expected = faulty_logger();
    let server = server(2);
    let mut clients: Vec<_> = (0..8).map(|_| Client::open(server.local_addr())).collect();
    let handle = server.handle();
    fail(&server);
    common::eventually("the failure is reported", || handle.failed_threads() == 1);
    let mut left = 0;
    for client in &mut clients {
        client.send(&text("there"));
        match client.frame() {
            Some(frame) if frame == Frame::text("there") => left += 1,
            Some(frame) => assert_eq!(frame.close_code(), 1011),
            None => panic!("it is closed without a reason"),
        }
    }
    assert_eq!(left, 4, "those of the other worker");
    assert_eq!(handle.connections(), 4);
    for _ in 0..8 {
        let mut client = Client::open(server.local_addr());
        client.send(&text("new"));
        assert_eq!(client.expect_frame(), Frame::text("new"));
        clients.push(client);
    }
    fail(&server);
    // Nobody asks the server to end: it does when no worker is left.
    server.join();
    let report = server.shutdown(DEADLINE);
    assert_eq!(report.failed, 2, "{report}");
    assert_eq!(handle.connections(), 0);
    wait_for_end_of_threads("the server");
}

#[test]
fn r_07_a_server_ends_when_its_only_worker_has_failed() {
    let _guard = serialize_test();
    let _expected = faulty_logger();
    let server = server(1);
    let mut other = Client::open(server.local_addr());
    let _half_a_handshake = Client::tcp(server.local_addr());
    fail(&server);
    other.expect_close(1011);
    server.join();
    let start = Instant::now();
    assert_eq!(server.shutdown(DEADLINE).failed, 1);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(server.handle().connections(), 0);
    assert!(server.recv().is_err());
    wait_for_end_of_threads("the server");
}
