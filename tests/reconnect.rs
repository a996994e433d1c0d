//! `ReconnectingClient`: states, queued messages and the end, over several connections.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use common::app::panic_quietly;
use common::logged::expect_error;
use common::{DEADLINE, accept, chain, eventually};
use crossbeam_channel::Receiver;
use threadbare::{
    Accept, Client, ClientError, ClientPool, CloseCause, CloseCode, Config, ConnectError, ConnectionState, Ended,
    Event, HandshakeError, Jitter, Message, Outage, Peer, Reconnect, ReconnectingClient, Response, SendError,
    SendTimeoutError, Server, TrySendError,
};

/// A port that only this test uses, whether a server listens on it or not.
struct Port {
    addr: SocketAddr,
    /// Bound but not listening: connections are refused, and the kernel gives the port to no other socket.
    _bound: socket2::Socket,
}

impl Port {
    fn new() -> Port {
        let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        bound.set_reuse_address(true).expect("a socket");
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        let addr = bound.local_addr().expect("an address").as_socket().expect("of IP");
        Port { addr, _bound: bound }
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.addr)
    }

    /// Starts a server whose events the test receives.
    fn serve(&self) -> Server {
        Server::builder().workers(1).bind(self.addr).expect("a server")
    }

    /// Starts a client of this port.
    fn client(&self, reconnect: Reconnect) -> ReconnectingClient {
        Client::builder().no_proxy().reconnect(&self.url(), reconnect).expect("a client")
    }
}

/// Delays of at most 50 ms.
fn quick() -> Reconnect {
    common::logged::install();
    Reconnect::new().initial_delay(Duration::from_millis(5)).max_delay(Duration::from_millis(50))
}

/// A first delay of at least half an hour.
fn slow() -> Reconnect {
    Reconnect::new().initial_delay(HOUR).max_delay(HOUR).jitter(Jitter::Equal)
}

const HOUR: Duration = Duration::from_secs(3600);

fn is_waiting(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Waiting { .. })
}

fn wait_connected(client: &ReconnectingClient) {
    client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
}

fn wait_closed(client: &ReconnectingClient) -> Ended {
    match client.wait_state(DEADLINE, ConnectionState::is_closed) {
        Ok(ConnectionState::Closed(ended)) => ended,
        other => panic!("{other:?}"),
    }
}

/// Receives events until a connection opens.
fn opened(server: &Server) -> Peer {
    loop {
        if let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("a connection") {
            return peer;
        }
    }
}

/// Receives events until a message, and returns its text.
fn received(server: &Server) -> String {
    loop {
        if let Event::Message(_, message) = server.recv_timeout(DEADLINE).expect("a message") {
            return message.as_text().expect("text").to_owned();
        }
    }
}

/// A listener that sends no response, and its URL.
fn silent_listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    (listener, url)
}

#[test]
fn a_restarted_server_receives_every_queued_message() {
    let port = Port::new();
    let server = port.serve();
    let subscribe = |session: &threadbare::Session<'_>| {
        session.send(format!("subscribe {}", session.number())).expect("sent");
    };
    let client = port.client(quick().on_connect(subscribe));
    assert_eq!(received(&server), "subscribe 1");
    wait_connected(&client);
    client.send("before").expect("sent");
    assert_eq!(received(&server), "before");
    let queued: Vec<String> = (0..100).map(|n| format!("queued {n}")).collect();
    for round in 2..5 {
        server.handle().shutdown(DEADLINE);
        client.wait_state(DEADLINE, |state| !state.is_connected()).expect("disconnected");
        for message in &queued {
            client.send(message.as_str()).expect("queued");
        }
        assert_eq!(client.queued_bytes(), queued.iter().map(|message| message.len() + 64).sum::<usize>());
        let server = port.serve();
        assert_eq!(received(&server), format!("subscribe {round}"));
        for message in &queued {
            assert_eq!(&received(&server), message);
        }
        wait_connected(&client);
        client.send("after").expect("sent");
        let Event::Message(peer, message) = server.recv_timeout(DEADLINE).expect("a message") else { panic!() };
        assert_eq!(message.as_text(), Some("after"));
        peer.send(format!("welcome {round}")).expect("sent");
        assert_eq!(client.recv_timeout(DEADLINE).expect("received"), Some(Message::from(format!("welcome {round}"))));
        server.handle().shutdown(DEADLINE);
    }
}

/// What is waited for may depend on more than the state.
#[test]
fn a_condition_of_wait_state_may_ask_the_client() {
    let server = Server::bind("127.0.0.1:0").expect("a server");
    let url = format!("ws://{}", server.local_addr());
    let (done, ended) = crossbeam_channel::bounded(1);
    let waiter = thread::spawn(move || {
        let client = Client::builder().no_proxy().reconnect(&url, quick()).expect("a client");
        let has_peer = |state: &ConnectionState| state.is_connected() && client.peer().is_some();
        let connected = client.wait_state(DEADLINE, has_peer).is_ok();
        let never = client.wait_state(Duration::from_millis(1), |_| client.state().is_closed()).is_err();
        done.send((connected, never)).expect("the test waits");
    });
    assert_eq!(ended.recv_timeout(DEADLINE).expect("no call waits for itself"), (true, true));
    waiter.join().expect("no panic");
}

#[test]
fn state_changes_are_received_in_order() {
    let port = Port::new();
    // The first attempt waits until `state_changes` was called.
    let (subscribed, wait) = crossbeam_channel::bounded::<()>(0);
    let hold = move |builder, _| wait.recv().map_or(builder, |()| unreachable!("nothing is sent"));
    let server = port.serve();
    let client = port.client(quick().stable_after(Duration::ZERO).before_attempt(hold));
    let changes = client.state_changes();
    drop(subscribed);
    let next = || changes.as_channel().recv_timeout(DEADLINE).expect("a change");
    let connected = || {
        assert!(matches!(next(), ConnectionState::Connecting { attempt: 1 }));
        assert!(matches!(next(), ConnectionState::Connected));
    };
    connected();
    let peer = opened(&server);
    for code in [CloseCode::GOING_AWAY, CloseCode::SERVICE_RESTART, CloseCode(4242)] {
        let peer = if code == CloseCode::GOING_AWAY { peer.clone() } else { opened(&server) };
        peer.close(code, "for now").expect("open");
        let ConnectionState::Waiting { attempt: 1, why, .. } = next() else { panic!("not waiting") };
        let Outage::Closed(reason) = &*why else { panic!("{why:?}") };
        assert_eq!((reason.code, reason.cause), (code, CloseCause::Peer));
        connected();
    }
    drop(client);
    let Ok(ConnectionState::Closed(Ended::ByApplication(Some(reason)))) = changes.as_channel().recv_timeout(DEADLINE)
    else {
        panic!("not closed")
    };
    assert_eq!((reason.code, reason.cause), (CloseCode::NORMAL_CLOSURE, CloseCause::Local));
    assert!(changes.as_channel().recv_timeout(DEADLINE).is_err(), "no state after the end");
}

#[test]
fn a_full_outbox_returns_the_message_times_out_or_blocks() {
    let port = Port::new();
    let client = port.client(quick().max_outbox_size(100));
    let long = "x".repeat(200);
    client.send(long.as_str()).expect("a message of any size is queued below the limit");
    assert_eq!(client.try_send("no").map_err(TrySendError::into_inner), Err(Message::from("no")));
    assert!(matches!(client.try_send("no"), Err(TrySendError::Full(_))));
    assert!(matches!(client.send_timeout("no", Duration::from_millis(5)), Err(SendTimeoutError::Timeout(_))));
    assert!(matches!(client.send_deadline("no", Instant::now()), Err(SendTimeoutError::Timeout(_))));
    assert!(matches!(client.send(Message::Ping(vec![1])), Err(SendError::Disconnected(_))), "pings are not queued");
    let blocked: Vec<_> = (0..3)
        .map(|_| {
            let sender = client.sender();
            thread::spawn(move || sender.send("waited").expect("sent"))
        })
        .collect();
    let server = port.serve();
    assert_eq!(received(&server), long);
    for _ in 0..3 {
        assert_eq!(received(&server), "waited");
    }
    blocked.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn close_wakes_blocked_senders_and_keeps_queued_messages() {
    let port = Port::new();
    let client = port.client(slow().max_outbox_size(1));
    client.send("kept").expect("queued");
    let sender = client.sender();
    let blocked = thread::spawn(move || sender.send("back"));
    client.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
    let Err(SendError::Disconnected(message)) = blocked.join().expect("no panic") else { panic!("sent") };
    assert_eq!(message, Message::from("back"));
    assert_eq!(client.take_queued(), [Message::from("kept")]);
    assert!(client.close(CloseCode::NORMAL_CLOSURE, "").is_err() && client.queued_bytes() == 0);
}

#[test]
fn a_permanent_refusal_ends_the_client_with_its_response() {
    let reject = |_: &_| Err(Response::new(401).header("X-Why", "no password").text("a password is required"));
    let server = Server::builder().workers(1).on_request(reject).bind("127.0.0.1:0").expect("a server");
    let url = format!("ws://{}/", server.local_addr());
    let client = Client::builder().reconnect(&url, quick()).expect("a client");
    let Ended::Final(outage) = wait_closed(&client) else { panic!("{}", client.state()) };
    let Outage::Connect(ConnectError::Handshake { source: HandshakeError::Refused(refusal), .. }) = &*outage else {
        panic!("{outage}")
    };
    assert_eq!((refusal.status(), refusal.head().header("X-Why")), (401, Some("no password")));
    assert_eq!(refusal.body(), b"a password is required");
    assert!(matches!(client.recv(), Err(ClientError::Failed(Ended::Final(_)))));
    assert!(matches!(client.try_recv(), Err(ClientError::Failed(Ended::Final(_)))));
    assert!(client.iter().map(|message| message.is_err()).eq([true]));
    assert!(matches!(client.send("late"), Err(SendError::Disconnected(_))));
}

#[test]
fn retry_after_delays_the_next_attempt_and_each_attempt_has_its_own_header() {
    let calls = AtomicU32::new(0);
    let decide = move |request: &threadbare::Request| {
        let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(request.header("Authorization"), Some(format!("token {call}").as_str()));
        if call > 2 {
            return Ok(Accept::new());
        }
        Err(Response::new(if call == 1 { 503 } else { 429 }).header("Retry-After", "1"))
    };
    let server = Server::builder().workers(1).on_request(decide).bind("127.0.0.1:0").expect("a server");
    let url = format!("ws://{}/", server.local_addr());
    let start = Instant::now();
    let token =
        |builder: threadbare::ClientBuilder, attempt| builder.header("Authorization", &format!("token {attempt}"));
    let client = Client::builder().reconnect(&url, quick().before_attempt(token)).expect("a client");
    let Ok(ConnectionState::Waiting { why, .. }) = client.wait_state(DEADLINE, is_waiting) else {
        panic!("not waiting")
    };
    assert_eq!(why.retry_after(), Some(Duration::from_secs(1)));
    wait_connected(&client);
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn close_cancels_the_wait_between_attempts() {
    let port = Port::new();
    let token = Arc::new(());
    let held = token.clone();
    let client = port.client(slow().on_connect(move |_| drop(held.clone())));
    let Ok(ConnectionState::Waiting { attempt: 2, until, why }) = client.wait_state(DEADLINE, is_waiting) else {
        panic!("not waiting")
    };
    assert!(until > Instant::now() + HOUR / 4 && matches!(&*why, Outage::Connect(ConnectError::Io { .. })), "{why}");
    let receiver = thread::scope(|scope| {
        let receiver = scope.spawn(|| client.recv());
        client.close(CloseCode::NORMAL_CLOSURE, "").expect("open");
        receiver.join().expect("no panic")
    });
    assert!(matches!(receiver, Ok(None)));
    assert!(matches!(wait_closed(&client), Ended::ByApplication(None)));
    eventually("the client's thread ends", || Arc::strong_count(&token) == 1);
}

#[test]
fn dropping_the_client_cancels_an_opening_handshake() {
    let (listener, url) = silent_listener();
    let config = Config::default().handshake_timeout(HOUR);
    let token = Arc::new(());
    let held = token.clone();
    let hook = quick().on_connect(move |_| drop(held.clone()));
    let client = Client::builder().timeout(HOUR).config(config).reconnect(&url, hook).expect("a client");
    let (mut stream, _) = listener.accept().expect("a client");
    drop(client);
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.read_to_end(&mut Vec::new()).expect("the client closes its socket");
    eventually("the client's thread ends", || Arc::strong_count(&token) == 1);
}

/// The kernel completes no TCP handshake while the listener's queue is full.
#[cfg(target_os = "linux")]
#[test]
fn close_cancels_a_tcp_handshake() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(0).expect("a listener");
    let addr = socket.local_addr().expect("an address").as_socket().expect("of IP");
    let fill = || TcpStream::connect_timeout(&addr, Duration::from_secs(1)).ok();
    let queued: Vec<_> = std::iter::from_fn(fill).take(64).collect();
    assert!(queued.len() < 64, "the queue does not fill");
    let token = Arc::new(());
    let held = token.clone();
    let hook = quick().on_connect(move |_| drop(held.clone()));
    let builder = Client::builder().timeout(HOUR).connect_timeout(HOUR);
    let client = builder.reconnect(&format!("ws://{addr}/"), hook).expect("a client");
    assert!(
        client
            .wait_state(Duration::from_millis(20), |state| !matches!(state, ConnectionState::Connecting { .. }))
            .is_err()
    );
    client.close(CloseCode::GOING_AWAY, "").expect("open");
    assert!(matches!(wait_closed(&client), Ended::ByApplication(None)));
    eventually("the client's thread ends", || Arc::strong_count(&token) == 1);
}

#[test]
fn dropping_the_client_closes_the_connection_and_ends_the_thread() {
    let port = Port::new();
    let server = port.serve();
    let token = Arc::new(());
    let held = token.clone();
    let client = port.client(quick().on_connect(move |_| drop(held.clone())));
    wait_connected(&client);
    let sender = client.sender();
    sender.send("last").expect("sent");
    drop(client);
    assert_eq!(received(&server), "last");
    let Event::Close(_, reason) = server.recv_timeout(DEADLINE).expect("an end") else { panic!("not closed") };
    assert_eq!((reason.code, reason.cause), (CloseCode::NORMAL_CLOSURE, CloseCause::Peer));
    assert!(matches!(sender.send("late"), Err(SendError::Disconnected(_))));
    eventually("the client's thread ends", || Arc::strong_count(&token) == 1);
}

#[test]
fn finish_sends_every_queued_message_and_waits_for_the_end() {
    let port = Port::new();
    let client = port.client(quick());
    (0..1000).for_each(|n| client.send(n.to_string()).expect("queued"));
    // The time may or may not be enough to end the client.
    let _ = client.finish(Duration::from_millis(5));
    wait_closed(&client);
    assert_eq!(client.take_queued().len(), 1000, "no server was there");
    let server = port.serve();
    let client = port.client(quick());
    (0..1000).for_each(|n| client.send(n.to_string()).expect("sent"));
    let Ok(Ended::ByApplication(Some(reason))) = client.finish(DEADLINE) else { panic!("{}", client.state()) };
    assert_eq!((reason.code, reason.cause), (CloseCode::NORMAL_CLOSURE, CloseCause::Local));
    (0..1000).for_each(|n| assert_eq!(received(&server), n.to_string()));
}

#[test]
fn a_server_that_does_not_answer_pings_is_reconnected_to() {
    let (listener, url) = silent_listener();
    let interval = Duration::from_millis(100);
    let config = Config::default().ping_interval(interval).pong_timeout(interval);
    let client = Client::builder().config(config).reconnect(&url, quick()).expect("a client");
    let changes = client.state_changes();
    let _silent = accept(&listener, b"");
    let lost = changes.as_channel().iter().find_map(|state| match state {
        ConnectionState::Waiting { why, .. } => Some(why),
        _ => None,
    });
    let Some(Outage::Closed(reason)) = lost.as_deref() else { panic!("{lost:?}") };
    assert_eq!((reason.code, reason.cause), (CloseCode::ABNORMAL_CLOSURE, CloseCause::TimedOut));
    let mut stream = accept(&listener, b"");
    stream.write_all(b"\x81\x05again").expect("written");
    assert_eq!(client.recv_timeout(DEADLINE).expect("received"), Some(Message::from("again")));
}

#[test]
fn the_close_code_or_retry_if_decides_whether_to_reconnect() {
    let port = Port::new();
    let server = port.serve();
    let client = port.client(quick());
    opened(&server).close(CloseCode::NORMAL_CLOSURE, "done").expect("open");
    let Ended::Final(outage) = wait_closed(&client) else { panic!("{}", client.state()) };
    assert!(matches!(&*outage, Outage::Closed(reason) if reason.reason == "done"), "{outage}");
    assert!(matches!(client.recv(), Ok(None)), "closed in order");
    assert_eq!(client.iter().count(), 0);
    let retry_if = |outage: &Outage| !matches!(outage, Outage::Closed(reason) if reason.code == CloseCode(4001));
    let client = port.client(quick().retry_if(retry_if));
    opened(&server).close(CloseCode::NORMAL_CLOSURE, "done").expect("open");
    opened(&server).close(CloseCode(4001), "gone").expect("open");
    assert!(matches!(wait_closed(&client), Ended::Final(_)));
}

#[test]
fn max_attempts_and_give_up_after_end_the_client() {
    let port = Port::new();
    let client = port.client(quick().max_attempts(3));
    let Ended::GaveUp { attempts: 3, last } = wait_closed(&client) else { panic!("{}", client.state()) };
    assert!(matches!(&*last, Outage::Connect(ConnectError::Io { .. })), "{last}");
    let limit = Duration::from_millis(100);
    let start = Instant::now();
    let client = port.client(quick().give_up_after(limit));
    assert!(matches!(wait_closed(&client), Ended::GaveUp { .. }) && start.elapsed() >= limit);
    // A connection that is reset at once does not count as a success.
    let server = port.serve();
    let resetting = thread::spawn(move || {
        for event in server.iter().take_while(|event| !matches!(event, Event::Message(..))) {
            if let Event::Open(peer, _) = event {
                peer.abort();
            }
        }
    });
    assert!(matches!(wait_closed(&port.client(quick().max_attempts(3))), Ended::GaveUp { attempts: 3, .. }));
    Client::connect(&port.url()).expect("connected").send("stop").ok();
    drop(resetting);
}

#[test]
fn messages_of_each_thread_stay_in_order_across_lost_connections() {
    const SENDERS: usize = 4;
    const COUNT: u32 = 20_000;
    let port = Port::new();
    let server = port.serve();
    // The senders cannot run far ahead of the server.
    let config = Config::default().max_write_buffer_size(1_000);
    let client = Client::builder().config(config).reconnect(&port.url(), quick().max_outbox_size(1_000));
    let client = client.expect("a client");
    let senders: Vec<_> = (0..SENDERS)
        .map(|id| {
            let sender = client.sender();
            thread::spawn(move || (0..COUNT).for_each(|n| sender.send(format!("{id} {n}")).expect("sent")))
        })
        .collect();
    let mut next = [0; SENDERS];
    let mut losses = 0;
    let mut order = |text: &str| {
        let (id, n) = text.split_once(' ').expect("two numbers");
        let (id, n): (usize, u32) = (id.parse().expect("a number"), n.parse().expect("a number"));
        assert!(n >= next[id], "{n} of {id} came after {}", next[id]);
        next[id] = n + 1;
    };
    let mut seen = 0;
    // The senders may be done before this thread has its turn: the system holds what they sent.
    while losses == 0 || !senders.iter().all(thread::JoinHandle::is_finished) {
        if let Ok(Event::Message(peer, message)) = server.recv_timeout(Duration::from_millis(20)) {
            order(message.as_text().expect("text"));
            seen += 1;
            if seen % 200 == 0 && losses < 10 {
                losses += 1;
                peer.abort();
            }
        }
    }
    senders.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert!(losses > 0, "no connection was lost");
    // The last connection that the server has reset may lose messages: more are sent until one arrives.
    client.wait_state(DEADLINE, ConnectionState::is_connected).expect("connected");
    let mut end = COUNT;
    'arrived: loop {
        client.send(format!("0 {end}")).expect("sent");
        end += 1;
        while let Ok(event) = server.recv_timeout(Duration::from_millis(100)) {
            if let Event::Message(_, message) = event {
                let text = message.as_text().expect("text").to_owned();
                order(&text);
                if text.strip_prefix("0 ").and_then(|n| n.parse().ok()).is_some_and(|n: u32| n >= COUNT) {
                    break 'arrived;
                }
            }
        }
        assert!(end < COUNT + 300, "no message arrives");
    }
}

#[test]
fn clients_of_a_pool_reconnect_after_a_restart() {
    let port = Port::new();
    let pool = ClientPool::new(1, Config::default()).expect("a pool");
    let clients: Vec<_> =
        (0..20).map(|_| Client::builder().pool(&pool).reconnect(&port.url(), quick()).expect("a client")).collect();
    for _ in 0..2 {
        let server = port.serve();
        for (n, client) in clients.iter().enumerate() {
            wait_connected(client);
            client.send(n.to_string()).expect("sent");
        }
        let mut numbers: Vec<usize> = clients.iter().map(|_| received(&server).parse().expect("a number")).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        server.handle().shutdown(DEADLINE);
        for client in &clients {
            client.wait_state(DEADLINE, |state| !state.is_connected()).expect("disconnected");
        }
    }
}

#[test]
fn select_receives_events_and_state_changes() {
    let port = Port::new();
    let server = port.serve();
    let client = port.client(quick());
    let changes = client.state_changes();
    opened(&server).abort();
    let second = opened(&server);
    second.send("hello").expect("sent");
    let (mut opens, mut closes, mut connected) = (0, 0, 0);
    let events: &Receiver<_> = client.events().as_channel();
    let mut text = None;
    while text.is_none() || connected < 2 {
        crossbeam_channel::select! {
            recv(events) -> batch => for event in batch.expect("a batch") {
                match event {
                    Event::Open(..) => opens += 1,
                    Event::Close(..) => closes += 1,
                    Event::Message(_, message) => text = message.as_text().map(str::to_owned),
                    _ => {}
                }
            },
            recv(changes.as_channel()) -> state => connected += usize::from(state.expect("a state").is_connected()),
            default(DEADLINE) => panic!("no event"),
        }
    }
    assert_eq!((opens, closes, text.as_deref()), (2, 1, Some("hello")));
}

#[test]
fn a_send_of_on_connect_through_a_full_outbox_does_not_block() {
    let port = Port::new();
    let cell: Arc<OnceLock<threadbare::ReconnectingSender>> = Arc::default();
    let (sender, refused) = crossbeam_channel::unbounded();
    let hook = {
        let cell = cell.clone();
        move |session: &threadbare::Session<'_>| {
            session.send("first").expect("sent");
            let full = cell.get().map(|sender| sender.send("no room"));
            sender.send(matches!(full, Some(Err(SendError::Full(_))))).expect("the test receives");
        }
    };
    let client = port.client(quick().max_outbox_size(1).on_connect(hook));
    cell.set(client.sender()).expect("once");
    client.send("second").expect("queued");
    let server = port.serve();
    assert_eq!(refused.recv_timeout(DEADLINE), Ok(true));
    assert_eq!((received(&server), received(&server)), ("first".into(), "second".into()));
}

#[test]
fn a_panic_in_on_connect_ends_the_client_and_closes_with_1011() {
    let _expected = expect_error("a hook of a reconnecting client panicked");
    let port = Port::new();
    let server = port.serve();
    let client = port.client(quick().on_connect(|_| panic_quietly()));
    assert!(matches!(wait_closed(&client), Ended::Panicked));
    assert!(matches!(client.recv(), Err(ClientError::Failed(Ended::Panicked))));
    opened(&server);
    let Event::Close(_, reason) = server.recv_timeout(DEADLINE).expect("an end") else { panic!("not closed") };
    assert_eq!(reason.code, CloseCode::INTERNAL_ERROR);
}

#[test]
fn invalid_settings_are_refused_at_once() {
    let start = |url: &str, reconnect| chain(&Client::builder().reconnect(url, reconnect).expect_err("refused"));
    assert!(start("gopher://localhost/", quick()).contains("gopher"));
    let refused = |reconnect| start("ws://127.0.0.1/", reconnect);
    assert_eq!(
        refused(quick().max_outbox_size(0)),
        "a setting could not work: max_outbox_size is 0, but must be at least 1"
    );
    assert_eq!(refused(quick().max_attempts(0)), "a setting could not work: max_attempts is 0, but must be at least 1");
    assert!(refused(quick().multiplier(0.5)).contains("multiplier is 0.5"));
    let bad = Client::builder().header("X-Bad", "a\r\nb").reconnect("ws://127.0.0.1/", quick()).expect_err("refused");
    assert!(matches!(bad, ConnectError::Header(_)), "{bad}");
}

#[test]
fn clients_and_senders_are_send_and_sync() {
    fn shared<T: Send + Sync>() {}
    shared::<ReconnectingClient>();
    shared::<threadbare::ReconnectingSender>();
    shared::<Client>();
    shared::<threadbare::StateChanges>();
}

#[test]
fn a_connection_whose_lifetime_is_over_is_replaced_whatever_the_server_answers() {
    // The same code, another one, an empty close frame, and FIN alone.
    let answers: [&[u8]; 4] = [b"\x88\x02\x03\xe9", b"\x88\x02\x03\xe8", b"\x88\x00", b""];
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        for answer in answers {
            let mut stream = accept(&listener, &[]);
            let mut head = [0; 8];
            stream.read_exact(&mut head).expect("a close frame");
            assert_eq!((head[0], [head[6] ^ head[2], head[7] ^ head[3]]), (0x88, 1001u16.to_be_bytes()));
            stream.write_all(answer).expect("the client waits for the answer");
        }
        drop(accept(&listener, b"\x81\x04here"));
    });
    let config = Config::default().max_lifetime(Duration::from_millis(100));
    let builder = Client::builder().no_proxy().config(config);
    let client = builder.reconnect(&format!("ws://{addr}/"), quick()).expect("a client");
    assert_eq!(client.recv_timeout(DEADLINE).expect("a message"), Some("here".into()));
    server.join().expect("the server");
}

#[test]
fn a_close_through_a_peer_ends_the_client_whatever_the_server_answers() {
    for answer in [&b"\x88\x02\x03\xe9"[..], b""] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let mut stream = accept(&listener, &[]);
            stream.read_exact(&mut [0; 8]).expect("a close frame");
            stream.write_all(answer).expect("the client waits for the answer");
        });
        let reconnect = quick().on_connect(|session| session.peer().close(CloseCode(4000), "").expect("it is open"));
        let client = Client::builder().no_proxy().reconnect(&format!("ws://{addr}/"), reconnect).expect("a client");
        let Ended::Final(outage) = wait_closed(&client) else { panic!("{}", client.state()) };
        assert!(matches!(&*outage, Outage::ClosedHere { sent: CloseCode(4000), .. }), "{outage:?}");
        server.join().expect("the server");
    }
}

#[test]
fn a_socket_hook_that_fails_ends_the_client() {
    let port = Port::new();
    let _server = port.serve();
    let builder = Client::builder().no_proxy().socket_hook(|_| Err(std::io::Error::other("no such device")));
    let client = builder.reconnect(&port.url(), quick()).expect("a client");
    let Ended::Final(outage) = wait_closed(&client) else { panic!("{}", client.state()) };
    assert!(matches!(&*outage, Outage::Connect(ConnectError::Hook(_))), "{outage:?}");
    assert_eq!(chain(&*outage), "the client could not connect: the socket hook failed: no such device");
}

#[test]
fn the_peer_is_that_of_the_current_connection() {
    let port = Port::new();
    let client = port.client(quick());
    let sender = client.sender();
    assert!(client.peer().is_none() && sender.peer().is_none(), "nobody listens");
    let server = port.serve();
    wait_connected(&client);
    let first = sender.peer().expect("connected");
    assert_eq!(client.peer().as_ref(), Some(&first));
    first.send("through the peer").expect("sent");
    assert_eq!(received(&server), "through the peer");
    first.abort();
    eventually("another connection", || sender.peer().is_some_and(|peer| peer != first));
}
