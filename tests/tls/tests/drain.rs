//! A drain over TLS: queued output, the close frame, and the end of TLS behind it.

use std::thread;
use std::time::{Duration, Instant};

use threadbare::{Client, CloseCode, Config, Handler, Message, MessageRef, Server, Socket, TrafficStats};
use threadbare_tls_tests::Authority;

const DEADLINE: Duration = Duration::from_secs(30);

/// More than the sockets take.
const MESSAGES: usize = 200;
const SIZE: usize = 64 << 10;

struct Talkative;

impl Handler for Talkative {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        if socket.subprotocol() == Some("much") {
            for number in 0..MESSAGES {
                assert!(socket.send(vec![number as u8; SIZE]));
            }
        }
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
}

#[test]
fn queued_output_goes_before_the_close_and_the_end_of_tls() {
    for workers in [1, 2] {
        let authority = Authority::new();
        let config = Config::default().max_write_buffer_size(32 << 20);
        let server = Server::builder()
            .workers(workers)
            .config(config)
            .subprotocols(["much", "little"])
            .tls(authority.server())
            .serve("127.0.0.1:0", |_| Talkative)
            .expect("a server");
        let url = format!("wss://localhost:{}", server.local_addr().port());
        let connect = |subprotocol| {
            // It reads no further than the application receives.
            let config = Config::default().max_event_buffer_size(1);
            let builder = Client::builder().tls(authority.client()).config(config).subprotocols([subprotocol]);
            builder.connect(&url).expect("connected")
        };
        let (much, little) = (connect("much"), connect("little"));
        let start = Instant::now();
        let is_behind = |traffic: TrafficStats| traffic.opened == 2 && traffic.queued_bytes > 0;
        while !is_behind(server.stats().traffic) {
            assert!(start.elapsed() < DEADLINE, "two connections, one of which has not read all");
            thread::yield_now();
        }
        let drain = thread::spawn(move || server.drain(Duration::from_secs(8)));
        let idle = thread::spawn(move || {
            assert_eq!(little.recv_timeout(DEADLINE), Ok(None));
            little.close_reason().cloned()
        });
        for number in 0..MESSAGES {
            let message = much.recv_timeout(DEADLINE).expect("a message");
            assert!(message == Some(Message::Binary(vec![number as u8; SIZE])), "message {number}");
        }
        assert_eq!(much.recv_timeout(DEADLINE), Ok(None));
        for reason in [much.close_reason().cloned(), idle.join().expect("no panic")] {
            let reason = reason.expect("closed");
            assert!(reason.code == CloseCode::SERVICE_RESTART && reason.is_clean(), "{reason}");
        }
        let report = drain.join().expect("drained");
        assert_eq!((report.idle + report.busy, report.left, report.lost, report.cut), (2, 0, 0, 0), "{report}");
    }
}
