//! A callback that takes long is counted and logged with the address of its connection. The log is that of the process, so
//! that the test is alone here.

mod common;

use std::time::{Duration, Instant};

use common::logged::expect_error;
use common::{Client, eventually, text};
use threadbare::{Config, MessageRef, Server, Socket};

/// Takes as many milliseconds as the message says.
fn take_long(socket: &mut Socket<'_>, message: MessageRef<'_>) {
    let millis = message.as_text().and_then(|text| text.parse().ok()).expect("a number");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(millis) {
        std::hint::spin_loop();
    }
    socket.send("done");
}

#[test]
fn slow_callbacks_are_counted_and_logged_once_a_second() {
    let logged = expect_error("callbacks took");
    let config = Config::default().slow_callback(Duration::from_millis(200));
    let server = Server::builder().workers(2).config(config).serve("127.0.0.1:0", |_| take_long).expect("a server");
    let (mut slow, mut quick) = (Client::open(server.local_addr()), Client::open(server.local_addr()));
    let begun = Instant::now();
    for _ in 0..3 {
        slow.send(&text("300"));
        slow.expect_frame();
        quick.send(&text("1"));
        quick.expect_frame();
    }
    eventually("they are counted", || server.stats().traffic.slow_callbacks >= 3);
    let warnings = logged.seen();
    let addr = slow.stream.local_addr().expect("a socket");
    assert!(warnings.iter().any(|warning| warning.contains(&format!("{addr}: callbacks took"))), "{warnings:?}");
    assert!(warnings.len() as u64 <= 1 + begun.elapsed().as_secs(), "{warnings:?}");
}

#[test]
fn without_a_limit_nothing_is_looked_at() {
    let config = Config::default().slow_callback(None);
    let server = Server::builder().workers(1).config(config).serve("127.0.0.1:0", |_| take_long).expect("a server");
    let mut client = Client::open(server.local_addr());
    client.send(&text("150"));
    client.expect_frame();
    eventually("it is counted", || server.stats().traffic.messages_received == 1);
    assert_eq!(server.stats().traffic.slow_callbacks, 0);
}
