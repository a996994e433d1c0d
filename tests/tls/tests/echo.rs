//! Messages over TLS, in every way in.

use std::time::Duration;

use threadbare::{Client, Config, EventRef, Handler, Message, MessageRef, Server, Socket};
use threadbare_tls_tests::Authority;

const DEADLINE: Duration = Duration::from_secs(30);

/// The sizes at which frames, records and buffers change.
const SIZES: [usize; 12] = [0, 1, 125, 126, 16_000, 16_384, 16_385, 65_535, 65_536, 200_000, 1 << 20, (5 << 20) + 7];

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

fn config() -> Config {
    Config::default().max_message_size(16 << 20).max_write_buffer_size(32 << 20)
}

fn echo_all(authority: &Authority, server: &Server) {
    let url = format!("wss://localhost:{}", server.local_addr().port());
    let client = Client::builder().tls(authority.client()).config(config()).connect(&url).expect("connected");
    for size in SIZES {
        let payload: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
        client.send(payload.clone()).expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::Binary(payload))), "{size}");
    }
    for round in 0..1_000 {
        client.send(format!("message {round}")).expect("sent");
    }
    for round in 0..1_000 {
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::Text(format!("message {round}")))));
    }
}

#[test]
fn a_handler_echoes_messages_of_all_sizes_with_one_worker_and_with_two() {
    for workers in [1, 2] {
        let authority = Authority::new();
        let builder = Server::builder().workers(workers).config(config()).tls(authority.server());
        let server = builder.serve("127.0.0.1:0", |_| Echo).expect("a server");
        echo_all(&authority, &server);
    }
}

#[test]
fn a_thread_with_events_echoes_messages_of_all_sizes() {
    let authority = Authority::new();
    let server =
        Server::builder().workers(2).config(config()).tls(authority.server()).bind("127.0.0.1:0").expect("a server");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = server.iter();
            while let Some(event) = events.next_ref() {
                if let EventRef::Message(peer, message) = event {
                    peer.send(message).expect("sent");
                }
            }
        });
        echo_all(&authority, &server);
        server.shutdown(DEADLINE);
    });
}
