//! Clients that flood, and applications and clients that stall: memory stays bounded, no message is lost, and other
//! connections are served.

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::app::{App, echo};
use common::servers::{Echo, Mode};
use common::{Client, DEADLINE, Frame, binary, close, eventually, masked, ping, serialize_test};
use socket2::SockRef;
use threadbare::protocol::frame::Opcode;
use threadbare::{
    Config, Event, EventRef, Events, FragmentRef, Handler, MessageRef, Peer, Receive, Server, ServerBuilder,
    ServerHandle, Socket,
};

/// The resident memory in bytes; 0 where the system has no `/proc`.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

const MIB: usize = 1 << 20;

/// T-06, R-05: one client floods an application that takes no events. The others' pings are answered, and what they send
/// is received; nothing is lost.
#[test]
fn t_06_r_05_a_flood_that_fills_the_event_buffer_does_not_keep_others_waiting() {
    const MESSAGES: usize = 20_000;
    for workers in [1, 2] {
        let _guard = serialize_test();
        let config = Config::default().max_event_buffer_size(64 << 10);
        let server = Server::builder().workers(workers).config(config).bind("127.0.0.1:0").expect("a server");
        // Some of the others share the worker of the flood.
        let mut others: Vec<Client> = (0..4).map(|_| Client::open(server.local_addr())).collect();
        let mut flooding = Client::open(server.local_addr());
        let events = server.events().expect("not taken").clone();
        let handle = server.handle();
        // Before the flood, because another worker may be late with what it has to tell.
        let peers: Vec<Peer> = (0..others.len() + 1).map(|_| opened(&events)).collect();
        let flood = thread::spawn(move || {
            for number in 0..MESSAGES {
                flooding.send(&binary(&numbered(0, number, 1024)));
            }
            flooding.send(&close(1000));
            flooding.expect_close(1000);
        });
        // A message counts 64 bytes more than its payload.
        eventually("the event buffer is full", || {
            peers.iter().map(|peer| peer.stats().messages_received).sum::<u64>() >= (64 << 10) / (1024 + 64)
        });
        for round in 0..10 {
            for (number, client) in others.iter_mut().enumerate() {
                let payload = [round, number as u8];
                client.send(&ping(&payload));
                assert_eq!(client.expect_frame(), Frame::pong(&payload));
                client.send(&binary(&numbered(number + 1, usize::from(round), 100)));
            }
        }
        let mut next = [0; 5];
        while next != [MESSAGES, 10, 10, 10, 10] {
            if let Event::Message(_, message) = events.recv_timeout(DEADLINE).expect("an event") {
                let (sender, number) = parse(message.as_bytes());
                assert_eq!(number, next[sender], "the order of sender {sender}");
                next[sender] += 1;
            }
        }
        assert!(handle.connections() >= others.len());
        while !matches!(events.recv_timeout(DEADLINE).expect("an event"), Event::Close(..)) {}
        flood.join().expect("the flood ends");
    }
}

/// T-06: what one client has waiting for the application is bounded, far below the event buffer, so that the application comes to
/// what the others send. One that is alone fills the buffer.
#[test]
fn t_06_the_others_wait_behind_the_window_of_a_flood_and_no_longer() {
    const MESSAGES: usize = 20_000;
    const WINDOW: usize = 256; // of small messages
    for workers in [1, 2] {
        let _guard = serialize_test();
        let server = Server::builder().workers(workers).bind("127.0.0.1:0").expect("a server");
        let events = server.events().expect("not taken").clone();
        let mut other = Client::open(server.local_addr());
        let quiet = opened(&events);
        let mut flooding = Client::open(server.local_addr());
        let loud = opened(&events);
        let flood = thread::spawn(move || {
            for number in 0..MESSAGES {
                flooding.send(&binary(&numbered(0, number, 16)));
            }
            flooding
        });
        let (mut next, mut waited) = (0, 0);
        let mut receive = |until: usize| {
            let begun = next;
            loop {
                let Event::Message(_, message) = events.recv_timeout(DEADLINE).expect("an event") else { continue };
                let (sender, number) = parse(message.as_bytes());
                if sender == 1 {
                    waited = waited.max(next - begun);
                    return next;
                }
                assert_eq!(number, next);
                next += 1;
                if next == until {
                    return next;
                }
            }
        };
        eventually("the flood has begun", || loud.stats().messages_received > 100);
        for round in 0..20 {
            other.send(&binary(&numbered(1, round, 16)));
            eventually("it is received", || quiet.stats().messages_received > round as u64);
            receive(MESSAGES);
        }
        receive(MESSAGES);
        assert!(waited <= WINDOW, "{waited} messages of the flood came first");
        drop(flood.join().expect("it was received"));
    }
}

/// Echoes whole messages, and what is a whole message in one fragment.
struct EchoAny;

impl Handler for EchoAny {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }

    fn on_fragment(&mut self, socket: &mut Socket<'_>, fragment: FragmentRef<'_>) {
        if fragment.is_first() && fragment.is_last() {
            socket.send(fragment.as_bytes());
        }
    }
}

/// T-06: a message of fragments without a payload goes on as long as its sender likes. It takes no memory, and the other
/// connections of its worker are served in between.
#[test]
fn t_06_a_flood_of_empty_fragments_delays_nobody() {
    for receive in [Receive::Messages, Receive::Fragments { max_size: None }] {
        let _guard = serialize_test();
        let builder = Server::builder().workers(1).config(Config::default().receive(receive));
        let server = builder.serve("127.0.0.1:0", |_| EchoAny).expect("a server");
        let mut flooding = Client::open(server.local_addr());
        let mut other = Client::open(server.local_addr());
        flooding.send(&masked(false, 0, Opcode::Text, "é".as_bytes().split_at(1).0));
        let is_over = Arc::new(AtomicBool::new(false));
        let flood = thread::spawn({
            let is_over = is_over.clone();
            move || {
                let many = masked(false, 0, Opcode::Continuation, b"").repeat(10_000);
                while !is_over.load(Ordering::SeqCst) {
                    flooding.send(&many);
                }
                flooding.send(&masked(true, 0, Opcode::Continuation, "é".as_bytes().split_at(1).1));
                flooding.expect_frame().payload
            }
        });
        for number in 0..200 {
            other.send(&binary(&numbered(1, number, 16)));
            assert_eq!(parse(&other.expect_frame().payload), (1, number));
            let memory = server.handle().memory();
            assert!(memory < MIB, "{memory} bytes");
        }
        is_over.store(true, Ordering::SeqCst);
        // Its two bytes make one character, and so one fragment.
        assert_eq!(flood.join().expect("no panic"), "é".as_bytes());
    }
}

/// T-06: an application thread that works for long on what it has taken holds up nobody whose events another thread could take.
#[test]
fn t_06_a_thread_that_works_for_long_leaves_the_windows_open() {
    const MESSAGES: usize = 2_000;
    for workers in [1, 2] {
        let _guard = serialize_test();
        let server = Server::builder().workers(workers).bind("127.0.0.1:0").expect("a server");
        let events = server.events().expect("not taken").clone();
        let mut large = Client::open(server.local_addr());
        opened(&events);
        let mut small = Client::open(server.local_addr());
        opened(&events);
        large.send(&binary(&[7; 200_000]));
        let mut busy = events.iter();
        let Some(EventRef::Message(_, taken)) = busy.next_ref() else { panic!("the large message") };
        assert_eq!(taken.as_message().len(), 200_000);
        let sender = thread::spawn(move || {
            for number in 0..MESSAGES {
                small.send(&binary(&numbered(1, number, 16)));
            }
            small
        });
        for next in 0..MESSAGES {
            match events.recv_timeout(DEADLINE) {
                Ok(Event::Message(_, message)) => assert_eq!(parse(message.as_bytes()), (1, next)),
                other => panic!("after {next} messages: {other:?}"),
            }
        }
        drop(sender.join().expect("all was received"));
    }
}

/// one of two application threads stalls while many clients send to it. The waiting events are bounded, the other
/// thread's connections are served, and in the end every message arrives, in order.
#[test]
fn r_05_a_stalled_application_thread_loses_no_message() {
    const CLIENTS: usize = 50;
    const MESSAGES: usize = 2000;
    const SIZE: usize = 1024;
    let _guard = serialize_test();
    let config = Config::default().max_event_buffer_size(256 << 10);
    let mut server = Server::builder().workers(2).channels(2).config(config).bind("127.0.0.1:0").expect("a server");
    let mut events = server.take_events();
    let (live, stalled) = (events.remove(0), events.remove(0));

    // The live thread greets its connections.
    let application = thread::spawn(move || {
        for event in &live {
            match event {
                Event::Open(peer, _) => peer.send("live").expect("the connection is open"),
                Event::Message(peer, message) => drop(peer.send(message)),
                _ => {}
            }
        }
    });
    let mut live_clients = Vec::new();
    let mut stalled_clients = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::open(server.local_addr());
        // Connections are assigned to the channels in turn.
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
            // The client's kernel buffers little.
            SockRef::from(&client.stream).set_send_buffer_size(16 << 10).expect("a socket");
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    client.send(&binary(&numbered(sender, number, SIZE)));
                    written.fetch_add(1, Ordering::SeqCst);
                }
                client.send(&close(1000));
                // One of the connections is pinged while it is not read.
                let mut frame = client.expect_frame();
                let pinged = frame.opcode == Opcode::Ping;
                if pinged {
                    frame = client.expect_frame();
                }
                assert_eq!(frame.close_code(), 1000);
                assert_eq!(client.frame(), None);
                pinged
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
        client.join().expect("the live connections are served");
    }
    // TCP flow control stops the clients of the stalled thread.
    assert!(written.load(Ordering::SeqCst) < CLIENTS / 2 * MESSAGES, "the server received everything");
    let growth = resident().saturating_sub(before);
    assert!(growth < 16 * MIB, "{} KiB for waiting events", growth >> 10);
    let received: u64 = opened.iter().map(|peer| peer.stats().messages_received).sum();
    assert!(received < 2000, "{received} messages wait, though the limit is 256 KiB");
    // Sending to a connection that is not read still works.
    opened[0].ping(b"").expect("the connection is open");

    // The stalled thread continues.
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
    assert_eq!(next, [MESSAGES; CLIENTS / 2], "no message is lost");
    let pinged = floods.into_iter().map(|flood| flood.join().expect("a sender")).filter(|pinged| *pinged);
    assert_eq!(pinged.count(), 1, "one connection was pinged");
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

/// reading is paused and resumed many times.
#[test]
fn r_05_every_message_arrives_in_order_at_any_event_buffer_size() {
    let _guard = serialize_test();
    // With a limit of one byte, reading is paused after every event.
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
        while ended < 8 {
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

/// T-03: the client of an echo server sends without reading, and then reads.
#[test]
fn t_03_output_for_a_peer_that_does_not_read_is_bounded() {
    const MESSAGES: usize = 40;
    let _guard = serialize_test();
    for mode in Mode::ALL {
        let config = Config::default().max_write_buffer_size(256 << 10).max_event_buffer_size(MIB);
        let app = App::start(mode, Server::builder().workers(1).config(config), echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let before = resident();
        let mut stream = client.stream.try_clone().expect("a socket");
        let writer = thread::spawn(move || {
            for number in 0..MESSAGES {
                stream.write_all(&binary(&vec![number as u8; MIB])).expect("the server reads on in the end");
            }
        });
        // The socket buffers fill, then the send queue. Above its high-water mark the server stops reading.
        eventually("the send queue is above its high-water mark", || peer.queued_bytes() >= 256 << 10);
        for number in 0..MESSAGES {
            let queued = peer.queued_bytes();
            assert!(queued < (256 << 10) + 2 * MIB, "{queued} bytes are queued");
            // The test's own history holds every message once, and its writer one at a time.
            let growth = resident().saturating_sub(before);
            assert!(growth < (number + 20) * MIB, "{} KiB more memory at message {number}", growth >> 10);
            assert!(client.expect_frame() == Frame::binary(&vec![number as u8; MIB]), "{mode:?}: message {number}");
        }
        writer.join().expect("the writer");
        client.send(&close(1000));
        client.expect_close(1000);
        app.finish();
    }
}

/// T-05: a client sends pings and does not read the pongs. Memory is bounded, and the last ping is answered when the
/// client reads again.
#[test]
fn t_05_pongs_for_a_flood_of_pings_are_bounded() {
    const PINGS: u32 = 100_000;
    let _guard = serialize_test();
    for mode in Mode::ALL {
        let config = Config::default().max_write_buffer_size(64 << 10).write_timeout(Duration::from_secs(600));
        let app = App::start(mode, Server::builder().workers(1).config(config), echo);
        let mut client = Client::open_with_small_buffer(app.addr);
        let peer = app.opened();
        let before = resident();
        let mut stream = client.stream.try_clone().expect("a socket");
        let writer = thread::spawn(move || {
            for start in (0..PINGS).step_by(100) {
                let pings: Vec<u8> = (start..start + 100).flat_map(|number| ping(&padded(number))).collect();
                stream.write_all(&pings).expect("the server reads on in the end");
            }
        });
        eventually("the send queue is above its high-water mark", || peer.queued_bytes() >= 64 << 10);
        // RFC 6455 5.5.3: pongs to all but the latest ping may be omitted. They may not be reordered.
        let mut last = None;
        while last != Some(PINGS - 1) {
            let queued = peer.queued_bytes();
            assert!(queued < 128 << 10, "{queued} bytes are queued");
            let payload = client.expect_frame().payload;
            let number = payload.first_chunk().map(|number| u32::from_be_bytes(*number)).expect("a number");
            assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
            last = Some(number);
        }
        let growth = resident().saturating_sub(before);
        assert!(growth < 4 * MIB, "{} KiB for pongs", growth >> 10);
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

/// T-06: tiny frames flood one connection of a worker.
#[test]
fn t_06_a_flood_does_not_delay_other_connections_of_its_worker() {
    let _guard = serialize_test();
    for way in Way::ALL {
        // An `App` would record the whole flood.
        let (handle, addr, application) = unrecorded_echo(way, Server::builder().workers(1));
        let mut flood = Client::open(addr);
        let mut other = Client::open(addr);
        let mut reader = Client::from_stream(flood.stream.try_clone().expect("a socket"));
        // The writer stops when the server closes the connection.
        let writer = thread::spawn(move || {
            let frames = binary(b"").repeat(5000);
            while flood.stream.write_all(&frames).is_ok() {}
        });
        let drain = thread::spawn(move || reader.wait_for_end());
        for number in 0_u32..200 {
            other.send(&binary(&number.to_be_bytes()));
            assert_eq!(other.expect_frame(), Frame::binary(&number.to_be_bytes()), "{way:?}");
        }
        handle.shutdown(Duration::from_millis(1));
        writer.join().expect("the writer");
        drain.join().expect("the reader");
        application.join().expect("the application");
    }
}

/// T-03, T-06: beside a client that reads nothing, one that reads a trickle, and one that floods, all others get every
/// answer, in order. So do the three, once they read.
#[test]
fn t_03_t_06_clients_that_stall_trickle_or_flood_cost_nobody_a_message() {
    const THREADS: usize = 4;
    const CLIENTS: usize = 25;
    const ROUNDS: usize = 40;
    let _guard = serialize_test();
    for (way, workers) in [(Way::Handler, 1), (Way::Handler, 2), (Way::Events, 1), (Way::Events, 2), (Way::Inline, 1)] {
        // The one that reads nothing stays until it reads.
        let config = Config::default().write_timeout(Duration::from_secs(3600));
        let (handle, addr, application) = unrecorded_echo(way, Server::builder().workers(workers).config(config));
        let stop = Arc::new(AtomicBool::new(false));
        let stalled = Sending::start(addr, 1024, &stop);
        let mut trickling = Sending::start(addr, 4096, &stop);
        let flooding = Sending::start(addr, 16, &stop);
        let flooding = thread::spawn(|| flooding.finish());
        let honest: Vec<_> = (0..THREADS)
            .map(|thread| {
                thread::spawn(move || {
                    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::open(addr)).collect();
                    for round in 0..ROUNDS {
                        let message = |client| numbered(thread * CLIENTS + client, round, 16 + 1000 * (round % 10));
                        for (number, client) in clients.iter_mut().enumerate() {
                            client.send(&binary(&message(number)));
                        }
                        for (number, client) in clients.iter_mut().enumerate() {
                            assert!(client.expect_frame() == Frame::binary(&message(number)), "{number} in {round}");
                        }
                    }
                    for client in &mut clients {
                        client.send(&close(1000));
                        client.expect_close(1000);
                    }
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            trickling.receive();
        }
        for client in honest {
            client.join().expect("the others are served");
        }
        stop.store(true, Ordering::SeqCst);
        for received in [stalled.finish(), trickling.finish(), flooding.join().expect("the flood is answered")] {
            assert!(received > ROUNDS, "{way:?}: {received} messages");
        }
        handle.shutdown(DEADLINE);
        application.join().expect("the application");
    }
}

/// A client that sends numbered messages as fast as the server takes them, and reads when it is told to.
struct Sending {
    client: Client,
    size: usize,
    received: usize,
    writer: thread::JoinHandle<usize>,
}

impl Sending {
    fn start(addr: SocketAddr, size: usize, stop: &Arc<AtomicBool>) -> Sending {
        let client = Client::open_with_small_buffer(addr);
        // It waits for the server as long as the test takes.
        client.stream.set_write_timeout(None).expect("a socket");
        let (mut stream, stop) = (client.stream.try_clone().expect("a socket"), stop.clone());
        let writer = thread::spawn(move || {
            let mut sent = 0;
            while !stop.load(Ordering::SeqCst) {
                stream.write_all(&binary(&numbered(0, sent, size))).expect("the server reads on in the end");
                sent += 1;
            }
            stream.write_all(&close(1000)).expect("the server reads on in the end");
            sent
        });
        Sending { client, size, received: 0, writer }
    }

    /// Receives the next answer; `false` if it is the close frame.
    fn receive(&mut self) -> bool {
        let frame = self.client.expect_frame();
        if frame.opcode == Opcode::Close {
            assert_eq!(frame.close_code(), 1000);
            return false;
        }
        assert!(frame == Frame::binary(&numbered(0, self.received, self.size)), "answer {}", self.received);
        self.received += 1;
        true
    }

    /// Receives all answers. Returns how many there were.
    fn finish(mut self) -> usize {
        while self.receive() {}
        assert_eq!(self.received, self.writer.join().expect("the writer"), "every message is answered");
        self.received
    }
}

/// How an application gets its messages.
#[derive(Clone, Copy, Debug)]
enum Way {
    Handler,
    Events,
    Inline,
}

impl Way {
    const ALL: [Way; 3] = [Way::Handler, Way::Events, Way::Inline];
}

/// An echo server that records no events.
fn unrecorded_echo(way: Way, builder: ServerBuilder) -> (ServerHandle, SocketAddr, thread::JoinHandle<()>) {
    if let Way::Inline = way {
        let mut event_loop = builder.bind_inline("127.0.0.1:0").expect("a server");
        let (handle, addr) = (event_loop.handle(), event_loop.local_addr());
        let application = thread::spawn(move || {
            let answer = |event: EventRef<'_>| {
                if let EventRef::Message(peer, message) = event {
                    let _ = peer.send(message); // the peer may be gone
                }
            };
            event_loop.run(answer).expect("a poll");
        });
        return (handle, addr, application);
    }
    let server = match way {
        Way::Handler => builder.serve("127.0.0.1:0", |_| Echo),
        _ => builder.bind("127.0.0.1:0"),
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
