//! Every `send` accepts the same types, and does not copy owned or shared large payloads.

use crate::common;

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use common::{DEADLINE, eventually};
use threadbare::{
    Client, Config, CowMessage, Event, Handler, Message, MessageRef, Prepared, Reconnect, Role, Server, Socket,
    WebSocket,
};

/// The payload of every message: the first ones are text, the others binary.
const TEXT: &str = "a text";
const BYTES: &[u8; 6] = b"\x00bytes";

/// Passes a message of every type to a closure. Evaluates to the number of text messages and of binary messages.
macro_rules! send_every_form {
    ($send:expr) => {{
        let (string, vec): (String, Vec<u8>) = (TEXT.into(), BYTES.to_vec());
        let (arc_text, arc_bytes): (Arc<str>, Arc<[u8]>) = (TEXT.into(), BYTES.to_vec().into());
        let (cow_text, cow_bytes): (Cow<'_, str>, Cow<'_, [u8]>) = (TEXT.into(), BYTES.as_slice().into());
        $send(TEXT.into());
        $send((&string).into());
        $send(string.clone().into());
        $send(format!("a {}", "text").into());
        $send((&cow_text).into());
        $send(cow_text.into());
        $send((&arc_text).into());
        $send(arc_text.into());
        $send(MessageRef::Text(TEXT).into());
        $send((&Message::from(TEXT)).into());
        $send(Message::from(TEXT).into());
        $send((&CowMessage::from(TEXT)).into());
        $send(BYTES.as_slice().into());
        $send(BYTES.into());
        $send((*BYTES).into());
        $send((&vec).into());
        $send(vec.into());
        $send((&cow_bytes).into());
        $send(cow_bytes.into());
        $send((&arc_bytes).into());
        $send(arc_bytes.into());
        (12, 9)
    }};
}

/// As `send_every_form`, by the method `send` itself, which converts its argument.
macro_rules! send_directly {
    ($sender:expr) => {{
        let (string, vec): (String, Vec<u8>) = (TEXT.into(), BYTES.to_vec());
        let (arc_text, arc_bytes): (Arc<str>, Arc<[u8]>) = (TEXT.into(), BYTES.to_vec().into());
        let cow_text: Cow<'_, str> = TEXT.into();
        let _ = $sender.send(format!("a {}", "text"));
        let _ = $sender.send(TEXT);
        let _ = $sender.send(&string);
        let _ = $sender.send(string);
        let _ = $sender.send(cow_text);
        let _ = $sender.send(&arc_text);
        let _ = $sender.send(arc_text);
        let _ = $sender.send(Message::from(TEXT));
        let _ = $sender.send(&Message::from(TEXT));
        let _ = $sender.send(MessageRef::Text(TEXT));
        let _ = $sender.send(BYTES);
        let _ = $sender.send(*BYTES);
        let _ = $sender.send(&vec);
        let _ = $sender.send(vec);
        let _ = $sender.send(BYTES.as_slice());
        let _ = $sender.send(&arc_bytes);
        let _ = $sender.send(arc_bytes);
        (10, 7)
    }};
}

/// A handler that answers each message by one of every type.
struct EveryForm;

impl Handler for EveryForm {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        if message.as_text() == Some("directly") {
            send_directly!(socket);
        } else {
            let mut send = |message: CowMessage<'_>| assert!(socket.send(message));
            send_every_form!(send);
        }
    }
}

/// Receives the messages of `send_every_form`.
fn expect_forms(client: &Client, (texts, bytes): (usize, usize)) {
    for _ in 0..texts {
        assert_eq!(client.recv_timeout(DEADLINE).expect("a message"), Some(Message::from(TEXT)));
    }
    for _ in 0..bytes {
        assert_eq!(client.recv_timeout(DEADLINE).expect("a message"), Some(Message::from(BYTES.as_slice())));
    }
}

fn echo() -> (Server, String) {
    common::logged::install();
    struct Echo;
    impl Handler for Echo {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            socket.send(message);
        }
    }
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| Echo).expect("a server");
    let url = format!("ws://{}/", server.local_addr());
    (server, url)
}

#[test]
fn a_handler_sends_every_form() {
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| EveryForm).expect("a server");
    let client = Client::connect(&format!("ws://{}/", server.local_addr())).expect("connected");
    client.send("every form").expect("open");
    expect_forms(&client, (12, 9));
    client.send("directly").expect("open");
    expect_forms(&client, (10, 7));
}

#[test]
fn a_client_and_its_peer_send_every_form() {
    let (_server, url) = echo();
    let client = Client::connect(&url).expect("connected");
    let sent = send_every_form!(|message: CowMessage<'_>| client.send(message).expect("open"));
    expect_forms(&client, sent);
    expect_forms(&client, send_directly!(client));
    let peer = client.peer();
    let sent = send_every_form!(|message: CowMessage<'_>| peer.try_send(message).expect("open"));
    expect_forms(&client, sent);
    expect_forms(&client, send_directly!(peer));
}

#[test]
fn a_reconnecting_client_sends_every_form() {
    let (_server, url) = echo();
    let client = Client::builder().reconnect(&url, Reconnect::default()).expect("a client");
    let (texts, bytes) = send_every_form!(|message: CowMessage<'_>| client.send(message).expect("not closed"));
    let (more_texts, more_bytes) = send_directly!(client);
    for expected in [(texts, bytes), (more_texts, more_bytes)] {
        for _ in 0..expected.0 {
            assert_eq!(client.recv_timeout(DEADLINE).expect("a message"), Some(Message::from(TEXT)));
        }
        for _ in 0..expected.1 {
            assert_eq!(client.recv_timeout(DEADLINE).expect("a message"), Some(Message::from(BYTES.as_slice())));
        }
    }
}

#[test]
fn a_blocking_socket_sends_every_form() {
    let (_server, url) = echo();
    let addr = url.trim_start_matches("ws://").trim_end_matches('/');
    let stream = std::net::TcpStream::connect(addr).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut socket = WebSocket::connect(&url, stream).expect("a handshake");
    let first = send_every_form!(|message: CowMessage<'_>| socket.send(message).expect("open"));
    let second = send_directly!(socket);
    for (texts, bytes) in [first, second] {
        for _ in 0..texts {
            assert_eq!(socket.recv().expect("open"), Some(Message::from(TEXT)));
        }
        for _ in 0..bytes {
            assert_eq!(socket.recv().expect("open"), Some(Message::from(BYTES.as_slice())));
        }
    }
}

/// Payloads of more than 16 KiB are moved or shared, others are copied.
#[test]
fn borrowed_owned_and_shared_payloads_arrive_whole() {
    struct EchoThrice;
    impl Handler for EchoThrice {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            let shared: Arc<[u8]> = message.as_bytes().into();
            assert!(socket.send(&shared) && socket.send(shared) && socket.send(message.into_owned()));
        }
    }
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| EchoThrice).expect("a server");
    let client = Client::connect(&format!("ws://{}/", server.local_addr())).expect("connected");
    for size in [1, 16 << 10, (16 << 10) + 1, 300_000] {
        let payload: Arc<[u8]> = (0..size).map(|n| (n / 7) as u8).collect();
        client.send(&payload).expect("open");
        for _ in 0..3 {
            let message = client.recv_timeout(DEADLINE).expect("a message").expect("open");
            assert!(message.as_bytes() == &payload[..], "{size} bytes");
        }
    }
}

/// The send queue holds the `Arc` itself.
#[test]
fn a_shared_payload_of_a_server_is_not_copied() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let mut client = common::Client::open_with_small_buffer(server.local_addr());
    let Ok(Event::Open(peer, _)) = server.recv_timeout(DEADLINE) else { panic!("not open") };
    let payload: Arc<[u8]> = vec![7; 8 << 20].into();
    let before = Arc::strong_count(&payload);
    peer.send(&payload).expect("open");
    assert_eq!(Arc::strong_count(&payload), before + 1, "the queue shares the payload");
    // The client has read nothing, so most of the payload is still queued.
    eventually("the worker has written a part", || peer.stats().bytes_sent > 0);
    assert_eq!(Arc::strong_count(&payload), before + 1, "the worker does not copy the payload");
    assert_eq!(client.expect_frame().payload.len(), payload.len());
    eventually("the worker has released the payload", || Arc::strong_count(&payload) == before);
}

/// A large payload that is owned or shared is written from where the application gave it.
#[test]
fn a_large_payload_of_a_blocking_server_is_not_copied() {
    /// Takes everything, and keeps the addresses that it was written from.
    #[derive(Default)]
    struct Recorder {
        written_from: Vec<*const u8>,
        size: usize,
    }
    impl Read for Recorder {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
    }
    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written_from.push(bytes.as_ptr());
            self.size += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    const SIZE: usize = 100_000;
    let config = Config::default();
    let mut socket = WebSocket::from_established(Recorder::default(), Role::Server, Vec::new(), &config);
    let (shared, owned): (Arc<[u8]>, Vec<u8>) = (vec![7; SIZE].into(), vec![8; SIZE]);
    let places = [shared.as_ptr(), owned.as_ptr()];
    socket.send(&shared).expect("open");
    socket.send(owned).expect("open");
    let Recorder { written_from, size } = socket.get_ref();
    assert_eq!(*size, 2 * (SIZE + 10), "both, each behind a header of 10 bytes");
    for place in places {
        assert!(written_from.contains(&place));
    }
}

#[test]
fn every_send_method_has_a_form_for_prepared_messages() {
    let (_server, url) = echo();
    let prepared = Prepared::new(TEXT);
    let expected = Some(Message::from(TEXT));
    let soon = || Instant::now() + DEADLINE;
    let client = Client::connect(&url).expect("connected");
    let peer = client.peer();
    client.send_prepared(&prepared).expect("open");
    client.try_send_prepared(&prepared).expect("open");
    client.send_prepared_timeout(&prepared, DEADLINE).expect("open");
    client.send_prepared_deadline(&prepared, soon()).expect("open");
    peer.send_prepared(&prepared).expect("open");
    peer.try_send_prepared(&prepared).expect("open");
    peer.send_prepared_timeout(&prepared, DEADLINE).expect("open");
    peer.send_prepared_deadline(&prepared, soon()).expect("open");
    for _ in 0..8 {
        assert_eq!(client.recv_timeout(DEADLINE).expect("a message"), expected);
    }
    let reconnecting = Client::builder().reconnect(&url, Reconnect::default()).expect("a client");
    let sender = reconnecting.sender();
    reconnecting.send_prepared(&prepared).expect("not closed");
    reconnecting.try_send_prepared(&prepared).expect("not closed");
    reconnecting.send_prepared_timeout(&prepared, DEADLINE).expect("not closed");
    reconnecting.send_prepared_deadline(&prepared, soon()).expect("not closed");
    sender.send_prepared(&prepared).expect("not closed");
    for _ in 0..5 {
        assert_eq!(reconnecting.recv_timeout(DEADLINE).expect("a message"), expected);
    }
}
