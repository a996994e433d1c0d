//! The seam between records and messages: bytes that are cut anywhere, peers that are slow, and the end of connections.

#[path = "../../common/mod.rs"]
mod common;
mod each;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, TICK, echo, texts};
use common::servers::Mode;
use common::{eventually, logged, serialize_test};
use each::with_each;
use threadbare::protocol::frame::Opcode;
use threadbare::{
    AfterClose, Client, ClientBuilder, ClientError, CloseCause, CloseCode, Config, DeflateConfig, Message, Peer,
    Prepared, Server, SlowConsumer, TrySendError,
};
use threadbare_tls_tests::{
    Authority, Cuts, DEADLINE, End, Frame, RawClient, RawServer, Relay, TLS12, TLS13, masked, unmasked,
};

fn builder(authority: &Authority, config: &Config) -> ClientBuilder {
    logged::install();
    Client::builder().no_proxy().tls(authority.client()).config(config.clone())
}

fn url(port: u16) -> String {
    format!("wss://localhost:{port}/")
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Messages, most of them small, of `total` bytes in all.
fn messages(seed: u64, total: usize) -> Vec<Message> {
    let mut random = Random(seed);
    let (mut messages, mut sum) = (Vec::new(), 0);
    while sum < total {
        let limit = [10, 130, 1000, 20_000, 70_000][random.below(5) as usize];
        let size = random.below(limit) as usize;
        sum += size + 20;
        let text: String = (0..size).map(|_| char::from(b'a' + random.below(4) as u8)).collect();
        messages.push(if random.below(2) == 0 { Message::Text(text) } else { Message::Binary(text.into_bytes()) });
    }
    messages
}

/// Sends messages through a relay and receives them back, at the same time.
fn echo_through(authority: &Authority, app: &App, config: &Config, cuts: Cuts, total: usize) {
    let relay = Relay::to(app.addr, cuts);
    let client = builder(authority, config).connect(&url(relay.addr.port())).expect("connected");
    let messages = messages(total as u64, total);
    thread::scope(|scope| {
        scope.spawn(|| messages.iter().for_each(|message| client.send(message.clone()).expect("sent")));
        for (number, message) in messages.iter().enumerate() {
            let received = client.recv_timeout(DEADLINE).expect("a message");
            assert!(received.as_ref() == Some(message), "{cuts:?}: message {number} differs");
        }
    });
    let reason = client.finish(DEADLINE).expect("a clean end");
    assert_eq!(reason.code, CloseCode::NORMAL_CLOSURE);
}

#[test]
fn r_18_messages_survive_cuts_behind_every_few_bytes() {
    let authority = Authority::new();
    for deflate in [None, Some(DeflateConfig::default())] {
        let config = Config::default().deflate(deflate);
        with_each(&authority, &config, |app| {
            for (size, total) in [(1, 2_000), (2, 4_000), (3, 5_000), (5, 10_000), (22, 30_000), (1000, 300_000)] {
                echo_through(&authority, app, &config, Cuts::Every(size), total);
            }
        });
    }
}

#[test]
fn r_18_messages_survive_cuts_anywhere() {
    // PROPTEST_CASES is what the other property tests take.
    let cases = std::env::var("PROPTEST_CASES").map_or(8, |cases| cases.parse().expect("a number"));
    let authority = Authority::new();
    let config = Config::default().deflate(DeflateConfig::default());
    with_each(&authority, &config, |app| {
        for seed in 1..=cases {
            let cuts = Cuts::Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            echo_through(&authority, app, &config, cuts, 300_000 + seed as usize);
        }
    });
}

const HIGH_WATER: usize = 64 << 10;

/// More than the kernel may accept for one that does not read, so that the queue stays above the high-water mark.
const SIZE: usize = 12 << 20;

/// A connection whose client does not read, with another of the same worker.
struct Stalled {
    app: App,
    client: RawClient,
    peer: Peer,
    other: (RawClient, Peer),
    filled: usize,
}

impl Stalled {
    fn new(authority: &Authority, mode: Mode, config: Config) -> Stalled {
        let builder = Server::builder().workers(1).tls(authority.server()).config(config);
        let app = App::start(mode, builder, echo);
        let client = RawClient::open_with_small_buffer(app.addr, authority.rustls_client(TLS13));
        let peer = app.opened();
        let other = RawClient::open(app.addr, authority.rustls_client(TLS13));
        let other = (other, app.opened());
        let mut stalled = Stalled { app, client, peer, other, filled: 0 };
        let mut refused = 0;
        while refused < 2 {
            match stalled.peer.try_send(vec![stalled.filled as u8; SIZE]) {
                Ok(()) => (stalled.filled, refused) = (stalled.filled + 1, 0),
                Err(TrySendError::Full(_)) => refused += 1,
                // Its timeout has passed already: the machine is busy.
                Err(_) => break,
            }
            // When this arrives, the worker has written what it could of the messages before it.
            stalled.other.1.send("written").expect("open");
            assert_eq!(stalled.other.0.expect_frame().payload, b"written");
        }
        stalled
    }

    fn drain(&mut self) {
        for number in 0..self.filled {
            let frame = self.client.expect_frame();
            assert!(frame.payload == vec![number as u8; SIZE], "message {number} differs");
        }
    }
}

fn stalling() -> Config {
    Config::default()
        .max_write_buffer_size(HIGH_WATER)
        .max_event_buffer_size(1)
        .write_timeout(Duration::from_secs(3600))
        .ping_interval(None)
}

#[test]
fn t_03_a_full_queue_over_tls_returns_the_message_and_is_bounded() {
    let authority = Authority::new();
    for mode in Mode::ALL {
        let mut stalled = Stalled::new(&authority, mode, stalling());
        let queued = stalled.peer.queued_bytes();
        assert!((HIGH_WATER..HIGH_WATER + SIZE + (66 << 10)).contains(&queued), "{queued}");
        let memory = stalled.app.handle().memory();
        assert!((queued..SIZE + (256 << 10)).contains(&memory), "{memory} for {queued}");
        assert!(matches!(stalled.peer.try_send("not now"), Err(TrySendError::Full(_))));
        stalled.drain();
        let (peer, handle) = (&stalled.peer, stalled.app.handle());
        eventually("nothing is queued", || peer.queued_bytes() == 0 && handle.memory() == 0);
        stalled.peer.send("now").expect("open");
        assert_eq!(stalled.client.expect_frame().payload, b"now");
        drop((stalled.client, stalled.other));
        stalled.app.finish();
    }
}

#[test]
fn t_03_each_policy_holds_over_tls() {
    let authority = Authority::new();
    for mode in Mode::ALL {
        let mut stalled = Stalled::new(&authority, mode, stalling().slow_consumer(SlowConsumer::Drop));
        stalled.peer.send("dropped").expect("open");
        assert_eq!(stalled.peer.stats().dropped, 1);
        stalled.drain();
        drop((stalled.client, stalled.other));
        stalled.app.finish();

        let stalled = Stalled::new(&authority, mode, stalling().slow_consumer(SlowConsumer::Refuse));
        assert!(stalled.peer.send("refused").is_err() && stalled.peer.is_open());
        drop((stalled.client, stalled.other));
        stalled.app.finish();

        let mut stalled = Stalled::new(&authority, mode, stalling().slow_consumer(SlowConsumer::Disconnect));
        let _ = stalled.peer.send("the last");
        stalled.app.expect_closed(1008, CloseCause::Failed);
        stalled.drain();
        assert_eq!(stalled.client.expect_frame().close_code(), 1008);
        assert_eq!(stalled.client.end(), (End::CloseNotify, Vec::new()));
        drop(stalled.other);
        stalled.app.finish();

        let stalled = Stalled::new(&authority, mode, stalling().slow_consumer(SlowConsumer::Block));
        let sender = thread::spawn({
            let peer = stalled.peer.clone();
            move || peer.send("late")
        });
        let Stalled { mut client, other, app, filled, .. } = stalled;
        for _ in 0..filled {
            assert_eq!(client.expect_frame().payload.len(), SIZE);
        }
        sender.join().expect("the sender").expect("room in the end");
        assert_eq!(client.expect_frame().payload, b"late");
        drop((client, other));
        app.finish();
    }
}

#[test]
fn t_03_a_client_that_never_reads_over_tls_is_closed_with_1008() {
    let authority = Authority::new();
    let timeout = Duration::from_millis(300);
    for mode in Mode::ALL {
        let stalled = Stalled::new(&authority, mode, stalling().write_timeout(timeout).close_timeout(timeout));
        let start = Instant::now();
        stalled.app.expect_closed(1008, CloseCause::Failed);
        assert!(start.elapsed() < DEADLINE / 2);
        let handle = stalled.app.handle();
        eventually("it is reset", || handle.connections() == 1);
        let mut client = stalled.client;
        let (end, _) = client.end();
        assert!(matches!(end, End::Reset | End::Fin), "{end:?}: TLS is not ended in order");
        drop(stalled.other);
        stalled.app.finish();
    }
}

#[test]
fn t_03_a_client_that_takes_too_little_over_tls_is_closed_and_one_that_takes_enough_is_not() {
    let authority = Authority::new();
    for (progress, stays, timeout) in [(1 << 30, false, 250), (1, true, 2_000)] {
        let timeout = Duration::from_millis(timeout);
        let config = stalling().write_timeout(timeout).min_write_progress(progress).close_timeout(timeout);
        let stalled = Stalled::new(&authority, Mode::Handler, config);
        let Stalled { mut client, app, peer, other, filled } = stalled;
        let mut taken = 0;
        let start = Instant::now();
        let mut chunk = vec![0; 256 << 10];
        while peer.is_open() && taken < filled * SIZE - SIZE / 2 {
            let _ = client.tls.sock.read(&mut chunk).map(|size| taken += size);
            thread::park_timeout(Duration::from_millis(60));
            assert!(start.elapsed() < DEADLINE);
        }
        assert_eq!(peer.is_open(), stays, "{progress}");
        drop((client, other));
        app.finish();
    }
}

/// Frames are sealed as late as the socket takes them: what waits is shared by all, and each has one window.
#[test]
fn t_03_subscribers_that_do_not_read_share_what_waits_for_them() {
    const SUBSCRIBERS: usize = 10;
    const BROADCASTS: usize = 16;
    const SIZE: usize = 1 << 20;
    let authority = Authority::new();
    let config = stalling().max_write_buffer_size(64 << 20);
    for workers in [1, 2] {
        let builder = Server::builder().workers(workers).tls(authority.server()).config(config.clone());
        let app = App::start(Mode::Handler, builder, echo);
        let mut clients: Vec<_> = (0..SUBSCRIBERS)
            .map(|_| RawClient::open_with_small_buffer(app.addr, authority.rustls_client(TLS13)))
            .collect();
        let peers: Vec<_> = clients.iter().map(|_| app.opened()).collect();
        let handle = app.handle();
        for number in 0..BROADCASTS {
            handle.broadcast_prepared(&Prepared::new(vec![number as u8; SIZE]));
        }
        eventually("all are queued", || peers.iter().all(|peer| peer.stats().messages_sent == BROADCASTS as u64));
        eventually("the sockets are full", || peers.iter().all(|peer| peer.queued_bytes() > 4 << 20));
        let memory = handle.memory();
        let most = BROADCASTS * SIZE + SUBSCRIBERS * (80 << 10);
        assert!(memory < most, "{memory} bytes for {SUBSCRIBERS} that wait for the same {BROADCASTS} MiB");
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| {
                    for number in 0..BROADCASTS {
                        assert!(client.expect_frame().payload == vec![number as u8; SIZE], "message {number} differs");
                    }
                });
            }
        });
        eventually("nothing waits", || handle.memory() == 0);
        drop(clients);
        app.finish();
    }
}

#[test]
fn broadcasts_over_tls_arrive_in_order() {
    const CLIENTS: usize = 40;
    const COUNT: usize = 200;
    let authority = Authority::new();
    for deflate in [None, Some(DeflateConfig::default())] {
        let config = Config::default().deflate(deflate);
        with_each(&authority, &config, |app| {
            let pool = threadbare::ClientPool::new(1, config.clone()).expect("a pool");
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    builder(&authority, &Config::default())
                        .pool(&pool)
                        .connect(&url(app.addr.port()))
                        .expect("connected")
                })
                .collect();
            (0..CLIENTS).for_each(|_| drop(app.opened()));
            for number in 0..COUNT {
                app.handle().broadcast(format!("broadcast {number} {}", "x".repeat(number * 7)));
            }
            for client in &clients {
                for number in 0..COUNT {
                    let expected = format!("broadcast {number} {}", "x".repeat(number * 7));
                    assert_eq!(client.recv_timeout(DEADLINE), Ok(Some(Message::Text(expected))));
                }
            }
        });
    }
}

#[test]
fn memory_counts_what_is_kept_of_a_record() {
    let authority = Authority::new();
    with_each(&authority, &Config::default(), |app| {
        let mut client = RawClient::open(app.addr, authority.rustls_client(TLS13));
        let handle = app.handle();
        eventually("nothing is counted", || handle.memory() == 0);
        let sealed = client.seal(&masked(Opcode::Binary, &[7; 16_000]));
        client.send_in_the_clear(&sealed[..12_000]);
        eventually("the part is counted", || (12_000..40_000).contains(&handle.memory()));
        client.send_in_the_clear(&sealed[12_000..]);
        assert_eq!(client.expect_frame().payload, [7; 16_000]);
        eventually("nothing is counted any more", || handle.memory() == 0);
    });
}

#[test]
fn keepalive_works_over_tls() {
    let authority = Authority::new();
    let (interval, patience) = (Duration::from_millis(100), Duration::from_secs(1));
    let config = Config::default().ping_interval(interval).pong_timeout(patience);
    with_each(&authority, &config, |app| {
        let mut silent = RawClient::open(app.addr, authority.rustls_client(TLS13));
        let start = Instant::now();
        app.opened();
        let mut other = RawClient::open(app.addr, authority.rustls_client(TLS13));
        let peer = app.opened();
        for _ in 0..12 {
            let frame = other.expect_frame();
            assert_eq!(frame.opcode, Opcode::Ping);
            other.send(&masked(Opcode::Pong, &frame.payload));
        }
        app.expect_closed(1006, CloseCause::TimedOut);
        assert!(start.elapsed() >= interval + patience - TICK, "{:?}", start.elapsed());
        let (end, _) = silent.end();
        assert!(matches!(end, End::Reset | End::Fin), "{end:?}");
        assert!(peer.is_open() && peer.stats().round_trip.is_some());
        drop(other);
        app.expect_closed(1006, CloseCause::Lost);
    });
}

/// The ends that a server brings about, each as the client sees it.
#[test]
fn r_18_a_server_says_the_end_of_tls_in_every_clean_end() {
    let authority = Authority::new();
    for versions in [TLS12, TLS13] {
        with_each(&authority, &Config::default(), |app| {
            let open = || {
                let client = RawClient::open(app.addr, authority.rustls_client(versions));
                (client, app.opened())
            };
            // The application closes.
            let (mut client, peer) = open();
            peer.close(CloseCode(4000), "").expect("open");
            assert_eq!(client.expect_frame().close_code(), 4000);
            client.send(&masked(Opcode::Close, &4000_u16.to_be_bytes()));
            assert_eq!(client.end(), (End::CloseNotify, Vec::new()));
            // The client closes, and says more.
            let (mut client, _) = open();
            client.send(&[masked(Opcode::Close, &1000_u16.to_be_bytes()), masked(Opcode::Text, b"late")].concat());
            assert_eq!(client.expect_frame().close_code(), 1000);
            assert_eq!(client.end(), (End::CloseNotify, Vec::new()));
            // The client breaks the protocol.
            let (mut client, _) = open();
            client.send(&unmasked(Opcode::Text, b"not masked"));
            assert_eq!(client.expect_frame().close_code(), 1002);
            assert_eq!(client.end(), (End::CloseNotify, Vec::new()));
            // The application aborts.
            let (mut client, peer) = open();
            peer.abort();
            let (end, received) = client.end();
            assert!(matches!(end, End::Fin | End::Reset) && received.is_empty(), "{end:?}");
        });
    }
    // A large message is on its way.
    with_each(&authority, &Config::default().max_write_buffer_size(32 << 20), |app| {
        let mut client = RawClient::open_with_small_buffer(app.addr, authority.rustls_client(TLS13));
        let peer = app.opened();
        peer.send(vec![7; 8 << 20]).expect("open");
        peer.close(CloseCode(4000), "").expect("open");
        assert!(client.expect_frame().payload == vec![7; 8 << 20]);
        assert_eq!(client.expect_frame().close_code(), 4000);
        client.send(&masked(Opcode::Close, &4000_u16.to_be_bytes()));
        assert_eq!(client.end(), (End::CloseNotify, Vec::new()));
    });
}

/// The ends that a client brings about, each as the server sees it.
#[test]
fn r_18_a_client_says_the_end_of_tls_in_every_clean_end() {
    let authority = Authority::new();
    let end_by = |end: &(dyn Fn(Client) + Sync), code: u16| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = url(listener.local_addr().expect("an address").port());
        thread::scope(|scope| {
            let (builder, url) = (builder(&authority, &Config::default()), &url);
            scope.spawn(move || end(builder.connect(url).expect("connected")));
            let mut server = RawServer::open(&listener, authority.rustls_server(TLS13));
            assert_eq!(server.expect_frame().close_code(), code);
            server.send(&unmasked(Opcode::Close, &code.to_be_bytes()));
            server.tls.conn.send_close_notify();
            server.send(b"");
            assert_eq!(server.end(), (End::CloseNotify, Vec::new()));
        });
    };
    end_by(&|client| drop(client.finish(DEADLINE).expect("a clean end")), 1000);
    end_by(&drop, 1000);
    end_by(
        &|client| {
            client.close(CloseCode(4001), "").expect("open");
            assert_eq!(client.recv_timeout(DEADLINE), Ok(None));
        },
        4001,
    );
}

#[test]
fn an_end_that_has_closed_still_receives_over_tls() {
    let authority = Authority::new();
    let config = Config::default().after_close(AfterClose::Deliver);
    for mode in Mode::ALL {
        for workers in [1, 2] {
            let builder = Server::builder().workers(workers).tls(authority.server()).config(config.clone());
            let app = App::start(mode, builder, |connection, message| {
                if message.as_text() == Some("close") {
                    connection.close(CloseCode(4000), "").expect("open");
                }
            });
            let mut client = RawClient::open(app.addr, authority.rustls_client(TLS13));
            client.send_text("close");
            assert_eq!(client.expect_frame().close_code(), 4000);
            (0..100).for_each(|number| client.send_text(&format!("late {number}")));
            client.send(&masked(Opcode::Close, &4001_u16.to_be_bytes()));
            assert_eq!(client.end(), (End::CloseNotify, Vec::new()));
            app.expect_closed(4001, CloseCause::Local);
            let history = app.finish();
            let expected: Vec<_> = (0..100).map(|number| format!("late {number}")).collect();
            assert_eq!(texts(&history)[1..], expected);
        }
    }
}

/// The server reads nothing until its own messages are sent: a client that did not read while its queue is full would wait
/// for ever.
#[test]
fn a_client_reads_over_tls_while_its_send_queue_is_full() {
    const COUNT: u8 = 32;
    const SIZE: usize = 1 << 20;
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = url(listener.local_addr().expect("an address").port());
    let config = Config::default().max_message_size(SIZE).write_timeout(DEADLINE);
    let full = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut server = RawServer::open(&listener, authority.rustls_server(TLS13));
            while !full.load(Ordering::Acquire) {
                thread::yield_now();
            }
            for number in 0..COUNT {
                server.send(&unmasked(Opcode::Binary, &vec![number; SIZE]));
            }
            let mut count = 0;
            loop {
                match server.expect_frame() {
                    Frame { opcode: Opcode::Close, .. } => break,
                    frame => assert!(frame.payload == vec![count; SIZE], "message {count} differs"),
                }
                count += 1;
            }
            server.send(&unmasked(Opcode::Close, &1000_u16.to_be_bytes()));
            server.tls.sock.shutdown(std::net::Shutdown::Write).expect("a socket");
            count
        });
        let client = builder(&authority, &config).connect(&url).expect("connected");
        let is_full = |count: &u8| client.send_timeout(vec![*count; SIZE], Duration::from_millis(200)).is_err();
        let queued = (0..).find(is_full).expect("the server does not read");
        full.store(true, Ordering::Release);
        for number in 0..COUNT {
            let message = client.recv_timeout(DEADLINE).expect("a message");
            assert!(message == Some(Message::Binary(vec![number; SIZE])), "message {number} differs");
        }
        client.finish(DEADLINE).expect("closed");
        assert_eq!(server.join().expect("the server"), queued);
    });
}

/// Connections that end in the middle of everything leave nothing behind.
#[test]
fn connections_over_tls_that_end_anywhere_leave_no_memory() {
    let _alone = serialize_test();
    let authority = Authority::new();
    with_each(&authority, &Config::default(), |app| {
        for number in 0..60_usize {
            let mut client = RawClient::open(app.addr, authority.rustls_client(TLS13));
            let sealed = client.seal(&masked(Opcode::Binary, &vec![7; 5_000 * number]));
            let _ = client.tls.sock.write_all(&sealed[..sealed.len() * (number % 7) / 6]);
            if number % 3 == 0 {
                socket2::SockRef::from(&client.tls.sock).set_linger(Some(Duration::ZERO)).expect("a socket");
            }
        }
    });
}

#[test]
fn a_client_whose_server_takes_too_little_over_tls_is_told_1008() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket2::SockRef::from(&listener).set_recv_buffer_size(128 << 10).expect("a socket");
    let url = url(listener.local_addr().expect("an address").port());
    let timeout = Duration::from_millis(250);
    let config = stalling().write_timeout(timeout).close_timeout(timeout);
    thread::scope(|scope| {
        let server = scope.spawn(|| RawServer::open(&listener, authority.rustls_server(TLS13)));
        let client = builder(&authority, &config).connect(&url).expect("connected");
        let server = server.join().expect("the server");
        client.send(vec![7; 32 << 20]).expect("queued");
        let Err(ClientError::Failed(reason)) = client.recv_timeout(DEADLINE) else { panic!("it goes on") };
        assert_eq!((reason.code.0, reason.cause), (1008, CloseCause::Failed));
        drop(server);
    });
}

/// Small frames are written without a drive of the connection. The socket takes a part of the last, and the rest waits in
/// the layer of TLS.
#[test]
fn what_tls_holds_back_of_small_messages_is_counted_and_leaves() {
    const MESSAGE: [u8; 1000] = [7; 1000];
    let authority = Authority::new();
    // As many as are taken at once, each when the one before has been.
    let fill = |queued: &dyn Fn() -> usize, send: &dyn Fn()| {
        let mut count = 0;
        while queued() == 0 {
            send();
            count += 1;
            // The worker may have it still, which is no backlog.
            let start = Instant::now();
            while queued() > 0 && start.elapsed() < Duration::from_millis(100) {
                thread::yield_now();
            }
        }
        count
    };
    with_each(&authority, &stalling(), |app| {
        let mut client = RawClient::open_with_small_buffer(app.addr, authority.rustls_client(TLS13));
        let peer = app.opened();
        let count = fill(&|| peer.queued_bytes(), &|| peer.send(&MESSAGE[..]).expect("open"));
        assert!(peer.queued_bytes() < 1100, "{} of one message", peer.queued_bytes());
        for _ in 0..count {
            assert_eq!(client.expect_frame().payload, MESSAGE);
        }
        eventually("nothing is queued", || peer.queued_bytes() == 0);
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket2::SockRef::from(&listener).set_recv_buffer_size(128 << 10).expect("a socket");
    let url = url(listener.local_addr().expect("an address").port());
    thread::scope(|scope| {
        let server = scope.spawn(|| RawServer::open(&listener, authority.rustls_server(TLS13)));
        let client = builder(&authority, &stalling()).connect(&url).expect("connected");
        let mut server = server.join().expect("the server");
        let count = fill(&|| client.stats().queued_bytes, &|| client.send(&MESSAGE[..]).expect("open"));
        for _ in 0..count {
            assert_eq!(server.expect_frame().payload, MESSAGE);
        }
        eventually("nothing is queued", || client.stats().queued_bytes == 0);
    });
}
