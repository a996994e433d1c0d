//! Opening handshakes of a `WebSocket<S>` over streams that are not ready: they continue where they stopped.
#![cfg(unix)]

use crate::common;

use std::cell::{Cell, RefCell};
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use common::{DEADLINE, text};
use threadbare::protocol::handshake::accept_key;
use threadbare::{
    Accept, ClientHandshake, ClientRequest, Config, Message, OpenError, Response, ServerHandshake, SocketError, Url,
    WebSocket,
};

/// How many bytes each read or write takes at most. With 0 it would block; after the last, it takes all.
type Pace = Box<dyn Iterator<Item = usize>>;

/// A stream in memory that is not always ready.
struct Paced {
    input: Cursor<Vec<u8>>,
    output: Rc<RefCell<Vec<u8>>>,
    reads: Pace,
    writes: Pace,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.reads.next().unwrap_or(usize::MAX).min(buffer.len());
        match self.input.read(&mut buffer[..size])? {
            0 => Err(ErrorKind::WouldBlock.into()),
            size => Ok(size),
        }
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writes.next().unwrap_or(usize::MAX).min(bytes.len()) {
            0 => Err(ErrorKind::WouldBlock.into()),
            size => self.output.borrow_mut().write(&bytes[..size]),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paced {
    fn new(input: &[u8], reads: Pace, writes: Pace) -> Paced {
        Paced { input: Cursor::new(input.to_vec()), output: Rc::default(), reads, writes }
    }
}

/// Always ready.
fn ready() -> Pace {
    Box::new(std::iter::empty())
}

/// Not ready once, after `size` bytes.
fn cut(size: usize) -> Pace {
    Box::new([size, 0].into_iter().skip(usize::from(size == 0)))
}

/// A byte at a time, and not ready before each.
fn trickle() -> Pace {
    Box::new([0, 1].into_iter().cycle())
}

/// Continues a handshake until it is complete, and returns how often it was not ready.
fn complete<H, S>(
    mut handshake: H,
    advance: impl Fn(H) -> Result<WebSocket<S>, OpenError<H>>,
) -> (Result<WebSocket<S>, SocketError>, usize) {
    for waits in 0..100_000 {
        match advance(handshake) {
            Ok(socket) => return (Ok(socket), waits),
            Err(OpenError::WouldBlock(unfinished)) => handshake = unfinished,
            Err(OpenError::Failed(error)) => return (Err(error), waits),
        }
    }
    panic!("it does not end")
}

/// The response that a server writes at once.
fn usual_response(request: &[u8]) -> Vec<u8> {
    let stream = Paced::new(request, ready(), ready());
    let output = stream.output.clone();
    let decide = |_: &_| Ok(Accept::new().header("X-From", "the hook"));
    WebSocket::accept_with(stream, &Config::default(), decide).expect("accepted");
    output.take()
}

#[test]
fn a_server_continues_its_handshake_wherever_the_stream_is_not_ready() {
    let request = common::request("/chat", "");
    let response = usual_response(request.as_bytes());
    let check = |reads, writes, expected_waits| {
        let stream = Paced::new(&[request.as_bytes(), &text("early")].concat(), reads, writes);
        let output = stream.output.clone();
        let calls = Cell::new(0);
        let handshake = ServerHandshake::new(stream, &Config::default(), |request| {
            calls.set(calls.get() + 1);
            assert_eq!((request.path(), output.borrow().len()), ("/chat", 0));
            Ok(Accept::new().header("X-From", "the hook").data(5_u8))
        });
        let (socket, waits) = complete(handshake, ServerHandshake::advance);
        let mut socket = socket.expect("accepted");
        assert_eq!((calls.get(), waits), (1, expected_waits));
        assert!(output.take() == response, "the response is written once");
        assert_eq!(socket.data(), Some(&5_u8));
        let message = loop {
            match socket.recv() {
                Err(SocketError::Timeout) => {}
                received => break received.expect("a message"),
            }
        };
        assert_eq!(message, Some(Message::from("early")));
    };
    for size in 0..request.len() {
        check(cut(size), ready(), 1);
    }
    for size in 0..response.len() {
        check(ready(), cut(size), 1);
    }
    check(trickle(), trickle(), request.len() + response.len());
}

#[test]
fn a_server_continues_to_write_a_refusal() {
    let request = common::request("/", "");
    for writes in [cut(0), cut(20), trickle()] {
        let stream = Paced::new(request.as_bytes(), trickle(), writes);
        let output = stream.output.clone();
        let handshake = ServerHandshake::new(stream, &Config::default(), |_| Err(Response::new(404)));
        let (refused, _) = complete(handshake, ServerHandshake::advance);
        let refused = refused.map(drop).expect_err("refused");
        assert!(matches!(&refused, SocketError::Refused(response) if response.status() == 404), "{refused}");
        let response = String::from_utf8(output.take()).expect("a response");
        assert_eq!((response.matches("HTTP/1.1 404 ").count(), response.matches("\r\n\r\n").count()), (1, 1));
    }
}

#[test]
fn a_server_can_refuse_a_client_that_is_late() {
    let stream = Paced::new(b"GET / HTTP/1.1\r\n", ready(), trickle());
    let output = stream.output.clone();
    let handshake = ServerHandshake::new(stream, &Config::default(), |_| Ok(Accept::new()));
    let Err(OpenError::WouldBlock(mut handshake)) = handshake.advance() else { panic!("the head is incomplete") };
    assert!(!handshake.wants_write());
    handshake.refuse(Response::new(408));
    assert!(handshake.wants_write());
    handshake.refuse(Response::new(503)); // too late
    let (refused, _) = complete(handshake, ServerHandshake::advance);
    assert!(matches!(refused, Err(SocketError::Refused(response)) if response.status() == 408));
    assert!(output.take().starts_with(b"HTTP/1.1 408 "));
}

/// A client's handshake, and what it has written.
fn client(reads: Pace, writes: Pace) -> (ClientHandshake<Paced>, Rc<RefCell<Vec<u8>>>) {
    let request = ClientRequest::new(Url::parse("ws://localhost/chat").expect("a URL")).header("X-From", "the client");
    let stream = Paced::new(b"", reads, writes);
    let output = stream.output.clone();
    (ClientHandshake::new(request, stream, &Config::default()).expect("a request"), output)
}

/// The response to the request of a client, which must be written whole and once.
fn response_to(request: &[u8]) -> Vec<u8> {
    let request = std::str::from_utf8(request).expect("a request");
    assert!(request.starts_with("GET /chat HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"), "{request}");
    assert_eq!((request.matches("GET ").count(), request.matches("\r\nX-From: the client\r\n").count()), (1, 1));
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let accept = accept_key(key);
    format!(
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// Does the handshake of a client, and returns how long request and response were.
fn check_client(reads: Pace, writes: Pace) -> (usize, usize, usize) {
    let (mut handshake, output) = client(reads, writes);
    let mut waits = 0;
    // The request is written before anything is read.
    while handshake.wants_write() {
        match handshake.advance() {
            Err(OpenError::WouldBlock(unfinished)) => (handshake, waits) = (unfinished, waits + 1),
            _ => panic!("there is no response yet"),
        }
    }
    let request = output.take();
    let response = response_to(&request);
    handshake.get_mut().input = Cursor::new([&response[..], b"\x81\x05early"].concat());
    let (socket, more_waits) = complete(handshake, ClientHandshake::advance);
    let mut socket = socket.expect("accepted");
    assert!(output.take().is_empty(), "the request is written once");
    let message = loop {
        match socket.recv() {
            Err(SocketError::Timeout) => {}
            received => break received.expect("a message"),
        }
    };
    assert_eq!(message, Some(Message::from("early")));
    (request.len(), response.len(), waits + more_waits)
}

#[test]
fn a_client_continues_its_handshake_wherever_the_stream_is_not_ready() {
    // After the request there is nothing to read, which is the one wait.
    let (request, response, waits) = check_client(ready(), ready());
    assert_eq!(waits, 1);
    for size in 0..request {
        assert_eq!(check_client(ready(), cut(size)), (request, response, 2), "the request is cut after {size} bytes");
    }
    for size in 0..response {
        // The first read finds nothing, whatever its pace says.
        let reads = Box::new(std::iter::once(0).chain(cut(size)));
        assert_eq!(check_client(reads, ready()), (request, response, 2), "the response is cut after {size} bytes");
    }
    assert_eq!(check_client(trickle(), trickle()), (request, response, request + response));
}

#[test]
fn a_response_that_ends_early_is_an_error_after_a_wait_too() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    let request = ClientRequest::new(Url::parse("ws://localhost/").expect("a URL"));
    let handshake = ClientHandshake::new(request, ours, &Config::default()).expect("a request");
    let Err(OpenError::WouldBlock(handshake)) = handshake.advance() else { panic!("no response yet") };
    theirs.write_all(b"HTTP/1.1 101 ").expect("written");
    let Err(OpenError::WouldBlock(handshake)) = handshake.advance() else { panic!("no whole response yet") };
    drop(theirs);
    let error = SocketError::from(handshake.advance().expect_err("no response"));
    assert!(matches!(error, SocketError::Handshake(_) | SocketError::Io(_)), "{error:?}");
}

#[test]
fn both_roles_open_on_one_thread_over_tcp_that_does_not_block() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let stream = TcpStream::connect(addr).expect("connected");
    stream.set_nonblocking(true).expect("a socket");
    let request = ClientRequest::new(Url::parse(&format!("ws://{addr}")).expect("a URL"));
    let client = ClientHandshake::new(request, stream, &Config::default()).expect("a request");
    let stream = listener.accept().expect("a client").0;
    stream.set_nonblocking(true).expect("a socket");
    let server = ServerHandshake::new(stream, &Config::default(), |_| Ok(Accept::new()));

    let deadline = Instant::now() + DEADLINE;
    let (mut client, mut server) = (Err(client), Err(server));
    while client.is_err() || server.is_err() {
        assert!(Instant::now() < deadline, "client {client:?}, server {server:?}");
        client = client.or_else(|client| advanced(client.advance()));
        server = server.or_else(|server| advanced(server.advance()));
    }
    let (mut client, mut server) = (client.expect("open"), server.expect("open"));
    client.send("hello").expect("sent");
    let received = loop {
        match server.recv() {
            Err(SocketError::Timeout) => assert!(Instant::now() < deadline, "no message"),
            received => break received.expect("received"),
        }
    };
    assert_eq!(received, Some(Message::from("hello")));
}

/// The socket, or the handshake to be continued.
fn advanced<S, H>(advanced: Result<WebSocket<S>, OpenError<H>>) -> Result<WebSocket<S>, H> {
    advanced.map_err(|error| match error {
        OpenError::WouldBlock(handshake) => handshake,
        OpenError::Failed(error) => panic!("{error}"),
    })
}

#[test]
fn a_client_continues_after_a_read_timeout_of_the_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let stream = TcpStream::connect(addr).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    let request = ClientRequest::new(Url::parse(&format!("ws://{addr}")).expect("a URL"));
    let handshake = ClientHandshake::new(request, stream, &Config::default()).expect("a request");
    let Err(OpenError::WouldBlock(handshake)) = handshake.advance() else { panic!("nobody has answered") };
    let server = thread::spawn(move || WebSocket::accept(listener.accept().expect("a client").0)?.recv());
    let (client, _) = complete(handshake, ClientHandshake::advance);
    client.expect("accepted").send("hello").expect("sent");
    assert_eq!(server.join().expect("no panic").expect("received"), Some(Message::from("hello")));
}

#[test]
fn an_error_of_opening_is_an_error_of_the_socket() {
    let (handshake, _) = client(cut(0), cut(0));
    let Err(error) = handshake.advance() else { panic!("the stream is not ready") };
    assert_eq!(error.to_string(), "the stream is not ready");
    assert!(matches!(SocketError::from(error), SocketError::Timeout));
    let failed = OpenError::<()>::Failed(SocketError::Io(io::Error::other("why")));
    assert_eq!(common::chain(&failed), "the stream failed: why");
    assert!(matches!(SocketError::from(failed), SocketError::Io(_)));
}
