//! `WebSocket<S>` over the library's TLS.

use std::error::Error as _;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use threadbare::{
    ClientHandshake, ClientRequest, CloseCode, Config, Message, OpenError, SocketError, TlsError, TlsStream, Url,
    WebSocket,
};
use threadbare_tls_tests::Authority;

const DEADLINE: Duration = Duration::from_secs(30);

type Socket = WebSocket<TlsStream<TcpStream>>;

/// Accepts one connection, and runs `serve` with it on a thread.
fn server<T: Send + 'static>(
    authority: &Authority,
    serve: impl FnOnce(Result<Socket, SocketError>) -> T + Send + 'static,
) -> (u16, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (port, server_of(listener, authority, serve))
}

/// As [`server`], of a listener to which the client may have connected already.
fn server_of<T: Send + 'static>(
    listener: TcpListener,
    authority: &Authority,
    serve: impl FnOnce(Result<Socket, SocketError>) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let tls = authority.server();
    let config = Config::default().max_message_size(16 << 20);
    let run = move || {
        let (stream, _) = listener.accept().expect("accepted");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let stream = tls.accept(stream).expect("a session");
        serve(WebSocket::accept_with(stream, &config, |request| {
            let tls = request.tls().expect("TLS");
            assert_eq!((tls.server_name(), tls.version()), (Some("localhost"), "TLSv1_3"));
            Ok(threadbare::Accept::new())
        }))
    };
    thread::spawn(run)
}

fn stream(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}

fn url(port: u16) -> String {
    format!("wss://localhost:{port}/")
}

fn echo(socket: Result<Socket, SocketError>) {
    let mut socket = socket.expect("accepted");
    while let Some(message) = socket.recv().expect("a message") {
        socket.send(&message).expect("sent");
    }
}

#[test]
fn messages_of_all_sizes_are_echoed_and_the_end_is_clean() {
    let authority = Authority::new();
    let (port, echo) = server(&authority, echo);
    let config = Config::default().max_message_size(16 << 20);
    let request = ClientRequest::new(Url::parse(&url(port)).expect("a URL"));
    let mut socket =
        WebSocket::connect_tls_with(request, stream(port), &config, &authority.client()).expect("connected");
    assert_eq!(socket.get_ref().info().expect("a handshake").version(), "TLSv1_3");
    for size in [0, 1, 125, 126, 4_096, 16_384, 16_385, 65_536, 300_000, 5 << 20] {
        let payload: Vec<u8> = (0..size).map(|index| (index * 7 % 253) as u8).collect();
        socket.send(&payload).expect("sent");
        assert_eq!(socket.recv().expect("a message"), Some(Message::Binary(payload)), "{size}");
    }
    socket.close(CloseCode::NORMAL_CLOSURE, "").expect("closed");
    assert_eq!(socket.recv().expect("a close"), None);
    drop(socket);
    echo.join().expect("no panic");
}

#[test]
fn receiving_ends_at_a_deadline_and_goes_on_after_it() {
    let authority = Authority::new();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (port, serving) = server(&authority, move |socket| {
        let mut socket = socket.expect("accepted");
        wait.recv().expect("told to");
        socket.send("late").expect("sent");
        assert_eq!(socket.recv().expect("a close"), None);
    });
    let mut socket = WebSocket::connect_tls(&url(port), stream(port), &authority.client()).expect("connected");
    let timeout = Duration::from_millis(20);
    let began = Instant::now();
    assert!(matches!(socket.recv_timeout(timeout), Err(SocketError::Timeout)));
    assert!(began.elapsed() >= timeout);
    go.send(()).expect("it waits");
    assert_eq!(socket.recv_timeout(DEADLINE).expect("a message"), Some(Message::from("late")));
    socket.close(CloseCode::NORMAL_CLOSURE, "").expect("closed");
    drop(socket);
    serving.join().expect("no panic");
}

#[test]
fn a_handshake_over_a_stream_that_does_not_block_goes_on_where_it_stopped() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let stream = stream(port);
    stream.set_nonblocking(true).expect("a socket");
    let stream = authority.client().connect("localhost", stream).expect("a name");
    let request = ClientRequest::new(Url::parse(&url(port)).expect("a URL"));
    let handshake = ClientHandshake::new(request, stream, &Config::default()).expect("a request");
    let Err(OpenError::WouldBlock(mut handshake)) = handshake.advance() else { panic!("nobody answers yet") };
    let echo = server_of(listener, &authority, echo);
    let began = Instant::now();
    let mut socket = loop {
        match handshake.advance() {
            Ok(socket) => break socket,
            Err(OpenError::WouldBlock(unfinished)) => handshake = unfinished,
            Err(OpenError::Failed(error)) => panic!("{error}"),
        }
        assert!(began.elapsed() < DEADLINE);
        thread::yield_now();
    };
    socket.get_ref().get_ref().set_nonblocking(false).expect("a socket");
    socket.send("hello").expect("sent");
    assert_eq!(socket.recv().expect("a message"), Some(Message::from("hello")));
    socket.close(CloseCode::NORMAL_CLOSURE, "").expect("closed");
    drop(socket);
    echo.join().expect("no panic");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let (port, serving) = server(&authority, |socket| socket.expect_err("no handshake").to_string());
    let request = format!("wss://127.0.0.2:{port}/");
    let error = WebSocket::connect_tls(&request, stream(port), &authority.client()).expect_err("another name");
    let SocketError::Io(error) = error else { panic!("{error}") };
    let source = error.get_ref().and_then(|source| source.downcast_ref::<TlsError>());
    assert!(matches!(source, Some(TlsError::WrongName { expected, .. }) if expected == "127.0.0.2"), "{error:?}");
    assert!(error.source().is_some() || error.get_ref().is_some());
    drop(serving.join());
}
