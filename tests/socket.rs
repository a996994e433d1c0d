//! `WebSocket<S>`: one connection on the caller's thread, over TCP, a Unix socket, or any other stream.
#![cfg(unix)]

use crate::common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, Frame, chain, masked, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{Accept, CloseCode, Config, Message, Response, Role, SocketError, WebSocket};

fn echo<S: Read + Write>(mut socket: WebSocket<S>) -> Result<WebSocket<S>, SocketError> {
    while let Some(message) = socket.recv()? {
        socket.send(&message)?;
    }
    Ok(socket)
}

/// Starts a thread that echoes on one connection, and returns how that ended.
fn serve_one() -> (std::net::SocketAddr, thread::JoinHandle<Result<WebSocket<TcpStream>, SocketError>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let server = thread::spawn(move || echo(WebSocket::accept(listener.accept().expect("a client").0)?));
    (addr, server)
}

#[test]
fn messages_of_every_size_are_echoed_in_order() {
    let (addr, server) = serve_one();
    let mut client = Client::open(addr);
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        client.send(&common::binary(&bytes));
        assert_eq!(client.expect_frame(), Frame::binary(&bytes));
    }
    let many: Vec<u8> = (0..1_000).flat_map(|n| text(&n.to_string())).collect();
    client.send(&many);
    for n in 0..1_000 {
        assert_eq!(client.expect_frame(), Frame::text(&n.to_string()));
    }
    client.send(&common::close(4321));
    assert_eq!(client.expect_frame().close_code(), 4321);
    let socket = server.join().expect("no panic").expect("a clean end");
    let reason = socket.close_reason().cloned().expect("a close");
    assert_eq!((reason.code, reason.is_clean()), (CloseCode(4321), true));
    drop(socket);
    assert_eq!(client.frame(), None);
}

#[test]
fn pings_between_fragments_are_answered_at_once() {
    let (addr, _server) = serve_one();
    let mut client = Client::open(addr);
    client.send(&masked(false, 0, Opcode::Text, b"Hel"));
    client.send(&common::ping(b"?"));
    assert_eq!(client.expect_frame(), Frame::pong(b"?"));
    client.send(&masked(true, 0, Opcode::Continuation, b"lo"));
    assert_eq!(client.expect_frame(), Frame::text("Hello"));
}

#[test]
fn bytes_after_the_head_are_decoded_as_frames() {
    let (addr, _server) = serve_one();
    let mut client = Client::tcp(addr);
    client.send(&[common::request("/", "").into_bytes(), text("early")].concat());
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.expect_frame(), Frame::text("early"));
}

#[test]
fn a_violation_is_reported_to_both_ends() {
    let (addr, server) = serve_one();
    let mut client = Client::open(addr);
    client.send(&text("before"));
    client.send(b"\x81\x05Hello");
    assert_eq!(client.expect_frame(), Frame::text("before"));
    assert_eq!(client.expect_frame().close_code(), 1002);
    assert_eq!(client.frame(), None);
    drop(client); // the server's socket waits for it
    let error = server.join().expect("no panic").expect_err("a violation");
    assert_eq!(chain(&error), "the peer broke the protocol: a client must mask its frames");
}

#[test]
fn accept_with_can_refuse_a_handshake() {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let server = thread::spawn(move || {
        WebSocket::accept_with(theirs, &Config::default(), |request| match request.path() {
            "/chat" => Ok(Accept::new()),
            _ => Err(Response::new(404)),
        })
    });
    ours.write_all(common::request("/other", "").as_bytes()).expect("written");
    let mut answer = [0; 12];
    ours.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
    assert!(matches!(server.join().expect("no panic"), Err(SocketError::Refused(refusal)) if refusal.status() == 404));
}

#[test]
fn both_roles_exchange_messages_over_a_unix_socket_until_one_closes() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let server =
        thread::spawn(move || echo(WebSocket::from_established(theirs, Role::Server, Vec::new(), &Config::default())));
    let mut client = WebSocket::from_established(ours, Role::Client, Vec::new(), &Config::default());
    for size in [0_usize, 5, 300, 100_000] {
        let message = Message::from("x".repeat(size));
        client.send(&message).expect("sent");
        assert_eq!(client.recv().expect("received"), Some(message));
    }
    client.close(CloseCode::NORMAL_CLOSURE, "done").expect("sent");
    assert!(client.recv().expect("a clean end").is_none());
    assert_eq!(client.iter().count(), 0);
    assert!(matches!(client.send("late"), Err(SocketError::Closed)));
    let reason = server.join().expect("no panic").expect("a clean end").close_reason().cloned().expect("a close");
    assert_eq!((reason.code, reason.reason.as_str()), (CloseCode::NORMAL_CLOSURE, "done"));
}

#[test]
fn a_client_and_a_server_complete_the_handshakes_over_tcp() {
    let (addr, server) = serve_one();
    let stream = TcpStream::connect(addr).expect("connected");
    let mut client = WebSocket::connect(&format!("ws://{addr}/echo"), stream).expect("accepted");
    client.send("Hello").expect("sent");
    assert_eq!(client.recv().expect("received"), Some(Message::from("Hello")));
    client.close(CloseCode::GOING_AWAY, "").expect("sent");
    assert!(client.recv().expect("a clean end").is_none());
    assert_eq!(client.iter().count(), 0);
    server.join().expect("no panic").expect("a clean end");
}

#[test]
fn recv_can_be_repeated_after_a_timeout_of_the_stream() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    let mut client = WebSocket::from_established(ours, Role::Client, Vec::new(), &Config::default());
    assert!(matches!(client.recv(), Err(SocketError::Timeout)));
    let mut server = WebSocket::from_established(theirs, Role::Server, Vec::new(), &Config::default());
    server.send("now").expect("sent");
    assert_eq!(client.recv().expect("received"), Some(Message::from("now")));
}

/// A stream in memory that reads and writes one byte at a time.
struct OneByteStream {
    input: io::Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for OneByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = buffer.len().min(1);
        self.input.read(&mut buffer[..size])
    }
}

impl Write for OneByteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(&bytes[..1]);
        Ok(1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stream_may_read_and_write_one_byte_at_a_time() {
    let mut bytes = common::request("/", "").into_bytes();
    bytes.extend(text("Hello"));
    bytes.extend(common::ping(b"p"));
    bytes.extend(common::close(1000));
    let socket =
        WebSocket::accept(OneByteStream { input: io::Cursor::new(bytes), output: Vec::new() }).expect("accepted");
    let output = echo(socket).expect("a clean end").into_inner().output;
    let frames = output.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    assert_eq!(&output[frames..], b"\x81\x05Hello\x8a\x01p\x88\x02\x03\xe8");
}

#[test]
fn a_client_receives_what_arrives_between_its_close_frame_and_the_servers() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(common::DEADLINE)).expect("a socket");
    let mut client = WebSocket::from_established(ours, Role::Client, Vec::new(), &Config::default());
    client.close(CloseCode::NORMAL_CLOSURE, "").expect("sent");
    theirs.write_all(b"\x81\x01a\x89\x02hi\x01\x01b\x80\x01c\x88\x02\x03\xe8").expect("written");
    let received: Vec<_> = client.iter().collect::<Result<_, _>>().expect("a clean end");
    assert_eq!(received, [Message::from("a"), Message::from("bc")]);
    assert!(client.close_reason().is_some_and(|reason| reason.is_clean()));
    drop(client);
    let mut written = Vec::new();
    theirs.read_to_end(&mut written).expect("frames");
    // The close frame, then the pong; both are masked.
    assert_eq!((written.len(), &written[..2], &written[8..10]), (16, &b"\x88\x82"[..], &b"\x8a\x82"[..]));
    assert_eq!([written[14] ^ written[10], written[15] ^ written[11]], *b"hi");
}

#[test]
fn a_server_answers_a_ping_behind_its_close_frame_and_discards_messages() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(common::DEADLINE)).expect("a socket");
    theirs.set_read_timeout(Some(common::DEADLINE)).expect("a socket");
    let mut server = WebSocket::from_established(ours, Role::Server, Vec::new(), &Config::default());
    server.close(CloseCode::NORMAL_CLOSURE, "").expect("sent");
    theirs.write_all(&[text("late"), common::ping(b"hi")].concat()).expect("written");
    let server = thread::spawn(move || server.recv());
    // The pong does not wait for the peer's close frame.
    let mut written = [0; 8];
    theirs.read_exact(&mut written).expect("frames");
    assert_eq!(&written, b"\x88\x02\x03\xe8\x8a\x02hi");
    theirs.write_all(&common::close(1000)).expect("written");
    assert_eq!(server.join().expect("no panic").expect("a clean end"), None);
}

#[test]
fn a_send_that_times_out_says_whether_the_message_was_queued() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    let config = Config::default().max_write_buffer_size(1 << 20);
    let mut client = WebSocket::from_established(ours, Role::Client, Vec::new(), &config);
    let (mut sent, mut refused) = (0_usize, 0);
    // The peer does not read yet.
    while refused < 5 {
        let payload = vec![sent as u8; 700_000];
        let outcome = if sent.is_multiple_of(2) { client.send(&payload) } else { client.send(payload) };
        match outcome {
            Ok(()) | Err(SocketError::Queued) => sent += 1,
            Err(SocketError::Timeout) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(client.stats().queued_bytes < (1 << 20) + 700_000 + 14);
    }
    assert!(matches!(client.send(Message::Ping(vec![1])), Err(SocketError::Timeout)));
    assert!(matches!(client.close(CloseCode::NORMAL_CLOSURE, ""), Err(SocketError::Queued)));
    client.get_ref().set_nonblocking(false).expect("a socket");
    let server = thread::spawn(move || {
        let mut server = WebSocket::from_established(theirs, Role::Server, Vec::new(), &Config::default());
        server.iter().collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(client.recv().expect("a clean end"), None);
    let received = server.join().expect("no panic").expect("a clean end");
    let expected: Vec<_> = (0..sent).map(|n| Message::from(vec![n as u8; 700_000])).collect();
    assert!(received == expected, "{} messages of {sent}", received.len());
}

#[test]
fn recv_after_a_failure_does_not_report_a_clean_close() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut client = WebSocket::from_established(ours, Role::Client, Vec::new(), &Config::default());
    let mut server = WebSocket::from_established(theirs, Role::Server, Vec::new(), &Config::default());
    server.send("last").expect("sent");
    drop(server);
    let received: Vec<_> = client.iter().collect();
    assert!(matches!(&received[..], [Ok(Message::Text(_)), Err(SocketError::Io(_))]), "{received:?}");
    assert!(matches!(client.recv(), Err(SocketError::Closed)));
}

#[test]
fn recv_timeout_ends_at_its_deadline_whatever_trickles_in() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(Duration::from_secs(3600))).expect("a socket");
    let mut client = WebSocket::from_established(ours, Role::Client, Vec::new(), &Config::default());
    let timeout = Duration::from_millis(100);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    // The frame announces more bytes than ever arrive.
    let trickle = thread::spawn(move || {
        let mut stream = theirs;
        stream.write_all(b"\x81\x7d").expect("written");
        let mut count = 0;
        while stopped.recv_timeout(Duration::from_millis(10)).is_err() {
            stream.write_all(b"x").expect("written");
            count += 1;
        }
        stream.write_all(&vec![b'x'; 125 - count]).expect("written");
        stream
    });
    let start = std::time::Instant::now();
    assert!(matches!(client.recv_timeout(timeout), Err(SocketError::Timeout)));
    assert!((timeout..common::DEADLINE).contains(&start.elapsed()), "{:?}", start.elapsed());
    stop.send(()).expect("it runs");
    assert_eq!(client.recv_timeout(Duration::MAX).expect("received"), Some(Message::from("x".repeat(125))));
    assert_eq!(client.get_mut().read_timeout().expect("a socket"), Some(Duration::from_secs(3600)));
    drop(trickle.join().expect("no panic"));
    assert!(matches!(client.recv_timeout(common::DEADLINE), Err(SocketError::Io(_))));
}

/// The peer reads nothing. It sends pings, so that there is more to write than the stream takes; then it closes, or breaks
/// the protocol.
#[test]
fn recv_timeout_ends_at_its_deadline_though_the_peer_reads_nothing() {
    for (last, is_clean) in [(common::close(1000), true), (vec![0xFF; 2], false)] {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let config = Config::default().close_timeout(Duration::from_millis(1));
        let mut socket = WebSocket::from_established(ours, Role::Server, vec![], &config);
        let (done, ended) = crossbeam_channel::bounded(1);
        let receiver = thread::spawn(move || {
            let end = loop {
                match socket.recv_timeout(Duration::from_millis(20)) {
                    Err(SocketError::Timeout) => {}
                    other => break other,
                }
            };
            let own = socket.get_ref().write_timeout().expect("a socket");
            done.send((end, own)).expect("the test waits");
        });
        theirs.set_write_timeout(Some(common::DEADLINE)).expect("a socket");
        theirs.write_all(&common::ping(&[7; 125]).repeat(4_000)).expect("the socket reads");
        theirs.write_all(&last).expect("the socket reads");
        let (end, own) = ended.recv_timeout(common::DEADLINE).expect("no call waits for the peer to read");
        assert!(
            if is_clean { matches!(end, Ok(None)) } else { matches!(end, Err(SocketError::Protocol(_))) },
            "{end:?}"
        );
        assert_eq!(own, None, "the stream's own timeout is put back");
        drop(theirs);
        receiver.join().expect("no panic");
    }
}

#[test]
fn recv_timeout_ends_at_its_deadline_if_nothing_arrives() {
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(2 * common::DEADLINE)).expect("a socket");
    let mut client = WebSocket::from_established(ours, Role::Client, Vec::new(), &Config::default());
    let start = std::time::Instant::now();
    assert!(matches!(client.recv_timeout(Duration::from_millis(10)), Err(SocketError::Timeout)));
    assert!(start.elapsed() < common::DEADLINE, "{:?}", start.elapsed());
    assert_eq!(client.get_mut().read_timeout().expect("a socket"), Some(2 * common::DEADLINE));
}

#[test]
fn a_refusal_of_a_head_request_has_a_date_and_no_body() {
    // RFC 9110 9.3.2: "the server MUST NOT send content in the response".
    for (status, head) in [
        (426, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (400, "HEAD / HTTP/1.1\r\n\r\n"),
        (400, "HEAD / HTTP/1.1\n"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        client.write_all(head.as_bytes()).expect("written");
        client.shutdown(Shutdown::Write).expect("a socket");
        let (stream, _) = listener.accept().expect("a client");
        let refused = WebSocket::accept(stream).expect_err("refused");
        assert!(matches!(&refused, SocketError::Refused(response) if response.status() == status), "{refused}");
        drop(refused);
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("a response and FIN");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(answer.contains("\r\nDate: ") && !answer.contains("Content-Length: 0"), "{answer}");
    }
}

/// Each end has more to say than the system's buffers hold, and hears only if it reads meanwhile.
/// T-05: the peer sends pings and reads no pong, and later it reads.
#[test]
fn t_05_a_socket_answers_the_last_ping_of_a_flood_and_queues_no_more_pongs_than_its_limit() {
    const LIMIT: usize = 64 << 10;
    let times_out = |stream: &UnixStream| stream.set_write_timeout(Some(Duration::from_millis(1)));
    let does_not_block = |stream: &UnixStream| stream.set_nonblocking(true);
    for set in [times_out as fn(&UnixStream) -> io::Result<()>, does_not_block] {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
        set(&ours).expect("a socket");
        let config = Config::default().max_write_buffer_size(LIMIT);
        let mut socket = WebSocket::from_established(ours, Role::Server, vec![], &config);
        let payload = |round: u8| [round; 125];
        for round in 0..100 {
            theirs.write_all(&common::ping(&payload(round)).repeat(100)).expect("the socket reads");
            assert!(matches!(socket.recv(), Err(SocketError::Timeout)), "no message");
            // One read is decoded before the stream is asked again.
            let queued = socket.stats().queued_bytes;
            assert!(queued < LIMIT + (16 << 10), "{queued} bytes after {round} rounds");
        }
        assert!(socket.stats().queued_bytes >= LIMIT, "the pongs have filled the queue");
        theirs.set_nonblocking(true).expect("a socket");
        let (mut received, mut rest) = (Vec::new(), [0; 4096]);
        let pong = [&[0x8A, 125], &payload(99)[..]].concat();
        let deadline = Instant::now() + common::DEADLINE;
        while !received.ends_with(&pong) {
            assert!(Instant::now() < deadline, "the last ping is not answered");
            while let Ok(size @ 1..) = theirs.read(&mut rest) {
                received.extend_from_slice(&rest[..size]);
            }
            assert!(matches!(socket.recv(), Err(SocketError::Timeout)), "no message");
        }
        assert!(received.chunks(pong.len()).is_sorted(), "each pong answers a later ping than the one before");
        assert_eq!(socket.stats().queued_bytes, 0);
    }
}

/// The peer closes behind a flood of pings, of which the last waits for its answer: none follows the close frame.
#[test]
fn no_pong_follows_the_answer_to_a_close_frame() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    let config = Config::default().max_write_buffer_size(1);
    let mut socket = WebSocket::from_established(ours, Role::Server, vec![], &config);
    for _ in 0..100 {
        theirs.write_all(&common::ping(&[7; 125]).repeat(100)).expect("the socket reads");
        assert!(matches!(socket.recv(), Err(SocketError::Timeout)), "no message");
    }
    assert!(socket.stats().queued_bytes > 0, "the pongs have filled the queue");
    theirs.write_all(&common::close(1000)).expect("the socket reads");
    assert!(matches!(socket.recv(), Err(SocketError::Timeout)), "the answer is queued");
    theirs.set_nonblocking(true).expect("a socket");
    let (mut received, mut rest) = (Vec::new(), [0; 4096]);
    while socket.stats().queued_bytes > 0 {
        while let Ok(size @ 1..) = theirs.read(&mut rest) {
            received.extend_from_slice(&rest[..size]);
        }
        let _ = socket.flush(); // it times out while the peer has more to read
    }
    while let Ok(size @ 1..) = theirs.read(&mut rest) {
        received.extend_from_slice(&rest[..size]);
    }
    assert!(received.ends_with(&[0x88, 2, 0x03, 0xE8]), "{:?}", received.last_chunk::<8>());
}

#[test]
fn both_ends_receive_while_neither_can_write() {
    const MESSAGES: usize = 60;
    fn exchange(mut socket: WebSocket<UnixStream>) {
        let (mut sent, mut received) = (0, 0);
        while sent < MESSAGES || received < MESSAGES {
            while sent < MESSAGES && matches!(socket.send(vec![sent as u8; 100_000]), Ok(()) | Err(SocketError::Queued))
            {
                sent += 1;
            }
            match socket.recv() {
                Ok(message) => {
                    assert_eq!(message, Some(vec![received as u8; 100_000].into()));
                    received += 1;
                }
                Err(SocketError::Timeout) => {}
                Err(error) => panic!("{error}"),
            }
        }
        while let Err(SocketError::Timeout) = socket.flush() {}
    }
    for nonblocking in [false, true] {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (done, ended) = crossbeam_channel::bounded(2);
        for (role, stream) in [(Role::Server, ours), (Role::Client, theirs)] {
            stream.set_nonblocking(nonblocking).expect("a socket");
            stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a socket");
            stream.set_write_timeout(Some(Duration::from_millis(5))).expect("a socket");
            let socket = WebSocket::from_established(stream, role, vec![], &Config::default());
            let done = done.clone();
            thread::spawn(move || {
                exchange(socket);
                done.send(()).expect("the test waits");
            });
        }
        for _ in 0..2 {
            ended.recv_timeout(common::DEADLINE).expect("both have sent and received everything");
        }
    }
}
