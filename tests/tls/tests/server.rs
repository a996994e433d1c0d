//! What a server does with its certificates, and whom it accepts.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustls::HandshakeKind;
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Accept, Client, ClientTls, Config, ConnectError, EventRef, Handler, Message, MessageRef, Response, Server,
    ServerBuilder, Socket, Tls, TlsError, TlsInfo,
};
use threadbare_tls_tests::{Authority, Certified, DEADLINE, End, RawClient, TLS12, TLS13, masked, request};

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

fn serve(builder: ServerBuilder) -> Server {
    builder.serve("127.0.0.1:0", |_| Echo).expect("a server")
}

/// Runs with an echo server of each kind: a handler with one worker and with two, events, and an inline event loop.
fn with_each(builder: impl Fn() -> ServerBuilder, run: impl Fn(SocketAddr)) {
    for workers in [1, 2] {
        let server = serve(builder().workers(workers));
        run(server.local_addr());
        let server = builder().workers(workers).bind("127.0.0.1:0").expect("a server");
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut events = server.iter();
                while let Some(event) = events.next_ref() {
                    if let EventRef::Message(peer, message) = event {
                        let _ = peer.send(message); // it may be gone
                    }
                }
            });
            run(server.local_addr());
            server.shutdown(Duration::from_millis(100));
        });
    }
    let mut event_loop = builder().bind_inline("127.0.0.1:0").expect("a server");
    let (addr, handle) = (event_loop.local_addr(), event_loop.handle());
    thread::scope(|scope| {
        scope.spawn(move || {
            event_loop.run(|event| {
                if let EventRef::Message(peer, message) = event {
                    let _ = peer.send(message); // it may be gone
                }
            })
        });
        run(addr);
        handle.shutdown(Duration::from_millis(100));
    });
}

/// The certificate that a client sees who asks for this name.
fn shown(addr: SocketAddr, authority: &Authority, name: &str) -> Result<Vec<u8>, std::io::Error> {
    let stream = TcpStream::connect(addr).expect("connects");
    let mut client = RawClient::on(stream, name, authority.rustls_client(&[TLS13[0], TLS12[0]]));
    client.handshake()?;
    Ok(client.tls.conn.peer_certificates().expect("a certificate")[0].to_vec())
}

#[test]
fn the_certificate_is_chosen_by_the_name_that_the_client_asks_for() {
    let authority = Authority::new();
    let names = ["a.example", "*.b.example", "c.b.example"];
    let [a, wildcard, c] = names.map(|name| authority.issue(&[name]));
    let default = authority.issue(&["localhost", "127.0.0.1", "d.example"]);
    let mut builder = Tls::builder();
    for (name, certified) in [("A.example", &a), ("*.b.example", &wildcard), ("c.b.example", &c)] {
        builder = builder.host_pem(name, certified.chain.clone(), certified.key.clone());
    }
    let without = builder.clone().build().expect("settings");
    let with = builder.default_pem(default.chain.clone(), default.key.clone()).build().expect("settings");
    with_each(
        || Server::builder().tls(with.clone()),
        |addr| {
            let cases = [
                ("a.example", &a),
                ("x.b.example", &wildcard),
                ("c.b.example", &c),
                ("d.example", &default),
                ("127.0.0.1", &default),
            ];
            for (name, certified) in cases {
                assert_eq!(shown(addr, &authority, name).expect("a handshake"), certified.certificate(), "{name}");
            }
        },
    );
    with_each(
        || Server::builder().tls(without.clone()),
        |addr| {
            assert_eq!(shown(addr, &authority, "a.example").expect("a handshake"), a.certificate());
            for name in ["d.example", "b.example", "x.c.b.example", "127.0.0.1"] {
                let error = shown(addr, &authority, name).expect_err("nobody of that name");
                assert!(error.to_string().contains("AccessDenied"), "{name}: {error}");
            }
        },
    );
}

/// A directory that is removed in the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let dir = std::env::temp_dir().join(format!("threadbare-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Files(dir)
    }

    fn chain(&self) -> PathBuf {
        self.0.join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    fn put(&self, certified: &Certified) {
        fs::write(self.chain(), &certified.chain).expect("written");
        fs::write(self.key(), &certified.key).expect("written");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `renew` changes the certificate of `tls` to another, while 100 connections echo, and tells which that is.
fn none_breaks(authority: &Authority, tls: &Tls, mut renew: impl FnMut() -> Certified) {
    const CONNECTIONS: usize = 100;
    for workers in [1, 2] {
        let server = serve(Server::builder().workers(workers).tls(tls.clone()));
        let url = format!("wss://localhost:{}/", server.local_addr().port());
        let builder = Client::builder().no_proxy().tls(authority.client());
        let pool = threadbare::ClientPool::new(1, Config::default()).expect("a pool");
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|_| builder.clone().pool(&pool).connect(&url).expect("connected")).collect();
        let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for half in clients.chunks(CONNECTIONS / 2) {
                let (stop, rounds) = (&stop, &rounds);
                scope.spawn(move || {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        for client in half {
                            client.send(format!("message {round}")).expect("sent");
                        }
                        for client in half {
                            let message = client.recv_timeout(DEADLINE);
                            assert_eq!(message, Ok(Some(Message::Text(format!("message {round}")))));
                        }
                        round += 1;
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..10 {
                let before = rounds.load(Ordering::Relaxed);
                let certified = renew();
                let seen = shown(server.local_addr(), authority, "localhost").expect("a handshake");
                assert_eq!(seen, certified.certificate());
                while rounds.load(Ordering::Relaxed) < before + 4 {
                    thread::yield_now();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(clients.iter().all(Client::is_open));
    }
}

#[test]
fn r_18_a_certificate_is_reloaded_while_100_connections_echo_and_none_breaks() {
    let (authority, files) = (Authority::new(), Files::new("reload"));
    files.put(&authority.issue(&["localhost"]));
    let tls = Tls::from_pem_files(files.chain(), files.key()).expect("files");
    none_breaks(&authority, &tls, || {
        let certified = authority.issue(&["localhost"]);
        files.put(&certified);
        tls.reload().expect("files");
        certified
    });
}

#[test]
fn r_18_a_certificate_is_replaced_while_100_connections_echo_and_none_breaks() {
    let authority = Authority::new();
    let tls = authority.server();
    none_breaks(&authority, &tls, || {
        let certified = authority.issue(&["localhost"]);
        tls.replace(&certified.server());
        certified
    });
}

#[test]
fn r_18_files_that_can_not_be_used_leave_the_certificate_as_it_was() {
    let (authority, files) = (Authority::new(), Files::new("broken"));
    let (certified, other) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    files.put(&certified);
    let tls = Tls::from_pem_files(files.chain(), files.key()).expect("files");
    let server = serve(Server::builder().workers(1).tls(tls.clone()));
    let stays = |what: &str| {
        let error = tls.reload().expect_err(what);
        assert!(error.to_string().contains("threadbare-tls-broken"), "{what}: {error}");
        let seen = shown(server.local_addr(), &authority, "localhost").expect("a handshake");
        assert_eq!(seen, certified.certificate(), "{what}");
    };
    fs::write(files.chain(), &other.chain).expect("written");
    stays("a key of another certificate");
    fs::write(files.chain(), &certified.chain[..certified.chain.len() / 2]).expect("written");
    stays("half a certificate");
    fs::write(files.key(), "").expect("written");
    stays("no key");
    fs::remove_file(files.chain()).expect("removed");
    stays("no file");
    files.put(&other);
    tls.reload().expect("files");
    assert_eq!(shown(server.local_addr(), &authority, "localhost").expect("a handshake"), other.certificate());

    let error = authority.server().reload().expect_err("no file");
    assert!(error.to_string().contains("no certificate was read from a file"), "{error}");
}

#[test]
fn a_client_comes_back_with_a_ticket_unless_there_are_none() {
    let authority = Authority::new();
    for (versions, tickets, second) in [
        (TLS13, 1, HandshakeKind::Resumed),
        (TLS12, 1, HandshakeKind::Resumed),
        (TLS13, 0, HandshakeKind::Full),
        (TLS12, 0, HandshakeKind::Full),
    ] {
        let Certified { chain, key } = authority.issue(&["localhost"]);
        let tls = Tls::builder().default_pem(chain, key).tickets(tickets).build().expect("settings");
        with_each(
            || Server::builder().tls(tls.clone()),
            |addr| {
                let config = Arc::new(authority.rustls_client(versions));
                for kind in [HandshakeKind::Full, second] {
                    let mut client = RawClient::open(addr, config.clone());
                    client.echo("hello");
                    assert_eq!(client.tls.conn.handshake_kind(), Some(kind), "{versions:?} with {tickets}");
                }
            },
        );
    }
}

#[test]
fn r_18_early_data_is_not_allowed() {
    let authority = Authority::new();
    let mut config = authority.rustls_server(TLS13);
    config.max_early_data_size = 16_384;
    config.ticketer = rustls::crypto::ring::Ticketer::new().expect("random numbers");
    let server = serve(Server::builder().workers(1).tls(Tls::from_rustls(Arc::new(config))));
    let mut config = authority.rustls_client(TLS13);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let stream = TcpStream::connect(server.local_addr()).expect("connects");
        let mut client = RawClient::on(stream, "localhost", config.clone());
        assert!(client.tls.conn.early_data().is_none(), "the ticket allows early data");
        client.handshake().expect("a handshake");
        client.open_websocket();
        client.echo("hello");
        assert_eq!(client.tls.conn.handshake_kind(), Some(kind));
    }
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let authority = Authority::new();
    let tls = authority.server();
    for versions in [TLS12, TLS13] {
        with_each(
            || Server::builder().tls(tls.clone()),
            |addr| {
                let mut client = RawClient::open(addr, authority.rustls_client(versions));
                client.echo("hello");
                client.send(&masked(Opcode::Close, &1000_u16.to_be_bytes()));
                assert_eq!(client.expect_frame().close_code(), 1000);
                assert_eq!(client.end(), (End::CloseNotify, Vec::new()));
                let tls = ClientTls::from_rustls(Arc::new(authority.rustls_client(versions)));
                let url = format!("wss://localhost:{}/", addr.port());
                let client = Client::builder().no_proxy().tls(tls).connect(&url).expect("connected");
                client.send(vec![7; 100_000]).expect("sent");
                assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::Binary(vec![7; 100_000]))));
                client.finish(DEADLINE).expect("a clean end");
            },
        );
    }
}

#[test]
fn the_application_protocol_is_http_1_1() {
    let authority = Authority::new();
    let server = serve(Server::builder().workers(1).tls(authority.server()));
    let connect = |protocols: &[&[u8]]| {
        let mut config = authority.rustls_client(TLS13);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(server.local_addr()).expect("connects");
        let mut client = RawClient::on(stream, "localhost", config);
        client.handshake().map(|()| client)
    };
    for (offered, agreed) in
        [(&[&b"http/1.1"[..]][..], Some(&b"http/1.1"[..])), (&[b"h2", b"http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let mut client = connect(offered).expect("a handshake");
        assert_eq!(client.tls.conn.alpn_protocol(), agreed);
        client.open_websocket();
        client.echo("hello");
    }
    let error = connect(&[b"h2"]).expect_err("no HTTP/2");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");

    // The client's side of it.
    let mut config = authority.rustls_server(TLS13);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = serve(Server::builder().workers(1).tls(Tls::from_rustls(Arc::new(config))));
    let url = format!("wss://localhost:{}/", server.local_addr().port());
    let error = Client::builder().no_proxy().tls(authority.client()).connect(&url).expect_err("no HTTP/2");
    assert!(matches!(error, ConnectError::Tls { source: TlsError::NoSharedProtocol, .. }), "{error:?}");
}

/// What the server's hook saw of a connection.
fn with_infos(tls: Tls, run: impl Fn(SocketAddr, &mpsc::Receiver<Option<TlsInfo>>)) {
    let (sender, infos) = mpsc::channel();
    with_each(
        || {
            let sender = sender.clone();
            Server::builder().tls(tls.clone()).on_request(move |request| {
                sender.send(request.tls().cloned()).expect("the test runs");
                Ok(Accept::new())
            })
        },
        |addr| run(addr, &infos),
    );
}

#[test]
fn a_request_has_what_tls_agreed_on() {
    let authority = Authority::new();
    with_infos(authority.server(), |addr, infos| {
        for (versions, version, suite) in [
            (TLS13, "TLSv1_3", "TLS13_AES_128_GCM_SHA256"),
            (TLS12, "TLSv1_2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        ] {
            // A ticket must not hide the name.
            let config = Arc::new(authority.rustls_client(versions));
            for (asked, name) in
                [("LocalHost", Some("localhost")), ("LocalHost", Some("localhost")), ("127.0.0.1", None)]
            {
                let stream = TcpStream::connect(addr).expect("connects");
                let mut client = RawClient::on(stream, asked, config.clone());
                client.open_websocket();
                client.echo("hello");
                let info = infos.recv_timeout(DEADLINE).expect("a request").expect("TLS");
                assert_eq!((info.version(), info.cipher_suite(), info.server_name()), (version, suite, name));
                assert_eq!(info.certificates().len(), 0);
            }
        }
    });
}

#[test]
fn clients_show_certificates_where_they_are_asked_for() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let Certified { chain, key } = authority.issue(&["localhost"]);
    let builder = Tls::builder().default_pem(chain, key).client_roots_pem(clients.root());
    let (known, unknown) = (clients.issue(&["a client"]), strangers.issue(&["a client"]));
    let expired = clients.issue_for(
        &["a client"],
        time::OffsetDateTime::now_utc() - time::Duration::days(2),
        time::OffsetDateTime::now_utc() - time::Duration::days(1),
    );
    let connect = |addr: SocketAddr, certified: Option<&Certified>, versions| {
        let tls = match certified {
            // With only one version.
            None => ClientTls::from_rustls(Arc::new(authority.rustls_client(versions))),
            Some(certified) => ClientTls::builder()
                .root_pem(authority.root())
                .no_default_roots()
                .certificate_pem(certified.chain.clone(), certified.key.clone())
                .build()
                .expect("settings"),
        };
        let url = format!("wss://localhost:{}/", addr.port());
        let client = Client::builder().no_proxy().tls(tls).connect(&url)?;
        client.send("hello").expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))));
        Ok::<(), ConnectError>(())
    };
    let is_refused = |result: Result<(), ConnectError>, expected: TlsError| match result {
        Err(ConnectError::Tls { source, .. }) => assert_eq!(source, expected),
        other => panic!("{other:?}"),
    };
    with_infos(builder.clone().build().expect("settings"), |addr, infos| {
        connect(addr, Some(&known), TLS13).expect("connected");
        let info = infos.recv_timeout(DEADLINE).expect("a request").expect("TLS");
        assert_eq!(info.certificates().collect::<Vec<_>>(), [known.certificate()]);
        // The client's own handshake of TLS 1.3 is complete when it is refused.
        is_refused(connect(addr, None, TLS13), TlsError::CertificateRequired);
        is_refused(connect(addr, None, TLS12), TlsError::CertificateRequired);
        is_refused(connect(addr, Some(&unknown), TLS13), TlsError::Alert("UnknownCA".to_owned()));
        is_refused(connect(addr, Some(&expired), TLS13), TlsError::Alert("CertificateExpired".to_owned()));
        assert!(infos.try_recv().is_err(), "no request of those");
    });
    with_infos(builder.client_certificates_optional().build().expect("settings"), |addr, infos| {
        for (certified, count) in [(Some(&known), 1), (None, 0)] {
            connect(addr, certified, TLS13).expect("connected");
            let info = infos.recv_timeout(DEADLINE).expect("a request").expect("TLS");
            assert_eq!(info.certificates().len(), count);
        }
        is_refused(connect(addr, Some(&unknown), TLS13), TlsError::Alert("UnknownCA".to_owned()));
    });
    with_infos(authority.server(), |addr, infos| {
        connect(addr, Some(&known), TLS13).expect("connected");
        let info = infos.recv_timeout(DEADLINE).expect("a request").expect("TLS");
        assert_eq!(info.certificates().len(), 0, "nobody asked");
    });
}

/// Sends bytes without TLS, and returns what is received up to the end of the stream, which is FIN.
fn in_the_clear(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(bytes).expect("written");
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => received,
        // The server closes with something unread.
        Err(error) if error.kind() == ErrorKind::ConnectionReset && received.is_empty() => received,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn plain_http_gets_400_in_the_clear_and_anything_else_is_dropped() {
    let authority = Authority::new();
    let tls = authority.server();
    with_each(
        || Server::builder().tls(tls.clone()),
        |addr| {
            let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
            for head in [&request("/", ""), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST", &long] {
                let answer = in_the_clear(addr, head.as_bytes());
                let answer = String::from_utf8(answer).expect("ASCII");
                assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
                assert!(answer.ends_with("this port speaks TLS: use wss:// or https://\n"), "{answer}");
            }
            // SSH, SSL 2, nothing, and a record of a type that can not come first.
            for garbage in
                [&b"\x00\x01\x02\x03"[..], b"\x80\x2e\x01\x03\x01", b"\r\n\r\n", b"\x17\x03\x03\x00\x05hello"]
            {
                assert_eq!(in_the_clear(addr, garbage), b"", "{garbage:?}");
            }
            let mut client = RawClient::open(addr, authority.rustls_client(TLS13));
            client.echo("hello");
        },
    );
}

#[test]
fn pages_are_served_over_https() {
    let authority = Authority::new();
    let tls = authority.server();
    let page = "x".repeat(300_000);
    with_each(
        || {
            let page = page.clone();
            Server::builder().tls(tls.clone()).http(move |request| match request.path() {
                "/" => Response::new(200).text(&page),
                _ => Response::new(404),
            })
        },
        |addr| {
            for (path, status, size) in [("/", "200", page.len()), ("/other", "404", 0)] {
                let mut client = RawClient::connect(addr, authority.rustls_client(TLS13));
                let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                client.send(request.as_bytes());
                let head = client.head();
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
                let (end, body) = client.end();
                assert_eq!(end, End::CloseNotify);
                assert!(body.len() >= size && body.starts_with(&page.as_bytes()[..size]));
            }
        },
    );
}

#[test]
fn a_client_without_room_is_answered_503_over_tls() {
    let authority = Authority::new();
    let tls = authority.server();
    with_each(
        || Server::builder().tls(tls.clone()).config(Config::default().max_connections(1)),
        |addr| {
            let mut first = RawClient::open(addr, authority.rustls_client(TLS13));
            let mut second = RawClient::connect(addr, authority.rustls_client(TLS13));
            second.send(request("/", "").as_bytes());
            let head = second.head();
            assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After"), "{head}");
            assert_eq!(second.end().0, End::CloseNotify);
            first.echo("hello");
            drop(first);
            // It is counted until the server has seen its end.
            while RawClient::connect(addr, authority.rustls_client(TLS13)).try_open() != 101 {}
        },
    );
}

trait TryOpen {
    fn try_open(&mut self) -> u16;
}

impl TryOpen for RawClient {
    /// The status of the answer to an opening handshake.
    fn try_open(&mut self) -> u16 {
        self.send(request("/", "").as_bytes());
        self.head()[9..12].parse().expect("a status")
    }
}

#[test]
fn a_refusal_by_the_hook_is_received_whole() {
    let authority = Authority::new();
    let tls = authority.server();
    with_each(
        || {
            let refusal = Response::new(401).text(&"no ".repeat(50_000));
            Server::builder().tls(tls.clone()).on_request(move |_| Err(refusal.clone()))
        },
        |addr| {
            let mut client = RawClient::connect(addr, authority.rustls_client(TLS13));
            assert_eq!(client.try_open(), 401);
            let (end, body) = client.end();
            assert_eq!((end, body), (End::CloseNotify, "no ".repeat(50_000).into_bytes()));
        },
    );
}
