//! How a `WebSocket<S>` ends TCP: with FIN and not with RST, so that what it wrote last arrives.
#![cfg(unix)]

use crate::common;

use std::cell::RefCell;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{DEADLINE, close, text};
use threadbare::{Accept, CloseCode, Config, Response, Role, ServerHandshake, SocketError, WebSocket};

const HOUR: Duration = Duration::from_secs(3600);

/// More than one read takes, and less than a socket holds.
const MUCH: usize = 150_000;

/// A close frame of a server, with 1000.
const CLOSE: &[u8] = b"\x88\x02\x03\xe8";

/// The server's end and the client's.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket");
    (listener.accept().expect("a client").0, client)
}

fn unix_pair() -> (UnixStream, UnixStream) {
    let (server, client) = UnixStream::pair().expect("a pair");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket");
    (server, client)
}

fn established<S: Read + Write + 'static>(stream: S, role: Role, config: &Config) -> WebSocket<S> {
    WebSocket::from_established(stream, role, Vec::new(), config)
}

fn config(close_timeout: Duration) -> Config {
    Config::default().close_timeout(close_timeout)
}

/// Sends `bytes` and returns everything up to FIN. After a reset the write may fail, which is ignored, and the read does,
/// which is not.
fn exchange(mut client: impl Read + Write, bytes: &[u8]) -> Vec<u8> {
    let _ = client.write_all(bytes);
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("FIN, and no reset");
    received
}

/// Waits for a thread to end.
fn join<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(DEADLINE).expect("it ends")
}

fn is_refused<S: Read + Write + Send + 'static>((server, client): (S, S), request: &[u8], status: u16) {
    let server = thread::spawn(move || {
        WebSocket::accept_with(server, &Config::default(), |_| Err(Response::new(404))).map(drop)
    });
    let answer = exchange(client, request);
    assert!(answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{}", answer.escape_ascii());
    let refused = server.join().expect("no panic").expect_err("refused");
    assert!(matches!(&refused, SocketError::Refused(response) if response.status() == status), "{refused}");
}

#[test]
fn a_refusal_reaches_a_client_that_sends_more_than_is_read() {
    let much = "x".repeat(MUCH);
    let host = "HTTP/1.1\r\nHost: localhost\r\n";
    for (status, request) in [
        (431, format!("GET / {host}X: {much}\r\n\r\n")),
        (414, format!("GET /{much} {host}\r\n")),
        (400, format!("GET /\0{much}")),
        (405, format!("POST / {host}Content-Length: {MUCH}\r\n\r\n{much}")),
        (400, format!("GET / {host}Content-Length: {MUCH}\r\n\r\n{much}")),
        (400, format!("GET / {host}Transfer-Encoding: chunked\r\n\r\n{MUCH:x}\r\n{much}\r\n0\r\n\r\n")),
        (404, common::request("/", "") + &much),
        (426, format!("GET / {host}\r\n{much}")),
    ] {
        for _ in 0..3 {
            is_refused(tcp_pair(), request.as_bytes(), status);
            is_refused(unix_pair(), request.as_bytes(), status);
        }
    }
}

#[test]
fn a_refusal_of_a_whole_request_does_not_wait_for_the_client() {
    for (status, request) in [
        (404, common::request("/", "")),
        (426, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".into()),
        (405, "DELETE / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\n\r\n".into()),
    ] {
        let (server, mut client) = tcp_pair();
        client.write_all(request.as_bytes()).expect("written");
        let refused = join(move || {
            WebSocket::accept_with(server, &config(HOUR), |_| Err(Response::new(404))).map(drop).expect_err("refused")
        });
        assert!(matches!(&refused, SocketError::Refused(response) if response.status() == status), "{refused}");
        assert!(exchange(client, b"").starts_with(b"HTTP/1.1 "));
    }
}

#[test]
fn a_refused_client_that_does_not_close_is_left_at_close_timeout_and_the_read_timeout_is_put_back() {
    for before in [None, Some(HOUR), Some(Duration::from_millis(20))] {
        let (server, mut client) = tcp_pair();
        server.set_read_timeout(before).expect("a socket");
        let same = server.try_clone().expect("a socket");
        let before = same.read_timeout().expect("a socket");
        client.write_all(b"GET / HTTP/1.1\n").expect("written");
        let timeout = Duration::from_millis(150);
        let start = Instant::now();
        let refused = join(move || WebSocket::accept_with(server, &config(timeout), |_| Ok(Accept::new())).map(drop));
        assert!(matches!(refused, Err(SocketError::Refused(_))), "{refused:?}");
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        assert_eq!(same.read_timeout().expect("a socket"), before);
        // The server's socket is still open here: FIN was sent before.
        assert!(exchange(client, b"").starts_with(b"HTTP/1.1 400 "));
    }
}

#[test]
fn a_client_that_is_late_with_its_request_is_told_408() {
    let (server, mut client) = tcp_pair();
    server.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    client.write_all(b"GET / HTTP/1.1\r\n").expect("written");
    let server = thread::spawn(move || WebSocket::accept(server).map(drop));
    let mut answer = [0; 12];
    client.read_exact(&mut answer).expect("a response");
    assert_eq!(&answer, b"HTTP/1.1 408");
    // What comes late does not take the rest of the response with it.
    assert!(exchange(client, &[b'x'; MUCH]).ends_with(b"\r\n\r\n"));
    let refused = server.join().expect("no panic");
    assert!(matches!(&refused, Err(SocketError::Refused(response)) if response.status() == 408), "{refused:?}");
}

/// Sends zeros until the socket fails.
fn send_without_end(mut client: impl Write + Send + 'static) -> thread::JoinHandle<ErrorKind> {
    thread::spawn(move || {
        loop {
            if let Err(error) = client.write_all(&[0; 1 << 16]) {
                return error.kind();
            }
        }
    })
}

#[test]
fn a_peer_that_sends_without_end_does_not_hold_the_end_up() {
    let (server, mut client) = tcp_pair();
    client.write_all(b"GET / HTTP/1.1\n").expect("written");
    let sending = send_without_end(client);
    let refused = join(move || WebSocket::accept_with(server, &config(HOUR), |_| Ok(Accept::new())).map(drop));
    assert!(matches!(refused, Err(SocketError::Refused(_))), "{refused:?}");
    sending.join().expect("no panic");

    let (server, client) = tcp_pair();
    let sending = send_without_end(client);
    let mut server = established(server, Role::Server, &config(HOUR));
    join(move || {
        assert!(matches!(server.recv(), Err(SocketError::Protocol(_))));
        drop(server);
    });
    sending.join().expect("no panic");
}

/// What a client receives that sends `bytes` to a server that receives until the end.
fn answered<S: Read + Write + Send + 'static>((server, client): (S, S), bytes: &[u8]) -> Vec<u8> {
    let server = thread::spawn(move || {
        let mut server = established(server, Role::Server, &Config::default());
        while let Ok(Some(_)) = server.recv() {}
    });
    let received = exchange(client, bytes);
    server.join().expect("no panic");
    received
}

#[test]
fn the_close_frame_of_a_violation_reaches_a_client_that_sends_more() {
    let bytes = [b"\x81\x05Hello".as_slice(), &[0; MUCH]].concat();
    for _ in 0..10 {
        for received in [answered(tcp_pair(), &bytes), answered(unix_pair(), &bytes)] {
            assert!(received.len() == usize::from(received[1]) + 2, "one frame: {}", received.escape_ascii());
            assert_eq!(&received[2..4], 1002_u16.to_be_bytes());
        }
    }
}

#[test]
fn the_answer_to_a_close_frame_reaches_a_client_that_sends_more() {
    for behind in [1, MUCH] {
        let bytes = [text("last"), close(1000), vec![0; behind]].concat();
        for _ in 0..10 {
            assert_eq!(answered(tcp_pair(), &bytes), CLOSE);
            assert_eq!(answered(unix_pair(), &bytes), CLOSE);
        }
    }
}

#[test]
fn a_close_frame_reaches_a_client_that_sends_although_the_server_is_dropped() {
    fn check<S: Read + Write + Send + 'static>((server, mut client): (S, S)) {
        client.write_all(&text("unread")).expect("written");
        let mut server = established(server, Role::Server, &Config::default());
        let server = thread::spawn(move || server.close(CloseCode::NORMAL_CLOSURE, ""));
        assert_eq!(exchange(client, &text(&"x".repeat(MUCH))), CLOSE);
        server.join().expect("no panic").expect("sent");
    }
    for _ in 0..10 {
        check(tcp_pair());
        check(unix_pair());
    }
}

#[test]
fn what_waits_is_written_before_the_end() {
    let (server, client) = tcp_pair();
    server.set_nonblocking(true).expect("a socket");
    let mut server = established(server, Role::Server, &Config::default().max_write_buffer_size(64 << 20));
    let payload = vec![7; 8 << 20];
    assert!(matches!(server.send(&payload), Err(SocketError::Queued)), "the client does not read");
    assert!(matches!(server.close(CloseCode::NORMAL_CLOSURE, ""), Err(SocketError::Queued)));
    server.get_ref().set_nonblocking(false).expect("a socket");
    let server = thread::spawn(move || drop(server));
    let received = exchange(client, b"");
    assert_eq!(received.len(), 10 + payload.len() + CLOSE.len());
    assert!(received.ends_with(CLOSE));
    server.join().expect("no panic");
}

#[test]
fn what_waits_is_given_up_at_close_timeout() {
    let (server, client) = tcp_pair();
    server.set_nonblocking(true).expect("a socket");
    let mut server = established(server, Role::Server, &config(Duration::from_millis(100)));
    assert!(matches!(server.send(vec![7; 8 << 20]), Err(SocketError::Queued)), "the client does not read");
    assert!(matches!(server.close(CloseCode::NORMAL_CLOSURE, ""), Err(SocketError::Queued)));
    server.get_ref().set_nonblocking(false).expect("a socket");
    join(move || drop(server));
    drop(client);
}

/// A client and a server after a clean close that the client began. Neither has closed TCP.
fn closed_pair(config: &Config) -> (WebSocket<TcpStream>, TcpStream) {
    let (mut server, client) = tcp_pair();
    server.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let mut client = established(client, Role::Client, config);
    client.close(CloseCode::NORMAL_CLOSURE, "").expect("sent");
    server.read_exact(&mut [0; 8]).expect("a close frame");
    server.write_all(CLOSE).expect("written");
    assert_eq!(client.recv().expect("a clean close"), None);
    (client, server)
}

#[test]
fn a_client_keeps_tcp_open_until_the_servers_fin() {
    // RFC 6455 7.1.1: "The client SHOULD wait for the server to close the connection".
    let (client, mut server) = closed_pair(&config(HOUR));
    let client = thread::spawn(move || drop(client));
    server.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    assert_eq!(server.read(&mut [0]).expect_err("no FIN").kind(), ErrorKind::WouldBlock);
    server.shutdown(Shutdown::Write).expect("a socket");
    client.join().expect("no panic");
    server.set_read_timeout(Some(DEADLINE)).expect("a socket");
    assert_eq!(server.read(&mut [0]).expect("FIN"), 0);
}

#[test]
fn a_client_leaves_a_server_that_does_not_close_at_close_timeout() {
    let timeout = Duration::from_millis(100);
    let (client, mut server) = closed_pair(&config(timeout));
    let start = Instant::now();
    let client = thread::spawn(move || drop(client));
    assert_eq!(server.read(&mut [0]).expect("FIN"), 0);
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    client.join().expect("no panic");
}

#[test]
fn a_stream_that_does_not_block_is_not_waited_for() {
    let (server, mut client) = tcp_pair();
    client.write_all(&[0; MUCH]).expect("written");
    let mut server = established(server, Role::Server, &config(HOUR));
    assert!(matches!(server.recv(), Err(SocketError::Protocol(_))));
    server.get_ref().set_nonblocking(true).expect("a socket");
    join(move || drop(server));
    let received = exchange(client, b"");
    assert_eq!(&received[2..4], 1002_u16.to_be_bytes());

    let (client, server) = closed_pair(&config(HOUR));
    client.get_ref().set_nonblocking(true).expect("a socket");
    join(move || drop(client));
    drop(server);
}

#[test]
fn a_thread_that_panics_does_not_wait_for_the_peer() {
    let (client, server) = closed_pair(&config(HOUR));
    let panicked = join(move || {
        let panicking = move || {
            let _client = client;
            common::app::panic_quietly()
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).is_err()
    });
    assert!(panicked);
    drop(server);
}

#[test]
fn a_stream_that_is_returned_is_left_open() {
    for role in [Role::Server, Role::Client] {
        let (ours, mut theirs) = tcp_pair();
        let mut socket = established(ours, role, &config(HOUR));
        socket.close(CloseCode::NORMAL_CLOSURE, "").expect("sent");
        let mut stream = socket.into_inner();
        stream.write_all(b"more").expect("written");
        drop(stream);
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).expect("FIN");
        assert!(received.ends_with(b"more"), "{}", received.escape_ascii());
    }
}

/// A stream in memory. The test sees what was written while the socket owns the stream.
struct Recorder {
    input: Cursor<Vec<u8>>,
    output: Rc<RefCell<Vec<u8>>>,
}

impl Read for Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nothing_of_the_server_precedes_its_101() {
    // The client's frames are early: they come with its request.
    let request = [common::request("/", "").into_bytes(), common::ping(b"?"), text("early"), close(1000)].concat();
    let output = Rc::new(RefCell::new(Vec::new()));
    let stream = Recorder { input: Cursor::new(request), output: output.clone() };
    let mut socket = WebSocket::accept_with(stream, &Config::default(), |_| {
        assert_eq!(output.borrow().len(), 0, "the application decides before anything is written");
        Ok(Accept::new().header("X-Data", "of the hook").data("of the hook"))
    })
    .expect("accepted");
    let head = output.take();
    assert!(head.starts_with(b"HTTP/1.1 101 ") && head.ends_with(b"\r\nX-Data: of the hook\r\n\r\n"));
    assert_eq!(socket.data(), Some(&"of the hook"));
    socket.send("first").expect("sent");
    while socket.recv().expect("received").is_some() {}
    assert_eq!(output.take(), [b"\x81\x05first\x8a\x01?", CLOSE].concat());
}

#[test]
fn a_refusal_over_a_stream_that_does_not_block_reaches_a_client_that_sends_more() {
    let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(MUCH));
    let (server, client) = tcp_pair();
    server.set_nonblocking(true).expect("a socket");
    let client = thread::spawn(move || exchange(client, head.as_bytes()));
    let mut handshake = ServerHandshake::new(server, &Config::default(), |_| Ok(Accept::new()));
    let error = loop {
        match handshake.advance() {
            Ok(_) => panic!("accepted"),
            Err(threadbare::OpenError::WouldBlock(unfinished)) => handshake = unfinished,
            Err(threadbare::OpenError::Failed(error)) => break error,
        }
        thread::yield_now();
    };
    assert!(matches!(&error, SocketError::Refused(response) if response.status() == 431), "{error}");
    assert!(client.join().expect("no panic").starts_with(b"HTTP/1.1 431 "));
}

/// RFC 6455 7.1.7: the endpoint that fails the connection need not wait for the other to close TCP.
#[test]
fn an_endpoint_that_fails_the_connection_sends_fin_at_once_and_reads_on() {
    for role in [Role::Server, Role::Client] {
        let (ours, mut peer) = tcp_pair();
        let mut socket = established(ours, role, &config(HOUR));
        // RFC 6455 5.1: a client's frames are masked, and a server's are not.
        let frame = if role == Role::Server { b"\x81\x01x".to_vec() } else { text("x") };
        peer.write_all(&frame).expect("written");
        socket.recv().expect_err("a violation");
        let dropping = thread::spawn(move || drop(socket));
        let mut received = Vec::new();
        peer.read_to_end(&mut received).expect("FIN");
        assert_eq!(received.first(), Some(&0x88), "a close frame, {role:?}");
        // The second write would meet a reset.
        for _ in 0..2 {
            peer.write_all(b"in flight").expect("the socket is open");
        }
        drop(peer);
        dropping.join().expect("no panic");
    }
}
