//! Floods and stalls: memory stays bounded, nothing is lost, and nobody else notices.

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use common::app::{App, BOTH_WAYS, Way, echo};
use common::{Client, DEADLINE, Frame, binary, close, eventually, ping};
use socket2::SockRef;
use threadbare::{Config, Event, Events, Handler, MessageRef, Peer, Server, ServerHandle, Socket};

/// One test at a time measures memory.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident memory in bytes; 0 where the system does not tell.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

const MIB: usize = 1 << 20;

/// one of two application threads stalls while many clients send. What waits for it is bounded, the connections of
/// the other are not disturbed, and in the end everything arrives, in order.
#[test]
fn r_05_a_stalled_application_loses_nothing() {
    const CLIENTS: usize = 50;
    const MESSAGES: usize = 2000;
    const SIZE: usize = 1024;
    let _alone = alone();
    let config = Config::default().max_event_buffer_size(256 << 10);
    let mut server = Server::builder().workers(2).channels(2).config(config).bind("127.0.0.1:0").expect("a server");
    let mut events = server.take_events();
    let (live, stalled) = (events.remove(0), events.remove(0));

    // Whoever is greeted belongs to the live thread.
    let application = thread::spawn(move || {
        for event in &live {
            match event {
                Event::Open(peer, _) => peer.send("live").expect("it is open"),
                Event::Message(peer, message) => drop(peer.send(message)),
                _ => {}
            }
        }
    });
    let mut live_clients = Vec::new();
    let mut stalled_clients = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::open(server.local_addr());
        // Channels are given out round about.
        if number % 2 == 0 { live_clients.push(client) } else { stalled_clients.push(client) }
    }
    for client in &mut live_clients {
        assert_eq!(client.expect_frame(), Frame::text("live"));
    }
    let opened: Vec<Peer> = stalled_clients.iter().map(|_| opened(&stalled)).collect();

    let before = resident();
    let written = Arc::new(AtomicUsize::new(0));
    let floods: Vec<_> = stalled_clients
        .into_iter()
        .enumerate()
        .map(|(sender, mut client)| {
            let written = written.clone();
            // Little that the client's own kernel takes for it.
            SockRef::from(&client.stream).set_send_buffer_size(16 << 10).expect("a socket");
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    client.send(&binary(&numbered(sender, number, SIZE)));
                    written.fetch_add(1, Ordering::SeqCst);
                }
                client.send(&close(1000));
                client.expect_close(1000);
            })
        })
        .collect();
    let echoes: Vec<_> = live_clients
        .into_iter()
        .enumerate()
        .map(|(sender, mut client)| {
            thread::spawn(move || {
                for number in 0..MESSAGES / 4 {
                    let message = numbered(sender, number, SIZE);
                    client.send(&binary(&message));
                    assert_eq!(client.expect_frame(), Frame::binary(&message));
                    if number % 100 == 0 {
                        client.send(&ping(b"and pongs"));
                        assert_eq!(client.expect_frame(), Frame::pong(b"and pongs"));
                    }
                }
            })
        })
        .collect();
    for client in echoes {
        client.join().expect("the live half is served");
    }
    // TCP pushes back on the stalled half.
    assert!(written.load(Ordering::SeqCst) < CLIENTS / 2 * MESSAGES, "everything was taken");
    let growth = resident().saturating_sub(before);
    assert!(growth < 16 * MIB, "{} KiB for events that wait", growth >> 10);
    let received: u64 = opened.iter().map(|peer| peer.stats().messages_received).sum();
    assert!(received < 2000, "{received} messages wait where 256 KiB are allowed");
    // Sending goes on.
    opened[0].ping(b"").expect("it is open");

    // The application comes back.
    let mut next = [0; CLIENTS / 2];
    let mut ended = 0;
    while ended < next.len() {
        match stalled.recv_timeout(DEADLINE).expect("an event") {
            Event::Message(_, message) => {
                let (sender, number) = parse(message.as_bytes());
                assert_eq!(number, next[sender], "the order of sender {sender}");
                next[sender] += 1;
            }
            Event::Close(_, reason) => {
                assert_eq!(reason.code.0, 1000, "{reason}");
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next, [MESSAGES; CLIENTS / 2], "none is lost");
    for (sender, flood) in floods.into_iter().enumerate() {
        let outcome = flood.join();
        assert!(sender == 0 || outcome.is_ok(), "sender {sender}");
    }
    drop(server);
    application.join().expect("the application");
}

fn opened(events: &Events) -> Peer {
    match events.recv_timeout(DEADLINE) {
        Ok(Event::Open(peer, _)) => peer,
        other => panic!("{other:?}"),
    }
}

fn numbered(sender: usize, number: usize, size: usize) -> Vec<u8> {
    let mut message = vec![sender as u8; size];
    message[..4].copy_from_slice(&(number as u32).to_be_bytes());
    message
}

fn parse(message: &[u8]) -> (usize, usize) {
    let number = message.first_chunk().map(|number| u32::from_be_bytes(*number)).expect("a number");
    (usize::from(message[4]), number as usize)
}

/// a stall that ends and comes again; nothing is lost in between.
#[test]
fn r_05_an_application_that_comes_and_goes() {
    let _alone = alone();
    // With a limit of one every event is waited for.
    for (limit, messages) in [(1, 50), (1000, 500), (100_000, 500)] {
        let config = Config::default().max_event_buffer_size(limit);
        let server = Server::builder().workers(2).config(config).bind("127.0.0.1:0").expect("a server");
        let addr = server.local_addr();
        let clients: Vec<_> = (0..8)
            .map(|sender| {
                thread::spawn(move || {
                    let mut client = Client::open(addr);
                    for number in 0..messages {
                        client.send(&binary(&numbered(sender, number, 100)));
                    }
                    client.send(&close(1000));
                    client.expect_close(1000);
                })
            })
            .collect();
        let mut next = [0; 8];
        let mut ended = 0;
        let mut taken = 0;
        while ended < 8 {
            taken += 1;
            if taken % 97 == 0 {
                thread::yield_now();
            }
            match server.recv_timeout(DEADLINE).expect("an event") {
                Event::Message(_, message) => {
                    let (sender, number) = parse(message.as_bytes());
                    assert_eq!(number, next[sender], "limit {limit}");
                    next[sender] += 1;
                }
                Event::Close(..) => ended += 1,
                _ => {}
            }
        }
        assert_eq!(next, [messages; 8], "limit {limit}");
        for client in clients {
            client.join().expect("a client");
        }
    }
}

/// T-03: an echo server and a client that sends and does not read, then reads.
#[test]
fn t_03_output_for_a_peer_that_does_not_read_is_bounded() {
    const MESSAGES: usize = 40;
    let _alone = alone();
    for way in BOTH_WAYS {
        let config = Config::default().max_write_buffer_size(256 << 10).max_event_buffer_size(MIB);
        let app = App::start(way, Server::builder().workers(1).config(config), echo);
        let mut client = Client::narrow(app.addr);
        let peer = app.opened();
        let before = resident();
        let mut stream = client.stream.try_clone().expect("a socket");
        let writer = thread::spawn(move || {
            for number in 0..MESSAGES {
                stream.write_all(&binary(&vec![number as u8; MIB])).expect("the server takes it in the end");
            }
        });
        // As much as the kernel takes in both directions, and the mark: then nothing moves.
        eventually("the output above its mark", || peer.queued_bytes() >= 256 << 10);
        let highest = peer.queued_bytes();
        let growth = resident().saturating_sub(before);
        assert!(highest < (256 << 10) + 2 * MIB, "{highest} bytes are queued");
        // The history of the test holds each message once in the end, and the writer one at a time.
        assert!(growth < (MESSAGES + 10) * MIB, "{} KiB more", growth >> 10);
        for number in 0..MESSAGES {
            assert!(client.expect_frame() == Frame::binary(&vec![number as u8; MIB]), "{way:?}: message {number}");
        }
        writer.join().expect("the writer");
        client.send(&close(1000));
        client.expect_close(1000);
        app.finish();
    }
}

/// T-05: pings without end from a client that does not read the pongs. Memory is bounded, and when it reads again, the
/// last ping was answered.
#[test]
fn t_05_a_flood_of_pings() {
    const PINGS: u32 = 100_000;
    let _alone = alone();
    for way in BOTH_WAYS {
        let config = Config::default().max_write_buffer_size(64 << 10).write_timeout(Duration::from_secs(600));
        let app = App::start(way, Server::builder().workers(1).config(config), echo);
        let mut client = Client::narrow(app.addr);
        let peer = app.opened();
        let before = resident();
        let mut stream = client.stream.try_clone().expect("a socket");
        let writer = thread::spawn(move || {
            for start in (0..PINGS).step_by(100) {
                let pings: Vec<u8> = (start..start + 100).flat_map(|number| ping(&padded(number))).collect();
                stream.write_all(&pings).expect("the server takes it in the end");
            }
        });
        eventually("the output above its mark", || peer.queued_bytes() >= 64 << 10);
        assert!(peer.queued_bytes() < 128 << 10, "{:?}", peer.stats());
        let growth = resident().saturating_sub(before);
        assert!(growth < 4 * MIB, "{} KiB for pongs", growth >> 10);
        // RFC 6455 5.5.3 lets pongs be left out, but not come out of order.
        let mut last = None;
        while last != Some(PINGS - 1) {
            let payload = client.expect_frame().payload;
            let number = payload.first_chunk().map(|number| u32::from_be_bytes(*number)).expect("a number");
            assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
            last = Some(number);
        }
        writer.join().expect("the writer");
        drop(client);
        app.finish();
    }
}

fn padded(number: u32) -> [u8; 125] {
    let mut payload = [0; 125];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

/// T-06: a flood of tiny frames on one connection, and another one of the same worker.
#[test]
fn t_06_a_flood_does_not_hold_up_its_neighbour() {
    let _alone = alone();
    for way in BOTH_WAYS {
        // One that notes nothing: the flood would fill its notes.
        let (control, addr, application) = quiet_echo(way);
        let mut flood = Client::open(addr);
        let mut neighbour = Client::open(addr);
        let mut reader = Client::over(flood.stream.try_clone().expect("a socket"));
        // Until its connection is dropped under it.
        let writer = thread::spawn(move || {
            let frames = binary(b"").repeat(5000);
            while flood.stream.write_all(&frames).is_ok() {}
        });
        let drain = thread::spawn(move || reader.wait_for_end());
        for number in 0_u32..200 {
            neighbour.send(&binary(&number.to_be_bytes()));
            assert_eq!(neighbour.expect_frame(), Frame::binary(&number.to_be_bytes()), "{way:?}");
        }
        control.shutdown(Duration::from_millis(1));
        writer.join().expect("the writer");
        drain.join().expect("the reader");
        application.join().expect("the application");
    }
}

fn quiet_echo(way: Way) -> (ServerHandle, SocketAddr, thread::JoinHandle<()>) {
    struct Echo;
    impl Handler for Echo {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            socket.send(message);
        }
    }
    let builder = Server::builder().workers(1);
    let server = match way {
        Way::Handler => builder.serve("127.0.0.1:0", |_| Echo),
        Way::Channel => builder.bind("127.0.0.1:0"),
    };
    let server = server.expect("a server");
    let (handle, addr) = (server.handle(), server.local_addr());
    let application = thread::spawn(move || {
        for event in &server {
            if let Event::Message(peer, message) = event {
                let _ = peer.send(message); // the peer may be gone
            }
        }
        server.join();
    });
    (handle, addr, application)
}
