//! The moment in which it is not known yet which process goes on with the connections.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::{DEADLINE, New, Old, connect, eventually, socket_path};
use crate::protocol::message::MessageRef;
use crate::server::Server;
use crate::server::hand_over::message::kind;
use crate::worker::delivery::handler::Handler;
use crate::worker::delivery::socket::Socket;
use crate::worker::handle::hand_over::Change;
use crate::{CloseCode, Message, Peer, Prepared, SendError, SendOptions, TrySendError, WebSocket};

impl Old {
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

/// Gives its handle to the test, and takes a lock for what it hands over.
struct Locking {
    lock: Arc<Mutex<()>>,
    giving: mpsc::Sender<Peer>,
}

impl Handler for Locking {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        socket.subscribe("news").expect("subscribed");
        self.giving.send(socket.peer()).expect("the test waits");
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}

    fn hand_over(&mut self) -> Option<Vec<u8>> {
        let _held = self.lock.lock().expect("no panic");
        Some(Vec::new())
    }
}

/// A server with one client.
struct Single {
    client: WebSocket<TcpStream>,
    peer: Peer,
    path: PathBuf,
    /// That of the handler.
    lock: Arc<Mutex<()>>,
    _server: Server,
}

impl Single {
    fn start(name: &str) -> Single {
        let (path, lock, (giving, given)) = (socket_path(name), Arc::<Mutex<()>>::default(), mpsc::channel());
        let of_handlers = lock.clone();
        let make = move |_: &crate::Request| Locking { lock: of_handlers.clone(), giving: giving.clone() };
        let server = Server::builder().workers(1).hand_over(&path).serve("127.0.0.1:0", make).expect("a server");
        let client = connect(&server);
        let peer = given.recv_timeout(DEADLINE).expect("a handle");
        Single { client, peer, path, lock, _server: server }
    }
}

/// While it is not known which process goes on with a connection, a message for it is handed back, to be sent again.
#[test]
fn a_message_is_handed_back_while_it_is_not_known_who_goes_on() {
    let Single { mut client, peer, path, _server, .. } = Single::start("back");
    for commits in [false, true] {
        let mut new = New::ask(&path);
        let held = new.hold(1);
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
    let Single { mut client, peer, path, _server, .. } = Single::start("closes");
    let mut new = New::ask(&path);
    let held = new.hold(1);
    new.hear(kind::ALL_SENT);
    new.say(kind::HELD, &[]);
    new.hear_rest();
    peer.close(CloseCode(4001), "out").expect("posted");
    assert!(!peer.is_open());
    assert!(matches!(peer.send("behind"), Err(SendError::Disconnected(_))));
    drop((new, held));
    assert_eq!(client.recv().expect("closed"), None);
    assert_eq!(client.close_reason().map(|reason| reason.code), Some(CloseCode(4001)));
}

/// A thread that waits for room with a lock which `hand_over` takes gets its message back, so that the worker goes on.
#[test]
fn a_sender_that_waits_with_a_lock_does_not_stop_the_hand_over() {
    // The client reads nothing.
    let Single { client: _client, peer, path, lock, _server } = Single::start("locks");
    while peer.try_send(vec![0; 1 << 20]).is_ok() {}
    let (waiting, waits) = mpsc::channel();
    let sender = std::thread::spawn(move || {
        let _held = lock.lock().expect("no panic");
        waiting.send(()).expect("the test waits");
        while peer.send_timeout(vec![0; 1 << 20], 4 * DEADLINE).is_ok() {}
    });
    waits.recv_timeout(DEADLINE).expect("it has the lock");
    let mut new = New::ask(&path);
    let held = new.hold(1);
    new.hear(kind::ALL_SENT);
    new.say(kind::HELD, &[]);
    assert_eq!(new.hear_rest().len(), 1);
    sender.join().expect("its message was handed back");
    drop((new, held));
}
