//! Messages that are lent out of the receive buffer: they are the same as owned ones, in the same order, with the same end.
//! And the receive buffer of a `WebSocket<S>`, which is large only while there is much to read.

use crate::common;

use std::io::{self, Read, Write};

use threadbare::protocol::frame::{self, Opcode};
use threadbare::{Config, Message, Role, SocketError, WebSocket};

/// A stream in memory: each read returns at most `step` bytes. It keeps the sizes of the buffers that it was offered, and
/// has nothing once the input is read.
struct Recorded {
    input: io::Cursor<Vec<u8>>,
    step: usize,
    offered: Vec<usize>,
    output: Vec<u8>,
}

impl Recorded {
    fn new(input: Vec<u8>, step: usize) -> Recorded {
        Recorded { input: io::Cursor::new(input), step, offered: Vec::new(), output: Vec::new() }
    }
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.offered.push(buffer.len());
        let size = buffer.len().min(self.step);
        match self.input.read(&mut buffer[..size])? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            size => Ok(size),
        }
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A frame for an endpoint of this role.
fn encode(to: Role, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, opcode, payload, (to == Role::Server).then_some([1, 2, 3, 4]));
    bytes
}

/// Takes the FIN bit from a frame.
fn unfinished(mut frame: Vec<u8>) -> Vec<u8> {
    frame[0] &= 0x7F;
    frame
}

/// Frames of every kind, and the close frame.
fn conversation(to: Role) -> Vec<u8> {
    let mut bytes = Vec::new();
    for size in [0, 1, 2, 64, 125, 126, 127, 1_000, 16_384, 65_535, 65_536, 100_000] {
        bytes.extend(encode(to, Opcode::Text, "größer ".repeat(size).get(..size).unwrap_or("x").as_bytes()));
        bytes.extend(encode(to, Opcode::Ping, b"between"));
        bytes.extend(encode(to, Opcode::Binary, &vec![size as u8; size]));
    }
    bytes.extend(unfinished(encode(to, Opcode::Text, b"in ")));
    bytes.extend(encode(to, Opcode::Pong, b""));
    bytes.extend(encode(to, Opcode::Continuation, b"parts"));
    bytes.extend(encode(to, Opcode::Close, b"\x03\xe8"));
    bytes
}

/// All messages and what they end with, owned or lent.
fn received(mut socket: WebSocket<Recorded>, lent: bool) -> (Vec<Message>, String, Vec<u8>) {
    let mut messages = Vec::new();
    let end = loop {
        let next = if lent {
            socket.recv_ref().map(|message| message.map(|message| message.into_owned()))
        } else {
            socket.recv()
        };
        match next {
            Ok(Some(message)) => messages.push(message),
            end => break format!("{end:?}"),
        }
    };
    let counted = socket.stats().messages_received;
    assert_eq!(counted, messages.len() as u64);
    (messages, end + &format!(" {:?}", socket.close_reason()), socket.into_inner().output)
}

#[test]
fn a_lent_message_is_the_same_as_an_owned_one() {
    for role in [Role::Server, Role::Client] {
        let bytes = conversation(role);
        for step in [1, 7, 1_000, 16_384, usize::MAX] {
            let socket = || {
                WebSocket::from_established(Recorded::new(bytes.clone(), step), role, Vec::new(), &Config::default())
            };
            let (owned, end, output) = received(socket(), false);
            let (lent, lent_end, lent_output) = received(socket(), true);
            assert_eq!(owned.len(), 25);
            assert!(owned == lent, "{role:?}, {step} bytes at a time");
            assert_eq!(end, lent_end);
            assert_eq!(output.len(), lent_output.len(), "pongs and a close frame");
        }
    }
}

/// Text that is not UTF-8 (RFC 6455 8.1), a frame with a reserved bit, and one that is too large.
#[test]
fn a_violation_is_the_same_whether_messages_are_lent_or_owned() {
    let violations = [
        (encode(Role::Client, Opcode::Text, b"\xff\xff\xff\xff"), 1007),
        (b"\xc1\x04aaaa".to_vec(), 1002),
        (encode(Role::Client, Opcode::Binary, &[0; 101]), 1009),
    ];
    for (violation, code) in violations {
        let bytes = [encode(Role::Client, Opcode::Text, b"before"), violation].concat();
        let config = Config::default().max_message_size(100);
        let socket =
            || WebSocket::from_established(Recorded::new(bytes.clone(), usize::MAX), Role::Client, Vec::new(), &config);
        let (owned, end, output) = received(socket(), false);
        let (lent, lent_end, lent_output) = received(socket(), true);
        assert_eq!((&owned, &end), (&lent, &lent_end));
        assert_eq!(owned, [Message::from("before")]);
        assert!(end.contains("Protocol"), "{end}");
        assert!(end.contains(&format!("({code})")), "{end}");
        assert_eq!((output.first(), output.len()), (Some(&0x88), lent_output.len()), "a close frame");
    }
}

#[test]
fn nothing_is_lent_after_a_violation() {
    let bytes = [encode(Role::Client, Opcode::Text, b"\xff\xff\xff"), encode(Role::Client, Opcode::Text, b"later")];
    let mut socket = WebSocket::from_established(
        Recorded::new(bytes.concat(), usize::MAX),
        Role::Client,
        Vec::new(),
        &Config::default(),
    );
    assert!(matches!(socket.recv_ref(), Err(SocketError::Protocol(_))));
    assert!(matches!(socket.recv_ref(), Err(SocketError::Closed)));
    assert!(matches!(socket.recv(), Err(SocketError::Closed)));
}

#[test]
fn answers_to_lent_messages_leave_together_before_the_next_read() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    for stream in [&ours, &theirs] {
        stream.set_read_timeout(Some(common::DEADLINE)).expect("a socket");
    }
    let mut server = WebSocket::from_established(ours, Role::Server, Vec::new(), &Config::default());
    let mut client = WebSocket::from_established(theirs, Role::Client, Vec::new(), &Config::default());
    let echo = std::thread::spawn(move || {
        while let Some(message) = server.recv_ref().expect("a message") {
            let reply = message.into_owned();
            server.send(reply).expect("sent");
        }
    });
    for size in [0_usize, 1, 200, 100_000] {
        let message = Message::from("x".repeat(size));
        client.send(&message).expect("sent");
        assert_eq!(client.recv_ref().expect("received").map(|message| message.into_owned()), Some(message));
    }
    client.close(threadbare::CloseCode::NORMAL_CLOSURE, "").expect("sent");
    assert!(client.recv_ref().expect("a clean end").is_none());
    echo.join().expect("no panic");
}

/// The sizes of the buffers that a socket offers its stream while it receives `messages` of `size` bytes.
fn offered(messages: usize, size: usize) -> Vec<usize> {
    let bytes = encode(Role::Client, Opcode::Binary, &vec![7; size]).repeat(messages);
    let mut socket =
        WebSocket::from_established(Recorded::new(bytes, usize::MAX), Role::Client, Vec::new(), &Config::default());
    for _ in 0..messages {
        assert_eq!(socket.recv_ref().expect("received").map(|message| message.len()), Some(size));
    }
    assert!(matches!(socket.recv_ref(), Err(SocketError::Timeout)));
    socket.into_inner().offered
}

/// The socket waits with the buffer that it offered last.
#[test]
fn a_read_grows_with_what_arrives_and_a_socket_at_rest_has_16_kib() {
    const OWN: usize = 16 << 10;
    const LARGE: usize = 256 << 10;
    assert_eq!(offered(10, 64), [OWN, OWN], "few messages");
    assert_eq!(offered(7_000, 64), [OWN, LARGE, LARGE, OWN], "many messages");
    let of_large_messages = offered(20, 40_000);
    assert!(of_large_messages.iter().all(|size| *size <= 2 * OWN + 40_000), "{of_large_messages:?}");
    assert_eq!(of_large_messages.last(), Some(&OWN), "their buffers are their own");
}

/// A client and the server's handle of its connection.
fn client_and_peer(server: &threadbare::Server) -> (threadbare::Client, threadbare::Peer) {
    let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr())).expect("connected");
    match server.recv().expect("the server runs") {
        threadbare::Event::Open(peer, _) => (client, peer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_lends_the_messages_that_it_would_return() {
    let server = threadbare::Server::bind("127.0.0.1:0").expect("a port");
    let (client, peer) = client_and_peer(&server);
    let sent: Vec<Message> = [0_usize, 1, 2, 64, 16_384, 100_000]
        .into_iter()
        .flat_map(|size| [Message::from("x".repeat(size)), Message::from(vec![size as u8; size])])
        .collect();
    for message in &sent {
        peer.send(message).expect("it is open");
    }
    peer.close(threadbare::CloseCode(4000), "").expect("it is open");
    let mut lent = Vec::new();
    let mut messages = client.iter();
    while let Some(message) = messages.next_ref() {
        lent.push(message.expect("a message").into_owned());
    }
    assert!(lent == sent, "{} messages of {}", lent.len(), sent.len());
    assert!(messages.next_ref().is_none() && messages.next().is_none(), "it stays at its end");
    assert!(client.close_reason().is_some_and(|reason| reason.code == threadbare::CloseCode(4000)));
}

#[test]
fn what_an_iterator_has_not_lent_goes_to_the_next_call() {
    let server = threadbare::Server::bind("127.0.0.1:0").expect("a port");
    let (client, peer) = client_and_peer(&server);
    let prices = (0..9).map(|price| price.to_string()).collect::<Vec<_>>();
    for price in &prices {
        peer.send(price).expect("it is open");
    }
    let mut received = Vec::new();
    for _ in 0..3 {
        let mut messages = client.iter();
        let lent = messages.next_ref().expect("open").expect("a message").into_owned();
        received.push(lent);
        received.push(messages.next().expect("open").expect("a message"));
        drop(messages);
        received.push(client.recv().expect("open").expect("a message"));
    }
    assert_eq!(received, prices.into_iter().map(Message::from).collect::<Vec<_>>());
}

#[test]
fn a_lost_connection_ends_an_iterator_that_lends_with_its_reason() {
    let server = threadbare::Server::bind("127.0.0.1:0").expect("a port");
    let (client, peer) = client_and_peer(&server);
    peer.abort();
    let mut messages = client.iter();
    assert!(matches!(messages.next_ref(), Some(Err(threadbare::ClientError::Failed(_)))));
    assert!(messages.next_ref().is_none());
}
