//! Plain HTTP over TLS, on a connection that stays open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use threadbare::{
    ClientRequest, Config, Handler, Message, MessageRef, Request, Response, Server, Socket, TlsStream, WebSocket,
};
use threadbare_tls_tests::Authority;

const DEADLINE: Duration = Duration::from_secs(30);

const PAGE_SIZE: usize = 1 << 20;

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

/// Receives a response whose length its head tells, and returns its body.
fn body(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("ASCII");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("Connection"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    body
}

#[test]
fn plain_requests_and_an_opening_handshake_follow_each_other_over_tls() {
    for workers in [1, 2] {
        let authority = Authority::new();
        let hook = |request: &Request| match request.path() {
            "/page" => Response::new(200).body(vec![b'x'; PAGE_SIZE]),
            path => {
                let name = request.tls().and_then(|tls| tls.server_name());
                Response::new(200).text(&format!("{path} {name:?} {}", request.body().len()))
            }
        };
        let server = Server::builder().workers(workers).tls(authority.server()).http(hook);
        let server = server.serve("127.0.0.1:0", |_| Echo).expect("a server");
        let port = server.local_addr().port();
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut stream = authority.client().connect("localhost", stream).expect("a session");
        let request = |path: &str, lines: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        let shown = |path: &str, length| format!("{path} Some(\"localhost\") {length}").into_bytes();
        for round in 0..3 {
            let path = format!("/{round}");
            stream.write_all(request(&path, "").as_bytes()).expect("sent");
            assert_eq!(body(&mut stream), shown(&path, 0));
        }
        stream.write_all(request("/page", "").as_bytes()).expect("sent");
        assert_eq!(body(&mut stream).len(), PAGE_SIZE);
        let content = vec![b'c'; 60_000];
        stream.write_all(request("/content", "Content-Length: 60000\r\n").as_bytes()).expect("sent");
        stream.write_all(&content).expect("sent");
        assert_eq!(body(&mut stream), shown("/content", 60_000));
        let all: String = (0..200).map(|number| request(&format!("/{number}"), "")).collect();
        stream.write_all(all.as_bytes()).expect("sent");
        for number in 0..200 {
            assert_eq!(body(&mut stream), shown(&format!("/{number}"), 0));
        }
        let url = format!("wss://localhost:{port}/").parse().expect("a URL");
        let mut socket = WebSocket::connect_with(ClientRequest::new(url), stream, &Config::default()).expect("opened");
        socket.send("hello").expect("sent");
        assert_eq!(socket.recv().expect("a message"), Some(Message::from("hello")));
    }
}

/// A connection that is kept for another request ends as one should over TLS, so that nobody takes it for cut off.
#[test]
fn a_connection_that_is_kept_ends_with_close_notify() {
    let authority = Authority::new();
    let server = Server::builder().workers(1).tls(authority.server()).http(|_| Response::new(200).text("hello"));
    let server = server.serve("127.0.0.1:0", |_| Echo).expect("a server");
    let stream = TcpStream::connect(server.local_addr()).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let config = authority.rustls_client(&[&rustls::version::TLS13]);
    let name = "localhost".try_into().expect("a name");
    let session = rustls::ClientConnection::new(config.into(), name).expect("a session");
    let mut stream = rustls::StreamOwned::new(session, stream);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut received = Vec::new();
    while !received.ends_with(b"hello") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        received.push(byte[0]);
    }
    server.handle().stop_accepting();
    // rustls tells an end without close_notify by an error.
    assert_eq!(stream.read(&mut [0]).expect("close_notify"), 0);
}
