//! The graceful shutdown of a server: under load, concurrent, and from every callback.

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, echo, panic_quietly};
use common::logged::expect_error;
use common::servers::{Echo, Mode};
use common::{
    Client, DEADLINE, Frame, close, eventually, handshake_status, request, serialize_test, text,
    wait_for_end_of_threads,
};
use threadbare::protocol::frame::Opcode;
use threadbare::{Config, Handler, MessageRef, SendTimeoutError, Server, ServerHandle, Socket};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// What a client of [`stream`] received.
struct Streamed {
    /// The number of its messages that were echoed.
    echoed: usize,
    /// The other messages.
    pushed: Vec<Vec<u8>>,
    /// Whether it received a close frame with 1001.
    closed: bool,
}

/// Sends messages and receives their echoes until the server closes the connection.
fn stream(mut client: Client, running: &AtomicUsize) -> Streamed {
    let mut streamed = Streamed { echoed: 0, pushed: Vec::new(), closed: false };
    let mut sent = 0;
    running.fetch_add(1, Ordering::SeqCst);
    loop {
        // At most eight messages are not yet echoed.
        while sent < streamed.echoed + 8 {
            if client.stream.write_all(&text(&sent.to_string())).is_err() {
                break;
            }
            sent += 1;
        }
        match client.frame() {
            None => return streamed,
            Some(frame) => match frame.opcode {
                Opcode::Close => {
                    assert_eq!(frame.close_code(), 1001);
                    streamed.closed = true;
                    client.send(&close(1001));
                    assert_eq!(client.frame(), None, "FIN after the close frame");
                    return streamed;
                }
                Opcode::Binary => streamed.pushed.push(frame.payload),
                _ => {
                    assert_eq!(frame, Frame::text(&streamed.echoed.to_string()), "in order");
                    streamed.echoed += 1;
                }
            },
        }
    }
}

/// what other threads send while the server shuts down, or a connection's lifetime ends, is either refused or
/// delivered.
#[test]
fn r_11_every_message_that_is_accepted_before_a_close_is_delivered() {
    for (workers, ending) in [(1, "shutdown"), (2, "shutdown"), (2, "lifetime"), (2, "close")] {
        for round in 0..10 {
            let mut config = Config::default().close_timeout(DEADLINE).write_timeout(DEADLINE);
            if ending == "lifetime" {
                config = config.max_lifetime(Duration::from_millis(50));
            }
            let server = Server::builder().workers(workers).config(config).bind("127.0.0.1:0").expect("a server");
            let (mut client, peer) = common::open_with_peer(&server);
            let senders: Vec<_> = (0..3)
                .map(|_| {
                    let peer = peer.clone();
                    std::thread::spawn(move || {
                        let mut accepted = 0;
                        loop {
                            match peer.send_timeout("a message", DEADLINE) {
                                Ok(()) => accepted += 1,
                                Err(SendTimeoutError::Disconnected(_)) => return accepted,
                                Err(error) => panic!("{error}"),
                            }
                        }
                    })
                })
                .collect();
            let receiver = std::thread::spawn(move || {
                let mut received = 0;
                loop {
                    let frame = client.expect_frame();
                    if frame.opcode == Opcode::Close {
                        client.send(&common::close(frame.close_code()));
                        return received;
                    }
                    received += 1;
                }
            });
            eventually("messages are sent", || peer.stats().messages_sent > 100);
            match ending {
                "shutdown" => drop(server.shutdown(DEADLINE)),
                "close" => peer.close(threadbare::CloseCode::GOING_AWAY, "").expect("it is open"),
                _ => {}
            }
            let accepted: usize = senders.into_iter().map(|sender| sender.join().expect("a sender")).sum();
            let received: usize = receiver.join().expect("the client");
            assert_eq!(received, accepted, "{ending} with {workers} workers, round {round}");
        }
    }
}

#[test]
fn r_11_a_shutdown_under_load_delivers_sent_messages_and_closes_cleanly() {
    const CLIENTS: usize = 40;
    let _guard = serialize_test();
    for mode in Mode::ALL {
        wait_for_end_of_threads("a server");
        let descriptors_before = descriptors();
        let app = App::start(mode, Server::builder().workers(2), echo);
        let running = Arc::new(AtomicUsize::new(0));
        let mut peers = Vec::new();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let client = Client::open(app.addr);
                peers.push((client.stream.local_addr().expect("an address"), app.opened()));
                let running = running.clone();
                thread::spawn(move || stream(client, &running))
            })
            .collect();
        eventually("all clients are streaming", || running.load(Ordering::SeqCst) == CLIENTS);
        let mut pushed = 0_u32;
        eventually("all clients receive echoes", || peers.iter().all(|(_, peer)| peer.stats().messages_sent > 20));
        // All of these must arrive, as they are sent before the shutdown.
        while pushed < 100 {
            for (_, peer) in &peers {
                peer.send(pushed.to_be_bytes().to_vec()).expect("the connection is open");
            }
            pushed += 1;
        }
        let report = app.handle().shutdown(DEADLINE);
        assert_eq!((report.clean, report.forced), (CLIENTS, 0), "{mode:?}");
        for client in clients {
            let streamed = client.join().expect("a client");
            let numbers: Vec<_> = (0..pushed).map(|number| number.to_be_bytes().to_vec()).collect();
            assert!(streamed.pushed == numbers, "{mode:?}: {} of {pushed} messages arrived", streamed.pushed.len());
            assert!(streamed.closed && streamed.echoed > 0);
        }
        assert_eq!(handshake_status(app.addr), None, "the listener is closed");
        assert_eq!(app.handle().shutdown(DEADLINE), report, "both return the same report");
        app.finish();
        drop(peers);
        wait_for_end_of_threads("a server");
        // Fewer, if those of what ran before were not closed yet.
        eventually("all descriptors are closed", || descriptors() <= descriptors_before);
    }
}

#[test]
fn r_11_a_client_that_does_not_answer_is_reset_at_the_deadline() {
    // Long enough for the client that answers, on a busy machine.
    const TIMEOUT: Duration = Duration::from_secs(1);
    let _guard = serialize_test();
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(2), echo);
        let mut answering = Client::open(app.addr);
        let mut silent = Client::open(app.addr);
        app.opened();
        app.opened();
        let answering = thread::spawn(move || answering.answer_close(1001));
        let start = Instant::now();
        let report = app.handle().shutdown(TIMEOUT);
        assert!((TIMEOUT..DEADLINE).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert_eq!((report.clean, report.forced), (1, 1), "{mode:?}");
        answering.join().expect("the answering client");
        assert_eq!(silent.expect_frame().close_code(), 1001);
        assert!(silent.try_read().is_err(), "a reset");
        app.finish();
    }
}

#[test]
fn r_11_messages_and_broadcasts_before_a_shutdown_are_delivered() {
    const CLIENTS: usize = 20;
    let _guard = serialize_test();
    for mode in Mode::ALL {
        for _ in 0..20 {
            let app = App::start(mode, Server::builder().workers(2), echo);
            let clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(app.addr)).collect();
            let peers: Vec<_> = clients.iter().map(|_| app.opened()).collect();
            let readers: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    thread::spawn(move || {
                        let messages = [client.expect_frame(), client.expect_frame()];
                        assert_eq!(messages, [Frame::text("to you"), Frame::text("to all")], "{mode:?}");
                        client.answer_close(1001);
                    })
                })
                .collect();
            for peer in &peers {
                peer.send("to you").expect("the connection is open");
            }
            app.handle().broadcast("to all");
            let report = app.handle().shutdown(DEADLINE);
            assert_eq!((report.clean, report.forced), (CLIENTS, 0), "{mode:?}");
            for reader in readers {
                reader.join().expect("a client");
            }
            app.finish();
        }
    }
}

#[test]
fn r_11_messages_queued_for_a_slow_client_are_sent_before_the_close_frame() {
    let _guard = serialize_test();
    for mode in Mode::ALL {
        let app = App::start(mode, Server::builder().workers(1), echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let mut sent = 0_u8;
        while peer.queued_bytes() == 0 {
            peer.send(vec![sent; 500_000]).expect("the connection is open");
            sent += 1;
            eventually("the worker has written or queued it", || peer.stats().messages_sent == u64::from(sent));
        }
        let reader = thread::spawn(move || {
            for number in 0..sent {
                assert!(client.expect_frame() == Frame::binary(&vec![number; 500_000]));
            }
            client.answer_close(1001);
        });
        let report = app.handle().shutdown(DEADLINE);
        assert_eq!((report.clean, report.forced), (1, 0), "{mode:?}");
        reader.join().expect("the reader");
        app.finish();
    }
}

/// An echo handler that first shuts down its server, or panics, if the message says so.
struct ShutsDown(Arc<Mutex<Option<ServerHandle>>>);

impl Handler for ShutsDown {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (message.as_text(), handle) {
            (Some("shut down"), Some(handle)) => {
                let report = handle.shutdown(SHORT);
                assert_eq!(report, threadbare::ShutdownReport::default(), "a shutdown from the worker does not wait");
                handle.join();
            }
            (Some("panic"), _) => panic_quietly(),
            _ => {}
        }
        socket.send(message);
    }
}

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn r_12_concurrent_shutdowns_end_the_server_once() {
    let _expected = expect_error("a callback panicked").or_nothing();
    // The short deadline may pass on a busy machine. That the threads end is asserted below.
    let _late = expect_error("a server thread did not end").or_nothing();
    let _guard = serialize_test();
    for round in 0..50 {
        let slot = Arc::new(Mutex::new(None));
        let make = {
            let slot = slot.clone();
            move |_: &_| ShutsDown(slot.clone())
        };
        let server = Server::builder().workers(2).serve("127.0.0.1:0", make).expect("a server");
        let (addr, handle) = (server.local_addr(), server.handle());
        *slot.lock().expect("no panic") = Some(handle.clone());
        let mut client = Client::open(addr);
        let stop = Arc::new(AtomicBool::new(false));
        // Clients connect until the end.
        let connecting = thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::SeqCst) {
                    let Ok(stream) = TcpStream::connect(addr) else { return };
                    let mut client = Client::from_stream(stream);
                    if client.stream.write_all(&[request("/", "").as_bytes(), &text("hello")].concat()).is_ok() {
                        drop(client.stream.shutdown(std::net::Shutdown::Write));
                        client.wait_for_end();
                    }
                }
            }
        });
        let start = Instant::now();
        if round % 5 < 2 {
            // No connection has to be forced, and so every report counts all connections.
            client.stream.shutdown(std::net::Shutdown::Both).expect("a socket");
        }
        match round % 5 {
            0 => {
                let first = handle.shutdown(DEADLINE);
                assert_eq!(handle.shutdown(SHORT), first, "the same report");
                assert_eq!(server.shutdown(Duration::ZERO), first, "the same report again");
            }
            1 => {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        let handle = handle.clone();
                        thread::spawn(move || handle.shutdown(DEADLINE))
                    })
                    .collect();
                let mut reports: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
                reports.dedup();
                assert_eq!(reports.len(), 1, "all return the same report: {reports:?}");
            }
            2 => {
                client.send(&text("shut down"));
                assert_eq!(client.expect_frame().opcode, Opcode::Text);
                assert_eq!(client.expect_frame().close_code(), 1001);
                client.send(&close(1001));
                server.join();
                handle.shutdown(SHORT);
            }
            3 => {
                client.send(&text("panic"));
                handle.shutdown(SHORT);
            }
            _ => {
                // By a callback, a thread and the drop of the server at once.
                client.send(&text("shut down"));
                let thread = thread::spawn(move || handle.shutdown(SHORT));
                drop(server);
                thread.join().expect("no panic");
            }
        }
        assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
        wait_for_end_of_threads("a server");
        stop.store(true, Ordering::SeqCst);
        connecting.join().expect("the connecting thread");
        client.wait_for_end();
    }
}

#[test]
fn r_04_a_connection_whose_end_panics_at_the_deadline_is_counted() {
    struct PanicsAtTheEnd;
    impl Handler for PanicsAtTheEnd {
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
        fn on_close(&mut self, _: &mut Socket<'_>, _: &threadbare::CloseReason) {
            panic_quietly();
        }
    }
    let _guard = serialize_test();
    let _expected = expect_error("a callback panicked");
    let _late = expect_error("a server thread did not end").or_nothing();
    for workers in [1, 2] {
        let server = Server::builder().workers(workers).serve("127.0.0.1:0", |_| PanicsAtTheEnd).expect("a server");
        let mut clients: Vec<_> = (0..3).map(|_| Client::open(server.local_addr())).collect();
        eventually("all are open", || server.handle().connections() == 3);
        let handle = server.handle();
        handle.shutdown(Duration::ZERO);
        handle.join();
        let report = handle.shutdown(DEADLINE);
        assert_eq!((report.clean, report.forced, report.failed), (0, 3, 0), "{report}");
        assert_eq!(handle.connections(), 0);
        clients.iter_mut().for_each(Client::wait_for_end);
    }
}

#[test]
fn r_12_every_callback_can_shut_down_its_server() {
    struct ShutsDownIn(&'static str, Arc<Mutex<Option<ServerHandle>>>);
    impl ShutsDownIn {
        fn at(&self, place: &str) {
            if self.0 == place
                && let Some(handle) = &*self.1.lock().unwrap_or_else(PoisonError::into_inner)
            {
                handle.shutdown(SHORT);
            }
        }
    }
    impl Handler for ShutsDownIn {
        fn on_open(&mut self, _: &mut Socket<'_>) {
            self.at("open");
        }
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
        fn on_ping(&mut self, _: &mut Socket<'_>, _: &[u8]) {
            self.at("ping");
        }
        fn on_close(&mut self, _: &mut Socket<'_>, _: &threadbare::CloseReason) {
            self.at("close");
        }
    }
    impl Drop for ShutsDownIn {
        fn drop(&mut self) {
            self.at("drop");
        }
    }
    let _guard = serialize_test();
    for place in ["request", "make", "open", "ping", "close", "drop"] {
        let slot: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
        let (hook, maker) = (slot.clone(), slot.clone());
        let server = Server::builder()
            .workers(1)
            .on_request(move |_| {
                ShutsDownIn("request", hook.clone()).at(place);
                Ok(threadbare::Accept::new())
            })
            .serve("127.0.0.1:0", move |_| {
                ShutsDownIn("make", maker.clone()).at(place);
                ShutsDownIn(place, maker.clone())
            })
            .expect("a server");
        *slot.lock().expect("no panic") = Some(server.handle());
        let mut client = Client::tcp(server.local_addr());
        client.send(&[request("/", "").as_bytes(), &common::ping(b""), &close(1000)].concat());
        client.wait_for_end();
        drop(client);
        server.join();
        wait_for_end_of_threads(&format!("a server that was shut down in '{place}'"));
        slot.lock().expect("no panic").take();
    }
}

/// The server closes its sockets first, so that they are in TIME_WAIT at its end.
#[test]
fn r_13_the_port_can_be_bound_again_at_once() {
    let _guard = serialize_test();
    // No other test binds a port of this address.
    let host = if cfg!(target_os = "linux") { "127.0.0.13:0" } else { "127.0.0.1:0" };
    let mut addr: SocketAddr = host.parse().expect("an address");
    for round in 0..20 {
        let server = Server::builder().workers(2).serve(addr, |_| Echo).expect("the port is free");
        addr = server.local_addr();
        let running = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..5)
            .map(|_| {
                let (client, running) = (Client::open(addr), running.clone());
                thread::spawn(move || stream(client, &running))
            })
            .collect();
        eventually("all clients are streaming", || running.load(Ordering::SeqCst) == 5);
        let report = server.shutdown(DEADLINE);
        assert_eq!((report.clean, report.forced), (5, 0), "round {round}");
        for client in clients {
            assert!(client.join().expect("a client").closed);
        }
    }
}

#[test]
fn join_waits_until_the_server_has_shut_down() {
    let _guard = serialize_test();
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| Echo).expect("a server");
    let (addr, handle) = (server.local_addr(), server.handle());
    let stopping = Arc::new(AtomicBool::new(false));
    let thread = thread::spawn({
        let (stopping, handle) = (stopping.clone(), handle.clone());
        move || {
            let mut client = Client::open(addr);
            // Meanwhile a join that does not wait would return.
            for _ in 0..100 {
                client.send(&text("hello"));
                assert_eq!(client.expect_frame(), Frame::text("hello"));
            }
            drop(client);
            stopping.store(true, Ordering::SeqCst);
            handle.shutdown(DEADLINE);
        }
    });
    handle.join();
    assert!(stopping.load(Ordering::SeqCst), "the server runs");
    thread.join().expect("the client");
}
