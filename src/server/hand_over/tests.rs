//! A new process that fails, or says the wrong thing, at each step: the old one serves on, with everything.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::channel::{Channel, MAX_BODY, Received};
use super::message::{MAX_SMALL, hello, import_additions, kind};
use crate::protocol::message::MessageRef;
use crate::server::Server;
use crate::worker::delivery::handler::Handler;
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::hand_over::{Addition, Change, Rest};
use crate::{Message, WebSocket};

mod new_process;
mod undecided;

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
        let path = socket_path(name);
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
        New::ask(&self.path)
    }
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("threadbare-{name}-{}.sock", std::process::id()))
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
    /// Connects to the server that runs at `path`.
    fn ask(path: &Path) -> New {
        let stream = UnixStream::connect(path).expect("connected");
        New(Channel::new(stream, Instant::now() + DEADLINE))
    }

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
