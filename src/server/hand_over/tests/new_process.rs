//! What the new process does if the old one fails, or says the wrong thing.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use super::{Counter, DEADLINE, New, Old, eventually, socket_path};
use crate::Message;
use crate::protocol::message::MessageRef;
use crate::server::Server;
use crate::server::hand_over::channel::{Channel, MAX_BODY, Received};
use crate::server::hand_over::message::{additions, export_addition, kind};
use crate::worker::delivery::handler::Handler;
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::hand_over::{Addition, Change};

/// Stands between the old server and a new one, and says to each what a test says.
struct Between {
    listener: UnixListener,
    path: PathBuf,
}

impl Between {
    fn new(name: &str) -> Between {
        let path = socket_path(&format!("{name}-between"));
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
