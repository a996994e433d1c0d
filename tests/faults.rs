//! Connections that break, and applications that panic.

mod common;

use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::app::{App, BOTH_WAYS, Seen, panic_quietly, texts};
use common::{Client, Frame, close, eventually, masked, ping, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{CloseCause, CloseReason, Handler, MessageRef, Server, ServerBuilder, Socket};

/// One test at a time counts threads.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session of a hundred bytes, and the offsets at which its messages are complete.
fn session() -> (Vec<u8>, Vec<(usize, &'static str)>) {
    let mut bytes = Vec::new();
    let mut complete = Vec::new();
    for message in ["one", "", "three is longer"] {
        bytes.extend(text(message));
        complete.push((bytes.len(), message));
    }
    bytes.extend(ping(b"are you there"));
    bytes.extend(masked(false, 0, Opcode::Text, b"fr"));
    bytes.extend(masked(true, 0, Opcode::Pong, b""));
    bytes.extend(masked(true, 0, Opcode::Continuation, b"agments"));
    complete.push((bytes.len(), "fragments"));
    bytes.extend(close(1000));
    (bytes, complete)
}

/// Cuts the session at every offset.
fn cut_everywhere(cut: impl Fn(Client), exact: bool) {
    let (bytes, complete) = session();
    assert!((90..=110).contains(&bytes.len()), "{}", bytes.len());
    for way in BOTH_WAYS {
        for at in 0..=bytes.len() {
            let app = App::echo(way);
            let mut client = Client::open(app.addr);
            client.send(&bytes[..at]);
            cut(client);
            let reason = app.closed();
            match reason.cause {
                CloseCause::Peer => assert_eq!((at, reason.code.0), (bytes.len(), 1000), "{way:?}"),
                cause => assert_eq!((cause, reason.code.0), (CloseCause::Lost, 1006), "{way:?} at {at}"),
            }
            let expected: Vec<_> = complete.iter().filter(|(end, _)| *end <= at).map(|(_, message)| *message).collect();
            let history = app.finish();
            let told = texts(&history);
            if exact {
                assert_eq!(told, expected, "{way:?} at {at}");
            } else {
                assert!(expected.starts_with(&told), "{way:?} at {at}: {told:?}");
            }
        }
    }
}

#[test]
fn r_02_fin_at_every_offset() {
    let _alone = alone();
    cut_everywhere(
        |mut client| {
            client.stream.shutdown(Shutdown::Write).expect("a socket");
            client.wait_for_end();
        },
        true,
    );
}

#[test]
fn r_02_rst_at_every_offset() {
    let _alone = alone();
    cut_everywhere(Client::reset, false);
}

#[test]
fn r_02_rst_and_fin_while_the_server_writes() {
    let _alone = alone();
    for way in BOTH_WAYS {
        let app = App::start(way, Server::builder().workers(1), |link, message| {
            for _ in 0..100 {
                link.send(message);
            }
        });
        for round in 0..20 {
            let mut client = Client::open(app.addr);
            for _ in 0..5 {
                client.send(&masked(true, 0, Opcode::Binary, &[0; 10_000]));
            }
            if round % 2 == 0 {
                client.reset();
            } else {
                drop(client);
            }
            app.expect_end(1006, CloseCause::Lost);
        }
        app.finish();
    }
}

/// Panics where the first message, or the path, says.
struct Panicking {
    at: &'static str,
}

impl Panicking {
    fn at(&self, place: &str) {
        if self.at == place {
            panic_quietly();
        }
    }
}

impl Handler for Panicking {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        self.at("open");
        socket.send("hello");
    }

    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        self.at("message");
        socket.send(message);
        self.at("after the answer");
    }

    fn on_ping(&mut self, _: &mut Socket<'_>, _: &[u8]) {
        self.at("ping");
    }

    fn on_pong(&mut self, _: &mut Socket<'_>, _: &[u8]) {
        self.at("pong");
    }

    fn on_close(&mut self, _: &mut Socket<'_>, _: &CloseReason) {
        self.at("close");
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        self.at("drop");
    }
}

fn panicking(builder: ServerBuilder) -> Server {
    let places = ["open", "message", "after the answer", "ping", "pong", "close", "drop"];
    let make = move |request: &threadbare::Request| {
        let at = places.into_iter().find(|place| request.path()[1..] == place.replace(' ', "-")).unwrap_or("nowhere");
        Panicking { at }
    };
    builder.serve("127.0.0.1:0", make).expect("a server")
}

fn server_threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("ws-")).count()
}

#[test]
fn r_04_a_panic_closes_its_connection_with_1011() {
    let _alone = alone();
    let server = panicking(Server::builder().workers(2));
    for place in ["open", "message", "after-the-answer", "ping", "pong"] {
        let mut client = Client::open_with(server.local_addr(), &format!("/{place}"), "");
        if place != "open" {
            assert_eq!(client.expect_frame(), Frame::text("hello"));
            client.send(&match place {
                "ping" => ping(b""),
                "pong" => masked(true, 0, Opcode::Pong, b""),
                _ => text("go"),
            });
        }
        loop {
            let frame = client.expect_frame();
            if frame.opcode == Opcode::Close {
                assert_eq!(frame.close_code(), 1011, "{place}");
                break;
            }
        }
        assert_eq!(client.frame(), None, "{place}");
    }
    drop(server);
}

/// A panic in `on_close` comes when the end is decided; the peer still gets a close frame.
#[test]
fn r_04_a_panic_in_on_close() {
    let _alone = alone();
    let server = panicking(Server::builder().workers(2));
    for end in [close(1000), b"\xff\xff".to_vec()] {
        let mut client = Client::open_with(server.local_addr(), "/close", "");
        assert_eq!(client.expect_frame(), Frame::text("hello"));
        client.send(&end);
        client.expect_close(1011);
    }
    // Nobody is left to be told.
    Client::open_with(server.local_addr(), "/close", "").reset();
    eventually("the end of all connections", || server.handle().connections() == 0);
}

#[test]
fn r_04_a_panic_in_drop() {
    let _alone = alone();
    let server = panicking(Server::builder().workers(2));
    let mut client = Client::open_with(server.local_addr(), "/drop", "");
    assert_eq!(client.expect_frame(), Frame::text("hello"));
    client.send(&[text("fine"), close(1000)].concat());
    assert_eq!(client.expect_frame(), Frame::text("fine"));
    client.expect_close(1000);
    drop(client);
    Client::open_with(server.local_addr(), "/drop", "").reset();
    eventually("the end of all connections", || server.handle().connections() == 0);
}

/// A handler that panics once more as it is dropped for its panic.
#[test]
fn r_04_a_panic_in_drop_after_a_panic() {
    struct Twice;
    impl Handler for Twice {
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {
            panic_quietly();
        }
    }
    impl Drop for Twice {
        fn drop(&mut self) {
            panic_quietly();
        }
    }
    let _alone = alone();
    let server = Server::builder().workers(1).serve("127.0.0.1:0", |_| Twice).expect("a server");
    for _ in 0..3 {
        let mut client = Client::open(server.local_addr());
        client.send(&text("go"));
        client.expect_close(1011);
    }
    eventually("the end of all connections", || server.handle().connections() == 0);
}

#[test]
fn r_04_ninety_of_a_hundred_echo_on() {
    let _alone = alone();
    // Two workers have a reactor beside them.
    for (workers, threads) in [(1, 1), (2, 3)] {
        // Where the system does not tell, nothing is compared.
        ninety_of_a_hundred_echo_on(workers, if cfg!(target_os = "linux") { threads } else { 0 });
    }
}

fn ninety_of_a_hundred_echo_on(workers: usize, threads: usize) {
    let server = panicking(Server::builder().workers(workers));
    // A thread gets its name once it runs.
    eventually("its threads", || server_threads() == threads);
    let places = ["open", "message", "ping", "close", "drop"];
    let mut clients = Vec::new();
    for number in 0..100 {
        let place = if number % 10 == 0 { places[number / 10 % places.len()] } else { "nowhere" };
        clients.push((place, Client::open_with(server.local_addr(), &format!("/{place}"), "")));
    }
    for round in 0..5 {
        for (number, (place, client)) in clients.iter_mut().enumerate() {
            if round == 0 {
                match *place {
                    "nowhere" => {}
                    "open" => {
                        client.expect_close(1011);
                        continue;
                    }
                    "message" => client.send(&text("go")),
                    "ping" => client.send(&ping(b"go")),
                    _ => client.send(&close(1000)),
                }
                assert_eq!(client.expect_frame(), Frame::text("hello"));
            }
            if *place == "nowhere" {
                let message = format!("{round} from {number}");
                client.send(&text(&message));
                assert_eq!(client.expect_frame(), Frame::text(&message));
            }
        }
    }
    let (fine, panicked): (Vec<_>, Vec<_>) = clients.into_iter().partition(|(place, _)| *place == "nowhere");
    assert_eq!(fine.len(), 90);
    drop(panicked);
    eventually("the end of those that panicked", || server.handle().connections() == 90);
    assert_eq!(server_threads(), threads, "no thread is lost, and none is new");
    drop(fine);
}

/// The application's own thread may panic over an event: its server goes down in order.
#[test]
fn r_04_a_panic_over_an_event() {
    let _alone = alone();
    let app = App::echo(common::app::Way::Channel);
    let mut bystander = Client::open(app.addr);
    let server = Server::bind("127.0.0.1:0").expect("a server");
    let mut client = Client::open(server.local_addr());
    let application = std::thread::spawn(move || {
        for event in &server {
            if let threadbare::Event::Open(..) = event {
                panic_quietly();
            }
        }
    });
    assert_eq!(client.expect_frame().close_code(), 1001);
    client.send(&close(1001));
    assert_eq!(client.frame(), None);
    application.join().expect_err("it panicked");
    bystander.send(&text("still here"));
    assert_eq!(bystander.expect_frame(), Frame::text("still here"));
    drop(bystander);
    assert!(matches!(app.finish()[..], [Seen::Open(_), Seen::Message(..), Seen::Close(..)]));
}
