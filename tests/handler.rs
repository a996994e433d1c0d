//! What a connection's handler is made of, and what it is told of the handshake.

mod common;

use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::logged::expect_error;
use common::{Client, DEADLINE, Frame, eventually, text};
use threadbare::{
    Accept, Config, Event, Handler, Message, MessageRef, PeerAddr, Request, Response, Server, ServerBuilder, Socket,
    WebSocket,
};

/// What the hooks of these tests learn: a user.
#[derive(Debug, PartialEq)]
struct User(String);

fn authenticate(request: &Request) -> Result<Accept, Response> {
    match request.path() {
        "/" => Ok(Accept::new()),
        path => Ok(Accept::new().data(User(path[1..].to_owned()))),
    }
}

fn open(server: &Server, path: &str) -> Client {
    Client::open_with(server.local_addr(), path, "")
}

/// The hook on the thread that accepts, and the deferred one.
fn builders() -> [ServerBuilder; 2] {
    let deferred = |request: Request, pending: threadbare::Pending| {
        thread::spawn(move || match authenticate(&request) {
            Ok(accept) => pending.accept(accept),
            Err(response) => pending.reject(response),
        });
    };
    let builder = || Server::builder().workers(1);
    [builder().on_request(authenticate), builder().on_request_deferred(deferred)]
}

#[test]
fn a_closure_is_a_handler_with_a_state_of_its_own_for_each_connection() {
    let server = Server::builder()
        .workers(1)
        .serve("127.0.0.1:0", |request| {
            let (path, mut count) = (request.path().to_owned(), 0);
            move |socket: &mut Socket<'_>, message: MessageRef<'_>| {
                count += 1;
                socket.send(format!("{path} {count} {message}"));
            }
        })
        .expect("a server");
    let mut clients = [Client::open(server.local_addr()), Client::open(server.local_addr())];
    for count in 1..=3 {
        for client in &mut clients {
            client.send(&text("hello"));
            assert_eq!(client.expect_frame(), Frame::text(&format!("/ {count} hello")));
        }
    }
}

#[test]
fn data_of_the_handshake_reaches_the_open_event_and_the_peer() {
    for builder in builders() {
        let server = builder.bind("127.0.0.1:0").expect("a server");
        let mut clients = Vec::new();
        for path in ["/anna", "/"] {
            clients.push(open(&server, path));
            let Event::Open(peer, request) = server.recv_timeout(DEADLINE).expect("an event") else {
                panic!("no open")
            };
            let user = (path != "/").then(|| User(path[1..].to_owned()));
            assert_eq!((request.data(), peer.data(), peer.data::<u32>()), (user.as_ref(), user.as_ref(), None));
            // The application's own data is beside it.
            assert_eq!(peer.set_data(7_u32), Ok(()));
            assert_eq!((peer.data(), peer.data()), (user.as_ref(), Some(&7_u32)));
        }
    }
}

#[test]
fn data_of_the_handshake_reaches_the_maker_of_handlers_and_their_sockets() {
    for builder in builders() {
        let serve = |request: &Request| {
            let name = request.data().map_or_else(|| "nobody".to_owned(), |User(name)| name.clone());
            move |socket: &mut Socket<'_>, _: MessageRef<'_>| {
                let before = format!("{name} {:?}", socket.data::<User>());
                // It is there as well once the connection has a handle.
                let peer = socket.peer();
                assert_eq!(peer.data::<User>(), socket.data());
                socket.send(before);
            }
        };
        let server = builder.serve("127.0.0.1:0", serve).expect("a server");
        for (path, answer) in [("/anna", "anna Some(User(\"anna\"))"), ("/", "nobody None")] {
            let mut client = open(&server, path);
            for _ in 0..2 {
                client.send(&text("who am I"));
                assert_eq!(client.expect_frame(), Frame::text(answer));
            }
        }
    }
}

#[test]
fn data_of_the_handshake_is_dropped_with_the_connection() {
    let token = Arc::new(());
    let held = token.clone();
    let server = Server::builder().workers(1).on_request(move |_| Ok(Accept::new().data(held.clone())));
    let server = server.serve("127.0.0.1:0", |_| |_: &mut Socket<'_>, _: MessageRef<'_>| {}).expect("a server");
    let client = open(&server, "/");
    eventually("the connection holds it", || Arc::strong_count(&token) == 3);
    drop(client);
    eventually("it is dropped", || Arc::strong_count(&token) == 2);
}

#[test]
fn data_of_the_handshake_that_panics_as_it_is_dropped_harms_nobody_else() {
    let _panic = expect_error("on purpose");
    let _refused = expect_error("the handshake could not be accepted");
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let hook = |request: &Request| match request.path() {
        "/panic" => Ok(Accept::new().data(Panics)),
        "/refused" => Ok(Accept::new().data(Panics).header("a b", "invalid")),
        _ => Ok(Accept::new()),
    };
    let echo = |_: &Request| {
        |socket: &mut Socket<'_>, message: MessageRef<'_>| {
            let _ = socket.send(message);
        }
    };
    let server = Server::builder().workers(1).on_request(hook).serve("127.0.0.1:0", echo).expect("a server");
    let mut bystander = open(&server, "/");
    drop(open(&server, "/panic"));
    let mut refused = Client::tcp(server.local_addr());
    refused.send(common::request("/refused", "").as_bytes());
    assert_eq!(refused.status(), 500);
    drop(refused);
    eventually("the others are removed", || server.handle().connections() == 1);
    bystander.send(&text("still here"));
    assert_eq!(bystander.expect_frame(), Frame::text("still here"));
}

#[test]
fn a_websocket_over_a_stream_has_the_data_and_claims_no_address() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let client = thread::spawn(move || WebSocket::connect("ws://localhost/anna", theirs));
    let mut socket = WebSocket::accept_with(ours, &Config::default(), |request| {
        assert_eq!(*request.addr(), PeerAddr::Unknown);
        authenticate(request)
    })
    .expect("accepted");
    let mut client = client.join().expect("no panic").expect("connected");
    assert_eq!((socket.data(), client.data::<User>()), (Some(&User("anna".into())), None));
    socket.send("hello").expect("sent");
    assert_eq!(client.recv().expect("received"), Some(Message::from("hello")));
}

/// Sends as soon as its connection is there: itself, through its handle, and to everyone.
struct Eager;

impl Handler for Eager {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        socket.send("by the socket");
        socket.peer().send("by the handle").expect("it is open");
        socket.broadcast("to all");
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
}

/// Receives the 101, then the frames of `Eager` for this connection, whatever broadcasts come between.
fn expect_101_and_frames(client: &mut Client) {
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let mut expected = HashSet::from(["by the socket", "by the handle"]);
    while !expected.is_empty() {
        let frame = client.expect_frame();
        let text = String::from_utf8(frame.payload).expect("text");
        assert!(expected.remove(&*text) || text == "to all" || text == "by another thread", "{text}");
    }
}

/// RFC 6455 4.2.2: the connection is open once the server has sent its response, and no frame may come before that.
#[test]
fn no_byte_is_sent_before_the_101_however_early_the_application_sends() {
    for (workers, deferred) in [(1, false), (1, true), (2, false), (2, true)] {
        let builder = Server::builder().workers(workers);
        let builder = match deferred {
            false => builder.on_request(authenticate),
            true => builder.on_request_deferred(|_, pending| drop(thread::spawn(|| pending.accept(Accept::new())))),
        };
        let server = builder.serve("127.0.0.1:0", |_| Eager).expect("a server");
        let (handle, done) = (server.handle(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    handle.broadcast("by another thread");
                    thread::yield_now();
                }
            });
            let clients = scope.spawn(|| {
                for number in 0..30 {
                    let mut client = Client::tcp(server.local_addr());
                    let request = common::request("/", "");
                    // The response may be due while the last bytes of the request arrive.
                    let (first, last) = request.split_at(request.len() - number % 4);
                    client.send(first.as_bytes());
                    client.send(last.as_bytes());
                    expect_101_and_frames(&mut client);
                }
            });
            let result = clients.join();
            done.store(true, Ordering::Relaxed);
            result.expect("no frame before a 101");
        });
    }
}

/// The same with events: the application sends when it is told of the connection.
#[test]
fn no_byte_is_sent_before_the_101_by_a_thread_of_the_application() {
    let server = Server::builder().workers(2).bind("127.0.0.1:0").expect("a server");
    let (addr, handle) = (server.local_addr(), server.handle());
    let application = thread::spawn({
        let handle = handle.clone();
        move || {
            for event in &server {
                if let Event::Open(peer, _) = event {
                    peer.send("by the socket").expect("it is open");
                    handle.broadcast("to all");
                    peer.send("by the handle").expect("it is open");
                }
            }
        }
    });
    let mut clients: Vec<_> = (0..30).map(|_| Client::tcp(addr)).collect();
    clients.iter_mut().for_each(|client| client.send(common::request("/", "").as_bytes()));
    clients.iter_mut().for_each(expect_101_and_frames);
    drop(clients);
    handle.shutdown(DEADLINE);
    application.join().expect("no panic");
}
