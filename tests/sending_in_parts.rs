//! Messages that are sent in parts: whole at the other end, alone on their connection, and in little memory.

use crate::common;

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, DEADLINE, Frame, eventually, open_with_peer, ping};
use threadbare::protocol::frame::Opcode;
use threadbare::{
    CloseCause, CloseCode, Config, Event, Message, Peer, SendError, SendOptions, Server, SlowConsumer, StreamOptions,
};

const PART: usize = 16 << 10;

fn config() -> Config {
    Config::default().fragment_size(PART)
}

fn server(config: Config) -> Server {
    Server::builder().workers(1).config(config).bind("127.0.0.1:0").expect("a port")
}

/// A source of so many bytes, each of which tells its position.
struct Counting {
    at: u64,
    end: u64,
}

impl Counting {
    fn new(size: u64) -> Counting {
        Counting { at: 0, end: size }
    }

    fn byte(at: u64) -> u8 {
        (at ^ (at >> 8) ^ (at >> 16)) as u8
    }
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = (buffer.len() as u64).min(self.end - self.at);
        for (place, at) in buffer.iter_mut().zip(self.at..self.at + size) {
            *place = Counting::byte(at);
        }
        self.at += size;
        Ok(size as usize)
    }
}

/// Receives a message, and the control frames between its fragments.
fn receive(client: &mut Client) -> (Opcode, Vec<u8>, Vec<Frame>) {
    let (mut message, mut between) = (None, Vec::new());
    loop {
        let frame = client.expect_frame();
        if frame.opcode.is_control() {
            assert_ne!(frame.opcode, Opcode::Close, "before the end of a message");
            between.push(frame);
            continue;
        }
        assert_eq!(message.is_some(), frame.opcode == Opcode::Continuation, "only continuations follow");
        let (_, bytes) = message.get_or_insert((frame.opcode, Vec::new()));
        bytes.extend_from_slice(&frame.payload);
        if frame.fin {
            let (opcode, bytes) = message.expect("a message");
            return (opcode, bytes, between);
        }
    }
}

/// Sends a part of a message, and receives it.
fn begin(peer: &Peer, client: &mut Client) -> threadbare::MessageWriter<Peer> {
    let mut writer = peer.writer(StreamOptions::text());
    writer.write_all(b"begun ").and_then(|()| writer.flush()).expect("sent");
    let frame = client.expect_frame();
    assert_eq!((frame.fin, frame.opcode, &frame.payload[..]), (false, Opcode::Text, &b"begun "[..]));
    writer
}

/// Receives the rest of a message that [`begin`] began, and that was finished.
fn expect_end(client: &mut Client) {
    let frame = client.expect_frame();
    assert_eq!((frame.fin, frame.opcode), (true, Opcode::Continuation));
}

#[test]
fn a_large_source_arrives_as_it_is_in_little_memory() {
    const SIZE: u64 = 64 << 20;
    let server = server(Config::default());
    let (mut client, peer) = open_with_peer(&server);
    let handle = server.handle();
    let sender = thread::spawn(move || peer.send_stream(Counting::new(SIZE), StreamOptions::binary()));
    let (mut at, mut most) = (0, 0);
    loop {
        let frame = client.expect_frame();
        let is_right = (at..).zip(&frame.payload).all(|(at, byte)| *byte == Counting::byte(at));
        assert!(is_right, "the bytes from {at} on");
        at += frame.payload.len() as u64;
        most = most.max(handle.memory());
        if frame.fin {
            break;
        }
    }
    assert_eq!(at, SIZE);
    assert_eq!(sender.join().expect("no panic").expect("sent"), SIZE);
    assert!(most < 4 << 20, "{most} bytes");
}

/// The parts are masked where they are, in buffers that serve again.
#[test]
fn each_part_of_a_client_is_masked() {
    const SIZE: usize = 8 << 20;
    let server = server(Config::default().max_message_size(SIZE));
    let client = threadbare::Client::connect(&format!("ws://{}", server.local_addr())).expect("connected");
    for _ in 0..2 {
        let sent = client.send_stream(Counting::new(SIZE as u64), StreamOptions::binary());
        assert_eq!(sent.expect("sent"), SIZE as u64);
        let message = loop {
            match server.recv_timeout(DEADLINE).expect("an event") {
                Event::Message(_, message) => break message,
                event => assert!(matches!(event, Event::Open(..)), "{event:?}"),
            }
        };
        assert!((0..).zip(message.as_bytes()).all(|(at, byte)| *byte == Counting::byte(at)));
    }
}

/// However many connections there are, what is read ahead of sockets that are full is bounded.
#[test]
fn what_is_read_ahead_of_full_sockets_is_bounded() {
    const COUNT: usize = 20;
    let server = server(config().write_timeout(Duration::from_secs(3600)));
    let clients: Vec<_> = (0..COUNT).map(|_| Client::open_with_small_buffer(server.local_addr())).collect();
    let (drops, dropped) = mpsc::channel::<()>();
    for _ in 0..COUNT {
        let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the first event") };
        let drops = drops.clone();
        peer.start_stream_then(Counting::new(u64::MAX), StreamOptions::binary(), move |_| drop(drops)).expect("open");
    }
    drop(drops);
    let peers = || server.handle().peers(DEADLINE);
    let queued = || peers().iter().map(|peer| peer.stats.queued_bytes).sum::<usize>();
    eventually("all are full", || peers().iter().all(|peer| peer.stats.queued_bytes > 0));
    assert!(queued() <= COUNT * 2 * (PART + 16) + (2 << 20), "{} bytes", queued());
    drop(clients);
    assert_eq!(dropped.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected), "each has ended");
    for _ in 0..COUNT {
        assert!(matches!(server.recv_timeout(DEADLINE), Ok(Event::Close(..))));
    }
    eventually("all memory is given back", || server.handle().memory() == 0);
}

#[test]
fn pings_are_answered_between_the_parts() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    let writer = begin(&peer, &mut client);
    client.send(&ping(b"there?"));
    assert_eq!(client.expect_frame(), Frame::pong(b"there?"));
    peer.ping(b"and you?").expect("open");
    assert_eq!(client.expect_frame().opcode, Opcode::Ping);
    writer.finish().expect("sent");
    expect_end(&mut client);
}

#[test]
fn what_others_send_follows_the_message_whole_and_in_order() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    let writer = begin(&peer, &mut client);
    let others = thread::spawn({
        let (peer, large) = (peer.clone(), vec![7; 100_000]);
        move || {
            for number in 0..200 {
                peer.send(number.to_string()).expect("room");
            }
            peer.send(&large).expect("room");
            peer.send(large.clone()).expect("room");
            peer.send_prepared(&threadbare::Prepared::new(large)).expect("room");
        }
    });
    others.join().expect("no panic");
    let handle = server.handle();
    handle.broadcast("to all");
    eventually("they are held", || peer.queued_bytes() > 300_000);
    // Behind what was sent before it.
    peer.ping(b"last").expect("open");
    assert_eq!(client.expect_frame().payload, b"last");
    writer.finish().expect("sent");
    expect_end(&mut client);
    for number in 0..200 {
        assert_eq!(client.expect_frame(), Frame::text(&number.to_string()));
    }
    for _ in 0..3 {
        assert_eq!(client.expect_frame(), Frame::binary(&vec![7; 100_000]));
    }
    assert_eq!(client.expect_frame(), Frame::text("to all"));
    eventually("nothing is held", || peer.queued_bytes() == 0 && handle.memory() < 300_000);
}

#[test]
fn two_writers_take_turns() {
    let server = server(config().slow_consumer(SlowConsumer::Block));
    let (mut client, peer) = open_with_peer(&server);
    let senders: Vec<_> = (0..4_u64)
        .map(|number| {
            let peer = peer.clone();
            thread::spawn(move || peer.send_stream(Counting::new(200_000 + number), StreamOptions::binary()))
        })
        .collect();
    let mut sizes: Vec<u64> = (0..4)
        .map(|_| {
            let (_, bytes, _) = receive(&mut client);
            assert!((0..).zip(&bytes).all(|(at, byte)| *byte == Counting::byte(at)));
            bytes.len() as u64
        })
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [200_000, 200_001, 200_002, 200_003]);
    senders.into_iter().for_each(|sender| assert!(sender.join().expect("no panic").is_ok()));
}

#[test]
fn each_message_is_counted_once_whether_it_waits_or_not() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    let mut sent = 0;
    for short in [false, true] {
        let writer = begin(&peer, &mut client);
        peer.send("behind").expect("room");
        // With a first part that waits, or as a whole.
        let mut other = peer.writer(StreamOptions::text());
        other.set_deadline(Instant::now() + DEADLINE);
        other.write_all(b"another").expect("gathered");
        if !short {
            other.flush().expect("it waits");
        }
        let finished = thread::spawn(move || other.finish().expect("sent"));
        if short {
            finished.join().expect("no panic");
            writer.finish().expect("sent");
        } else {
            writer.finish().expect("sent");
            finished.join().expect("no panic");
        }
        expect_end(&mut client);
        assert_eq!(client.expect_frame(), Frame::text("behind"));
        assert_eq!(receive(&mut client).1, b"another");
        sent += 3;
        eventually("all is counted", || peer.stats().messages_sent >= sent);
        assert_eq!(peer.stats().messages_sent, sent, "short: {short}");
    }
}

#[test]
fn a_second_writer_is_refused_where_the_policy_does_not_wait() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    let first = begin(&peer, &mut client);
    let mut second = peer.writer(StreamOptions::text());
    second.write_all(b"second").expect("it is gathered");
    assert_eq!(second.flush().expect_err("refused").kind(), io::ErrorKind::WouldBlock);
    second.set_deadline(Instant::now() + Duration::from_millis(1));
    second.flush().expect("its first part waits for its turn");
    second.write_all(b" more").expect("it is gathered");
    assert_eq!(second.flush().expect_err("it is not its turn").kind(), io::ErrorKind::TimedOut);
    first.finish().expect("sent");
    expect_end(&mut client);
    second.set_deadline(None);
    second.finish().expect("sent");
    assert_eq!(receive(&mut client).1, b"second more");
}

#[test]
fn a_policy_that_refuses_counts_what_waits_for_the_end() {
    let server = server(config().max_write_buffer_size(100_000).max_event_buffer_size(1));
    let (mut client, peer) = open_with_peer(&server);
    let mut writer = begin(&peer, &mut client);
    let message = vec![1; 10_000];
    let sent = (0..1000).take_while(|_| peer.send(&message).is_ok()).count();
    assert!((10..=11).contains(&sent), "{sent}");
    assert!(matches!(peer.send("full"), Err(SendError::Full(_))));
    // The message itself has room.
    writer.write_all(&vec![b'.'; 500_000]).expect("sent");
    writer.finish().expect("sent");
    let mut size = 0;
    loop {
        let frame = client.expect_frame();
        size += frame.payload.len();
        if frame.fin {
            break;
        }
    }
    assert_eq!(size, 500_000);
    for _ in 0..sent {
        assert_eq!(client.expect_frame(), Frame::binary(&message));
    }
}

#[test]
fn topics_and_keyed_messages_follow() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    peer.subscribe("news").expect("subscribed");
    let writer = begin(&peer, &mut client);
    let handle = server.handle();
    for number in 0..3 {
        handle.topic("news").expect("a name").publish(format!("news {number}"));
        peer.send_with(format!("state {number}"), SendOptions::new().latest(1)).expect("open");
    }
    peer.ping(b"behind").expect("open");
    assert_eq!(client.expect_frame().payload, b"behind");
    writer.finish().expect("sent");
    expect_end(&mut client);
    let mut texts: Vec<_> = (0..4).map(|_| String::from_utf8(client.expect_frame().payload).expect("text")).collect();
    texts.sort();
    assert_eq!(texts, ["news 0", "news 1", "news 2", "state 2"]);
}

#[test]
fn a_message_that_is_not_finished_fails_the_connection() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    drop(peer.writer(StreamOptions::binary()));
    let mut gathered = peer.writer(StreamOptions::binary());
    gathered.write_all(b"nothing of it was sent").expect("gathered");
    drop(gathered);
    let writer = begin(&peer, &mut client);
    peer.send("it waits in vain").expect("room");
    drop(writer);
    client.expect_close(1011);
    let Event::Close(_, reason) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the end") };
    assert_eq!((reason.code, reason.cause), (CloseCode::INTERNAL_ERROR, CloseCause::Failed));
    eventually("all memory is given back", || server.handle().memory() == 0);
}

#[test]
fn a_source_that_fails_fails_the_connection() {
    struct Failing(Counting);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the disk is gone")),
                size => Ok(size),
            }
        }
    }
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    let error = peer.send_stream(Failing(Counting::new(50_000)), StreamOptions::binary()).expect_err("it fails");
    assert_eq!(error.to_string(), "the disk is gone");
    while client.expect_frame().opcode != Opcode::Close {}
    assert_eq!(client.frame(), None);
}

/// The buffers of parts serve again: what such a source did not read would be bytes of earlier parts.
#[test]
fn a_source_that_says_it_read_more_than_there_is_room_for_fails_the_connection() {
    struct Lying(Counting);
    impl Read for Lying {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Ok(buffer.len() + 1),
                size => Ok(size),
            }
        }
    }
    const SIZE: usize = 40 * PART;
    let server = server(config());
    for of_library in [false, true] {
        let (mut client, peer) = open_with_peer(&server);
        let source = Lying(Counting::new(SIZE as u64));
        let receiver = thread::spawn(move || {
            let mut size = 0;
            loop {
                let frame = client.expect_frame();
                if frame.opcode == Opcode::Close {
                    break size;
                }
                size += frame.payload.len();
            }
        });
        if of_library {
            let (tell, told) = mpsc::channel();
            let on_end = move |outcome| tell.send(format!("{outcome:?}")).expect("it is awaited");
            peer.start_stream_then(source, StreamOptions::binary(), on_end).expect("open");
            assert!(told.recv_timeout(DEADLINE).expect("it ends").starts_with("SourceFailed"));
        } else {
            assert_eq!(
                peer.send_stream(source, StreamOptions::binary()).expect_err("it lies").kind(),
                io::ErrorKind::Other
            );
        }
        assert_eq!(receiver.join().expect("no panic"), SIZE, "nothing but what was read");
        let Event::Close(_, reason) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the end") };
        assert_eq!(reason.code, CloseCode::INTERNAL_ERROR);
    }
}

/// Parts that the socket takes at once leave room for what others send.
#[test]
fn what_others_send_is_not_refused_because_of_parts_on_their_way() {
    const SIZE: usize = 16 << 20;
    let config = config().max_write_buffer_size(4 * PART).slow_consumer(SlowConsumer::Disconnect);
    let server = server(config);
    let (mut client, peer) = open_with_peer(&server);
    let receiver = thread::spawn(move || (receive(&mut client).1.len(), client));
    let (tell, told) = mpsc::channel();
    let on_end = move |outcome| tell.send(format!("{outcome:?}")).expect("it is awaited");
    peer.start_stream_then(Counting::new(SIZE as u64), StreamOptions::binary(), on_end).expect("open");
    let mut sent = 0;
    let outcome = loop {
        // They wait for the end of the message, and count.
        if sent < 100 {
            peer.send(vec![1; 10]).expect("there is room");
            sent += 1;
        }
        if let Ok(outcome) = told.try_recv() {
            break outcome;
        }
        assert!(peer.is_open());
        thread::yield_now();
    };
    assert_eq!(outcome, format!("Sent({SIZE})"));
    let (size, mut client) = receiver.join().expect("no panic");
    assert_eq!(size, SIZE);
    for _ in 0..sent {
        assert_eq!(client.expect_frame(), Frame::binary(&[1; 10]));
    }
}

#[test]
fn text_is_checked_before_it_leaves() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    for (pieces, is_text) in
        [(&[&b"gr\xc3"[..], b"\xb6\xc3\x9fer"][..], true), (&[b"gr\xc3", b"er"], false), (&[b"gr\xc3"], false)]
    {
        let mut writer = peer.writer(StreamOptions::text());
        let written = pieces.iter().try_for_each(|piece| writer.write_all(piece));
        let finished = written.and_then(|()| writer.finish());
        assert_eq!(finished.as_ref().err().map(io::Error::kind), (!is_text).then_some(io::ErrorKind::InvalidData));
        if is_text {
            assert_eq!(client.expect_frame(), Frame::text("größer"));
        }
    }
    assert!(peer.is_open(), "nothing was sent");
}

#[test]
fn a_peer_that_stops_reading_is_disconnected() {
    let config = config().write_timeout(Duration::from_millis(200));
    let server = server(config);
    let client = Client::open_with_small_buffer(server.local_addr());
    let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the first event") };
    let error = peer.send_stream(Counting::new(1 << 30), StreamOptions::binary()).expect_err("nobody reads");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let Event::Close(_, reason) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the end") };
    assert_eq!((reason.code, reason.cause), (CloseCode::POLICY_VIOLATION, CloseCause::Failed));
    drop(client);
    eventually("all memory is given back", || server.handle().memory() == 0);
}

#[test]
fn a_write_waits_until_its_deadline_and_goes_on_later() {
    let server = server(config().write_timeout(Duration::from_secs(3600)));
    let mut client = Client::open_with_small_buffer(server.local_addr());
    let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the first event") };
    let mut writer = peer.writer(StreamOptions::binary());
    let mut source = Counting::new(64 << 20);
    let mut sent = 0;
    let (mut part, mut waited) = (Vec::new(), 0);
    // The kernel takes some of it.
    while waited < 2 {
        part.resize(PART, 0);
        source.read_exact(&mut part).expect("there is more");
        writer.set_deadline(Instant::now() + Duration::from_millis(100));
        let mut rest = &part[..];
        while !rest.is_empty() && waited < 2 {
            match writer.write(rest) {
                Ok(size) => {
                    rest = &rest[size..];
                    sent += size;
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    waited += 1;
                }
            }
        }
    }
    // What was read ahead while the socket took all, and two parts.
    assert!(peer.queued_bytes() <= (256 << 10) + 2 * PART, "{}", peer.queued_bytes());
    writer.set_deadline(None);
    let receiver = thread::spawn(move || receive(&mut client).1);
    writer.finish().expect("sent");
    let received = receiver.join().expect("no panic");
    assert_eq!(received.len(), sent);
    assert!((0..).zip(&received).all(|(at, byte)| *byte == Counting::byte(at)));
}

#[test]
fn a_close_waits_for_the_end_of_the_message() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    let mut writer = begin(&peer, &mut client);
    peer.send("before the close").expect("room");
    peer.close(CloseCode(4000), "done").expect("open");
    assert!(peer.send("behind the close").is_err());
    writer.write_all(&vec![b'.'; 100_000]).expect("the message goes on");
    writer.finish().expect("sent");
    while !client.expect_frame().fin {}
    assert_eq!(client.expect_frame(), Frame::text("before the close"));
    client.answer_close(4000);
    let Event::Close(_, reason) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the end") };
    assert_eq!((reason.code, reason.cause), (CloseCode(4000), CloseCause::Local));
}

#[test]
fn a_close_does_not_wait_for_a_message_that_makes_no_progress() {
    let server = server(config().write_timeout(Duration::from_millis(200)));
    let (mut client, peer) = open_with_peer(&server);
    let mut writer = begin(&peer, &mut client);
    peer.close(CloseCode(4000), "done").expect("open");
    client.wait_for_end();
    let Event::Close(_, reason) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the end") };
    assert_eq!((reason.code, reason.cause), (CloseCode(1006), CloseCause::TimedOut));
    writer.write_all(b"late").expect("it is gathered");
    assert_eq!(writer.flush().expect_err("it is over").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn the_peers_close_ends_the_message() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    let writer = begin(&peer, &mut client);
    peer.send("it waits in vain").expect("room");
    client.send(&common::close(4001));
    client.expect_close(4001);
    eventually("the end is known", || !peer.is_open());
    assert_eq!(writer.finish().expect_err("it is over").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn an_abort_or_a_lost_peer_ends_a_writer_that_waits() {
    for ends in [|peer: &Peer, _: Client| peer.abort(), |_: &Peer, client: Client| client.reset()] {
        let server = server(config().write_timeout(Duration::from_secs(3600)));
        let client = Client::open_with_small_buffer(server.local_addr());
        let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the first event") };
        let (parts, sent) = mpsc::channel();
        let sender = thread::spawn({
            let peer = peer.clone();
            move || {
                let mut writer = peer.writer(StreamOptions::binary());
                loop {
                    if let Err(error) = writer.write_all(&[1; PART]) {
                        return error.kind();
                    }
                    let _ = parts.send(());
                }
            }
        });
        sent.recv_timeout(DEADLINE).expect("a part");
        eventually("it waits", || peer.queued_bytes() >= PART);
        ends(&peer, client);
        assert_eq!(sender.join().expect("no panic"), io::ErrorKind::BrokenPipe);
        eventually("all memory is given back", || server.handle().memory() == 0);
    }
}

#[test]
fn the_end_of_a_lifetime_or_a_shutdown_waits_for_the_message_and_what_is_behind_it() {
    for shuts_down in [false, true] {
        let lifetime = if shuts_down { None } else { Some(Duration::from_millis(100)) };
        let server = server(config().max_lifetime(lifetime));
        let (mut client, peer) = open_with_peer(&server);
        let mut writer = begin(&peer, &mut client);
        peer.send_with("keyed", SendOptions::new().latest(1)).expect("room");
        peer.send("behind").expect("room");
        let (ended, running) = if shuts_down { (Some(server), None) } else { (None, Some(server)) };
        let shutdown = ended.map(|server| thread::spawn(move || server.shutdown(DEADLINE)));
        eventually("the close waits", || !peer.is_open());
        writer.write_all(&[b'.'; 3 * PART]).expect("the message goes on");
        writer.finish().expect("sent");
        while !client.expect_frame().fin {}
        let behind = [client.expect_frame(), client.expect_frame()];
        assert!(behind.contains(&Frame::text("keyed")) && behind.contains(&Frame::text("behind")), "{behind:?}");
        client.answer_close(1001);
        if let Some(shutdown) = shutdown {
            let report = shutdown.join().expect("no panic");
            assert_eq!((report.clean, report.forced), (1, 0), "{report:?}");
        }
        drop(running);
    }
}

#[test]
fn a_server_that_is_dropped_ends_every_message() {
    let server = server(config().write_timeout(Duration::from_secs(3600)));
    let _client = Client::open_with_small_buffer(server.local_addr());
    let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the first event") };
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let peer = peer.clone();
            thread::spawn(move || {
                let mut writer = peer.writer(StreamOptions::binary());
                writer.set_deadline(Instant::now() + 10 * DEADLINE);
                io::copy(&mut Counting::new(u64::MAX), &mut writer).expect_err("it has no end").kind()
            })
        })
        .collect();
    let handle = server.handle();
    eventually("one of them waits for the socket", || peer.queued_bytes() >= PART);
    peer.start_stream(Counting::new(u64::MAX), StreamOptions::binary()).expect("open");
    let ends = thread::spawn(move || server.shutdown(Duration::from_millis(100)));
    for writer in writers {
        assert_eq!(writer.join().expect("no panic"), io::ErrorKind::BrokenPipe);
    }
    ends.join().expect("no panic");
    assert_eq!(handle.memory(), 0);
}

#[test]
fn a_message_goes_on_although_the_memory_is_short() {
    let server = server(config().max_memory(2 << 20).max_write_buffer_size(256 << 10).write_timeout(DEADLINE));
    // What this one does not read takes the memory.
    let mut greedy = Client::open_with_small_buffer(server.local_addr());
    let Event::Open(full, _) = server.recv_timeout(DEADLINE).expect("an event") else { panic!("the first event") };
    let (mut client, peer) = open_with_peer(&server);
    let writer = begin(&peer, &mut client);
    let filler = thread::spawn(move || while full.send(vec![0; 100_000]).is_ok() {});
    filler.join().expect("no panic");
    let sender = thread::spawn(move || {
        let mut writer = writer;
        io::copy(&mut io::repeat(b'.').take(2_000_000), &mut writer).expect("sent");
        writer.finish().expect("sent");
    });
    let mut size = 0;
    loop {
        let frame = client.expect_frame();
        size += frame.payload.len();
        if frame.fin {
            break;
        }
    }
    assert_eq!(size, 2_000_000);
    sender.join().expect("no panic");
    greedy.wait_for_end();
}

#[test]
fn a_shutdown_cuts_a_message_at_its_deadline() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    let writer = begin(&peer, &mut client);
    let report = server.shutdown(Duration::from_millis(100));
    assert_eq!(report.forced, 1, "{report:?}");
    assert_eq!(writer.finish().expect_err("it is over").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_client_sends_in_parts_and_its_frames_are_masked() {
    let (listener, url) = common::server_end::listen();
    let server = thread::spawn(move || common::server_end::ServerEnd::accept(&listener));
    let client = threadbare::Client::builder().config(config()).connect(&url).expect("connected");
    let mut end = server.join().expect("no panic");
    let sender = thread::spawn(move || client.send_stream(Counting::new(100_000), StreamOptions::binary()));
    let mut received = Vec::new();
    while received.len() < 100_000 {
        received.extend(end.expect_frame().payload);
    }
    assert!((0..).zip(&received).all(|(at, byte)| *byte == Counting::byte(at)));
    assert_eq!(end.expect_frame().payload, b"", "the last");
    assert_eq!(sender.join().expect("no panic").expect("sent"), 100_000);
}

#[test]
fn a_message_that_fits_a_part_is_an_ordinary_one() {
    let server = server(config());
    let (mut client, peer) = open_with_peer(&server);
    for text in ["", "one part"] {
        let mut writer = peer.writer(StreamOptions::text());
        writer.write_all(text.as_bytes()).expect("gathered");
        writer.finish().expect("sent");
        assert_eq!(client.expect_frame(), Frame::text(text));
    }
    eventually("they are counted", || peer.stats().messages_sent == 2);
}

#[cfg(unix)]
mod websocket {
    use std::os::unix::net::UnixStream;

    use super::*;
    use threadbare::{Role, SocketError, WebSocket};

    fn pair() -> (WebSocket<UnixStream>, WebSocket<UnixStream>) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let config = config().max_message_size(8 << 20);
        (
            WebSocket::from_established(ours, Role::Server, Vec::new(), &config),
            WebSocket::from_established(theirs, Role::Client, Vec::new(), &config),
        )
    }

    #[test]
    fn both_ends_send_in_parts() {
        let (server, client) = pair();
        for (mut from, mut to) in [(server, client)].into_iter().flat_map(|(one, other)| [(one, other)]) {
            let sender = thread::spawn(move || {
                let sent = from.send_stream(Counting::new(5 << 20), StreamOptions::binary()).expect("sent");
                (from, sent)
            });
            let message = to.recv().expect("received").expect("a message");
            let (mut from, sent) = sender.join().expect("no panic");
            assert_eq!((sent, message.as_bytes().len()), (5 << 20, 5 << 20));
            assert!((0..).zip(message.as_bytes()).all(|(at, byte)| *byte == Counting::byte(at)));
            let mut writer = to.writer(StreamOptions::text());
            write!(writer, "an answer in {} parts", 2).and_then(|()| writer.flush()).expect("sent");
            writer.finish().expect("sent");
            assert_eq!(from.recv().expect("received"), Some(Message::from("an answer in 2 parts")));
        }
    }

    #[test]
    fn an_unfinished_message_fails_the_connection() {
        let (mut server, mut client) = pair();
        let mut writer = server.writer(StreamOptions::binary());
        writer.write_all(b"half").and_then(|()| writer.flush()).expect("sent");
        drop(writer);
        assert!(matches!(server.send("more"), Err(SocketError::Closed)));
        assert_eq!(client.recv().expect("a close"), None);
        assert_eq!(client.close_reason().expect("it is closed").code, CloseCode::INTERNAL_ERROR);
    }

    #[test]
    fn a_stream_that_times_out_loses_nothing() {
        let (mut server, mut client) = pair();
        server.get_ref().set_write_timeout(Some(Duration::from_millis(10))).expect("a socket");
        let mut writer = server.writer(StreamOptions::binary());
        let mut sent = 0;
        let error = loop {
            match writer.write(&[7; PART]) {
                Ok(size) => sent += size,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let receiver = thread::spawn(move || client.recv().expect("received").expect("a message"));
        while let Err(error) = writer.flush() {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        writer.finish().expect("sent");
        assert_eq!(receiver.join().expect("no panic").as_bytes().len(), sent);
    }
}

mod handler {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use common::text;
    use threadbare::{Handler, MessageRef, Socket};

    /// Sends the sources that a test made.
    struct Sends(&'static (dyn Fn(&mut Socket<'_>, &str) + Sync));

    impl Handler for Sends {
        fn on_message(&mut self, socket: &mut Socket<'_>, message: MessageRef<'_>) {
            (self.0)(socket, message.as_text().expect("a text"));
        }
    }

    fn serve(config: Config, answer: impl Fn(&mut Socket<'_>, &str) + Sync + Send + 'static) -> Server {
        let answer: &'static (dyn Fn(&mut Socket<'_>, &str) + Sync + Send) = Box::leak(Box::new(answer));
        let server = Server::builder().workers(2).config(config).serve("127.0.0.1:0", move |_| Sends(answer));
        server.expect("a port")
    }

    /// Counts the sources that were dropped.
    struct Counted(Counting, &'static AtomicUsize);

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_a_handler_sends_arrives_in_its_order() {
        let server = serve(config(), |socket, _| {
            socket.send("first");
            for size in [300_000, 0, 5] {
                assert!(socket.send_stream(Counting::new(size), StreamOptions::binary()));
                socket.send(format!("behind {size}"));
                socket.send(vec![1; 50_000]);
            }
        });
        let mut client = Client::open(server.local_addr());
        client.send(&[text("go"), text("again"), ping(b"?")].concat());
        let mut pongs = 0;
        for _ in 0..2 {
            let mut next = || {
                let (opcode, bytes, between) = receive(&mut client);
                pongs += between.len();
                (opcode, bytes)
            };
            assert_eq!(next(), (Opcode::Text, b"first".to_vec()));
            for size in [300_000, 0, 5] {
                let (opcode, bytes) = next();
                assert_eq!((opcode, bytes.len()), (Opcode::Binary, size));
                assert!((0..).zip(&bytes).all(|(at, byte)| *byte == Counting::byte(at)));
                assert_eq!(next(), (Opcode::Text, format!("behind {size}").into_bytes()));
                assert_eq!(next(), (Opcode::Binary, vec![1; 50_000]));
            }
        }
        assert_eq!(pongs, 1);
    }

    #[test]
    fn a_handler_can_close_behind_what_it_sends() {
        let server = serve(config(), |socket, _| {
            assert!(socket.send_stream(Counting::new(2_000_000), StreamOptions::binary()));
            socket.send("behind");
            socket.close(CloseCode(4000), "that was it").expect("open");
            assert!(!socket.send("late") && !socket.send_stream(&b"late"[..], StreamOptions::text()));
        });
        let mut client = Client::open(server.local_addr());
        client.send(&text("go"));
        assert_eq!(receive(&mut client).1.len(), 2_000_000);
        assert_eq!(client.expect_frame(), Frame::text("behind"));
        client.answer_close(4000);
    }

    #[test]
    fn slow_readers_hold_up_nobody() {
        let server = serve(config(), |socket, message| {
            assert!(socket.send_stream(Counting::new(message.parse().expect("a size")), StreamOptions::binary()));
        });
        let mut slow: Vec<_> = (0..20).map(|_| Client::open_with_small_buffer(server.local_addr())).collect();
        slow.iter_mut().for_each(|client| client.send(&text("20000000")));
        let mut quick = Client::open(server.local_addr());
        quick.send(&text("3000000"));
        assert_eq!(receive(&mut quick).1.len(), 3_000_000);
        let memory = server.handle().memory();
        assert!(memory < 20 * 4 * PART, "{memory} bytes");
        let (_, bytes, _) = receive(&mut slow[0]);
        assert_eq!(bytes.len(), 20_000_000);
        assert!((0..).zip(&bytes).all(|(at, byte)| *byte == Counting::byte(at)));
    }

    /// A source that hangs until the other end of this channel is dropped.
    struct Hanging(mpsc::Receiver<()>);

    impl Read for Hanging {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let _ = self.0.recv(); // nothing is sent
            Ok(0)
        }
    }

    #[test]
    fn a_source_that_hangs_holds_up_no_other() {
        for _ in 0..20 {
            let (hold, held) = mpsc::channel();
            let hanging = std::sync::Mutex::new(Some(Hanging(held)));
            let server = serve(config(), move |socket, message| {
                if message == "hang" {
                    let hanging = hanging.lock().expect("no panic").take().expect("once");
                    assert!(socket.send_stream(hanging, StreamOptions::binary()));
                } else {
                    assert!(socket.send_stream(Counting::new(5), StreamOptions::binary()));
                }
            });
            let mut first = Client::open(server.local_addr());
            let mut second = Client::open(server.local_addr());
            // A thread is there, and idle.
            first.send(&text("one"));
            assert_eq!(receive(&mut first).1.len(), 5);
            first.send(&text("hang"));
            second.send(&text("one"));
            assert_eq!(receive(&mut second).1.len(), 5);
            drop(hold);
            assert_eq!(receive(&mut first).1.len(), 0);
        }
    }

    #[test]
    fn a_source_goes_with_its_connection() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        let server = serve(config().write_timeout(Duration::from_secs(3600)), |socket, _| {
            socket.send_stream(Counted(Counting::new(u64::MAX), &DROPPED), StreamOptions::binary());
            socket.send_stream(Counted(Counting::new(u64::MAX), &DROPPED), StreamOptions::binary());
        });
        let mut clients: Vec<_> = (0..3).map(|_| Client::open_with_small_buffer(server.local_addr())).collect();
        clients.iter_mut().for_each(|client| client.send(&text("go")));
        clients.iter_mut().for_each(|client| assert!(client.read() > 0));
        clients.pop().expect("a client").reset();
        eventually("both are dropped", || DROPPED.load(Ordering::SeqCst) == 2);
        let mut closes = clients.pop().expect("a client");
        closes.send(&common::close(1000));
        closes.read_to_end();
        eventually("both are dropped", || DROPPED.load(Ordering::SeqCst) == 4);
        server.shutdown(Duration::from_millis(50));
        eventually("all are dropped", || DROPPED.load(Ordering::SeqCst) == 6);
    }

    #[test]
    fn a_source_that_fails_or_is_no_text_fails_the_connection() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let server = serve(config(), |socket, message| {
            let sent = match message {
                "fails" => socket.send_stream(Failing, StreamOptions::binary()),
                _ => socket.send_stream(&b"gr\xc3"[..], StreamOptions::text()),
            };
            assert!(sent);
        });
        for message in ["fails", "no text"] {
            let mut client = Client::open(server.local_addr());
            client.send(&text(message));
            let mut last = client.expect_frame();
            while last.opcode != Opcode::Close {
                last = client.expect_frame();
            }
            assert_eq!(last.close_code(), 1011);
        }
    }

    /// A source that has so many bytes, and then fails, panics or goes on as long as somebody reads.
    struct Faulty {
        left: u64,
        end: fn() -> io::Result<usize>,
    }

    impl Faulty {
        fn new(end: fn() -> io::Result<usize>) -> Faulty {
            Faulty { left: 3 * PART as u64, end }
        }

        fn endless() -> Faulty {
            Faulty { left: u64::MAX, end: || Ok(0) }
        }
    }

    impl Read for Faulty {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = (buffer.len() as u64).min(self.left);
            self.left -= size;
            if size == 0 { (self.end)() } else { Ok(size as usize) }
        }
    }

    /// A fault of a message whose source the library reads: the source, what is done once the message is under way, and how
    /// its end is told.
    struct Fault {
        source: fn() -> Faulty,
        config: fn(Config) -> Config,
        act: fn(Server, &Peer, Client),
        told: &'static str,
    }

    /// Receives everything, and keeps the server running until the end.
    fn read_all(server: Server, peer: &Peer, mut client: Client) {
        while client.frame().is_some_and(|frame| frame.opcode != Opcode::Close) {}
        drop(client);
        eventually("it has ended", || !peer.is_open());
        server.shutdown(DEADLINE);
    }

    #[test]
    fn the_application_is_told_how_each_message_ended() {
        let unlimited = |config: Config| config.write_timeout(Duration::from_secs(3600));
        let faults = [
            Fault {
                source: || Faulty::new(|| Ok(0)),
                config: |config| config,
                act: |server, _, mut client| {
                    assert_eq!(receive(&mut client).1.len(), 3 * PART);
                    drop(client);
                    server.shutdown(DEADLINE);
                },
                told: "Sent(49152)",
            },
            Fault {
                source: || Faulty::new(|| Err(io::Error::other("the disk is gone"))),
                config: |config| config,
                act: read_all,
                told: "SourceFailed(Custom { kind: Other, error: \"the disk is gone\" })",
            },
            Fault {
                source: Faulty::endless,
                config: |config| config.write_timeout(Duration::from_millis(200)),
                act: |server, peer, client| {
                    eventually("it is disconnected", || !peer.is_open());
                    drop(client);
                    server.shutdown(DEADLINE);
                },
                told: "TooSlow",
            },
            Fault {
                source: Faulty::endless,
                config: unlimited,
                act: |server, peer, client| {
                    peer.abort();
                    eventually("it is gone", || server.handle().connections() == 0);
                    drop(client);
                },
                told: "Disconnected",
            },
            Fault {
                source: Faulty::endless,
                config: unlimited,
                act: |server, _, client| {
                    client.reset();
                    eventually("it is gone", || server.handle().connections() == 0);
                },
                told: "Disconnected",
            },
            Fault {
                source: Faulty::endless,
                config: unlimited,
                act: |server, _, mut client| {
                    client.send(&common::close(1000));
                    client.read_to_end();
                    drop(server);
                },
                told: "Disconnected",
            },
            Fault {
                source: Faulty::endless,
                config: unlimited,
                act: |server, _, client| {
                    server.shutdown(Duration::from_millis(50));
                    drop(client);
                },
                told: "Disconnected",
            },
        ];
        for (number, Fault { source, config: change, act, told }) in faults.into_iter().enumerate() {
            for of_handler in [false, true] {
                let (tell, ends) = mpsc::channel();
                let config = change(config());
                let (server, events) = if of_handler {
                    let (peers, events) = mpsc::channel();
                    let tell = Mutex::new(tell.clone());
                    let server = serve(config, move |socket, _| {
                        let tell = tell.lock().expect("no panic").clone();
                        let on_end = move |outcome| tell.send(format!("{outcome:?}")).expect("it is awaited");
                        assert!(socket.send_stream_then(source(), StreamOptions::binary(), on_end));
                        peers.send(socket.peer()).expect("it is awaited");
                    });
                    (server, Some(events))
                } else {
                    (super::server(config), None)
                };
                let mut client = Client::open_with_small_buffer(server.local_addr());
                let peer = match events {
                    Some(peers) => {
                        client.send(&text("go"));
                        peers.recv_timeout(DEADLINE).expect("a connection")
                    }
                    None => {
                        let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") else { panic!() };
                        let on_end = move |outcome| tell.send(format!("{outcome:?}")).expect("it is awaited");
                        peer.start_stream_then(source(), StreamOptions::binary(), on_end).expect("open");
                        peer
                    }
                };
                assert!(client.read() > 0, "a part");
                let handle = server.handle();
                act(server, &peer, client);
                let case = format!("fault {number}, of a handler: {of_handler}");
                assert_eq!(ends.recv_timeout(DEADLINE).as_deref(), Ok(told), "{case}");
                assert!(ends.try_recv().is_err(), "it is told once: {case}");
                eventually("all memory is given back", || handle.memory() == 0);
                let late =
                    peer.start_stream_then(&b"late"[..], StreamOptions::binary(), |_| panic!("it did not begin"));
                assert!(late.is_err(), "{case}");
            }
        }
    }

    #[test]
    fn a_handler_must_not_wait_for_a_writer() {
        static SEEN: Mutex<Option<io::Error>> = Mutex::new(None);
        let server = serve(config(), |socket, _| {
            let peer = socket.peer();
            *SEEN.lock().expect("no panic") = peer.send_stream(Counting::new(5), StreamOptions::binary()).err();
            peer.start_stream(&b"later"[..], StreamOptions::text()).expect("open");
        });
        let mut client = Client::open(server.local_addr());
        client.send(&text("go"));
        assert_eq!(receive(&mut client).1, b"later");
        let error = SEEN.lock().expect("no panic").take().expect("an error");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(error.to_string().contains("Socket::send_stream"), "{error}");
    }
}

#[cfg(feature = "deflate")]
mod deflate {
    use super::*;
    use threadbare::{Compression, DeflateConfig};

    /// Text that gets smaller.
    fn rows(count: usize) -> String {
        (0..count).map(|row| format!("{row},{},größer\n", row * row)).collect()
    }

    #[test]
    fn a_message_is_compressed_as_it_flows() {
        for takeover in [false, true] {
            let deflate =
                DeflateConfig::default().server_no_context_takeover(!takeover).client_no_context_takeover(!takeover);
            let config = config().deflate(deflate).max_message_size(16 << 20);
            let server = server(config.clone());
            let url = format!("ws://{}", server.local_addr());
            let client = threadbare::Client::builder().config(config).connect(&url).expect("connected");
            let Event::Open(peer, _) = server.recv_timeout(DEADLINE).expect("an event") else {
                panic!("the first event")
            };
            let text = rows(50_000);
            for round in 0..3_u64 {
                let mut writer = peer.writer(StreamOptions::text());
                writer.write_all(text.as_bytes()).expect("sent");
                peer.send(format!("behind {round} {}", &text[..500])).expect("room");
                writer.finish().expect("sent");
                let plain = peer.writer(StreamOptions::text().compression(Compression::Never));
                drop(plain);
                peer.send_stream(&text.as_bytes()[..40_000], StreamOptions::binary().compression(Compression::Never))
                    .expect("sent");
                let next = || client.recv_timeout(DEADLINE).expect("received").expect("a message");
                assert!(next().as_text() == Some(&text), "round {round}, takeover: {takeover}");
                assert_eq!(next(), Message::from(format!("behind {round} {}", &text[..500])));
                assert_eq!(next().as_bytes(), &text.as_bytes()[..40_000]);
                assert_eq!(
                    client.send_stream(text.as_bytes(), StreamOptions::text()).expect("sent"),
                    text.len() as u64
                );
                let Event::Message(_, message) = server.recv_timeout(DEADLINE).expect("an event") else { panic!() };
                assert!(message.as_text() == Some(&text));
            }
            let stats = peer.stats().deflate.expect("it was negotiated");
            assert!(stats.sent >= 3 * text.len() as u64, "{stats:?}");
            assert!(stats.sent_compressed * 2 < stats.sent, "{stats:?}");
        }
    }
}

#[test]
fn a_loop_of_the_application_sends_in_parts() {
    let mut event_loop = Server::builder().config(config()).bind_inline("127.0.0.1:0").expect("a port");
    let addr = event_loop.local_addr();
    let receiver = thread::spawn(move || {
        let mut client = Client::open(addr);
        client.send(&common::text("go"));
        let received = receive(&mut client).1;
        assert_eq!(client.expect_frame(), Frame::text("behind"));
        received
    });
    while !receiver.is_finished() {
        let served = event_loop.poll(Some(Duration::from_millis(10)), |event| {
            if let threadbare::EventRef::Message(peer, _) = event {
                peer.start_stream(Counting::new(1_000_000), StreamOptions::binary()).expect("open");
                peer.send("behind").expect("room");
            }
        });
        served.expect("a poll");
    }
    let received = receiver.join().expect("no panic");
    assert_eq!(received.len(), 1_000_000);
    assert!((0..).zip(&received).all(|(at, byte)| *byte == Counting::byte(at)));
}
