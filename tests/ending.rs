//! What a program loses that sends, and then drops its clients, its pool or its server: nothing.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::logged::expect_error;
use common::{DEADLINE, accept, open_with_peer, serialize_test, wait_for_end_of_threads};
use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::{
    Client, ClientPool, CloseCause, CloseCode, Config, ConnectionState, Ended, Event, Handler, MessageRef, Reconnect,
    Server, Socket,
};

/// A server that the test plays: it counts what it receives, and answers a close frame after it was counted.
struct CountingServer {
    addr: SocketAddr,
    messages: Arc<AtomicUsize>,
    /// The codes of the close frames.
    codes: Arc<Mutex<Vec<u16>>>,
    thread: JoinHandle<()>,
}

impl CountingServer {
    /// Serves so many connections, one after the other, and begins each with these frames.
    fn start(connections: usize, frames: Vec<u8>) -> CountingServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (messages, codes) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<u16>>>::default());
        let thread = thread::spawn({
            let (messages, codes) = (messages.clone(), codes.clone());
            move || {
                let serving: Vec<_> = (0..connections)
                    .map(|_| {
                        let mut stream = accept(&listener, &[]);
                        let (frames, messages, codes) = (frames.clone(), messages.clone(), codes.clone());
                        thread::spawn(move || {
                            stream.write_all(&frames).expect("the client reads");
                            let code = count(&mut stream, &messages);
                            codes.lock().expect("no panic").push(code);
                            stream.write_all(b"\x88\x02\x03\xe8").expect("the client waits for the answer");
                        })
                    })
                    .collect();
                serving.into_iter().for_each(|thread| thread.join().expect("no panic"));
            }
        });
        CountingServer { addr, messages, codes, thread }
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.addr)
    }

    /// Asserts what has arrived by now.
    fn assert_received(self, messages: usize, codes: &[u16]) {
        assert_eq!(self.messages.load(Ordering::SeqCst), messages);
        assert_eq!(*self.codes.lock().expect("no panic"), codes);
        self.thread.join().expect("the server");
    }
}

/// Counts messages up to the close frame, and returns its code.
fn count(stream: &mut TcpStream, messages: &AtomicUsize) -> u16 {
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let mut received = Vec::new();
    loop {
        while let Some((header, size)) = FrameHeader::parse(&received).expect("a valid frame") {
            let end = size + header.payload_len as usize;
            if received.len() < end {
                break;
            }
            let (payload, key) = (&received[size..end], header.mask.expect("a client masks"));
            if header.opcode == Opcode::Close {
                return u16::from_be_bytes([payload[0] ^ key[0], payload[1] ^ key[1]]);
            }
            messages.fetch_add(1, Ordering::SeqCst);
            received.drain(..end);
        }
        let mut chunk = vec![0; 64 << 10];
        let size = stream.read(&mut chunk).expect("no reset");
        assert!(size > 0, "the connection ended without a close frame");
        received.extend_from_slice(&chunk[..size]);
    }
}

/// A server that completes opening handshakes, and is silent from then on.
fn silent_server(connections: usize) -> (SocketAddr, JoinHandle<Vec<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    (addr, thread::spawn(move || (0..connections).map(|_| accept(&listener, &[])).collect()))
}

const LARGE: usize = 300_000;

#[test]
fn r_21_what_a_dropped_client_sent_arrives_before_its_close_frame() {
    for size in [5, LARGE] {
        let server = CountingServer::start(1, Vec::new());
        let client = Client::builder().no_proxy().connect(&server.url()).expect("connected");
        for _ in 0..20 {
            client.send(vec![7; size]).expect("sent");
        }
        drop(client);
        server.assert_received(20, &[1000]);
    }
}

#[test]
fn r_21_what_clients_of_a_pool_sent_arrives_before_they_are_dropped() {
    let server = CountingServer::start(20, Vec::new());
    let pool = ClientPool::new(2, Config::default()).expect("a pool");
    let connect = |_| Client::builder().no_proxy().pool(&pool).connect(&server.url()).expect("connected");
    let clients: Vec<Client> = (0..20).map(connect).collect();
    for client in &clients {
        client.send("hello").expect("sent");
    }
    drop(pool);
    drop(clients);
    server.assert_received(20, &[1000; 20]);
}

#[test]
fn r_21_what_a_dropped_reconnecting_client_sent_arrives_before_its_close_frame() {
    for wait in [true, false] {
        let server = CountingServer::start(1, Vec::new());
        let client = Client::builder().no_proxy().reconnect(&server.url(), Reconnect::new()).expect("a client");
        if wait {
            client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
        }
        for _ in 0..20 {
            client.send(vec![7; LARGE / 20]).expect("sent or queued");
        }
        drop(client);
        server.assert_received(20, &[1000]);
    }
}

#[test]
fn r_21_messages_that_nobody_receives_do_not_hold_up_the_end() {
    let messages: Vec<u8> = [&b"\x82\x7e\x10\x00"[..], &[0; 4096]].concat().repeat(1000);
    let config = || Config::default().max_event_buffer_size(10_000).drop_timeout(DEADLINE).close_timeout(DEADLINE);

    let server = CountingServer::start(1, messages.clone());
    let client = Client::builder().no_proxy().config(config()).connect(&server.url()).expect("connected");
    client.send("hello").expect("sent");
    drop(client);
    server.assert_received(1, &[1000]);

    let server = CountingServer::start(1, messages);
    let builder = Client::builder().no_proxy().config(config());
    let client = builder.reconnect(&server.url(), Reconnect::new()).expect("a client");
    client.send("hello").expect("queued");
    drop(client);
    server.assert_received(1, &[1000]);
}

#[test]
fn r_21_a_receiver_that_outlives_its_client_gets_every_message() {
    let server = CountingServer::start(1, b"\x81\x02hi".repeat(1000));
    let client = Client::builder().no_proxy().connect(&server.url()).expect("connected");
    let events = client.events().clone();
    drop(client);
    let received: Vec<Event> = events.iter().collect();
    let (last, messages) = received.split_last().expect("events");
    assert!(
        messages.iter().all(|event| matches!(event, Event::Message(_, message) if message.as_text() == Some("hi")))
    );
    assert!(matches!(last, Event::Close(_, reason) if reason.cause == CloseCause::Local), "{last:?}");
    server.assert_received(0, &[1000]);
}

#[test]
fn r_21_a_drop_waits_no_longer_than_its_bound() {
    const BOUND: Duration = Duration::from_millis(300);
    let config = || Config::default().drop_timeout(BOUND).close_timeout(DEADLINE);
    let timed = |drops: &mut dyn FnMut()| {
        let start = Instant::now();
        drops();
        start.elapsed()
    };

    let (addr, server) = silent_server(1);
    let client = Client::builder().no_proxy().config(config()).connect(&format!("ws://{addr}/")).expect("connected");
    let _streams = server.join().expect("the server");
    let mut client = Some(client);
    let took = timed(&mut || drop(client.take()));
    assert!((BOUND..DEADLINE / 2).contains(&took), "{took:?}");

    // The clients of a pool share the bound, and then the pool has one.
    let (addr, server) = silent_server(100);
    let pool = ClientPool::new(1, config()).expect("a pool");
    let connect = |_| Client::builder().no_proxy().pool(&pool).connect(&format!("ws://{addr}/")).expect("connected");
    let clients: Vec<Client> = (0..100).map(connect).collect();
    let _streams = server.join().expect("the server");
    let mut dropped = Some((clients, pool));
    let took = timed(&mut || drop(dropped.take()));
    assert!((BOUND..50 * BOUND).contains(&took), "{took:?}");

    // The outbox is empty, so that there is nothing to warn of.
    let warned = expect_error("a reconnecting client was dropped");
    let (addr, server) = silent_server(1);
    let builder = Client::builder().no_proxy().config(config());
    let client = builder.reconnect(&format!("ws://{addr}/"), Reconnect::new()).expect("a client");
    client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
    let _streams = server.join().expect("the server");
    drop(client);
    assert!(warned.seen().is_empty(), "{:?}", warned.seen());

    // Nobody listens at the port.
    let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let builder = Client::builder().no_proxy().config(config());
    let client = builder.reconnect(&format!("ws://{addr}/"), Reconnect::new()).expect("a client");
    client.send("never").expect("queued");
    let sender = client.sender();
    let mut client = Some(client);
    let took = timed(&mut || drop(client.take()));
    assert!((BOUND..DEADLINE / 2).contains(&took), "{took:?}");
    // The queued message counts 64 bytes and its payload.
    assert!(matches!(&*warned.seen(), [text] if text.contains(" 69 bytes ")), "{:?}", warned.seen());
    assert!(sender.send("late").is_err());
    assert_eq!(sender.take_queued(), ["never".into()], "they are not thrown away");
}

#[test]
fn r_21_without_a_bound_a_drop_does_not_wait() {
    let (addr, server) = silent_server(1);
    let config = Config::default().drop_timeout(Duration::ZERO).close_timeout(DEADLINE);
    let client = Client::builder().no_proxy().config(config).connect(&format!("ws://{addr}/")).expect("connected");
    let mut stream = server.join().expect("the server").remove(0);
    // The server is silent, so that a drop that waited would not return before the deadline.
    let start = Instant::now();
    drop(client);
    assert!(start.elapsed() < DEADLINE / 2);
    assert_eq!(count(&mut stream, &AtomicUsize::new(0)), 1000, "it closes all the same");
}

#[test]
fn r_21_a_reconnecting_client_that_its_own_hook_drops_does_not_wait_for_itself() {
    let server = CountingServer::start(1, Vec::new());
    let slot = Arc::new(Mutex::new(None));
    let (send, dropped) = crossbeam_channel::bounded(1);
    let reconnect = Reconnect::new().on_connect({
        let slot = slot.clone();
        move |_| {
            let client = loop {
                match slot.lock().expect("no panic").take() {
                    Some(client) => break client,
                    None => thread::yield_now(),
                }
            };
            drop::<threadbare::ReconnectingClient>(client);
            send.send(()).expect("the test waits");
        }
    });
    let config = Config::default().drop_timeout(DEADLINE * 2);
    let client = Client::builder().no_proxy().config(config).reconnect(&server.url(), reconnect).expect("a client");
    client.send("hello").expect("queued");
    let states = client.state_changes();
    *slot.lock().expect("no panic") = Some(client);
    dropped.recv_timeout(DEADLINE).expect("the drop returns");
    let last = states.as_channel().iter().last();
    assert!(matches!(last, Some(ConnectionState::Closed(Ended::ByApplication(Some(_))))), "{last:?}");
    server.assert_received(1, &[1000]);
}

#[test]
fn r_21_finish_reports_how_a_client_ended() {
    let server = CountingServer::start(1, Vec::new());
    let client = Client::builder().no_proxy().connect(&server.url()).expect("connected");
    client.send("hello").expect("sent");
    let reason = client.finish(DEADLINE).expect("in time");
    assert_eq!((reason.code, reason.cause), (CloseCode::NORMAL_CLOSURE, CloseCause::Local));
    server.assert_received(1, &[1000]);

    let server = CountingServer::start(1, Vec::new());
    let client = Client::builder().no_proxy().reconnect(&server.url(), Reconnect::new()).expect("a client");
    client.send("hello").expect("queued");
    let ended = client.finish(DEADLINE).expect("in time");
    assert!(matches!(&ended, Ended::ByApplication(Some(reason)) if reason.is_clean()), "{ended:?}");
    server.assert_received(1, &[1000]);
}

#[test]
fn r_21_what_a_dropped_server_sent_arrives_before_its_close_frame() {
    let _guard = serialize_test();
    let config = Config::default().max_event_buffer_size(10_000).close_timeout(DEADLINE).drop_timeout(DEADLINE);
    let server = Server::builder().workers(2).config(config).bind("127.0.0.1:0").expect("a server");
    let (mut client, peer) = open_with_peer(&server);
    let (mut behind, other) = open_with_peer(&server);
    // Nobody receives, so that the server stops reading.
    behind.send(&common::binary(&[0; 20_000]).repeat(20));
    common::eventually("a message waits", || other.stats().messages_received > 0);
    for _ in 0..20 {
        peer.try_send(vec![7; 30_000]).expect("room");
    }
    let dropping = thread::spawn(move || drop(server));
    for _ in 0..20 {
        assert_eq!(client.expect_frame().payload.len(), 30_000);
    }
    client.answer_close(1001);
    behind.answer_close(1001);
    dropping.join().expect("no panic");
    wait_for_end_of_threads("a server");
}

/// A handler that drops another server.
struct DropsAnother(Arc<Mutex<Option<Server>>>, crossbeam_channel::Sender<usize>);

impl Handler for DropsAnother {
    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {
        let another = self.0.lock().expect("no panic").take().expect("a server");
        let handle = another.handle();
        drop(another);
        self.1.send(handle.connections()).expect("the test waits");
    }
}

#[test]
fn r_21_a_worker_waits_for_a_server_that_is_not_its_own() {
    let _guard = serialize_test();
    let another = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let (mut client_of_another, _peer) = open_with_peer(&another);
    let slot = Arc::new(Mutex::new(Some(another)));
    let (send, left) = crossbeam_channel::bounded(1);
    let server = Server::builder().workers(1).serve("127.0.0.1:0", move |_| DropsAnother(slot.clone(), send.clone()));
    let server = server.expect("a server");
    let mut client = common::Client::open(server.local_addr());
    client.send(&common::text("drop it"));
    client_of_another.answer_close(1001);
    assert_eq!(left.recv_timeout(DEADLINE), Ok(0), "the drop returned after the last connection had closed");
    drop(client);
}
