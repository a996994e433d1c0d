//! What `{:?}` and `{}` show: no masking key, no cookie or password, nothing of another connection, and no byte of a peer
//! that would end a line of a log or steer a terminal.

use crate::common;

use std::fmt::{Debug, Display};
use std::io::{BufRead, Read};
use std::net::{TcpListener, TcpStream};

use common::{accept, open_with_peer, text};
use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::protocol::{Connection, Received};
use threadbare::{
    Accept, Client, ClientPool, ClientRequest, CloseCause, CloseCode, CloseFrame, CloseReason, Config, Handler,
    Message, MessageRef, Prepared, Receive, Reconnect, Response, Role, Server, Socket, WebSocket,
};

/// What stands for anything that must not be shown.
const SECRET: &str = "c0ffee-and-cake";

/// The bytes of a text as a `Vec<u8>` or an array shows them.
fn numbers(bytes: &[u8]) -> String {
    format!("{bytes:?}").trim_matches(['[', ']']).to_owned()
}

#[track_caller]
fn hides(secrets: &[String], value: &dyn Debug) {
    for shown in [format!("{value:?}"), format!("{value:#?}").replace(char::is_whitespace, "").replace(',', ", ")] {
        for secret in secrets {
            assert!(!shown.contains(secret), "{secret} is shown: {shown}");
        }
        assert!((1..4_000).contains(&shown.len()), "it is no dump: {shown}");
    }
}

/// Receives a masked frame of a library's client, and returns its masking key.
fn next_key(stream: &mut TcpStream) -> [u8; 4] {
    let mut head = [0; 6];
    stream.read_exact(&mut head).expect("a frame");
    stream.read_exact(&mut vec![0; usize::from(head[1] & 0x7f)]).expect("its payload");
    head[2..].try_into().expect("four bytes")
}

/// What each of the client's types shows before a frame is sent does not contain the frame's key.
#[test]
fn a_27_no_masking_key_is_shown_before_its_frame_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let serve = || {
        let listener = listener.try_clone().expect("a listener");
        std::thread::spawn(move || accept(&listener, b""))
    };
    let pool = ClientPool::new(1, Config::default()).expect("a pool");
    let server = serve();
    let client = Client::builder().no_proxy().pool(&pool).connect(&url).expect("connects");
    let mut stream = server.join().expect("a connection");
    let mut shown = String::new();
    for round in 0..20 {
        // The first send draws the keys of the next ones.
        client.send("x").expect("open");
        let key = numbers(&next_key(&mut stream));
        assert!(!shown.contains(&key), "{key} was shown: {shown}");
        let (peer, events, iter) = (client.peer(), client.events(), client.iter());
        shown = format!("{client:?} {client:#?} {pool:?} {peer:?} {events:?} {iter:?}");
        assert!(round > 0 || shown.len() < 8_000, "it is no dump: {shown}");
    }
    let server = serve();
    let client = Client::builder().no_proxy().reconnect(&url, Reconnect::new()).expect("a client");
    let mut stream = server.join().expect("a connection");
    let mut shown = String::new();
    for _ in 0..20 {
        client.send("x").expect("open");
        let key = numbers(&next_key(&mut stream));
        assert!(!shown.contains(&key), "{key} was shown: {shown}");
        shown = format!("{client:?} {:?} {:?}", client.sender(), client.events());
    }
    let server = serve();
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
    let mut socket = WebSocket::connect(&url, stream).expect("a handshake");
    let mut stream = server.join().expect("a connection");
    let mut shown = String::new();
    for _ in 0..20 {
        socket.send("x").expect("open");
        let key = numbers(&next_key(&mut stream));
        assert!(!shown.contains(&key), "{key} was shown: {shown}");
        shown = format!("{socket:?}");
        shown += &format!("{:?}", socket.iter());
    }
}

#[test]
fn a_frame_header_and_a_partial_message_show_no_key_and_no_data() {
    let key = [201, 202, 203, 204];
    hides(&[numbers(&key)], &FrameHeader::new(Opcode::Text, 5, Some(key)));
    let mut connection = Connection::new(Role::Server, 1 << 20);
    let mut cut = [&[0x81, 0x80 | 100][..], &key].concat();
    cut.extend(SECRET.bytes().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    let (_, received) = connection.receive(&mut cut).expect("a part of a frame");
    assert!(matches!(received, Received::Nothing));
    hides(&[numbers(&key), numbers(SECRET.as_bytes()), SECRET.into()], &connection);
    assert!(format!("{connection:?}").contains("Assembly { .. }"), "{connection:?}");
}

#[test]
fn no_cookie_or_password_is_shown() {
    let secret = [SECRET.to_owned()];
    let accept = Accept::new().header("Set-Cookie", SECRET).data(SECRET);
    hides(&secret, &accept);
    assert!(format!("{accept:?}").contains("Data(..)"), "{accept:?}");
    hides(&secret, &Response::new(401).header("set-cookie", SECRET));
    let url = format!("ws://user:{SECRET}@localhost/").parse().expect("a URL");
    let request = ClientRequest::new(url);
    hides(&secret, &request.header("Cookie", SECRET).header("Proxy-Authorization", SECRET));
    let builder = Client::builder().header("Cookie", SECRET).proxy(&format!("http://user:{SECRET}@localhost"));
    hides(&secret, &builder);
}

/// A handler's socket shares buffers with the other connections of its worker.
#[test]
fn a_server_shows_no_data_of_its_connections() {
    struct Shows(std::sync::mpsc::Sender<String>);
    impl Handler for Shows {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            socket.send(message);
            self.0.send(format!("{socket:?} {socket:#?}")).expect("the test");
        }
    }
    let (shows, shown) = std::sync::mpsc::channel();
    let make = std::sync::Mutex::new(shows);
    let server = Server::builder()
        .serve("127.0.0.1:0", move |_| Shows(make.lock().expect("no panic").clone()))
        .expect("a server");
    let mut client = common::Client::open(server.local_addr());
    client.send(&text(SECRET));
    let shown = shown.recv().expect("a message");
    assert!(!shown.contains(SECRET) && !shown.contains(&numbers(SECRET.as_bytes())), "{shown}");

    let server = Server::bind("127.0.0.1:0").expect("a server");
    let (_client, peer) = open_with_peer(&server);
    peer.send(SECRET).expect("open");
    let secrets = [SECRET.to_owned(), numbers(SECRET.as_bytes())];
    hides(&secrets, &server);
    hides(&secrets, &server.handle());
    hides(&secrets, &peer);
    assert_eq!(format!("{:?}", peer.id()), format!("PeerId({})", peer.id()));
}

/// A fragment is read in the receive buffer that its worker has for all of its connections.
#[test]
fn a_reader_shows_nothing_of_the_receive_buffer() {
    let (listener, url) = common::server_end::listen();
    let config = Config::default().receive(Receive::Fragments { max_size: None });
    let (client, mut server) = std::thread::scope(|scope| {
        let server = scope.spawn(|| common::server_end::ServerEnd::accept(&listener));
        let client = Client::builder().config(config).no_proxy().connect(&url).expect("connects");
        (client, server.join().expect("no panic"))
    });
    let payload = SECRET.repeat(20_000);
    let mut frame = Vec::new();
    FrameHeader::new(Opcode::Binary, payload.len() as u64, None).encode(&mut frame);
    frame.extend_from_slice(payload.as_bytes());
    let sender = std::thread::spawn(move || server.send(&frame));
    let mut reader = client.recv_reader().expect("a message").expect("not closed");
    let mut left = payload.len();
    while left > 0 {
        let size = reader.fill_buf().expect("open").len();
        hides(&[SECRET.to_owned(), numbers(SECRET.as_bytes())], &reader);
        reader.consume(size);
        left -= size;
    }
    sender.join().expect("no panic");
}

#[test]
fn what_a_peer_wrote_stays_in_its_line() {
    let evil = "a\r\n2026-01-01 ERROR forged\x1b[2J\u{202e}";
    let frame = CloseFrame { code: CloseCode::NORMAL_CLOSURE, reason: evil.into() };
    let reason = CloseReason::from_frame(Some(frame.clone()), CloseCause::Peer);
    let close = Message::Close(Some(frame));
    let message = Message::Text(evil.into());
    let long = Message::Text(evil.repeat(20));
    let displayed: [&dyn Display; 4] = [&reason, &close, &message, &long];
    let debugged: [&dyn Debug; 5] = [&reason, &close, &message, &long, &Prepared::new(evil)];
    for shown in displayed.map(|value| value.to_string()).into_iter().chain(debugged.map(|value| format!("{value:?}")))
    {
        assert!(!shown.contains(char::is_control) && !shown.contains('\u{202e}'), "{shown:?}");
    }
    assert_eq!(reason.to_string(), "1000 (a\\r\\n2026-01-01 ERROR forged\\u{1b}[2J\\u{202e})");
}
