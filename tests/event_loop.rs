//! `EventLoop` and `ClientLoop`: servers and clients that the application's thread runs, without a thread of the library.

use crate::common;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::app::panic_quietly;
use common::client_group::ClientGroup;
use common::http::send_request;
use common::servers::echo_server;
use common::{Client, DEADLINE, Frame, binary, close, masked, request, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Accept, BuildError, Client as ThreadedClient, ClientLoop, ClientPool, CloseCause, CloseCode, Config, EventLoop,
    EventRef, MessageRef, Peer, Pending, Request, Response, SendError, Server, ServerBuilder, ServerHandle,
    ShutdownReport, SlowConsumer, Socket,
};

fn bind(builder: ServerBuilder) -> EventLoop {
    builder.bind_inline("127.0.0.1:0").expect("a server")
}

/// Sends messages back, and ignores errors.
fn echo(event: EventRef<'_>) {
    if let EventRef::Message(peer, message) = event {
        let _ = peer.send(message); // the peer may be gone
    }
}

/// Shuts a server down when it is dropped, so that a client that fails ends the test.
struct ShutdownOnDrop(ServerHandle);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        self.0.shutdown(Duration::from_millis(200));
    }
}

/// Runs `client` on another thread, and then shuts the server down.
fn spawn_client<T: Send + 'static>(
    event_loop: &EventLoop,
    client: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let end = ShutdownOnDrop(event_loop.handle());
    thread::spawn(move || {
        let _end = end;
        client()
    })
}

/// Polls until `condition` holds.
fn poll_until(event_loop: &mut EventLoop, mut on_event: impl FnMut(EventRef<'_>), mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "timed out");
        event_loop.poll(Duration::from_millis(50), &mut on_event).expect("a poll");
    }
}

/// Accepts a client, and returns its peer.
fn open(event_loop: &mut EventLoop) -> (Client, Peer) {
    let addr = event_loop.local_addr();
    let client = thread::spawn(move || Client::open(addr));
    let mut opened = None;
    while opened.is_none() {
        event_loop
            .poll(DEADLINE, |event| {
                if let EventRef::Open(peer, _) = event {
                    opened = Some(peer.clone());
                }
            })
            .expect("a poll");
    }
    // The 101 has been sent, so the client's thread ends.
    (client.join().expect("a client"), opened.expect("a peer"))
}

#[test]
fn every_message_is_echoed_in_order() {
    let mut event_loop = bind(Server::builder());
    let addr = event_loop.local_addr();
    let client = spawn_client(&event_loop, move || {
        let mut client = Client::open(addr);
        client.send(&[text("one"), binary(b"two"), text("")].concat());
        assert_eq!(client.expect_frame(), Frame::text("one"));
        assert_eq!(client.expect_frame(), Frame::binary(b"two"));
        assert_eq!(client.expect_frame(), Frame::text(""));
        // A message larger than the buffers, a fragmented one, and many at once.
        let large = vec![7; 900_000];
        client.send(&binary(&large));
        assert_eq!(client.expect_frame(), Frame::binary(&large));
        client.send(&masked(false, 0, Opcode::Text, b"frag"));
        client.send(&masked(true, 0, Opcode::Continuation, b"ment"));
        assert_eq!(client.expect_frame(), Frame::text("fragment"));
        let many: Vec<_> = (0..2000).flat_map(|number| text(&number.to_string())).collect();
        client.send(&many);
        for number in 0..2000 {
            assert_eq!(client.expect_frame(), Frame::text(&number.to_string()));
        }
        client.send(&close(1000));
        client.expect_close(1000);
    });
    let mut closes = Vec::new();
    let report = event_loop
        .run(|event| match event {
            EventRef::Close(peer, reason) => closes.push((peer.id(), reason.code, reason.cause)),
            event => echo(event),
        })
        .expect("no error");
    client.join().expect("the client");
    assert_eq!(closes.len(), 1, "{closes:?}");
    assert_eq!((closes[0].1, closes[0].2), (CloseCode::NORMAL_CLOSURE, CloseCause::Peer));
    assert_eq!(report, ShutdownReport::default(), "no connection was open at the shutdown");
    assert!(event_loop.is_finished());
    assert_eq!(event_loop.poll(None, echo).expect("no error"), 0, "a finished loop does not wait");
}

#[test]
fn a_poll_returns_its_number_of_events_within_its_timeout() {
    let mut event_loop = bind(Server::builder());
    let start = Instant::now();
    assert_eq!(event_loop.poll(Duration::ZERO, echo).expect("a poll"), 0);
    let timeout = Duration::from_millis(30);
    while start.elapsed() < timeout {
        assert_eq!(event_loop.poll(timeout.saturating_sub(start.elapsed()), echo).expect("a poll"), 0);
    }
    let (mut client, peer) = open(&mut event_loop);
    client.send(&[text("a"), text("b"), close(1000)].concat());
    let (mut count, mut events) = (0, Vec::new());
    while events.len() < 3 {
        count += event_loop
            .poll(DEADLINE, |event| {
                assert_eq!(event.peer(), &peer);
                events.push(match event {
                    EventRef::Message(_, message) => message.as_message().as_text().expect("text").to_owned(),
                    EventRef::Close(_, reason) => reason.code.to_string(),
                    other => panic!("{other:?}"),
                });
            })
            .expect("a poll");
    }
    assert_eq!((count, events[0].as_str(), events[1].as_str()), (3, "a", "b"));
    assert!(events[2].starts_with("1000"), "{events:?}");
}

#[test]
fn the_next_deadline_is_that_of_the_next_ping() {
    const INTERVAL: Duration = Duration::from_millis(80);
    let config = Config::default().ping_interval(INTERVAL).pong_timeout(INTERVAL);
    let mut event_loop = bind(Server::builder().config(config));
    assert_eq!(event_loop.next_deadline(), None, "nothing is due");
    let (mut client, _) = open(&mut event_loop);
    let pinged = thread::spawn(move || {
        assert_eq!(client.expect_frame().opcode, Opcode::Ping);
        client // it is open until the loop below has ended
    });
    let mut clock = mio::Poll::new().expect("a poll");
    let mut events = mio::Events::with_capacity(1);
    while !pinged.is_finished() {
        // This poll has no sockets: only the deadline ends it.
        let due = event_loop.next_deadline().expect("a ping is due");
        clock.poll(&mut events, Some(due.saturating_duration_since(Instant::now()))).expect("a poll");
        event_loop.poll(Duration::ZERO, echo).expect("a poll");
    }
    drop(pinged.join().expect("a ping"));
}

#[test]
fn three_hundred_connections_are_served_by_one_thread() {
    const CLIENTS: usize = 300;
    let mut event_loop = bind(Server::builder());
    let addr = event_loop.local_addr();
    let clients = spawn_client(&event_loop, move || {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(addr)).collect();
        for round in 0..3 {
            clients.iter_mut().for_each(|client| client.send(&text(&round.to_string())));
            for client in &mut clients {
                assert_eq!(client.expect_frame(), Frame::text(&round.to_string()));
            }
        }
        clients
    });
    let mut peers = HashSet::new();
    let report = event_loop
        .run(|event| match event {
            EventRef::Open(peer, _) => assert!(peers.insert(peer.id()), "opened twice"),
            EventRef::Close(peer, _) => assert!(peers.remove(&peer.id()), "closed twice"),
            event => echo(event),
        })
        .expect("no error");
    assert_eq!(peers.len(), 0, "every connection was closed");
    assert_eq!(report.clean + report.forced, CLIENTS);
    drop(clients.join().expect("the clients"));
}

#[test]
fn hooks_decide_and_plain_http_is_answered() {
    let (sender, deferred) = crossbeam_channel::unbounded::<Pending>();
    let deciding_thread = thread::spawn(move || deferred.into_iter().for_each(|pending| pending.accept(Accept::new())));
    let deferring = Server::builder().on_request_deferred(move |request, pending| match request.path() {
        "/no" => pending.reject(Response::new(404)),
        _ => sender.send(pending).expect("the other thread decides"),
    });
    let deciding = Server::builder()
        .on_request(|request| if request.path() == "/no" { Err(Response::new(404)) } else { Ok(Accept::new()) })
        .http(|request| Response::new(200).text(request.path()));
    for (builder, http) in [(deciding, 200), (deferring, 426)] {
        let mut event_loop = bind(builder);
        let addr = event_loop.local_addr();
        let client = spawn_client(&event_loop, move || {
            let mut refused = Client::tcp(addr);
            refused.send(request("/no", "").as_bytes());
            assert_eq!(refused.status(), 404);
            assert_eq!(
                send_request(addr, "GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status,
                http
            );
            let mut accepted = Client::open(addr);
            accepted.send(&text("hello"));
            assert_eq!(accepted.expect_frame(), Frame::text("hello"));
        });
        event_loop.run(echo).expect("no error");
        client.join().expect("the client");
    }
    deciding_thread.join().expect("no panic");
}

#[test]
fn a_shutdown_from_another_thread_wakes_the_loop_and_waits_for_its_end() {
    let mut event_loop = bind(Server::builder().config(Config::default().ping_interval(None)));
    let (mut client, _) = open(&mut event_loop);
    let handle = event_loop.handle();
    let other = thread::spawn(move || {
        let report = handle.shutdown(DEADLINE);
        (report, Instant::now())
    });
    let closing = thread::spawn(move || {
        client.answer_close(1001);
    });
    let mut reasons = Vec::new();
    let report = event_loop
        .run(|event| {
            if let EventRef::Close(_, reason) = event {
                reasons.push(reason.cause);
            }
        })
        .expect("no error");
    assert_eq!((report.clean, report.forced), (1, 0));
    assert_eq!(reasons, [CloseCause::Local]);
    assert_eq!(other.join().expect("no panic").0, report);
    closing.join().expect("the client");
}

#[test]
fn a_shutdown_from_the_closure_does_not_wait() {
    let mut event_loop = bind(Server::builder());
    let handle = event_loop.handle();
    let (mut client, _) = open(&mut event_loop);
    client.send(&text("stop"));
    let closing = thread::spawn(move || {
        assert_eq!(client.expect_frame(), Frame::text("stop"), "the answer is sent before the close frame");
        client.answer_close(1001);
    });
    let report = event_loop
        .run(|event| {
            if let EventRef::Message(peer, message) = event {
                peer.send(message).expect("the connection is open");
                assert_eq!(handle.shutdown(DEADLINE), ShutdownReport::default());
                handle.join();
            }
        })
        .expect("no error");
    assert_eq!((report.clean, report.forced), (1, 0));
    closing.join().expect("the client");
}

/// The thread that would wait is the one that must poll.
#[test]
fn a_shutdown_between_two_polls_does_not_wait() {
    let mut event_loop = bind(Server::builder());
    let (client, _) = open(&mut event_loop);
    assert_eq!(event_loop.handle().shutdown(Duration::from_millis(1)), ShutdownReport::default());
    let report = event_loop.run(|_| {}).expect("no error");
    assert_eq!((report.clean, report.forced), (0, 1), "the client did not answer");
    assert_eq!(event_loop.shutdown(DEADLINE), report, "both return the same report");
    drop(client);
}

#[test]
fn dropping_the_loop_closes_its_connections_within_its_bound() {
    let config = Config::default().drop_timeout(Duration::from_millis(200));
    let mut event_loop = bind(Server::builder().config(config));
    let (mut answering, _) = open(&mut event_loop);
    let (mut silent, peer) = open(&mut event_loop);
    let closing = thread::spawn(move || {
        answering.answer_close(1001);
    });
    let start = Instant::now();
    drop(event_loop);
    assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    closing.join().expect("the client");
    assert_eq!(silent.expect_frame().close_code(), 1001);
    assert!(silent.try_read().is_err(), "a reset");
    assert!(matches!(peer.send("gone"), Err(SendError::Disconnected(_))));
}

#[test]
fn other_threads_send_and_wake_a_loop_that_waits() {
    let mut event_loop = bind(Server::builder().config(Config::default().ping_interval(None)));
    let (mut client, peer) = open(&mut event_loop);
    let handle = event_loop.handle();
    let other = spawn_client(&event_loop, move || {
        for number in 0..200 {
            peer.send(number.to_string()).expect("the connection is open");
            assert_eq!(client.expect_frame(), Frame::text(&number.to_string()));
        }
        handle.broadcast("all");
        assert_eq!(client.expect_frame(), Frame::text("all"));
    });
    event_loop.run(|_| {}).expect("no error");
    other.join().expect("the other thread");
}

#[test]
fn messages_that_the_same_thread_sends_between_two_polls_are_written_by_the_next() {
    let mut event_loop = bind(Server::builder());
    let (mut client, peer) = open(&mut event_loop);
    for number in 0..20 {
        peer.send(number.to_string()).expect("the connection is open");
        event_loop.poll(Duration::ZERO, echo).expect("a poll");
        assert_eq!(client.expect_frame(), Frame::text(&number.to_string()));
    }
}

/// The loop reads no more than it can answer.
#[test]
fn an_echo_to_a_slow_reader_never_fills_the_send_queue() {
    const MESSAGES: usize = 3000;
    for size in [1000, 40_000] {
        let config = Config::default().max_write_buffer_size(100_000);
        let mut event_loop = bind(Server::builder().config(config));
        let addr = event_loop.local_addr();
        let client = spawn_client(&event_loop, move || {
            let mut client = Client::open_with_small_buffer(addr);
            let mut writer = Client::from_stream(client.stream.try_clone().expect("a socket"));
            let messages = MESSAGES * 1000 / size;
            let writes = thread::spawn(move || {
                for number in 0..messages {
                    writer.send(&binary(&vec![number as u8; size]));
                }
            });
            for number in 0..messages {
                assert_eq!(client.expect_frame(), Frame::binary(&vec![number as u8; size]), "{number}");
            }
            writes.join().expect("the writer");
        });
        event_loop
            .run(|event| {
                if let EventRef::Message(peer, message) = event {
                    peer.send(message).expect("the queue has room");
                }
            })
            .expect("no error");
        client.join().expect("the client");
    }
}

/// Sends to `peer`, whose client does not read, until a message is not queued. Returns the result of that send, and the
/// number of messages that were queued.
fn fill(event_loop: &mut EventLoop, peer: &Peer) -> (Result<(), SendError<threadbare::Message>>, u64) {
    let payload = vec![0; 50_000];
    let before = peer.stats().dropped;
    for count in 0..10_000 {
        let sent = peer.send(&payload[..]);
        if sent.is_err() || peer.stats().dropped > before {
            return (sent, count);
        }
        if count % 2 == 0 {
            event_loop.poll(Duration::ZERO, |_| {}).expect("a poll");
        }
    }
    panic!("the send queue does not fill");
}

#[test]
fn a_send_to_a_full_queue_does_not_block_the_loops_thread() {
    for policy in [SlowConsumer::Block, SlowConsumer::Refuse, SlowConsumer::Drop, SlowConsumer::Disconnect] {
        let config = Config::default().max_write_buffer_size(100_000).slow_consumer(policy);
        let mut event_loop = bind(Server::builder().config(config));
        let addr = event_loop.local_addr();
        let client = thread::spawn(move || Client::open_with_small_buffer(addr));
        let mut peer = None;
        while peer.is_none() {
            let on_event = |event: EventRef<'_>| peer = Some(event.peer().clone());
            event_loop.poll(DEADLINE, on_event).expect("a poll");
        }
        let (mut client, peer) = (client.join().expect("a client"), peer.expect("a peer"));
        let (sent, accepted) = fill(&mut event_loop, &peer);
        assert!(accepted > 1, "{policy:?}: {accepted}");
        match policy {
            SlowConsumer::Drop => {
                assert_eq!(sent, Ok(()));
                assert_eq!(peer.stats().dropped, 1);
            }
            SlowConsumer::Disconnect => {
                assert!(matches!(sent, Err(SendError::Disconnected(_))), "{sent:?}");
                let reader = thread::spawn(move || {
                    let last = std::iter::from_fn(|| client.frame()).find(|frame| frame.opcode == Opcode::Close);
                    last.expect("a close frame").close_code()
                });
                poll_until(&mut event_loop, |_| {}, || reader.is_finished());
                assert_eq!(reader.join().expect("the client"), 1008);
            }
            _ => {
                assert!(matches!(sent, Err(SendError::Full(_))), "{policy:?}: {sent:?}");
                let start = Instant::now();
                peer.send_timeout("later", DEADLINE).expect_err("the queue is full");
                assert!(start.elapsed() < DEADLINE / 2);
            }
        }
    }
}

#[test]
fn a_panic_in_the_closure_loses_only_its_event() {
    let mut event_loop = bind(Server::builder());
    let (mut client, _) = open(&mut event_loop);
    let (mut other_client, _) = open(&mut event_loop);
    for round in 0..5 {
        client.send(&[text("before"), text("panic"), text("after")].concat());
        other_client.send(&text("other"));
        let mut panics = 0;
        let mut answered = 0;
        let start = Instant::now();
        while answered < 3 {
            assert!(start.elapsed() < DEADLINE);
            let polled = catch_unwind(AssertUnwindSafe(|| {
                event_loop.poll(DEADLINE, |event| {
                    let EventRef::Message(peer, message) = event else { panic!("{event:?}") };
                    if message.as_message() == MessageRef::Text("panic") {
                        panic_quietly();
                    }
                    answered += 1;
                    peer.send(message).expect("the connection is open");
                })
            }));
            panics += usize::from(polled.is_err());
        }
        assert_eq!(panics, 1, "in round {round}");
        assert_eq!(client.expect_frame(), Frame::text("before"));
        assert_eq!(client.expect_frame(), Frame::text("after"));
        assert_eq!(other_client.expect_frame(), Frame::text("other"));
    }
    // This thread can wait for the end of another server, and shut down its own.
    let other = echo_server(Server::builder());
    other.handle.shutdown(DEADLINE);
    assert_eq!(event_loop.shutdown(Duration::from_millis(1)).forced, 2);
}

/// A connection whose messages wait for room among the events goes on, though each event's closure panics.
#[test]
fn a_panic_with_the_last_event_keeps_no_connection_waiting() {
    const MESSAGES: usize = 50;
    let config = Config::default().max_event_buffer_size(300).ping_interval(None);
    let mut event_loop = bind(Server::builder().config(config));
    let (mut client, _) = open(&mut event_loop);
    client.send(&text("again").repeat(MESSAGES));
    let mut messages = 0;
    let start = Instant::now();
    while messages < MESSAGES {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            event_loop.poll(DEADLINE, |_| {
                messages += 1;
                panic_quietly();
            })
        }));
        assert!(start.elapsed() < DEADLINE, "{messages} messages, {polled:?}");
    }
}

/// The pongs that a slow reader asks for take room in its queue, too.
#[test]
fn pings_do_not_fill_the_send_queue_ahead_of_an_echo() {
    let config = Config::default().max_write_buffer_size(100_000).ping_interval(None);
    let mut event_loop = bind(Server::builder().config(config));
    let addr = event_loop.local_addr();
    let writer = spawn_client(&event_loop, move || {
        use std::io::Write;
        let client = Client::open_with_small_buffer(addr);
        client.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
        let pings = [binary(&[1, 2, 3]), common::ping(&[7; 125]).repeat(10)].concat();
        // Until the server stops reading, as nothing is read here.
        while (&client.stream).write_all(&pings).is_ok() {}
    });
    let mut echoed = 0;
    event_loop
        .run(|event| {
            if let EventRef::Message(peer, message) = event {
                peer.send(message).expect("there is room");
                echoed += 1;
            }
        })
        .expect("no error");
    writer.join().expect("the client");
    assert!(echoed > 0);
}

#[test]
fn workers_and_channels_other_than_one_are_refused() {
    for (builder, word) in [
        (Server::builder().workers(2), "workers is 2, but must be 1 for an event loop"),
        (Server::builder().workers(0), "workers is 0, but must be 1 for an event loop"),
        (Server::builder().channels(3), "channels is 3, but must be 1 for an event loop"),
    ] {
        match builder.bind_inline("127.0.0.1:0") {
            Err(BuildError::Config(error)) => assert!(error.to_string().starts_with(word), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    Server::builder().workers(1).channels(1).bind_inline("127.0.0.1:0").expect("one of each");
}

/// They are refused before anything is made: so many would take all memory, or all threads.
#[test]
fn more_than_1024_workers_or_channels_are_refused() {
    let said = |built: Result<(), BuildError>| match built {
        Err(BuildError::Config(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for count in [0, 1025, 70_000, usize::MAX] {
        let needed = format!("is {count}, but must be 1 to 1024");
        let bound = Server::builder().workers(1).channels(count).bind("127.0.0.1:0");
        assert_eq!(said(bound.map(drop)), format!("channels {needed}"));
        let bound = Server::builder().workers(count).bind("127.0.0.1:0");
        assert_eq!(said(bound.map(drop)), format!("workers {needed}"));
        assert_eq!(said(ClientPool::new(count, Config::default()).map(drop)), format!("workers {needed}"));
    }
}

#[test]
fn a_server_with_handlers_refuses_channels_which_it_has_not() {
    let make = |_: &Request| |_: &mut Socket<'_>, _: MessageRef<'_>| {};
    match Server::builder().channels(3).serve("127.0.0.1:0", make) {
        Err(BuildError::Config(error)) => {
            let said = "channels is 3, but must be 1 for a server with handlers: it has no channels";
            assert_eq!(error.to_string(), said);
        }
        other => panic!("{other:?}"),
    }
}

/// The loop's descriptor in another poll, which is edge-triggered.
#[cfg(unix)]
mod nested {
    use std::os::fd::{AsFd, AsRawFd};

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    use super::*;

    struct Nested {
        poll: Poll,
        events: Events,
        event_loop: EventLoop,
    }

    impl Nested {
        fn new(event_loop: EventLoop) -> Nested {
            let poll = Poll::new().expect("a poll");
            assert_eq!(event_loop.as_raw_fd(), event_loop.as_fd().as_raw_fd());
            let fd = event_loop.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), Token(7), Interest::READABLE).expect("registers");
            Nested { poll, events: Events::with_capacity(4), event_loop }
        }

        /// Polls the loop each time that its descriptor is reported, until `is_over`.
        fn run_until(&mut self, mut on_event: impl FnMut(EventRef<'_>), mut is_over: impl FnMut(&EventLoop) -> bool) {
            while !is_over(&self.event_loop) {
                // On other systems the descriptor does not report the loop's deadlines.
                let timeout = if cfg!(target_os = "linux") {
                    DEADLINE
                } else {
                    let due = self.event_loop.next_deadline().map(|due| due.saturating_duration_since(Instant::now()));
                    due.unwrap_or(DEADLINE).min(DEADLINE)
                };
                self.poll.poll(&mut self.events, Some(timeout)).expect("a poll");
                assert!(timeout < DEADLINE || !self.events.is_empty(), "no event was reported");
                self.event_loop.poll(Duration::ZERO, &mut on_event).expect("a poll");
            }
        }
    }

    #[test]
    fn no_readiness_of_a_nested_loop_is_lost() {
        // More clients than one poll of the loop reports.
        const CLIENTS: usize = 300;
        let mut nested = Nested::new(bind(Server::builder().config(Config::default().ping_interval(None))));
        let addr = nested.event_loop.local_addr();
        let end = ShutdownOnDrop(nested.event_loop.handle());
        let clients = thread::spawn(move || {
            let _end = end;
            let mut group = ClientGroup::new();
            group.connect(addr, CLIENTS);
            group.send(request("/", "").as_bytes());
            group.wait_for("upgrades", CLIENTS, |client| client.status() == Some(101));
            let head = group.clients[0].received.len();
            for round in 1..=20 {
                group.send(&text("hello"));
                // An echo is a header of two bytes and the text.
                group.wait_for("echoes", CLIENTS, |client| client.received.len() == head + round * 7);
            }
        });
        nested.run_until(echo, EventLoop::is_finished);
        clients.join().expect("the clients");
    }

    #[test]
    fn large_messages_pass_through_a_nested_loop() {
        let mut nested = Nested::new(bind(Server::builder().config(Config::default().ping_interval(None))));
        let addr = nested.event_loop.local_addr();
        let client = spawn_client(&nested.event_loop, move || {
            let mut client = Client::open(addr);
            let large = vec![3; 1 << 20];
            // Many small messages, which need several iterations of the event loop.
            let many: Vec<_> = (0..3000).flat_map(|_| text("x")).collect();
            for _ in 0..5 {
                client.send(&binary(&large));
                assert_eq!(client.expect_frame(), Frame::binary(&large));
                client.send(&many);
                (0..3000).for_each(|_| assert_eq!(client.expect_frame(), Frame::text("x")));
            }
        });
        nested.run_until(echo, EventLoop::is_finished);
        client.join().expect("the client");
    }

    #[test]
    fn a_deadline_makes_the_descriptor_readable() {
        const INTERVAL: Duration = Duration::from_millis(60);
        // Long enough for a pong of this client on a busy machine.
        const PONG_TIMEOUT: Duration = Duration::from_secs(1);
        let config = Config::default().ping_interval(INTERVAL).pong_timeout(PONG_TIMEOUT);
        let mut nested = Nested::new(bind(Server::builder().config(config).workers(1)));
        let addr = nested.event_loop.local_addr();
        let handle = nested.event_loop.handle();
        let client = thread::spawn(move || {
            let mut client = Client::open(addr);
            for _ in 0..3 {
                let ping = client.expect_frame();
                assert_eq!(ping.opcode, Opcode::Ping);
                client.send(&masked(true, 0, Opcode::Pong, &ping.payload));
            }
            // The client does not answer the next one.
            assert_eq!(client.expect_frame().opcode, Opcode::Ping);
            assert!(client.try_read().is_err(), "a reset");
        });
        let mut cause = None;
        let closed = AtomicBool::new(false);
        let on_event = |event: EventRef<'_>| {
            if let EventRef::Close(_, reason) = event {
                cause = Some(reason.cause);
                closed.store(true, Ordering::SeqCst);
            }
        };
        nested.run_until(on_event, |_| closed.load(Ordering::SeqCst));
        assert_eq!(cause, Some(CloseCause::TimedOut));
        client.join().expect("the client");
        assert_eq!(handle.shutdown(Duration::ZERO), ShutdownReport::default());
        nested.run_until(|_| {}, EventLoop::is_finished);
    }

    #[test]
    fn sends_between_two_polls_make_the_descriptor_readable() {
        let mut nested = Nested::new(bind(Server::builder().config(Config::default().ping_interval(None))));
        let addr = nested.event_loop.local_addr();
        let client = thread::spawn(move || {
            let mut client = Client::open(addr);
            (0..100).for_each(|number| assert_eq!(client.expect_frame(), Frame::text(&f64::from(number).to_string())));
        });
        let mut peer = None;
        let opened = AtomicBool::new(false);
        let on_event = |event: EventRef<'_>| {
            peer = Some(event.peer().clone());
            opened.store(true, Ordering::SeqCst);
        };
        nested.run_until(on_event, |_| opened.load(Ordering::SeqCst));
        let peer = peer.expect("a peer");
        for number in 0..100 {
            peer.send(f64::from(number).to_string()).expect("the connection is open");
            // The descriptor must be reported at least once: nothing else makes it readable.
            let mut iterations = 0;
            nested.run_until(
                |_| {},
                |_| {
                    iterations += 1;
                    iterations > 1 && peer.queued_bytes() == 0
                },
            );
        }
        client.join().expect("the client");
    }

    #[test]
    fn events_after_a_panic_make_the_descriptor_readable() {
        let mut nested = Nested::new(bind(Server::builder().config(Config::default().ping_interval(None))));
        let addr = nested.event_loop.local_addr();
        let client = spawn_client(&nested.event_loop, move || {
            let mut client = Client::open(addr);
            client.send(&[text("panic"), text("after")].concat());
            assert_eq!(client.expect_frame(), Frame::text("after"));
        });
        let panics = AtomicUsize::new(0);
        while !nested.event_loop.is_finished() {
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let on_event = |event: EventRef<'_>| {
                    if let EventRef::Message(peer, message) = event {
                        if message.as_message() == MessageRef::Text("panic") {
                            panics.fetch_add(1, Ordering::SeqCst);
                            panic_quietly();
                        }
                        peer.send(message).expect("the connection is open");
                    }
                };
                nested.run_until(on_event, EventLoop::is_finished);
            }));
        }
        client.join().expect("the client");
        assert_eq!(panics.into_inner(), 1);
    }
}

#[test]
fn clients_of_one_loop_receive_their_own_messages() {
    let server = echo_server(Server::builder());
    let url = format!("ws://{}/path", server.addr);
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    assert_eq!(client_loop.poll(Duration::ZERO, |event| panic!("{event:?}")).expect("a poll"), 0);
    let builder = ThreadedClient::builder();
    let peers: Vec<_> =
        (0..20).map(|_| builder.connect_inline(&url, &mut client_loop).expect("a connection")).collect();
    assert_eq!(client_loop.connections(), peers.len());
    #[cfg(unix)]
    {
        use std::os::fd::{AsFd, AsRawFd};
        assert_eq!(client_loop.as_raw_fd(), client_loop.as_fd().as_raw_fd());
    }
    for (number, peer) in peers.iter().enumerate() {
        peer.send(number.to_string()).expect("the connection is open");
    }
    let (mut opened, mut received, mut closed) = (Vec::new(), HashSet::new(), 0);
    client_loop
        .run(|event| match event {
            EventRef::Open(peer, request) => {
                assert_eq!(request.path(), "/path");
                opened.push(peer.clone());
            }
            EventRef::Message(peer, message) => {
                let number = peers.iter().position(|known| known == peer).expect("a peer");
                assert_eq!(message.as_message().as_text(), Some(number.to_string().as_str()));
                assert!(received.insert(number));
                peer.close(CloseCode::NORMAL_CLOSURE, "done").expect("the connection is open");
            }
            EventRef::Close(_, reason) => {
                assert_eq!((reason.code, reason.cause), (CloseCode::NORMAL_CLOSURE, CloseCause::Local));
                closed += 1;
            }
            other => panic!("{other:?}"),
        })
        .expect("no error");
    assert_eq!(opened, peers);
    assert_eq!((received.len(), closed, client_loop.connections()), (20, 20, 0));
    assert!(!peers[0].is_open());
    // The loop can be used again.
    let again = builder.connect_inline(&url, &mut client_loop).expect("a connection");
    assert!(again.is_open());
    drop(client_loop);
    assert!(!again.is_open());
}

/// A connection's first event is there as soon as it is established, and its server is silent from then on.
#[test]
fn a_poll_does_not_wait_while_there_are_events() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || common::accept(&listener, &[]));
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    ThreadedClient::builder().no_proxy().connect_inline(&url, &mut client_loop).expect("a connection");
    assert!(client_loop.next_deadline().is_some_and(|due| due <= Instant::now()));
    let start = Instant::now();
    let count = client_loop.poll(DEADLINE, |event| assert!(matches!(event, EventRef::Open(..)), "{event:?}"));
    assert_eq!((count.expect("a poll"), start.elapsed() < DEADLINE / 2), (1, true));
    drop(server.join().expect("the server"));
}

/// The closure panics with an event, and the connection of the next ones has ended.
#[test]
fn a_client_loop_runs_until_its_events_are_taken() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || drop(common::accept(&listener, b"\x81\x02hi")));
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    ThreadedClient::builder().no_proxy().connect_inline(&url, &mut client_loop).expect("a connection");
    server.join().expect("the server");
    catch_unwind(AssertUnwindSafe(|| client_loop.run(|_| panic_quietly()))).expect_err("it panics");
    assert_eq!(client_loop.connections(), 0);
    let mut events = Vec::new();
    client_loop.run(|event| events.push(matches!(event, EventRef::Close(..)))).expect("no error");
    assert_eq!(events, [false, true], "the message, and the end");
}

/// A read may bring more messages than their echoes have room for.
#[test]
fn a_burst_is_delivered_as_far_as_its_echo_has_room() {
    const MESSAGES: usize = 60;
    let mut event_loop = bind(Server::builder().config(Config::default().max_write_buffer_size(10_000)));
    let (mut client, _) = open(&mut event_loop);
    // They have arrived before the next poll.
    client.send(&binary(&[7; 1000]).repeat(MESSAGES));
    let mut echoed = 0;
    while echoed < MESSAGES {
        let on_event = |event: EventRef<'_>| {
            if let EventRef::Message(peer, message) = event {
                peer.try_send(message).expect("the queue has room");
                echoed += 1;
            }
        };
        event_loop.poll(DEADLINE, on_event).expect("a poll");
    }
    (0..MESSAGES).for_each(|_| assert_eq!(client.expect_frame(), Frame::binary(&[7; 1000])));
}

/// The send queues of both ends may be full.
#[test]
fn a_client_reads_while_its_send_queue_is_full() {
    const SIZE: usize = 10_000;
    const MESSAGES: usize = 1000;
    let config = Config::default().max_write_buffer_size(50_000);
    let server = echo_server(Server::builder().config(config.clone()));
    let mut client_loop = ClientLoop::new(config).expect("a loop");
    let url = format!("ws://{}", server.addr);
    let peer = ThreadedClient::builder().connect_inline(&url, &mut client_loop).expect("a connection");
    let (mut sent, mut received) = (0, 0);
    let start = Instant::now();
    while received < MESSAGES {
        assert!(start.elapsed() < DEADLINE, "{sent} sent, {received} received");
        while sent < MESSAGES && peer.try_send(vec![sent as u8; SIZE]).is_ok() {
            sent += 1;
        }
        client_loop
            .poll(Duration::from_millis(10), |event| {
                if let EventRef::Message(_, message) = event {
                    assert_eq!(message.as_message().as_bytes(), vec![received as u8; SIZE]);
                    received += 1;
                }
            })
            .expect("a poll");
    }
}

#[test]
fn a_dropped_client_loop_closes_with_1001() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        use std::io::{Read, Write};
        let mut stream = common::accept(&listener, &[]);
        let mut frame = [0; 8];
        stream.read_exact(&mut frame).expect("a close frame");
        assert_eq!(frame[0], 0x88, "FIN and the opcode of a close frame");
        let code = [frame[6] ^ frame[2], frame[7] ^ frame[3]];
        stream.write_all(&[0x88, 2, code[0], code[1]]).expect("written");
        u16::from_be_bytes(code)
    });
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    ThreadedClient::builder().connect_inline(&url, &mut client_loop).expect("a connection");
    drop(client_loop);
    assert_eq!(server.join().expect("the server"), 1001);
}

#[test]
fn a_client_that_cannot_connect_does_not_change_its_loop() {
    let addr = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener").local_addr().expect("an address");
    let mut client_loop = ClientLoop::new(Config::default()).expect("a loop");
    ThreadedClient::builder().connect_inline(&format!("ws://{addr}"), &mut client_loop).expect_err("no listener");
    ClientLoop::new(Config::default().max_message_size(0)).expect_err("an invalid setting");
    assert_eq!(client_loop.connections(), 0);
    client_loop.run(|event| panic!("{event:?}")).expect("no error");
}

#[test]
fn r_11_a_shutdown_that_waits_for_a_client_does_not_spin() {
    let mut event_loop = bind(Server::builder().config(Config::default().close_timeout(2 * DEADLINE)));
    let mut silent = Client::tcp(event_loop.local_addr());
    silent.send(request("/", "").as_bytes());
    while event_loop.poll(DEADLINE, |_| {}).expect("a poll") == 0 {}
    // On the thread that runs the loop this does not wait.
    event_loop.handle().shutdown(2 * DEADLINE);
    // What the reactor waits for is over after one second.
    let (start, mut polls) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(1500) {
        event_loop.poll(Duration::from_millis(1500), |_| {}).expect("a poll");
        polls += 1;
    }
    assert!(!event_loop.is_finished(), "the client has not answered");
    assert!(polls < 50, "{polls} polls in 1.5 s");
    drop(silent);
    while !event_loop.is_finished() {
        event_loop.poll(DEADLINE, |_| {}).expect("a poll");
    }
}

#[test]
fn dropping_a_loop_without_connections_does_not_wait() {
    let config = || Config::default().drop_timeout(DEADLINE * 2);
    let start = Instant::now();
    drop(ClientLoop::new(config()).expect("a loop"));
    drop(bind(Server::builder().config(config())));
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
}
