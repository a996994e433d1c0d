//! The drain of a server: its connections are closed one after the other, each counted once.

use crate::common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::app::{App, echo};
use common::servers::{Echo, Mode};
use common::stalled::{self, Stalled, each_setting};
use common::{Client, DEADLINE, Frame, close, eventually, text};
use crossbeam_channel::{Sender, bounded, unbounded};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCode, Config, Drain, DrainReport, Draining, Event, EventRef, Handler, Message, MessageRef, Reconnect, Server,
    ServerHandle, Socket,
};

/// A drain on a thread of its own.
fn drain(handle: &ServerHandle, drain: impl Into<Drain>) -> JoinHandle<DrainReport> {
    let (handle, drain) = (handle.clone(), drain.into());
    thread::spawn(move || handle.drain(drain))
}

/// Waits until nobody listens at an address any more.
fn wait_until_refused(addr: SocketAddr) {
    eventually("the listener is closed", || TcpStream::connect(addr).is_err());
}

/// The number of connections that the report has.
fn total(report: DrainReport) -> usize {
    report.left + report.idle + report.busy + report.lost + report.cut
}

/// Waits for a close frame with this code, answers it, and says when it came.
fn wait_for_close(client: Client, code: u16) -> JoinHandle<Instant> {
    complete_and_close(client, &[], code)
}

/// As [`wait_for_close`], for a client that has the rest of a message to send before.
fn complete_and_close(mut client: Client, rest: &[u8], code: u16) -> JoinHandle<Instant> {
    let rest = rest.to_vec();
    thread::spawn(move || {
        let frame = client.expect_frame();
        let at = Instant::now();
        assert_eq!(frame.close_code(), code);
        client.send(&rest);
        client.send(&close(code));
        assert_eq!(client.frame(), None, "the server sends FIN first");
        at
    })
}

fn join_all(clients: Vec<JoinHandle<Instant>>) -> Vec<Instant> {
    clients.into_iter().map(|client| client.join().expect("closed")).collect()
}

#[test]
fn r_24_idle_connections_are_closed_one_after_the_other() {
    const CLIENTS: usize = 20;
    for mode in Mode::ALL {
        for workers in [1, 3] {
            let app = App::start(mode, Server::builder().workers(workers), echo);
            let clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(app.addr)).collect();
            (0..CLIENTS).for_each(|_| drop(app.opened()));
            let clients: Vec<_> = clients.into_iter().map(|client| wait_for_close(client, 1012)).collect();
            let begun = Instant::now();
            // A second is left for the last answers, on a busy machine too.
            let report = app.handle().drain(Duration::from_secs(4));
            let mut closed = join_all(clients);
            closed.sort();
            // A connection is not closed before its turn. The last of a worker's six or more is in the last sixth of 3 s.
            assert!(
                *closed.last().expect("some") - begun > Duration::from_millis(2_400),
                "{mode:?}, {workers} workers"
            );
            assert_eq!((report.idle, total(report)), (CLIENTS, CLIENTS), "{report}");
            let ended = app.handle().shutdown(Duration::ZERO);
            assert_eq!((ended.clean, ended.drained), (CLIENTS, Some(report)));
            app.finish();
        }
    }
}

/// The one that has been silent for longest is first, and those with a message under way are last.
#[test]
fn silent_connections_are_first_and_busy_ones_last() {
    each_setting(|mode, _| {
        let app = App::start(mode, Server::builder().workers(1), echo);
        let mut half = Client::open(app.addr);
        let mut active = Client::open(app.addr);
        let message = text("a message");
        half.send(&message[..4]);
        let silent = Client::open(app.addr);
        let start = Instant::now();
        // The worker's clock has ticks of 32 ms.
        while start.elapsed() < Duration::from_millis(200) {
            active.send(&text("active"));
            assert_eq!(active.expect_frame(), Frame::text("active"));
        }
        let half = complete_and_close(half, &message[4..], 1012);
        let clients = [wait_for_close(silent, 1012), wait_for_close(active, 1012), half];
        let report = app.handle().drain(Duration::from_secs(4));
        let closed = clients.map(|client| client.join().expect("closed"));
        assert!(closed.is_sorted(), "{closed:?}");
        assert_eq!((report.idle, report.busy, total(report)), (2, 1, 3), "{report}");
        app.finish();
    });
}

#[test]
fn r_24_queued_output_goes_before_the_close() {
    each_setting(|mode, workers| {
        let mut full = Stalled::new(mode, workers, stalled::config()).filled();
        let drain = drain(&full.app.handle(), Duration::from_secs(4));
        wait_until_refused(full.app.addr);
        full.drain();
        let Stalled { app, client, other, elsewhere, .. } = full;
        let clients = elsewhere.into_iter().chain([client, other.1]);
        let clients: Vec<_> = clients.map(|client| wait_for_close(client, 1012)).collect();
        let count = clients.len();
        join_all(clients);
        let report = drain.join().expect("drained");
        assert_eq!((report.idle + report.busy, total(report)), (count, count), "{mode:?}: {report}");
        app.finish();
    });
}

#[test]
fn r_24_who_does_not_read_is_cut_at_the_deadline_and_what_was_not_sent_is_counted() {
    for mode in Mode::ALL {
        let full = Stalled::new(mode, 1, stalled::config()).filled();
        let Stalled { app, client, other: (_, other), .. } = full;
        let other = wait_for_close(other, 1012);
        let report = app.handle().drain(Duration::from_millis(500));
        other.join().expect("closed");
        assert_eq!((report.idle, report.cut, total(report)), (1, 1, 2), "{mode:?}: {report}");
        assert!(report.unsent_bytes >= stalled::HIGH_WATER as u64, "{report}");
        drop(client);
        app.finish();
    }
}

/// Says what it is told of the drain.
struct Told;

impl Handler for Told {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }

    fn on_drain(&mut self, socket: &mut Socket<'_>, draining: Draining) {
        assert!(draining.turn < draining.deadline);
        socket.send("drain");
    }
}

/// Starts a server that tells its clients of a drain, with a handler for each or with events.
fn telling(mode: Mode, workers: usize) -> (Server, Option<JoinHandle<()>>) {
    common::logged::install();
    let builder = Server::builder().workers(workers);
    match mode {
        Mode::Handler => (builder.serve("127.0.0.1:0", |_| Told).expect("a server"), None),
        Mode::Channel => {
            let mut server = builder.bind("127.0.0.1:0").expect("a server");
            let events = server.take_events().remove(0);
            let thread = thread::spawn(move || {
                for event in &events {
                    match event {
                        Event::Message(peer, message) => peer.send(message).expect("open"),
                        Event::Drain(peer, draining) => {
                            assert!(draining.turn < draining.deadline);
                            peer.send("drain").expect("open");
                        }
                        _ => {}
                    }
                }
            });
            (server, Some(thread))
        }
    }
}

/// A client that has begun to send something is busy, and is not closed while it leaves by itself.
#[test]
fn each_connection_is_told_and_may_leave() {
    each_setting(|mode, workers| {
        let (server, events) = telling(mode, workers);
        let mut clients: Vec<_> = (0..5).map(|_| Client::open(server.local_addr())).collect();
        for client in &mut clients {
            client.send(&text("hello"));
            assert_eq!(client.expect_frame(), Frame::text("hello"));
            client.send(&close(1000)[..3]);
        }
        let start = Instant::now();
        let drain = drain(&server.handle(), 10 * DEADLINE);
        for client in &mut clients {
            assert_eq!(client.expect_frame(), Frame::text("drain"));
            client.send(&close(1000)[3..]);
            client.expect_close(1000);
        }
        let report = drain.join().expect("drained");
        assert_eq!((report.left, total(report)), (5, 5), "{report}");
        assert!(start.elapsed() < DEADLINE, "it ends once all have left");
        drop(server);
        events.into_iter().for_each(|events| events.join().expect("no panic"));
    });
}

/// A connection whose message the application is handling is closed behind the answer.
#[test]
fn the_application_answers_what_it_is_handling() {
    const CLIENTS: usize = 30;
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    let events = server.take_events().remove(0);
    let (release, released) = bounded::<()>(0);
    let thread = thread::spawn(move || {
        for event in &events {
            if let Event::Message(peer, message) = event {
                let _ = released.recv();
                peer.send(message).expect("it is not closed yet");
            }
        }
    });
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(server.local_addr())).collect();
    clients.iter_mut().for_each(|client| client.send(&text("a question")));
    eventually("the messages have arrived", || server.stats().traffic.messages_received == CLIENTS as u64);
    let drain = drain(&server.handle(), Duration::from_secs(40));
    wait_until_refused(server.local_addr());
    // By then the turn of the first has come.
    let until = Instant::now() + Duration::from_millis(1_100);
    for client in &mut clients {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        client.stream.set_read_timeout(Some(left)).expect("a socket");
        assert!(client.try_read().is_err(), "a close before the answer");
        client.stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    }
    drop(release);
    for client in &mut clients {
        assert_eq!(client.expect_frame(), Frame::text("a question"));
    }
    // The rest of the drain takes long.
    let report = thread::spawn({
        let handle = server.handle();
        move || handle.drain(Duration::from_secs(4))
    });
    let clients: Vec<_> = clients.into_iter().map(|client| wait_for_close(client, 1012)).collect();
    join_all(clients);
    for report in [report, drain] {
        let report = report.join().expect("drained");
        assert_eq!((report.idle + report.busy, total(report)), (CLIENTS, CLIENTS), "{report}");
    }
    drop(server);
    thread.join().expect("no panic");
}

#[test]
fn an_event_loop_of_the_application_is_drained_by_its_polls() {
    common::logged::install();
    let mut event_loop = Server::builder().bind_inline("127.0.0.1:0").expect("an event loop");
    let (addr, handle) = (event_loop.local_addr(), event_loop.handle());
    let clients: Vec<_> = (0..3)
        .map(|number| {
            thread::spawn(move || {
                let mut client = Client::open(addr);
                if number == 0 {
                    client.send(&text("drain"));
                }
                loop {
                    let frame = client.expect_frame();
                    if frame.opcode == Opcode::Close {
                        client.send(&close(frame.close_code()));
                        return frame.close_code();
                    }
                }
            })
        })
        .collect();
    let (mut told, mut opened, mut asked) = (0, 0, false);
    let report = event_loop.run(|event| {
        match event {
            EventRef::Open(..) => opened += 1,
            EventRef::Message(..) => asked = true,
            EventRef::Drain(peer, _) => {
                told += 1;
                peer.send("the server drains").expect("open");
            }
            _ => {}
        }
        if opened == 3 && asked {
            asked = false;
            let drain = Drain::within(Duration::from_secs(2)).close(CloseCode(4000), "over").expect("valid");
            assert_eq!(handle.drain(drain), DrainReport::default(), "it does not wait here");
        }
    });
    let report = report.expect("no error").drained.expect("it was drained");
    assert_eq!((told, report.idle + report.busy, total(report)), (3, 3, 3), "{report}");
    clients.into_iter().for_each(|client| assert_eq!(client.join().expect("closed"), 4000));
}

/// A handshake that is under way is completed, told, and closed like the others.
#[test]
fn an_opening_handshake_under_way_is_completed() {
    each_setting(|mode, workers| {
        let (server, events) = telling(mode, workers);
        let mut slow = Client::tcp(server.local_addr());
        let request = common::request("/", "");
        slow.send(&request.as_bytes()[..20]);
        eventually("it is accepted", || server.handle().connections() == 1);
        let drain = drain(&server.handle(), Duration::from_secs(2));
        wait_until_refused(server.local_addr());
        slow.send(&request.as_bytes()[20..]);
        assert!(slow.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(slow.expect_frame(), Frame::text("drain"));
        slow.answer_close(1012);
        let report = drain.join().expect("drained");
        assert_eq!((report.idle, total(report)), (1, 1), "{report}");
        drop(server);
        events.into_iter().for_each(|events| events.join().expect("no panic"));
    });
}

#[test]
fn an_opening_handshake_that_does_not_come_to_an_end_is_refused() {
    for workers in [1, 2] {
        common::logged::install();
        let server = Server::builder().workers(workers).serve("127.0.0.1:0", |_| Echo).expect("a server");
        let mut slow = Client::tcp(server.local_addr());
        slow.send(b"GET / HTTP/1.1\r\n");
        eventually("it is accepted", || server.handle().connections() == 1);
        let drain = drain(&server.handle(), Duration::from_secs(2));
        assert_eq!(slow.status(), 503);
        assert_eq!(total(drain.join().expect("drained")), 0);
    }
}

/// What is left is closed at once, and with the code of the drain.
#[test]
fn a_shutdown_ends_a_drain() {
    each_setting(|mode, workers| {
        let app = App::start(mode, Server::builder().workers(workers), echo);
        let mut clients: Vec<_> = (0..5).map(|_| Client::open(app.addr)).collect();
        (0..5).for_each(|_| drop(app.opened()));
        // They are busy, so that their turn does not come.
        let message = text("a message");
        clients.iter_mut().for_each(|client| client.send(&message[..3]));
        let start = Instant::now();
        let drain = drain(&app.handle(), 10 * DEADLINE);
        wait_until_refused(app.addr);
        let close = |client| complete_and_close(client, &message[3..], 1012);
        let clients: Vec<_> = clients.into_iter().map(close).collect();
        let ended = app.handle().shutdown(DEADLINE);
        join_all(clients);
        let report = drain.join().expect("drained");
        assert_eq!((ended.clean, ended.drained, total(report)), (5, Some(report), 5));
        assert!(start.elapsed() < DEADLINE);
        app.finish();
    });
}

#[test]
fn the_earlier_of_two_deadlines_holds() {
    each_setting(|mode, workers| {
        let app = App::start(mode, Server::builder().workers(workers), echo);
        let clients: Vec<_> = (0..5).map(|_| wait_for_close(Client::open(app.addr), 1012)).collect();
        (0..5).for_each(|_| drop(app.opened()));
        let start = Instant::now();
        let first = drain(&app.handle(), 10 * DEADLINE);
        wait_until_refused(app.addr);
        let second = drain(&app.handle(), Duration::from_secs(2));
        join_all(clients);
        let reports = [first, second].map(|drain| drain.join().expect("drained"));
        assert_eq!(reports[0], reports[1]);
        assert_eq!((reports[0].idle, total(reports[0])), (5, 5), "{}", reports[0]);
        assert!(start.elapsed() < DEADLINE);
        app.finish();
    });
}

#[test]
fn without_time_all_are_cut() {
    each_setting(|mode, workers| {
        let app = App::start(mode, Server::builder().workers(workers), echo);
        let clients: Vec<_> = (0..5).map(|_| Client::open(app.addr)).collect();
        (0..5).for_each(|_| drop(app.opened()));
        let report = app.handle().drain(Duration::ZERO);
        assert_eq!(total(report), 5, "{report}");
        drop(clients);
        app.finish();
    });
}

/// A client that reconnects finds the successor, which has the same listener.
#[test]
fn r_24_a_reconnecting_client_comes_back_to_the_successor() {
    common::logged::install();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let serve = || {
        let listener = listener.try_clone().expect("a listener");
        Server::builder().workers(1).serve(listener, |_| Echo).expect("a server")
    };
    let old = serve();
    let quick = || Reconnect::new().initial_delay(Duration::from_millis(10)).max_delay(Duration::from_millis(100));
    let clients: Vec<_> =
        (0..5).map(|_| threadbare::Client::builder().reconnect(&url, quick()).expect("a client")).collect();
    for client in &clients {
        client.wait_state(DEADLINE, |state| state.is_connected()).expect("connected");
    }
    eventually("all are established", || old.stats().traffic.opened == 5);
    let new = serve();
    // Nobody receives, so that the clients answer a close after 500 ms.
    let report = old.drain(Duration::from_secs(4));
    assert_eq!((report.idle, total(report)), (5, 5), "{report}");
    for client in &clients {
        client.send("hello").expect("it waits for the connection");
        assert_eq!(client.recv_timeout(DEADLINE).expect("an echo"), Some(Message::from("hello")));
    }
    assert_eq!(new.stats().traffic.opened, 5);
}

#[cfg(unix)]
#[test]
fn all_listeners_are_closed() {
    use common::sockets::{TestDir, address, url};
    use threadbare::Listener;

    common::logged::install();
    let dir = TestDir::new();
    let path = dir.join("socket");
    let listeners = [Listener::from("127.0.0.1:0"), Listener::from(address(&path).as_str())];
    let server = Server::builder().workers(2).serve(listeners, |_| Echo).expect("a server");
    let tcp = format!("ws://{}/", server.local_addr());
    let (log, closed) = unbounded();
    let connect = |url: &str, log: Sender<u16>| {
        let client = threadbare::Client::connect(url).expect("connects");
        thread::spawn(move || {
            while client.recv().is_ok_and(|message| message.is_some()) {}
            log.send(client.close_reason().expect("closed").code.0).expect("the test");
        })
    };
    let threads = [connect(&tcp, log.clone()), connect(&url(&path), log)];
    eventually("both are established", || server.stats().traffic.opened == 2);
    let report = server.drain(Duration::from_secs(2));
    assert_eq!((report.idle, total(report)), (2, 2), "{report}");
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(closed.iter().collect::<Vec<_>>(), [1012, 1012]);
    assert!(threadbare::Client::connect(&url(&path)).is_err() && TcpStream::connect(server.local_addr()).is_err());
    assert!(!path.exists(), "the file is removed");
}

/// There is no room for the events of another connection, because nobody receives those of the first.
#[test]
fn a_connection_that_is_held_back_is_closed_like_the_others() {
    common::logged::install();
    let config = Config::default().max_event_buffer_size(1);
    let server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let first = Client::open(server.local_addr());
    eventually("the first is established", || server.stats().traffic.opened == 1);
    let held_back = Client::open(server.local_addr());
    let drain = drain(&server.handle(), Duration::from_secs(2));
    join_all([first, held_back].into_iter().map(|client| wait_for_close(client, 1012)).collect());
    assert_eq!(total(drain.join().expect("drained")), 2);
}

#[test]
fn what_a_close_frame_must_not_have_is_refused() {
    let drain = Drain::within(Duration::from_secs(1));
    assert!(drain.clone().close(CloseCode(1005), "").is_err());
    assert!(drain.clone().close(CloseCode(4000), "x".repeat(124)).is_err());
    assert!(drain.close(CloseCode(4000), "x".repeat(123)).is_ok());
    let report = Arc::new(DrainReport::default()).to_string();
    assert!(report.contains("0 were cut"), "{report}");
}
