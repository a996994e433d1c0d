//! The ways to a server over TLS: each kind of client, proxies and redirects; and both directions at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use threadbare::{
    Client, ClientBuilder, ClientLoop, ClientPool, Config, ConnectError, DeflateConfig, Event, EventRef, Handler,
    Message, MessageRef, Reconnect, Response, Server, SlowConsumer, Socket, TlsError,
};
use threadbare_tls_tests::{Authority, DEADLINE, Tunnel, tunnel};

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

fn serve(authority: &Authority, config: &Config) -> Server {
    let builder = Server::builder().workers(1).config(config.clone()).tls(authority.server());
    builder.serve("127.0.0.1:0", |_| Echo).expect("a server")
}

fn url(addr: SocketAddr) -> String {
    format!("wss://localhost:{}/", addr.port())
}

/// Sends messages through every kind of client, and receives them back. `builder` is asked once for each.
fn echo_with_each(url: &str, config: &Config, builder: impl Fn() -> ClientBuilder) {
    let messages: Vec<Message> = [0, 1, 125, 126, 70_000].iter().map(|size| Message::Text("x".repeat(*size))).collect();

    let client = builder().config(config.clone()).connect(url).expect("connected");
    let pool = ClientPool::new(2, config.clone()).expect("a pool");
    let pooled = builder().pool(&pool).connect(url).expect("connected");
    for client in [client, pooled] {
        for message in &messages {
            client.send(message.clone()).expect("sent");
            assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(message.clone())));
        }
        client.finish(DEADLINE).expect("a clean end");
    }

    let client = builder().config(config.clone()).reconnect(url, Reconnect::new()).expect("a client");
    for message in &messages {
        client.send(message.clone()).expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE).expect("an echo").as_ref(), Some(message));
    }

    let mut client_loop = ClientLoop::new(config.clone()).expect("a loop");
    let peer = builder().connect_inline(url, &mut client_loop).expect("connected");
    messages.iter().for_each(|message| peer.send(message.clone()).expect("sent"));
    let (mut received, mut is_closed, start) = (Vec::new(), false, Instant::now());
    while !is_closed {
        assert!(start.elapsed() < DEADLINE, "timed out");
        let on_event = |event: EventRef<'_>| match event {
            EventRef::Message(peer, message) => {
                received.push(message.as_message().into_owned());
                if received.len() == messages.len() {
                    peer.close(threadbare::CloseCode::NORMAL_CLOSURE, "").expect("open");
                }
            }
            EventRef::Close(_, reason) => is_closed = reason.is_clean(),
            _ => {}
        };
        client_loop.poll(Duration::from_millis(100), on_event).expect("a poll");
    }
    assert_eq!(received, messages);
}

#[test]
fn each_kind_of_client_speaks_tls() {
    let authority = Authority::new();
    for deflate in [None, Some(DeflateConfig::default())] {
        let config = Config::default().deflate(deflate);
        let server = serve(&authority, &config);
        let builder = || Client::builder().no_proxy().tls(authority.client());
        echo_with_each(&url(server.local_addr()), &config, builder);
    }
}

#[test]
fn each_kind_of_client_speaks_tls_through_proxies() {
    let authority = Authority::new();
    let config = Config::default();
    let server = serve(&authority, &config);
    for (kind, scheme) in [(Tunnel::Connect, "http"), (Tunnel::Socks5, "socks5")] {
        let builder = || Client::builder().proxy(&format!("{scheme}://{}", tunnel(kind))).tls(authority.client());
        echo_with_each(&url(server.local_addr()), &config, builder);
    }
}

#[test]
fn what_a_proxy_says_before_the_server_is_no_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = format!("http://{}", listener.local_addr().expect("an address"));
    let thread = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut head = [0; 1000];
        assert!(client.read(&mut head).expect("a request") > 0);
        client.write_all(b"HTTP/1.1 200 Go ahead\r\n\r\n\x16\x03\x03").expect("written");
    });
    let builder = Client::builder().proxy(&proxy).tls(Authority::new().client());
    let error = builder.connect("wss://localhost:1/").expect_err("refused");
    assert!(matches!(error, ConnectError::Tls { source: TlsError::NotTls, .. }), "{error:?}");
    thread.join().expect("the proxy");
}

#[test]
fn h_05_redirects_lead_to_tls_and_never_from_it() {
    let authority = Authority::new();
    let target = serve(&authority, &Config::default());
    let plain = Server::builder().workers(1).serve("127.0.0.1:0", |_| Echo).expect("a server");
    let redirecting = |tls: bool, location: String| {
        let builder =
            Server::builder().workers(1).on_request(move |_| Err(Response::new(307).header("Location", &location)));
        let builder = if tls { builder.tls(authority.server()) } else { builder };
        builder.bind("127.0.0.1:0").expect("a server")
    };
    let client = || Client::builder().no_proxy().tls(authority.client()).max_redirects(2);
    let secure = url(target.local_addr());
    let from_tls = redirecting(true, secure.clone());
    let from_plain = redirecting(false, secure);
    for from in [url(from_tls.local_addr()), format!("ws://{}/", from_plain.local_addr())] {
        let client = client().connect(&from).expect("connected");
        client.send("hello").expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::from("hello"))));
    }
    for location in [format!("ws://{}/", plain.local_addr()), format!("http://{}/", plain.local_addr())] {
        let from = redirecting(true, location);
        let error = client().connect(&url(from.local_addr())).expect_err("refused");
        assert!(matches!(error, ConnectError::Redirect(_)), "{error:?}");
    }
    // A certificate of the target is checked as any.
    let stranger = serve(&Authority::new(), &Config::default());
    let from = redirecting(true, url(stranger.local_addr()));
    let error = client().connect(&url(from.local_addr())).expect_err("refused");
    assert!(matches!(error, ConnectError::Tls { source: TlsError::UnknownIssuer, .. }), "{error:?}");
}

#[test]
fn a_reconnecting_client_comes_back_over_tls() {
    let authority = Authority::new();
    let server = Server::builder().workers(1).tls(authority.server()).bind("127.0.0.1:0").expect("a server");
    let wait = Duration::from_millis(10);
    let reconnect = Reconnect::new().initial_delay(wait).max_delay(wait);
    let builder = Client::builder().no_proxy().tls(authority.client());
    let client = builder.reconnect(&url(server.local_addr()), reconnect).expect("a client");
    for number in 0..5 {
        let Ok(Event::Open(peer, request)) = server.recv_timeout(DEADLINE) else { panic!("no connection") };
        assert_eq!(request.tls().expect("TLS").server_name(), Some("localhost"));
        peer.send(format!("connection {number}")).expect("open");
        assert_eq!(
            client.recv_timeout(DEADLINE).expect("a message"),
            Some(Message::Text(format!("connection {number}")))
        );
        peer.abort();
        assert!(matches!(server.recv_timeout(DEADLINE), Ok(Event::Close(..))));
    }
}

/// Two threads share a client: one sends, and the other receives what the server sends by itself, at the same time.
/// `THREADBARE_DUPLEX_MESSAGES` sets how many messages each sends.
#[test]
fn a_client_sends_and_receives_over_tls_at_the_same_time() {
    let count = std::env::var("THREADBARE_DUPLEX_MESSAGES").map_or(50_000, |count| count.parse().expect("a number"));
    let authority = Authority::new();
    // Both wait for each other, and the machine may be busy.
    let config = Config::default().slow_consumer(SlowConsumer::Block).write_timeout(DEADLINE);
    let builder = Server::builder().workers(1).config(config.clone()).tls(authority.server());
    let server = builder.bind("127.0.0.1:0").expect("a server");
    let builder = Client::builder().no_proxy().config(config).tls(authority.client());
    let client = builder.connect(&url(server.local_addr())).expect("connected");
    let Ok(Event::Open(peer, _)) = server.recv_timeout(DEADLINE) else { panic!("no connection") };
    let received = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        let (client, received) = (&client, &received);
        scope.spawn(move || (0..count).for_each(|number: usize| client.send(number.to_string()).expect("sent")));
        scope.spawn(move || (0..count).for_each(|number: usize| peer.send(number.to_string()).expect("sent")));
        scope.spawn(move || {
            for number in 0..count {
                let message = client.recv_timeout(DEADLINE).expect("a message").expect("it is open");
                assert_eq!(message.as_text(), Some(&*number.to_string()));
            }
        });
        scope.spawn(move || {
            let mut events = server.iter();
            while received.load(Ordering::Relaxed) < count {
                if let Some(EventRef::Message(_, message)) = events.next_ref() {
                    let number = received.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(message.as_message().as_text(), Some(&*number.to_string()));
                }
            }
        });
    });
    println!("{count} messages each way in {:?}", start.elapsed());
}
