//! A PROXY header comes before TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use threadbare::{Client, CloseCode, Event, Message, PeerAddr, Server};
use threadbare_tls_tests::Authority;

const DEADLINE: Duration = Duration::from_secs(30);

const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x9c\x40\x01\xbb";

/// Copies bytes until one side ends.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..size]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// A proxy, which sends `header` and the first bytes of each client in pieces of these sizes, and then as they come.
fn proxy(server: SocketAddr, header: &'static [u8], sizes: fn(usize) -> Vec<usize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let mut to_server = TcpStream::connect(server).expect("connects");
            to_server.set_nodelay(true).expect("a socket");
            let mut first = vec![0; 16 << 10];
            let size = client.read(&mut first).expect("a ClientHello");
            let bytes = [header, &first[..size]].concat();
            let mut rest = &bytes[..];
            for size in sizes(bytes.len()) {
                let (piece, more) = rest.split_at(size.min(rest.len()));
                let _ = to_server.write_all(piece); // the server may have closed
                rest = more;
            }
            let _ = to_server.write_all(rest);
            let (from_client, to_client) = (client.try_clone().expect("a socket"), client);
            let from_server = to_server.try_clone().expect("a socket");
            thread::spawn(move || copy(from_client, to_server));
            thread::spawn(move || copy(from_server, to_client));
        }
    });
    addr
}

#[test]
fn a_proxy_header_comes_before_the_handshake_of_tls_wherever_the_two_are_cut() {
    let authority = Authority::new();
    let client_addr: PeerAddr = ([192, 0, 2, 1], 40_000).into();
    for workers in [1, 2] {
        let builder = Server::builder().workers(workers).tls(authority.server()).proxy_protocol(["127.0.0.1"]);
        let server = builder.bind("127.0.0.1:0").expect("a server");
        let cuts: [fn(usize) -> Vec<usize>; 5] = [
            |all| vec![all],
            |_| vec![HEADER.len()],
            |_| vec![13, HEADER.len() - 13 + 3],
            |_| vec![HEADER.len() + 100],
            |all| vec![1; all],
        ];
        for (index, sizes) in cuts.into_iter().enumerate() {
            let addr = proxy(server.local_addr(), HEADER, sizes);
            let url = format!("wss://localhost:{}", addr.port());
            let client = Client::builder().tls(authority.client()).no_proxy().connect(&url).expect("connected");
            match server.recv_timeout(DEADLINE) {
                Ok(Event::Open(peer, request)) => {
                    assert_eq!((&peer.addr(), request.client_addr()), (&client_addr, &client_addr), "cut {index}");
                    assert!(request.tls().is_some() && request.socket_addr() != request.client_addr());
                }
                other => panic!("{other:?}"),
            }
            client.send("hello").expect("sent");
            match server.recv_timeout(DEADLINE) {
                Ok(Event::Message(peer, message)) => peer.send(message).expect("sent"),
                other => panic!("{other:?}"),
            }
            assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))), "cut {index}");
            client.close(CloseCode::NORMAL_CLOSURE, "").expect("a valid close frame");
            assert!(matches!(server.recv_timeout(DEADLINE), Ok(Event::Close(..))));
        }
    }
}

#[test]
fn a_client_that_is_over_its_limit_is_told_over_tls() {
    let authority = Authority::new();
    let config = threadbare::Config::default().max_connections_per_address(1);
    let builder = Server::builder().workers(2).tls(authority.server()).proxy_protocol(["127.0.0.1"]).config(config);
    let server = builder.bind("127.0.0.1:0").expect("a server");
    let addr = proxy(server.local_addr(), HEADER, |all| vec![all]);
    let url = format!("wss://localhost:{}", addr.port());
    let connect = || Client::builder().tls(authority.client()).no_proxy().connect(&url);
    let first = connect().expect("connected");
    let refusal = connect().expect_err("one is allowed");
    assert!(format!("{refusal:?}").contains("503"), "{refusal:?}");
    first.send("still here").expect("the other is not affected");
}
