//! A server with one worker: its thread accepts and does the opening handshakes as well.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::app::panic_quietly;
use common::servers::Echo;
use common::{Client, DEADLINE, Frame, close, eventually, request, text};
use crossbeam_channel::Receiver;
use threadbare::{
    Accept, CloseReason, Config, Event, Handler, MessageRef, Peer, Pending, Request, Server, ServerBuilder,
    ServerHandle, ShutdownReport, Socket,
};

/// One test at a time counts threads.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn one_worker() -> ServerBuilder {
    // No deadline wakes the worker meanwhile.
    let config = Config::default().handshake_timeout(DEADLINE * 10).ping_interval(None);
    Server::builder().workers(1).config(config)
}

/// Leaves it to whoever takes them here to decide about handshakes that ask for `/deferred`, and accepts all others.
fn deferring() -> (ServerBuilder, Receiver<Pending>) {
    let (sender, deferred) = crossbeam_channel::unbounded();
    let builder = one_worker().on_request_deferred(move |request, pending| match request.path() {
        "/deferred" => sender.send(pending).expect("somebody decides"),
        _ => pending.accept(Accept::new()),
    });
    (builder, deferred)
}

fn echoes(client: &mut Client, message: &str) {
    client.send(&text(message));
    assert_eq!(client.expect_frame(), Frame::text(message));
}

/// A connection whose request has arrived in part when this returns, and the rest of it.
fn halfway(server: &Server) -> (Client, Vec<u8>) {
    let mut client = Client::tcp(server.local_addr());
    let request = request("/", "").into_bytes();
    client.send(&request[..20]);
    // Whoever connects later is accepted later.
    drop(Client::open(server.local_addr()));
    (client, request[20..].to_vec())
}

#[cfg(target_os = "linux")] // reads /proc
#[test]
fn one_worker_is_the_only_thread_and_two_have_a_reactor() {
    let _alone = alone();
    let names = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let mut names: Vec<_> =
            names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("ws-")).collect();
        names.sort();
        names
    };
    for (workers, expected) in [(1, &["ws-worker-0"][..]), (2, &["ws-reactor", "ws-worker-0", "ws-worker-1"])] {
        let server = Server::builder().workers(workers).serve("127.0.0.1:0", |_| Echo).expect("a server");
        // A thread gets its name once it runs.
        eventually("the threads", || names() == expected);
        echoes(&mut Client::open(server.local_addr()), "hello");
        assert_eq!(names(), expected, "none is new");
        drop(server);
        eventually("their end", || names().is_empty());
    }
}

#[test]
fn an_established_connection_has_its_turn_beside_a_flood_of_handshakes() {
    let _alone = alone();
    let server = one_worker().serve("127.0.0.1:0", |_| Echo).expect("a server");
    let addr = server.local_addr();
    let mut established = Client::open(addr);
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    // Accepted many at a time.
                    let mut clients: Vec<_> = (0..20).map(|_| Client::tcp(addr)).collect();
                    clients.iter_mut().for_each(|client| client.send(request("/", "").as_bytes()));
                    for mut client in clients {
                        assert!(client.head().starts_with("HTTP/1.1 101 "));
                        echoes(&mut client, "there?");
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
            echoes(&mut established, &rounds.to_string());
            rounds += 1;
            assert!(start.elapsed() < DEADLINE, "{rounds} rounds, {served:?} handshakes");
        }
        stop.store(true, Ordering::SeqCst);
    });
    eventually("the others have left", || server.handle().connections() == 1);
}

/// The poll knew the socket before it was established: nothing that arrives about then is missed.
#[test]
fn a_request_in_parts_is_followed_by_messages_at_any_time() {
    let _alone = alone();
    let server = one_worker().serve("127.0.0.1:0", |_| Echo).expect("a server");
    for round in 0..200 {
        let (mut client, rest) = halfway(&server);
        let messages = [text("one"), text("two")];
        match round % 4 {
            // With the request, behind it, in part, or once it is answered.
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
        // Its end is seen as well.
        drop(client);
    }
    eventually("all have left", || server.handle().connections() == 0);
}

/// The poll reports what arrives once, and not again as the connection is established.
#[test]
fn what_the_poll_reported_during_a_handshake_is_read_behind_it() {
    let _alone = alone();
    let (builder, deferred) = deferring();
    let server = builder.serve("127.0.0.1:0", |_| Echo).expect("a server");
    let large = "x".repeat(40_000);
    for round in 0..20 {
        let message = if round % 2 == 0 { "small" } else { large.as_str() };

        let mut client = Client::tcp(server.local_addr());
        client.send(request("/deferred", "").as_bytes());
        let pending = deferred.recv_timeout(DEADLINE).expect("the hook was called");
        client.send(&text(message));
        // Whoever connects later is served later.
        drop(Client::open(server.local_addr()));
        pending.accept(Accept::new());
        client.head();
        assert_eq!(client.expect_frame(), Frame::text(message));

        let (mut client, rest) = halfway(&server);
        client.send(&[&rest[..], &text(message)].concat());
        client.half_close();
        client.head();
        assert_eq!(client.expect_frame(), Frame::text(message));
        client.wait_for_end();
    }
    eventually("all have left", || server.handle().connections() == 0);
}

#[test]
fn a_decision_from_another_thread_wakes_the_sleeping_worker() {
    let _alone = alone();
    let (sender, deferred) = crossbeam_channel::unbounded::<Pending>();
    let server = one_worker()
        .on_request_deferred(move |_, pending| sender.send(pending).expect("somebody decides"))
        .serve("127.0.0.1:0", |_| Echo)
        .expect("a server");
    for round in 0..200 {
        let mut client = Client::tcp(server.local_addr());
        client.send(request("/", "").as_bytes());
        let pending = deferred.recv_timeout(DEADLINE).expect("the hook was called");
        // Before it sleeps, as it falls asleep, and while it sleeps.
        thread::park_timeout(Duration::from_micros(round % 10 * 20));
        pending.accept(Accept::new());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        echoes(&mut client, "hello");
    }
}

/// The answers of an application that works through a batch do not wake the worker one by one, but its decisions do.
#[test]
fn a_decision_over_an_event_wakes_the_worker() {
    let _alone = alone();
    let (builder, deferred) = deferring();
    let server = builder.bind("127.0.0.1:0").expect("a server");
    let addr = server.local_addr();
    let application = thread::spawn(move || {
        for event in &server {
            match event {
                // The last that this thread does for the batch.
                Event::Message(_, message) if message.as_text() == Some("decide") => {
                    deferred.recv_timeout(DEADLINE).expect("the hook was called").accept(Accept::new());
                }
                Event::Message(peer, message) if message.as_text() == Some("end") => {
                    peer.send(message).expect("it is open");
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
    application.join().expect("no panic");
}

#[test]
fn a_shutdown_with_handshakes_under_way_ends_by_its_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let _alone = alone();
    let (builder, deferred) = deferring();
    let server = builder.serve("127.0.0.1:0", |_| Echo).expect("a server");
    // None of them closes its end.
    let (mut reading, _) = halfway(&server);
    let mut deciding = Client::tcp(server.local_addr());
    deciding.send(request("/deferred", "").as_bytes());
    let pending = deferred.recv_timeout(DEADLINE).expect("the hook was called");
    let mut silent = Client::tcp(server.local_addr());
    let mut established = Client::open(server.local_addr());
    let start = Instant::now();
    let report = server.shutdown(TIMEOUT);
    assert!((TIMEOUT..DEADLINE).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(report, server.shutdown(TIMEOUT), "the same end");
    assert_eq!((report.clean, report.forced), (0, 1), "those that were established are counted");
    assert_eq!([reading.status(), deciding.status(), silent.status()], [503; 3]);
    assert_eq!(established.expect_frame().close_code(), 1001);
    assert!(established.try_fill().is_err(), "a reset");
    // It comes too late, and harms nobody.
    pending.accept(Accept::new());
}

/// With time to spare, a refused client that stays holds up the end for a second, and not the connections' closing.
#[test]
fn a_refused_handshake_does_not_hold_up_a_shutdown() {
    let _alone = alone();
    let server = one_worker().serve("127.0.0.1:0", |_| Echo).expect("a server");
    let (mut reading, _) = halfway(&server);
    let mut established = Client::open(server.local_addr());
    let goodbye = thread::spawn(move || {
        assert_eq!(established.expect_frame().close_code(), 1001);
        established.send(&close(1001));
        assert_eq!(established.frame(), None);
    });
    let start = Instant::now();
    let report = server.shutdown(DEADLINE);
    assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    assert_eq!((report.clean, report.forced), (1, 0));
    goodbye.join().expect("the client");
    assert_eq!(reading.status(), 503);
}

/// Panics as it is dropped, if it is told so.
struct Falling {
    panics: bool,
}

impl Handler for Falling {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

impl Drop for Falling {
    fn drop(&mut self) {
        if self.panics {
            panic_quietly();
        }
    }
}

#[test]
fn r_04_panics_during_handshakes_harm_no_connection() {
    let _alone = alone();
    for workers in [1, 2] {
        let (enter, entered) = crossbeam_channel::bounded(1);
        let (release, released) = crossbeam_channel::bounded::<()>(1);
        let decide = move |request: &Request| {
            match request.path() {
                "/hook" => panic_quietly(),
                "/gone" => {
                    enter.send(()).expect("somebody waits");
                    released.recv_timeout(DEADLINE).expect("the client is gone");
                }
                _ => {}
            }
            Ok(Accept::new())
        };
        let make = |request: &Request| match request.path() {
            "/make" => panic_quietly(),
            path => Falling { panics: path == "/gone" },
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
            // What was made for it is dropped as its 101 can not be written.
            let mut gone = Client::tcp(addr);
            gone.send(request("/gone", "").as_bytes());
            entered.recv_timeout(DEADLINE).expect("the hook is called");
            gone.reset();
            release.send(()).expect("the hook waits");
            echoes(&mut established, &round.to_string());
            echoes(&mut Client::open(addr), "another");
        }
        eventually("the others are forgotten", || server.handle().connections() == 1);
    }
}

/// What the hooks hold is dropped with the worker, whose report is heard nevertheless.
#[test]
fn r_04_a_panic_in_the_drop_of_a_hook_leaves_the_report() {
    let _alone = alone();
    let hook = Falling { panics: true };
    let server = Server::builder().workers(1).on_request(move |_| {
        let _whole = &hook;
        Ok(Accept::new())
    });
    let server = server.serve("127.0.0.1:0", |_| Echo).expect("a server");
    let mut client = Client::open(server.local_addr());
    let leaving = thread::spawn(move || {
        assert_eq!(client.expect_frame().close_code(), 1001);
        client.send(&close(1001));
        assert_eq!(client.frame(), None);
    });
    let report = server.shutdown(DEADLINE);
    assert_eq!((report.clean, report.forced), (1, 0));
    leaving.join().expect("the client");
}

/// The end is started where connections are accepted, with one of each kind there.
#[test]
fn r_12_a_hook_shuts_its_server_down() {
    let _alone = alone();
    let slot: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let hook = slot.clone();
    let server = one_worker().on_request(move |request| {
        if request.path() == "/end" {
            let handle = hook.lock().expect("no panic").clone().expect("a server");
            assert_eq!(handle.shutdown(DEADLINE), ShutdownReport::default(), "it does not wait for itself");
        }
        Ok(Accept::new())
    });
    let server = server.serve("127.0.0.1:0", |_| Echo).expect("a server");
    *slot.lock().expect("no panic") = Some(server.handle());
    let (mut reading, _) = halfway(&server);
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

/// The worker is awake as it is asked, and has looked for this turn: it looks once more before it sleeps.
#[test]
fn r_12_a_handler_shuts_its_server_down_as_it_is_told_an_end() {
    struct Ender(Arc<Mutex<Option<ServerHandle>>>, crossbeam_channel::Sender<Peer>);
    impl Handler for Ender {
        fn on_open(&mut self, socket: &mut Socket<'_>) {
            self.1.send(socket.peer()).expect("somebody listens");
        }
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
        fn on_close(&mut self, _: &mut Socket<'_>, _: &CloseReason) {
            let handle = self.0.lock().expect("no panic").clone().expect("a server");
            assert_eq!(handle.shutdown(DEADLINE), ShutdownReport::default(), "it does not wait for itself");
        }
    }
    let _alone = alone();
    let slot: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
    let (sender, peers) = crossbeam_channel::unbounded();
    let ends = slot.clone();
    let server = one_worker().serve("127.0.0.1:0", move |_| Ender(ends.clone(), sender.clone())).expect("a server");
    *slot.lock().expect("no panic") = Some(server.handle());
    let mut aborted = Client::open(server.local_addr());
    let peer = peers.recv_timeout(DEADLINE).expect("it opened");
    let mut bystander = Client::open(server.local_addr());
    peers.recv_timeout(DEADLINE).expect("it opened");
    peer.abort();
    aborted.wait_for_end();
    assert_eq!(bystander.expect_frame().close_code(), 1001);
    bystander.send(&close(1001));
    assert_eq!(bystander.frame(), None);
    server.join();
    slot.lock().expect("no panic").take();
}
