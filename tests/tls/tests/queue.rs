//! What is queued for a connection with TLS.

use std::io::Write;
use std::time::{Duration, Instant};

use threadbare::{Client, Config, Event, Message, Server, StreamOptions};
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

/// Both ends send a large message in parts at the same time, and something behind it.
#[test]
fn messages_in_parts_arrive_as_they_are() {
    let authority = Authority::new();
    let config = Config::default().max_message_size(16 << 20);
    let server = Server::builder()
        .workers(1)
        .config(config.clone())
        .tls(authority.server())
        .bind("127.0.0.1:0")
        .expect("a server");
    let url = format!("wss://localhost:{}", server.local_addr().port());
    let client = Client::builder().tls(authority.client()).config(config).connect(&url).expect("connected");
    let Ok(Event::Open(peer, _)) = server.recv_timeout(DEADLINE) else { panic!("the first event") };
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| peer.send_stream(&bytes[..], StreamOptions::binary()).expect("sent"));
        scope.spawn(|| {
            let mut writer = client.writer(StreamOptions::binary().fragment_size(1000));
            bytes.chunks(777).for_each(|chunk| writer.write_all(chunk).expect("sent"));
            client.send("behind").expect("room");
            writer.finish().expect("sent");
        });
        assert!(matches!(client.recv_timeout(DEADLINE), Ok(Some(Message::Binary(received))) if received == bytes));
        assert!(
            matches!(server.recv_timeout(DEADLINE), Ok(Event::Message(_, Message::Binary(received))) if received == bytes)
        );
        assert!(
            matches!(server.recv_timeout(DEADLINE), Ok(Event::Message(_, message)) if message == Message::from("behind"))
        );
    });
}
