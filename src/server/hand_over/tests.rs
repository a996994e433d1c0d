//! A new process that fails, or says the wrong thing, at each step: the old one serves on, with everything.

use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::channel::{Channel, MAX_BODY, Received};
use super::message::{MAX_SMALL, additions, export_addition, hello, import_additions, kind};
use crate::protocol::message::MessageRef;
use crate::server::Server;
use crate::worker::delivery::handler::Handler;
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::hand_over::{Addition, Change, Rest};
use crate::{Message, WebSocket};

const DEADLINE: Duration = Duration::from_secs(30);

/// Answers each message with its number.
struct Counter(u64);

impl Handler for Counter {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        socket.subscribe("news").expect("subscribed");
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        self.0 += 1;
        if message.as_text() == Some("handle") {
            // Other threads may send from here on.
            drop(socket.peer());
        }
        socket.send(format!("{} {message}", self.0));
    }

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        Some(self.0.to_be_bytes().to_vec())
    }
}

/// A server that can be handed over, and its clients.
struct Old {
    /// Dropped first, so that the server waits for nobody.
    clients: Vec<WebSocket<TcpStream>>,
    server: Server,
    path: PathBuf,
    count: u64,
}

impl Old {
    fn start(name: &str, clients: usize) -> Old {
        let path = std::env::temp_dir().join(format!("threadbare-{name}-{}.sock", std::process::id()));
        let server = Server::builder().workers(2).hand_over(&path);
        let server = server.serve("127.0.0.1:0", |_| Counter(0)).expect("a server");
        let clients = (0..clients).map(|_| connect(&server)).collect();
        let mut old = Old { server, clients, path, count: 0 };
        eventually(|| old.server.handle().stats().topic_totals.subscribers == old.clients.len());
        old.check();
        old
    }

    /// Checks that the server serves every client, as if nothing had happened, and a new one.
    fn check(&mut self) {
        self.count += 1;
        self.server.handle().publish("news", format!("news {}", self.count));
        for client in &mut self.clients {
            client.send("on").expect("sent");
        }
        for client in &mut self.clients {
            let mut received = [(); 2].map(|()| client.recv().expect("received").expect("a message"));
            received.sort_by_key(Message::to_string);
            let expected = [format!("{} on", self.count), format!("news {}", self.count)];
            assert_eq!(received, expected.map(Message::from));
        }
        let mut late = connect(&self.server);
        late.send("new").expect("sent");
        assert_eq!(late.recv().expect("received"), Some(Message::from("1 new")));
        drop(late);
        eventually(|| self.server.handle().connections() == self.clients.len());
    }

    fn ask(&self) -> New {
        let stream = UnixStream::connect(&self.path).expect("connected");
        New(Channel::new(stream, Instant::now() + DEADLINE))
    }

    /// Has the server end while its three connections stand still for a new process, which then does not take them: each is closed.
    fn end_while_connections_stand_still<T>(&mut self, end: impl FnOnce(&Old) -> T) -> T {
        let mut new = self.ask();
        let held = new.hold(3);
        new.hear(kind::ALL_SENT);
        let ending = end(self);
        // The workers are told as the listener is closed.
        eventually(|| TcpStream::connect(self.server.local_addr()).is_err());
        new.say(kind::HELD, &[]);
        assert!(new.hear_rest().iter().all(|addition| matches!(addition.change, Change::Goes(_))), "all can still go");
        new.hear(kind::COMMIT);
        drop((new, held));
        for client in &mut self.clients {
            assert_eq!(client.recv().expect("closed, and not lost"), None);
        }
        ending
    }
}

fn connect(server: &Server) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.local_addr()).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    WebSocket::connect(&format!("ws://{}", server.local_addr()), stream).expect("opened")
}

#[track_caller]
fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::yield_now();
    }
}

/// A new process that does what a test says.
struct New(Channel);

impl New {
    fn say(&mut self, kind: u8, body: &[u8]) {
        self.0.send(kind, body, &[]).expect("sent");
    }

    #[track_caller]
    fn hear(&mut self, kind: u8) -> Received {
        let received = self.0.receive(MAX_BODY).expect("a message");
        assert_eq!(received.kind, kind);
        received
    }

    /// The end of the conversation, and what was said before it.
    fn hear_end(&mut self) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let Ok(received) = self.0.receive(MAX_SMALL) {
            kinds.push(received.kind);
        }
        kinds
    }

    /// Is ready, and takes the topics.
    fn take_topics(&mut self) {
        self.say(kind::READY, &[]);
        self.hear_topics();
        self.say(kind::TOPICS_HELD, &[]);
    }

    /// Hears what there is of topics, and its end.
    fn hear_topics(&mut self) {
        self.hear(kind::TOPICS);
        self.hear(kind::TOPICS_SENT);
    }

    /// The rest of the connections, which are few.
    fn hear_rest(&mut self) -> Vec<Addition> {
        let mut rest = Vec::new();
        let body = self.hear(kind::ADDITIONS).body;
        import_additions(&body, |addition| rest.push(addition)).expect("additions");
        rest
    }

    /// Goes on until it has this many connections, whose descriptors it holds.
    fn hold(&mut self, connections: usize) -> Vec<OwnedFd> {
        self.say(kind::HELLO, &hello());
        assert_eq!(self.hear(kind::LISTENERS).descriptors.len(), 1);
        self.take_topics();
        self.hear_connections(connections)
    }

    /// As [`hold`](New::hold), of a server without topics.
    fn hold_without_topics(&mut self, connections: usize) -> Vec<OwnedFd> {
        self.say(kind::HELLO, &hello());
        drop(self.hear(kind::LISTENERS));
        self.say(kind::READY, &[]);
        self.hear(kind::TOPICS_SENT);
        self.say(kind::TOPICS_HELD, &[]);
        self.hear_connections(connections)
    }

    /// Takes this many connections.
    fn hear_connections(&mut self, connections: usize) -> Vec<OwnedFd> {
        let mut held = Vec::new();
        while held.len() < connections {
            held.extend(self.hear(kind::CONNECTIONS).descriptors);
        }
        held
    }
}

#[test]
fn a_new_process_that_ends_at_any_step_changes_nothing() {
    const CLIENTS: usize = 200;
    let mut old = Old::start("steps", CLIENTS);
    for step in 0..9 {
        let mut new = old.ask();
        let mut held = Vec::new();
        if step > 0 {
            new.say(kind::HELLO, &hello());
        }
        if step > 1 {
            held = new.hear(kind::LISTENERS).descriptors;
        }
        if step > 2 {
            new.say(kind::READY, &[]);
        }
        if step > 3 {
            new.hear_topics();
        }
        if step > 4 {
            new.say(kind::TOPICS_HELD, &[]);
            held = new.hear(kind::CONNECTIONS).descriptors;
        }
        if step > 5 {
            held.extend(new.hear_connections(CLIENTS - held.len()));
            assert_eq!(new.hear(kind::ALL_SENT).body, (CLIENTS as u64).to_be_bytes());
        }
        if step > 6 {
            new.say(kind::HELD, &[]);
        }
        if step > 7 {
            assert_eq!(new.hear_rest().len(), CLIENTS);
            new.hear(kind::COMMIT);
        }
        drop((new, held));
        old.check();
    }
}

#[test]
fn a_new_process_that_says_something_else_is_left() {
    let mut old = Old::start("wrong", 3);
    for wrong in [kind::HELLO, kind::CONNECTIONS, kind::COMMITTED, 0, 77] {
        let mut new = old.ask();
        new.say(wrong, b"wrong");
        assert_eq!(new.hear_end(), [kind::REFUSED]);
        let mut new = old.ask();
        new.say(kind::HELLO, &hello());
        new.hear(kind::LISTENERS);
        new.say(wrong, b"");
        assert_eq!(new.hear_end(), [kind::REFUSED]);
        let mut new = old.ask();
        let _held = new.hold(3);
        new.hear(kind::ALL_SENT);
        // Not yet: it has not been told to.
        new.say(if wrong == kind::HELLO { kind::COMMITTED } else { wrong }, b"");
        assert_eq!(new.hear_end(), [kind::REFUSED]);
        old.check();
    }
}

/// What was sent while the connections stood still arrives, whichever process serves in the end.
#[test]
fn what_is_published_while_the_new_process_is_awaited_arrives() {
    let mut old = Old::start("published", 3);
    let mut new = old.ask();
    let held = new.hold(3);
    new.hear(kind::ALL_SENT);
    old.server.handle().broadcast("late");
    old.clients[0].send("meanwhile").expect("sent");
    new.say(kind::HELD, &[]);
    let rest = new.hear_rest();
    assert_eq!(rest.len(), 3);
    for addition in rest {
        let Change::Goes(Rest { data, output, topics }) = addition.change else { panic!("{addition:?}") };
        assert_eq!((&output[..], &topics[..]), (&b"\x81\x04late"[..], &[("news".to_owned(), 1)][..]));
        assert_eq!(data, 1_u64.to_be_bytes());
    }
    new.hear(kind::COMMIT);
    drop((new, held));
    for client in &mut old.clients {
        assert_eq!(client.recv().expect("received"), Some(Message::from("late")));
    }
    assert_eq!(old.clients[0].recv().expect("received"), Some(Message::from("2 meanwhile")));
    old.clients.remove(0);
    old.check();
}

/// What is published in the old process until it lets go is told, each message once, and it can go on with all of it.
#[test]
fn what_is_published_until_the_old_process_lets_go_is_told() {
    let told = |received: &Received| {
        let mut topics = Vec::new();
        super::topics::import_topics(&received.body, |told| topics.push((told.after, told.messages.len())))
            .expect("topics");
        topics
    };
    let mut old = Old::start("last", 3);
    for commits in [false, true] {
        let before = old.count;
        let publish = |old: &mut Old| {
            old.count += 1;
            let published = old.server.handle().publish("news", format!("news {}", old.count));
            assert_eq!((published.subscribers, published.position.expect("a topic").offset()), (3, old.count));
        };
        let mut new = old.ask();
        let held = new.hold(3);
        new.hear(kind::ALL_SENT);
        publish(&mut old);
        new.say(kind::HELD, &[]);
        new.hear_rest();
        assert_eq!(told(&new.hear(kind::TOPICS)), [(before + 1, 0)], "the message is in their output");
        new.hear(kind::COMMIT);
        publish(&mut old);
        if !commits {
            drop((new, held));
            for number in before + 1..=old.count {
                for client in &mut old.clients {
                    let text = Message::from(format!("news {number}"));
                    assert_eq!(client.recv().expect("received"), Some(text));
                }
            }
            continue;
        }
        new.say(kind::COMMITTED, &[]);
        assert_eq!(told(&new.hear(kind::TOPICS)), [(before + 1, 1)]);
        new.hear(kind::TOPICS_SENT);
        assert_eq!(old.server.handle().publish("news", "too late"), crate::Published::default());
        assert_eq!(old.server.handle().publish("others", "too late"), crate::Published::default());
    }
}

/// A shutdown that comes while the connections stand still closes those that are not taken after all.
#[test]
fn a_shutdown_closes_what_the_new_process_does_not_take() {
    let mut old = Old::start("shutdown", 3);
    for client in &mut old.clients {
        client.send("handle").expect("sent");
        client.recv().expect("received").expect("an answer");
    }
    old.end_while_connections_stand_still(|old| old.server.handle().begin_shutdown(2 * DEADLINE));
}

/// A shutdown that comes while the connections stand still does not close those that are taken.
#[test]
fn a_shutdown_leaves_what_the_new_process_takes() {
    let mut old = Old::start("leaves", 3);
    let mut new = old.ask();
    let held = new.hold(3);
    new.hear(kind::ALL_SENT);
    old.server.handle().begin_shutdown(2 * DEADLINE);
    eventually(|| TcpStream::connect(old.server.local_addr()).is_err());
    new.say(kind::HELD, &[]);
    new.hear_rest();
    new.hear(kind::COMMIT);
    new.say(kind::COMMITTED, &[]);
    drop(new);
    old.server.handle().join();
    for socket in held {
        // As the new process would.
        std::io::Write::write_all(&mut TcpStream::from(socket), b"\x81\x02on").expect("written");
    }
    for client in &mut old.clients {
        assert_eq!(client.recv().expect("received"), Some(Message::from("on")));
    }
}

/// A new process that failed, and does not end, may keep the sockets: connections end for their clients all the same.
#[test]
fn a_connection_ends_though_a_process_that_failed_has_its_socket() {
    let mut old = Old::start("kept", 3);
    let mut new = old.ask();
    let held = new.hold(3);
    drop(new);
    old.check();
    for client in &mut old.clients {
        client.close(crate::CloseCode::NORMAL_CLOSURE, "").expect("sent");
        assert_eq!(client.recv().expect("closed"), None);
        let read = std::io::Read::read(&mut client.get_ref(), &mut [0]);
        assert_eq!(read.expect("the end, and not the timeout"), 0);
    }
    drop(held);
}

/// Gives its handle to the test.
struct Giving(std::sync::mpsc::Sender<crate::Peer>);

impl Handler for Giving {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.0.send(socket.peer()).expect("the test waits");
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        Some(Vec::new())
    }
}

/// While it is not known which process goes on with a connection, a message for it is handed back, to be sent again.
#[test]
fn a_message_is_handed_back_while_it_is_not_known_who_goes_on() {
    use crate::{Prepared, SendError, SendOptions, TrySendError};

    let path = std::env::temp_dir().join(format!("threadbare-back-{}.sock", std::process::id()));
    let (giving, given) = std::sync::mpsc::channel();
    let server = Server::builder().workers(1).hand_over(&path);
    let server = server.serve("127.0.0.1:0", move |_| Giving(giving.clone())).expect("a server");
    let mut client = connect(&server);
    let peer = given.recv_timeout(DEADLINE).expect("a handle");
    for commits in [false, true] {
        let stream = UnixStream::connect(&path).expect("connected");
        let mut new = New(Channel::new(stream, Instant::now() + DEADLINE));
        let held = new.hold_without_topics(1);
        new.hear(kind::ALL_SENT);
        peer.send("before").expect("it is told with the rest");
        new.say(kind::HELD, &[]);
        new.hear_rest();
        new.hear(kind::COMMIT);
        assert!(peer.is_open());
        assert_eq!(peer.send("a"), Err(SendError::Full(Message::from("a"))));
        assert_eq!(peer.try_send("b"), Err(TrySendError::Full(Message::from("b"))));
        assert_eq!(peer.send_prepared(&Prepared::new("c")), Err(SendError::Full(())));
        let keyed = peer.send_with("d", SendOptions::new().latest(Some(1)));
        assert_eq!(keyed, Err(SendError::Full(Message::from("d"))));
        let large = vec![1; 100_000];
        assert_eq!(peer.send(&large[..]), Err(SendError::Full(Message::from(large.clone()))));
        if commits {
            new.say(kind::COMMITTED, &[]);
        }
        drop((new, held));
        let sent = loop {
            match peer.send("after") {
                Err(SendError::Full(_)) => std::thread::yield_now(),
                sent => break sent,
            }
        };
        assert_eq!(sent.is_ok(), !commits, "{sent:?}");
        assert_eq!(peer.is_open(), !commits);
        if !commits {
            for text in ["before", "after"] {
                assert_eq!(client.recv().expect("received"), Some(Message::from(text)));
            }
        }
    }
}

/// A close that comes while it is not known which process goes on is carried out if this one does, and nothing can be sent behind it.
#[test]
fn a_close_while_it_is_not_known_who_goes_on_is_carried_out() {
    let path = std::env::temp_dir().join(format!("threadbare-closes-{}.sock", std::process::id()));
    let (giving, given) = std::sync::mpsc::channel();
    let server = Server::builder().workers(1).hand_over(&path);
    let server = server.serve("127.0.0.1:0", move |_| Giving(giving.clone())).expect("a server");
    let mut client = connect(&server);
    let peer = given.recv_timeout(DEADLINE).expect("a handle");
    let stream = UnixStream::connect(&path).expect("connected");
    let mut new = New(Channel::new(stream, Instant::now() + DEADLINE));
    let held = new.hold_without_topics(1);
    new.hear(kind::ALL_SENT);
    new.say(kind::HELD, &[]);
    new.hear_rest();
    peer.close(crate::CloseCode(4001), "out").expect("posted");
    assert!(!peer.is_open());
    assert!(matches!(peer.send("behind"), Err(crate::SendError::Disconnected(_))));
    drop((new, held));
    assert_eq!(client.recv().expect("closed"), None);
    assert_eq!(client.close_reason().map(|reason| reason.code), Some(crate::CloseCode(4001)));
}

/// Holds a lock while it waits for room, as an application may.
struct Locking {
    lock: std::sync::Arc<std::sync::Mutex<u64>>,
    given: std::sync::mpsc::Sender<crate::Peer>,
}

impl Handler for Locking {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.given.send(socket.peer()).expect("the test waits");
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        Some(self.lock.lock().expect("no panic").to_be_bytes().to_vec())
    }
}

/// A thread that waits for room with a lock which `hand_over` takes gets its message back, so that the worker goes on.
#[test]
fn a_sender_that_waits_with_a_lock_does_not_stop_the_hand_over() {
    let path = std::env::temp_dir().join(format!("threadbare-locks-{}.sock", std::process::id()));
    let (given, peers) = std::sync::mpsc::channel();
    let lock = std::sync::Arc::new(std::sync::Mutex::new(7_u64));
    let of_handlers = lock.clone();
    let server = Server::builder().workers(1).hand_over(&path);
    let make = move |_: &crate::Request| Locking { lock: of_handlers.clone(), given: given.clone() };
    let server = server.serve("127.0.0.1:0", make).expect("a server");
    let _client = connect(&server); // it reads nothing
    let peer = peers.recv_timeout(DEADLINE).expect("a handle");
    while peer.try_send(vec![0; 1 << 20]).is_ok() {}
    let (waiting, waits) = std::sync::mpsc::channel();
    let sender = std::thread::spawn(move || {
        let _held = lock.lock().expect("no panic");
        waiting.send(()).expect("the test waits");
        while peer.send_timeout(vec![0; 1 << 20], 4 * DEADLINE).is_ok() {}
    });
    waits.recv_timeout(DEADLINE).expect("it has the lock");
    let stream = UnixStream::connect(&path).expect("connected");
    let mut new = New(Channel::new(stream, Instant::now() + DEADLINE));
    let held = new.hold_without_topics(1);
    new.hear(kind::ALL_SENT);
    new.say(kind::HELD, &[]);
    assert_eq!(new.hear_rest().len(), 1);
    sender.join().expect("its message was handed back");
    drop((new, held));
}

/// Behind the end of the server its socket is gone.
#[test]
fn the_file_of_the_socket_is_gone_when_the_server_has_ended() {
    for round in 0..20 {
        let Old { clients, server, path, .. } = Old::start(&format!("file-{round}"), 0);
        assert!(path.exists(), "{clients:?}");
        server.shutdown(DEADLINE);
        assert!(!path.exists(), "round {round}");
    }
}

/// A new process is told why it does not get what it has asked for.
#[test]
fn a_new_process_is_told_why_the_server_stays() {
    let old = Old::start("why", 1);
    let mut new = old.ask();
    new.say(kind::HELLO, &hello());
    new.hear(kind::LISTENERS);
    old.server.handle().begin_shutdown(2 * DEADLINE);
    eventually(|| TcpStream::connect(old.server.local_addr()).is_err());
    new.take_topics();
    let why = new.hear(kind::REFUSED).body;
    assert!(String::from_utf8_lossy(&why).contains("the server shuts down"), "{}", String::from_utf8_lossy(&why));
}

/// A drain that comes while the connections stand still gives those that are not taken after all their turns.
#[test]
fn a_drain_closes_what_the_new_process_does_not_take() {
    let mut old = Old::start("drain", 3);
    for client in &mut old.clients[..2] {
        client.send("handle").expect("sent");
        client.recv().expect("received").expect("an answer");
    }
    let drain = old.end_while_connections_stand_still(|old| {
        let server = old.server.handle();
        std::thread::spawn(move || server.drain(Duration::from_secs(2)))
    });
    old.clients.clear();
    let report = drain.join().expect("no panic");
    assert_eq!((report.idle, report.cut), (3, 0), "{report}");
}

/// While one process is about to take over, another is told so at once.
#[test]
fn a_second_new_process_is_refused_while_the_first_gets_ready() {
    let mut old = Old::start("second", 3);
    let mut new = old.ask();
    new.say(kind::HELLO, &hello());
    new.hear(kind::LISTENERS);
    for _ in 0..3 {
        let second = Server::builder().hand_over(&old.path).serve("127.0.0.1:0", |_| Counter(0));
        let error = second.expect_err("refused");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert_eq!(cause, "it refuses: another process is taking it over");
    }
    new.take_topics();
    let held = new.hear_connections(3);
    drop((new, held));
    old.check();
}

/// Stands between the old server and a new one, and says to each what a test says.
struct Between {
    listener: UnixListener,
    path: PathBuf,
}

impl Between {
    fn new(name: &str) -> Between {
        let path = std::env::temp_dir().join(format!("threadbare-{name}-between-{}.sock", std::process::id()));
        Between { listener: UnixListener::bind(&path).expect("a socket"), path }
    }

    /// Starts a server on a thread, and relays until it is ready and the old one has sent its topics. Returns the conversations with
    /// both, and the listeners.
    fn begin<H: Handler>(
        &self,
        old: &Old,
        make: impl Fn() -> H + Send + 'static,
    ) -> (New, New, Received, std::thread::JoinHandle<Result<Server, crate::BuildError>>) {
        let path = self.path.clone();
        let thread =
            std::thread::spawn(move || Server::builder().hand_over(path).serve("127.0.0.1:0", move |_| make()));
        let mut next = New(Channel::new(self.listener.accept().expect("it asks").0, Instant::now() + DEADLINE));
        let mut asked = old.ask();
        asked.say(kind::HELLO, &next.hear(kind::HELLO).body);
        let listeners = asked.hear(kind::LISTENERS);
        let sockets: Vec<_> = listeners.descriptors.iter().map(AsFd::as_fd).collect();
        next.0.send(kind::LISTENERS, &listeners.body, &sockets).expect("sent");
        next.hear(kind::READY);
        asked.say(kind::READY, &[]);
        for _ in 0..2 {
            let topics = asked.0.receive(MAX_BODY).expect("topics, and their end");
            next.say(topics.kind, &topics.body);
        }
        asked.say(kind::TOPICS_HELD, &next.hear(kind::TOPICS_HELD).body);
        (asked, next, listeners, thread)
    }

    /// Relays until the only connection of the old server is sent, with another descriptor if one is given. Returns what is held
    /// meanwhile too.
    fn relay<H: Handler>(
        &self,
        old: &Old,
        other: Option<&OwnedFd>,
        make: impl Fn() -> H + Send + 'static,
    ) -> (New, New, [Received; 2], std::thread::JoinHandle<Result<Server, crate::BuildError>>) {
        let (mut asked, mut next, listeners, thread) = self.begin(old, make);
        let connection = asked.hear(kind::CONNECTIONS);
        let socket = other.unwrap_or(&connection.descriptors[0]);
        next.0.send(kind::CONNECTIONS, &connection.body, &[socket.as_fd()]).expect("sent");
        // A process that does not take the connection may have ended.
        let _ = next.0.send(kind::ALL_SENT, &asked.hear(kind::ALL_SENT).body, &[]);
        (asked, next, [listeners, connection], thread)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).expect("it is there");
    }
}

/// What comes in place of a connection's socket is not served.
#[test]
fn a_descriptor_of_another_kind_is_refused() {
    let mut old = Old::start("kinds", 1);
    let between = Between::new("kinds");
    let (pipe, _end) = std::io::pipe().expect("a pipe");
    let null = std::fs::File::open("/dev/null").expect("a file");
    for descriptor in [OwnedFd::from(null), OwnedFd::from(pipe)] {
        let (asked, _next, held, thread) = between.relay(&old, Some(&descriptor), || Counter(0));
        let error = thread.join().expect("no panic").expect_err("refused");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(cause.contains("no stream socket"), "{cause}");
        drop((asked, held));
        old.check();
    }
}

/// Handlers that were made for connections which another process goes on with are dropped, and nothing is told to them.
#[test]
fn a_handler_of_a_connection_that_is_not_taken_is_dropped_without_a_callback() {
    use std::sync::Arc;

    struct Silent {
        _count: Arc<()>,
    }

    impl Handler for Silent {
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {
            panic!("a message of the old process's");
        }

        fn on_taken_over(&mut self, _: &mut Socket<'_>) {
            panic!("it is the old process's");
        }

        fn on_close(&mut self, _: &mut Socket<'_>, _: &crate::CloseReason) {
            panic!("it goes on");
        }
    }

    let mut old = Old::start("dropped", 1);
    let between = Between::new("dropped");
    let count = Arc::new(());
    let of_handlers = count.clone();
    let (making, is_made) = std::sync::mpsc::channel();
    let (may_end, end) = std::sync::mpsc::channel::<()>();
    let make = move || {
        let handler = Silent { _count: of_handlers.clone() };
        making.send(()).expect("the test waits");
        end.recv().expect_err("nothing is sent");
        handler
    };
    let (mut asked, mut next, held, thread) = between.relay(&old, None, make);
    asked.say(kind::HELD, &next.hear(kind::HELD).body);
    next.say(kind::ADDITIONS, &asked.hear(kind::ADDITIONS).body);
    next.say(kind::COMMIT, &asked.hear(kind::COMMIT).body);
    is_made.recv_timeout(DEADLINE).expect("a handler is made");
    // The test, what makes the handlers, and the handler of the connection.
    assert_eq!(Arc::strong_count(&count), 3);
    old.clients[0].send("meanwhile").expect("sent");
    drop(next);
    drop(may_end);
    thread.join().expect("no panic").expect_err("the old process does not go on");
    drop((asked, held));
    assert_eq!(old.clients[0].recv().expect("received"), Some(Message::from("2 meanwhile")));
    eventually(|| Arc::strong_count(&count) == 1);
    old.count += 1;
    old.check();
}

/// With the last word the connections are the new process's, whatever comes after it, and whatever was said of others before.
#[test]
fn a_conversation_that_breaks_behind_the_last_word_leaves_the_connections_to_the_new_process() {
    for says_more in [false, true] {
        let name = format!("breaks-{says_more}");
        let (mut old, between) = (Old::start(&name, 1), Between::new(&name));
        let (mut asked, mut next, held, thread) = between.relay(&old, None, || Counter(40));
        asked.say(kind::HELD, &next.hear(kind::HELD).body);
        next.say(kind::ADDITIONS, &asked.hear(kind::ADDITIONS).body);
        let mut others = additions();
        (77..80).for_each(|id| export_addition(&Addition { id, change: Change::Stays }, &mut others));
        next.say(kind::ADDITIONS, others.as_bytes());
        next.say(asked.hear(kind::COMMIT).kind, &[]);
        asked.say(next.hear(kind::COMMITTED).kind, &[]);
        if says_more {
            next.say(kind::TOPICS, b"garbage");
        }
        drop(next);
        let server = thread.join().expect("no panic").expect("it serves");
        drop((asked, held));
        let client = &mut old.clients[0];
        client.send("on").expect("sent");
        assert_eq!(client.recv().expect("received"), Some(Message::from("41 on")));
        let published = server.handle().publish("news", "more");
        assert_eq!((published.subscribers, published.position.map(|position| position.offset())), (1, Some(2)));
        assert_eq!(client.recv().expect("received"), Some(Message::from("more")));
        drop(old);
        drop(between);
    }
}

/// What is not the turn of the old process to say, or comes twice, is refused before anything is this process's.
#[test]
fn a_process_that_says_something_out_of_turn_is_not_taken_over() {
    let mut old = Old::start("turn", 1);
    let between = Between::new("turn");
    let refused = |thread: std::thread::JoinHandle<Result<Server, _>>, kind: u8| {
        let error = thread.join().expect("no panic").expect_err("refused");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert_eq!(cause, format!("it has sent a message of kind {kind}"));
    };
    let rest = additions();
    for (wrong, body) in [(kind::COMMIT, &[][..]), (kind::ADDITIONS, rest.as_bytes()), (kind::HELD, &[])] {
        let (asked, mut next, listeners, thread) = between.begin(&old, || Counter(40));
        next.say(wrong, body);
        refused(thread, wrong);
        drop((asked, listeners));
        old.check();
    }
    for (wrong, body) in [(kind::ALL_SENT, &1_u64.to_be_bytes()[..]), (kind::CONNECTIONS, &[0, 2]), (kind::READY, &[])]
    {
        let (asked, mut next, held, thread) = between.relay(&old, None, || Counter(40));
        next.hear(kind::HELD);
        next.say(wrong, body);
        refused(thread, wrong);
        drop((asked, held));
        old.check();
    }
}
