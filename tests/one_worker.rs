//! A server with one worker, whose thread also accepts connections and does the opening handshakes.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::app::panic_quietly;
use common::logged::expect_error;
use common::servers::Echo;
use common::{Client, DEADLINE, Frame, close, eventually, request, serialize_test, server_threads, text};
use crossbeam_channel::Receiver;
use threadbare::{
    Accept, CloseReason, Config, Event, Handler, MessageRef, Peer, Pending, Request, Server, ServerBuilder,
    ServerHandle, ShutdownReport, Socket,
};

fn one_worker() -> ServerBuilder {
    // No deadline wakes the worker during a test.
    let config = Config::default().handshake_timeout(DEADLINE * 10).ping_interval(None);
    Server::builder().workers(1).config(config)
}

/// Handshakes for `/deferred` are decided by the test, through the channel; all others are accepted.
fn deferred_builder() -> (ServerBuilder, Receiver<Pending>) {
    let (sender, deferred) = crossbeam_channel::unbounded();
    let builder = one_worker().on_request_deferred(move |request, pending| match request.path() {
        "/deferred" => sender.send(pending).expect("the test decides"),
        _ => pending.accept(Accept::new()),
    });
    (builder, deferred)
}

/// Asserts that the server echoes a message.
fn expect_echo(client: &mut Client, message: &str) {
    client.send(&text(message));
    assert_eq!(client.expect_frame(), Frame::text(message));
}

/// A connection of which the server has read a part of the request, and the rest of that request.
fn partial_request(server: &Server) -> (Client, Vec<u8>) {
    let mut client = Client::tcp(server.local_addr());
    let request = request("/", "").into_bytes();
    client.send(&request[..20]);
    // The worker accepts and reads in order: once it has accepted this client, it has read the bytes above.
    drop(Client::open(server.local_addr()));
    (client, request[20..].to_vec())
}

#[cfg(target_os = "linux")] // reads /proc
#[test]
fn one_worker_needs_no_reactor_thread_and_two_have_one() {
    let _guard = serialize_test();
    for (workers, expected) in [(1, &["ws-worker-0"][..]), (2, &["ws-reactor", "ws-worker-0", "ws-worker-1"])] {
        let server = Server::builder().workers(workers).serve("127.0.0.1:0", |_| Echo).expect("a server");
        // A thread has its name once it runs.
        eventually("the threads run", || server_threads() == expected);
        expect_echo(&mut Client::open(server.local_addr()), "hello");
        assert_eq!(server_threads(), expected, "no thread is new");
        drop(server);
        eventually("the threads end", || server_threads().is_empty());
    }
}

#[test]
fn an_established_connection_is_served_during_a_flood_of_handshakes() {
    let _guard = serialize_test();
    let server = one_worker().serve("127.0.0.1:0", |_| Echo).expect("a server");
    let addr = server.local_addr();
    let mut established = Client::open(addr);
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    // The worker accepts many at a time.
                    let mut clients: Vec<_> = (0..20).map(|_| Client::tcp(addr)).collect();
                    clients.iter_mut().for_each(|client| client.send(request("/", "").as_bytes()));
                    for mut client in clients {
                        assert!(client.head().starts_with("HTTP/1.1 101 "));
                        expect_echo(&mut client, "hello");
                        client.send(&close(1000));
                        client.expect_close(1000);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let start = Instant::now();
        let mut rounds = 0;
        while rounds < 500 || served.load(Ordering::SeqCst) < 500 {
            expect_echo(&mut established, &rounds.to_string());
            rounds += 1;
            assert!(start.elapsed() < DEADLINE, "{rounds} rounds, {served:?} handshakes");
        }
        stop.store(true, Ordering::SeqCst);
    });
    eventually("the other connections are removed", || server.handle().connections() == 1);
}

/// The socket stays registered with the poll while its connection becomes established.
#[test]
fn messages_that_arrive_around_the_end_of_the_handshake_are_not_missed() {
    let _guard = serialize_test();
    let server = one_worker().serve("127.0.0.1:0", |_| Echo).expect("a server");
    for round in 0..200 {
        let (mut client, rest) = partial_request(&server);
        let messages = [text("one"), text("two")];
        match round % 4 {
            // In the same write as the request, after it, in parts, or after the response.
            0 => client.send(&[&rest[..], &messages.concat()].concat()),
            1 => [&rest, &messages[0], &messages[1]].iter().for_each(|bytes| client.send(bytes)),
            2 => {
                client.send(&[&rest[..], &messages[0][..4]].concat());
                client.send(&[&messages[0][4..], &messages[1]].concat());
            }
            _ => client.send(&rest),
        }
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        if round % 4 == 3 {
            messages.iter().for_each(|bytes| client.send(bytes));
        }
        assert_eq!([client.expect_frame(), client.expect_frame()], [Frame::text("one"), Frame::text("two")]);
        // The server also notices the end of the connection.
        drop(client);
    }
    eventually("all connections are removed", || server.handle().connections() == 0);
}

/// The poll reports received bytes once, and not again when the connection is established.
#[test]
fn bytes_that_the_poll_reported_during_the_handshake_are_read_after_it() {
    let _guard = serialize_test();
    let (builder, deferred) = deferred_builder();
    let server = builder.serve("127.0.0.1:0", |_| Echo).expect("a server");
    let large = "x".repeat(40_000);
    for round in 0..20 {
        let message = if round % 2 == 0 { "small" } else { large.as_str() };

        let mut client = Client::tcp(server.local_addr());
        client.send(request("/deferred", "").as_bytes());
        let pending = deferred.recv_timeout(DEADLINE).expect("the hook was called");
        client.send(&text(message));
        // The worker serves in order: once it has served this client, the poll has reported the message.
        drop(Client::open(server.local_addr()));
        pending.accept(Accept::new());
        client.head();
        assert_eq!(client.expect_frame(), Frame::text(message));

        let (mut client, rest) = partial_request(&server);
        client.send(&[&rest[..], &text(message)].concat());
        client.shutdown_write();
        client.head();
        assert_eq!(client.expect_frame(), Frame::text(message));
        client.wait_for_end();
    }
    eventually("all connections are removed", || server.handle().connections() == 0);
}

#[test]
fn a_decision_from_another_thread_wakes_the_worker() {
    let _guard = serialize_test();
    let (sender, deferred) = crossbeam_channel::unbounded::<Pending>();
    let server = one_worker()
        .on_request_deferred(move |_, pending| sender.send(pending).expect("the test decides"))
        .serve("127.0.0.1:0", |_| Echo)
        .expect("a server");
    for round in 0..200 {
        let mut client = Client::tcp(server.local_addr());
        client.send(request("/", "").as_bytes());
        let pending = deferred.recv_timeout(DEADLINE).expect("the hook was called");
        // The worker may be running, about to poll, or blocked in the poll.
        thread::park_timeout(Duration::from_micros(round % 10 * 20));
        pending.accept(Accept::new());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        expect_echo(&mut client, "hello");
    }
}

/// Messages that the application sends while it iterates over a batch do not wake the worker one by one. Decisions do.
#[test]
fn a_decision_during_a_batch_wakes_the_worker() {
    let _guard = serialize_test();
    let (builder, deferred) = deferred_builder();
    let server = builder.bind("127.0.0.1:0").expect("a server");
    let addr = server.local_addr();
    let application = thread::spawn(move || {
        for event in &server {
            match event {
                // The thread does nothing after this that would wake the worker.
                Event::Message(_, message) if message.as_text() == Some("decide") => {
                    deferred.recv_timeout(DEADLINE).expect("the hook was called").accept(Accept::new());
                }
                Event::Message(peer, message) if message.as_text() == Some("end") => {
                    peer.send(message).expect("the connection is open");
                    return;
                }
                _ => {}
            }
        }
    });
    let mut asking = Client::open(addr);
    for _ in 0..50 {
        let mut waiting = Client::tcp(addr);
        waiting.send(request("/deferred", "").as_bytes());
        asking.send(&text("decide"));
        assert!(waiting.head().starts_with("HTTP/1.1 101 "));
    }
    asking.send(&text("end"));
    assert_eq!(asking.expect_frame(), Frame::text("end"));
    asking.answer_close(1001);
    application.join().expect("no panic");
}

#[test]
fn a_shutdown_during_handshakes_returns_at_its_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let _guard = serialize_test();
    let (builder, deferred) = deferred_builder();
    let server = builder.serve("127.0.0.1:0", |_| Echo).expect("a server");
    // None of the clients closes its socket.
    let (mut reading, _) = partial_request(&server);
    let mut deciding = Client::tcp(server.local_addr());
    deciding.send(request("/deferred", "").as_bytes());
    let pending = deferred.recv_timeout(DEADLINE).expect("the hook was called");
    let mut silent = Client::tcp(server.local_addr());
    let mut established = Client::open(server.local_addr());
    let start = Instant::now();
    let report = server.shutdown(TIMEOUT);
    assert!((TIMEOUT..DEADLINE).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(report, server.shutdown(TIMEOUT), "both return the same report");
    assert_eq!((report.clean, report.forced), (0, 1), "only established connections are counted");
    assert_eq!([reading.status(), deciding.status(), silent.status()], [503; 3]);
    assert_eq!(established.expect_frame().close_code(), 1001);
    assert!(established.try_read().is_err(), "a reset");
    // A decision after the shutdown has no effect.
    pending.accept(Accept::new());
}

/// A refused client that keeps its socket open delays a shutdown by at most a second.
#[test]
fn a_refused_handshake_does_not_block_a_shutdown() {
    let _guard = serialize_test();
    let server = one_worker().serve("127.0.0.1:0", |_| Echo).expect("a server");
    let (mut reading, _) = partial_request(&server);
    let mut established = Client::open(server.local_addr());
    let closing = thread::spawn(move || {
        assert_eq!(established.expect_frame().close_code(), 1001);
        established.send(&close(1001));
        assert_eq!(established.frame(), None);
    });
    let start = Instant::now();
    let report = server.shutdown(DEADLINE);
    assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    assert_eq!((report.clean, report.forced), (1, 0));
    closing.join().expect("the client");
    assert_eq!(reading.status(), 503);
}

/// An echo handler that panics when it is dropped, if `panics` is set.
struct PanicsOnDrop {
    panics: bool,
}

impl Handler for PanicsOnDrop {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if self.panics {
            panic_quietly();
        }
    }
}

#[test]
fn r_04_panics_during_handshakes_do_not_affect_other_connections() {
    let _first = expect_error("a handshake hook panicked");
    let _second = expect_error("panicked as it was dropped");
    let _guard = serialize_test();
    for workers in [1, 2] {
        let (enter, entered) = crossbeam_channel::bounded(1);
        let (release, released) = crossbeam_channel::bounded::<()>(1);
        let decide = move |request: &Request| {
            match request.path() {
                "/hook" => panic_quietly(),
                "/gone" => {
                    enter.send(()).expect("the test waits for the hook");
                    released.recv_timeout(DEADLINE).expect("the client has reset");
                }
                _ => {}
            }
            Ok(Accept::new())
        };
        let make = |request: &Request| match request.path() {
            "/make" => panic_quietly(),
            path => PanicsOnDrop { panics: path == "/gone" },
        };
        let http = |_: &Request| panic_quietly();
        let server = Server::builder().workers(workers).on_request(decide).http(http);
        let server = server.serve("127.0.0.1:0", make).expect("a server");
        let addr = server.local_addr();
        let mut established = Client::open(addr);
        for round in 0..3 {
            for path in ["/hook", "/make"] {
                let mut client = Client::tcp(addr);
                client.send(request(path, "").as_bytes());
                assert_eq!(client.status(), 500, "{path}");
            }
            let mut plain = Client::tcp(addr);
            plain.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(plain.status(), 500);
            // Its handler is created, and then dropped because the 101 cannot be written.
            let mut gone = Client::tcp(addr);
            gone.send(request("/gone", "").as_bytes());
            entered.recv_timeout(DEADLINE).expect("the hook is called");
            gone.reset();
            release.send(()).expect("the hook is blocked");
            expect_echo(&mut established, &round.to_string());
            expect_echo(&mut Client::open(addr), "another");
        }
        eventually("the other connections are removed", || server.handle().connections() == 1);
    }
}

/// The worker drops the hook at its end.
#[test]
fn r_04_a_panic_in_the_drop_of_a_hook_does_not_lose_the_report() {
    let _expected = expect_error("panicked as it was dropped");
    let _guard = serialize_test();
    let hook = PanicsOnDrop { panics: true };
    let server = Server::builder().workers(1).on_request(move |_| {
        let _captured = &hook;
        Ok(Accept::new())
    });
    let server = server.serve("127.0.0.1:0", |_| Echo).expect("a server");
    let mut client = Client::open(server.local_addr());
    let closing = thread::spawn(move || {
        assert_eq!(client.expect_frame().close_code(), 1001);
        client.send(&close(1001));
        assert_eq!(client.frame(), None);
    });
    let report = server.shutdown(DEADLINE);
    assert_eq!((report.clean, report.forced), (1, 0));
    closing.join().expect("the client");
}

/// There is an established connection and an unfinished handshake.
#[test]
fn r_12_a_request_hook_can_shut_down_its_server() {
    let _guard = serialize_test();
    let slot: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let hook = slot.clone();
    let server = one_worker().on_request(move |request| {
        if request.path() == "/end" {
            let handle = hook.lock().expect("no panic").clone().expect("a server");
            assert_eq!(
                handle.shutdown(DEADLINE),
                ShutdownReport::default(),
                "a shutdown from the worker does not wait"
            );
        }
        Ok(Accept::new())
    });
    let server = server.serve("127.0.0.1:0", |_| Echo).expect("a server");
    *slot.lock().expect("no panic") = Some(server.handle());
    let (mut reading, _) = partial_request(&server);
    let mut established = Client::open(server.local_addr());
    let mut ending = Client::open_with(server.local_addr(), "/end", "");
    for client in [&mut established, &mut ending] {
        assert_eq!(client.expect_frame().close_code(), 1001);
        client.send(&close(1001));
        assert_eq!(client.frame(), None);
    }
    assert_eq!(reading.status(), 503);
    drop(reading);
    server.join();
    slot.lock().expect("no panic").take();
}

/// The worker calls `on_close` after it has checked for commands. It checks again before it polls.
#[test]
fn r_12_on_close_can_shut_down_its_server() {
    struct ShutsDown(Arc<Mutex<Option<ServerHandle>>>, crossbeam_channel::Sender<Peer>);
    impl Handler for ShutsDown {
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            self.1.send(socket.peer()).expect("the test receives");
        }
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
        fn on_close(&mut self, _: &mut Socket<'_>, _: &CloseReason) {
            let handle = self.0.lock().expect("no panic").clone().expect("a server");
            assert_eq!(
                handle.shutdown(DEADLINE),
                ShutdownReport::default(),
                "a shutdown from the worker does not wait"
            );
        }
    }
    let _guard = serialize_test();
    let slot: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let (sender, peers) = crossbeam_channel::unbounded();
    let handles = slot.clone();
    let server =
        one_worker().serve("127.0.0.1:0", move |_| ShutsDown(handles.clone(), sender.clone())).expect("a server");
    *slot.lock().expect("no panic") = Some(server.handle());
    let mut aborted = Client::open(server.local_addr());
    let peer = peers.recv_timeout(DEADLINE).expect("a connection");
    let mut other = Client::open(server.local_addr());
    peers.recv_timeout(DEADLINE).expect("a connection");
    peer.abort();
    aborted.wait_for_end();
    assert_eq!(other.expect_frame().close_code(), 1001);
    other.send(&close(1001));
    assert_eq!(other.frame(), None);
    server.join();
    slot.lock().expect("no panic").take();
}
