//! How a `Client` connects: responses, headers, timeouts, redirects and proxies.

use crate::common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::servers::Echo;
use common::{DEADLINE, accept_request, chain, read_head};
use crossbeam_channel::Receiver;
use threadbare::{
    Accept, Client, ClientLoop, ClientPool, ClientRequest, Config, ConnectError, ConnectionState, Message, Phase,
    Reconnect, Request, Response, Server, Url, WebSocket,
};

fn server() -> Server {
    common::logged::install();
    Server::builder().workers(1).serve("127.0.0.1:0", |_| Echo).expect("a server")
}

fn url(addr: SocketAddr) -> String {
    format!("ws://{addr}/")
}

/// A server that accepts one connection and sends these bytes, without regard to the request.
fn serve_bytes(bytes: &'static [u8]) -> SocketAddr {
    common::logged::install();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        stream.write_all(bytes).expect("written");
        // Waits until the client closes its socket.
        let _ = stream.read(&mut head);
    });
    addr
}

#[test]
fn h_05_responses_other_than_a_valid_101_are_errors() {
    let open = |bytes| chain(&Client::connect(&url(serve_bytes(bytes))).expect_err("no connection"));
    assert!(open(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").contains("200"));
    assert!(open(b"SSH-2.0-OpenSSH_9.2\r\n").contains("HTTP"));
    assert!(open(b"HTTP/1.1 302 Found\r\nLocation: ws://example.com/\r\n\r\n").contains("redirects"));
    let wrong = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert!(open(wrong).contains("does not answer the request's key"));
}

#[test]
fn a_refusal_has_status_headers_and_body() {
    let server = Server::builder()
        .workers(1)
        .on_request(|_| Err(Response::new(401).header("X-Why", "no password").text("a password is required")))
        .bind("127.0.0.1:0")
        .expect("a server");
    let error = Client::connect(&url(server.local_addr())).expect_err("refused");
    let ConnectError::Handshake { source: threadbare::HandshakeError::Refused(refusal), .. } = error else {
        panic!("{error}")
    };
    assert_eq!((refusal.status(), refusal.head().header("X-Why")), (401, Some("no password")));
    assert_eq!(refusal.body(), b"a password is required");
}

/// A server for one connection, which answers the request with `answer`, given its key, and keeps the connection open.
fn serve_answer(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    common::logged::install();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, key) = accept_request(&listener);
        stream.write_all(&answer(&key)).expect("written");
        // Waits until the client closes, by a close frame or by the end of its socket.
        let _ = stream.read(&mut [0]);
    });
    addr
}

/// A 101 with these additional lines, and the message `hi` behind it.
fn switching(key: &str, lines: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{lines}\r\n",
        threadbare::protocol::handshake::accept_key(key)
    );
    [head.as_bytes(), b"\x81\x02hi"].concat()
}

/// Asserts that the client receives the message behind the 101.
fn expect_hi(client: &Client) {
    assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hi"))));
}

#[test]
fn h_06_a_refusal_is_told_when_its_body_ends() {
    // The server keeps the connection open, so a client that waits for more waits until its timeout.
    for (answer, status, body) in [
        ("404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nnot here\n\r\n0\r\n\r\n", 404, "not here\n"),
        ("403 Forbidden\r\nContent-Length: 2, 2\r\n\r\nno", 403, "no"),
        ("403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, ""),
        ("204 No Content\r\n\r\n", 204, ""),
        ("304 Not Modified\r\nContent-Length: 100\r\n\r\n", 304, ""),
    ] {
        let addr = serve_answer(move |_| format!("HTTP/1.1 {answer}").into_bytes());
        let config = Config::default().handshake_timeout(DEADLINE);
        let start = Instant::now();
        let error = Client::builder().config(config).connect(&url(addr)).expect_err("refused");
        assert!(start.elapsed() < DEADLINE, "{answer:?}: {:?}", start.elapsed());
        let ConnectError::Handshake { source: threadbare::HandshakeError::Refused(refusal), .. } = error else {
            panic!("{error}")
        };
        assert_eq!((refusal.status(), refusal.body()), (status, body.as_bytes()), "{answer:?}");
    }
}

#[test]
fn a_101_with_the_length_of_a_body_opens_the_connection() {
    // RFC 9112 6.3, item 1: it ends at the empty line, "regardless of the header fields present in the message".
    for lines in ["Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n"] {
        let addr = serve_answer(move |key| switching(key, lines));
        let client = Client::connect(&url(addr)).unwrap_or_else(|error| panic!("{lines:?}: {}", chain(&error)));
        expect_hi(&client);
    }
}

#[test]
fn a_client_sends_nothing_before_the_101() {
    // RFC 6455 4.1: "the client MUST wait for a response from the server before sending any further data".
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = url(listener.local_addr().expect("an address"));
    // Its message waits for the connection.
    let client = Client::builder().reconnect(&address, Reconnect::new()).expect("a client");
    client.send("queued").expect("accepted");
    let (mut stream, key) = accept_request(&listener);
    let mut answer = switching(&key, "");
    answer.truncate(answer.len() - b"\x81\x02hi".len());
    let (most, last) = answer.split_at(answer.len() - 1);
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    for part in [&b""[..], most] {
        stream.write_all(part).expect("written");
        let early = stream.read(&mut [0]).expect_err("nothing comes before the end of the 101");
        assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early}");
    }
    stream.write_all(last).expect("written");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let mut frame = [0; 12];
    stream.read_exact(&mut frame).expect("the message");
    assert_eq!(frame[..2], [0x81, 0x86]);
}

#[test]
fn a_large_request_of_the_client_opens_the_connection() {
    // Larger than what a server of this library accepts by default.
    let path = format!("/{}?\"<%zz", "q".repeat(9_000));
    let token = "t".repeat(17_000);
    for (path, token) in [(path.as_str(), "t"), ("/", token.as_str())] {
        let addr = serve_answer(|key| switching(key, ""));
        let client = Client::builder()
            .header("Authorization", token)
            .connect(&format!("ws://{addr}{path}"))
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        expect_hi(&client);
    }
}

#[test]
fn headers_and_subprotocols_reach_the_server() {
    let server = Server::builder()
        .workers(1)
        .on_request(|request| {
            assert_eq!(
                (request.path(), request.query(), request.header("X-Token")),
                ("/chat", Some("room=1"), Some("7"))
            );
            Ok(Accept::new().subprotocol("superchat").header("X-Hello", "you"))
        })
        .bind("127.0.0.1:0")
        .expect("a server");
    let client = Client::builder()
        .header("X-Token", "7")
        .subprotocols(["chat", "superchat"])
        .socket_hook(|socket| socket.set_ttl(33))
        .connect(&format!("http://{}/chat?room=1", server.local_addr()))
        .expect("connected");
    assert_eq!((client.subprotocol(), client.response().header("X-Hello")), (Some("superchat"), Some("you")));
    let bad = Client::builder().header("X-Bad", "a\r\nb").connect("ws://127.0.0.1:1/").expect_err("a bad header");
    assert!(matches!(bad, ConnectError::Header(_)), "{bad}");
}

/// A server at this address that tells the request of each opening handshake.
fn telling_server(addr: &str) -> (Server, Receiver<Request>) {
    common::logged::install();
    let (sender, requests) = crossbeam_channel::unbounded();
    let builder = Server::builder().workers(1).on_request(move |request| {
        sender.send(request.clone()).expect("the test receives");
        Ok(Accept::new())
    });
    (builder.serve(addr, |_| Echo).expect("a server"), requests)
}

/// Opens a connection with every kind of client.
fn connect_each(url: &str, header: Option<(&str, &str)>) {
    let builder = || {
        let builder = Client::builder();
        header.iter().fold(builder, |builder, (name, value)| builder.header(name, value))
    };
    drop(builder().connect(url).unwrap_or_else(|error| panic!("{}", chain(&error))));
    let pool = ClientPool::new(1, Config::default()).expect("a pool");
    drop(builder().pool(&pool).connect(url).expect("opened"));
    let client = builder().reconnect(url, Reconnect::new()).expect("started");
    client.wait_state(DEADLINE, ConnectionState::is_connected).expect("opened");
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    builder().connect_inline(url, &mut client_loop).expect("opened");
    let url = Url::parse(url).expect("a URL");
    let stream = TcpStream::connect((url.host(), url.port())).expect("a listener");
    let request = header.iter().fold(ClientRequest::new(url), |request, (name, value)| request.header(name, value));
    drop(WebSocket::connect_with(request, stream, &Config::default()).expect("opened"));
}

#[test]
fn every_kind_of_client_sends_a_host_of_ones_own() {
    let (server, requests) = telling_server("127.0.0.1:0");
    connect_each(&url(server.local_addr()), Some(("host", "api.example.com")));
    let hosts: Vec<Vec<String>> =
        requests.try_iter().map(|request| request.header_values("Host").map(str::to_owned).collect()).collect();
    assert_eq!(hosts, vec![["api.example.com"]; 5]);
    let bad =
        Client::builder().header("Host", "user@example.com").connect("ws://127.0.0.1:1/").expect_err("a bad host");
    assert!(matches!(bad, ConnectError::Header(_)), "{bad}");
}

#[test]
fn every_kind_of_client_encodes_what_a_url_can_not_have() {
    let (server, requests) = telling_server("127.0.0.1:0");
    connect_each(&format!("ws://{}/caf\u{e9}/%20?q=a b", server.local_addr()), None);
    let targets: Vec<String> = requests.try_iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/caf%C3%A9/%20?q=a%20b"; 5]);
}

#[cfg(target_os = "linux")] // where the loopback interface is named lo
#[test]
fn every_kind_of_client_connects_through_a_zone_and_does_not_send_it() {
    let (server, requests) = telling_server("[::1]:0");
    let port = server.local_addr().port();
    connect_each(&format!("ws://[::1%25lo]:{port}/"), None);
    let hosts: Vec<_> = requests.try_iter().map(|request| request.host().map(str::to_owned)).collect();
    assert_eq!(hosts, vec![Some(format!("[::1]:{port}")); 5]);
    let unknown = Client::connect(&format!("ws://[::1%no-such-zone]:{port}/")).expect_err("nobody's name");
    assert!(chain(&unknown).ends_with(r#"no network interface is named "no-such-zone""#), "{}", chain(&unknown));
    // Other clients send the zone; the server ignores it, in the comparison with Origin as well.
    let request = ClientRequest::new(format!("ws://[::1]:{port}/").parse().expect("a URL"));
    let request = request.header("Host", &format!("[::1%25lo]:{port}")).origin(&format!("http://[::1]:{port}"));
    let stream = TcpStream::connect(server.local_addr()).expect("a listener");
    drop(WebSocket::connect_with(request, stream, &Config::default()).expect("opened"));
}

#[test]
fn a_connect_error_names_the_phase_or_the_cause() {
    // The listener never accepts: the kernel connects, and no response is sent.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let timeout = Duration::from_millis(50);
    let start = Instant::now();
    let error = Client::builder().timeout(timeout).connect(&url(addr)).expect_err("silence");
    assert!(matches!(error, ConnectError::Timeout { phase: Phase::Handshake, .. }), "{error}");
    assert!((timeout..DEADLINE).contains(&start.elapsed()), "{:?}", start.elapsed());
    let through = Client::builder().proxy(&format!("http://{addr}")).proxy_timeout(timeout);
    let error = through.connect("ws://example.com/").expect_err("silence");
    assert!(matches!(error, ConnectError::Timeout { phase: Phase::Proxy, .. }), "{error}");
    drop(listener);
    let error = Client::connect(&url(addr)).expect_err("no listener");
    assert!(matches!(error, ConnectError::Io { .. }) && error.to_string().contains(&addr.to_string()), "{error}");
    #[cfg(not(feature = "rustls-tls"))]
    assert!(matches!(
        Client::connect("wss://127.0.0.1/"),
        Err(ConnectError::Tls { source: threadbare::TlsError::Unavailable, .. })
    ));
    assert!(matches!(Client::connect("gopher://127.0.0.1/"), Err(ConnectError::Url(_))));
}

#[test]
fn redirects_are_followed_up_to_max_redirects() {
    let server = server();
    let addr = server.local_addr();
    let redirecting = Server::builder()
        .workers(1)
        .on_request(move |_| Err(Response::new(307).header("Location", &format!("ws://{addr}/"))))
        .bind("127.0.0.1:0")
        .expect("a server");
    let from = url(redirecting.local_addr());
    let client = Client::builder().max_redirects(1).connect(&from).expect("connected");
    client.send("hello").expect("sent");
    assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))));
    assert!(Client::connect(&from).is_err(), "by default no redirect is followed");
    let circular = Server::builder()
        .workers(1)
        .on_request(|request| {
            let here = format!("ws://{}/", request.host().expect("a host"));
            Err(Response::new(302).header("Location", &here))
        })
        .bind("127.0.0.1:0")
        .expect("a server");
    let error = Client::builder().max_redirects(3).connect(&url(circular.local_addr())).expect_err("a circle");
    assert!(matches!(error, ConnectError::TooManyRedirects), "{error}");
}

#[test]
fn clients_connect_through_http_and_socks5_proxies() {
    let server = server();
    for scheme in ["http", "socks5"] {
        let proxy = proxy(scheme);
        let client = Client::builder().proxy(&format!("{scheme}://{proxy}")).connect(&url(server.local_addr()));
        let client = client.unwrap_or_else(|error| panic!("{scheme}: {error}"));
        client.send(scheme).expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from(scheme))));
    }
}

/// A proxy for one connection.
fn proxy(scheme: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let target = if scheme == "http" {
            let head = read_head(&mut client);
            client.write_all(b"HTTP/1.1 200 Go ahead\r\n\r\n").expect("written");
            head.split(' ').nth(1).expect("a target").to_owned()
        } else {
            let mut greeting = [0; 2];
            client.read_exact(&mut greeting).expect("a greeting");
            let mut methods = vec![0; usize::from(greeting[1])];
            client.read_exact(&mut methods).expect("methods");
            client.write_all(&[5, 0]).expect("written");
            let mut request = [0; 10];
            client.read_exact(&mut request).expect("a request for an IPv4 address");
            assert_eq!(request[..4], [5, 1, 0, 1]);
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).expect("written");
            let port = u16::from_be_bytes([request[8], request[9]]);
            format!("{}.{}.{}.{}:{port}", request[4], request[5], request[6], request[7])
        };
        let server = std::net::TcpStream::connect(target).expect("the server");
        let copies = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())]
            .map(|(from, to)| (from.expect("a socket"), to.expect("a socket")))
            .into_iter()
            .map(|(mut from, mut to)| {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    // The end of one side is the end of the other, for which the client waits.
                    let _ = to.shutdown(Shutdown::Write);
                })
            })
            .collect::<Vec<_>>();
        copies.into_iter().for_each(|copy| drop(copy.join()));
    });
    addr
}

/// The kernel completes no TCP handshake while the listener's queue is full.
#[cfg(target_os = "linux")]
#[test]
fn connect_timeout_bounds_the_tcp_handshake() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(0).expect("a listener");
    let addr = socket.local_addr().expect("an address").as_socket().expect("of IP");
    let fill = || std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)).ok();
    let queued: Vec<_> = std::iter::from_fn(fill).take(64).collect();
    assert!(queued.len() < 64, "the queue does not fill");
    let error = Client::builder()
        .connect_timeout(Duration::from_millis(50))
        .connect(&url(addr))
        .expect_err("the queue is full");
    assert!(matches!(error, ConnectError::Timeout { phase: Phase::Connect, .. }), "{error}");
}

#[test]
fn the_body_of_a_refusal_is_truncated_to_one_kibibyte() {
    static RESPONSE: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| [b"HTTP/1.1 403 Forbidden\r\n\r\n".as_slice(), &[b'x'; 3000]].concat());
    let error = Client::connect(&url(serve_bytes(&RESPONSE))).expect_err("refused");
    let ConnectError::Handshake { source: threadbare::HandshakeError::Refused(refusal), .. } = error else {
        panic!("{error}")
    };
    assert_eq!((refusal.status(), refusal.body()), (403, [b'x'; 1024].as_slice()));
}

#[test]
fn h_05_a_redirect_to_another_origin_has_a_new_key_and_no_credentials() {
    let (sender, requests) = crossbeam_channel::unbounded();
    let record = move |request: &threadbare::Request| {
        let header = |name| request.header(name).map(str::to_owned);
        sender
            .send([header("Sec-WebSocket-Key"), header("Authorization"), header("Cookie"), header("X-Plain")])
            .expect("the test receives");
    };
    let target = Server::builder().workers(1).on_request({
        let record = record.clone();
        move |request| {
            record(request);
            Ok(Accept::new())
        }
    });
    let target = target.bind("127.0.0.1:0").expect("a server");
    let addr = target.local_addr();
    let redirecting = Server::builder().workers(1).on_request(move |request| {
        record(request);
        Err(Response::new(308).header("Location", &format!("ws://{addr}/")))
    });
    let redirecting = redirecting.bind("127.0.0.1:0").expect("a server");
    Client::builder()
        .max_redirects(1)
        .header("Authorization", "Bearer secret")
        .header("Cookie", "session=1")
        .header("X-Plain", "kept")
        .connect(&url(redirecting.local_addr()))
        .expect("connected");
    let [first, second] = [(); 2].map(|()| requests.recv_timeout(DEADLINE).expect("a request"));
    assert_eq!(first[1..], [Some("Bearer secret".into()), Some("session=1".into()), Some("kept".into())]);
    assert_eq!(second[1..], [None, None, Some("kept".into())]);
    assert_ne!(first[0], second[0]);
}

/// Runs itself again in a child process, whose environment names the proxy.
#[test]
fn the_proxy_of_the_environment_is_used_unless_no_proxy_is_set() {
    const TARGET: &str = "THREADBARE_TEST_TARGET";
    if let Ok(target) = std::env::var(TARGET) {
        let client = Client::connect(&target).expect("through the proxy");
        client.send("through").expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("through"))));
        Client::builder().no_proxy().connect(&target).expect("directly");
        // The proxy serves one connection only.
        assert!(Client::builder().timeout(Duration::from_secs(1)).connect(&target).is_err());
        return;
    }
    let server = server();
    for (variable, scheme) in [("http_proxy", "http"), ("ALL_PROXY", "socks5")] {
        let name = "connect::the_proxy_of_the_environment_is_used_unless_no_proxy_is_set";
        let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
        for other in ["no_proxy", "ws_proxy", "http_proxy", "all_proxy"] {
            command.env_remove(other).env_remove(other.to_uppercase());
        }
        command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
        command.env(TARGET, url(server.local_addr())).env(variable, format!("{scheme}://{}", proxy(scheme)));
        let status = command.status();
        assert!(status.expect("a process").success(), "{variable}");
    }
}

#[test]
fn a_client_knows_both_addresses() {
    let server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let client = Client::connect(&url(server.local_addr())).expect("connected");
    let threadbare::Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("no open") };
    assert_eq!((client.peer_addr(), client.local_addr()), (server.local_addr().into(), peer.addr()));
}
