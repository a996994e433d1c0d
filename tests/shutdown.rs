//! How servers end: in order, under load, from anywhere, and when nobody listens any more.

mod common;

use std::collections::HashSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::app::{App, BOTH_WAYS, Way, echo, panic_quietly};
use common::{Client, DEADLINE, Frame, binary, close, eventually, request, text};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCode, Config, Event, Handler, Message, MessageRef, Peer, SendError, Server, ServerHandle, Socket,
};

/// One test at a time counts threads and descriptors.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn server_threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("ws-")).count()
}

/// A thread that was joined is listed until the kernel has put it away.
fn wait_for_end_of_threads(of: &str) {
    eventually(&format!("the end of the threads of {of}"), || server_threads() == 0);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The client's part of a close with this code, from the close frame on.
fn say_goodbye(client: &mut Client, code: u16) {
    assert_eq!(client.expect_frame().close_code(), code);
    client.send(&close(code));
    assert_eq!(client.frame(), None, "FIN, before the client closes");
}

/// The answer to another opening handshake; 0 if nobody listens.
fn status_of_another(addr: SocketAddr) -> u16 {
    let Ok(stream) = TcpStream::connect(addr) else { return 0 };
    let mut client = Client::over(stream);
    client.send(request("/", "").as_bytes());
    client.status()
}

/// Opens a connection whose events nobody takes.
fn join(server: &Server) -> (Client, Peer) {
    let client = Client::open(server.local_addr());
    match server.recv_timeout(DEADLINE) {
        Ok(Event::Open(peer, _)) => (client, peer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn r_06_nobody_receives_any_more() {
    let _alone = alone();
    let mut server = Server::builder().workers(2).bind("127.0.0.1:0").expect("a server");
    let mut joined: Vec<_> = (0..10).map(|_| join(&server)).collect();
    let events = server.take_events();
    let clones = events.clone();
    drop(events);
    // A clone still receives.
    joined[0].0.send(&text("heard"));
    assert!(matches!(clones[0].recv_timeout(DEADLINE), Ok(Event::Message(..))));
    for (_, peer) in &joined {
        peer.send("last words").expect("it is open");
    }
    drop(clones);
    for (client, peer) in &mut joined {
        assert_eq!(client.expect_frame(), Frame::text("last words"));
        say_goodbye(client, 1001);
        eventually("its end", || !peer.is_open());
        let message = Message::Text("gone".into());
        assert_eq!(peer.send(message.clone()), Err(SendError::Disconnected(message)));
    }
    drop(joined);
    assert_eq!(status_of_another(server.local_addr()), 503);
    eventually("the end of all connections", || server.handle().connections() == 0);
    let report = server.shutdown(DEADLINE);
    assert_eq!((report.clean, report.forced), (0, 0), "they were gone before");
}

#[test]
fn r_06_nobody_ever_receives() {
    let _alone = alone();
    let mut server = Server::builder().workers(1).bind("127.0.0.1:0").expect("a server");
    drop(server.take_events());
    for _ in 0..3 {
        assert_eq!(status_of_another(server.local_addr()), 503);
    }
}

/// Events wait, and the clients are held up, as the receiver goes.
#[test]
fn r_06_nobody_receives_what_waits() {
    let _alone = alone();
    let config = Config::default().max_event_buffer_size(10_000).close_timeout(DEADLINE);
    let mut server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let mut clients: Vec<_> = (0..4).map(|_| join(&server).0).collect();
    let writers: Vec<_> = clients.iter().map(|client| flood(client, 20 << 20)).collect();
    // Until the limit is met.
    let events = server.take_events();
    let Ok(Event::Message(peer, _)) = events[0].recv_timeout(DEADLINE) else { panic!("a message") };
    eventually("a pause", || paused(&peer));
    drop(events);
    for (client, writer) in clients.iter_mut().zip(writers) {
        assert_eq!(client.expect_frame().close_code(), 1001);
        // What it still had to say was read and thrown away.
        writer.join().expect("the writer").expect("no reset");
        client.send(&close(1001));
        assert_eq!(client.frame(), None);
    }
}

/// Writes that many bytes of messages from another thread.
fn flood(client: &Client, bytes: usize) -> thread::JoinHandle<std::io::Result<()>> {
    let mut stream = client.stream.try_clone().expect("a socket");
    thread::spawn(move || {
        let message = binary(&[7; 10_000]);
        (0..bytes / message.len()).try_for_each(|_| stream.write_all(&message))
    })
}

/// Whether nothing was received for a while.
fn paused(peer: &Peer) -> bool {
    let before = peer.stats().bytes_received;
    thread::park_timeout(Duration::from_millis(50));
    before > 0 && peer.stats().bytes_received == before
}

/// A close from another thread, while reading is held up by an application that does not take its events.
#[test]
fn p_13_a_close_is_answered_though_reading_was_held_up() {
    let _alone = alone();
    let config = Config::default().max_event_buffer_size(10_000).close_timeout(DEADLINE);
    let server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let (mut client, peer) = join(&server);
    let writer = flood(&client, 20 << 20);
    eventually("a pause", || paused(&peer));
    peer.close(CloseCode(4000), "enough").expect("it is open");
    assert_eq!(client.expect_frame().close_code(), 4000);
    writer.join().expect("the writer").expect("no reset");
    client.send(&close(4000));
    assert_eq!(client.frame(), None);
}

#[test]
fn r_06_one_of_two_receivers_goes() {
    let _alone = alone();
    let mut server = Server::builder().workers(2).channels(2).bind("127.0.0.1:0").expect("a server");
    let mut events = server.take_events();
    let (kept, dropped) = (events.remove(0), events.remove(0));
    // Channels are given out round about.
    let mut clients: Vec<_> = (0..8).map(|_| Client::open(server.local_addr())).collect();
    let mut peers: Vec<Peer> = Vec::new();
    while peers.len() < 4 {
        match kept.recv_timeout(DEADLINE).expect("an event") {
            Event::Open(peer, _) => peers.push(peer),
            other => panic!("{other:?}"),
        }
    }
    drop(dropped);
    let kept_addrs: HashSet<SocketAddr> = peers.iter().map(Peer::addr).collect();
    for client in &mut clients {
        if kept_addrs.contains(&client.stream.local_addr().expect("an address")) {
            client.send(&text("still here"));
            assert!(matches!(kept.recv_timeout(DEADLINE), Ok(Event::Message(..))));
        } else {
            say_goodbye(client, 1001);
        }
    }
    // New ones all go to who is left.
    for _ in 0..4 {
        let _client = Client::open(server.local_addr());
        loop {
            match kept.recv_timeout(DEADLINE).expect("an event") {
                Event::Open(..) => break,
                Event::Close(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn r_06_the_server_is_dropped_in_each_state() {
    let _alone = alone();
    for way in BOTH_WAYS {
        // Nothing has happened.
        App::start(way, Server::builder().workers(2), echo).finish();
        // Connections are idle, under way, and closing.
        let server = match way {
            Way::Handler => Server::builder().workers(2).serve("127.0.0.1:0", |_| Echo).expect("a server"),
            Way::Channel => Server::builder().workers(2).bind("127.0.0.1:0").expect("a server"),
        };
        let addr = server.local_addr();
        let mut idle = Client::open(addr);
        let mut half = Client::open(addr);
        half.send(&text("half a frame")[..8]);
        let mut opening = Client::tcp(addr);
        opening.send(b"GET / HTTP/1.1\r\n");
        let mut silent = Client::tcp(addr);
        let mut closing = Client::open(addr);
        closing.send(&close(1000));
        if way == Way::Handler {
            closing.expect_close(1000);
        }
        let goodbyes = thread::spawn(move || {
            say_goodbye(&mut idle, 1001);
            assert_eq!(half.expect_frame().close_code(), 1001);
            // Its message is completed, and thrown away.
            half.send(&[&text("half a frame")[8..], &close(1001)].concat());
            assert_eq!(half.frame(), None);
            assert_eq!(opening.status(), 503);
            assert_eq!(silent.status(), 503);
            closing.wait_for_end();
        });
        drop(server);
        goodbyes.join().expect("the clients");
        assert_eq!(status_of_another(addr), 0, "nobody listens");
        wait_for_end_of_threads("a server");
    }
}

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

/// Dropped by the thread that receives, in the midst of the events.
#[test]
fn r_06_the_server_is_dropped_over_an_event() {
    let _alone = alone();
    let server = Server::builder().workers(2).bind("127.0.0.1:0").expect("a server");
    let mut clients: Vec<_> = (0..4).map(|_| Client::open(server.local_addr())).collect();
    for client in &mut clients {
        client.send(&text("a").repeat(1000));
    }
    let application = thread::spawn(move || {
        let mut count = 0;
        for event in &server {
            count += usize::from(matches!(event, Event::Message(..)));
            if count == 100 {
                break;
            }
        }
        drop(server);
    });
    for client in &mut clients {
        say_goodbye(client, 1001);
    }
    application.join().expect("no panic");
}

/// A client that streams, is echoed, and takes its leave when it is told to: how many answers it had, what else it was
/// sent, and whether it was told 1001.
struct Streamed {
    echoed: usize,
    pushed: Vec<Vec<u8>>,
    told: bool,
}

fn stream(mut client: Client, running: &AtomicUsize) -> Streamed {
    let mut streamed = Streamed { echoed: 0, pushed: Vec::new(), told: false };
    let mut sent = 0;
    running.fetch_add(1, Ordering::SeqCst);
    loop {
        // Up to eight are on their way.
        while sent < streamed.echoed + 8 {
            if client.stream.write_all(&text(&sent.to_string())).is_err() {
                break;
            }
            sent += 1;
        }
        match client.frame() {
            None => return streamed,
            Some(frame) => match frame.opcode {
                Opcode::Close => {
                    assert_eq!(frame.close_code(), 1001);
                    streamed.told = true;
                    client.send(&close(1001));
                    assert_eq!(client.frame(), None, "nothing follows");
                    return streamed;
                }
                Opcode::Binary => streamed.pushed.push(frame.payload),
                _ => {
                    assert_eq!(frame, Frame::text(&streamed.echoed.to_string()), "in order");
                    streamed.echoed += 1;
                }
            },
        }
    }
}

#[test]
fn r_11_a_shutdown_under_load() {
    const CLIENTS: usize = 40;
    const TIMEOUT: Duration = Duration::from_secs(10);
    let _alone = alone();
    for way in BOTH_WAYS {
        let descriptors_before = descriptors();
        wait_for_end_of_threads("a server");
        let app = App::start(way, Server::builder().workers(2), echo);
        let running = Arc::new(AtomicUsize::new(0));
        let mut peers = Vec::new();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let client = Client::open(app.addr);
                peers.push((client.stream.local_addr().expect("an address"), app.opened()));
                let running = running.clone();
                thread::spawn(move || stream(client, &running))
            })
            .collect();
        // What is taken before the shutdown is delivered.
        eventually("all clients streaming", || running.load(Ordering::SeqCst) == CLIENTS);
        let mut pushed = 0_u32;
        eventually("echoes for all", || peers.iter().all(|(_, peer)| peer.stats().messages_sent > 20));
        while pushed < 100 {
            for (_, peer) in &peers {
                peer.send(pushed.to_be_bytes().to_vec()).expect("it is open");
            }
            pushed += 1;
        }
        let start = Instant::now();
        let report = app.handle().shutdown(TIMEOUT);
        let took = start.elapsed();
        assert_eq!(report.clean + report.forced, CLIENTS, "{way:?}: {report}");
        assert!(took < TIMEOUT + Duration::from_secs(2), "{took:?}");
        for client in clients {
            let streamed = client.join().expect("a client");
            let numbers: Vec<_> = (0..pushed).map(|number| number.to_be_bytes().to_vec()).collect();
            assert!(streamed.pushed == numbers, "{way:?}: {} of {pushed} arrived", streamed.pushed.len());
            assert!(streamed.told && streamed.echoed > 0);
        }
        assert_eq!(report.clean, CLIENTS, "{way:?}: each took its leave");
        assert_eq!(status_of_another(app.addr), 0, "nobody listens");
        assert_eq!(app.handle().shutdown(TIMEOUT), report, "the same end");
        app.finish();
        drop(peers);
        wait_for_end_of_threads("a server");
        eventually("all descriptors closed", || descriptors() == descriptors_before);
    }
}

/// Clients that never answer are cut off at the deadline, and counted.
#[test]
fn r_11_who_does_not_answer_is_reset_at_the_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let _alone = alone();
    for way in BOTH_WAYS {
        let app = App::start(way, Server::builder().workers(2), echo);
        let mut polite = Client::open(app.addr);
        let mut rude = Client::open(app.addr);
        app.opened();
        app.opened();
        let polite = thread::spawn(move || say_goodbye(&mut polite, 1001));
        let start = Instant::now();
        let report = app.handle().shutdown(TIMEOUT);
        assert!((TIMEOUT..DEADLINE).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert_eq!((report.clean, report.forced), (1, 1), "{way:?}");
        polite.join().expect("the polite client");
        assert_eq!(rude.expect_frame().close_code(), 1001);
        assert!(rude.try_fill().is_err(), "a reset");
        app.finish();
    }
}

/// The last words to everyone, and to each, come before the close frame.
#[test]
fn r_11_what_was_sent_before_is_delivered() {
    const CLIENTS: usize = 20;
    let _alone = alone();
    for way in BOTH_WAYS {
        for _ in 0..20 {
            let app = App::start(way, Server::builder().workers(2), echo);
            let clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(app.addr)).collect();
            let peers: Vec<_> = clients.iter().map(|_| app.opened()).collect();
            let readers: Vec<_> = clients
                .into_iter()
                .map(|mut client| {
                    thread::spawn(move || {
                        let messages = [client.expect_frame(), client.expect_frame()];
                        assert_eq!(messages, [Frame::text("to you"), Frame::text("to all")], "{way:?}");
                        say_goodbye(&mut client, 1001);
                    })
                })
                .collect();
            for peer in &peers {
                peer.send("to you").expect("it is open");
            }
            app.handle().broadcast("to all");
            let report = app.handle().shutdown(DEADLINE);
            assert_eq!((report.clean, report.forced), (CLIENTS, 0), "{way:?}");
            for reader in readers {
                reader.join().expect("a client");
            }
            app.finish();
        }
    }
}

/// What is queued for a slow client goes out before its close frame, as long as there is time.
#[test]
fn r_11_what_is_queued_is_drained() {
    let _alone = alone();
    for way in BOTH_WAYS {
        let app = App::start(way, Server::builder().workers(1), echo);
        let mut client = Client::narrow(app.addr);
        let peer = app.opened();
        let mut sent = 0_u8;
        while peer.queued_bytes() == 0 {
            peer.send(vec![sent; 500_000]).expect("it is open");
            sent += 1;
            eventually("the worker's turn", || peer.stats().messages_sent == u64::from(sent));
        }
        let reader = thread::spawn(move || {
            for number in 0..sent {
                assert!(client.expect_frame() == Frame::binary(&vec![number; 500_000]));
            }
            say_goodbye(&mut client, 1001);
        });
        let report = app.handle().shutdown(DEADLINE);
        assert_eq!((report.clean, report.forced), (1, 0), "{way:?}");
        reader.join().expect("the reader");
        app.finish();
    }
}

/// A handler that shuts its server down, or panics, when it is told to.
struct Fuse(Arc<Mutex<Option<ServerHandle>>>);

impl Handler for Fuse {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (message.as_text(), handle) {
            (Some("shut down"), Some(handle)) => {
                let report = handle.shutdown(SHORT);
                assert_eq!(report, threadbare::ShutdownReport::default(), "it does not wait for itself");
                handle.join();
            }
            (Some("panic"), _) => panic_quietly(),
            _ => {}
        }
        socket.send(message);
    }
}

const SHORT: Duration = Duration::from_millis(100);

#[test]
fn r_12_shutdowns_that_race() {
    let _alone = alone();
    for round in 0..50 {
        let slot = Arc::new(Mutex::new(None));
        let make = {
            let slot = slot.clone();
            move |_: &_| Fuse(slot.clone())
        };
        let server = Server::builder().workers(2).serve("127.0.0.1:0", make).expect("a server");
        let (addr, handle) = (server.local_addr(), server.handle());
        *slot.lock().expect("no panic") = Some(handle.clone());
        let mut client = Client::open(addr);
        let stop = Arc::new(AtomicBool::new(false));
        // Connections come all the while.
        let connecting = thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::SeqCst) {
                    let Ok(stream) = TcpStream::connect(addr) else { return };
                    let mut client = Client::over(stream);
                    if client.stream.write_all(&[request("/", "").as_bytes(), &text("hello")].concat()).is_ok() {
                        drop(client.stream.shutdown(std::net::Shutdown::Write));
                        client.wait_for_end();
                    }
                }
            }
        });
        let start = Instant::now();
        if round % 5 < 2 {
            // So that nothing has to be forced, and every report is of the whole.
            client.stream.shutdown(std::net::Shutdown::Both).expect("a socket");
        }
        match round % 5 {
            0 => {
                let first = handle.shutdown(DEADLINE);
                assert_eq!(handle.shutdown(SHORT), first, "once more");
                assert_eq!(server.shutdown(Duration::ZERO), first, "and again");
            }
            1 => {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        let handle = handle.clone();
                        thread::spawn(move || handle.shutdown(DEADLINE))
                    })
                    .collect();
                let mut reports: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
                reports.dedup();
                assert_eq!(reports.len(), 1, "all see the same end: {reports:?}");
            }
            2 => {
                client.send(&text("shut down"));
                assert_eq!(client.expect_frame().opcode, Opcode::Text);
                assert_eq!(client.expect_frame().close_code(), 1001);
                client.send(&close(1001));
                server.join();
                handle.shutdown(SHORT);
            }
            3 => {
                client.send(&text("panic"));
                handle.shutdown(SHORT);
            }
            _ => {
                // From a callback, from a thread, and by the drop, all at once.
                client.send(&text("shut down"));
                let thread = thread::spawn(move || handle.shutdown(SHORT));
                drop(server);
                thread.join().expect("no panic");
            }
        }
        assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
        wait_for_end_of_threads("a server");
        stop.store(true, Ordering::SeqCst);
        connecting.join().expect("the connecting thread");
        client.wait_for_end();
    }
}

/// every kind of callback may start the end.
#[test]
fn r_12_a_shutdown_from_each_callback() {
    struct Ender(&'static str, Arc<Mutex<Option<ServerHandle>>>);
    impl Ender {
        fn at(&self, place: &str) {
            if self.0 == place
                && let Some(handle) = &*self.1.lock().unwrap_or_else(PoisonError::into_inner)
            {
                handle.shutdown(SHORT);
            }
        }
    }
    impl Handler for Ender {
        fn on_open(&mut self, _: &mut Socket<'_>) {
            self.at("open");
        }
        fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
        fn on_ping(&mut self, _: &mut Socket<'_>, _: &[u8]) {
            self.at("ping");
        }
        fn on_close(&mut self, _: &mut Socket<'_>, _: &threadbare::CloseReason) {
            self.at("close");
        }
    }
    impl Drop for Ender {
        fn drop(&mut self) {
            self.at("drop");
        }
    }
    let _alone = alone();
    for place in ["request", "make", "open", "ping", "close", "drop"] {
        let slot: Arc<Mutex<Option<ServerHandle>>> = Arc::default();
        let (hook, maker) = (slot.clone(), slot.clone());
        let server = Server::builder()
            .workers(1)
            .on_request(move |_| {
                Ender("request", hook.clone()).at(place);
                Ok(threadbare::Accept::new())
            })
            .serve("127.0.0.1:0", move |_| {
                Ender("make", maker.clone()).at(place);
                Ender(place, maker.clone())
            })
            .expect("a server");
        *slot.lock().expect("no panic") = Some(server.handle());
        let mut client = Client::tcp(server.local_addr());
        client.send(&[request("/", "").as_bytes(), &common::ping(b""), &close(1000)].concat());
        client.wait_for_end();
        drop(client);
        server.join();
        wait_for_end_of_threads(&format!("a server that its callback '{place}' ended"));
        slot.lock().expect("no panic").take();
    }
}

/// the port is free as soon as the server has ended, though the server closed first and so keeps the TIME_WAITs.
#[test]
fn r_13_the_same_port_again_at_once() {
    let _alone = alone();
    // On an address of its own no other test takes the port meanwhile.
    let host = if cfg!(target_os = "linux") { "127.0.0.13:0" } else { "127.0.0.1:0" };
    let mut addr: SocketAddr = host.parse().expect("an address");
    for round in 0..20 {
        let server = Server::builder().workers(2).serve(addr, |_| Echo).expect("the port is free");
        addr = server.local_addr();
        let running = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..5)
            .map(|_| {
                let (client, running) = (Client::open(addr), running.clone());
                thread::spawn(move || stream(client, &running))
            })
            .collect();
        eventually("all clients streaming", || running.load(Ordering::SeqCst) == 5);
        let report = server.shutdown(DEADLINE);
        assert_eq!((report.clean, report.forced), (5, 0), "round {round}");
        for client in clients {
            assert!(client.join().expect("a client").told);
        }
    }
}
