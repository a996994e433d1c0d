//! The memory of a server: `ServerHandle::memory` counts what the heap has, under each attack, and `Config::max_memory`
//! bounds it.

mod common;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use common::client_group::within_file_limit;
use common::{
    Client, DEADLINE, Frame, binary, eventually, ping, request, serialize_test, server_threads, text,
    wait_for_end_of_threads,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use threadbare::protocol::frame::{FrameHeader, Opcode};
use threadbare::{
    CloseCode, Config, Event, EventRef, Events, Handler, Listener, MessageRef, Peer, Prepared, Receive, SendOptions,
    Server, ServerHandle, SlowConsumer, Socket, StreamOptions,
};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MIB: usize = 1 << 20;

/// The bytes that this process has allocated.
fn allocated() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated)
}

/// A comparison of the server's count with the growth of the heap.
struct Comparison {
    handle: ServerHandle,
    before: usize,
}

impl Comparison {
    fn begin(server: &Server) -> Comparison {
        let handle = server.handle();
        assert_eq!(handle.memory(), 0);
        Comparison { handle, before: allocated() }
    }

    /// Waits until the server counts at least `least` bytes, and what it counts is the growth of the heap within 10 %.
    fn agrees(&self, what: &str, least: usize) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (counted, heap) = (self.handle.memory(), allocated().saturating_sub(self.before));
            if counted >= least && counted.abs_diff(heap) <= heap / 10 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {counted} bytes are counted, of {least} at least, and the heap has {heap} more"
            );
            thread::yield_now();
        }
    }

    /// Waits until nothing is counted any more.
    fn ends(self) {
        eventually("all connections have ended", || self.handle.connections() == 0);
        let deadline = Instant::now() + DEADLINE;
        while self.handle.memory() > 0 {
            assert!(Instant::now() < deadline, "{} bytes are counted after the end", self.handle.memory());
            thread::yield_now();
        }
    }
}

/// Opens connections whose clients keep no memory.
fn open(server: &Server, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| Client::open_with_small_buffer(server.local_addr()).stream).collect()
}

/// Takes events until so many connections are closed.
fn take_until_closed(events: &Events, mut connections: usize) {
    while connections > 0 {
        connections -= usize::from(matches!(events.recv_timeout(DEADLINE).expect("an event"), Event::Close(..)));
    }
    // The last batch of events is freed when the next is asked for.
    assert!(events.try_recv().is_err());
}

/// The first `size` bytes of a binary message of `whole` bytes.
fn partial(whole: usize, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHeader::new(Opcode::Binary, whole as u64, Some([0; 4])).encode(&mut bytes);
    bytes.resize(bytes.len() + size, 0);
    bytes
}

/// A handler that hands out its peer, and blocks for each message until the test says so.
struct Blocking(Sender<Peer>, Receiver<()>);

impl Handler for Blocking {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        let _ = self.0.send(socket.peer());
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {
        let _ = self.1.recv();
    }
}

#[test]
fn r_22_partial_messages_are_counted() {
    let _guard = serialize_test();
    for workers in [1, 2] {
        let server = Server::builder().workers(workers).serve("127.0.0.1:0", |_| Ignore).expect("a server");
        let comparison = Comparison::begin(&server);
        let mut clients = open(&server, 40);
        let bytes = partial(MIB, 500 << 10);
        let held = bytes.len();
        clients.iter_mut().for_each(|client| client.write_all(&bytes).expect("read"));
        drop(bytes);
        comparison.agrees("partial messages", 40 * held);
        // Fragments of a message, and small ones.
        let mut more = open(&server, 40);
        for client in &mut more {
            let mut fragment = binary(&[7; 3000]);
            fragment[0] &= 0x7f;
            client.write_all(&fragment).expect("read");
            fragment[0] = 0;
            (0..30).for_each(|_| client.write_all(&fragment).expect("read"));
        }
        comparison.agrees("fragments", 40 * held + 40 * 90_000);
        drop((clients, more));
        comparison.ends();
    }
}

struct Ignore;

impl Handler for Ignore {
    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
}

/// A worker that ends takes its pool of buffers with it.
#[test]
fn r_22_nothing_is_counted_after_a_shutdown() {
    let _guard = serialize_test();
    let server = Server::builder().workers(2).serve("127.0.0.1:0", |_| Echo).expect("a server");
    let handle = server.handle();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::open(server.local_addr())).collect();
    let message = binary(&vec![7; 500_000]);
    for client in &mut clients {
        client.send(&message);
        assert_eq!(client.expect_frame().payload.len(), 500_000);
    }
    drop(clients);
    server.shutdown(DEADLINE);
    assert_eq!(handle.memory(), 0);
}

#[test]
fn r_22_queued_output_is_counted() {
    let _guard = serialize_test();
    /// Sends as many bytes as it is asked for.
    struct Generous;
    impl Handler for Generous {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            let size: usize = message.as_text().and_then(|text| text.parse().ok()).expect("a number");
            for _ in 0..8 * MIB / size {
                socket.send(vec![1; size]);
            }
        }
    }
    for size in [100, 3_000, MIB] {
        let server = Server::builder().workers(2).serve("127.0.0.1:0", |_| Generous).expect("a server");
        let comparison = Comparison::begin(&server);
        let mut clients = open(&server, 10);
        clients.iter_mut().for_each(|client| client.write_all(&text(&size.to_string())).expect("read"));
        // The kernel takes some megabytes of each.
        comparison.agrees(&format!("messages of {size} bytes"), 20 * MIB);
        drop(clients);
        comparison.ends();
    }
}

#[test]
fn r_22_waiting_events_are_counted() {
    let _guard = serialize_test();
    // Of one connection, for there is a limit on what others have waiting beside it.
    for (size, count, least) in
        [(10, 40_000, 1_300_000), (1_000, 4_000, 3_000_000), (60_000, 60, 3_000_000), (500_000, 10, 5 * MIB - 500_000)]
    {
        let config = Config::default().max_event_buffer_size(8 * MIB);
        let server = Server::builder().workers(2).config(config).bind("127.0.0.1:0").expect("a server");
        let comparison = Comparison::begin(&server);
        let mut clients = open(&server, 1);
        let message = binary(&vec![9; size]);
        for client in &mut clients {
            (0..count).for_each(|_| client.write_all(&message).expect("read"));
        }
        drop(message);
        comparison.agrees(&format!("events of {size} bytes"), least);
        drop(clients);
        let events = server.events().expect("not taken");
        take_until_closed(events, 1);
        comparison.ends();
    }
}

/// The receive buffers that fragments wait in are counted, and freed although the worker sleeps when they come back to it.
#[test]
fn r_22_receive_buffers_on_their_way_are_counted_and_freed() {
    let _guard = serialize_test();
    // Nothing else wakes the worker.
    let config = Config::default().receive(Receive::Fragments { max_size: None }).ping_interval(None);
    let server = Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a server");
    let mut begin = Vec::new();
    let header = FrameHeader::new(Opcode::Binary, 32 * MIB as u64, Some([0; 4]));
    header.encode(&mut begin);
    begin.resize(32 * MIB, 7);
    let comparison = Comparison::begin(&server);
    let before = comparison.before;
    let held_by_heap = || allocated().saturating_sub(before);
    let mut clients = open(&server, 1);
    let events = server.events().expect("not taken");
    thread::scope(|scope| {
        let stream = clients[0].try_clone().expect("a socket");
        scope.spawn(|| clients[0].write_all(&begin).expect_err("it is not read to the end"));
        comparison.agrees("receive buffers", 512 << 10);
        let mut iter = events.iter();
        loop {
            match iter.next_ref().expect("an event") {
                EventRef::Fragment(_, fragment) if fragment.len() >= 64 << 10 => break,
                event => assert!(matches!(event, EventRef::Open(..) | EventRef::Fragment(..)), "{event:?}"),
            }
        }
        stream.shutdown(Shutdown::Both).expect("open");
        while !matches!(events.recv_timeout(DEADLINE).expect("an event"), Event::Close(..)) {}
        eventually("the others are freed", || held_by_heap() < 400 << 10);
        assert!(held_by_heap() >= 256 << 10, "the application has one");
        drop(iter);
    });
    eventually("all are freed", || held_by_heap() < 128 << 10);
    assert!(events.try_recv().is_err(), "which gives back the batch that the last event was in");
    comparison.ends();
}

/// Sends tiny messages from many clients, as many as the kernel takes at once, and returns how many are complete.
fn flood(clients: &mut [TcpStream]) -> usize {
    let message = binary(b"");
    let burst = message.repeat((48 << 10) / message.len());
    let flood = |client: &mut TcpStream| {
        client.set_nonblocking(true).expect("a socket");
        client.write(&burst).expect("the kernel takes some") / message.len()
    };
    clients.iter_mut().map(flood).sum()
}

/// of a flood of tiny messages, a drive decodes only some of what one read brings. So less is read at once while
/// much is undecoded: here 256 KiB, and 4 KiB for each client.
#[test]
fn r_05_what_is_read_of_floods_and_not_decoded_is_bounded_with_a_handler() {
    /// Records the most memory, and blocks for a text until the test says so.
    struct Recording(Arc<OnceLock<ServerHandle>>, Arc<[AtomicUsize; 2]>, Arc<Mutex<Receiver<()>>>);
    impl Handler for Recording {
        fn on_message(&mut self, _: &mut Socket<'_>, message: MessageRef<'_>) {
            if message.as_text().is_some() {
                let _ = self.2.lock().expect("no panic").recv();
            }
            self.1[0].fetch_add(1, Ordering::SeqCst);
            self.1[1].fetch_max(self.0.get().map_or(0, ServerHandle::memory), Ordering::SeqCst);
        }
    }
    let _guard = serialize_test();
    let (handle, counts) = (Arc::new(OnceLock::new()), Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]));
    let (release, blocked) = mpsc::channel();
    let blocked = Arc::new(Mutex::new(blocked));
    let make = {
        let (handle, counts) = (handle.clone(), counts.clone());
        move |_: &_| Recording(handle.clone(), counts.clone(), blocked.clone())
    };
    let config = Config::default().max_event_buffer_size(256 << 10);
    let server = Server::builder().workers(1).config(config).serve("127.0.0.1:0", make).expect("a server");
    handle.set(server.handle()).expect("set once");
    let mut clients = open(&server, 100);
    let mut blocker = Client::open(server.local_addr());
    blocker.send(&text("block"));
    let sent = flood(&mut clients);
    drop(release);
    eventually("all are received", || counts[0].load(Ordering::SeqCst) == sent + 1);
    let most = counts[1].load(Ordering::SeqCst);
    assert!(most < MIB, "{} KiB are not decoded", most >> 10);
}

/// the same with events, whose application takes them slowly.
#[test]
fn r_05_what_is_read_of_floods_and_not_decoded_is_bounded_with_events() {
    let _guard = serialize_test();
    for workers in [1, 2] {
        let config = Config::default().max_event_buffer_size(256 << 10);
        let server = Server::builder().workers(workers).config(config).bind("127.0.0.1:0").expect("a server");
        let mut clients = open(&server, 100);
        let sent = flood(&mut clients);
        let (events, handle) = (server.events().expect("not taken"), server.handle());
        let (mut received, mut most) = (0, 0);
        while received < sent {
            received += usize::from(matches!(events.recv_timeout(DEADLINE).expect("an event"), Event::Message(..)));
            most = most.max(handle.memory());
        }
        // Events in flight and the buffers of the workers are in it. It is 4 MiB if each client's read is as large as it likes.
        assert!(most < 5 * MIB / 2, "{} KiB with {workers} workers", most >> 10);
    }
}

#[test]
fn r_22_requests_that_open_connections_are_counted() {
    let _guard = serialize_test();
    let server = Server::builder().workers(2).bind("127.0.0.1:0").expect("a server");
    let comparison = Comparison::begin(&server);
    let padding = format!("X-Padding: {}\r\n", "p".repeat(15_000));
    let opened: Vec<_> = (0..150).map(|_| Client::open_with(server.local_addr(), "/", &padding).stream).collect();
    drop(padding);
    comparison.agrees("open events", 150 * 15_000);
    // Heads that are not complete.
    let slow: Vec<_> = (0..150)
        .map(|_| {
            let mut client = TcpStream::connect(server.local_addr()).expect("connects");
            client.write_all(b"GET / HTTP/1.1\r\nX-Padding: ").expect("read");
            client.write_all(&[b'p'; 12_000]).expect("read");
            client
        })
        .collect();
    comparison.agrees("heads", 150 * 15_000 + 150 * 12_000);
    drop((opened, slow));
    let events = server.events().expect("not taken");
    take_until_closed(events, 150);
    comparison.ends();
}

/// T-22: an application whose events nobody takes is not sent more opening requests than it has room for, and the clients
/// wait. Once it takes events, all are opened.
#[test]
fn t_22_opening_requests_wait_for_an_application_that_is_behind() {
    let _guard = serialize_test();
    for workers in [1, 2] {
        const CLIENTS: usize = 2_000;
        let config = Config::default().max_event_buffer_size(256 << 10);
        let server = Server::builder().workers(workers).config(config).bind("127.0.0.1:0").expect("a server");
        let (addr, handle) = (server.local_addr(), server.handle());
        let connect = move || {
            let head = request("/", &format!("X-Padding: {}\r\n", "p".repeat(12_000)));
            for _ in 0..CLIENTS / 20 {
                let mut client = Client::tcp(addr);
                client.send(head.as_bytes());
                // The server refuses none. It accepts them when it has room.
                assert!(client.head().starts_with("HTTP/1.1 101 "));
            }
        };
        let clients: Vec<_> = (0..20).map(|_| thread::spawn(connect)).collect();
        eventually("the buffer is full", || handle.memory() > 256 << 10);
        let events = server.events().expect("not taken");
        let (mut opened, mut most) = (0, 0);
        while opened < CLIENTS {
            opened += usize::from(matches!(events.recv_timeout(DEADLINE).expect("an event"), Event::Open(..)));
            most = most.max(handle.memory());
        }
        clients.into_iter().for_each(|clients| clients.join().expect("all are opened"));
        assert!(most < 3 * MIB, "{} KiB of opening requests", most >> 10);
    }
}

#[test]
fn r_22_what_is_sent_to_a_busy_worker_is_counted_and_bounded() {
    let _guard = serialize_test();
    let (peers, opened) = mpsc::channel();
    let (release, blocked) = mpsc::channel();
    let blocked = std::sync::Mutex::new(Some(blocked));
    let make = move |_: &_| {
        let blocked = blocked.lock().expect("no panic").take();
        Blocking(peers.clone(), blocked.unwrap_or_else(|| mpsc::channel().1))
    };
    let server = Server::builder().workers(1).serve("127.0.0.1:0", make).expect("a server");
    let comparison = Comparison::begin(&server);
    let mut clients = open(&server, 5);
    let peers: Vec<Peer> = (0..clients.len()).map(|_| opened.recv_timeout(DEADLINE).expect("opened")).collect();
    clients[0].write_all(&text("block")).expect("read");
    eventually("the worker is busy", || peers[0].try_send("first").is_ok() && peers[0].queued_bytes() > 0);
    for (size, each) in [(100, 400_000), (60_000, 500_000)] {
        let before = comparison.handle.memory();
        for peer in &peers {
            (0..each / size).for_each(|_| peer.try_send(vec![3; size]).expect("it has room"));
        }
        comparison.agrees(&format!("messages of {size} bytes"), before + 5 * each * 9 / 10);
    }
    let before = comparison.handle.memory();
    let frame = vec![5; 60_000];
    (0..1_000).for_each(|_| comparison.handle.broadcast(&frame));
    drop(frame);
    comparison.agrees("broadcasts", before + MIB);
    assert!(comparison.handle.memory() < before + 2 * MIB, "the broadcasts are bounded");
    drop(release);
    eventually("what was left out is counted", || peers.iter().all(|peer| peer.stats().dropped >= 1_000 - 20));
    drop((clients, peers));
    comparison.ends();
}

#[test]
fn r_22_messages_that_wait_under_keys_are_counted() {
    let _guard = serialize_test();
    let (peers, opened) = mpsc::channel();
    let make = move |_: &_| Blocking(peers.clone(), mpsc::channel().1);
    let server = Server::builder().workers(2).serve("127.0.0.1:0", make).expect("a server");
    let comparison = Comparison::begin(&server);
    let clients = open(&server, 10);
    let peers: Vec<Peer> = (0..clients.len()).map(|_| opened.recv_timeout(DEADLINE).expect("opened")).collect();
    for peer in &peers {
        // More than the kernel takes, so that the queue stays full.
        peer.try_send(vec![3; 6 * MIB]).expect("it has room");
    }
    let keep = |byte: u8, size: usize| {
        for (peer, key) in peers.iter().flat_map(|peer| (0..100).map(move |key| (peer, key))) {
            peer.send_with(vec![byte; size], SendOptions::new().latest(key)).expect("it has room");
        }
    };
    keep(4, 10_000);
    comparison.agrees("messages with keys", 10 * 900_000);
    let before = comparison.handle.memory();
    keep(5, 5_000);
    assert!(peers.iter().all(|peer| peer.stats().replaced == 100 && peer.queued_bytes() > MIB));
    comparison.agrees("messages that replaced others", 10 * 450_000);
    assert!(comparison.handle.memory() < before - 10 * 400_000, "what was replaced is freed");
    drop((clients, peers));
    comparison.ends();
}

/// Sends what never ends, and something behind it.
struct Endless;

impl Handler for Endless {
    fn on_open(&mut self, socket: &mut Socket<'_>) {
        assert!(socket.send_stream(std::io::repeat(7), StreamOptions::binary()));
        socket.send(vec![1; 10_000]);
    }

    fn on_message(&mut self, _: &mut Socket<'_>, _: MessageRef<'_>) {}
}

/// A thousand messages in parts that wait for their readers take no thread, and less than four buffers of a part's size each.
#[test]
fn r_22_messages_in_parts_are_counted() {
    const PART: usize = 32 << 10;
    let _guard = serialize_test();
    let small = Listener::from("127.0.0.1:0")
        .socket_hook(|socket| socket2::SockRef::from(socket).set_send_buffer_size(32 << 10));
    let config = Config::default().write_timeout(DEADLINE * 10);
    let server = Server::builder().workers(2).config(config).serve(small, |_| Endless).expect("a server");
    let comparison = Comparison::begin(&server);
    let count = within_file_limit(1_000);
    let clients = open(&server, count);
    // One part waits for the socket, or most of one, and a short message for the end.
    comparison.agrees("messages in parts", count * (PART * 9 / 10 + 10_000));
    assert!(comparison.handle.memory() < count * (4 * PART), "{} bytes", comparison.handle.memory());
    let readers = server_threads().iter().filter(|name| name.starts_with("ws-stream")).count();
    assert!(readers <= 2, "{readers} threads");
    drop(clients);
    comparison.ends();
    drop(server);
    wait_for_end_of_threads("the server");
}

#[test]
fn r_22_a_broadcast_counts_once_however_many_do_not_read_it() {
    let _guard = serialize_test();
    let server = Server::builder().workers(2).serve("127.0.0.1:0", |_| Ignore).expect("a server");
    let comparison = Comparison::begin(&server);
    let clients = open(&server, 50);
    eventually("all are opened", || comparison.handle.connections() == clients.len());
    // More than the kernel takes.
    for _ in 0..20 {
        comparison.handle.broadcast(vec![5; 300_000]);
        let prepared = Prepared::new(vec![6; 300_000]);
        comparison.handle.broadcast_prepared(&prepared);
    }
    comparison.agrees("broadcasts", MIB);
    drop(clients);
    comparison.ends();
}

/// above `max_memory`, the connections that hold most are closed with 1013, and the others are served.
#[test]
fn r_23_the_largest_holders_are_closed_when_the_memory_is_above_its_limit() {
    const CLIENTS: u8 = 7;
    let _guard = serialize_test();
    for workers in [1, 2] {
        let limit = 4 * MIB;
        let config = Config::default().max_memory(limit);
        let server =
            Server::builder().workers(workers).config(config).serve("127.0.0.1:0", |_| Echo).expect("a server");
        let handle = server.handle();
        let mut honest = Client::open(server.local_addr());
        let bytes = partial(MIB, 700 << 10);
        let mut clients: Vec<Client> = Vec::new();
        let mut most = 0;
        for number in 0..CLIENTS {
            let mut client = Client::open(server.local_addr());
            client.send(&bytes);
            clients.push(client);
            honest.send(&ping(&[number]));
            assert_eq!(honest.expect_frame(), Frame::pong(&[number]));
            honest.send(&text("hello"));
            assert_eq!(honest.expect_frame(), Frame::text("hello"));
            most = most.max(handle.memory());
        }
        // The reads of one turn may exceed it.
        assert!(most < 2 * limit, "{most}");
        eventually("the memory is below its limit", || handle.memory() <= limit);
        let is_closed = |client: &mut Client| {
            client.stream.set_nonblocking(true).expect("a socket");
            let mut head = [0; 4];
            // The close frame's header and code: 1013 is 0x03f5.
            matches!(client.stream.read(&mut head), Ok(4) if (head[0], &head[2..]) == (0x88, &[0x03, 0xf5]))
        };
        let closed = clients.iter_mut().filter_map(|client| is_closed(client).then_some(())).count();
        assert!(
            closed >= usize::from(CLIENTS) - limit / (700 << 10) - 1,
            "{closed} were closed with {}",
            CloseCode::TRY_AGAIN_LATER
        );
        drop((clients, honest));
        eventually("everything was freed", || handle.memory() == 0);
    }
}

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
        socket.send(message);
    }
}

/// a peer that does not read what is queued for it holds memory as well. It is reset, for a close frame would wait
/// behind the output; the application is told 1013.
#[test]
fn r_23_those_that_do_not_read_are_reset_when_the_memory_is_above_its_limit() {
    let _guard = serialize_test();
    let limit = 6 * MIB;
    let config = Config::default().max_memory(limit).slow_consumer(SlowConsumer::Drop);
    let server = Server::builder().workers(2).config(config).bind("127.0.0.1:0").expect("a server");
    let handle = server.handle();
    let _clients = open(&server, 20);
    let events = server.events().expect("not taken");
    let peers: Vec<Peer> = (0..20)
        .map(|_| match events.recv_timeout(DEADLINE).expect("an event") {
            Event::Open(peer, _) => peer,
            other => panic!("{other:?}"),
        })
        .collect();
    let mut most = 0;
    let mut closed = 0;
    while closed == 0 {
        for peer in &peers {
            let _ = peer.send(vec![0; 100_000]); // it may be closed already
        }
        most = most.max(handle.memory());
        while let Ok(event) = events.try_recv() {
            let Event::Close(_, reason) = event else { panic!("{event:?}") };
            assert_eq!(reason.code, CloseCode::TRY_AGAIN_LATER, "{reason}");
            closed += 1;
        }
    }
    assert!(most < 2 * limit, "{most}");
    eventually("the memory is below its limit", || handle.memory() <= limit);
}

#[cfg(feature = "deflate")]
#[test]
fn r_22_the_windows_of_compression_are_counted() {
    use threadbare::DeflateConfig;

    let _guard = serialize_test();
    let deflate = DeflateConfig::default().server_no_context_takeover(false).client_no_context_takeover(false);
    let config = Config::default().deflate(deflate);
    let server = Server::builder().workers(2).config(config).serve("127.0.0.1:0", |_| Echo).expect("a server");
    let comparison = Comparison::begin(&server);
    // RFC 1951 3.2.4: a stored block, and RFC 7692 7.2.1: an empty one without its last four bytes.
    let size = 2_000_u16;
    let mut payload = vec![0];
    payload.extend_from_slice(&size.to_le_bytes());
    payload.extend_from_slice(&(!size).to_le_bytes());
    payload.resize(payload.len() + usize::from(size), b'x');
    payload.push(0);
    let message = common::masked(true, 0b100, Opcode::Text, &payload);
    let clients: Vec<TcpStream> = (0..20)
        .map(|_| {
            let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
            let mut client = Client::open_with(server.local_addr(), "/", offer);
            client.send(&message);
            assert_eq!(client.expect_frame().rsv, 0b100);
            client.stream
        })
        .collect();
    comparison.agrees("windows", 20 * 400_000);
    drop(clients);
    comparison.ends();
}
