//! What is queued for a connection with TLS.

use std::time::{Duration, Instant};

use threadbare::{Client, Config, Event, Message, Server};
use threadbare_tls_tests::Authority;

const DEADLINE: Duration = Duration::from_secs(30);

/// The socket takes a part of what TLS has sealed, again and again. The count of queued bytes comes back to zero each time.
#[test]
fn a_queue_that_was_full_is_empty_again_once_everything_is_sent() {
    let authority = Authority::new();
    let config = Config::default().max_event_buffer_size(64 << 10);
    let server =
        Server::builder().workers(1).config(config).tls(authority.server()).bind("127.0.0.1:0").expect("a server");
    let url = format!("wss://localhost:{}", server.local_addr().port());
    let config = Config::default().max_write_buffer_size(64 << 10);
    let client = Client::builder().tls(authority.client()).config(config).connect(&url).expect("connected");
    assert!(matches!(server.recv_timeout(DEADLINE), Ok(Event::Open(..))));
    for round in 0..5 {
        // Nobody receives, so that the socket is full at some time. Before that, most messages are alone in the inbox.
        let mut sent = 0;
        while client.try_send([7; 700]).is_ok() {
            sent += 1;
            for _ in 0..20 {
                if client.stats().queued_bytes == 0 {
                    break;
                }
                std::thread::yield_now();
            }
        }
        assert!(sent > 0, "round {round}: there was no room");
        for number in 0..sent {
            match server.recv_timeout(DEADLINE) {
                Ok(Event::Message(_, message)) => assert_eq!(message, Message::Binary(vec![7; 700])),
                other => panic!("round {round}, message {number} of {sent}: {other:?}"),
            }
        }
        let deadline = Instant::now() + DEADLINE;
        while client.stats().queued_bytes > 0 {
            assert!(Instant::now() < deadline, "round {round}: {} bytes are queued", client.stats().queued_bytes);
            std::thread::yield_now();
        }
    }
}
